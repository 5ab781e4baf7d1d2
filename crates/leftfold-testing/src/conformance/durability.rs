//! Durability: what is there after a store was closed and opened again; what never leaks from one
//! store to another.

use leftfold_core::store::{Append, MoveFrom, Position, Version};

use super::Factory;
use super::examples::{checkpoint, command, event, events, fact, label, moving, stream, tagged};
use super::subject::TestedStore;

/// A store keeps its id and epoch; each new one has its own.
pub async fn the_identity_survives_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let before = store.identity();
    store.appended(events("a-1", 1)).await;
    store.reopen().await;
    assert_eq!(store.identity(), before);
    assert_eq!((before.epoch.number, before.epoch.began_after), (1, Position::START));
    let other = TestedStore::new(factory).await.identity();
    assert!(
        other.store != before.store && other.epoch.id != before.epoch.id,
        "{other:?} and {before:?}"
    );
}

/// Events, the head's place, and the numbering that goes on, through several lives.
pub async fn everything_survives_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    for life in 0..4_u64 {
        let batch =
            vec![tagged(event("a-1"), &["t"]), fact("test.Fact"), event(&format!("life-{life}"))];
        let source = store.identity().store;
        let moved =
            moving("c", MoveFrom::Exactly(Position(life)), checkpoint(source, life + 1)).checkpoint;
        let append = Append {
            command: Some(command(&life.to_string())),
            checkpoint: moved,
            ..Append::of(batch)
        };
        assert_eq!(store.appended(append).await.first, Position(3 * life + 1));
        let (all, head) = (store.everything().await, store.head());
        store.reopen().await;
        assert!(store.everything().await == all, "other events in life {life}");
        assert_eq!(store.head().position, head.position, "head in life {life}");
        assert_eq!(store.version(stream("a-1")).await, Ok(Version(life + 1)));
        let stands = store.checkpoint(label("c")).await.expect("the store can be read");
        assert_eq!(stands.map(|checkpoint| checkpoint.position), Some(Position(life + 1)));
        assert!(
            store.answered(command("0").id).await.is_ok_and(|answered| answered.is_some()),
            "the first command"
        );
    }
}

/// The content of one store is not in another store of the same factory.
pub async fn stores_are_apart(factory: &impl Factory) {
    let (one, other) = (TestedStore::new(factory).await, TestedStore::new(factory).await);
    let source = one.identity().store;
    let moved = moving("c", MoveFrom::Earlier, checkpoint(source, 1)).checkpoint;
    one.appended(Append { command: Some(command("1")), checkpoint: moved, ..events("a-1", 3) })
        .await;
    one.keep_snapshot("key".into(), "value".into());
    assert_eq!(other.head().position, Position::START);
    assert_eq!(other.everything().await, []);
    assert_eq!(other.answered(command("1").id).await, Ok(None));
    assert_eq!(other.checkpoint_in(label("c"), source).await, Ok(None));
    assert_eq!(other.snapshot("key".into()).await, Ok(None));
}
