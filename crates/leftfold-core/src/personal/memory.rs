//! The key store for tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::key_store::{
    DestroyedKey, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, OutlivedValue,
};
use super::ring::{KeyRecord, Ring};
use super::secret::{KeyId, Lookup, Randomless, Secret, Token};
use crate::store::{Label, Pending, Timestamp};

/// A key store in memory, for tests: it is gone with its last handle.
#[derive(Debug)]
pub struct MemoryKeys {
    id: Uuid,
    lookup: Secret,
    ring: Mutex<Ring>,
}

impl MemoryKeys {
    /// An empty key store.
    pub fn new() -> Result<Self, Randomless> {
        Ok(Self { id: Uuid::new_v4(), lookup: Secret::random()?, ring: Mutex::default() })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in, and answers.
    fn keep<T>(
        &self,
        kept: impl FnOnce(&Ring) -> Result<(T, Option<KeyRecord>), Randomless>,
    ) -> Pending<T, KeyStoreError> {
        let mut ring = self.ring();
        Pending::ready(match kept(&ring) {
            Ok((answer, record)) => {
                record.into_iter().for_each(|record| ring.take(record));
                Ok(answer)
            }
            Err(error) => {
                Err(KeyStoreError::Failed { place: self.place(), detail: error.to_string() })
            }
        })
    }
}

impl KeyStore for MemoryKeys {
    fn place(&self) -> String {
        "in memory".to_owned()
    }

    fn identity(&self) -> KeyStoreIdentity {
        KeyStoreIdentity {
            id: self.id,
            lookup: self.lookup.clone(),
            is_empty: self.ring().is_empty(),
        }
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        self.keep(|ring| ring.draw(&subject))
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        Pending::ready(Ok(self.ring().key_of(&subject).cloned()))
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        Pending::ready(Ok(self.ring().key(id).cloned()))
    }

    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError> {
        self.keep(|ring| {
            Ok(match ring.token(&value, owner, since)? {
                Some((token, record)) => (Some(token), record),
                None => (None, None),
            })
        })
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        Pending::ready(Ok(self.ring().find(&value)))
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        Pending::ready(Ok(self.ring().outlived().collect()))
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        let mut ring = self.ring();
        values.iter().for_each(|(value, owner)| ring.release(value, *owner));
        Pending::ready(Ok(()))
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        self.ring().take(KeyRecord::Destroyed(key));
        Pending::ready(Ok(()))
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        Pending::ready(Ok(self.ring().destroyed().cloned().collect()))
    }
}
