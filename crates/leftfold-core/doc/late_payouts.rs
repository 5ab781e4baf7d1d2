use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};

/// Marks a wallet whose payout is not confirmed within an hour, so that a person looks into it. The
/// money is not put back: the bank may still have paid, or pay later. Only the effect knows when it
/// did not, and puts the money back by its report.
#[derive(Default)]
pub struct LatePayouts {
    cents: u64,
}

impl Process for LatePayouts {
    const NAME: &'static str = "late_payouts";
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
                let mark = WalletCommand::MarkLate { cents: self.cents };
                Reaction::none().command::<Wallet>(&context.key, mark).end()
            }
            _ => Reaction::none(),
        }
    }
}
