//! The door of a server: finds out who calls before any service sees the call, and ends calls of
//! users who are not let in any more.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::{Frame, SizeHint};
use tonic::Status;

use crate::users::{Caller, NotLetIn, Users};

/// Time between two lines about callers who were not let in: a stranger does not fill the disk.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The door of a server.
pub(super) struct Door {
    users: Option<Users>,
    /// Makes the status of a refused call, by its path, one that clients of its protocol read.
    refuse: fn(&str, Status) -> Status,
    refused: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Door {
    pub(super) fn new(users: Option<Users>, refuse: fn(&str, Status) -> Status) -> Arc<Self> {
        Arc::new(Self { users, refuse, refused: AtomicU64::new(0), told: Mutex::default() })
    }

    /// Counts a caller who was not let in, and tells how many there were, once a minute.
    fn count(&self) {
        let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(count, "calls without the password of a user were refused");
        }
    }
}

/// Lets a call pass with its caller, or answers that it may not.
pub(super) async fn pass(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Response {
    // Balancers have no password, and learn nothing but that the server is there.
    let is_open = matches!(request.uri().path(), "/health" | "/grpc.health.v1.Health/Check");
    let caller = match &door.users {
        _ if is_open => Ok(Caller::stranger()),
        None => Ok(Caller::anybody()),
        Some(users) => match shown(request.headers()) {
            None => Err(NotLetIn::Wrong),
            Some(Shown::Token(token)) => users.with_its_token(&token),
            Some(Shown::Password(name, password)) => {
                users.with_its_password(&name, &password).await
            }
        },
    };
    match caller {
        Ok(caller) => {
            let changed = caller.changed();
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match changed {
                None => response,
                Some(changed) => response.map(|body| {
                    let changed = Box::pin(changed);
                    Body::new(GuardedBody { body, changed, has_ended: false })
                }),
            }
        }
        Err(why) => {
            door.count();
            refusal(&door, why, &request)
        }
    }
}

/// Proof that a call shows to be let in.
enum Shown {
    Token(String),
    Password(String, String),
}

fn shown(headers: &HeaderMap) -> Option<Shown> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    let text = text.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Shown::Token(text.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(Shown::Password(name.to_owned(), password.to_owned()))
}

fn refusal(door: &Door, why: NotLetIn, request: &Request) -> Response {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let (status, code, text) = match why {
        NotLetIn::Wrong => {
            let text = "say who you are: a user of this server and the password, or a token";
            (Status::unauthenticated(text), StatusCode::UNAUTHORIZED, text)
        }
        NotLetIn::Busy => {
            let text = "too many passwords wait to be compared, try again";
            (Status::unavailable(text), StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    if is_grpc {
        return (door.refuse)(request.uri().path(), status).into_http::<Body>();
    }
    (code, [(header::WWW_AUTHENTICATE, "Basic realm=\"leftfold\"")], format!("{text}\n"))
        .into_response()
}

/// An answer that ends when its caller is not let in any more.
struct GuardedBody {
    body: Body,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_ended: bool,
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // A stream that always has more to give is ended too.
        if self.changed.as_mut().poll(context).is_ready() {
            self.has_ended = true;
            // What the answer would have gone on with is not made any more.
            self.body = Body::empty();
            let text = "the user has other rights now, or is not let in any more: call again";
            let mut trailers = HeaderMap::new();
            if let Err(status) = Status::unauthenticated(text).add_header(&mut trailers) {
                return Poll::Ready(Some(Err(axum::Error::new(status))));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
