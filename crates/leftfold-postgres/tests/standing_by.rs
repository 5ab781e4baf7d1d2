//! Two processes with one projection: how far the other one is, and what becomes of its place.

use std::time::{Duration, Instant};

use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Place, Projection, Session, Target};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store};
use leftfold_postgres::Postgres;
use leftfold_proving::PostgresServer;

#[expect(unreachable_pub, reason = "the example of the documentation is included")]
mod visits {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/visits.rs"));
}

use visits::{PageEvent, Visits};

const PATIENCE: Duration = Duration::from_secs(20);
const PLACE: Place = Place { name: "visits", version: 1, lane: 0 };

fn note(key: &str, value: &[u8]) -> (String, Vec<u8>) {
    (key.to_owned(), value.to_vec())
}

#[tokio::test]
async fn notes_are_told_as_they_were_committed_to_whoever_does_not_have_the_place() {
    let url = PostgresServer::shared().database("notes");
    let (target, other) = (Postgres::at(&url).unwrap(), Postgres::at(&url).unwrap());
    assert_eq!(other.noted(&PLACE, &["a/", "b/"]).await.unwrap(), Some(vec![]), "no place");
    let mut session = target.open(&PLACE).await.unwrap();
    session.begin().await.unwrap();
    for (key, value) in [("b/2", "two"), ("a/1", "one"), ("c", "three"), ("ab", "four")] {
        session.note(key, Some(value.as_bytes())).await.unwrap();
    }
    assert_eq!(other.noted(&PLACE, &["a/", "b/"]).await.unwrap(), Some(vec![]), "not committed");
    session.commit().await.unwrap();
    let told = vec![note("a/1", b"one"), note("b/2", b"two")];
    assert_eq!(other.noted(&PLACE, &["a/", "b/"]).await.unwrap(), Some(told));
}

/// A process that stands still kept its connection, and with it the place, for ever.
#[tokio::test]
async fn a_session_that_gives_no_sign_of_life_loses_its_place() {
    let url = PostgresServer::shared().database("still");
    let still = Postgres::at(&format!("{url}?options=-c%20idle_session_timeout%3D300ms")).unwrap();
    let other = Postgres::at(&url).unwrap();
    let mut session = still.open(&PLACE).await.unwrap();
    session.touch().await.unwrap();
    let end = Instant::now() + PATIENCE;
    while let Err(error) = other.open(&PLACE).await {
        assert!(other.is_in_use(&error), "{error}");
        assert!(Instant::now() < end, "{error}");
    }
    assert!(still.is_away(&session.begin().await.unwrap_err()));
}

async fn visit(store: &Store) -> Position {
    let visit = PageEvent::Visited { page: "/prices".to_owned() };
    store.facts("page", "prices", &[visit]).record().await.unwrap().appended.last()
}

async fn visits(target: &Postgres) -> i64 {
    let rows = target.reader::<Visits>().read().await.unwrap();
    rows.query_one("SELECT count FROM visits WHERE page = '/prices'", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn who_stands_by_is_told_how_far_the_other_one_is_and_goes_on_when_it_is_gone() {
    let url = PostgresServer::shared().database("two");
    let store = Store::memory();
    let start = async || {
        let target = Postgres::at(&url).unwrap();
        let runtime = Runtime::new(&store).project(Visits, target.clone()).start().await.unwrap();
        (target, runtime)
    };
    let (_, works) = start().await;
    let (target, stands_by) = start().await;
    let projections = stands_by.projections();
    for count in 1..=3 {
        let position = visit(&store).await;
        projections.wait_until(Visits::NAME, position, PATIENCE).await.unwrap();
        assert_eq!(visits(&target).await, count);
        assert!(projections.list()[0].consumer.standby);
    }
    // What does not concern the projection leaves nothing in its rows, but its position is noted.
    for _ in 0..3 {
        let note = NewEvent::new(EventType::new("other.Noted").unwrap(), b"{}".to_vec());
        store.append(Append::of(vec![note])).await.unwrap();
        let position = store.head().position;
        projections.wait_until(Visits::NAME, position, PATIENCE).await.unwrap();
    }
    works.stop().await.unwrap();
    let position = visit(&store).await;
    projections.wait_until(Visits::NAME, position, PATIENCE).await.unwrap();
    assert_eq!(visits(&target).await, 4);
    assert!(!projections.list()[0].consumer.standby);
    stands_by.stop().await.unwrap();
}
