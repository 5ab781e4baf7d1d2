//! Following events as the enum that reads them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aggregate::LoadError;
use super::event::{Event, EventError, Recorded, Unknown};
use super::owner::Purpose;
use super::schema::Schema;
use super::unheard::UnheardTypes;
use crate::store::{EventType, Position, Query, Read, ReadError, Store, Subscription};

impl Store {
    /// The events that an enum reads, of whatever streams, after a position: those that are there, then those that come.
    ///
    /// Types of the enum that nobody knows are named in a warning before the first event is waited for, and by
    /// [`Following::unheard_types`] at any time. What [`Store::subscribe`] is asked for is not looked at in this way.
    pub fn follow<E: Event>(&self, after: Position) -> Result<Following<E>, EventError> {
        let schema = self.schema::<E>(Purpose::Reading)?;
        let subscription = self.subscribe(schema.query(), after);
        let (store, ready, is_announced) = (self.clone(), VecDeque::new(), false);
        Ok(Following { store, subscription, schema, after, through: after, ready, is_announced })
    }

    /// The schema that took another one's place, for a reader that has read the events between two positions by that one;
    /// nothing while that one is right. An error if there are events that it passed over, or read otherwise.
    pub(crate) async fn renewed(
        &self,
        former: &Schema,
        (after, through): (Position, Position),
    ) -> Result<Option<Arc<Schema>>, LoadError> {
        let Some(schema) = former.renewed()? else { return Ok(None) };
        let more = schema.wanted_beside(former);
        if !more.is_empty() && through > after {
            let page = self.page(Read::matching(Query::types(more), after.next()).page_of(1)).await?;
            if let Some(passed_over) = page.events.first().filter(|event| event.position <= through) {
                return Err(schema.read_before_its_owner(&passed_over.event_type).into());
            }
        }
        Ok(Some(schema))
    }
}

/// Follows the events that an enum reads. It is pulled, as the [`Subscription`] that it stands on.
#[derive(Debug)]
pub struct Following<E> {
    store: Store,
    subscription: Subscription,
    schema: Arc<Schema>,
    after: Position,
    through: Position,
    ready: VecDeque<Recorded<E>>,
    /// Whether types that nobody knows were looked for.
    is_announced: bool,
}

impl<E: Event> Following<E> {
    /// The next event; waits while there is none. Safe to cancel: nothing is lost.
    ///
    /// An event that cannot be read is an error, and the one after it comes next.
    pub async fn next(&mut self) -> Result<Recorded<E>, LoadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if !self.is_announced {
                UnheardTypes::of(&self.schema).announce(&self.store, std::any::type_name::<E>()).await;
                self.is_announced = true;
            }
            let read = (self.after, self.through);
            if let Some(schema) = self.store.renewed(&self.schema, read).await? {
                self.subscription = self.store.subscribe(schema.query(), self.through);
                self.schema = schema;
            }
            let envelope = tokio::select! {
                biased;
                () = self.schema.until_stale() => continue,
                event = self.subscription.event() => event?,
            };
            if self.schema.is_stale() {
                // It may have passed over events that are of concern now.
                self.subscription = self.store.subscribe(self.schema.query(), self.through);
                continue;
            }
            self.through = envelope.position;
            let events: Vec<E> = self.schema.decode(&envelope, Unknown::Ignore)?;
            self.ready.extend(events.into_iter().map(|event| Recorded { event, envelope: envelope.clone() }));
        }
    }

    /// The types of the enum that nobody knows now: nothing was ever recorded of them, under older names neither, and no enum
    /// declares them that is named in [`owners`](Event::owners), or that records in the store. In a new program that
    /// passes by itself; else a name is read otherwise than it is written.
    pub async fn unheard_types(&self) -> Result<Vec<EventType>, ReadError> {
        let unheard = UnheardTypes::of(&self.schema);
        unheard.look(&self.store).await?;
        Ok(unheard.now())
    }

    /// The next event that is meant; those before it are passed over.
    pub async fn find(&mut self, mut is_meant: impl FnMut(&Recorded<E>) -> bool) -> Result<Recorded<E>, LoadError> {
        loop {
            let event = self.next().await?;
            if is_meant(&event) {
                return Ok(event);
            }
        }
    }
}
