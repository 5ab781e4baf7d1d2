//! Facts: events that nothing was decided about. They happened, so nothing can conflict with them.

use std::sync::Arc;

use super::answered::missing;
use super::command::{Answer, Origin, RequestAnswer, RequestTarget};
use super::error::{EventError, MetadataError};
use super::event::Event;
use super::metadata::request_methods;
use super::schema::{Purpose, Schema};
use crate::span;
use crate::store::limits::ID_BYTES_MAX;
use crate::store::{
    Answered, Append, AppendError, Appended, Conflict, Invalid, NewEvent, Outcome, Query, Read,
    ReadError, Store, StreamName, Version,
};

/// Facts of one stream, to be recorded: all of them in one append, without deciding and without any
/// condition.
#[must_use = "facts are not recorded until they are told to be"]
#[derive(Debug)]
pub struct Facts<'e, E> {
    store: Store,
    schema: Result<Arc<Schema>, EventError>,
    stream: Result<StreamName, Invalid>,
    events: &'e [E],
    origin: Origin,
}

/// Facts that are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsRecorded {
    /// Positions, versions and recorded time of the facts.
    pub appended: Appended,
    /// Answer that tells whether they were recorded now, or earlier under the same command id.
    pub answer: Answer,
}

/// Error of recording facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// An event cannot be written.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The cause, trace or metadata given for them cannot be recorded.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The id cannot name a stream.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store did not take them.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// They were recorded earlier, and that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store speaks of a condition, and there was none: a fault of the backend. Nothing was
    /// written.
    #[error("the store refused an append that had no condition: {0}")]
    Conflict(#[from] Conflict),
}

impl Store {
    /// Facts of a stream `category-id` that no aggregate folds; to be recorded.
    ///
    /// ```
    /// use leftfold_core::fold::{Answer, Event};
    /// use leftfold_core::store::{Store, Version};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// enum Reading {
    ///     Measured { celsius: i32 },
    /// }
    /// # impl Event for Reading { const NAMESPACE: &'static str = "sensor"; }
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let readings = [Reading::Measured { celsius: 19 }, Reading::Measured { celsius: 20 }];
    /// let send = || store.facts("sensor", "roof", &readings).id("sensor roof", "batch 1");
    ///
    /// let recorded = send().without_request_check().record().await?;
    /// assert_eq!(recorded.appended.versions, [Version(1), Version(2)]);
    /// assert_eq!(send().without_request_check().record().await?.answer, Answer::Again);
    /// # Ok(()) }
    /// ```
    pub fn facts<'e, E: Event>(&self, category: &str, id: &str, events: &'e [E]) -> Facts<'e, E> {
        Facts::new(self, self.schema::<E>(Purpose::Writing), StreamName::of(category, id), events)
    }
}

impl<'e, E: Event> Facts<'e, E> {
    pub(super) fn new(
        store: &Store,
        schema: Result<Arc<Schema>, EventError>,
        stream: Result<StreamName, Invalid>,
        events: &'e [E],
    ) -> Self {
        Self { store: store.clone(), schema, stream, events, origin: Origin::default() }
    }

    request_methods!();

    /// Records the facts. Nothing is folded for that, so no `apply` is asked: it has to accept
    /// every event that is recorded as a fact.
    pub async fn record(mut self) -> Result<FactsRecorded, RecordError> {
        if self.origin.metadata.trace.is_none() {
            span::carries(&tracing::Span::current(), &mut self.origin.metadata);
        }
        self.origin.check()?;
        let (schema, stream) = (self.schema?, self.stream?);
        Invalid::if_over("an aggregate's id", stream.id().len(), ID_BYTES_MAX)?;
        let events = encode(&schema, &stream, self.events, &self.origin)?;
        // The version that they lead to is known when they are recorded; a repetition reads it from
        // the events.
        let target = RequestTarget::stream(&stream);
        let command = self.origin.record(&target, RequestAnswer::Accepted(Version::ABSENT));
        match self.store.append(Append { events, command, ..Append::default() }).await? {
            Outcome::Appended(appended) => Ok(FactsRecorded { appended, answer: Answer::First }),
            Outcome::Repeated(answered) => {
                self.origin.said(&answered, &target)?;
                again(&self.store, &stream, &answered).await
            }
            Outcome::Conflict(conflict) => Err(conflict.into()),
        }
    }
}

/// Encodes the events as they go into a stream, with the cause, trace and metadata that the caller
/// gave.
pub(super) fn encode<E: Event>(
    schema: &Schema,
    stream: &StreamName,
    events: &[E],
    origin: &Origin,
) -> Result<Vec<NewEvent>, EventError> {
    let encode = |event| {
        let mut new = schema.encode(event)?.in_stream(stream.clone());
        origin.stamp(&mut new);
        Ok(new)
    };
    events.iter().map(encode).collect()
}

/// Returns what was answered the first time. Facts of one append follow each other in their stream,
/// so the first tells them all.
async fn again(
    store: &Store,
    stream: &StreamName,
    answered: &Answered,
) -> Result<FactsRecorded, RecordError> {
    let mut versions = Vec::with_capacity(answered.events as usize);
    if answered.events > 0 {
        let page =
            store.page(Read::matching(Query::everything(), answered.first).page_of(1)).await?;
        let first =
            page.events.first().ok_or_else(|| missing(answered, answered.events as usize))?;
        let first = first.stream.as_ref().filter(|at| at.name == *stream);
        // The id, and even the request's bytes, were those of something else.
        let first = first.ok_or(AppendError::CommandIdReused { id: answered.record.id })?;
        versions
            .extend((0..u64::from(answered.events)).map(|more| Version(first.version.0 + more)));
    }
    let appended = Appended { first: answered.first, versions, recorded_at: answered.recorded_at };
    Ok(FactsRecorded { appended, answer: Answer::Again })
}
