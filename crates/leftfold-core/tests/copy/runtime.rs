//! Nothing fires again, and nothing that is open is lost.

use leftfold_core::copy::{Copy, CopyError, Transformed};
use leftfold_core::fold::{Answer, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::{Clock, EffectId, EffectState};
use leftfold_core::store::{
    Append, CommandId, CommandRecord, Digest, EventType, Label, NewEvent, Position, RecordedEvent,
    Store, StreamName, Timestamp, Version,
};
use std::time::Duration;

use crate::runtime_stage::{
    Command, Door, DoorEvent, Opener, SECOND, Stage, done, everything, in_doubt, quiet, settled,
    until,
};
use crate::stage::{append, event};

/// Gates instead of doors; what was tried out is dropped, and so every position moves.
fn into_gates(event: &RecordedEvent) -> Transformed {
    let name = &event.stream.as_ref().unwrap().name;
    match name.category() {
        "trial" => Transformed::Drop,
        _ => event
            .to_new()
            .in_stream(StreamName::of("door", &format!("gate-{}", name.id())).unwrap())
            .into(),
    }
}

async fn trials(store: &Store, count: usize) {
    for _ in 0..count {
        append(store, Append::of(vec![event("trial-1", "trial.Made", "{}")])).await;
    }
}

async fn copied(old: &Store, new: &Store) -> Copy {
    let copy = Copy::from(old).into(new).through(into_gates);
    copy.run_until_caught_up().await.unwrap();
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    copy
}

#[tokio::test]
async fn a_concluded_effect_is_concluded_and_an_open_one_is_carried_out_once() {
    let (before, after) = (Stage::new(), Stage::new());
    let process = before.process();
    trials(&process.store, 3).await;
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 9 { in_doubt("no answer") } else { done("open") }
    });
    let runtime = process.opens(&opener).await;
    let (opened, doubted) = (process.ask("front", 7).await, process.ask("back", 9).await);
    settled(&runtime.effects(), opened).await;
    settled(&runtime.effects(), doubted).await;
    runtime.stop().await.unwrap();
    let asked = process.ask("side", 8).await;

    let new = after.process();
    let copy = copied(&process.store, &new.store).await;
    let id = async |old: EffectId| EffectId(copy.map(old.0).await.unwrap().position);
    let (opened, doubted, asked) = (id(opened).await, id(doubted).await, id(asked).await);
    let again = Opener::opening();
    let runtime = new.opens(&again).await;
    let effects = runtime.effects();
    assert!(matches!(settled(&effects, asked).await, EffectState::Done { .. }));
    quiet().await;
    assert_eq!(
        again.performed.lock().unwrap().iter().map(|(id, times)| (*id, *times)).collect::<Vec<_>>(),
        [(asked, 1)]
    );
    assert!(matches!(settled(&effects, opened).await, EffectState::Done { .. }));
    assert!(matches!(
        settled(&effects, doubted).await,
        EffectState::InDoubt { reason, .. } if reason == "no answer"
    ));
    // The checkpoint is behind it, and what is recorded with that names it by its new position.
    after.clock.advance(60 * SECOND);
    until("it is looked up there", async || again.looks() == 1).await;
    assert_eq!(new.store.aggregate::<Door>().load("gate-front").await.unwrap().state.opened, 1);
}

#[tokio::test]
async fn the_runner_goes_on_where_it_stood() {
    let (before, after) = (Stage::new(), Stage::new());
    let process = before.process();
    trials(&process.store, 2).await;
    let runtime = process.opens(&Opener::opening()).await;
    let id = process.ask("front", 7).await;
    settled(&runtime.effects(), id).await;
    runtime.stop().await.unwrap();
    let consumer = Label::new("$effect:open").unwrap();
    let stood = process.store.checkpoint(consumer.clone()).await.unwrap().unwrap();

    let new = after.process();
    let copy = copied(&process.store, &new.store).await;
    let stands = new.store.checkpoint(consumer).await.unwrap().unwrap();
    assert_eq!(stands.position, copy.map(stood.position).await.unwrap().through);
    assert_eq!(new.store.verify(&stands).await, Ok(()));
    // It is found, and starts.
    new.opens(&Opener::opening()).await.stop().await.unwrap();
}

#[tokio::test]
async fn the_ledger_of_a_dropped_intent_does_not_conclude_another_one() {
    let (before, after) = (Stage::new(), Stage::new());
    let process = before.process();
    // The one that is kept was never tried, and stands just before the one that is dropped.
    let kept = process.ask("front", 7).await;
    let dropped = process.ask("back", 7).await;
    let ledger = event(
        &format!("$effect-{dropped}"),
        "$effect.NotDone",
        r#"{"reason":"no","by":"a person"}"#,
    );
    append(&process.store, Append::of(vec![ledger])).await;

    let new = after.process();
    let copy = Copy::from(&process.store).into(&new.store).through(|event| {
        match event.stream.as_ref().unwrap().name.id() {
            "back" => Transformed::Drop,
            _ => Transformed::Keep,
        }
    });
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().dropped, 2);
    let runtime = new.opens(&Opener::opening().with_history()).await;
    let kept = EffectId(copy.map(kept.0).await.unwrap().position);
    assert!(matches!(settled(&runtime.effects(), kept).await, EffectState::Done { .. }));
}

/// Waits for a door that was asked for, for a time that the code stands for.
#[derive(Default)]
struct Shutting;

impl Process for Shutting {
    const NAME: &'static str = "shutting";
    type Event = DoorEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<DoorEvent>) -> Correlation {
        match &event.event {
            DoorEvent::OpeningAsked(_) => {
                Correlation::starts(event.stream_id().trim_start_matches("gate-"))
            }
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DoorEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<DoorEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(DoorEvent::OpeningAsked(asked)) if asked.code == 0 => {
                Reaction::none().timer("first", SECOND)
            }
            Trigger::Event(_) => Reaction::none().timer("second", later()),
            _ => Reaction::none(),
        }
    }
}

/// Later than any test runs.
fn later() -> Timestamp {
    "2200-01-01T00:00:00Z".parse().unwrap()
}

async fn fired(store: &Store) -> usize {
    everything(store)
        .await
        .iter()
        .filter(|event| event.data.starts_with(br#"{"process":"shutting","cause":{"Timer""#))
        .count()
}

#[tokio::test]
async fn a_timer_that_fired_does_not_fire_again_and_one_that_is_set_does() {
    let (before, after) = (Stage::new(), Stage::new());
    let process = before.process();
    // So many that the second timer gets the position that the first one had.
    trials(&process.store, 5).await;
    let runtime = process.runtime().process::<Shutting>().start().await.unwrap();
    let first = process.ask("front", 0).await;
    process.clock.advance(10 * SECOND);
    until("it fired", async || fired(&process.store).await == 1).await;
    runtime.stop().await.unwrap();
    let second = process.ask("front", 1).await;

    let new = after.process();
    let copy = copied(&process.store, &new.store).await;
    assert_eq!(copy.map(second.0).await.unwrap().position, first.0, "the case is the hard one");
    let runtime = new.runtime().process::<Shutting>().start().await.unwrap();
    quiet().await;
    assert_eq!(fired(&new.store).await, 1);
    let wait = later().since(new.clock.now());
    new.clock.advance(wait + SECOND);
    until("the other fired", async || fired(&new.store).await == 2).await;
    quiet().await;
    assert_eq!(fired(&new.store).await, 2);
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn an_accepted_command_is_answered_again_under_the_new_name_and_version() {
    let (old, new) = (Store::memory(), Store::memory());
    let doors = old.aggregate::<Door>();
    let id = |key: &str| CommandId::new("test", key);
    trials(&old, 2).await;
    doors.execute("front", Command::Ask(1)).await.unwrap();
    let first = doors
        .command("front", Command::Ask(2))
        .with_id(id("a"))
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!(first.version, Version(2));

    // Every request to open is counted twice: the versions are others.
    let copy = Copy::from(&old).into(&new).through(|event| match into_gates(event) {
        Transformed::Replace(gate) => {
            let mut twice = gate.clone();
            twice.extend(gate);
            Transformed::Replace(twice)
        }
        other => other,
    });
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    let gates = new.aggregate::<Door>();
    let again = gates
        .command("gate-front", Command::Ask(2))
        .with_id(id("a"))
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!((again.answer, again.version, again.events.len()), (Answer::Again, Version(4), 2));
    assert_eq!(
        new.version(StreamName::of("door", "gate-front").unwrap()).await.unwrap(),
        Version(4)
    );
}

#[tokio::test]
async fn what_a_process_recorded_speaks_of_the_new_positions() {
    let old = Store::memory();
    trials(&old, 5).await;
    let cause = append(&old, Append::of(vec![event("order-1", "order.Placed", "{}")])).await;
    let reacted = format!(
        r#"{{"process":"Ship","cause":{{"Event":{{"position":{cause}}}}},"commands":[{{"to":"a","id":"1","command":{{"position":{cause}}}}}],"carried":{cause}}}"#
    );
    let reaction =
        append(&old, Append::of(vec![event("$process:Ship-1", "$process.Reacted", &reacted)]))
            .await;
    let mut done = event("order-1", "order.Shipped", "{}");
    done.metadata.causation = Some(Label::new(format!("$process:Ship@{reaction}")).unwrap());
    append(&old, Append::of(vec![done])).await;

    let new = Store::memory();
    let copy = Copy::from(&old).into(&new).through(|event| {
        match event.stream.as_ref().unwrap().name.category() {
            "trial" => Transformed::Drop,
            _ => Transformed::Keep,
        }
    });
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    let image = async |old: Position| copy.map(old).await.unwrap().position;
    let (cause_now, reaction_now) = (image(cause).await, image(reaction).await);
    assert_ne!(cause_now, cause);
    let events = everything(&new).await;
    let expected =
        reacted.replacen(&format!("\"position\":{cause}"), &format!("\"position\":{cause_now}"), 1);
    let expected =
        expected.replace(&format!("\"carried\":{cause}"), &format!("\"carried\":{cause_now}"));
    let of = |kind: &str| events.iter().find(|event| &*event.event_type == kind).unwrap();
    assert_eq!(of("$process.Reacted").data, expected.as_bytes());
    let causation = of("order.Shipped").metadata.causation.as_ref().unwrap().to_string();
    assert_eq!(causation, format!("$process:Ship@{reaction_now}"));

    // A process that is given up stays behind.
    let without = Store::memory();
    let copy =
        Copy::from(&old).into(&without).through(|_| Transformed::Keep).without("$process:Ship");
    copy.switch().await.unwrap();
    assert!(
        everything(&without).await.iter().all(|event| !event.event_type.starts_with("$process"))
    );
}

#[tokio::test]
async fn a_parked_trigger_that_was_dropped_is_not_taken_for_another_one() {
    let old = Store::memory();
    append(&old, Append::of(vec![event("order-1", "order.Placed", "{}")])).await;
    let dropped = append(&old, Append::of(vec![event("trial-1", "order.Placed", "{}")])).await;
    let parked = format!(
        r#"{{"process":"Ship","cause":{{"Event":{{"position":{dropped}}}}},"error":"it does not parse"}}"#
    );
    append(&old, Append::of(vec![event("$process:Ship-1", "$process.Parked", &parked)])).await;
    let new = Store::memory();
    copied(&old, &new).await;
    let events = everything(&new).await;
    let found = events.iter().find(|event| &*event.event_type == "$process.Parked").unwrap();
    assert_eq!(found.data, parked.replace(&format!(":{dropped}}}"), ":0}"));
    assert_eq!(found.version(), Version(1));
}

#[tokio::test]
async fn a_refusal_is_remembered_too() {
    let (old, new) = (Store::memory(), Store::memory());
    let record = CommandRecord {
        id: CommandId::new("test", "no"),
        digest: Digest::of(b"no"),
        answer: vec![1, 2, 3].into(),
    };
    append(&old, Append { command: Some(record.clone()), ..Append::default() }).await;
    append(&old, Append::of(vec![NewEvent::new(EventType::new("a.Fact").unwrap(), "{}")])).await;
    copied_facts(&old, &new).await;
    assert_eq!(new.answered(record.id).await.unwrap().unwrap().record, record);
}

async fn copied_facts(old: &Store, new: &Store) {
    let copy = Copy::from(old).into(new).through(|_| Transformed::Keep);
    tokio::time::timeout(Duration::from_secs(60), copy.switch()).await.unwrap().unwrap();
}

/// A record of a later release went over as it was, with positions of the old store in it.
#[tokio::test]
async fn a_record_of_a_kind_that_nobody_knows_is_not_copied_and_is_named() {
    let old = Store::memory();
    append(&old, Append::of(vec![event("order-1", "order.Placed", "{}")])).await;
    let copy = || Copy::from(&old).into(&Store::memory()).through(|_| Transformed::Keep);
    let moved =
        |stream: &str| Append::of(vec![event(stream, "$ledger.Moved", r#"{"position":1}"#)]);
    let position = append(&old, moved("$ledger:x-1")).await;
    let refused = copy().switch().await.unwrap_err();
    assert_eq!(refused, CopyError::NoOwner { position, category: "$ledger:x".to_owned() });
    assert!(refused.to_string().contains("without()"), "{refused}");
    // Its category can be left behind. One in a stream of users' is none of that category.
    copy().without("$ledger:x").switch().await.unwrap();
    let position = append(&old, moved("order-1")).await;
    let refused = copy().without("$ledger:x").switch().await.unwrap_err();
    assert_eq!(refused, CopyError::NoOwner { position, category: "$ledger".to_owned() });
}
