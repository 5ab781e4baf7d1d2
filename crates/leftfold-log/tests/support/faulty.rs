//! A disk of which one use fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use leftfold_core::testing::conformance::{Failed, Faults};
use leftfold_log::disk::{Disk, File, Lock};

/// What is to fail.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    write: AtomicU32,
    read: AtomicU32,
    failed: AtomicBool,
}

impl Plan {
    /// Counts a use, and says if it fails.
    fn fails(&self, left: &AtomicU32) -> bool {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let fails = before == Ok(1);
        if fails {
            self.failed.store(true, Ordering::SeqCst);
        }
        fails
    }
}

/// A hold on the plan of a disk.
pub(crate) struct Planned(pub(crate) Arc<Plan>);

impl Faults for Planned {
    fn fail_write(&self, nth: u32) {
        self.0.write.store(nth, Ordering::SeqCst);
    }

    fn fail_read(&self, nth: u32) {
        self.0.read.store(nth, Ordering::SeqCst);
    }

    fn take_back(&self) -> Failed {
        self.fail_write(0);
        self.fail_read(0);
        if self.0.failed.swap(false, Ordering::SeqCst) { Failed::Yes } else { Failed::No }
    }
}

/// Any disk, with a plan.
#[derive(Debug)]
pub(crate) struct Faulty<D>(pub(crate) D, pub(crate) Arc<Plan>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn File>, Arc<Plan>);

fn failure() -> io::Error {
    io::Error::other("an injected fault")
}

impl<D> Faulty<D> {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile(file, Arc::clone(&self.1)))
    }
}

impl<D: Disk> Disk for Faulty<D> {
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

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.1.fails(&self.1.read) {
            return Err(failure());
        }
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.fails(&self.1.write) {
            self.0.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(failure());
        }
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
