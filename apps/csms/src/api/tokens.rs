//! `/api/tokens`: what programs call with.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::{Position, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{PageBounds, body, cut, list as page, parse, path, query};
use crate::app::Csms;
use crate::domain::person::AccessRole;
use crate::http::Problem;
use crate::people::{Act, TOKEN_DAYS, TokenRow};

/// Characters of the name of a program at most.
const NAME_CHARACTERS_MAX: usize = 100;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lists the tokens, the oldest first, without their secrets.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let bounds = query(bounds)?;
    let limit = bounds.limit();
    let mut rows = csms.people.tokens(Position(bounds.after_number()?), limit + 1).await?;
    let next = cut(&mut rows, limit, |row| row.position.0.to_string());
    let now = Timestamp::now();
    let items = rows.iter().map(|row| token_json(row, now)).collect();
    Ok(json_body(&page(items, next)).into_response())
}

/// Returns the word for the state of a token.
pub(crate) fn token_state(row: &TokenRow, now: Timestamp) -> &'static str {
    match &row.token.terms {
        _ if row.token.revoked => "revoked",
        Some(terms) if now < terms.expires_at => "valid",
        _ => "expired",
    }
}

fn token_json(row: &TokenRow, now: Timestamp) -> Value {
    let terms = row.token.terms.as_ref();
    json!({
        "id": row.id,
        "name": terms.map(|terms| &terms.name),
        "role": terms.map(|terms| terms.role),
        "state": token_state(row, now),
        "createdAt": row.created_at,
        "expiresAt": terms.map(|terms| terms.expires_at),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateTokenBody {
    /// Name of the program that is to have it.
    name: String,
    role: AccessRole,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// Draws a token, which the answer alone shows.
pub(super) async fn create(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let CreateTokenBody { name, role, expires_at } = parse(&body(bytes)?)?;
    let name = name.trim();
    if !(1..=NAME_CHARACTERS_MAX).contains(&name.chars().count())
        || name.chars().any(char::is_control)
    {
        let detail = "name the program that is to have the token, in 1 to 100 characters";
        return Err(Problem::bad_request("invalid-name", detail));
    }
    let now = Timestamp::now();
    let expires_at = expires_at.unwrap_or(now.plus(TOKEN_DAYS.0 * DAY));
    if expires_at <= now || expires_at > now.plus(TOKEN_DAYS.1 * DAY) {
        let detail = format!("expiresAt is a time from now to {} days from now", TOKEN_DAYS.1);
        return Err(Problem::bad_request("invalid-expiry", detail));
    }
    let token = csms.people.create_token(name, role, expires_at, &act).await?;
    let answer = json!({
        "id": token.id,
        "name": name,
        "role": role,
        "state": "valid",
        "expiresAt": token.expires_at,
        "token": token.text,
    });
    let location = [(header::LOCATION, format!("/api/tokens/{}", token.id))];
    Ok((StatusCode::CREATED, location, json_body(&answer)).into_response())
}

/// Revokes a token.
pub(super) async fn revoke(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    csms.people.revoke_token(&path(id)?, &act).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
