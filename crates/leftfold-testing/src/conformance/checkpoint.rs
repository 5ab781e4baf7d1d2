//! Checkpoint records: where consumers stand, moved by compare-and-set, atomically with events.

use leftfold_core::store::{
    Append, AppendError, Checkpoint, Condition, Expected, Hash, MoveFrom, Outcome, Partition,
    Position, StoreId, Version,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{checkpoint, command, events, label, moving, stream};
use super::subject::TestedStore;

async fn stands<F: Factory>(store: &TestedStore<'_, F>, consumer: &str) -> Option<u64> {
    let checkpoint = store.checkpoint(label(consumer)).await.expect("the store can be read");
    checkpoint.map(|checkpoint| checkpoint.position.0)
}

fn moved(current: u64, from: MoveFrom, proposed: u64) -> AppendError {
    AppendError::CheckpointMoved {
        consumer: label("c"),
        current: Position(current),
        from,
        proposed: Position(proposed),
    }
}

/// A consumer that never recorded anything has no checkpoint.
pub async fn an_unknown_consumer_stands_nowhere(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    assert_eq!(store.checkpoint(label("c")).await, Ok(None));
}

/// Store, partition, position and hash come back, also those of another system.
pub async fn a_checkpoint_comes_back_as_it_was_recorded(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    store.appended(events("a-1", 3)).await;
    let own = store.checkpoint_at(Position(2)).await.expect("the position is there");
    let foreign = Checkpoint { hash: Hash([7; 32]), ..checkpoint(StoreId::random(), u64::MAX) };
    for recorded in [&own, &foreign] {
        store.appended(moving("c", MoveFrom::Earlier, recorded.clone())).await;
    }
    for _ in 0..2 {
        assert_eq!(store.checkpoint(label("c")).await, Ok(Some(own.clone())));
        assert_eq!(store.checkpoint_in(label("c"), foreign.store).await, Ok(Some(foreign.clone())));
        store.reopen().await;
    }
}

/// Compare and set: the consumer must be exactly at the position in the record, the start if it has
/// no checkpoint.
pub async fn a_move_from_exactly_one_place_needs_the_consumer_there(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let go = |from, to| moving("c", MoveFrom::Exactly(Position(from)), checkpoint(source, to));
    let from = |position| MoveFrom::Exactly(Position(position));
    assert_eq!(store.refused(go(3, 5)).await, moved(0, from(3), 5));
    assert_eq!(stands(&store, "c").await, None, "after a refusal");
    store.appended(go(0, 5)).await;
    for stale in [0, 4, 6] {
        assert_eq!(store.refused(go(stale, 9)).await, moved(5, from(stale), 9));
    }
    assert_eq!(stands(&store, "c").await, Some(5));
    store.appended(go(5, 9)).await;
    assert_eq!(stands(&store, "c").await, Some(9));
}

/// A record that wants to advance is refused if it would not, with both positions.
pub async fn a_move_from_earlier_must_advance(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let go = |to| moving("c", MoveFrom::Earlier, checkpoint(source, to));
    for to in [1, 2, 10] {
        store.appended(go(to)).await;
    }
    for to in [0, 9, 10] {
        assert_eq!(store.refused(go(to)).await, moved(10, MoveFrom::Earlier, to));
        assert_eq!(stands(&store, "c").await, Some(10), "after a refusal");
    }
    store.appended(go(11)).await;
}

/// A consumer that is rebuilt goes back.
pub async fn a_move_from_anywhere_may_go_back(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let source = store.identity().store;
    for to in [7, 3, 3, 0, 5, 2] {
        store.appended(moving("c", MoveFrom::Anywhere, checkpoint(source, to))).await;
        assert_eq!(stands(&store, "c").await, Some(to));
    }
    store.reopen().await;
    assert_eq!(stands(&store, "c").await, Some(2), "the last record counts, not the greatest");
}

/// A checkpoint is that of one consumer in one partition of one source.
pub async fn consumers_sources_and_partitions_stand_apart(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let (own, other) = (store.identity().store, StoreId::random());
    let tenant = Checkpoint { partition: Partition(Some(label("tenant"))), ..checkpoint(own, 4) };
    store.appended(moving("c", MoveFrom::Earlier, checkpoint(own, 3))).await;
    store.appended(moving("c", MoveFrom::Earlier, tenant)).await;
    store.appended(moving("c", MoveFrom::Earlier, checkpoint(other, 2))).await;
    store.appended(moving("c2", MoveFrom::Earlier, checkpoint(own, 1))).await;
    for _ in 0..2 {
        assert_eq!((stands(&store, "c").await, stands(&store, "c2").await), (Some(3), Some(1)));
        assert_eq!(store.checkpoint_in(label("c"), other).await, Ok(Some(checkpoint(other, 2))));
        assert_eq!(store.checkpoint_in(label("c2"), other).await, Ok(None));
        store.reopen().await;
    }
}

/// Events, command and checkpoint of one append come together or not at all.
pub async fn a_checkpoint_is_atomic_with_the_events(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let reaction = |from, to, expected| Append {
        checkpoint: moving("c", MoveFrom::Exactly(Position(from)), checkpoint(source, to))
            .checkpoint,
        command: Some(command(&format!("reaction {to}"))),
        ..events("a-1", 2).when(Condition::stream(stream("a-1"), expected))
    };
    store.appended(reaction(0, 1, Expected::Absent)).await;
    store.conflict(reaction(1, 2, Expected::Absent)).await;
    assert_eq!(stands(&store, "c").await, Some(1), "a conflict leaves the checkpoint");
    store.refused(reaction(0, 2, Expected::Exists)).await;
    assert_eq!(
        store.version(stream("a-1")).await,
        Ok(Version(2)),
        "a checkpoint that had moved leaves the stream"
    );
    assert_eq!(store.answered(command("reaction 2").id).await, Ok(None), "and the command id");
    store.appended(reaction(1, 2, Expected::Exists)).await;
    assert_eq!((stands(&store, "c").await, store.head().position), (Some(2), Position(4)));
}

/// Of two runners of one consumer, only one reacts to each event.
pub async fn of_two_runners_only_one_moves_on(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    for step in 0..20 {
        let mut running = JoinSet::new();
        for _ in 0..4 {
            let moved =
                moving("c", MoveFrom::Exactly(Position(step)), checkpoint(source, step + 1))
                    .checkpoint;
            let append = Append { checkpoint: moved, ..events("a-1", 1) };
            let store = (*store).clone();
            running.spawn(async move { store.append(append).await });
        }
        let mut reactions = 0;
        while let Some(answer) = running.join_next().await {
            match answer.expect("a task ends without a panic") {
                Ok(Outcome::Appended(_)) => reactions += 1,
                Err(AppendError::CheckpointMoved { current, .. }) => {
                    assert_eq!(current, Position(step + 1))
                }
                other => panic!("a runner that came late was answered {other:?}"),
            }
        }
        assert_eq!(reactions, 1, "runners that reacted to event {step}");
    }
    assert_eq!(store.version(stream("a-1")).await, Ok(Version(20)));
}

/// The positions of consumers are durable, and compare-and-set goes on from there.
pub async fn checkpoints_survive_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let source = store.identity().store;
    for number in 1..=100 {
        let consumer = format!("consumer {}", number % 10);
        store.appended(moving(&consumer, MoveFrom::Earlier, checkpoint(source, number))).await;
    }
    store.reopen().await;
    for number in 91..=100 {
        let consumer = format!("consumer {}", number % 10);
        assert_eq!(stands(&store, &consumer).await, Some(number), "{consumer}");
        store.refused(moving(&consumer, MoveFrom::Earlier, checkpoint(source, number))).await;
        let on =
            moving(&consumer, MoveFrom::Exactly(Position(number)), checkpoint(source, number + 10));
        store.appended(on).await;
    }
}
