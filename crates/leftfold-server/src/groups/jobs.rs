//! What a tenure does beside: reads of events, and appends of what is durable of it.
//!
//! Everything is appended under the lease, and only while the group is as the tenure knows it: what
//! it read by settings that were replaced, or for a group that was made anew, counts no longer.

use leftfold::store::{
    Append, AppendError, CheckpointRecord, Condition, Lease, MoveFrom, Outcome, Position, Query,
    Read, ReadError, RecordedEvent, Store, SubscribeError,
};

use super::EventLens;
use super::machine::ItemSource;
use super::records::{self, ParkedEntry};
use super::released::{ReleasedEntry, released};
use super::settings::GroupName;

/// Parked events that are looked up at once.
const REPLAYED_AT_ONCE: usize = 32;
/// Times that a checkpoint is tried from the place that it turns out to have.
const MOVES_MAX: usize = 3;

/// Events that were read, and the position up to which there are no others.
pub(super) struct FetchedPage {
    pub(super) events: Vec<(Position, RecordedEvent)>,
    pub(super) through: Position,
    pub(super) is_end: bool,
}

/// Reason for which something was not written.
#[derive(Debug)]
pub(super) enum WriteFault {
    /// Another server has the lease.
    Fenced,
    /// The group was changed meanwhile: it is to be looked at.
    Changed,
    /// The store is closed.
    Closed,
    /// It may be tried again.
    Failed(String),
}

impl From<AppendError> for WriteFault {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Fenced { .. } => Self::Fenced,
            AppendError::Closed => Self::Closed,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<SubscribeError> for WriteFault {
    fn from(error: SubscribeError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The right by which a tenure appends.
#[derive(Clone)]
pub(super) struct TenureRight {
    pub(super) store: Store,
    pub(super) name: GroupName,
    pub(super) lease: Lease,
    /// The group is as the tenure knows it.
    pub(super) unchanged: Condition,
}

impl TenureRight {
    pub(super) async fn append(&self, append: Append) -> Result<(), WriteFault> {
        let append = append.when(self.unchanged.clone()).under(&self.lease);
        match self.store.append(append).await? {
            Outcome::Appended(_) | Outcome::Repeated(_) => Ok(()),
            Outcome::Conflict(_) => Err(WriteFault::Changed),
        }
    }

    /// Writes a checkpoint.
    pub(super) async fn write_checkpoint(
        &self,
        source: ItemSource,
        from: Position,
        position: Position,
    ) -> Result<(), WriteFault> {
        let consumer = match source {
            ItemSource::Read => self.name.consumer(),
            ItemSource::Parked => self.name.replayer(),
            ItemSource::Retried => self.name.retrier(),
        };
        let checkpoint = self.store.checkpoint_at(position).await?;
        let mut from = MoveFrom::Exactly(from);
        for _ in 0..MOVES_MAX {
            let consumer = consumer.clone();
            let moving = CheckpointRecord { consumer, from, checkpoint: checkpoint.clone() };
            let append = records::moving(moving).when(self.unchanged.clone()).under(&self.lease);
            match self.store.append(append).await {
                Ok(Outcome::Appended(_) | Outcome::Repeated(_)) => return Ok(()),
                Ok(Outcome::Conflict(_)) => return Err(WriteFault::Changed),
                // Nobody else moves it under this lease: it was this tenure, whose append was
                // stored and not answered, or a store that was restored has an older one.
                Err(AppendError::CheckpointMoved { current, .. }) => {
                    from = MoveFrom::Exactly(current);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(WriteFault::Failed("its checkpoint is moved by others".to_owned()))
    }
}

/// Reads the next events of the group.
pub(super) async fn fetched(
    store: &Store,
    query: Query,
    from: Position,
    count: usize,
    lens: &dyn EventLens,
) -> Result<FetchedPage, ReadError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let page = store.page(Read::matching(query, from).page_of(count)).await?;
    let mut events = Vec::with_capacity(page.events.len());
    for event in page.events {
        if lens.passes(&event).await? {
            events.push((event.position, event));
        }
    }
    Ok(FetchedPage { events, through: page.through, is_end: page.next.is_none() })
}

/// Reads the next parked events that are replayed, each with the position of its record.
pub(super) async fn replayed(
    store: &Store,
    name: &GroupName,
    from: Position,
    through: Position,
    count: usize,
) -> Result<FetchedPage, ReadError> {
    let released = released(store, name, Position(from.0.saturating_sub(1))).await?;
    let event_of = |record: &RecordedEvent| {
        let Some(parked) = ParkedEntry::of(record) else {
            // It stays in the stream of what is parked, for a release that can read it.
            let at = record.position.0;
            tracing::warn!(at, "a record of a parked event cannot be read, it is not replayed");
            return None;
        };
        (!released.contains(&record.position)).then_some(Position(parked.position))
    };
    named_events(store, Query::stream(name.parked_stream()), (from, through), count, event_of).await
}

/// Reads the next parked events that were taken out to be given out again, each with the position
/// of the record which says so.
pub(super) async fn retried(
    store: &Store,
    name: &GroupName,
    from: Position,
    through: Position,
    count: usize,
) -> Result<FetchedPage, ReadError> {
    let query = Query::stream(name.released_stream());
    named_events(store, query, (from, through), count, ReleasedEntry::retried).await
}

/// Reads the events that the next records of a query name.
async fn named_events(
    store: &Store,
    query: Query,
    (from, through): (Position, Position),
    count: usize,
    event_of: impl Fn(&RecordedEvent) -> Option<Position>,
) -> Result<FetchedPage, ReadError> {
    let count = u32::try_from(count.min(REPLAYED_AT_ONCE)).unwrap_or(1);
    let page = store.page(Read::matching(query, from).page_of(count)).await?;
    let mut events = Vec::new();
    for record in page.events.iter().filter(|record| record.position <= through) {
        let Some(at) = event_of(record) else { continue };
        let read = Read::matching(Query::everything(), at).page_of(1);
        let found = store.page(read).await?.events.into_iter().find(|event| event.position == at);
        events.extend(found.map(|event| (record.position, event)));
    }
    let is_end = page.next.is_none() || page.through >= through;
    Ok(FetchedPage { events, through: page.through.min(through), is_end })
}
