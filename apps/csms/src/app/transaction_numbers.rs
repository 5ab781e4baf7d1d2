//! Hands out transaction ids from the block that this process has reserved.

use leftfold::prelude::{Aggregates, ExecuteError, Store};
use tokio::sync::Mutex;

use crate::domain::transaction_ids::{
    ALL, BLOCK, ReserveBlock, TransactionIds, TransactionIdsEvent, UsedUp,
};
use crate::ocpp::v16::{TransactionId, TransactionIdError};

/// Error of taking a transaction id.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNumber {
    /// They are used up, or the store failed.
    #[error("no transaction id could be reserved: {0}")]
    Reserve(#[from] ExecuteError<UsedUp>),
    /// The reserved number is not a valid transaction id.
    #[error(transparent)]
    Number(#[from] TransactionIdError),
}

/// Transaction ids that no other process uses. See
/// [`transaction_ids`](crate::domain::transaction_ids).
#[derive(Debug)]
pub(crate) struct TransactionNumbers {
    ids: Aggregates<TransactionIds>,
    /// The next number and the last number of the block; the block is used up if the first is
    /// greater.
    block: Mutex<(i64, i64)>,
}

impl TransactionNumbers {
    /// Creates it without a reserved block.
    #[must_use]
    pub(crate) fn new(store: &Store) -> Self {
        Self { ids: store.aggregate(), block: Mutex::new((1, 0)) }
    }

    /// Returns a number that was never handed out.
    pub(crate) async fn next(&self) -> Result<TransactionId, NoNumber> {
        let mut block = self.block.lock().await;
        if block.0 > block.1 {
            let executed = self.ids.execute(ALL, ReserveBlock).await?;
            // One command, one event.
            if let Some(TransactionIdsEvent::Reserved { through }) = executed.events.last() {
                *block = (through - BLOCK + 1, *through);
            }
        }
        let id = TransactionId::new(block.0)?;
        block.0 += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[tokio::test]
    async fn no_number_is_handed_out_twice_whoever_asks_and_however_often_the_process_starts() {
        let store = Store::memory();
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let (one, other) = (TransactionNumbers::new(&store), TransactionNumbers::new(&store));
            for _ in 0..BLOCK + 3 {
                for numbers in [&one, &other] {
                    let id = numbers.next().await.unwrap();
                    assert!(id.value() > 0 && seen.insert(id), "{id:?} came twice");
                }
            }
        }
    }
}
