//! People: users of a server, as they log in over HTTP.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Api;
use super::http::{Reply, send};

/// A person who is logged in.
#[derive(Clone)]
pub(crate) struct Person {
    address: SocketAddr,
    /// Id of the user.
    pub(crate) id: String,
    /// Cookies of the browser.
    pub(crate) cookie: String,
    /// Token of the session's pages.
    pub(crate) csrf: String,
}

impl Person {
    /// Logs in; the reply if that is refused.
    #[track_caller]
    pub(crate) fn log_in(address: SocketAddr, name: &str, password: &str) -> Result<Self, Reply> {
        let body = json!({"name": name, "password": password}).to_string();
        let reply = send(address, "POST", "/api/login", &[], &body);
        if reply.status != 200 {
            return Err(reply);
        }
        let user = reply.json();
        let text = |name: &str| user[name].as_str().unwrap().to_owned();
        let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        Ok(Self { address, id: text("id"), cookie, csrf: text("csrfToken") })
    }

    /// The same person at another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Any request of a page of the session.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [("Cookie", self.cookie.as_str()), ("X-CSRF-Token", self.csrf.as_str())];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.address, method, path, &headers, &body)
    }

    /// Looks at something.
    pub(crate) fn fetch(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null)
    }
}

/// Users and tokens.
impl Api {
    /// Adds a user with a password, and returns its id.
    #[track_caller]
    pub(crate) fn add_user(&self, name: &str, role: &str, password: &str) -> String {
        let body = json!({"name": name, "role": role, "password": password});
        let added = self.post("/api/users", &body).expect(201).json();
        assert!(added.get("password").is_none(), "{added}");
        added["id"].as_str().unwrap().to_owned()
    }

    /// Creates a token; its id and its text.
    #[track_caller]
    pub(crate) fn create_token(&self, name: &str, role: &str) -> (String, String) {
        let body = json!({"name": name, "role": role});
        let created = self.post("/api/tokens", &body).expect(201).json();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    /// Acts, the newest first: type, who, and the name of that.
    #[track_caller]
    pub(crate) fn acts(&self) -> Vec<(String, String, Option<String>)> {
        let items: Vec<Value> = self.all("/api/audit");
        let text = |item: &Value, name: &str| item[name].as_str().map(str::to_owned);
        let act = |item: &Value| {
            (text(item, "type").unwrap(), text(item, "by").unwrap(), text(item, "name"))
        };
        items.iter().map(act).collect()
    }
}
