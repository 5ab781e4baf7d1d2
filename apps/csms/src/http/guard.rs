//! Access to the API and the dashboard.
//!
//! With a token, callers that send it: as `Authorization: Bearer`, or, from a browser, as the
//! password of basic authentication. In open mode, callers on this machine; but not a web page of
//! another origin in a browser on this machine, which would come with a foreign `Host` or `Origin`.
//! Stations are not browsers, and are admitted by [`admit_station`].

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Problem;
use crate::app::Csms;
use crate::domain::id_tag::Strangers;

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

/// Checks that a station may connect; the error is the refusal. A browser lets any page open a
/// WebSocket to anywhere, and names the origin of the page only in `Origin`; a foreign name that
/// was made to resolve to this address arrives as `Host`.
pub(crate) fn admit_station(strangers: Strangers, headers: &HeaderMap) -> Result<(), Problem> {
    refuse_foreign_origin(headers)?;
    match strangers {
        Strangers::Welcome => refuse_foreign_host(headers),
        Strangers::Refused => Ok(()),
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

fn refuse_foreign_host(headers: &HeaderMap) -> Result<(), Problem> {
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

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        origin.map(|origin| headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap()));
        headers
    }

    /// In open mode any page in the operator's browser could open ws://127.0.0.1:8180/ocpp/X and be
    /// a station.
    #[test]
    fn a_web_page_of_somewhere_else_is_no_station() {
        let status = |strangers, host, origin| {
            admit_station(strangers, &headers(host, origin))
                .map_err(|problem| problem.into_response().status())
        };
        for strangers in [Strangers::Welcome, Strangers::Refused] {
            for origin in [
                "https://evil.example",
                "null",
                "http://127.0.0.1:3000",
                "127.0.0.1:8180",
                "http://",
            ] {
                assert_eq!(
                    status(strangers, "127.0.0.1:8180", Some(origin)),
                    Err(StatusCode::FORBIDDEN),
                    "{origin}"
                );
            }
            assert_eq!(status(strangers, "127.0.0.1:8180", Some("http://127.0.0.1:8180")), Ok(()));
            assert_eq!(status(strangers, "[::1]:8180", None), Ok(()), "stations send no origin");
        }
        // A name that its owner made point to this machine.
        let rebound = "evil.example:8180";
        assert_eq!(
            status(Strangers::Welcome, rebound, Some("http://evil.example:8180")),
            Err(StatusCode::FORBIDDEN)
        );
        assert_eq!(status(Strangers::Welcome, rebound, None), Err(StatusCode::FORBIDDEN));
        assert_eq!(
            status(Strangers::Refused, "csms.example", None),
            Ok(()),
            "closed mode is reached by any name"
        );
        assert!(admit_station(Strangers::Welcome, &HeaderMap::new()).is_err());
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
