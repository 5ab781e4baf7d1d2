//! Registration: the rows of an inline projection are built up to the head, and from then on every
//! append writes them.

use std::time::Duration;

use leftfold_core::runtime::projection::Place;
use leftfold_core::store::{Page, Position, Read};
use tokio::time::{Instant, sleep};

use super::{InlineView, apply_view, contained, enter};
use crate::connect::Connected;
use crate::store::error::{NotDone, PostgresStoreError};
use crate::store::read::pages;
use crate::store::shared::StoreShared;
use crate::store::tables;
use crate::target::place;
use crate::{PostgresError, Rows};

/// Time for which a projection that another process builds is waited for.
const BUILT_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Time within which one page of events is applied.
const APPLY_WITHIN: Duration = Duration::from_secs(60);
/// A process that stands still between two pages lets another one build.
const END_IF_STILL: &str = "SET idle_session_timeout = '2min'";

/// Registers every inline projection of the options that is not registered yet.
pub(in crate::store) async fn all(shared: &StoreShared) -> Result<(), PostgresStoreError> {
    for view in shared.options.inline.views() {
        let began = Instant::now();
        loop {
            if is_registered(shared, &**view).await? {
                break;
            }
            match build(shared, &**view).await {
                // Another process builds it.
                Err(PostgresStoreError::Connection(PostgresError::InUse { .. }))
                    if began.elapsed() < BUILT_WITHIN =>
                {
                    sleep(LOOK_AGAIN).await;
                }
                built => built?,
            }
        }
    }
    Ok(())
}

async fn is_registered(
    shared: &StoreShared,
    view: &dyn InlineView,
) -> Result<bool, PostgresStoreError> {
    let connected = shared.connector.connect().await?;
    let ask = format!(
        "SELECT EXISTS (SELECT FROM {}.inline_projections WHERE name = $1 AND version = $2)",
        &shared.schema
    );
    let row = connected.rows.query_one(&ask, &[&view.name(), &i64::from(view.version())]).await;
    Ok(row.map_err(PostgresError::refused(&shared.options.schema))?.get(0))
}

/// Builds the rows up to the head, the last of them behind its lock, and registers the projection
/// in the place of its former version.
async fn build(shared: &StoreShared, view: &dyn InlineView) -> Result<(), PostgresStoreError> {
    let mut connected = shared.connector.connect().await?;
    // What is given up half-way is undone.
    connected.busy = true;
    let place = Place { name: view.name(), version: view.version(), lane: 0 };
    connected
        .rows
        .batch_execute(END_IF_STILL)
        .await
        .map_err(PostgresError::refused(view.name()))?;
    place::take(&connected, &place).await?;
    let schema = place::schema(view.name(), view.version());
    place::make(&connected.rows, &schema).await?;
    place::make_serving(&connected.rows).await.map_err(PostgresError::refused(&schema))?;
    let mut at = begin(&mut connected, view).await?;
    loop {
        let page = page(shared, view, at).await?;
        if page.next.is_none() {
            break;
        }
        connected.rows.batch_execute("BEGIN").await.map_err(PostgresError::refused(&schema))?;
        take_in(&mut connected.rows, view, &page).await?;
        connected.rows.batch_execute("COMMIT").await.map_err(PostgresError::refused(&schema))?;
        at = page.through;
    }
    finish(shared, &mut connected, view, at).await?;
    connected.busy = false;
    Ok(())
}

/// Sets the tables up, unless they are there, and returns the position that the rows have.
async fn begin(
    connected: &mut Connected,
    view: &dyn InlineView,
) -> Result<Position, PostgresStoreError> {
    let schema = place::schema(view.name(), view.version());
    let refused = || PostgresError::refused(&schema);
    let rows = &mut connected.rows;
    rows.batch_execute("BEGIN").await.map_err(refused())?;
    enter(view, rows).await.map_err(NotDone::for_read)?;
    let count = "SELECT count(*), max(convert_from(value, 'UTF8')) FILTER (WHERE key = $1)
        FROM leftfold_notes";
    let row = rows.query_one(count, &[&PostgresError::INLINE_NOTE]).await.map_err(refused())?;
    let (notes, noted): (i64, Option<String>) = (row.get(0), row.get(1));
    let at = match noted.and_then(|noted| noted.parse().ok()) {
        Some(at) => Position(at),
        // Its notes are those of a projection that follows.
        None if notes > 0 => {
            return Err(PostgresStoreError::Inline {
                projection: view.name(),
                detail: format!(
                    "{schema} has the rows of a projection that follows; raise its VERSION, or discard them"
                ),
            });
        }
        None => {
            contained(|| view.set_up(rows)).await.map_err(|error| PostgresStoreError::Inline {
                projection: view.name(),
                detail: error.to_string(),
            })?;
            note(rows, Position::START).await.map_err(refused())?;
            Position::START
        }
    };
    rows.batch_execute("COMMIT").await.map_err(refused())?;
    Ok(at)
}

async fn note(rows: &Rows, at: Position) -> Result<u64, tokio_postgres::Error> {
    let value = at.0.to_string().into_bytes();
    rows.execute(place::KEEP_NOTE, &[&PostgresError::INLINE_NOTE, &value]).await
}

async fn page(
    shared: &StoreShared,
    view: &dyn InlineView,
    after: Position,
) -> Result<Page, PostgresStoreError> {
    let read = Read::matching(view.query().clone(), after.next()).page_of(1_000);
    Ok(pages::page(shared, &read).await?)
}

/// Applies a page in the open transaction.
async fn take_in(
    rows: &mut Rows,
    view: &dyn InlineView,
    page: &Page,
) -> Result<(), PostgresStoreError> {
    let events: Vec<_> = page.events.iter().collect();
    apply_view(view, rows, &events, APPLY_WITHIN).await?;
    let schema = place::schema(view.name(), view.version());
    note(rows, page.through).await.map_err(PostgresError::refused(schema))?;
    Ok(())
}

/// Applies what is left behind the lock of the head, and registers the projection.
async fn finish(
    shared: &StoreShared,
    connected: &mut Connected,
    view: &dyn InlineView,
    mut at: Position,
) -> Result<(), PostgresStoreError> {
    let store = &shared.schema;
    let refused = || PostgresError::refused(&shared.options.schema);
    // A process that stands still here lets others write after this time.
    let within = shared.options.transaction_within.as_millis();
    let lock = format!(
        "SET idle_in_transaction_session_timeout = {within}; SET statement_timeout = {};
        {}",
        2 * within,
        tables::behind_lock(&shared.options.schema)
    );
    connected.rows.batch_execute(&lock).await.map_err(refused())?;
    loop {
        let page = page(shared, view, at).await?;
        take_in(&mut connected.rows, view, &page).await?;
        at = page.through;
        if page.next.is_none() {
            break;
        }
    }
    let (name, version) = (view.name(), i64::from(view.version()));
    let register = format!(
        "INSERT INTO {store}.inline_projections (name, version) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version"
    );
    let rows = &connected.rows;
    rows.execute(&register, &[&name, &version]).await.map_err(refused())?;
    rows.execute(place::SERVE, &[&name, &version]).await.map_err(refused())?;
    let round = format!("UPDATE {store}.state SET inline_round = inline_round + 1; COMMIT");
    rows.batch_execute(&round).await.map_err(refused())?;
    Ok(())
}
