//! Forgetting as it is recorded, and the receipt of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key_store::DestroyedKey;
use super::secret::KeyId;
use crate::fold::Event;
use crate::store::{EventId, Hash, Position, StoreId, Timestamp};

/// A subject was forgotten: read models erase rows by this event.
///
/// It is recorded as `$personal.Forgotten`, when the key is destroyed already. A projection hears
/// of it if its enum has a variant of that name; everything of the subject that was recorded before
/// has then been applied. In order with the events of the subject it comes only if its
/// [key](crate::runtime::projection::Projection::key) is theirs.
///
/// ```
/// use leftfold_core::personal::{Personal, SubjectForgotten};
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// enum OfCustomers {
///     #[serde(rename = "customer.Registered")]
///     Registered { customer: String, name: Personal<String> },
///     #[serde(rename = "$personal.Forgotten")]
///     Forgotten(SubjectForgotten),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectForgotten {
    /// Name of the subject.
    pub subject: String,
    /// The key that was destroyed: events name it among their key ids.
    pub key: KeyId,
    /// Time at which it was destroyed.
    pub at: Timestamp,
}

/// Records of keys, in the stream `$personal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeysEvent {
    /// The keys of what is sealed in this store are in that key store.
    Begun { keys: Uuid },
    /// A key was destroyed.
    Forgotten(SubjectForgotten),
}

impl Event for KeysEvent {
    const NAMESPACE: &'static str = "$personal";
}

impl From<DestroyedKey> for SubjectForgotten {
    fn from(key: DestroyedKey) -> Self {
        Self { subject: key.subject.to_string(), key: key.id, at: key.at }
    }
}

/// The receipt of a forgetting, for the person or the authority that asked for it.
///
/// It names the key that was destroyed, and the position at which the store says so.
/// [`Keys::verify`](super::Keys::verify) checks it against the store and its key store. It is
/// written as JSON, and is no secret: what it names is in the log anyway.
///
/// ```
/// use leftfold_core::personal::{Erasure, Keys};
/// use leftfold_core::store::Store;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = Keys::memory(&Store::memory()).await?;
/// keys.subject("customer-1").await?;
/// let written = serde_json::to_string(&keys.forget("customer-1").await?)?;
///
/// // Later, when somebody asks for the proof.
/// let receipt: Erasure = serde_json::from_str(&written)?;
/// keys.verify(&receipt).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenErasure", into = "WrittenErasure")]
pub struct Erasure {
    /// Id of the store.
    pub store: StoreId,
    /// Name of the subject.
    pub subject: String,
    /// The key that was destroyed.
    pub key: KeyId,
    /// Time at which it was destroyed.
    pub at: Timestamp,
    /// The position at which the store says so.
    pub position: Position,
    /// The id of the event that says so.
    pub event: EventId,
    /// The hash of the history up to there.
    pub hash: Hash,
}

/// The receipt as JSON.
#[derive(Serialize, Deserialize)]
struct WrittenErasure {
    store: Uuid,
    subject: String,
    key: KeyId,
    at: Timestamp,
    position: u64,
    event: Uuid,
    hash: String,
}

impl From<Erasure> for WrittenErasure {
    fn from(receipt: Erasure) -> Self {
        let Erasure { store, subject, key, at, position, event, hash } = receipt;
        Self {
            store: store.0,
            subject,
            key,
            at,
            position: position.0,
            event: event.0,
            hash: hash.to_string(),
        }
    }
}

impl TryFrom<WrittenErasure> for Erasure {
    type Error = &'static str;

    fn try_from(written: WrittenErasure) -> Result<Self, &'static str> {
        let WrittenErasure { store, subject, key, at, position, event, hash } = written;
        let hash = parsed(&hash).ok_or("the hash has 64 hexadecimal digits")?;
        Ok(Self {
            store: StoreId(store),
            subject,
            key,
            at,
            position: Position(position),
            event: EventId(event),
            hash,
        })
    }
}

fn parsed(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, two) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()?;
    }
    Some(Hash(hash))
}

impl fmt::Display for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Erasure {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
