//! A request to another service over HTTP, on a connection of its own.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answer of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Error of a request without a reply. Only one of them says that nothing happened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("nothing was sent: {0}")]
    NotSent(String),
    #[error("there was no reply: {0}")]
    NoReply(String),
}

/// Sends a request and reads the whole reply.
pub(crate) async fn send(
    to: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Reply, SendError> {
    let (head, body) = open(to, method, path, headers, body).await?.into_parts();
    let bytes = to_bytes(Body::new(body), REPLY_BYTES_MAX).await.map_err(no_reply)?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}

/// Sends a request; the body of the response is read by the caller.
pub(crate) async fn open(
    to: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Response<Incoming>, SendError> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, to);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::from(body)).map_err(not_sent)?;
    let stream = TcpStream::connect(to).await.map_err(not_sent)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(not_sent)?;
    // It ends with the sender and the body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(no_reply)
}

/// The feed of orders, as a browser reads it.
pub(crate) struct Feed {
    body: BoxStream<'static, Result<Bytes, axum::Error>>,
    /// Bytes, since a part of the body may end in the middle of a character.
    unread: Vec<u8>,
}

impl Feed {
    /// Begins after an event.
    pub(crate) async fn open(shop: &str, after: &str) -> Result<Self, SendError> {
        let response =
            open(shop, Method::GET, "/orders/events", &[("last-event-id", after)], String::new())
                .await?;
        if response.status() != StatusCode::OK {
            return Err(SendError::NoReply(format!(
                "the feed was answered with {}",
                response.status()
            )));
        }
        Ok(Self {
            body: Body::new(response.into_body()).into_data_stream().boxed(),
            unread: Vec::new(),
        })
    }

    /// The next event: its id and its data.
    pub(crate) async fn next(&mut self) -> Result<(String, Value), SendError> {
        loop {
            let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") else {
                let part = self
                    .body
                    .next()
                    .await
                    .ok_or_else(|| SendError::NoReply("the feed has ended".to_owned()))?;
                self.unread.extend_from_slice(&part.map_err(no_reply)?);
                continue;
            };
            let event: Vec<u8> = self.unread.drain(..end + 2).collect();
            let event = String::from_utf8(event).map_err(no_reply)?;
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            };
            let read = field("id")
                .zip(field("data"))
                .map(|(id, data)| (id.trim().to_owned(), serde_json::from_str(data)));
            // What has no data keeps the connection alive.
            if let Some((id, data)) = read {
                return Ok((id, data.map_err(no_reply)?));
            }
        }
    }
}

fn not_sent(error: impl std::error::Error) -> SendError {
    SendError::NotSent(error.to_string())
}

fn no_reply(error: impl std::error::Error) -> SendError {
    SendError::NoReply(error.to_string())
}
