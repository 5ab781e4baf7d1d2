//! Our requests to stations, and the reading of their answers.

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde_json::json;

use super::confirmation::moment;
use super::operation::{OperationReply, action_of, payload_of, read_reply};
use super::parts::{ConfirmationError, object};
use super::smart_charging::charging_profile;
use super::types::{
    CancelReservationStatus, IdToken, MessageTrigger, RemoteStartStopStatus, ReservationStatus,
    TransactionId, TriggerMessageStatus, UnlockStatus,
};
use crate::domain::operation::{ChargingProfile, StationOperation};
use crate::ocpp::frame::{Call, MessageId, Payload};
use crate::ocpp::open_enum::OpenEnum;
use crate::ocpp::reading::{Fields, Notes, Presence, WithViolations};

/// A request of ours, an operation initiated by the central system (OCPP 1.6 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CentralRequest {
    /// Start charging (section 5.11). `Accepted` only means that the station will try; the
    /// StartTransaction that may follow carries no reference to this request.
    RemoteStartTransaction {
        /// Connector; `None` leaves the choice to the station.
        connector_id: Option<NonZeroU32>,
        /// Id tag that is to charge.
        id_tag: IdToken,
        /// Limits of the transaction; `None` if it has none of its own.
        charging_profile: Option<Box<ChargingProfile>>,
    },
    /// Stop a transaction (section 5.12).
    RemoteStopTransaction {
        /// Transaction to stop.
        transaction_id: TransactionId,
    },
    /// Unlock a connector (section 5.18). A transaction that runs there is stopped.
    UnlockConnector {
        /// Connector to unlock.
        connector_id: NonZeroU32,
    },
    /// Keep a connector for a driver (section 5.13). The station ends the reservation at its expiry
    /// date by itself.
    ReserveNow {
        /// Connector to keep.
        connector_id: NonZeroU32,
        /// Moment when the reservation ends if it was not used.
        expiry_date: Timestamp,
        /// Id tag of the driver.
        id_tag: IdToken,
        /// Group whose tags may use the reservation too; `None` for the driver's tag alone.
        parent_id_tag: Option<IdToken>,
        /// Id of the reservation.
        reservation_id: i64,
    },
    /// Take a reservation back (section 5.2).
    CancelReservation {
        /// Reservation to cancel.
        reservation_id: i64,
    },
    /// Ask for a message (section 5.17). It follows after the answer.
    TriggerMessage {
        /// Message to send.
        requested_message: MessageTrigger,
        /// Connector that the message is about; `None` for all of them, if the message is about
        /// connectors.
        connector_id: Option<NonZeroU32>,
    },
    /// An operation of the domain.
    Operation(StationOperation),
}

/// A station's answer to a [`CentralRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StationConfirmation {
    /// To RemoteStartTransaction.
    RemoteStartTransaction(RemoteStartStopStatus),
    /// To RemoteStopTransaction.
    RemoteStopTransaction(RemoteStartStopStatus),
    /// To UnlockConnector.
    UnlockConnector(UnlockStatus),
    /// To ReserveNow.
    ReserveNow(ReservationStatus),
    /// To CancelReservation.
    CancelReservation(CancelReservationStatus),
    /// To TriggerMessage.
    TriggerMessage(TriggerMessageStatus),
    /// To an operation of the domain.
    Operation(OperationReply),
}

impl CentralRequest {
    /// The action's name.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::RemoteStartTransaction { .. } => "RemoteStartTransaction",
            Self::RemoteStopTransaction { .. } => "RemoteStopTransaction",
            Self::UnlockConnector { .. } => "UnlockConnector",
            Self::ReserveNow { .. } => "ReserveNow",
            Self::CancelReservation { .. } => "CancelReservation",
            Self::TriggerMessage { .. } => "TriggerMessage",
            Self::Operation(operation) => action_of(operation),
        }
    }

    /// The request as a CALL.
    pub(crate) fn call(&self, id: MessageId) -> Call {
        Call { id, action: self.action().to_owned(), payload: self.payload() }
    }

    /// Reads the station's answer to this request. A status that is not in the specification is
    /// kept as its text.
    pub(crate) fn read_confirmation(
        &self,
        payload: &Payload,
    ) -> Result<WithViolations<StationConfirmation>, ConfirmationError> {
        match self {
            Self::RemoteStartTransaction { .. } => {
                read_status(payload, StationConfirmation::RemoteStartTransaction)
            }
            Self::RemoteStopTransaction { .. } => {
                read_status(payload, StationConfirmation::RemoteStopTransaction)
            }
            Self::UnlockConnector { .. } => {
                read_status(payload, StationConfirmation::UnlockConnector)
            }
            Self::ReserveNow { .. } => read_status(payload, StationConfirmation::ReserveNow),
            Self::CancelReservation { .. } => {
                read_status(payload, StationConfirmation::CancelReservation)
            }
            Self::TriggerMessage { .. } => {
                read_status(payload, StationConfirmation::TriggerMessage)
            }
            Self::Operation(operation) => {
                let WithViolations { message, violations } = read_reply(operation, payload)?;
                let message = StationConfirmation::Operation(message);
                Ok(WithViolations { message, violations })
            }
        }
    }

    fn payload(&self) -> Payload {
        let json = match self {
            Self::RemoteStartTransaction { connector_id, id_tag, charging_profile: limits } => {
                object([
                    ("connectorId", connector_id.map(|id| id.get().into())),
                    ("idTag", Some(id_tag.as_str().into())),
                    ("chargingProfile", limits.as_deref().map(charging_profile)),
                ])
            }
            Self::RemoteStopTransaction { transaction_id } => {
                json!({ "transactionId": transaction_id.value() })
            }
            Self::UnlockConnector { connector_id } => json!({ "connectorId": connector_id }),
            Self::ReserveNow {
                connector_id,
                expiry_date,
                id_tag,
                parent_id_tag,
                reservation_id,
            } => {
                let mut json = json!({
                    "connectorId": connector_id,
                    "expiryDate": moment(*expiry_date),
                    "idTag": id_tag.as_str(),
                    "reservationId": reservation_id,
                });
                if let Some(parent) = parent_id_tag {
                    json["parentIdTag"] = parent.as_str().into();
                }
                json
            }
            Self::CancelReservation { reservation_id } => {
                json!({ "reservationId": reservation_id })
            }
            Self::TriggerMessage { requested_message, connector_id: None } => {
                json!({ "requestedMessage": requested_message.as_str() })
            }
            Self::TriggerMessage { requested_message, connector_id: Some(connector_id) } => {
                json!({ "requestedMessage": requested_message.as_str(), "connectorId": connector_id })
            }
            Self::Operation(operation) => payload_of(operation),
        };
        json.into()
    }
}

fn read_status<S: OpenEnum>(
    payload: &Payload,
    answer: fn(S) -> StationConfirmation,
) -> Result<WithViolations<StationConfirmation>, ConfirmationError> {
    let mut notes = Notes::default();
    let mut fields = Fields::of(payload.as_str(), "").ok_or(ConfirmationError)?;
    let status =
        fields.choice("status", Presence::Required, &mut notes).ok_or(ConfirmationError)?;
    fields.finish(&mut notes);
    Ok(notes.read(answer(status)))
}
