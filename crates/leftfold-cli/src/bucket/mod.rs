//! A bucket of object storage as the directory of a backup.
//!
//! Each file is an object behind a prefix. `place` reads the URL and the environment, `calls` sends
//! signed requests, and `file` has one object: it is read in ranges, and what is written to it is
//! gathered in a temporary file, which becomes the object in one step when it is synced. So an
//! upload that is interrupted changes nothing, and the manifest of a backup, which is written last,
//! names only what is there. `lock` keeps two backups apart: whoever has lost it writes nothing
//! more.

mod calls;
mod file;
mod lock;
mod place;

use std::io;
use std::sync::Arc;

use leftfold::log::disk::{Disk, File, Lock};

use crate::progress::Interrupt;
use calls::{BucketCalls, Found};
use file::BucketFile;
use lock::BucketOwner;
pub(crate) use lock::LOCK_LOST;
pub(crate) use place::BucketPlace;

/// Objects behind a prefix of a bucket, as a directory. Its methods block, and belong on a thread
/// of their own.
#[derive(Debug)]
pub(crate) struct BucketDisk(Arc<BucketOwner>);

impl BucketDisk {
    /// Opens the place. The bucket has to be there. An interrupt ends what is going on there with
    /// an error.
    pub(crate) fn open(place: BucketPlace, interrupt: Interrupt) -> Self {
        Self(Arc::new(BucketOwner::of(BucketCalls::to(place, interrupt))))
    }

    fn calls(&self) -> &BucketCalls {
        &self.0.calls
    }
}

impl Disk for BucketDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.calls().names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.confirm()?;
        let Found { bytes, .. } = self.calls().find(name)?;
        Ok(Arc::new(BucketFile::of(Arc::clone(&self.0), name, bytes)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.confirm()?;
        match self.calls().find(name) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Arc::new(BucketFile::of(Arc::clone(&self.0), name, 0)))
            }
            Err(error) => Err(error),
        }
    }

    /// Storage has no names to change: what has the other one is replaced in one step, and the
    /// first one removed then.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let source = self.open(from)?;
        file::upload(&self.0, to, source.len()?, &mut |buffer, offset| {
            source.read_exact_at(buffer, offset)
        })?;
        self.0.confirm()?;
        self.calls().delete(from)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.calls().find(name)?;
        self.0.confirm()?;
        self.calls().delete(name)
    }

    /// An object is durable when its upload is answered.
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        BucketOwner::lock(&self.0, name)
    }

    fn place(&self) -> String {
        self.calls().place.shown()
    }
}
