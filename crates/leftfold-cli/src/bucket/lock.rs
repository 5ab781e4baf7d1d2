//! The lock of a backup in a bucket: an object that is there as long as somebody makes one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use leftfold::log::disk::Lock;
use uuid::Uuid;

use super::calls::{BucketCalls, Found, Unless};

/// Time after which the lock of a backup that was killed is taken over.
const LOCK_STALE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Age of the lock at which its holder writes it again, which shows that it lives.
const LOCK_SHOWN_EVERY: Duration = Duration::from_secs(60);

/// Message of the error of a backup that has lost its lock.
pub(crate) const LOCK_LOST: &str = "the lock of this backup is gone: another call has taken it \
     over, or somebody has removed it; this call has stopped, and leaves the backup as it is there";

/// Calls to a bucket, and the lock that their maker holds there.
#[derive(Debug)]
pub(super) struct BucketOwner {
    pub(super) calls: BucketCalls,
    held: Mutex<Option<HeldLock>>,
    /// Content of its lock, which no other one has.
    own: String,
}

#[derive(Debug)]
struct HeldLock {
    name: String,
    /// Tag of its content, as it was written last.
    tag: String,
}

/// Lock of the directory, which is given back when it is dropped.
#[derive(Debug)]
struct BucketLock(Arc<BucketOwner>);

impl Lock for BucketLock {}

impl Drop for BucketLock {
    fn drop(&mut self) {
        // One that stays is taken over later.
        let _ = self.0.give_back();
    }
}

impl BucketOwner {
    /// The maker of these calls, who holds no lock.
    pub(super) fn of(calls: BucketCalls) -> Self {
        let own = format!("leftfold, process {}, {}\n", std::process::id(), Uuid::new_v4());
        Self { calls, held: Mutex::default(), own }
    }

    /// Takes the lock: [`io::ErrorKind::WouldBlock`] if somebody else has it.
    pub(super) fn lock(owner: &Arc<Self>, name: &str) -> io::Result<Box<dyn Lock>> {
        let tag = owner.take(name)?.ok_or(io::ErrorKind::WouldBlock)?;
        let held = HeldLock { name: name.to_owned(), tag };
        *owner.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(Box::new(BucketLock(Arc::clone(owner))))
    }

    /// Checks that the lock, if one was taken, is still its own, and shows that its holder lives.
    /// Whoever has lost it must not write any more.
    pub(super) fn confirm(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = &mut *held else { return Ok(()) };
        let found = self.own_lock(&held.name, Some(&held.tag))?.ok_or_else(lost)?;
        held.tag = found.tag;
        if found.age >= LOCK_SHOWN_EVERY {
            held.tag = self.replace(&held.name, held.tag.clone())?.ok_or_else(lost)?;
        }
        Ok(())
    }

    /// Writes the lock and returns its tag; `None` if somebody else has it, and lives.
    fn take(&self, name: &str) -> io::Result<Option<String>> {
        let taken = self.calls.put(name, self.own.clone().into(), Unless::There)?;
        if taken.is_some() {
            return Ok(taken);
        }
        if let Some(own) = self.own_lock(name, None)? {
            return Ok(Some(own.tag));
        }
        match self.calls.find(name) {
            Ok(found) if found.age >= LOCK_STALE_AFTER => self.replace(name, found.tag),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Writes its lock in the place of that of the tag, and returns the new tag; `None` if that one
    /// is not there any more.
    fn replace(&self, name: &str, tag: String) -> io::Result<Option<String>> {
        let put = self.calls.put(name, self.own.clone().into(), Unless::Changed(tag))?;
        match put {
            // It may have been replaced by a call whose answer was lost.
            None => Ok(self.own_lock(name, None)?.map(|own| own.tag)),
            put => Ok(put),
        }
    }

    /// Returns the lock that is there if it is its own: by the tag, or by its content.
    fn own_lock(&self, name: &str, tag: Option<&String>) -> io::Result<Option<Found>> {
        let found = match self.calls.find(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let is_own = |content: Bytes| content == self.own.as_bytes();
        let has_own = || {
            found.bytes == self.own.len() as u64
                && self.calls.range(name, 0, found.bytes).is_ok_and(is_own)
        };
        let is_own = tag == Some(&found.tag) || has_own();
        Ok(is_own.then_some(found))
    }

    /// Removes the lock, if it is still its own.
    fn give_back(&self) -> io::Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(HeldLock { name, tag }) = held else { return Ok(()) };
        match self.own_lock(&name, Some(&tag))? {
            Some(own) => self.calls.delete_same(&name, own.tag),
            None => Ok(()),
        }
    }
}

fn lost() -> io::Error {
    io::Error::other(LOCK_LOST)
}
