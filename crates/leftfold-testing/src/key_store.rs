//! The suite that every key store passes.

use futures_util::future::join_all;

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, KeyStore, Lookup, OutlivedValue, SubjectKey, Token,
};
use leftfold_core::store::{Label, Timestamp};

/// Checks a key store against the contract. It is opened several times at one place, the one before
/// being dropped; at first it keeps nothing.
///
/// ```
/// use std::sync::Arc;
///
/// use leftfold_core::personal::MemoryKeys;
/// use leftfold_testing::key_store;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A key store in a file is opened again; this one lives as long as its handle.
/// let keys = Arc::new(MemoryKeys::new()?);
/// key_store::conformance(async || Arc::clone(&keys)).await;
/// # Ok(()) }
/// ```
///
/// # Panics
/// If a rule is broken.
pub async fn conformance<S: KeyStore>(open: impl AsyncFn() -> S) {
    let keys = open().await;
    assert!(keys.identity().is_empty, "it is to be empty at first");
    assert_eq!(keys.key_of(label("ada")).await, Ok(None), "to look for a key draws none");
    let ada = one_key_for_one_subject(&keys).await;
    let bob = held(&keys, "bob").await;
    let tokens = one_token_for_one_value(&keys, &ada, &bob).await;
    let identity = keys.identity();
    drop(keys);

    let keys = open().await;
    let again = keys.identity();
    assert!(
        !again.is_empty && (again.id, &again.lookup) == (identity.id, &identity.lookup),
        "it keeps its identity"
    );
    assert_eq!(
        keys.draw(label("ada")).await,
        Ok(KeyState::Held(ada.clone())),
        "what was acknowledged is there"
    );
    assert_eq!(keys.find(value(1)).await, Ok(Some(tokens[0])));
    what_is_destroyed_stays_so(&keys, &ada, &bob).await;
    drop(keys);

    let keys = open().await;
    let KeyState::Destroyed(destroyed) = keys.draw(label("ada")).await.expect("an answer") else {
        panic!("a destroyed key came back")
    };
    assert_eq!((destroyed.id, destroyed.at), (ada.id, moment(3)));
    assert_eq!(keys.find(value(2)).await, Ok(None));
    what_is_released_is_gone(&keys, &bob, tokens[0]).await;
    a_destruction_takes_every_key_of_a_subject(&keys).await;
}

fn label(text: &str) -> Label {
    Label::new(text.to_owned()).expect("a label")
}

fn value(number: u8) -> Lookup {
    Lookup { name: label("email"), hash: [number; 16] }
}

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

async fn held(keys: &impl KeyStore, subject: &str) -> SubjectKey {
    match keys.draw(label(subject)).await {
        Ok(KeyState::Held(key)) => key,
        other => panic!("no key for {subject}: {other:?}"),
    }
}

async fn one_key_for_one_subject(keys: &impl KeyStore) -> SubjectKey {
    let drawn = join_all((0..20).map(|_| held(keys, "ada"))).await;
    let ada = drawn[0].clone();
    assert!(drawn.iter().all(|key| *key == ada), "a subject has one key, however many ask at once");
    assert_eq!(ada.subject, label("ada"));
    let state = Some(KeyState::Held(ada.clone()));
    assert_eq!(
        (keys.key_of(label("ada")).await, keys.key(ada.id).await),
        (Ok(state.clone()), Ok(state))
    );
    let eve = held(keys, "eve").await;
    assert!(eve.id != ada.id && eve.secret != ada.secret, "two subjects have two keys");
    assert_eq!(keys.key(KeyId([0; 16])).await, Ok(None), "a key that never was is unknown");
    ada
}

async fn one_token_for_one_value(
    keys: &impl KeyStore,
    ada: &SubjectKey,
    bob: &SubjectKey,
) -> [Token; 2] {
    assert_eq!(keys.find(value(1)).await, Ok(None), "to look for a value draws no token");
    let of = async |number, owner: &SubjectKey, since| {
        keys.token(value(number), owner.id, since)
            .await
            .expect("an answer")
            .expect("an owner that is there")
    };
    let first = of(1, ada, moment(1)).await;
    assert_eq!(
        (of(1, bob, moment(2)).await, of(1, ada, moment(9)).await),
        (first, first),
        "a value has one token"
    );
    let second = of(2, ada, moment(1)).await;
    assert_ne!(first, second, "two values have two tokens");
    let named = Lookup { name: label("name"), ..value(1) };
    assert_eq!(keys.find(named).await, Ok(None), "a value of another name is another value");
    assert_eq!(
        keys.token(value(3), KeyId([0; 16]), moment(1)).await,
        Ok(None),
        "nobody has no tokens"
    );
    assert_eq!(keys.outlived().await, Ok(Vec::new()), "everybody is there");
    [first, second]
}

async fn what_is_destroyed_stays_so(keys: &impl KeyStore, ada: &SubjectKey, bob: &SubjectKey) {
    let token = keys.find(value(1)).await.expect("an answer").expect("a token");
    for at in [3, 4] {
        let key = DestroyedKey { id: ada.id, subject: ada.subject.clone(), at: moment(at) };
        keys.destroy(key).await.expect("it is destroyed");
    }
    let destroyed = DestroyedKey { id: ada.id, subject: ada.subject.clone(), at: moment(3) };
    assert_eq!(
        keys.key(ada.id).await,
        Ok(Some(KeyState::Destroyed(destroyed.clone()))),
        "the first destruction counts"
    );
    assert_eq!(keys.destroyed().await, Ok(vec![destroyed.clone()]));
    assert_eq!(
        keys.draw(label("ada")).await,
        Ok(KeyState::Destroyed(destroyed)),
        "a subject gets no other key"
    );
    assert_eq!(
        keys.token(value(3), ada.id, moment(5)).await,
        Ok(None),
        "who is forgotten gets no token"
    );
    assert_eq!(keys.find(value(2)).await, Ok(None), "a value that was hers alone is found no more");
    assert_eq!(
        keys.find(value(1)).await,
        Ok(Some(token)),
        "a value that somebody else has is found"
    );
    let outlived = OutlivedValue { value: value(1), token, owners: vec![(bob.id, moment(2))] };
    assert_eq!(keys.outlived().await, Ok(vec![outlived]));
}

async fn what_is_released_is_gone(keys: &impl KeyStore, bob: &SubjectKey, token: Token) {
    let owners = vec![(bob.id, moment(2))];
    assert_eq!(
        keys.outlived().await,
        Ok(vec![OutlivedValue { value: value(1), token, owners }]),
        "it is known for how long"
    );
    keys.release(vec![(value(1), bob.id), (value(7), bob.id)]).await.expect("it is released");
    assert_eq!((keys.find(value(1)).await, keys.outlived().await), (Ok(None), Ok(Vec::new())));
    let again = keys
        .token(value(1), bob.id, moment(6))
        .await
        .expect("an answer")
        .expect("an owner that is there");
    assert_ne!(again, token, "a value that nobody had gets another token");
    assert_eq!(keys.outlived().await, Ok(Vec::new()));
}

async fn a_destruction_takes_every_key_of_a_subject(keys: &impl KeyStore) {
    let eve = held(keys, "eve").await;
    let other = DestroyedKey { id: KeyId([9; 16]), subject: label("eve"), at: moment(7) };
    keys.destroy(other.clone()).await.expect("it is destroyed");
    assert_eq!(
        keys.key(other.id).await,
        Ok(Some(KeyState::Destroyed(other))),
        "one that never was here is known as destroyed"
    );
    assert!(
        matches!(keys.key(eve.id).await, Ok(Some(KeyState::Destroyed(_)))),
        "the subject's own key is destroyed with it"
    );
    assert_eq!(keys.destroyed().await.map(|all| all.len()), Ok(3));
}
