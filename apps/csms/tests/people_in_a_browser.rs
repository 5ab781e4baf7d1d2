//! People in a real browser: the login, what other sites make a browser do, and managing users.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::json;

use crate::harness::Server;
use crate::harness::folder::Folder;
use crate::harness::server::Options;
use crate::harness::tab::Tab;

const TOKEN: &str = "a-token-of-more-than-16-bytes";
const PASSWORD: &str = "correct horse battery";

/// Serves one page, of another origin, for as long as the test runs. Returns its URL.
fn foreign_page(html: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4_096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{html}", html.len());
        }
    });
    url
}

#[test]
fn a_browser_logs_in_is_not_used_by_other_sites_and_is_out_when_an_admin_says_so() {
    let folder = Folder::new();
    let stations = folder.path().join("stations.txt");
    fs::write(&stations, "CP-1\n").unwrap();
    let server = Server::start_with(
        Options::default()
            .variable("CSMS_API_TOKEN", TOKEN)
            .variable("CSMS_STATIONS", stations.to_str().unwrap()),
    );
    let api = server.api().with_token(TOKEN);
    let ada = api.add_user("ada", "admin", PASSWORD);
    let mut tab = Tab::start();

    // A page leads to the login, and the login to the page.
    tab.open(&format!("{}energy?from=2026-01-01", server.url()));
    tab.wait_for("location.pathname === '/login' && !!document.forms[0]");
    tab.picture("login");
    tab.submit("form", &[("name", "ada"), ("password", "wrong horse battery")]);
    tab.wait_for("document.body.innerText.includes('password is wrong')");
    tab.submit("form", &[("name", "Ada"), ("password", PASSWORD)]);
    tab.wait_for("location.pathname + location.search === '/energy?from=2026-01-01'");
    assert_eq!(tab.value("document.cookie"), "", "no script reads the session");

    // A script of our pages needs the token of the session; what a foreign page sends is refused,
    // also by a page of the same site, with which the browser sends the cookie.
    let put = |headers: &str| {
        format!(
            "fetch('/api/tags/ANN', {{method: 'PUT', headers: {headers}, \
             body: JSON.stringify({{status: 'Accepted'}})}}).then(reply => reply.status)"
        )
    };
    assert_eq!(tab.value(&put("{}")), 403);
    let forged = format!(
        "<form method=post enctype=text/plain action='{0}api/logout'></form>\
         <script>fetch('{0}api/logout', {{method: 'POST', mode: 'no-cors', credentials: 'include'}})\
         .finally(() => document.forms[0].submit());</script>",
        server.url()
    );
    tab.open(&foreign_page(forged));
    tab.wait_for("document.documentElement.innerText.includes('foreign-origin')");
    tab.open(&format!("{}account", server.url()));
    tab.wait_for("document.body.innerText.includes('logged in as ada')");
    tab.picture("account");
    let with_token = "{'X-CSRF-Token': (await (await fetch('/api/me')).json()).csrfToken}";
    let put = put(with_token);
    assert_eq!(tab.value(&format!("(async () => await {put})()")), 201);

    // An admin adds a user, whose password is shown, and changes it by a form.
    tab.open(&format!("{}users", server.url()));
    tab.wait_for("document.body.innerText.includes('Add a user')");
    tab.submit("form[data-send='POST /api/users']", &[("name", "bob"), ("role", "operator")]);
    tab.wait_for("document.querySelector('output.secret')?.textContent.length > 20");
    tab.open(&format!("{}users", server.url()));
    tab.wait_for("document.body.innerText.includes('bob')");
    tab.submit("form[data-send^='PATCH']", &[("role", "viewer")]);
    tab.wait_for("!!document.querySelector('option[value=viewer][selected]')");
    tab.picture("users");
    let users = api.fetch("/api/users?name=bob").expect(200).json();
    assert_eq!(users["items"][0]["role"], "viewer");

    // The dashboard that stands open leaves when its person is shut out.
    tab.open(&server.url());
    tab.wait_for("document.getElementById('link').dataset.state === 'live'");
    let disable = json!({"enabled": false}).to_string();
    api.send("PATCH", &format!("/api/users/{ada}"), &[], &disable).expect(200);
    tab.wait_for("location.pathname === '/login'");
}
