//! Effects that only some process can carry out, such as the one that has the socket: see
//! [`Policy::only_here`](super::Policy::only_here).
//!
//! Every runtime takes up all intents of the kind, and touches only those that are here. One of
//! them holds the lease of the kind: it judges what no process speaks for, and records the progress
//! of the kind. An intent, as one runtime sees it:
//!
//! ```text
//! elsewhere ──is here──▶ pending | waiting ──attempt──▶ in flight ──▶ done | not done | in doubt
//!     │                        ▲                            │
//!     │                        └────── failed, again ◀──────┘
//!     └──nowhere for too long: the holder of the lease──▶ not done
//! ```
//!
//! - Attempts are opened without the lease, by whoever has the intent here, on condition that the
//!   ledger is as it was read: of two that try, one does, and the other one reads the ledger again.
//! - An open attempt belongs to the runtime that opened it until its deadline, and
//!   [`ATTEMPT_GRACE`] longer, wherever its target moves: no other one touches it. What came of it
//!   is recorded by the runtime that knows it.
//! - After that it is in doubt, which the holder of the lease records, or a runtime that has it
//!   here. It is looked up where it is here. One in doubt that is nowhere waits for a person.
//! - An intent that is elsewhere keeps its place in its order. It is asked again if it is here when
//!   the application says that something came back
//!   ([`Effects::look_again`](super::Effects::look_again)), and every second; its ledger is read
//!   after longer and longer waits, to learn how it ended elsewhere.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::attempt::Conclusion;
use super::intent::Intent;
use super::ledger::{EffectState, Ledger};
use super::queue::Rest;
use super::turn::{ATTEMPT_GRACE, EffectTurns, NextTurn, RUNTIME, TurnError, TurnRight};
use super::{Effect, EffectId};
use crate::runtime::consumer::message;
use crate::store::Timestamp;

/// Time after which intents that are elsewhere are asked again if they are here, though nothing was
/// said.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Bytes of the intents elsewhere that are kept to be asked; further ones are asked when their
/// ledgers are read.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// The shortest and the longest wait before the ledger of an intent elsewhere is read again.
const LEDGER_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// The shortest wait before the ledger is read again of an attempt that another runtime has open.
const ATTEMPT_WAIT_MIN: Duration = Duration::from_millis(100);

/// Place of an intent, as its effect says.
enum Whereabouts<I> {
    Here,
    Elsewhere(I),
    /// It cannot be read.
    Unknown,
}

impl<E: Effect> EffectTurns<E> {
    /// Tells whether every runtime of the kind works, each on what it has here.
    pub(super) fn is_local(&self) -> bool {
        self.policy.here_within.is_some()
    }

    fn whereabouts(&self, intent: &Intent) -> Whereabouts<E::Intent> {
        if !self.is_local() {
            return Whereabouts::Here;
        }
        match self.intents.payload(&intent.event) {
            Ok(payload) if self.says_here(intent.id, &payload) => Whereabouts::Here,
            Ok(payload) => Whereabouts::Elsewhere(payload),
            Err(_) => Whereabouts::Unknown,
        }
    }

    /// Asks users' code; a panic is no.
    pub(super) fn says_here(&self, id: EffectId, intent: &E::Intent) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.effect.is_here(intent))).unwrap_or_else(|panic| {
            let panic = message(&*panic);
            tracing::error!(effect = E::NAME, %id, %panic, "is_here panicked, so the intent is elsewhere");
            false
        })
    }

    /// Returns the next turn of an intent that waits for an attempt and is not here; `None` if it
    /// is. One that nobody can read is the holder's.
    pub(super) async fn if_elsewhere(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        right: &TurnRight,
    ) -> Result<Option<NextTurn<E>>, TurnError> {
        let (Some(within), now) = (self.policy.here_within, self.now()) else { return Ok(None) };
        let payload = match self.whereabouts(intent) {
            Whereabouts::Here => return Ok(None),
            Whereabouts::Unknown if right.judges() => return Ok(None),
            Whereabouts::Unknown => None,
            Whereabouts::Elsewhere(payload) => Some(payload),
        };
        let since = match ledger.state {
            EffectState::Waiting { again_at, .. } => again_at,
            _ => intent.event.recorded_at,
        };
        let over = since.plus(within);
        if right.judges() && now >= over {
            return self.nowhere(intent, ledger, within).await.map(Some);
        }
        let until = now.plus(ledger_wait(now, since));
        let until = if right.judges() { until.min(over) } else { until };
        Ok(Some(self.rests_elsewhere(until, payload)))
    }

    /// Ends an effect that nobody could carry out.
    async fn nowhere(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        within: Duration,
    ) -> Result<NextTurn<E>, TurnError> {
        let reason = format!("no process could carry it out within {within:?}");
        if let Some(doubted) = ledger.doubts(self.unsaid()).last() {
            return self.doubt(ledger, doubted.number, reason).await;
        }
        let attempt = self.intents.attempt(intent, ledger, ledger.attempts, self.now());
        let attempt = attempt.as_ref().map_err(Clone::clone);
        self.conclude(attempt, ledger, Conclusion::NotDone { reason }, RUNTIME).await
    }

    /// Returns the next turn while the attempt of another runtime is open; `None` if this one is to
    /// record that it is in doubt.
    pub(super) fn while_in_flight(
        &self,
        intent: &Intent,
        deadline: Timestamp,
        right: &TurnRight,
    ) -> Option<NextTurn<E>> {
        let (now, given_up_at) = (self.now(), deadline.plus(ATTEMPT_GRACE));
        if now >= given_up_at {
            let is_for_others =
                !right.judges() && !matches!(self.whereabouts(intent), Whereabouts::Here);
            return is_for_others
                .then(|| self.rests_elsewhere(now.plus(ledger_wait(now, deadline)), None));
        }
        // Another runtime may record its outcome at any time: what waits behind it goes on then.
        if !self.is_local() && matches!(right, TurnRight::Alone) {
            return Some(self.again_at(given_up_at));
        }
        let taken = now.since(deadline.minus(self.policy.deadline));
        let wait = taken.clamp(ATTEMPT_WAIT_MIN, LEDGER_WAITS[1]);
        Some(self.again_at(now.plus(wait).min(given_up_at)))
    }

    /// Returns the next turn of an effect in doubt that is not here, and so is not looked up;
    /// `None` if it is.
    pub(super) fn if_doubted_elsewhere(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        since: Timestamp,
    ) -> Option<NextTurn<E>> {
        let payload = match self.whereabouts(intent) {
            Whereabouts::Here => return None,
            Whereabouts::Elsewhere(payload) => Some(payload),
            Whereabouts::Unknown => None,
        };
        let now = self.now();
        let until = now.plus(ledger_wait(now, since));
        Some(NextTurn::Elsewhere { rest: self.doubt_rest(ledger, until), intent: payload })
    }

    fn rests_elsewhere(&self, until: Timestamp, intent: Option<E::Intent>) -> NextTurn<E> {
        NextTurn::Elsewhere { rest: Rest::in_place(until), intent }
    }
}

/// The longer it has been elsewhere, the longer until its ledger is read again.
fn ledger_wait(now: Timestamp, since: Timestamp) -> Duration {
    now.since(since).clamp(LEDGER_WAITS[0], LEDGER_WAITS[1])
}

/// The intents elsewhere that are kept to be asked again.
#[derive(Debug)]
pub(super) struct Elsewhere<I> {
    intents: BTreeMap<EffectId, (I, usize)>,
    bytes: usize,
    /// Moment at which all of them are asked again.
    asks_at: Timestamp,
}

impl<I> Default for Elsewhere<I> {
    fn default() -> Self {
        Self { intents: BTreeMap::new(), bytes: 0, asks_at: Timestamp::MIN }
    }
}

impl<I> Elsewhere<I> {
    pub(super) fn keep(&mut self, id: EffectId, intent: I, bytes: usize, now: Timestamp) {
        if self.bytes + bytes > KEPT_BYTES_MAX {
            return;
        }
        if self.intents.is_empty() {
            self.asks_at = now.plus(ASKED_EVERY);
        }
        self.bytes += bytes;
        self.intents.insert(id, (intent, bytes));
    }

    pub(super) fn remove(&mut self, id: EffectId) {
        self.bytes -= self.intents.remove(&id).map_or(0, |(_, bytes)| bytes);
    }

    pub(super) fn contains(&self, id: EffectId) -> bool {
        self.intents.contains_key(&id)
    }

    /// Returns the moment at which to ask; `None` if nothing is elsewhere.
    pub(super) fn asks_at(&self) -> Option<Timestamp> {
        (!self.intents.is_empty()).then_some(self.asks_at)
    }

    /// Returns those that are here by now.
    pub(super) fn ask(
        &mut self,
        now: Timestamp,
        is_here: impl Fn(EffectId, &I) -> bool,
    ) -> Vec<EffectId> {
        self.asks_at = now.plus(ASKED_EVERY);
        let is_here =
            |(id, (intent, _)): (&EffectId, &(I, usize))| is_here(*id, intent).then_some(*id);
        self.intents.iter().filter_map(is_here).collect()
    }
}
