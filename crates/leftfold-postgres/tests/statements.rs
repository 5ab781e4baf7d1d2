//! Statements that a user gets wrong: the server's own message reaches whoever has to mend them.

use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{
    ParkedState, Place, Projection, ProjectionError, Session, Target,
};
use leftfold_core::runtime::{Runtime, StartError};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
use leftfold_postgres::{Postgres, Rows};
use leftfold_proving::PostgresServer;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Meter {
    Read { counter: i64 },
}

impl Event for Meter {
    const NAMESPACE: &'static str = "meter";
}

#[derive(Clone)]
struct Readings {
    set_up: &'static str,
    insert: &'static str,
    way: StatementWay,
}

#[derive(Clone, Copy)]
enum StatementWay {
    Awaited,
    Sent,
}

const TABLE: &str =
    "CREATE TABLE readings (counter bigint PRIMARY KEY, CONSTRAINT small CHECK (counter < 100))";
const INSERT: &str = "INSERT INTO readings (counter) VALUES ($1)";

impl Projection<Postgres> for Readings {
    const NAME: &'static str = "readings";
    type Event = Meter;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        Ok(rows.batch_execute(self.set_up).await?)
    }

    async fn apply(&self, rows: &mut Rows, event: &Recorded<Meter>) -> Result<(), ProjectionError> {
        let Meter::Read { counter } = event.event;
        match self.way {
            StatementWay::Awaited => rows.execute(self.insert, &[&counter]).await.map(drop)?,
            StatementWay::Sent => rows.send(self.insert, &[&counter]).await?,
        }
        Ok(())
    }
}

async fn read(counters: &[i64]) -> (Store, Postgres) {
    let store = Store::memory();
    let events = counters.iter().map(|counter| {
        let data = format!("{{\"counter\":{counter}}}");
        let event = NewEvent::new(EventType::new("meter.Read").unwrap(), data);
        event.in_stream(StreamName::new(format!("meter-{counter}")).unwrap())
    });
    store.append(Append::of(events.collect())).await.unwrap();
    (store, Postgres::at(&PostgresServer::shared().database("statements")).unwrap())
}

#[tokio::test]
async fn a_table_that_cannot_be_made_stops_the_start_with_what_the_server_says() {
    let (store, postgres) = read(&[1]).await;
    let set_up = "CREATE TABEL readings (counter bigint)";
    let wrong = Readings { set_up, insert: INSERT, way: StatementWay::Awaited };
    let refused = Runtime::new(&store).project(wrong, postgres).start().await.err().unwrap();
    let StartError::SetUp { name: "readings", error, .. } = &refused else { panic!("{refused:?}") };
    assert!(error.contains("syntax error at or near \"TABEL\""), "{refused}");
    assert!(refused.to_string().contains("mend `set_up`"), "{refused}");
}

#[tokio::test]
async fn a_statement_that_fails_parks_its_event_with_what_the_server_says() {
    let misspelt = "INSERT INTO reedings (counter) VALUES ($1)";
    let cases = [
        (1, misspelt, StatementWay::Awaited, "relation \"reedings\" does not exist"),
        (1, misspelt, StatementWay::Sent, "relation \"reedings\" does not exist"),
        (100, INSERT, StatementWay::Awaited, "violates check constraint \"small\""),
        (100, INSERT, StatementWay::Sent, "violates check constraint \"small\""),
    ];
    for (counter, insert, way, says) in cases {
        let (store, postgres) = read(&[counter]).await;
        let running = Runtime::new(&store)
            .project(Readings { set_up: TABLE, insert, way }, postgres)
            .start()
            .await
            .unwrap();
        let reached = running
            .projections()
            .wait_until("readings", Position(1), Duration::from_secs(60))
            .await;
        assert!(reached.is_err(), "the event is in the rows");
        let parked = running.projections().parked("readings").unwrap();
        let [one] = parked.as_slice() else { panic!("{parked:?}") };
        let ParkedState::Failed { error, .. } = &one.state else { panic!("{one:?}") };
        assert!(error.contains(says), "{error}");
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn of_many_statements_that_were_sent_the_one_that_fails_parks_its_own_event_only() {
    let counters: Vec<i64> = (1..=40).chain([100]).chain(41..=80).collect();
    let (store, postgres) = read(&counters).await;
    let readings = Readings { set_up: TABLE, insert: INSERT, way: StatementWay::Sent };
    let running = Runtime::new(&store).project(readings, postgres.clone()).start().await.unwrap();
    let end = Position(counters.len() as u64);
    running.projections().wait_until("readings", end, Duration::from_secs(60)).await.unwrap();
    let parked = running.projections().parked("readings").unwrap();
    let parked: Vec<_> = parked.iter().map(|one| (one.position, one.key.as_str())).collect();
    assert_eq!(parked, [(Position(41), "meter-100")]);
    let reading = postgres.reader::<Readings>().read().await.unwrap();
    let row = reading.query_one("SELECT count(*), max(counter) FROM readings", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (80, 80));
    drop(reading);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_parameter_that_does_not_suit_a_statement_is_told_at_once() {
    let (_, postgres) = read(&[1]).await;
    let place = Place { name: "readings", version: 1, lane: 0 };
    let mut session = postgres.open(&place).await.unwrap();
    session.begin().await.unwrap();
    let rows = session.rows();
    rows.batch_execute(TABLE).await.unwrap();
    let told = rows.send(INSERT, &[&"one"]).await.unwrap_err().to_string();
    assert!(told.contains("parameter 0"), "{told}");
    let told = rows.send(INSERT, &[]).await.unwrap_err().to_string();
    assert!(told.contains("expected 1 parameters"), "{told}");
    // NULL is sent as such, and refused by the server only.
    rows.send(INSERT, &[&None::<i64>]).await.unwrap();
    let told = rows.answered().await.unwrap_err();
    assert_eq!(told.code().map(|code| code.code()), Some("23502"), "{told}");
    session.rollback().await.unwrap();
}
