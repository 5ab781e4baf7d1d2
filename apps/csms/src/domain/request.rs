//! Requests to a station, and their outcomes. Each request is an event first, then an effect.

use std::fmt;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::operation::ChargingProfile;
use crate::ocpp::v16::{IdToken, TransactionId};

/// Id of a request of ours; also the message id of its CALL, so that a station's log can be
/// compared with ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// Creates a new id.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transaction is to be started remotely: the connector is kept for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteStartRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Connector; `None` leaves the choice to the station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connector_id: Option<std::num::NonZeroU32>,
    /// Id tag that is to charge.
    pub(crate) id_tag: IdToken,
    /// Limits of the transaction; `None` if it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) charging_profile: Option<Box<ChargingProfile>>,
    /// Moment of the request.
    pub(crate) requested_at: Timestamp,
    /// Moment until which the request is sent, and until which a transaction that starts is taken
    /// for its result. Then the connector is free again.
    pub(crate) until: Timestamp,
}

/// A transaction is to be stopped remotely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteStopRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Transaction to stop.
    pub(crate) transaction_id: TransactionId,
    /// Id that the station uses for it, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reported_id: Option<i64>,
    /// Moment until which the request is sent, and until which another one is refused.
    pub(crate) until: Timestamp,
}

/// A connector is to be unlocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UnlockRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Connector to unlock.
    pub(crate) connector_id: std::num::NonZeroU32,
    /// Moment until which the request is sent.
    pub(crate) until: Timestamp,
}

/// A connector is to be kept for a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReservationRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Id of the reservation, unique at this station.
    pub(crate) reservation_id: i64,
    /// Connector to keep.
    pub(crate) connector_id: std::num::NonZeroU32,
    /// Id tag of the driver.
    pub(crate) id_tag: IdToken,
    /// Group of that tag; the other tags of the group may use the reservation too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent_id_tag: Option<IdToken>,
    /// Moment of the request.
    pub(crate) requested_at: Timestamp,
    /// Moment when the reservation ends if it was not used.
    pub(crate) expiry_date: Timestamp,
    /// Moment until which the request is sent.
    pub(crate) until: Timestamp,
}

/// A reservation is to be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReservationCancelRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Reservation to cancel.
    pub(crate) reservation_id: i64,
    /// Moment until which the request is sent.
    pub(crate) until: Timestamp,
}

/// A connector that is kept for a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    /// The request.
    pub(crate) asked: ReservationRequested,
    /// True if the station has accepted the reservation.
    pub(crate) accepted: bool,
    /// Request to cancel it that is under way; `None` if there is none.
    pub(crate) cancel: Option<RequestId>,
}

impl Reservation {
    /// Tells whether it still keeps its connector.
    #[must_use]
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        now < self.asked.expiry_date
    }

    /// Tells whether a tag may use it: the tag that it was made for, and any of the same group.
    #[must_use]
    pub(crate) fn is_for(&self, id_tag: &str, parent_id_tag: Option<&str>) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let group = self.asked.parent_id_tag.as_ref();
        same(self.asked.id_tag.as_str(), id_tag)
            || group.zip(parent_id_tag).is_some_and(|(own, its)| same(own.as_str(), its))
    }
}

/// A request of ours has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestAnswered {
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Outcome of the request.
    pub(crate) answer: StationAnswer,
}

/// Outcome of a request, and of its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StationAnswer {
    /// The station will do it, or has done it.
    Accepted,
    /// The station will not do it.
    Rejected {
        /// The status or error code of its answer.
        status: String,
    },
    /// The request had no effect, and will have none.
    NotDone {
        /// Reason, for people.
        reason: String,
    },
}

/// A remote start that keeps a connector, or whose result is awaited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteStart {
    /// The request.
    pub(crate) asked: RemoteStartRequested,
    /// True if the station answered that it will try.
    pub(crate) accepted: bool,
    /// Transaction that it led to; `None` while there is none.
    pub(crate) transaction: Option<TransactionId>,
}

impl RemoteStart {
    /// Tells whether the station answered that it will try, and no transaction has started so far.
    #[must_use]
    pub(crate) fn awaits_start(&self) -> bool {
        self.accepted && self.transaction.is_none()
    }

    /// Tells whether it still keeps a connector.
    #[must_use]
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.transaction.is_none() && now < self.asked.until
    }

    /// Tells whether a transaction may be its result.
    #[must_use]
    pub(crate) fn may_have_led_to(
        &self,
        connector_id: u32,
        id_tag: &str,
        timestamp: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let on_connector = self.asked.connector_id.is_none_or(|asked| asked.get() == connector_id);
        let happened_since =
            timestamp.is_none_or(|at| at >= self.asked.requested_at.minus(CLOCK_TOLERANCE));
        self.holds(now)
            && on_connector
            && happened_since
            && self.asked.id_tag.as_str().eq_ignore_ascii_case(id_tag)
    }
}

/// Time that a station's clock may be behind ours: a transaction that started earlier than this
/// before a remote start is history that was reported late.
const CLOCK_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(300);
