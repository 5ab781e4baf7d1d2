//! Credentials of a station and its security profile, as events name them.

use std::fmt;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::request::RequestId;

/// Security profile of a station: the proof that it must show to connect. The numbers are OCPP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum SecurityProfile {
    /// Nothing but its identity (0).
    #[default]
    Open,
    /// A credential (1).
    Credential,
    /// A credential, on an encrypted connection (2).
    EncryptedCredential,
    /// A certificate of its own (3).
    Certificate,
}

impl SecurityProfile {
    const ALL: [Self; 4] =
        [Self::Open, Self::Credential, Self::EncryptedCredential, Self::Certificate];

    /// Returns its number.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// Returns the profile of a number; `None` if there is none.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Hash of what a station must show. Neither variant holds the secret, and `Debug` shows no hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StationCredential {
    /// A key of 20 bytes: its hash, keyed with a secret outside the store.
    Key {
        /// The hash, in hexadecimal digits.
        hash: String,
    },
    /// A password that a person chose: its argon2 hash.
    Password {
        /// The hash, with its parameters.
        hash: String,
    },
}

impl fmt::Debug for StationCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl StationCredential {
    /// Returns its kind, for people and programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Password { .. } => "password",
        }
    }
}

/// An operator has set the credential of a station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CredentialSet {
    /// Credential from now on, and no other.
    pub(crate) credential: StationCredential,
    /// Caller who set it.
    pub(crate) by: String,
}

/// A station is asked to take a new credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CredentialOffered {
    /// Id of the request to the station.
    pub(crate) request: RequestId,
    /// New credential, which counts beside the old one until it is known which the station has.
    pub(crate) credential: StationCredential,
    /// Caller who asked for it.
    pub(crate) by: String,
}

/// It is known which credential a station has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CredentialSettled {
    /// Id of the request by which the new one was offered.
    pub(crate) request: RequestId,
    /// True if it is the new one.
    pub(crate) is_taken: bool,
    /// Moment when this was known.
    pub(crate) at: Timestamp,
}

/// The profile of a station has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecurityProfileChanged {
    /// Profile from now on.
    pub(crate) profile: SecurityProfile,
    /// Caller who set it; `None` if the station has connected by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
}

/// Credential that a station showed when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShownCredential {
    /// None that is known.
    Nothing,
    /// The one that counts.
    Present,
    /// The one that it was asked to take.
    Offered,
}

/// Command about the access of a station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AccessCommand {
    /// Set its credential.
    SetCredential(CredentialSet),
    /// Set its profile.
    SetProfile {
        /// Profile from now on.
        profile: SecurityProfile,
        /// Caller who sets it.
        by: String,
    },
    /// The station has connected.
    Connected {
        /// Profile by which it did.
        profile: SecurityProfile,
        /// Credential that it showed.
        shown: ShownCredential,
        /// Moment of the connection.
        at: Timestamp,
    },
}
