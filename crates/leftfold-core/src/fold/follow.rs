//! Following events as the enum that reads them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aggregate::LoadError;
use super::event::{Event, EventError, Recorded, Unknown};
use super::owner::Purpose;
use super::schema::Schema;
use crate::store::{Position, Store, Subscription};

impl Store {
    /// The events that an enum reads, of whatever streams, after a position: those that are there, then those that come.
    pub fn follow<E: Event>(&self, after: Position) -> Result<Following<E>, EventError> {
        let schema = self.schema::<E>(Purpose::Reading)?;
        Ok(Following { subscription: self.subscribe(schema.query(), after), schema, ready: VecDeque::new() })
    }
}

/// Follows the events that an enum reads. It is pulled, as the [`Subscription`] that it stands on.
#[derive(Debug)]
pub struct Following<E> {
    subscription: Subscription,
    schema: Arc<Schema>,
    ready: VecDeque<Recorded<E>>,
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
            let envelope = self.subscription.event().await?;
            let events: Vec<E> = self.schema.decode(&envelope, Unknown::Ignore)?;
            self.ready.extend(events.into_iter().map(|event| Recorded { event, envelope: envelope.clone() }));
        }
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
