//! A history that was rewritten is found by a head that was signed before, and kept elsewhere.

use std::fs;
use std::ops::ControlFlow;
use std::ops::ControlFlow::Continue;
use std::path::Path;

use leftfold::log::{Log, Options, restore, verify};
use leftfold::operations::{
    SignedHead, SignedHeadError, SigningKey, VerifyingKey, sign_head, statistics, verify_against,
};
use leftfold::prelude::*;
use leftfold::store::{Append, EventType, NewEvent};

fn open(path: &Path) -> Store {
    Store::new(Log::open(path, Options::default()).unwrap().0)
}

async fn append(store: &Store, text: &str) {
    let event = NewEvent::new(EventType::new("shop.Sold").unwrap(), text.to_owned());
    store.append(Append::of(vec![event])).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_rewritten_with_a_valid_chain_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let store = open(&at("log"));
    append(&store, "one").await;
    store.close().await.unwrap();
    drop(store);
    for name in ["rewritten", "shortened", "restored"] {
        copy(&at("log"), &at(name));
    }

    let store = open(&at("log"));
    append(&store, "two").await;
    let key = SigningKey::generate().unwrap();
    let head = sign_head(&store, &key).await.unwrap();
    append(&store, "three").await;
    let public = key.verifying_key();
    assert_eq!(verify_against(&store, &head, &public).await, Ok(()));

    let rewritten = open(&at("rewritten"));
    append(&rewritten, "another two").await;
    append(&rewritten, "three").await;
    let found = verify_against(&rewritten, &head, &public).await;
    assert_eq!(found, Err(SignedHeadError::Rewritten { position: head.position }));
    rewritten.close().await.unwrap();
    drop(rewritten);
    assert!(
        verify(at("rewritten"), &mut |_| Continue(())).unwrap().is_sound(),
        "its chain is right in itself"
    );

    let shortened = open(&at("shortened"));
    let (signed, actual) = (Position(2), Position(1));
    let found = verify_against(&shortened, &head, &public).await;
    assert_eq!(found, Err(SignedHeadError::Shortened { signed, actual }));
    restore(at("restored"), Options::default()).unwrap();
    let restored = open(&at("restored"));
    append(&restored, "two").await;
    let found = verify_against(&restored, &head, &public).await;
    assert_eq!(found, Err(SignedHeadError::Restored { began_after: Position(1), signed }));
    let other = verify_against(&Store::memory(), &head, &public).await;
    assert!(matches!(other, Err(SignedHeadError::OtherStore { .. })), "{other:?}");
}

#[tokio::test]
async fn a_head_and_its_keys_are_texts_and_a_changed_one_is_not_believed() {
    let store = Store::memory();
    append(&store, "one").await;
    let key = SigningKey::generate().unwrap();
    let key: SigningKey = key.secret_text().parse().unwrap();
    let public: VerifyingKey = key.verifying_key().to_string().parse().unwrap();
    let head = sign_head(&store, &key).await.unwrap();
    assert_eq!(head.to_string().parse::<SignedHead>(), Ok(head.clone()));
    assert_eq!(head.check(&public), Ok(()));
    let changed = head.to_string().replace("\"position\":1", "\"position\":2");
    let changed: SignedHead = changed.parse().unwrap();
    assert_eq!(changed.check(&public), Err(SignedHeadError::WrongSignature));
    let stranger = SigningKey::generate().unwrap().verifying_key();
    let found = head.check(&stranger);
    assert_eq!(found, Err(SignedHeadError::OtherKey { expected: stranger, found: public }));
    assert!("ed25519:abc".parse::<VerifyingKey>().is_err());
    assert!("{}".parse::<SignedHead>().is_err());
    assert!(!format!("{key:?}").contains(key.secret_text().trim()), "a secret is not shown");
}

#[tokio::test]
async fn statistics_count_everything_and_end_when_they_are_told_to() {
    let store = Store::memory();
    for (id, text) in [("shop-1", "1"), ("shop-2", "22"), ("shop-1", "333"), ("$timer", "")] {
        let stream = StreamName::try_from(id).unwrap();
        let event = NewEvent::new(EventType::new("shop.Sold").unwrap(), text.to_owned());
        let append = Append::of(vec![event.in_stream(stream)]);
        store.append(leftfold_testing::by_runtime(append)).await.unwrap();
    }
    append(&store, "free").await;
    let figures = statistics(&store, &mut |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!((figures.through, figures.appends), (Position(5), 5));
    let of = |name: &str| {
        let found = figures.categories[name];
        (found.events, found.streams, found.bytes)
    };
    assert_eq!([of("shop"), of("$timer"), of("")], [(3, 2, 6), (1, 1, 0), (1, 0, 4)]);
    assert_eq!(figures.types["shop.Sold"], figures.all);
    let none = statistics(&Store::memory(), &mut |_| ControlFlow::Break(())).await.unwrap();
    assert_eq!(none.through, Position::START);
}
