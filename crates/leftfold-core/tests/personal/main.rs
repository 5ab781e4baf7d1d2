//! Personal data: sealed in whatever holds it, found by its tag, and gone once its subject is
//! forgotten.

mod consumers;
mod copying;
mod key_stores;

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::fold::{Aggregate, Decided, Decision, Event, ExecuteError, SnapshotPolicy};
use leftfold_core::personal::{
    Erasure, ErasureError, KeyId, Keys, KeysError, MemoryKeys, Opened, Personal,
};
use leftfold_core::store::{
    Backend, Label, MemoryBackend, Position, Query, Read, Store, Tags, Version,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CustomerEvent {
    Registered { customer: String, email: Personal<String>, age: Personal<u8> },
    Moved { street: Option<Personal<String>> },
}

impl Event for CustomerEvent {
    const NAMESPACE: &'static str = "customer";

    fn tags(&self) -> Tags {
        match self {
            CustomerEvent::Registered { email, .. } => Tags::none().with(email.tag().to_owned()),
            CustomerEvent::Moved { .. } => Tags::none(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Customer {
    email: Option<Personal<String>>,
    street: Option<Personal<String>>,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = Option<Personal<String>>;
    type Refusal = Taken;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Registered { email, .. } => self.email = Some(email.clone()),
            CustomerEvent::Moved { street } => self.street.clone_from(street),
        }
    }

    fn decide(&self, street: &Self::Command) -> Result<Vec<CustomerEvent>, Taken> {
        Ok(vec![CustomerEvent::Moved { street: street.clone() }])
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the address is taken")]
struct Taken;

/// One address, one customer.
struct Register {
    customer: &'static str,
    email: Personal<String>,
    age: Personal<u8>,
}

impl Decision for Register {
    type Event = CustomerEvent;
    type State = bool;
    type Refusal = Taken;

    fn query(&self) -> Query {
        Query::tag(self.email.tag().to_owned())
    }

    fn apply(&self, taken: &mut bool, event: &CustomerEvent) {
        *taken |= matches!(
            event,
            CustomerEvent::Registered { email, .. } if email.tag() == self.email.tag()
        );
    }

    fn decide(&self, taken: &bool) -> Result<Decided<CustomerEvent>, Taken> {
        let Register { customer, email, age } = self;
        let registered = CustomerEvent::Registered {
            customer: (*customer).to_owned(),
            email: email.clone(),
            age: age.clone(),
        };
        if *taken {
            Err(Taken)
        } else {
            Ok(Decided::event(format!("customer-{customer}"), registered))
        }
    }
}

async fn register(
    keys: &Keys,
    customer: &'static str,
    email: &str,
) -> Result<(), ExecuteError<Taken>> {
    let subject = keys.subject(customer).await.unwrap();
    let email = subject.seal_findable("email", &email.to_owned()).await.unwrap();
    let register = Register { customer, email, age: subject.seal(&36).unwrap() };
    keys.store().decide(&register).await.map(drop)
}

async fn loaded(store: &Store, customer: &str) -> Customer {
    store.aggregate::<Customer>().load(customer).await.unwrap().state
}

const ADA: &str = "ada@example.org";

#[tokio::test]
async fn whatever_holds_a_value_holds_ciphertext_and_events_name_its_key() {
    let backend = Arc::new(MemoryBackend::new());
    let keys = Keys::memory(&Store::shared(backend.clone())).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let (ada, bob) = (keys.subject("1").await.unwrap(), keys.subject("2").await.unwrap());
    let street = bob.seal(&"Tea Street".to_owned()).unwrap();
    let customers = keys.store().aggregate::<Customer>();
    customers.execute("1", Some(street.clone())).await.unwrap();
    customers.execute("1", None).await.unwrap();

    let events = keys
        .store()
        .read(Read::matching(Query::everything(), Position::START))
        .all()
        .await
        .unwrap();
    assert!(
        !format!("{events:?}").contains("example.org")
            && !format!("{events:?}").contains("Tea Street"),
        "{events:?}"
    );
    let named: Vec<Vec<Label>> = events
        .iter()
        .filter(|event| !event.is_system())
        .map(|event| event.key_ids.clone())
        .collect();
    let key = |of: KeyId| Label::new(of.to_string()).unwrap();
    let of_ada = loaded(keys.store(), "1").await.email.unwrap();
    assert_eq!(named, [vec![key(of_ada.key())], vec![key(street.key())], vec![]]);

    // The next process goes on from the snapshot.
    let again = Store::shared(backend as Arc<dyn Backend>);
    assert_eq!(loaded(&again, "1").await.email, Some(of_ada.clone()));
    let shown = format!("{of_ada:?} {ada:?} {keys:?} {:?}", loaded(&again, "1").await);
    assert!(!shown.contains(&of_ada.as_str()[50..60]), "{shown}");
    assert_eq!(keys.open(&of_ada).await, Ok(Opened::Known(ADA.to_owned())));
}

#[tokio::test]
async fn an_address_is_taken_until_who_has_it_is_forgotten_and_nobody_finds_it_then() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    assert_eq!(keys.find("email", &ADA.to_owned()).await, Ok(None));
    register(&keys, "1", ADA).await.unwrap();
    assert_eq!(register(&keys, "2", ADA).await, Err(ExecuteError::Refused(Taken)));
    let tag = keys.find("email", &ADA.to_owned()).await.unwrap().unwrap();
    let found = keys
        .store()
        .read(Read::matching(Query::tag(tag.clone()), Position::START))
        .all()
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(keys.find("name", &ADA.to_owned()).await, Ok(None));

    // Who was refused has sealed the address all the same.
    keys.forget("1").await.unwrap();
    assert_eq!(register(&keys, "3", ADA).await, Err(ExecuteError::Refused(Taken)));
    keys.forget("2").await.unwrap();
    keys.forget("3").await.unwrap();
    assert_eq!(keys.find("email", &ADA.to_owned()).await, Ok(None));
    register(&keys, "4", ADA).await.unwrap();
    assert_ne!(keys.find("email", &ADA.to_owned()).await.unwrap(), Some(tag));
}

#[tokio::test]
async fn a_forgotten_subject_stays_so_and_its_history_is_folded_as_before() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let subject = keys.subject("1").await.unwrap();
    let before = loaded(keys.store(), "1").await;
    let head = keys.store().head();
    let receipt = keys.forget("1").await.unwrap();
    assert_eq!((receipt.subject.as_str(), receipt.position), ("1", Position(3)));
    assert_eq!(keys.forget("1").await, Ok(receipt));
    assert_eq!(loaded(keys.store(), "1").await, before);
    let then = keys.store().aggregate::<Customer>().load_at("1", Version(1)).await.unwrap();
    assert_eq!(then.state, before);
    assert_eq!(keys.store().hash_at(head.position).await.unwrap(), Some(head.chain));
    assert_eq!(keys.open(&before.email.unwrap()).await, Ok(Opened::Forgotten));

    let forgotten = KeysError::Forgotten { subject: "1".to_owned() };
    assert_eq!(keys.subject("1").await.unwrap_err(), forgotten);
    assert_eq!(subject.seal_findable("email", &ADA.to_owned()).await, Err(forgotten));
    // A value that somebody was about to record is unreadable from its birth.
    assert_eq!(keys.open(&subject.seal(&1).unwrap()).await, Ok(Opened::Forgotten));
    assert!(matches!(keys.forget("7").await, Err(KeysError::NoSubject { .. })));
}

#[tokio::test]
async fn a_receipt_holds_for_this_history_and_this_key_alone() {
    let key_store = Arc::new(MemoryKeys::new().unwrap());
    let keys = Keys::of(&Store::memory(), key_store.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    register(&keys, "2", "bob@example.org").await.unwrap();
    let receipt: Erasure = keys.forget("1").await.unwrap().to_string().parse().unwrap();
    assert_eq!(keys.verify(&receipt).await, Ok(()));

    let not_recorded = Err(ErasureError::NotRecorded { position: receipt.position });
    let at = receipt.at.plus(Duration::from_secs(1));
    for changed in [
        Erasure { subject: "2".to_owned(), ..receipt.clone() },
        Erasure { key: KeyId([0; 16]), ..receipt.clone() },
        Erasure { at, ..receipt.clone() },
        Erasure { event: leftfold_core::store::EventId(uuid::Uuid::nil()), ..receipt.clone() },
    ] {
        assert_eq!(keys.verify(&changed).await, not_recorded);
    }
    let position = Position(2);
    assert_eq!(
        keys.verify(&Erasure { position, ..receipt.clone() }).await,
        Err(ErasureError::NotRecorded { position })
    );
    let hash = leftfold_core::store::Hash::EMPTY;
    assert!(matches!(
        keys.verify(&Erasure { hash, ..receipt.clone() }).await,
        Err(ErasureError::OtherHistory { .. })
    ));
    let other = Keys::of(&Store::memory(), key_store).await.unwrap();
    assert!(matches!(other.verify(&receipt).await, Err(ErasureError::OtherStore { .. })));
    for broken in ["", "{}", &receipt.to_string().replace(&receipt.hash.to_string(), "0123"), "[1]"]
    {
        assert!(broken.parse::<Erasure>().is_err(), "{broken}");
    }
}

#[tokio::test]
async fn errors_show_no_value() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Odd {
        name: String,
        weight: f64,
    }
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let subject = keys.subject("1").await.unwrap();
    let odd = subject.seal(&Odd { name: "Ada".to_owned(), weight: f64::NAN }).unwrap_err();
    assert!(matches!(odd, KeysError::Value { .. }) && !odd.to_string().contains("Ada"), "{odd}");
    let name = subject.seal(&"Ada".to_owned()).unwrap();
    let number: Personal<u32> = name.as_str().parse().unwrap();
    let shape = keys.open(&number).await.unwrap_err();
    assert!(
        matches!(shape, KeysError::Shape { .. }) && !shape.to_string().contains("Ada"),
        "{shape}"
    );
    let tagged: Personal<String> = format!("{name}.email:00").parse().unwrap();
    assert_eq!(keys.open(&tagged).await, Err(KeysError::Damaged { key: name.key() }));
    assert!(matches!(subject.seal(&"x".repeat(2 << 20)), Err(KeysError::Invalid(_))));
    assert!(matches!(subject.seal_findable("", &1).await, Err(KeysError::Invalid(_))));
    assert!(matches!(keys.subject("").await, Err(KeysError::Invalid(_))));
}

#[tokio::test]
async fn a_fingerprint_is_the_same_for_a_subject_and_says_nothing_of_another() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let [one, again, other] = [
        keys.subject("1").await.unwrap(),
        keys.subject("1").await.unwrap(),
        keys.subject("2").await.unwrap(),
    ];
    assert_eq!(one.fingerprint(b"Ada"), again.fingerprint(b"Ada"));
    assert_ne!(one.fingerprint(b"Ada"), other.fingerprint(b"Ada"));
}

/// An application that encrypts by itself, beside what it seals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PatientEvent {
    Examined { key: String, findings: Vec<u8>, name: Personal<String> },
}

impl Event for PatientEvent {
    const NAMESPACE: &'static str = "patient";

    fn key_ids(&self) -> Vec<Label> {
        let PatientEvent::Examined { key, name, .. } = self;
        [key.clone(), name.key().to_string()].map(|key| Label::new(key).unwrap()).into()
    }
}

#[tokio::test]
async fn an_event_names_the_keys_of_the_application_too_and_each_once() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let name = keys.subject("1").await.unwrap().seal(&"Ada".to_owned()).unwrap();
    let examined = |key: &str| PatientEvent::Examined {
        key: key.to_owned(),
        findings: vec![1, 2],
        name: name.clone(),
    };
    let record = async |event| keys.store().facts("patient", "1", &[event]).record().await;
    record(examined("ward 7")).await.unwrap();
    let events =
        keys.store().read(Read::matching(Query::all(), Position::START)).all().await.unwrap();
    let named: Vec<&str> = events[0].key_ids.iter().map(Label::as_str).collect();
    assert_eq!(named, [name.key().to_string().as_str(), "ward 7"]);
    let error = record(examined("")).await.unwrap_err().to_string();
    assert!(error.contains("key_ids of") && error.contains("PatientEvent panics"), "{error}");
}
