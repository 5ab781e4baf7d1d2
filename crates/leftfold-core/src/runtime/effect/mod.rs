//! Effects: the one place where the outside world is touched, after the commit.

#[cfg(test)]
mod doubt_tests;
mod handle;
mod jobs;
mod ledger;
mod mark;
mod queue;
mod runner;
mod slots;
mod turn;
mod word;

use std::fmt;
use std::future::{self, Future};
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold::Aggregate;
use crate::store::{Position, RecordedEvent, Timestamp};

pub use handle::{
    CancelError, EffectFilter, EffectPage, EffectStatus, Effects, ResolveError, Verdict,
};
pub use ledger::EffectState;
pub use runner::STOP_RECORDS_WITHIN;
pub use slots::{
    FOR_PERSON_MAX, HANGING_BYTES_MAX, HANGING_MAX, HANGS_AFTER_PART, OPEN_EFFECTS_MAX,
    UNDER_WAY_BYTES_MAX,
};
pub use turn::ATTEMPT_GRACE;

pub(super) use handle::EffectKind;
pub(crate) use handle::PersonsWord;
pub(super) use ledger::OWNER as LEDGER_OWNER;
pub(super) use ledger::shortened;
pub(crate) use ledger::{LedgerEvent, entry_of};
pub(super) use mark::OWNER as MARK_OWNER;
pub(crate) use runner::EffectRunner;

/// Something done in the outside world because an event asks for it.
///
/// The event is the *intent*. The runtime finds it behind the log and opens an *attempt*: an event
/// of its own, durable before [`perform`](Effect::perform) is called. The outcome is recorded with
/// the events that the target aggregate makes of it, in one atomic append. There is at most one
/// open attempt. An attempt that ended without a known outcome (the process was killed, the answer
/// never came) is *in doubt*, and is not repeated unless the policy says that repeating does no
/// harm: after its deadline [`resolve`](Effect::resolve) looks up what happened, or a person says
/// so.
///
/// A doubt is never forgotten. An effect ends as follows, whatever comes in between:
///
/// | what is known of its attempts | how it ends |
/// | --- | --- |
/// | one took place | done, even if others are in doubt: [`Attempt::tries`] tells `report` of them |
/// | none took place, and no further one is allowed | not done |
/// | some may have taken place, and none is known to | in doubt, until each of them was looked up as not done, or a person says what happened |
///
/// A crash, a deadline, a panic and an answer that says so are the same doubt. A person's word
/// counts for all attempts.
///
/// The window that remains: between the opening of an attempt and its outcome nobody but the
/// outside world knows whether it took place. That window is never closed by guessing.
pub trait Effect: Send + Sync + 'static {
    /// Names the effect in logs and status.
    const NAME: &'static str;
    /// The event type that asks for it, `station.RemoteStartRequested`: a variant of the target's
    /// events that carries one [`Effect::Intent`]. Events of older types are not found, even if an
    /// upcaster turns them into this one: an intent keeps its type.
    const INTENT: &'static str;
    /// Intent: the description of the thing to do.
    type Intent: DeserializeOwned + Clone + Send + Sync + 'static;
    /// Outcome of carrying it out.
    type Outcome: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// The aggregate that hears of it.
    type Target: Aggregate;

    /// Returns the limits within which it may be carried out.
    fn policy(&self) -> Policy;

    /// Returns the position from which intents are carried out when the effect is new to a store.
    /// It is recorded at the first start, so later ones go on from there. An effect that was at
    /// work here under a release that did not ask goes on as well.
    fn begins(&self) -> Begin {
        Begin::Now
    }

    /// Returns the order of an intent: of two that must stay in order, the later one waits until
    /// the earlier one is concluded. One in doubt that will not be tried again gives way, see
    /// [`Policy::doubts_hold`]. It has to give the same answer whenever it is asked.
    fn order(&self, intent: &Self::Intent, event: &RecordedEvent) -> Order {
        let _ = (intent, event);
        Order::Stream
    }

    /// Carries it out. At the attempt's deadline the future is dropped, and the attempt is in
    /// doubt. A panic, too, leaves the attempt in doubt.
    fn perform(
        &self,
        attempt: &Attempt<Self::Intent>,
    ) -> impl Future<Output = Performed<Self::Outcome>> + Send;

    /// Finds out what became of an attempt that is in doubt, without doing it again. Called after
    /// the deadlines of all attempts, and given as long as an attempt. If several are in doubt,
    /// each is looked up: the answer is about the one that is given.
    fn resolve(
        &self,
        attempt: &Attempt<Self::Intent>,
    ) -> impl Future<Output = Performed<Self::Outcome>> + Send {
        let _ = attempt;
        future::ready(Performed::InDoubt {
            reason: "nothing can be looked up, a person must say what happened".to_owned(),
        })
    }

    /// Returns the command that tells the target of the end, and the id of the target; `None` if
    /// nobody is to be told. Its events and the outcome are one append; if the target refuses, or
    /// this panics, the outcome is recorded all the same, with the refusal.
    fn report(
        &self,
        attempt: &Attempt<Self::Intent>,
        conclusion: &Conclusion<Self::Outcome>,
    ) -> Option<(String, <Self::Target as Aggregate>::Command)>;
}

/// Beginning of an effect that is new to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// From the end of the log at its first start: what was asked for before is history, and nobody
    /// waits for it.
    #[default]
    Now,
    /// From the beginning of the log: everything that was ever asked for is carried out.
    History,
}

/// Order of an intent among others. Each key has one attempt under way at most, so one that hangs
/// holds up its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// With the others of its stream; an event without one with nothing.
    #[default]
    Stream,
    /// With the others of this effect that have this key, whatever their streams: the target that
    /// may hang.
    Key(String),
    /// With nothing.
    None,
}

/// Names an effect: the position of the event that asks for it. The default stands before every
/// effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub Position);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EffectId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|position| Self(Position(position)))
    }
}

/// One try at an effect.
#[derive(Clone, Debug)]
pub struct Attempt<I> {
    /// Effect that is attempted. Its number may come again after a declared restore: for the
    /// outside world there is [`idempotency_key`](Attempt::idempotency_key).
    pub effect: EffectId,
    /// Number of the try, from 1. It is 0 if the log knows of none, after a declared restore.
    pub number: u32,
    /// The thing to do.
    pub intent: I,
    /// The event that asks for it.
    pub event: RecordedEvent,
    /// Moment at which the runtime stops waiting for it.
    pub deadline: Timestamp,
    /// Every attempt at this effect so far, the first ones first, but for this one while it is
    /// under way. Number 0 is one that the log does not know, of before a declared restore.
    pub tries: Vec<Try>,
}

impl<I> Attempt<I> {
    /// A key for services that do one thing once for one key: the same over all attempts at this
    /// effect, through crashes and in a copy of the store, and another one for every other effect,
    /// even if its position is given again after a declared restore. It is made of the id of the
    /// event that asks, so an application that brings ids for its events has to bring each one
    /// once.
    #[must_use]
    pub fn idempotency_key(&self) -> Uuid {
        self.event.id.derived("effect")
    }

    /// The attempts before this one.
    pub fn earlier(&self) -> impl Iterator<Item = &Try> {
        self.tries.iter().filter(|tried| tried.number < self.number)
    }

    /// The attempts that may have taken place: if this effect took place by another one, it may
    /// have done so twice.
    pub fn doubts(&self) -> impl Iterator<Item = &Try> {
        self.tries
            .iter()
            .filter(|tried| matches!(tried.fate, Fate::InDoubt { .. } | Fate::Unsaid { .. }))
    }
}

/// An attempt at an effect, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Number of the try.
    pub number: u32,
    /// Moment at which the runtime stopped waiting for it.
    pub deadline: Timestamp,
    /// Result of the try.
    pub fate: Fate,
}

/// Result of one attempt, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is recorded yet.
    UnderWay,
    /// It certainly did not take place.
    NotDone {
        /// Reason, for people.
        reason: String,
    },
    /// It may have taken place.
    InDoubt {
        /// Reason for the doubt, for people.
        reason: String,
    },
    /// It failed, and a release that did not ask recorded no more than that.
    Unsaid {
        /// Reason, for people.
        reason: String,
    },
}

/// The span of an attempt at an effect, or of a look at one in doubt. It continues the trace of the
/// intent.
pub(super) fn span<E: Effect>(
    event: &RecordedEvent,
    attempt: u32,
    call: &'static str,
) -> tracing::Span {
    let span = tracing::info_span!(
        "leftfold.effect",
        effect = E::NAME,
        position = event.position.0,
        attempt,
        call,
        outcome = tracing::field::Empty,
        trace_id = tracing::field::Empty,
        parent_id = tracing::field::Empty
    );
    crate::span::continues(&span, event.metadata.trace.as_ref());
    span
}

impl<O> Performed<O> {
    /// Records the result in the span of the attempt.
    pub(super) fn said(self) -> Self {
        let outcome = match &self {
            Self::Done(_) => "done",
            Self::NotDone { .. } => "not done",
            Self::InDoubt { .. } => "in doubt",
        };
        tracing::Span::current().record("outcome", outcome);
        self
    }
}

/// Result of carrying out an attempt, or of looking it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed<O> {
    /// It took place, and this came of it; a "no" of the outside world is an outcome too.
    Done(O),
    /// It certainly did not take place.
    NotDone {
        /// Reason, for people.
        reason: String,
    },
    /// It may have taken place.
    InDoubt {
        /// Reason for the doubt, for people.
        reason: String,
    },
}

/// End of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conclusion<O> {
    /// It took place, and this came of it.
    Done(O),
    /// It did not take place, and will not.
    NotDone {
        /// Reason, for people.
        reason: String,
    },
}

/// Limits and rules for carrying out an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) repetition: Repetition,
    pub(super) deadline: Duration,
    pub(super) attempts_max: u32,
    pub(super) backoff: Backoff,
    pub(super) concurrency: usize,
    pub(super) hanging: usize,
    pub(super) doubts_hold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// An attempt in doubt is not repeated.
    Once,
    /// Repeating does no harm.
    Repeatable,
}

/// Wait before another try: doubled from the first to the longest, with a quarter of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Backoff {
    /// Returns the wait after a number of tries, from 1.
    pub(super) fn after(self, tries: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.longest).mul_f64(0.75 + 0.25 * fastrand::f64())
    }
}

impl Policy {
    /// Never repeated blindly: one attempt, 30 seconds, 64 at a time.
    #[must_use]
    pub const fn once() -> Self {
        Self {
            repetition: Repetition::Once,
            deadline: Duration::from_secs(30),
            attempts_max: 1,
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(600) },
            concurrency: 64,
            hanging: super::HANGING_MAX,
            doubts_hold: false,
        }
    }

    /// Repeating does no harm: at most 10 attempts of 30 seconds, 64 at a time.
    #[must_use]
    pub const fn repeatable() -> Self {
        Self { repetition: Repetition::Repeatable, attempts_max: 10, ..Self::once() }
    }

    /// Sets the time that one attempt may take. For this time the attempt belongs to the process
    /// that opened it: if that process is gone, another one waits until then (and
    /// [`ATTEMPT_GRACE`](super::ATTEMPT_GRACE) longer) before it finds the effect in doubt.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the number of attempts, at least 1. A further one is made only if all before certainly
    /// did not take place, or if repeating does no harm.
    #[must_use]
    pub const fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = if attempts_max == 0 { 1 } else { attempts_max };
        self
    }

    /// Sets the wait between attempts, and between looks at an effect in doubt: doubled from the
    /// first to the longest.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = Backoff { first, longest };
        self
    }

    /// Lets an effect in doubt keep its place until it is concluded, by a look or by a person.
    ///
    /// Otherwise it gives way to the later ones of its key as soon as it will not be tried again:
    /// then whatever became of it is over, and the order is kept. One that may be tried again keeps
    /// its place in any case.
    #[must_use]
    pub const fn doubts_hold(mut self) -> Self {
        self.doubts_hold = true;
        self
    }

    /// Sets the number of attempts that may be under way at a time, at least 1, beside those that
    /// [hang](Policy::hanging). The same number of other effects may be looked up at the same time.
    #[must_use]
    pub const fn concurrency(mut self, effects: usize) -> Self {
        self.concurrency = if effects == 0 { 1 } else { effects };
        self
    }

    /// Sets the number of hanging attempts and looks that give their slots to others: those that
    /// have taken a tenth of the deadline. With 0 they keep them, and
    /// [`concurrency`](Policy::concurrency) is the most that a target ever sees at a time; then
    /// that number of hanging ones holds up all others. [`HANGING_MAX`](super::HANGING_MAX) if not
    /// set.
    #[must_use]
    pub const fn hanging(mut self, effects: usize) -> Self {
        self.hanging = effects;
        self
    }
}
