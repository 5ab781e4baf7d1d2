//! Meaning of the errors of the model to a caller.

use super::{EventError, ExecuteError, LoadError, MetadataError, RecordError};
use crate::store::Kind;

impl<R> ExecuteError<R> {
    /// Returns what the error means to a caller.
    ///
    /// ```
    /// # use leftfold_core::fold::ExecuteError;
    /// # use leftfold_core::store::Kind;
    /// let error = ExecuteError::<std::fmt::Error>::Contended { attempts: 32 };
    /// let answer = match error.kind() {
    ///     Kind::Refused => "what the refusal says".to_owned(),
    ///     kind if kind.may_be_tried_again() => "try again soon".to_owned(),
    ///     _ => error.to_string(),
    /// };
    /// assert_eq!((error.kind().http_status(), &*answer), (503, "try again soon"));
    /// ```
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused(_) => Kind::Refused,
            Self::Stale { .. } | Self::Unexpected { .. } | Self::Taken { .. } => Kind::Conflict,
            Self::Contended { .. } => Kind::Busy,
            Self::TooManyEvents { .. } | Self::AnswerUnreadable { .. } => Kind::Bug,
            Self::Event(error) => error.kind(),
            Self::Metadata(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Append(error) => error.kind(),
            Self::Read(error) => error.kind(),
        }
    }
}

impl EventError {
    /// Returns what the error means to a caller: the program, or the data that it is to read, is
    /// wrong. The same holds if a value cannot be written: a program that takes values from outside
    /// checks whether they can be stored, and refuses them if not.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Bug
    }
}

impl MetadataError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(error) => error.kind(),
            Self::NotAnObject { .. } | Self::Encode { .. } | Self::Decode { .. } | Self::Bytes => {
                Kind::Bug
            }
        }
    }
}

impl LoadError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Event(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Read(error) => error.kind(),
        }
    }
}

impl RecordError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Event(error) => error.kind(),
            Self::Metadata(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Append(error) => error.kind(),
            Self::Read(error) => error.kind(),
            // There was no condition that could fail.
            Self::Conflict(_) => Kind::Bug,
        }
    }
}
