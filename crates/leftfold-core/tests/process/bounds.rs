//! Limits, and what happens to what is beyond them.

use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::process::{
    CHAIN_MAX, COMMANDS_MAX, Context, Correlation, EFFECTS_MAX, INSTANCES_MAX, Process, ROUNDS_MAX,
    Reaction, TIMERS_MAX, Targets, Trigger, Whose,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Query, Read, Store, StreamName};
use serde::{Deserialize, Serialize};

use crate::clerk::{
    Act, Ask, Desk, Do, ask, break_it, fix, parked, starts, texts, timer, until_written, works,
    write,
};
use crate::runtime_stage::{Opener, SECOND, Stage, everything, quiet, until};

#[tokio::test]
async fn as_many_instances_as_may_react_to_one_event_and_one_more_is_parked() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let many = |count: usize| Ask {
        starts: (0..count).map(|n| format!("many {n}")).collect(),
        ..Ask::default()
    };
    ask(&process.store, many(INSTANCES_MAX)).await;
    let reactions = Read::matching(Query::category("$process:clerk"), Position(1));
    until("all reacted", async || {
        process.store.read(reactions.clone()).all().await.unwrap().len() == INSTANCES_MAX
    })
    .await;
    crate::clerk::ask_at(&process.store, "too many", many(INSTANCES_MAX + 1)).await;
    until("it waits", async || parked(&running.processes()).await == 1).await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert!(waiting[0].error.as_ref().unwrap().contains("901 instances"), "{waiting:?}");
    // A hundred of them fail: so many are parked, and the others react.
    (0..100).for_each(|n| break_it(&format!("many {n}")));
    ask(&process.store, many(INSTANCES_MAX)).await;
    until("they wait", async || parked(&running.processes()).await == 101).await;
    (0..100).for_each(|n| fix(&format!("many {n}")));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_reaction_beyond_a_limit_is_parked_with_the_limit_and_the_process_goes_on() {
    let beyond = [
        ("commands", Act::Commands { desk: "b".into(), count: COMMANDS_MAX + 1 }, "10001 commands"),
        ("timers", Act::Timers { count: TIMERS_MAX + 1 }, "61 timers"),
        ("effects", Act::Effects { door: "b".into(), count: EFFECTS_MAX + 1 }, "1001 effects"),
        ("a name", timer(&"x".repeat(201), 1), "201 bytes"),
        ("bytes", Act::Heavy { desk: "b".into(), bytes: 9 << 20 }, "bytes"),
        ("a target", Act::UnknownTarget, "not a target"),
        (
            "an effect's stream",
            Act::Effects { door: "x".repeat(600), count: 1 },
            "cannot be written",
        ),
    ];
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    for (index, (key, act, _)) in beyond.iter().enumerate() {
        ask(&process.store, starts(key, [act.clone()])).await;
        ask(&process.store, starts("goes on", [write("goes on", &index.to_string())])).await;
    }
    until("it went on", async || texts(&process.store, "goes on").await.len() == beyond.len())
        .await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert_eq!(waiting.len(), beyond.len());
    for (key, _, says) in beyond {
        let one = waiting.iter().find(|one| one.whose == Whose::Instance(key.to_owned())).unwrap();
        assert!(one.error.as_ref().unwrap().contains(says), "{key}: {one:?}");
    }
    running.stop().await.unwrap();
}

/// Each reaction could be recorded, but not all to one event together: the process stood still
/// forever.
#[tokio::test]
async fn reactions_that_are_too_much_for_one_append_are_parked_and_retried_one_by_one() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let heavy = Ask {
        starts: (0..5).map(|n| format!("heavy {n}")).collect(),
        acts: vec![Act::Heavy { desk: "heavy".into(), bytes: 4 << 20 }],
        ..Ask::default()
    };
    ask(&process.store, heavy).await;
    until("all wait", async || parked(&running.processes()).await == 5).await;
    for number in 0..5 {
        assert_eq!(
            running.processes().retry("clerk", &Whose::Instance(format!("heavy {number}"))).await,
            Ok(1)
        );
    }
    until("all wrote", async || texts(&process.store, "heavy").await.len() == 5).await;
    running.stop().await.unwrap();
}

/// Asks itself, again and again.
fn endless() -> Ask {
    starts("endless", [Act::Ask { desk: "endless".into(), ask: starts("endless", []) }])
}

#[derive(Debug, Default)]
struct Echo<const OTHER: bool>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum EchoEvent {
    #[serde(rename = "desk.Wrote")]
    Wrote { text: String },
}

impl Event for EchoEvent {
    const NAMESPACE: &'static str = "echo";
}

/// Writes on the one desk what was written on the other; alone, on its own.
impl<const OTHER: bool> Process for Echo<OTHER> {
    const NAME: &'static str = if OTHER { "pong" } else { "ping" };
    type Event = EchoEvent;

    fn targets() -> Targets {
        Targets::of::<Desk>()
    }

    fn correlate(event: &Recorded<EchoEvent>) -> Correlation {
        let EchoEvent::Wrote { text } = &event.event;
        if text == Self::NAME || text == "self" && !OTHER {
            Correlation::starts("echo")
        } else {
            Correlation::ignores()
        }
    }

    fn apply(&mut self, _: &Trigger<EchoEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<EchoEvent>, _: &Context) -> Reaction {
        let Trigger::Event(EchoEvent::Wrote { text }) = trigger else { return Reaction::none() };
        let answer = match text.as_str() {
            "ping" => "pong",
            "pong" => "ping",
            other => other,
        };
        Reaction::none().command::<Desk>("echo", Do::Write(answer.to_owned()))
    }
}

#[tokio::test]
async fn a_process_that_reacts_to_itself_without_end_is_stopped_and_reported() {
    for first in ["self", "ping"] {
        let stage = Stage::new();
        let process = stage.process();
        let running = process
            .runtime()
            .process::<Echo<false>>()
            .process::<Echo<true>>()
            .start()
            .await
            .unwrap();
        process
            .store
            .aggregate::<Desk>()
            .execute("echo", Do::Write(first.to_owned()))
            .await
            .unwrap();
        let waiting = async || {
            let (one, two) = (
                running.processes().parked("ping").await.unwrap(),
                running.processes().parked("pong").await.unwrap(),
            );
            one.into_iter().chain(two).collect::<Vec<_>>()
        };
        until("it is parked", async || !waiting().await.is_empty()).await;
        quiet().await;
        let waiting = waiting().await;
        assert_eq!(waiting.len(), 1);
        assert!(waiting[0].error.as_ref().unwrap().contains("without end"), "{waiting:?}");
        assert_eq!(texts(&process.store, "echo").await.len(), CHAIN_MAX as usize + 2);
        // From outside it is heard again, behind what waits.
        running.stop().await.unwrap();
    }
    // What asks itself once is no chain.
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    for _ in 0..300 {
        ask(&process.store, endless()).await;
    }
    let last = starts("endless", [write("after", "all")]);
    ask(&process.store, last).await;
    until_written(&process.store, "after", &["all"]).await;
    assert_eq!(parked(&running.processes()).await, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn timers_at_once_that_set_each_other_without_end_are_stopped_and_those_that_wait_are_not() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, starts("at once", [timer("t", 0)]).later("t", [timer("t", 0)])).await;
    stage.clock.advance(SECOND);
    until_parked(&process.store, "clerk").await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert!(waiting[0].error.as_ref().unwrap().contains("without end"), "{waiting:?}");
    // After an outage as many are due at once, each by itself.
    ask(
        &process.store,
        starts("every minute", [timer("t", 60)])
            .later("t", [timer("t", 60), write("minutes", "one")]),
    )
    .await;
    quiet().await;
    stage.clock.advance(60 * SECOND * (CHAIN_MAX * 2));
    until("each fired", async || {
        texts(&process.store, "minutes").await.len() >= CHAIN_MAX as usize * 2 - 1
    })
    .await;
    assert_eq!(parked(&running.processes()).await, 1);
    running.stop().await.unwrap();
}

/// Writes so many lines, each in a reaction of its own: a timer that is due at once leads from one
/// to the next.
#[derive(Debug, Default)]
struct Sweep<const LINES: u32> {
    written: u32,
}

impl<const LINES: u32> Process for Sweep<LINES> {
    const NAME: &'static str = "sweep";
    type Event = EchoEvent;

    fn targets() -> Targets {
        Targets::of::<Desk>()
    }

    fn correlate(event: &Recorded<EchoEvent>) -> Correlation {
        let EchoEvent::Wrote { text } = &event.event;
        if text == "sweep" { Correlation::starts("all") } else { Correlation::ignores() }
    }

    fn apply(&mut self, trigger: &Trigger<EchoEvent>, _: &Context) {
        self.written += u32::from(matches!(trigger, Trigger::TimerFired { .. }));
    }

    fn react(&self, trigger: &Trigger<EchoEvent>, _: &Context) -> Reaction {
        let line = match trigger {
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Desk>("swept", Do::Write("ping".to_owned()))
            }
            _ => Reaction::none(),
        };
        if self.written < LINES { line.timer("next", Duration::ZERO) } else { line }
    }
}

async fn begin_to_sweep(stage: &Stage, process: &crate::runtime_stage::Process) {
    process
        .store
        .aggregate::<Desk>()
        .execute("begin", Do::Write("sweep".to_owned()))
        .await
        .unwrap();
    stage.clock.advance(SECOND);
}

/// Waits until a process has something parked. It follows the log: to ask again and again would
/// take longer than the work.
async fn until_parked(store: &Store, process: &str) {
    let mut records =
        store.subscribe(Query::category(format!("$process:{process}")), Position::START);
    let parked =
        async { while &*records.event().await.unwrap().event_type != "$process.Parked" {} };
    assert!(
        tokio::time::timeout(60 * SECOND, parked).await.is_ok(),
        "nothing of {process} is parked"
    );
}

/// Waits until so many lines are on a desk.
async fn until_lines(store: &Store, desk: &str, lines: usize) {
    let mut written =
        store.subscribe(Query::stream(StreamName::of("desk", desk).unwrap()), Position::START);
    for line in 0..lines {
        assert!(
            tokio::time::timeout(60 * SECOND, written.event()).await.is_ok(),
            "{line} of {lines} lines are on {desk}"
        );
    }
}

/// A cascade to more than half a million children was parked as a process that reacts to itself;
/// and anyone who reacted to what its last batches did would have been.
#[tokio::test]
async fn work_in_more_batches_than_a_chain_may_have_is_no_chain_nor_is_what_comes_of_it() {
    const LINES: usize = CHAIN_MAX as usize * 5 / 2;
    let stage = Stage::new();
    let process = stage.process();
    let running = process
        .runtime()
        .process::<Sweep<{ LINES as u32 }>>()
        .process::<Echo<false>>()
        .start()
        .await
        .unwrap();
    begin_to_sweep(&stage, &process).await;
    for desk in ["swept", "echo"] {
        until_lines(&process.store, desk, LINES).await;
    }
    for name in ["sweep", "ping"] {
        assert_eq!(running.processes().parked(name).await.unwrap(), []);
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn more_rounds_than_may_be_are_parked_with_the_way_out_and_a_retry_goes_on() {
    const LINES: u32 = ROUNDS_MAX + 5;
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Sweep<LINES>>().start().await.unwrap();
    begin_to_sweep(&stage, &process).await;
    until_parked(&process.store, "sweep").await;
    assert_eq!(texts(&process.store, "swept").await.len(), ROUNDS_MAX as usize);
    let why = running.processes().parked("sweep").await.unwrap()[0].error.clone().unwrap();
    assert!(why.contains("more than 2000 timers in a row") && why.contains("retry"), "{why}");
    running.processes().retry("sweep", &Whose::Instance("all".to_owned())).await.unwrap();
    until_lines(&process.store, "swept", LINES as usize).await;
    assert_eq!(running.processes().parked("sweep").await.unwrap(), []);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_effect_that_a_reaction_asks_for_is_carried_out_once() {
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::opening();
    let running = process
        .runtime()
        .process::<crate::clerk::Clerk>()
        .effect(opener.clone())
        .start()
        .await
        .unwrap();
    ask(&process.store, starts("effects", [Act::Effects { door: "front".into(), count: 3 }])).await;
    until("all were carried out", async || opener.performs() == 3).await;
    running.stop().await.unwrap();
    let running = process
        .runtime()
        .process::<crate::clerk::Clerk>()
        .effect(opener.clone())
        .start()
        .await
        .unwrap();
    quiet().await;
    assert_eq!(opener.performs(), 3);
    let causes: Vec<_> = everything(&process.store)
        .await
        .into_iter()
        .filter(|event| &*event.event_type == "door.OpeningAsked")
        .collect();
    assert!(causes.iter().all(|event| event.metadata.correlation.is_some()), "{causes:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn instances_end_and_begin_anew_on_an_empty_state() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let ends =
        |key: &str, acts: Vec<Act>| Ask { ends: vec![key.to_owned()], acts, ..Ask::default() };
    let refuse = || vec![Act::Scrawl { desk: "s".into() }];
    ask(
        &process.store,
        starts("life", [write("life", "begins")]).later("refused", [write("life", "refused")]),
    )
    .await;
    ask(&process.store, ends("life", vec![write("life", "ends")])).await;
    ask(&process.store, crate::clerk::continues("life", [write("life", "never")])).await;
    ask(&process.store, starts("life", refuse())).await;
    quiet().await;
    until_written(&process.store, "life", &["begins", "ends"]).await;
    let found = running.processes().find("clerk", "life").await.unwrap().unwrap();
    assert!(found.is_open && found.refused.len() == 1, "{found:?}");
    assert_eq!(running.processes().find("clerk", "nobody").await.unwrap(), None);
    ask(&process.store, starts("other", [])).await;
    quiet().await;
    let first = running.processes().instances("clerk", Position::START, 1).await.unwrap();
    let second = running.processes().instances("clerk", first.next.unwrap(), 10).await.unwrap();
    assert_eq!(
        (&*first.instances[0].key, &*second.instances[0].key, second.next),
        ("life", "other", None)
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn events_in_no_stream_and_bad_keys_are_contained() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let event = |ask: &Ask| {
        NewEvent::new(EventType::new("desk.Asked").unwrap(), serde_json::to_vec(ask).unwrap())
    };
    process.store.append(Append::of(vec![event(&starts("", []))])).await.unwrap();
    let long =
        event(&starts(&"k".repeat(600), [])).in_stream(StreamName::of("desk", "long").unwrap());
    process.store.append(Append::of(vec![long])).await.unwrap();
    ask(&process.store, starts("fine", [write("fine", "1")])).await;
    until_written(&process.store, "fine", &["1"]).await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!(waiting[0].whose, Whose::Stream(String::new()));
    running.stop().await.unwrap();
}
