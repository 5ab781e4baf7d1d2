use leftfold_core::fold::{Decided, Decision};
use leftfold_core::store::{Query, StreamName};

/// Moves money from one wallet to another, if the first one has it.
pub struct Transfer {
    pub from: StreamName,
    pub to: StreamName,
    pub cents: u64,
}

impl Decision for Transfer {
    type Event = WalletEvent;
    /// The balance of the wallet that pays.
    type State = u64;
    type Refusal = Overdrawn;

    fn query(&self) -> Query {
        Query::stream(self.from.clone())
    }

    fn apply(&self, balance: &mut u64, event: &WalletEvent) {
        match event {
            WalletEvent::Deposited { cents } => *balance = balance.saturating_add(*cents),
            WalletEvent::Withdrawn { cents } => *balance = balance.saturating_sub(*cents),
            _ => {}
        }
    }

    fn decide(&self, balance: &u64) -> Result<Decided<WalletEvent>, Overdrawn> {
        if *balance < self.cents {
            return Err(Overdrawn { cents: *balance });
        }
        let withdrawn = WalletEvent::Withdrawn { cents: self.cents };
        let deposited = WalletEvent::Deposited { cents: self.cents };
        Ok(Decided::event(self.from.to_string(), withdrawn).and(self.to.to_string(), deposited))
    }
}
