//! Where a scheduled command comes from: its events name it, whenever they are recorded.

use std::time::Duration;

use leftfold_core::copy::{Copy, Transformed};
use leftfold_core::fold::{Aggregate, Cause, Event, MetadataError};
use leftfold_core::runtime::Clock;
use leftfold_core::runtime::process::Whose;
use leftfold_core::runtime::scheduled::{ScheduleError, ScheduledCommand, ScheduledState};
use leftfold_core::store::{
    Append, EventType, Kind, NewEvent, Position, Query, Read, RecordedEvent, Store, StreamName,
    TraceContext,
};
use leftfold_testing::by_runtime;
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Process, SECOND, Stage, until};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum StayEvent {
    Reminded {},
}

impl Event for StayEvent {
    const NAMESPACE: &'static str = "stay";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stay;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Remind {
    Once {},
}

impl Aggregate for Stay {
    const CATEGORY: &'static str = "stay";
    type Event = StayEvent;
    type Command = Remind;
    type Refusal = Never;

    fn apply(&mut self, _: &StayEvent) {}

    fn decide(&self, _: &Remind) -> Result<Vec<StayEvent>, Never> {
        Ok(vec![StayEvent::Reminded {}])
    }
}

/// The same kind of aggregates, in a release that cannot read the command.
mod later {
    use super::{Aggregate, Deserialize, Never, Serialize, StayEvent};

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(super) struct Stay;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(super) enum Remind {
        Twice {},
    }

    impl Aggregate for Stay {
        const CATEGORY: &'static str = "stay";
        type Event = StayEvent;
        type Command = Remind;
        type Refusal = Never;

        fn apply(&mut self, _: &StayEvent) {}

        fn decide(&self, _: &Remind) -> Result<Vec<StayEvent>, Never> {
            Ok(vec![StayEvent::Reminded {}])
        }
    }
}

fn reminder(store: &Store) -> ScheduledCommand<Stay> {
    store.scheduled("reminder of 7")
}

fn trace(last: char) -> TraceContext {
    let text = format!("00-4bf92f3577b34da6a3ce929d0e0e473{last}-00f067aa0ba902b7-01");
    TraceContext::parse(&text, Some("vendor=1")).unwrap()
}

async fn run(process: &Process) {
    process.runtime().scheduled::<Stay>().run_until_idle().await.unwrap();
}

/// Everything that is recorded of a category.
async fn recorded(store: &Store, category: &str) -> Vec<RecordedEvent> {
    store.read(Read::matching(Query::category(category), Position(1))).all().await.unwrap()
}

async fn reminded(store: &Store) -> RecordedEvent {
    let mut all = recorded(store, "stay").await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[tokio::test]
async fn the_events_of_a_scheduled_command_name_its_conversation_its_trace_and_its_metadata() {
    for is_moved in [false, true] {
        let stage = Stage::new();
        let store = stage.process().store;
        let at = stage.clock.now().plus(HOUR);
        let from = reminder(&store).correlated("booking 7").trace(trace('6'));
        let from = from.header("user", "ann").header("tenant", "north");
        from.send("7", &Remind::Once {}, at).await.unwrap();
        if is_moved {
            // Anyone who moves it has a conversation of their own.
            let mover = reminder(&store).correlated("a call").trace(trace('7'));
            mover.header("user", "bob").move_to(at.plus(HOUR)).await.unwrap();
        }
        run(&stage.process()).await;
        stage.clock.advance(2 * HOUR);
        run(&stage.process()).await;
        let event = reminded(&store).await;
        assert_eq!(event.metadata.correlation.as_deref(), Some("booking 7"), "{is_moved}");
        assert_eq!(event.metadata.trace, Some(trace('6')), "{is_moved}");
        assert_eq!(event.metadata.user, r#"{"tenant":"north","user":"ann"}"#.as_bytes());
        let causation = event.metadata.causation.as_deref().unwrap_or_default();
        assert!(causation.starts_with("$process:scheduled:stay@"), "{causation}");
    }
}

#[tokio::test]
async fn the_record_of_a_scheduled_command_names_its_cause_and_the_events_go_on_from_it() {
    let stage = Stage::new();
    let store = stage.process().store;
    let cause = Cause { trace: Some(trace('8')), ..Cause::message("mail 5").unwrap() };
    let from = reminder(&store).caused_by(cause);
    from.send("7", &Remind::Once {}, stage.clock.now()).await.unwrap();
    stage.clock.advance(SECOND);
    run(&stage.process()).await;
    let scheduled = recorded(&store, "$scheduled:stay").await.remove(0);
    assert_eq!(scheduled.metadata.causation.as_deref(), Some("mail 5"));
    let event = reminded(&store).await;
    assert_eq!(event.metadata.correlation.as_deref(), Some("mail 5"));
    assert_eq!(event.metadata.trace, Some(trace('8')));
}

#[tokio::test]
async fn metadata_that_is_no_json_comes_back_byte_for_byte() {
    let deep = "[".repeat(500) + &"]".repeat(500);
    let bytes: [&[u8]; 5] =
        [&[0, 159, 146, 150], b"", b" {\"a\":1}", b"{\"a\":1e400, \"a\":2}", deep.as_bytes()];
    for user in bytes {
        let stage = Stage::new();
        let store = stage.process().store;
        let from = reminder(&store).metadata(user.to_vec());
        from.send("7", &Remind::Once {}, stage.clock.now()).await.unwrap();
        stage.clock.advance(SECOND);
        run(&stage.process()).await;
        assert_eq!(reminded(&store).await.metadata.user, user);
    }
}

#[tokio::test]
async fn asked_again_from_elsewhere_it_stays_the_first_request() {
    let stage = Stage::new();
    let store = stage.process().store;
    let at = stage.clock.now().plus(HOUR);
    reminder(&store).header("user", "ann").send("7", &Remind::Once {}, at).await.unwrap();
    let head = store.head();
    let again = reminder(&store).header("user", "bob").trace(trace('7'));
    again.send("7", &Remind::Once {}, at).await.unwrap();
    assert_eq!(store.head(), head);
    stage.clock.advance(2 * HOUR);
    run(&stage.process()).await;
    assert_eq!(reminded(&store).await.header("user").as_deref(), Some("ann"));
}

#[tokio::test]
async fn metadata_that_cannot_be_recorded_is_told_with_the_id_and_nothing_is_scheduled() {
    let stage = Stage::new();
    let store = stage.process().store;
    let at = stage.clock.now();
    let reserved = reminder(&store).header("$user", "ann").send("7", &Remind::Once {}, at).await;
    let error = reserved.unwrap_err();
    let is_invalid = |error: &MetadataError| matches!(error, MetadataError::Invalid(_));
    assert!(
        matches!(&error, ScheduleError::Metadata { error, .. } if is_invalid(error)),
        "{error}"
    );
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("reminder of 7"), "{error}");
    let large = reminder(&store).metadata(vec![b'x'; (64 << 10) + 1]);
    let error = large.send("7", &Remind::Once {}, at).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert_eq!(store.head().position, Position::START);
}

/// Up to the release before, records had no origin.
#[tokio::test]
async fn a_record_without_an_origin_is_read_and_one_of_a_plain_call_is_written_as_before() {
    let stage = Stage::new();
    let store = stage.process().store;
    let at = stage.clock.now().plus(HOUR);
    let old = format!(r#"{{"at":"{at}","target":"7","command":{{"Once":{{}}}}}}"#);
    reminder(&store).send("7", &Remind::Once {}, at).await.unwrap();
    let new = recorded(&store, "$scheduled:stay").await.remove(0);
    assert_eq!(new.data, old.as_bytes(), "{:?}", String::from_utf8_lossy(&new.data));

    let stage = Stage::new();
    let process = stage.process();
    let record = NewEvent::new(EventType::new("$scheduled:stay.Scheduled").unwrap(), old)
        .in_stream(StreamName::of("$scheduled:stay", "reminder of 7").unwrap());
    process.store.append(by_runtime(Append::of(vec![record]))).await.unwrap();
    let status = reminder(&process.store).status().await.unwrap().unwrap();
    assert_eq!((status.target.as_str(), status.at, status.state), ("7", at, ScheduledState::Open));
    stage.clock.advance(HOUR);
    run(&stage.process()).await;
    let event = reminded(&process.store).await;
    assert!(event.metadata.user.is_empty() && event.metadata.trace.is_none(), "{event:?}");
}

/// The name of a conversation may speak of a position, which is another one in a copy.
#[tokio::test]
async fn a_conversation_that_a_process_began_is_the_same_one_in_a_copy_of_the_store() {
    let (before, after) = (Stage::new(), Stage::new());
    let (old, new) = (before.process().store, after.process().store);
    let at = before.clock.now().plus(HOUR);
    reminder(&old).send("7", &Remind::Once {}, before.clock.now()).await.unwrap();
    let dropped = NewEvent::new(EventType::new("other.Thing").unwrap(), "{}");
    old.append(Append::of(vec![dropped])).await.unwrap();
    before.clock.advance(SECOND);
    run(&before.process()).await;
    // The reaction that reminded of 7 began a conversation, in which another reminder is scheduled.
    let label = reminded(&old).await.metadata.causation.unwrap();
    let second: ScheduledCommand<Stay> = old.scheduled("reminder of 8");
    second.correlated(&label).send("8", &Remind::Once {}, at).await.unwrap();

    let is_dropped = |event: &RecordedEvent| &*event.event_type == "other.Thing";
    let through = move |event: &RecordedEvent| match is_dropped(event) {
        true => Transformed::Drop,
        false => Transformed::Keep,
    };
    let copy = Copy::from(&old).into(&new).through(through);
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    after.clock.advance(2 * HOUR);
    run(&after.process()).await;
    let events = recorded(&new, "stay").await;
    let rewritten = events[0].metadata.causation.clone().unwrap();
    assert_ne!(rewritten, label);
    assert_eq!(events[1].metadata.correlation, Some(rewritten));
}

async fn state(store: &Store) -> ScheduledState {
    reminder(store).status().await.unwrap().unwrap().state
}

#[tokio::test]
async fn a_parked_command_says_why_and_has_its_metadata_when_it_is_retried() {
    let stage = Stage::new();
    let process = stage.process();
    let from = reminder(&process.store).header("user", "ann");
    from.send("7", &Remind::Once {}, stage.clock.now()).await.unwrap();
    stage.clock.advance(SECOND);
    let runtime = process.runtime().scheduled::<later::Stay>().start().await.unwrap();
    let parked = async || match state(&process.store).await {
        ScheduledState::Parked { why } => Some(why),
        _ => None,
    };
    until("it is parked", async || parked().await.is_some()).await;
    let why = parked().await.unwrap();
    assert!(why.contains("reminder of 7 for stay-7 does not parse"), "{why}");
    runtime.stop().await.unwrap();

    let process = stage.process();
    let runtime = process.runtime().scheduled::<Stay>().start().await.unwrap();
    until("it has the work", async || runtime.status().iter().all(|status| !status.standby)).await;
    let whose = Whose::Instance("reminder of 7".to_owned());
    assert_eq!(runtime.processes().retry("scheduled:stay", &whose).await, Ok(1));
    until("it took effect", async || state(&process.store).await == ScheduledState::CarriedOut)
        .await;
    assert_eq!(reminded(&process.store).await.header("user").as_deref(), Some("ann"));
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_that_a_person_skipped_names_the_person() {
    let stage = Stage::new();
    let process = stage.process();
    reminder(&process.store).send("7", &Remind::Once {}, stage.clock.now()).await.unwrap();
    assert_eq!(state(&process.store).await, ScheduledState::Open);
    stage.clock.advance(SECOND);
    let runtime = process.runtime().scheduled::<later::Stay>().start().await.unwrap();
    let parked = async || runtime.processes().parked("scheduled:stay").await.unwrap();
    until("it is parked", async || parked().await.len() == 1).await;
    let one = parked().await.remove(0);
    let skipped =
        runtime.processes().skip("scheduled:stay", &one.whose, one.position, "carla").await;
    assert_eq!(skipped, Ok(1));
    assert_eq!(state(&process.store).await, ScheduledState::Skipped { by: "carla".to_owned() });
    runtime.stop().await.unwrap();
}
