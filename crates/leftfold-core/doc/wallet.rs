use leftfold_core::fold::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WalletEvent {
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
    PayoutRequested(Payout),
    PaidOut { reference: String },
    PayoutLate { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payout {
    pub iban: String,
    pub cents: u64,
}

impl Event for WalletEvent {
    const NAMESPACE: &'static str = "wallet";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wallet {
    pub cents: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WalletCommand {
    Deposit { cents: u64 },
    Withdraw { cents: u64 },
    RequestPayout(Payout),
    RecordPayout { reference: String },
    MarkLate { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the wallet has {cents} cents")]
pub struct Overdrawn {
    pub cents: u64,
}

impl Aggregate for Wallet {
    const CATEGORY: &'static str = "wallet";
    type Event = WalletEvent;
    type Command = WalletCommand;
    type Refusal = Overdrawn;

    fn apply(&mut self, event: &WalletEvent) {
        match event {
            WalletEvent::Deposited { cents } => self.cents = self.cents.saturating_add(*cents),
            WalletEvent::Withdrawn { cents } => self.cents = self.cents.saturating_sub(*cents),
            _ => {}
        }
    }

    fn decide(&self, command: &WalletCommand) -> Result<Vec<WalletEvent>, Overdrawn> {
        match command.clone() {
            WalletCommand::Withdraw { cents }
            | WalletCommand::RequestPayout(Payout { cents, .. })
                if cents > self.cents =>
            {
                Err(Overdrawn { cents: self.cents })
            }
            WalletCommand::Deposit { cents } => Ok(vec![WalletEvent::Deposited { cents }]),
            WalletCommand::Withdraw { cents } => Ok(vec![WalletEvent::Withdrawn { cents }]),
            WalletCommand::RequestPayout(payout) => {
                let withdrawn = WalletEvent::Withdrawn { cents: payout.cents };
                Ok(vec![withdrawn, WalletEvent::PayoutRequested(payout)])
            }
            WalletCommand::RecordPayout { reference } => {
                Ok(vec![WalletEvent::PaidOut { reference }])
            }
            WalletCommand::MarkLate { cents } => Ok(vec![WalletEvent::PayoutLate { cents }]),
        }
    }
}
