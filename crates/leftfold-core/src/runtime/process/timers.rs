//! The timers of a process that are due soon. All others wait in the log, found by the minute in
//! which they are due.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{InstanceReader, category};
use super::record::{ProcessEvent, ReactionRecord, bucket, bucket_start, due_tag};
use crate::fold::LoadError;
use crate::store::{Position, Query, QueryItem, Read, RecordedEvent, Tags, Timestamp};

/// Timers in memory; more that are due soon are looked up again when most of these have fired.
pub(super) const NEAR_MAX: usize = 100_000;
/// Time ahead of the clock for which timers are looked up.
const AHEAD: Duration = Duration::from_secs(120);
/// Minutes that one look at the log covers.
const BUCKETS_PER_LOOK: i64 = 500;
/// Minutes that are looked at minute by minute, about a month; more are looked at in one go.
const BUCKETS_BY_MINUTE_MAX: i64 = 45_000;

/// A timer that is due soon, unless its instance has cancelled or replaced it since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UpcomingTimer {
    pub(super) due: Timestamp,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) set_at: Position,
}

impl UpcomingTimer {
    /// Returns the value that sorts before every timer that is due at a moment.
    fn at(due: Timestamp) -> Self {
        Self { due, key: String::new(), name: String::new(), set_at: Position::START }
    }
}

/// The timers of a process that are due before a horizon.
#[derive(Debug)]
pub(super) struct ProcessTimers {
    process: &'static str,
    near: BTreeSet<UpcomingTimer>,
    /// Every timer that was set, sorts before this and has not fired is near. More may be due at
    /// one moment than are kept: so it is a place in their order, not a moment.
    horizon: UpcomingTimer,
    near_max: usize,
}

impl ProcessTimers {
    /// None near. Of all that were set, those that are due before the moment have fired.
    pub(super) const fn from(
        process: &'static str,
        fired_before: Timestamp,
        near_max: usize,
    ) -> Self {
        let horizon = UpcomingTimer {
            due: fired_before,
            key: String::new(),
            name: String::new(),
            set_at: Position::START,
        };
        Self { process, near: BTreeSet::new(), horizon, near_max }
    }

    /// A timer was set.
    pub(super) fn set(&mut self, timer: UpcomingTimer) {
        if timer < self.horizon {
            self.near.insert(timer);
            self.bound();
        }
    }

    /// Returns the timers that are due at a moment, at most the given number.
    pub(super) fn due(&self, now: Timestamp, at_most: usize) -> Vec<UpcomingTimer> {
        self.near.iter().take_while(|near| near.due <= now).take(at_most).cloned().collect()
    }

    /// Removes a timer that fired or was cancelled.
    pub(super) fn forget(&mut self, timer: &UpcomingTimer) {
        self.near.remove(timer);
    }

    /// Returns the number of timers in memory.
    #[cfg(test)]
    pub(super) fn near(&self) -> usize {
        self.near.len()
    }

    /// Returns the moment before which every due timer has fired or was cancelled.
    pub(super) fn fired_before(&self) -> Timestamp {
        self.near.first().map_or(self.horizon.due, |near| near.due.min(self.horizon.due))
    }

    /// Returns the moment of the next work: a timer is due, or it is time to look further.
    pub(super) fn wakes_at(&self) -> Timestamp {
        let first = self.near.first().map(|near| near.due);
        match first {
            Some(first) if !self.has_room() => first,
            _ => first.into_iter().fold(self.looks_at(), Timestamp::min),
        }
    }

    /// Returns the moment at which to look further.
    fn looks_at(&self) -> Timestamp {
        if self.horizon.due == Timestamp::MAX {
            Timestamp::MAX
        } else {
            self.horizon.due.minus(AHEAD / 2)
        }
    }

    /// Tells whether there is room for enough timers to make a lookup worth its while.
    fn has_room(&self) -> bool {
        self.near.len() <= self.near_max / 2
    }

    /// Looks for timers that are due soon after now. Whether there may be more to look at.
    pub(super) async fn look_ahead(
        &mut self,
        archive: &InstanceReader,
        now: Timestamp,
    ) -> Result<bool, LoadError> {
        if self.looks_at() > now || self.horizon.due == Timestamp::MAX || !self.has_room() {
            return Ok(false);
        }
        let (from, last) = (bucket(self.horizon.due), bucket(now.plus(AHEAD)));
        let (query, to) = if last - from > BUCKETS_BY_MINUTE_MAX {
            // Nothing happened for weeks, or the clock was set: to look at everything that was
            // recorded costs less.
            (Query::category(category(self.process)), last)
        } else {
            let to = last.min(from.saturating_add(BUCKETS_PER_LOOK - 1));
            let item = |bucket| {
                QueryItem { tags: tags(self.process, bucket), ..QueryItem::default() }.with_system()
            };
            ((from..=to).map(item).collect(), to)
        };
        let mut events = archive.store.read(Read::matching(query, Position(1)));
        let since = std::mem::replace(&mut self.horizon, UpcomingTimer::at(bucket_start(to + 1)));
        while let Some(event) = events.next().await? {
            self.take(archive, &event, &since);
        }
        Ok(true)
    }

    /// Takes the timers that a reaction set, from there on, before the horizon.
    fn take(&mut self, archive: &InstanceReader, event: &RecordedEvent, since: &UpcomingTimer) {
        let key = event.stream.as_ref().map_or("", |at| at.name.id());
        // What cannot be read is parked once it is concerned.
        if let Ok(ProcessEvent::Reacted(reacted)) = archive.own(event) {
            reacted
                .near(key, event.position)
                .filter(|timer| timer >= since)
                .for_each(|timer| self.set(timer));
        }
    }

    /// Keeps the first ones only, if there are too many: the others are looked up again.
    fn bound(&mut self) {
        while self.near.len() > self.near_max
            && let Some(last) = self.near.pop_last()
        {
            self.horizon = last;
        }
    }
}

impl ReactionRecord {
    /// The timers that it set, recorded there.
    pub(super) fn near(&self, key: &str, set_at: Position) -> impl Iterator<Item = UpcomingTimer> {
        self.timers.iter().map(move |timer| UpcomingTimer {
            due: timer.due,
            key: key.to_owned(),
            name: timer.name.clone(),
            set_at,
        })
    }
}

fn tags(process: &str, bucket: i64) -> Vec<crate::store::Tag> {
    Tags::none().with(due_tag(process, bucket)).to_vec()
}
