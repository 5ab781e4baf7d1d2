//! Effects: the one place where the outside world is touched, after the commit.
//!
//! `runner` follows the log: an event that asks for an effect is taken up into the `queue`, at a
//! place behind the `mark` that it has recorded. When its turn comes and there is one of the
//! `slots`, `under_way` starts a job for it (`jobs`). A `turn` reads the `intent` and its `ledger`
//! and does what is next: it opens an `attempt` and calls the user's code, within the limits of the
//! `policy`, or looks up one in doubt. What only some processes can do waits until it is `here`.
//! `record` writes the result into the ledger, and `conclude` writes the last line of it, together
//! with what the target aggregate makes of it. People ask through the `handle`; what they say
//! arrives as a `word`, and is judged beside the turns.

mod attempt;
mod conclude;
#[cfg(test)]
mod doubt_tests;
mod handle;
mod here;
mod intent;
mod jobs;
mod ledger;
mod mark;
mod policy;
mod queue;
mod record;
mod runner;
mod slots;
mod turn;
mod under_way;
mod word;

use std::fmt;
use std::future::{self, Future};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fold::Aggregate;
use crate::store::{Position, RecordedEvent};

pub use attempt::{Attempt, Conclusion, Fate, Performed, Try};
pub use handle::{EffectFilter, EffectPage, EffectStatus, Effects};
pub use ledger::{EffectState, LedgerEvent, entry_of};
pub use policy::Policy;
pub use runner::STOP_RECORDS_WITHIN;
pub use slots::{
    FOR_PERSON_MAX, HANGING_BYTES_MAX, HANGING_MAX, HANGS_AFTER_PART, OPEN_EFFECTS_MAX,
    UNDER_WAY_BYTES_MAX,
};
pub use turn::ATTEMPT_GRACE;
pub use word::{CancelError, ResolveError, Verdict};

pub(super) use handle::EffectKind;
pub(super) use ledger::OWNER as LEDGER_OWNER;
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
///
/// Here over the wallets of [`Aggregate`](crate::fold::Aggregate). A payout that did not take place
/// is put back.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs"));
#[doc = include_str!("../../../doc/bank.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use leftfold_core::runtime::{EffectId, EffectState, Runtime};
/// # use leftfold_core::store::Store;
/// let store = Store::memory();
/// let bank = SendToBank {
///     policy: Policy::once(),
///     answer: |_| Performed::NotDone { reason: "the bank knows no such account".to_owned() },
/// };
/// let runtime = Runtime::new(&store).effect(bank).start().await?;
/// let wallets = store.aggregate::<Wallet>();
/// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
/// let payout = WalletCommand::RequestPayout(Payout { iban: "DE02".to_owned(), cents: 300 });
/// let asked = EffectId(wallets.execute("ada", payout).await?.position);
///
/// let ended = runtime.effects().wait(asked, Duration::from_secs(5)).await?.ok_or("it is one")?;
/// assert!(matches!(ended.state, EffectState::NotDone { .. }));
/// assert_eq!(wallets.load("ada").await?.state.cents, 500);
/// runtime.stop().await?;
/// # Ok(()) }
/// ```
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

    /// Tells whether this process can carry an intent out. It is asked if the policy says
    /// [`only_here`](Policy::only_here), and then again and again while the intent waits: it looks
    /// into memory and returns at once.
    ///
    /// When something has come here, the application calls [`Effects::look_again`], so that what
    /// waits for it begins at once and not within a second. Two processes may say yes, for a
    /// moment: one of them opens the attempt.
    ///
    /// ```
    /// use std::collections::HashSet;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    ///
    /// use leftfold_core::fold::{Aggregate, Event};
    /// use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Unlock {
    ///     station: String,
    /// }
    ///
    /// /// Unlocks a station through the socket that it has opened to one of several processes.
    /// struct UnlockStation {
    ///     connected: Arc<Mutex<HashSet<String>>>,
    /// }
    ///
    /// # #[derive(Clone, Serialize, Deserialize)]
    /// # enum StationEvent { UnlockAsked(Unlock) }
    /// # impl Event for StationEvent { const NAMESPACE: &'static str = "station"; }
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Station;
    /// # impl Aggregate for Station {
    /// #     const CATEGORY: &'static str = "station";
    /// #     type Event = StationEvent;
    /// #     type Command = ();
    /// #     type Refusal = std::convert::Infallible;
    /// #     fn apply(&mut self, _: &StationEvent) {}
    /// #     fn decide(&self, _: &()) -> Result<Vec<StationEvent>, Self::Refusal> { Ok(vec![]) }
    /// # }
    /// impl Effect for UnlockStation {
    ///     # const NAME: &'static str = "unlock";
    ///     # const INTENT: &'static str = "station.UnlockAsked";
    ///     # type Intent = Unlock;
    ///     # type Outcome = ();
    ///     # type Target = Station;
    ///     fn policy(&self) -> Policy {
    ///         Policy::once().only_here(Duration::from_secs(60))
    ///     }
    ///
    ///     fn is_here(&self, intent: &Unlock) -> bool {
    ///         self.connected.lock().is_ok_and(|connected| connected.contains(&intent.station))
    ///     }
    ///     # async fn perform(&self, _: &Attempt<Unlock>) -> Performed<()> { Performed::Done(()) }
    ///     # fn report(&self, _: &Attempt<Unlock>, _: &Conclusion<()>) -> Option<(String, ())> {
    ///     #     None
    ///     # }
    /// }
    /// ```
    fn is_here(&self, intent: &Self::Intent) -> bool {
        let _ = intent;
        true
    }

    /// Carries it out. At the attempt's deadline the future is dropped, and the attempt is in
    /// doubt. A panic, too, leaves the attempt in doubt.
    fn perform(
        &self,
        attempt: &Attempt<Self::Intent>,
    ) -> impl Future<Output = Performed<Self::Outcome>> + Send;

    /// Finds out what became of an attempt that is in doubt, without doing it again. Called after
    /// the deadlines of all attempts, and given as long as an attempt. If several are in doubt,
    /// each is looked up: the answer is about the one that is given. With
    /// [`only_here`](Policy::only_here) it is called where the intent is here.
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
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
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
