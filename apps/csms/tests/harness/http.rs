//! Just enough HTTP/1.1 for tests: one request on a connection of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::deadline::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    request: String,
}

/// Sends a request and reads the whole reply.
pub(crate) fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let text = exchange(to, &format!("{request}\r\n{body}"));
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP reply to {method} {path}: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = if head.to_lowercase().contains("\r\ntransfer-encoding: chunked") {
        join_chunks(body)
    } else {
        body.to_owned()
    };
    Reply {
        status: status.unwrap_or_else(|| panic!("no status in {head:?}")),
        head: head.to_owned(),
        body,
        request: format!("{method} {path}"),
    }
}

/// Sends a POST to a server that may be gone, or stand still; `None` if no reply comes in time.
pub(crate) fn try_post(to: SocketAddr, path: &str, body: &Value, within: Duration) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&to, within).ok()?;
    stream.set_read_timeout(Some(within)).ok()?;
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{kind}{body}").as_bytes()).ok()?;
    let mut head = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut head).ok()?;
    String::from_utf8_lossy(&head[9..]).parse().ok()
}

/// Writes a text and reads until the other side ends the connection, or has been silent for too
/// long.
pub(crate) fn exchange(to: SocketAddr, text: &str) -> String {
    let mut stream =
        TcpStream::connect(to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = Vec::new();
    // A server that dies in the middle resets the connection: what came before is the reply.
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

/// Writes a text and reads the status of the reply, which need not end.
pub(crate) fn status_of(to: SocketAddr, text: &str) -> u16 {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut head = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap_or_else(|_| panic!("no status in {head:?}"))
}

/// Reads an endless reply until a text has come, while something else is done that brings it.
///
/// # Panics
/// When it does not come in time.
pub(crate) fn stream_until(to: SocketAddr, path: &str, text: &str, bring: impl FnOnce()) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
    let mut read = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut bring = Some(bring);
    while !String::from_utf8_lossy(&read).contains(text) {
        let bytes = stream
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("waited {PATIENCE:?} for {text:?}: {error}"));
        assert!(bytes > 0, "the stream ended: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..bytes]);
        // Not before the reply has begun.
        bring.take().into_iter().for_each(|bring| bring());
    }
}

/// Reads an endless reply to its end, which something brings about that is done once a text has
/// come.
///
/// # Panics
/// When it does not end in time.
pub(crate) fn stream_until_end(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    text: &str,
    end: impl FnOnce(),
) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut read = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut end = Some(end);
    loop {
        let bytes = stream
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("waited {PATIENCE:?} for the end: {error}"));
        read.extend_from_slice(&buffer[..bytes]);
        let said = String::from_utf8_lossy(&read);
        if bytes == 0 {
            return said.into_owned();
        }
        if said.contains(text) {
            end.take().into_iter().for_each(|end| end());
        }
    }
}

fn join_chunks(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, chunks)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(chunk) = chunks.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        body += chunk;
        rest = chunks[size..].trim_start_matches("\r\n");
    }
    body
}

impl Reply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// This reply, if it has that status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} was answered with: {}", self.request, self.body);
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.request, self.body))
    }
}
