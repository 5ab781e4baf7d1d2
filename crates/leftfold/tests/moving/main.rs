//! An application moves from one machine to PostgreSQL, and back. The book's chapter on PostgreSQL
//! tells it.

mod shop;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leftfold::copy::{Copy, Transformed};
use leftfold::log::Log;
use leftfold::prelude::*;
use leftfold::runtime::projection::{Memory, Outbox};
use leftfold::runtime::{Clock, RunningRuntime};
use leftfold_postgres::PostgresStore;
use leftfold_proving::PostgresServer;
use leftfold_testing::HandClock;

use shop::{ChargeCard, Expiry, Mail, Order, OrderCommand, PAY_WITHIN, States, Totals, World};

const SOON: Duration = Duration::from_secs(20);

/// Starts all that runs behind the store.
async fn start(
    store: &Store,
    world: &World,
    clock: &Arc<HandClock>,
) -> (RunningRuntime, Memory<Totals>) {
    let rows = Memory::<Totals>::new();
    let runtime = Runtime::new(store)
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .effect(ChargeCard(world.clone()))
        .process::<Expiry>()
        .project(Mail, Outbox::new(store, world.clone()))
        .project(States, rows.clone());
    (runtime.start().await.unwrap(), rows)
}

/// Places an order under an id of its own, and pays it.
async fn order(store: &Store, name: &str, pays: bool) -> Position {
    let orders = store.aggregate::<Order>();
    let place = OrderCommand::Place { cents: 500 };
    let mut at = orders
        .command(name, place)
        .id("shop", name)
        .request(b"place")
        .execute()
        .await
        .unwrap()
        .position;
    if pays {
        at = orders.execute(name, OrderCommand::Pay).await.unwrap().position;
    }
    at
}

/// Waits until the read model has an order in a state.
async fn until(
    running: &RunningRuntime,
    rows: &Memory<Totals>,
    store: &Store,
    state: (&str, &str),
) {
    let mut changes = store.status();
    let found = async {
        loop {
            let head = store.head().position;
            running.projections().wait_until("states", head, SOON).await.unwrap();
            if rows.read(|rows| rows.get(state.0) == Some(&state.1)).await {
                return;
            }
            changes.wait_for(|status| status.head.position > head).await.unwrap();
        }
    };
    let late = tokio::time::timeout(SOON, found).await;
    assert!(late.is_ok(), "{state:?} was not reached");
}

async fn stop(running: RunningRuntime) {
    running.stop().await.unwrap();
}

// ANCHOR: copy
/// Copies everything into an empty store. What writes the old one was stopped.
async fn moved(old: &Store, new: &Store) {
    let copy = Copy::from(old).into(new).through(|_| Transformed::Keep);
    copy.run_until_caught_up().await.unwrap();
    copy.switch().await.unwrap();
    let report = copy.verify().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}
// ANCHOR_END: copy

fn on_disk(place: &Path) -> Store {
    Store::new(Log::open(place, Default::default()).unwrap().0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_moves_to_postgres_and_back_and_nothing_happens_twice() {
    let place = tempfile::tempdir().unwrap();
    let (world, clock) = (World::default(), Arc::new(HandClock::going()));

    // On one machine: one order is paid, one is not.
    let log = on_disk(&place.path().join("events"));
    let (running, rows) = start(&log, &world, &clock).await;
    order(&log, "paid-1", true).await;
    order(&log, "unpaid-1", false).await;
    until(&running, &rows, &log, ("paid-1", "paid")).await;
    stop(running).await;

    // ANCHOR: move
    let url = format!("{}?schema=shop", PostgresServer::shared().database("moving"));
    let backend = PostgresStore::open(&url).await.unwrap();
    let postgres = Store::new(backend.clone());
    moved(&log, &postgres).await;
    backend.verify(|_| {}).await.unwrap();
    // ANCHOR_END: move

    // The same code goes on. A request that was answered is answered again.
    let (running, rows) = start(&postgres, &world, &clock).await;
    let again = OrderCommand::Place { cents: 500 };
    let again = postgres.aggregate::<Order>().command("paid-1", again);
    let again = again.id("shop", "paid-1").request(b"place").execute().await;
    assert!(again.is_ok(), "it is recognised: {again:?}");
    order(&postgres, "paid-2", true).await;
    order(&postgres, "unpaid-2", false).await;
    until(&running, &rows, &postgres, ("paid-2", "paid")).await;
    // The timer that was set on the other machine is due here.
    clock.advance(PAY_WITHIN);
    until(&running, &rows, &postgres, ("unpaid-1", "expired")).await;
    until(&running, &rows, &postgres, ("unpaid-2", "expired")).await;
    stop(running).await;

    // And back.
    let log = on_disk(&place.path().join("again"));
    moved(&postgres, &log).await;
    let (running, rows) = start(&log, &world, &clock).await;
    order(&log, "paid-3", true).await;
    until(&running, &rows, &log, ("paid-3", "paid")).await;
    until(&running, &rows, &log, ("unpaid-2", "expired")).await;
    stop(running).await;

    let mut charged = world.charged.lock().unwrap().clone();
    charged.sort_unstable();
    assert_eq!(charged, ["paid-1", "paid-2", "paid-3"], "each was charged once");
    let mut mailed = world.mailed.lock().unwrap().clone();
    mailed.sort_unstable();
    assert_eq!(mailed, ["paid-1", "paid-2", "paid-3", "unpaid-1", "unpaid-2"]);
}
