//! The tables of a key store: created, and brought to the newest format, under a lock.

use leftfold_core::personal::Secret;
use uuid::Uuid;

use super::error::PostgresKeysError;
use crate::Rows;
use crate::schema::{SchemaFault, VersionedSchema};
use crate::target::place::quoted;

/// The steps from one format to the next; the first creates the tables.
const STEPS: [&str; 1] = [include_str!("v1.sql")];

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
    let versioned = VersionedSchema {
        name: schema,
        home: "key_store",
        lock: "leftfold tables of keys",
        locked_by_writers: None,
        steps: &STEPS,
    };
    versioned.bring_up(rows, begin(rows, schema), |fault| faulty(schema, fault)).await?;
    find(rows, schema).await
}

fn faulty(schema: &str, fault: SchemaFault) -> PostgresKeysError {
    let named = || schema.to_owned();
    match fault {
        SchemaFault::Refused(error) => PostgresKeysError::of(schema)(error),
        SchemaFault::Foreign => PostgresKeysError::NotKeys { schema: named() },
        SchemaFault::NoFormat => damaged(schema, "it has lost its identity"),
        SchemaFault::Absent(detail) => PostgresKeysError::Absent { schema: named(), detail },
        SchemaFault::Newer { found, known } => {
            PostgresKeysError::NewerFormat { schema: named(), found, known }
        }
    }
}

/// Draws the identity of a new key store.
async fn begin(rows: &Rows, schema: &str) -> Result<(), PostgresKeysError> {
    let identity =
        format!("INSERT INTO {}.key_store (format, id, lookup) VALUES (0, $1, $2)", quoted(schema));
    let lookup = Secret::random()?;
    let written = rows.execute(&identity, &[&Uuid::new_v4(), &lookup.0.as_slice()]).await;
    written.map(drop).map_err(PostgresKeysError::of(schema))
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
