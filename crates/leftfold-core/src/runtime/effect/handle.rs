//! The handle on all effects: how each one stands, waiting for one, and a person's answer where one
//! is in doubt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::intent::{self, Intent};
use super::ledger::{EffectState, Ledger};
use super::word::{CancelError, PersonsWord, ResolveError, Verdict, Word};
use super::{Effect, EffectId, word};
use crate::fold::LoadError;
use crate::runtime::consumer::status::Board;
use crate::store::{
    EventType, Invalid, Position, Query, Read, ReadError, RecordedEvent, Store, StreamName,
    Timestamp,
};

/// Effects looked at for one page of a list.
const LOOKED_AT_MAX: usize = 1_000;

/// All effects of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Effects {
    pub(in crate::runtime) store: Store,
    pub(in crate::runtime) board: Arc<Board>,
    pub(in crate::runtime) kinds: Arc<[EffectKind]>,
}

/// One kind of effect that the runtime carries out.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct EffectKind {
    pub(super) name: &'static str,
    pub(in crate::runtime) intent: EventType,
    /// The names of the intents' type in a store, the older ones too.
    names: fn(&Store, &EventType) -> Vec<EventType>,
    /// Returns the reason why this release cannot carry out such an intent of a store; `None` if it
    /// can.
    unreadable: fn(&Store, &RecordedEvent) -> Option<String>,
    /// Returns an outcome as the ledger shows it when it is recorded; `None` if it is none.
    recorded: fn(&Value) -> Option<Value>,
    pub(super) asked: mpsc::Sender<PersonsWord>,
}

impl EffectKind {
    pub(in crate::runtime) fn new<E: Effect>(
        asked: mpsc::Sender<PersonsWord>,
    ) -> Result<Self, Invalid> {
        let intent = EventType::new(E::INTENT)?;
        Ok(Self {
            name: E::NAME,
            intent,
            names: intent::names::<E>,
            unreadable: intent::unreadable::<E>,
            recorded: word::recorded::<E>,
            asked,
        })
    }

    /// The names under which its intents stand in a store now: an owner of their type that came
    /// into use since may know older ones.
    fn names_in(&self, store: &Store) -> Vec<EventType> {
        (self.names)(store, &self.intent)
    }
}

/// State of one effect, read from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectStatus {
    /// Id of the effect.
    pub id: EffectId,
    /// Name of its kind.
    pub name: &'static str,
    /// The stream of the event that asks for it.
    pub stream: Option<StreamName>,
    /// The data of that event.
    pub intent: Value,
    /// Time at which it was asked for.
    pub requested_at: Timestamp,
    /// State of the effect.
    pub state: EffectState,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Reason why the target refused the report of the outcome; `None` if it did not.
    pub report_refused: Option<String>,
}

/// Choice of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EffectFilter {
    /// Every one.
    #[default]
    All,
    /// Those that are not concluded.
    Open,
    /// Those that are in doubt.
    InDoubt,
    /// Those that are concluded.
    Concluded,
}

impl EffectFilter {
    fn admits(self, state: &EffectState) -> bool {
        match self {
            Self::All => true,
            Self::Open => !state.is_concluded(),
            Self::InDoubt => matches!(state, EffectState::InDoubt { .. }),
            Self::Concluded => state.is_concluded(),
        }
    }
}

/// A page of effects.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectPage {
    /// The effects, the oldest first.
    pub effects: Vec<EffectStatus>,
    /// Last effect of this page, after which the next page begins; `None` at the end.
    pub next: Option<EffectId>,
}

impl Effects {
    /// Returns the state of an effect; `None` if the position holds no intent of this runtime's
    /// effects.
    pub async fn find(&self, id: EffectId) -> Result<Option<EffectStatus>, LoadError> {
        let Some((kind, event)) = self.intent(id).await? else { return Ok(None) };
        let unreadable = (kind.unreadable)(&self.store, &event);
        let mut ledger = match Ledger::load(&self.store, id).await {
            Err(LoadError::Event(error)) => Ledger::unreadable(id, &error)?,
            ledger => ledger?,
        };
        if let (Some(reason), EffectState::Pending | EffectState::Waiting { .. }) =
            (unreadable, &ledger.state)
        {
            ledger.state = EffectState::Parked { reason };
        }
        Ok(Some(EffectStatus {
            id,
            name: kind.name,
            stream: event.stream.map(|at| at.name),
            intent: serde_json::from_slice(&event.data).unwrap_or_default(),
            requested_at: event.recorded_at,
            state: ledger.state,
            attempts: ledger.attempts,
            report_refused: ledger.report_refused,
        }))
    }

    /// Returns the state of an effect as soon as it is concluded, in doubt or parked, whichever
    /// process carries it out; when the time is up, the state at that moment.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod bank {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/bank.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use bank::SendToBank;
    /// use leftfold_core::runtime::{EffectId, EffectState, Performed, Policy, Runtime};
    /// use leftfold_core::store::Store;
    /// use wallet::{Payout, Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let answer = |_: &_| Performed::Done("B1".to_owned());
    /// let bank = SendToBank { policy: Policy::once(), answer };
    /// let runtime = Runtime::new(&store).effect(bank).start().await?;
    /// let payout = Payout { iban: "DE02".to_owned(), cents: 300 };
    /// let asked = [WalletEvent::PayoutRequested(payout)];
    /// let asked = store.aggregate::<Wallet>().record("ada", &asked).await?.last();
    ///
    /// let status = runtime.effects().wait(EffectId(asked), Duration::from_secs(5)).await?;
    /// match status.ok_or("it is an effect")?.state {
    ///     EffectState::Done { outcome, .. } => assert_eq!(outcome, "B1"),
    ///     state => panic!("the bank answers at once, and not {state:?}"),
    /// }
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn wait(
        &self,
        id: EffectId,
        within: Duration,
    ) -> Result<Option<EffectStatus>, LoadError> {
        let settled = async {
            let mut ledger = self.store.subscribe(Query::stream(Ledger::stream(id)?), id.0);
            loop {
                match self.find(id).await? {
                    Some(status) if status.state.is_settled() => return Ok(Some(status)),
                    None => return Ok(None),
                    Some(_) => drop(ledger.event().await?),
                }
            }
        };
        match timeout(within, settled).await {
            Ok(status) => status,
            Err(_) => self.find(id).await,
        }
    }

    /// Effects after one of them, the oldest first. A page may be short and still not the last.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod bank {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/bank.rs"));
    /// # }
    /// use bank::SendToBank;
    /// use leftfold_core::runtime::{EffectFilter, EffectId, Performed, Policy, Runtime};
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let answer = |_: &_| Performed::Done("B1".to_owned());
    /// let bank = SendToBank { policy: Policy::once(), answer };
    /// let runtime = Runtime::new(&Store::memory()).effect(bank).start().await?;
    /// // All effects in doubt, for a person.
    /// let (mut doubts, mut after) = (Vec::new(), Some(EffectId::default()));
    /// while let Some(id) = after {
    ///     let page = runtime.effects().list(EffectFilter::InDoubt, id, 100).await?;
    ///     doubts.extend(page.effects);
    ///     after = page.next;
    /// }
    /// assert!(doubts.is_empty());
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn list(
        &self,
        filter: EffectFilter,
        after: EffectId,
        at_most: usize,
    ) -> Result<EffectPage, LoadError> {
        let at_most = at_most.max(1);
        let candidates = match filter {
            EffectFilter::Open | EffectFilter::InDoubt => self.open_after(after).await?,
            EffectFilter::All | EffectFilter::Concluded => self.recorded_after(after).await?,
        };
        let mut page = EffectPage { effects: Vec::new(), next: None };
        let whole = candidates.len() < LOOKED_AT_MAX;
        for (index, id) in candidates.iter().enumerate() {
            if let Some(status) = self.find(*id).await?
                && filter.admits(&status.state)
            {
                page.effects.push(status);
            }
            let more = index + 1 < candidates.len() || !whole;
            if more && (page.effects.len() >= at_most || index + 1 == candidates.len()) {
                page.next = Some(*id);
                break;
            }
        }
        Ok(page)
    }

    /// Records a person's statement about an effect in doubt, and their name. It must be in doubt,
    /// and its attempt's deadline must have passed. The target hears of it as of any outcome. If it
    /// is being looked up, the first to know counts.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod bank {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/bank.rs"));
    /// # }
    /// # use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use bank::SendToBank;
    /// use leftfold_core::runtime::{EffectId, EffectState, Performed, Policy, Runtime};
    /// use leftfold_core::runtime::{ResolveError, Verdict};
    /// use leftfold_core::store::Store;
    /// use wallet::{Payout, Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, clock) = (Store::memory(), Arc::new(leftfold_testing::HandClock::going()));
    /// # let answer = |_: &_| Performed::InDoubt { reason: "no answer".to_owned() };
    /// # let bank = SendToBank { policy: Policy::once(), answer };
    /// # let runtime = Runtime::new(&store).clock(clock.clone()).effect(bank).start().await?;
    /// # let payout = Payout { iban: "DE02".to_owned(), cents: 300 };
    /// # let asked = [WalletEvent::PayoutRequested(payout)];
    /// # let payout = EffectId(store.aggregate::<Wallet>().record("ada", &asked).await?.last());
    /// let effects = runtime.effects();
    /// let status = effects.wait(payout, Duration::from_secs(5)).await?.ok_or("it is one")?;
    /// assert!(matches!(status.state, EffectState::InDoubt { .. }));
    /// # clock.advance(Duration::from_secs(60));
    ///
    /// // Bob has asked the bank by telephone, after the deadline.
    /// let verdict = Verdict::Done("B1".into());
    /// let resolved = loop {
    ///     match effects.resolve(payout, verdict.clone(), "bob").await {
    ///         Err(ResolveError::Busy { .. }) => tokio::task::yield_now().await,
    ///         resolved => break resolved?,
    ///     }
    /// };
    /// assert!(matches!(resolved.state, EffectState::Done { by, .. } if by == "bob"));
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn resolve(
        &self,
        id: EffectId,
        verdict: Verdict,
        by: &str,
    ) -> Result<EffectStatus, ResolveError> {
        let failed = |error: LoadError| ResolveError::Store { detail: error.to_string() };
        let found = self.intent(id).await.map_err(|error| failed(error.into()))?;
        let (kind, event) = found.ok_or(ResolveError::NotOpen { id })?;
        let (answer, answered) = oneshot::channel();
        let asked = PersonsWord {
            intent: Intent { id, event },
            by: by.to_owned(),
            word: Word::Verdict(verdict, answer),
        };
        kind.asked.send(asked).await.map_err(|_| ResolveError::Stopped)?;
        answered.await.map_err(|_| ResolveError::Stopped)??;
        self.find(id).await.map_err(failed)?.ok_or(ResolveError::NotOpen { id })
    }

    /// Records that a person no longer wants an effect, with their name and reason, if no attempt
    /// at it is under way or in doubt. The target hears of it as of any effect that did not take
    /// place. One whose earlier attempts are in doubt is not tried again, and stays in doubt.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod bank {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/bank.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use bank::SendToBank;
    /// use leftfold_core::runtime::{EffectId, EffectState, Performed, Policy, Runtime};
    /// use leftfold_core::store::{Position, Store};
    /// use wallet::{Payout, Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Store::memory();
    /// # let answer = |_: &_| Performed::InDoubt { reason: "no answer".to_owned() };
    /// // The second payout of a wallet waits until it is known what became of the first.
    /// let bank = SendToBank { policy: Policy::once().doubts_hold(), answer };
    /// # let runtime = Runtime::new(&store).effect(bank).start().await?;
    /// let payout = WalletEvent::PayoutRequested(Payout { iban: "DE02".to_owned(), cents: 300 });
    /// store.aggregate::<Wallet>().record("ada", &[payout.clone(), payout]).await?;
    /// let (first, second) = (EffectId(Position(1)), EffectId(Position(2)));
    /// let effects = runtime.effects();
    /// effects.wait(first, Duration::from_secs(5)).await?;
    ///
    /// let cancelled = effects.cancel(second, "the account was closed", "bob").await?;
    /// assert!(matches!(cancelled.state, EffectState::NotDone { by, .. } if by == "bob"));
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn cancel(
        &self,
        id: EffectId,
        reason: &str,
        by: &str,
    ) -> Result<EffectStatus, CancelError> {
        let failed = |error: LoadError| CancelError::Store { detail: error.to_string() };
        let found = self.intent(id).await.map_err(|error| failed(error.into()))?;
        let (kind, event) = found.ok_or(CancelError::NotOpen { id })?;
        let (answer, answered) = oneshot::channel();
        let asked = PersonsWord {
            intent: Intent { id, event },
            by: by.to_owned(),
            word: Word::Cancel(reason.to_owned(), answer),
        };
        kind.asked.send(asked).await.map_err(|_| CancelError::Stopped)?;
        answered.await.map_err(|_| CancelError::Stopped)??;
        self.find(id).await.map_err(failed)?.ok_or(CancelError::NotOpen { id })
    }

    /// Looks up at once the effects that are in doubt and past their deadlines: the outside world
    /// has come back. Effects that wait to be tried again keep waiting, so that no attempt is
    /// spent. Those that wait for a process that has them [here](Effect::is_here) are asked again.
    pub fn look_again(&self) {
        self.board.look_again();
    }

    /// Tells whether an outcome that a person gives is the one that is recorded of an effect.
    pub(in crate::runtime) fn is_outcome(
        &self,
        effect: &str,
        given: &Value,
        recorded: &Value,
    ) -> bool {
        let kind = self.kinds.iter().find(|kind| kind.name == effect);
        kind.and_then(|kind| (kind.recorded)(given)).as_ref() == Some(recorded)
    }

    /// The kinds with the event types that ask for each in this store.
    fn named(&self) -> Vec<(&EffectKind, Vec<EventType>)> {
        self.kinds.iter().map(|kind| (kind, kind.names_in(&self.store))).collect()
    }

    /// The event that asks for an effect.
    async fn intent(
        &self,
        id: EffectId,
    ) -> Result<Option<(&EffectKind, RecordedEvent)>, ReadError> {
        if id.0 == Position::START {
            return Ok(None);
        }
        let named = self.named();
        let page = self.store.page(Read::matching(of_any(&named), id.0).page_of(1)).await?;
        let Some(event) = page.events.into_iter().next().filter(|event| event.position == id.0)
        else {
            return Ok(None);
        };
        let kind = named.into_iter().find(|(_, names)| names.contains(&event.event_type));
        Ok(kind.map(|(kind, _)| (kind, event)))
    }

    /// Returns the effects that were taken up and are not concluded, and everything that was not
    /// taken up so far.
    async fn open_after(&self, after: EffectId) -> Result<Vec<EffectId>, ReadError> {
        // In this order: what is taken up in between is in both.
        let taken_up = self.board.taken_up(self.kinds.iter().map(|kind| kind.name));
        let mut open: BTreeSet<EffectId> =
            self.board.open_after(after, LOOKED_AT_MAX).into_iter().collect();
        open.extend(self.recorded_after(after.max(EffectId(taken_up))).await?);
        Ok(open.into_iter().take(LOOKED_AT_MAX).collect())
    }

    async fn recorded_after(&self, after: EffectId) -> Result<Vec<EffectId>, ReadError> {
        let mut ids = Vec::new();
        let mut intents = self.store.read(Read::matching(of_any(&self.named()), after.0.next()));
        while ids.len() < LOOKED_AT_MAX
            && let Some(page) = intents.page().await?
        {
            ids.extend(page.iter().map(|event| EffectId(event.position)));
        }
        ids.truncate(LOOKED_AT_MAX);
        Ok(ids)
    }
}

/// The query for all events that ask for an effect.
fn of_any(named: &[(&EffectKind, Vec<EventType>)]) -> Query {
    Query::types(named.iter().flat_map(|(_, names)| names.iter().cloned()))
}
