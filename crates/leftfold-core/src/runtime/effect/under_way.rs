//! Work under way: turns of effects, results that are being recorded and words of people, each a
//! job beside the runner's own loop.

use std::future::Future;

use super::intent::Intent;
use super::queue::{Rest, TurnKind};
use super::runner::{EffectJob, EffectRunner, JobKind, Unrecorded};
use super::slots::{Slots, fits};
use super::turn::{EndedAttempt, NextTurn, TurnRight};
use super::word::PersonsWord;
use super::{Effect, EffectId};
use crate::runtime::consumer::backoff::{EFFECT_STORE, EFFECT_UNREADABLE};
use crate::runtime::consumer::contained;
use crate::runtime::consumer::lease::WorkTenure;

impl<E: Effect> EffectRunner<E> {
    /// Starts the turns that are ready, as far as there are slots for them. Looks have slots of
    /// their own, so a doubt never waits for attempts that hang.
    pub(super) fn start_ready(&mut self) {
        if self.stands_by.is_some() {
            return;
        }
        let now = self.host.clock.now();
        self.attempts.take_back(now);
        self.looks.take_back(now);
        while self.looks.has_room(0)
            && let Some(id) = self.queue.start(TurnKind::Look)
        {
            self.start(id, TurnKind::Look);
        }
        while self.has_slot()
            && let Some(id) = self.queue.next(TurnKind::Attempt)
            && fits(self.attempts.bytes() + self.looks.bytes(), self.queue.bytes(id))
        {
            self.queue.start(TurnKind::Attempt);
            self.start(id, TurnKind::Attempt);
        }
        // It waits for its turn, and is read again then.
        self.fresh = None;
    }

    const fn slots(&mut self, kind: TurnKind) -> &mut Slots {
        match kind {
            TurnKind::Attempt => &mut self.attempts,
            TurnKind::Look => &mut self.looks,
        }
    }

    /// Takes a turn.
    fn start(&mut self, id: EffectId, kind: TurnKind) {
        let (turns, bytes, now) = (self.turns.clone(), self.queue.bytes(id), self.host.clock.now());
        let fresh =
            self.fresh.take_if(|event| event.position == id.0).map(|event| Intent { id, event });
        let right = self.right();
        let ticket = self.slots(kind).begin(bytes, now);
        self.job(JobKind::Turn(kind, ticket), id, async move {
            let intent = match fresh {
                Some(intent) => intent,
                None => match turns.intents.find(id).await {
                    Ok(Some(intent)) => intent,
                    // Whatever is there, it is no intent of this kind.
                    Ok(None) => return NextTurn::Concluded,
                    Err(error) => {
                        return NextTurn::Failed { detail: error.to_string(), unrecorded: None };
                    }
                },
            };
            match kind {
                TurnKind::Attempt => turns.take(&intent, right).await,
                TurnKind::Look => turns.look(&intent).await,
            }
        });
    }

    /// Records the result of an attempt, if that is not under way.
    pub(super) fn record(&mut self, id: EffectId) {
        let Some(ended) = self.unrecorded.get_mut(&id).and_then(|one| one.ended.take()) else {
            return;
        };
        let turns = self.turns.clone();
        self.job(JobKind::Record, id, async move { turns.record(ended).await });
    }

    /// A person says something. That waits for no slot, as nothing outside is touched.
    pub(super) fn take_word(&mut self, asked: PersonsWord) {
        let (turns, id) = (self.turns.clone(), asked.intent.id);
        self.words += 1;
        self.job(JobKind::Word, id, async move { turns.hear(asked).await });
    }

    fn job(
        &mut self,
        kind: JobKind,
        id: EffectId,
        job: impl Future<Output = NextTurn<E>> + Send + 'static,
    ) {
        // What users' code panics with is caught where it is called; whatever else panics ends
        // nothing but this.
        self.jobs.start(async move { EffectJob { kind, id, next: contained(job).await } });
    }

    pub(super) async fn job_ended(&mut self, EffectJob { kind, id, next }: EffectJob<E>) {
        if let JobKind::Turn(kind, ticket) = kind {
            self.slots(kind).end(ticket);
            self.elsewhere.remove(id);
        }
        let next = next.unwrap_or_else(|panic| NextTurn::Failed {
            detail: format!("it panicked: {panic}"),
            unrecorded: None,
        });
        if kind == JobKind::Word {
            self.words -= 1;
            // Its next turn, if none is under way, finds what was said.
            if let NextTurn::Concluded = next {
                self.queue.is_to_be_read(id);
            }
            return;
        }
        let is_known = !matches!(next, NextTurn::Failed { unrecorded: Some(_), .. });
        if is_known {
            self.unrecorded.remove(&id);
        }
        if let NextTurn::Concluded | NextTurn::Rests(_) | NextTurn::Elsewhere { .. } = next {
            self.failures.remove(&id);
            self.trouble = None;
        }
        match next {
            NextTurn::Concluded => self.concluded(id).await,
            NextTurn::Rests(rest) => self.rests(id, rest).await,
            NextTurn::Elsewhere { rest, intent } => {
                self.keep_elsewhere(id, intent);
                self.rests(id, rest).await;
            }
            NextTurn::Parked(why) => {
                tracing::error!(effect = E::NAME, %id, why, "an effect cannot go on before a person does something");
                self.parked.insert(id, why);
                let until = self.host.clock.now().plus(EFFECT_UNREADABLE.first);
                self.queue.rests(id, Rest::in_place(until));
            }
            NextTurn::Fenced => {
                tracing::warn!(effect = E::NAME, "an effect went to another runner");
                self.tenure.iter_mut().for_each(WorkTenure::lost);
                self.forget();
            }
            NextTurn::Failed { detail, unrecorded } => self.failed(id, &detail, unrecorded),
        }
    }

    fn failed(&mut self, id: EffectId, detail: &str, unrecorded: Option<Box<EndedAttempt<E>>>) {
        tracing::error!(effect = E::NAME, %id, detail, "an effect cannot be recorded, trying again");
        self.trouble = Some(format!("effect {id} to be recorded: {detail}"));
        let now = self.host.clock.now();
        if let Some(ended) = unrecorded {
            let failures = self.unrecorded.get(&id).map_or(0, |one| one.failures) + 1;
            let again_at = now.plus(EFFECT_STORE.after(failures));
            self.unrecorded.insert(id, Unrecorded { ended: Some(ended), failures, again_at });
            return;
        }
        let failures = self.failures.entry(id).or_default();
        *failures += 1;
        let until = now.plus(EFFECT_STORE.after(*failures));
        self.queue.rests(id, Rest::in_place(until));
    }

    async fn rests(&mut self, id: EffectId, rest: Rest) {
        self.parked.remove(&id);
        let before = self.queue.in_doubt();
        self.queue.rests(id, rest);
        self.settled += usize::from(self.queue.in_doubt() > before);
        self.save_mark_if_due().await;
    }

    async fn concluded(&mut self, id: EffectId) {
        self.parked.remove(&id);
        self.queue.conclude(id);
        self.host.board.closed(id);
        self.settled += 1;
        self.save_mark_if_due().await;
    }

    /// Returns the right under which it takes turns now.
    pub(super) fn right(&self) -> TurnRight {
        match &self.tenure {
            None => TurnRight::Alone,
            Some(tenure) => tenure.fence().map_or(TurnRight::Here, TurnRight::Holder),
        }
    }

    /// Lets an intent rest that is elsewhere.
    pub(super) fn keep_elsewhere(&mut self, id: EffectId, intent: Option<E::Intent>) {
        if let Some(intent) = intent {
            let (bytes, now) = (self.queue.bytes(id), self.host.clock.now());
            self.elsewhere.keep(id, intent, bytes.max(size_of::<E::Intent>()), now);
        }
    }

    /// Gives a turn to the intents that are here by now.
    pub(super) fn ask_if_here(&mut self) {
        let (turns, now) = (self.turns.clone(), self.host.clock.now());
        for id in self.elsewhere.ask(now, |id, intent| turns.says_here(id, intent)) {
            self.queue.wake(id);
        }
    }
}
