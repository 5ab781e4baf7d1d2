//! A directory that may be changed only as long as its lock is held, even through handles that are
//! still open.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use leftfold_core::store::Timestamp;

use super::{Disk, File, Lock};

/// Disk that refuses changes from the moment that the lease is given back. A thread of the index,
/// or a reader that rebuilds offsets, may come to the end of its work when another process has the
/// directory already.
#[derive(Clone, Debug)]
pub(crate) struct LeasedDisk {
    disk: Arc<dyn Disk>,
    lease: DirectoryLease,
}

/// The right to change a directory.
#[derive(Clone, Debug)]
struct DirectoryLease(Arc<RwLock<LeaseState>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    Held,
    GivenBack,
}

/// The right to change a directory, and its lock, if it was taken. The right is given back before
/// the lock is, also if the owner ends by a panic.
#[derive(Debug)]
pub(crate) struct DirectoryOwnership {
    lease: DirectoryLease,
    lock: Option<Box<dyn Lock>>,
}

impl DirectoryOwnership {
    /// From now on nobody else has the directory either.
    pub(crate) fn lock(&mut self, lock: Box<dyn Lock>) {
        self.lock = Some(lock);
    }
}

impl Drop for DirectoryOwnership {
    fn drop(&mut self) {
        self.lease.give_back();
        drop(self.lock.take());
    }
}

impl LeasedDisk {
    pub(crate) fn of(disk: Arc<dyn Disk>) -> (Self, DirectoryOwnership) {
        let lease = DirectoryLease(Arc::new(RwLock::new(LeaseState::Held)));
        (Self { disk, lease: lease.clone() }, DirectoryOwnership { lease, lock: None })
    }
}

impl DirectoryLease {
    /// Waits until the change that is under way is made; no other follows.
    fn give_back(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = LeaseState::GivenBack;
    }

    fn held(&self) -> io::Result<RwLockReadGuard<'_, LeaseState>> {
        let right = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *right == LeaseState::Held {
            Ok(right)
        } else {
            Err(io::Error::other("the log is closed"))
        }
    }
}

impl Disk for LeasedDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name)?;
        Ok(Arc::new(LeasedFile { file, lease: self.lease.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let _held = self.lease.held()?;
        let file = self.disk.create(name)?;
        Ok(Arc::new(LeasedFile { file, lease: self.lease.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.disk.sync_names()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(name)
    }

    fn place(&self) -> String {
        self.disk.place()
    }

    fn is_shared(&self) -> bool {
        self.disk.is_shared()
    }
}

#[derive(Debug)]
struct LeasedFile {
    file: Arc<dyn File>,
    lease: DirectoryLease,
}

impl File for LeasedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let _held = self.lease.held()?;
        self.file.sync()
    }

    fn changed(&self) -> io::Result<Option<Timestamp>> {
        self.file.changed()
    }
}
