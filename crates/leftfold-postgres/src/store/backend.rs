//! A store in a database that is open: the contract of a backend over the writer and the readers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::store::limits::SNAPSHOT_BYTES_MAX;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendFigures, AppendsFrom, AppendsPage, Backend, Checkpoint,
    CloseError, CommandId, EventId, Hash, HeldLease, HistoryFrom, HistoryPage, Identity, Invalid,
    Label, Lease, LeaseError, LeaseRequest, Leased, Metrics, Outcome, Page, Partition, Pending,
    Position, Read, ReadError, Status, StoreId, Timestamp, What, held_bytes,
};
use tokio::sync::{oneshot, watch};
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::error::PostgresStoreError;
use super::inline::register;
use super::options::PostgresStoreOptions;
use super::read::verify::{RowsProgress, RowsReport, verify};
use super::read::{appends, history, lookups, pages};
use super::rows::{self, HEAD};
use super::shared::StoreShared;
use super::write::look_up::look_up;
use super::write::request::{CountedAnswer, StoreRequest, WaitingAppend};
use super::write::writer::StoreWriter;
use super::{follow, tables};
use crate::PostgresError;
use crate::connect::PostgresConnector;
use crate::target::place::quoted;

/// A store in a PostgreSQL database: its events are rows, and several processes use it at once.
///
/// Cheap to clone; all clones are the same store. It works in the tokio runtime in which it was
/// opened, by one connection that writes, one that listens and a few that read. Dropping the last
/// clone closes it behind what was handed over.
///
/// ```no_run
/// use leftfold_core::store::Store;
/// use leftfold_postgres::PostgresStore;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = PostgresStore::open("postgres://shop@localhost/shop?schema=orders").await?;
/// let store = Store::new(backend);
/// println!("{} events", store.head().position);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresStore {
    shared: Arc<StoreShared>,
    _closes: Arc<ClosesWhenDropped>,
}

/// Closes the store when nobody has a handle any more.
#[derive(Debug)]
struct ClosesWhenDropped(Arc<StoreShared>);

impl Drop for ClosesWhenDropped {
    fn drop(&mut self) {
        drop(self.0.queue.close());
    }
}

impl PostgresStore {
    /// Opens the store of a URL, as [`PostgresStoreOptions::at`] reads it, which also says if the
    /// connections are encrypted. Schema and tables are created if they do not exist, and brought
    /// to the newest format, unless it [says otherwise](PostgresStoreOptions::create); of several
    /// processes that start at once one does so.
    ///
    /// # Errors
    /// See [`PostgresStoreError`].
    pub async fn open(url: &str) -> Result<Self, PostgresStoreError> {
        Self::open_with(PostgresStoreOptions::at(url)?).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`PostgresStoreError`].
    pub async fn open_with(options: PostgresStoreOptions) -> Result<Self, PostgresStoreError> {
        let options = options.checked()?;
        let connector = configured(&options);
        Self::open_by(options, connector).await
    }

    /// The same, by connections that a connector encrypts: one of the crate `tokio-postgres-rustls`
    /// with settings of your own, such as a certificate of the client, of `postgres-openssl`, or
    /// another one. Whether the server must encrypt is for the URL to say: `?sslmode=require`.
    ///
    /// # Errors
    /// See [`PostgresStoreError`].
    pub async fn open_encrypted<T>(
        options: PostgresStoreOptions,
        connector: T,
    ) -> Result<Self, PostgresStoreError>
    where
        T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let options = options.checked()?;
        let connector = PostgresConnector::new(options.config.clone(), connector);
        Self::open_by(options, connector).await
    }

    async fn open_by(
        options: PostgresStoreOptions,
        connector: PostgresConnector,
    ) -> Result<Self, PostgresStoreError> {
        let connector = Arc::new(connector);
        let connected = connector.connect().await?;
        // Two at once, so that a pooler that shares sessions is seen here.
        drop(connector.connect().await?);
        let found = tables::open(&connected.rows, &options).await?;
        let ask = format!("SELECT {HEAD} FROM {}.head h", quoted(&options.schema));
        let head = connected.rows.query_one(&ask, &[]).await;
        let head = head.map_err(PostgresError::refused(&options.schema))?;
        let head = rows::head(&head, 0)?;
        drop(connected);
        let known = (found.identity, found.payload);
        let shared = Arc::new(StoreShared::new(options, connector, known, &head));
        register::all(&shared).await?;
        tokio::spawn(StoreWriter::new(Arc::clone(&shared)).run());
        tokio::spawn(follow::run(Arc::clone(&shared)));
        Ok(Self { _closes: Arc::new(ClosesWhenDropped(Arc::clone(&shared))), shared })
    }

    /// Declares that the database was restored from a copy, or has lost what was acknowledged: a
    /// new life of the store begins behind what is there. Processes that have it open take no
    /// appends any more until they open it again, and consumers in other places notice by their
    /// checkpoints that history is another.
    ///
    /// ```no_run
    /// use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = PostgresStoreOptions::at("postgres://shop@localhost/shop?schema=orders")?;
    /// PostgresStore::declare_restored(options).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`PostgresStoreError`].
    pub async fn declare_restored(
        options: PostgresStoreOptions,
    ) -> Result<Self, PostgresStoreError> {
        let options = options.checked()?;
        let connected = configured(&options).connect().await?;
        tables::open(&connected.rows, &options).await?;
        tables::begin_epoch(&connected.rows, &options.schema).await?;
        Self::open_with(options).await
    }

    /// Takes an [inline projection](crate::InlineProjections) away, whatever its version: appends of
    /// all processes write its rows no more, from the next one on, and a process that has it is
    /// refused until it is started without it. The rows stay; a runtime does not follow into them.
    /// Returns true if it was registered.
    ///
    /// The role needs `DELETE` on the table `inline_projections`.
    ///
    /// ```no_run
    /// use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = PostgresStoreOptions::at("postgres://shop@localhost/shop?schema=orders")?;
    /// PostgresStore::remove_inline(options, "totals").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`PostgresStoreError`].
    pub async fn remove_inline(
        options: PostgresStoreOptions,
        name: &str,
    ) -> Result<bool, PostgresStoreError> {
        let options = options.checked()?;
        let connected = configured(&options).connect().await?;
        tables::open(&connected.rows, &options).await?;
        register::remove(&connected, &options.schema, name).await
    }

    /// Believes the clock of the database as it is now.
    ///
    /// While a store is open its clock may be set by a day
    /// ([`DATABASE_CLOCK_JUMP_MAX`](crate::DATABASE_CLOCK_JUMP_MAX)). If it is set by more, nothing
    /// is recorded and no lease is judged by it, the status says so, and the store goes on when the
    /// clock comes back; or after this, which says that it is right. It is for this process alone.
    pub fn follow_clock(&self) {
        self.shared.clock.follow();
    }

    /// Reads every row that is part of history and recomputes the chain of hashes over it.
    /// `progress` hears of each page. A page has its own limit of time, so a store of any size can
    /// be verified.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] with the first append whose rows are not those that were written;
    /// others if the database cannot be read.
    pub async fn verify(
        &self,
        progress: impl FnMut(RowsProgress) + Send,
    ) -> Result<RowsReport, ReadError> {
        verify(&self.shared, progress).await
    }

    /// Reads in the background.
    fn reading<T: Send + 'static, F: Future<Output = Result<T, ReadError>> + Send>(
        &self,
        bytes: usize,
        read: impl FnOnce(Arc<StoreShared>) -> F + Send + 'static,
    ) -> Pending<T, ReadError> {
        if !self.shared.queue.is_open() {
            return Pending::ready(Err(ReadError::Closed));
        }
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let found = match shared.readers.count(bytes) {
                Ok(_counted) => read(Arc::clone(&shared)).await,
                Err(busy) => Err(busy),
            };
            // Whoever asked may have gone.
            let _ = sender.send(found);
        });
        Pending::waiting(receiver)
    }

    /// Hands a request about a lease to the writer.
    fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LeaseError>>) -> StoreRequest,
    ) -> Pending<T, LeaseError> {
        let (sender, receiver) = oneshot::channel();
        match self.shared.queue.push(request(sender)) {
            Ok(()) => Pending::waiting(receiver),
            Err(refused) => Pending::ready(Err(refused.into())),
        }
    }
}

/// The way to make connections that the options describe.
fn configured(options: &PostgresStoreOptions) -> PostgresConnector {
    let (config, roots) = (options.config.clone(), options.root_certificates.clone());
    PostgresConnector::as_configured(config, roots)
}

impl Backend for PostgresStore {
    fn identity(&self) -> Identity {
        self.shared.identity
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        if let Err(invalid) = append.validate() {
            return self.shared.answered_at_once(invalid.into());
        }
        let (sender, receiver) = oneshot::channel();
        let answer = CountedAnswer::new(sender, &self.shared.figures);
        let held_bytes = held_bytes::of_append(&append);
        let waiting = Box::new(WaitingAppend { append, looked_up: Vec::new(), held_bytes, answer });
        let queued = if self.shared.needs_look_up(&waiting) {
            self.shared.queue.announce(held_bytes).map(|()| look_up(&self.shared, waiting))
        } else {
            self.shared.queue.push(StoreRequest::Append(waiting))
        };
        match queued {
            Ok(()) => Pending::waiting(receiver),
            Err(refused) => self.shared.answered_at_once(refused.into()),
        }
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        if let What::Matching { query, .. } = &read.what
            && let Err(invalid) = query.validate()
        {
            return Pending::ready(Err(invalid.into()));
        }
        let bytes = held_bytes::of_read(&read);
        self.reading(bytes, move |shared| async move { pages::page(&shared, &read).await })
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.reading(
            held_bytes::EACH,
            move |shared| async move { lookups::answered(&shared, id).await },
        )
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            lookups::checkpoint(&shared, consumer, source, partition).await
        })
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            lookups::position_at(&shared, moment).await
        })
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            appends::page(&shared, from, page_bytes).await
        })
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            history::page(&shared, from, page_bytes).await
        })
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            lookups::hash_at(&shared, position).await
        })
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            lookups::positions_of(&shared, id, at_most).await
        })
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.reading(held_bytes::EACH, move |shared| async move {
            lookups::snapshot(&shared, key).await
        })
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        if Invalid::if_over("a snapshot", value.len(), SNAPSHOT_BYTES_MAX).is_err() {
            return;
        }
        let bytes = held_bytes::EACH + key.len() + value.len();
        // Nobody waits for it, and one that has no room is not kept.
        drop(self.reading(bytes, move |shared| async move {
            lookups::keep_snapshot(&shared, key, value).await;
            Ok(())
        }));
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.ask(|answer| StoreRequest::Lease(request, answer))
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.ask(|answer| StoreRequest::Release(lease, answer))
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        let (sender, receiver) = oneshot::channel();
        if !self.shared.queue.is_open() {
            return Pending::ready(Err(LeaseError::Closed));
        }
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let found = lookups::leases(&shared).await.map_err(|error| match error {
                ReadError::Closed => LeaseError::Closed,
                other => LeaseError::Unavailable { detail: other.to_string() },
            });
            // Whoever asked may have gone.
            let _ = sender.send(found);
        });
        Pending::waiting(receiver)
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.reading(held_bytes::EACH, |shared| async move { lookups::now(&shared).await })
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    fn writer_ended_within(&self) -> Duration {
        self.shared.options.transaction_within
    }

    fn measure(&self, metrics: &mut Metrics) {
        self.shared.figures.measure(metrics, self.shared.queue.waiting());
        AppendFigures::measure_clock(metrics, self.shared.clock.skew_micros());
    }

    fn close(&self) -> Pending<(), CloseError> {
        Pending::waiting(self.shared.queue.close())
    }
}
