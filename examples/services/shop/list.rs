//! The list of orders, in SQLite. Version 2 also says what each order costs; version 1 serves until
//! it is built.

use leftfold::prelude::*;
use leftfold::sqlite::rusqlite::{Connection, Error, Row, params};
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use serde::Serialize;

use crate::order::OrderEvent;

// ANCHOR: versions
pub(crate) struct OrderList<const V: u32>;

impl<const V: u32> Projection<Sqlite> for OrderList<V> {
    const NAME: &'static str = "orders";
    const VERSION: u32 = V;
    type Event = OrderEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        let cents = if V >= 2 { "cents INTEGER NOT NULL," } else { "" };
        Ok(rows.execute_batch(&format!(
            "CREATE TABLE placed (
                position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, customer TEXT NOT NULL,
                product TEXT NOT NULL, pieces INTEGER NOT NULL, {cents} state TEXT NOT NULL);
             CREATE INDEX placed_by ON placed (customer, position)"
        ))?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        let (position, id) = (event.position().0, event.stream_id());
        match (&event.event, event.event.leads_to()) {
            (OrderEvent::Placed { customer, product, pieces, .. }, _) if V == 1 => {
                let mut insert =
                    rows.prepare_cached("INSERT INTO placed VALUES (?1, ?2, ?3, ?4, ?5, 'open')")?;
                insert.execute(params![position, id, customer, product, pieces])?;
            }
            (OrderEvent::Placed { customer, product, pieces, cents }, _) => {
                let mut insert = rows
                    .prepare_cached("INSERT INTO placed VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open')")?;
                insert.execute(params![position, id, customer, product, pieces, cents])?;
            }
            (_, Some(state)) => {
                let mut update =
                    rows.prepare_cached("UPDATE placed SET state = ?2 WHERE id = ?1")?;
                update.execute([id, &state.to_string()])?;
            }
            (_, None) => {}
        }
        Ok(())
    }
}
// ANCHOR_END: versions

/// An order as the list shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Listed {
    pub(crate) position: u64,
    pub(crate) order: String,
    pub(crate) product: String,
    pub(crate) pieces: u32,
    pub(crate) state: String,
    /// `None` from version 1, which does not know it.
    pub(crate) cents: Option<u64>,
}

/// The orders of a customer that were placed after a position, from whichever version serves.
pub(crate) fn page(
    list: &Reader,
    customer: &str,
    after: Position,
    at_most: u32,
) -> Result<Vec<Listed>, SqliteError> {
    let listed = |row: &Row<'_>| {
        Ok(Listed {
            position: row.get("position")?,
            order: row.get("id")?,
            product: row.get("product")?,
            pieces: row.get("pieces")?,
            state: row.get("state")?,
            cents: match row.get("cents") {
                // Version 1 has no such column.
                Err(Error::InvalidColumnName(_)) => None,
                cents => Some(cents?),
            },
        })
    };
    // SQLite counts no further, and no log is so long.
    let after = after.0.min(i64::MAX as u64);
    list.read(|rows| {
        let select =
            "SELECT * FROM placed WHERE customer = ?1 AND position > ?2 ORDER BY position LIMIT ?3";
        rows.prepare_cached(select)?.query_map(params![customer, after, at_most], listed)?.collect()
    })
}
