//! The keys of a store, as applications hold them.

use std::any::type_name;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::cipher;
use super::erasure::{Erasure, KeysEvent, SubjectForgotten};
use super::error::{ErasureError, KeysError};
use super::field::{Opened, Personal};
use super::key_store::{DestroyedKey, KeyState, KeyStore, OutlivedValue, SubjectKey};
use super::memory::MemoryKeys;
use super::secret::{KeyId, Lookup};
use crate::fold::{EventError, Schema, Unknown};
use crate::json::{self, JsonReadError};
use crate::store::{
    Append, AppendError, Authority, CommandId, CommandRecord, Condition, Digest, Expected, Invalid,
    Label, Outcome, Position, Query, Read, ReadError, RecordedEvent, Store, StreamName, Timestamp,
    Version,
};

/// Bytes of JSON that a sealed value may have.
pub const SEALED_BYTES_MAX: usize = 1 << 20;
/// Time that a value may take from being sealed to being recorded, if it is to be found: a subject
/// for which nothing was recorded with the value in this time does not keep it findable beyond a
/// subject for which it was recorded, and that was forgotten.
pub const RECORDED_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The keys of the subjects of a store: seals personal data, opens it, and forgets. Cheap to clone.
///
/// The store holds what is sealed, the [key store](KeyStore) the keys; nothing of one is in the
/// other, but that the store knows which key store it is, and who was forgotten. So a key store
/// that was lost, or is another one, is an error when keys are opened ([`KeysError::Lost`],
/// [`KeysError::Foreign`]), and one that was restored from before a forgetting forgets again, there
/// and then.
///
/// ```
/// use leftfold_core::personal::{Keys, Opened};
/// use leftfold_core::store::Store;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = Keys::memory(&Store::memory()).await?;
/// let ada = keys.subject("customer-1").await?;
/// let email = ada.seal_findable("email", &"ada@example.org".to_owned()).await?;
///
/// // A log-in: whose event has this address?
/// let tag = keys.find("email", &"ada@example.org".to_owned()).await?;
/// assert_eq!(tag.as_deref(), Some(email.tag()));
/// assert_eq!(keys.open(&email).await?, Opened::Known("ada@example.org".to_owned()));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Keys {
    shared: Arc<KeysOfStore>,
}

struct KeysOfStore {
    store: Store,
    key_store: Box<dyn KeyStore>,
    /// True once the store knows which key store it is.
    is_begun: AtomicBool,
    /// True if somebody said that an earlier key store is lost.
    has_losses: AtomicBool,
}

/// A subject whose data can be sealed.
///
/// Its data may be in any number of events. The subject itself is written in the clear: it is to be
/// a number or a UUID, and never a name or an address.
#[derive(Clone)]
pub struct Subject {
    keys: Keys,
    key: SubjectKey,
    occasion: Option<Arc<str>>,
}

impl Keys {
    /// Opens the keys of a store, in a key store.
    ///
    /// Both are compared: a subject that one of them has forgotten is forgotten by the other
    /// afterwards. For that everything that was ever forgotten is read once.
    pub async fn of(store: &Store, key_store: impl KeyStore) -> Result<Self, KeysError> {
        let keys = Self::unbound(store, key_store);
        keys.shared.bind().await?;
        Ok(keys)
    }

    /// Opens the keys of a store whose former key store is lost for good, in another one: values
    /// sealed with keys that are in no key store any more are [forgotten](Opened::Forgotten) from
    /// now on, and no error.
    ///
    /// That is recorded, and cannot be taken back: the former key store is
    /// [foreign](KeysError::Foreign) then. Nobody knows whose keys they were, so no
    /// [`SubjectForgotten`] is recorded; rebuild the read models.
    pub async fn declaring_loss(
        store: &Store,
        key_store: impl KeyStore,
    ) -> Result<Self, KeysError> {
        let keys = Self::unbound(store, key_store);
        let recorded = keys.shared.recorded().await?;
        let actual = keys.shared.key_store.identity().id;
        if let Some(lost) = recorded.begun.filter(|begun| *begun != actual) {
            tracing::warn!(%lost, %actual, "a key store is declared lost: what was sealed with its keys is forgotten");
            // Somebody else may declare the same: then what is recorded is compared with this key
            // store.
            keys.shared.say_begun(Expected::Exact(recorded.version)).await?;
        }
        keys.shared.bind().await?;
        Ok(keys)
    }

    fn unbound(store: &Store, key_store: impl KeyStore) -> Self {
        let (is_begun, has_losses) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            shared: Arc::new(KeysOfStore {
                store: store.clone(),
                key_store: Box::new(key_store),
                is_begun,
                has_losses,
            }),
        }
    }

    /// The keys of a store in memory, for tests.
    pub async fn memory(store: &Store) -> Result<Self, KeysError> {
        Self::of(store, MemoryKeys::new()?).await
    }

    /// Returns a subject, whose key is drawn if it never had one. A subject that was forgotten
    /// stays forgotten: [`KeysError::Forgotten`].
    ///
    /// The key is durable when this returns: nothing is recorded that is sealed with a key that a
    /// crash takes away.
    pub async fn subject(&self, subject: &str) -> Result<Subject, KeysError> {
        let label = Label::new(subject.to_owned())?;
        match self.shared.key_store.draw(label).await? {
            KeyState::Held(key) => {
                self.shared.begin().await?;
                Ok(Subject { keys: self.clone(), key, occasion: None })
            }
            KeyState::Destroyed(_) => Err(KeysError::Forgotten { subject: subject.to_owned() }),
        }
    }

    /// Opens a sealed value.
    ///
    /// A key that the key store never had is an error, [`KeysError::UnknownKey`]: a lost key does
    /// not count as a forgotten subject.
    pub async fn open<T: DeserializeOwned>(
        &self,
        sealed: &Personal<T>,
    ) -> Result<Opened<T>, KeysError> {
        let id = sealed.key();
        let key = match self.shared.key_store.key(id).await? {
            Some(KeyState::Held(key)) => key,
            Some(KeyState::Destroyed(_)) => return Ok(Opened::Forgotten),
            None if self.shared.has_losses.load(Ordering::Acquire) => return Ok(Opened::Forgotten),
            None => {
                return Err(KeysError::UnknownKey {
                    key: id,
                    place: self.shared.key_store.place(),
                });
            }
        };
        let opened =
            sealed.sealed().and_then(|bytes| cipher::open(&key.secret, sealed.tag(), &bytes));
        let opened = opened.ok_or(KeysError::Damaged { key: id })?;
        // What serde, or a panic, says may quote the value.
        let shape = |error: JsonReadError| {
            let detail = match error {
                JsonReadError::Json(error) => {
                    format!("its JSON does not fit at column {}", error.column())
                }
                JsonReadError::Panicked(_) => {
                    "its Deserialize panics, fix it and open again".to_owned()
                }
            };
            KeysError::Shape { name: type_name::<T>(), key: id, detail }
        };
        json::decode(&opened).map(Opened::Known).map_err(shape)
    }

    /// Returns the tag of all values that are equal to this one and were sealed to be
    /// [found](Subject::seal_findable) under this name; `None` if no living subject has the value.
    pub async fn find<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<Option<String>, KeysError> {
        let found = self.shared.key_store.find(self.shared.lookup(name, &json_of(value)?)?).await?;
        Ok(found.map(|token| format!("{name}:{token}")))
    }

    /// Forgets a subject: its key is destroyed, and then the store says so. Everything that was
    /// sealed for it is [forgotten](Opened::Forgotten) from then on, everywhere, and its values are
    /// found no more.
    ///
    /// The key is destroyed durably before anything else, so an error, or a crash, after that
    /// leaves it destroyed; the store then learns of it when this is asked for again, or when keys
    /// are opened the next time. To forget a subject again gives the same receipt.
    ///
    /// ```
    /// use leftfold_core::personal::{Keys, KeysError, Opened};
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keys = Keys::memory(&Store::memory()).await?;
    /// let name = keys.subject("customer-1").await?.seal(&"Ada".to_owned())?;
    /// let receipt = keys.forget("customer-1").await?;
    /// assert_eq!(keys.open(&name).await?, Opened::Forgotten);
    /// assert_eq!(keys.forget("customer-1").await?, receipt);
    /// let again = keys.subject("customer-1").await;
    /// assert!(matches!(again, Err(KeysError::Forgotten { .. })));
    /// # Ok(()) }
    /// ```
    pub async fn forget(&self, subject: &str) -> Result<Erasure, KeysError> {
        let key_store = &self.shared.key_store;
        let label = Label::new(subject.to_owned())?;
        let no_subject =
            || KeysError::NoSubject { subject: subject.to_owned(), place: key_store.place() };
        if let KeyState::Held(key) =
            key_store.key_of(label.clone()).await?.ok_or_else(no_subject)?
        {
            key_store
                .destroy(DestroyedKey {
                    id: key.id,
                    subject: key.subject.clone(),
                    at: Timestamp::now(),
                })
                .await?;
        }
        // Somebody else may have been first: what counts is what the key store keeps.
        match key_store.key_of(label).await?.ok_or_else(no_subject)? {
            KeyState::Destroyed(key) => {
                let receipt = self.shared.announce(key).await?;
                self.shared.release().await?;
                Ok(receipt)
            }
            KeyState::Held(key) => Err(self.shared.came_back(key.id)),
        }
    }

    /// Checks a receipt against the store and the key store: the store says at that position, after
    /// the same history, that this key was destroyed, and the key store has it no more.
    ///
    /// Nothing can tell of copies that somebody made of a key store and kept.
    pub async fn verify(&self, receipt: &Erasure) -> Result<(), ErasureError> {
        let KeysOfStore { store, key_store, .. } = &*self.shared;
        let (position, actual) = (receipt.position, store.identity().store);
        if receipt.store != actual {
            return Err(ErasureError::OtherStore { expected: receipt.store, actual });
        }
        let found = store.page(Read::matching(Query::everything(), position).page_of(1)).await?;
        let recorded = found
            .events
            .first()
            .filter(|event| event.position == position && event.id == receipt.event);
        let Erasure { subject, key, at, .. } = receipt;
        let said = SubjectForgotten { subject: subject.clone(), key: *key, at: *at };
        match recorded.map(decoded).transpose().map_err(KeysError::from)?.flatten() {
            Some(KeysEvent::Forgotten(forgotten)) if forgotten == said => {}
            _ => return Err(ErasureError::NotRecorded { position }),
        }
        if store.hash_at(position).await? != Some(receipt.hash) {
            return Err(ErasureError::OtherHistory { position });
        }
        match key_store.key(*key).await.map_err(KeysError::from)? {
            Some(KeyState::Destroyed(_)) => Ok(()),
            Some(KeyState::Held(_)) => {
                Err(ErasureError::KeyThere { key: *key, place: key_store.place() })
            }
            None => Err(KeysError::UnknownKey { key: *key, place: key_store.place() }.into()),
        }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }
}

impl Subject {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.subject
    }

    /// The same subject, for values that may be sealed again on the same occasion: a message that
    /// comes twice, named by its source and id. The same value is then the same sealed text, so
    /// that the repetition is seen to be one. Without an occasion it is another text each time, and
    /// nobody can tell that two are the same value.
    ///
    /// ```
    /// use leftfold_core::personal::Keys;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keys = Keys::memory(&Store::memory()).await?;
    /// let ada = keys.subject("customer-1").await?.on("message 17 of the shop");
    /// let name = "Ada Lovelace".to_owned();
    /// assert_eq!(ada.seal(&name)?, ada.seal(&name)?);
    /// assert_ne!(ada.seal(&name)?, ada.on("message 18 of the shop").seal(&name)?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on(&self, occasion: &str) -> Self {
        Self { occasion: Some(occasion.into()), ..self.clone() }
    }

    /// Seals a value, of at most [`SEALED_BYTES_MAX`] bytes as JSON.
    pub fn seal<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
    ) -> Result<Personal<T>, KeysError> {
        self.sealed(json_of(value)?, "")
    }

    /// Seals a value so that it can be found: the same value sealed under the same name, for any
    /// subject, gets the same [tag](Personal::tag), and [`find`](Keys::find) returns it. The name
    /// is a label, of 255 bytes at most.
    ///
    /// The tag is random. Only the key store knows the value behind it, and forgets it with the
    /// last subject that has the value; from then on not even a guess can be tried, and the value
    /// gets another tag if a later subject has it. A subject for which the value was sealed, but
    /// not recorded [in time](RECORDED_WITHIN), does not count. A value must be written in one way:
    /// no sets, no maps.
    pub async fn seal_findable<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<Personal<T>, KeysError> {
        let json = json_of(value)?;
        let shared = &self.keys.shared;
        let token = shared
            .key_store
            .token(shared.lookup(name, &json)?, self.key.id, Timestamp::now())
            .await?;
        let token =
            token.ok_or_else(|| KeysError::Forgotten { subject: self.name().to_owned() })?;
        self.sealed(json, &format!("{name}:{token}"))
    }

    fn sealed<T>(&self, json: Vec<u8>, tag: &str) -> Result<Personal<T>, KeysError> {
        let sealed = cipher::seal(&self.key.secret, tag, json, self.occasion.as_deref())?;
        Ok(Personal::new(self.key.id, &sealed, tag))
    }

    /// A digest of bytes that hold data of the subject, made with its key, so that it says nothing
    /// once the subject is forgotten. A digest without a key can be tried with guesses: give this
    /// one to [`request`](crate::fold::Identified::request) in place of the bytes of such a
    /// request.
    #[must_use]
    pub fn fingerprint(&self, bytes: &[u8]) -> [u8; 32] {
        cipher::fingerprint(&self.key.secret, bytes)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("place", &self.shared.key_store.place())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name())
            .field("key", &self.key.id)
            .finish_non_exhaustive()
    }
}

/// All that the store says of keys.
#[derive(Default)]
struct KeyHistory {
    /// The key store that has the keys.
    begun: Option<Uuid>,
    /// True if another one had them before.
    has_losses: bool,
    version: Version,
    forgotten: Vec<SubjectForgotten>,
}

impl KeysOfStore {
    async fn recorded(&self) -> Result<KeyHistory, KeysError> {
        let mut recorded = KeyHistory::default();
        let mut events = self.store.read(Read::stream(stream()?, Version(1)));
        while let Some(event) = events.next().await? {
            recorded.version = event.version();
            match decoded(&event)? {
                Some(KeysEvent::Begun { keys }) => {
                    recorded.has_losses |= recorded.begun.replace(keys).is_some();
                }
                Some(KeysEvent::Forgotten(forgotten)) => recorded.forgotten.push(forgotten),
                None => {}
            }
        }
        Ok(recorded)
    }

    /// Compares store and key store.
    async fn bind(&self) -> Result<(), KeysError> {
        let recorded = self.recorded().await?;
        self.has_losses.store(recorded.has_losses, Ordering::Release);
        if let Some(expected) = recorded.begun {
            self.hold_against(expected)?;
            self.is_begun.store(true, Ordering::Release);
        }
        self.reconcile(recorded).await?;
        self.release().await
    }

    fn hold_against(&self, expected: Uuid) -> Result<(), KeysError> {
        let (place, identity) = (self.key_store.place(), self.key_store.identity());
        match identity.id {
            actual if actual == expected => Ok(()),
            _ if identity.is_empty => Err(KeysError::Lost { place, expected }),
            actual => Err(KeysError::Foreign { place, expected, actual }),
        }
    }

    /// Makes each of the two forget whom the other one forgot.
    async fn reconcile(&self, recorded: KeyHistory) -> Result<(), KeysError> {
        let destroyed = self.key_store.destroyed().await?;
        let known: HashSet<KeyId> = destroyed.iter().map(|key| key.id).collect();
        let said: HashSet<KeyId> =
            recorded.forgotten.iter().map(|forgotten| forgotten.key).collect();
        for SubjectForgotten { subject, key, at } in recorded.forgotten {
            if !known.contains(&key) {
                let place = self.key_store.place();
                tracing::warn!(%subject, %key, place, "a key store from before a forgetting was brought back: the key is destroyed again");
                self.key_store
                    .destroy(DestroyedKey { id: key, subject: Label::new(subject)?, at })
                    .await?;
            }
        }
        for key in destroyed.into_iter().filter(|key| !said.contains(&key.id)) {
            self.announce(key).await?;
        }
        Ok(())
    }

    /// Takes values that forgotten subjects had from other subjects for which they were sealed, and
    /// nothing was recorded with them (a sign-up that was refused): those do not keep the values
    /// findable.
    async fn release(&self) -> Result<(), KeysError> {
        let mut released = Vec::new();
        for OutlivedValue { value, token, owners } in self.key_store.outlived().await? {
            let waits = Timestamp::now().minus(RECORDED_WITHIN);
            let mut silent: Vec<KeyId> = owners
                .into_iter()
                .filter(|(_, since)| *since < waits)
                .map(|(owner, _)| owner)
                .collect();
            let tag = Query::tag(format!("{}:{token}", value.name));
            let mut events = self.store.read(Read::matching(tag, Position::START));
            while !silent.is_empty()
                && let Some(event) = events.next().await?
            {
                silent.retain(|owner| !event.key_ids.iter().any(|key| **key == *owner.to_string()));
            }
            released.extend(silent.into_iter().map(|owner| (value.clone(), owner)));
        }
        if !released.is_empty() {
            self.key_store.release(released).await?;
        }
        Ok(())
    }

    /// Records which key store has the keys, before the first value is sealed with one.
    async fn begin(&self) -> Result<(), KeysError> {
        if self.is_begun.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Outcome::Conflict(_) = self.say_begun(Expected::Absent).await? {
            // Another process was first, with the same key store or another.
            self.recorded().await?.begun.map_or(Ok(()), |expected| self.hold_against(expected))?;
        }
        self.is_begun.store(true, Ordering::Release);
        Ok(())
    }

    async fn say_begun(&self, expected: Expected) -> Result<Outcome, KeysError> {
        let (begun, stream) = (KeysEvent::Begun { keys: self.key_store.identity().id }, stream()?);
        let event = Schema::of::<KeysEvent>()?.encode(&begun)?.in_stream(stream.clone());
        let append = Append { authority: Authority::RUNTIME, ..Append::of(vec![event]) };
        Ok(self.store.append(append.when(Condition::stream(stream, expected))).await?)
    }

    /// Records that a key was destroyed, once, and makes the receipt.
    async fn announce(&self, key: DestroyedKey) -> Result<Erasure, KeysError> {
        self.begin().await?;
        let id = CommandId::of_runtime("$personal", &key.id.to_string());
        let forgotten = SubjectForgotten::from(key);
        let event = KeysEvent::Forgotten(forgotten.clone());
        let event = Schema::of::<KeysEvent>()?.encode(&event)?.in_stream(stream()?);
        let command = Some(CommandRecord { id, digest: Digest::UNCHECKED, answer: Bytes::new() });
        let append = Append { command, authority: Authority::RUNTIME, ..Append::of(vec![event]) };
        let position = match self.store.append(append).await? {
            Outcome::Appended(appended) => appended.first,
            Outcome::Repeated(answered) => answered.first,
            // It had no condition.
            Outcome::Conflict(_) => return Err(AppendError::Closed.into()),
        };
        self.receipt(forgotten, position).await
    }

    async fn receipt(
        &self,
        forgotten: SubjectForgotten,
        position: Position,
    ) -> Result<Erasure, KeysError> {
        let page =
            self.store.page(Read::matching(Query::everything(), position).page_of(1)).await?;
        let event = page.events.first().filter(|event| event.position == position);
        let (Some(event), Some(hash)) = (event, self.store.hash_at(position).await?) else {
            let detail =
                format!("what was recorded at position {position} is not there, ask again");
            return Err(ReadError::Io { detail }.into());
        };
        // Another time may have been recorded, by a key store that was restored since.
        let SubjectForgotten { subject, key, at } = match decoded(event)? {
            Some(KeysEvent::Forgotten(recorded)) => recorded,
            _ => forgotten,
        };
        Ok(Erasure {
            store: self.store.identity().store,
            subject,
            key,
            at,
            position,
            event: event.id,
            hash,
        })
    }

    fn lookup(&self, name: &str, json: &[u8]) -> Result<Lookup, KeysError> {
        Ok(cipher::lookup(&self.key_store.identity().lookup, Label::new(name.to_owned())?, json))
    }

    fn came_back(&self, key: KeyId) -> KeysError {
        let detail = format!("the key {key} is there after it was destroyed");
        super::KeyStoreError::Failed { place: self.key_store.place(), detail }.into()
    }
}

fn stream() -> Result<StreamName, Invalid> {
    StreamName::new("$personal")
}

fn decoded(event: &RecordedEvent) -> Result<Option<KeysEvent>, EventError> {
    Ok(Schema::of::<KeysEvent>()?.decode(event, Unknown::Ignore)?.pop())
}

/// The JSON of a value. What is wrong with it may quote it, and is not told.
fn json_of<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, KeysError> {
    let json = json::encode(value).map_err(|_| KeysError::Value { name: type_name::<T>() })?;
    Invalid::if_over("the bytes of a sealed value", json.len(), SEALED_BYTES_MAX)?;
    Ok(json)
}
