//! Other stores, read over the protocols that this server speaks as well: what an import needs of
//! them. An event becomes what the server makes of the same event when a client appends it.

use std::fmt;

use leftfold::store::{NewEvent, Timestamp};
use uuid::Uuid;

use crate::services::kurrent;
use crate::services::umadb;

pub use kurrent::foreign::{
    ReadReq as KurrentRead, ReadResp as KurrentReply, StreamsClient as KurrentClient,
};
pub use umadb::foreign::{
    AppendRequest as UmaAppend, DcbClient as UmaClient, Event as UmaEvent,
    MetadataEntry as UmaMetadata, ReadRequest as UmaRead, ReadResponse as UmaReply,
};

/// An event of another store.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignEvent {
    /// Its place there: greater than those before it, or the same as that of the one before, if
    /// both are one append.
    pub place: u64,
    /// Number of events before it in its stream; `None` if the other store has no streams.
    pub revision: Option<u64>,
    /// Moment at which it was recorded there; `None` if the other store tells none.
    pub recorded_at: Option<Timestamp>,
    /// The event, for this store.
    pub event: NewEvent,
}

/// An event that this store cannot have, or that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitForeign {
    /// Its place there.
    pub place: u64,
    /// Reason, for people.
    pub reason: String,
}

impl fmt::Display for UnfitForeign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event at {} of the source: {}", self.place, self.reason)
    }
}

impl std::error::Error for UnfitForeign {}

/// Returns the request for all events of an UmaDB server, from a place on.
#[must_use]
pub fn uma_read(from: u64) -> UmaRead {
    UmaRead { start: Some(from.max(1)), ..UmaRead::default() }
}

/// Returns the events of a reply of an UmaDB server.
///
/// # Errors
/// [`UnfitForeign`] for the first that this store cannot have.
pub fn uma_events(reply: UmaReply) -> Result<Vec<ForeignEvent>, UnfitForeign> {
    let events = reply.events.into_iter().map(|sequenced| {
        let place = sequenced.position;
        let unfit = |reason: String| UnfitForeign { place, reason };
        let event = sequenced.event.unwrap_or_default();
        let id = match event.uuid.as_str() {
            "" => None,
            text => Some(Uuid::try_parse(text).map_err(|error| unfit(error.to_string()))?),
        };
        let event = umadb::foreign::new_event(event, id, sequenced.tracking_info.as_ref());
        let event = event.map_err(|error| unfit(error.to_string()))?;
        Ok(ForeignEvent { place, revision: None, recorded_at: None, event })
    });
    events.collect()
}

/// Returns the request for all events of a KurrentDB server, from the one at a place on; `None` is
/// the beginning.
#[must_use]
pub fn kurrent_read(from: Option<u64>) -> KurrentRead {
    kurrent::foreign::read_all(from)
}

/// Returns the event of a reply of a KurrentDB server; `None` if it has none, or one that the
/// server itself has written.
///
/// # Errors
/// [`UnfitForeign`] if this store cannot have it.
pub fn kurrent_event(reply: KurrentReply) -> Result<Option<ForeignEvent>, UnfitForeign> {
    kurrent::foreign::event_of(reply)
}
