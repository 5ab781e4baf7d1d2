//! Kinds of errors: what a caller can do about one, in one word, and what a web server answers.
//!
//! Each error says its kind by `kind()`. They stand in one file for each room of the crate, and
//! name every variant: a new one is given a kind before it compiles.

use super::{
    AppendError, CloseError, Conflict, Invalid, LeaseError, NotATime, NotATrace, ReadError,
    SubscribeError, UnknownPartition,
};

/// Meaning of an error to a caller.
///
/// | kind | HTTP | the same request again, with the same command id |
/// | --- | --- | --- |
/// | [`Refused`](Kind::Refused) | 422 | safe, and refused again until the state is another |
/// | [`Conflict`](Kind::Conflict) | 409 | safe, but useless: look at the stored state, and send a new request |
/// | [`NotFound`](Kind::NotFound) | 404 | safe, but useless |
/// | [`Invalid`](Kind::Invalid) | 400 | safe, but useless |
/// | [`Busy`](Kind::Busy) | 503 with `Retry-After` | safe; soon |
/// | [`Unavailable`](Kind::Unavailable) | 503 with `Retry-After` | safe; when the store or the database is back |
/// | [`InDoubt`](Kind::InDoubt) | 504 | the one way to learn what happened; without a command id it may take effect twice |
/// | [`Bug`](Kind::Bug) | 500 | safe, but useless until somebody has corrected it |
///
/// ```
/// use leftfold_core::store::{AppendError, Kind};
///
/// let error = AppendError::Unknown { detail: "the sync failed".to_owned() };
/// assert_eq!((error.kind(), error.kind().http_status()), (Kind::InDoubt, 504));
/// assert!(error.kind().may_be_tried_again() && error.kind().may_have_taken_effect());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The domain said no, in a type of the application: show it.
    Refused,
    /// The stored state is not what the caller takes it for. Nothing was done.
    Conflict,
    /// Nothing is known by that name.
    NotFound,
    /// The request is malformed or beyond a limit. Nothing was done.
    Invalid,
    /// Too much is going on: others were faster every time, or a queue is full. Nothing was done.
    Busy,
    /// The store, or something that the request needs, cannot be used now. Nothing was done.
    Unavailable,
    /// It may have taken effect, and may not: the answer was lost on the way to the disk.
    InDoubt,
    /// The program, its configuration or the stored data is wrong, and a person has to correct it.
    /// Nothing was done. Write the error into the log of the program, and do not show it to others:
    /// it names places and types.
    Bug,
}

impl Kind {
    /// Tells whether the same request may succeed later without any change to it. It must then have
    /// the same command id.
    #[must_use]
    pub const fn may_be_tried_again(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::InDoubt)
    }

    /// Tells whether the request may have taken effect despite the error.
    #[must_use]
    pub const fn may_have_taken_effect(self) -> bool {
        matches!(self, Self::InDoubt)
    }

    /// The status that a web server answers with.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Refused => 422,
            Self::Bug => 500,
            Self::Busy | Self::Unavailable => 503,
            Self::InDoubt => 504,
        }
    }
}

impl AppendError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(error) => error.kind(),
            Self::CommandIdReused { .. } | Self::CheckpointMoved { .. } | Self::Fenced { .. } => {
                Kind::Conflict
            }
            Self::Busy { .. } => Kind::Busy,
            Self::Full { .. } | Self::ReadOnly { .. } | Self::Unavailable { .. } | Self::Closed => {
                Kind::Unavailable
            }
            Self::Unknown { .. } => Kind::InDoubt,
            Self::ReadModel { .. } | Self::Denied { .. } => Kind::Bug,
            Self::Read(error) => error.kind(),
        }
    }
}

impl ReadError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(error) => error.kind(),
            Self::Busy { .. } => Kind::Busy,
            Self::Damaged { .. } | Self::Denied { .. } => Kind::Bug,
            Self::NoHistory => Kind::Invalid,
            Self::Io { .. } | Self::Closed => Kind::Unavailable,
        }
    }
}

impl SubscribeError {
    /// Returns what the error means to a caller. A consumer with a checkpoint of another store or
    /// history has to begin anew.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::OtherStore { .. } | Self::Ahead { .. } | Self::OtherHistory { .. } => {
                Kind::Conflict
            }
            Self::Read(error) => error.kind(),
        }
    }
}

impl LeaseError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(error) => error.kind(),
            Self::TooMany { .. } => Kind::Busy,
            Self::Denied { .. } => Kind::Bug,
            Self::Unavailable { .. } | Self::Closed => Kind::Unavailable,
        }
    }
}

impl Conflict {
    /// Returns what the conflict means to a caller: [`mismatch`](Conflict::mismatch) tells more.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

impl Invalid {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl NotATrace {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl NotATime {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl UnknownPartition {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

impl CloseError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}
