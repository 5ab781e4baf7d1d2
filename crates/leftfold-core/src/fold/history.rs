//! The history of one aggregate, event by event, and the error of a fold of it.

use std::sync::Arc;

use super::command::ExecuteError;
use super::error::EventError;
use super::event::{Event, Recorded, Unknown};
use super::schema::Schema;
use crate::store::{Events, Invalid, ReadError};

/// Error of a fold that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// An event cannot be read as the fold's.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The id cannot name a stream.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl<R> From<LoadError> for ExecuteError<R> {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Event(error) => Self::Event(error),
            LoadError::Invalid(error) => Self::Invalid(error),
            LoadError::Read(error) => Self::Read(error),
        }
    }
}

/// The events of one aggregate, as the fold reads them.
#[derive(Debug)]
pub struct History<E> {
    pub(super) events: Events,
    pub(super) schema: Arc<Schema>,
    pub(super) unknown: Unknown,
    pub(super) ready: std::vec::IntoIter<Recorded<E>>,
}

impl<E: Event> History<E> {
    /// Returns the next event; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Recorded<E>>, LoadError> {
        loop {
            if let Some(event) = self.ready.next() {
                return Ok(Some(event));
            }
            let Some(envelope) = self.events.next().await? else { return Ok(None) };
            let events: Vec<E> = self.schema.decode(&envelope, self.unknown)?;
            let recorded: Vec<_> = events
                .into_iter()
                .map(|event| Recorded { event, envelope: envelope.clone() })
                .collect();
            self.ready = recorded.into_iter();
        }
    }

    /// Everything that is left.
    pub async fn all(mut self) -> Result<Vec<Recorded<E>>, LoadError> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await? {
            all.push(event);
        }
        Ok(all)
    }
}
