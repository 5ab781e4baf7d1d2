//! The contract of a store, carried out by the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use leftfold_core::store::held_bytes;
use leftfold_core::store::limits::{APPEND_BYTES_MAX, LEASES_MAX};
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventFeed, EventId, Hash, HeldLease, HistoryFrom, HistoryPage, Identity, Invalid,
    Label, Lease, LeaseError, LeaseRequest, Leased, Metrics, Outcome, Page, Partition, Pending,
    Position, Query, Read, ReadError, Status, StoreId, Timestamp, What,
};
use leftfold_protocol::wire;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Code;

use crate::appends::HandedOver;
use crate::calls::{UnansweredCall, call, call_once};
use crate::channel::Client;
use crate::connect::{connect, request};
use crate::error::RemoteError;
use crate::feed;
use crate::groups::RemoteGroups;
use crate::link::{LinkTask, ToLink};
use crate::options::RemoteOptions;
use crate::presence;
use crate::shared::{LinkState, RemoteShared, reserve};
use crate::snapshots::{self, SnapshotQueue};

/// Bytes that an append counts for at most, its condition included, so that it fits into a message.
const REQUEST_BYTES_MAX: usize = APPEND_BYTES_MAX + (16 << 20);

/// A handle on a store that a server keeps. All clones are the same handle.
#[derive(Clone)]
pub struct RemoteStore {
    shared: Arc<RemoteShared>,
    link: mpsc::UnboundedSender<ToLink>,
    snapshots: Arc<SnapshotQueue>,
    runtime: Handle,
}

impl RemoteStore {
    /// Opens the store of a URL: `leftfold://host:port/name`.
    ///
    /// # Errors
    /// [`RemoteError`] if the URL cannot be read, the server not be reached, or it does not have
    /// the store.
    pub async fn open(url: &str) -> Result<Self, RemoteError> {
        Self::open_with(RemoteOptions::at(url)?).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn open_with(options: RemoteOptions) -> Result<Self, RemoteError> {
        let connected = connect(&options).await?;
        let (identity, status) = (connected.identity, connected.status.clone());
        let client = connected.client.clone();
        let shared = Arc::new(RemoteShared::new(options, identity, status, client));
        let (link, requests) = mpsc::unbounded_channel();
        tokio::spawn(LinkTask::new(Arc::clone(&shared), requests).run(connected));
        tokio::spawn(presence::run(Arc::clone(&shared)));
        let snapshots = Arc::new(SnapshotQueue::default());
        tokio::spawn(snapshots::run(Arc::downgrade(&snapshots), Arc::clone(&shared)));
        Ok(Self { shared, link, snapshots, runtime: Handle::current() })
    }

    /// The groups of consumers of the store: workers that share a subscription.
    #[must_use]
    pub fn groups(&self) -> RemoteGroups {
        RemoteGroups::new(Arc::clone(&self.shared))
    }

    /// Asks the server for something, in a task of its own.
    fn ask<T, E, Asking>(
        &self,
        bytes: usize,
        busy: impl FnOnce(usize) -> E,
        closed: E,
        asking: impl FnOnce(Arc<RemoteShared>) -> Asking,
    ) -> Pending<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        Asking: Future<Output = Result<T, E>> + Send + 'static,
    {
        if self.shared.is_closed() {
            return Pending::ready(Err(closed));
        }
        let limit = self.shared.options.queue_bytes;
        if let Err(waiting) = reserve(&self.shared.read_bytes, bytes, limit) {
            return Pending::ready(Err(busy(waiting)));
        }
        let shared = Arc::clone(&self.shared);
        let asked = asking(Arc::clone(&shared));
        let (sender, answer) = oneshot::channel();
        self.runtime.spawn(async move {
            let answer = asked.await;
            shared.read_bytes.fetch_sub(bytes, Ordering::AcqRel);
            // Nobody has to wait for an answer.
            let _ = sender.send(answer);
        });
        Pending::waiting(answer)
    }

    fn ask_read<T, Asking>(
        &self,
        bytes: usize,
        asking: impl FnOnce(Arc<RemoteShared>) -> Asking,
    ) -> Pending<T, ReadError>
    where
        T: Send + 'static,
        Asking: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        let busy = |waiting| ReadError::Busy { waiting };
        self.ask(bytes, busy, ReadError::Closed, |shared| {
            let asked = asking(Arc::clone(&shared));
            async move {
                // It is never closed. A lease does not wait behind reads: it would run out.
                let _room = shared.reads.acquire().await;
                asked.await
            }
        })
    }

    fn ask_lease<T, Asking>(
        &self,
        asking: impl FnOnce(Arc<RemoteShared>) -> Asking,
    ) -> Pending<T, LeaseError>
    where
        T: Send + 'static,
        Asking: Future<Output = Result<T, LeaseError>> + Send + 'static,
    {
        let busy = |waiting| LeaseError::Unavailable {
            detail: format!("{waiting} bytes of requests wait to be carried out"),
        };
        self.ask(held_bytes::EACH, busy, LeaseError::Closed, asking)
    }
}

/// Reads a part of an answer as a word of the store.
fn read_as<T, W: TryInto<T>>(message: W) -> Result<T, UnansweredCall>
where
    W::Error: ToString,
{
    message.try_into().map_err(UnansweredCall::strange)
}

fn id_bytes(id: uuid::Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

impl Backend for RemoteStore {
    fn identity(&self) -> Identity {
        self.shared.identity
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        let checked = append.validate().and_then(|()| {
            let bytes = held_bytes::of_append(&append);
            Invalid::if_over("the bytes of a request", bytes, REQUEST_BYTES_MAX).map(|()| bytes)
        });
        let bytes = match checked {
            Ok(bytes) => bytes,
            Err(invalid) => return Pending::ready(Err(invalid.into())),
        };
        if self.shared.is_closed() {
            return Pending::ready(Err(AppendError::Closed));
        }
        let limit = self.shared.options.queue_bytes;
        if let Err(waiting) = reserve(&self.shared.append_bytes, bytes, limit) {
            return Pending::ready(Err(AppendError::Busy { waiting }));
        }
        let (sender, answer) = oneshot::channel();
        let handed_over = HandedOver { append, bytes, answer: sender };
        match self.link.send(ToLink::Append(Box::new(handed_over))) {
            Ok(()) => Pending::waiting(answer),
            Err(_) => Pending::ready(Err(AppendError::Closed)),
        }
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        if let What::Matching { query, .. } = &read.what
            && let Err(invalid) = query.validate()
        {
            return Pending::ready(Err(invalid.into()));
        }
        self.ask_read(held_bytes::of_read(&read), move |shared| async move {
            let message = wire::ReadRequest::from(&read);
            let make = |mut client: Client| {
                let call = request(&shared.options, message.clone());
                async move { client.read(call).await }
            };
            Ok(read_as(call_once(&shared, make).await?)?)
        })
    }

    fn feed(&self, query: &Query, after: Position) -> Option<EventFeed> {
        feed::feed(Arc::clone(&self.shared), query, after).map(EventFeed::new)
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let id = Bytes::copy_from_slice(&id.0);
                let call = request(&shared.options, wire::AnsweredRequest { id });
                async move { client.answered(call).await }
            };
            let reply = call_once(&shared, make).await?;
            Ok(reply.answered.map(read_as).transpose()?)
        })
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let message = wire::GetCheckpointRequest {
                consumer: consumer.as_str().to_owned(),
                source: id_bytes(source.0),
                partition: partition.0.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            };
            let make = |mut client: Client| {
                let call = request(&shared.options, message.clone());
                async move { client.get_checkpoint(call).await }
            };
            let reply = call_once(&shared, make).await?;
            Ok(reply.checkpoint.map(read_as).transpose()?)
        })
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let message = wire::PositionAtRequest { moment: moment.as_micros() };
                let call = request(&shared.options, message);
                async move { client.position_at(call).await }
            };
            Ok(Position(call_once(&shared, make).await?.position))
        })
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let message = wire::ReadAppendsRequest { from: Some(from.into()), page_bytes };
                let call = request(&shared.options, message);
                async move { client.read_appends(call).await }
            };
            Ok(read_as(call_once(&shared, make).await?)?)
        })
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let message = wire::ReadHistoryRequest { from: Some(from.into()), page_bytes };
                let call = request(&shared.options, message);
                async move { client.read_history(call).await }
            };
            match call_once(&shared, make).await {
                // A server of an earlier release.
                Err(UnansweredCall::Refused(status)) if status.code() == Code::Unimplemented => {
                    Err(ReadError::NoHistory)
                }
                answered => Ok(read_as(answered?)?),
            }
        })
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let call = request(&shared.options, wire::HashAtRequest { position: position.0 });
                async move { client.hash_at(call).await }
            };
            let hash = call_once(&shared, make).await?.hash;
            let read = |hash: &[u8]| hash.try_into().map(Hash).map_err(UnansweredCall::strange);
            Ok(if hash.is_empty() { None } else { Some(read(&hash)?) })
        })
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.ask_read(held_bytes::EACH, move |shared| async move {
            let make = |mut client: Client| {
                let message = wire::PositionsOfRequest { id: id_bytes(id.0), at_most };
                let call = request(&shared.options, message);
                async move { client.positions_of(call).await }
            };
            let reply = call_once(&shared, make).await?;
            Ok(reply.positions.into_iter().map(Position).collect())
        })
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.ask_read(held_bytes::EACH + key.len(), move |shared| async move {
            let make = |mut client: Client| {
                let message = wire::GetSnapshotRequest { key: key.clone() };
                let call = request(&shared.options, message);
                async move { client.get_snapshot(call).await }
            };
            Ok(call_once(&shared, make).await?.value)
        })
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        if !self.shared.is_closed() {
            self.snapshots.keep(key, value);
        }
    }

    fn lease(&self, asked: LeaseRequest) -> Pending<Leased, LeaseError> {
        if let Err(invalid) = asked.validate() {
            return Pending::ready(Err(invalid.into()));
        }
        self.ask_lease(move |shared| async move {
            // The same holder that asks again renews its lease, so it may be repeated.
            let message = wire::LeaseRequest::from(asked);
            let make = |mut client: Client| {
                let call = request(&shared.options, message.clone());
                async move { client.take_lease(call).await }
            };
            Ok(read_as(call_once(&shared, make).await?)?)
        })
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.ask_lease(move |shared| async move {
            let message = wire::ReleaseRequest { lease: Some(lease.into()) };
            let make = |mut client: Client| {
                let call = request(&shared.options, message.clone());
                async move { client.release_lease(call).await }
            };
            call_once(&shared, make).await?;
            Ok(())
        })
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.ask_lease(|shared| async move {
            let make = |mut client: Client| {
                let call = request(&shared.options, wire::ListLeasesRequest {});
                async move {
                    let mut messages = client.list_leases(call).await?.into_inner();
                    let mut leases = Vec::new();
                    while let Some(message) = messages.message().await? {
                        leases.extend(message.leases);
                        if leases.len() > LEASES_MAX {
                            return Err(tonic::Status::out_of_range("more leases than there are"));
                        }
                    }
                    Ok(leases)
                }
            };
            let leases = call(&shared, make).await?;
            Ok(leases.into_iter().map(read_as).collect::<Result<_, _>>()?)
        })
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.ask_read(held_bytes::EACH, |shared| async move {
            let make = |mut client: Client| {
                let call = request(&shared.options, wire::NowRequest {});
                async move { client.now(call).await }
            };
            Ok(Timestamp::from_micros(call_once(&shared, make).await?.moment))
        })
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    fn measure(&self, metrics: &mut Metrics) {
        let is_up = matches!(&*self.shared.connection.borrow(), LinkState::Up(_));
        metrics.gauge(
            "leftfold_remote_connected",
            "1 while there is a connection to the server.",
            &[],
            u8::from(is_up),
        );
        metrics.counter(
            "leftfold_remote_connections_total",
            "Connections that were made to the server.",
            &[],
            self.shared.connections.load(Ordering::Relaxed),
        );
        metrics.gauge(
            "leftfold_remote_append_bytes",
            "Bytes of appends that wait for their answers.",
            &[],
            self.shared.append_bytes.load(Ordering::Relaxed),
        );
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.shared.is_closed.store(true, Ordering::Release);
        let (sender, closed) = oneshot::channel();
        match self.link.send(ToLink::Close(sender)) {
            Ok(()) => Pending::waiting(closed),
            Err(_) => Pending::ready(Ok(())),
        }
    }
}
