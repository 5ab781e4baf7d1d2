//! What was looked up before others appended is judged against all that came since, however much
//! that is.
//!
//! A look-up is held at the disk while hundreds of groups go by. So what it found is older than
//! what memory holds when the writer judges it: it must not believe that, and look again.

use std::sync::Arc;

use leftfold_core::store::{
    Append, AppendError, Backend, CommandId, CommandRecord, Condition, Conflict, Digest, Expected,
    NewEvent, Outcome, Position, Query, QueryItem, Tag, Tags, Version,
};
use leftfold_log::disk::{DiskUse, Fault, Simulated};
use leftfold_log::{Log, Options, Upkeep};

use crate::support::gate::{Gate, Held};
use crate::support::hooked::Hooked;
use crate::support::{TestClock, event_type, stream, wait};

fn event(name: &str, tags: &[&'static str]) -> NewEvent {
    let tags = tags.iter().fold(Tags::none(), |tags, tag| tags.with(*tag));
    NewEvent::new(event_type("test.Happened"), "x").in_stream(stream(name)).tagged(tags)
}

fn command(number: u64) -> CommandRecord {
    CommandRecord {
        id: CommandId::new("test", &number.to_string()),
        digest: Digest([1; 16]),
        answer: "done".into(),
    }
}

fn appended(log: &Log, append: Append) {
    let outcome = wait(log.append(append));
    assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
}

/// An append whose condition can be judged only by reading events: more tags than are looked up in
/// lists.
fn slow(streams: &[(&str, Version)]) -> Append {
    let tags = std::iter::repeat_n("a", 8).chain(["b"]).map(|tag| Tag::new(tag).unwrap()).collect();
    let mut condition = Condition::none_matching(
        Query::from(QueryItem { tags, ..QueryItem::default() }),
        Position::START,
    );
    condition.streams =
        streams.iter().map(|(name, version)| (stream(name), Expected::Exact(*version))).collect();
    Append::of(vec![event("s-1", &[])]).when(condition)
}

/// Returns the answer of the append if this happens while its look-up is held.
fn judged(append: Append, meanwhile: impl FnOnce(&Log)) -> Result<Outcome, AppendError> {
    let gate = Arc::new(Gate::default());
    let clock = Arc::new(TestClock::default());
    let options =
        Options { memory_bytes: 1 << 14, upkeep: Upkeep::Inline, clock, ..Options::default() };
    let (log, _) =
        Log::open_on(Arc::new(Hooked(Simulated::new(1), Arc::clone(&gate))), options).unwrap();
    for _ in 0..1_000 {
        appended(&log, Append::of(vec![event("s-1", &["a"])]));
    }
    let shut = gate.shut(0);
    let (answer, held) = gate.hand_over(log.append(append));
    assert_eq!(held, Held::Yes, "the look-up reads the disk");
    meanwhile(&log);
    drop(shut);
    answer.join().unwrap()
}

fn hundreds_of_groups(log: &Log) {
    for number in 0..300 {
        appended(log, Append::of(vec![event(&format!("other-{number}"), &[])]));
    }
}

fn hundreds_of_records(log: &Log) {
    for number in 0..300 {
        appended(log, Append { command: Some(command(1_000 + number)), ..Append::default() });
    }
}

#[test]
fn a_version_that_was_looked_up_long_ago_is_looked_up_again() {
    let outcome = judged(slow(&[("s-1", Version(1_000))]), |log| {
        appended(log, Append::of(vec![event("s-1", &[])]));
        hundreds_of_groups(log);
    });
    assert!(
        matches!(&outcome, Ok(Outcome::Conflict(Conflict::Stream { actual: Version(1_001), .. }))),
        "{outcome:?}"
    );
}

#[test]
fn what_matches_since_a_look_up_long_ago_is_found() {
    let outcome = judged(slow(&[]), |log| {
        appended(log, Append::of(vec![event("s-2", &["a", "b"])]));
        hundreds_of_groups(log);
    });
    assert!(
        matches!(
            &outcome,
            Ok(Outcome::Conflict(Conflict::Matching { found: Position(1_001), .. }))
        ),
        "{outcome:?}"
    );
}

#[test]
fn nothing_since_a_look_up_long_ago_is_no_conflict() {
    let outcome =
        judged(slow(&[("s-1", Version(1_000)), ("none-1", Version::ABSENT)]), hundreds_of_groups);
    assert!(
        matches!(
            &outcome,
            Ok(Outcome::Appended(appended)) if appended.versions == [Version(1_001)]
        ),
        "{outcome:?}"
    );
}

/// Records without events do not move the head. So memory may begin at the very head of the
/// look-up, and the command that was recorded at it is in memory no more.
#[test]
fn a_command_that_was_recorded_since_a_look_up_long_ago_is_found() {
    for hundreds in [hundreds_of_groups, hundreds_of_records] {
        let append = Append { command: Some(command(1)), ..slow(&[]) };
        let outcome = judged(append, |log| {
            appended(log, Append { command: Some(command(1)), ..Append::default() });
            hundreds(log);
        });
        assert!(
            matches!(&outcome, Ok(Outcome::Repeated(answered)) if answered.events == 0),
            "{outcome:?}"
        );
    }
}

/// Anyone who is told of a conflict decides again on what is there. What may never become durable
/// must not be told.
#[test]
fn a_refusal_that_saw_only_what_failed_is_not_told() {
    let disk = Simulated::new(1);
    let options = Options {
        upkeep: Upkeep::Inline,
        clock: Arc::new(TestClock::default()),
        ..Options::default()
    };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options).unwrap();
    disk.plan(DiskUse::Sync, 1, Fault::Fail);
    let first = Append { command: Some(command(1)), ..Append::of(vec![event("s-1", &["a"])]) };
    let absent = Append::of(vec![event("s-1", &[])])
        .when(Condition::stream(stream("s-1"), Expected::Absent));
    let none = Append::of(vec![event("s-2", &[])])
        .when(Condition::none_matching(Query::tag("a"), Position::START));
    let other = CommandRecord { digest: Digest([2; 16]), ..command(1) };
    let reused = Append { command: Some(other), ..Append::default() };
    let answers =
        log.append_together(vec![first.clone(), absent, none, reused, first]).into_iter().map(wait);
    let answers: Vec<_> = answers.collect();
    assert!(matches!(answers[0], Err(AppendError::Unknown { .. })), "{answers:?}");
    for answer in &answers[1..4] {
        assert!(matches!(answer, Err(AppendError::ReadOnly { .. })), "{answers:?}");
    }
    assert!(
        matches!(answers[4], Err(AppendError::Unknown { .. })),
        "a repetition fares as its first sending: {answers:?}"
    );
}
