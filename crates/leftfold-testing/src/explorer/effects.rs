//! Effects of a simulation: the runtime's own runner over a world outside that does what the
//! schedule says.

use std::sync::Arc;

use leftfold_core::drive::HandClock;
use leftfold_core::fold::Aggregate;
use leftfold_core::runtime::{Attempt, Begin, Conclusion, Effect, Order, Performed, Policy};
use leftfold_core::store::{MemoryBackend, RecordedEvent};

use super::outside::Outside;
use super::shown;
use super::store::{OperationSubject, SharedSimulation};

/// Number of lookups that may not find out the result of an attempt in doubt; the next one does.
const LOOKS_IN_VAIN_MAX: u8 = 2;

/// An effect that is scripted instead of performed.
pub(super) struct ScriptedEffect<E: Effect> {
    pub(super) effect: Arc<E>,
    pub(super) outcomes: Arc<[Performed<E::Outcome>]>,
    pub(super) shared: Arc<SharedSimulation>,
    pub(super) clock: Arc<HandClock>,
    pub(super) outside: Outside,
}

/// Events in the outside world when an attempt is made.
#[derive(Clone)]
struct OutsideReaction<O> {
    takes_place: bool,
    /// Answer of the outside world; `None` if none comes before the deadline.
    answer: Option<Performed<O>>,
}

impl<O> OutsideReaction<O> {
    fn words(&self) -> String {
        let takes_place = if self.takes_place { "takes place" } else { "does not take place" };
        format!("it {takes_place}, {}", self.answered())
    }

    fn answered(&self) -> &'static str {
        match self.answer {
            Some(Performed::Done(_)) => "done",
            Some(Performed::NotDone { .. }) => "refused",
            Some(Performed::InDoubt { .. }) => "nobody knows",
            None => "no answer comes in time",
        }
    }
}

impl<E: Effect> ScriptedEffect<E> {
    /// All that can happen: the outcomes that were given, then an answer that comes too late.
    fn ways(&self) -> Vec<OutsideReaction<E::Outcome>> {
        let mut ways = Vec::with_capacity(self.outcomes.len() + 3);
        for outcome in self.outcomes.iter() {
            let answer = Some(outcome.clone());
            match outcome {
                Performed::Done(_) => ways.push(OutsideReaction { takes_place: true, answer }),
                Performed::NotDone { .. } => {
                    ways.push(OutsideReaction { takes_place: false, answer })
                }
                Performed::InDoubt { .. } => {
                    ways.extend([true, false].map(|takes_place| OutsideReaction {
                        takes_place,
                        answer: answer.clone(),
                    }));
                }
            }
        }
        ways.extend([true, false].map(|takes_place| OutsideReaction { takes_place, answer: None }));
        ways
    }

    fn about(&self, does: &str, attempt: &Attempt<E::Intent>) -> OperationSubject {
        OperationSubject::Outside(format!(
            "{does} {} for {}",
            E::NAME,
            shown::event(&attempt.event)
        ))
    }

    /// Returns the result of looking up an attempt.
    fn found(&self, attempt: &Attempt<E::Intent>, way: u8) -> Performed<E::Outcome> {
        let done = self.outcomes.iter().find(|outcome| matches!(outcome, Performed::Done(_)));
        match (way, self.outside.was_performed(E::NAME, attempt.effect, attempt.number), done) {
            (0, true, Some(done)) => done.clone(),
            (0, false, _) => Performed::NotDone { reason: "it did not take place".to_owned() },
            _ => Performed::InDoubt { reason: "it is not known yet".to_owned() },
        }
    }
}

impl<E: Effect> Clone for ScriptedEffect<E> {
    fn clone(&self) -> Self {
        let (effect, outcomes) = (self.effect.clone(), self.outcomes.clone());
        let (shared, clock, outside) =
            (self.shared.clone(), self.clock.clone(), self.outside.clone());
        Self { effect, outcomes, shared, clock, outside }
    }
}

impl<E: Effect> Effect for ScriptedEffect<E> {
    const NAME: &'static str = E::NAME;
    const INTENT: &'static str = E::INTENT;
    type Intent = E::Intent;
    type Outcome = E::Outcome;
    type Target = E::Target;

    fn policy(&self) -> Policy {
        self.effect.policy()
    }

    /// An intent recorded before the runner has taken its first step is not treated as history.
    fn begins(&self) -> Begin {
        Begin::History
    }

    fn order(&self, intent: &E::Intent, event: &RecordedEvent) -> Order {
        self.effect.order(intent, event)
    }

    fn is_here(&self, intent: &E::Intent) -> bool {
        self.effect.is_here(intent)
    }

    async fn perform(&self, attempt: &Attempt<E::Intent>) -> Performed<E::Outcome> {
        let ways = self.ways();
        let (outside, effect, number) = (self.outside.clone(), attempt.effect, attempt.number);
        let (clock, deadline) = (self.clock.clone(), attempt.deadline);
        let about = self.about("carrying out", attempt);
        let done =
            format!("outside, {} for {}, attempt {number}", E::NAME, shown::event(&attempt.event));
        let asked = self.shared.ask(about, ways.len() as u8, move |_: &MemoryBackend, way| {
            if clock.has_been(deadline) {
                outside.say(format!("{done}: it comes too late, and does not take place"));
                return None;
            }
            let happens = ways[usize::from(way)].clone();
            if happens.takes_place {
                outside.perform(E::NAME, effect, number);
            }
            outside.say(format!("{done}: {}", happens.words()));
            happens.answer
        });
        match asked.await {
            Ok(Some(answer)) => answer,
            // No answer: the runtime waits until the deadline.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    async fn resolve(&self, attempt: &Attempt<E::Intent>) -> Performed<E::Outcome> {
        let (scripted, looked_up) = (self.clone(), attempt.clone());
        let ways =
            if self.outside.look(E::NAME, attempt.effect) < LOOKS_IN_VAIN_MAX { 2 } else { 1 };
        let about = self.about("looking up", attempt);
        let asked = self.shared.ask(about, ways, move |_: &MemoryBackend, way| {
            let found = scripted.found(&looked_up, way);
            let words =
                OutsideReaction { takes_place: false, answer: Some(found.clone()) }.answered();
            scripted.outside.say(format!(
                "outside, {} for {} is looked up: {words}",
                E::NAME,
                shown::event(&looked_up.event)
            ));
            found
        });
        asked.await.unwrap_or(Performed::InDoubt { reason: "the answer was lost".to_owned() })
    }

    fn report(
        &self,
        attempt: &Attempt<E::Intent>,
        conclusion: &Conclusion<E::Outcome>,
    ) -> Option<(String, <E::Target as Aggregate>::Command)> {
        self.effect.report(attempt, conclusion)
    }
}
