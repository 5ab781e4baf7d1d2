//! The messages of OCPP 1.6, the JSON variant.
//!
//! Inwards ([`StationRequest::read`], [`CentralRequest::read_confirmation`]) reading is lenient,
//! see [`reading`](super::reading). Outwards ([`CentralRequest`], [`Confirmation`]) the types allow
//! only what the 1.6 schemas allow.
//!
//! - `station_request`: what stations ask of us, and `confirmation`: our answers
//! - `central_request`: what we ask of stations, and the reading of their answers
//! - `operation`: the operations of the domain as messages, by profile in `core`, `local_list`,
//!   `smart_charging`, `firmware` and `security`, beside what stations report of these
//! - `meter`, `types` and `parts`: parts of messages
//!
//! The types are our own. The crate `ocpp-types`, generated from the schemas, was tried for what we
//! send: version 0.3.0 compiles every OCPP version at once, which made it by far the slowest
//! dependency to check (13 of 18 seconds on two cores, serde included), for eleven small objects.
//! Inwards it could not be used anyway, as it refuses unknown values.

mod central_request;
mod confirmation;
mod core;
mod firmware;
mod local_list;
mod meter;
mod operation;
mod parts;
mod security;
mod smart_charging;
mod station_request;
mod types;

pub(crate) use central_request::{CentralRequest, StationConfirmation};
pub(crate) use confirmation::Confirmation;
pub(crate) use core::DataTransfer;
pub(crate) use firmware::{FirmwareStatus, ProgressReport, UploadStatus};
pub(crate) use local_list::terms_of_tag;
pub(crate) use meter::{
    Location, Measurand, MeterValue, Phase, ReadingContext, SampledValue, UnitOfMeasure,
    ValueFormat,
};
pub(crate) use operation::{
    ACTIONS, OperationReply, action_of, payload_of, read_operation, read_profile, route_of,
};
pub(crate) use security::{SecurityEventNotification, certificate_hash, use_name};
pub(crate) use smart_charging::charging_profile;
pub(crate) use station_request::{
    BootNotification, MeterValues, StartTransaction, StationRequest, StatusNotification,
    StopTransaction,
};
pub(crate) use types::{
    AuthorizationStatus, CancelReservationStatus, ChargePointErrorCode, ChargePointStatus,
    IdTagInfo, IdToken, MessageTrigger, Reason, RegistrationStatus, RemoteStartStopStatus,
    ReservationStatus, TransactionId, TransactionIdError, TriggerMessageStatus, UnlockStatus,
};

/// The WebSocket subprotocol of OCPP 1.6J (OCPP-J 1.6 section 3.1.2).
pub(crate) const SUBPROTOCOL: &str = "ocpp1.6";

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
