//! Projections of the large store, from the first event to the last, warm: into SQLite, and into a
//! fold in memory.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use leftfold_core::fold::{Event, Recorded, Schema, Unknown};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError, Target as Place};
use leftfold_core::store::{Position, Query, Read, Store};
use leftfold_sqlite::Sqlite;
use leftfold_sqlite::rusqlite::{self, Connection};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

const SQLITE_PER_SECOND_MIN: f64 = 1e5;
const MEMORY_PER_SECOND_MIN: f64 = 1e6;
/// Against a loop that does nothing but read, decode, and upsert or fold.
const SQLITE_RATIO_MIN: f64 = 0.4;
const MEMORY_RATIO_MIN: f64 = 0.25;
/// As many as the runtime puts into one transaction.
pub(crate) const TOGETHER: usize = 1_000;

/// Fields of an account's bookings that the projections read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AccountView {
    Booked { customer: i64, amount_cents: i64 },
}

impl Event for AccountView {
    const NAMESPACE: &'static str = "account";
}

/// Rows of the projection in memory: for each customer the sum and the number of bookings.
type Balances = HashMap<i64, (i64, u64)>;

/// The projection that is measured.
pub(crate) struct Bookings;

impl Projection<Sqlite> for Bookings {
    const NAME: &'static str = "bookings";
    type Event = AccountView;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(TABLE)?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<AccountView>,
    ) -> Result<(), ProjectionError> {
        Ok(upsert(rows, &event.event)?)
    }
}

impl Projection<Memory<Balances>> for Bookings {
    const NAME: &'static str = "bookings";
    type Event = AccountView;

    async fn apply(
        &self,
        rows: &mut Balances,
        event: &Recorded<AccountView>,
    ) -> Result<(), ProjectionError> {
        fold(rows, &event.event);
        Ok(())
    }
}

const TABLE: &str = "CREATE TABLE customers (customer INTEGER PRIMARY KEY, cents INTEGER NOT NULL, bookings INTEGER NOT NULL)";
const UPSERT: &str = "INSERT INTO customers VALUES (?1, ?2, 1)
    ON CONFLICT (customer) DO UPDATE SET cents = cents + excluded.cents, bookings = bookings + 1";

fn upsert(
    rows: &Connection,
    AccountView::Booked { customer, amount_cents }: &AccountView,
) -> rusqlite::Result<()> {
    rows.prepare_cached(UPSERT)?.execute((customer, amount_cents)).map(drop)
}

fn fold(balances: &mut Balances, AccountView::Booked { customer, amount_cents }: &AccountView) {
    let (cents, bookings) = balances.entry(*customer).or_default();
    *cents += amount_cents;
    *bookings += 1;
}

/// One upsert an event, a thousand in a transaction with the checkpoint and the receipt.
pub(crate) async fn into_sqlite(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let (count, folder) = (run.settings.rounds, run.folder().join("read-models"));
    let large = run.large()?;
    let (store, events) = (large.open()?, large.events);
    let mut rounds = Vec::new();
    for _ in 0..=count {
        let began = Instant::now();
        bare_sqlite(&folder, &store).await?;
        let reference = per_second(events, began);
        let began = Instant::now();
        project(&store, Sqlite::at(&folder)).await?;
        rounds.push(Round { measured: per_second(events, began), reference });
        let bookings = |rows: &Connection| {
            rows.query_row("SELECT sum(bookings) FROM customers", [], |row| row.get::<_, i64>(0))
        };
        let bookings = Sqlite::at(&folder).reader::<Bookings>().read(bookings)?;
        fs::remove_dir_all(&folder)?;
        expect(bookings, events)?;
    }
    store.close().await?;
    let name = format!("events into SQLite, of {events}");
    Ok(rows(&name, rounds, SQLITE_PER_SECOND_MIN, "bare loop", SQLITE_RATIO_MIN))
}

/// A trivial fold that readers can look at, with the checkpoint and the receipt.
pub(crate) async fn into_memory(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let count = run.settings.rounds;
    let large = run.large()?;
    let (store, events) = (large.open()?, large.events);
    let mut rounds = Vec::new();
    for _ in 0..=count {
        let began = Instant::now();
        let folded = bare_fold(&store).await?;
        let reference = per_second(events, began);
        let memory = Memory::<Balances>::new();
        let began = Instant::now();
        project(&store, memory.clone()).await?;
        rounds.push(Round { measured: per_second(events, began), reference });
        if memory.read(|balances| *balances != folded).await {
            return Err("the projection is not the fold".into());
        }
    }
    store.close().await?;
    let name = format!("events into a fold in memory, of {events}");
    Ok(rows(&name, rounds, MEMORY_PER_SECOND_MIN, "bare loop", MEMORY_RATIO_MIN))
}

/// The figure as it is, and against the reference. The first round warms up.
fn rows(
    name: &str,
    mut rounds: Vec<Round>,
    target: f64,
    reference: &'static str,
    ratio: f64,
) -> Vec<Row> {
    rounds.remove(0);
    let unit = RowUnit::PerSecond;
    let absolute =
        rounds.iter().map(|round| Round { measured: round.measured, reference: target }).collect();
    let (what, against) = (name.to_owned(), format!("{name}, held against a loop"));
    vec![
        Row {
            name: what,
            rounds: absolute,
            unit,
            reference: "target",
            target: RatioTarget::RatioAtLeast(1.0),
        },
        Row { name: against, rounds, unit, reference, target: RatioTarget::RatioAtLeast(ratio) },
    ]
}

/// Projects all that the store has.
pub(crate) async fn project<T: Place>(store: &Store, target: T) -> Outcome
where
    Bookings: Projection<T>,
{
    let statuses = Runtime::new(store).project(Bookings, target).run_until_idle().await?;
    match &statuses[..] {
        [status] if status.lag() == 0 && status.waiting == 0 => Ok(()),
        other => Err(format!("the projection did not take everything: {other:?}").into()),
    }
}

/// Reads, decodes and upserts, in transactions of the same size, in a file that is set up in the
/// same way.
async fn bare_sqlite(folder: &Path, store: &Store) -> Outcome {
    fs::create_dir_all(folder)?;
    let rows = Connection::open(folder.join("bare.db"))?;
    rows.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4096",
    )?;
    rows.execute_batch(TABLE)?;
    let mut together = Vec::with_capacity(TOGETHER);
    let commit = |together: &mut Vec<AccountView>| {
        rows.execute_batch("BEGIN IMMEDIATE")?;
        together.drain(..).try_for_each(|event| upsert(&rows, &event))?;
        rows.execute_batch("COMMIT")
    };
    each(store, |event| {
        together.push(event);
        if together.len() == TOGETHER { Ok(commit(&mut together)?) } else { Ok(()) }
    })
    .await?;
    Ok(commit(&mut together)?)
}

/// Reads, decodes and folds, and no more.
async fn bare_fold(store: &Store) -> Outcome<Balances> {
    let mut balances = Balances::new();
    each(store, |event| {
        fold(&mut balances, &event);
        Ok(())
    })
    .await?;
    Ok(balances)
}

async fn each(store: &Store, mut take: impl FnMut(AccountView) -> Outcome) -> Outcome {
    let schema = Schema::of::<AccountView>()?;
    let mut events = store.read(Read::matching(Query::everything(), Position(1)));
    while let Some(page) = events.page().await? {
        for event in page.iter() {
            let mut taken = Ok(());
            schema.decode_each(event, Unknown::Refuse, |event| taken = take(event))?;
            taken?;
        }
    }
    Ok(())
}

pub(crate) fn per_second(events: u64, began: Instant) -> f64 {
    events as f64 / began.elapsed().as_secs_f64()
}

pub(crate) fn expect(bookings: i64, events: u64) -> Outcome {
    if bookings == events as i64 {
        Ok(())
    } else {
        Err(format!("{events} events made {bookings} bookings").into())
    }
}
