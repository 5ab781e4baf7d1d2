//! Hashes: they name a history, so that another one is noticed.

use leftfold_core::store::{Append, Hash, MoveFrom, Position};

use super::Factory;
use super::examples::{checkpoint, command, events, moving};
use super::subject::TestedStore;

/// The empty hash at the start, one of its own at each append, nothing beyond the head.
pub async fn the_start_has_the_empty_hash_and_the_future_none(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut last = Hash::EMPTY;
    for count in 0..4_u64 {
        assert_eq!(store.hash_at(Position::START).await, Ok(Some(Hash::EMPTY)));
        for beyond in [Position(count + 1), Position(count + 2), Position::END] {
            assert_eq!(store.hash_at(beyond).await, Ok(None), "at {beyond} of {count}");
        }
        store.appended(events("a-1", 1)).await;
        let hash = store
            .hash_at(Position(count + 1))
            .await
            .expect("the store can be read")
            .expect("the position is there");
        assert_ne!(hash, last, "an append changes the hash");
        last = hash;
    }
}

/// The hash at a position stays, whatever is appended after it, events or only records, and after
/// reopening.
pub async fn a_hash_never_changes(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let mut hashes = vec![Hash::EMPTY];
    for round in 0..30 {
        store.appended(events("a-1", 1 + round % 3)).await;
        for position in hashes.len() as u64..=store.head().position.0 {
            let hash = store.hash_at(Position(position)).await.expect("the store can be read");
            hashes.push(hash.expect("the position is there"));
        }
        store
            .appended(Append { command: Some(command(&round.to_string())), ..Append::default() })
            .await;
        store.appended(moving("c", MoveFrom::Anywhere, checkpoint(source, 1))).await;
        if round % 10 == 9 {
            store.reopen().await;
        }
        for (position, hash) in hashes.iter().enumerate() {
            let now = store.hash_at(Position(position as u64)).await;
            assert_eq!(now, Ok(Some(*hash)), "at {position} in round {round}");
        }
    }
}

/// Two stores that hold other events have other hashes.
pub async fn histories_differ_by_their_hashes(factory: &impl Factory) {
    let (one, other) = (TestedStore::new(factory).await, TestedStore::new(factory).await);
    one.appended(events("a-1", 1)).await;
    other.appended(events("b-1", 1)).await;
    for store in [&one, &other] {
        store.appended(events("c-1", 1)).await;
    }
    for position in [Position(1), Position(2)] {
        assert_ne!(one.hash_at(position).await, other.hash_at(position).await, "at {position}");
    }
}

/// The chain of the head covers records without a position too: each append moves it.
pub async fn the_chain_of_the_head_covers_everything(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let mut seen = vec![store.head().chain];
    assert_eq!(seen[0], Hash::EMPTY, "the chain of an empty store");
    for append in [
        events("a-1", 1),
        Append { command: Some(command("1")), ..Append::default() },
        moving("c", MoveFrom::Earlier, checkpoint(source, 1)),
        events("a-1", 1),
    ] {
        store.appended(append).await;
        let chain = store.head().chain;
        assert!(!seen.contains(&chain), "an append left the chain as it was");
        seen.push(chain);
    }
}
