//! Word of the durable end for readers in other processes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, File};
use crate::format::{DurableMark, MARK};

/// Time that the writer waits for another append before it writes the mark. A group that follows
/// says that the one before it is durable, and costs nothing; only the last one needs the mark.
pub(crate) const MARKED_AFTER: Duration = Duration::from_millis(1);

/// The file with the mark. It is written after the sync of what it speaks of, and is never synced
/// itself: a crash leaves an older mark, which is as true. Where it cannot be written, readers see
/// the last group when another one, or a seal, stands behind it.
#[derive(Debug, Default)]
pub(crate) struct EndMark {
    file: Option<Arc<dyn File>>,
    /// Address that the file names.
    written: u64,
}

impl EndMark {
    /// Tells whether the file names an address.
    pub(crate) fn names(&self, address: u64) -> bool {
        self.written == address
    }

    /// Writes the mark. A failure is not tried again until there is another mark.
    pub(crate) fn write(&mut self, disk: &dyn Disk, mark: &DurableMark) {
        self.written = mark.address;
        let file = match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => open(disk),
        };
        let written = file.and_then(|file| file.write_all_at(&mark.encode(), 0).map(|()| file));
        match written {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                tracing::debug!(%error, "the durable end is not marked for readers");
                self.file = None;
            }
        }
    }
}

fn open(disk: &dyn Disk) -> io::Result<Arc<dyn File>> {
    match disk.open(MARK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(MARK),
        opened => opened,
    }
}
