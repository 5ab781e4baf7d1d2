//! A request that changes something: what it says, and who must not be charged twice for it.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use leftfold::store::TraceContext;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The longest body.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
const KEY_BYTES_MAX: usize = 255;

// ANCHOR: asked
/// A POST as it came.
pub(crate) struct Asked {
    /// The Idempotency-Key.
    pub(crate) key: String,
    /// All that must be the same when the key comes again.
    pub(crate) request: Vec<u8>,
    /// The caller's own id for it, from `x-request-id`.
    pub(crate) conversation: Option<String>,
    /// The caller's trace, from `traceparent`. One that cannot be read begins again, as the
    /// standard says.
    pub(crate) trace: Option<TraceContext>,
    body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let path = request.uri().path().to_owned();
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                "too-large"
            } else {
                "invalid"
            };
            Problem::new(rejection.status(), code, rejection.body_text())
        })?;
        let key = text(&headers, "idempotency-key")?
            .filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
        let missing = || {
            Problem::invalid(
                "an Idempotency-Key of 1 to 255 characters is needed, one for each new request",
            )
        };
        let of_trace = |name| text(&headers, name).ok().flatten();
        let trace = of_trace("traceparent")
            .and_then(|parent| TraceContext::parse(parent, of_trace("tracestate")).ok());
        Ok(Self {
            key: key.ok_or_else(missing)?.to_owned(),
            request: [path.as_bytes(), b"\n", &body].concat(),
            conversation: text(&headers, "x-request-id")?.map(str::to_owned),
            trace,
            body,
        })
    }
}

/// Names a command or a decision by the key of the request, and says where it comes from.
macro_rules! asked_by {
    ($asked:expr, $command:expr) => {{
        let mut command =
            $command.id("shop", &$asked.key).request(&$asked.request).trace($asked.trace.clone());
        if let Some(conversation) = &$asked.conversation {
            command = command.correlated(conversation);
        }
        command
    }};
}
pub(crate) use asked_by;
// ANCHOR_END: asked

impl Asked {
    /// The body, as the JSON that it must be.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::invalid(format!("the body is not as expected: {error}")))
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let unreadable = |_| Problem::invalid(format!("{name} must be of visible ASCII characters"));
    headers.get(name).map(|value| value.to_str().map_err(unreadable)).transpose()
}

/// Refuses what a person cannot have meant.
pub(crate) fn check(holds: bool, otherwise: &str) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::invalid(otherwise)) }
}
