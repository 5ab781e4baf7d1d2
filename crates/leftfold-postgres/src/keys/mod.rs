//! The keys of personal data as rows, shared by all processes.
//!
//! `options` says where they are, and `error` what opening fails with. `tables` creates them;
//! `calls` has the connections and the transactions, and `statements` what each call does in one.

mod calls;
mod error;
mod options;
mod statements;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, Lookup,
    OutlivedValue, Secret, Token,
};
use leftfold_core::store::{Label, Pending, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use uuid::Uuid;

use calls::KeyConnections;
use error::CallFailure;
pub use error::PostgresKeysError;
pub use options::PostgresKeysOptions;
use statements::KeyTables;

use crate::connect::PostgresConnector;
use crate::target::place::quoted;

/// Calls that may be under way at most.
const KEY_CALLS_MAX: usize = 1_024;

/// A key store in a schema of a PostgreSQL database, which any number of processes use at once.
///
/// Every call is a statement or a transaction on the server, and nothing is kept in this process:
/// a key that another process destroyed opens nothing here from that moment on. A subject has one
/// key whoever draws it, by unique constraints; while a key is destroyed nothing is drawn. Cheap to
/// clone; it works in the tokio runtime in which it was opened.
///
/// Put it into another database than the events, so that one backup does not hold both. Whoever
/// reads the tables can open everything: let no other role do so. Secrets go over the connection,
/// so encrypt it unless the server is on the same machine.
///
/// # What PostgreSQL keeps of a destroyed key
/// A destruction deletes the rows. From then on no statement returns them, but their bytes stay
/// - in the files of the tables until a vacuum, and after it until the room is used again. Tables
///   are vacuumed after a destruction if the role owns them, and by autovacuum within a minute or
///   so; a transaction that is open anywhere in the database delays both. `VACUUM FULL` writes the
///   tables anew without them;
/// - in the write-ahead log until its files are recycled, on standbys, in archives and in backups,
///   for as long as those are kept: no longer than a person may wait to be forgotten.
///
/// ```no_run
/// use leftfold_core::personal::Keys;
/// use leftfold_core::store::Store;
/// use leftfold_postgres::{PostgresKeys, PostgresStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::new(PostgresStore::open("postgres://shop@localhost/shop").await?);
/// let key_store = PostgresKeys::open("postgres://shop@localhost/secrets?schema=keys").await?;
/// let keys = Keys::of(&store, key_store).await?;
/// let name = keys.subject("customer-1").await?.seal(&"Ada".to_owned())?;
/// # let _ = name;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresKeys {
    shared: Arc<OpenKeys>,
}

#[derive(Debug)]
struct OpenKeys {
    place: String,
    id: Uuid,
    lookup: Secret,
    is_empty: AtomicBool,
    tables: KeyTables,
    runtime: Handle,
    calls: AtomicUsize,
    /// Rows were deleted, and the tables not vacuumed since.
    has_deleted: AtomicBool,
    vacuums: Mutex<()>,
}

impl PostgresKeys {
    /// Opens the key store of a URL, as [`PostgresKeysOptions::at`] reads it. Schema and tables are
    /// created if they do not exist; of several processes that start at once one does so.
    ///
    /// # Errors
    /// See [`PostgresKeysError`].
    pub async fn open(url: &str) -> Result<Self, PostgresKeysError> {
        Self::open_with(PostgresKeysOptions::at(url)?).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`PostgresKeysError`].
    pub async fn open_with(options: PostgresKeysOptions) -> Result<Self, PostgresKeysError> {
        let options = options.checked()?;
        let roots = options.root_certificates.clone();
        let connector = PostgresConnector::as_configured(options.config.clone(), roots);
        Self::open_by(options, connector).await
    }

    /// The same, by connections that a connector encrypts, as
    /// [`PostgresStore::open_encrypted`](crate::PostgresStore::open_encrypted) has it.
    ///
    /// # Errors
    /// See [`PostgresKeysError`].
    pub async fn open_encrypted<T>(
        options: PostgresKeysOptions,
        connector: T,
    ) -> Result<Self, PostgresKeysError>
    where
        T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let options = options.checked()?;
        let connector = PostgresConnector::new(options.config.clone(), connector);
        Self::open_by(options, connector).await
    }

    async fn open_by(
        options: PostgresKeysOptions,
        connector: PostgresConnector,
    ) -> Result<Self, PostgresKeysError> {
        let PostgresKeysOptions { config, schema, connections, transaction_within, .. } = options;
        let connections = KeyConnections::new(connector, &schema, connections, transaction_within);
        let connecting = connections.connect().await;
        let connected = connecting.map_err(PostgresKeysError::of_connecting(&schema))?;
        let found = tables::open(&connected.rows, &schema).await?;
        connections.give_back(connected);
        let database = config.get_dbname().or(config.get_user()).unwrap_or("of the role's name");
        let shared = OpenKeys {
            place: format!("in schema {schema} of the database {database}"),
            id: found.id,
            lookup: found.lookup,
            is_empty: AtomicBool::new(found.is_empty),
            tables: KeyTables { schema: quoted(&schema), connections },
            runtime: Handle::current(),
            calls: AtomicUsize::new(0),
            has_deleted: AtomicBool::new(false),
            vacuums: Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Carries a call out in the background, if not too many wait.
    fn ask<T: Send + 'static, F: Future<Output = Result<T, CallFailure>> + Send>(
        &self,
        call: impl FnOnce(Arc<OpenKeys>) -> F + Send + 'static,
    ) -> Pending<T, KeyStoreError> {
        let shared = Arc::clone(&self.shared);
        if shared.calls.fetch_add(1, Ordering::Relaxed) >= KEY_CALLS_MAX {
            shared.calls.fetch_sub(1, Ordering::Relaxed);
            let failure = CallFailure::NotDone("too many calls wait".to_owned());
            return Pending::ready(Err(failure.at(&shared.place)));
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.runtime.spawn(async move {
            let done = call(Arc::clone(&shared)).await;
            shared.calls.fetch_sub(1, Ordering::Relaxed);
            // Whoever asked may have gone.
            let _ = sender.send(done.map_err(|failure| failure.at(&shared.place)));
            shared.vacuum().await;
        });
        Pending::waiting(receiver)
    }
}

impl OpenKeys {
    /// Vacuums the tables if rows were deleted. Those who come meanwhile share the next one.
    async fn vacuum(&self) {
        if !self.has_deleted.load(Ordering::Acquire) {
            return;
        }
        let _turn = self.vacuums.lock().await;
        if !self.has_deleted.swap(false, Ordering::AcqRel) {
            return;
        }
        let place = &self.place;
        match self.tables.vacuum().await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(%place, "the server did not vacuum all tables of keys, since they are locked or the role does not own them: a destroyed key is in its files until autovacuum comes");
            }
            Err(failure) => {
                tracing::warn!(%place, ?failure, "the tables of keys were not vacuumed: a destroyed key is in the files of the server until autovacuum comes");
            }
        }
    }

    fn keeps_something(&self) {
        self.is_empty.store(false, Ordering::Release);
    }
}

impl KeyStore for PostgresKeys {
    fn place(&self) -> String {
        self.shared.place.clone()
    }

    /// `is_empty` is what was found when it was opened, until something is kept by this handle.
    fn identity(&self) -> KeyStoreIdentity {
        let OpenKeys { id, lookup, is_empty, .. } = &*self.shared;
        let is_empty = is_empty.load(Ordering::Acquire);
        KeyStoreIdentity { id: *id, lookup: lookup.clone(), is_empty }
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        self.ask(move |keys| async move {
            let drawn = keys.tables.draw(subject).await?;
            keys.keeps_something();
            Ok(drawn)
        })
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        self.ask(move |keys| async move { keys.tables.key_of(&subject).await })
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        self.ask(move |keys| async move { keys.tables.key(id).await })
    }

    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError> {
        self.ask(move |keys| async move { keys.tables.token(&value, owner, since).await })
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        self.ask(move |keys| async move { keys.tables.find(&value).await })
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        self.ask(|keys| async move { keys.tables.outlived().await })
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        self.ask(move |keys| async move {
            let deleted = keys.tables.release(&values).await?;
            keys.has_deleted.fetch_or(deleted, Ordering::AcqRel);
            Ok(())
        })
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        self.ask(move |keys| async move {
            let deleted = keys.tables.destroy(&key).await?;
            keys.keeps_something();
            keys.has_deleted.fetch_or(deleted, Ordering::AcqRel);
            Ok(())
        })
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        self.ask(|keys| async move { keys.tables.destroyed().await })
    }
}
