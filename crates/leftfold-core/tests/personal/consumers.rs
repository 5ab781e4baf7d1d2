//! Those who stand behind the log: read models learn of a forgetting, messages that come twice are
//! heard once.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::personal::{Keys, Opened, Personal, SubjectForgotten};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::inbox::{Delivery, Inbox, Receipt, ReceiveError};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::store::{Label, Position, Query, Read, Store};
use serde::{Deserialize, Serialize};

use super::{ADA, Customer, loaded, register};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OfCustomers {
    #[serde(rename = "customer.Registered")]
    Registered { customer: String, email: Personal<String> },
    #[serde(rename = "$personal.Forgotten")]
    Forgotten(SubjectForgotten),
}

impl Event for OfCustomers {
    const NAMESPACE: &'static str = "of_customers";
}

/// Rows in the clear.
struct Emails(Keys);

type Rows = BTreeMap<String, Option<String>>;

impl Projection<Memory<Rows>> for Emails {
    const NAME: &'static str = "emails";
    type Event = OfCustomers;

    async fn apply(
        &self,
        rows: &mut Rows,
        event: &Recorded<OfCustomers>,
    ) -> Result<(), ProjectionError> {
        match &event.event {
            OfCustomers::Registered { customer, email } => {
                rows.insert(customer.clone(), self.0.open(email).await?.known());
            }
            OfCustomers::Forgotten(SubjectForgotten { subject, .. }) => drop(rows.remove(subject)),
        }
        Ok(())
    }
}

#[tokio::test]
async fn read_models_hear_of_a_forgetting_and_those_built_anew_see_nothing_else() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let store = keys.store().clone();
    register(&keys, "1", ADA).await.unwrap();
    register(&keys, "2", "bob@example.org").await.unwrap();
    let rows = Memory::<Rows>::new();
    let running =
        Runtime::new(&store).project(Emails(keys.clone()), rows.clone()).start().await.unwrap();
    let caught_up = async |position| {
        running.projections().wait_until("emails", position, Duration::from_secs(20)).await.unwrap()
    };
    caught_up(store.head().position).await;
    let bob = ("2".to_owned(), Some("bob@example.org".to_owned()));
    assert_eq!(
        rows.read(Clone::clone).await,
        Rows::from([("1".to_owned(), Some(ADA.to_owned())), bob.clone()])
    );
    let receipt = keys.forget("1").await.unwrap();
    caught_up(receipt.position).await;
    assert_eq!(rows.read(Clone::clone).await, Rows::from([bob.clone()]));
    running.stop().await.unwrap();

    let rebuilt = Memory::<Rows>::new();
    Runtime::new(&store).project(Emails(keys), rebuilt.clone()).run_until_idle().await.unwrap();
    assert_eq!(rebuilt.read(Clone::clone).await, Rows::from([bob]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NewAddress {
    street: Personal<String>,
}

/// Addresses come from outside, maybe twice.
struct Addresses;

impl Inbox for Addresses {
    const NAME: &'static str = "addresses";
    type Message = NewAddress;

    fn targets() -> Targets {
        Targets::of::<Customer>()
    }

    fn hold() -> Duration {
        Duration::from_secs(1)
    }

    fn deliver(new: &NewAddress, _: &Delivery) -> Reaction {
        Reaction::none().command::<Customer>("1", Some(new.street.clone()))
    }
}

// ANCHOR: process
/// A customer who asked to be forgotten elsewhere leaves their street, too.
#[derive(Default)]
struct Leaving;

impl Process for Leaving {
    const NAME: &'static str = "leaving";
    type Event = OfCustomers;

    fn targets() -> Targets {
        Targets::of::<Customer>()
    }

    fn correlate(event: &Recorded<OfCustomers>) -> Correlation {
        match &event.event {
            OfCustomers::Registered { .. } => Correlation::ignores(),
            OfCustomers::Forgotten(forgotten) => Correlation::starts(&forgotten.subject),
        }
    }

    fn apply(&mut self, _: &Trigger<OfCustomers>, _: &Context) {}

    fn react(&self, trigger: &Trigger<OfCustomers>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(OfCustomers::Forgotten(_)) => {
                Reaction::none().command::<Customer>(&context.key, None)
            }
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

#[tokio::test]
async fn a_message_that_comes_twice_is_heard_once_though_it_is_sealed_twice() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let store = keys.store().clone();
    register(&keys, "1", ADA).await.unwrap();
    // ANCHOR: occasion
    let sealed = async |street: &str| {
        let subject = keys.subject("1").await.unwrap().on("post office, message 7");
        NewAddress { street: subject.seal(&street.to_owned()).unwrap() }
    };
    // ANCHOR_END: occasion
    let inbox = store.inbox::<Addresses>();
    assert_eq!(
        inbox.receive("post office", "7", None, sealed("Tea Street").await).await,
        Ok(Receipt::Accepted)
    );
    assert_eq!(
        inbox.receive("post office", "7", None, sealed("Tea Street").await).await,
        Ok(Receipt::Duplicate)
    );
    let other = inbox.receive("post office", "7", None, sealed("Tee Street").await).await;
    assert!(matches!(other, Err(ReceiveError::OtherMessage { .. })), "{other:?}");
    Runtime::new(&store).inbox::<Addresses>().run_until_idle().await.unwrap();
    let street = loaded(&store, "1").await.street.unwrap();
    assert_eq!(keys.open(&street).await, Ok(Opened::Known("Tea Street".to_owned())));
    let events =
        store.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    // The message, its delivery and its result name the key, though the runtime's records
    // know nothing of what is in them.
    let naming = events
        .iter()
        .filter(|event| event.key_ids == [Label::new(street.key().to_string()).unwrap()]);
    assert!(
        naming.clone().count() >= 4,
        "{:?}",
        naming.map(|event| &event.event_type).collect::<Vec<_>>()
    );

    keys.forget("1").await.unwrap();
    Runtime::new(&store).process::<Leaving>().run_until_idle().await.unwrap();
    assert_eq!(loaded(&store, "1").await.street, None);
}
