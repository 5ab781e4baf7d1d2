//! What a user writes in SQL and gets wrong, and numbers as the two languages have them.

use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Parked, ParkedState, Projection, ProjectionError};
use leftfold_core::runtime::{RunningRuntime, Runtime, StartError};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
use leftfold_sqlite::Sqlite;
use leftfold_sqlite::rusqlite::{self, Connection};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Meter {
    Read { counter: u64 },
}

impl Event for Meter {
    const NAMESPACE: &'static str = "meter";
}

#[derive(Clone)]
struct Readings {
    set_up: &'static str,
    insert: &'static str,
}

const TABLE: &str = "CREATE TABLE readings (counter INTEGER PRIMARY KEY)";
const INSERT: &str = "INSERT INTO readings (counter) VALUES (?1)";

impl Projection<Sqlite> for Readings {
    const NAME: &'static str = "readings";
    const VERSION: u32 = 1;
    type Event = Meter;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(self.set_up)?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<Meter>,
    ) -> Result<(), ProjectionError> {
        let Meter::Read { counter } = event.event;
        rows.execute(self.insert, [counter])?;
        Ok(())
    }
}

/// A store with readings, and a place for rows.
async fn read(counters: &[u64]) -> (Store, TempDir) {
    let store = Store::memory();
    for counter in counters {
        let event = NewEvent::new(
            EventType::new("meter.Read").unwrap(),
            format!("{{\"counter\":{counter}}}"),
        );
        store
            .append(Append::of(vec![
                event.in_stream(StreamName::new(format!("meter-{counter}")).unwrap()),
            ]))
            .await
            .unwrap();
    }
    (store, TempDir::new().unwrap())
}

/// It stood still with its start for as long as nobody looked at the status.
#[tokio::test]
async fn a_table_that_cannot_be_made_stops_the_start_and_names_the_statement() {
    let (store, home) = read(&[1]).await;
    let wrong = Readings { set_up: "CREATE TABEL readings (counter)", insert: INSERT };
    let refused =
        Runtime::new(&store).project(wrong, Sqlite::at(home.path())).start().await.err().unwrap();
    let StartError::SetUp { projection, name: "readings", version: 1, error } = &refused else {
        panic!("{refused:?}")
    };
    assert!(projection.ends_with("Readings") && error.contains("near \"TABEL\""), "{refused}");
    assert!(refused.to_string().contains("mend `set_up`"), "{refused}");
    // Nothing of it stays in the way of the right one.
    let right = Readings { set_up: TABLE, insert: INSERT };
    Runtime::new(&store).project(right, Sqlite::at(home.path())).run_until_idle().await.unwrap();
    assert_eq!(counters(&home), [1]);
}

#[tokio::test]
async fn a_statement_that_fails_parks_its_event_with_the_cause() {
    let (store, home) = read(&[1]).await;
    let wrong = Readings { set_up: TABLE, insert: "INSERT INTO reedings (counter) VALUES (?1)" };
    let running =
        Runtime::new(&store).project(wrong, Sqlite::at(home.path())).start().await.unwrap();
    let parked = parked(&running, Position(1)).await;
    assert!(parked[0].contains("no such table: reedings"), "{parked:?}");
    running.stop().await.unwrap();
}

/// SQLite's integers end at 2^63 - 1: up to there a `u64` comes back the same and in its order,
/// beyond it is an error.
#[tokio::test]
async fn a_u64_is_bound_and_read_as_far_as_sqlite_has_numbers() {
    let last = i64::MAX.unsigned_abs();
    let (store, home) = read(&[last, 0, 7, last - 1, last + 1, u64::MAX]).await;
    let running = Runtime::new(&store)
        .project(Readings { set_up: TABLE, insert: INSERT }, Sqlite::at(home.path()))
        .start()
        .await
        .unwrap();
    let parked = parked(&running, Position(6)).await;
    assert_eq!(counters(&home), [0, 7, last - 1, last]);
    assert_eq!(parked.len(), 2, "{parked:?}");
    assert!(parked.iter().all(|error| error.contains("out of range")), "{parked:?}");
    running.stop().await.unwrap();
    let rows = Connection::open_in_memory().unwrap();
    let beyond = rows.query_row("SELECT ?1", [u64::MAX], |row| row.get::<_, u64>(0));
    assert!(matches!(beyond, Err(rusqlite::Error::ToSqlConversionFailure(_))), "{beyond:?}");
    let negative = rows.query_row("SELECT -1", [], |row| row.get::<_, u64>(0));
    assert!(
        matches!(negative, Err(rusqlite::Error::IntegralValueOutOfRange(0, -1))),
        "{negative:?}"
    );
}

/// Returns the reasons why events are parked, once the one at a position is.
async fn parked(running: &RunningRuntime, position: Position) -> Vec<String> {
    let reached =
        running.projections().wait_until("readings", position, Duration::from_secs(60)).await;
    assert!(reached.is_err(), "the event is in the rows");
    let error = |parked: Parked| match parked.state {
        ParkedState::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    };
    running.projections().parked("readings").unwrap().into_iter().map(error).collect()
}

fn counters(home: &TempDir) -> Vec<u64> {
    let reader = Sqlite::at(home.path()).reader_of("readings");
    let read = reader.read(|rows| {
        let mut ordered = rows.prepare("SELECT counter FROM readings ORDER BY counter")?;
        ordered.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<u64>>>()
    });
    read.unwrap()
}
