//! The connections of a key store, and the transactions on them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leftfold_core::runtime::projection::with_causes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::CallFailure;
use crate::connect::{Connected, DURABLE_COMMITS, PostgresConnector};
use crate::error::Trouble;
use crate::target::place::literal;
use crate::{PostgresError, Rows};

/// Time for an answer of the server, above the limit that the server itself has for a statement:
/// one that stands still keeps its connections and says nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);

/// The connections of a key store: each carries out one call at a time.
pub(super) struct KeyConnections {
    connector: PostgresConnector,
    /// Name of the lock that keys are drawn and destroyed under.
    lock: String,
    settings: String,
    turns: Semaphore,
    idle: Mutex<Vec<Connected>>,
}

/// Way in which a transaction holds the lock of the key store.
#[derive(Clone, Copy)]
pub(super) enum KeyLock {
    /// Beside others of its kind: keys and tokens are drawn, which unique constraints judge.
    Drawing,
    /// Alone: nothing is drawn while a key is destroyed or a token is released.
    Destroying,
}

/// A transaction under the lock of the key store. Dropped without a commit it is undone: its
/// connection is cut.
pub(super) struct KeyTransaction<'c> {
    connections: &'c KeyConnections,
    connected: Connected,
    _turn: SemaphorePermit<'c>,
}

impl KeyConnections {
    pub(super) fn new(
        connector: PostgresConnector,
        schema: &str,
        connections: usize,
        transaction_within: Duration,
    ) -> Self {
        let millis = transaction_within.as_millis();
        // A process that stands still in a transaction is ended, and lets others destroy.
        let settings = format!(
            "SET idle_in_transaction_session_timeout = {millis}; SET statement_timeout = '30s';
            SET jit = off; {DURABLE_COMMITS}"
        );
        let lock = format!("hashtextextended({}, 0)", literal(&format!("leftfold keys {schema}")));
        let turns = Semaphore::new(connections);
        Self { connector, lock, settings, turns, idle: Mutex::default() }
    }

    pub(super) async fn connect(&self) -> Result<Connected, PostgresError> {
        let connected = self.connector.connect().await?;
        let set = connected.rows.batch_execute(&self.settings).await;
        set.map_err(PostgresError::Unreachable)?;
        Ok(connected)
    }

    /// A connection, and if it was used before.
    async fn connection(&self) -> Result<(Connected, bool), CallFailure> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|connected| !connected.rows.is_closed());
            idle.pop()
        };
        match idle {
            Some(connected) => Ok((connected, true)),
            None => Ok((self.connect().await?, false)),
        }
    }

    pub(super) fn give_back(&self, mut connected: Connected) {
        connected.busy = false;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connected);
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, CallFailure> {
        self.turns.acquire().await.map_err(|_| CallFailure::NotDone("it was closed".to_owned()))
    }

    /// Reads by one statement. If a connection turns out to have ended while it was idle, it reads
    /// by another one.
    pub(super) async fn read(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, CallFailure> {
        let _turn = self.turn().await?;
        loop {
            let (mut connected, used) = self.connection().await?;
            connected.busy = true;
            match answered(query(&connected.rows, statement, values)).await? {
                Ok(rows) => {
                    self.give_back(connected);
                    return Ok(rows);
                }
                Err(error) if used && Trouble::of(&error) == Trouble::Broken => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins a transaction. What it reads is newer than the lock: each statement sees what was
    /// committed when it began.
    pub(super) async fn begin(&self, lock: KeyLock) -> Result<KeyTransaction<'_>, CallFailure> {
        let turn = self.turn().await?;
        let take = match lock {
            KeyLock::Drawing => "pg_advisory_xact_lock_shared",
            KeyLock::Destroying => "pg_advisory_xact_lock",
        };
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {take}({})", self.lock);
        loop {
            let (mut connected, used) = self.connection().await?;
            connected.busy = true;
            match answered(connected.rows.batch_execute(&begin)).await? {
                Ok(()) => return Ok(KeyTransaction { connections: self, connected, _turn: turn }),
                Err(error) if used && Trouble::of(&error) == Trouble::Broken => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs a statement that cannot be part of a transaction, and tells whether the server warned.
    pub(super) async fn run_alone(&self, statement: &str) -> Result<bool, CallFailure> {
        let _turn = self.turn().await?;
        let (mut connected, _) = self.connection().await?;
        connected.busy = true;
        connected.heard.take_warning();
        answered(connected.rows.batch_execute(statement)).await??;
        let warned = connected.heard.take_warning();
        self.give_back(connected);
        Ok(warned)
    }
}

impl fmt::Debug for KeyConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connector.fmt(f)
    }
}

impl KeyTransaction<'_> {
    pub(super) async fn query(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, CallFailure> {
        Ok(answered(query(&self.connected.rows, statement, values)).await??)
    }

    pub(super) async fn execute(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, CallFailure> {
        let rows = &self.connected.rows;
        let executed = async {
            let prepared = rows.prepare_cached(statement).await?;
            rows.execute(&prepared, values).await
        };
        Ok(answered(executed).await??)
    }

    /// Makes durable what was done. If the answer is lost, nobody knows whether it is.
    pub(super) async fn commit(self) -> Result<(), CallFailure> {
        let Self { connections, connected, .. } = self;
        connected.heard.take_warning();
        let committed = answered(connected.rows.batch_execute("COMMIT")).await;
        match committed.map_err(CallFailure::in_doubt)? {
            Ok(()) => {
                let warned = connected.heard.take_warning();
                connections.give_back(connected);
                if warned {
                    let detail = "the server stopped waiting for its standby".to_owned();
                    return Err(CallFailure::Unknown(detail));
                }
                Ok(())
            }
            Err(error) if Trouble::of(&error) == Trouble::Broken => {
                Err(CallFailure::Unknown(with_causes(&error).to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for an answer. Without one the connection is cut when it is dropped, and the server undoes
/// what was not committed.
async fn answered<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<Result<T, tokio_postgres::Error>, CallFailure> {
    tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(|_| {
        CallFailure::NotDone(format!("the server has not answered for {ANSWER_WITHIN:?}"))
    })
}

async fn query(
    rows: &Rows,
    statement: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let prepared = rows.prepare_cached(statement).await?;
    rows.query(&prepared, values).await
}
