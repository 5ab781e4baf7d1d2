//! Single things: the record of a request, a checkpoint, positions, hashes and snapshots.

use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Checkpoint, CommandId, EventId, Fence, Hash, HeldLease, Holder, Label, Partition,
    Position, ReadError, StoreId, Tenure, Timestamp,
};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::connect::Connected;
use crate::store::error::NotDone;
use crate::store::rows::{self, APPEND};
use crate::store::shared::StoreShared;
use crate::store::text::{original, stored};
use crate::store::values::{DatabaseTime, at_most_signed, unsigned};

/// Reads the rows of one statement; `{schema}` in it is the store's.
pub(super) async fn query(
    shared: &StoreShared,
    text: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, ReadError> {
    let text = text.replace("{schema}", &shared.schema);
    let text = &text;
    let ask = |by: Arc<Connected>| async move {
        let statement = by.rows.prepare_cached(text).await?;
        Ok(by.rows.query(&statement, parameters).await?)
    };
    shared.readers.read(ask).await
}

pub(in crate::store) async fn answered(
    shared: &StoreShared,
    id: CommandId,
) -> Result<Option<Answered>, ReadError> {
    let ask = format!("SELECT {APPEND} FROM {{schema}}.appends a WHERE a.command = $1");
    let found = query(shared, &ask, &[&Uuid::from_bytes(id.0)]).await?;
    Ok(found.first().map(|row| rows::append(row, 0)).transpose()?.and_then(|row| row.command))
}

pub(in crate::store) async fn checkpoint(
    shared: &StoreShared,
    consumer: Label,
    source: StoreId,
    partition: Partition,
) -> Result<Option<Checkpoint>, ReadError> {
    let ask = "SELECT m.checkpoint, m.checkpoint_hash FROM {schema}.last_move($1, $2, $3) m";
    let name = partition.0.as_deref().map(stored).unwrap_or_default();
    let found = query(shared, ask, &[&stored(&consumer), &source.0, &name]).await?;
    found.first().map(|row| rows::checkpoint(row, source, partition)).transpose()
}

pub(in crate::store) async fn position_at(
    shared: &StoreShared,
    moment: Timestamp,
) -> Result<Position, ReadError> {
    let found = query(shared, "SELECT {schema}.position_at($1)", &[&DatabaseTime(moment)]).await?;
    Ok(Position(unsigned(number(&found)?.unwrap_or(0))))
}

pub(in crate::store) async fn hash_at(
    shared: &StoreShared,
    position: Position,
) -> Result<Option<Hash>, ReadError> {
    if position == Position::START {
        return Ok(Some(Hash::EMPTY));
    }
    let ask = format!(
        "SELECT {APPEND} FROM {{schema}}.events e JOIN {{schema}}.appends a ON a.append = e.append
        WHERE e.position = $1"
    );
    let found = query(shared, &ask, &[&at_most_signed(position.0)]).await?;
    Ok(found.first().map(|row| rows::append(row, 0)).transpose()?.map(|append| append.hash))
}

/// Reads the hash of the append with a number; that of the beginning is the empty one.
pub(super) async fn hash_of_append(shared: &StoreShared, number: u64) -> Result<Hash, ReadError> {
    if number == 0 {
        return Ok(Hash::EMPTY);
    }
    let ask = format!("SELECT {APPEND} FROM {{schema}}.appends a WHERE a.append = $1");
    let found = query(shared, &ask, &[&at_most_signed(number)]).await?;
    let found = found.first().map(|row| rows::append(row, 0)).transpose()?;
    found.map(|append| append.hash).ok_or_else(|| ReadError::Damaged {
        place: format!("table appends, append {number}"),
        detail: "it is not there".to_owned(),
    })
}

pub(in crate::store) async fn positions_of(
    shared: &StoreShared,
    id: EventId,
    at_most: u32,
) -> Result<Vec<Position>, ReadError> {
    let ask = "SELECT position FROM {schema}.events WHERE id = $1 AND NOT id_is_minted
        ORDER BY position LIMIT $2";
    let found = query(shared, ask, &[&id.0, &i64::from(at_most)]).await?;
    found.iter().map(|row| Ok(Position(unsigned(row.try_get(0).map_err(misread)?)))).collect()
}

/// Sees that no event stands behind the last append.
pub(in crate::store) async fn verify_end(shared: &StoreShared, last: u64) -> Result<(), ReadError> {
    let ask = "SELECT min(e.position) FROM {schema}.events e
        WHERE e.position > greatest($1, (SELECT h.position FROM {schema}.head h))";
    match number(&query(shared, ask, &[&at_most_signed(last)]).await?)? {
        None => Ok(()),
        Some(position) => Err(ReadError::Damaged {
            place: "table appends".to_owned(),
            detail: format!("the append of the event at {position} is missing"),
        }),
    }
}

/// Reads the clock of the database, by which appends are recorded, if it is believed.
pub(in crate::store) async fn now(shared: &StoreShared) -> Result<Timestamp, ReadError> {
    let found = query(shared, "SELECT clock_timestamp()", &[]).await?;
    let now = found.first().map(|row| row.try_get::<_, DatabaseTime>(0)).transpose();
    // A SELECT without FROM has one row.
    let DatabaseTime(now) = now.map_err(misread)?.ok_or(ReadError::Closed)?;
    match shared.clock.look(now) {
        Some(detail) => Err(ReadError::Io { detail }),
        None => Ok(now),
    }
}

/// Lists the leases that are held now, by the clock of the database, if it is believed.
pub(in crate::store) async fn leases(shared: &StoreShared) -> Result<Vec<HeldLease>, ReadError> {
    let ask = "SELECT n.now, l.work, l.holder, l.fence, l.until, l.note
        FROM (SELECT clock_timestamp() AS now) n LEFT JOIN {schema}.leases l
            ON l.holder IS NOT NULL AND l.until > n.now
        ORDER BY l.work";
    let found = query(shared, ask, &[]).await?;
    let now = found.first().map(|row| row.try_get::<_, DatabaseTime>(0)).transpose();
    let DatabaseTime(now) = now.map_err(misread)?.ok_or(ReadError::Closed)?;
    if let Some(detail) = shared.clock.look(now) {
        return Err(ReadError::Io { detail });
    }
    let held: Result<Vec<_>, _> = found.iter().map(|row| held_lease(row, now)).collect();
    Ok(held?.into_iter().flatten().collect())
}

/// Reads a lease behind the time; `None` if none is held.
fn held_lease(row: &Row, now: Timestamp) -> Result<Option<HeldLease>, ReadError> {
    let Some(work) = row.try_get::<_, Option<String>>(1).map_err(misread)? else { return Ok(None) };
    let tenure = Tenure {
        holder: Some(Holder(row.try_get(2).map_err(misread)?)),
        fence: Fence(unsigned(row.try_get(3).map_err(misread)?)),
        until: row.try_get::<_, DatabaseTime>(4).map_err(misread)?.0,
        note: Bytes::copy_from_slice(row.try_get(5).map_err(misread)?),
    };
    let Some(holder) = tenure.holder_at(now) else { return Ok(None) };
    let Tenure { fence, until, note, .. } = tenure;
    Ok(Some(HeldLease { work: Label::new(original(work))?, holder, fence, until, note }))
}

pub(in crate::store) async fn snapshot(
    shared: &StoreShared,
    key: Bytes,
) -> Result<Option<Bytes>, ReadError> {
    let text = format!("SELECT value FROM {}.snapshots WHERE key = $1", &shared.schema);
    let (text, key) = (&text, &digest(&key));
    let ask = |by: Arc<Connected>| async move {
        let found = match by.rows.prepare_cached(text).await {
            Ok(statement) => by.rows.query_opt(&statement, &[key]).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(row) => {
                let value = row.as_ref().map(|row| row.try_get::<_, &[u8]>(0)).transpose()?;
                Ok(value.map(Bytes::copy_from_slice))
            }
            // A standby has no unlogged tables.
            Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => Ok(None),
            Err(error) => Err(NotDone::from(error)),
        }
    };
    shared.readers.read(ask).await
}

/// Keeps a snapshot; if that fails it is not kept.
pub(in crate::store) async fn keep_snapshot(shared: &StoreShared, key: Bytes, value: Bytes) {
    let text = format!(
        "INSERT INTO {}.snapshots (key, value) VALUES ($1, $2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        &shared.schema
    );
    let (text, key, value) = (&text, &digest(&key), &*value);
    let ask = |by: Arc<Connected>| async move {
        let client = &by.rows;
        // The connections that read write nothing else.
        client.batch_execute("BEGIN READ WRITE; SET LOCAL synchronous_commit = off").await?;
        let kept = match client.prepare_cached(text).await {
            Ok(statement) => client.execute(&statement, &[key, &value]).await,
            Err(error) => Err(error),
        };
        client.batch_execute(if kept.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        kept.map(drop).map_err(NotDone::from)
    };
    if let Err(error) = shared.readers.read(ask).await {
        tracing::debug!(%error, "a snapshot was not kept");
    }
}

/// The key of a snapshot in its table: of any length, which an index does not take.
fn digest(key: &[u8]) -> Vec<u8> {
    Sha256::digest(key).to_vec()
}

pub(super) fn number(found: &[Row]) -> Result<Option<i64>, ReadError> {
    let number = found.first().map(|row| row.try_get(0).map_err(misread)).transpose()?;
    Ok(number.flatten())
}

pub(super) fn misread(error: tokio_postgres::Error) -> ReadError {
    NotDone::from(error).for_read()
}
