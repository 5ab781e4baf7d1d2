//! Options for opening a log.

use std::sync::Arc;

use crate::clock::{LogClock, MachineClock};

/// Bytes of a group from which on no append is added to it, at most.
pub(crate) const GROUP_BYTES_MAX: usize = 256 << 20;

/// Options for opening a log. The default suits most.
///
/// ```
/// use leftfold_log::{Existing, Log, LogOpenError, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("event");
/// // A directory that is misspelt does not become a new log.
/// let options = Options { open: Existing::Only, memory_bytes: 256 << 20, ..Options::default() };
/// let refused = Log::open(&directory, options);
/// assert!(matches!(refused, Err(LogOpenError::Missing { .. })));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Choice between creating a log and requiring one that is there.
    pub open: Existing,
    /// Bytes after which a segment is sealed and the next one begun, from 4 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of memory for the index and the caches of readers together.
    pub memory_bytes: usize,
    /// Bytes of appends, conditions included, that may wait for the writer, and as many of reads
    /// that may wait for a thread; beyond that the answer is `Busy`. What comes in last may be as
    /// large as one can be.
    pub queue_bytes: usize,
    /// Appends that may wait for the writer; beyond that the answer is `Busy`.
    pub queue_appends: usize,
    /// Bytes after which no further append is gathered into a group. One append always fits.
    pub group_bytes: usize,
    /// Files of segments that are kept open for reading. Beside them a log has open: the lock, its
    /// directory, the segment that is written, the files of the index, whose number grows with the
    /// logarithm of history (about 30 for a billion events), and one for each read under way. If a
    /// process may have fewer handles, reads close these first.
    pub open_files: usize,
    /// Place where the index is written: a thread of its own, or the writer.
    pub upkeep: Upkeep,
    /// Source of time.
    pub clock: Arc<dyn LogClock>,
    /// Choice for a log whose last record is of a time that the clock has not reached.
    pub clock_behind: ClockBehind,
    /// Choice for a log when there is reason to doubt the clock, such as one that is years ahead of
    /// the last record.
    pub clock_doubtful: ClockDoubtful,
}

/// Choice between creating a log and requiring one that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// A log is created if there is none.
    #[default]
    OrCreate,
    /// The log must be there.
    Only,
    /// The log must not be there: its directory is created, or is empty.
    Never,
}

/// Choice for a log that is opened to be written when its last record is more than
/// [`CLOCK_JUMP_MAX`](crate::CLOCK_JUMP_MAX) ahead of the machine's clock. Less than that is waited
/// for, as in an open log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockBehind {
    /// It is not opened: most often the clock is wrong now, and set right it opens.
    #[default]
    Refuse,
    /// It is opened, and recorded time goes on from the last record, at the pace of the monotonic
    /// clock: the way out if the clock was wrong then, and the wrong times are in the log for good.
    ///
    /// Recorded time runs ahead of the wall clock from then on, and comes nearer to it only while
    /// the log is closed; within [`CLOCK_JUMP_MAX`](crate::CLOCK_JUMP_MAX) of it, it waits for the
    /// wall clock and is right again. [`Log::clock_skew_micros`](crate::Log::clock_skew_micros)
    /// tells how far it is. Order, positions and "as of" a recorded time are as true as ever; code
    /// that compares a recorded time with its own clock sees the future.
    GoOn,
}

/// Choice for a log that is opened to be written when there is reason to doubt the machine's clock.
///
/// Recorded time never goes back, so a clock that is years ahead for a moment puts the log into the
/// future for good. The clock is doubted if it is more than [`PAUSE_MAX`](crate::PAUSE_MAX) after
/// both the last record and the last change of the file that holds it, or after
/// [`REGULAR_PAUSE_MAX`](crate::REGULAR_PAUSE_MAX) and any time that a segment took to fill if the
/// log has more than eight; if it is a day before that change of the file, or before the program
/// was made; and, for a log without any record, if it is more than
/// [`PROGRAM_AGE_MAX`](crate::PROGRAM_AGE_MAX) after the program was made. A clock that is wrong by
/// less is not noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockDoubtful {
    /// It is opened, and a warning says both moments before anything is recorded; so does
    /// [`Recovery::clock_doubt`](crate::Recovery::clock_doubt).
    #[default]
    Warn,
    /// It is not opened.
    Refuse,
}

/// Place where the index is written: a thread of its own, or the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upkeep {
    /// A thread of its own.
    #[default]
    Thread,
    /// The writer, at fixed places, so that a run on a simulated disk can be repeated.
    Inline,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            open: Existing::default(),
            // ANCHOR: defaults
            segment_bytes: 64 << 20,
            memory_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            queue_appends: 65_536,
            group_bytes: 4 << 20,
            open_files: 64,
            // ANCHOR_END: defaults
            upkeep: Upkeep::default(),
            clock: Arc::new(MachineClock::default()),
            clock_behind: ClockBehind::default(),
            clock_doubtful: ClockDoubtful::default(),
        }
    }
}

impl Options {
    /// The bytes of a segment, within what the format can hold.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.clamp(4 << 10, 1 << 30)
    }

    /// The bytes of a group, within what the format can hold.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes.clamp(1, GROUP_BYTES_MAX)
    }
}
