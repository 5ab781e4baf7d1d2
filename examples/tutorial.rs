//! Meeting rooms are booked, and anyone who asks twice or too late must get an answer that holds.
//! This is the program of the book's tutorial: an aggregate on a durable store, a read model, a
//! process with a deadline. It is no calendar: where bookings of the same room are planned ahead
//! and overlap, give each booking its own stream.

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::sqlite::rusqlite::Connection;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked {
    by: String,
    to: Ask,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Ask {
    Book,
    CheckIn,
    Release,
    /// Nobody came in time. No person asks for this: the last chapter does.
    Expire,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
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
            (Ask::Expire, Some(_)) if !self.checked_in => Ok(vec![RoomEvent::Released]),
            (Ask::CheckIn, Some(_)) if !self.checked_in => Ok(vec![RoomEvent::CheckedIn]),
            (Ask::Release, Some(_)) => Ok(vec![RoomEvent::Released]),
            // Booked or checked in already, by the same person, or in use: there is nothing to do.
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
async fn main() -> Result<(), Box<dyn Error>> {
    let fresh = || format!("{}/rooms-{}", env::temp_dir().display(), std::process::id());
    let place = env::args().nth(1).unwrap_or_else(fresh);
    let store = leftfold::open(&place).await?;
    let rooms = store.aggregate::<Room>();

    rooms.execute("blue", asks("ada", Ask::Book)).await?;
    rooms.execute("blue", asks("ada", Ask::CheckIn)).await?;
    match rooms.execute("blue", asks("bob", Ask::Book)).await {
        Err(ExecuteError::Refused(no)) => println!("bob is refused:  {no}"),
        other => println!("bob got it:      {:?}", other?.events),
    }
    // ANCHOR_END: main

    // ANCHOR: repeated
    let request = || {
        rooms
            .command("green", asks("bob", Ask::Book))
            .id("bob", "request-17")
            .request(b"book green")
    };
    let first = request().execute().await?;
    let again = request().execute().await?;
    println!(
        "asked twice:     at position {} and {}: the same answer",
        first.position, again.position
    );
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
    // ANCHOR_END: past
    let rows = format!("{place}-rows");
    the_screens(&store, &rows).await?;
    the_next_release(&store, &rows).await?;
    nobody_comes(&store).await?;
    // ANCHOR: close
    store.close().await?;
    Ok(())
}
// ANCHOR_END: close

// ANCHOR: projection
/// Read model of the screens at the doors.
struct Screens;

impl Projection<Sqlite> for Screens {
    const NAME: &'static str = "screens";
    type Event = RoomEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch("CREATE TABLE screen (room TEXT PRIMARY KEY, says TEXT NOT NULL)")?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<RoomEvent>,
    ) -> Result<(), ProjectionError> {
        let says = match &event.event {
            RoomEvent::Booked { by } => format!("kept for {by}"),
            RoomEvent::CheckedIn => "in use".to_owned(),
            RoomEvent::Released => "free".to_owned(),
        };
        let upsert =
            "INSERT INTO screen VALUES (?1, ?2) ON CONFLICT DO UPDATE SET says = excluded.says";
        rows.prepare_cached(upsert)?.execute([event.stream_id(), &says])?;
        Ok(())
    }
}
// ANCHOR_END: projection

// ANCHOR: reader
fn screens(reader: &Reader) -> Result<Vec<(String, String)>, SqliteError> {
    reader.read(|rows| {
        let mut screens = rows.prepare_cached("SELECT room, says FROM screen ORDER BY room")?;
        let screens = screens.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        screens.collect()
    })
}
// ANCHOR_END: reader

// ANCHOR: read-model
async fn the_screens(store: &Store, directory: &str) -> Result<(), Box<dyn Error>> {
    let rows = Sqlite::at(directory);
    let reader = rows.reader::<Screens>();
    let runtime = Runtime::new(store).project(Screens, rows).start().await?;

    let booked = store.aggregate::<Room>().execute("blue", asks("bob", Ask::Book)).await?;
    // Who reads what he wrote waits until the rows have come that far.
    runtime.projections().wait_until("screens", booked.position, Duration::from_secs(5)).await?;
    println!("the screens say: {:?}", screens(&reader)?);

    store.aggregate::<Room>().execute("blue", asks("bob", Ask::Release)).await?;
    runtime.stop().await?;
    Ok(())
}
// ANCHOR_END: read-model

// ANCHOR: next-version
/// The screens of both releases: from version 2 on they say since when.
struct Board<const VERSION: u32>;

impl<const VERSION: u32> Projection<Sqlite> for Board<VERSION> {
    const NAME: &'static str = "screens";
    const VERSION: u32 = VERSION;
    type Event = RoomEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Screens.set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<RoomEvent>,
    ) -> Result<(), ProjectionError> {
        Screens.apply(rows, event).await?;
        if VERSION >= 2 {
            let since = "UPDATE screen SET says = says || ' since ' || ?2 WHERE room = ?1";
            rows.prepare_cached(since)?
                .execute([event.stream_id(), &event.recorded_at().to_string()])?;
        }
        Ok(())
    }
}
// ANCHOR_END: next-version

// ANCHOR: side-by-side
/// The release that changes the screens: version 1 follows the log and serves until version 2 has
/// caught up.
async fn the_next_release(store: &Store, directory: &str) -> Result<(), Box<dyn Error>> {
    let rows = Sqlite::at(directory);
    let reader = rows.reader::<Board<2>>();
    let runtime = Runtime::new(store).project(Board::<1>, rows.clone()).project(Board::<2>, rows);
    runtime.run_until_idle().await?;
    println!("and in the next release: {:?}", screens(&reader)?);
    Ok(())
}
// ANCHOR_END: side-by-side

// ANCHOR: process
/// Time within which the person who booked checks in; after it the room is free again.
const CHECK_IN_WITHIN: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
struct NoShow {
    booked_by: String,
}

impl Process for NoShow {
    const NAME: &'static str = "no_show";
    type Event = RoomEvent;

    fn targets() -> Targets {
        Targets::of::<Room>()
    }

    /// One instance for each room, from the booking until somebody comes or gives it back.
    fn correlate(event: &Recorded<RoomEvent>) -> Correlation {
        match &event.event {
            RoomEvent::Booked { .. } => Correlation::starts(event.stream_id()),
            RoomEvent::CheckedIn | RoomEvent::Released => Correlation::ends(event.stream_id()),
        }
    }

    fn apply(&mut self, trigger: &Trigger<RoomEvent>, _: &Context) {
        if let Trigger::Event(RoomEvent::Booked { by }) = trigger {
            self.booked_by.clone_from(by);
        }
    }

    fn react(&self, trigger: &Trigger<RoomEvent>, context: &Context) -> Reaction {
        let expire = || asks(&self.booked_by, Ask::Expire);
        match trigger {
            Trigger::Event(RoomEvent::Booked { .. }) => {
                Reaction::none().timer("check in", CHECK_IN_WITHIN)
            }
            Trigger::TimerFired { .. } => Reaction::none().command::<Room>(&context.key, expire()),
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

// ANCHOR: deadline
async fn nobody_comes(store: &Store) -> Result<(), Box<dyn Error>> {
    // Moved by hand, so that nobody has to wait for the story's end. Leave it away, and it is the
    // machine's clock.
    let clock = Arc::new(leftfold::testing::HandClock::going());
    let runtime = Runtime::new(store).clock(clock.clone()).process::<NoShow>().start().await?;

    let booked = store.aggregate::<Room>().execute("red", asks("ada", Ask::Book)).await?;
    clock.advance(CHECK_IN_WITHIN);
    let mut news = store.follow::<RoomEvent>(booked.position)?;
    let released =
        news.find(|news| news.stream_id() == "red" && news.event == RoomEvent::Released).await?;
    println!("nobody came to the red room: {:?} at version {}", released.event, released.version());

    runtime.stop().await?;
    Ok(())
}
// ANCHOR_END: deadline

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
        given::<Room>([booked_by("ada")])
            .when(asks("bob", Ask::Book))
            .then_refused(RoomRefusal::Taken { by: "ada".into() });
    }

    #[test]
    fn asking_twice_changes_nothing() {
        given::<Room>([booked_by("ada")]).when(asks("ada", Ask::Book)).then_nothing();
        given::<Room>([booked_by("ada"), RoomEvent::CheckedIn])
            .when(asks("ada", Ask::CheckIn))
            .then_nothing();
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
            tokio::spawn(async move {
                rooms.execute("blue", asks(&format!("person {number}"), Ask::Book)).await
            })
        });
        let mut won = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            match asked.await.unwrap() {
                Ok(done) => won.extend(done.events),
                Err(refused) => assert!(
                    matches!(refused, ExecuteError::Refused(RoomRefusal::Taken { .. })),
                    "{refused}"
                ),
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

#[cfg(test)]
mod behind_the_log {
    use super::*;
    use leftfold::testing::explorer::{Explorer, Schedules, World};

    // ANCHOR: projection-test
    /// A store in memory, and one in a directory.
    async fn stores(directory: &tempfile::TempDir) -> [Store; 2] {
        let path = directory.path().join("store").into_os_string().into_string().unwrap();
        [Store::memory(), leftfold::open(&path).await.unwrap()]
    }

    #[tokio::test]
    async fn the_screens_follow_the_rooms_and_go_on_where_they_stood() {
        for store in stores(&tempfile::tempdir().unwrap()).await {
            let place = tempfile::tempdir().unwrap();
            let rooms = store.aggregate::<Room>();
            for (to, says) in
                [(Ask::Book, "kept for ada"), (Ask::CheckIn, "in use"), (Ask::Release, "free")]
            {
                rooms.execute("blue", asks("ada", to)).await.unwrap();
                let rows = Sqlite::at(place.path());
                let reader = rows.reader::<Screens>();
                Runtime::new(&store).project(Screens, rows).run_until_idle().await.unwrap();
                assert_eq!(screens(&reader).unwrap(), [("blue".to_owned(), says.to_owned())]);
            }
        }
    }
    // ANCHOR_END: projection-test

    // ANCHOR: versions-test
    #[tokio::test]
    async fn the_old_screens_follow_the_rooms_until_the_new_ones_take_their_place() {
        for store in stores(&tempfile::tempdir().unwrap()).await {
            let place = tempfile::tempdir().unwrap();
            let rooms = store.aggregate::<Room>();
            let (rows, blue) =
                (Sqlite::at(place.path()), |says: &str| [("blue".to_owned(), says.to_owned())]);
            let reader = rows.reader::<Screens>();
            rooms.execute("blue", asks("ada", Ask::Book)).await.unwrap();
            Runtime::new(&store).project(Screens, rows.clone()).run_until_idle().await.unwrap();

            // Whichever serves, what is written while version 2 is built can be read.
            let both = || {
                Runtime::new(&store)
                    .project(Board::<1>, rows.clone())
                    .project(Board::<2>, rows.clone())
            };
            let runtime = both().start().await.unwrap();
            let used = rooms.execute("blue", asks("ada", Ask::CheckIn)).await.unwrap();
            runtime
                .projections()
                .wait_until("screens", used.position, Duration::from_secs(20))
                .await
                .unwrap();
            assert!(screens(&reader).unwrap()[0].1.starts_with("in use"));
            runtime.stop().await.unwrap();

            // Once version 2 has caught up it serves, and version 1 follows for as long as it is
            // registered.
            both().run_until_idle().await.unwrap();
            assert!(screens(&reader).unwrap()[0].1.starts_with("in use since "));
            assert_eq!(screens(&reader.of_version(1)).unwrap(), blue("in use"));

            // The release after that registers version 2 alone; the rows of version 1 go when
            // version 3 takes its place.
            rooms.execute("blue", asks("ada", Ask::Release)).await.unwrap();
            Runtime::new(&store).project(Board::<2>, rows.clone()).run_until_idle().await.unwrap();
            assert!(screens(&reader).unwrap()[0].1.starts_with("free since "));
            assert_eq!(screens(&reader.of_version(1)).unwrap(), blue("in use"));
            Runtime::new(&store).project(Board::<3>, rows.clone()).run_until_idle().await.unwrap();
            assert!(
                screens(&reader.of_version(1)).is_err() && screens(&reader.of_version(2)).is_ok()
            );
        }
    }
    // ANCHOR_END: versions-test

    // ANCHOR: explorer-test
    /// In this story nobody gives a room back himself.
    fn nobody_is_thrown_out(world: &World) -> bool {
        let events = world.events_of::<RoomEvent>();
        !events.windows(2).any(|two| two == [RoomEvent::CheckedIn, RoomEvent::Released])
    }

    #[test]
    fn a_room_is_used_or_free_again_whatever_happens() {
        Explorer::new()
            .aggregate::<Room>()
            .process::<NoShow>()
            .start(|clients| {
                let ada = clients.client("ada").command::<Room>("blue", asks("ada", Ask::Book));
                ada.wait(CHECK_IN_WITHIN).command::<Room>("blue", asks("ada", Ask::CheckIn));
            })
            .always("nobody is thrown out", nobody_is_thrown_out)
            .finally("no room is kept for nobody", |world| {
                world.states::<Room>().all(|room| room.booked_by.is_none() || room.checked_in)
            })
            .finally("nothing is left to do", |world| {
                world.open_processes() == 0 && world.parked() == 0
            })
            .run(Schedules(1_000));
    }
    // ANCHOR_END: explorer-test
}
