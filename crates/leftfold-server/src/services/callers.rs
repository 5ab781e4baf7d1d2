//! The door of a server: finds out who calls before any service sees the call, and ends calls of
//! users who are not let in any more.

use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::{Frame, SizeHint};
use leftfold_callers::{AddressPrefix, NotLetIn};
use tonic::{Code, Status};
use tracing::Instrument;

use super::kurrent;
use super::traced::trace_in;
use crate::guard::{CallPlace, Guard};
use crate::metrics::{CallRefusal, OpenCall, ServerCounts};
use crate::users::{Caller, Users};

/// Reason why calls end that are open.
const CHANGED: &str = "the user has other rights now, or is not let in any more: call again";

/// The door of a server.
pub(super) struct Door {
    users: Option<Users>,
    guard: Arc<Guard>,
    /// Makes the status of a refused call, by its path, one that clients of its protocol read.
    refuse: fn(&str, Status) -> Status,
}

impl Door {
    pub(super) fn new(
        users: Option<Users>,
        guard: Arc<Guard>,
        refuse: fn(&str, Status) -> Status,
    ) -> Arc<Self> {
        Arc::new(Self { users, guard, refuse })
    }

    /// Finds out who calls.
    async fn caller(&self, request: &Parts) -> Result<Caller, NotLetIn> {
        let Some(users) = &self.users else { return Ok(Caller::anybody()) };
        // Balancers have no password, and learn nothing but that the server is there. Clients of
        // KurrentDB ask without one what it is.
        let path = request.uri.path();
        if matches!(path, "/health" | "/grpc.health.v1.Health/Check")
            || kurrent::tells_of_server(path)
        {
            return Ok(Caller::stranger());
        }
        let let_in = match shown(&request.headers).ok_or(NotLetIn::Wrong)? {
            Shown::Token(token) => users.with_its_token(&token)?,
            Shown::Password(name, password) => {
                let prefix = prefix_of(&request.extensions);
                let guesses = &self.guard.guesses;
                users.with_its_password(&name, &password, prefix, guesses).await?
            }
        };
        Ok(Caller::user(users.clone(), let_in, Arc::clone(&self.guard)))
    }

    /// Answers a call that may not pass.
    fn answer(&self, status: Status, request: &Parts) -> Response {
        let kind = request.headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return (self.refuse)(request.uri.path(), status).into_http::<Body>();
        }
        let text = format!("{}\n", status.message());
        let code = match status.code() {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (code, [(header::WWW_AUTHENTICATE, "Basic realm=\"leftfold\"")], text).into_response()
    }
}

/// The sockets of the server say where a request comes from.
fn prefix_of(extensions: &Extensions) -> AddressPrefix {
    let nowhere = || AddressPrefix::of(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    extensions.get().copied().unwrap_or_else(nowhere)
}

/// Counts a call, from its beginning to the end of its answer.
pub(super) async fn count(
    State(counts): State<Arc<ServerCounts>>,
    request: Request,
    next: Next,
) -> Response {
    let trace = trace_in(request.headers());
    let call = OpenCall::begin(&counts, request.uri().path(), trace.as_ref());
    let answer = next.run(request).instrument(call.span().clone());
    call.answer(answer.await)
}

/// Lets a call pass with its caller, or answers that it may not.
pub(super) async fn pass(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match door.caller(&parts).await {
        Ok(caller) => caller,
        Err(why) => {
            door.guard.counts.refuse_call(match why {
                NotLetIn::Wrong => CallRefusal::Unauthenticated,
                NotLetIn::Busy => CallRefusal::Guessing,
            });
            door.guard.refusals.count_stranger(prefix_of(&parts.extensions));
            return door.answer(status_of(why), &parts);
        }
    };
    let place = match caller.begin_call().await {
        Ok(place) => place,
        Err(too_fast) => {
            door.guard.counts.refuse_call(CallRefusal::Rate);
            return door.answer(too_fast.into(), &parts);
        }
    };
    let changed = caller.changed();
    let ends_with = (door.refuse)(parts.uri.path(), Status::unauthenticated(CHANGED));
    parts.extensions.insert(caller);
    let response = next.run(Request::from_parts(parts, body)).await;
    match changed {
        None => response,
        Some(changed) => response.map(|body| {
            let changed = Box::pin(changed);
            Body::new(GuardedBody { body, changed, ends_with: Some(ends_with), _place: place })
        }),
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

fn status_of(why: NotLetIn) -> Status {
    match why {
        NotLetIn::Wrong => Status::unauthenticated(
            "say who you are: a user of this server and the password, or a token",
        ),
        NotLetIn::Busy => Status::unavailable("too many passwords wait to be compared, try again"),
    }
}

/// An answer that ends when its caller is not let in any more, and is counted among the calls of
/// its user until then.
struct GuardedBody {
    body: Body,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Status when it ends so; `None` when it has.
    ends_with: Option<Status>,
    _place: Option<CallPlace>,
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ends_with.is_none() {
            return Poll::Ready(None);
        }
        // A stream that always has more to give is ended too.
        if self.changed.as_mut().poll(context).is_ready()
            && let Some(status) = self.ends_with.take()
        {
            // What the answer would have gone on with is not made any more.
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            if let Err(status) = status.add_header(&mut trailers) {
                return Poll::Ready(Some(Err(axum::Error::new(status))));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ends_with.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
