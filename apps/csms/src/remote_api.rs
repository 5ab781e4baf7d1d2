//! The API of a server that runs, for the command line: one request on a connection of its own,
//! without encryption, so for a server on this machine or behind a tunnel.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::confidential::Confidential;

/// Time that a server may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Error of a request to a server.
#[derive(Debug, thiserror::Error)]
pub enum RemoteApiError {
    /// The URL is another.
    #[error("the server is named as http://HOST:PORT; with TLS before it send the request by curl")]
    Url,
    /// The server cannot be reached.
    #[error("the server {server} cannot be reached: {error}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// Error of the connection.
        error: std::io::Error,
    },
    /// The server does not answer.
    #[error("the server {server} did not answer within {} s", WITHIN.as_secs())]
    Silent {
        /// Host and port.
        server: String,
    },
    /// The answer is none of a server of this kind.
    #[error("{server} answered with something else than csms does")]
    Foreign {
        /// Host and port.
        server: String,
    },
    /// The server refused.
    #[error("the server refused ({status}): {detail}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// Words of the server.
        detail: String,
    },
}

/// A server, and the token to call it with.
#[derive(Debug)]
pub(crate) struct RemoteApi {
    server: String,
    token: Option<Confidential>,
}

impl RemoteApi {
    /// Names a server by its URL.
    pub(crate) fn at(url: &str, token: Option<Confidential>) -> Result<Self, RemoteApiError> {
        let server = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let server = server.filter(|it| it.contains(':') && !it.contains(['/', '@', '\r', '\n']));
        Ok(Self { server: server.ok_or(RemoteApiError::Url)?.to_owned(), token })
    }

    /// Adds a user.
    pub(crate) async fn add_user(
        &self,
        name: &str,
        role: &str,
        password: &Confidential,
    ) -> Result<(), RemoteApiError> {
        let body = json!({ "name": name, "role": role, "password": password.reveal() });
        self.send("POST", "/api/users", &body.to_string()).await.map(drop)
    }

    /// Returns the id of the user of a name; `None` if there is none.
    pub(crate) async fn user_id(&self, name: &str) -> Result<Option<String>, RemoteApiError> {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        let name: String = name.bytes().map(encode).collect();
        let found = self.send("GET", &format!("/api/users?name={name}"), "").await?;
        Ok(found["items"][0]["id"].as_str().map(str::to_owned))
    }

    /// Gives a user a new password.
    pub(crate) async fn change_password(
        &self,
        id: &str,
        password: &Confidential,
    ) -> Result<(), RemoteApiError> {
        let body = json!({ "password": password.reveal() }).to_string();
        self.send("POST", &format!("/api/users/{id}/password"), &body).await.map(drop)
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Result<Value, RemoteApiError> {
        let server = || self.server.clone();
        let exchanged = timeout(WITHIN, self.exchange(method, path, body)).await;
        let answer = exchanged
            .map_err(|_| RemoteApiError::Silent { server: server() })?
            .map_err(|error| RemoteApiError::Unreachable { server: server(), error })?;
        let foreign = || RemoteApiError::Foreign { server: server() };
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(foreign)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(foreign)?;
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        if status / 100 == 2 {
            return Ok(json);
        }
        let detail = json["detail"].as_str().ok_or_else(foreign)?.to_owned();
        Err(RemoteApiError::Refused { status, detail })
    }

    async fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.server).await?;
        let token = self.token.as_ref().map(|token| token.reveal());
        let authorization =
            token.map_or_else(String::new, |it| format!("Authorization: Bearer {it}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.server,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_host_and_port_without_encryption() {
        assert!(RemoteApi::at("http://127.0.0.1:8180/", None).is_ok());
        for url in ["https://h:1", "h:1", "http://h", "http://a@h:1", "http://h:1/api", ""] {
            assert!(RemoteApi::at(url, None).is_err(), "{url}");
        }
    }
}
