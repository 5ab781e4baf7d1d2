//! The timers of a process that are due soon. All others wait in the log, found by the minute in which they are due.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::instance::{Archive, category};
use super::record::{ProcessEvent, Reacted, SetTimer, bucket, bucket_start, due_tag};
use crate::fold::{LoadError, Unknown};
use crate::store::{Hash, Position, Query, QueryItem, Read, RecordedEvent, Tags, Timestamp};

/// Timers in memory; more that are due soon are looked up again when these have fired.
const NEAR_MAX: usize = 100_000;
/// How far ahead of the clock timers are looked up.
const AHEAD: Duration = Duration::from_secs(120);
/// Minutes that one look at the log covers.
const BUCKETS_PER_LOOK: i64 = 500;

/// A timer that is due soon, unless its instance has cancelled or replaced it since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near {
    pub(super) due: Timestamp,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) set_at: Position,
}

impl Near {
    /// What sorts before every timer that is due at a moment.
    fn at(due: Timestamp) -> Self {
        Self { due, key: String::new(), name: String::new(), set_at: Position::START }
    }
}

/// The timers of a process that are due before a horizon.
#[derive(Debug)]
pub(super) struct Timers {
    process: &'static str,
    near: BTreeSet<Near>,
    /// Every timer that was set, sorts before this and has not fired is near. More may be due at one moment than are kept:
    /// so it is a place in their order, not a moment.
    horizon: Near,
    near_max: usize,
}

impl Timers {
    /// The timers that a store holds, as far as they are remembered: the rest is looked up when its time comes.
    pub(super) async fn load(process: &'static str, archive: &Archive) -> Result<Self, LoadError> {
        let mut timers = Self { process, near: BTreeSet::new(), horizon: Near::at(Timestamp::MIN), near_max: NEAR_MAX };
        let Some(memo) = memo(process, archive).await? else {
            // No timer is due before the event that it is set for; in an empty store there is none, so all are near.
            let first = archive.store.page(Read::matching(Query::everything(), Position(1)).page_of(1)).await?.events;
            timers.horizon = Near::at(first.first().map_or(Timestamp::MAX, |event| event.recorded_at));
            return Ok(timers);
        };
        timers.horizon = Near::at(memo.watermark);
        let later = Query::category(category(process));
        let mut events = archive.store.read(Read::matching(later, Position(memo.position).next()));
        while let Some(event) = events.next().await? {
            timers.take(archive, &event, &Near::at(Timestamp::MIN))?;
        }
        Ok(timers)
    }

    /// A timer was set.
    pub(super) fn set(&mut self, timer: Near) {
        if timer < self.horizon {
            self.near.insert(timer);
            self.bound();
        }
    }

    /// The timers that are due at a moment, at most so many.
    pub(super) fn due(&self, now: Timestamp, at_most: usize) -> Vec<Near> {
        self.near.iter().take_while(|near| near.due <= now).take(at_most).cloned().collect()
    }

    /// The timer has fired, or is none any more.
    pub(super) fn forget(&mut self, timer: &Near) {
        self.near.remove(timer);
    }

    /// When there is something to do: a timer is due, or it is time to look further.
    pub(super) fn wakes_at(&self) -> Timestamp {
        // Beyond the end of time there is nothing to look for.
        let look_at = if self.horizon.due == Timestamp::MAX { Timestamp::MAX } else { self.horizon.due.minus(AHEAD / 2) };
        self.near.first().map_or(look_at, |near| near.due.min(look_at))
    }

    /// Looks for timers that are due soon after now. Whether there may be more to look at.
    pub(super) async fn look_ahead(&mut self, archive: &Archive, now: Timestamp) -> Result<bool, LoadError> {
        let until = now.plus(AHEAD);
        if self.horizon.due > now.plus(AHEAD / 2) || self.near.len() >= self.near_max {
            return Ok(false);
        }
        let from = bucket(self.horizon.due);
        let to = bucket(until).min(from.saturating_add(BUCKETS_PER_LOOK - 1));
        let item = |bucket| QueryItem { tags: tags(self.process, bucket), ..QueryItem::default() }.with_system();
        let mut events = archive.store.read(Read::matching((from..=to).map(item).collect(), Position(1)));
        let since = std::mem::replace(&mut self.horizon, Near::at(bucket_start(to + 1)));
        while let Some(event) = events.next().await? {
            self.take(archive, &event, &since)?;
        }
        Ok(true)
    }

    /// Takes the timers that a reaction set, from there on, before the horizon.
    fn take(&mut self, archive: &Archive, event: &RecordedEvent, since: &Near) -> Result<(), LoadError> {
        let key = event.stream.as_ref().map_or("", |at| at.name.id()).to_owned();
        for event_of in archive.own.decode::<ProcessEvent>(event, Unknown::Refuse)? {
            let ProcessEvent::Reacted(Reacted { timers, .. }) = event_of else { continue };
            let near = |timer: SetTimer| Near { due: timer.due, key: key.clone(), name: timer.name, set_at: event.position };
            timers.into_iter().map(near).filter(|timer| timer >= since).for_each(|timer| self.set(timer));
        }
        Ok(())
    }

    /// Keeps the first ones only, where there are too many: the others are looked up again.
    fn bound(&mut self) {
        while self.near.len() > self.near_max
            && let Some(last) = self.near.pop_last()
        {
            self.horizon = last;
        }
    }

    /// Remembers what has fired, so that the next start does not look there. A cache.
    pub(super) async fn keep_memo(&self, archive: &Archive, position: Position) {
        let Ok(Some(Hash(hash))) = archive.store.hash_at(position).await else { return };
        let watermark = self.near.first().map_or(self.horizon.due, |near| near.due.min(self.horizon.due));
        if let Ok(json) = serde_json::to_vec(&Memo { position: position.0, hash, watermark }) {
            archive.store.keep_snapshot(memo_key(self.process, archive), Bytes::from(json));
        }
    }
}

fn tags(process: &str, bucket: i64) -> Vec<crate::store::Tag> {
    Tags::none().with(due_tag(process, bucket)).to_vec()
}

/// Every timer set at or before the position and due before the watermark has fired, or is none any more.
#[derive(Serialize, Deserialize)]
struct Memo {
    position: u64,
    hash: [u8; 32],
    watermark: Timestamp,
}

fn memo_key(process: &str, archive: &Archive) -> Bytes {
    Bytes::from(format!("process timers {} {process}", archive.store.identity().store))
}

/// What was remembered, if it belongs to this history.
async fn memo(process: &str, archive: &Archive) -> Result<Option<Memo>, LoadError> {
    let Some(bytes) = archive.store.snapshot(memo_key(process, archive)).await? else { return Ok(None) };
    let Ok(memo) = serde_json::from_slice::<Memo>(&bytes) else { return Ok(None) };
    let known = archive.store.hash_at(Position(memo.position)).await? == Some(Hash(memo.hash));
    Ok(Some(memo).filter(|_| known))
}
