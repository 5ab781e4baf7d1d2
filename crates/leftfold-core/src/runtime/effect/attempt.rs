//! Attempts at an effect: one try, its result, and the end that it leads to.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Effect, EffectId};
use crate::store::{RecordedEvent, Timestamp};

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
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::runtime::Attempt;
    /// use wallet::Payout;
    ///
    /// /// The head of a request to a bank that pays once for one key.
    /// fn head(attempt: &Attempt<Payout>) -> String {
    ///     let (key, iban) = (attempt.idempotency_key(), &attempt.intent.iban);
    ///     format!("POST /payouts/{iban} HTTP/1.1\r\nIdempotency-Key: {key}\r\n\r\n")
    /// }
    /// ```
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
