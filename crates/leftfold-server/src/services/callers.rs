//! Who calls: the user and the role of each call, found out before any service sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tonic::Status;

use crate::users::{NotLetIn, UserRole, Users};

/// Time between two lines about callers who were not let in: a stranger does not fill the disk.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The user of a call.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Empty if nobody has to say who they are.
    pub(super) name: Arc<str>,
    pub(super) role: UserRole,
}

/// The door of a server.
pub(super) struct Door {
    users: Option<Users>,
    refused: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Door {
    pub(super) fn new(users: Option<Users>) -> Arc<Self> {
        Arc::new(Self { users, refused: AtomicU64::new(0), told: Mutex::default() })
    }

    /// Counts a caller who was not let in, and tells how many there were, once a minute.
    fn refuse(&self) {
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
        _ if is_open => Ok(Caller { name: "".into(), role: UserRole::Read }),
        None => Ok(Caller { name: "".into(), role: UserRole::Runtime }),
        Some(users) => match credentials(request.headers()) {
            None => Err(NotLetIn::Wrong),
            Some((name, password)) => {
                users.role_of(&name, &password).await.map(|role| Caller { name: name.into(), role })
            }
        },
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(why) => {
            door.refuse();
            refusal(why, request.headers())
        }
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn refusal(why: NotLetIn, headers: &HeaderMap) -> Response {
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let (status, code, text) = match why {
        NotLetIn::Wrong => {
            let text = "say who you are: a user of this server, and the password";
            (Status::unauthenticated(text), StatusCode::UNAUTHORIZED, text)
        }
        NotLetIn::Busy => {
            let text = "too many passwords wait to be compared, try again";
            (Status::unavailable(text), StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    if is_grpc {
        return status.into_http::<Body>();
    }
    (code, [(header::WWW_AUTHENTICATE, "Basic realm=\"leftfold\"")], format!("{text}\n"))
        .into_response()
}
