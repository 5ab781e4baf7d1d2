//! Expected revisions, and the numbers that stand for them.

use tonic::Status;

/// State of a stream that an append expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedRevision {
    Any,
    NoStream,
    StreamExists,
    Revision(u64),
}

impl ExpectedRevision {
    /// Returns the number that stands for it.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::NoStream => -1,
            Self::Any => -2,
            Self::StreamExists => -4,
            Self::Revision(revision) => i64::try_from(revision).unwrap_or(i64::MAX),
        }
    }

    /// Returns what a number stands for.
    pub(super) fn of_number(number: i64) -> Option<Self> {
        match number {
            -1 => Some(Self::NoStream),
            -2 => Some(Self::Any),
            -4 => Some(Self::StreamExists),
            _ => u64::try_from(number).ok().map(Self::Revision),
        }
    }

    /// Returns what a revision stands for that is sent without a sign.
    pub(super) fn of_revision(revision: u64) -> Result<Self, Status> {
        Self::of_number(revision.cast_signed())
            .ok_or_else(|| Status::invalid_argument("a revision is below 2^63"))
    }

    /// Tells whether events that are there already are known by their ids alone.
    pub(super) fn looks_up_ids(self) -> bool {
        matches!(self, Self::Any | Self::StreamExists)
    }
}
