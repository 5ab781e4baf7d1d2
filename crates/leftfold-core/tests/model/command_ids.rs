//! A command id takes effect at most once, and its answer is given again.

use std::cell::RefCell;

use futures_util::FutureExt;
use leftfold_core::fold::{Aggregate, Answer, Decided, Decision, Event, ExecuteError, RecordError};
use leftfold_core::store::{
    Append, AppendError, CommandId, CommandRecord, Digest, Outcome, Position, Query, ReadError,
    Store, Version,
};

use crate::probe::Probe;
use crate::purse::{Do, Purse, put, refused, taken};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_with_one_id_one_takes_effect_and_all_are_answered_alike() {
    let probe = Probe::default();
    let handles = [probe.store(), probe.store(), probe.store()];
    let send = |n: usize| {
        let purses = handles[n % handles.len()].aggregate::<Purse>();
        tokio::spawn(async move {
            purses
                .command("1", Do::Put(7))
                .id("api", "k")
                .without_request_check()
                .execute()
                .await
                .unwrap()
        })
    };
    let mut first = 0;
    for running in (0..60).map(send).collect::<Vec<_>>() {
        let done = running.await.unwrap();
        first += usize::from(done.answer == Answer::First);
        assert_eq!(
            (done.events, done.version, done.position),
            (vec![put(7)], Version(1), Position(1))
        );
    }
    assert_eq!(first, 1);
    assert_eq!(probe.store().aggregate::<Purse>().load("1").await.unwrap().state.coins, 7);
}

#[tokio::test]
async fn a_repetition_is_answered_as_the_first_time_whatever_happened_since() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("other", Do::Put(1)).await.unwrap();
    let commands = vec![Do::Put(5), Do::Take(2)];
    let first = purses
        .commands("1", commands.clone())
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    purses.execute("1", Do::Take(3)).await.unwrap();
    purses.execute("other", Do::Put(1)).await.unwrap();
    for purses in [purses, probe.store().aggregate::<Purse>()] {
        let again = purses
            .commands("1", commands.clone())
            .id("api", "k")
            .without_request_check()
            .execute()
            .await
            .unwrap();
        assert_eq!(again.answer, Answer::Again);
        assert_eq!(
            (&again.events, again.version, again.position),
            (&first.events, first.version, first.position)
        );
    }
    assert_eq!(
        (first.events, first.version, first.position),
        (vec![put(5), taken(2)], Version(2), Position(3))
    );
}

/// A store that knew of the record before its events could be read gave an answer with fewer events
/// than the first time, or said that the id had been used for something else.
#[tokio::test]
async fn a_repetition_whose_events_are_not_all_there_is_an_error_and_no_other_answer() {
    let probe = Probe::default();
    let send = || async {
        let purses = probe.store().aggregate::<Purse>();
        let commands = purses
            .commands("1", vec![Do::Put(5), Do::Take(2)])
            .id("api", "k")
            .request(b"a")
            .execute()
            .await;
        let facts =
            purses.facts("2", &[put(1), put(2)]).id("api", "f").request(b"b").record().await;
        (commands, facts)
    };
    let (commands, facts) = send().await;
    let (commands, facts) = (commands.unwrap(), facts.unwrap());
    for hidden in 1..=2 {
        probe.hide_from(Some(Position(hidden)));
        let (again, facts_again) = send().await;
        assert!(matches!(again, Err(ExecuteError::Read(ReadError::Io { .. }))), "{again:?}");
        assert!(
            matches!(facts_again, Err(RecordError::Read(ReadError::Io { .. }))),
            "{facts_again:?}"
        );
    }
    probe.hide_from(None);
    let (again, facts_again) = send().await;
    assert_eq!(again.unwrap().events, commands.events);
    assert_eq!(facts_again.unwrap().appended, facts.appended);
}

/// The first answer said where the aggregate stood, the second where the store stood.
#[tokio::test]
async fn a_repetition_of_a_command_without_events_is_answered_alike_and_still_does_nothing() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    purses.execute("other", Do::Put(1)).await.unwrap();
    for id in ["1", "absent"] {
        let coins = if id == "1" { 5 } else { 0 };
        let first = purses
            .command(id, Do::FillTo(coins))
            .id(id, "k")
            .without_request_check()
            .execute()
            .await
            .unwrap();
        assert_eq!((first.events.len(), first.answer), (0, Answer::First));
        if id == "1" {
            assert_eq!((first.version, first.position), (Version(1), Position(1)));
            purses.execute("1", Do::Take(5)).await.unwrap();
        }
        let again = purses
            .command(id, Do::FillTo(coins))
            .id(id, "k")
            .without_request_check()
            .execute()
            .await
            .unwrap();
        assert_eq!((again.events.len(), again.answer), (0, Answer::Again));
        assert_eq!((again.version, again.position), (first.version, first.position));
    }
}

#[tokio::test]
async fn a_refusal_is_remembered_where_that_was_asked_for() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    let ask = || {
        purses
            .command("1", Do::Take(3))
            .id("api", "k")
            .without_request_check()
            .remembering_refusal()
            .execute()
    };
    assert_eq!(ask().await, refused(0));
    purses.execute("1", Do::Put(5)).await.unwrap();
    assert_eq!(ask().await, refused(0));
    let elsewhere = probe.store().aggregate::<Purse>();
    assert_eq!(
        elsewhere
            .command("1", Do::Take(3))
            .id("api", "k")
            .without_request_check()
            .remembering_refusal()
            .execute()
            .await,
        refused(0)
    );
    let forgetful =
        purses.command("1", Do::Take(3)).id("api", "k").without_request_check().execute().await;
    assert!(matches!(forgetful, Err(ExecuteError::AnswerUnreadable { .. })), "{forgetful:?}");
    assert_eq!(purses.load("1").await.unwrap().version, Version(1));
}

/// The store had taken the refusal on the condition that nothing was newer, and then it was asked a
/// second time; had others written in between, a caller who stated a version was told that it was
/// stale.
#[tokio::test]
async fn a_refusal_that_the_store_took_is_the_answer_without_asking_again() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    let before = (probe.appends(), probe.reads_from()).0;
    let ask = || {
        purses
            .command("1", Do::Take(3))
            .id("api", "k")
            .without_request_check()
            .remembering_refusal()
            .expecting(Version(1))
            .execute()
    };
    assert_eq!(ask().await, refused(1));
    assert_eq!((probe.appends() - before, probe.reads_from()), (1, vec![]));
}

#[tokio::test]
async fn a_refusal_that_is_not_remembered_may_be_tried_again() {
    let purses = Probe::default().store().aggregate::<Purse>();
    let ask = || purses.command("1", Do::Take(3)).id("api", "k").without_request_check().execute();
    assert_eq!(ask().await, refused(0));
    purses.execute("1", Do::Put(5)).await.unwrap();
    assert_eq!(ask().await.unwrap().answer, Answer::First);
    assert_eq!(ask().await.unwrap().answer, Answer::Again);
}

#[tokio::test]
async fn a_refusal_is_remembered_only_of_the_newest_state() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.load("1").await.unwrap();
    probe.store().aggregate::<Purse>().execute("1", Do::Put(5)).await.unwrap();
    let done = purses
        .command("1", Do::Take(3))
        .id("api", "k")
        .without_request_check()
        .remembering_refusal()
        .execute()
        .await
        .unwrap();
    assert_eq!(done.events, [taken(3)]);
}

#[tokio::test]
async fn other_bytes_or_another_aggregate_under_the_same_id_are_refused() {
    let purses = Probe::default().store().aggregate::<Purse>();
    purses.command("1", Do::Put(1)).id("api", "bytes").request(b"put 1").execute().await.unwrap();
    let other =
        purses.command("1", Do::Put(2)).id("api", "bytes").request(b"put 2").execute().await;
    let id = CommandId::new("api", "bytes");
    assert_eq!(other, Err(ExecuteError::Append(AppendError::CommandIdReused { id })));

    purses
        .command("1", Do::Put(1))
        .id("api", "place")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    let elsewhere =
        purses.command("2", Do::Put(1)).id("api", "place").without_request_check().execute().await;
    let id = CommandId::new("api", "place");
    assert_eq!(elsewhere, Err(ExecuteError::Append(AppendError::CommandIdReused { id })));
    assert_eq!(purses.load("1").await.unwrap().state.coins, 2);
    assert_eq!(purses.load("2").await.unwrap().version, Version::ABSENT);
}

#[tokio::test]
async fn the_id_is_looked_at_before_the_version() {
    let purses = Probe::default().store().aggregate::<Purse>();
    let ask = || {
        purses
            .command("1", Do::Put(1))
            .id("api", "k")
            .without_request_check()
            .expecting(Version::ABSENT)
            .execute()
    };
    assert_eq!(ask().await.unwrap().answer, Answer::First);
    assert_eq!(ask().await.unwrap().answer, Answer::Again);
    let new = purses
        .command("1", Do::Put(1))
        .id("api", "new")
        .without_request_check()
        .expecting(Version::ABSENT)
        .execute()
        .await;
    assert!(matches!(new, Err(ExecuteError::Stale { .. })), "{new:?}");
}

#[tokio::test]
async fn a_stale_request_is_not_remembered_and_may_come_again_with_the_right_version() {
    let purses = Probe::default().store().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    let ask = |version| {
        purses
            .command("1", Do::Put(1))
            .id("api", "k")
            .without_request_check()
            .expecting(version)
            .execute()
    };
    assert!(matches!(ask(Version(9)).await, Err(ExecuteError::Stale { .. })));
    assert_eq!(ask(Version(1)).await.unwrap().version, Version(2));
}

fn reused<T>(answer: &Result<T, ExecuteError<crate::purse::TooFew>>) -> bool {
    matches!(answer, Err(ExecuteError::Append(AppendError::CommandIdReused { .. })))
}

/// Without events nothing but the id was left of the first request: a command on another purse was
/// answered `Ok`, with the version of the first.
#[tokio::test]
async fn a_command_on_another_aggregate_is_never_answered_as_the_first_though_that_did_nothing() {
    let purses = Probe::default().store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    let nothing = |id, key| purses.command(id, Do::FillTo(5)).id("api", key);
    nothing("1", "unchecked").without_request_check().execute().await.unwrap();
    assert!(reused(&nothing("2", "unchecked").without_request_check().execute().await));
    nothing("1", "checked").request(b"fill to 5").execute().await.unwrap();
    assert!(
        reused(&nothing("2", "checked").request(b"fill to 5").execute().await),
        "the bytes do not say which purse"
    );
    let refused = |id| {
        purses
            .command(id, Do::Take(9))
            .id("api", "refused")
            .without_request_check()
            .remembering_refusal()
    };
    assert_eq!(refused("1").execute().await, crate::purse::refused(5));
    assert!(reused(&refused("2").execute().await));
    assert_eq!(purses.load("2").await.unwrap().version, Version::ABSENT);
}

#[tokio::test]
async fn an_id_is_used_with_request_bytes_or_without_and_never_both() {
    let purses = Probe::default().store().aggregate::<Purse>();
    let put = |key| purses.command("1", Do::Put(1)).id("api", key);
    put("checked").request(b"put").execute().await.unwrap();
    assert!(reused(&put("checked").without_request_check().execute().await));
    put("unchecked").without_request_check().execute().await.unwrap();
    assert!(reused(&put("unchecked").request(b"put").execute().await));
    assert_eq!(purses.load("1").await.unwrap().state.coins, 2);
}

/// Up to release 0.1 a request without bytes had the digest of its stream, and the answer did not
/// say its target.
#[tokio::test]
async fn a_request_without_bytes_that_an_older_release_answered_is_known_again() {
    let store = Probe::default().store();
    store.aggregate::<Purse>().execute("1", Do::Put(5)).await.unwrap();
    let mut answer = vec![0];
    answer.extend(1u64.to_le_bytes());
    let record = CommandRecord {
        id: CommandId::new("api", "k"),
        digest: Digest::of(b"purse-1"),
        answer: answer.into(),
    };
    let kept = store.append(Append { command: Some(record), ..Append::default() }).await.unwrap();
    assert!(matches!(kept, Outcome::Appended(_)));
    let again = |id| {
        store
            .aggregate::<Purse>()
            .command(id, Do::FillTo(5))
            .id("api", "k")
            .without_request_check()
            .execute()
    };
    let answer = again("1").await.unwrap();
    assert_eq!(
        (answer.answer, answer.version, answer.position),
        (Answer::Again, Version(1), Position(1))
    );
    assert!(reused(&again("2").await));
}

/// A state that is read while the very request is carried out by somebody else, as when its first
/// sending is still on its way.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct LastSeat {
    is_taken: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum SeatEvent {
    Taken,
}

impl Event for SeatEvent {
    const NAMESPACE: &'static str = "seat";
}

thread_local! {
    /// The store in which the request is carried out in between, once.
    static IN_BETWEEN: RefCell<Option<Store>> = const { RefCell::new(None) };
}

fn carry_out_in_between() {
    if let Some(store) = IN_BETWEEN.take() {
        // Nothing waits in a store in memory.
        let seats = store.aggregate::<LastSeat>();
        let first =
            seats.command("1", ()).id("api", "k").without_request_check().execute().now_or_never();
        assert_eq!(first.unwrap().unwrap().answer, Answer::First);
    }
}

impl Default for LastSeat {
    fn default() -> Self {
        carry_out_in_between();
        Self { is_taken: false }
    }
}

impl Aggregate for LastSeat {
    const CATEGORY: &'static str = "seat";
    type Event = SeatEvent;
    type Command = ();
    type Refusal = SeatIsTaken;

    fn apply(&mut self, SeatEvent::Taken: &SeatEvent) {
        self.is_taken = true;
    }

    fn decide(&self, (): &()) -> Result<Vec<SeatEvent>, SeatIsTaken> {
        if self.is_taken { Err(SeatIsTaken) } else { Ok(vec![SeatEvent::Taken]) }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the seat is taken")]
struct SeatIsTaken;

struct TakeSeat(Option<Store>);

impl Decision for TakeSeat {
    type Event = SeatEvent;
    type State = bool;
    type Refusal = SeatIsTaken;

    fn query(&self) -> Query {
        if let Some(store) = &self.0 {
            let first = store
                .decision(&TakeSeat(None))
                .id("api", "k")
                .without_request_check()
                .execute()
                .now_or_never();
            assert!(matches!(first.unwrap().unwrap().answer, Answer::First | Answer::Again));
        }
        Query::category("seat")
    }

    fn apply(&self, is_taken: &mut bool, SeatEvent::Taken: &SeatEvent) {
        *is_taken = true;
    }

    fn decide(&self, is_taken: &bool) -> Result<Decided<SeatEvent>, SeatIsTaken> {
        if *is_taken { Err(SeatIsTaken) } else { Ok(Decided::event("seat-1", SeatEvent::Taken)) }
    }
}

/// Of two sendings of one request the second was told that somebody had taken the last seat: the
/// first one had.
#[tokio::test]
async fn a_request_is_not_refused_for_its_own_events() {
    let probe = Probe::default();
    IN_BETWEEN.set(Some(probe.store()));
    let seats = probe.store().aggregate::<LastSeat>();
    let again =
        seats.command("1", ()).id("api", "k").without_request_check().execute().await.unwrap();
    assert_eq!((again.answer, again.events), (Answer::Again, vec![SeatEvent::Taken]));
    let other = seats.command("1", ()).id("api", "other").without_request_check().execute().await;
    assert!(matches!(other, Err(ExecuteError::Refused(SeatIsTaken))), "{other:?}");

    let store = Probe::default().store();
    let again = store
        .decision(&TakeSeat(Some(store.clone())))
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!((again.answer, again.events), (Answer::Again, vec![SeatEvent::Taken]));
    let other =
        store.decision(&TakeSeat(None)).id("api", "other").without_request_check().execute().await;
    assert!(matches!(other, Err(ExecuteError::Refused(SeatIsTaken))), "{other:?}");
}

/// The same of a version that the caller expected: its own first sending has raised it.
#[tokio::test]
async fn a_request_is_not_stale_by_its_own_events() {
    let probe = Probe::default();
    IN_BETWEEN.set(Some(probe.store()));
    let seats = probe.store().aggregate::<LastSeat>();
    let request =
        seats.command("1", ()).expecting(Version::ABSENT).id("api", "k").without_request_check();
    assert_eq!(request.execute().await.unwrap().answer, Answer::Again);
}
