//! The pages about people: the login, one's own account, users and tokens.

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::{Position, Timestamp};
use leftfold_callers::AddressPrefix;
use serde::Deserialize;

use super::document;
use crate::api::{sign_in, standing_name, token_state};
use crate::app::Csms;
use crate::dashboard::{self, AccountPage, LoginPage, PeoplePage, TokenLine, UserLine};
use crate::domain::person::AccessRole;
use crate::http::{ApiCaller, Problem, is_path_of_ours};
use crate::people::{TokenRow, UserRow};

/// Users, and tokens, that the page shows.
const LINES_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginQuery {
    next: String,
}

/// The page that asks for name and password.
pub(super) async fn login(which: Result<Query<LoginQuery>, QueryRejection>) -> Response {
    let LoginQuery { next } = which.map(|Query(which)| which).unwrap_or_default();
    let view = LoginPage { next, ..LoginPage::default() };
    document(dashboard::login_page(&view)).into_response()
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Begins a session, and goes on to the page that was asked for.
pub(super) async fn log_in(
    State(csms): State<Arc<Csms>>,
    Extension(prefix): Extension<AddressPrefix>,
    headers: HeaderMap,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(LoginForm { name, password, next }) =
        form.map_err(|rejection| Problem::bad_request("invalid-form", rejection.body_text()))?;
    match sign_in(&csms, prefix, &headers, &name, password).await {
        Ok((_, kept)) => {
            let next = if is_path_of_ours(&next) { next } else { "/".to_owned() };
            Ok((StatusCode::SEE_OTHER, kept, [(header::LOCATION, next)]).into_response())
        }
        Err(problem) => {
            let (status, fault) = (problem.status(), Some(problem.detail().to_owned()));
            let view = LoginPage { name, fault, next };
            Ok((status, document(dashboard::login_page(&view))).into_response())
        }
    }
}

/// The page of the caller's own account.
pub(super) async fn account(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Response, Problem> {
    let (as_of, user) = (Timestamp::now(), caller.session().map(|session| session.user.clone()));
    let mut sessions = Vec::new();
    if let Some(id) = &user
        && let Some(account) = csms.people.user(id).await?
    {
        let idle = csms.config.sessions.idle;
        let open = account.sessions.values().filter(|session| session.is_open(as_of, idle));
        sessions.extend(open.map(|session| (session.since, session.used_at)));
    }
    let name = csms.people.name_of_caller(&caller.name).await?;
    let view = AccountPage {
        as_of,
        user,
        name: name.unwrap_or_else(|| caller.name.to_string()),
        role: caller.role.name(),
        may_manage: caller.role == AccessRole::Admin,
        sessions,
    };
    Ok(document(dashboard::account_page(&view)).into_response())
}

/// The page of users and tokens.
pub(super) async fn people(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Response, Problem> {
    let (own, now) = (caller.session().map(|session| session.user.as_str()), Timestamp::now());
    let users = csms.people.users(Position::START, LINES_MAX).await?;
    let tokens = csms.people.tokens(Position::START, LINES_MAX).await?;
    let view = PeoplePage {
        roles: AccessRole::ALL.map(AccessRole::name).to_vec(),
        users: users.into_iter().map(|row| user_line(row, own)).collect(),
        tokens: tokens.iter().filter_map(|row| token_line(row, now)).collect(),
    };
    Ok(document(dashboard::people_page(&view)).into_response())
}

fn user_line(row: UserRow, own: Option<&str>) -> UserLine {
    let UserRow { id, name, user, .. } = row;
    let is_own = own == Some(id.as_str());
    let role = user.role.map_or("", AccessRole::name);
    UserLine { id, name, role, state: standing_name(user.standing), is_own }
}

fn token_line(row: &TokenRow, now: Timestamp) -> Option<TokenLine> {
    let terms = row.token.terms.as_ref()?;
    let (id, name, role) = (row.id.clone(), terms.name.clone(), terms.role.name());
    Some(TokenLine { id, name, role, state: token_state(row, now), expires_at: terms.expires_at })
}
