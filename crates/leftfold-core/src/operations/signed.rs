//! Signed heads: an anchor outside the store, by which a history that was rewritten is noticed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{Hash, Identity, Kind, Position, ReadError, Store, StoreId, Timestamp};

const SEED_BYTES: usize = 32;
const SECRET: &str = "leftfold signing key 1 ";
const PUBLIC: &str = "ed25519:";
/// First bytes of what is signed, so that a signature means nothing else.
const SIGNED: &[u8] = b"leftfold signed head 1\0";

/// Secret key that heads are signed with (Ed25519). Keep it where the store is not: who has both
/// can rewrite the history and sign it.
pub struct SigningKey {
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
}

/// Public key that signatures are checked with. Its text is `ed25519:` and 32 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// End of a store's history, signed. Its text is one line of JSON.
///
/// It stands for everything up to and including the group that recorded the last event: a history
/// in which anything of that is otherwise has another hash there. Records behind it, as answers
/// without events, are covered by a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The store.
    pub store: StoreId,
    /// Id of its epoch.
    pub epoch: Uuid,
    /// Number of its epoch.
    pub epoch_number: u32,
    /// Its last event.
    pub position: Position,
    /// Hash of the history there.
    pub hash: Hash,
    /// Time at which it was signed, by the clock of the signer.
    pub signed_at: Timestamp,
    /// Key that it was signed with.
    pub key: VerifyingKey,
    signature: [u8; 64],
}

/// Error of a key or a signed head that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedHeadError {
    /// The text is no key of that kind.
    #[error("the text is no {what}, give the one that was written")]
    NotAKey {
        /// Kind of key.
        what: &'static str,
    },
    /// The text is no signed head.
    #[error("the text is no signed head: {detail}")]
    NotAHead {
        /// Fault of the text.
        detail: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers for a key")]
    NoRandomness,
    /// Another key signed it.
    #[error("the head was signed with {found}, not with {expected}")]
    OtherKey {
        /// Key that was to have signed it.
        expected: VerifyingKey,
        /// Key that it names.
        found: VerifyingKey,
    },
    /// The signature is wrong: the head was changed, or the key never signed it.
    #[error("the signature of the head is wrong: the head is not what was signed")]
    WrongSignature,
    /// The head is another store's.
    #[error("the head is that of store {expected}, this is store {actual}")]
    OtherStore {
        /// Store of the head.
        expected: StoreId,
        /// Store that was looked at.
        actual: StoreId,
    },
    /// The store was restored from a copy that was made before the head was signed.
    #[error(
        "the store was restored from a copy that ended at {began_after}; the head was signed at {signed}, so what came between is lost"
    )]
    Restored {
        /// End of the copy.
        began_after: Position,
        /// Position of the head.
        signed: Position,
    },
    /// The history ends before the signed head: its end was taken away.
    #[error("the store ends at {actual}, the head was signed at {signed}: the end is missing")]
    Shortened {
        /// Position of the head.
        signed: Position,
        /// End of the store.
        actual: Position,
    },
    /// The history at the head is another: it was rewritten.
    #[error(
        "the history up to {position} is not the one that was signed: it was rewritten; bring back a backup, and compare it with the head"
    )]
    Rewritten {
        /// Position of the head.
        position: Position,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl SignedHeadError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotAKey { .. } | Self::NotAHead { .. } | Self::OtherKey { .. } => Kind::Invalid,
            Self::NoRandomness => Kind::Unavailable,
            Self::OtherStore { .. } => Kind::Conflict,
            Self::WrongSignature
            | Self::Restored { .. }
            | Self::Shortened { .. }
            | Self::Rewritten { .. } => Kind::Bug,
            Self::Read(error) => error.kind(),
        }
    }
}

/// Signs the durable end of a store.
///
/// ```
/// use leftfold_core::operations::{SignedHead, SigningKey, sign_head, verify_against};
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
/// store.append(Append::of(vec![sold])).await?;
/// let key = SigningKey::generate()?;
/// let anchor = sign_head(&store, &key).await?.to_string(); // to be kept elsewhere
///
/// let anchor: SignedHead = anchor.parse()?;
/// verify_against(&store, &anchor, &key.verifying_key()).await?;
/// # Ok(()) }
/// ```
pub async fn sign_head(store: &Store, key: &SigningKey) -> Result<SignedHead, ReadError> {
    let Identity { store: id, epoch } = store.identity();
    let position = store.head().position;
    // The head is at or before the end.
    let hash = store.hash_at(position).await?.unwrap_or(Hash::EMPTY);
    let mut head = SignedHead {
        store: id,
        epoch: epoch.id,
        epoch_number: epoch.number,
        position,
        hash,
        signed_at: Timestamp::now(),
        key: key.verifying_key(),
        signature: [0; 64],
    };
    let signature = key.pair.sign(&head.signed_bytes());
    // A signature of Ed25519 has 64 bytes.
    head.signature.copy_from_slice(signature.as_ref());
    Ok(head)
}

/// Checks that a store still has the history that was signed. A log that was rewritten from some
/// event on, with a chain that is right in itself, is refused as
/// [`Rewritten`](SignedHeadError::Rewritten).
///
/// It reads the store at one place, whose hash stands for everything before it if the chain up to
/// there is right: verify the store as well, which reads all of it.
pub async fn verify_against(
    store: &Store,
    head: &SignedHead,
    key: &VerifyingKey,
) -> Result<(), SignedHeadError> {
    head.check(key)?;
    let Identity { store: id, epoch } = store.identity();
    if id != head.store {
        return Err(SignedHeadError::OtherStore { expected: head.store, actual: id });
    }
    let found = store.hash_at(head.position).await?;
    if found == Some(head.hash) {
        return Ok(());
    }
    Err(match found {
        _ if epoch.number > head.epoch_number && epoch.began_after < head.position => {
            let (began_after, signed) = (epoch.began_after, head.position);
            SignedHeadError::Restored { began_after, signed }
        }
        None => SignedHeadError::Shortened { signed: head.position, actual: store.head().position },
        Some(_) => SignedHeadError::Rewritten { position: head.position },
    })
}

impl SigningKey {
    /// Draws a new key.
    pub fn generate() -> Result<Self, SignedHeadError> {
        let mut seed = [0; SEED_BYTES];
        SystemRandom::new().fill(&mut seed).map_err(|_| SignedHeadError::NoRandomness)?;
        Self::of(seed)
    }

    /// The text to be kept in a file that only the signer reads; it parses to the same key.
    #[must_use]
    pub fn secret_text(&self) -> String {
        format!("{SECRET}{}\n", STANDARD.encode(self.seed))
    }

    /// Returns the public key that belongs to it.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut key = [0; 32];
        // A public key of Ed25519 has 32 bytes.
        key.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey(key)
    }

    fn of(seed: [u8; SEED_BYTES]) -> Result<Self, SignedHeadError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| SignedHeadError::NotAKey { what: "signing key" })?;
        Ok(Self { seed, pair })
    }
}

impl FromStr for SigningKey {
    type Err = SignedHeadError;
    fn from_str(text: &str) -> Result<Self, SignedHeadError> {
        let seed = text.trim().strip_prefix(SECRET).and_then(bytes_of);
        Self::of(seed.ok_or(SignedHeadError::NotAKey { what: "signing key" })?)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.verifying_key()).finish_non_exhaustive()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", STANDARD.encode(self.0))
    }
}

impl FromStr for VerifyingKey {
    type Err = SignedHeadError;
    fn from_str(text: &str) -> Result<Self, SignedHeadError> {
        let key = text.trim().strip_prefix(PUBLIC).and_then(bytes_of);
        key.map(Self).ok_or(SignedHeadError::NotAKey { what: "verifying key" })
    }
}

/// Bytes of a text in base64, if there are as many.
fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl SignedHead {
    /// Checks that the key signed the head.
    pub fn check(&self, key: &VerifyingKey) -> Result<(), SignedHeadError> {
        if self.key != *key {
            return Err(SignedHeadError::OtherKey { expected: *key, found: self.key });
        }
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(&self.signed_bytes(), &self.signature)
            .map_err(|_| SignedHeadError::WrongSignature)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = SIGNED.to_vec();
        bytes.extend_from_slice(self.store.0.as_bytes());
        bytes.extend_from_slice(self.epoch.as_bytes());
        bytes.extend_from_slice(&self.epoch_number.to_le_bytes());
        bytes.extend_from_slice(&self.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.hash.0);
        bytes.extend_from_slice(&self.signed_at.as_micros().to_le_bytes());
        bytes
    }
}

/// The text of a signed head.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedHeadText {
    leftfold: String,
    format: u32,
    store: Uuid,
    epoch: Uuid,
    epoch_number: u32,
    position: u64,
    hash: String,
    signed_at: Timestamp,
    key: String,
    signature: String,
}

const TITLE: &str = "signed head";

impl fmt::Display for SignedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = SignedHeadText {
            leftfold: TITLE.to_owned(),
            format: 1,
            store: self.store.0,
            epoch: self.epoch,
            epoch_number: self.epoch_number,
            position: self.position.0,
            hash: self.hash.to_string(),
            signed_at: self.signed_at,
            key: self.key.to_string(),
            signature: STANDARD.encode(self.signature),
        };
        f.write_str(&serde_json::to_string(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for SignedHead {
    type Err = SignedHeadError;
    fn from_str(text: &str) -> Result<Self, SignedHeadError> {
        let fault =
            |detail: &dyn fmt::Display| SignedHeadError::NotAHead { detail: detail.to_string() };
        let text: SignedHeadText = serde_json::from_str(text).map_err(|error| fault(&error))?;
        if text.leftfold != TITLE || text.format != 1 {
            return Err(fault(&"another release wrote it, or it is something else"));
        }
        let hash = blake3::Hash::from_hex(&text.hash).map_err(|error| fault(&error))?;
        let signature = bytes_of(&text.signature).ok_or_else(|| fault(&"its signature"))?;
        Ok(Self {
            store: StoreId(text.store),
            epoch: text.epoch,
            epoch_number: text.epoch_number,
            position: Position(text.position),
            hash: Hash(*hash.as_bytes()),
            signed_at: text.signed_at,
            key: text.key.parse()?,
            signature,
        })
    }
}
