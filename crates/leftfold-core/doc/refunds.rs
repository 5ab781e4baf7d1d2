use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};

/// Puts a payout back that is not confirmed within an hour.
#[derive(Default)]
pub struct Refunds {
    cents: u64,
}

impl Process for Refunds {
    const NAME: &'static str = "refunds";
    type Event = WalletEvent;

    fn targets() -> Targets {
        Targets::of::<Wallet>()
    }

    fn correlate(event: &Recorded<WalletEvent>) -> Correlation {
        match event.event {
            WalletEvent::PayoutRequested(_) => Correlation::starts(event.stream_id()),
            WalletEvent::PaidOut { .. } => Correlation::ends(event.stream_id()),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<WalletEvent>, _: &Context) {
        if let Trigger::Event(WalletEvent::PayoutRequested(payout)) = trigger {
            self.cents = payout.cents;
        }
    }

    fn react(&self, trigger: &Trigger<WalletEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(WalletEvent::PayoutRequested(_)) => {
                Reaction::none().timer("late", Duration::from_secs(3_600))
            }
            Trigger::TimerFired { .. } => {
                let deposit = WalletCommand::Deposit { cents: self.cents };
                Reaction::none().command::<Wallet>(&context.key, deposit).end()
            }
            _ => Reaction::none(),
        }
    }
}
