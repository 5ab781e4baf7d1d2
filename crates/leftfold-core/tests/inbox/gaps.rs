//! What is held, and what happens to it.

use leftfold_core::runtime::inbox::{
    Gap, HELD_MAX, Intake, Receipt, ReceiveError, Refusal, Reported,
};
use leftfold_core::store::Position;

use crate::runtime_stage::{SECOND, Stage, quiet, until};
use crate::tracking::{HOLD, Strict, Tracking, receive, scans, until_scanned, update};

async fn reports<I: leftfold_core::runtime::inbox::Inbox>(inbox: &Intake<I>) -> Vec<Reported> {
    inbox
        .reports(Position::START, 100)
        .await
        .unwrap()
        .reports
        .into_iter()
        .map(|report| report.what)
        .collect()
}

fn gap(from: u64, to: u64) -> Gap {
    Gap { from, to }
}

fn by_the_time(from: u64, to: u64) -> Reported {
    Reported::Released { gap: gap(from, to), by: "the time".to_owned() }
}

#[tokio::test]
async fn a_gap_that_is_filled_in_time_is_never_heard_of() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    receive(&inbox, "s", 2, "p").await;
    quiet().await;
    stage.clock.advance(HOLD - 5 * SECOND);
    quiet().await;
    assert!(scans(&process.store, "p").await.is_empty());
    receive(&inbox, "s", 1, "p").await;
    until_scanned(&process.store, "p", &["1", "2"]).await;
    stage.clock.advance(2 * HOLD);
    quiet().await;
    assert_eq!(reports(&inbox).await, []);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_is_released_after_the_time_and_what_comes_of_it_then_is_late() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    receive(&inbox, "s", 4, "p").await;
    quiet().await;
    stage.clock.advance(HOLD + SECOND);
    until_scanned(&process.store, "p", &["4"]).await;
    assert_eq!(receive(&inbox, "s", 2, "p").await, Receipt::Late);
    assert_eq!(receive(&inbox, "s", 5, "p").await, Receipt::Accepted);
    assert_eq!(receive(&inbox, "s", 1, "p").await, Receipt::Late);
    assert_eq!(receive(&inbox, "s", 1, "p").await, Receipt::Duplicate);
    let again = inbox.receive("s", "another", Some(2), update("p", "2")).await.unwrap_err();
    assert_eq!(again, ReceiveError::Refused(Refusal::SequenceTaken { sequence: 2 }));
    until_scanned(&process.store, "p", &["4", "2", "5", "1"]).await;
    let late = |sequence: u64| Reported::Late { id: format!("m{sequence}"), sequence };
    assert_eq!(reports(&inbox).await, [by_the_time(1, 3), late(2), late(1)]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn no_message_is_held_longer_than_the_time_however_many_gaps_are_before_it() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    receive(&inbox, "s", 9, "p").await;
    receive(&inbox, "s", 3, "p").await;
    receive(&inbox, "s", 6, "p").await;
    quiet().await;
    // Only 9 has been held for so long, to the microsecond; but it cannot go before the others.
    stage.clock.advance(HOLD + SECOND);
    until_scanned(&process.store, "p", &["3", "6", "9"]).await;
    assert_eq!(reports(&inbox).await, [by_the_time(1, 2), by_the_time(4, 5), by_the_time(7, 8)]);
    assert_eq!(inbox.source("s").await.unwrap().next, 10);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_is_reported_once_and_waits_for_what_is_missing_or_for_a_person() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Strict>().start().await.unwrap();
    let inbox = process.store.inbox::<Strict>();
    receive(&inbox, "s", 3, "p").await;
    quiet().await;
    stage.clock.advance(HOLD + SECOND);
    until("it is reported", async || !reports(&inbox).await.is_empty()).await;
    assert!(inbox.source("s").await.unwrap().is_reported);
    receive(&inbox, "s", 4, "p").await;
    receive(&inbox, "s", 7, "p").await;
    quiet().await;
    stage.clock.advance(2 * HOLD);
    quiet().await;
    assert_eq!(reports(&inbox).await, [Reported::Gap(gap(1, 2)), Reported::Gap(gap(5, 6))]);
    assert!(scans(&process.store, "p").await.is_empty());
    receive(&inbox, "s", 1, "p").await;
    receive(&inbox, "s", 2, "p").await;
    until_scanned(&process.store, "p", &["1", "2", "3", "4"]).await;
    assert_eq!(inbox.release("s", "ann").await.unwrap(), 1);
    assert_eq!(inbox.release("s", "ann").await.unwrap(), 0);
    until_scanned(&process.store, "p", &["1", "2", "3", "4", "7"]).await;
    let by_ann = Reported::Released { gap: gap(5, 6), by: "ann".to_owned() };
    assert_eq!(reports(&inbox).await.last(), Some(&by_ann));
    assert!(!inbox.source("s").await.unwrap().is_reported);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn sources_do_not_wait_for_each_other() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Strict>().start().await.unwrap();
    let inbox = process.store.inbox::<Strict>();
    receive(&inbox, "gap", 2, "p").await;
    for sequence in 1..=3 {
        receive(&inbox, "whole", sequence, "q").await;
    }
    until_scanned(&process.store, "q", &["1", "2", "3"]).await;
    assert!(scans(&process.store, "p").await.is_empty());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_held_is_bounded_and_what_fills_the_gap_is_always_taken() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Tracking>();
    let last = HELD_MAX as u64 + 1;
    for sequence in 2..=last {
        receive(&inbox, "s", sequence, "p").await;
    }
    let more = |sequence: u64| inbox.receive("s", "more", Some(sequence), update("p", "more"));
    assert_eq!(
        more(last + 1).await.unwrap_err(),
        ReceiveError::Refused(Refusal::Full { held: HELD_MAX, missing: 1 })
    );
    assert_eq!(receive(&inbox, "s", 1, "p").await, Receipt::Accepted);
    assert_eq!(more(last + 1).await.unwrap(), Receipt::Accepted);
    assert_eq!(inbox.source("s").await.unwrap().held, 0);
    let heavy = |n: u64| {
        inbox.receive("h", format!("{n}").leak(), Some(n), update("p", &"x".repeat(1_000_000)))
    };
    let mut taken = 0;
    let full = loop {
        match heavy(2 + taken).await {
            Ok(_) => taken += 1,
            Err(full) => break full,
        }
    };
    assert!((4..=5).contains(&taken), "{taken} messages of a megabyte");
    assert!(matches!(full, ReceiveError::Refused(Refusal::Full { .. })), "{full}");
}

#[tokio::test]
async fn a_source_that_begins_in_the_middle_and_one_with_great_holes_end_in_order() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().inbox::<Tracking>().start().await.unwrap();
    let inbox = process.store.inbox::<Tracking>();
    let numbers = [5_000, 1_000_000, u64::MAX - 1];
    for sequence in numbers.into_iter().rev() {
        receive(&inbox, "s", sequence, "p").await;
    }
    quiet().await;
    stage.clock.advance(HOLD + SECOND);
    let expected = numbers.map(|number| number.to_string());
    until_scanned(&process.store, "p", &expected.each_ref().map(String::as_str)).await;
    for sequence in [999_999, 1, 500_000] {
        assert_eq!(receive(&inbox, "s", sequence, "p").await, Receipt::Late);
    }
    running.stop().await.unwrap();
}
