//! Timers: when they fire, and when not.

use std::time::Duration;

use leftfold_core::runtime::Clock;
use leftfold_core::store::{Append, EventType, NewEvent, Store, StreamName, Timestamp};

use crate::clerk::{
    Act, Ask, ask, cancel, continues, starts, texts, timer, until_written, works, write,
};
use crate::runtime_stage::{SECOND, Stage, quiet};

/// Sets a timer that writes its name on the desk of its key.
fn sets(key: &str, name: &str, seconds: u32) -> Ask {
    starts(key, [timer(name, seconds)]).later(name, [write(key, name)])
}

async fn until_quiet_on(store: &Store, desk: &str, expected: &[&str]) {
    quiet().await;
    assert_eq!(texts(store, desk).await, expected);
}

#[tokio::test]
async fn a_timer_fires_once_when_it_is_due_and_not_before() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, sets("k", "a", 100)).await;
    ask(&process.store, sets("k", "b", 50)).await;
    quiet().await;
    stage.clock.advance(45 * SECOND);
    until_quiet_on(&process.store, "k", &[]).await;
    stage.clock.advance(10 * SECOND);
    until_quiet_on(&process.store, "k", &["b"]).await;
    stage.clock.advance(50 * SECOND);
    until_quiet_on(&process.store, "k", &["b", "a"]).await;
    stage.clock.advance(10_000 * SECOND);
    until_quiet_on(&process.store, "k", &["b", "a"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn timers_are_replaced_and_cancelled_also_in_the_append_that_sets_them() {
    for running_from_the_start in [true, false] {
        let stage = Stage::new();
        let process = stage.process();
        let early = if running_from_the_start { Some(works(&process).await) } else { None };
        let store = &process.store;
        ask(store, sets("k", "moved", 10)).await;
        ask(store, sets("k", "moved", 100)).await;
        ask(store, sets("k", "cancelled", 10)).await;
        ask(store, continues("k", [cancel("cancelled")])).await;
        ask(store, sets("k", "set again", 10)).await;
        ask(store, continues("k", [cancel("set again")])).await;
        ask(store, sets("k", "set again", 20)).await;
        ask(store, continues("k", [timer("both", 10), cancel("both"), cancel("none")])).await;
        let running = match early {
            Some(running) => running,
            None => works(&process).await,
        };
        quiet().await;
        stage.clock.advance(60 * SECOND);
        until_quiet_on(store, "k", &["set again"]).await;
        stage.clock.advance(60 * SECOND);
        until_quiet_on(store, "k", &["set again", "moved"]).await;
        running.stop().await.unwrap();
    }
}

/// Both were due and in one append: the second fired though the first had cancelled it.
#[tokio::test]
async fn a_timer_that_another_one_cancels_or_replaces_at_the_same_time_does_not_fire() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let first = [cancel("second"), timer("third", 1_000), write("k", "first")];
    let all = [timer("first", 10), timer("second", 11), timer("third", 12)];
    let asked = starts("k", all).later("first", first).later("second", [write("k", "second")]);
    ask(&process.store, asked.later("third", [write("k", "third")])).await;
    quiet().await;
    stage.clock.advance(60 * SECOND);
    until_quiet_on(&process.store, "k", &["first"]).await;
    stage.clock.advance(1_000 * SECOND);
    until_quiet_on(&process.store, "k", &["first", "third"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_timer_at_once_or_in_the_past_fires_without_any_time_passing() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let past = Act::At { name: "past".into(), at: Timestamp::MIN };
    ask(
        &process.store,
        starts("k", [timer("now", 0), past])
            .later("now", [write("k", "now")])
            .later("past", [write("k", "past")]),
    )
    .await;
    // The clock of the stage stands where it was when the stage was set, which is before that.
    stage.clock.advance(SECOND);
    quiet().await;
    let mut texts = texts(&process.store, "k").await;
    texts.sort_unstable();
    assert_eq!(texts, ["now", "past"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_timer_in_the_year_9999_waits_and_the_latest_moment_never_comes() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let far = |name: &str, at: Timestamp| Act::At { name: name.into(), at };
    let year_9999: Timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
    let acts = [
        far("far", year_9999),
        far("never", Timestamp::MAX),
        timer("soon", 10),
        timer("overflow", u32::MAX),
    ];
    let asked =
        starts("k", acts).later("far", [write("k", "far")]).later("soon", [write("k", "soon")]);
    ask(&process.store, asked.later("never", [write("k", "never")])).await;
    stage.clock.advance(60 * SECOND);
    until_quiet_on(&process.store, "k", &["soon"]).await;
    running.stop().await.unwrap();
    let running = works(&process).await;
    stage.clock.advance(60 * SECOND);
    until_quiet_on(&process.store, "k", &["soon"]).await;
    let found = running.processes().find("clerk", "k").await.unwrap().unwrap();
    assert_eq!(found.timers["never"], Timestamp::MAX);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_outage_does_not_turn_an_answer_in_time_into_a_missed_deadline() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, sets("in time", "missed", 60)).await;
    ask(&process.store, sets("not at all", "missed", 60)).await;
    quiet().await;
    running.stop().await.unwrap();
    // The answer is recorded while nobody runs, behind much else.
    for number in 0..1_200 {
        ask(&process.store, continues(&format!("other {number}"), [])).await;
    }
    ask(&process.store, continues("in time", [cancel("missed")])).await;
    stage.clock.advance(3_600 * SECOND);
    let running = works(&process).await;
    until_written(&process.store, "not at all", &["missed"]).await;
    until_quiet_on(&process.store, "in time", &[]).await;
    running.stop().await.unwrap();
}

/// The end was read when the timer was due; what was stamped before and durable after was
/// overlooked.
#[tokio::test]
async fn an_answer_that_becomes_durable_while_the_timer_fires_counts() {
    let stage = Stage::new();
    let (process, other) = (stage.process(), stage.process());
    let running = works(&process).await;
    ask(&process.store, sets("k", "missed", 3_600)).await;
    quiet().await;
    process.faults.before_append(move || {
        let answer = serde_json::to_vec(&continues("k", [cancel("missed")])).unwrap();
        let answer = NewEvent::new(EventType::new("desk.Asked").unwrap(), answer);
        drop(
            other
                .store
                .append(Append::of(vec![answer.in_stream(StreamName::of("desk", "x").unwrap())])),
        );
    });
    stage.clock.advance(3_601 * SECOND);
    until_quiet_on(&process.store, "k", &[]).await;
    assert!(running.processes().find("clerk", "k").await.unwrap().unwrap().timers.is_empty());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn timers_survive_restarts_and_fire_once_whatever_was_cached() {
    let stage = Stage::new();
    let process = stage.process();
    for number in 0..20 {
        ask(&process.store, sets(&format!("k{number}"), "due", 30 * (number + 1))).await;
    }
    let mut fired = 0;
    for round in 0..20 {
        let process = stage.process();
        let running = works(&process).await;
        quiet().await;
        stage.clock.advance(30 * SECOND);
        quiet().await;
        fired = 0;
        for number in 0..20 {
            let texts = texts(&process.store, &format!("k{number}")).await;
            assert!(texts.len() <= 1, "{texts:?}");
            fired += texts.len();
        }
        assert!(fired >= round, "{fired} after {round} rounds");
        running.stop().await.unwrap();
    }
    assert!(fired >= 19);
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_far_ahead_loses_no_timer_and_repeats_none() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, sets("k", "a", 100)).await;
    quiet().await;
    stage.clock.set(stage.clock.now().minus(5_000 * SECOND));
    quiet().await;
    ask(&process.store, sets("k", "b", 200)).await;
    until_quiet_on(&process.store, "k", &[]).await;
    stage.clock.advance(5_150 * SECOND);
    until_quiet_on(&process.store, "k", &["a"]).await;
    stage.clock.advance(365 * 24 * 3_600 * SECOND);
    until_quiet_on(&process.store, "k", &["a", "b"]).await;
    stage.clock.set(stage.clock.now().minus(365 * 24 * 3_600 * SECOND));
    ask(&process.store, sets("k", "c", 300)).await;
    until_quiet_on(&process.store, "k", &["a", "b"]).await;
    stage.clock.advance(400 * SECOND);
    until_quiet_on(&process.store, "k", &["a", "b", "c"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_timer_of_an_earlier_life_does_not_fire_in_the_next() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, sets("k", "old", 10)).await;
    ask(&process.store, continues("k", [Act::End])).await;
    ask(
        &process.store,
        starts("k", [timer("new", 20)])
            .later("new", [write("k", "new")])
            .later("old", [write("k", "old")]),
    )
    .await;
    quiet().await;
    stage.clock.advance(60 * SECOND);
    until_quiet_on(&process.store, "k", &["new"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_of_other_events_does_not_keep_timers_from_firing() {
    let stage = Stage::new();
    let (process, busy) = (stage.process(), stage.process());
    let running = works(&process).await;
    ask(&process.store, sets("k", "due", 30)).await;
    quiet().await;
    stage.clock.advance(Duration::from_secs(31));
    let now = stage.clock.now();
    for number in 0..300 {
        ask(&busy.store, continues(&format!("other {number}"), [])).await;
        tokio::task::yield_now().await;
    }
    until_written(&process.store, "k", &["due"]).await;
    assert_eq!(stage.clock.now(), now);
    running.stop().await.unwrap();
}
