//! Judging the requests of a group, each against everything before it.

use std::collections::HashSet;

use leftfold_core::store::{
    Answered, Append, AppendError, Appended, Condition, Conflict, EventId, InStream, Label, Leased,
    Outcome, Position, RecordedEvent, StoreId, Version,
};
use std::time::Duration;

use super::facts::{GroupFacts, KnownState, consumer_key};
use super::recent::RecentEvent;
use super::request::{LookedUp, RequestVerdict, StoreRequest, WaitingAppend};
use super::weight;
use crate::store::chain::{self, Link};
use crate::store::rows::AppendRow;

/// A group that is being judged: what it adds, on top of what is stored.
#[derive(Debug)]
pub(super) struct GroupJudge<'k> {
    pub(super) facts: GroupFacts,
    pub(super) known: &'k mut KnownState,
    /// Stands for the store in the ids that are minted.
    minter: StoreId,
    pub(super) written: WrittenGroup,
}

/// The rows that a group writes.
#[derive(Debug, Default)]
pub(super) struct WrittenGroup {
    pub(super) appends: Vec<AppendRow>,
    pub(super) events: Vec<WrittenEvent>,
    /// Works whose leases it changes.
    pub(super) works: HashSet<Label>,
    /// True if leases that are over made room for others.
    pub(super) forgets_leases: bool,
    /// Number of the appends, and of the events, whose rows were sent to the server.
    pub(super) sent_appends: usize,
    pub(super) sent_events: usize,
}

/// An event, with what is stored of it besides.
#[derive(Debug)]
pub(super) struct WrittenEvent {
    pub(super) append: u64,
    pub(super) event: RecordedEvent,
    pub(super) id_is_minted: bool,
}

/// Reason why an append does not go in, and is no outcome.
enum NotJudged {
    Refused(AppendError),
    /// A clause whose query was not looked for as far back as it must be: more was written in
    /// between than is kept.
    StaleLookup,
}

impl From<AppendError> for NotJudged {
    fn from(error: AppendError) -> Self {
        Self::Refused(error)
    }
}

impl WrittenGroup {
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty() && !self.changes_leases()
    }

    pub(super) fn changes_leases(&self) -> bool {
        !self.works.is_empty() || self.forgets_leases
    }
}

impl<'k> GroupJudge<'k> {
    pub(super) fn new(facts: GroupFacts, known: &'k mut KnownState, minter: StoreId) -> Self {
        Self { facts, known, minter, written: WrittenGroup::default() }
    }

    /// Judges a request, and adds what it writes to the group.
    pub(super) fn judge(&mut self, request: &StoreRequest) -> RequestVerdict {
        match request {
            StoreRequest::Append(waiting) => match self.judge_append(waiting) {
                Ok(outcome) => RequestVerdict::Append(Ok(outcome)),
                Err(NotJudged::Refused(error)) => RequestVerdict::Append(Err(error)),
                Err(NotJudged::StaleLookup) => RequestVerdict::LookUpAgain,
            },
            StoreRequest::Lease(request, _) => {
                let forgotten = self.known.leases.forgotten();
                let leased = self.known.leases.lease(request.clone(), self.facts.now);
                if matches!(leased, Ok(Leased::Held(_))) {
                    self.written.works.insert(request.work.clone());
                }
                self.written.forgets_leases |= self.known.leases.forgotten() > forgotten;
                RequestVerdict::Lease(leased)
            }
            StoreRequest::Release(lease, _) => {
                self.known.leases.release(lease);
                self.written.works.insert(lease.work.clone());
                RequestVerdict::Release
            }
        }
    }

    fn judge_append(&mut self, waiting: &WaitingAppend) -> Result<Outcome, NotJudged> {
        let append = &waiting.append;
        if let Some(command) = &append.command
            && let Some(answered) = self.facts.answered.get(&command.id)
        {
            return if answered.record.digest == command.digest {
                Ok(Outcome::Repeated(answered.clone()))
            } else {
                Err(AppendError::CommandIdReused { id: command.id }.into())
            };
        }
        self.known.leases.check(append.fence.as_ref())?;
        if let Some(conflict) = self.conflict(&append.condition, &waiting.looked_up)? {
            return Ok(Outcome::Conflict(conflict));
        }
        self.advances(append)?;
        Ok(Outcome::Appended(self.put(append)))
    }

    fn conflict(
        &self,
        condition: &Condition,
        looked_up: &[LookedUp],
    ) -> Result<Option<Conflict>, NotJudged> {
        for (stream, expected) in &condition.streams {
            let actual = self.facts.versions.get(stream).copied().unwrap_or(Version::ABSENT);
            if !expected.holds(actual) {
                let (stream, expected) = (stream.clone(), *expected);
                return Ok(Some(Conflict::Stream { stream, expected, actual }));
            }
        }
        for (clause, none) in condition.none_matching.iter().enumerate() {
            let after = none.after;
            let found = match looked_up.get(clause) {
                Some(LookedUp::Found(found)) => Some(*found),
                looked_up => {
                    let through = match looked_up {
                        Some(LookedUp::NoneThrough(through)) => after.max(*through),
                        _ => after,
                    };
                    if through < self.known.recent.since() {
                        return Err(NotJudged::StaleLookup);
                    }
                    self.known.recent.first_match(&none.query, through)
                }
            };
            if let Some(found) = found {
                return Ok(Some(Conflict::Matching { clause, after, found }));
            }
        }
        Ok(None)
    }

    fn advances(&self, append: &Append) -> Result<(), AppendError> {
        let Some(record) = &append.checkpoint else { return Ok(()) };
        let current = self.facts.consumers.get(&consumer_key(record)).copied();
        let proposed = record.checkpoint.position;
        if record.from.allows(current, proposed) {
            return Ok(());
        }
        Err(AppendError::CheckpointMoved {
            consumer: record.consumer.clone(),
            current: current.unwrap_or(Position::START),
            from: record.from,
            proposed,
        })
    }

    /// Takes in an append that may go in. One without events and records writes nothing.
    fn put(&mut self, append: &Append) -> Appended {
        let before = self.facts.head.head;
        let count = append.events.len() as u64;
        if count == 0 && append.command.is_none() && append.checkpoint.is_none() {
            let (first, recorded_at) = (before.position, before.recorded_at);
            return Appended { first, versions: Vec::new(), recorded_at };
        }
        let number = self.facts.head.append + 1;
        let recorded_at = self.facts.now.max(before.recorded_at.plus(Duration::from_micros(1)));
        let first = Position(before.position.0 + u64::from(count > 0));
        let events = self.events(append, first, recorded_at);
        let checkpoint =
            append.checkpoint.as_ref().map(|one| (one.consumer.clone(), one.checkpoint.clone()));
        let link = Link {
            number,
            recorded_at,
            events: &events,
            command: append.command.as_ref(),
            checkpoint: checkpoint.as_ref().map(|(consumer, at)| (consumer, at)),
        };
        let hash = chain::hash(before.chain, &link);
        let command = append.command.clone().map(|record| Answered {
            record,
            recorded_at,
            first,
            // An append has 10,000 events at most.
            events: count as u32,
        });
        self.facts.answered.extend(command.clone().map(|one| (one.record.id, one)));
        if let Some(record) = &append.checkpoint {
            self.facts.consumers.insert(consumer_key(record), record.checkpoint.position);
        }
        let consumer = checkpoint.as_ref().map(|(consumer, _)| consumer);
        let bytes = weight::of_append(&events, append.command.as_ref(), consumer);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let versions = events.iter().map(RecordedEvent::version).collect();
        self.known_events(&events);
        for (event, new) in events.into_iter().zip(&append.events) {
            let id_is_minted = new.id.is_none();
            self.written.events.push(WrittenEvent { append: number, event, id_is_minted });
        }
        self.written.appends.push(AppendRow {
            number,
            first,
            events: count,
            recorded_at,
            hash,
            bytes,
            command,
            checkpoint,
        });
        self.facts.head.append = number;
        self.facts.head.head.position = Position(before.position.0 + count);
        self.facts.head.head.chain = hash;
        self.facts.head.head.recorded_at = recorded_at;
        Appended { first, versions, recorded_at }
    }

    /// Gives the events of an append their places.
    fn events(
        &mut self,
        append: &Append,
        first: Position,
        recorded_at: leftfold_core::store::Timestamp,
    ) -> Vec<RecordedEvent> {
        let count = append.events.len();
        let placed = append.events.iter().enumerate().map(|(index, new)| {
            let position = Position(first.0 + index as u64);
            let stream = new.stream.clone().map(|name| {
                let version = self.facts.versions.entry(name.clone()).or_insert(Version::ABSENT);
                *version = version.next();
                InStream { version: *version, name }
            });
            let id = new.id.unwrap_or_else(|| EventId::minted(self.minter, position, recorded_at));
            let event = RecordedEvent::of(new.clone(), position, recorded_at, stream, id);
            RecordedEvent { append_continues: index + 1 < count, ..event }
        });
        placed.collect()
    }

    /// Adds the events to those that conditions are judged against, if these reach up to them.
    fn known_events(&mut self, events: &[RecordedEvent]) {
        let recent = &mut self.known.recent;
        if recent.through() == self.facts.head.head.position {
            events.iter().for_each(|event| recent.push(RecentEvent::from(event)));
        }
    }
}
