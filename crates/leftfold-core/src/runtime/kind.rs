//! Kinds of the errors of the runtime: what they mean to a caller.

use super::inbox::{ReceiveError, Refusal};
use super::projection::{ChangesError, NotReached, VerifyError};
use super::recurring::CronError;
use super::scheduled::{ScheduleError, ScheduleRefusal};
use super::{CancelError, ResolveError, StartError, StopError};
use crate::fold::ExecuteError;
use crate::store::Kind;

impl StartError {
    /// Returns the meaning of the error to a caller. Nothing was started.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownIntent { .. }
            | Self::NameTaken { .. }
            | Self::IntentTaken { .. }
            | Self::Name { .. }
            | Self::ProjectionName { .. }
            | Self::ProjectionVersion { .. }
            | Self::UnknownProjection { .. }
            | Self::CannotRebuild { .. }
            | Self::SetUp { .. }
            | Self::ShortLease { .. }
            | Self::Panicked { .. } => Kind::Bug,
            Self::Late { .. } | Self::NoTime { .. } | Self::Beginning { .. } => Kind::Unavailable,
            Self::ForeignProjection { error, .. } | Self::Foreign { error, .. } => error.kind(),
            Self::Event { error, .. } => error.kind(),
            Self::Read { error, .. } => error.kind(),
        }
    }
}

impl StopError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Late { .. } => Kind::Unavailable,
            Self::Panicked { .. } => Kind::Bug,
        }
    }
}

impl ResolveError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotOpen { .. } | Self::NotInDoubt { .. } => Kind::Conflict,
            Self::TooEarly { .. } | Self::Busy { .. } => Kind::Busy,
            Self::Outcome { .. } => Kind::Invalid,
            Self::Store { .. } | Self::Stopped => Kind::Unavailable,
        }
    }
}

impl CancelError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotOpen { .. } | Self::UnderWay { .. } | Self::InDoubt { .. } => Kind::Conflict,
            Self::Busy { .. } => Kind::Busy,
            Self::Store { .. } | Self::Stopped => Kind::Unavailable,
        }
    }
}

impl NotReached {
    /// Returns the meaning of the error to a caller: a projection that is late may be waited for
    /// again; a parked event needs a person.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Late { .. } => Kind::Busy,
            Self::Parked { .. } => Kind::Bug,
            Self::Unknown { .. } => Kind::NotFound,
        }
    }
}

impl ChangesError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Missed(_) => Kind::Conflict,
            Self::Ended => Kind::Unavailable,
        }
    }
}

impl VerifyError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mismatch { .. } => Kind::Bug,
            Self::Absent { .. } => Kind::NotFound,
            Self::Foreign(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Target(_) => Kind::Unavailable,
        }
    }
}

impl ReceiveError {
    /// Returns the meaning of the error to the sender of the message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::OtherMessage { .. } => Kind::Conflict,
            Self::Refused(refusal) => refusal.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Unreadable { .. } => Kind::Invalid,
            Self::Unwritable { .. } => Kind::Bug,
            Self::Store(error) => match &**error {
                ExecuteError::Refused(refusal) => refusal.kind(),
                error => error.kind(),
            },
        }
    }
}

impl Refusal {
    /// Returns the meaning of the refusal to the sender of the message.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::BeforeFirst { .. } | Self::Beyond { .. } => Kind::Invalid,
            Self::SequenceTaken { .. } => Kind::Conflict,
            Self::Full { .. } => Kind::Busy,
        }
    }
}

impl ScheduleError {
    /// Returns what the error means to its caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::Invalid { invalid, .. } => invalid.kind(),
            Self::Metadata { error, .. } => error.kind(),
            Self::Unwritable { .. } => Kind::Bug,
            Self::Store(error) => match &**error {
                ExecuteError::Refused(refusal) => refusal.kind(),
                error => error.kind(),
            },
        }
    }
}

impl ScheduleRefusal {
    /// Returns what the error means to its caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Unknown => Kind::NotFound,
            Self::TooLate { .. } | Self::Cancelled | Self::Taken { .. } => Kind::Conflict,
        }
    }
}

impl CronError {
    /// Returns what the error means to a caller, who may have the expression from a person.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Fields { .. }
            | Self::Value { .. }
            | Self::Range { .. }
            | Self::Step { .. }
            | Self::Never { .. }
            | Self::Zone { .. } => Kind::Invalid,
        }
    }
}
