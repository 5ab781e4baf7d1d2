//! One source of an inbox, as an aggregate: what it sent, what is held, which gaps were given up.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::{Inbox, OverGap};
use crate::fold::{Aggregate, Event, SnapshotPolicy};
use crate::runtime::json::Json;
use crate::runtime::names::JoinedName;
use crate::store::Authority;

// ANCHOR: limits
/// Messages of one source that are held at most; beyond that only messages that fill the gap are
/// taken.
pub const HELD_MAX: usize = 1_000;
/// Bytes of all messages of one source that are held, about.
pub const HELD_BYTES_MAX: usize = 4 << 20;
// ANCHOR_END: limits
/// Gaps that were released and are remembered. Of older ones every number counts as missing.
const RELEASED_MAX: usize = 1_000;
/// Bytes of a reason that is kept.
const REASON_CHARS_MAX: usize = 1_000;

/// Fact about a source, stored as `$inbox:NAME.…` in the stream `$inbox:NAME-SOURCE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Occurrence {
    /// A message is to be delivered, in the order of these events.
    Accepted { id: String, sequence: Option<u64>, message: Json },
    /// A message waits for those before it, of which this is the first.
    Held { id: String, sequence: u64, message: Json, missing: u64 },
    /// A message of a gap that was released is to be delivered.
    CameLate { id: String, sequence: u64, message: Json },
    /// Nothing of a gap came in time. The messages behind it wait on.
    GapReported { from: u64, to: u64 },
    /// It is no longer waited for.
    GapReleased { from: u64, to: u64, by: String },
    /// A command that a message meant was refused.
    DeliveryRefused { target: String, reason: String },
}

/// [`Occurrence`], under the name of the inbox.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct InboxOccurrence<I> {
    pub(super) what: Occurrence,
    #[serde(skip)]
    inbox: PhantomData<fn() -> I>,
}

impl Occurrence {
    /// Returns the number and the message that were received under an id.
    pub(super) fn received(&self, under: &str) -> Option<(Option<u64>, &Json)> {
        let (id, sequence, message) = match self {
            Self::Accepted { id, sequence, message } => (id, *sequence, message),
            Self::Held { id, sequence, message, .. } | Self::CameLate { id, sequence, message } => {
                (id, Some(*sequence), message)
            }
            Self::GapReported { .. } | Self::GapReleased { .. } | Self::DeliveryRefused { .. } => {
                return None;
            }
        };
        (id == under).then_some((sequence, message))
    }
}

impl<I> From<Occurrence> for InboxOccurrence<I> {
    fn from(what: Occurrence) -> Self {
        Self { what, inbox: PhantomData }
    }
}

impl<I> Clone for InboxOccurrence<I> {
    fn clone(&self) -> Self {
        self.what.clone().into()
    }
}

impl<I: Inbox> InboxOccurrence<I> {
    const JOINED: &'static JoinedName = &super::joined("$inbox:", I::NAME);
}

impl<I: Inbox> Event for InboxOccurrence<I> {
    const NAMESPACE: &'static str = Self::JOINED.as_str();
}

/// Command for a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum SourceCommand {
    Message {
        id: String,
        sequence: Option<u64>,
        message: Json,
    },
    /// The message of this number was held long enough.
    HeldTooLong {
        sequence: u64,
    },
    /// A person gives up the gaps.
    Release {
        by: String,
    },
    Refused {
        target: String,
        reason: String,
    },
}

/// Error of a message that is not taken. Nothing of it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The source begins to count later.
    #[error("the numbers of a source begin with {first}, {sequence} is before that")]
    BeforeFirst {
        /// The first number.
        first: u64,
        /// The number that came.
        sequence: u64,
    },
    /// The number is too great to have a next one.
    #[error("{sequence} is too great a number")]
    Beyond {
        /// The number that came.
        sequence: u64,
    },
    /// Another message had the number.
    #[error("another message has the number {sequence}, give each its own")]
    SequenceTaken {
        /// The number.
        sequence: u64,
    },
    /// Too much is held behind a gap.
    #[error("{held} messages are held until {missing} comes; send that first, or release the gap")]
    Full {
        /// Number of held messages.
        held: usize,
        /// The first number that they wait for.
        missing: u64,
    },
}

/// A message that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HeldMessage {
    id: String,
    message: Json,
    bytes: usize,
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SourceState {
    /// Every number before it was accepted or given up.
    pub(super) next: u64,
    held: BTreeMap<u64, HeldMessage>,
    held_bytes: usize,
    /// Gaps that were released, without the numbers that came since: the first number and the last.
    released: BTreeMap<u64, u64>,
    /// Below this nobody remembers which numbers were released.
    forgotten_below: u64,
    /// Gaps up to here were reported.
    pub(super) reported_through: u64,
}

/// [`SourceState`], of a source of this inbox.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct Source<I> {
    pub(super) state: SourceState,
    #[serde(skip)]
    inbox: PhantomData<fn() -> I>,
}

impl<I: Inbox> Default for Source<I> {
    fn default() -> Self {
        let state = SourceState {
            next: I::FIRST,
            held: BTreeMap::new(),
            held_bytes: 0,
            released: BTreeMap::new(),
            forgotten_below: I::FIRST,
            reported_through: 0,
        };
        Self { state, inbox: PhantomData }
    }
}

impl<I> Clone for Source<I> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), inbox: PhantomData }
    }
}

impl<I: Inbox> Source<I> {
    const JOINED: &'static JoinedName = &super::joined("$inbox:", I::NAME);
}

impl<I: Inbox> Aggregate for Source<I> {
    const CATEGORY: &'static str = Self::JOINED.as_str();
    type Event = InboxOccurrence<I>;
    type Command = SourceCommand;
    type Refusal = Refusal;

    fn authority() -> Authority {
        Authority::RUNTIME
    }

    fn apply(&mut self, event: &InboxOccurrence<I>) {
        self.state.apply(&event.what);
    }

    fn decide(&self, heard: &SourceCommand) -> Result<Vec<InboxOccurrence<I>>, Refusal> {
        let happened = match heard {
            SourceCommand::Message { id, sequence: Some(sequence), message } => {
                self.state.take(I::FIRST, id, *sequence, message)?
            }
            SourceCommand::Message { id, sequence: None, message } => {
                vec![Occurrence::Accepted {
                    id: id.clone(),
                    sequence: None,
                    message: message.clone(),
                }]
            }
            SourceCommand::HeldTooLong { sequence } if *sequence < self.state.next => Vec::new(),
            SourceCommand::HeldTooLong { sequence } => match I::over_gap() {
                OverGap::Release => self.state.advance(self.state.next, *sequence, "the time"),
                OverGap::Report => self.state.report(*sequence),
            },
            SourceCommand::Release { by } => self.state.advance(self.state.next, u64::MAX, by),
            SourceCommand::Refused { target, reason } => {
                let reason = reason.chars().take(REASON_CHARS_MAX).collect();
                vec![Occurrence::DeliveryRefused { target: target.clone(), reason }]
            }
        };
        Ok(happened.into_iter().map(InboxOccurrence::from).collect())
    }

    /// A source may send for years.
    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1_000)
    }
}

impl SourceState {
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Returns the facts that follow from a message with a number.
    fn take(
        &self,
        first: u64,
        id: &str,
        sequence: u64,
        message: &Json,
    ) -> Result<Vec<Occurrence>, Refusal> {
        let (id, message) = (id.to_owned(), message.clone());
        if sequence < first {
            return Err(Refusal::BeforeFirst { first, sequence });
        }
        if sequence == u64::MAX {
            return Err(Refusal::Beyond { sequence });
        }
        if sequence < self.next {
            let is_missing = sequence < self.forgotten_below || self.gap_of(sequence).is_some();
            let late = Occurrence::CameLate { id, sequence, message };
            return if is_missing {
                Ok(vec![late])
            } else {
                Err(Refusal::SequenceTaken { sequence })
            };
        }
        if sequence == self.next {
            let mut happened = vec![Occurrence::Accepted { id, sequence: Some(sequence), message }];
            happened.extend(self.advance(sequence + 1, 0, ""));
            return Ok(happened);
        }
        if self.held.contains_key(&sequence) {
            return Err(Refusal::SequenceTaken { sequence });
        }
        if self.held.len() >= HELD_MAX || self.held_bytes >= HELD_BYTES_MAX {
            return Err(Refusal::Full { held: self.held.len(), missing: self.next });
        }
        Ok(vec![Occurrence::Held { id, sequence, message, missing: self.next }])
    }

    /// Accepts the held messages from a number on: over the gaps before a message, and after that
    /// up to the first gap.
    fn advance(&self, mut next: u64, over_gaps_before: u64, by: &str) -> Vec<Occurrence> {
        let mut happened = Vec::new();
        for (sequence, HeldMessage { id, message, .. }) in self.held.range(next..) {
            if *sequence > next && *sequence > over_gaps_before {
                break;
            }
            if *sequence > next {
                happened.push(Occurrence::GapReleased {
                    from: next,
                    to: sequence - 1,
                    by: by.to_owned(),
                });
            }
            happened.push(Occurrence::Accepted {
                id: id.clone(),
                sequence: Some(*sequence),
                message: message.clone(),
            });
            next = sequence + 1;
        }
        happened
    }

    /// Reports the gaps before a message, those that were not reported before.
    fn report(&self, before: u64) -> Vec<Occurrence> {
        let mut next = self.next;
        let mut happened = Vec::new();
        for sequence in self.held.range(..=before).map(|(sequence, _)| *sequence) {
            if sequence > next && sequence - 1 > self.reported_through {
                happened.push(Occurrence::GapReported {
                    from: next.max(self.reported_through + 1),
                    to: sequence - 1,
                });
            }
            next = sequence + 1;
        }
        happened
    }

    /// The released gap that a number is missing in.
    fn gap_of(&self, sequence: u64) -> Option<(u64, u64)> {
        let (from, to) = self.released.range(..=sequence).next_back()?;
        (sequence <= *to).then_some((*from, *to))
    }

    fn apply(&mut self, event: &Occurrence) {
        match event {
            Occurrence::Accepted { sequence: None, .. } | Occurrence::DeliveryRefused { .. } => {}
            Occurrence::Accepted { sequence: Some(sequence), .. } => {
                self.next = self.next.max(sequence.saturating_add(1));
                if let Some(held) = self.held.remove(sequence) {
                    self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
                }
            }
            Occurrence::Held { id, sequence, message, .. } => {
                let bytes = id.len() + message.text().len();
                self.held_bytes += bytes;
                self.held.insert(
                    *sequence,
                    HeldMessage { id: id.clone(), message: message.clone(), bytes },
                );
            }
            Occurrence::CameLate { sequence, .. } => {
                if let Some((from, to)) = self.gap_of(*sequence) {
                    self.released.remove(&from);
                    self.give_up(from, sequence.saturating_sub(1));
                    self.give_up(sequence.saturating_add(1), to);
                }
            }
            Occurrence::GapReported { to, .. } => {
                self.reported_through = self.reported_through.max(*to)
            }
            Occurrence::GapReleased { from, to, .. } => {
                self.next = self.next.max(to.saturating_add(1));
                self.give_up(*from, *to);
            }
        }
    }

    /// Remembers that these numbers are missing; of too many gaps the oldest are forgotten.
    fn give_up(&mut self, from: u64, to: u64) {
        if from <= to {
            self.released.insert(from, to);
        }
        while self.released.len() > RELEASED_MAX
            && let Some((_, to)) = self.released.pop_first()
        {
            self.forgotten_below = self.forgotten_below.max(to.saturating_add(1));
        }
    }
}
