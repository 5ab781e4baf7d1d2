//! Personal data: sealed in whatever holds it, found by its tag, and gone once its subject is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use leftfold_core::copy::{Copy, Transformed};
use leftfold_core::fold::{Aggregate, Decided, Decision, Event, ExecuteError, Recorded, Schema, SnapshotPolicy, Unknown};
use leftfold_core::personal::{
    DestroyedKey, Erasure, ErasureError, KeyId, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, Keys, KeysError, Lookup,
    MemoryKeys, Opened, OutlivedValue, Personal, RECORDED_WITHIN, Subject, SubjectForgotten, Token,
};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::inbox::{Delivery, Inbox, Receipt, ReceiveError};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::store::{
    Backend, Label, MemoryBackend, NewEvent, Pending, Position, Query, Read, RecordedEvent, Store, Tags, Timestamp, Version,
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
        *taken |= matches!(event, CustomerEvent::Registered { email, .. } if email.tag() == self.email.tag());
    }

    fn decide(&self, taken: &bool) -> Result<Decided<CustomerEvent>, Taken> {
        let Register { customer, email, age } = self;
        let registered = CustomerEvent::Registered { customer: (*customer).to_owned(), email: email.clone(), age: age.clone() };
        if *taken { Err(Taken) } else { Ok(Decided::event(format!("customer-{customer}"), registered)) }
    }
}

async fn register(keys: &Keys, customer: &'static str, email: &str) -> Result<(), ExecuteError<Taken>> {
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
async fn the_key_store_in_memory_keeps_the_contract() {
    let key_store = Arc::new(MemoryKeys::new().unwrap());
    leftfold_core::testing::key_store::conformance(async || key_store.clone()).await;
}

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

    let events = keys.store().read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    assert!(!format!("{events:?}").contains("example.org") && !format!("{events:?}").contains("Tea Street"), "{events:?}");
    let named: Vec<Vec<Label>> = events.iter().filter(|event| !event.is_system()).map(|event| event.key_ids.clone()).collect();
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
    let found = keys.store().read(Read::matching(Query::tag(tag.clone()), Position::START)).all().await.unwrap();
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
    assert_eq!(keys.verify(&Erasure { position, ..receipt.clone() }).await, Err(ErasureError::NotRecorded { position }));
    let hash = leftfold_core::store::Hash::EMPTY;
    assert!(matches!(keys.verify(&Erasure { hash, ..receipt.clone() }).await, Err(ErasureError::OtherHistory { .. })));
    let other = Keys::of(&Store::memory(), key_store).await.unwrap();
    assert!(matches!(other.verify(&receipt).await, Err(ErasureError::OtherStore { .. })));
    for broken in ["", "{}", &receipt.to_string().replace(&receipt.hash.to_string(), "0123"), "[1]"] {
        assert!(broken.parse::<Erasure>().is_err(), "{broken}");
    }
}

#[tokio::test]
async fn a_lost_or_foreign_key_store_is_named_and_nothing_is_taken_for_forgotten() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let expected = key_store.identity().id;
    let lost = Keys::memory(&store).await.unwrap_err();
    assert!(matches!(&lost, KeysError::Lost { expected: id, .. } if *id == expected), "{lost}");
    assert!(lost.to_string().contains("in memory") && lost.to_string().contains(&expected.to_string()), "{lost}");

    let foreign = Arc::new(MemoryKeys::new().unwrap());
    let elsewhere = Keys::of(&Store::memory(), foreign.clone()).await.unwrap();
    register(&elsewhere, "1", ADA).await.unwrap();
    let actual = foreign.identity().id;
    let error = Keys::of(&store, foreign).await.unwrap_err();
    assert!(matches!(error, KeysError::Foreign { expected: was, actual: is, .. } if (was, is) == (expected, actual)), "{error}");

    let email = loaded(&store, "1").await.email.unwrap();
    let unknown = KeysError::UnknownKey { key: email.key(), place: "in memory".to_owned() };
    assert_eq!(elsewhere.open(&email).await, Err(unknown));
    // The right one is still right.
    let again = Keys::of(&store, key_store).await.unwrap();
    assert_eq!(again.open(&email).await, Ok(Opened::Known(ADA.to_owned())));
}

#[tokio::test]
async fn a_loss_that_is_declared_is_a_forgetting_and_the_store_goes_on() {
    let (store, lost) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, lost.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    let email = loaded(&store, "1").await.email.unwrap();
    // Nothing is lost.
    let right = Keys::declaring_loss(&store, lost.clone()).await.unwrap();
    assert_eq!(right.open(&email).await, Ok(Opened::Known(ADA.to_owned())));

    let new = Arc::new(MemoryKeys::new().unwrap());
    let keys = Keys::declaring_loss(&store, new.clone()).await.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Forgotten));
    register(&keys, "2", "bob@example.org").await.unwrap();
    let again = Keys::of(&store, new).await.unwrap();
    assert_eq!(again.open(&email).await, Ok(Opened::Forgotten));
    let bob = loaded(&store, "2").await.email.unwrap();
    assert_eq!(again.open(&bob).await, Ok(Opened::Known("bob@example.org".to_owned())));
    again.verify(&again.forget("2").await.unwrap()).await.unwrap();
    assert!(matches!(Keys::of(&store, lost).await, Err(KeysError::Foreign { .. })));
}

#[tokio::test]
async fn two_that_were_forgotten_by_one_side_only_are_forgotten_by_both() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    // The process died after it had destroyed the key.
    let Some(KeyState::Held(key)) = key_store.key_of(Label::try_from("1").unwrap()).await.unwrap() else { panic!("no key") };
    let destroyed = DestroyedKey { id: key.id, subject: key.subject, at: Timestamp::now() };
    key_store.destroy(destroyed.clone()).await.unwrap();
    let before = store.head().position;
    let keys = Keys::of(&store, key_store.clone()).await.unwrap();
    assert_eq!(store.head().position, before.next());
    let receipt = keys.forget("1").await.unwrap();
    assert_eq!((receipt.at, receipt.position), (destroyed.at, before.next()));
    keys.verify(&receipt).await.unwrap();

    // A store that was restored from before that forgetting hears of it again.
    let older = Store::memory();
    Keys::of(&older, key_store).await.unwrap().verify(&receipt).await.unwrap_err();
    let said = older.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    assert_eq!(
        said.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>(),
        ["$personal.Begun", "$personal.Forgotten"]
    );
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
    assert!(matches!(shape, KeysError::Shape { .. }) && !shape.to_string().contains("Ada"), "{shape}");
    let tagged: Personal<String> = format!("{name}.email:00").parse().unwrap();
    assert_eq!(keys.open(&tagged).await, Err(KeysError::Damaged { key: name.key() }));
    assert!(matches!(subject.seal(&"x".repeat(2 << 20)), Err(KeysError::Invalid(_))));
    assert!(matches!(subject.seal_findable("", &1).await, Err(KeysError::Invalid(_))));
    assert!(matches!(keys.subject("").await, Err(KeysError::Invalid(_))));
}

#[tokio::test]
async fn a_fingerprint_is_the_same_for_a_subject_and_says_nothing_of_another() {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let [one, again, other] =
        [keys.subject("1").await.unwrap(), keys.subject("1").await.unwrap(), keys.subject("2").await.unwrap()];
    assert_eq!(one.fingerprint(b"Ada"), again.fingerprint(b"Ada"));
    assert_ne!(one.fingerprint(b"Ada"), other.fingerprint(b"Ada"));
}

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

    async fn apply(&self, rows: &mut Rows, event: &Recorded<OfCustomers>) -> Result<(), ProjectionError> {
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
    let running = Runtime::new(&store).project(Emails(keys.clone()), rows.clone()).start().await.unwrap();
    let caught_up = async |position| running.projections().wait_until("emails", position, Duration::from_secs(20)).await.unwrap();
    caught_up(store.head().position).await;
    let bob = ("2".to_owned(), Some("bob@example.org".to_owned()));
    assert_eq!(rows.read(Clone::clone).await, Rows::from([("1".to_owned(), Some(ADA.to_owned())), bob.clone()]));
    let receipt = keys.forget("1").await.unwrap();
    caught_up(receipt.position).await;
    assert_eq!(rows.read(Clone::clone).await, Rows::from([bob.clone()]));
    running.stop().await.unwrap();

    let anew = Memory::<Rows>::new();
    Runtime::new(&store).project(Emails(keys), anew.clone()).run_until_idle().await.unwrap();
    assert_eq!(anew.read(Clone::clone).await, Rows::from([bob]));
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
            Trigger::Event(OfCustomers::Forgotten(_)) => Reaction::none().command::<Customer>(&context.key, None),
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
    assert_eq!(inbox.receive("post office", "7", None, sealed("Tea Street").await).await, Ok(Receipt::Accepted));
    assert_eq!(inbox.receive("post office", "7", None, sealed("Tea Street").await).await, Ok(Receipt::Duplicate));
    let other = inbox.receive("post office", "7", None, sealed("Tee Street").await).await;
    assert!(matches!(other, Err(ReceiveError::OtherMessage { .. })), "{other:?}");
    Runtime::new(&store).inbox::<Addresses>().run_until_idle().await.unwrap();
    let street = loaded(&store, "1").await.street.unwrap();
    assert_eq!(keys.open(&street).await, Ok(Opened::Known("Tea Street".to_owned())));
    let events = store.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    // The message, its delivery and what came of it name the key, though the runtime's records know nothing of what is in them.
    let naming = events.iter().filter(|event| event.key_ids == [Label::new(street.key().to_string()).unwrap()]);
    assert!(naming.clone().count() >= 4, "{:?}", naming.map(|event| &event.event_type).collect::<Vec<_>>());

    keys.forget("1").await.unwrap();
    Runtime::new(&store).process::<Leaving>().run_until_idle().await.unwrap();
    assert_eq!(loaded(&store, "1").await.street, None);
}

/// A key store in which values were sealed long ago.
struct LongAgo(Arc<MemoryKeys>);

impl KeyStore for LongAgo {
    fn token(&self, value: Lookup, owner: KeyId, since: Timestamp) -> Pending<Option<Token>, KeyStoreError> {
        self.0.token(value, owner, since.minus(RECORDED_WITHIN + Duration::from_secs(1)))
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn identity(&self) -> KeyStoreIdentity {
        self.0.identity()
    }

    fn draw(&self, subject: Label) -> Pending<KeyState, KeyStoreError> {
        self.0.draw(subject)
    }

    fn key_of(&self, subject: Label) -> Pending<Option<KeyState>, KeyStoreError> {
        self.0.key_of(subject)
    }

    fn key(&self, id: KeyId) -> Pending<Option<KeyState>, KeyStoreError> {
        self.0.key(id)
    }

    fn find(&self, value: Lookup) -> Pending<Option<Token>, KeyStoreError> {
        self.0.find(value)
    }

    fn outlived(&self) -> Pending<Vec<OutlivedValue>, KeyStoreError> {
        self.0.outlived()
    }

    fn release(&self, values: Vec<(Lookup, KeyId)>) -> Pending<(), KeyStoreError> {
        self.0.release(values)
    }

    fn destroy(&self, key: DestroyedKey) -> Pending<(), KeyStoreError> {
        self.0.destroy(key)
    }

    fn destroyed(&self) -> Pending<Vec<DestroyedKey>, KeyStoreError> {
        self.0.destroyed()
    }
}

/// Whoever was refused an address had sealed it, and would have kept it findable for ever.
#[tokio::test]
async fn who_was_refused_a_value_long_ago_does_not_keep_it_findable_and_who_has_it_does() {
    let (store, key_store) = (Store::memory(), Arc::new(MemoryKeys::new().unwrap()));
    let keys = Keys::of(&store, LongAgo(key_store.clone())).await.unwrap();
    register(&keys, "1", ADA).await.unwrap();
    register(&keys, "2", ADA).await.unwrap_err();
    let find = async |keys: &Keys| keys.find("email", &ADA.to_owned()).await.unwrap();
    assert!(find(&keys).await.is_some());
    keys.forget("1").await.unwrap();
    assert_eq!(find(&keys).await, None);

    // The next one has the address, and is refused a second time himself: it is his for as long as he is there.
    register(&keys, "3", ADA).await.unwrap();
    let lately = Keys::of(&store, key_store.clone()).await.unwrap();
    register(&lately, "4", ADA).await.unwrap_err();
    keys.forget("4").await.unwrap();
    assert!(find(&keys).await.is_some());
    // Who sealed it a moment ago may be about to record it.
    register(&lately, "5", ADA).await.unwrap_err();
    keys.forget("3").await.unwrap();
    assert!(find(&keys).await.is_some());
    keys.forget("5").await.unwrap();
    assert_eq!(find(&keys).await, None);
}

/// What a release wrote that knew nothing of sealing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PlainEvent {
    #[serde(rename = "customer.Registered")]
    Registered { customer: String, email: String, age: u8 },
}

impl Event for PlainEvent {
    const NAMESPACE: &'static str = "customer";
}

// ANCHOR: copy
/// Seals an event of old, with the subjects that were made ready. The event is the occasion, so that the copy says the same
/// whenever it is asked.
fn sealed(event: &RecordedEvent, subjects: &HashMap<String, Subject>) -> Result<NewEvent, Box<dyn std::error::Error>> {
    let old: Vec<PlainEvent> = Schema::of::<PlainEvent>()?.decode(event, Unknown::Refuse)?;
    let [PlainEvent::Registered { customer, email, age }] = &old[..] else { return Err("it is no registration".into()) };
    let subject = subjects.get(customer).ok_or("a customer without a key")?.on(&event.id.to_string());
    let (email, age) = (subject.seal(email)?, subject.seal(age)?);
    let new = Schema::of::<CustomerEvent>()?.encode(&CustomerEvent::Registered { customer: customer.clone(), email, age })?;
    Ok(NewEvent { stream: event.to_new().stream, id: Some(event.id), tags: Tags::none(), ..new })
}
// ANCHOR_END: copy

#[tokio::test]
async fn an_old_store_with_names_in_the_clear_is_copied_into_one_without() {
    let (old, new) = (Store::memory(), Store::memory());
    let key_store = Arc::new(MemoryKeys::new().unwrap());
    for customer in ["1", "2"] {
        let event = PlainEvent::Registered { customer: customer.to_owned(), email: format!("{customer}@example.org"), age: 36 };
        old.facts("customer", customer, &[event]).record().await.unwrap();
    }
    // The old store knows the keys, and the copy takes that over.
    let keys = Keys::of(&old, key_store.clone()).await.unwrap();
    let mut subjects = HashMap::new();
    for customer in ["1", "2"] {
        subjects.insert(customer.to_owned(), keys.subject(customer).await.unwrap());
    }
    let copy = Copy::from(&old).into(&new).through(move |event| match sealed(event, &subjects) {
        Ok(sealed) => sealed.into(),
        Err(error) => Transformed::Refuse(error.to_string()),
    });
    copy.run_until_caught_up().await.unwrap();
    copy.switch().await.unwrap();
    assert!(copy.verify().await.unwrap().is_sound());
    let events = new.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    assert!(!format!("{events:?}").contains("example.org"), "{events:?}");
    let keys = Keys::of(&new, key_store).await.unwrap();
    let email = loaded(&new, "2").await.email.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Known("2@example.org".to_owned())));
    keys.verify(&keys.forget("2").await.unwrap()).await.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Forgotten));
}
