//! Spans, and the trace that continues behind the log.

#[cfg(feature = "opentelemetry")]
mod collected;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::inbox::{Delivery, Inbox};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::runtime::{Clock, Runtime};
use leftfold_core::store::{Position, Query, Read, RecordedEvent, Store, TraceContext};
use leftfold_testing::HandClock;
use runtime_stage::{Command, Door, DoorEvent, Opener, done};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Each test runs alone: if a place of the code is met for the first time while another test begins
/// to listen, what it says may be taken for heard by nobody, for good (`tracing` keeps that for
/// each place).
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn parent() -> TraceContext {
    TraceContext::parse(&format!("00-{TRACE}-{PARENT}-01"), Some("vendor=1")).unwrap()
}

/// A span that was seen, with the name of its parent.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// The spans of this thread.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Seen>>>);

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &Attributes<'_>,
        id: &Id,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let parent = context.span(id).and_then(|span| span.parent().map(|parent| parent.name()));
        let mut seen = Seen { name: attributes.metadata().name(), parent, ..Seen::default() };
        attributes.record(&mut seen);
        let mut all = self.0.lock().unwrap();
        let number = all.len() as u64;
        // Ids are given again: a number tells two spans apart.
        context.span(id).unwrap().extensions_mut().insert(number);
        all.insert(number, seen);
    }

    fn on_record(
        &self,
        id: &Id,
        values: &Record<'_>,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let number = *context.span(id).unwrap().extensions().get::<u64>().unwrap();
        values.record(self.0.lock().unwrap().get_mut(&number).unwrap());
    }
}

impl Spans {
    /// The only span of a name that has a field of this value.
    fn one(&self, name: &str, field: &str, value: &str) -> Seen {
        let all = self.0.lock().unwrap();
        let found: Vec<&Seen> = all
            .values()
            .filter(|seen| {
                seen.name == name && seen.fields.get(field).is_some_and(|is| is == value)
            })
            .collect();
        assert_eq!(found.len(), 1, "{name} with {field} {value} in {all:?}");
        found[0].clone()
    }
}

/// Has another door walled up for every opening that is asked for.
#[derive(Debug, Default)]
struct Mason;

impl Process for Mason {
    const NAME: &'static str = "mason";
    type Event = DoorEvent;

    fn targets() -> Targets {
        Targets::of::<Door>()
    }

    fn correlate(event: &Recorded<DoorEvent>) -> Correlation {
        match event.event {
            DoorEvent::OpeningAsked(_) => Correlation::starts("all"),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DoorEvent>, _: &Context) {}

    fn react(&self, _: &Trigger<DoorEvent>, _: &Context) -> Reaction {
        Reaction::none().command::<Door>("back", Command::WallUp)
    }
}

/// Has a door walled up at once, and another one a minute later, each by a timer of its name.
#[derive(Debug, Default)]
struct Snooze;

impl Process for Snooze {
    const NAME: &'static str = "snooze";
    type Event = DoorEvent;

    fn targets() -> Targets {
        Targets::of::<Door>()
    }

    fn correlate(event: &Recorded<DoorEvent>) -> Correlation {
        match event.event {
            DoorEvent::OpeningAsked(_) => Correlation::starts("all"),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DoorEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<DoorEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::TimerFired { name } => Reaction::none().command::<Door>(name, Command::WallUp),
            _ => Reaction::none()
                .timer("now", Duration::ZERO)
                .timer("later", Duration::from_secs(60)),
        }
    }
}

/// Walls up the door that a message names.
struct Orders;

impl Inbox for Orders {
    const NAME: &'static str = "orders";
    type Message = String;

    fn targets() -> Targets {
        Targets::of::<Door>()
    }

    fn deliver(door: &String, _: &Delivery) -> Reaction {
        Reaction::none().command::<Door>(door, Command::WallUp)
    }
}

struct Count;

impl Projection<Memory<usize>> for Count {
    const NAME: &'static str = "count";
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut usize,
        _: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        *rows += 1;
        Ok(())
    }
}

/// A command with a trace, and all that comes of it.
async fn work(store: &Store) -> Vec<RecordedEvent> {
    let opener = Opener::doing(|_| async {
        let _call = tracing::info_span!("call").entered();
        done("open")
    });
    let doors = store.aggregate::<Door>();
    doors.command("front", Command::Ask(1)).trace(parent()).execute().await.unwrap();
    let runtime = Runtime::new(store).process::<Mason>().effect(opener.with_history());
    runtime.project(Count, Memory::new()).run_until_idle().await.unwrap();
    store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap()
}

#[tokio::test]
async fn each_step_has_a_span_with_its_parent_and_what_came_of_it() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let store = Store::memory();
    work(&store).await;
    let asked = spans.one("leftfold.command", "position", "1");
    let fields = [
        ("category", "door"),
        ("outcome", "done"),
        ("events", "1"),
        ("trace_id", TRACE),
        ("parent_id", PARENT),
    ];
    for (field, value) in fields {
        assert_eq!(asked.fields[field], value, "{field}");
    }
    assert!(!format!("{asked:?}").contains("front"), "an id may be a person's");
    let reaction = spans.one("leftfold.reaction", "process", "mason");
    assert_eq!((&*reaction.fields["position"], &*reaction.fields["trace_id"]), ("1", TRACE));
    let attempt = spans.one("leftfold.effect", "effect", "open");
    let fields = ["attempt", "call", "outcome", "trace_id"].map(|field| &*attempt.fields[field]);
    assert_eq!(fields, ["1", "perform", "done", TRACE]);
    let all: Vec<Seen> = spans.0.lock().unwrap().values().cloned().collect();
    let is_append =
        |seen: &&Seen| seen.name == "leftfold.append" && seen.parent == Some("leftfold.command");
    let append = all.iter().find(is_append).unwrap();
    let fields = ["stream", "events", "outcome", "position"].map(|field| &*append.fields[field]);
    assert_eq!(fields, ["door-front", "1", "appended", "1"]);
    assert!(
        all.iter().any(|seen| seen.name == "call" && seen.parent == Some("leftfold.effect")),
        "{all:?}"
    );
    let reported = all
        .iter()
        .any(|seen| seen.name == "leftfold.command" && seen.parent == Some("leftfold.effect"));
    assert!(reported, "the report of the outcome is a command within the attempt: {all:?}");
    // All that came of the command is of its trace.
    let batches: Vec<_> = all.iter().filter(|seen| seen.name == "leftfold.projection").collect();
    assert!(
        batches.iter().any(|batch| batch.fields.get("trace_id").is_some_and(|id| id == TRACE)),
        "{batches:?}"
    );
    let refused = store.aggregate::<Door>().execute("back", Command::Ask(2)).await;
    assert!(refused.is_err());
    assert_eq!(spans.one("leftfold.command", "outcome", "refused").fields.get("trace_id"), None);
}

#[tokio::test]
async fn the_trace_of_a_command_is_in_the_metadata_of_all_that_comes_of_it() {
    let _alone = ALONE.lock().await;
    let store = Store::memory();
    let events = work(&store).await;
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types.len(), 3, "{types:?}");
    for event in events {
        // Nobody collects spans, so nobody gives an id to one: the caller's own is passed on.
        assert_eq!(event.metadata.trace, Some(parent()), "{}", event.event_type.as_str());
    }
}

#[tokio::test]
async fn what_a_caller_says_of_the_trace_goes_before_what_its_cause_says() {
    let _alone = ALONE.lock().await;
    let store = Store::memory();
    let other = TraceContext::new([1; 16], [2; 8], 0, "").unwrap();
    let doors = store.aggregate::<Door>();
    let asked = doors.command("a", Command::Ask(1)).trace(parent()).execute().await.unwrap();
    let page = store.page(Read::matching(Query::all(), asked.position)).await.unwrap();
    let cause = page.events.first().unwrap();
    doors.command("b", Command::Ask(1)).caused_by(cause).execute().await.unwrap();
    doors
        .command("c", Command::Ask(1))
        .caused_by(cause)
        .trace(other.clone())
        .execute()
        .await
        .unwrap();
    doors
        .command("d", Command::Ask(1))
        .trace(other.clone())
        .caused_by(cause)
        .execute()
        .await
        .unwrap();
    doors.facts("e", &[DoorEvent::WalledUp]).trace(other.clone()).record().await.unwrap();
    let events = store.read(Read::matching(Query::all(), Position(2))).all().await.unwrap();
    let traces: Vec<_> = events.into_iter().map(|event| event.metadata.trace.unwrap()).collect();
    assert_eq!(traces, [parent(), other.clone(), other.clone(), other]);
}

/// The traces of the doors that were walled up.
async fn walled_up(store: &Store) -> BTreeMap<String, Option<TraceContext>> {
    let events =
        store.read(Read::matching(Query::category("door"), Position(1))).all().await.unwrap();
    let walled_up = events.into_iter().filter(|event| &*event.event_type == "door.WalledUp");
    walled_up
        .map(|event| (event.stream.unwrap().name.id().to_owned(), event.metadata.trace))
        .collect()
}

#[tokio::test]
async fn a_timer_that_is_due_at_once_goes_on_in_the_trace_and_one_that_lets_time_pass_does_not() {
    let _alone = ALONE.lock().await;
    let (store, clock) = (Store::memory(), Arc::new(HandClock::going()));
    store
        .aggregate::<Door>()
        .command("front", Command::Ask(1))
        .trace(parent())
        .execute()
        .await
        .unwrap();
    let run = async || {
        Runtime::new(&store)
            .clock(clock.clone())
            .process::<Snooze>()
            .run_until_idle()
            .await
            .unwrap()
    };
    run().await;
    assert_eq!(walled_up(&store).await, BTreeMap::from([("now".to_owned(), Some(parent()))]));
    clock.advance(Duration::from_secs(61));
    run().await;
    assert_eq!(walled_up(&store).await.get("later"), Some(&None), "it is another story");
}

#[tokio::test]
async fn what_is_delivered_of_a_message_goes_on_in_the_trace_that_it_came_with() {
    let _alone = ALONE.lock().await;
    let store = Store::memory();
    let inbox = store.inbox::<Orders>();
    inbox.clone().trace(parent()).receive("mail", "m1", None, "front".to_owned()).await.unwrap();
    inbox.receive("mail", "m2", None, "back".to_owned()).await.unwrap();
    Runtime::new(&store).inbox::<Orders>().run_until_idle().await.unwrap();
    let traces = BTreeMap::from([("front".to_owned(), Some(parent())), ("back".to_owned(), None)]);
    assert_eq!(walled_up(&store).await, traces);
}

#[tokio::test]
async fn a_scheduled_command_goes_on_in_the_trace_of_who_scheduled_it_however_late_it_is() {
    let _alone = ALONE.lock().await;
    let (store, clock) = (Store::memory(), Arc::new(HandClock::going()));
    let at = clock.now().plus(Duration::from_secs(3_600));
    for (door, trace) in [("front", Some(parent())), ("back", None)] {
        let command = store.scheduled::<Door>(format!("walling up of {door}")).trace(trace);
        command.send(door, &Command::WallUp, at).await.unwrap();
    }
    let other = TraceContext::new([1; 16], [2; 8], 0, "").unwrap();
    let mover = store.scheduled::<Door>("walling up of front").trace(other);
    mover.move_to(at.plus(Duration::from_secs(60))).await.unwrap();
    let run = async || {
        let runtime = Runtime::new(&store).clock(clock.clone()).scheduled::<Door>();
        runtime.run_until_idle().await.unwrap()
    };
    run().await;
    clock.advance(Duration::from_secs(4_000));
    run().await;
    let traces = BTreeMap::from([("front".to_owned(), Some(parent())), ("back".to_owned(), None)]);
    assert_eq!(walled_up(&store).await, traces);
}
