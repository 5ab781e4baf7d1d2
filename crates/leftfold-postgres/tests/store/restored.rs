//! A history that went back: the database is restored from an older copy.

use std::time::Duration;

use leftfold_core::store::{
    AppendError, Checkpoint, Position, Query, Read, ReadError, RecordedEvent, State, Store,
    SubscribeError,
};
use leftfold_postgres::tokio_postgres::error::SqlState;
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use tokio::time::timeout;

use crate::ledger::{Ledger, accept, attempt};
use crate::support::{place, rows};

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store of which there is a copy, with requests that came after it.
struct CopiedStore {
    schema: String,
    url: String,
    store: Store,
    dump: String,
    /// Events when the copy was made.
    copied: Position,
    /// Events before it was restored, and a consumer at their end.
    events: Vec<RecordedEvent>,
    consumer: Checkpoint,
}

impl CopiedStore {
    async fn new() -> Self {
        let (schema, url) = place("restored");
        let store = Store::new(PostgresStore::open(&url).await.unwrap());
        send(&store, "old", 1..=3).await;
        let server = PostgresServer::shared();
        let dump = server.dump(&server.url(), &schema);
        let copied = store.head().position;
        send(&store, "old", 4..=6).await;
        let events = all(&store).await;
        let consumer = store.checkpoint_at(store.head().position).await.unwrap();
        Self { schema, url, store, dump, copied, events, consumer }
    }

    async fn restore(&self) {
        let client = rows(&PostgresServer::shared().url()).await;
        let statements = format!("DROP SCHEMA {} CASCADE; {}", self.schema, self.dump);
        // Whoever reads meanwhile may have a lock that this one waits for, and wait for one of its.
        while let Err(error) = client.batch_execute(&statements).await {
            assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
        }
    }

    async fn declare(&self) -> Store {
        let options = PostgresStoreOptions::at(&self.url).unwrap();
        Store::new(PostgresStore::declare_restored(options).await.unwrap())
    }
}

async fn send(store: &Store, writer: &str, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        accept(store, writer, number, |_| {}).await;
    }
}

async fn all(store: &Store) -> Vec<RecordedEvent> {
    store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap()
}

async fn takes_nothing_any_more(store: &Store) {
    let mut status = store.status();
    let ended = |state: &State| matches!(state, State::ReadOnly { .. });
    let told = timeout(PATIENCE, status.wait_for(|status| ended(&status.state))).await;
    told.expect("the status tells it").unwrap();
    let refused = attempt(store, "old", 8).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    let refused = store.page(Read::matching(Query::all(), Position(1))).await;
    assert!(matches!(refused, Err(ReadError::Io { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_only_reads_notices_that_its_history_went_back() {
    let old = CopiedStore::new().await;
    let reader = Store::new(PostgresStore::open(&old.url).await.unwrap());
    let before = reader.head();
    old.restore().await;
    takes_nothing_any_more(&reader).await;
    assert_eq!(reader.head(), before);
}

/// The connection stands all the time, so nothing but the rows tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_adds_nothing_to_a_history_that_went_back_or_grew_anew() {
    for grows in [false, true] {
        let old = CopiedStore::new().await;
        old.restore().await;
        if grows {
            // Whoever opens it now cannot know.
            let other = Store::new(PostgresStore::open(&old.url).await.unwrap());
            send(&other, "new", 1..=9).await;
        }
        let direct = Store::new(PostgresStore::open(&old.url).await.unwrap());
        let refused = attempt(&old.store, "old", 8).await;
        assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{grows} {refused:?}");
        takes_nothing_any_more(&old.store).await;
        let sent = r#"{"writer":"old","number":8}"#;
        assert!(all(&direct).await.iter().all(|event| event.data != sent));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_restore_begins_a_life_with_other_ids_and_consumers_notice() {
    let old = CopiedStore::new().await;
    old.store.close().await.unwrap();
    old.restore().await;
    let undeclared = Store::new(PostgresStore::open(&old.url).await.unwrap());
    assert_eq!(undeclared.identity(), old.store.identity());
    let ahead = undeclared.verify(&old.consumer).await;
    assert!(matches!(ahead, Err(SubscribeError::Ahead { .. })), "{ahead:?}");
    let restored = old.declare().await;
    takes_nothing_any_more(&undeclared).await;
    let epoch = restored.identity().epoch;
    assert_eq!((epoch.number, epoch.began_after), (2, old.copied));
    assert_eq!(restored.identity().store, old.store.identity().store);
    // The same requests as before, of which the store knows the first three.
    send(&restored, "old", 1..=8).await;
    let other = restored.verify(&old.consumer).await;
    assert!(matches!(other, Err(SubscribeError::OtherHistory { .. })), "{other:?}");
    let events = all(&restored).await;
    let copied = usize::try_from(old.copied.0).unwrap();
    assert_eq!(events[..copied], old.events[..copied]);
    let later = |events: &[RecordedEvent]| -> Vec<_> {
        events[copied..].iter().map(|event| event.id).collect()
    };
    let (before, after) = (later(&old.events), later(&events));
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
    assert_eq!(events[copied].data, old.events[copied].data);
    let mut ledger = Ledger::default();
    send(&restored, "new", 1..=1).await;
    ledger.note("new", 1, accept(&restored, "new", 1, |_| {}).await);
    ledger.check(&PostgresStore::open(&old.url).await.unwrap()).await;
}
