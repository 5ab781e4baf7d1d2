//! A work that its runtime cannot do goes to one that can, and does not go to and fro.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{
    Bus, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_core::store::Store;

use crate::runtime_stage::SECOND;
use crate::sharing::{Asking, Cluster, Worker};

/// Step in which the time passes while little happens.
const LEAP: Duration = Duration::from_secs(2);

/// Connection of one process to the broker.
#[derive(Clone, Default)]
struct Line {
    is_cut: Arc<AtomicBool>,
    tries: Arc<AtomicU32>,
    sent: Arc<Mutex<Vec<u64>>>,
}

impl Line {
    fn to(broker: &Arc<Mutex<Vec<u64>>>) -> Self {
        Self { sent: broker.clone(), ..Self::default() }
    }

    fn cut(self) -> Self {
        self.is_cut.store(true, Ordering::SeqCst);
        self
    }

    fn is_mended(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    /// Returns the number of tries since it was last asked.
    fn tries(&self) -> u32 {
        self.tries.swap(0, Ordering::SeqCst)
    }
}

impl Bus for Line {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(ProjectionError::message("no route to the broker"));
        }
        let numbers = messages.iter().map(|message| message.sequence.0);
        self.sent.lock().unwrap().extend(numbers);
        Ok(())
    }
}

/// Sends on everything that is asked for.
struct Forwarded;

impl Projection<Outbox<Line>> for Forwarded {
    const NAME: &'static str = "forwarded";
    type Event = Asking;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<Asking>,
    ) -> Result<(), ProjectionError> {
        let Asking::Asked { number } = event.event;
        outgoing.send("jobs", "all", number.to_string());
        Ok(())
    }
}

fn forwards(runtime: Runtime, store: &Store, line: &Line) -> Runtime {
    runtime.project(Forwarded, Outbox::new(store, line.clone()))
}

async fn start(cluster: &mut Cluster, name: &str, line: &Line) {
    let store = cluster.stage.process().store;
    cluster.start_with(name, |runtime| forwards(runtime, &store, line)).await;
}

/// Returns the runtime that has the outbox.
async fn forwards_now(cluster: &Cluster) -> Option<String> {
    let spread = cluster.spread().await;
    let has = |works: &Vec<(String, _)>| works.iter().any(|(work, _)| work == "forwarded");
    spread.iter().find(|(_, works)| has(works)).map(|(name, _)| name.clone())
}

/// An outbox whose broker was away for the process that had it kept its lease, and no other process
/// ever sent anything.
#[tokio::test]
async fn an_outbox_goes_to_a_runtime_that_reaches_the_broker_and_stays_there() {
    let (mut cluster, broker) = (Cluster::of(&[]).await, Arc::default());
    let (cut, whole) = (Line::to(&broker).cut(), Line::to(&broker));
    start(&mut cluster, "one", &cut).await;
    cluster.pass(2 * SECOND).await;
    cluster.ask().await;
    cluster.pass(2 * SECOND).await;
    assert!(cut.tries() > 0 && broker.lock().unwrap().is_empty());
    // It has more to do than the other one, so the plan would even that out.
    let store = cluster.stage.process().store;
    cluster
        .start_with("two", |runtime| {
            let runtime = runtime.process::<Worker<0>>().process::<Worker<1>>();
            forwards(runtime.process::<Worker<2>>(), &store, &whole)
        })
        .await;
    cluster.pass(3 * SECOND).await;
    assert_eq!(broker.lock().unwrap().len(), 1);
    cut.tries();
    for asked in 2..=40 {
        cluster.ask().await;
        cluster.pass_in(LEAP, 30 * SECOND).await;
        assert_eq!(broker.lock().unwrap().len(), asked, "each within seconds");
    }
    let tries = cut.tries();
    assert!((1..=8).contains(&tries), "{tries} tries in twenty minutes");
    assert_eq!(forwards_now(&cluster).await.as_deref(), Some("two"));
    // Once it reaches the broker again it has its share again.
    cut.is_mended();
    for _ in 0..70 {
        cluster.ask().await;
        cluster.pass_in(LEAP, 30 * SECOND).await;
    }
    assert_eq!(forwards_now(&cluster).await.as_deref(), Some("one"));
    let mut sent = broker.lock().unwrap().clone();
    sent.dedup();
    assert_eq!((sent.len(), broker.lock().unwrap().len()), (110, 110));
}

#[tokio::test]
async fn while_nobody_reaches_the_broker_each_tries_seldom_and_whoever_can_goes_on() {
    let (mut cluster, broker) = (Cluster::of(&[]).await, Arc::default());
    let lines = [(); 3].map(|()| Line::to(&broker).cut());
    for (name, line) in ["one", "two", "three"].into_iter().zip(&lines) {
        start(&mut cluster, name, line).await;
    }
    cluster.ask().await;
    cluster.pass_in(LEAP, 120 * SECOND).await;
    for line in &lines {
        line.tries();
    }
    cluster.pass_in(LEAP, 600 * SECOND).await;
    for line in &lines {
        let tries = line.tries();
        assert!((1..=40).contains(&tries), "{tries} tries in ten minutes");
    }
    lines[1].is_mended();
    cluster.pass(40 * SECOND).await;
    assert_eq!(broker.lock().unwrap().len(), 1);
    assert_eq!(forwards_now(&cluster).await.as_deref(), Some("two"));
    // It goes on at once, though the others still cannot.
    cluster.ask().await;
    cluster.pass(SECOND).await;
    assert_eq!(broker.lock().unwrap().len(), 2);
}
