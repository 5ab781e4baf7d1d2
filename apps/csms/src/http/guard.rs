//! Access to the API and the dashboard.
//!
//! With a token, callers that send it: as `Authorization: Bearer`, or, from a browser, as the
//! password of basic authentication. In open mode, callers on this machine; but not a web page of
//! another origin in a browser on this machine, which would come with a foreign `Host` or `Origin`.
//! Stations are no browsers, and are admitted by the gateway.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Problem;
use crate::app::Csms;

/// ApiCaller who was admitted; a request that was passed on has it among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiCaller {
    /// Name that is recorded with what the caller does.
    pub(crate) name: Arc<str>,
}

/// Passes on the requests of callers that may call, and refuses others: for the API, and for the
/// dashboard.
pub(crate) async fn guard(
    State(csms): State<Arc<Csms>>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&csms, request.method(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => challenge(problem),
    }
}

/// Returns a refusal that names the ways to authenticate.
fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"csms\", charset=\"UTF-8\"");
        response
            .headers_mut()
            .append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"csms\""));
        response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// Checks that the caller may call; the error is the refusal.
pub(crate) fn admit(
    csms: &Csms,
    method: &Method,
    headers: &HeaderMap,
) -> Result<ApiCaller, Problem> {
    if *method != Method::GET {
        refuse_foreign_origin(headers)?;
    }
    match &csms.config.api_token {
        Some(token) => {
            let given = text(headers, &header::AUTHORIZATION).and_then(token_of);
            if given.is_some_and(|given| is_equal(given.as_bytes(), token.reveal().as_bytes())) {
                return Ok(ApiCaller { name: "api-token".into() });
            }
            let detail =
                "send the token that the server was started with: Authorization: Bearer TOKEN";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "token-required", detail))
        }
        None => {
            refuse_foreign_host(headers)?;
            Ok(ApiCaller { name: "local".into() })
        }
    }
}

fn refuse_foreign_origin(headers: &HeaderMap) -> Result<(), Problem> {
    // What cannot be read as an origin is a foreign one, as is `null`.
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    if authority.is_some() && authority == text(headers, &header::HOST) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "a page of another origin may not call this",
    ))
}

/// Refuses a caller that names this machine by a foreign name: one that was made to resolve to its
/// address.
pub(crate) fn refuse_foreign_host(headers: &HeaderMap) -> Result<(), Problem> {
    if text(headers, &header::HOST).is_some_and(is_local) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-host",
        "in open mode call by 127.0.0.1 or localhost",
    ))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn token_of(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Compares digests, so that the time it takes tells nothing about the token.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b)
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["127.0.0.1", "127.0.0.1:8180", "localhost:1", "[::1]:8180", "LOCALHOST"] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "",
            "10.0.0.1",
            "[::2]:1",
            "localhost.evil",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn the_token_is_a_bearer_or_a_password() {
        assert_eq!(token_of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token_of("Basic dXNlcjphYmM=").as_deref(), Some("abc"));
        for nonsense in ["", "Bearer", "Basic ???", "Digest abc", "Basic YWJj"] {
            assert_eq!(token_of(nonsense), None, "{nonsense}");
        }
    }
}
