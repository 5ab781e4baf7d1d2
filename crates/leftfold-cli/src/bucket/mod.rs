//! A bucket of object storage as the directory of a backup.
//!
//! Each file is an object behind a prefix. `place` reads the URL and the environment, `calls` sends
//! signed requests, and `file` has one object: it is read in ranges, and what is written to it is
//! gathered in a temporary file, which becomes the object in one step when it is synced. So an
//! upload that is interrupted changes nothing, and the manifest of a backup, which is written last,
//! names only what is there.

mod calls;
mod file;
mod place;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use leftfold::log::disk::{Disk, File, Lock};
use uuid::Uuid;

use calls::{BucketCalls, Found, Unless};
use file::BucketFile;
pub(crate) use place::BucketPlace;

/// Time after which the lock of a backup that was killed is taken over.
const LOCK_STALE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Time after which the holder of the lock shows that it lives, with its next call.
const LOCK_SHOWN_EVERY: Duration = Duration::from_secs(60);

/// Objects behind a prefix of a bucket, as a directory. Its methods block, and belong on a thread
/// of their own.
#[derive(Debug)]
pub(crate) struct BucketDisk {
    calls: Arc<BucketCalls>,
    held: Arc<Mutex<Option<HeldLock>>>,
    /// Content of its lock, which no other one has.
    own: String,
}

/// Lock that this program holds.
#[derive(Clone, Debug)]
struct HeldLock {
    name: String,
    shown_at: Instant,
}

/// Lock of the directory: an object that is there as long as somebody has it.
#[derive(Debug)]
struct BucketLock {
    calls: Arc<BucketCalls>,
    held: Arc<Mutex<Option<HeldLock>>>,
    name: String,
}

impl Lock for BucketLock {}

impl Drop for BucketLock {
    fn drop(&mut self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // One that stays is taken over later.
        let _ = self.calls.delete(&self.name);
    }
}

impl BucketDisk {
    /// Opens the place. The bucket has to be there.
    pub(crate) fn open(place: BucketPlace) -> Self {
        let own = format!("leftfold, process {}, {}\n", std::process::id(), Uuid::new_v4());
        Self { calls: Arc::new(BucketCalls::to(place)), held: Arc::default(), own }
    }

    /// Tells whether a lock that is there is its own, by a call whose answer was lost, or becomes
    /// its own, since its holder is gone.
    fn takes_over(&self, name: &str) -> io::Result<bool> {
        let found = self.calls.find(name)?;
        let is_own = |content: Bytes| content == self.own.as_bytes();
        if found.bytes == self.own.len() as u64
            && self.calls.range(name, 0, found.bytes).is_ok_and(is_own)
        {
            return Ok(true);
        }
        Ok(found.age >= LOCK_STALE_AFTER
            && self.calls.put(name, self.own.clone().into(), Unless::Changed(found.tag))?)
    }

    /// Shows that the holder of the lock lives, if it is time.
    fn show_lock(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = &mut *held else { return Ok(()) };
        if held.shown_at.elapsed() >= LOCK_SHOWN_EVERY {
            self.calls.put(&held.name, self.own.clone().into(), Unless::Never)?;
            held.shown_at = Instant::now();
        }
        Ok(())
    }
}

impl Disk for BucketDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.calls.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.show_lock()?;
        let Found { bytes, .. } = self.calls.find(name)?;
        Ok(Arc::new(BucketFile::of(Arc::clone(&self.calls), name, bytes)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.show_lock()?;
        match self.calls.find(name) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Arc::new(BucketFile::of(Arc::clone(&self.calls), name, 0)))
            }
            Err(error) => Err(error),
        }
    }

    /// Storage has no names to change: what has the other one is replaced in one step, and the
    /// first one removed then.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let source = self.open(from)?;
        file::upload(&self.calls, to, source.len()?, &mut |buffer, offset| {
            source.read_exact_at(buffer, offset)
        })?;
        self.calls.delete(from)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.calls.find(name)?;
        self.calls.delete(name)
    }

    /// An object is durable when its upload is answered.
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        if !self.calls.put(name, self.own.clone().into(), Unless::There)?
            && !self.takes_over(name)?
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = HeldLock { name: name.to_owned(), shown_at: Instant::now() };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        let (calls, held) = (Arc::clone(&self.calls), Arc::clone(&self.held));
        Ok(Box::new(BucketLock { calls, held, name: name.to_owned() }))
    }

    fn place(&self) -> String {
        self.calls.place.shown()
    }
}
