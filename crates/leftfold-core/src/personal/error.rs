//! Errors of keys. None of them shows a value.

use super::key_store::KeyStoreError;
use super::secret::{KeyId, Randomless};
use crate::fold::EventError;
use crate::store::{AppendError, Invalid, Position, ReadError, StoreId};

/// Error of sealing, opening or forgetting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The key store keeps nothing, but the store's personal data is sealed with the keys of
    /// another one.
    #[error(
        "the key store {place} keeps no key, and what is sealed in the store has its keys in key store {expected}: \
         it was lost or is elsewhere, bring it back to this place, open the one that has it, or declare it lost"
    )]
    Lost {
        /// The place that was opened.
        place: String,
        /// The key store that has the keys.
        expected: uuid::Uuid,
    },
    /// The key store is another one than the store's personal data is sealed with.
    #[error(
        "the key store {place} is {actual}, and what is sealed in the store has its keys in key store {expected}; open that one"
    )]
    Foreign {
        /// The place that was opened.
        place: String,
        /// The key store that has the keys.
        expected: uuid::Uuid,
        /// The key store that was opened.
        actual: uuid::Uuid,
    },
    /// The key store never had the key of a sealed value: it is an older copy, or the value is of
    /// another store.
    #[error(
        "the key store {place} never had the key {key}: it is older than what is sealed, or another one's; bring back a later copy of it"
    )]
    UnknownKey {
        /// Id of the key.
        key: KeyId,
        /// Place of the key store.
        place: String,
    },
    /// The subject was forgotten, so nothing can be sealed for it any more.
    #[error("{subject} was forgotten; a person who comes back is a new subject")]
    Forgotten {
        /// Name of the subject.
        subject: String,
    },
    /// The subject never had a key, so there is nothing to forget.
    #[error("{subject} has no key in the key store {place}, so nothing is sealed for it there")]
    NoSubject {
        /// Name of the subject.
        subject: String,
        /// Place of the key store.
        place: String,
    },
    /// A sealed value, or its tag, is not what was sealed.
    #[error("a value sealed with the key {key} is damaged or was changed, it does not open")]
    Damaged {
        /// Id of the key.
        key: KeyId,
    },
    /// A value would not be read as it is written.
    #[error(
        "a {name} cannot be sealed: it would not be read as it is written; write it as JSON in a test, with a made-up value, to see why"
    )]
    Value {
        /// Name of the Rust type.
        name: &'static str,
    },
    /// The sealed value has not the shape of the type.
    #[error(
        "a value sealed with the key {key} is no {name}: {detail}; read it as the type that it was sealed as"
    )]
    Shape {
        /// Name of the Rust type.
        name: &'static str,
        /// Id of the key.
        key: KeyId,
        /// The place in its JSON.
        detail: String,
    },
    /// A name or size is beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The key store could not do it.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomless(#[from] Randomless),
    /// The store could not record it. What was to be forgotten is forgotten all the same; to forget
    /// it again says so.
    #[error("the key store did it, and the store could not record it, ask again: {0}")]
    Append(#[from] AppendError),
    /// A record of forgetting cannot be read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Error of verifying a receipt: it does not hold, or it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErasureError {
    /// It is about another store; a copy of a store is another one.
    #[error("the receipt is about the store {expected}, this is {actual}")]
    OtherStore {
        /// Id of the store of the receipt.
        expected: StoreId,
        /// Id of the store that was asked.
        actual: StoreId,
    },
    /// The store does not say at that position that the subject was forgotten.
    #[error(
        "the store has no such record at position {position}: it was restored from before, or the receipt was changed"
    )]
    NotRecorded {
        /// The position of the receipt.
        position: Position,
    },
    /// The history up to the record is another one.
    #[error("the history up to position {position} is not the one of the receipt")]
    OtherHistory {
        /// The position of the receipt.
        position: Position,
    },
    /// The key is there.
    #[error(
        "the key {key} is in the key store {place}: it was brought back, destroy that copy, and open the store again to forget"
    )]
    KeyThere {
        /// Id of the key.
        key: KeyId,
        /// Place of the key store.
        place: String,
    },
    /// It cannot be told.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl From<ReadError> for ErasureError {
    fn from(error: ReadError) -> Self {
        Self::Keys(error.into())
    }
}
