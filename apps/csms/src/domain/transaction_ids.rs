//! The numbers of transactions: 1 to 2,147,483,647, since stations keep them in a signed integer of
//! 32 bits; unique in the store.
//!
//! They are reserved in blocks by an event, and handed out from memory. A block is durable before
//! its first number is used, so no crash can hand a number out twice; what was left of a block then
//! is lost. Several processes on one store get different blocks. At 1,000 restarts a day the
//! numbers last for 58 years beside a million transactions a week; when they are used up, starting
//! a transaction is an error that says so.

use leftfold::prelude::{Aggregate, Event};
use serde::{Deserialize, Serialize};

/// Numbers that are reserved at a time.
pub(crate) const BLOCK: i64 = 64;

/// The id of the one aggregate of its kind.
pub(crate) const ALL: &str = "all";

/// Reservation of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TransactionIdsEvent {
    /// All numbers up to and including this one are reserved.
    Reserved {
        /// Last number of the block.
        through: i64,
    },
}

impl Event for TransactionIdsEvent {
    const NAMESPACE: &'static str = "transaction_ids";
}

/// The numbers that are reserved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionIds {
    through: i64,
}

/// Reserves the next block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReserveBlock;

/// No number is left.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("all {} transaction ids are used up; start a new store", i32::MAX)]
pub(crate) struct UsedUp;

impl Aggregate for TransactionIds {
    const CATEGORY: &'static str = "transaction_ids";
    type Event = TransactionIdsEvent;
    type Command = ReserveBlock;
    type Refusal = UsedUp;

    fn apply(&mut self, event: &TransactionIdsEvent) {
        let TransactionIdsEvent::Reserved { through } = event;
        self.through = *through;
    }

    fn decide(&self, _: &ReserveBlock) -> Result<Vec<TransactionIdsEvent>, UsedUp> {
        let through = self.through + BLOCK;
        if through > i64::from(i32::MAX) {
            Err(UsedUp)
        } else {
            Ok(vec![TransactionIdsEvent::Reserved { through }])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::given;

    #[test]
    fn blocks_follow_each_other_and_end_with_32_bits() {
        given::<TransactionIds>([])
            .when(ReserveBlock)
            .then([TransactionIdsEvent::Reserved { through: 64 }]);
        let taken = TransactionIdsEvent::Reserved { through: 64 };
        given::<TransactionIds>([taken])
            .when(ReserveBlock)
            .then([TransactionIdsEvent::Reserved { through: 128 }]);
        let nearly_all = TransactionIdsEvent::Reserved { through: i64::from(i32::MAX) - 63 };
        given::<TransactionIds>([nearly_all]).when(ReserveBlock).then_refused(UsedUp);
    }
}
