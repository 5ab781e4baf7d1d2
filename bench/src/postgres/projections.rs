//! A projection into the database that has the events, against a bare loop that sends a page's
//! statements without waiting for each.

use std::time::Instant;

use leftfold_core::fold::{Recorded, Schema, Unknown};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::store::{Position, Query, Read, Store};
use leftfold_postgres::tokio_postgres::{self, Client, NoTls, Statement};
use leftfold_postgres::{Postgres, Rows};
use tokio::sync::mpsc;

use super::server::open;
use crate::Outcome;
use crate::projections::{AccountView, Bookings, TOGETHER, expect, per_second, project};
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

const RATIO_MIN: f64 = 0.7;
/// Share of the events of the large store that are projected.
const SHARE: u64 = 10;

const TABLE: &str = "CREATE TABLE customers (customer bigint PRIMARY KEY, cents bigint NOT NULL, bookings bigint NOT NULL)";
const UPSERT: &str = "INSERT INTO customers AS c VALUES ($1, $2, 1) ON CONFLICT (customer)
    DO UPDATE SET cents = c.cents + excluded.cents, bookings = c.bookings + 1";

impl Projection<Postgres> for Bookings {
    const NAME: &'static str = "bookings";
    type Event = AccountView;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        Ok(rows.batch_execute(TABLE).await?)
    }

    async fn apply(
        &self,
        rows: &mut Rows,
        event: &Recorded<AccountView>,
    ) -> Result<(), ProjectionError> {
        let AccountView::Booked { customer, amount_cents } = &event.event;
        Ok(rows.send(UPSERT, &[customer, amount_cents]).await?)
    }
}

/// One upsert an event, a thousand in a transaction with the checkpoint and the receipt.
pub(crate) async fn projections(run: &mut BenchRun) -> Outcome<Row> {
    let count = run.settings.rounds;
    let server = run.postgres()?;
    let filled = server.filled((run.settings.events / SHARE).max(1)).await?;
    let events = filled.events;
    let store = open(&filled.url).await?;
    let (client, connection) = tokio_postgres::connect(&filled.url, NoTls).await?;
    let drives = tokio::spawn(connection);
    let mut rounds = Vec::new();
    for _ in 0..=count {
        client.batch_execute(TABLE).await?;
        let began = Instant::now();
        bare(&client, &store).await?;
        let reference = per_second(events, began);
        client.batch_execute("DROP TABLE customers").await?;
        let began = Instant::now();
        project(&store, Postgres::at(&filled.url)?).await?;
        rounds.push(Round { measured: per_second(events, began), reference });
        let bookings = "SELECT sum(bookings)::bigint FROM bookings_v1.customers";
        let bookings: i64 = client.query_one(bookings, &[]).await?.get(0);
        expect(bookings, events)?;
        let forget = "DROP SCHEMA bookings_v1 CASCADE; DROP SCHEMA leftfold CASCADE";
        client.batch_execute(forget).await?;
    }
    drop(client);
    drives.await??;
    store.close().await?;
    // The first round warms up.
    rounds.remove(0);
    Ok(Row {
        name: format!("PostgreSQL: events into the same database, of {events}"),
        rounds,
        unit: RowUnit::PerSecond,
        reference: "pipelined loop",
        target: RatioTarget::RatioAtLeast(RATIO_MIN),
    })
}

/// Reads, decodes and upserts, in transactions of the same size, each sent as a whole.
async fn bare(client: &Client, store: &Store) -> Outcome {
    let upsert = client.prepare(UPSERT).await?;
    let (sender, mut pages) = mpsc::channel(2);
    let reading = async move {
        let schema = Schema::of::<AccountView>()?;
        let mut events = store.read(Read::matching(Query::everything(), Position(1)));
        while let Some(page) = events.page().await? {
            let mut views = Vec::with_capacity(page.len());
            for event in &page {
                schema.decode_each(event, Unknown::Refuse, |view| views.push(view))?;
            }
            sender.send(views).await?;
        }
        Outcome::Ok(())
    };
    let writing = async {
        while let Some(page) = pages.recv().await {
            for together in page.chunks(TOGETHER) {
                transaction(client, &upsert, together).await?;
            }
        }
        Outcome::Ok(())
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

async fn transaction(client: &Client, upsert: &Statement, page: &[AccountView]) -> Outcome {
    let upserts = page.iter().map(async |AccountView::Booked { customer, amount_cents }| {
        client.execute(upsert, &[customer, amount_cents]).await
    });
    // They are sent in this order.
    let (begun, written, committed) = tokio::join!(
        client.batch_execute("BEGIN"),
        futures_util::future::join_all(upserts),
        client.batch_execute("COMMIT")
    );
    begun?;
    written.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(committed?)
}
