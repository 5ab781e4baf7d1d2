//! A disk whose files are read, written and synced through a hook.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use leftfold_log::disk::{Disk, File, Lock};

/// Stands before the files of a disk; what it does not override goes through.
pub(crate) trait Hook: Debug + Send + Sync + 'static {
    fn read(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    fn write(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        file.sync()
    }
}

/// Any disk, behind a hook.
#[derive(Debug)]
pub(crate) struct Hooked<D, H>(pub(crate) D, pub(crate) Arc<H>);

#[derive(Debug)]
struct HookedFile<H>(Arc<dyn File>, Arc<H>);

impl<D, H: Hook> Hooked<D, H> {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HookedFile(file, Arc::clone(&self.1)))
    }
}

impl<D: Disk, H: Hook> Disk for Hooked<D, H> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        self.0.lock(name)
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

impl<H: Hook> File for HookedFile<H> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.read(&*self.0, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.write(&*self.0, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync(&*self.0)
    }
}
