//! A store of a release that knew nothing of sealing.

use std::collections::HashMap;
use std::sync::Arc;

use leftfold_core::copy::{Copy, Transformed};
use leftfold_core::fold::{Event, Schema, Unknown};
use leftfold_core::personal::{Keys, MemoryKeys, Opened, Subject};
use leftfold_core::store::{NewEvent, Position, Query, Read, RecordedEvent, Store, Tags};
use serde::{Deserialize, Serialize};

use super::{CustomerEvent, loaded};

/// Events of a release that knew nothing of sealing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PlainEvent {
    #[serde(rename = "customer.Registered")]
    Registered { customer: String, email: String, age: u8 },
}

impl Event for PlainEvent {
    const NAMESPACE: &'static str = "customer";
}

// ANCHOR: copy
/// Seals an event of old, with the subjects that were made ready. The event is the occasion, so
/// that the copy says the same whenever it is asked.
fn sealed(
    event: &RecordedEvent,
    subjects: &HashMap<String, Subject>,
) -> Result<NewEvent, Box<dyn std::error::Error>> {
    let old: Vec<PlainEvent> = Schema::of::<PlainEvent>()?.decode(event, Unknown::Refuse)?;
    let [PlainEvent::Registered { customer, email, age }] = &old[..] else {
        return Err("it is no registration".into());
    };
    let subject =
        subjects.get(customer).ok_or("a customer without a key")?.on(&event.id.to_string());
    let (email, age) = (subject.seal(email)?, subject.seal(age)?);
    let new = Schema::of::<CustomerEvent>()?.encode(&CustomerEvent::Registered {
        customer: customer.clone(),
        email,
        age,
    })?;
    Ok(NewEvent { stream: event.to_new().stream, id: Some(event.id), tags: Tags::none(), ..new })
}
// ANCHOR_END: copy

#[tokio::test]
async fn an_old_store_with_names_in_the_clear_is_copied_into_one_without() {
    let (old, new) = (Store::memory(), Store::memory());
    let key_store = Arc::new(MemoryKeys::new().unwrap());
    for customer in ["1", "2"] {
        let event = PlainEvent::Registered {
            customer: customer.to_owned(),
            email: format!("{customer}@example.org"),
            age: 36,
        };
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
    let events =
        new.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap();
    assert!(!format!("{events:?}").contains("example.org"), "{events:?}");
    let keys = Keys::of(&new, key_store).await.unwrap();
    let email = loaded(&new, "2").await.email.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Known("2@example.org".to_owned())));
    keys.verify(&keys.forget("2").await.unwrap()).await.unwrap();
    assert_eq!(keys.open(&email).await, Ok(Opened::Forgotten));
}
