//! Commands that cannot be carried out for a reason that does not pass: they wait for a person, and
//! nobody is told that they were refused.

use leftfold_core::runtime::RunningRuntime;
use leftfold_core::runtime::process::{AskError, ParkedFilter, ParkedTrigger, Whose};
use leftfold_core::store::{
    Append, CommandId, CommandRecord, Digest, EventType, NewEvent, Store, StreamName,
};
use leftfold_testing::command_id_of_runtime;

use crate::clerk::{
    Act, Desk, Do, ask, break_it, fix, parked, starts, texts, timer, until_written, works, write,
};
use crate::runtime_stage::{SECOND, Stage, quiet, until};

fn instance(key: &str) -> Whose {
    Whose::Instance(key.to_owned())
}

fn hit(desk: &str) -> Act {
    Act::Hit { desk: desk.to_owned() }
}

/// A desk at which every hit panics until it is fixed.
async fn break_desk(store: &Store, desk: &str, text: &str) {
    store.aggregate::<Desk>().execute(desk, Do::Write(text.to_owned())).await.unwrap();
    break_it(text);
}

async fn waiting(running: &RunningRuntime) -> Vec<ParkedTrigger> {
    running.processes().parked("clerk").await.unwrap()
}

/// It was tried again and again, and then told to the process as a refusal: a bug in an aggregate
/// began a compensation, and what waited behind it for the same aggregate stood still meanwhile,
/// also for others.
#[tokio::test]
async fn a_command_at_which_an_aggregate_panics_waits_for_a_person_and_holds_up_nobody_else() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    break_desk(&process.store, "hit", "break me").await;
    let acts = [hit("hit"), write("hit", "behind"), write("free", "1")];
    ask(&process.store, starts("hits", acts).later("refused", [write("told", "it was refused")]))
        .await;
    until_written(&process.store, "free", &["1"]).await;
    // Another instance goes on, at the same desk too.
    ask(
        &process.store,
        starts("other", [write("hit", "other"), write("free", "2"), timer("t", 10)])
            .later("t", [write("free", "3")]),
    )
    .await;
    until_written(&process.store, "hit", &["break me", "other"]).await;
    // The same one waits, and with it what it would have done then.
    ask(&process.store, starts("hits", [write("later", "1")])).await;
    stage.clock.advance(60 * SECOND);
    until_written(&process.store, "free", &["1", "2", "3"]).await;
    until("three wait", async || parked(&running.processes()).await == 3).await;
    let all = waiting(&running).await;
    assert!(all.iter().all(|one| one.whose == instance("hits")), "{all:?}");
    assert!(all[0].error.as_ref().unwrap().contains("decide exploded"), "{all:?}");
    let commands: Vec<Option<&str>> = all.iter().map(|one| one.command_for.as_deref()).collect();
    assert_eq!(commands, [Some("desk-hit"), Some("desk-hit"), None]);
    assert_eq!((&all[1].error, &all[2].error), (&None, &None));
    let again = running.processes().retry("clerk", &instance("hits")).await;
    assert!(
        matches!(&again, Err(AskError::FailsAgain { why, .. }) if why.contains("decide exploded")),
        "{again:?}"
    );

    // A restart keeps what waits, and does not try it.
    running.stop().await.unwrap();
    let process = stage.process();
    let running = works(&process).await;
    quiet().await;
    assert_eq!(waiting(&running).await, all);
    let status = running.status().remove(0);
    assert_eq!(
        (status.waiting, status.stuck, status.needs_person, status.stalled),
        (3, 2, true, false)
    );
    fix("break me");
    assert_eq!(running.processes().retry("clerk", &instance("hits")).await, Ok(3));
    until_written(&process.store, "hit", &["break me", "other", "hit", "behind"]).await;
    until_written(&process.store, "later", &["1"]).await;
    assert_eq!(parked(&running.processes()).await, 0);
    assert_eq!(texts(&process.store, "told").await, [""; 0], "nothing was refused");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_that_is_let_go_is_never_carried_out_and_what_waited_behind_it_is() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    break_desk(&process.store, "gone", "break me for good").await;
    ask(&process.store, starts("gone", [hit("gone"), write("gone", "behind")])).await;
    until("both wait", async || parked(&running.processes()).await == 2).await;
    let first = waiting(&running).await.remove(0);
    assert_eq!(running.processes().skip("clerk", &first.whose, first.position, "ann").await, Ok(1));
    assert_eq!(running.processes().retry("clerk", &first.whose).await, Ok(1));
    until_written(&process.store, "gone", &["break me for good", "behind"]).await;
    running.stop().await.unwrap();
    let process = stage.process();
    let running = works(&process).await;
    quiet().await;
    assert_eq!(parked(&running.processes()).await, 0);
    assert_eq!(texts(&process.store, "gone").await, ["break me for good", "behind"]);
    running.stop().await.unwrap();
}

/// Plants an answer under the id of the first command of the first reaction of an instance.
async fn plant(store: &Store, key: &str, digest: Digest, answer: &'static [u8]) {
    let id = command_id_of_runtime("$process:clerk", &format!("1 0 {key}"));
    let command = Some(CommandRecord { id, digest, answer: answer.into() });
    store.append(Append { command, ..Append::default() }).await.unwrap();
}

/// An application gave a request of its own the id of a process's next command: that then counted
/// as carried out, or waited for a person.
#[tokio::test]
async fn an_application_cannot_take_the_id_of_a_command_of_a_process() {
    let stage = Stage::new();
    let process = stage.process();
    let id = CommandId::new("$process:clerk", "1 0 mine");
    let forged = process.store.aggregate::<Desk>().command("mine", Do::Write("forged".into()));
    forged.with_id(id).without_request_check().execute().await.unwrap();
    let running = works(&process).await;
    ask(&process.store, starts("mine", [write("mine", "by the process")])).await;
    until_written(&process.store, "mine", &["forged", "by the process"]).await;
    assert_eq!(waiting(&running).await, []);
    running.stop().await.unwrap();
}

/// They were tried forever, and neither status nor people were told.
#[tokio::test]
async fn whatever_does_not_pass_parks_the_command_at_once_with_its_reason() {
    let stage = Stage::new();
    let process = stage.process();
    let store = &process.store;
    plant(store, "reused", Digest::of(b"something else"), &[0; 9]).await;
    let command = serde_json::to_string(&Do::Write("1".into())).unwrap();
    plant(store, "unreadable", Digest::of(command.as_bytes()), &[7, 7]).await;
    let mut later = NewEvent::new(EventType::new("desk.Wrote").unwrap(), r#"{"words":[]}"#);
    later.schema_version = 2;
    let later = later.in_stream(StreamName::of("desk", "of a later release").unwrap());
    store.append(Append::of(vec![later])).await.unwrap();
    let running = works(&process).await;
    for (key, desk, says) in [
        ("reused", "a", "was used before"),
        ("unreadable", "a", "answer"),
        ("later", "of a later release", "version 2"),
    ] {
        ask(
            store,
            starts(key, [write(desk, "1")]).later("refused", [write("told", "it was refused")]),
        )
        .await;
        until("it waits", async || {
            waiting(&running).await.iter().any(|one| one.whose == instance(key))
        })
        .await;
        let one =
            waiting(&running).await.into_iter().find(|one| one.whose == instance(key)).unwrap();
        assert!(one.error.as_ref().is_some_and(|error| error.contains(says)), "{one:?}");
    }
    ask(store, starts("fine", [write("a", "fine")])).await;
    until_written(store, "a", &["fine"]).await;
    stage.clock.advance(3_600 * SECOND);
    quiet().await;
    assert_eq!(texts(store, "told").await, [""; 0]);
    let waits_for = running.status().remove(0).waits_for;
    assert!(waits_for.contains("waits for a person"), "{waits_for}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_parked_command_that_is_refused_when_it_is_retried_is_reacted_to_as_refused() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    break_desk(&process.store, "no", "break me first").await;
    let asked = starts("no", [Act::Scold { desk: "no".into() }])
        .later("refused", [write("told", "it was refused")]);
    ask(&process.store, asked).await;
    until("it waits", async || parked(&running.processes()).await == 1).await;
    fix("break me first");
    assert_eq!(running.processes().retry("clerk", &instance("no")).await, Ok(1));
    until_written(&process.store, "told", &["it was refused"]).await;
    assert_eq!(parked(&running.processes()).await, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_whose_target_has_no_name_or_that_would_not_be_read_again_is_not_recorded() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    ask(&process.store, starts("nameless", [write("", "1")])).await;
    ask(&process.store, starts("long", [write(&"x".repeat(600), "1")])).await;
    ask(&process.store, starts("blurred", [Act::Blurred { desk: "b".into() }])).await;
    until("all wait", async || parked(&running.processes()).await == 3).await;
    let all = waiting(&running).await;
    assert!(
        all.iter().all(|one| one.command_for.is_none()),
        "the trigger waits, not the command: {all:?}"
    );
    assert!(all[0].error.as_ref().unwrap().contains("desk"), "{all:?}");
    running.stop().await.unwrap();
}

/// A retry ended after the first append of 256.
#[tokio::test]
async fn many_that_wait_are_retried_to_the_end_and_let_go_by_what_was_said_of_them() {
    let stage = Stage::new();
    let process = stage.process();
    let running = works(&process).await;
    let processes = running.processes();
    break_it("many");
    let texts_of: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    for text in &texts_of {
        ask(&process.store, starts("many", [write("many", text)])).await;
    }
    for (desk, count) in [("one", 3), ("two", 2)] {
        break_desk(&process.store, desk, &format!("break {desk}")).await;
        for number in 0..count {
            ask(
                &process.store,
                starts(&format!("{desk} {number}"), [hit(desk), write(desk, "behind")]),
            )
            .await;
        }
    }
    until("all wait", async || parked(&processes).await == 610).await;
    fix("many");
    assert_eq!(processes.retry("clerk", &instance("many")).await, Ok(600));
    until_written(&process.store, "many", &texts_of.iter().map(String::as_str).collect::<Vec<_>>())
        .await;

    fix("break two");
    let all =
        processes.retry_all("clerk", &ParkedFilter::all().saying("decide exploded")).await.unwrap();
    assert_eq!((all.done, all.failing.len()), (4, 3), "{all:?}");
    until("both desks were hit", async || texts(&process.store, "two").await.len() == 5).await;
    let third = ParkedFilter::all().of(instance("one 2"));
    assert_eq!(processes.skip_all("clerk", &third, "ann").await, Ok(2));
    assert_eq!(
        processes.skip_all("clerk", &ParkedFilter::all().saying("exploded"), "ann").await,
        Ok(2)
    );
    assert_eq!(
        processes.skip_all("clerk", &ParkedFilter::all().saying("exploded"), "ann").await,
        Ok(0)
    );
    assert_eq!(processes.retry_all("clerk", &ParkedFilter::all()).await.unwrap().done, 2);
    assert_eq!(parked(&processes).await, 0);
    assert!(matches!(
        processes.retry_all("nobody", &ParkedFilter::all()).await,
        Err(AskError::UnknownProcess { .. })
    ));
    running.stop().await.unwrap();
}
