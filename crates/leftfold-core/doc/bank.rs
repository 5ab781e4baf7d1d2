use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy};

/// Sends a payout to the bank, which answers with a reference.
pub struct SendToBank {
    pub policy: Policy,
    pub answer: fn(&Attempt<Payout>) -> Performed<String>,
}

impl Effect for SendToBank {
    const NAME: &'static str = "send to bank";
    const INTENT: &'static str = "wallet.PayoutRequested";
    type Intent = Payout;
    type Outcome = String;
    type Target = Wallet;

    fn policy(&self) -> Policy {
        self.policy
    }

    async fn perform(&self, attempt: &Attempt<Payout>) -> Performed<String> {
        // In an application: a request to the bank, with `attempt.idempotency_key()`.
        (self.answer)(attempt)
    }

    fn report(
        &self,
        attempt: &Attempt<Payout>,
        conclusion: &Conclusion<String>,
    ) -> Option<(String, WalletCommand)> {
        let wallet = attempt.event.stream.as_ref()?.name.id().to_owned();
        let command = match conclusion {
            Conclusion::Done(reference) => {
                WalletCommand::RecordPayout { reference: reference.clone() }
            }
            // It is known now that the bank did not pay, so nothing is paid twice.
            Conclusion::NotDone { .. } => WalletCommand::Deposit { cents: attempt.intent.cents },
        };
        Some((wallet, command))
    }
}
