//! Commits whose answers are lost on the way: the store finds out what came of each.
//!
//! `LEFTFOLD_SEED` repeats the choice of cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leftfold_core::store::{
    AppendError, Holder, LeaseRequest, Leased, Outcome, ReadError, State, Store,
};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::{extent, seed};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::{Ledger, accept, attempt};
use crate::proxy::{Proxy, ProxyMode};
use crate::support::{label, place, port};

const CUTS: [ProxyMode; 3] =
    [ProxyMode::CutBeforeCommit, ProxyMode::CutBehindCommit, ProxyMode::CutAnswer];
/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store by a proxy, and the same store without it.
struct ProxiedStore {
    proxy: Proxy,
    store: Store,
    direct: PostgresStore,
}

impl ProxiedStore {
    async fn new(doubt_within: Duration) -> Self {
        let (_, url) = place("lost");
        let proxy = Proxy::before(port(PostgresServer::shared())).await;
        let options = PostgresStoreOptions {
            doubt_within,
            transaction_within: Duration::from_millis(200),
            ..PostgresStoreOptions::at(&format!("{}&connect_timeout=1", proxy.through(&url)))
                .unwrap()
        };
        let store = Store::new(PostgresStore::open_with(options).await.unwrap());
        let direct = PostgresStore::open(&url).await.unwrap();
        Self { proxy, store, direct }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_answered_rightly_and_carried_out_once() {
    for cut in CUTS {
        let ProxiedStore { proxy, store, direct } = ProxiedStore::new(PATIENCE).await;
        let mut ledger = Ledger::default();
        ledger.note("a", 1, accept(&store, "a", 1, |_| {}).await);
        for number in 2..=6 {
            proxy.set_once(cut, ProxyMode::Pass);
            let outcome = attempt(&store, "a", number).await;
            let Ok(Outcome::Appended(appended)) = outcome else { panic!("{cut:?}: {outcome:?}") };
            ledger.note("a", number, appended.first);
            assert_eq!(proxy.mode(), ProxyMode::Pass, "a connection was cut");
        }
        ledger.check(&direct).await;
    }
}

/// A lease is in no append, so the history does not tell if it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_answer_is_lost_is_held_under_the_fence_that_was_answered() {
    for cut in CUTS {
        let ProxiedStore { proxy, store, direct } = ProxiedStore::new(PATIENCE).await;
        let others = Store::new(direct);
        accept(&store, "a", 1, |_| {}).await;
        proxy.set_once(cut, ProxyMode::Pass);
        let ask = |work| LeaseRequest::new(label(work), Holder::random(), PATIENCE);
        let Leased::Held(lease) = store.lease(ask("first")).await.unwrap() else {
            panic!("{cut:?}")
        };
        assert_eq!(proxy.mode(), ProxyMode::Pass, "a connection was cut");
        let held = others.leases().await.unwrap();
        assert_eq!(held.len(), 1, "{cut:?}");
        let Leased::Held(second) = others.lease(ask("second")).await.unwrap() else { panic!() };
        assert!(second.fence > lease.fence, "{cut:?}: {second:?} {lease:?}");
        proxy.set_once(cut, ProxyMode::Pass);
        store.release(lease).await.unwrap();
        assert_eq!(others.leases().await.unwrap().len(), 1, "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_a_commit_in_doubt_is_unknown_and_what_comes_later_unavailable() {
    for (cut, then) in [
        (ProxyMode::CutBeforeCommit, ProxyMode::Away),
        (ProxyMode::CutAnswer, ProxyMode::Away),
        (ProxyMode::CutAnswer, ProxyMode::Silent),
    ] {
        let ProxiedStore { proxy, store, direct } =
            ProxiedStore::new(Duration::from_millis(300)).await;
        let mut ledger = Ledger::default();
        ledger.note("a", 1, accept(&store, "a", 1, |_| {}).await);
        proxy.set_once(cut, then);
        let outcome = timeout(PATIENCE, attempt(&store, "a", 2)).await.expect("it is answered");
        assert!(matches!(outcome, Err(AppendError::Unknown { .. })), "{cut:?}: {outcome:?}");
        assert_eq!(proxy.mode(), then);
        let outcome = timeout(PATIENCE, attempt(&store, "a", 4)).await.expect("it is answered");
        assert!(matches!(outcome, Err(AppendError::Unavailable { .. })), "{cut:?}: {outcome:?}");
        proxy.set(ProxyMode::Pass);
        let is_there = cut != ProxyMode::CutBeforeCommit;
        match attempt(&store, "a", 2).await.unwrap() {
            Outcome::Repeated(answered) if is_there => ledger.note("a", 2, answered.first),
            Outcome::Appended(appended) if !is_there => ledger.note("a", 2, appended.first),
            other => panic!("{cut:?}: {other:?}"),
        }
        ledger.note("a", 3, accept(&store, "a", 3, |_| {}).await);
        ledger.check(&direct).await;
        assert_eq!(store.status().borrow().state, State::Open);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_given_up_and_used_again_when_it_goes_on() {
    let ProxiedStore { proxy, store, direct } = ProxiedStore::new(Duration::from_millis(300)).await;
    let mut ledger = Ledger::default();
    ledger.note("a", 1, accept(&store, "a", 1, |_| {}).await);
    proxy.set(ProxyMode::Silent);
    let outcome = timeout(PATIENCE, attempt(&store, "a", 2)).await.expect("it is answered");
    assert!(matches!(outcome, Err(AppendError::Unavailable { .. })), "{outcome:?}");
    proxy.set(ProxyMode::Pass);
    ledger.note("a", 2, accept(&store, "a", 2, |_| {}).await);
    ledger.check(&direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_cuts_lose_nothing_double_nothing_and_answer_nothing_that_is_not_so() {
    const TASKS: usize = 6;
    let mut random = fastrand::Rng::with_seed(seed());
    let ProxiedStore { proxy, store, direct } = ProxiedStore::new(Duration::from_millis(500)).await;
    let requests = extent(30, 800);
    let unknown = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        // Half of them write beside the proxy.
        let store = if task % 2 == 0 { store.clone() } else { Store::new(direct.clone()) };
        let (unknown, writer) = (Arc::clone(&unknown), task.to_string());
        tasks.spawn(async move {
            let mut accepted = Vec::new();
            for number in 1..=requests {
                let hear = |error: &AppendError| {
                    let is_unknown = matches!(error, AppendError::Unknown { .. });
                    unknown.fetch_add(usize::from(is_unknown), Ordering::Relaxed);
                };
                accepted.push(accept(&store, &writer, number, hear).await);
            }
            (writer, accepted)
        });
    }
    let (mut ledger, mut cuts) = (Ledger::default(), 0_u64);
    let cutting = async {
        loop {
            let cut = CUTS[random.usize(..3)];
            let then = if random.u8(..4) == 0 { ProxyMode::Away } else { ProxyMode::Pass };
            proxy.set_once(cut, then);
            proxy.is_over(cut).await;
            cuts += 1;
            for _ in 0..random.u8(..150) {
                let _ = direct_head(&direct).await;
            }
            proxy.set(ProxyMode::Pass);
            let _ = direct_head(&direct).await;
        }
    };
    let joining = async {
        while let Some(ended) = tasks.join_next().await {
            let (writer, accepted) = ended.unwrap();
            (1..).zip(accepted).for_each(|(number, at)| ledger.note(&writer, number, at));
        }
    };
    tokio::select! {
        () = joining => {}
        () = cutting => {}
    }
    ledger.check(&direct).await;
    let (all, unknown) = (ledger.all(), unknown.load(Ordering::Relaxed));
    eprintln!("{cuts} cuts, {unknown} unknown: all {all} accepted requests are there once");
}

/// Asks the server for something, which takes a moment.
async fn direct_head(direct: &PostgresStore) -> Result<(), ReadError> {
    Store::new(direct.clone()).version("own-0".try_into().unwrap()).await.map(|_| ())
}
