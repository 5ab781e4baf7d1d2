//! `/api/stations/ID/key` and `.../security-profile`: what a station must show to connect.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use leftfold_callers::{NotLetIn, PASSWORD_BYTES_MAX};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{at_position, body, parse, path};
use crate::app::{Csms, StationKey};
use crate::confidential::Confidential;
use crate::domain::operation::StationOperation;
use crate::domain::station::{
    AccessCommand, CredentialSet, SecurityProfile, StationAccess, StationCommand,
    StationCredential, is_identity,
};
use crate::http::{ApiCaller, Problem};
use crate::people::Act;

/// Bytes of a password that a person chooses.
const PASSWORD_BYTES_MIN: usize = 8;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    #[serde(default)]
    password: Option<String>,
}

/// Sets what a station must show: a key that is drawn, and returned this once, or a password that
/// the caller has chosen. It counts at once, and the station is registered.
pub(super) async fn set_key(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (id, bytes) = (identity(id)?, body(bytes)?);
    let given: KeyBody = if bytes.is_empty() { KeyBody::default() } else { parse(&bytes)? };
    let given = given.password.map(Confidential::new);
    let (credential, drawn) = match given {
        None => {
            let key = drawn()?;
            (key_of(&csms, &id, key)?, Some(key))
        }
        Some(chosen) => (chosen_credential(&csms, &id, &chosen).await?, None),
    };
    let kind = credential.kind();
    let set = CredentialSet { credential, by: caller.name.to_string() };
    let commands =
        vec![StationCommand::Register, StationCommand::Access(AccessCommand::SetCredential(set))];
    let executed = act.on(csms.stations.commands(&id, commands)).execute().await?;
    let answer = json!({"station": id, "credential": kind, "key": drawn.map(StationKey::reveal)});
    Ok((StatusCode::CREATED, at_position(executed.position), json_body(&answer)).into_response())
}

/// Returns what is kept of the credential that an operation carries to the station; `None` if it
/// carries none, or if the station shows none and this one cannot be kept.
pub(super) async fn carried_credential(
    csms: &Csms,
    id: &str,
    operation: &StationOperation,
) -> Result<Option<StationCredential>, Problem> {
    let Some(value) = operation.carried_key() else { return Ok(None) };
    match chosen_credential(csms, id, &Confidential::new(value)).await {
        Ok(credential) => Ok(Some(credential)),
        Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => Err(problem),
        // A station that shows none is not locked out by one that is not known here.
        Err(problem) => match csms.stations.load(id).await?.state.access.credential {
            None => Ok(None),
            Some(_) => Err(problem),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileBody {
    profile: u8,
}

/// Sets the security profile below which a station is refused.
pub(super) async fn set_profile(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (id, ProfileBody { profile }) = (identity(id)?, parse(&body(bytes)?)?);
    let profile = SecurityProfile::of_number(profile)
        .ok_or_else(|| Problem::bad_request("invalid-profile", "a profile is 0, 1, 2 or 3"))?;
    let set = AccessCommand::SetProfile { profile, by: caller.name.to_string() };
    let commands = vec![StationCommand::Register, StationCommand::Access(set)];
    let executed = act.on(csms.stations.commands(&id, commands)).execute().await?;
    let access = csms.stations.load(&id).await?.state.access;
    Ok((at_position(executed.position), json_body(&access_json(&access))).into_response())
}

/// Returns the access of a station, without its secrets and their hashes.
pub(super) fn access_json(access: &StationAccess) -> Value {
    json!({
        "profile": access.profile.number(),
        "credential": access.credential.as_ref().map(StationCredential::kind),
        "isChanging": access.offered.is_some(),
    })
}

fn identity(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let id = path(id)?;
    let detail = "an identity has up to 128 bytes and no control characters";
    if is_identity(&id) { Ok(id) } else { Err(Problem::bad_request("invalid-id", detail)) }
}

/// Draws a key.
pub(super) fn drawn() -> Result<StationKey, Problem> {
    let detail = "the system has no randomness; try again";
    StationKey::random()
        .ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", detail))
}

/// Returns what is kept of a key.
pub(super) fn key_of(csms: &Csms, id: &str, key: StationKey) -> Result<StationCredential, Problem> {
    let hash = csms.station_keys.hash(id, key).ok_or_else(|| {
        let detail = "keys of stations need a secret outside the store; start csms with --key-pepper-file FILE";
        Problem::new(StatusCode::CONFLICT, "no-key-pepper", detail)
    })?;
    Ok(StationCredential::Key { hash: hash.to_string() })
}

/// Returns what is kept of a password: 40 digits are a key.
async fn chosen_credential(
    csms: &Csms,
    id: &str,
    chosen: &Confidential,
) -> Result<StationCredential, Problem> {
    let password = chosen.reveal();
    if password.len() == 40
        && let Some(key) = StationKey::read(password.as_bytes())
    {
        return key_of(csms, id, key);
    }
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        let detail = format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
        return Err(Problem::bad_request("invalid-password", detail));
    }
    match csms.bounds.passwords.hash(password.as_bytes()).await {
        Ok(hash) => Ok(StationCredential::Password { hash }),
        Err(NotLetIn::Wrong | NotLetIn::Busy) => {
            let detail = "too many passwords wait; try again";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
        }
    }
}
