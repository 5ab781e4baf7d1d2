//! Our answers to stations' requests.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::types::{IdTagInfo, RegistrationStatus, TransactionId};
use crate::ocpp::frame::Payload;
use crate::ocpp::session::Reply;

/// The confirmation of a [`StationRequest`](super::StationRequest). Moments are written in UTC with
/// milliseconds, as in the specification's examples; some stations cannot read more digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// BootNotification.conf (OCPP 1.6 section 6.4)
    BootNotification {
        /// Registration status of the station.
        status: RegistrationStatus,
        /// Our present time, to which the station sets its clock.
        current_time: Timestamp,
        /// If accepted the interval of its heartbeats, otherwise the wait before its next
        /// BootNotification, in seconds; 0 leaves the choice to the station.
        interval_s: u32,
    },
    /// Heartbeat.conf (section 6.30)
    Heartbeat {
        /// Our present time, to which the station sets its clock.
        current_time: Timestamp,
    },
    /// StatusNotification.conf (section 6.48)
    StatusNotification,
    /// Authorize.conf (section 6.2)
    Authorize {
        /// Authorization of the tag.
        id_tag_info: IdTagInfo,
    },
    /// StartTransaction.conf (section 6.46). It also tells if the tag may not charge; the
    /// transaction exists all the same.
    StartTransaction {
        /// The id that the station is to use from now on.
        transaction_id: TransactionId,
        /// Authorization of the tag.
        id_tag_info: IdTagInfo,
    },
    /// MeterValues.conf (section 6.32)
    MeterValues,
    /// DataTransfer.conf (section 6.20)
    DataTransfer {
        /// True if the message was taken; otherwise its vendor is not known.
        is_taken: bool,
    },
    /// SignCertificate.conf of the security extension
    SignCertificate {
        /// True if the request for a certificate was taken.
        is_taken: bool,
    },
    /// The confirmation without fields of the reports about firmware, uploads and security.
    Report,
    /// StopTransaction.conf (section 6.50)
    StopTransaction {
        /// Authorization of the tag that stopped it; `None` if the request named no tag.
        id_tag_info: Option<IdTagInfo>,
    },
}

impl From<&Confirmation> for Payload {
    fn from(confirmation: &Confirmation) -> Self {
        let json = match confirmation {
            Confirmation::BootNotification { status, current_time, interval_s } => json!({
                "status": status.as_str(),
                "currentTime": moment(*current_time),
                "interval": interval_s,
            }),
            Confirmation::Heartbeat { current_time } => {
                json!({ "currentTime": moment(*current_time) })
            }
            Confirmation::Authorize { id_tag_info } => {
                json!({ "idTagInfo": tag_info(id_tag_info) })
            }
            Confirmation::StartTransaction { transaction_id, id_tag_info } => json!({
                "transactionId": transaction_id.value(),
                "idTagInfo": tag_info(id_tag_info),
            }),
            Confirmation::StopTransaction { id_tag_info: Some(info) } => {
                json!({ "idTagInfo": tag_info(info) })
            }
            Confirmation::DataTransfer { is_taken } => {
                json!({ "status": if *is_taken { "Accepted" } else { "UnknownVendorId" } })
            }
            Confirmation::SignCertificate { is_taken } => {
                json!({ "status": if *is_taken { "Accepted" } else { "Rejected" } })
            }
            Confirmation::StatusNotification
            | Confirmation::Report
            | Confirmation::MeterValues
            | Confirmation::StopTransaction { id_tag_info: None } => json!({}),
        };
        json.into()
    }
}

impl From<&Confirmation> for Reply {
    fn from(confirmation: &Confirmation) -> Self {
        Self::Result(confirmation.into())
    }
}

fn tag_info(info: &IdTagInfo) -> Value {
    let mut json = json!({ "status": info.status.as_str() });
    if let Some(expiry_date) = info.expiry_date {
        json["expiryDate"] = moment(expiry_date).into();
    }
    if let Some(parent_id_tag) = &info.parent_id_tag {
        json["parentIdTag"] = parent_id_tag.as_str().into();
    }
    json
}

pub(super) fn moment(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}
