//! Meeting rooms are booked, and whoever asks twice or too late must get an answer that holds.
//! This is the program of the book's tutorial: an aggregate, its tests, a durable store, a request that is repeated.
//! It is no calendar: where bookings of the same room are planned ahead and overlap, give each booking its own stream.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

// ANCHOR: events
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum RoomEvent {
    Booked { by: String },
    CheckedIn,
    Released,
}

impl Event for RoomEvent {
    const NAMESPACE: &'static str = "room";
}
// ANCHOR_END: events

// ANCHOR: state
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Room {
    booked_by: Option<String>,
    checked_in: bool,
}
// ANCHOR_END: state

// ANCHOR: commands
struct Asked {
    by: String,
    to: Ask,
}

enum Ask {
    Book,
    CheckIn,
    Release,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum RoomRefusal {
    #[error("{by} has it")]
    Taken { by: String },
    #[error("nobody has booked it")]
    NotBooked,
}
// ANCHOR_END: commands

// ANCHOR: aggregate
impl Aggregate for Room {
    const CATEGORY: &'static str = "room";
    type Event = RoomEvent;
    type Command = Asked;
    type Refusal = RoomRefusal;

    fn apply(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Booked { by } => self.booked_by = Some(by.clone()),
            RoomEvent::CheckedIn => self.checked_in = true,
            RoomEvent::Released => *self = Room::default(),
        }
    }

    fn decide(&self, asked: &Asked) -> Result<Vec<RoomEvent>, RoomRefusal> {
        match (&asked.to, &self.booked_by) {
            (_, Some(other)) if *other != asked.by => Err(RoomRefusal::Taken { by: other.clone() }),
            (Ask::Book, None) => Ok(vec![RoomEvent::Booked { by: asked.by.clone() }]),
            (_, None) => Err(RoomRefusal::NotBooked),
            (Ask::CheckIn, Some(_)) if !self.checked_in => Ok(vec![RoomEvent::CheckedIn]),
            (Ask::Release, Some(_)) => Ok(vec![RoomEvent::Released]),
            // Booked or checked in already, by the same person: there is nothing to do.
            (_, Some(_)) => Ok(vec![]),
        }
    }
}
// ANCHOR_END: aggregate

// ANCHOR: main
fn asks(by: &str, to: Ask) -> Asked {
    Asked { by: by.into(), to }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let rooms = store.aggregate::<Room>();

    rooms.execute("blue", asks("ada", Ask::Book)).await?;
    rooms.execute("blue", asks("ada", Ask::CheckIn)).await?;
    match rooms.execute("blue", asks("bob", Ask::Book)).await {
        Err(ExecuteError::Refused(no)) => println!("bob is refused:  {no}"),
        other => println!("bob got it:      {:?}", other?.events),
    }
    // ANCHOR_END: main

    // ANCHOR: repeated
    let request = || rooms.command("green", asks("bob", Ask::Book)).id("bob", "request-17");
    let first = request().execute().await?;
    let again = request().execute().await?;
    println!("asked twice:     at position {} and {}: the same answer", first.position, again.position);
    // ANCHOR_END: repeated

    // ANCHOR: past
    let released = rooms.execute("blue", asks("ada", Ask::Release)).await?;
    let blue = rooms.load("blue").await?;
    println!("blue now:        {:?}, version {}", blue.state, blue.version);
    let before = Version(released.version.0 - 1);
    println!("blue before:     {:?}", rooms.load_at("blue", before).await?.state);
    for recorded in rooms.history("blue", Version(1))?.all().await? {
        println!("  version {}:     {:?}", recorded.version(), recorded.event);
    }
    store.close().await?;
    Ok(())
}
// ANCHOR_END: past

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::given;

    fn booked_by(name: &str) -> RoomEvent {
        RoomEvent::Booked { by: name.into() }
    }

    #[test]
    fn a_free_room_is_booked_and_a_taken_one_is_refused() {
        given::<Room>([]).when(asks("ada", Ask::Book)).then([booked_by("ada")]);
        given::<Room>([booked_by("ada")]).when(asks("bob", Ask::Book)).then_refused(RoomRefusal::Taken { by: "ada".into() });
    }

    #[test]
    fn asking_twice_changes_nothing() {
        given::<Room>([booked_by("ada")]).when(asks("ada", Ask::Book)).then_nothing();
        given::<Room>([booked_by("ada"), RoomEvent::CheckedIn]).when(asks("ada", Ask::CheckIn)).then_nothing();
    }

    #[test]
    fn a_released_room_is_free_for_anybody() {
        let past = [booked_by("ada"), RoomEvent::CheckedIn, RoomEvent::Released];
        given::<Room>(past.clone()).when(asks("bob", Ask::Book)).then([booked_by("bob")]);
        given::<Room>(past).when(asks("ada", Ask::Release)).then_refused(RoomRefusal::NotBooked);
    }
}
// ANCHOR_END: tests

#[cfg(test)]
mod durability {
    use super::*;

    // ANCHOR: durability-test
    #[tokio::test]
    async fn of_many_who_ask_at_once_one_gets_the_room_and_it_is_theirs_after_reopening() {
        let place = tempfile::tempdir().unwrap();
        let url = place.path().join("store").into_os_string().into_string().unwrap();
        let store = leftfold::open(&url).await.unwrap();
        let asking = (0..50).map(|number| {
            let rooms = store.aggregate::<Room>();
            tokio::spawn(async move { rooms.execute("blue", asks(&format!("person {number}"), Ask::Book)).await })
        });
        let mut won = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            match asked.await.unwrap() {
                Ok(done) => won.extend(done.events),
                Err(refused) => assert!(matches!(refused, ExecuteError::Refused(RoomRefusal::Taken { .. })), "{refused}"),
            }
        }
        store.close().await.unwrap();

        let store = leftfold::open(&url).await.unwrap();
        let state = store.aggregate::<Room>().load("blue").await.unwrap().state;
        assert_eq!(won, [RoomEvent::Booked { by: state.booked_by.unwrap() }]);
        store.close().await.unwrap();
    }
    // ANCHOR_END: durability-test
}
