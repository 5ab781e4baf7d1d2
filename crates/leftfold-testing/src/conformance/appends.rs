//! Whole appends, as a copy of the store reads them.

use std::time::Duration;

use leftfold_core::store::{
    Append, AppendsFrom, CheckpointRecord, Condition, Expected, Holder, LeaseRequest, Leased,
    MoveFrom, Position, RecordedAppend, StoreId, Version,
};

use super::Factory;
use super::examples::{checkpoint, command, events, label, moving, stream};
use super::subject::TestedStore;

/// Everything from a place on, in pages of the given number of bytes.
async fn all<F: Factory>(
    store: &TestedStore<'_, F>,
    mut from: AppendsFrom,
    page_bytes: u32,
) -> Vec<RecordedAppend> {
    const PAGES_MAX: usize = 10_000;
    let mut all = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = store.appends(from, page_bytes).await.expect("the store can be read");
        if page.appends.is_empty() {
            return all;
        }
        all.extend(page.appends);
        from = page.next;
    }
    panic!("there is no end after {PAGES_MAX} pages");
}

/// Appends of every kind: with and without events, command and checkpoint.
async fn history<F: Factory>(store: &TestedStore<'_, F>) {
    let source = StoreId::random();
    let record = |position| CheckpointRecord {
        consumer: label("c"),
        from: MoveFrom::Earlier,
        checkpoint: checkpoint(source, position),
    };
    store
        .appended(Append { command: Some(command("before everything")), ..Append::default() })
        .await;
    store.appended(events("a-1", 3)).await;
    store.appended(Append { command: Some(command("with events")), ..events("a-1", 2) }).await;
    store.appended(moving("c", MoveFrom::Earlier, checkpoint(source, 1))).await;
    store.appended(Append { command: Some(command("without events")), ..Append::default() }).await;
    let both = Append {
        command: Some(command("with both")),
        checkpoint: Some(record(2)),
        ..events("b-1", 1)
    };
    store.appended(both).await;
    let refused =
        events("b-1", 1).when(Condition::stream(stream("b-1"), Expected::Exact(Version(7))));
    store.conflict(refused).await;
    store.appended(Append { checkpoint: Some(record(3)), ..events("b-1", 2) }).await;
}

/// Events that were appended together come back together, in order, with their records; a refused
/// append does not.
pub async fn appends_come_back_whole_and_in_order(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    history(&store).await;
    for _ in 0..2 {
        let appends = all(&store, AppendsFrom::After(Position::START), 1 << 20).await;
        let shape: Vec<_> = appends
            .iter()
            .map(|append| {
                let checkpoint =
                    append.checkpoint.as_ref().map(|(_, checkpoint)| checkpoint.position.0);
                (append.first.0, append.events.len(), append.command.is_some(), checkpoint)
            })
            .collect();
        let expected = [
            (0, 0, true, None),
            (1, 3, false, None),
            (4, 2, true, None),
            (5, 0, false, Some(1)),
            (5, 0, true, None),
            (6, 1, true, Some(2)),
            (7, 2, false, Some(3)),
        ];
        assert_eq!(shape, expected);
        let read: Vec<_> =
            appends.iter().flat_map(|append| append.events.iter().cloned()).collect();
        assert_eq!(read, store.everything().await, "the events are those that a read finds");
        for append in &appends {
            if let Some(answered) = &append.command {
                assert_eq!(store.answered(answered.record.id).await, Ok(Some(answered.clone())));
            }
            if let Some(event) = append.events.first() {
                assert_eq!(
                    store.hash_at(event.position).await,
                    Ok(Some(append.hash)),
                    "at {}",
                    event.position
                );
            }
        }
        store.reopen().await;
    }
}

/// However small the page, it has an append, and all pages together are all appends.
pub async fn an_append_is_never_split_over_pages(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    history(&store).await;
    let whole = all(&store, AppendsFrom::After(Position::START), 1 << 20).await;
    for page_bytes in [0, 1, 100] {
        assert_eq!(
            all(&store, AppendsFrom::After(Position::START), page_bytes).await,
            whole,
            "pages of {page_bytes} bytes"
        );
    }
}

/// After a position come the appends behind the one that holds it; those without events stand
/// behind the event that they name.
pub async fn appends_are_read_from_after_a_position(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    history(&store).await;
    for _ in 0..2 {
        let whole = all(&store, AppendsFrom::After(Position::START), 1 << 20).await;
        for after in 1..=8 {
            // The last append that begins at or before the position has events; what follows it is
            // wanted.
            let holds =
                |append: &RecordedAppend| !append.events.is_empty() && append.first.0 <= after;
            let skipped = whole.iter().rposition(holds).map_or(0, |index| index + 1);
            let found = all(&store, AppendsFrom::After(Position(after)), 1).await;
            assert_eq!(found, whole[skipped..], "after {after}");
        }
        store.reopen().await;
    }
}

/// The mark of the end finds what is appended later, also after reopening.
pub async fn a_mark_goes_on_with_what_comes_later(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let empty =
        store.appends(AppendsFrom::After(Position::START), 1).await.expect("the store can be read");
    assert_eq!(empty.appends, []);
    history(&store).await;
    let whole = all(&store, AppendsFrom::After(Position::START), 1).await;
    assert_eq!(all(&store, empty.next, 1).await, whole, "from where an empty store ended");
    let mut from = AppendsFrom::After(Position::START);
    loop {
        let page = store.appends(from, 1 << 20).await.expect("the store can be read");
        from = page.next;
        if page.appends.is_empty() {
            break;
        }
    }
    store.reopen().await;
    assert_eq!(all(&store, from, 1).await, []);
    store.appended(events("late-1", 2)).await;
    let late = all(&store, from, 1).await;
    assert_eq!(
        late.iter().map(|append| (append.first.0, append.events.len())).collect::<Vec<_>>(),
        [(9, 2)]
    );
}

/// Leases belong to the backend: what it records of them is no append.
pub async fn leases_are_no_appends(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    for opening in 0..2 {
        let asking = LeaseRequest::new(label("w"), Holder::random(), Duration::ZERO);
        let leased = store.lease(asking).await;
        assert!(matches!(leased, Ok(Leased::Held(_))), "{leased:?}");
        store.appended(events("a-1", 1)).await;
        let appends = all(&store, AppendsFrom::After(Position::START), 1).await;
        assert_eq!(
            appends.iter().map(|append| append.first.0).collect::<Vec<_>>(),
            (1..=opening + 1).collect::<Vec<_>>()
        );
        assert!(appends.iter().all(|append| append.checkpoint.is_none()), "{appends:?}");
        store.reopen().await;
    }
}
