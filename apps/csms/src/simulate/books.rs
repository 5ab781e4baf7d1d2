//! The books of the server: its transactions, as its API tells of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::line::encoded;
use crate::confidential::Confidential;

/// Time that the server may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Transactions that are asked for at once.
const PAGE: usize = 500;

/// Client of the API of the server.
#[derive(Debug)]
pub(crate) struct Books {
    authority: Arc<str>,
    token: Option<Confidential>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Transaction as the server tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BookedTransaction {
    pub(crate) id: i64,
    pub(crate) open: bool,
    pub(crate) energy_wh: Option<i64>,
    /// State in one word.
    pub(crate) state: String,
    /// Id that the station calls it by, if the server gave none.
    #[serde(default)]
    pub(crate) reported_id: Option<i64>,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
}

/// Flag of a start that may have been told twice: one of both is no session.
const POSSIBLE_REPEAT: &str = "possible-repeat";

impl BookedTransaction {
    /// Tells whether another transaction may be about the same session.
    pub(crate) fn is_possible_repeat(&self) -> bool {
        self.is_flagged(POSSIBLE_REPEAT)
    }

    /// Tells whether it has a flag.
    pub(crate) fn is_flagged(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}

#[derive(Debug, Deserialize)]
struct BookedPage {
    items: Vec<BookedTransaction>,
    next: Option<String>,
}

/// Error of a question to the API.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The server cannot be reached.
    #[error("the server at {authority} cannot be asked: {detail}")]
    Away {
        /// Host and port.
        authority: Arc<str>,
        /// Cause.
        detail: String,
    },
    /// The server refuses the question.
    #[error("the server answered {path} with {status}: {body}")]
    Refused {
        /// Path and query that were asked for.
        path: String,
        /// Status of the answer.
        status: StatusCode,
        /// Begin of the answer.
        body: String,
    },
    /// The answer is not as expected.
    #[error("the answer to {path} cannot be read: {error}; is the server of another release?")]
    Unreadable {
        /// Path and query that were asked for.
        path: String,
        /// Cause.
        error: serde_json::Error,
    },
}

impl Books {
    pub(crate) fn new(authority: Arc<str>, token: Option<Confidential>) -> Self {
        Self { authority, token, connection: None }
    }

    /// Returns the transactions of a station, the newest first.
    pub(crate) async fn of_station(
        &mut self,
        identity: &str,
    ) -> Result<Vec<BookedTransaction>, BooksError> {
        self.list(&format!("station={}&", encoded(identity)), PAGE).await
    }

    /// Tells whether there is no transaction at all.
    pub(crate) async fn is_empty(&mut self) -> Result<bool, BooksError> {
        let path = "/api/transactions?limit=1";
        Ok(self.page(path).await?.items.is_empty())
    }

    /// Registers a station.
    pub(crate) async fn register(&mut self, identity: &str) -> Result<(), BooksError> {
        let path = format!("/api/stations/{}", encoded(identity));
        self.send(Method::PUT, &path).await.map(drop)
    }

    async fn list(
        &mut self,
        filter: &str,
        limit: usize,
    ) -> Result<Vec<BookedTransaction>, BooksError> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/transactions?{filter}limit={limit}{after}");
            let page = self.page(&path).await?;
            found.extend(page.items);
            match page.next {
                Some(next) => after = format!("&after={}", encoded(&next)),
                None => return Ok(found),
            }
        }
    }

    async fn page(&mut self, path: &str) -> Result<BookedPage, BooksError> {
        let body = self.send(Method::GET, path).await?;
        serde_json::from_slice(&body)
            .map_err(|error| BooksError::Unreadable { path: path.to_owned(), error })
    }

    /// Sends a request without a body, once more if a connection that was kept has ended.
    async fn send(&mut self, method: Method, path: &str) -> Result<Bytes, BooksError> {
        let was_kept = self.connection.is_some();
        match self.try_send(&method, path).await {
            Err(BooksError::Away { .. }) if was_kept => {
                self.connection = None;
                self.try_send(&method, path).await
            }
            sent => sent,
        }
    }

    async fn try_send(&mut self, method: &Method, path: &str) -> Result<Bytes, BooksError> {
        let authority = self.authority.clone();
        let away = |detail: String| BooksError::Away { authority: authority.clone(), detail };
        let exchange = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => dial(&authority).await.map_err(&away)?,
            };
            let request = self.request(method, path).map_err(&away)?;
            connection.ready().await.map_err(|error| away(error.to_string()))?;
            let answer = connection.send_request(request).await;
            let answer = answer.map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
            self.connection = Some(connection);
            if status.is_success() {
                return Ok(body);
            }
            let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            Err(BooksError::Refused { path: path.to_owned(), status, body })
        };
        let late = |_| away(format!("no answer within {ANSWER_TIMEOUT:?}"));
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(late)?
    }

    fn request(&self, method: &Method, path: &str) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder().method(method).uri(path).header(HOST, &*self.authority);
        let request = match &self.token {
            Some(token) => {
                let bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
                let mut bearer = bearer.map_err(|_| "the token cannot be sent".to_owned())?;
                bearer.set_sensitive(true);
                request.header(AUTHORIZATION, bearer)
            }
            None => request,
        };
        request.body(Full::default()).map_err(|error| error.to_string())
    }
}

async fn dial(authority: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}
