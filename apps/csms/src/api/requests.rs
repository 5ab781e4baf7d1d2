//! `POST /api/stations/{id}/…`: requests to a station. The answer is 202 and an effect, or, with
//! `?wait=`, its outcome. With `?force=true` a request is sent that would be refused.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::fold::Answer;
use leftfold::prelude::{Executed, Timestamp};
use leftfold::runtime::EffectId;
use serde::Deserialize;
use serde_json::Value;

use super::effects::effect_json;
use super::json_body;
use super::reading::{at_position, body, idempotency_key, parse, path, query};
use crate::app::{Csms, Starting};
use crate::config::duration;
use crate::domain::id_tag::IdTag;
use crate::domain::request::{
    RemoteStartRequested, RequestId, ReservationCancelRequested, ReservationRequested,
    UnlockRequested,
};
use crate::domain::station::{self, OnBehalf, StationCommand, StationEvent};
use crate::effects::FaultPoint;
use crate::http::{ApiCaller, Problem};
use crate::ocpp::v16::{IdToken, read_profile};
use crate::people::Act;

/// The longest a caller may wait.
const WAIT_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wait {
    wait: Option<String>,
    force: Option<String>,
}

impl Wait {
    fn is_forced(&self) -> Result<bool, Problem> {
        match self.force.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::bad_request("invalid-query", "force is true or false")),
        }
    }

    fn duration(&self) -> Result<Option<Duration>, Problem> {
        let Some(text) = &self.wait else { return Ok(None) };
        match duration(text) {
            Some(wait) if wait <= WAIT_MAX => Ok(Some(wait)),
            _ => {
                Err(Problem::bad_request("invalid-query", "wait is a time up to 120s, such as 30s"))
            }
        }
    }
}

pub(super) type Id = Result<Path<String>, PathRejection>;
pub(super) type Waiting = Result<Query<Wait>, QueryRejection>;
pub(super) type Body = Result<Bytes, BytesRejection>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemoteStartBody {
    #[serde(default)]
    connector_id: Option<NonZeroU32>,
    id_tag: IdToken,
    #[serde(default)]
    charging_profile: Option<Value>,
}

/// Starts a transaction.
pub(super) async fn remote_start(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("remote-start", caller, &headers, id, wait, bytes)?;
    let RemoteStartBody { connector_id, id_tag, charging_profile } = parse(&request.bytes)?;
    let charging_profile = charging_profile.map(read_profile).transpose().map_err(|error| {
        Problem::bad_request("invalid-json", format!("chargingProfile is not as expected: {error}"))
    })?;
    let now = Timestamp::now();
    let tag = csms.tags.load(&IdTag::id(id_tag.as_str())).await?;
    let info = tag.state.info(now, csms.config.strangers());
    let asked = RemoteStartRequested {
        station: request.station.clone(),
        request: RequestId::random(),
        connector_id,
        id_tag,
        charging_profile: charging_profile.map(Box::new),
        requested_at: now,
        until: now.plus(csms.config.call_timeout + csms.config.start_within),
    };
    request
        .execute(
            &csms,
            StationCommand::RemoteStart {
                asked,
                authorization: info.status,
                parent_id_tag: info.parent_id_tag,
            },
        )
        .await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemoteStopBody {
    transaction_id: i64,
    /// Tag of the driver: the tag that started the transaction, or one of its group; `None` for the
    /// operator's own request.
    #[serde(default)]
    id_tag: Option<IdToken>,
}

/// Stops a transaction.
pub(super) async fn remote_stop(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("remote-stop", caller, &headers, id, wait, bytes)?;
    let RemoteStopBody { transaction_id, id_tag } = parse(&request.bytes)?;
    let now = Timestamp::now();
    let on_behalf = match id_tag {
        None => None,
        Some(id_tag) => {
            let tag = csms.tags.load(&IdTag::id(id_tag.as_str())).await?;
            let parent = tag.state.info(now, csms.config.strangers()).parent_id_tag;
            Some(OnBehalf { id_tag: id_tag.into(), parent_id_tag: parent.map(String::from) })
        }
    };
    let wanted = station::RemoteStop {
        station: request.station.clone(),
        request: RequestId::random(),
        transaction_id,
        on_behalf,
        now,
        until: now.plus(2 * csms.config.call_timeout),
    };
    request.execute(&csms, StationCommand::RemoteStop(wanted)).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UnlockBody {
    connector_id: NonZeroU32,
}

/// Unlocks a connector.
pub(super) async fn unlock(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("unlock", caller, &headers, id, wait, bytes)?;
    let UnlockBody { connector_id } = parse(&request.bytes)?;
    let asked = UnlockRequested {
        station: request.station.clone(),
        request: RequestId::random(),
        connector_id,
        until: Timestamp::now().plus(2 * csms.config.call_timeout),
    };
    request.execute(&csms, StationCommand::Unlock(asked)).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReserveBody {
    connector_id: NonZeroU32,
    id_tag: IdToken,
    expiry_date: Timestamp,
}

/// Keeps a connector for a driver.
pub(super) async fn reserve(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("reserve", caller, &headers, id, wait, bytes)?;
    let ReserveBody { connector_id, id_tag, expiry_date } = parse(&request.bytes)?;
    let now = Timestamp::now();
    let info =
        csms.tags.load(&IdTag::id(id_tag.as_str())).await?.state.info(now, csms.config.strangers());
    let asked = ReservationRequested {
        station: request.station.clone(),
        request: RequestId::random(),
        // Given by the station's own history.
        reservation_id: 0,
        connector_id,
        id_tag,
        parent_id_tag: info.parent_id_tag,
        requested_at: now,
        expiry_date,
        until: now.plus(2 * csms.config.call_timeout).min(expiry_date),
    };
    request.execute(&csms, StationCommand::Reserve { asked, authorization: info.status }).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CancelReservationBody {
    reservation_id: i64,
}

/// Takes a reservation back.
pub(super) async fn cancel_reservation(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
    id: Id,
    wait: Waiting,
    bytes: Body,
) -> Result<Response, Problem> {
    let request = OperatorRequest::read("cancel-reservation", caller, &headers, id, wait, bytes)?;
    let CancelReservationBody { reservation_id } = parse(&request.bytes)?;
    let asked = ReservationCancelRequested {
        station: request.station.clone(),
        request: RequestId::random(),
        reservation_id,
        until: Timestamp::now().plus(2 * csms.config.call_timeout),
    };
    request.execute(&csms, StationCommand::CancelReservation(asked)).await
}

/// Request of a caller, before its body is read.
pub(super) struct OperatorRequest {
    route: &'static str,
    pub(super) caller: ApiCaller,
    pub(super) station: String,
    pub(super) is_forced: bool,
    key: Option<String>,
    act: Act,
    wait: Option<Duration>,
    pub(super) bytes: Bytes,
}

impl OperatorRequest {
    pub(super) fn read(
        route: &'static str,
        caller: ApiCaller,
        headers: &HeaderMap,
        id: Id,
        wait: Waiting,
        bytes: Body,
    ) -> Result<Self, Problem> {
        let (key, asked) = (idempotency_key(headers)?, query(wait)?);
        let (wait, is_forced) = (asked.duration()?, asked.is_forced()?);
        Ok(Self {
            route,
            act: caller.act(headers),
            caller,
            station: path(id)?,
            is_forced,
            key,
            wait,
            bytes: body(bytes)?,
        })
    }

    pub(super) async fn execute(
        self,
        csms: &Csms,
        command: StationCommand,
    ) -> Result<Response, Problem> {
        let command = match self.is_forced {
            true => StationCommand::Forced(Box::new(command)),
            false => command,
        };
        let mut command = self.act.on(csms.stations.command(&self.station, command));
        if let Some(key) = &self.key {
            let scope = format!("api/{}/{}/{}", self.caller.scope(), self.station, self.route);
            command = command.id(&scope, key).request(&self.bytes);
        }
        let executed = command.execute().await?;
        FaultPoint::BeforeAttempt.strike();
        respond(csms, &executed, self.wait).await
    }
}

pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Answers with the state of the effect, after waiting at most `wait` for its outcome.
async fn respond(
    csms: &Csms,
    executed: &Executed<StationEvent>,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    // A request leads to one event, its intent, whose position names the effect.
    let id = EffectId(executed.position);
    let effects = &csms.consumers()?.effects;
    let status = effects.wait(id, wait.unwrap_or_default()).await?.ok_or(Starting)?;
    if status.state.is_concluded() {
        FaultPoint::AfterOutcome.strike();
    }
    let code = if status.state.is_settled() && wait.is_some() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut response = (
        code,
        at_position(executed.position),
        [(header::LOCATION, format!("/api/effects/{id}"))],
        json_body(&effect_json(&status)),
    )
        .into_response();
    if executed.answer == Answer::Again {
        response.headers_mut().insert(REPLAYED, header::HeaderValue::from_static("true"));
    }
    Ok(response)
}
