//! The connections that read: a few, each used by one request at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use leftfold_core::store::ReadError;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connect::{Connected, PostgresConnector};
use crate::store::error::NotDone;

/// Settings of a connection that reads. Statistics of a young or growing table are wrong, and each
/// statement has an index to be answered from in order: so no plan reads a whole table or sorts it,
/// and one plan of a statement serves for all values.
pub(super) const SETTINGS: &str =
    "SET default_transaction_read_only = on; SET statement_timeout = '30s';
    SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
    SET plan_cache_mode = force_generic_plan";

/// Time for the statements of a read, beyond the limit of each: a server that stands still keeps
/// none.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// The connections that read.
#[derive(Debug)]
pub(in crate::store) struct ReaderPool {
    connector: Arc<PostgresConnector>,
    turns: Semaphore,
    idle: Mutex<Vec<Arc<Connected>>>,
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    /// Reason why nothing is read any more.
    ended: OnceLock<String>,
}

/// The bytes of a request that waits.
pub(in crate::store) struct WaitingBytes<'p>(&'p ReaderPool, usize);

impl ReaderPool {
    pub(in crate::store) fn new(
        connector: Arc<PostgresConnector>,
        connections: usize,
        bytes_max: usize,
    ) -> Self {
        Self {
            connector,
            turns: Semaphore::new(connections),
            idle: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            bytes_max,
            ended: OnceLock::new(),
        }
    }

    /// Counts a request that is to be carried out, unless too much waits.
    pub(in crate::store) fn count(&self, bytes: usize) -> Result<WaitingBytes<'_>, ReadError> {
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let counted = WaitingBytes(self, bytes);
        if waiting >= self.bytes_max { Err(ReadError::Busy { waiting }) } else { Ok(counted) }
    }

    /// A connection that was used before, if there is one and it is wanted, or else a new one.
    async fn connection(&self, used: bool) -> Result<Arc<Connected>, NotDone> {
        if used && let Some(connected) = self.take_idle() {
            return Ok(connected);
        }
        let connected = self.connector.connect().await?;
        connected.rows.batch_execute(SETTINGS).await?;
        Ok(Arc::new(connected))
    }

    fn take_idle(&self) -> Option<Arc<Connected>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connected| {
            !connected.rows.is_closed() && !self.connector.is_outdated(connected)
        });
        idle.pop()
    }

    fn give_back(&self, connected: Arc<Connected>) {
        if !connected.rows.is_closed() && !self.turns.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connected);
        }
    }

    /// Reads by a connection. If an idle one turns out to have ended, it reads once more by a new
    /// one.
    pub(in crate::store) async fn read<T, F: Future<Output = Result<T, NotDone>>>(
        &self,
        ask: impl Fn(Arc<Connected>) -> F,
    ) -> Result<T, ReadError> {
        let _turn = self.turns.acquire().await.map_err(|_| ReadError::Closed)?;
        let mut used = true;
        loop {
            self.check()?;
            let late = |_| ReadError::Io {
                detail: format!("the server did not answer within {ANSWER_WITHIN:?}"),
            };
            let connected = timeout(ANSWER_WITHIN, self.connection(used)).await.map_err(late)?;
            let connected = connected.map_err(NotDone::for_read)?;
            let found = timeout(ANSWER_WITHIN, ask(Arc::clone(&connected))).await.map_err(late)?;
            match found {
                Err(NotDone::Away(_)) if connected.rows.is_closed() && used => used = false,
                Err(why) => {
                    // A table may have changed under a plan.
                    connected.rows.forget_prepared();
                    self.give_back(connected);
                    return Err(why.for_read());
                }
                Ok(found) => {
                    self.give_back(connected);
                    self.check()?;
                    return Ok(found);
                }
            }
        }
    }

    /// Refuses every read from now on.
    pub(in crate::store) fn end(&self, detail: &str) {
        let _ = self.ended.set(detail.to_owned());
    }

    fn check(&self) -> Result<(), ReadError> {
        let ended = |detail: &String| Err(ReadError::Io { detail: detail.clone() });
        self.ended.get().map_or(Ok(()), ended)
    }

    /// Lets go of the connections.
    pub(in crate::store) fn close(&self) {
        self.turns.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for WaitingBytes<'_> {
    fn drop(&mut self) {
        self.0.waiting_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}
