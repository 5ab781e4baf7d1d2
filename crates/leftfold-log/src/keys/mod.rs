//! The keys of subjects in a directory of their own, beside the log.
//!
//! `format` is the file byte by byte, `file` appends to it and rewrites it, `writer` is the thread
//! that does so, and `error` has the errors of opening the file.

mod error;
mod file;
mod format;
mod writer;

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, Lookup,
    OutlivedValue, Ring, Secret, Token,
};
use leftfold_core::store::{Label, Pending, Timestamp};
use tokio::sync::oneshot;
use uuid::Uuid;

pub use error::KeyFileError;
use file::OpenKeyFile;
use writer::{KeyRequest, KeyWriter};

use crate::disk::{Disk, Real};

/// Requests that wait to be written at most.
pub const KEY_REQUESTS_MAX: usize = 1_024;

/// A key store in a directory: one file, which one process has open.
///
/// All keys are in memory, about 200 bytes for each subject. What is new is appended and synced,
/// many requests at a time. To destroy a key the file is rewritten without it, synced, and takes
/// the place of the old one; then the bytes of the old one are overwritten. That is as much as a
/// file system can be asked for: one that keeps old blocks (snapshots, a journal of data, the cells
/// of a flash disk) is to be on an encrypted volume, and a backup of the file is to be kept apart
/// from backups of the log, and not for longer than a person may wait to be forgotten.
///
/// Nothing is written before the first key is drawn. Dropping the last handle closes it.
///
/// ```
/// use leftfold_core::personal::{Keys, Opened};
/// use leftfold_core::store::Store;
/// use leftfold_log::KeyFile;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("keys");
/// let store = Store::memory();
/// let keys = Keys::of(&store, KeyFile::open(&directory)?).await?;
/// let name = keys.subject("customer-1").await?.seal(&"Ada".to_owned())?;
/// drop(keys);
///
/// // After a restart.
/// let keys = Keys::of(&store, KeyFile::open(&directory)?).await?;
/// assert_eq!(keys.open(&name).await?, Opened::Known("Ada".to_owned()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct KeyFile {
    shared: Arc<SharedKeys>,
    queue: Option<SyncSender<KeyRequest>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SharedKeys {
    place: String,
    id: Uuid,
    lookup: Secret,
    /// The durable state.
    ring: RwLock<Ring>,
}

impl KeyFile {
    /// Opens the key store in a directory, which is made if it is not there. It is to be a
    /// directory of its own.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let io = |error| KeyFileError::io(path.display(), &error);
        make_private(path).map_err(io)?;
        Self::open_on(Arc::new(Real::create(path).map_err(io)?))
    }

    /// The same on any disk.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Self, KeyFileError> {
        let (file, ring) = OpenKeyFile::open(disk)?;
        let (place, id, lookup) = (file.place(), file.header().id, file.header().lookup.clone());
        let shared = Arc::new(SharedKeys { place, id, lookup, ring: RwLock::new(ring) });
        let (queue, requests) = sync_channel(KEY_REQUESTS_MAX);
        let writer = KeyWriter::new(file, Arc::clone(&shared));
        let spawned = std::thread::Builder::new()
            .name("leftfold-keys".to_owned())
            .spawn(move || writer.run(&requests));
        let thread = spawned.map_err(|error| KeyFileError::io(&shared.place, &error))?;
        Ok(Self { shared, queue: Some(queue), thread: Some(thread) })
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.shared.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, KeyStoreError>>) -> KeyRequest,
    ) -> Pending<T, KeyStoreError> {
        let (answer, pending) = oneshot::channel();
        let failed = |detail: &str| {
            let (place, detail) = (self.shared.place.clone(), detail.to_owned());
            Pending::ready(Err(KeyStoreError::Failed { place, detail }))
        };
        match self.queue.as_ref().map(|queue| queue.try_send(request(answer))) {
            Some(Ok(())) => Pending::waiting(pending),
            Some(Err(TrySendError::Full(_))) => failed("too many requests wait to be written"),
            Some(Err(TrySendError::Disconnected(_))) | None => {
                failed("its writer has ended, open it again")
            }
        }
    }
}

/// Makes a directory that nobody else can read, if there is none.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It has said what it panicked with, and the lock is given back in either case.
            let _ = thread.join();
        }
    }
}

impl KeyStore for KeyFile {
    fn place(&self) -> String {
        self.shared.place.clone()
    }

    fn identity(&self) -> KeyStoreIdentity {
        let SharedKeys { id, lookup, .. } = &*self.shared;
        KeyStoreIdentity { id: *id, lookup: lookup.clone(), is_empty: self.ring().is_empty() }
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        if let Some(known) = self.ring().key_of(&subject) {
            return Pending::ready(Ok(known.clone()));
        }
        self.ask(|answer| KeyRequest::Draw { subject, answer })
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        Pending::ready(Ok(self.ring().key_of(&subject).cloned()))
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        Pending::ready(Ok(self.ring().key(id).cloned()))
    }

    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError> {
        self.ask(|answer| KeyRequest::Token { value, owner, since, answer })
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        Pending::ready(Ok(self.ring().find(&value)))
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        Pending::ready(Ok(self.ring().outlived().collect()))
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        self.ask(|answer| KeyRequest::Release { values, answer })
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        self.ask(|answer| KeyRequest::Destroy { key, answer })
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        Pending::ready(Ok(self.ring().destroyed().cloned().collect()))
    }
}
