//! Access to the API and the dashboard.
//!
//! A caller is known by a token (`Authorization: Bearer`, or as the password of basic
//! authentication), or by the cookie of a session. In open mode callers on this machine need
//! neither; but not a web page of another origin in a browser on this machine, which would come
//! with a foreign `Host` or `Origin`. What the caller may do is said by [`access`](super::access).
//! Stations are no browsers, and are admitted by the gateway.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leftfold::store::TraceContext;

use super::Problem;
use super::access::{Access, access};
use super::cookies::{session_cookie, to_login};
use super::peer::ConnectionPeer;
use crate::app::Csms;
use crate::domain::person::AccessRole;
use crate::people::{Act, OpenSession, PeopleError, is_csrf_token};

/// Header with the token of a session's pages.
const CSRF_HEADER: &str = "x-csrf-token";

/// Caller that was admitted; a request that was passed on has it among its extensions, and an
/// [`Act`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiCaller {
    /// Name that is recorded with what the caller does: an id, never the name of a person.
    pub(crate) name: Arc<str>,
    /// Rights of the caller.
    pub(crate) role: AccessRole,
    /// Proof that the caller has shown.
    pub(crate) proof: CallerProof,
}

/// Proof that a caller has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallerProof {
    /// Nothing: open mode.
    Local,
    /// The token that the server was started with.
    Configured,
    /// The token with this id.
    Token(String),
    /// The cookie of a session.
    Session(OpenSession),
}

impl ApiCaller {
    fn new(name: impl Into<Arc<str>>, role: AccessRole, proof: CallerProof) -> Self {
        Self { name: name.into(), role, proof }
    }

    /// Returns the session; `None` if the caller has another proof.
    pub(crate) fn session(&self) -> Option<&OpenSession> {
        match &self.proof {
            CallerProof::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Returns the act that a request of the caller is.
    pub(crate) fn act(&self, headers: &HeaderMap) -> Act {
        Act::new(Arc::clone(&self.name), trace(headers))
    }

    /// Returns the scope of the keys that make a request of the caller take effect once.
    pub(crate) fn scope(&self) -> &str {
        match self.proof {
            // One caller, as before there were others: keys of earlier releases stay known.
            CallerProof::Local | CallerProof::Configured => "operator",
            CallerProof::Token(_) | CallerProof::Session(_) => &self.name,
        }
    }

    /// Tells whether the caller would be admitted again, with the same rights.
    pub(crate) async fn is_still_admitted(&self, csms: &Csms) -> Result<bool, PeopleError> {
        match &self.proof {
            CallerProof::Local | CallerProof::Configured => Ok(true),
            CallerProof::Token(id) => Ok(csms.people.rights_of_token(id).await? == Some(self.role)),
            CallerProof::Session(session) => csms.people.is_open(session).await,
        }
    }
}

/// Passes on the requests of callers that may call, and refuses others: for the API, and for the
/// dashboard.
pub(crate) async fn guard(
    State(csms): State<Arc<Csms>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let access = access(request.method(), path);
    let peer = ConnectionPeer::of(request.extensions(), request.headers(), &csms.config.way_in);
    let prefix = peer.prefix();
    request.extensions_mut().insert(prefix);
    match admit(&csms, access, request.method(), request.headers()).await {
        Ok(None) => next.run(request).await,
        Ok(Some(caller)) => {
            let act = caller.act(request.headers());
            request.extensions_mut().insert(act);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err((problem, None)) => {
            csms.refusals.count_stranger(prefix);
            refuse(problem, &request)
        }
        Err((problem, Some(caller))) => {
            csms.refusals.record_user(&caller.name, "csms", &problem.detail());
            refuse(problem, &request)
        }
    }
}

/// Returns a refusal: for a browser that asks for a page the way to log in, for others the problem.
fn refuse(problem: Problem, request: &Request) -> Response {
    if problem.status() != StatusCode::UNAUTHORIZED {
        return problem.into_response();
    }
    let is_page = *request.method() == Method::GET && !request.uri().path().starts_with("/api/");
    if is_page
        && text(request.headers(), &header::ACCEPT).is_some_and(|it| it.contains("text/html"))
    {
        return to_login(request.uri());
    }
    // No challenge for basic authentication: a browser would ask by a window of its own.
    let challenge = HeaderValue::from_static("Bearer realm=\"csms\"");
    ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
}

/// Checks that a request may pass, and returns its caller; `None` if anybody may send it. A refusal
/// comes with the caller who is known.
async fn admit(
    csms: &Csms,
    access: Access,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<ApiCaller>, (Problem, Option<ApiCaller>)> {
    let of_stranger = |problem| (problem, None);
    let is_write = !matches!(*method, Method::GET | Method::HEAD);
    if is_write {
        refuse_foreign_origin(headers).map_err(of_stranger)?;
    }
    if csms.config.open {
        refuse_foreign_host(headers).map_err(of_stranger)?;
    }
    if access == Access::Anybody {
        return Ok(None);
    }
    let identified = identify(csms, headers).await.map_err(of_stranger)?;
    let caller = identified.ok_or_else(|| of_stranger(nobody()))?;
    if let Some(session) = caller.session().filter(|_| is_write) {
        let given = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if !given.is_some_and(|given| is_csrf_token(given, session.secret())) {
            // Somebody else may have had the browser send it.
            return Err(of_stranger(Problem::forbidden(
                "csrf-token-required",
                "with a session send the csrfToken of GET /api/me as X-CSRF-Token",
            )));
        }
    }
    match access.check(caller.role) {
        Ok(()) => Ok(Some(caller)),
        Err(problem) => Err((problem, Some(caller))),
    }
}

/// Returns the caller of a request; `None` if nothing is shown that would prove one.
pub(crate) async fn identify(
    csms: &Csms,
    headers: &HeaderMap,
) -> Result<Option<ApiCaller>, Problem> {
    if let Some(authorization) = text(headers, &header::AUTHORIZATION) {
        let token = token_of(authorization).unwrap_or_default();
        let configured = csms.config.api_token.as_ref();
        if configured.is_some_and(|known| is_equal(token.as_bytes(), known.reveal().as_bytes())) {
            let (role, proof) = (AccessRole::Admin, CallerProof::Configured);
            return Ok(Some(ApiCaller::new("api-token", role, proof)));
        }
        let found = csms.people.token(&token).await?;
        return match found {
            Some((id, role)) => {
                let name = format!("api_token-{id}");
                Ok(Some(ApiCaller::new(name, role, CallerProof::Token(id))))
            }
            None => Err(Problem::unauthorized(
                "token-invalid",
                "the token is unknown, expired or revoked; send another one: Authorization: Bearer TOKEN",
            )),
        };
    }
    if let Some(cookie) = session_cookie(headers)
        && let Some(session) = csms.people.session(cookie).await?
    {
        let name = format!("user-{}", session.user);
        return Ok(Some(ApiCaller::new(name, session.role, CallerProof::Session(session))));
    }
    let is_local = csms.config.open && refuse_foreign_host(headers).is_ok();
    Ok(is_local.then(|| ApiCaller::new("local", AccessRole::Admin, CallerProof::Local)))
}

fn nobody() -> Problem {
    Problem::unauthorized(
        "login-required",
        "log in by POST /api/login, or send a token: Authorization: Bearer TOKEN",
    )
}

/// Returns the caller's place in a distributed trace. A header that says none is no fault of the
/// request: then it is not traced, as the standard asks.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text("traceparent")?, text("tracestate")).ok()
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
