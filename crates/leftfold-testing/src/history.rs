//! The history checker: what concurrent tasks saw of their appends is compared with the log that
//! came of it.
//!
//! An [`AppendHistory`] records for each append when it began, when it was answered, and how.
//! [`check`] then replays every condition against the final log, where the order of everything is
//! known, and proves that each answer was true at the place where it was given.

mod check;
mod load;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use leftfold_core::store::{
    Append, AppendError, Conflict, Outcome, Pending, Position, Query, Read, ReadError, Store,
};

pub use check::check;
pub use load::load;

/// Record of the appends of concurrent tasks, as the tasks saw them. Every append to the store,
/// from the history's start on, goes through it.
///
/// ```
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
/// use leftfold_testing::history::{AppendHistory, load};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let history = AppendHistory::of(&store);
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
/// history.append(&store, Append::of(vec![sold])).await?;
/// assert_eq!(history.verify(&store).await?, Ok(()));
///
/// // Four tasks with ten appends each, whose conditions often fail.
/// let history = load(&store, 7, 4, 10).await;
/// assert_eq!(history.verify(&store).await?, Ok(()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AppendHistory {
    began_after: Position,
    attempts: Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    /// Grows with every start and every answer, so that it orders them in real time.
    clock: u64,
    all: Vec<AppendAttempt>,
}

/// One append, as its caller saw it.
#[derive(Clone, Debug)]
pub struct AppendAttempt {
    /// Append that was asked for.
    pub append: Append,
    /// Moment at which it began, on the history's own clock.
    pub started: u64,
    /// Durable end at that time: the append must be judged against all events up to it.
    pub durable_before: Position,
    /// The answer; `None` if it never came.
    pub answer: Option<AppendAnswer>,
}

/// Answer to an append.
#[derive(Clone, Debug)]
pub struct AppendAnswer {
    /// Moment of the answer, on the history's own clock.
    pub at: u64,
    /// Durable end at that time: nothing beyond it can be a reason for the answer.
    pub durable: Position,
    /// Result that was returned.
    pub outcome: Result<Outcome, AppendError>,
}

/// Names one attempt of a history: its place in the order of starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub usize);

impl AppendHistory {
    /// An empty history, which begins at the present end of the store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self { began_after: store.head().position, attempts: Mutex::default() }
    }

    /// Appends, and records the result.
    pub async fn append(&self, store: &Store, append: Append) -> Result<Outcome, AppendError> {
        let id = self.start(store, &append);
        let pending: Pending<_, _> = store.append(append);
        let outcome = pending.await;
        self.answer(store, id, outcome.clone());
        outcome
    }

    /// Records that an append is about to be handed over.
    pub fn start(&self, store: &Store, append: &Append) -> AttemptId {
        let durable_before = store.head().position;
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.clock += 1;
        let started = attempts.clock;
        attempts.all.push(AppendAttempt {
            append: append.clone(),
            started,
            durable_before,
            answer: None,
        });
        AttemptId(attempts.all.len() - 1)
    }

    /// Records the answer to an append. One whose answer is never recorded may or may not be in the
    /// log.
    pub fn answer(&self, store: &Store, id: AttemptId, outcome: Result<Outcome, AppendError>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.clock += 1;
        let answer = AppendAnswer { at: attempts.clock, durable: store.head().position, outcome };
        attempts.all[id.0].answer = Some(answer);
    }

    /// Returns the recorded attempts, in the order of their starts.
    #[must_use]
    pub fn attempts(&self) -> Vec<AppendAttempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Reads the whole store and checks the history against it.
    pub async fn verify(&self, store: &Store) -> Result<Result<(), HistoryViolation>, ReadError> {
        let events = store.read(Read::matching(Query::everything(), Position(1))).all().await?;
        Ok(check(self, &events))
    }
}

/// A promise that the store broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryViolation {
    /// Positions, or the versions of a stream, do not count up by one.
    #[error("the log has a gap: the event at {at} should have {what} {expected} and has {found}")]
    Gap {
        /// The position that the event has.
        at: Position,
        /// Name of the number with the gap: a position, or the version of a stream.
        what: String,
        /// Value that it should have.
        expected: u64,
        /// Value that it has.
        found: u64,
    },
    /// Recorded time went backwards, or changed within an append.
    #[error("recorded time at {at} does not follow from the event before it")]
    Time {
        /// The position.
        at: Position,
    },
    /// An acknowledged event is not there.
    #[error("append {attempt:?} was acknowledged, but its event at {at} is not in the log")]
    Lost {
        /// The append.
        attempt: AttemptId,
        /// Position that the event should have.
        at: Position,
    },
    /// Another event has the position of an acknowledged one, or the answer misstates its version
    /// or time.
    #[error(
        "append {attempt:?} was acknowledged, but what stands at {at} is not what was appended and answered"
    )]
    Differs {
        /// The append.
        attempt: AttemptId,
        /// Position of the event.
        at: Position,
    },
    /// An append does not stand in the log as one.
    #[error(
        "append {attempt:?} is not one in the log: what is said at {at} of the end of the append is wrong"
    )]
    Split {
        /// The append.
        attempt: AttemptId,
        /// Position of the event.
        at: Position,
    },
    /// Two appends were answered with the same place.
    #[error("position {at} was acknowledged twice, to {first:?} and to {second:?}")]
    Twice {
        /// The append that comes first.
        first: AttemptId,
        /// The other.
        second: AttemptId,
        /// Position that both were answered with.
        at: Position,
    },
    /// An event that nobody appended, or a part of one append whose answer is unknown, or a second
    /// copy of it.
    #[error("the event at {at} belongs to no append of this history")]
    Stray {
        /// Position of the event.
        at: Position,
    },
    /// An append went through though its condition failed.
    #[error("append {attempt:?} landed after {after}, where its condition fails: {conflict}")]
    FalseSuccess {
        /// The append.
        attempt: AttemptId,
        /// The last event ordered before it.
        after: Position,
        /// Conflict that it should have been answered with.
        conflict: Conflict,
    },
    /// A conflict was reported that never was.
    #[error(
        "append {attempt:?} was refused, but nowhere from {from} to {to} is this true: {conflict}"
    )]
    FalseConflict {
        /// The append.
        attempt: AttemptId,
        /// The earliest place where it can have been judged.
        from: Position,
        /// The latest.
        to: Position,
        /// Conflict that it was answered with.
        conflict: Conflict,
    },
    /// An append was ordered before something that was acknowledged before it began.
    #[error(
        "append {attempt:?} landed after {after}, though {durable} was durable before it began"
    )]
    Early {
        /// The append.
        attempt: AttemptId,
        /// The last event ordered before it.
        after: Position,
        /// Durable end when it began.
        durable: Position,
    },
    /// An answer speaks of what was not durable when it was given.
    #[error(
        "append {attempt:?} was answered with what stands at {at}, but only {durable} was durable"
    )]
    NotDurable {
        /// The append.
        attempt: AttemptId,
        /// Position of the last event that the answer speaks of.
        at: Position,
        /// The durable end when it was given.
        durable: Position,
    },
    /// One command id took effect twice.
    #[error("appends {first:?} and {second:?} took effect under one command id")]
    CommandTwice {
        /// One append.
        first: AttemptId,
        /// The other.
        second: AttemptId,
    },
    /// A repeated answer is not the first one, or there was no first one.
    #[error(
        "append {attempt:?} was answered as repeated, but not with what its command id was answered first"
    )]
    FalseRepeat {
        /// The append.
        attempt: AttemptId,
    },
}
