//! The messages of OCPP 1.6, the JSON variant.
//!
//! Inwards ([`StationRequest::read`], [`CentralRequest::read_confirmation`]) reading is lenient,
//! see [`reading`](super::reading). Outwards ([`CentralRequest`], [`Confirmation`]) the types allow
//! only what the 1.6 schemas allow.
//!
//! - `station_request`: what stations ask of us, and `confirmation`: our answers
//! - `central_request`: what we ask of stations, and the reading of their answers
//! - `meter` and `types`: parts of messages
//!
//! The types are our own. The crate `ocpp-types`, generated from the schemas, was tried for what we
//! send: version 0.3.0 compiles every OCPP version at once, which made it by far the slowest
//! dependency to check (13 of 18 seconds on two cores, serde included), for eleven small objects.
//! Inwards it could not be used anyway, as it refuses unknown values.

mod central_request;
mod confirmation;
mod meter;
mod station_request;
mod types;

pub(crate) use central_request::{CentralRequest, StationConfirmation};
pub(crate) use confirmation::Confirmation;
pub(crate) use meter::{MeterValue, SampledValue, energy_active_import_register_wh};
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
mod tests;
