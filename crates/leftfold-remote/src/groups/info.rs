//! State of a group, and what it has parked, for those who look at it.

use std::time::Duration;

use leftfold_core::store::{Position, RecordedEvent, Timestamp};
use leftfold_protocol::wire;

use super::error::GroupCallError;
use super::options::GroupOptions;

/// State of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Its options; it began after the position of their start.
    pub options: GroupOptions,
    /// Another protocol has made it: it is consumed over that one.
    pub is_foreign: bool,
    /// Everything up to here is settled, and was written down.
    pub checkpoint: Position,
    /// Positions of the store that are not settled, events of other queries included.
    pub lag: u64,
    /// Events that are parked.
    pub parked: u64,
    /// `None` if the server does not serve the group now: it has no consumers.
    pub running: Option<GroupRunning>,
}

/// State of a group while the server serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRunning {
    /// The server has the lease; if not, its consumers wait for another server to end.
    pub has_lease: bool,
    /// Everything that was recorded was read.
    pub is_caught_up: bool,
    /// Events that consumers have and have not answered.
    pub in_flight: u64,
    /// Events that wait in memory for consumers.
    pub waiting: u64,
    /// Those of them that were given out before.
    pub retrying: u64,
    /// Events that were settled since the server began to serve the group.
    pub settled: u64,
    /// Its consumers.
    pub consumers: Vec<ConsumerFigures>,
}

/// State of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerFigures {
    /// Name that the consumer gave itself; may be empty.
    pub name: String,
    /// User; empty if nobody has to say who they are.
    pub user: String,
    /// Events that it has at once, at most.
    pub credit: u32,
    /// Events that it has and has not answered.
    pub in_flight: u64,
    /// Events that it was given.
    pub given: u64,
    /// Time since it came.
    pub there: Duration,
}

/// An event that a group has parked.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedEvent {
    /// Number among all events that the group ever parked.
    pub number: u64,
    /// Number of times that it was given out again.
    pub retries: u32,
    /// Reason of the consumer, or of the server.
    pub reason: String,
    /// A consumer asked for it; if not, the event was given out too often.
    pub is_wish: bool,
    /// Time at which it was parked.
    pub parked_at: Timestamp,
    /// The event; `None` if a copy of the store left it out.
    pub event: Option<RecordedEvent>,
}

impl GroupState {
    pub(super) fn read(group: wire::GroupInfo) -> Result<Self, GroupCallError> {
        let settings = group.settings.ok_or_else(|| GroupCallError::strange("no settings"))?;
        Ok(Self {
            name: group.name,
            options: GroupOptions::read(settings, Position(group.after))?,
            is_foreign: group.foreign,
            checkpoint: Position(group.checkpoint),
            lag: group.lag,
            parked: group.parked,
            running: group.running.map(|running| GroupRunning {
                has_lease: running.has_lease,
                is_caught_up: running.is_caught_up,
                in_flight: running.in_flight,
                waiting: running.waiting,
                retrying: running.retrying,
                settled: running.settled,
                consumers: running.consumers.into_iter().map(ConsumerFigures::read).collect(),
            }),
        })
    }
}

impl ConsumerFigures {
    fn read(consumer: wire::ConsumerInfo) -> Self {
        Self {
            name: consumer.name,
            user: consumer.user,
            credit: consumer.credit,
            in_flight: consumer.in_flight,
            given: consumer.given,
            there: Duration::from_millis(consumer.there_ms),
        }
    }
}

impl ParkedEvent {
    pub(super) fn read(parked: wire::ParkedEvent) -> Result<Self, GroupCallError> {
        Ok(Self {
            number: parked.number,
            retries: parked.retries,
            reason: parked.reason,
            is_wish: parked.is_wish,
            parked_at: Timestamp::from_micros(parked.parked_at),
            event: parked
                .event
                .map(TryInto::try_into)
                .transpose()
                .map_err(GroupCallError::strange)?,
        })
    }
}
