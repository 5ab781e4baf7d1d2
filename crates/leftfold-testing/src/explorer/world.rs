//! World of a run so far, as invariants see it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use leftfold_core::drive::{
    DescribedRecord, DescribedTrigger, LedgerEvent, RecordDescription, describe_record, entry_of,
    payload,
};
use leftfold_core::fold::{Aggregate, Event, Schema, Unknown};
use leftfold_core::runtime::projection::Message;
use leftfold_core::runtime::{ATTEMPT_GRACE, Effect, EffectId};
use leftfold_core::store::{EventType, Position, RecordedEvent, Timestamp};

use super::models::{Models, SentMessages};
use super::outside::Outside;
use super::shown;

/// Everything that is durable, and what was done outside: what an invariant is compared with.
pub struct World {
    events: Vec<RecordedEvent>,
    folds: HashMap<TypeId, Box<dyn States>>,
    instances: BTreeMap<(String, String), ProcessView>,
    parked: Vec<String>,
    /// Latest moment at which something happens, of every effect with an attempt under way or to
    /// come.
    effects: BTreeMap<String, Timestamp>,
    outside: Outside,
    models: Models,
    sent: SentMessages,
    now: Timestamp,
}

/// An instance of a process, as far as others can see it.
#[derive(Debug, Default)]
struct ProcessView {
    open: bool,
    timers: BTreeMap<String, Timestamp>,
    parked: usize,
}

/// Number of times that an intent took place in the outside world.
#[derive(Clone, Debug, PartialEq)]
pub struct PerformedIntent<I> {
    /// The effect.
    pub effect: EffectId,
    /// The intent.
    pub intent: I,
    /// Number of times that it really took place.
    pub times: usize,
}

impl World {
    pub(super) fn new(
        folds: impl Iterator<Item = (TypeId, Box<dyn States>)>,
        outside: Outside,
        models: Models,
        sent: SentMessages,
        now: Timestamp,
    ) -> Self {
        let (events, instances, parked, effects) =
            (Vec::new(), BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self {
            events,
            folds: folds.collect(),
            instances,
            parked,
            effects,
            outside,
            models,
            sent,
            now,
        }
    }

    /// The states of all aggregates of a kind.
    ///
    /// # Panics
    /// If the explorer was not told of the kind.
    pub fn states<A: Aggregate>(&self) -> impl Iterator<Item = &A> {
        self.fold::<A>().states.values()
    }

    /// The ids and states of all aggregates of a kind.
    ///
    /// # Panics
    /// If the explorer was not told of the kind.
    pub fn aggregates<A: Aggregate>(&self) -> impl Iterator<Item = (&str, &A)> {
        self.fold::<A>().states.iter().map(|(id, state)| (id.as_str(), state))
    }

    /// The state of one aggregate; `None` if nothing has happened to it yet.
    ///
    /// # Panics
    /// If the explorer was not told of the kind.
    pub fn state<A: Aggregate>(&self, id: &str) -> Option<&A> {
        self.fold::<A>().states.get(id)
    }

    /// Every event, those of the runtime's own included.
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// The events that an enum of events reads, in order.
    pub fn events_of<E: Event>(&self) -> Vec<E> {
        let Ok(schema) = Schema::of::<E>() else { return Vec::new() };
        self.events
            .iter()
            .flat_map(|event| schema.decode::<E>(event, Unknown::Ignore).unwrap_or_default())
            .collect()
    }

    /// Returns the number of process instances that have begun and not ended.
    pub fn open_processes(&self) -> usize {
        self.instances.values().filter(|instance| instance.open).count()
    }

    /// Returns the number of triggers that wait for a person, including those behind others.
    pub fn parked(&self) -> usize {
        self.instances.values().map(|instance| instance.parked).sum()
    }

    /// Returns how often each intent of an effect took place in the outside world, including
    /// intents that did not.
    pub fn performed<E: Effect>(&self) -> Vec<PerformedIntent<E::Intent>> {
        let Ok(schema) = Schema::of::<<E::Target as Aggregate>::Event>() else { return Vec::new() };
        let Ok(intent_type) = EventType::new(E::INTENT) else { return Vec::new() };
        let intents = self.events.iter().filter(|event| event.event_type == intent_type);
        let performed = |event: &RecordedEvent| {
            let effect = EffectId(event.position);
            let intent = payload(&schema, event, &intent_type).ok()?;
            Some(PerformedIntent { effect, intent, times: self.outside.times(E::NAME, effect) })
        };
        intents.filter_map(performed).collect()
    }

    /// The rows of a projection in memory, as they are now in each application that runs it: they
    /// follow the events.
    pub fn rows<S: 'static>(&self, projection: &str) -> Vec<S> {
        self.models.rows(projection)
    }

    /// Returns the messages that an outbox has sent, in the order of arrival, each message once.
    pub fn sent(&self, outbox: &str) -> Vec<Message> {
        self.sent.of(outbox)
    }

    /// Returns the time of the clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn head(&self) -> Position {
        Position(self.events.len() as u64)
    }

    /// Takes in what became durable. The error says what cannot be read.
    pub(super) fn take(&mut self, events: Vec<RecordedEvent>) -> Result<(), String> {
        for event in events {
            if let Some(at) = &event.stream {
                for fold in
                    self.folds.values_mut().filter(|fold| fold.category() == at.name.category())
                {
                    fold.take(at.name.id(), &event)?;
                }
            }
            if let Some(described) = describe_record(&event) {
                self.take_record(described);
            }
            self.take_ledger(&event);
            self.events.push(event);
        }
        Ok(())
    }

    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn take_record(&mut self, described: RecordDescription) {
        let instance =
            self.instances.entry((described.process.clone(), described.key.clone())).or_default();
        match described.what {
            DescribedRecord::Reacted { to, starts, ends, set, cancelled, .. } => {
                if starts {
                    instance.timers.clear();
                }
                if let DescribedTrigger::Timer(name) = to {
                    instance.timers.remove(&name);
                }
                cancelled.iter().for_each(|name| _ = instance.timers.remove(name));
                instance.timers.extend(set);
                instance.open = (instance.open || starts) && !ends;
                if ends {
                    instance.timers.clear();
                }
            }
            DescribedRecord::Parked(error) => {
                instance.parked += 1;
                let why = error.unwrap_or_else(|| "it waits behind what is parked".to_owned());
                self.parked.push(format!("{} {}: {why}", described.process, described.key));
            }
            DescribedRecord::LetGo => instance.parked = instance.parked.saturating_sub(1),
        }
    }

    fn take_ledger(&mut self, event: &RecordedEvent) {
        let Some((stream, entry)) = entry_of(event) else { return };
        match entry {
            LedgerEvent::AttemptOpened { deadline, .. } => {
                _ = self.effects.insert(stream, deadline.plus(ATTEMPT_GRACE))
            }
            LedgerEvent::AttemptFailed { again_at, .. } => {
                _ = self.effects.insert(stream, again_at)
            }
            // It is looked up as often as that helps.
            LedgerEvent::Cleared { .. } => {}
            LedgerEvent::Doubted { .. }
            | LedgerEvent::Cancelled { .. }
            | LedgerEvent::Done { .. }
            | LedgerEvent::NotDone { .. } => {
                self.effects.remove(&stream);
            }
        }
    }

    /// The next moment at which something must happen, by what is recorded.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let timers = self
            .instances
            .values()
            .filter(|one| one.parked == 0)
            .flat_map(|one| one.timers.values());
        timers.chain(self.effects.values()).copied().filter(|due| *due > self.now).min()
    }

    /// Returns a line about each parked trigger, with the reason.
    pub(super) fn parked_for(&self) -> &[String] {
        &self.parked
    }

    /// A timer that should have fired.
    pub(super) fn overdue(&self) -> Option<String> {
        let timers = |((process, key), instance): (&(String, String), &ProcessView)| {
            let due =
                instance.timers.iter().find(|(_, due)| instance.parked == 0 && **due <= self.now);
            due.map(|(name, _)| {
                format!("timer {name:?} of {process} {key} is due and has not fired")
            })
        };
        self.instances.iter().find_map(timers)
    }

    /// Every state, for a person to read.
    pub(super) fn show(&self) -> Vec<String> {
        let mut all: Vec<String> = self.folds.values().flat_map(|fold| fold.show()).collect();
        all.sort();
        for ((process, key), instance) in &self.instances {
            if instance.open {
                all.push(format!("{process} {key}: open"));
            }
        }
        all
    }

    fn fold<A: Aggregate>(&self) -> &Fold<A> {
        let fold = self.folds.get(&TypeId::of::<A>()).and_then(|fold| fold.as_any().downcast_ref());
        fold.unwrap_or_else(|| {
            panic!(
                "the explorer does not know {}, add .aggregate::<{0}>()",
                std::any::type_name::<A>()
            )
        })
    }
}

/// The states of one kind of aggregate.
pub(super) trait States {
    fn category(&self) -> &'static str;
    fn take(&mut self, id: &str, event: &RecordedEvent) -> Result<(), String>;
    fn show(&self) -> Vec<String>;
    fn as_any(&self) -> &dyn Any;
}

pub(super) struct Fold<A> {
    schema: Arc<Schema>,
    states: BTreeMap<String, A>,
}

impl<A> Fold<A> {
    pub(super) fn new(schema: Arc<Schema>) -> Self {
        Self { schema, states: BTreeMap::new() }
    }
}

impl<A: Aggregate> States for Fold<A> {
    fn category(&self) -> &'static str {
        A::CATEGORY
    }

    fn take(&mut self, id: &str, event: &RecordedEvent) -> Result<(), String> {
        if !self.states.contains_key(id) {
            self.states.insert(id.to_owned(), A::default());
        }
        let Some(state) = self.states.get_mut(id) else { return Ok(()) };
        self.schema
            .decode_each(event, A::UNKNOWN, |event: A::Event| state.apply(&event))
            .map_err(|error| error.to_string())
    }

    fn show(&self) -> Vec<String> {
        let json = |state: &A| serde_json::to_value(state).unwrap_or_default();
        self.states
            .iter()
            .map(|(id, state)| format!("{}-{id}: {}", A::CATEGORY, shown::fields(&json(state))))
            .collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
