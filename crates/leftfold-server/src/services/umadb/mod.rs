//! The protocol of UmaDB 0.7: the package `umadb.v1`, for clients that exist.
//!
//! What comes in by these calls comes out of them unchanged, and what native programs append and
//! read is the same store. So an event has these places:
//!
//! - **Type, tags and source of a tracking** are names of the store, as they are, wherever the
//!   store takes them: `OrderPlaced` is that type, `order:7` that tag, and the source is a consumer
//!   with a checkpoint in the store [`TRACKED`](append::TRACKED). Texts that it does not take are
//!   escaped. A text that is empty or begins with `\`, and a type or a source that begins with `$`,
//!   is kept behind one `\`. One that is too long is kept as `\#` and its BLAKE3 hash in
//!   hexadecimal digits.
//! - **Data** is data, of the media type `application/octet-stream`.
//! - **UUID** is the id that the caller brings.
//! - **Metadata** is the user metadata: a JSON object with the pairs in their order. A last member
//!   `$umadb`, an object, has what the envelope has no place for: that there was no UUID, the
//!   tracking, the whole type if it is too long, the whole list of tags if one is too long or comes
//!   twice.
//!
//! An event that a native program appended has its id as UUID. User metadata that is a JSON object
//! of texts is its metadata, other metadata is left out; its stream comes as two more pairs,
//! `leftfold-stream` and `leftfold-version`. Events whose type or stream begins with `$` are the
//! runtime's own, and no query finds them.

// `access` finds the store of a call, and what its caller may do with it. `append` judges a request
// and hands it to the store, `read` and `subscribe` stream events, whose bytes go out by `encoded`.
// `query` makes a query of the store, `event` an event and back, with its `names` and its
// `metadata`; `status` has the errors. `foreign` has what an import from another server of the
// protocol needs.

mod access;
mod append;
mod encoded;
mod event;
pub(crate) mod foreign;
mod metadata;
mod names;
mod query;
mod read;
mod status;
mod subscribe;

use std::sync::Arc;

use bytes::Bytes;
use leftfold::store::Position;
use tonic::{Request, Response, Status};

use super::Messages;
use crate::stopping::Stopping;
use crate::stores::{StoreUse, Stores};
use crate::users::{UserRole, Wish};
use access::AskedStore;
pub(super) use status::detailed;
use wire::dcb_server;

/// Messages and services, as they are described in `proto/umadb.proto`.
#[allow(dead_code, unreachable_pub, missing_docs, clippy::all, clippy::pedantic)]
mod wire {
    tonic::include_proto!("umadb.v1");
}

/// Name of the service.
pub(super) const SERVICE: &str = "umadb.v1.DCB";
/// Events of one message if the call does not say.
const BATCH_EVENTS: u32 = 1_024;
/// Events of one message at most.
const BATCH_EVENTS_MAX: u32 = 4_096;
/// Bytes of a message, in either direction: the usual limit of gRPC, which clients leave as it is.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of one message of several events.
const BATCH_BYTES_MAX: usize = 3_584 << 10;

/// The service `umadb.v1.DCB`.
pub(super) struct UmaService {
    stores: Arc<Stores>,
    stopping: Stopping,
}

/// Makes the service, and the routes of its calls with many events.
pub(super) fn services(
    stores: Arc<Stores>,
    stopping: Stopping,
) -> (dcb_server::DcbServer<UmaService>, axum::Router) {
    let service = Arc::new(UmaService { stores, stopping });
    let routes = encoded::routes(&service);
    let service = dcb_server::DcbServer::from_arc(service);
    (service.max_decoding_message_size(MESSAGE_BYTES_MAX), routes)
}

/// Tells whether a path is that of one of the calls.
pub(super) fn is_called(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some(SERVICE)
}

impl UmaService {
    /// Returns the store that a call looks at.
    async fn asked<T: Sync>(&self, request: &Request<T>) -> Result<AskedStore, Status> {
        AskedStore::of(&self.stores, request, StoreUse::Look).await
    }

    async fn read_encoded(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<Messages<Bytes>>, Status> {
        let asked = self.asked(&request).await?;
        read::read(&asked, request.into_inner()).map(Response::new)
    }

    async fn subscribe_encoded(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Messages<Bytes>>, Status> {
        let asked = self.asked(&request).await?;
        let stopping = self.stopping.clone();
        subscribe::subscribe(&asked, request.into_inner(), stopping).map(Response::new)
    }
}

/// Events of one message, within what the server allows.
fn batch_of(asked: Option<u32>) -> u32 {
    asked.unwrap_or(BATCH_EVENTS).clamp(1, BATCH_EVENTS_MAX)
}

/// A position as the protocol has it: none while there is no event.
fn present(position: Position) -> Option<u64> {
    (position > Position::START).then_some(position.0)
}

#[tonic::async_trait]
impl dcb_server::Dcb for UmaService {
    type ReadStream = Messages<wire::ReadResponse>;
    type SubscribeStream = Messages<wire::SubscribeResponse>;

    async fn read(
        &self,
        _: Request<wire::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        // Its own route comes first: `encoded`.
        Err(Status::unimplemented("it is answered elsewhere"))
    }

    async fn subscribe(
        &self,
        _: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("it is answered elsewhere"))
    }

    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendResponse>, Status> {
        let asked = AskedStore::of(&self.stores, &request, StoreUse::Create).await?;
        let position = append::append(&asked, request.into_inner()).await?;
        Ok(Response::new(wire::AppendResponse { position }))
    }

    async fn head(
        &self,
        request: Request<wire::HeadRequest>,
    ) -> Result<Response<wire::HeadResponse>, Status> {
        let asked = self.asked(&request).await?;
        asked.may(Wish::Role(UserRole::Read))?;
        let head = asked.store.head();
        Ok(Response::new(wire::HeadResponse { position: present(head.position) }))
    }

    async fn get_tracking_info(
        &self,
        request: Request<wire::TrackingRequest>,
    ) -> Result<Response<wire::TrackingResponse>, Status> {
        let asked = self.asked(&request).await?;
        asked.may(Wish::ReadAll)?;
        let position = append::tracked(&asked.store, request.into_inner().source).await?;
        Ok(Response::new(wire::TrackingResponse { position }))
    }
}
