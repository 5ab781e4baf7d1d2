//! The contract of a key store, and what it says of the keys that it has.

use std::sync::Arc;

use uuid::Uuid;

use super::cipher;
use super::secret::{KeyId, Lookup, Secret, Token};
use crate::store::{Gone, Label, Pending, Timestamp};

/// A place that keeps the keys of subjects, and destroys them.
///
/// Every method returns at once; the work happens behind the [`Pending`], and a request that was
/// handed over is carried out whether or not anyone waits. Promises that every key store keeps:
/// - What is acknowledged is durable: a key before anything is sealed with it, a destruction before
///   it is told of.
/// - A subject has one key, forever. One that was destroyed does not come again, nor does the
///   subject get another.
/// - That a key was destroyed is known forever, so that it can be told from a key that the place
///   never had.
/// - A destroyed key is nowhere in what the place keeps, and neither are the tokens that were its
///   alone.
///
/// [`Ring`](super::Ring) is that state in memory; a key store makes its records durable.
///
/// A key store that writes down which keys were destroyed, before another one; the methods that are
/// not shown are handed on in the same way:
///
/// ```
/// use std::sync::{Mutex, PoisonError};
///
/// use leftfold_core::personal::*;
/// use leftfold_core::store::{Label, Pending, Store, Timestamp};
///
/// struct Audited<K> {
///     inner: K,
///     destroyed: Mutex<Vec<String>>,
/// }
///
/// impl<K: KeyStore> KeyStore for Audited<K> {
///     fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
///         let mut destroyed = self.destroyed.lock().unwrap_or_else(PoisonError::into_inner);
///         destroyed.push(key.subject.to_string());
///         drop(destroyed);
///         self.inner.destroy(key)
///     }
///     # fn place(&self) -> String { self.inner.place() }
///     # fn identity(&self) -> KeyStoreIdentity { self.inner.identity() }
///     # fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
///     #     self.inner.draw(subject)
///     # }
///     # fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
///     #     self.inner.key_of(subject)
///     # }
///     # fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
///     #     self.inner.key(id)
///     # }
///     # fn token(
///     #     &self, value: Lookup, owner: KeyId, since: Timestamp,
///     # ) -> Pending<Option<Token>, KeyStoreError> {
///     #     self.inner.token(value, owner, since)
///     # }
///     # fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
///     #     self.inner.find(value)
///     # }
///     # fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> { self.inner.outlived() }
///     # fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
///     #     self.inner.release(values)
///     # }
///     # fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
///     #     self.inner.destroyed()
///     # }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::Arc;
/// let audited = Audited { inner: MemoryKeys::new()?, destroyed: Mutex::default() };
/// let audited = Arc::new(audited);
/// let keys = Keys::of(&Store::memory(), audited.clone()).await?;
/// keys.subject("customer-1").await?;
/// keys.forget("customer-1").await?;
/// let destroyed = audited.destroyed.lock().unwrap_or_else(PoisonError::into_inner);
/// assert_eq!(*destroyed, ["customer-1"]);
/// # Ok(()) }
/// ```
pub trait KeyStore: Send + Sync + 'static {
    /// Returns its place, for messages.
    fn place(&self) -> String;

    /// Returns its identity.
    fn identity(&self) -> KeyStoreIdentity;

    /// Returns the key of a subject, drawn if it never had one.
    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError>;

    /// Looks up the key of a subject; `None` if it never had one here.
    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError>;

    /// Looks up the key with an id; `None` if it never was here.
    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError>;

    /// Returns the token of a value, drawn if no living subject has the value, and kept for this
    /// owner too, since a moment. `None` if the owner has no key any more.
    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError>;

    /// Looks up the token of a value; `None` if no living subject has the value.
    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError>;

    /// Returns every value that a forgotten subject had and others have, in no order.
    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError>;

    /// Takes the tokens of values from owners. A token without an owner is nowhere in what the
    /// place keeps.
    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError>;

    /// Destroys a key, whatever other key its subject has here, and the tokens that nobody else
    /// has. It is known as destroyed afterwards even if it never was here. One that was destroyed
    /// before stays as it is.
    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError>;

    /// Returns every key that was destroyed, in no order.
    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError>;
}

/// One key store, for several stores.
impl<K: KeyStore + ?Sized> KeyStore for Arc<K> {
    fn place(&self) -> String {
        (**self).place()
    }

    fn identity(&self) -> KeyStoreIdentity {
        (**self).identity()
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        (**self).draw(subject)
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        (**self).key_of(subject)
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        (**self).key(id)
    }

    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError> {
        (**self).token(value, owner, since)
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        (**self).find(value)
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        (**self).outlived()
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        (**self).release(values)
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        (**self).destroy(key)
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        (**self).destroyed()
    }
}

/// The identity of a key store, which its backups share.
#[derive(Clone, Debug)]
pub struct KeyStoreIdentity {
    /// Drawn when it was made.
    pub id: Uuid,
    /// The secret that [lookups](Lookup) are made with.
    pub lookup: Secret,
    /// True if it keeps nothing yet.
    pub is_empty: bool,
}

/// A value that a forgotten subject had and others have: its token lives on for their sake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlivedValue {
    /// The value.
    pub value: Lookup,
    /// Its token.
    pub token: Token,
    /// Keys of the subjects that have it, each with the time since which it has it.
    pub owners: Vec<(KeyId, Timestamp)>,
}

/// The key of a subject that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectKey {
    /// The id of the key.
    pub id: KeyId,
    /// Subject that the key belongs to.
    pub subject: Label,
    /// Secret of the key.
    pub secret: Secret,
}

/// A key that was destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestroyedKey {
    /// The id of the key.
    pub id: KeyId,
    /// Subject that the key belonged to.
    pub subject: Label,
    /// Time at which it was destroyed.
    pub at: Timestamp,
}

/// The state of a key that a key store has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is here.
    Held(SubjectKey),
    /// It was destroyed.
    Destroyed(DestroyedKey),
}

/// A failure of a key store, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyStoreError {
    /// Nothing was written, and the same may succeed later.
    #[error("the key store {place} could not do it, try again: {detail}")]
    Failed {
        /// Its place.
        place: String,
        /// The cause.
        detail: String,
    },
    /// It may be durable or not: only opening it again tells.
    #[error("whether the key store {place} has it is unknown, open it again: {detail}")]
    Unknown {
        /// Its place.
        place: String,
        /// The cause.
        detail: String,
    },
}

impl From<Gone> for KeyStoreError {
    fn from(_: Gone) -> Self {
        let (place, detail) = ("that was used".to_owned(), "it ended without an answer".to_owned());
        Self::Unknown { place, detail }
    }
}

impl SubjectKey {
    /// Makes the key that a secret is for a subject.
    #[must_use]
    pub fn new(subject: Label, secret: Secret) -> Self {
        Self { id: cipher::key_id(&secret), subject, secret }
    }
}

impl KeyState {
    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        match self {
            Self::Held(key) => key.id,
            Self::Destroyed(key) => key.id,
        }
    }
}
