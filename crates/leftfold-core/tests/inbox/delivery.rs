//! Once each, in order, whatever happens.

use leftfold_core::runtime::inbox::{
    ID_BYTES_MAX, MESSAGE_BYTES_MAX, Receipt, ReceiveError, Refusal, Reported,
};
use leftfold_core::runtime::process::Whose;
use leftfold_core::store::{Invalid, Position};

use crate::runtime_stage::{Crash, SECOND, Stage, quiet, until};
use crate::tracking::{HOLD, Tracking, receive, scans, until_scanned, update};

#[tokio::test]
async fn messages_that_come_out_of_order_are_delivered_in_order() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    assert_eq!(receive(&inbox, "depot", 3, "p").await, Receipt::Held { missing: 1 });
    assert_eq!(receive(&inbox, "depot", 1, "p").await, Receipt::Accepted);
    assert_eq!(inbox.source("depot").await.unwrap().next, 2);
    assert_eq!(receive(&inbox, "depot", 2, "p").await, Receipt::Accepted);
    until_scanned(&process.store, "p", &["1", "2", "3"]).await;
    assert_eq!(inbox.reports(Position::START, 10).await.unwrap().reports, []);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_is_heard_once_and_its_id_stands_for_nothing_else() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Tracking>();
    for (sequence, first) in [(1, Receipt::Accepted), (3, Receipt::Held { missing: 2 })] {
        assert_eq!(receive(&inbox, "depot", sequence, "p").await, first);
        assert_eq!(receive(&inbox, "depot", sequence, "p").await, Receipt::Duplicate);
    }
    let no_number = |scan| inbox.receive("depot", "no number", None, update("p", scan));
    assert_eq!(no_number("x").await.unwrap(), Receipt::Accepted);
    assert_eq!(no_number("x").await.unwrap(), Receipt::Duplicate);
    let other = |id: &'static str| ReceiveError::OtherMessage {
        source_name: "depot".into(),
        id: id.into(),
    };
    assert_eq!(no_number("y").await.unwrap_err(), other("no number"));
    assert_eq!(
        inbox.receive("depot", "m1", Some(1), update("p", "other")).await.unwrap_err(),
        other("m1")
    );
    assert_eq!(
        inbox.receive("depot", "m1", Some(2), update("p", "1")).await.unwrap_err(),
        other("m1")
    );
    // What makes a pair of another source and id is no repetition of it.
    assert_eq!(
        inbox.receive("depot m1", "1", None, update("p", "z")).await.unwrap(),
        Receipt::Accepted
    );
    let taken = |sequence| ReceiveError::Refused(Refusal::SequenceTaken { sequence });
    assert_eq!(
        inbox.receive("depot", "another", Some(1), update("p", "1")).await.unwrap_err(),
        taken(1)
    );
    assert_eq!(
        inbox.receive("depot", "another", Some(3), update("p", "1")).await.unwrap_err(),
        taken(3)
    );
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    until_scanned(&process.store, "p", &["1", "x", "z"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_is_recorded() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Tracking>();
    let long = "x".repeat(ID_BYTES_MAX + 1);
    for (source, id) in [("", "i"), ("s", ""), (&*long, "i"), ("s", &*long)] {
        let refused = inbox.receive(source, id, None, update("p", "1")).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::Invalid(_)), "{refused}");
    }
    let heavy = inbox
        .receive("s", "i", None, update("p", &"x".repeat(MESSAGE_BYTES_MAX)))
        .await
        .unwrap_err();
    assert!(matches!(heavy, ReceiveError::Invalid(Invalid::TooLarge { .. })), "{heavy}");
    let early = inbox.receive("s", "i", Some(0), update("p", "1")).await.unwrap_err();
    assert_eq!(early, ReceiveError::Refused(Refusal::BeforeFirst { first: 1, sequence: 0 }));
    let beyond = inbox.receive("s", "i", Some(u64::MAX), update("p", "1")).await.unwrap_err();
    assert_eq!(beyond, ReceiveError::Refused(Refusal::Beyond { sequence: u64::MAX }));
    assert_eq!(process.store.head().position, Position::START);
}

#[tokio::test]
async fn a_command_that_is_refused_is_reported_and_the_next_message_is_delivered() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    inbox.receive("depot", "a", Some(1), update("p", "nowhere")).await.unwrap();
    inbox.receive("depot", "b", Some(2), update("p", "here")).await.unwrap();
    until_scanned(&process.store, "p", &["here"]).await;
    let reports = async || inbox.reports(Position::START, 10).await.unwrap().reports;
    until("it is reported", async || !reports().await.is_empty()).await;
    let reason = "there is no such place as nowhere".to_owned();
    assert_eq!(reports().await[0].what, Reported::Refused { target: "parcel-p".into(), reason });
    assert_eq!(reports().await[0].source, "depot");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_cannot_be_delivered_holds_up_its_own_source_until_a_person_skips_it() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    for (source, sequence, scan) in
        [("a", 1, "explodes"), ("a", 2, "behind"), ("b", 1, "elsewhere")]
    {
        inbox
            .receive(source, &format!("m{sequence}"), Some(sequence), update(source, scan))
            .await
            .unwrap();
    }
    until_scanned(&process.store, "b", &["elsewhere"]).await;
    quiet().await;
    let processes = running.processes();
    let parked = processes.parked("inbox:tracking").await.unwrap();
    assert_eq!(parked.len(), 2);
    assert!(parked[0].error.as_ref().unwrap().contains("deliver exploded"), "{parked:?}");
    let whose = Whose::Instance("a".to_owned());
    processes.skip("inbox:tracking", &whose, parked[0].position, "a person").await.unwrap();
    assert_eq!(processes.retry("inbox:tracking", &whose).await, Ok(1));
    until_scanned(&process.store, "a", &["behind"]).await;
    running.stop().await.unwrap();
}

/// A story with everything in it: order, a gap that is filled, one that is released, a late
/// message, a refused command.
async fn tell(process: &crate::runtime_stage::Process) -> Result<(), ReceiveError> {
    let inbox = process.store.inbox::<Tracking>();
    for sequence in [2, 1, 4] {
        inbox
            .receive(
                "depot",
                &format!("m{sequence}"),
                Some(sequence),
                update("p", &sequence.to_string()),
            )
            .await?;
    }
    inbox.receive("depot", "no", None, update("q", "nowhere")).await?;
    Ok(())
}

/// Runs what is there to its end.
async fn settle(process: &crate::runtime_stage::Process) {
    let Ok(running) = process.runtime().inbox::<Tracking>().start().await else { return };
    quiet().await;
    process.clock.advance(HOLD + 2 * SECOND);
    quiet().await;
    let late =
        process.store.inbox::<Tracking>().receive("depot", "m3", Some(3), update("p", "3")).await;
    drop(late);
    quiet().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_changes_nothing_of_what_is_delivered() {
    let mut calls = 0;
    for number in 0.. {
        for crash in [Crash::Before, Crash::After] {
            let stage = Stage::new();
            let killed = stage.process();
            killed.faults.crash_at(number, crash);
            let _ = tell(&killed).await;
            settle(&killed).await;
            calls = killed.faults.calls();
            // The sender repeats what was not acknowledged; so it repeats everything.
            let again = stage.process();
            tell(&again).await.unwrap();
            stage.clock.advance(60 * SECOND);
            settle(&again).await;
            let (scanned, reports) =
                (scans(&again.store, "p").await, again.store.inbox::<Tracking>());
            assert_eq!(scanned, ["1", "2", "4", "3"], "{crash:?} call {number}");
            let kinds: Vec<_> = reports.reports(Position::START, 10).await.unwrap().reports;
            assert_eq!(kinds.len(), 3, "{crash:?} call {number}: {kinds:?}");
        }
        if number > calls {
            assert!(calls > 30, "{calls} calls are too few to have done anything");
            return;
        }
    }
}

#[tokio::test]
async fn a_thousand_shuffled_messages_with_repetitions_end_in_order() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    let mut coming: Vec<(usize, u64)> =
        (0..3).flat_map(|source| (1..=1_000).map(move |n| (source, n))).collect();
    coming.extend(coming.clone().into_iter().filter(|_| random.bool()).collect::<Vec<_>>());
    random.shuffle(&mut coming);
    for (source, sequence) in coming {
        receive(&inbox, &format!("s{source}"), sequence, &format!("p{source}")).await;
    }
    let expected: Vec<String> = (1..=1_000).map(|n: u64| n.to_string()).collect();
    for source in 0..3 {
        let parcel = format!("p{source}");
        until(format!("{parcel} has everything"), async || {
            scans(&process.store, &parcel).await.len() >= 1_000
        })
        .await;
        assert_eq!(scans(&process.store, &parcel).await, expected);
    }
    running.stop().await.unwrap();
}
