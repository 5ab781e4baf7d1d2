//! Values of thousands of types, made at random from what serde's derive offers: each is carried
//! exactly or refused, and only those are refused that serde_json by itself would lose.

mod building;
mod shape;

use leftfold_core::fold::{Event, EventError, Schema, Unknown};
use leftfold_core::store::{Append, NewEvent, Outcome, Position, Query, Read, Store};
use leftfold_testing::{extent, seed};
use serde::{Deserialize, Serialize};

use building::At;
use shape::{Shape, within};

/// An event that carries a value of the shape that is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Made {
    Field { value: At<0> },
    Whole(At<0>),
}

impl Event for Made {
    const NAMESPACE: &'static str = "made";
}

/// Tells whether serde_json by itself loses the value.
fn is_lost_by_serde_json(event: &Made) -> bool {
    let Ok(json) = serde_json::to_vec(event) else { return true };
    serde_json::from_slice::<Made>(&json).map_or(true, |back| back != *event)
}

#[tokio::test]
async fn every_value_is_carried_exactly_or_refused_and_none_is_refused_that_serde_json_carries() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let (types, values) = (extent(400, 10_000), extent(15, 100));
    let schema = Schema::of::<Made>().unwrap();
    let (mut carried, mut refused) = (0, 0);
    for number in 0..types {
        let shape = Shape::random(&mut random);
        let shown = format!("type {number} of seed {seed}: {shape:?}");
        let mut accepted: Vec<(Made, NewEvent)> = Vec::new();
        for value in 0..values {
            let value_at = At::<0>::random(&shape, &mut random);
            let event = if value % 2 == 0 {
                Made::Field { value: value_at }
            } else {
                Made::Whole(value_at)
            };
            match within(&shape, || schema.encode(&event)) {
                Ok(new) => accepted.push((event, new)),
                Err(EventError::Encode { detail, .. }) => {
                    assert!(
                        within(&shape, || is_lost_by_serde_json(&event)),
                        "{shown}\n{event:?}\nwas refused: {detail}"
                    );
                    refused += 1;
                }
                Err(error) => panic!("{shown}\n{error}"),
            }
        }
        carried += accepted.len();
        let store = Store::memory();
        let (events, new): (Vec<Made>, Vec<NewEvent>) = accepted.into_iter().unzip();
        if new.is_empty() {
            continue;
        }
        assert!(matches!(store.append(Append::of(new)).await, Ok(Outcome::Appended(_))));
        let recorded = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
        assert_eq!(recorded.len(), events.len());
        for (event, recorded) in events.iter().zip(&recorded) {
            let back = within(&shape, || schema.decode::<Made>(recorded, Unknown::Refuse));
            let json = String::from_utf8_lossy(&recorded.data);
            assert_eq!(back.as_deref(), Ok(std::slice::from_ref(event)), "{shown}\n{json}");
        }
    }
    println!("{types} types: {carried} values carried, {refused} refused");
    assert!(
        carried > 2 * refused && refused > 0,
        "{carried} values carried, {refused} refused: the mixture says little"
    );
}
