//! Intents: the events that ask for an effect, found in the log and read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::attempt::Attempt;
use super::ledger::{Ledger, needs_release};
use super::{Effect, EffectId, Order};
use crate::fold::{Aggregate, EventError, Purpose, Schema};
use crate::runtime::{StartError, StartFault};
use crate::store::{EventType, Query, Read, ReadError, RecordedEvent, Store, Timestamp};

/// An intent that was found.
pub(crate) struct Intent {
    pub(crate) id: EffectId,
    pub(crate) event: RecordedEvent,
}

/// The intents of one kind of effect in a store.
pub(super) struct Intents<E: Effect> {
    store: Store,
    effect: Arc<E>,
    schema: Arc<Schema>,
    intent_type: EventType,
}

impl<E: Effect> Intents<E> {
    pub(super) fn new(store: &Store, effect: Arc<E>) -> Result<Self, StartFault> {
        let schema = store.schema::<<E::Target as Aggregate>::Event>(Purpose::Writing)?;
        let intent_type = EventType::new(E::INTENT)?;
        if !schema.wanted().contains(&intent_type) {
            let known = schema.wanted().iter().map(ToString::to_string).collect();
            let effect_type = std::any::type_name::<E>();
            return Err(StartError::UnknownIntent {
                effect_type,
                known,
                effect: E::NAME,
                intent: E::INTENT,
            }
            .into());
        }
        Ok(Self { store: store.clone(), effect, schema, intent_type })
    }

    /// Returns the query for all of them, under their older names too.
    pub(super) fn query(&self) -> Query {
        Query::types(self.schema().names_of(&self.intent_type))
    }

    /// Returns the present schema of intents.
    pub(super) fn schema(&self) -> Arc<Schema> {
        self.schema.renewed().ok().flatten().unwrap_or_else(|| self.schema.clone())
    }

    /// Returns the hash of an intent's order key: intents with the same number are kept in order.
    /// `None` if it is in order with none.
    pub(super) fn key(&self, event: &RecordedEvent) -> Option<u64> {
        // What cannot be read stays in its stream, and so does what users' code panics at.
        let order = catch_unwind(AssertUnwindSafe(|| {
            let intent = self.payload(event).ok()?;
            Some(self.effect.order(&intent, event))
        }));
        let name = match order.ok().flatten().unwrap_or_default() {
            Order::Stream => format!("stream/{}", event.stream.as_ref()?.name),
            Order::Key(key) => format!("key/{key}"),
            Order::None => return None,
        };
        blake3::hash(name.as_bytes()).as_bytes().first_chunk().copied().map(u64::from_le_bytes)
    }

    /// Reads the event that asks for an effect; `None` if there is none.
    pub(super) async fn find(&self, id: EffectId) -> Result<Option<Intent>, ReadError> {
        let page = self.store.page(Read::matching(self.query(), id.0).page_of(1)).await?;
        let event = page.events.into_iter().next().filter(|event| event.position == id.0);
        Ok(event.map(|event| Intent { id, event: event.detached() }))
    }

    /// Returns what an intent asks for.
    pub(super) fn payload(&self, event: &RecordedEvent) -> Result<E::Intent, EventError> {
        self.schema.payload(event, &self.intent_type)
    }

    /// Returns an attempt at what an intent asks for, with the attempts before it.
    pub(super) fn attempt(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        number: u32,
        deadline: Timestamp,
    ) -> Result<Attempt<E::Intent>, EventError> {
        let (event, tries) = (intent.event.clone(), ledger.tries.clone());
        let intent_data = self.payload(&event)?;
        Ok(Attempt { effect: intent.id, number, intent: intent_data, event, deadline, tries })
    }
}

/// The names of the type of an effect's intents, as far as those enums know them that are in use
/// with the store.
pub(super) fn names<E: Effect>(store: &Store, intent: &EventType) -> Vec<EventType> {
    match store.schema::<<E::Target as Aggregate>::Event>(Purpose::Writing) {
        Ok(schema) => schema.names_of(intent),
        // The runner of the effect tells what is wrong with the enum.
        Err(_) => vec![intent.clone()],
    }
}

/// Returns the reason why this release cannot carry out an intent of a store, if it cannot.
pub(super) fn unreadable<E: Effect>(store: &Store, event: &RecordedEvent) -> Option<String> {
    let read = || {
        let schema = store.schema::<<E::Target as Aggregate>::Event>(Purpose::Writing)?;
        schema.payload::<E::Intent>(event, &EventType::new(E::INTENT)?).map(drop)
    };
    match read() {
        // What is of a known shape and is none ends the effect.
        Ok(()) | Err(EventError::Decode { .. }) => None,
        Err(error) => Some(needs_release(&error)),
    }
}
