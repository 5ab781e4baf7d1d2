//! The pages about people: the login, one's own account, and users and tokens.

use leftfold::prelude::Timestamp;

use super::markup::Html;
use super::parts::{Refresh, write_ago, write_head, write_time};
use super::view::{AccountPage, LoginPage, PeoplePage, TokenLine, UserLine};

/// Renders the page that asks for name and password.
#[must_use]
pub(crate) fn login_page(view: &LoginPage) -> String {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<title>Log in</title><link rel=\"stylesheet\" href=\"/dashboard.css\">")
        .raw("<link rel=\"icon\" href=\"data:,\"></head>\n<body><main class=\"login\">")
        .raw("<form method=\"post\" action=\"/login\" class=\"card\"><h1>Log in</h1>");
    if let Some(fault) = &view.fault {
        html.raw("<p role=\"alert\" class=\"fault\">").text(fault).raw("</p>");
    }
    html.raw("<label>Name<input name=\"name\" autocomplete=\"username\" required autofocus")
        .attribute("value", &view.name)
        .raw("></label><label>Password<input name=\"password\" type=\"password\" ")
        .raw("autocomplete=\"current-password\" required></label>")
        .raw("<input type=\"hidden\" name=\"next\"")
        .attribute("value", &view.next)
        .raw("><button>Log in</button></form></main></body></html>\n");
    html.finish()
}

/// Renders the page of the caller's own account.
#[must_use]
pub(crate) fn account_page(view: &AccountPage) -> String {
    let mut html = Html::default();
    begin(&mut html, "Account", "/account");
    html.raw("<p>");
    match &view.user {
        Some(_) => html.raw("You are logged in as <strong>").text(&view.name).raw("</strong>"),
        None => html.raw("You are known as <strong>").text(&view.name).raw("</strong>"),
    };
    html.raw(", with the role <strong>").raw(view.role).raw("</strong>.</p>");
    if view.may_manage {
        html.raw("<p><a href=\"/users\">Users and tokens</a></p>");
    }
    if let Some(id) = &view.user {
        write_sessions(&mut html, &view.sessions, view.as_of);
        html.raw("<div class=\"answers\">");
        let log_out = [("/login", "Log out", None), ("/login", "Log out everywhere", Some("true"))];
        for (then, label, everywhere) in log_out {
            begin_form(&mut html, "POST /api/logout", then, None);
            if let Some(value) = everywhere {
                write_hidden_json(&mut html, "everywhere", value);
            }
            end_form(&mut html, label);
        }
        html.raw("</div><h2>Password</h2><p class=\"soft\">It has at least 12 characters. ")
            .raw("All your sessions end when it changes.</p>");
        let url = format!("POST /api/users/{id}/password");
        begin_form(&mut html, &url, "/login", None);
        write_input(&mut html, "Current password", "current", "password");
        write_input(&mut html, "New password", "password", "password");
        end_form(&mut html, "Change password");
    }
    end(html)
}

fn write_sessions(html: &mut Html, sessions: &[(Timestamp, Timestamp)], now: Timestamp) {
    html.raw("<h2>Sessions</h2><div class=\"wide\"><table><caption>Your sessions</caption>")
        .raw("<thead><tr><th>Since</th><th>Last used</th></tr></thead><tbody>");
    for (since, used_at) in sessions {
        html.raw("<tr><td data-label=\"Since\">");
        write_ago(html, *since, now);
        html.raw("</td><td data-label=\"Last used\">");
        write_ago(html, *used_at, now);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div>");
}

/// Renders the page of users and tokens.
#[must_use]
pub(crate) fn people_page(view: &PeoplePage) -> String {
    let mut html = Html::default();
    begin(&mut html, "Users and tokens", "/users");
    html.raw("<h2>Users</h2><div class=\"wide\"><table><caption>Users</caption><thead><tr>")
        .raw("<th>Name</th><th>Role</th><th>State</th><th>Change</th></tr></thead><tbody>");
    view.users.iter().for_each(|user| write_user(&mut html, user, &view.roles));
    html.raw("</tbody></table></div><h3>Add a user</h3>");
    begin_form(&mut html, "POST /api/users", "", None);
    write_input(&mut html, "Name", "name", "text");
    write_roles(&mut html, &view.roles, None);
    html.raw("<p class=\"soft\">A first password is drawn and shown here, once.</p>");
    end_form(&mut html, "Add");
    html.raw("<h2>Tokens</h2><p class=\"soft\">Programs call with them: ")
        .raw("<code>Authorization: Bearer TOKEN</code>.</p>")
        .raw("<div class=\"wide\"><table><caption>Tokens</caption><thead><tr><th>Program</th>")
        .raw("<th>Role</th><th>State</th><th>Expires</th><th></th></tr></thead><tbody>");
    view.tokens.iter().for_each(|token| write_token(&mut html, token));
    html.raw("</tbody></table></div><h3>Create a token</h3>");
    begin_form(&mut html, "POST /api/tokens", "", None);
    write_input(&mut html, "Program", "name", "text");
    write_roles(&mut html, &view.roles, None);
    html.raw("<p class=\"soft\">It lasts for 90 days, and is shown here, once.</p>");
    end_form(&mut html, "Create");
    end(html)
}

fn write_user(html: &mut Html, user: &UserLine, roles: &[&'static str]) {
    html.raw("<tr><td data-label=\"Name\">");
    match &user.name {
        Some(name) => html.text(name),
        None => html.raw("<span class=\"soft\">forgotten, </span>").text(&user.id),
    };
    html.raw("</td><td data-label=\"Role\">")
        .raw(user.role)
        .raw("</td><td data-label=\"State\">")
        .raw(user.state)
        .raw("</td><td data-label=\"Change\"><div class=\"answers\">");
    if user.name.is_some() && !user.is_own {
        let url = format!("PATCH /api/users/{}", user.id);
        begin_form(html, &url, "", None);
        write_roles(html, roles, Some(user.role));
        end_form(html, "Change role");
        begin_form(html, &url, "", None);
        let is_enabled = user.state == "enabled";
        write_hidden_json(html, "enabled", if is_enabled { "false" } else { "true" });
        end_form(html, if is_enabled { "Disable" } else { "Enable" });
        let question = "Destroy the name for good? What this user did stays, under its id.";
        begin_form(html, &format!("DELETE /api/users/{}", user.id), "", Some(question));
        end_form(html, "Forget");
    }
    html.raw("</div></td></tr>");
}

fn write_token(html: &mut Html, token: &TokenLine) {
    html.raw("<tr><td data-label=\"Program\">")
        .text(&token.name)
        .raw("</td><td data-label=\"Role\">")
        .raw(token.role)
        .raw("</td><td data-label=\"State\">")
        .raw(token.state)
        .raw("</td><td data-label=\"Expires\">");
    write_time(html, token.expires_at, token.expires_at);
    html.raw("</td><td>");
    if token.state == "valid" {
        let question = "Revoke this token? Its program can call no more.";
        begin_form(html, &format!("DELETE /api/tokens/{}", token.id), "", Some(question));
        end_form(html, "Revoke");
    }
    html.raw("</td></tr>");
}

fn begin(html: &mut Html, title: &'static str, here: &'static str) {
    write_head(html, title, here, Refresh::Never);
    html.raw("<script src=\"/people.js\" defer></script><main>");
}

fn end(mut html: Html) -> String {
    html.raw("</main></body></html>\n");
    html.finish()
}

/// Begins a form that the script sends as JSON; where it goes then, this page if that is empty.
fn begin_form(html: &mut Html, send: &str, then: &'static str, confirm: Option<&'static str>) {
    html.raw("<form method=\"post\" class=\"filter\"")
        .attribute("data-send", send)
        .attribute("data-then", then);
    if let Some(question) = confirm {
        html.attribute("data-confirm", question);
    }
    html.raw(">");
}

fn end_form(html: &mut Html, label: &'static str) {
    html.raw("<button>").raw(label).raw("</button><output></output></form>");
}

fn write_input(html: &mut Html, label: &'static str, name: &'static str, kind: &'static str) {
    html.raw("<label>").raw(label).raw("<input required").attribute("name", name);
    html.attribute("type", kind).raw("></label>");
}

fn write_hidden_json(html: &mut Html, name: &'static str, value: &'static str) {
    html.raw("<input type=\"hidden\" data-json").attribute("name", name);
    html.attribute("value", value).raw(">");
}

fn write_roles(html: &mut Html, roles: &[&'static str], chosen: Option<&str>) {
    html.raw("<label>Role<select name=\"role\">");
    for role in roles {
        html.raw("<option").attribute("value", role);
        html.raw(if Some(*role) == chosen { " selected>" } else { ">" }).raw(role);
        html.raw("</option>");
    }
    html.raw("</select></label>");
}
