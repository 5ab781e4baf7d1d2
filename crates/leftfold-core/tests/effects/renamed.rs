//! Intents that were recorded under an older name of their type.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event, Upcasters};
use leftfold_core::runtime::{
    Attempt, Begin, Conclusion, Effect, EffectFilter, EffectId, EffectState, Performed, Policy,
    Runtime,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
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

/// A payment that was asked for before its event was renamed was never carried out, and nobody was
/// told.
#[tokio::test]
async fn an_intent_under_an_older_name_is_carried_out_and_found() {
    let store = Store::memory();
    let old = NewEvent::new(EventType::new("bill.MoneyAsked").unwrap(), r#"{"cents":5}"#);
    store
        .append(Append::of(vec![old.in_stream(StreamName::of("bill", "1").unwrap())]))
        .await
        .unwrap();
    store.aggregate::<Bill>().execute("2", 7).await.unwrap();
    Runtime::new(&store).effect(Pay).run_until_idle().await.unwrap();
    assert_eq!(*PAID.lock().unwrap(), [5, 7]);
    let running = Runtime::new(&store).effect(Pay).start().await.unwrap();
    let listed =
        running.effects().list(EffectFilter::All, EffectId::default(), 10).await.unwrap().effects;
    assert_eq!(listed.len(), 2, "{listed:?}");
    running.stop().await.unwrap();
}

/// Anyone who asks for effects by an event of somebody else's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CashEvent {
    #[serde(rename = "bill.PaymentAsked")]
    PaymentAsked(Payment),
}

impl Event for CashEvent {
    const NAMESPACE: &'static str = "cash";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cash;

impl Aggregate for Cash {
    const CATEGORY: &'static str = "cash";
    type Event = CashEvent;
    type Command = i64;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, _: &CashEvent) {}

    fn decide(&self, _: &i64) -> Result<Vec<CashEvent>, Self::Refusal> {
        Ok(Vec::new())
    }
}

#[derive(Clone, Default)]
struct Count(Arc<Mutex<Vec<i64>>>);

impl Effect for Count {
    const NAME: &'static str = "count";
    const INTENT: &'static str = "bill.PaymentAsked";
    type Intent = Payment;
    type Outcome = ();
    type Target = Cash;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    fn begins(&self) -> Begin {
        Begin::History
    }

    async fn perform(&self, attempt: &Attempt<Payment>) -> Performed<()> {
        self.0.lock().unwrap().push(attempt.intent.cents);
        Performed::Done(())
    }

    fn report(&self, _: &Attempt<Payment>, _: &Conclusion<()>) -> Option<(String, i64)> {
        None
    }
}

#[tokio::test]
async fn an_intent_under_a_name_that_only_its_owner_knows_is_carried_out_once_the_owner_is_in_use()
{
    let store = Store::memory();
    for (name, cents) in [("bill.MoneyAsked", 5), ("bill.PaymentAsked", 7)] {
        let event = NewEvent::new(EventType::new(name).unwrap(), format!(r#"{{"cents":{cents}}}"#));
        store
            .append(Append::of(vec![event.in_stream(StreamName::of("bill", "1").unwrap())]))
            .await
            .unwrap();
    }
    let count = Count::default();
    let running = Runtime::new(&store).effect(count.clone()).start().await.unwrap();
    let counted = async |expected: &[i64]| {
        let waiting = async {
            while *count.0.lock().unwrap() != expected {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(waited.is_ok(), "waited in vain for {expected:?}: {:?}", running.status());
    };
    let listed = async |filter| {
        let page = running.effects().list(filter, EffectId::default(), 10).await.unwrap();
        page.effects.iter().map(|effect| effect.id.0.0).collect::<Vec<_>>()
    };
    counted(&[7]).await;
    assert_eq!(listed(EffectFilter::All).await, [2]);
    let _bills = store.aggregate::<Bill>();
    counted(&[7, 5]).await;
    store.aggregate::<Bill>().execute("2", 9).await.unwrap();
    counted(&[7, 5, 9]).await;
    // The list did not have what only the owner can name.
    let third = store.head().position.0;
    for id in [1, 2] {
        let waited =
            running.effects().wait(EffectId(Position(id)), Duration::from_secs(10)).await.unwrap();
        assert!(matches!(waited.unwrap().state, EffectState::Done { .. }));
    }
    let all = listed(EffectFilter::All).await;
    assert!(
        all.len() == 3 && all.starts_with(&[1, 2]) && all.iter().all(|id| *id <= third),
        "{all:?}"
    );
    assert_eq!(listed(EffectFilter::InDoubt).await, Vec::<u64>::new());
    running.stop().await.unwrap();
}
