//! Schemas of versions, and who has one.

use leftfold_core::runtime::projection::Place;
use tokio_postgres::Error;

use crate::connect::Connected;
use crate::{PostgresError, Rows};

/// Statement that limits the wait for a lock: a session that was dropped a moment ago may take that
/// long to be gone.
const PATIENCE: &str = "SET lock_timeout TO '1s'";
/// Two that make the same schema at the same time would fail, `IF NOT EXISTS` or not.
const MAKING: &str = "SELECT pg_advisory_xact_lock(hashtextextended('leftfold making', 0))";
const TAKE: &str = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
const SHARE: &str = "SELECT pg_advisory_lock_shared(hashtextextended($1, 0))";
/// A key of 64 bits is shown in two halves.
const HOLDER: &str = "SELECT format('process %s of the server (%s, connected from %s since %s)', a.pid,
        nullif(a.application_name, ''), coalesce(a.client_addr::text, 'a local socket'), a.backend_start::timestamp(0))
    FROM pg_locks l JOIN pg_stat_activity a USING (pid), hashtextextended($1, 0) AS key
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND (l.classid::bigint << 32) | l.objid::bigint = key LIMIT 1";

/// Statement that keeps a note of a version.
pub(crate) const KEEP_NOTE: &str = "INSERT INTO leftfold_notes (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
/// Statement that lets readers see a version.
pub(crate) const SERVE: &str = "INSERT INTO leftfold.serving (name, version) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version";

/// The schema with the rows of a version.
pub(crate) fn schema(name: &str, version: u32) -> String {
    format!("{name}_v{version}")
}

/// An identifier in a statement.
pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text in a statement.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Takes a lane of a version, until the connection ends. The version itself is shared between its
/// lanes.
pub(crate) async fn take(connected: &Connected, place: &Place) -> Result<(), PostgresError> {
    let schema = schema(place.name, place.version);
    lock(&connected.rows, &schema, SHARE, &schema).await?;
    lock(&connected.rows, &schema, TAKE, &format!("{schema} lane {}", place.lane)).await
}

/// Takes a version with all its lanes, until the connection ends.
pub(crate) async fn take_all(connected: &Connected, schema: &str) -> Result<(), PostgresError> {
    lock(&connected.rows, schema, TAKE, schema).await
}

async fn lock(rows: &Rows, schema: &str, how: &str, key: &str) -> Result<(), PostgresError> {
    let key = format!("leftfold {key}");
    let refused = || PostgresError::refused(schema);
    rows.batch_execute(PATIENCE).await.map_err(refused())?;
    let locked = rows.query_one(how, &[&key]).await;
    rows.batch_execute("RESET lock_timeout").await.map_err(refused())?;
    match locked {
        Ok(_) => Ok(()),
        Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => {
            let holder = rows.query_opt(HOLDER, &[&key]).await.map_err(refused())?;
            let holder = holder.map_or_else(|| "another session".to_owned(), |row| row.get(0));
            Err(PostgresError::InUse { schema: schema.to_owned(), holder })
        }
        Err(error) => Err(refused()(error)),
    }
}

/// Creates the schema of a version, with a table for notes, if it is not there.
pub(crate) async fn make(rows: &Rows, schema: &str) -> Result<(), PostgresError> {
    let refused = || PostgresError::refused(schema);
    rows.batch_execute(&format!("BEGIN; {MAKING}")).await.map_err(refused())?;
    match state(rows, schema).await.map_err(refused())? {
        SchemaState::Ours => {}
        SchemaState::NotOurs => {
            rows.batch_execute("ROLLBACK").await.map_err(refused())?;
            return Err(PostgresError::NotOurs { schema: schema.to_owned() });
        }
        SchemaState::Absent => {
            let schema = quoted(schema);
            let make = format!(
                "CREATE SCHEMA {schema};
                CREATE TABLE {schema}.leftfold_notes (key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL)"
            );
            rows.batch_execute(&make).await.map_err(refused())?;
        }
    }
    rows.batch_execute("COMMIT").await.map_err(refused())
}

/// Creates the table of the versions that serve, if it is not there.
pub(crate) async fn make_serving(rows: &Rows) -> Result<(), Error> {
    rows.batch_execute(&format!(
        "BEGIN; {MAKING}; CREATE SCHEMA IF NOT EXISTS leftfold;
        CREATE TABLE IF NOT EXISTS leftfold.serving (name text PRIMARY KEY, version bigint NOT NULL); COMMIT"
    ))
    .await
}

pub(crate) enum SchemaState {
    Absent,
    Ours,
    /// There is a schema of this name without notes.
    NotOurs,
}

pub(crate) async fn state(rows: &Rows, schema: &str) -> Result<SchemaState, Error> {
    let state = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
        EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'leftfold_notes')";
    let row = rows.query_one(state, &[&schema]).await?;
    Ok(match (row.try_get(0)?, row.try_get(1)?) {
        (_, true) => SchemaState::Ours,
        (true, false) => SchemaState::NotOurs,
        (false, false) => SchemaState::Absent,
    })
}
