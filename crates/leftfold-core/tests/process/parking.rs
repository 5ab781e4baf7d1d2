//! What cannot be reacted to waits for a person, and holds up nobody else.

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{
    AskError, Context, Correlation, PARKED_MAX, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};

use crate::clerk::{
    Act, Ask, Desk, DeskEvent, Do, ask, ask_at, break_it, continues, fix, parked, starts, texts,
    timer, until_written, works, write,
};
use crate::runtime_stage::{SECOND, Stage, quiet, until};

fn instance(key: &str) -> Whose {
    Whose::Instance(key.to_owned())
}

/// Both instances begin; then one of them cannot react any more, and everything concerns both.
async fn three_for_each(store: &Store, bad: &str, good: &str) {
    for number in 1..=3 {
        let number = number.to_string();
        ask(store, starts(bad, [write(bad, &number)])).await;
        ask(store, starts(good, [write(good, &number)])).await;
    }
}

#[tokio::test]
async fn an_instance_that_panics_waits_in_order_until_it_is_mended_and_others_go_on() {
    for (place, says) in [("", "react exploded"), (" apply", "apply exploded")] {
        let (bad, good) = (format!("bad{place}"), format!("good{place}"));
        let broken = format!("{bad}{place}");
        let stage = Stage::new();
        let process = stage.process();
        let running = works(&process).await;
        break_it(&broken);
        three_for_each(&process.store, &bad, &good).await;
        until_written(&process.store, &good, &["1", "2", "3"]).await;
        let processes = running.processes();
        let waiting = processes.parked("clerk").await.unwrap();
        assert_eq!(waiting.len(), 3);
        assert!(waiting[0].error.as_ref().unwrap().contains(says), "{waiting:?}");
        assert_eq!((&waiting[1].error, &waiting[2].error), (&None, &None));
        assert!(matches!(
            processes.retry("clerk", &instance(&bad)).await,
            Err(AskError::FailsAgain { .. })
        ));
        // A restart keeps what waits, and its order.
        running.stop().await.unwrap();
        let process = stage.process();
        let running = works(&process).await;
        ask(&process.store, starts(&bad, [write(&bad, "4")])).await;
        until("four wait", async || parked(&running.processes()).await == 4).await;
        assert_eq!(running.status()[0].waiting, 4);
        fix(&broken);
        assert_eq!(running.processes().retry("clerk", &instance(&bad)).await, Ok(4));
        until_written(&process.store, &bad, &["1", "2", "3", "4"]).await;
        assert_eq!(
            running.processes().retry("clerk", &instance(&bad)).await,
            Err(AskError::NotParked { position: None })
        );
        assert_eq!(parked(&running.processes()).await, 0);
        ask(&process.store, starts(&bad, [write(&bad, "5")])).await;
        until_written(&process.store, &bad, &["1", "2", "3", "4", "5"]).await;
        assert_eq!(running.status()[0].waiting, 0);
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_person_skips_one_trigger_once_and_the_rest_is_retried() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let processes = running.processes();
    break_it("skipped");
    three_for_each(&process.store, "skipped", "not skipped").await;
    until("three wait", async || parked(&processes).await == 3).await;
    let first = processes.parked("clerk").await.unwrap()[0].position;
    assert_eq!(processes.skip("clerk", &instance("skipped"), first, "ann").await, Ok(1));
    assert_eq!(
        processes.skip("clerk", &instance("skipped"), first, "ann").await,
        Err(AskError::NotParked { position: None })
    );
    assert_eq!(
        processes.skip("clerk", &instance("skipped"), Position(1_000), "ann").await,
        Err(AskError::NotParked { position: None })
    );
    let unknown = processes.skip("nobody", &instance("skipped"), first, "ann").await;
    assert_eq!(unknown, Err(AskError::UnknownProcess { name: "nobody".into() }));
    fix("skipped");
    running.stop().await.unwrap();
    let running = works(&process).await;
    assert_eq!(running.processes().retry("clerk", &instance("skipped")).await, Ok(2));
    until_written(&process.store, "skipped", &["2", "3"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_that_cannot_be_read_holds_up_its_own_stream_only() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let long = "x".repeat(480);
    for desk in ["odd", &*long] {
        let whose = running.processes();
        let unread = NewEvent::new(EventType::new("desk.Asked").unwrap(), r#"{"starts":7}"#);
        let unread = unread.in_stream(StreamName::of("desk", desk).unwrap());
        process.store.append(Append::of(vec![unread.clone()])).await.unwrap();
        let facts = serde_json::to_vec(&starts("behind", [write("behind", desk)])).unwrap();
        let behind = NewEvent::new(EventType::new("desk.Asked").unwrap(), facts);
        process
            .store
            .append(Append::of(vec![behind.in_stream(unread.stream.unwrap())]))
            .await
            .unwrap();
        ask_at(&process.store, "even", starts("even", [write("even", desk)])).await;
        until("two wait", async || parked(&whose).await == 2).await;
        let waiting = whose.parked("clerk").await.unwrap();
        assert!(waiting[0].error.as_ref().unwrap().contains("does not parse"), "{waiting:?}");
        let stream = waiting[0].whose.clone();
        assert!(matches!(whose.retry("clerk", &stream).await, Err(AskError::FailsAgain { .. })));
        assert_eq!(whose.skip("clerk", &stream, waiting[0].position, "ann").await, Ok(1));
        assert_eq!(whose.retry("clerk", &stream).await, Ok(1));
        until("it was reacted to", async || {
            texts(&process.store, "behind").await.last().is_some_and(|d| d == desk)
        })
        .await;
        assert_eq!(parked(&whose).await, 0);
    }
    assert_eq!(texts(&process.store, "even").await.len(), 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_at_which_correlate_panics_waits_and_is_not_let_go_by_a_retry() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let processes = running.processes();
    break_it("lost correlate");
    ask_at(&process.store, "one", starts("lost", [write("lost", "1")])).await;
    ask_at(&process.store, "two", starts("found", [write("found", "1")])).await;
    ask_at(&process.store, "one", starts("lost", [write("lost", "2")])).await;
    until_written(&process.store, "found", &["1"]).await;
    let stream = Whose::Stream("desk-one".to_owned());
    until("both wait", async || parked(&processes).await == 2).await;
    assert!(matches!(processes.retry("clerk", &stream).await, Err(AskError::FailsAgain { .. })));
    fix("lost correlate");
    assert_eq!(processes.retry("clerk", &stream).await, Ok(2));
    until_written(&process.store, "lost", &["1", "2"]).await;
    // Parked for an instance, and then correlate panics.
    break_it("lost");
    ask_at(&process.store, "one", starts("lost", [write("lost", "3")])).await;
    until("it waits", async || parked(&processes).await == 1).await;
    fix("lost");
    break_it("lost correlate");
    assert!(matches!(
        processes.retry("clerk", &instance("lost")).await,
        Err(AskError::FailsAgain { .. })
    ));
    fix("lost correlate");
    assert_eq!(processes.retry("clerk", &instance("lost")).await, Ok(1));
    until_written(&process.store, "lost", &["1", "2", "3"]).await;
    running.stop().await.unwrap();
}

/// Two timers of one instance were due at once and the second one failed: they were tried forever,
/// together.
#[tokio::test]
async fn of_two_triggers_in_one_append_the_first_is_reacted_to_where_the_second_fails() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let asked = starts("pair", [timer("a", 10), timer("b", 11)]).later("a", [write("pair", "a")]);
    ask(&process.store, asked.later("b", [Act::UnknownTarget])).await;
    ask(
        &process.store,
        starts("twice", [Act::Scrawl { desk: "s".into() }, Act::Scrawl { desk: "t".into() }]),
    )
    .await;
    quiet().await;
    stage.clock.advance(60 * SECOND);
    until_written(&process.store, "pair", &["a"]).await;
    until("one waits", async || parked(&running.processes()).await == 1).await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert!(waiting[0].error.as_ref().unwrap().contains("door2 is not a target"), "{waiting:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_cannot_be_reacted_to_is_parked_and_retried_once() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let processes = running.processes();
    let asked = starts("no", [Act::Scrawl { desk: "s".into() }, write("wrote", "it")]);
    ask(&process.store, asked.later("refused", [write("wrote", "refused")])).await;
    break_it("no");
    fix("no");
    until_written(&process.store, "wrote", &["it", "refused"]).await;
    ask(&process.store, starts("no2", []).later("refused", [write("wrote2", "refused")])).await;
    quiet().await;
    // It breaks while the command is under way.
    process.faults.before_append(|| break_it("no2 apply"));
    ask(&process.store, continues("no2", [Act::Scrawl { desk: "s".into() }])).await;
    fix("no2 apply");
    until_written(&process.store, "wrote2", &["refused"]).await;
    let found = processes.find("clerk", "no").await.unwrap().unwrap();
    assert_eq!(found.refused[0].reason(), "desk cannot be read, write better");
    assert_eq!(found.refused[0].target(), "s");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn one_event_that_was_two_is_reacted_to_twice_and_parked_for_whom_it_fails() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    break_it("half");
    let data = serde_json::json!({
        "one": starts("half", [write("half", "1")]),
        "two": Ask { starts: vec!["half".into(), "whole".into()], acts: vec![write("whole", "2")], ..Ask::default() },
    });
    let old = NewEvent::new(EventType::new("desk.AskedTwice").unwrap(), data.to_string());
    process
        .store
        .append(Append::of(vec![old.in_stream(StreamName::of("desk", "old").unwrap())]))
        .await
        .unwrap();
    until_written(&process.store, "whole", &["2"]).await;
    assert_eq!(parked(&running.processes()).await, 2);
    fix("half");
    assert_eq!(running.processes().retry("clerk", &instance("half")).await, Ok(2));
    until_written(&process.store, "whole", &["2", "2"]).await;
    until_written(&process.store, "half", &["1"]).await;
    running.stop().await.unwrap();
}

/// A process whose code does not return, until it is let go.
#[derive(Debug, Default)]
struct Stuck;

static LET_GO: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
static GONE: std::sync::Condvar = std::sync::Condvar::new();

impl leftfold_core::runtime::process::Process for Stuck {
    const NAME: &'static str = "stuck";
    type Event = DeskEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<DeskEvent>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<DeskEvent>, _: &Context) {}

    fn react(&self, _: &Trigger<DeskEvent>, _: &Context) -> Reaction {
        let mut let_go = LET_GO.lock().unwrap();
        while !*let_go {
            let_go = GONE.wait(let_go).unwrap();
        }
        Reaction::none()
    }
}

/// It held up its thread, and the status still said what it had waited for before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reaction_that_does_not_return_is_named_with_its_event() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Stuck>().start().await.unwrap();
    process.store.aggregate::<Desk>().execute("a", Do::Write("1".into())).await.unwrap();
    let named = "the reaction to the event at 1, under way since";
    while !running.status().remove(0).waits_for.contains(named) {
        stage.clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    *LET_GO.lock().unwrap() = true;
    GONE.notify_all();
    running.stop().await.unwrap();
}

/// A timer that failed where no more could be parked was told as something that passes by itself,
/// and nobody came.
#[tokio::test]
async fn a_timer_that_would_be_parked_where_no_more_can_be_asks_for_a_person() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, starts("full", [timer("t", 10)]).later("t", [write("full", "1")])).await;
    let unreadable = |_| {
        NewEvent::new(EventType::new("desk.Asked").unwrap(), "7")
            .in_stream(StreamName::of("desk", "x").unwrap())
    };
    for _ in 0..PARKED_MAX / 1_000 {
        process.store.append(Append::of((0..1_000).map(unreadable).collect())).await.unwrap();
    }
    until("all are parked", async || running.status()[0].parked == PARKED_MAX).await;
    let status = running.status().remove(0);
    assert!(status.needs_person && !status.stalled, "{status:?}");
    break_it("full");
    stage.clock.advance(60 * SECOND);
    until("it does not go on", async || running.status()[0].stalled).await;
    let status = running.status().remove(0);
    assert!(status.needs_person && status.waits_for.starts_with("a person: "), "{status:?}");
    // The fixed code has no need of room.
    fix("full");
    stage.clock.advance(60 * SECOND);
    until_written(&process.store, "full", &["1"]).await;
    until("it goes on", async || !running.status()[0].stalled).await;
    running.stop().await.unwrap();
}
