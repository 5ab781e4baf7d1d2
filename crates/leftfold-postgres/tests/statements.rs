//! Statements that a user gets wrong: the server's own message reaches whoever has to mend them.

use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{ParkedState, Projection, ProjectionError};
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
        rows.execute(self.insert, &[&counter]).await?;
        Ok(())
    }
}

async fn read(counter: i64) -> (Store, Postgres) {
    let store = Store::memory();
    let event =
        NewEvent::new(EventType::new("meter.Read").unwrap(), format!("{{\"counter\":{counter}}}"));
    store
        .append(Append::of(vec![event.in_stream(StreamName::new("meter-1").unwrap())]))
        .await
        .unwrap();
    (store, Postgres::at(&PostgresServer::shared().database("statements")).unwrap())
}

#[tokio::test]
async fn a_table_that_cannot_be_made_stops_the_start_with_what_the_server_says() {
    let (store, postgres) = read(1).await;
    let wrong = Readings { set_up: "CREATE TABEL readings (counter bigint)", insert: INSERT };
    let refused = Runtime::new(&store).project(wrong, postgres).start().await.err().unwrap();
    let StartError::SetUp { name: "readings", error, .. } = &refused else { panic!("{refused:?}") };
    assert!(error.contains("syntax error at or near \"TABEL\""), "{refused}");
    assert!(refused.to_string().contains("mend `set_up`"), "{refused}");
}

#[tokio::test]
async fn a_statement_that_fails_parks_its_event_with_what_the_server_says() {
    let misspelt = "INSERT INTO reedings (counter) VALUES ($1)";
    let cases = [
        (1, misspelt, "relation \"reedings\" does not exist"),
        (100, INSERT, "violates check constraint \"small\""),
    ];
    for (counter, insert, says) in cases {
        let (store, postgres) = read(counter).await;
        let running = Runtime::new(&store)
            .project(Readings { set_up: TABLE, insert }, postgres)
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
