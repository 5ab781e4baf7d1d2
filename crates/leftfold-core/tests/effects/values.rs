//! Outcomes of effects: what is recorded, and what the target hears, is what the outside world
//! said.

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy,
};
use leftfold_core::store::{Query, Read, StreamName, Version};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Stage, settled};

/// Everything that numbers in JSON make hard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    wei: u128,
    owed: i128,
    kwh: f64,
    least: f64,
}

fn receipt(number: u32) -> Receipt {
    Receipt {
        wei: u128::MAX - u128::from(number),
        owed: i128::MIN + i128::from(number),
        kwh: 117.633_311_394_000_17 * f64::from(number),
        least: f64::from_bits(number.into()),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PurseEvent {
    PaymentAsked { number: u32 },
    Paid { receipt: Receipt },
}

impl Event for PurseEvent {
    const NAMESPACE: &'static str = "purse";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Do {
    Ask(u32),
    Hear(Receipt),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Purse {
    receipts: Vec<Receipt>,
}

impl Aggregate for Purse {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;
    type Command = Do;
    type Refusal = No;

    fn apply(&mut self, event: &PurseEvent) {
        if let PurseEvent::Paid { receipt } = event {
            self.receipts.push(receipt.clone());
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<PurseEvent>, No> {
        match command.clone() {
            Do::Ask(number) => Ok(vec![PurseEvent::PaymentAsked { number }]),
            Do::Hear(receipt) => Ok(vec![PurseEvent::Paid { receipt }]),
        }
    }
}

struct Pay;

#[derive(Clone, Debug, Deserialize)]
struct Payment {
    number: u32,
}

impl Effect for Pay {
    const NAME: &'static str = "pay";
    const INTENT: &'static str = "purse.PaymentAsked";
    type Intent = Payment;
    type Outcome = Receipt;
    type Target = Purse;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    async fn perform(&self, attempt: &Attempt<Payment>) -> Performed<Receipt> {
        Performed::Done(receipt(attempt.intent.number))
    }

    fn report(
        &self,
        _: &Attempt<Payment>,
        conclusion: &Conclusion<Receipt>,
    ) -> Option<(String, Do)> {
        match conclusion {
            Conclusion::Done(receipt) => Some(("one".to_owned(), Do::Hear(receipt.clone()))),
            Conclusion::NotDone { reason } => panic!("{reason}"),
        }
    }
}

/// Record of an effect that was done.
#[derive(Debug, Deserialize)]
struct Recorded {
    outcome: Receipt,
}

#[tokio::test]
async fn an_outcome_with_numbers_beyond_64_bits_and_with_floats_is_recorded_as_it_came() {
    let stage = Stage::new();
    let mut expected = Vec::new();
    for number in 1..=3 {
        let process = stage.process();
        let running = process.runtime().effect(Pay).start().await.unwrap();
        let purse = process.store.aggregate::<Purse>();
        let id = EffectId(purse.execute("one", Do::Ask(number)).await.unwrap().position);
        let state = settled(&running.effects(), id).await;
        assert!(matches!(state, EffectState::Done { .. }), "{state:?}");
        expected.push(receipt(number));
        // As the log has it, not the fold that is kept.
        assert_eq!(purse.load_at("one", Version::END).await.unwrap().state.receipts, expected);
        let ledger = Query::stream(StreamName::new(format!("$effect-{id}")).unwrap());
        let ledger = process.store.read(Read::matching(ledger, id.0)).all().await.unwrap();
        let recorded: Recorded = serde_json::from_slice(&ledger.last().unwrap().data).unwrap();
        assert_eq!(recorded.outcome, receipt(number));
        running.stop().await.unwrap();
    }
}
