//! A disk of which one use fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use leftfold_log::disk::File;
use leftfold_testing::conformance::{Failed, Faults};

use super::hooked::Hook;

/// Operation that is to fail.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    write: AtomicU32,
    read: AtomicU32,
    failed: AtomicBool,
}

impl Plan {
    /// Counts a use, and says if it fails.
    fn fails(&self, left: &AtomicU32) -> bool {
        let before =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
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

fn failure() -> io::Error {
    io::Error::other("an injected fault")
}

impl Hook for Plan {
    fn read(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.fails(&self.read) {
            return Err(failure());
        }
        file.read_exact_at(buffer, offset)
    }

    fn write(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.fails(&self.write) {
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(failure());
        }
        file.write_all_at(bytes, offset)
    }
}
