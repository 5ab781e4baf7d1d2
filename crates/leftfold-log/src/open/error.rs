//! Error of opening a log, and report of what opening one did.

use std::io;
use std::time::Duration;

use leftfold_core::store::{Head, Identity, Kind, Timestamp};

use crate::disk::is_full;
use crate::format::{SegmentFault, segment_name};
use crate::index::IndexError;
use crate::open::doubt::ClockDoubt;
use crate::segments::scan::GroupFault;
use crate::segments::segment::place;

/// Error of opening a log. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogOpenError {
    /// Another process has it open, or this one does.
    #[error("the log in {place} is open already, close it there first")]
    InUse {
        /// The directory.
        place: String,
    },
    /// There is no log, and none was to be made.
    #[error("there is no log in {place}, give the right directory or let one be created")]
    Missing {
        /// The directory.
        place: String,
    },
    /// There is a log, and a new one was to be made.
    #[error("there is a log in {place} already, open it or give another directory")]
    AlreadyThere {
        /// The directory.
        place: String,
    },
    /// The directory holds something else, and nothing of a log.
    #[error(
        "{place} holds {file}, which is not part of a Leftfold log; give a directory of its own"
    )]
    Foreign {
        /// The directory.
        place: String,
        /// Name of the file that was found.
        file: String,
    },
    /// Another release wrote it.
    #[error("{file} has {what} {found}, another release wrote it; open it with that release")]
    OtherRelease {
        /// The file.
        file: String,
        /// Name of the value that differs.
        what: &'static str,
        /// Value that was found.
        found: u16,
    },
    /// A part of the log is missing, or is not what was written. Nothing is begun in its place:
    /// [`verify`](crate::verify) and [`dump`](crate::dump) show what is left, and
    /// [`restore`](crate::restore) declares a copy that was brought back.
    #[error(
        "the log is damaged at {place}: {detail}; bring back a copy of the directory and declare it by `restore`"
    )]
    Damaged {
        /// File and byte of the damage.
        place: String,
        /// Description of the damage.
        detail: String,
    },
    /// The machine's clock is more than [`CLOCK_JUMP_MAX`](crate::CLOCK_JUMP_MAX) behind what is
    /// recorded, and the log was not to be opened then: see [`ClockBehind`](crate::ClockBehind).
    #[error(
        "the clock says {now}, but the last record is of {recorded}; set the clock right, or if it was wrong then, open the log with `ClockBehind::GoOn` until the clock has come there"
    )]
    ClockBehind {
        /// Recorded time of the last group.
        recorded: Timestamp,
        /// Time of the clock.
        now: Timestamp,
    },
    /// There is reason to doubt the machine's clock, and the log was not to be opened then: see
    /// [`ClockDoubtful`](crate::ClockDoubtful).
    #[error("{0}; set the clock right, or if it is right, open the log with `ClockDoubtful::Warn`")]
    ClockDoubtful(ClockDoubt),
    /// The directory cannot be written.
    #[error(
        "{place} cannot be written, change its permissions or open the log to be read only: {detail}"
    )]
    ReadOnly {
        /// The directory.
        place: String,
        /// Message of the system.
        detail: String,
    },
    /// A backup was to be brought back into the directory, and was not completely.
    #[error(
        "a backup was brought back into {place} and that was interrupted; call `restore_backup` again"
    )]
    Unfinished {
        /// The directory.
        place: String,
    },
    /// The disk is full, and there is no log yet that could be read.
    #[error("there is no room on the disk to open the log, free some and try again: {detail}")]
    Full {
        /// Message of the system.
        detail: String,
    },
    /// The system refused.
    #[error("the log cannot be opened, fix the disk and try again: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
}

impl LogOpenError {
    /// Returns the kind of the error, for the caller who opens the log.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. }
            | Self::ClockBehind { .. }
            | Self::ClockDoubtful(_)
            | Self::ReadOnly { .. }
            | Self::Full { .. }
            | Self::Unfinished { .. }
            | Self::Io { .. } => Kind::Unavailable,
            Self::Missing { .. } => Kind::NotFound,
            Self::AlreadyThere { .. } => Kind::Conflict,
            Self::Foreign { .. } => Kind::Invalid,
            Self::OtherRelease { .. } | Self::Damaged { .. } => Kind::Bug,
        }
    }
}

/// Report of what opening a log did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Identity of the store.
    pub identity: Identity,
    /// Its durable end.
    pub head: Head,
    /// True if the log was closed before. If not, its last group may be one whose callers were told
    /// *unknown*.
    pub closed_cleanly: bool,
    /// Events that the index did not cover.
    pub replayed: u64,
    /// Bytes that stood behind the last whole group; `None` if there were none. They were never
    /// acknowledged, and were cut off.
    pub cut: Option<Cut>,
    /// Events at the end that are not shown if the log was opened to be read only: they stand in
    /// the last group, and only the process that wrote that group knows whether it is durable.
    /// Opening the log to be written shows them.
    pub held_back: u64,
    /// Reason why the index was rebuilt; `None` if it was not.
    pub index_rebuilt: Option<String>,
    /// Reason why the log was opened to be read only although it was to be written: the disk is
    /// full. `None` if it was opened as was asked for.
    pub no_room: Option<String>,
    /// Reason to doubt the machine's clock, if there is any.
    pub clock_doubt: Option<ClockDoubt>,
    /// Time that opening took.
    pub elapsed: Duration,
}

/// Bytes that were cut off the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// File and byte where the cut begins.
    pub place: String,
    /// Number of bytes.
    pub bytes: u64,
    /// Reason why the bytes are not a whole group.
    pub fault: GroupFault,
}

impl LogOpenError {
    pub(crate) fn io(error: &io::Error) -> Self {
        let detail = error.to_string();
        if is_full(error) { Self::Full { detail } } else { Self::Io { detail } }
    }

    pub(crate) fn damaged(number: u64, offset: u64, detail: &impl ToString) -> Self {
        Self::Damaged { place: place(number, offset), detail: detail.to_string() }
    }

    pub(crate) fn header(number: u64, fault: SegmentFault) -> Self {
        match fault {
            SegmentFault::OtherRelease { what, found } => {
                Self::OtherRelease { file: segment_name(number), what, found }
            }
            SegmentFault::Broken(fault) => Self::damaged(number, 0, &fault),
        }
    }
}

impl From<io::Error> for LogOpenError {
    fn from(error: io::Error) -> Self {
        Self::io(&error)
    }
}

impl From<IndexError> for LogOpenError {
    fn from(error: IndexError) -> Self {
        let detail = error.to_string();
        match error {
            IndexError::Full { is_of_disk: true, .. } => Self::Full { detail },
            _ => Self::Io { detail },
        }
    }
}
