//! The native protocol, `leftfold.v1`: the whole contract of a store, for programs elsewhere.

// The calls that are answered once stand here. `sessions` has those of appends, each carried by a
// task (`session`), with the ids of their `commands`, their `replies`, and with bounds on the
// answers that are `kept`; `follow` has the calls that go on: a status and a subscription. `groups`
// has the calls about groups of consumers, `consume` that of a consumer.

mod commands;
mod consume;
mod follow;
mod groups;
mod kept;
mod replies;
mod session;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use leftfold::store::limits::SNAPSHOT_BYTES_MAX;
use leftfold::store::{
    AppendsFrom, Backend, Checkpoint, CommandId, EventId, Fence, Hash, Head, HistoryFrom, Holder,
    Invalid, Label, Lease, LeaseError, LeaseRequest, Page, Partition, Position, Query, Read,
    ReadError, StoreId, Timestamp, What,
};
use leftfold_protocol::wire::{self, store_server, subscribe_request};
use leftfold_protocol::{
    MESSAGE_BYTES_MAX, Malformed, PAGE_BYTES_MAX, lease_status, read_status, subscribe_status,
};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::traced::trace_of;
use crate::services::Messages;
use crate::stopping::Stopping;
use crate::stores::{ServedStore, StoreUse, Stores};
use crate::users::{Caller, UserRole, Wish};
use commands::CommandSpace;
use groups::{GroupCalls, TO_ADMINISTER, TO_LOOK};
use replies::{Replies, replies};
use session::{AppendCall, AppendRight};
use sessions::SessionKey;
pub(super) use sessions::Sessions;

/// Time that the first message of a call of appends may take.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// Leases in one message: with the largest notes they are below a megabyte or two.
const LEASES_A_MESSAGE: usize = 256;
/// Bytes of the key of a cached value: names of the store, and some numbers.
const SNAPSHOT_KEY_BYTES_MAX: usize = 2 << 10;
/// Bytes that the program of the server says of itself.
const PROGRAM: &str = concat!("leftfold ", env!("CARGO_PKG_VERSION"));

/// Bytes of a message of any call but those with events or a cached value.
const ASKED_BYTES_MAX: usize = 4 << 20;
/// Calls whose messages may have [`MESSAGE_BYTES_MAX`].
const LARGE_CALLS: [&str; 2] = ["/leftfold.v1.Store/Append", "/leftfold.v1.Store/KeepSnapshot"];

/// The service `leftfold.v1.Store`.
#[derive(Clone)]
pub(super) struct NativeService {
    stores: Arc<Stores>,
    sessions: Arc<Sessions>,
    stopping: Stopping,
}

/// Makes the service, with the limits of its messages, and the routes of its calls with large ones.
pub(super) fn services(
    stores: Arc<Stores>,
    sessions: Arc<Sessions>,
    stopping: Stopping,
) -> (store_server::StoreServer<NativeService>, axum::Router) {
    let service = NativeService { stores, sessions, stopping };
    let with_messages_of = |bytes| {
        store_server::StoreServer::new(service.clone())
            .max_decoding_message_size(bytes)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
    let large = LARGE_CALLS.into_iter().fold(axum::Router::new(), |routes, call| {
        routes.route_service(call, with_messages_of(MESSAGE_BYTES_MAX))
    });
    (with_messages_of(ASKED_BYTES_MAX), large)
}

impl NativeService {
    /// Returns the store that a call names, if its caller may do with it what it wishes.
    async fn store(
        &self,
        caller: &Caller,
        metadata: &MetadataMap,
        wish: Wish<'_>,
    ) -> Result<ServedStore, Status> {
        let store = self.stores.of(caller, metadata, StoreUse::Look).await?;
        caller.may(&store.name, wish)?;
        Ok(store)
    }

    /// Returns the groups of the store that a call names, for a caller who has a right.
    async fn groups(
        &self,
        caller: Caller,
        metadata: &MetadataMap,
        wish: Wish<'_>,
    ) -> Result<GroupCalls, Status> {
        let served = self.store(&caller, metadata, wish).await?;
        Ok(GroupCalls::of(caller, served))
    }

    async fn backend<T>(
        &self,
        request: &Request<T>,
        wish: Wish<'_>,
    ) -> Result<Arc<dyn Backend>, Status>
    where
        T: Sync,
    {
        let store = self.store(&Caller::of(request)?, request.metadata(), wish).await?;
        Ok(Arc::clone(store.store.backend()))
    }
}

/// Wish of calls that tell of the store, but nothing of its events.
const LOOK: Wish<'_> = Wish::Role(UserRole::Read);

/// Chain of a head that is shown to a caller who may not read all: the real one confirms what
/// anybody guesses of the events that it was made of.
const HIDDEN_CHAIN: Hash = Hash::EMPTY;

/// Returns a head as it is shown to callers who read all events, or to others.
fn shown(head: Head, reads_all: bool) -> Head {
    if reads_all { head } else { Head { chain: HIDDEN_CHAIN, ..head } }
}

/// Returns the right that work of this name needs.
fn worker(work: &str) -> Wish<'static> {
    if work.starts_with('$') { Wish::Role(UserRole::Runtime) } else { Wish::AppendAll }
}

/// The status of a message that cannot be understood.
fn refused(malformed: Malformed) -> Status {
    match malformed {
        Malformed::Invalid(invalid) => read_status(&ReadError::Invalid(invalid)),
        other => Status::invalid_argument(other.to_string()),
    }
}

fn label(text: String) -> Result<Label, Status> {
    Label::new(text).map_err(|invalid| refused(invalid.into()))
}

fn exactly<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], Status> {
    let text = || format!("{what} has {} bytes, send {N}", bytes.len());
    bytes.try_into().map_err(|_| Status::invalid_argument(text()))
}

fn unreadable(error: ReadError) -> Status {
    read_status(&error)
}

fn unleased(error: LeaseError) -> Status {
    lease_status(&error)
}

/// Reads a page that fits into a message: of events with much beside their data, half as many.
async fn page(
    backend: &dyn Backend,
    mut read: Read,
    reads_all: bool,
) -> Result<wire::Page, Status> {
    read.page_bytes = read.page_bytes.min(PAGE_BYTES_MAX);
    loop {
        let mut page: Page = backend.read(read.clone()).await.map_err(unreadable)?;
        page.head = shown(page.head, reads_all);
        let events = u32::try_from(page.events.len()).unwrap_or(u32::MAX);
        let message = wire::Page::from(page);
        if events <= 1 || message.encoded_len() <= MESSAGE_BYTES_MAX {
            return Ok(message);
        }
        read.page_events = events / 2;
    }
}

#[tonic::async_trait]
impl store_server::Store for NativeService {
    type WatchStream = Messages<wire::Status>;
    type AppendStream = Replies;
    type SubscribeStream = Messages<wire::SubscribeReply>;
    type ListLeasesStream = Messages<wire::HeldLeases>;
    type ListGroupsStream = Messages<wire::GroupInfo>;
    type ConsumeStream = Messages<wire::ConsumeReply>;

    async fn identify(
        &self,
        request: Request<wire::IdentifyRequest>,
    ) -> Result<Response<wire::IdentifyReply>, Status> {
        let caller = Caller::of(&request)?;
        let wished = if request.get_ref().create { StoreUse::Create } else { StoreUse::Look };
        let store = self.stores.of(&caller, request.metadata(), wished).await?;
        caller.may(&store.name, LOOK)?;
        let backend = store.store.backend();
        let mut status = backend.status().borrow().clone();
        status.head = shown(status.head, caller.has(&store.name, Wish::ReadAll));
        Ok(Response::new(wire::IdentifyReply {
            identity: Some(backend.identity().into()),
            status: Some((&status).into()),
            server: PROGRAM.to_owned(),
        }))
    }

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let store = self.store(&caller, request.metadata(), LOOK).await?;
        let reads_all = caller.has(&store.name, Wish::ReadAll);
        let status = store.store.backend().status();
        Ok(Response::new(follow::statuses(status, reads_all, self.stopping.clone())))
    }

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let caller = Caller::of(&request)?;
        // Each append is judged by itself, and answered that it may not be.
        let store = self.stores.of(&caller, request.metadata(), StoreUse::Create).await?;
        let trace = trace_of(request.metadata());
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(OPENED_WITHIN, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the call was not opened"))??;
        let Some(wire::append_request::Request::Open(open)) = first.and_then(|one| one.request)
        else {
            return Err(Status::invalid_argument("the first message opens the call"));
        };
        let id = match open.session.as_ref() {
            [] => None,
            id => Some(exactly("a session", id)?),
        };
        let (sender, replies) = replies(open.takes_several);
        let first_unanswered = open.first_unanswered;
        // Who may append nothing has nothing to go on with.
        let may_append = caller.has(&store.name, Wish::Role(UserRole::Append));
        let session = id.map(|id| SessionKey::of(&store, caller.name(), id));
        let session = session.filter(|_| may_append);
        let author = AppendRight { caller, store, trace };
        let backend = Arc::clone(author.store.store.backend());
        let call = AppendCall { incoming, replies: sender, first_unanswered, author };
        self.sessions.give(session, &backend, call);
        Ok(Response::new(replies))
    }

    async fn answered(
        &self,
        request: Request<wire::AnsweredRequest>,
    ) -> Result<Response<wire::AnsweredReply>, Status> {
        let caller = Caller::of(&request)?;
        let store = self.store(&caller, request.metadata(), Wish::ReadAll).await?;
        let id = CommandId(exactly("the id of a command", &request.get_ref().id)?);
        let kept = CommandSpace::of(&caller, &store.name).kept(id);
        let mut answered = store.store.backend().answered(kept).await.map_err(unreadable)?;
        if let Some(answered) = &mut answered {
            answered.record.id = id;
        }
        Ok(Response::new(wire::AnsweredReply { answered: answered.map(Into::into) }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::GetCheckpointReply>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let wire::GetCheckpointRequest { consumer, source, partition } = request.into_inner();
        let source = StoreId(uuid_of("a store", &source)?);
        let partition =
            Partition(if partition.is_empty() { None } else { Some(label(partition)?) });
        let found = backend.checkpoint(label(consumer)?, source, partition).await;
        let checkpoint = found.map_err(unreadable)?.map(Into::into);
        Ok(Response::new(wire::GetCheckpointReply { checkpoint }))
    }

    async fn read(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<wire::Page>, Status> {
        let caller = Caller::of(&request)?;
        let store = self.stores.of(&caller, request.metadata(), StoreUse::Look).await?;
        let read = Read::try_from(request.into_inner()).map_err(refused)?;
        caller.may(
            &store.name,
            match &read.what {
                What::Stream { stream, .. } => Wish::Stream(stream),
                What::Matching { query, .. } => Wish::Query(query),
            },
        )?;
        let backend = store.store.backend();
        let reads_all = caller.has(&store.name, Wish::ReadAll);
        page(&**backend, read, reads_all).await.map(Response::new)
    }

    async fn read_appends(
        &self,
        request: Request<wire::ReadAppendsRequest>,
    ) -> Result<Response<wire::AppendsPage>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let wire::ReadAppendsRequest { from, page_bytes } = request.into_inner();
        let from = from.map_or(Ok(AppendsFrom::After(Position::START)), TryInto::try_into);
        let from = from.map_err(refused)?;
        let page = backend.appends(from, page_bytes.min(PAGE_BYTES_MAX)).await;
        Ok(Response::new(page.map_err(unreadable)?.into()))
    }

    async fn read_history(
        &self,
        request: Request<wire::ReadHistoryRequest>,
    ) -> Result<Response<wire::HistoryPage>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let wire::ReadHistoryRequest { from, page_bytes } = request.into_inner();
        let from = from.map_or(Ok(HistoryFrom::START), TryInto::try_into).map_err(refused)?;
        let page = backend.history(from, page_bytes.min(PAGE_BYTES_MAX)).await;
        Ok(Response::new(page.map_err(unreadable)?.into()))
    }

    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&request)?;
        let served = self.stores.of(&caller, request.metadata(), StoreUse::Look).await?;
        let wire::SubscribeRequest { query, from, takes_through } = request.into_inner();
        let query = query.ok_or_else(|| refused(Malformed::Absent { field: "query" }))?;
        let query = Query::try_from(query).map_err(refused)?;
        caller.may(&served.name, Wish::Query(&query))?;
        let after = match from {
            None => Position::START,
            Some(subscribe_request::From::After(after)) => Position(after),
            Some(subscribe_request::From::Checkpoint(checkpoint)) => {
                // The answer tells if its hash is the right one.
                caller.may(&served.name, Wish::ReadAll)?;
                let checkpoint = Checkpoint::try_from(checkpoint).map_err(refused)?;
                let verified = served.store.verify(&checkpoint).await;
                verified.map_err(|error| subscribe_status(&error))?;
                checkpoint.position
            }
        };
        let subscription = served.subscribe(query, after);
        let takes = (takes_through, caller.has(&served.name, Wish::ReadAll));
        let stopping = self.stopping.clone();
        Ok(Response::new(follow::signals(&served, subscription, takes, stopping)))
    }

    async fn position_at(
        &self,
        request: Request<wire::PositionAtRequest>,
    ) -> Result<Response<wire::PositionAtReply>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let moment = Timestamp::from_micros(request.get_ref().moment);
        let position = backend.position_at(moment).await.map_err(unreadable)?.0;
        Ok(Response::new(wire::PositionAtReply { position }))
    }

    async fn now(
        &self,
        request: Request<wire::NowRequest>,
    ) -> Result<Response<wire::NowReply>, Status> {
        let backend = self.backend(&request, LOOK).await?;
        let moment = backend.now().await.map_err(unreadable)?.as_micros();
        Ok(Response::new(wire::NowReply { moment }))
    }

    async fn hash_at(
        &self,
        request: Request<wire::HashAtRequest>,
    ) -> Result<Response<wire::HashAtReply>, Status> {
        // It confirms what anybody guesses of the events that it was made of.
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let position = Position(request.get_ref().position);
        let hash = backend.hash_at(position).await.map_err(unreadable)?;
        let hash = hash.map(|hash| hash.0.to_vec().into()).unwrap_or_default();
        Ok(Response::new(wire::HashAtReply { hash }))
    }

    async fn positions_of(
        &self,
        request: Request<wire::PositionsOfRequest>,
    ) -> Result<Response<wire::PositionsOfReply>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let id = EventId(uuid_of("the id of an event", &request.get_ref().id)?);
        let found = backend.positions_of(id, request.get_ref().at_most).await;
        let positions = found.map_err(unreadable)?.into_iter().map(|found| found.0).collect();
        Ok(Response::new(wire::PositionsOfReply { positions }))
    }

    async fn get_snapshot(
        &self,
        request: Request<wire::GetSnapshotRequest>,
    ) -> Result<Response<wire::GetSnapshotReply>, Status> {
        let backend = self.backend(&request, Wish::ReadAll).await?;
        let value = backend.snapshot(request.into_inner().key).await.map_err(unreadable)?;
        Ok(Response::new(wire::GetSnapshotReply { value }))
    }

    async fn keep_snapshot(
        &self,
        request: Request<wire::KeepSnapshotRequest>,
    ) -> Result<Response<wire::KeepSnapshotReply>, Status> {
        // Whoever folds from it believes it, as a process does that gives commands.
        let backend = self.backend(&request, Wish::Role(UserRole::Runtime)).await?;
        let wire::KeepSnapshotRequest { key, value } = request.into_inner();
        let too_large = |invalid: Invalid| refused(invalid.into());
        Invalid::if_over("the key of a snapshot", key.len(), SNAPSHOT_KEY_BYTES_MAX)
            .and_then(|()| Invalid::if_over("a snapshot", value.len(), SNAPSHOT_BYTES_MAX))
            .map_err(too_large)?;
        backend.keep_snapshot(key, value);
        Ok(Response::new(wire::KeepSnapshotReply {}))
    }

    async fn take_lease(
        &self,
        request: Request<wire::LeaseRequest>,
    ) -> Result<Response<wire::LeaseReply>, Status> {
        let backend = self.backend(&request, worker(&request.get_ref().work)).await?;
        let request = LeaseRequest::try_from(request.into_inner()).map_err(refused)?;
        let leased = backend.lease(request).await.map_err(unleased)?;
        Ok(Response::new(leased.into()))
    }

    async fn release_lease(
        &self,
        request: Request<wire::ReleaseRequest>,
    ) -> Result<Response<wire::ReleaseReply>, Status> {
        let work = request.get_ref().lease.as_ref().map_or("", |lease| &*lease.work);
        let backend = self.backend(&request, worker(work)).await?;
        let lease = request.into_inner().lease;
        let lease = lease.ok_or_else(|| refused(Malformed::Absent { field: "lease" }))?;
        let lease = Lease::try_from(lease).map_err(refused)?;
        backend.release(lease).await.map_err(unleased)?;
        Ok(Response::new(wire::ReleaseReply {}))
    }

    async fn list_leases(
        &self,
        request: Request<wire::ListLeasesRequest>,
    ) -> Result<Response<Self::ListLeasesStream>, Status> {
        let caller = Caller::of(&request)?;
        let store = self.store(&caller, request.metadata(), Wish::ReadAll).await?;
        let mut leases = store.store.backend().leases().await.map_err(unleased)?;
        // By holder and fence a lease is renewed and released.
        for held in &mut leases {
            if !caller.has(&store.name, worker(&held.work)) {
                (held.holder, held.fence) = (Holder(uuid::Uuid::nil()), Fence(0));
            }
        }
        let messages: Vec<_> = leases
            .chunks(LEASES_A_MESSAGE)
            .map(|some| {
                let leases = some.iter().cloned().map(Into::into).collect();
                Ok(wire::HeldLeases { leases })
            })
            .collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter(messages))))
    }

    async fn create_group(
        &self,
        request: Request<wire::CreateGroupRequest>,
    ) -> Result<Response<wire::CreateGroupReply>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), TO_ADMINISTER).await?;
        groups.create(request.into_inner()).await?;
        Ok(Response::new(wire::CreateGroupReply {}))
    }

    async fn update_group(
        &self,
        request: Request<wire::UpdateGroupRequest>,
    ) -> Result<Response<wire::UpdateGroupReply>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), TO_ADMINISTER).await?;
        groups.update(request.into_inner()).await?;
        Ok(Response::new(wire::UpdateGroupReply {}))
    }

    async fn delete_group(
        &self,
        request: Request<wire::DeleteGroupRequest>,
    ) -> Result<Response<wire::DeleteGroupReply>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), TO_ADMINISTER).await?;
        groups.delete(request.into_inner()).await?;
        Ok(Response::new(wire::DeleteGroupReply {}))
    }

    async fn replay_parked(
        &self,
        request: Request<wire::ReplayParkedRequest>,
    ) -> Result<Response<wire::ReplayParkedReply>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), Wish::AppendAll).await?;
        groups.replay(request.into_inner()).await?;
        Ok(Response::new(wire::ReplayParkedReply {}))
    }

    async fn release_parked(
        &self,
        request: Request<wire::ReleaseParkedRequest>,
    ) -> Result<Response<wire::ReleaseParkedReply>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), Wish::AppendAll).await?;
        groups.release(request.into_inner()).await?;
        Ok(Response::new(wire::ReleaseParkedReply {}))
    }

    async fn get_group(
        &self,
        request: Request<wire::GetGroupRequest>,
    ) -> Result<Response<wire::GetGroupReply>, Status> {
        let groups = self.groups(Caller::of(&request)?, request.metadata(), TO_LOOK).await?;
        let group = Some(groups.get(request.into_inner()).await?);
        Ok(Response::new(wire::GetGroupReply { group }))
    }

    async fn list_groups(
        &self,
        request: Request<wire::ListGroupsRequest>,
    ) -> Result<Response<Self::ListGroupsStream>, Status> {
        let groups = self.groups(Caller::of(&request)?, request.metadata(), TO_LOOK).await?;
        groups.list().await.map(Response::new)
    }

    async fn list_parked(
        &self,
        request: Request<wire::ListParkedRequest>,
    ) -> Result<Response<wire::ListParkedReply>, Status> {
        let groups = self.groups(Caller::of(&request)?, request.metadata(), TO_LOOK).await?;
        groups.parked(request.into_inner()).await.map(Response::new)
    }

    async fn consume(
        &self,
        request: Request<Streaming<wire::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let caller = Caller::of(&request)?;
        let groups = self.groups(caller, request.metadata(), Wish::AppendAll).await?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(OPENED_WITHIN, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the call was not opened"))??;
        let Some(wire::consume_request::Request::Open(open)) = first.and_then(|one| one.request)
        else {
            return Err(Status::invalid_argument("the first message opens the call"));
        };
        let consuming = consume::begin(groups, open, incoming, self.stopping.clone()).await?;
        Ok(Response::new(consuming))
    }
}

fn uuid_of(what: &str, bytes: &[u8]) -> Result<uuid::Uuid, Status> {
    exactly(what, bytes).map(uuid::Uuid::from_bytes)
}
