//! `/api/users`: who may log in, and with which rights.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::Position;
use leftfold_callers::AddressPrefix;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{PageBounds, body, cut, list as page, parse, path, query};
use crate::app::Csms;
use crate::confidential::Confidential;
use crate::domain::person::{
    AccessRole, LoginName, UserAccount, UserAccountCommand, UserAccountRefusal, UserStanding,
};
use crate::http::{ApiCaller, Problem, ended_session};
use crate::people::{Act, NewAccount, random_text};

type Id = Result<Path<String>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

#[derive(Debug, Default, Deserialize)]
pub(super) struct UsersQuery {
    name: Option<String>,
}

/// Lists the users, in the order in which they were added; or the one of a name.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<UsersQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (which, bounds) = (query(which)?, query(bounds)?);
    if let Some(name) = which.name {
        let id = match LoginName::new(&name) {
            Some(name) => csms.people.id_of(&name).await?,
            None => None,
        };
        let mut items = Vec::new();
        if let Some(id) = id {
            items.push(one(&csms, &id).await?);
        }
        return Ok(json_body(&page(items, None)).into_response());
    }
    let after = Position(bounds.after_number()?);
    let limit = bounds.limit();
    let mut rows = csms.people.users(after, limit + 1).await?;
    let next = cut(&mut rows, limit, |row| row.position.0.to_string());
    let items = rows.iter().map(|row| {
        let mut user = user_json(&row.id, row.name.as_deref(), &row.user);
        user["addedAt"] = json!(row.added_at);
        user
    });
    Ok(json_body(&page(items.collect(), next)).into_response())
}

async fn one(csms: &Csms, id: &str) -> Result<Value, Problem> {
    let user = csms.people.user(id).await?.ok_or_else(unknown)?;
    Ok(user_json(id, csms.people.user_name(id).await?.as_deref(), &user))
}

fn user_json(id: &str, name: Option<&str>, user: &UserAccount) -> Value {
    json!({
        "id": id,
        "name": name,
        "role": user.role,
        "state": standing_name(user.standing),
        "sessions": user.sessions.len(),
    })
}

/// Returns the word for the state of a user.
pub(crate) fn standing_name(standing: UserStanding) -> &'static str {
    match standing {
        UserStanding::Enabled => "enabled",
        UserStanding::Disabled => "disabled",
        UserStanding::Forgotten => "forgotten",
    }
}

fn unknown() -> Problem {
    let refusal = UserAccountRefusal::Unknown;
    Problem::not_found(refusal.code(), refusal.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddUserBody {
    name: String,
    role: AccessRole,
    #[serde(default)]
    password: Option<String>,
}

/// Adds a user. Without a password one is drawn, which the answer alone shows.
pub(super) async fn add(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    bytes: Body,
) -> Result<Response, Problem> {
    let AddUserBody { name, role, password: said } = parse(&body(bytes)?)?;
    let drawn = match said {
        Some(_) => None,
        None => Some(random_text().map_err(crate::people::PeopleError::from)?),
    };
    let password = Confidential::new(said.or_else(|| drawn.clone()).unwrap_or_default());
    let id = csms.people.add(NewAccount { name: &name, role, password }, &act).await?;
    let mut user = one(&csms, &id).await?;
    if let Some(drawn) = drawn {
        user["password"] = drawn.into();
    }
    let location = [(header::LOCATION, format!("/api/users/{id}"))];
    Ok((StatusCode::CREATED, location, json_body(&user)).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PatchUserBody {
    #[serde(default)]
    role: Option<AccessRole>,
    #[serde(default)]
    enabled: Option<bool>,
}

/// Gives a user other rights, shuts it out, or lets it in again.
pub(super) async fn patch(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    id: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (id, PatchUserBody { role, enabled }) = (path(id)?, parse(&body(bytes)?)?);
    refuse_own(&caller, &id)?;
    if let Some(role) = role {
        csms.people.change(&id, UserAccountCommand::ChangeRole(role), &act).await?;
    }
    let standing = enabled.map(|enabled| match enabled {
        true => UserAccountCommand::Enable,
        false => UserAccountCommand::Disable,
    });
    if let Some(standing) = standing {
        csms.people.change(&id, standing, &act).await?;
    }
    Ok(json_body(&one(&csms, &id).await?).into_response())
}

/// Forgets a user: its name is destroyed, its acts stay under its id.
pub(super) async fn forget(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    id: Id,
) -> Result<Response, Problem> {
    let id = path(id)?;
    refuse_own(&caller, &id)?;
    csms.people.forget(&id, &act).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    password: String,
    /// Password so far; a user who changes the own one says it.
    #[serde(default)]
    current: Option<String>,
}

/// Changes the password of the caller, or as an admin of somebody else; all sessions of the user
/// end.
pub(super) async fn change_password(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    Extension(prefix): Extension<AddressPrefix>,
    headers: HeaderMap,
    id: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (id, PasswordBody { password, current }) = (path(id)?, parse(&body(bytes)?)?);
    let is_own = caller.session().is_some_and(|session| session.user == id);
    if is_own {
        let current = Confidential::new(current.unwrap_or_default());
        if !csms.people.knows_password(&id, &current, prefix).await? {
            let detail = "the current password is another; say it as \"current\"";
            return Err(Problem::forbidden("wrong-password", detail));
        }
    } else if caller.role < AccessRole::Admin {
        let detail = "only an admin changes the password of somebody else";
        return Err(Problem::forbidden("role-too-weak", detail));
    }
    csms.people.change_password(&id, &Confidential::new(password), &act).await?;
    if is_own {
        return Ok((StatusCode::NO_CONTENT, ended_session(&headers)).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An admin who shuts the own account out could leave nobody who lets it in again.
fn refuse_own(caller: &ApiCaller, id: &str) -> Result<(), Problem> {
    if caller.session().is_some_and(|session| session.user == id) {
        let detail = "this is your own account; another admin may do it";
        return Err(Problem::new(StatusCode::CONFLICT, "own-account", detail));
    }
    Ok(())
}
