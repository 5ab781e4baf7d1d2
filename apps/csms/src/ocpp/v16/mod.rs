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

pub use central_request::{CentralRequest, ConfirmationError, StationConfirmation};
pub use confirmation::Confirmation;
pub use meter::{
    Location, Measurand, MeterValue, Phase, ReadingContext, SampledValue, UnitOfMeasure,
    ValueFormat, energy_active_import_register_wh,
};
pub use station_request::{
    Authorize, BootNotification, MeterValues, RequestError, StartTransaction, StationRequest,
    StatusNotification, StopTransaction,
};
pub use types::{
    AuthorizationStatus, CancelReservationStatus, ChargePointErrorCode, ChargePointStatus,
    IdTagInfo, IdToken, IdTokenError, MessageTrigger, Reason, RegistrationStatus,
    RemoteStartStopStatus, ReservationStatus, TransactionId, TransactionIdError,
    TriggerMessageStatus, UnlockStatus,
};

/// The WebSocket subprotocol of OCPP 1.6J (OCPP-J 1.6 section 3.1.2).
pub const SUBPROTOCOL: &str = "ocpp1.6";

#[cfg(test)]
mod tests;
