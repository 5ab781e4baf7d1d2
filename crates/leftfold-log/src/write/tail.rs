//! The end of the log, at which the writer goes on.

use std::io;
use std::sync::Arc;

use leftfold_core::store::Head;

use crate::disk::{Disk, File};
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, SEAL, SegmentHeader, segment_name};
use crate::index::Covered;
use crate::segments::scan::{ChainState, address};
use crate::segments::segment::Segment;

/// Purpose for which a log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenPurpose {
    /// The end of the log is made durable, and cut if that is needed.
    Write,
    /// Nothing is changed, and nothing is shown that is not known to be durable.
    Read,
    /// Nothing is changed, and everything is looked at.
    Verify,
}

/// Place where the writer goes on.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    /// The durable end.
    pub(crate) end: u64,
    /// The length of the file. Behind the end there are only zeros if `zeros_behind` is set.
    pub(crate) len: u64,
    pub(crate) zeros_behind: bool,
    pub(crate) chain: ChainState,
    /// True if the last group is a seal.
    pub(crate) sealed: bool,
    /// Part of the log that the index covers.
    pub(crate) covered: Covered,
}

impl Tail {
    pub(crate) fn head(&self) -> Head {
        self.chain.head()
    }

    /// Writes a seal at the end, and makes it durable. Behind the end there are zeros, or nothing.
    pub(crate) fn write_seal(&mut self, recorded_at: i64) -> io::Result<()> {
        let header = GroupHeader {
            body_bytes: 0,
            records: 0,
            events: 0,
            flags: SEAL,
            first: self.chain.next,
            recorded_at,
            address: address(self.segment.header.number, self.end),
            hash: self.chain.hash,
        };
        self.file.write_all_at(&header.encode(&self.segment.header.binding), self.end)?;
        self.file.sync()?;
        self.chain = ChainState { next: self.chain.next, hash: header.chain(&[]), recorded_at };
        self.end += GROUP_HEADER_BYTES as u64;
        self.len = self.len.max(self.end);
        self.sealed = true;
        Ok(())
    }
}

/// Makes the file of a segment, durable with its name, before a group goes into it. A segment that
/// has its name has its header.
pub(crate) fn begin_segment(disk: &dyn Disk, header: &SegmentHeader) -> io::Result<Arc<dyn File>> {
    let name = segment_name(header.number);
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync()?;
    disk.rename(&temporary, &name)?;
    disk.sync_names()?;
    Ok(file)
}
