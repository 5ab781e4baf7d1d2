//! Files that are open for reading, up to a bound: segments are many and the handles of a process
//! few.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::lacks_room;
use crate::disk::{Disk, File};
use crate::format::{offsets_name, segment_name};

/// A file that belongs to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SegmentFile {
    Segment(u64),
    Offsets(u64),
}

impl SegmentFile {
    fn name(self) -> String {
        match self {
            Self::Segment(number) => segment_name(number),
            Self::Offsets(number) => offsets_name(number),
        }
    }
}

/// Open files, up to a bound; when it is reached, a random one is closed. A reader of a file that
/// was dropped here still holds it, so a few more may be open: one for each read under way.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    disk: Arc<dyn Disk>,
    kept: Mutex<HashMap<SegmentFile, Arc<dyn File>>>,
    open_max: usize,
}

impl OpenFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self { disk, kept: Mutex::default(), open_max: open_max.max(1) }
    }

    pub(crate) fn open(&self, part: SegmentFile) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.kept().get(&part) {
            return Ok(Arc::clone(file));
        }
        let file = match self.disk.open(&part.name()) {
            // The process has no handle left, and here are some that can be had again.
            Err(error) if lacks_room(&error) && self.let_go() => self.disk.open(&part.name()),
            other => other,
        }?;
        let mut kept = self.kept();
        if kept.len() >= self.open_max {
            let out = kept.keys().next().copied();
            out.and_then(|out| kept.remove(&out));
        }
        kept.insert(part, Arc::clone(&file));
        Ok(file)
    }

    /// Closes a file that was replaced under its name.
    pub(crate) fn forget(&self, part: SegmentFile) {
        self.kept().remove(&part);
    }

    /// Closes all files that nobody reads from at this moment. Returns true if there were any.
    pub(crate) fn let_go(&self) -> bool {
        let kept = std::mem::take(&mut *self.kept());
        !kept.is_empty()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<SegmentFile, Arc<dyn File>>> {
        // Every change is a single step.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
