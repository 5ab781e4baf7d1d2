//! Reports of stations, and the answers to them.
//!
//! A report is answered when it is durable. If the store fails, the answer is an error, so that the
//! station sends the report again; a report that is recorded already is recognized by its content.
//!
//! - `station`: of itself and its connectors
//! - `transactions`: starts and stops
//! - `meter_values`: meter values
//! - `equipment`: firmware, uploads, security, and messages of vendors

mod equipment;
mod meter_values;
mod station;
mod transactions;

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use leftfold::fold::LoadError;
use leftfold::prelude::{Cause, ExecuteError, Timestamp};
use leftfold::store::CommandId;
use serde_json::json;

use crate::app::{Csms, NoNumber};
use crate::domain::id_tag::IdTag;
use crate::domain::station::{StationCommand, StationEvent, StationRefusal};
use crate::ocpp::frame::ErrorCode;
use crate::ocpp::session::{Reply, StationCall};
use crate::ocpp::v16::{AuthorizationStatus, Confirmation, IdTagInfo, StationRequest};

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
    Load(#[from] LoadError),
    #[error(transparent)]
    Record(#[from] leftfold::fold::RecordError),
    #[error("a start was taken for one that is running, and none is")]
    NoSuchStart,
}

impl ReportError {
    /// Tells whether the store could not record a report, rather than that the report was unusual.
    fn is_of_the_store(&self) -> bool {
        !matches!(
            self,
            Self::NoSuchStart
                | Self::Station(ExecuteError::Refused(_) | ExecuteError::Invalid(_))
                | Self::Load(LoadError::Invalid(_))
        )
    }
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
    csms: &'a Arc<Csms>,
    station: &'a str,
    /// The message that it came with.
    cause: Option<Cause>,
    /// Violations in the report as JSON, with the raw message unless it is too long; empty if there
    /// are none.
    note: Bytes,
    now: Timestamp,
}

/// Takes a report, and says what to answer.
pub(super) async fn answer(csms: &Arc<Csms>, station: &str, received: &StationCall) -> Reply {
    let StationCall { call, violations, .. } = received;
    if call.action != "BootNotification" && csms.unaccepted.has(station) {
        let description = "the station is not accepted yet; send BootNotification".to_owned();
        return Reply::Error { code: ErrorCode::SecurityError, description };
    }
    let read = match StationRequest::read(&call.action, &call.payload) {
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    let violations: Vec<_> = violations.iter().chain(&read.violations).collect();
    csms.registry.violations.note(station, &call.action, violations.iter().copied());
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
        StationRequest::DataTransfer(transfer) => report.vendor_message(transfer).await,
        StationRequest::DiagnosticsStatusNotification(it) => report.upload(it, false).await,
        StationRequest::LogStatusNotification(it) => report.upload(it, true).await,
        StationRequest::FirmwareStatusNotification(it) => report.firmware(it).await,
        StationRequest::SecurityEventNotification(event) => report.security_event(event).await,
        StationRequest::SignCertificate(csr) => report.sign_certificate(csr).await,
    };
    match answered {
        Ok(confirmation) => {
            if records {
                csms.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            (&confirmation).into()
        }
        Err(error) => {
            if error.is_of_the_store() {
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
    async fn tag(&self, id_tag: &str) -> Result<IdTagInfo, ReportError> {
        match self.csms.tags.load(&IdTag::id(id_tag)).await {
            Ok(tag) if !id_tag.is_empty() => {
                Ok(tag.state.info(self.now, self.csms.config.strangers()))
            }
            // It is none that could be registered: empty, far too long, or with control characters.
            Ok(_) | Err(LoadError::Invalid(_)) => Ok(AuthorizationStatus::Invalid.into()),
            Err(error) => Err(error.into()),
        }
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
