//! The keys of a key store in memory, and the records that they are made of.

use std::collections::HashMap;

use super::key_store::{DestroyedKey, KeyState, OutlivedValue, SubjectKey};
use super::secret::{KeyId, Lookup, Randomless, Secret, Token};
use crate::store::{Label, Timestamp};

/// The state of a key store: what follows from its records. An implementation of a key store keeps
/// one of these, and makes each record durable before it is taken in.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    keys: HashMap<KeyId, KeyEntry>,
    subjects: HashMap<Label, KeyId>,
    tokens: HashMap<Lookup, KeptToken>,
}

/// A token that is kept for the owners of a value.
#[derive(Clone, Debug)]
struct KeptToken {
    token: Token,
    owners: Vec<(KeyId, Timestamp)>,
    outlives: bool,
}

#[derive(Clone, Debug)]
struct KeyEntry {
    state: KeyState,
    /// The values whose tokens are kept for it.
    values: Vec<Lookup>,
}

/// A thing that a key store remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRecord {
    /// A subject has a key.
    Key {
        /// Name of the subject.
        subject: Label,
        /// Secret of the key.
        secret: Secret,
    },
    /// A value has a token, for as long as this key is there.
    Token {
        /// The value.
        value: Lookup,
        /// Its token.
        token: Token,
        /// Id of the owner's key.
        owner: KeyId,
        /// Time since which the owner has the value.
        since: Timestamp,
        /// True if a forgotten subject had the value too.
        outlives: bool,
    },
    /// A key was destroyed.
    Destroyed(DestroyedKey),
}

impl Ring {
    /// Takes in a record. A record of something known already changes nothing, and no record brings
    /// a destroyed key back.
    pub fn take(&mut self, record: KeyRecord) {
        match record {
            KeyRecord::Key { subject, secret } => {
                let key = SubjectKey::new(subject.clone(), secret);
                if !self.subjects.contains_key(&subject) && !self.keys.contains_key(&key.id) {
                    self.subjects.insert(subject, key.id);
                    self.keys.insert(
                        key.id,
                        KeyEntry { state: KeyState::Held(key), values: Vec::new() },
                    );
                }
            }
            KeyRecord::Token { value, token, owner, since, outlives } => {
                let Some(KeyEntry { state: KeyState::Held(_), values }) = self.keys.get_mut(&owner)
                else {
                    return;
                };
                let kept = self.tokens.entry(value.clone()).or_insert(KeptToken {
                    token,
                    owners: Vec::new(),
                    outlives,
                });
                kept.outlives |= outlives;
                if !kept.has(owner) {
                    kept.owners.push((owner, since));
                    values.push(value);
                }
            }
            KeyRecord::Destroyed(key) => {
                if let Some(other) = self
                    .subjects
                    .insert(key.subject.clone(), key.id)
                    .filter(|other| *other != key.id)
                {
                    self.end(DestroyedKey { id: other, ..key.clone() });
                }
                self.end(key);
            }
        }
    }

    fn end(&mut self, key: DestroyedKey) {
        let id = key.id;
        let entry = self.keys.entry(id);
        let entry = entry.or_insert_with(|| KeyEntry {
            state: KeyState::Destroyed(key.clone()),
            values: Vec::new(),
        });
        if let KeyState::Held(_) = entry.state {
            entry.state = KeyState::Destroyed(key);
        }
        for value in std::mem::take(&mut entry.values) {
            self.leave(&value, id);
            if let Some(kept) = self.tokens.get_mut(&value) {
                kept.outlives = true;
            }
        }
    }

    /// Takes the token of a value from an owner.
    pub fn release(&mut self, value: &Lookup, owner: KeyId) {
        if let Some(entry) = self.keys.get_mut(&owner) {
            entry.values.retain(|of| of != value);
        }
        self.leave(value, owner);
    }

    fn leave(&mut self, value: &Lookup, owner: KeyId) {
        let Some(kept) = self.tokens.get_mut(value) else { return };
        kept.owners.retain(|(other, _)| *other != owner);
        if kept.owners.is_empty() {
            self.tokens.remove(value);
        }
    }

    /// The key with an id.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&KeyState> {
        self.keys.get(&id).map(|entry| &entry.state)
    }

    /// The key of a subject.
    #[must_use]
    pub fn key_of(&self, subject: &Label) -> Option<&KeyState> {
        self.key(*self.subjects.get(subject)?)
    }

    /// The token of a value.
    #[must_use]
    pub fn find(&self, value: &Lookup) -> Option<Token> {
        self.tokens.get(value).map(|kept| kept.token)
    }

    /// The key of a subject, drawn if it never had one; then with the record to be made durable and
    /// taken in.
    pub fn draw(&self, subject: &Label) -> Result<(KeyState, Option<KeyRecord>), Randomless> {
        if let Some(known) = self.key_of(subject) {
            return Ok((known.clone(), None));
        }
        let (subject, secret) = (subject.clone(), Secret::random()?);
        let key = SubjectKey::new(subject.clone(), secret.clone());
        Ok((KeyState::Held(key), Some(KeyRecord::Key { subject, secret })))
    }

    /// The token of a value for an owner, drawn if nobody has the value; with the record to be made
    /// durable and taken in if the owner does not have it yet. `None` if the owner has no key.
    pub fn token(
        &self,
        value: &Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Result<Option<(Token, Option<KeyRecord>)>, Randomless> {
        if !matches!(self.key(owner), Some(KeyState::Held(_))) {
            return Ok(None);
        }
        let token = match self.tokens.get(value) {
            Some(kept) if kept.has(owner) => return Ok(Some((kept.token, None))),
            Some(kept) => kept.token,
            None => Token::random()?,
        };
        Ok(Some((
            token,
            Some(KeyRecord::Token { value: value.clone(), token, owner, since, outlives: false }),
        )))
    }

    /// Returns every value that a forgotten subject had and others have.
    pub fn outlived(&self) -> impl Iterator<Item = OutlivedValue> {
        self.tokens.iter().filter(|(_, kept)| kept.outlives).map(|(value, kept)| {
            let KeptToken { token, owners, .. } = kept.clone();
            OutlivedValue { value: value.clone(), token, owners }
        })
    }

    /// Every key that was destroyed.
    pub fn destroyed(&self) -> impl Iterator<Item = &DestroyedKey> {
        self.keys.values().filter_map(|entry| match &entry.state {
            KeyState::Destroyed(key) => Some(key),
            KeyState::Held(_) => None,
        })
    }

    /// Tells whether nothing was taken in yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The records that lead to this state, with nothing of what was destroyed.
    pub fn records(&self) -> impl Iterator<Item = KeyRecord> {
        self.keys.iter().flat_map(move |(id, entry)| {
            let first = match &entry.state {
                KeyState::Held(key) => {
                    KeyRecord::Key { subject: key.subject.clone(), secret: key.secret.clone() }
                }
                KeyState::Destroyed(key) => KeyRecord::Destroyed(key.clone()),
            };
            let tokens = entry.values.iter().filter_map(move |value| {
                let KeptToken { token, owners, outlives } = self.tokens.get(value)?.clone();
                let (owner, since) = owners.into_iter().find(|(owner, _)| owner == id)?;
                Some(KeyRecord::Token { value: value.clone(), token, owner, since, outlives })
            });
            std::iter::once(first).chain(tokens)
        })
    }
}

impl KeptToken {
    fn has(&self, owner: KeyId) -> bool {
        self.owners.iter().any(|(other, _)| *other == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Timestamp = Timestamp::MIN;

    fn value(number: u8) -> Lookup {
        Lookup { name: label("email"), hash: [number; 16] }
    }

    fn label(text: &str) -> Label {
        Label::try_from(text).unwrap()
    }

    fn drawn(ring: &mut Ring, subject: &str) -> SubjectKey {
        let (state, record) = ring.draw(&label(subject)).unwrap();
        record.into_iter().for_each(|record| ring.take(record));
        match state {
            KeyState::Held(key) => key,
            KeyState::Destroyed(_) => panic!("{subject} is forgotten"),
        }
    }

    fn kept(ring: &mut Ring, value: &Lookup, owner: KeyId) -> Token {
        let (token, record) = ring.token(value, owner, SINCE).unwrap().unwrap();
        record.into_iter().for_each(|record| ring.take(record));
        token
    }

    fn destroy(ring: &mut Ring, key: &SubjectKey) {
        let (id, subject) = (key.id, key.subject.clone());
        ring.take(KeyRecord::Destroyed(DestroyedKey {
            id,
            subject,
            at: Timestamp::from_micros(1),
        }));
    }

    #[test]
    fn a_value_keeps_its_token_until_the_last_who_has_it_is_forgotten_and_then_gets_another() {
        let (mut ring, value) = (Ring::default(), value(1));
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|subject| drawn(&mut ring, subject));
        let token = kept(&mut ring, &value, ada.id);
        assert_eq!(kept(&mut ring, &value, bob.id), token);
        destroy(&mut ring, &ada);
        assert_eq!(ring.find(&value), Some(token));
        assert_eq!(ring.token(&value, ada.id, SINCE), Ok(None));
        destroy(&mut ring, &bob);
        assert_eq!(ring.find(&value), None);
        let other = kept(&mut ring, &value, eve.id);
        assert_ne!(other, token);
        assert_eq!(ring.outlived().count(), 0);
        ring.release(&value, eve.id);
        assert_eq!((ring.find(&value), ring.records().count()), (None, 3));
    }

    #[test]
    fn a_destroyed_key_does_not_come_back_whatever_is_taken_in() {
        let mut ring = Ring::default();
        let ada = drawn(&mut ring, "ada");
        destroy(&mut ring, &ada);
        ring.take(KeyRecord::Key { subject: ada.subject.clone(), secret: ada.secret.clone() });
        ring.take(KeyRecord::Key { subject: label("ada"), secret: Secret([9; 32]) });
        let token = KeyRecord::Token {
            value: value(1),
            token: Token([1; 16]),
            owner: ada.id,
            since: SINCE,
            outlives: false,
        };
        ring.take(token);
        assert!(
            matches!(ring.key_of(&label("ada")), Some(KeyState::Destroyed(key)) if key.id == ada.id)
        );
        assert_eq!((ring.find(&value(1)), ring.destroyed().count()), (None, 1));
    }

    #[test]
    fn the_records_lead_to_the_same_state_and_hold_nothing_of_what_was_destroyed() {
        let mut ring = Ring::default();
        let [ada, bob] = ["ada", "bob"].map(|subject| drawn(&mut ring, subject));
        let values = [1, 2, 3].map(value);
        let tokens =
            [(&values[0], &ada), (&values[1], &ada), (&values[1], &bob), (&values[2], &bob)];
        for (value, owner) in tokens {
            kept(&mut ring, value, owner.id);
        }
        destroy(&mut ring, &ada);
        let records: Vec<KeyRecord> = ring.records().collect();
        assert_eq!(records.len(), 4);
        assert!(!records.iter().any(
            |record| matches!(record, KeyRecord::Key { secret, .. } if *secret == ada.secret)
        ));
        let mut again = Ring::default();
        records.into_iter().for_each(|record| again.take(record));
        for value in &values {
            assert_eq!(again.find(value), ring.find(value));
        }
        let outlived = OutlivedValue {
            value: values[1].clone(),
            token: ring.find(&values[1]).unwrap(),
            owners: vec![(bob.id, SINCE)],
        };
        assert_eq!(
            (again.outlived().collect::<Vec<_>>(), ring.outlived().count()),
            (vec![outlived], 1)
        );
        assert_eq!(again.key(bob.id), ring.key(bob.id));
        assert_eq!(again.key(ada.id), ring.key(ada.id));
    }

    /// A key store that was restored from a backup may have given the subject another key since.
    #[test]
    fn a_destruction_takes_whatever_other_key_the_subject_has() {
        let mut ring = Ring::default();
        let other = drawn(&mut ring, "ada");
        destroy(&mut ring, &SubjectKey::new(label("ada"), Secret([3; 32])));
        assert!(matches!(ring.key(other.id), Some(KeyState::Destroyed(_))));
        assert_eq!(ring.destroyed().count(), 2);
    }
}
