//! State of a group for those who look at it.

use leftfold::store::{Position, Query, Read, ReadError, RecordedEvent, Store};

use super::error::GroupError;
use super::queue::ConsumerName;
use super::records::StoredGroup;
use super::released::ParkedRange;
use super::settings::GroupName;

/// State of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupInfo {
    pub(crate) group: StoredGroup,
    /// Everything up to here is settled, and was written down.
    pub(crate) checkpoint: Position,
    /// Records of what is parked and not being replayed.
    pub(crate) parked: ParkedRange,
    /// Positions of the store that are not settled.
    pub(crate) lag: u64,
    /// Positions of the store behind the checkpoint.
    pub(crate) checkpoint_lag: u64,
    /// `None` if this server does not serve the group now.
    pub(crate) running: Option<RunningInfo>,
}

/// Last events of a group.
pub(crate) struct LastEvents {
    /// Up to the checkpoint; `None` if nothing was settled.
    pub(crate) settled: Option<RecordedEvent>,
    /// Of those that the query finds.
    pub(crate) known: Option<RecordedEvent>,
}

/// State of a group while this server serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunningInfo {
    /// This server has the lease; if not, its consumers wait for it.
    pub(crate) has_lease: bool,
    /// Everything that was recorded was read.
    pub(crate) is_caught_up: bool,
    /// Everything up to here is settled.
    pub(crate) settled_through: Position,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    /// Those of the waiting that were given out before.
    pub(crate) retrying: usize,
    /// On their way to be parked.
    pub(crate) parking: usize,
    /// Events that were settled since the server began to serve the group.
    pub(crate) settled: u64,
    /// Time since then.
    pub(crate) served_ms: u64,
    /// Reason for which something was not read or written the last time; it is tried again.
    pub(crate) failing: Option<String>,
    pub(crate) consumers: Vec<ConsumerInfo>,
}

/// State of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerInfo {
    pub(crate) who: ConsumerName,
    pub(crate) capacity: usize,
    pub(crate) in_flight: usize,
    /// Events that it was given.
    pub(crate) given: u64,
    /// Time since it came.
    pub(crate) there_ms: u64,
}

impl GroupInfo {
    pub(super) async fn read(
        store: &Store,
        name: &GroupName,
        group: StoredGroup,
        running: Option<RunningInfo>,
    ) -> Result<Self, GroupError> {
        let places = group.places(store, name).await?;
        let parked = ParkedRange::read(store, name, &group).await?;
        let settled = running.as_ref().map_or(places.read, |running| running.settled_through);
        let (head, checkpoint) = (store.head().position.0, places.read);
        let lag = head.saturating_sub(settled.max(checkpoint).0);
        let checkpoint_lag = head.saturating_sub(checkpoint.0);
        Ok(Self { group, checkpoint, parked, lag, checkpoint_lag, running })
    }

    /// Looks for the last events of the group, backwards from the end: as far as it takes.
    pub(crate) async fn last_events(&self, store: &Store) -> Result<LastEvents, GroupError> {
        let query = &self.group.settings.query;
        let known = last(store, query, Position::END).await?;
        let settled = match self.checkpoint > self.group.start {
            true => last(store, query, self.checkpoint).await?,
            false => None,
        };
        Ok(LastEvents { settled, known })
    }
}

/// Returns the last event of a query up to a position.
async fn last(
    store: &Store,
    query: &Query,
    through: Position,
) -> Result<Option<RecordedEvent>, ReadError> {
    let mut next = Some(Read::matching(query.clone(), through).what);
    while let Some(what) = next {
        let read = Read { what, ..Read::matching(Query::nothing(), Position::START) };
        let page = store.page(read.backwards().page_of(1)).await?;
        if let Some(event) = page.events.into_iter().next() {
            return Ok(Some(event));
        }
        next = page.next;
    }
    Ok(None)
}
