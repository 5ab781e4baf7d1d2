//! `POST /api/stations/{id}/…` for the operations that have no route of their own: one for each
//! action of OCPP 1.6, with its payload as the body.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::access::{carried_credential, drawn, key_of};
use super::requests::{Body, Id, OperatorRequest, REPLAYED, Waiting};
use crate::app::Csms;
use crate::domain::operation::{KEYS_MAX, LOCAL_LIST_MAX, PERIODS_MAX, StationOperation};
use crate::domain::station::StationCommand;
use crate::http::{ApiCaller, Problem};
use crate::ocpp::v16::{ACTIONS, read_operation};

/// Asks a station for an operation; the last part of the path names it.
pub(super) async fn ask(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    uri: Uri,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let action = ACTIONS.iter().find(|row| row.route == last);
    let action = action.ok_or_else(|| {
        Problem::not_found("no-such-route", "there is no such action; README.md lists them")
    })?;
    let request = OperatorRequest::read(action.route, caller, &headers, id, wait, bytes)?;
    let operation = read_operation(action, &request.bytes).map_err(|error| {
        Problem::bad_request("invalid-json", format!("the body is not as expected: {error}"))
    })?;
    check_bounds(&operation)?;
    ask_for(&csms, request, operation).await
}

/// Draws a key, and asks the station to take it. The old one counts until the station has. Nobody
/// is shown the new one.
pub(super) async fn change_key(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("change-key", caller, &headers, id, wait, bytes)?;
    let key = drawn()?;
    key_of(&csms, &request.station, key)?;
    let value = key.reveal();
    let operation = StationOperation::change_key(&value)
        .ok_or_else(|| Problem::bad_request("invalid-key", "a key has 40 digits"))?;
    ask_for(&csms, request, operation).await
}

/// Asks a station for an operation. A key that it carries counts for the station, too, until it is
/// known whether the station has it.
pub(super) async fn ask_for(
    csms: &Csms,
    request: OperatorRequest,
    operation: StationOperation,
) -> Result<Response, Problem> {
    let credential = carried_credential(csms, &request.station, &operation).await?;
    let (by, is_forced) = (request.caller.name.clone(), request.is_forced);
    let asked = csms.operation_requested(&request.station, operation, &by, is_forced);
    let (name, has_secret) = (asked.request.clone(), asked.has_secret);
    let asked = Box::new(asked);
    let command = match credential {
        Some(credential) => StationCommand::OfferCredential(asked, credential),
        None => StationCommand::Operate(asked),
    };
    let answered = request.execute(csms, command).await;
    let is_new = answered.as_ref().is_ok_and(|response| !response.headers().contains_key(REPLAYED));
    if has_secret && !is_new {
        csms.secrets.forget(&name);
    }
    answered
}

/// Checks the bounds of lists, and that what may be missing in events is there.
fn check_bounds(operation: &StationOperation) -> Result<(), Problem> {
    let too_many = |what: &str, max: usize| {
        Err(Problem::bad_request("too-many", format!("more than {max} {what}; send fewer")))
    };
    match operation {
        StationOperation::ChangeSetting { value: None, .. } => {
            Err(Problem::bad_request("invalid-json", "value is missing; give the value to set"))
        }
        StationOperation::ReadSettings { keys } if keys.len() > KEYS_MAX => {
            too_many("keys", KEYS_MAX)
        }
        StationOperation::UpdateLocalList { entries, .. } if entries.len() > LOCAL_LIST_MAX => {
            too_many("entries", LOCAL_LIST_MAX)
        }
        StationOperation::SetChargingProfile { profile, .. }
            if profile.schedule.periods.len() > PERIODS_MAX =>
        {
            too_many("periods", PERIODS_MAX)
        }
        _ => Ok(()),
    }
}
