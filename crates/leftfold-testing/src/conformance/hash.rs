//! Hashes: they name a history, so that another one is noticed.

use leftfold_core::operations::{HistoryCheck, HistoryError};
use leftfold_core::store::{
    Append, AppendsFrom, Hash, HistoryFrom, MoveFrom, Position, ReadError, StoreId,
};

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

/// Records events and other things, each by an append of its own.
async fn some_history<F: Factory>(store: &TestedStore<'_, F>, first: &str) {
    store.appended(Append { command: Some(command(first)), ..Append::default() }).await;
    for count in [1, 3, 2] {
        store.appended(events("a-1", count)).await;
        let moved = checkpoint(StoreId::random(), count as u64);
        store.appended(moving("c", MoveFrom::Anywhere, moved)).await;
    }
}

/// The bytes that the chain covers give the hash of each position, and that of the end, however
/// small the pages; those that a store does not give it does not give at any time.
pub async fn the_history_gives_all_hashes_again(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    for round in 0..2 {
        some_history(&store, &round.to_string()).await;
        for page_bytes in [1 << 20, 60] {
            let mut check = HistoryCheck::in_pages_of(&store, page_bytes);
            let mut told = Position::START;
            loop {
                match check.next().await {
                    Ok(None) => break,
                    Ok(Some(ends)) => {
                        for end in ends {
                            while told < end.position {
                                told = told.next();
                                let hash = store.hash_at(told).await;
                                assert_eq!(hash, Ok(Some(end.hash)), "at {told}");
                            }
                        }
                    }
                    Err(HistoryError::Read(ReadError::NoHistory)) if round == 0 => return,
                    Err(error) => panic!("pages of {page_bytes} bytes: {error}"),
                }
            }
            let head = store.head();
            assert_eq!((check.position(), check.chain()), (head.position, head.chain));
            assert_eq!(told, head.position);
        }
        store.reopen().await;
    }
}

/// From behind a position the history begins with its hash, a page is bounded, and a mark goes on
/// with what comes later.
pub async fn a_history_is_read_from_any_place(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    some_history(&store, "first").await;
    match store.history(HistoryFrom::START, 1).await {
        Err(ReadError::NoHistory) => return,
        Ok(page) => assert_eq!(page.before, Hash::EMPTY, "the beginning follows from nothing"),
        Err(error) => panic!("{error}"),
    }
    let head = store.head();
    for position in 1..=head.position.0 {
        let page = store.history(HistoryFrom::after(Position(position)), 1 << 20).await;
        let page = page.expect("the store can be read");
        let hash = store.hash_at(Position(position)).await.expect("the store can be read");
        assert_eq!(Some(page.before), hash, "behind {position}");
        let last = page.links.last().and_then(|link| link.end).expect("records come last");
        assert_eq!((last.hash, last.position), (head.chain, head.position));
    }
    let page = store.history(HistoryFrom::START, 50).await.expect("the store can be read");
    let bytes: usize = page.links.iter().map(|link| link.hashed.len()).sum();
    assert!(bytes <= 50, "a page of 50 bytes has {bytes}");
    let end = store.history(HistoryFrom::after(Position::END), 1 << 20).await.expect("it is read");
    let end = store.history(end.next, 1 << 20).await.expect("the store can be read");
    assert_eq!((end.links.len(), end.before), (0, head.chain), "nothing stands behind the end");
    store.appended(events("b-1", 1)).await;
    let later = store.history(end.next, 1 << 20).await.expect("the store can be read");
    let ends: Vec<_> = later.links.iter().filter_map(|link| link.end).collect();
    assert_eq!((later.before, ends.len()), (head.chain, 1));
    assert_eq!(ends[0].hash, store.head().chain);
    assert!(matches!(later.next.link, AppendsFrom::Mark(_)), "the end of a page is a mark");
}
