//! `/api/login`, `/api/logout`, `/api/me`: the session of a person, and who a caller is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use leftfold_callers::AddressPrefix;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{body, parse};
use crate::app::Csms;
use crate::confidential::Confidential;
use crate::http::{
    ApiCaller, CallerProof, Problem, SetCookies, browser_mark, ended_session, kept_session,
};
use crate::people::{Act, OpenSession, csrf_token};

type Body = Result<Bytes, BytesRejection>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoginBody {
    name: String,
    password: String,
}

/// Begins a session, which the answer has the browser keep.
pub(super) async fn log_in(
    State(csms): State<Arc<Csms>>,
    Extension(prefix): Extension<AddressPrefix>,
    headers: HeaderMap,
    bytes: Body,
) -> Result<Response, Problem> {
    let LoginBody { name, password } = parse(&body(bytes)?)?;
    let (session, kept) = sign_in(&csms, prefix, &headers, &name, password).await?;
    let answer = json!({
        "id": session.user,
        "name": csms.people.user_name(&session.user).await?,
        "role": session.role,
        "csrfToken": csrf_token(session.secret()),
    });
    Ok((kept, json_body(&answer)).into_response())
}

/// Begins a session for whoever knows the password, and returns the headers that have the browser
/// keep it for as long as it can last.
pub(crate) async fn sign_in(
    csms: &Csms,
    prefix: AddressPrefix,
    headers: &HeaderMap,
    name: &str,
    password: String,
) -> Result<(OpenSession, SetCookies), Problem> {
    let mark = browser_mark(headers);
    let password = Confidential::new(password);
    let logging_in = csms.people.log_in(name, &password, prefix, mark).await;
    let session = logging_in.inspect_err(|_| csms.refusals.count_stranger(prefix))?;
    let mark = csms.people.mark_of(&session.user).await?;
    let kept = kept_session(&session, csms.config.sessions.most.as_secs(), &mark, headers);
    Ok((session, kept))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogoutBody {
    #[serde(default)]
    everywhere: bool,
}

/// Ends the session, or all sessions of the user.
pub(super) async fn log_out(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    headers: HeaderMap,
    bytes: Body,
) -> Result<Response, Problem> {
    let bytes = body(bytes)?;
    let LogoutBody { everywhere } =
        if bytes.is_empty() { LogoutBody::default() } else { parse(&bytes)? };
    let session = caller.session().ok_or_else(|| {
        let detail = "only a session can be ended; a token is revoked by DELETE /api/tokens/{id}";
        Problem::new(StatusCode::CONFLICT, "no-session", detail)
    })?;
    if everywhere {
        csms.people.log_out_everywhere(&session.user, &act).await?;
    } else {
        csms.people.log_out(session, &act).await?;
    }
    Ok((StatusCode::NO_CONTENT, ended_session(&headers)).into_response())
}

/// Tells who the caller is, and what a page of a session has to send with each write.
pub(super) async fn me(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Response, Problem> {
    let (kind, id) = match &caller.proof {
        CallerProof::Local => ("local", None),
        CallerProof::Configured => ("configuredToken", None),
        CallerProof::Token(id) => ("token", Some(id.clone())),
        CallerProof::Session(session) => ("session", Some(session.user.clone())),
    };
    let csrf: Value = caller.session().map(|session| csrf_token(session.secret())).into();
    let name = csms.people.name_of_caller(&caller.name).await?;
    let me = json!({
        "kind": kind,
        "id": id,
        "name": name,
        "role": caller.role,
        "csrfToken": csrf,
    });
    Ok(json_body(&me).into_response())
}
