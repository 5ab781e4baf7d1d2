//! Meaning of the errors of personal data to a caller.

use super::secret::Randomless;
use super::{ErasureError, KeyStoreError, KeysError, NotSealed};
use crate::store::Kind;

impl KeysError {
    /// Returns what the error means to a caller. A key store that is lost, or another one, needs a
    /// person.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Lost { .. }
            | Self::Foreign { .. }
            | Self::UnknownKey { .. }
            | Self::Damaged { .. }
            | Self::Value { .. }
            | Self::Shape { .. } => Kind::Bug,
            Self::Forgotten { .. } | Self::NoSubject { .. } => Kind::NotFound,
            Self::Invalid(error) => error.kind(),
            Self::KeyStore(error) => error.kind(),
            Self::Randomless(error) => error.kind(),
            Self::Append(error) => error.kind(),
            Self::Event(error) => error.kind(),
            Self::Read(error) => error.kind(),
        }
    }
}

impl KeyStoreError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Failed { .. } => Kind::Unavailable,
            Self::Unknown { .. } => Kind::InDoubt,
        }
    }
}

impl Randomless {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

impl ErasureError {
    /// Returns what the error means to a caller: a receipt that does not hold, or a key that came
    /// back.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::OtherStore { .. } | Self::NotRecorded { .. } | Self::OtherHistory { .. } => {
                Kind::Conflict
            }
            Self::KeyThere { .. } => Kind::Bug,
            Self::Keys(error) => error.kind(),
        }
    }
}

impl NotSealed {
    /// Returns what the error means to a caller.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}
