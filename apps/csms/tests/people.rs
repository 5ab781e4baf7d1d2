//! People and programs that call: logins, roles, tokens, and what is kept of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use leftfold_proving::PostgresServer;
use serde_json::{Value, json};

use crate::harness::api::{encoded, station_path};
use crate::harness::folder::Folder;
use crate::harness::http::{send, stream_until_end};
use crate::harness::people::Person;
use crate::harness::server::Options;
use crate::harness::{Api, Server};

const TOKEN: &str = "a-token-of-more-than-16-bytes";
const PASSWORD: &str = "correct horse battery";

/// How a server is started that knows its callers.
fn knowing(folder: &Folder) -> Options {
    let path = folder.path().join("stations.txt");
    fs::write(&path, "CP-1\n").unwrap();
    Options::default()
        .variable("CSMS_API_TOKEN", TOKEN)
        .variable("CSMS_STATIONS", path.to_str().unwrap())
}

/// A server that knows its callers, and the API with the token that it was started with.
fn closed(folder: &Folder) -> (Server, Api) {
    let server = Server::start_with(knowing(folder));
    let api = server.api().with_token(TOKEN);
    (server, api)
}

#[track_caller]
fn code(reply: crate::harness::http::Reply, status: u16) -> String {
    reply.problem(status).code.unwrap()
}

#[test]
fn a_person_logs_in_and_a_wrong_forged_or_ended_login_admits_nobody() {
    let folder = Folder::new();
    let (mut server, api) = closed(&folder);
    let address = server.address();
    api.add_user("Ada", "operator", PASSWORD);
    let refused = |name: &str, password: &str| {
        code(Person::log_in(address, name, password).err().unwrap(), 401)
    };
    assert_eq!(refused("ada", "wrong horse battery"), "wrong-login");
    assert_eq!(refused("nobody", PASSWORD), "wrong-login");
    assert_eq!(refused("", ""), "wrong-login");

    let ada = Person::log_in(address, " ADA", PASSWORD).ok().unwrap();
    let me = ada.fetch("/api/me").expect(200).json();
    assert_eq!((&me["name"], &me["role"]), (&json!("ada"), &json!("operator")));
    ada.fetch("/api/stations").expect(200);
    // What is no session: a changed secret, another user's id, nothing.
    let changed = ada.cookie.replace(&ada.cookie[ada.cookie.len() - 4..], "AAAA");
    let other = ada.cookie.replace(&ada.id, &"0".repeat(32));
    for cookie in [&changed, &other, "csms-session=", "csms-session=x.y", "a=b"] {
        let reply = send(address, "GET", "/api/stations", &[("Cookie", cookie)], "");
        assert_eq!(code(reply, 401), "login-required", "{cookie}");
    }
    // A browser is led to the login, and from there to the page that it asked for.
    let page = [("Accept", "text/html,application/xhtml+xml")];
    let reply = send(address, "GET", "/transactions?open=true", &page, "").expect(303);
    assert_eq!(reply.header("location"), Some("/login?next=/transactions%3Fopen%3Dtrue"));

    // A session outlives the server.
    server.restart();
    ada.fetch("/api/stations").expect(200);
    let other = Person::log_in(address, "ada", PASSWORD).ok().unwrap();
    ada.send("POST", "/api/logout", &Value::Null).expect(204);
    assert_eq!(code(ada.fetch("/api/stations"), 401), "login-required");
    other.fetch("/api/stations").expect(200);

    // A new password ends all sessions; the old one is of no use.
    let change = format!("/api/users/{}/password", other.id);
    let new = json!({"password": "another horse battery", "current": "no"});
    assert_eq!(code(other.send("POST", &change, &new), 403), "wrong-password");
    let short = json!({"password": "short", "current": PASSWORD});
    assert_eq!(code(other.send("POST", &change, &short), 400), "invalid-password");
    let new = json!({"password": "another horse battery", "current": PASSWORD});
    other.send("POST", &change, &new).expect(204);
    other.fetch("/api/stations").problem(401);
    assert_eq!(refused("ada", PASSWORD), "wrong-login");
    let ada = Person::log_in(address, "ada", "another horse battery").ok().unwrap();

    // The live updates end with the session.
    let cookie = ada.cookie.clone();
    let ended = stream_until_end(address, "/live", &[("Cookie", &cookie)], "event: view", || {
        let disable = json!({"enabled": false});
        api.send("PATCH", &format!("/api/users/{}", ada.id), &[], &disable.to_string()).expect(200);
    });
    assert!(ended.contains("event: over"), "{}", &ended[ended.len().saturating_sub(300)..]);
    ada.fetch("/api/stations").problem(401);
    let disabled = Person::log_in(address, "ada", "another horse battery").err().unwrap();
    assert_eq!(code(disabled, 403), "user-disabled");
}

#[test]
fn a_session_that_is_not_used_or_is_old_ends() {
    let folder = Folder::new();
    let (mut server, api) = closed(&folder);
    api.add_user("Ada", "viewer", PASSWORD);
    for limit in ["CSMS_SESSION_IDLE", "CSMS_SESSION_MOST"] {
        server.restart_with(knowing(&folder).variable(limit, "1ms"));
        let ada = Person::log_in(server.address(), "ada", PASSWORD).ok().unwrap();
        ada.fetch("/api/me").problem(401);
    }
}

#[test]
fn a_write_of_a_session_needs_the_token_of_its_pages_and_an_origin_of_ours() {
    let folder = Folder::new();
    let (server, api) = closed(&folder);
    let address = server.address();
    for name in ["ada", "eve"] {
        api.add_user(name, "operator", PASSWORD);
    }
    let ada = Person::log_in(address, "ada", PASSWORD).ok().unwrap();
    let eve = Person::log_in(address, "eve", PASSWORD).ok().unwrap();
    let tag = json!({"status": "Accepted"}).to_string();
    let put = |headers: &[(&str, &str)]| {
        let headers = [&[("Cookie", ada.cookie.as_str())], headers].concat();
        send(address, "PUT", "/api/tags/ANN", &headers, &tag)
    };
    assert_eq!(code(put(&[]), 403), "csrf-token-required");
    for forged in ["", "x", &eve.csrf, &ada.cookie] {
        assert_eq!(code(put(&[("X-CSRF-Token", forged)]), 403), "csrf-token-required");
    }
    let csrf = ("X-CSRF-Token", ada.csrf.as_str());
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(code(put(&[csrf, ("Origin", origin)]), 403), "foreign-origin");
    }
    api.fetch("/api/tags/ANN").problem(404);
    put(&[csrf, ("Origin", &format!("http://{address}"))]).expect(201);
    // A login form of another site is refused too: it could log a person in as somebody else.
    let form =
        [("Origin", "https://evil.example"), ("Content-Type", "application/x-www-form-urlencoded")];
    let login = "name=eve&password=correct+horse+battery";
    assert_eq!(code(send(address, "POST", "/login", &form, login), 403), "foreign-origin");
    // A token is sent by nobody's browser on its own, so it needs nothing else.
    api.send("DELETE", "/api/tags/ANN", &[], "").expect(204);
}

#[test]
fn roles_bound_what_users_and_tokens_may() {
    let folder = Folder::new();
    let (server, api) = closed(&folder);
    let tag = json!({"status": "Accepted"});
    let by = |role: &str| server.api().with_token(&api.create_token("till", role).1);
    let (viewer, operator, admin) = (by("viewer"), by("operator"), by("admin"));
    viewer.fetch("/api/stations").expect(200);
    let refused = viewer.put("/api/tags/ANN", &tag).problem(403);
    assert_eq!(refused.code.as_deref(), Some("role-too-weak"));
    assert!(refused.detail.contains("operator") && refused.detail.contains("viewer"));
    operator.put("/api/tags/ANN", &tag).expect(201);
    for (method, path) in [
        ("PUT", "/api/stations/CP-2"),
        ("GET", "/api/users"),
        ("GET", "/api/tokens"),
        ("GET", "/api/audit"),
        ("POST", "/api/read-models/transactions/skip"),
        ("GET", "/users"),
    ] {
        assert_eq!(code(operator.send(method, path, &[], ""), 403), "role-too-weak", "{path}");
        assert_ne!(admin.send(method, path, &[], "").status, 403, "{path}");
    }
    // A viewer changes the own password, and no other one.
    let (ada, eve) =
        (api.add_user("ada", "viewer", PASSWORD), api.add_user("eve", "viewer", PASSWORD));
    let person = Person::log_in(server.address(), "ada", PASSWORD).ok().unwrap();
    let new = json!({"password": "another horse battery", "current": PASSWORD});
    let refused = person.send("POST", &format!("/api/users/{eve}/password"), &new);
    assert_eq!(code(refused, 403), "role-too-weak");
    person.send("POST", &format!("/api/users/{ada}/password"), &new).expect(204);
    // An admin does not shut itself out.
    api.send("PATCH", &format!("/api/users/{ada}"), &[], r#"{"role": "admin"}"#).expect(200);
    let ada = Person::log_in(server.address(), "ada", "another horse battery").ok().unwrap();
    let own = format!("/api/users/{}", ada.id);
    assert_eq!(code(ada.send("PATCH", &own, &json!({"enabled": false})), 409), "own-account");
    assert_eq!(code(ada.send("DELETE", &own, &Value::Null), 409), "own-account");
    ada.fetch("/api/users").expect(200);
}

#[test]
fn a_token_ends_when_it_is_revoked_or_expires() {
    let folder = Folder::new();
    let (server, api) = closed(&folder);
    let (id, text) = api.create_token("billing", "viewer");
    let billing = server.api().with_token(&text);
    billing.fetch("/api/me").expect(200);
    let forged = format!("csms_{id}_{}", "A".repeat(43));
    assert_eq!(code(server.api().with_token(&forged).fetch("/api/me"), 401), "token-invalid");
    let listed = api.fetch("/api/tokens").expect(200);
    assert!(!listed.body.contains(&text), "{}", listed.body);
    api.send("DELETE", &format!("/api/tokens/{id}"), &[], "").expect(204);
    assert_eq!(code(billing.fetch("/api/me"), 401), "token-invalid");
    assert_eq!(api.fetch("/api/tokens").json()["items"][0]["state"], "revoked");
    for expiry in ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        let body = json!({"name": "x", "role": "viewer", "expiresAt": expiry});
        assert_eq!(code(api.post("/api/tokens", &body), 400), "invalid-expiry");
    }
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1_500);
    let body = json!({"name": "x", "role": "viewer", "expiresAt": soon.to_string()});
    let text = api.post("/api/tokens", &body).expect(201).json()["token"].clone();
    let short = server.api().with_token(text.as_str().unwrap());
    crate::harness::deadline::until("the end of a token", || {
        let status = short.fetch("/api/me").status;
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_login_and_a_token_hold_at_all_servers_on_a_store_and_end_at_all_of_them() {
    let folder = Folder::new();
    let database = PostgresServer::shared().database("csms");
    let options = knowing(&folder).store(&format!("{database}?schema=events"));
    let (one, two) = (Server::start_with(options.clone()), Server::start_with(options));
    let (api, other) = (one.api().with_token(TOKEN), two.api().with_token(TOKEN));
    let id = api.add_user("Wilhelmine", "operator", PASSWORD);
    let here = Person::log_in(two.address(), "wilhelmine", PASSWORD).ok().unwrap();
    let there = here.at(one.address());
    there.send("PUT", "/api/tags/ANN", &json!({"status": "Accepted"})).expect(201);
    let user = format!("/api/users/{id}");
    other.send("PATCH", &user, &[], r#"{"role": "viewer"}"#).expect(200);
    assert_eq!(there.fetch("/api/me").expect(200).json()["role"], "viewer");
    here.send("POST", "/api/logout", &json!({"everywhere": true})).expect(204);
    there.fetch("/api/me").problem(401);

    let (token, text) = api.create_token("billing", "viewer");
    two.api().with_token(&text).fetch("/api/me").expect(200);
    other.send("DELETE", &format!("/api/tokens/{token}"), &[], "").expect(204);
    one.api().with_token(&text).fetch("/api/me").problem(401);

    other.send("DELETE", &user, &[], "").expect(204);
    let named = api.fetch("/api/users?name=wilhelmine").expect(200).json();
    assert_eq!(named["items"], json!([]));
    let gone = Person::log_in(one.address(), "wilhelmine", PASSWORD).err().unwrap();
    assert_eq!(code(gone, 401), "wrong-login");
    let acts = api.acts();
    let defined = acts.iter().find(|(kind, ..)| kind == "id_tag.Defined").unwrap();
    assert_eq!((defined.1.as_str(), &defined.2), (format!("user-{id}").as_str(), &None));
}

/// Returns true if any file below a folder has the text.
fn is_written(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.into_iter().any(|entry| {
        if entry.file_type().unwrap().is_dir() {
            return is_written(&entry.path(), text);
        }
        let bytes = fs::read(entry.path()).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn acts_say_who_and_what_is_forgotten_or_secret_stands_nowhere() {
    let folder = Folder::new();
    let (mut server, api) = closed(&folder);
    let (name, password) = ("Wilhelmine Quandt", "seven green ladders");
    let id = api.add_user(name, "operator", password);
    let wilhelmine = Person::log_in(server.address(), name, password).ok().unwrap();
    wilhelmine.send("PUT", "/api/tags/ANN", &json!({"status": "Accepted"})).expect(201);
    let unlock = station_path("CP-1", "/unlock");
    let reply = wilhelmine.send("POST", &unlock, &json!({"connectorId": 1}));
    assert!(reply.status == 202 || reply.status == 409, "{reply:?}");
    let (_, token) = api.create_token("billing", "viewer");
    let drawn = api.post("/api/users", &json!({"name": "bob", "role": "viewer"})).expect(201);
    let drawn = drawn.json()["password"].as_str().unwrap().to_owned();
    Person::log_in(server.address(), "bob", &drawn).ok().unwrap();

    let by = format!("user-{id}");
    let lowercase = name.to_lowercase();
    let acts = api.acts();
    let of = |kind: &str| acts.iter().find(|(it, ..)| it == kind).unwrap().clone();
    assert_eq!(of("id_tag.Defined").1, by);
    assert_eq!(of("id_tag.Defined").2.as_deref(), Some(lowercase.as_str()));
    assert_eq!(of("api_token.Created").1, "api-token");
    let own: Vec<Value> = api.all(&format!("/api/audit?by={by}&limit=1"));
    assert!(own.len() >= 2 && own.iter().all(|act| act["by"] == by.as_str()), "{own:?}");
    let page = wilhelmine.fetch("/account").expect(200).body;
    assert!(page.contains(&lowercase), "{page}");
    let users = api.fetch("/users").expect(200).body;
    assert!(users.contains(&lowercase) && !users.contains(&token), "{users}");

    // A second one of the name is refused, and leaves nothing.
    let again = json!({"name": lowercase, "role": "viewer", "password": PASSWORD});
    assert_eq!(code(api.post("/api/users", &again), 409), "name-taken");

    api.send("DELETE", &format!("/api/users/{id}"), &[], "").expect(204);
    wilhelmine.fetch("/api/me").problem(401);
    let gone = Person::log_in(server.address(), name, password).err().unwrap();
    assert_eq!(code(gone, 401), "wrong-login");
    assert_eq!(api.acts().iter().find(|(it, ..)| it == "id_tag.Defined").unwrap().1, by);
    for path in ["/api/audit", "/api/users", "/users", "/api/users?name=wilhelmine%20quandt"] {
        let reply = api.fetch(path).expect(200);
        assert!(!reply.body.to_lowercase().contains("wilhelmine"), "{path}: {}", reply.body);
    }
    // The name is free again, for somebody else.
    let other = api.add_user(name, "viewer", PASSWORD);
    assert_ne!(other, id);
    api.send("DELETE", &format!("/api/users/{other}"), &[], "").expect(204);

    server.terminate();
    let ended = server.wait_ended_with_words();
    let secrets =
        [&token, password, &drawn, TOKEN, PASSWORD, &wilhelmine.cookie, &wilhelmine.csrf, name];
    let session = wilhelmine.cookie.rsplit('.').next().unwrap();
    for secret in secrets.into_iter().chain([session, lowercase.as_str(), "$argon2"]) {
        assert!(!ended.stderr.contains(secret), "{secret} in {}", ended.stderr);
        for place in [server.store_path(), server.keys_path()] {
            assert!(!is_written(&place, secret), "{secret} in {}", place.display());
        }
    }
    assert!(ended.stderr.contains("calls were refused"), "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.0/24"), "{}", ended.stderr);
}

#[test]
fn the_command_line_adds_users_to_a_store_and_through_a_server() {
    let folder = Folder::new();
    let (mut server, api) = closed(&folder);
    let user = |arguments: &[&str], stdin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_csms"));
        command.arg("user").args(arguments).env("CSMS_API_TOKEN", TOKEN);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let store = server.store_path();
    let store = store.to_str().unwrap().to_owned();
    let url = server.url();
    let line = format!("{PASSWORD}\n");
    let with_role = |name| ["add", name, "--role", "admin", "--password-stdin"];

    let (done, said) = user(&[&with_role("ada")[..], &["--store", &store]].concat(), &line);
    assert!(!done && said.contains("--server"), "a server has it open: {said}");
    let (done, said) = user(&[&with_role("ada")[..], &["--server", &url]].concat(), &line);
    assert!(done, "{said}");
    Person::log_in(server.address(), "ada", PASSWORD).ok().unwrap();
    let (done, said) = user(&["password", "ada", "--server", &url], "");
    let drawn = said.split("password: ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(done && drawn.is_some(), "{said}");
    Person::log_in(server.address(), "ada", drawn.unwrap()).ok().unwrap();
    assert_eq!(api.fetch(&format!("/api/users?name={}", encoded("ada"))).expect(200).status, 200);

    server.terminate();
    server.wait_ended();
    let (done, said) = user(&[&with_role("eve")[..], &["--store", &store]].concat(), &line);
    assert!(done, "{said}");
    let (done, said) = user(&[&with_role("EVE")[..], &["--store", &store]].concat(), &line);
    assert!(!done && said.contains("another user has this name"), "{said}");
    // With an admin who can log in, no token is needed.
    let stations = folder.path().join("stations.txt");
    let closed = Options::default()
        .variable("CSMS_CLOSED", "1")
        .variable("CSMS_STATIONS", stations.to_str().unwrap());
    server.restart_with(closed);
    let eve = Person::log_in(server.address(), "eve", PASSWORD).ok().unwrap();
    eve.fetch("/api/users").expect(200);
    assert_eq!(code(server.api().with_token(TOKEN).fetch("/api/me"), 401), "token-invalid");
}
