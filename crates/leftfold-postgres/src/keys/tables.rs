//! The tables of a key store: created, and brought to the newest format, under a lock.

use leftfold_core::personal::Secret;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::error::PostgresKeysError;
use crate::Rows;
use crate::target::place::quoted;

/// The steps from one format to the next; the first creates the tables.
const STEPS: [&str; 1] = [include_str!("v1.sql")];
/// The format that the last step leads to.
const FORMAT: i64 = STEPS.len() as i64;

/// A key store as it was found, or created.
pub(super) struct FoundKeys {
    pub(super) id: Uuid,
    pub(super) lookup: Secret,
    pub(super) is_empty: bool,
}

/// Finds the key store, creates it if there is none, and brings it to the newest format.
pub(super) async fn open(rows: &Rows, schema: &str) -> Result<FoundKeys, PostgresKeysError> {
    let ask = "SELECT current_setting('server_encoding')";
    let row = rows.query_one(ask, &[]).await.map_err(PostgresKeysError::of(schema))?;
    let encoding: String = row.get(0);
    if encoding != "UTF8" {
        return Err(PostgresKeysError::Encoding { encoding });
    }
    if format(rows, schema).await? != Some(FORMAT) {
        rows.batch_execute("BEGIN").await.map_err(PostgresKeysError::of(schema))?;
        let migrated = migrate(rows, schema).await;
        // After an error this undoes the steps.
        let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = rows.batch_execute(end).await.map_err(PostgresKeysError::of(schema));
        migrated?;
        ended?;
    }
    find(rows, schema).await
}

/// Returns the format of the key store in a schema; `None` if there is none.
async fn format(rows: &Rows, schema: &str) -> Result<Option<i64>, PostgresKeysError> {
    let of = || PostgresKeysError::of(schema);
    let ask =
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'key_store'),
        EXISTS (SELECT FROM pg_tables WHERE schemaname = $1)";
    let row = rows.query_one(ask, &[&schema]).await.map_err(of())?;
    match (row.get(0), row.get(1)) {
        (false, true) => Err(PostgresKeysError::NotKeys { schema: schema.to_owned() }),
        (false, false) => Ok(None),
        (true, _) => {
            let ask = format!("SELECT format FROM {}.key_store", quoted(schema));
            match rows.query_opt(&ask, &[]).await {
                Ok(Some(row)) => Ok(Some(row.get(0))),
                Ok(None) => Err(damaged(schema, "it has lost its identity")),
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                    Err(PostgresKeysError::NotKeys { schema: schema.to_owned() })
                }
                Err(error) => Err(of()(error)),
            }
        }
    }
}

/// Makes the steps that are missing. Of several processes that start at once one makes them, and
/// the others wait for it.
async fn migrate(rows: &Rows, schema: &str) -> Result<(), PostgresKeysError> {
    let of = || PostgresKeysError::of(schema);
    let lock =
        "SELECT pg_advisory_xact_lock(hashtextextended('leftfold tables of keys ' || $1, 0))";
    rows.query_one(lock, &[&schema]).await.map_err(creating(schema))?;
    let found = format(rows, schema).await?;
    match found {
        Some(found) if found > FORMAT => {
            let schema = schema.to_owned();
            return Err(PostgresKeysError::NewerFormat { schema, found, known: FORMAT });
        }
        Some(_) => {}
        None => {
            let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
            let row = rows.query_one(exists, &[&schema]).await.map_err(of())?;
            if !row.get::<_, bool>(0) {
                let create = format!("CREATE SCHEMA {}", quoted(schema));
                rows.batch_execute(&create).await.map_err(creating(schema))?;
            }
        }
    }
    let done = usize::try_from(found.unwrap_or(0)).unwrap_or(0);
    for step in STEPS.iter().skip(done) {
        let step = step.replace("{schema}", &quoted(schema));
        rows.batch_execute(&step).await.map_err(creating(schema))?;
    }
    if found.is_none() {
        let identity = format!(
            "INSERT INTO {}.key_store (format, id, lookup) VALUES (0, $1, $2)",
            quoted(schema)
        );
        let lookup = Secret::random()?;
        rows.execute(&identity, &[&Uuid::new_v4(), &lookup.0.as_slice()]).await.map_err(of())?;
    }
    let set = format!("UPDATE {}.key_store SET format = $1", quoted(schema));
    rows.execute(&set, &[&FORMAT]).await.map_err(of())?;
    Ok(())
}

/// Reads the identity of the key store.
async fn find(rows: &Rows, schema: &str) -> Result<FoundKeys, PostgresKeysError> {
    let quoted = quoted(schema);
    let ask = format!(
        "SELECT id, lookup, NOT EXISTS (SELECT FROM {quoted}.keys)
            AND NOT EXISTS (SELECT FROM {quoted}.destroyed) FROM {quoted}.key_store"
    );
    let row = rows.query_one(&ask, &[]).await.map_err(PostgresKeysError::of(schema))?;
    let lookup = <[u8; 32]>::try_from(row.get::<_, &[u8]>(1))
        .map_err(|_| damaged(schema, "its secret for lookups has not 32 bytes"))?;
    Ok(FoundKeys { id: row.get(0), lookup: Secret(lookup), is_empty: row.get(2) })
}

fn damaged(schema: &str, detail: &str) -> PostgresKeysError {
    PostgresKeysError::Damaged { schema: schema.to_owned(), detail: detail.to_owned() }
}

/// An error of creating something, which a standby and a role without the right refuse.
fn creating(schema: &str) -> impl FnOnce(tokio_postgres::Error) -> PostgresKeysError {
    let schema = schema.to_owned();
    move |source| match source.as_db_error() {
        Some(said)
            if [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::INSUFFICIENT_PRIVILEGE]
                .contains(said.code()) =>
        {
            PostgresKeysError::Absent { schema, detail: said.message().to_owned() }
        }
        _ => PostgresKeysError::of(&schema)(source),
    }
}
