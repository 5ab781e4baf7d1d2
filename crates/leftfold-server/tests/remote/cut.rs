//! Connections that are cut at any byte: every rule holds, nothing is doubled and nothing lost.

use std::collections::VecDeque;
use std::time::Duration;

use leftfold::store::{
    Append, AppendError, CommandId, CommandRecord, Digest, EventType, Holder, Label, LeaseRequest,
    Leased, NewEvent, Outcome, Position, Query, Read, ReadError, State, Store, Version,
};
use leftfold::testing::conformance::{Factory, Reopens, conformance};
use leftfold::testing::seed;
use leftfold_proving::CuttingProxy;
use leftfold_remote::{RemoteOptions, RemoteStore};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{RunningServer, open_at, options_at};

/// Powers of two of the bytes after which a connection is cut: some do not get beyond their first
/// call, some carry the largest append there is.
const BYTES_LOG2: std::ops::Range<u32> = 9..27;

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server behind a proxy that cuts each connection somewhere.
struct ServedBadly(u64);

impl ServedBadly {
    async fn handle(&self, proxy: &CuttingProxy) -> Store {
        let options = RemoteOptions { queue_bytes: 32 << 20, ..options_at(proxy.port()) };
        loop {
            // The first connection may be one that is cut before it says which store there is.
            if let Ok(store) = RemoteStore::open_with(options.clone()).await {
                return Store::new(store);
            }
        }
    }
}

impl Factory for ServedBadly {
    type Place = (CuttingProxy, RunningServer, TempDir);
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> Self::Place {
        let directory = tempfile::tempdir().unwrap();
        let log = leftfold::open(directory.path().to_str().unwrap()).await.unwrap();
        let server = RunningServer::of(log).await;
        let proxy = CuttingProxy::before(server.port);
        proxy.cut_after(BYTES_LOG2, self.0);
        (proxy, server, directory)
    }

    async fn open(&self, (proxy, ..): &Self::Place) -> Store {
        self.handle(proxy).await
    }

    async fn open_beside(&self, (proxy, ..): &Self::Place, _: &Store) -> Store {
        self.handle(proxy).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_holds_over_connections_that_are_cut() {
    conformance(&ServedBadly(seed())).await;
}

fn event() -> NewEvent {
    NewEvent::new(EventType::new("test.Happened").unwrap(), "{}")
        .in_stream("a-1".try_into().unwrap())
}

fn with_id(key: &str) -> Append {
    let (id, digest) = (CommandId::new("cut", key), Digest::UNCHECKED);
    let record = CommandRecord { id, digest, answer: "".into() };
    Append { command: Some(record), ..Append::of(vec![event()]) }
}

async fn version(store: &Store) -> u64 {
    store.version("a-1".try_into().unwrap()).await.unwrap().0
}

/// Neither with a command id nor without: the server knows what it has taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_over_connections_that_are_cut_go_in_once_and_in_their_order() {
    const TASKS: u64 = 4;
    const EACH: u64 = 250;
    const UNDER_WAY: u64 = 10;
    let server = RunningServer::of(Store::memory()).await;
    let proxy = CuttingProxy::before(server.port);
    let store = open_at(proxy.port()).await;
    proxy.cut_after(9..14, seed());
    proxy.cut();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            let append = |number| {
                let key = format!("{task} {number}");
                let plain = Append::of(vec![event()]);
                store.append(if number % 2 == 0 { with_id(&key) } else { plain })
            };
            // Many of them are under way at once, and not all: those would be one message.
            let mut handed_over: VecDeque<_> = (0..UNDER_WAY).map(append).collect();
            let mut rest = UNDER_WAY..EACH;
            let mut last = Position::START;
            while let Some(pending) = handed_over.pop_front() {
                let outcome = pending.await;
                let Ok(Outcome::Appended(appended)) = outcome else { panic!("{outcome:?}") };
                assert!(appended.first > last, "in the order in which they were handed over");
                last = appended.first;
                handed_over.extend(rest.next().map(append));
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(proxy.cuts() > 3, "{} cuts", proxy.cuts());
    assert_eq!(version(&store).await, TASKS * EACH);
    assert_eq!(store.head().position, Position(TASKS * EACH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_requests_fail_in_a_bounded_time_and_go_on_when_it_is_back() {
    let server = RunningServer::of(Store::memory()).await;
    let proxy = CuttingProxy::before(server.port);
    let options = RemoteOptions {
        patience: Duration::from_millis(300),
        alive_every: Duration::from_millis(200),
        ..options_at(proxy.port())
    };
    for silent in [false, true] {
        let store = Store::new(RemoteStore::open_with(options.clone()).await.unwrap());
        // The way to the server is open.
        store.append(Append::of(vec![event()])).await.unwrap();
        let before = version(&store).await;
        let begin = |is_away| {
            if silent { proxy.set_silent(is_away) } else { proxy.set_away(is_away) }
        };
        begin(true);
        let outcome = store.append(Append::of(vec![event()])).await;
        // It was sent into the silence, or it was not sent.
        let is_right = match &outcome {
            Err(AppendError::Unknown { .. }) => true,
            Err(AppendError::Unavailable { .. }) => !silent,
            _ => false,
        };
        assert!(is_right, "{outcome:?}");
        let read = store.page(Read::matching(Query::all(), Position(1))).await;
        assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
        let asked = LeaseRequest::new(
            Label::new(format!("work {silent}")).unwrap(),
            Holder::random(),
            Duration::from_secs(60),
        );
        store.lease(asked.clone()).await.unwrap_err();
        let outcome = store.append(Append::of(vec![event()])).await;
        assert!(matches!(outcome, Err(AppendError::Unavailable { .. })), "{outcome:?}");
        // Only after seconds its status says so.
        let state = store.status().borrow().state.clone();
        assert!(matches!(state, State::Open | State::Away { .. }), "{state:?}");
        begin(false);
        let last = loop {
            match store.append(Append::of(vec![event()])).await {
                Ok(Outcome::Appended(appended)) => break appended.versions[0],
                Err(AppendError::Unavailable { .. }) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        };
        assert!(last == Version(before + 1) || last == Version(before + 2), "{last} {before}");
        // The append into the silence may come now, after the one that was answered.
        let now = Version(version(&store).await);
        assert!(last <= now && now <= Version(before + 2), "{last} {now} {before}");
        assert!(matches!(store.lease(asked).await, Ok(Leased::Held(_))));
        store.close().await.unwrap();
    }
}

/// Waits until the state of a store is as asked for.
async fn state_of(store: &Store, is_so: impl Fn(&State) -> bool) -> State {
    let mut status = store.status();
    let told = timeout(PATIENCE, status.wait_for(|status| is_so(&status.state))).await;
    told.expect("the status tells it").unwrap().state.clone()
}

/// A handle said that its store was open, however long nothing answered; so did a server that
/// serves such a handle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_told_by_the_status_and_by_that_of_whoever_serves_it() {
    let server = RunningServer::of(Store::memory()).await;
    let beside = server.open().await;
    for silent in [false, true] {
        let proxy = CuttingProxy::before(server.port);
        let store = open_at(proxy.port()).await;
        // It keeps this handle as its store, and is itself here all the time.
        let relay = RunningServer::of(store.clone()).await;
        let behind = relay.open().await;
        behind.append(Append::of(vec![event()])).await.unwrap();
        let begin = |is_away| {
            if silent { proxy.set_silent(is_away) } else { proxy.set_away(is_away) }
        };
        begin(true);
        let is_away = |state: &State| matches!(state, State::Away { .. });
        for store in [&store, &behind] {
            let State::Away { detail, .. } = state_of(store, is_away).await else { panic!() };
            let named = format!("the server 127.0.0.1:{} is away: ", proxy.port());
            assert!(detail.starts_with(&named), "{detail}");
            if silent {
                assert!(detail.ends_with("no answer came for 3 seconds"), "{detail}");
            }
        }
        let at = beside.append(Append::of(vec![event()])).await.unwrap();
        let Outcome::Appended(at) = at else { panic!("{at:?}") };
        assert!(behind.head().position < at.first, "it is the end that was seen last");
        begin(false);
        for store in [&store, &behind] {
            state_of(store, |state| *state == State::Open).await;
            let mut status = store.status();
            let shown = status.wait_for(|status| status.head.position == at.first);
            timeout(PATIENCE, shown).await.expect("it follows again").unwrap();
        }
        behind.append(Append::of(vec![event()])).await.unwrap();
        store.close().await.unwrap();
    }
}

/// A server that was given an old copy of its directory, and was not told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_lost_what_was_acknowledged_ends_the_handle_and_says_so() {
    let places = tempfile::tempdir().unwrap();
    let (place, copy) = (places.path().join("log"), places.path().join("copy"));
    let log = leftfold::open(place.to_str().unwrap()).await.unwrap();
    log.append(Append::of(vec![event()])).await.unwrap();
    log.close().await.unwrap();
    let copied = std::process::Command::new("cp").arg("-r").args([&place, &copy]).status();
    assert!(copied.unwrap().success());

    let of = async |place: &std::path::Path| {
        RunningServer::of(leftfold::open(place.to_str().unwrap()).await.unwrap()).await
    };
    let (whole, old) = (of(&place).await, of(&copy).await);
    let proxy = CuttingProxy::before(whole.port);
    let store = open_at(proxy.port()).await;
    store.append(Append::of(vec![event()])).await.unwrap();
    proxy.lead_to(old.port);
    proxy.cut();
    let mut status = store.status();
    status.wait_for(|status| status.state == State::Closed).await.unwrap();
    let outcome = store.append(Append::of(vec![event()])).await;
    let says = outcome.unwrap_err().to_string();
    assert!(says.contains("has lost what was acknowledged"), "{says}");
    assert_eq!(old.open().await.head().position, Position(1));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_store_behind_the_address_ends_the_handle_and_says_so() {
    let (one, other) =
        (RunningServer::of(Store::memory()).await, RunningServer::of(Store::memory()).await);
    let proxy = CuttingProxy::before(one.port);
    let store = open_at(proxy.port()).await;
    store.append(Append::of(vec![event()])).await.unwrap();
    let mut subscription = store.subscribe(Query::all(), Position(1));
    proxy.lead_to(other.port);
    proxy.cut();
    let ended = loop {
        if let Err(error) = subscription.next().await {
            break error;
        }
    };
    let says = |text: String| assert!(text.contains("another store"), "{text}");
    says(ended.to_string());
    let outcome = store.append(Append::of(vec![event()])).await;
    assert!(matches!(outcome, Err(AppendError::ReadOnly { .. })), "{outcome:?}");
    says(outcome.unwrap_err().to_string());
    assert_eq!(store.status().borrow().state, State::Closed);
    assert_eq!(other.open().await.head().position, Position::START);
    store.close().await.unwrap();
}
