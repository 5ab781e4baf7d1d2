//! Access to the rows for the code of users.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::{Client, Error, Statement};

/// Statements that are kept prepared; one more discards them all.
const STATEMENTS_MAX: usize = 256;

/// A [`Client`] with a transaction open, and statements that are kept prepared. It cannot begin a
/// transaction; a `SAVEPOINT` is a statement as any other.
#[derive(Debug)]
pub struct Rows {
    client: Client,
    prepared: Mutex<HashMap<String, Statement>>,
}

impl Rows {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, prepared: Mutex::default() }
    }

    /// Prepares a statement, or finds it prepared: without it each `execute` of a text asks the
    /// server twice. At most 256 different texts are kept, so values are parameters and no part of
    /// the text.
    ///
    /// ```no_run
    /// use leftfold_postgres::Rows;
    /// use leftfold_postgres::tokio_postgres::Error;
    ///
    /// async fn add(rows: &Rows, page: &str) -> Result<u64, Error> {
    ///     let statement = "UPDATE visits SET count = count + 1 WHERE page = $1";
    ///     rows.execute(&rows.prepare_cached(statement).await?, &[&page]).await
    /// }
    /// ```
    ///
    /// # Errors
    /// What the server says about the statement.
    pub async fn prepare_cached(&self, text: &str) -> Result<Statement, Error> {
        if let Some(kept) = self.prepared().get(text) {
            return Ok(kept.clone());
        }
        let statement = self.client.prepare(text).await?;
        let mut prepared = self.prepared();
        if prepared.len() == STATEMENTS_MAX {
            prepared.clear();
        }
        prepared.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// After an error none is trusted: a table may have changed under a plan.
    pub(crate) fn forget_prepared(&self) {
        self.prepared().clear();
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Rows {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
