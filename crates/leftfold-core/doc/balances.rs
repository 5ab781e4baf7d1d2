use std::collections::BTreeMap;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};

/// The balance of each wallet, in cents.
pub struct Balances;

impl Projection<Memory<BTreeMap<String, u64>>> for Balances {
    const NAME: &'static str = "balances";
    type Event = WalletEvent;

    async fn apply(
        &self,
        rows: &mut BTreeMap<String, u64>,
        event: &Recorded<WalletEvent>,
    ) -> Result<(), ProjectionError> {
        // Refused before anything is changed: a row in memory cannot be undone.
        if let WalletEvent::Deposited { cents: 0 } = event.event {
            return Err(ProjectionError::message("a deposit of nothing"));
        }
        let balance = rows.entry(event.stream_id().to_owned()).or_default();
        match event.event {
            WalletEvent::Deposited { cents } => *balance = balance.saturating_add(cents),
            WalletEvent::Withdrawn { cents } => *balance = balance.saturating_sub(cents),
            _ => {}
        }
        Ok(())
    }
}
