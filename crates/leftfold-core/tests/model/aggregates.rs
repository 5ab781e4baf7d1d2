//! Commands on one aggregate: versions, several at once, facts, queues, cancelling, the cache.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use leftfold_core::fold::{Aggregate, Event, ExecuteError, STALE_EVENTS_MAX, SnapshotPolicy};
use leftfold_core::store::{Position, Store, Version};
use serde::{Deserialize, Serialize};

use crate::probe::Probe;
use crate::purse::{Do, Purse, put, refused, taken};

/// Polls once and lets go.
fn begin_and_drop(future: impl Future) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "it was to be cancelled in the middle");
}

#[tokio::test]
async fn who_states_an_old_version_gets_what_came_since_and_nothing_is_done() {
    let purses = Store::memory().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    purses.commands("1", vec![Do::Put(2), Do::Take(3)]).execute().await.unwrap();
    let answer = purses.command("1", Do::Put(9)).expecting(Version(1)).execute().await;
    let Err(ExecuteError::Stale { expected, actual, since }) = answer else { panic!("{answer:?}") };
    assert_eq!((expected, actual), (Version(1), Version(3)));
    let since: Vec<_> = since.iter().flat_map(|event| purses.decode(event).unwrap()).collect();
    assert_eq!(since, [put(2), taken(3)]);
    assert_eq!(purses.load("1").await.unwrap().version, Version(3));
}

#[tokio::test]
async fn who_states_a_version_that_is_not_there_yet_is_stale_too() {
    let purses = Store::memory().aggregate::<Purse>();
    for id in ["1", "absent"] {
        let answer = purses.command(id, Do::Put(9)).expecting(Version(7)).execute().await;
        let stale =
            ExecuteError::Stale { expected: Version(7), actual: Version::ABSENT, since: vec![] };
        assert_eq!(answer, Err(stale));
    }
    purses.command("1", Do::Put(9)).expecting(Version::ABSENT).execute().await.unwrap();
}

#[tokio::test]
async fn what_a_stale_caller_is_given_is_bounded() {
    let purses = Store::memory().aggregate::<Purse>();
    let many = vec![put(1); STALE_EVENTS_MAX as usize + 5];
    purses.record("1", &many).await.unwrap();
    let answer = purses.command("1", Do::Put(9)).expecting(Version(1)).execute().await;
    let Err(ExecuteError::Stale { actual, since, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((actual, since.len()), (Version(many.len() as u64), STALE_EVENTS_MAX as usize));
}

#[tokio::test]
async fn who_states_the_version_that_is_goes_on_though_the_kept_fold_is_older() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    probe.store().aggregate::<Purse>().execute("1", Do::Put(1)).await.unwrap();
    assert_eq!(
        purses.command("1", Do::Put(1)).expecting(Version(2)).execute().await.unwrap().version,
        Version(3)
    );
}

#[tokio::test]
async fn several_commands_are_one_append_each_decided_after_those_before_it() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    let done =
        purses.commands("1", vec![Do::Put(5), Do::Take(3), Do::FillTo(4)]).execute().await.unwrap();
    assert_eq!((done.events, done.version), (vec![put(5), taken(3), put(2)], Version(3)));
    assert_eq!(probe.appends(), 1);
    let refusal = purses.commands("1", vec![Do::Take(4), Do::Take(1)]).execute().await;
    assert_eq!(refusal, refused(0));
    assert_eq!((purses.load("1").await.unwrap().state.coins, probe.appends()), (4, 1));
    let nothing = purses.commands("1", vec![]).execute().await.unwrap();
    assert_eq!(
        (nothing.events, nothing.version, nothing.position),
        (vec![], Version(3), Position(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_never_conflict_and_the_next_command_sees_them() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    let record = |n: usize| {
        let purses =
            if n.is_multiple_of(2) { purses.clone() } else { probe.store().aggregate::<Purse>() };
        tokio::spawn(async move {
            purses.record("1", &[put(1), put(1)]).await.unwrap();
            purses.execute("1", Do::Put(1)).await.unwrap();
        })
    };
    for running in (0..20).map(record).collect::<Vec<_>>() {
        running.await.unwrap();
    }
    assert_eq!(purses.execute("1", Do::Take(61)).await.unwrap().version, Version(62));
    purses.record("1", &[put(4)]).await.unwrap();
    assert_eq!(purses.load("1").await.unwrap().state.coins, 4);
    purses.record("1", &[put(4)]).await.unwrap();
    assert_eq!(purses.execute("1", Do::Take(9)).await, refused(8));
}

#[tokio::test]
async fn no_fact_at_all_changes_nothing() {
    let purses = Store::memory().aggregate::<Purse>();
    purses.record("1", &[]).await.unwrap();
    assert_eq!(purses.load("1").await.unwrap().version, Version::ABSENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_one_aggregate_queue_and_none_conflicts() {
    const COMMANDS: u64 = 500;
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    let send = |_| {
        let purses = purses.clone();
        tokio::spawn(async move { purses.execute("1", Do::Put(1)).await.unwrap().version })
    };
    let mut versions = Vec::new();
    for running in (0..COMMANDS).map(send).collect::<Vec<_>>() {
        versions.push(running.await.unwrap().0);
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=COMMANDS).collect::<Vec<_>>());
    assert_eq!(probe.appends() as u64, COMMANDS);
}

#[tokio::test]
async fn a_command_that_is_cancelled_while_it_is_written_took_effect_wholly() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    probe.withhold();
    begin_and_drop(
        purses
            .commands("1", vec![Do::Put(2), Do::Put(3)])
            .id("api", "k")
            .without_request_check()
            .execute(),
    );
    probe.answer();
    assert_eq!(purses.load("1").await.unwrap().state.coins, 6);
    let again = purses
        .commands("1", vec![Do::Put(2), Do::Put(3)])
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!((again.events, again.version), (vec![put(2), put(3)], Version(3)));
    assert_eq!(purses.execute("1", Do::Take(6)).await.unwrap().version, Version(4));
}

#[tokio::test]
async fn a_command_that_is_cancelled_in_the_queue_did_nothing_and_holds_nobody_up() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    probe.withhold();
    let mut first = Box::pin(purses.execute("1", Do::Put(1)));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    begin_and_drop(purses.execute("1", Do::Put(2)));
    probe.answer();
    assert_eq!(first.await.unwrap().version, Version(1));
    assert_eq!(purses.execute("1", Do::Put(4)).await.unwrap().version, Version(2));
    assert_eq!(purses.load("1").await.unwrap().state.coins, 5);
}

#[tokio::test]
async fn an_id_that_cannot_name_a_stream_is_refused_everywhere() {
    let purses = Store::memory().aggregate::<Purse>();
    for id in ["", &"x".repeat(600)] {
        assert!(matches!(purses.execute(id, Do::Put(1)).await, Err(ExecuteError::Invalid(_))));
        assert!(purses.load(id).await.is_err());
        assert!(purses.load_at(id, Version(1)).await.is_err());
        assert!(purses.record(id, &[put(1)]).await.is_err());
        assert!(purses.history(id, Version(1)).is_err());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BookEvent {
    Printed { pages: usize },
}

impl Event for BookEvent {
    const NAMESPACE: &'static str = "book";
}

/// A state that weighs much more than its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Book {
    pages: Vec<u64>,
}

impl Aggregate for Book {
    const CATEGORY: &'static str = "book";
    type Event = BookEvent;
    type Command = usize;
    type Refusal = std::fmt::Error;

    fn apply(&mut self, BookEvent::Printed { pages }: &BookEvent) {
        self.pages = vec![u64::MAX; *pages];
    }

    fn decide(&self, pages: &usize) -> Result<Vec<BookEvent>, std::fmt::Error> {
        Ok(vec![BookEvent::Printed { pages: *pages }])
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

#[tokio::test]
async fn kept_folds_are_bounded_by_bytes_and_the_longest_unused_go_first() {
    const BOOKS: usize = 20;
    // 4 MiB as JSON: 20 digits and a comma each.
    const PAGES: usize = (4 << 20) / 21;
    let probe = Probe::default();
    let books = probe.store().aggregate::<Book>();
    for book in 0..BOOKS {
        books.execute(&book.to_string(), PAGES).await.unwrap();
    }
    probe.reads_from();
    books.load("0").await.unwrap();
    let read = probe.reads_from();
    assert_eq!(
        (read[0], read[read.len() - 1]),
        (Version(1), Version(2)),
        "80 MiB are not kept: the first book comes from its snapshot"
    );
    books.load(&(BOOKS - 1).to_string()).await.unwrap();
    assert_eq!(probe.reads_from(), [Version(2)], "the last is kept: only what is new is read");
}

#[tokio::test]
async fn a_setting_bounds_kept_folds_also_where_they_come_from_snapshots() {
    const PAGES: usize = 1_000;
    let probe = Probe::default();
    for book in 0..4 {
        probe.store().aggregate::<Book>().execute(&book.to_string(), PAGES).await.unwrap();
    }
    assert_eq!(probe.snapshots().len(), 4);
    let store = probe.store();
    // Room for one book of 21,000 bytes, not for two.
    assert!(store.keep_folds(30_000));
    assert!(!store.keep_folds(1), "it is too late for another bound");
    let books = store.aggregate::<Book>();
    for book in 0..4 {
        books.load(&book.to_string()).await.unwrap();
    }
    probe.reads_from();
    books.load("3").await.unwrap();
    assert_eq!(probe.reads_from(), [Version(2)], "the last is kept");
    books.load("0").await.unwrap();
    let read = probe.reads_from();
    assert_eq!(
        (read[0], read[read.len() - 1]),
        (Version(1), Version(2)),
        "the first went, and comes from its snapshot"
    );
}
