//! Key stores that are lost, foreign, older than the store, or the right ones.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, Keys, KeysError,
    Lookup, MemoryKeys, Opened, OutlivedValue, RECORDED_WITHIN, Token,
};
use leftfold_core::store::{Label, Pending, Position, Query, Read, Store, Timestamp};

use super::{ADA, loaded, register};

#[tokio::test]
async fn the_key_store_in_memory_keeps_the_contract() {
    let key_store = Arc::new(MemoryKeys::new().unwrap());
    leftfold_testing::key_store::conformance(async || key_store.clone()).await;
}

#[tokio::test]
async fn a_lost_or_foreign_key_store_is_named_and_nothing_is_taken_for_forgotten() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let expected = key_store.identity().id;
    let lost = Keys::memory(&store).await.unwrap_err();
    assert!(matches!(&lost, KeysError::Lost { expected: id, .. } if *id == expected), "{lost}");
    assert!(
        lost.to_string().contains("in memory") && lost.to_string().contains(&expected.to_string()),
        "{lost}"
    );

    let foreign = Arc::new(MemoryKeys::new().unwrap());
    let elsewhere = Keys::of(&Store::memory(), foreign.clone()).await.unwrap();
    register(&elsewhere, "1", ADA).await.unwrap();
    let actual = foreign.identity().id;
    let error = Keys::of(&store, foreign).await.unwrap_err();
    assert!(
        matches!(
            error,
            KeysError::Foreign { expected: was, actual: is, .. } if (was, is) == (expected, actual)
        ),
        "{error}"
    );

    let email = loaded(&store, "1").await.email.unwrap();
    let unknown = KeysError::UnknownKey { key: email.key(), place: "in memory".to_owned() };
    assert_eq!(elsewhere.open(&email).await, Err(unknown));
    // The right one is still right.
    let again = Keys::of(&store, key_store).await.unwrap();
    assert_eq!(again.open(&email).await, Ok(Opened::Known(ADA.to_owned())));
}

#[tokio::test]
async fn a_loss_that_is_declared_is_a_forgetting_and_the_store_goes_on() {
    let (store, lost) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, lost.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let email = loaded(&store, "1").await.email.unwrap();
    // Nothing is lost.
    let right = Keys::declaring_loss(&store, lost.clone()).await.unwrap();
    assert_eq!(right.open(&email).await, Ok(Opened::Known(ADA.to_owned())));

    let new = Arc::new(MemoryKeys::new().unwrap());
    let keys = Keys::declaring_loss(&store, new.clone()).await.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Forgotten));
    register(&keys, "2", "bob@example.org").await.unwrap();
    let again = Keys::of(&store, new).await.unwrap();
    assert_eq!(again.open(&email).await, Ok(Opened::Forgotten));
    let bob = loaded(&store, "2").await.email.unwrap();
    assert_eq!(again.open(&bob).await, Ok(Opened::Known("bob@example.org".to_owned())));
    again.verify(&again.forget("2").await.unwrap()).await.unwrap();
    assert!(matches!(Keys::of(&store, lost).await, Err(KeysError::Foreign { .. })));
}

#[tokio::test]
async fn two_that_were_forgotten_by_one_side_only_are_forgotten_by_both() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    // The process died after it had destroyed the key.
    let Some(KeyState::Held(key)) = key_store.key_of(Label::try_from("1").unwrap()).await.unwrap()
    else {
        panic!("no key")
    };
    let destroyed = DestroyedKey { id: key.id, subject: key.subject, at: Timestamp::now() };
    key_store.destroy(destroyed.clone()).await.unwrap();
    let before = store.head().position;
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    assert_eq!(store.head().position, before.next());
    let receipt = keys.forget("1").await.unwrap();
    assert_eq!((receipt.at, receipt.position), (destroyed.at, before.next()));
    keys.verify(&receipt).await.unwrap();

    // A store that was restored from before that forgetting learns of it again.
    let older = Store::memory();
    Keys::of(&older, key_store).await.unwrap().verify(&receipt).await.unwrap_err();
    let said =
        older.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    assert_eq!(
        said.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>(),
        ["$personal.Begun", "$personal.Forgotten"]
    );
}

/// A key store in which values were sealed long ago.
struct LongAgo(Arc<MemoryKeys>);

impl KeyStore for LongAgo {
    fn token(
        &self,
        value: Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Pending<Option<Token>, KeyStoreError> {
        self.0.token(value, owner, since.minus(RECORDED_WITHIN + Duration::from_secs(1)))
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn identity(&self) -> KeyStoreIdentity {
        self.0.identity()
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        self.0.draw(subject)
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        self.0.key_of(subject)
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        self.0.key(id)
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        self.0.find(value)
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        self.0.outlived()
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        self.0.release(values)
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        self.0.destroy(key)
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        self.0.destroyed()
    }
}

/// Anyone who was refused an address had sealed it, and would have kept it findable forever.
#[tokio::test]
async fn who_was_refused_a_value_long_ago_does_not_keep_it_findable_and_who_has_it_does() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, LongAgo(key_store.clone())).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    register(&keys, "2", ADA).await.unwrap_err();
    let find = async |keys: &Keys| keys.find("email", &ADA.to_owned()).await.unwrap();
    assert!(find(&keys).await.is_some());
    keys.forget("1").await.unwrap();
    assert_eq!(find(&keys).await, None);

    // The next one has the address, and is refused a second time himself: it is his for as long as
    // he is there.
    register(&keys, "3", ADA).await.unwrap();
    let lately = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&lately, "4", ADA).await.unwrap_err();
    keys.forget("4").await.unwrap();
    assert!(find(&keys).await.is_some());
    // Who sealed it a moment ago may be about to record it.
    register(&lately, "5", ADA).await.unwrap_err();
    keys.forget("3").await.unwrap();
    assert!(find(&keys).await.is_some());
    keys.forget("5").await.unwrap();
    assert_eq!(find(&keys).await, None);
}
