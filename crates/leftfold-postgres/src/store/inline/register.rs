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
use crate::target::place::{self, quoted};
use crate::target::session::noted;
use crate::{PostgresError, Rows};

/// Time within which another process that builds a projection has to come further: a page of
/// events, and reading the next one.
const FURTHER_WITHIN: Duration = Duration::from_secs(120);
/// Time between two messages of how far a build is.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Number of times that what is left is too much to be applied behind the lock of the head, before
/// that is given up.
const BEHIND_MAX: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Time within which one page of events is applied.
const APPLY_WITHIN: Duration = Duration::from_secs(60);
/// A process that stands still between two pages lets another one build.
const END_IF_STILL: &str = "SET idle_session_timeout = '2min'";
/// Ends the limits that hold behind the lock of the head.
const UNLIMITED: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '60s'";

/// Registers every inline projection of the options that is not registered yet. Of several
/// processes that open the store one builds its rows, and the others wait for it as long as it
/// comes further.
pub(in crate::store) async fn all(shared: &StoreShared) -> Result<(), PostgresStoreError> {
    for view in shared.options.inline.views() {
        let mut progress = BuildProgress::new(&**view);
        let mut further_at = Instant::now();
        while !is_registered(shared, &**view).await? {
            match build(shared, &**view).await {
                Err(PostgresStoreError::Connection(in_use @ PostgresError::InUse { .. })) => {
                    let at = built_through(shared, &**view).await?;
                    if progress.reached(at, shared.shown().1.position) {
                        further_at = Instant::now();
                    } else if further_at.elapsed() > FURTHER_WITHIN {
                        return Err(in_use.into());
                    }
                    sleep(LOOK_AGAIN).await;
                }
                built => built?,
            }
        }
    }
    Ok(())
}

/// Takes a projection away: appends write it no more. Its rows stay as they are. Returns true if it
/// was registered.
pub(in crate::store) async fn remove(
    connected: &Connected,
    schema: &str,
    name: &str,
) -> Result<bool, PostgresStoreError> {
    let refused = || PostgresError::refused(schema);
    let (rows, store) = (&connected.rows, quoted(schema));
    rows.batch_execute(&tables::behind_lock(schema)).await.map_err(refused())?;
    note_end(rows, &store, name).await.map_err(refused())?;
    let remove = format!("DELETE FROM {store}.inline_projections WHERE name = $1");
    let removed = rows.execute(&remove, &[&name]).await.map_err(refused())?;
    commit_change(rows, &store).await.map_err(refused())?;
    Ok(removed > 0)
}

/// Commits another registration: every process looks at what is registered before its next append.
async fn commit_change(rows: &Rows, store: &str) -> Result<(), tokio_postgres::Error> {
    let commit = format!("UPDATE {store}.state SET inline_round = inline_round + 1; COMMIT");
    rows.batch_execute(&commit).await
}

/// Notes, behind the lock of the head, that the rows of the version that appends write have all of
/// the history so far: they may be gone on with later.
async fn note_end(rows: &Rows, store: &str, name: &str) -> Result<(), tokio_postgres::Error> {
    let ask = format!(
        "SELECT i.version, h.position FROM {store}.inline_projections i, {store}.head h
        WHERE i.name = $1"
    );
    let Some(row) = rows.query_opt(&ask, &[&name]).await? else { return Ok(()) };
    let (version, end): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let notes = u32::try_from(version).map(|version| place::schema(name, version));
    let notes = format!("{}.leftfold_notes", quoted(&notes.unwrap_or_default()));
    let is_there = "SELECT to_regclass($1) IS NOT NULL";
    if rows.query_one(is_there, &[&notes]).await?.try_get(0)? {
        let note = format!("UPDATE {notes} SET value = $1 WHERE key = $2");
        rows.execute(&note, &[&end.to_string().into_bytes(), &PostgresError::INLINE_NOTE]).await?;
    }
    Ok(())
}

/// Progress of a build, here or in another process, of which people are told now and then.
struct BuildProgress {
    projection: &'static str,
    at: Option<Position>,
    told_at: Instant,
}

impl BuildProgress {
    fn new(view: &dyn InlineView) -> Self {
        Self { projection: view.name(), at: None, told_at: Instant::now() }
    }

    /// Tells whether it is further than before.
    fn reached(&mut self, at: Option<Position>, end: Position) -> bool {
        let is_further = at > self.at;
        self.at = at.max(self.at);
        if let (true, Some(at)) = (self.told_at.elapsed() >= TOLD_EVERY, at) {
            self.told_at = Instant::now();
            let (projection, at, end) = (self.projection, at.0, end.0);
            tracing::info!(projection, at, end, "the rows of an inline projection are being built");
        }
        is_further
    }
}

/// Returns the position through which a process that builds a projection has its rows; `None` if no
/// one has begun.
async fn built_through(
    shared: &StoreShared,
    view: &dyn InlineView,
) -> Result<Option<Position>, PostgresStoreError> {
    let schema = place::schema(view.name(), view.version());
    let connected = shared.connector.connect().await?;
    let notes = noted(&connected.rows, &schema, &[PostgresError::INLINE_NOTE]).await;
    let notes = notes.map_err(PostgresError::refused(&schema))?;
    let text = notes.first().and_then(|(_, value)| std::str::from_utf8(value).ok());
    Ok(text.and_then(|text| text.parse().ok()).map(Position))
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
    let mut progress = BuildProgress::new(view);
    for _ in 0..BEHIND_MAX {
        loop {
            let page = page(shared, view, at).await?;
            connected.rows.batch_execute("BEGIN").await.map_err(PostgresError::refused(&schema))?;
            take_in(&mut connected.rows, view, &page, APPLY_WITHIN).await?;
            connected
                .rows
                .batch_execute("COMMIT")
                .await
                .map_err(PostgresError::refused(&schema))?;
            at = page.through;
            progress.reached(Some(at), shared.shown().1.position);
            if page.next.is_none() {
                break;
            }
        }
        match finish(shared, &mut connected, view, at).await? {
            BuildEnd::Registered => {
                connected.busy = false;
                return Ok(());
            }
            BuildEnd::Behind(through) => at = through,
        }
    }
    let detail = format!(
        "{BEHIND_MAX} times more was appended than it can apply while appends wait for it; make it cheaper, or open the store when less is appended"
    );
    Err(PostgresStoreError::Inline { projection: view.name(), detail })
}

/// State of the rows when the lock of the head was given back.
enum BuildEnd {
    Registered,
    /// They have the events through this position, and there are more.
    Behind(Position),
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
    within: Duration,
) -> Result<(), PostgresStoreError> {
    let events: Vec<_> = page.events.iter().collect();
    apply_view(view, rows, &events, within).await?;
    let schema = place::schema(view.name(), view.version());
    note(rows, page.through).await.map_err(PostgresError::refused(schema))?;
    Ok(())
}

/// Applies what is left behind the lock of the head, and registers the projection. If that takes
/// longer than half of what a transaction may take, others write first.
async fn finish(
    shared: &StoreShared,
    connected: &mut Connected,
    view: &dyn InlineView,
    at: Position,
) -> Result<BuildEnd, PostgresStoreError> {
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
    let until = Instant::now() + shared.options.transaction_within / 2;
    let (before, mut at) = (at, at);
    loop {
        let page = page(shared, view, at).await?;
        let within = until.saturating_duration_since(Instant::now());
        let taken = take_in(&mut connected.rows, view, &page, within).await;
        let is_late = Instant::now() >= until;
        match taken {
            Ok(()) => at = page.through,
            Err(_) if is_late => {
                connected
                    .rows
                    .batch_execute(&format!("ROLLBACK; {UNLIMITED}"))
                    .await
                    .map_err(refused())?;
                return Ok(BuildEnd::Behind(before));
            }
            Err(error) => return Err(error),
        }
        if page.next.is_none() {
            break;
        }
        if is_late {
            connected
                .rows
                .batch_execute(&format!("COMMIT; {UNLIMITED}"))
                .await
                .map_err(refused())?;
            return Ok(BuildEnd::Behind(at));
        }
    }
    let (name, version) = (view.name(), i64::from(view.version()));
    let register = format!(
        "INSERT INTO {store}.inline_projections (name, version) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version"
    );
    let rows = &connected.rows;
    note_end(rows, store, name).await.map_err(refused())?;
    rows.execute(&register, &[&name, &version]).await.map_err(refused())?;
    rows.execute(place::SERVE, &[&name, &version]).await.map_err(refused())?;
    commit_change(rows, store).await.map_err(refused())?;
    Ok(BuildEnd::Registered)
}
