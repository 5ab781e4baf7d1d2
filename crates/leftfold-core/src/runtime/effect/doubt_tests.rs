//! Every order of what may happen to the attempts at an effect, and how it ends.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::intent::Intent;
use super::ledger::{EffectState, Ledger};
use super::queue::TurnKind;
use super::turn::{ATTEMPT_GRACE, EffectTurns, NextTurn, TurnRight};
use super::word::{PersonsWord, Verdict, Word};
use super::{Attempt, Conclusion, Effect, EffectId, Performed, Policy};
use crate::fold::{Aggregate, Event};
use crate::runtime::Host;
use crate::runtime::clock::Clock;
use crate::runtime::clock::HandClock;
use crate::store::Store;

const DEADLINE: Duration = Duration::from_secs(30);
const LENGTH_MAX: usize = 4;

/// What happens to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Done,
    /// An outcome too: the world outside says no.
    Refused,
    NotDone,
    InDoubt,
    Panic,
    Deadline,
    Crash,
}

const ALL: [Happens; 7] = [
    Happens::Done,
    Happens::Refused,
    Happens::NotDone,
    Happens::InDoubt,
    Happens::Panic,
    Happens::Deadline,
    Happens::Crash,
];

/// How a doubt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    LookedUpDone,
    LookedUpNotDone,
    PersonSaysDone,
    PersonSaysNotDone,
    Nobody,
}

const ENDINGS: [Ending; 5] = [
    Ending::LookedUpDone,
    Ending::LookedUpNotDone,
    Ending::PersonSaysDone,
    Ending::PersonSaysNotDone,
    Ending::Nobody,
];

/// How an effect ends, by the table in the documentation of [`Effect`]; none where it needs more to
/// happen.
fn expected(
    happens: &[Happens],
    once: bool,
    attempts_max: usize,
    ending: Ending,
) -> Option<&'static str> {
    let mut doubts = 0;
    for (index, one) in happens.iter().enumerate() {
        let has_more = index + 1 < attempts_max;
        match one {
            Happens::Done => return Some("done"),
            Happens::Refused => return Some("refused"),
            Happens::NotDone if has_more && (doubts == 0 || !once) => continue,
            Happens::NotDone if doubts == 0 => return Some("not done"),
            Happens::NotDone => {}
            _ => {
                doubts += 1;
                if has_more && !once {
                    continue;
                }
            }
        }
        match ending {
            Ending::LookedUpNotDone if has_more => doubts = 0,
            Ending::LookedUpNotDone | Ending::PersonSaysNotDone => return Some("not done"),
            Ending::LookedUpDone | Ending::PersonSaysDone => return Some("done"),
            Ending::Nobody => return Some("in doubt"),
        }
    }
    None
}

/// A payment that was charged and whose answer was lost, and that was refused when it was tried
/// again, used to end as not done: customers were charged, and their orders cancelled.
#[test]
fn a_doubt_is_never_forgotten_in_any_order_of_what_happens() {
    let mut walked = 0;
    for (once, attempts) in [(true, 1), (true, 4), (false, 1), (false, 2), (false, 4)] {
        for ending in ENDINGS {
            let mut all: Vec<Vec<Happens>> = ALL.iter().map(|one| vec![*one]).collect();
            while let Some(happens) = all.pop() {
                walked += 1;
                match expected(&happens, once, attempts, ending) {
                    Some(end) => {
                        let ended = World::new(&happens, once, attempts, ending).run();
                        assert_eq!(
                            ended, end,
                            "{happens:?} with {attempts} attempts, once: {once}, {ending:?}"
                        );
                    }
                    None if happens.len() < LENGTH_MAX => {
                        all.extend(ALL.iter().map(|one| [happens.as_slice(), &[*one]].concat()));
                    }
                    None => {}
                }
            }
        }
    }
    assert!(walked > 5_000, "{walked}");
}

/// One effect, and what happens to it.
struct World {
    clock: Arc<HandClock>,
    host: Host,
    payer: Payer,
    id: EffectId,
}

impl World {
    fn new(happens: &[Happens], once: bool, attempts: usize, ending: Ending) -> Self {
        let store = Store::memory();
        let clock = Arc::new(HandClock::default());
        let id = EffectId(now(store.aggregate::<Account>().execute("1", ())).unwrap().position);
        let policy = if once { Policy::once() } else { Policy::repeatable() };
        let policy = policy.attempts(attempts as u32).deadline(DEADLINE);
        let happens = Arc::new(Mutex::new(happens.iter().rev().copied().collect()));
        let payer = Payer { policy, happens, ending, told: Arc::default(), keys: Arc::default() };
        Self { host: Host::new(store, clock.clone()), clock, payer, id }
    }

    /// Takes turns until it is concluded or nothing more is known.
    fn run(&self) -> String {
        let mut looks = 0;
        loop {
            // A process that is started anew knows nothing but the log.
            let turns = EffectTurns::new(self.host.clone(), self.payer.clone()).unwrap();
            let intent = now(turns.intents.find(self.id)).unwrap().unwrap();
            let next = match self.state() {
                EffectState::InDoubt { .. }
                    if matches!(
                        self.payer.ending,
                        Ending::PersonSaysDone | Ending::PersonSaysNotDone
                    ) =>
                {
                    self.clock.advance(DEADLINE);
                    self.person_says(&turns, intent)
                }
                EffectState::InDoubt { .. } => {
                    looks += 1;
                    self.take(turns.look(&intent))
                }
                _ => {
                    looks = 0;
                    self.take(turns.take(&intent, TurnRight::Alone))
                }
            };
            match next {
                Some(NextTurn::Concluded) => return self.ended(),
                Some(NextTurn::Rests(rest)) if rest.kind == TurnKind::Look && looks > 1 => {
                    return "in doubt".to_owned();
                }
                Some(NextTurn::Rests(rest)) => self.clock.set(rest.until.max(self.clock.now())),
                Some(_) => panic!("nothing fails here"),
                None => {}
            }
        }
    }

    /// Waits for a turn: if it has no end, until its deadline; if the process is to crash, not at
    /// all.
    fn take(&self, turn: impl Future<Output = NextTurn<Payer>>) -> Option<NextTurn<Payer>> {
        let mut turn = pin!(turn);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(next) = turn.as_mut().poll(&mut context) {
            return Some(next);
        }
        if self.payer.happens.lock().unwrap().last() == Some(&Happens::Crash) {
            self.payer.happens.lock().unwrap().pop();
            self.clock.advance(DEADLINE + ATTEMPT_GRACE);
            return None;
        }
        self.clock.advance(DEADLINE);
        let Poll::Ready(next) = turn.poll(&mut context) else { panic!("its deadline has passed") };
        Some(next)
    }

    fn person_says(&self, turns: &EffectTurns<Payer>, intent: Intent) -> Option<NextTurn<Payer>> {
        let verdict = match self.payer.ending {
            Ending::PersonSaysDone => Verdict::Done("done".into()),
            _ => Verdict::NotDone { reason: "the bank says so".into() },
        };
        let (answer, mut answered) = oneshot::channel();
        let next = now(turns.hear(PersonsWord {
            intent,
            by: "ann".into(),
            word: Word::Verdict(verdict, answer),
        }));
        assert_eq!(answered.try_recv().unwrap(), Ok(()));
        Some(next)
    }

    fn state(&self) -> EffectState {
        now(Ledger::load(&self.host.store, self.id)).unwrap().state
    }

    fn ended(&self) -> String {
        let keys = self.payer.keys.lock().unwrap();
        assert!(keys.windows(2).all(|two| two[0] == two[1]), "one key for all attempts");
        let told = self.payer.told.lock().unwrap().clone();
        let recorded = match self.state() {
            EffectState::Done { outcome, .. } => outcome.as_str().unwrap().to_owned(),
            EffectState::NotDone { .. } => "not done".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            told,
            std::slice::from_ref(&recorded),
            "the target hears what is recorded, once"
        );
        recorded
    }
}

/// The answer of something that never waits here.
fn now<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing waits here"),
    }
}

/// Pays, as it is told.
#[derive(Clone)]
struct Payer {
    policy: Policy,
    /// What happens to the attempts, the last one first.
    happens: Arc<Mutex<Vec<Happens>>>,
    ending: Ending,
    told: Arc<Mutex<Vec<String>>>,
    keys: Arc<Mutex<Vec<Uuid>>>,
}

impl Effect for Payer {
    const NAME: &'static str = "pay";
    const INTENT: &'static str = "account.PaymentAsked";
    type Intent = Payment;
    type Outcome = String;
    type Target = Account;

    fn policy(&self) -> Policy {
        self.policy
    }

    async fn perform(&self, attempt: &Attempt<Payment>) -> Performed<String> {
        self.keys.lock().unwrap().push(attempt.idempotency_key());
        assert_eq!(attempt.earlier().count(), attempt.number as usize - 1);
        let last = *self.happens.lock().unwrap().last().unwrap();
        if last != Happens::Crash {
            self.happens.lock().unwrap().pop();
        }
        let reason = "?".to_owned();
        match last {
            Happens::Done => Performed::Done("done".to_owned()),
            Happens::Refused => Performed::Done("refused".to_owned()),
            Happens::NotDone => Performed::NotDone { reason },
            Happens::InDoubt => Performed::InDoubt { reason },
            Happens::Panic => std::panic::resume_unwind(Box::new("no hook is told of this")),
            Happens::Deadline | Happens::Crash => std::future::pending().await,
        }
    }

    async fn resolve(&self, attempt: &Attempt<Payment>) -> Performed<String> {
        assert!(
            attempt.doubts().any(|tried| tried.number == attempt.number),
            "only what is in doubt is looked up"
        );
        let reason = "?".to_owned();
        match self.ending {
            Ending::LookedUpDone => Performed::Done("done".to_owned()),
            Ending::LookedUpNotDone => Performed::NotDone { reason },
            _ => Performed::InDoubt { reason },
        }
    }

    fn report(
        &self,
        _: &Attempt<Payment>,
        conclusion: &Conclusion<String>,
    ) -> Option<(String, ())> {
        self.told.lock().unwrap().push(match conclusion {
            Conclusion::Done(outcome) => outcome.clone(),
            Conclusion::NotDone { .. } => "not done".to_owned(),
        });
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    PaymentAsked(Payment),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Payment {
    cents: u32,
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("never")]
struct Never;

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = ();
    type Refusal = Never;

    fn apply(&mut self, _: &AccountEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<AccountEvent>, Never> {
        Ok(vec![AccountEvent::PaymentAsked(Payment { cents: 500 })])
    }
}
