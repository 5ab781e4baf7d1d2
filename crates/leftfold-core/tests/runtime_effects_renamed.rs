//! Intents that were recorded under an older name of their type.

use std::sync::Mutex;

use leftfold_core::fold::{Aggregate, Event, Upcasters};
use leftfold_core::runtime::{Attempt, Begin, Conclusion, Effect, EffectFilter, EffectId, Performed, Policy, Runtime};
use leftfold_core::store::{Append, EventType, NewEvent, Store, StreamName};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BillEvent {
    PaymentAsked(Payment),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Payment {
    cents: i64,
}

impl Event for BillEvent {
    const NAMESPACE: &'static str = "bill";

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("bill.MoneyAsked", 1), ("bill.PaymentAsked", 1))
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bill;

impl Aggregate for Bill {
    const CATEGORY: &'static str = "bill";
    type Event = BillEvent;
    type Command = i64;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, _: &BillEvent) {}

    fn decide(&self, cents: &i64) -> Result<Vec<BillEvent>, Self::Refusal> {
        Ok(vec![BillEvent::PaymentAsked(Payment { cents: *cents })])
    }
}

static PAID: Mutex<Vec<i64>> = Mutex::new(Vec::new());

struct Pay;

impl Effect for Pay {
    const NAME: &'static str = "pay";
    const INTENT: &'static str = "bill.PaymentAsked";
    type Intent = Payment;
    type Outcome = ();
    type Target = Bill;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    fn begins(&self) -> Begin {
        Begin::History
    }

    async fn perform(&self, attempt: &Attempt<Payment>) -> Performed<()> {
        PAID.lock().unwrap().push(attempt.intent.cents);
        Performed::Done(())
    }

    fn report(&self, _: &Attempt<Payment>, _: &Conclusion<()>) -> Option<(String, i64)> {
        None
    }
}

/// A payment that was asked for before its event was renamed was never carried out, and nobody was told.
#[tokio::test]
async fn an_intent_under_an_older_name_is_carried_out_and_found() {
    let store = Store::memory();
    let old = NewEvent::new(EventType::new("bill.MoneyAsked").unwrap(), r#"{"cents":5}"#);
    store.append(Append::of(vec![old.in_stream(StreamName::of("bill", "1").unwrap())])).await.unwrap();
    store.aggregate::<Bill>().execute("2", 7).await.unwrap();
    Runtime::new(&store).effect(Pay).run_until_idle().await.unwrap();
    assert_eq!(*PAID.lock().unwrap(), [5, 7]);
    let running = Runtime::new(&store).effect(Pay).start().await.unwrap();
    let listed = running.effects().list(EffectFilter::All, EffectId::default(), 10).await.unwrap().effects;
    assert_eq!(listed.len(), 2, "{listed:?}");
    running.stop().await.unwrap();
}
