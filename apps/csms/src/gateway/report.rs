//! Reports of stations, and the answers to them.
//!
//! A report is answered when it is durable. If the store fails, the answer is an error, so that the
//! station sends the report again; a report that is recorded already is recognized by its content.

use std::sync::PoisonError;

use bytes::Bytes;
use leftfold::prelude::{Answer, Cause, ExecuteError, Timestamp};
use leftfold::store::CommandId;
use serde_json::json;

use crate::app::{Csms, NoNumber};
use crate::domain::connector::StatusChanged;
use crate::domain::id_tag::IdTag;
use crate::domain::meter::{self, MeterEvent};
use crate::domain::moment;
use crate::domain::station::{Booted, StationCommand, StationEvent, StationRefusal};
use crate::domain::transaction::{TransactionStarted, TransactionStopped};
use crate::ocpp::frame::ErrorCode;
use crate::ocpp::session::{Reply, StationCall};
use crate::ocpp::v16::{
    BootNotification, Confirmation, IdTagInfo, MeterValues, RegistrationStatus, StartTransaction,
    StationRequest, StatusNotification, StopTransaction, TransactionId,
};

/// The longest raw message that is kept with an event, in bytes.
const RAW_BYTES_MAX: usize = 16 * 1024;

/// Error of taking a report.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Station(#[from] ExecuteError<StationRefusal>),
    #[error(transparent)]
    TransactionIds(#[from] NoNumber),
    #[error(transparent)]
    Load(#[from] leftfold::fold::LoadError),
    #[error(transparent)]
    Record(#[from] leftfold::fold::RecordError),
    #[error("a start was taken for one that is running, and none is")]
    NoSuchStart,
}

impl From<ReportError> for Reply {
    fn from(error: ReportError) -> Self {
        let code = match &error {
            ReportError::Station(ExecuteError::Refused(_)) => {
                ErrorCode::PropertyConstraintViolation
            }
            _ => ErrorCode::InternalError,
        };
        Self::Error { code, description: error.to_string() }
    }
}

/// One report, on its way.
struct StationReport<'a> {
    csms: &'a Csms,
    station: &'a str,
    /// The message that it came with.
    cause: Option<Cause>,
    /// Violations in the report as JSON, with the raw message unless it is too long; empty if there
    /// are none.
    note: Bytes,
    now: Timestamp,
}

/// Takes a report, and says what to answer.
pub(super) async fn answer(csms: &Csms, station: &str, received: &StationCall) -> Reply {
    let StationCall { call, violations, .. } = received;
    let read = match StationRequest::read(&call.action, &call.payload) {
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    let violations: Vec<_> = violations.iter().chain(&read.violations).collect();
    let note = match violations.is_empty() {
        true => Bytes::new(),
        false => {
            let raw = call.payload.as_str();
            let raw = (raw.len() <= RAW_BYTES_MAX).then_some(raw);
            json!({ "violations": violations, "raw": raw }).to_string().into()
        }
    };
    let report = StationReport {
        csms,
        station,
        cause: Cause::message(call.id.as_str()).ok(),
        note,
        now: Timestamp::now(),
    };
    let records = !matches!(read.message, StationRequest::Heartbeat | StationRequest::Authorize(_));
    let answered = match read.message {
        StationRequest::BootNotification(boot) => report.boot(boot).await,
        StationRequest::Heartbeat => report.heartbeat().await,
        StationRequest::StatusNotification(status) => report.status(status).await,
        StationRequest::Authorize(authorize) => report.authorize(&authorize.id_tag).await,
        StationRequest::StartTransaction(start) => report.start(start).await,
        StationRequest::MeterValues(values) => report.meter_values(values).await,
        StationRequest::StopTransaction(stop) => report.stop(stop).await,
    };
    match answered {
        Ok(confirmation) => {
            if records {
                csms.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            (&confirmation).into()
        }
        Err(error) => {
            if !matches!(error, ReportError::Station(ExecuteError::Refused(_))) {
                *csms.unrecorded.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(error.to_string());
            }
            tracing::error!(station, action = call.action, %error, "a report could not be recorded");
            error.into()
        }
    }
}

type Confirmed = Result<Confirmation, ReportError>;

impl StationReport<'_> {
    async fn boot(&self, boot: BootNotification) -> Confirmed {
        // After a restart all stations boot at once; those that wait here are served within
        // seconds.
        let _turn = self.csms.boots.acquire().await;
        let booted = Booted {
            vendor: boot.charge_point_vendor,
            model: boot.charge_point_model,
            serial_number: boot.charge_point_serial_number.or(boot.charge_box_serial_number),
            firmware_version: boot.firmware_version,
            iccid: boot.iccid,
            imsi: boot.imsi,
            meter_type: boot.meter_type,
            meter_serial_number: boot.meter_serial_number,
        };
        self.execute(StationCommand::Boot(booted), None).await?;
        let interval_s =
            u32::try_from(self.csms.config.heartbeat_interval.as_secs()).unwrap_or(u32::MAX);
        let (status, current_time) = (RegistrationStatus::Accepted, jiff::Timestamp::now());
        Ok(Confirmation::BootNotification { status, current_time, interval_s })
    }

    async fn heartbeat(&self) -> Confirmed {
        if self.csms.config.keep_heartbeats {
            let heartbeat = StationEvent::HeartbeatReceived { at: self.now };
            self.csms.stations.record(self.station, &[heartbeat]).await?;
        }
        Ok(Confirmation::Heartbeat { current_time: jiff::Timestamp::now() })
    }

    async fn status(&self, status: StatusNotification) -> Confirmed {
        let report = StatusChanged {
            connector_id: status.connector_id,
            status: status.status,
            error_code: status.error_code,
            info: status.info,
            vendor_id: status.vendor_id,
            vendor_error_code: status.vendor_error_code,
            timestamp: status.timestamp.map(moment),
            received_at: self.now,
        };
        self.execute(StationCommand::ReportStatus(report), None).await?;
        self.csms.registry.reported(self.station);
        Ok(Confirmation::StatusNotification)
    }

    async fn authorize(&self, id_tag: &str) -> Confirmed {
        Ok(Confirmation::Authorize { id_tag_info: self.tag(id_tag).await? })
    }

    async fn start(&self, start: StartTransaction) -> Confirmed {
        let id_tag = start.id_tag.unwrap_or_default();
        let info = self.tag(&id_tag).await?;
        let started = TransactionStarted {
            transaction_id: self.csms.transaction_numbers.next().await?,
            connector_id: start.connector_id.unwrap_or(0),
            id_tag,
            parent_id_tag: info.parent_id_tag.as_ref().map(|parent| parent.as_str().to_owned()),
            authorization: info.status,
            meter_start_wh: start.meter_start,
            timestamp: start.timestamp.map(moment),
            received_at: self.now,
            reservation_id: start.reservation_id,
            remote_start: None,
        };
        let (csms, station, key) = (self.csms, self.station, started.natural_key());
        let id = key.map(|key| CommandId::new(&format!("ocpp/{station}/StartTransaction"), &key));
        let events = self.execute(StationCommand::ReportStart(started.clone()), id).await?;
        let recorded = events.into_iter().find_map(|event| match event {
            StationEvent::TransactionStarted(started) => Some(started),
            _ => None,
        });
        let (transaction_id, status) = match recorded {
            Some(recorded) => {
                if recorded.remote_start.is_some() {
                    csms.look_again();
                }
                (recorded.transaction_id, recorded.authorization)
            }
            None => (running(csms, station, &started).await?, info.status),
        };
        Ok(Confirmation::StartTransaction {
            transaction_id,
            id_tag_info: IdTagInfo { status, ..info },
        })
    }

    async fn stop(&self, stop: StopTransaction) -> Confirmed {
        let stopped = TransactionStopped {
            transaction_id: stop.transaction_id,
            id_tag: stop.id_tag,
            meter_stop_wh: stop.meter_stop,
            timestamp: stop.timestamp.map(moment),
            received_at: self.now,
            reason: stop.reason,
            transaction_data: stop.transaction_data,
        };
        let id_tag_info = match &stopped.id_tag {
            Some(id_tag) => Some(self.tag(id_tag).await?),
            None => None,
        };
        let id = CommandId::new(
            &format!("ocpp/{}/StopTransaction", self.station),
            &stopped.natural_key(),
        );
        self.execute(StationCommand::ReportStop(stopped), Some(id)).await?;
        Ok(Confirmation::StopTransaction { id_tag_info })
    }

    /// Facts that nothing depends on: recorded without a condition, but once.
    async fn meter_values(&self, read: MeterValues) -> Confirmed {
        let MeterValues { connector_id, transaction_id, meter_values } = read;
        let all_have_moments =
            !meter_values.is_empty() && meter_values.iter().all(|value| value.timestamp.is_some());
        let key = json!([connector_id, transaction_id, meter_values]).to_string();
        let event = MeterEvent::ValuesRecorded {
            station: self.station.to_owned(),
            connector_id,
            transaction_id,
            values: meter_values,
            received_at: self.now,
        };
        let events = [event];
        let mut facts = self
            .csms
            .store
            .facts(meter::CATEGORY, self.station, &events)
            .metadata(self.note.clone());
        if let Some(cause) = &self.cause {
            facts = facts.caused_by(cause.clone());
        }
        if all_have_moments {
            let hash = blake3::hash(key.as_bytes()).to_hex();
            facts = facts
                .id(&format!("ocpp/{}/MeterValues", self.station), &hash)
                .without_request_check();
        }
        if facts.record().await?.answer == Answer::Again {
            tracing::debug!(station = self.station, "meter values came again");
        }
        Ok(Confirmation::MeterValues)
    }

    async fn tag(&self, id_tag: &str) -> Result<IdTagInfo, ReportError> {
        if id_tag.is_empty() {
            return Ok(crate::ocpp::v16::AuthorizationStatus::Invalid.into());
        }
        let tag = self.csms.tags.load(&IdTag::id(id_tag)).await?;
        Ok(tag.state.info(self.now, self.csms.config.strangers()))
    }

    async fn execute(
        &self,
        command: StationCommand,
        id: Option<CommandId>,
    ) -> Result<Vec<StationEvent>, ReportError> {
        let mut command =
            self.csms.stations.command(self.station, command).metadata(self.note.clone());
        if let Some(id) = id {
            // The id is made of what tells one report from another: a station that sends it again
            // may say the rest anew.
            command = command.with_id(id).without_request_check();
        }
        if let Some(cause) = &self.cause {
            command = command.caused_by(cause.clone());
        }
        Ok(command.execute().await?.events)
    }
}

/// The transaction that a start was recognized as, although it has no key of its own.
async fn running(
    csms: &Csms,
    station: &str,
    started: &TransactionStarted,
) -> Result<TransactionId, ReportError> {
    let station = csms.stations.load(station).await?;
    station
        .state
        .running_as(started)
        .map(|transaction| transaction.id)
        .ok_or(ReportError::NoSuchStart)
}
