//! The protocol of KurrentDB, once EventStoreDB, over gRPC: streams and persistent subscriptions,
//! for clients that exist.
//!
//! What their words mean in those of a store:
//!
//! - **Streams and event types** have the same names, escaped if `$` begins them ([`names`]).
//! - **A revision** is the version less 1; commit and prepare position are both the position.
//! - **An id** is the id of the event. The store finds it again, so that an append that is sent
//!   again is answered as the first time ([`appending`]).
//! - **Content type and custom metadata** are content type and user metadata; **created** is the
//!   recorded time.
//! - **Metadata of a stream** (`$maxCount`, `$maxAge`, `$tb`, `$acl`) is the last event of the
//!   stream `$$` and its name ([`marks`]). Lists of rights are kept, and not asked.
//! - **A deletion** is metadata whose `$tb` is the largest number; the next append ends it. **A
//!   tombstone** is an event `$streamDeleted` in the metadata stream, seen as the last one of the
//!   stream itself.
//! - **`$ce-category`, `$et-type`, `$bc-correlation`, `$category-category` and `$streams`** are
//!   answered from the index, as links that nobody wrote ([`indexed`]). A link that somebody wrote,
//!   `$>`, is an event; the one that it leads to is read if the client wishes so ([`records`]).
//!
//! Nothing is removed from the log: what is truncated or deleted is hidden here, and only here.
//! Events that other clients recorded are seen as well, those without a stream only among all
//! events, under `$streamless`.

// `wire` has the messages, `faults` the errors, `names` the names of streams and types, `records`
// the events as clients receive them, `proposals` those that they send. `marks` follows metadata
// and deletions, `indexed` names what the index answers and `ordinals` numbers it, `filter` passes
// some of all events. On these stand the calls: `appending` judges an append by what is `expected`,
// `batches` carries many on one call, `sessions` appends to several streams at once; `reading`
// ends, `following` does not. `streams` takes the calls apart, `groups` has persistent
// subscriptions, `cluster` says what the server is, `foreign` makes events of what another server
// of the protocol says.

mod appending;
mod batches;
mod cluster;
mod expected;
mod faults;
mod filter;
mod following;
pub(crate) mod foreign;
mod groups;
mod indexed;
mod marks;
mod names;
mod ordinals;
mod proposals;
mod reading;
mod records;
mod sessions;
mod streams;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use leftfold::store::{Append, Expected, NewEvent, Outcome, Position, RecordedEvent, Store};
use tonic::service::Routes;
use tonic::{Request, Status};

use crate::stopping::Stopping;
use crate::stores::{ServedStore, StoreUse, Stores};
use crate::users::{Caller, Denied, Wish};
pub(super) use cluster::{receive, tells_of_server};
use expected::ExpectedRevision;
use marks::StreamMarks;
use names::NamedStream;
use ordinals::Ordinals;

/// Bytes of a message that a client may send: an append of the largest size, and what is around it.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a message that a client is sent.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The stores of the server, as all services of this protocol find them.
#[derive(Clone)]
struct Facades {
    stores: Arc<Stores>,
    stopping: Stopping,
}

/// A store, with what this protocol keeps beside it, and who asks.
#[derive(Clone)]
struct Facade {
    store: Store,
    served: ServedStore,
    caller: Caller,
    marks: Arc<StreamMarks>,
    ordinals: Arc<Ordinals>,
}

/// Adds all services to the routes of a server.
pub(super) fn add_to(routes: Routes, stores: Arc<Stores>, stopping: Stopping) -> Routes {
    let facades = Facades { stores, stopping };
    routes
        .add_service(streams::service(facades.clone()))
        .add_service(sessions::service(facades.clone()))
        .add_service(groups::service(facades))
        .add_service(cluster::gossip())
        .add_service(cluster::features())
}

impl Facades {
    /// Returns the store that a call looks at.
    async fn of<T: Sync>(&self, request: &Request<T>) -> Result<Facade, Status> {
        self.wished(request, StoreUse::Look).await
    }

    /// Returns the store that a call appends to.
    async fn to_append<T: Sync>(&self, request: &Request<T>) -> Result<Facade, Status> {
        self.wished(request, StoreUse::Create).await
    }

    async fn wished<T: Sync>(
        &self,
        request: &Request<T>,
        wished: StoreUse,
    ) -> Result<Facade, Status> {
        let caller = Caller::of(request)?;
        let served = self.stores.of(&caller, request.metadata(), wished).await?;
        let store = served.store.clone();
        let marks = store.attached(StreamMarks::new);
        let ordinals = store.attached(Ordinals::new);
        Ok(Facade { store, served, caller, marks, ordinals })
    }
}

impl Facade {
    /// Learns what was recorded until now.
    async fn refresh(&self) -> Result<(), Status> {
        self.marks.refresh(&self.store).await.map_err(faults::unread)
    }

    /// Learns everything up to the end of the store, wherever that was written.
    async fn refresh_to_end(&self) -> Result<(), Status> {
        let learnt = self.marks.learn_through(&self.store, Position::END).await;
        learnt.map_err(faults::unread)
    }

    /// Tells whether an event is hidden among all events.
    async fn hides(&self, event: &RecordedEvent) -> Result<bool, Status> {
        self.marks.hide(&self.store, event).await.map_err(faults::unread)
    }

    /// Refuses what the caller may not do with the store.
    fn may(&self, wish: Wish<'_>) -> Result<(), Status> {
        self.caller.may(&self.served.name, wish).map_err(|denied| match denied {
            Denied::Role { .. } | Denied::Events { .. } => faults::access_denied(),
            other => other.into(),
        })
    }

    /// Hands an append to the store, and notes whether there is room for it.
    async fn append_noted(&self, append: Append) -> Result<Outcome, Status> {
        let answer = self.store.append(append).await;
        self.served.room.note(&answer);
        answer.map_err(faults::unappended)
    }

    /// Waits for the turn of an append.
    async fn paced(&self, append: &Append) -> Result<(), Status> {
        tokio::time::sleep(self.served.pace(&self.caller, append)?).await;
        Ok(())
    }

    /// Refuses to read a stream to whom it may not be shown. The right to a stream is one to its
    /// metadata.
    fn may_read(&self, stream: &NamedStream) -> Result<(), Status> {
        self.may(Wish::Stream(&stream.owner().name))
    }

    /// Refuses to change streams to whom they are closed, and to expect anything of those that may
    /// not be seen: the answer tells what is there.
    fn may_append<'a>(
        &self,
        streams: impl IntoIterator<Item = (&'a NamedStream, ExpectedRevision)>,
    ) -> Result<(), Status> {
        let mut append = Append::default();
        for (stream, expected) in streams {
            let owner = stream.owner().name;
            if expected != ExpectedRevision::Any {
                append.condition.streams.push((owner.clone(), Expected::Exists));
            }
            let event = NewEvent::new(names::own_type(names::METADATA_TYPE), Bytes::new());
            append.events.push(event.in_stream(owner));
        }
        self.may(Wish::Append(&append))
    }
}
