//! Inline projections: rows that are written in the append's own transaction.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::store::{
    Append, AppendError, EventType, NewEvent, Outcome, Position, State, Store, StreamName,
};
use leftfold_postgres::{Postgres, PostgresStore, PostgresStoreOptions, Rows};
use leftfold_proving::PostgresServer;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sale {
    Sold { cents: i64 },
}

impl Event for Sale {
    const NAMESPACE: &'static str = "sale";
}

/// The cents of each shop; a shop has at most 1,000.
struct Totals<const VERSION: u32> {
    /// Makes an event of 777 cents wait for ever.
    hangs: Option<Arc<Notify>>,
}

impl<const VERSION: u32> Totals<VERSION> {
    fn new() -> Self {
        Self { hangs: None }
    }
}

impl<const VERSION: u32> Projection<Postgres> for Totals<VERSION> {
    const NAME: &'static str = "inline_totals";
    const VERSION: u32 = VERSION;
    type Event = Sale;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        let table = "CREATE TABLE totals
            (shop text PRIMARY KEY, cents bigint NOT NULL CHECK (cents <= 1000))";
        Ok(rows.batch_execute(table).await?)
    }

    async fn apply(&self, rows: &mut Rows, event: &Recorded<Sale>) -> Result<(), ProjectionError> {
        let Sale::Sold { cents } = &event.event;
        match (cents, &self.hangs) {
            (777, Some(hangs)) => hangs.notified().await,
            (666, _) => panic!("not that number"),
            (555, _) => rows.batch_execute("COMMIT").await?,
            (444, _) => {
                let _ = rows.batch_execute("SELECT 1 / 0").await;
                return Ok(());
            }
            _ => {}
        }
        let upsert = "INSERT INTO totals VALUES ($1, $2)
            ON CONFLICT (shop) DO UPDATE SET cents = totals.cents + excluded.cents";
        if cents % 100 == 0 {
            return Ok(rows.send(upsert, &[&event.stream_id(), cents]).await?);
        }
        let upsert = rows.prepare_cached(upsert).await?;
        rows.execute(&upsert, &[&event.stream_id(), cents]).await?;
        Ok(())
    }
}

/// A database of its own: rows of projections are in schemas that stores do not share.
async fn database() -> String {
    let url = tokio::task::spawn_blocking(|| PostgresServer::shared().database("inline"));
    format!("{}?schema=shop", url.await.unwrap())
}

async fn open<const VERSION: u32>(url: &str, totals: Totals<VERSION>) -> (PostgresStore, Store) {
    let options = PostgresStoreOptions::at(url).unwrap();
    let options = PostgresStoreOptions { transaction_within: Duration::from_secs(2), ..options };
    let backend = PostgresStore::open_with(options.inline(totals).unwrap()).await.unwrap();
    (backend.clone(), Store::new(backend))
}

fn sold(shop: &str, cents: i64) -> Append {
    let data = format!("{{\"cents\":{cents}}}");
    let event = NewEvent::new(EventType::new("sale.Sold").unwrap(), data);
    Append::of(vec![event.in_stream(StreamName::of("shop", shop).unwrap())])
}

fn totals(url: &str, version: u32) -> String {
    let ask = format!("SELECT shop, cents FROM inline_totals_v{version}.totals ORDER BY shop");
    PostgresServer::shared().psql(url.split_once('?').unwrap().0, &ask)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_appended_reads_the_rows_at_once_and_what_they_refuse_is_not_recorded() {
    let url = database().await;
    let (backend, store) = open(&url, Totals::<1>::new()).await;
    for cents in [600, 300] {
        assert!(matches!(store.append(sold("a", cents)).await, Ok(Outcome::Appended(_))));
    }
    assert_eq!(totals(&url, 1), "a|900");

    // Of a group that goes in together only what is refused stays out.
    let together = [
        sold("a", 200),
        sold("b", 1),
        sold("a", 100),
        sold("a", 1),
        sold("b", 666),
        sold("b", 444),
    ];
    let answers: Vec<_> = together.into_iter().map(|append| store.append(append)).collect();
    let mut refused = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        match answer.await {
            Ok(Outcome::Appended(_)) => {}
            Err(AppendError::ReadModel { projection: "inline_totals", .. }) => refused.push(index),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, [0, 3, 4, 5]);
    assert_eq!(totals(&url, 1), "a|1000\nb|1");
    assert_eq!(store.head().position, Position(4));
    assert_eq!(backend.verify(|_| {}).await.unwrap().events, 4);

    // A projection that ends the transaction itself has committed the append.
    assert!(matches!(store.append(sold("c", 555)).await, Ok(Outcome::Appended(_))));
    assert!(matches!(store.append(sold("d", 5)).await, Ok(Outcome::Appended(_))));
    assert_eq!(store.head().position, Position(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_gives_no_answer_does_not_keep_others_from_writing() {
    let url = database().await;
    let hangs = Some(Arc::new(Notify::new()));
    let (_, store) = open(&url, Totals::<1> { hangs }).await;
    let (_, beside) = open(&url, Totals::<1>::new()).await;
    let hanging = store.append(sold("a", 777));
    let going = beside.append(sold("a", 7));
    assert!(matches!(hanging.await, Err(AppendError::ReadModel { .. })));
    assert!(matches!(going.await, Ok(Outcome::Appended(_))));
    assert!(matches!(store.append(sold("a", 8)).await, Ok(Outcome::Appended(_))));
    assert_eq!(totals(&url, 1), "a|15");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_costs_the_others_of_its_group_a_few_transactions_and_not_one_each() {
    let url = database().await;
    let (_, store) = open(&url, Totals::<1>::new()).await;
    let commits = "SELECT xact_commit + xact_rollback FROM pg_stat_database
        WHERE datname = current_database()";
    let plain = url.split_once('?').unwrap().0;
    let counted = || -> i64 { PostgresServer::shared().psql(plain, commits).parse().unwrap() };
    // What is refused is noticed at once, or by a statement that is answered later.
    for (shop, refused) in [("a", 1_001), ("b", 1_100)] {
        let before = counted();
        let cents = |index: usize| if index == 150 { refused } else { 1 };
        let appends =
            (0..300).map(|index| store.append(sold(&format!("{shop}{index}"), cents(index))));
        let answers: Vec<_> = appends.collect();
        for (index, answer) in answers.into_iter().enumerate() {
            match answer.await {
                Ok(Outcome::Appended(_)) => assert_ne!(index, 150),
                Err(AppendError::ReadModel { .. }) => assert_eq!(index, 150),
                other => panic!("{index}: {other:?}"),
            }
        }
        let transactions = counted() - before;
        assert!(transactions < 100, "{transactions} transactions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_never_answers_holds_a_group_up_for_a_few_times_its_limit() {
    let url = database().await;
    let hangs = Some(Arc::new(Notify::new()));
    let (_, store) = open(&url, Totals::<1> { hangs }).await;
    let appends = (0..50).map(|index| store.append(sold(&format!("a{index}"), 777)));
    let answers: Vec<_> = appends.collect();
    let (mut refused, mut away) = (0, 0);
    for answer in answers {
        match answer.await {
            Err(AppendError::ReadModel { .. }) => refused += 1,
            Err(AppendError::Unavailable { detail }) => {
                assert!(detail.contains("inline_totals"), "{detail}");
                away += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // The first may have gone in alone.
    assert!(refused <= 5 && away >= 45, "{refused} refused, {away} told to come again");
    assert!(matches!(store.append(sold("b", 8)).await, Ok(Outcome::Appended(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_built_from_the_history_while_others_write() {
    let url = database().await;
    let plain = Store::new(PostgresStore::open(&url).await.unwrap());
    for _ in 0..300 {
        plain.append(sold("a", 1)).await.unwrap();
    }
    let writing = tokio::spawn({
        let plain = plain.clone();
        async move {
            let mut appended = 0;
            while let Ok(Outcome::Appended(_)) = plain.append(sold("b", 1)).await {
                appended += 1;
            }
            appended
        }
    });
    let (first, second) =
        tokio::join!(open(&url, Totals::<1>::new()), open(&url, Totals::<1>::new()));
    // A process without the projection takes no appends from the moment on that it is registered.
    let appended = writing.await.unwrap();
    let refused = plain.append(sold("a", 1)).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    first.1.append(sold("c", 1)).await.unwrap();
    second.1.append(sold("c", 1)).await.unwrap();
    let shown =
        |b: i64| format!("a|300\n{}c|2", if b > 0 { format!("b|{b}\n") } else { String::new() });
    assert_eq!(totals(&url, 1), shown(appended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_the_place_of_the_former_one() {
    let url = database().await;
    let (_, former) = open(&url, Totals::<1>::new()).await;
    former.append(sold("a", 1)).await.unwrap();
    let (_, newer) = open(&url, Totals::<2>::new()).await;
    newer.append(sold("a", 2)).await.unwrap();
    let refused = former.append(sold("a", 1)).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    assert_eq!((totals(&url, 1), totals(&url, 2)), ("a|1".to_owned(), "a|3".to_owned()));
    // The former one may come back: its rows are gone on with.
    let (_, former) = open(&url, Totals::<1>::new()).await;
    former.append(sold("a", 4)).await.unwrap();
    assert_eq!((totals(&url, 1), totals(&url, 2)), ("a|7".to_owned(), "a|3".to_owned()));
    let (_, newer) = open(&url, Totals::<2>::new()).await;
    newer.append(sold("a", 8)).await.unwrap();
    assert_eq!((totals(&url, 1), totals(&url, 2)), ("a|7".to_owned(), "a|15".to_owned()));

    // Readers of the projection see the version that is written.
    let postgres = Postgres::at(url.split_once('?').unwrap().0).unwrap();
    let rows = postgres.reader::<Totals<2>>().read().await.unwrap();
    let row = rows.query_one("SELECT cents FROM totals WHERE shop = 'a'", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_does_not_follow_into_rows_that_are_written_inline() {
    let url = database().await;
    let (_, store) = open(&url, Totals::<1>::new()).await;
    store.append(sold("a", 1)).await.unwrap();
    let postgres = Postgres::at(url.split_once('?').unwrap().0).unwrap();
    let runtime = leftfold_core::runtime::Runtime::new(&store);
    let started = runtime.project(Totals::<1>::new(), postgres).start().await;
    if let Ok(running) = started {
        let head = store.head().position;
        let projections = running.projections();
        let reached = projections.wait_until("inline_totals", head, Duration::from_secs(1)).await;
        assert!(reached.is_err(), "it must not follow");
        running.stop().await.unwrap();
    }
    assert_eq!(totals(&url, 1), "a|1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_was_taken_away_is_written_no_more() {
    let url = database().await;
    let (_, with) = open(&url, Totals::<1>::new()).await;
    with.append(sold("a", 1)).await.unwrap();
    let plain = Store::new(PostgresStore::open(&url).await.unwrap());
    let refused = plain.append(sold("a", 1)).await.unwrap_err().to_string();
    assert!(refused.contains("remove_inline"), "{refused}");
    let remove = || PostgresStoreOptions::at(&url).unwrap();
    assert!(PostgresStore::remove_inline(remove(), "inline_totals").await.unwrap());
    assert!(!PostgresStore::remove_inline(remove(), "inline_totals").await.unwrap());
    assert!(matches!(plain.append(sold("a", 2)).await, Ok(Outcome::Appended(_))));
    assert!(matches!(with.append(sold("a", 3)).await, Err(AppendError::ReadOnly { .. })));
    assert_eq!(totals(&url, 1), "a|1");
    // One that comes back goes on from the rows that are there.
    let (_, again) = open(&url, Totals::<1>::new()).await;
    again.append(sold("a", 4)).await.unwrap();
    assert_eq!(totals(&url, 1), "a|7");
}

/// A process that could append nothing was shown as one that takes appends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_registered_projection_says_what_it_lacks_until_that_is_over() {
    let url = database().await;
    let plain = Store::new(PostgresStore::open(&url).await.unwrap());
    let mut status = plain.status();
    let is_open = |state: &State| *state == State::Open;
    assert!(is_open(&status.borrow().state));
    let (_, with) = open(&url, Totals::<1>::new()).await;
    // It hears so without an append of its own, and whoever comes later does, too.
    let late = Store::new(PostgresStore::open(&url).await.unwrap());
    for store in [&plain, &late] {
        let mut status = store.status();
        let told = status.wait_for(|status| !is_open(&status.state));
        let State::ReadOnly { detail } = told.await.unwrap().state.clone() else { panic!() };
        let lacks = "inline_totals (version 1), this process has none";
        assert!(detail.contains(lacks), "{detail}");
    }
    with.append(sold("a", 1)).await.unwrap();
    assert!(is_open(&with.status().borrow().state));
    // An append of another process hides nothing.
    let head = with.head().position;
    status.wait_for(|status| status.head.position == head).await.unwrap();
    assert!(!is_open(&status.borrow().state));

    let remove = PostgresStoreOptions::at(&url).unwrap();
    assert!(PostgresStore::remove_inline(remove, "inline_totals").await.unwrap());
    status.wait_for(|status| is_open(&status.state)).await.unwrap();
    assert!(matches!(plain.append(sold("a", 2)).await, Ok(Outcome::Appended(_))));
    let mut status = with.status();
    let told = status.wait_for(|status| !is_open(&status.state)).await.unwrap().state.clone();
    let State::ReadOnly { detail } = told else { panic!("{told:?}") };
    assert!(detail.contains("projections none, this process has inline_totals"), "{detail}");
}
