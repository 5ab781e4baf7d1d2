//! Parked events that a person took out one by one: to be given out again, or to be forgotten.
//!
//! The stream `$group:released-NAME` has a record of each. What is behind the record whose replay
//! was asked for last is parked unless it was released; the consumer `$group:retried NAME` has the
//! place up to which those that were to be given out again are settled.

use std::collections::BTreeSet;

use leftfold::store::{
    Append, Condition, Expected, Outcome, Position, Query, Read, ReadError, RecordedEvent, Store,
    Version,
};
use serde::{Deserialize, Serialize};

use super::error::GroupError;
use super::records::{ParkedEntry, StoredGroup, TRIES_MAX, authority, own, parsed};
use super::settings::GroupName;

/// Type of the record of a parked event that was taken out.
const RELEASED: &str = "$group.Released";
/// Parked events that one call takes out.
pub(crate) const RELEASED_AT_ONCE: usize = 100;
/// Parked events that are taken out since the last replay: whoever looks at what is parked reads
/// their records.
pub(crate) const RELEASED_MAX: usize = 1_000;

/// Receiver of a parked event that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleasedTo {
    /// It is given to consumers again.
    Consumers,
    /// It is forgotten.
    Nobody,
}

/// The record of a parked event that was taken out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReleasedEntry {
    /// Position of the record of the parked event.
    through: u64,
    /// Position of the event; 0 if a copy of the store dropped it.
    position: u64,
    /// It is given to consumers again.
    is_retry: bool,
    /// Name of the user; empty if nobody has to say who they are.
    by: String,
}

impl ReleasedEntry {
    /// Returns the position of the event if a record says that it is to be given out again.
    pub(super) fn retried(record: &RecordedEvent) -> Option<Position> {
        let entry: Self = Self::of(record)?;
        entry.is_retry.then_some(Position(entry.position))
    }

    fn of(record: &RecordedEvent) -> Option<Self> {
        (record.event_type.as_str() == RELEASED).then(|| parsed(record))?
    }
}

/// Records of what is parked in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParkedRange {
    /// Version of the first record that is not replayed, less 1; of the last one if all are.
    pub(crate) before: Version,
    /// Version of the last record.
    pub(crate) last: Version,
    /// Positions of the records in between whose events were taken out.
    pub(crate) released: BTreeSet<Position>,
}

impl ParkedRange {
    /// Reads what is parked in a group, and not to be replayed.
    pub(super) async fn read(
        store: &Store,
        name: &GroupName,
        group: &StoredGroup,
    ) -> Result<Self, ReadError> {
        let query = Query::stream(name.parked_stream());
        let first = Read::matching(query, group.replay_through.next()).page_of(1);
        let first = store.page(first).await?.events.into_iter().next();
        let last = store.version(name.parked_stream()).await?;
        let before = first.map_or(last, |first| Version(first.version().0.saturating_sub(1)));
        let released = released(store, name, group.replay_through).await?;
        Ok(Self { before, last, released })
    }

    pub(crate) fn count(&self) -> u64 {
        let records = self.last.0.saturating_sub(self.before.0);
        records.saturating_sub(self.released.len() as u64)
    }
}

/// Takes parked events out, all of them or none.
pub(super) async fn release(
    store: &Store,
    name: &GroupName,
    numbers: &BTreeSet<Version>,
    to: ReleasedTo,
    by: &str,
) -> Result<(), GroupError> {
    if !(1..=RELEASED_AT_ONCE).contains(&numbers.len()) {
        let detail = format!("name 1 to {RELEASED_AT_ONCE} parked events by their numbers");
        return Err(GroupError::Invalid { detail });
    }
    let stream = name.released_stream();
    for _ in 0..TRIES_MAX {
        let (group, version) = StoredGroup::load(store, name).await?;
        let group = group.ok_or(GroupError::NotFound)?;
        let before = store.version(stream.clone()).await?;
        let released = released(store, name, group.replay_through).await?;
        if released.len() + numbers.len() > RELEASED_MAX {
            let detail = format!(
                "{RELEASED_MAX} parked events are taken out since the last replay, ask for a \
                 replay of all that is older"
            );
            return Err(GroupError::Invalid { detail });
        }
        let mut events = Vec::new();
        for number in numbers {
            let entry = entry_at(store, name, *number).await?;
            let is_parked = |at: Position| at > group.replay_through && !released.contains(&at);
            let Some((at, parked)) = entry.filter(|(at, _)| is_parked(*at)) else {
                let detail = format!("the group has not parked number {number}, list what it has");
                return Err(GroupError::Invalid { detail });
            };
            let record = ReleasedEntry {
                through: at.0,
                position: parked.position,
                is_retry: to == ReleasedTo::Consumers,
                by: by.to_owned(),
            };
            events.push(own(RELEASED, &record).in_stream(stream.clone()));
        }
        let mut append = Append::of(events).when(
            Condition::stream(name.stream(), Expected::Exact(version))
                .and_stream(stream.clone(), Expected::Exact(before)),
        );
        append.authority = authority();
        if let Outcome::Appended(_) = store.append(append).await? {
            return Ok(());
        }
    }
    Err(GroupError::Contended)
}

/// Reads the record of a parked event by its number.
async fn entry_at(
    store: &Store,
    name: &GroupName,
    number: Version,
) -> Result<Option<(Position, ParkedEntry)>, ReadError> {
    let read = Read::stream(name.parked_stream(), number).page_of(1);
    let record = store.page(read).await?.events.into_iter().next();
    let record = record.filter(|record| record.version() == number);
    Ok(record.and_then(|record| Some((record.position, ParkedEntry::of(&record)?))))
}

/// Reads which parked events were taken out of those whose records are behind a position: the
/// positions of the records.
pub(super) async fn released(
    store: &Store,
    name: &GroupName,
    after: Position,
) -> Result<BTreeSet<Position>, ReadError> {
    // An event is taken out after it was parked.
    let query = Query::stream(name.released_stream());
    let mut records = store.read(Read::matching(query, after.next()));
    let mut all = BTreeSet::new();
    while let Some(record) = records.next().await? {
        let of = ReleasedEntry::of(&record).map(|entry| Position(entry.through));
        all.extend(of.filter(|of| *of > after));
    }
    Ok(all)
}

/// Reads the position of the last record of what was taken out.
pub(super) async fn released_through(
    store: &Store,
    name: &GroupName,
) -> Result<Position, ReadError> {
    let last = Read::stream(name.released_stream(), Version::END).backwards().page_of(1);
    let last = store.page(last).await?.events.into_iter().next();
    Ok(last.map_or(Position::START, |last| last.position))
}
