//! Events of all ages: unknown types, upcasters from one end to the other, and what cannot be
//! events.

use leftfold_core::fold::{
    Aggregate, Decided, Decision, Event, EventError, ExecuteError, LoadError, RecordError, Unknown,
    Upcasters,
};
use leftfold_core::store::{Append, NewEvent, Outcome, Query, Read, Store, StreamName, Version};
use serde::{Deserialize, Serialize};

use crate::purse::{Do, Purse, put, raw};

async fn append(store: &Store, events: Vec<NewEvent>) {
    assert!(matches!(store.append(Append::of(events)).await, Ok(Outcome::Appended(_))));
}

#[tokio::test]
async fn an_unknown_type_is_an_error_that_names_it_and_where_it_is() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    append(&store, vec![raw("purse-1", "purse.Burnt", 1, "{}")]).await;
    let is_unknown = |error: &EventError| {
        matches!(
            error,
            EventError::UnknownType { position: 2, event_type } if &**event_type == "purse.Burnt"
        )
    };
    assert!(matches!(purses.load("1").await, Err(LoadError::Event(error)) if is_unknown(&error)));
    assert!(matches!(
        purses.execute("1", Do::Put(1)).await,
        Err(ExecuteError::Event(error)) if is_unknown(&error)
    ));
    assert!(matches!(
        purses.history("1", Version(2)).unwrap().next().await,
        Err(LoadError::Event(error)) if is_unknown(&error)
    ));
    assert_eq!(purses.load_at("1", Version(1)).await.unwrap().state.coins, 1);
    assert_eq!(purses.execute("2", Do::Put(1)).await.unwrap().version, Version(1));
}

#[tokio::test]
async fn data_that_does_not_parse_is_an_error_that_says_where_it_is() {
    let store = Store::memory();
    append(&store, vec![raw("purse-1", "purse.Put", 1, r#"{"coins":"many"}"#)]).await;
    let error = store.aggregate::<Purse>().load("1").await.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Event(EventError::Decode { position: 1, schema_version: 1, .. })
        ),
        "{error}"
    );
    append(&store, vec![raw("purse-2", "purse.Put", 2, r#"{"coins":1}"#)]).await;
    let error = store.aggregate::<Purse>().load("2").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Event(EventError::SchemaVersion { stored: 2, current: 1, .. })),
        "{error}"
    );
}

/// Takes what it knows of the purse's events, and leaves the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Income {
    coins: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum IncomeEvent {
    #[serde(rename = "purse.Put")]
    Put { coins: u64 },
}

impl Event for IncomeEvent {
    const NAMESPACE: &'static str = "income";
}

impl Aggregate for Income {
    const CATEGORY: &'static str = "purse";
    const UNKNOWN: Unknown = Unknown::Ignore;
    type Event = IncomeEvent;
    type Command = u64;
    type Refusal = std::fmt::Error;

    fn apply(&mut self, IncomeEvent::Put { coins }: &IncomeEvent) {
        self.coins += coins;
    }

    fn decide(&self, coins: &u64) -> Result<Vec<IncomeEvent>, std::fmt::Error> {
        Ok(vec![IncomeEvent::Put { coins: *coins }])
    }
}

#[tokio::test]
async fn a_fold_that_ignores_other_types_still_counts_their_versions() {
    let store = Store::memory();
    let (purses, incomes) = (store.aggregate::<Purse>(), store.aggregate::<Income>());
    purses
        .commands("1", vec![Do::Put(5), Do::Take(5), Do::Put(1), Do::Take(1)])
        .execute()
        .await
        .unwrap();
    let income = incomes.load("1").await.unwrap();
    assert_eq!((income.state.coins, income.version), (6, Version(4)));
    let done =
        incomes.command("1", 7).id("api", "k").without_request_check().execute().await.unwrap();
    assert_eq!(
        (done.version, incomes.history("1", Version(1)).unwrap().all().await.unwrap().len()),
        (Version(5), 3)
    );
    assert_eq!(purses.load("1").await.unwrap().state.coins, 7);
}

/// Today's invoices. Once there was one event for what now are two, and amounts had no currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum InvoiceEvent {
    Initiated { customer: String },
    Issued { amount: u64, currency: String },
    Sent {},
}

impl Event for InvoiceEvent {
    const NAMESPACE: &'static str = "invoice";

    fn upcasters() -> Upcasters {
        Upcasters::none()
            .split(
                ("invoice.Created", 1),
                &[("invoice.Initiated", 1), ("invoice.Issued", 1)],
                |data| {
                    let customer = serde_json::json!({ "customer": data["customer"] });
                    Ok(vec![
                        ("invoice.Initiated", customer),
                        ("invoice.Issued", serde_json::json!({ "amount": data["amount"] })),
                    ])
                },
            )
            .change("invoice.Issued", 1, |mut data| {
                if !data["amount"].is_u64() {
                    return Err("an amount is a number".into());
                }
                data["currency"] = "EUR".into();
                Ok(data)
            })
            .split(("invoice.Printed", 1), &[], |_| Ok(vec![]))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invoice {
    seen: Vec<String>,
}

impl Aggregate for Invoice {
    const CATEGORY: &'static str = "invoice";
    type Event = InvoiceEvent;
    type Command = InvoiceEvent;
    type Refusal = std::fmt::Error;

    fn apply(&mut self, event: &InvoiceEvent) {
        self.seen.push(format!("{event:?}"));
    }

    fn decide(&self, event: &InvoiceEvent) -> Result<Vec<InvoiceEvent>, std::fmt::Error> {
        Ok(vec![event.clone()])
    }
}

#[tokio::test]
async fn old_shapes_become_todays_wherever_they_are_read() {
    let store = Store::memory();
    let created = raw("invoice-1", "invoice.Created", 1, r#"{"customer":"ann","amount":7}"#);
    let printed = raw("invoice-1", "invoice.Printed", 1, "{}");
    append(
        &store,
        vec![created, printed, raw("invoice-1", "invoice.Issued", 1, r#"{"amount":8}"#)],
    )
    .await;
    let invoices = store.aggregate::<Invoice>();
    let issued = |amount| InvoiceEvent::Issued { amount, currency: "EUR".into() };
    let today = [InvoiceEvent::Initiated { customer: "ann".into() }, issued(7), issued(8)];

    let loaded = invoices.load("1").await.unwrap();
    assert_eq!(loaded.state.seen, today.each_ref().map(|event| format!("{event:?}")));
    assert_eq!(loaded.version, Version(3), "versions count what is stored");
    let history = invoices.history("1", Version(1)).unwrap().all().await.unwrap();
    let read: Vec<_> =
        history.iter().map(|recorded| (recorded.event.clone(), recorded.version())).collect();
    assert_eq!(
        read,
        [
            (today[0].clone(), Version(1)),
            (today[1].clone(), Version(1)),
            (today[2].clone(), Version(3))
        ]
    );
    assert_eq!(invoices.load_at("1", Version(1)).await.unwrap().state.seen.len(), 2);

    let done = invoices
        .command("1", issued(9))
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!(done.version, Version(4));
    let written =
        store.page(Read::stream(StreamName::new("invoice-1").unwrap(), Version(4))).await.unwrap();
    assert_eq!(written.events[0].schema_version, 2, "what is written now has today's version");
    let again = invoices
        .command("1", issued(9))
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    assert_eq!((again.events, again.version), (vec![issued(9)], Version(4)));
}

#[tokio::test]
async fn an_upcaster_that_refuses_is_an_error_that_says_why_and_where() {
    let store = Store::memory();
    append(&store, vec![raw("invoice-1", "invoice.Issued", 1, r#"{"amount":null}"#)]).await;
    let error = store.aggregate::<Invoice>().load("1").await.unwrap_err();
    let LoadError::Event(EventError::Upcast { position: 1, detail, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(detail, "an amount is a number");
}

/// Serde's other ways to write an enum hide which variants there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Happened { coins: u64 },
}

impl Event for Tagged {
    const NAMESPACE: &'static str = "tagged";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Wrong;

impl Aggregate for Wrong {
    const CATEGORY: &'static str = "wrong";
    type Event = Tagged;
    type Command = u64;
    type Refusal = std::fmt::Error;

    fn apply(&mut self, _: &Tagged) {}

    fn decide(&self, coins: &u64) -> Result<Vec<Tagged>, std::fmt::Error> {
        Ok(vec![Tagged::Happened { coins: *coins }])
    }
}

impl Decision for Wrong {
    type Event = Tagged;
    type State = ();
    type Refusal = std::fmt::Error;

    fn query(&self) -> Query {
        Query::nothing()
    }

    fn apply(&self, (): &mut (), _: &Tagged) {}

    fn decide(&self, (): &()) -> Result<Decided<Tagged>, std::fmt::Error> {
        Ok(Decided::nothing())
    }
}

#[tokio::test]
async fn what_is_no_plain_enum_is_refused_at_the_first_use_of_any_kind() {
    let store = Store::memory();
    let wrong = store.aggregate::<Wrong>();
    let name = std::any::type_name::<Tagged>();
    let error = EventError::NotAnEnum { name };
    assert_eq!(wrong.execute("1", 1).await, Err(ExecuteError::Event(error.clone())));
    assert_eq!(wrong.load("1").await, Err(LoadError::Event(error.clone())));
    assert_eq!(wrong.load_at("1", Version(1)).await, Err(LoadError::Event(error.clone())));
    assert_eq!(wrong.history("1", Version(1)).err(), Some(LoadError::Event(error.clone())));
    assert_eq!(
        wrong.record("1", &[Tagged::Happened { coins: 1 }]).await,
        Err(RecordError::Event(error.clone()))
    );
    assert_eq!(store.decide(&Wrong).await, Err(ExecuteError::Event(error)));
    assert_eq!(store.head().position.0, 0);
}

#[tokio::test]
async fn two_aggregates_may_name_their_events_alike() {
    let store = Store::memory();
    append(&store, vec![raw("purse-1", "other.Put", 1, "{}")]).await;
    store.aggregate::<Purse>().record("2", &[put(1)]).await.unwrap();
    assert!(matches!(
        store.aggregate::<Purse>().load("1").await,
        Err(LoadError::Event(EventError::UnknownType { .. }))
    ));
    assert_eq!(store.aggregate::<Purse>().load("2").await.unwrap().state.coins, 1);
}
