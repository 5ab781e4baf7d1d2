//! Rows that cannot be read or written: what the server says, or the limit, reaches anyone who has
//! to fix it.

use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{ParkedState, Projection, ProjectionError};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
use leftfold_proving::RedisServer;
use leftfold_redis::redis::{self, AsyncTypedCommands};
use leftfold_redis::{Redis, Writes};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Cat {
    Seen { name: String },
}

impl Event for Cat {
    const NAMESPACE: &'static str = "cat";
}

/// Counts how often each was seen.
struct Sightings;

impl Projection<Redis> for Sightings {
    const NAME: &'static str = "sightings";
    type Event = Cat;

    async fn apply(&self, rows: &mut Writes, event: &Recorded<Cat>) -> Result<(), ProjectionError> {
        let Cat::Seen { name } = &event.event;
        let before = rows.read(name).await?.map_or(0, |before| before.len());
        rows.put(name.clone(), vec![b'|'; before + 1])?;
        Ok(())
    }
}

async fn seen(store: &Store, name: &str) -> Position {
    let event =
        NewEvent::new(EventType::new("cat.Seen").unwrap(), format!("{{\"name\":\"{name}\"}}"));
    store
        .append(Append::of(vec![event.in_stream(StreamName::new("cat-1").unwrap())]))
        .await
        .unwrap();
    store.head().position
}

#[tokio::test]
async fn a_row_that_cannot_be_read_or_written_parks_its_event_with_the_reason() {
    for name in ["tom".to_owned(), "x".repeat(100_000)] {
        let url = RedisServer::shared().database();
        let (store, redis) = (Store::memory(), Redis::at(&url).unwrap());
        let first = seen(&store, "kit").await;
        let running = Runtime::new(&store).project(Sightings, redis).start().await.unwrap();
        running
            .projections()
            .wait_until("sightings", first, Duration::from_secs(60))
            .await
            .unwrap();
        let mut others =
            redis::Client::open(&*url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let is_short = name.len() < 100;
        if is_short {
            // Somebody else puts a list where the row is to be.
            let keys: Vec<String> = others.keys("*kit*").await.unwrap();
            let [key] = keys.as_slice() else { panic!("{keys:?}") };
            others.lpush(key.replace("kit", &name), "a list").await.unwrap();
        }
        let second = seen(&store, &name).await;
        let reached =
            running.projections().wait_until("sightings", second, Duration::from_secs(60)).await;
        assert!(reached.is_err(), "the event is in the rows");
        let parked = running.projections().parked("sightings").unwrap();
        let [one] = parked.as_slice() else { panic!("{parked:?}") };
        let ParkedState::Failed { error, .. } = &one.state else { panic!("{one:?}") };
        let says = if is_short { "WRONGTYPE" } else { "a key of 100000 bytes; they have 1 to" };
        assert!(error.contains(says), "{error}");
        running.stop().await.unwrap();
    }
}
