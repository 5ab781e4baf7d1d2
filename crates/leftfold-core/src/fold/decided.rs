//! The result of a decision: events, and what it demands beside its query.

use crate::store::limits::ID_BYTES_MAX;
use crate::store::{Expected, Invalid, Query, StreamName};

/// Events that a decision records, and its demands beside its query.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<E> {
    pub(super) events: Vec<(DecidedStream, E)>,
    pub(super) demands: Demands,
}

/// Demands of a decision beside its own query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Demands {
    pub(super) streams: Vec<(DecidedStream, Expected)>,
    /// Queries that no event may match, however old it is.
    pub(super) none: Vec<Query>,
}

/// Stream of an event that was decided on, or of an expectation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DecidedStream {
    Stream(String),
    Aggregate { category: &'static str, id: String },
    NoStream,
}

impl<E> Decided<E> {
    /// Nothing to do.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { events: Vec::new(), demands: Demands { streams: Vec::new(), none: Vec::new() } }
    }

    /// One event into a stream, `category-id`.
    #[must_use]
    pub fn event(stream: impl Into<String>, event: E) -> Self {
        Self::nothing().and(stream, event)
    }

    /// One event into no stream: found by its tags and type.
    #[must_use]
    pub fn fact(event: E) -> Self {
        Self::nothing().and_fact(event)
    }

    /// One event into the stream of an aggregate.
    #[must_use]
    pub fn of<A: super::Aggregate>(id: &str, event: E) -> Self {
        Self { events: vec![(DecidedStream::of::<A>(id), event)], ..Self::nothing() }
    }

    /// Another event into a stream.
    #[must_use]
    pub fn and(mut self, stream: impl Into<String>, event: E) -> Self {
        self.events.push((DecidedStream::Stream(stream.into()), event));
        self
    }

    /// Another event into no stream.
    #[must_use]
    pub fn and_fact(mut self, event: E) -> Self {
        self.events.push((DecidedStream::NoStream, event));
        self
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = &E> {
        self.events.iter().map(|(_, event)| event)
    }

    /// Requires a stream to be as expected, beside the query: [`Expected::Absent`] for one that is
    /// to be new. If it is not, and nothing that the query finds is new either, that is
    /// [`ExecuteError::Unexpected`](super::ExecuteError::Unexpected). It is checked even if the
    /// decision has no events.
    #[must_use]
    pub fn expecting(mut self, stream: impl Into<String>, expected: Expected) -> Self {
        self.demands.streams.push((DecidedStream::Stream(stream.into()), expected));
        self
    }

    /// Requires the stream of an aggregate to be as expected, as [`expecting`](Decided::expecting)
    /// does.
    #[must_use]
    pub fn expecting_of<A: super::Aggregate>(mut self, id: &str, expected: Expected) -> Self {
        self.demands.streams.push((DecidedStream::of::<A>(id), expected));
        self
    }

    /// Requires that the store has no event at all that matches, without reading them: for names
    /// that must be unique. An item that names no types means those of
    /// [`Decision::Event`](super::Decision::Event). If there is one, that is
    /// [`ExecuteError::Taken`](super::ExecuteError::Taken).
    ///
    /// For events that its query reads a decision can refuse in words of its own; this demand costs
    /// no reading, and its error tells a position only.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use leftfold_core::fold::{Decided, Decision, Event, ExecuteError};
    /// use leftfold_core::store::{Query, Store, Tags};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// # enum AccountEvent { SignedUp { name: String } }
    /// # impl Event for AccountEvent {
    /// #     const NAMESPACE: &'static str = "account";
    /// #     fn tags(&self) -> Tags {
    /// #         let Self::SignedUp { name } = self;
    /// #         Tags::none().with(format!("name:{name}"))
    /// #     }
    /// # }
    ///
    /// struct SignUp {
    ///     name: &'static str,
    /// }
    ///
    /// impl Decision for SignUp {
    ///     # type Event = AccountEvent;
    ///     # type State = ();
    ///     # type Refusal = Infallible;
    ///     # fn apply(&self, _: &mut (), _: &AccountEvent) {}
    ///     fn query(&self) -> Query {
    ///         Query::nothing()
    ///     }
    ///
    ///     fn decide(&self, _: &()) -> Result<Decided<AccountEvent>, Infallible> {
    ///         let signed_up = AccountEvent::SignedUp { name: self.name.to_owned() };
    ///         let same_name = Query::tag(format!("name:{}", self.name));
    ///         Ok(Decided::fact(signed_up).expecting_none(same_name))
    ///     }
    /// }
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let first = store.decide(&SignUp { name: "ada" }).await?;
    /// let second = store.decide(&SignUp { name: "ada" }).await;
    /// let Err(ExecuteError::Taken { found, .. }) = second else { unreachable!("it is taken") };
    /// assert_eq!(found, first.position);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn expecting_none(mut self, query: Query) -> Self {
        self.demands.none.push(query);
        self
    }
}

impl DecidedStream {
    fn of<A: super::Aggregate>(id: &str) -> Self {
        Self::Aggregate { category: A::CATEGORY, id: id.to_owned() }
    }

    pub(super) fn stream(&self) -> Result<Option<StreamName>, Invalid> {
        match self {
            Self::NoStream => Ok(None),
            Self::Stream(stream) => stream_named(stream).map(Some),
            Self::Aggregate { category, id } => {
                Invalid::if_over("an aggregate's id", id.len(), ID_BYTES_MAX)?;
                StreamName::of(category, id).map(Some)
            }
        }
    }
}

/// A stream as an application names it: one of an aggregate has its category and its id.
fn stream_named(name: &str) -> Result<StreamName, Invalid> {
    match name.split_once('-') {
        None => StreamName::new(name.to_owned()),
        Some((category, id)) => {
            Invalid::if_over("an aggregate's id", id.len(), ID_BYTES_MAX)?;
            StreamName::of(category, id)
        }
    }
}
