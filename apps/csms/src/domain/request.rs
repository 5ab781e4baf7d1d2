//! What we ask of a station, and what becomes of it. Each request is an event first, then an effect.

use std::fmt;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ocpp::v16::{IdToken, TransactionId};

/// Names a request of ours; also the message id of its CALL, so that a station's log can be held against ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub String);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
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
pub struct RemoteStartRequested {
    /// The station.
    pub station: String,
    /// Names the request.
    pub request: RequestId,
    /// Where; without it the station chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector_id: Option<std::num::NonZeroU32>,
    /// For whom.
    pub id_tag: IdToken,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Until when it is sent, and a transaction that starts is taken for its result. The connector is free again then.
    pub until: Timestamp,
}

/// A transaction is to be stopped remotely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteStopRequested {
    /// The station.
    pub station: String,
    /// Names the request.
    pub request: RequestId,
    /// Which.
    pub transaction_id: TransactionId,
    /// Until when it is sent, and stands in the way of another one.
    pub until: Timestamp,
}

/// A connector is to be unlocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnlockRequested {
    /// The station.
    pub station: String,
    /// Names the request.
    pub request: RequestId,
    /// Which.
    pub connector_id: std::num::NonZeroU32,
    /// Until when it is sent.
    pub until: Timestamp,
}

/// A connector is to be kept for a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservationRequested {
    /// The station.
    pub station: String,
    /// Names the request.
    pub request: RequestId,
    /// Names the reservation, at this station.
    pub reservation_id: i64,
    /// Which connector.
    pub connector_id: std::num::NonZeroU32,
    /// For whom.
    pub id_tag: IdToken,
    /// The group of that tag, whose other tags may use it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id_tag: Option<IdToken>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it ends if nobody used it.
    pub expiry_date: Timestamp,
    /// Until when it is sent.
    pub until: Timestamp,
}

/// A reservation is to be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservationCancelRequested {
    /// The station.
    pub station: String,
    /// Names the request.
    pub request: RequestId,
    /// Which reservation.
    pub reservation_id: i64,
    /// Until when it is sent.
    pub until: Timestamp,
}

/// A connector that is kept for a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// What was asked for.
    pub asked: ReservationRequested,
    /// Whether the station keeps it.
    pub accepted: bool,
    /// The request to take it back that is under way.
    pub cancel: Option<RequestId>,
}

impl Reservation {
    /// Whether it keeps its connector.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.asked.expiry_date
    }

    /// Whether a tag may use it.
    #[must_use]
    pub fn is_for(&self, id_tag: &str, parent_id_tag: Option<&str>) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let group = self.asked.parent_id_tag.as_ref();
        same(self.asked.id_tag.as_str(), id_tag) || group.zip(parent_id_tag).is_some_and(|(own, its)| same(own.as_str(), its))
    }
}

/// A request of ours came to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Which.
    pub request: RequestId,
    /// What came of it.
    pub answer: StationAnswer,
}

/// What came of a request: the outcome of its effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StationAnswer {
    /// The station will do it, or has done it.
    Accepted,
    /// The station will not; this is what it said.
    Rejected {
        /// The status or error code of its answer.
        status: String,
    },
    /// It did not take place, and will not.
    NotDone {
        /// Why.
        reason: String,
    },
}

/// A remote start that keeps a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteStart {
    /// What was asked for.
    pub asked: RemoteStartRequested,
    /// Whether the station said that it will try.
    pub accepted: bool,
    /// The transaction that it led to.
    pub transaction: Option<TransactionId>,
}

impl RemoteStart {
    /// Whether the station said that it will try, and nothing came of it so far.
    #[must_use]
    pub fn awaits_start(&self) -> bool {
        self.accepted && self.transaction.is_none()
    }

    /// Whether it still keeps its place.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.transaction.is_none() && now < self.asked.until
    }

    /// Whether a transaction may be its result.
    #[must_use]
    pub fn may_have_led_to(&self, connector_id: u32, id_tag: &str, timestamp: Option<Timestamp>, now: Timestamp) -> bool {
        let on_connector = self.asked.connector_id.is_none_or(|asked| asked.get() == connector_id);
        let happened_since = timestamp.is_none_or(|at| at >= self.asked.requested_at.minus(CLOCK_TOLERANCE));
        self.holds(now) && on_connector && happened_since && self.asked.id_tag.as_str().eq_ignore_ascii_case(id_tag)
    }
}

/// How far a station's clock may be behind ours: a transaction that started earlier than this before a remote start
/// is history that was told late.
const CLOCK_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(300);
