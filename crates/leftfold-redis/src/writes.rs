//! Writing of rows for the code of users.

use std::collections::HashMap;

use leftfold_core::store::Position;
use redis::aio::MultiplexedConnection;

use crate::RedisError;
use crate::keys::RedisKeys;

const KEY_BYTES_MAX: usize = 1_024;
const VALUE_BYTES_MAX: usize = 16 << 20;
const TRANSACTION_BYTES_MAX: usize = 256 << 20;

/// Rows that are put and removed, and are written when the batch is committed.
#[derive(Debug)]
pub struct Writes {
    connection: MultiplexedConnection,
    keys: RedisKeys,
    /// Of the event that is applied.
    position: Position,
    rows: HashMap<String, Write>,
    bytes: usize,
}

/// The last write of a row.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) position: Position,
    /// Value of the row; `None` if the row is removed.
    pub(crate) value: Option<Vec<u8>>,
}

impl Writes {
    pub(crate) fn new(connection: MultiplexedConnection, keys: RedisKeys) -> Self {
        Self { connection, keys, position: Position::default(), rows: HashMap::new(), bytes: 0 }
    }

    /// Makes the row under a key this value, whether there is one or not, unless a later event
    /// wrote or removed it.
    ///
    /// ```no_run
    /// use leftfold_redis::{RedisError, Writes};
    ///
    /// fn rename(rows: &mut Writes, from: &str, to: &str, name: &str) -> Result<(), RedisError> {
    ///     rows.remove(from)?;
    ///     rows.put(to, name)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`RedisError::Key`] beyond 1 to 1,024 bytes, [`RedisError::TooLarge`] for a value over 16
    /// MiB, or when all rows of a batch come to more than 256 MiB.
    pub fn put(
        &mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), RedisError> {
        self.write(key.into(), Some(value.into()))
    }

    /// Removes the row under a key, whether there is one or not, unless a later event wrote it.
    ///
    /// # Errors
    /// As those of [`put`](Writes::put).
    pub fn remove(&mut self, key: impl Into<String>) -> Result<(), RedisError> {
        self.write(key.into(), None)
    }

    /// Returns the row under a key, with what was put and removed before; `None` if there is none.
    ///
    /// # Errors
    /// [`RedisError::Refused`] if the server cannot be reached, or refuses.
    pub async fn read(&mut self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        if let Some(write) = self.rows.get(key) {
            return Ok(write.value.clone());
        }
        let row = format!("{}{key}", self.keys.rows);
        redis::cmd("GET")
            .arg(row)
            .query_async(&mut self.connection)
            .await
            .map_err(RedisError::Refused)
    }

    pub(crate) fn at(&mut self, position: Position) {
        self.position = position;
    }

    pub(crate) fn rows(&self) -> &HashMap<String, Write> {
        &self.rows
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
        self.position = Position::default();
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), RedisError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(RedisError::Key { bytes: key.len(), most: KEY_BYTES_MAX });
        }
        let bytes = value.as_ref().map_or(0, Vec::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(RedisError::TooLarge { what: "a value", bytes, most: VALUE_BYTES_MAX });
        }
        // Values that are replaced count too: it is a limit, not a sum.
        let all = self.bytes + key.len() + bytes;
        if all > TRANSACTION_BYTES_MAX {
            return Err(RedisError::TooLarge {
                what: "a transaction",
                bytes: all,
                most: TRANSACTION_BYTES_MAX,
            });
        }
        self.bytes = all;
        self.rows.insert(key, Write { position: self.position, value });
        Ok(())
    }
}
