//! Recorded time: it increases, and a moment maps to a position forever.

use std::time::Duration;

use leftfold_core::store::{Position, Timestamp};

use super::Factory;
use super::examples::events;
use super::subject::TestedStore;

const TICK: Duration = Duration::from_micros(1);

/// Of two appends, one after the other, the later has the greater time; the events of one append
/// have one.
pub async fn recorded_time_strictly_increases(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut last = Timestamp::MIN;
    for round in 0..100 {
        let appended = store.appended(events("a-1", 1 + round % 3)).await;
        assert!(
            appended.recorded_at > last,
            "append {round} at {} comes after {last}",
            appended.recorded_at
        );
        assert_eq!(store.head().recorded_at, appended.recorded_at, "time of the head");
        last = appended.recorded_at;
    }
    for pair in store.everything().await.windows(2) {
        let same = pair[0].recorded_at == pair[1].recorded_at;
        assert_eq!(
            same, pair[0].append_continues,
            "one append has one time, the next another, at {}",
            pair[1].position
        );
    }
}

/// The clock that the store tells is the one that gives appends their time, by every handle.
pub async fn the_clock_is_the_one_of_recorded_times(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let beside = store.beside().await;
    for round in 0..20 {
        let before = store.now().await.expect("the store tells its time");
        let at = store.appended(events("a-1", 1)).await.recorded_at;
        let after = beside.now().await.expect("another handle tells it");
        assert!(before <= at, "round {round}: {at} is recorded after {before}");
        // Times that increase strictly may be ahead of the clock by as many steps as appends came
        // at one moment.
        let latest = after.plus(1_000 * TICK);
        assert!(at <= latest, "round {round}: {at} is recorded before {after}");
    }
}

/// At a recorded moment the answer is the last event of it; just before, the last event before.
pub async fn a_moment_maps_to_the_last_position_at_it(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    assert_eq!(store.position_at(Timestamp::MAX).await, Ok(Position::START), "an empty store");
    let mut before = Position::START;
    for count in [1, 3, 2] {
        let appended = store.appended(events("a-1", count)).await;
        let at = appended.recorded_at;
        assert_eq!(store.position_at(at).await, Ok(appended.last()), "at {at}");
        assert_eq!(store.position_at(at.minus(TICK)).await, Ok(before), "just before {at}");
        before = appended.last();
    }
    assert_eq!(store.position_at(Timestamp::MIN).await, Ok(Position::START));
    assert_eq!(store.position_at(Timestamp::MAX).await, Ok(Position(6)));
}

/// An answer given for a moment up to the head's stays the same after any number of appends and
/// reopenings.
pub async fn the_answer_for_a_moment_never_changes(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let mut answers = Vec::new();
    for round in 0..40 {
        let at = store.appended(events("a-1", 1 + round % 3)).await.recorded_at;
        for moment in [at.minus(TICK), at] {
            answers.push((moment, store.position_at(moment).await.expect("the store can be read")));
        }
        if round % 10 == 9 {
            store.reopen().await;
        }
        for (moment, answer) in &answers {
            assert_eq!(store.position_at(*moment).await, Ok(*answer), "{moment} in round {round}");
        }
    }
}

/// The clock of a store that was opened again goes on from its last group.
pub async fn time_goes_on_after_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let mut last = store.appended(events("a-1", 1)).await.recorded_at;
    for round in 0..5 {
        store.reopen().await;
        assert!(
            store.head().recorded_at >= last,
            "the time of the head went back in round {round}"
        );
        let at = store.appended(events("a-1", 1)).await.recorded_at;
        assert!(at > last, "{at} comes after {last} in round {round}");
        last = at;
    }
}
