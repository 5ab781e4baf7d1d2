//! Who may call.
//!
//! With a token, whoever sends it: as `Authorization: Bearer`, or, from a browser, as the password of basic
//! authentication. In open mode, whoever is on this machine; but not a web page of somewhere else in a browser here,
//! which would come with a foreign `Host` or `Origin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Problem;
use crate::Csms;

/// Lets a request to the API through, or not.
pub(super) async fn api(State(csms): State<Arc<Csms>>, request: Request, next: Next) -> Response {
    match admit(&csms, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => challenge(problem),
    }
}

/// A refusal that tells how to be let in.
#[must_use]
pub fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"csms\", charset=\"UTF-8\"");
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"csms\""));
        response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// Whether the caller may call.
pub fn admit(csms: &Csms, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST);
    if *method != Method::GET
        && let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").map(|(_, authority)| authority) != host
    {
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", "a page of another origin may not call this"));
    }
    match &csms.config.api_token {
        Some(token) => {
            let given = text(header::AUTHORIZATION).and_then(token_of);
            if given.is_some_and(|given| is_equal(given.as_bytes(), token.as_bytes())) {
                return Ok(());
            }
            let detail = "send the token that the server was started with: Authorization: Bearer TOKEN";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "token-required", detail))
        }
        None if host.is_some_and(is_local) => Ok(()),
        None => Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", "in open mode call by 127.0.0.1 or localhost")),
    }
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

/// Compares digests, so that the time it takes says nothing of the token.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b)
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["127.0.0.1", "127.0.0.1:8180", "localhost:1", "[::1]:8180", "LOCALHOST"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1", "[::2]:1", "localhost.evil"] {
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
