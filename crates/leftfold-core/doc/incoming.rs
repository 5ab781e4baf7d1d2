use leftfold_core::runtime::inbox::{Delivery, Inbox};
use leftfold_core::runtime::process::{Reaction, Targets};

/// A transfer that the bank tells of, for a wallet.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Incoming {
    pub wallet: String,
    pub cents: u64,
}

impl Inbox for Incoming {
    const NAME: &'static str = "incoming";
    type Message = Self;

    fn targets() -> Targets {
        Targets::of::<Wallet>()
    }

    fn deliver(message: &Self, _: &Delivery) -> Reaction {
        let deposit = WalletCommand::Deposit { cents: message.cents };
        Reaction::none().command::<Wallet>(&message.wallet, deposit)
    }
}
