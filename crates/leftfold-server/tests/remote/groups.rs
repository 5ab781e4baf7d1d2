//! Groups of consumers over the native protocol: workers share events, each event is with one of
//! them, the events of a key keep their order, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use leftfold::store::{Append, EventType, NewEvent, Query, Store, StreamName, Tags, Version};
use leftfold_protocol::wire;
use leftfold_remote::{
    GivenEvent, GroupCallError, GroupKey, GroupOptions, GroupPlace, GroupState, GroupStrategy,
    RemoteConsumer, RemoteGroups, RemoteOptions, RemoteStore,
};
use leftfold_server::{ServerOptions, Users};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{RunningServer, options_at, raw_client, usual_options};
use crate::users::file;

async fn groups(server: &RunningServer) -> RemoteGroups {
    let options = RemoteOptions { patience: Duration::from_secs(30), ..options_at(server.port) };
    RemoteStore::open_with(options).await.unwrap().groups()
}

fn everything() -> GroupOptions {
    GroupOptions::of(Query::all())
}

async fn append(store: &Store, stream: &str, count: usize) {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let event = event.in_stream(StreamName::new(stream.to_owned()).unwrap());
    store.append(Append::of(vec![event; count])).await.unwrap();
}

/// Takes the next events of a consumer.
async fn taken<const COUNT: usize>(consumer: &mut RemoteConsumer) -> [GivenEvent; COUNT] {
    let mut taken = Vec::new();
    while taken.len() < COUNT {
        taken.push(consumer.next().await.unwrap());
    }
    taken.try_into().ok().unwrap()
}

fn places(taken: &[GivenEvent]) -> Vec<(u64, u32, bool)> {
    taken.iter().map(|one| (one.event.version().0, one.retries, one.is_replayed)).collect()
}

/// Looks at a group until it is as wanted; each look is a call to the server.
async fn until(groups: &RemoteGroups, name: &str, wanted: impl Fn(&GroupState) -> bool) {
    loop {
        let info = groups.info(name).await.unwrap();
        if wanted(&info) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_events_of_a_group_and_get_each_once() {
    const EVENTS: usize = 300;
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let groups = groups(&server).await;
    groups.create("all", &everything()).await.unwrap();
    let (done, mut handled) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for worker in 0..2 {
        let mut consumer = groups.consume("all", 5).named(&format!("worker {worker}"));
        let done = done.clone();
        workers.spawn(async move {
            loop {
                let delivery = consumer.next().await.unwrap();
                done.send((worker, delivery.event.position)).unwrap();
                delivery.acknowledge();
            }
        });
    }
    let is_there = |info: &GroupState| info.running.as_ref().map_or(0, |now| now.consumers.len());
    until(&groups, "all", |info| is_there(info) == 2).await;
    append(&store, "order-1", EVENTS).await;
    let mut by_worker = [0, 0];
    let mut positions = BTreeSet::new();
    while positions.len() < EVENTS {
        let (worker, position) = handled.recv().await.unwrap();
        by_worker[worker] += 1;
        assert!(positions.insert(position), "{position:?} came twice");
    }
    assert!(by_worker.iter().all(|count| *count > EVENTS / 5), "{by_worker:?}");
    until(&groups, "all", |info| info.lag == 0).await;
    let info = groups.info("all").await.unwrap();
    let running = info.running.unwrap();
    assert_eq!((running.in_flight, running.settled), (0, EVENTS as u64));
    assert_eq!(running.consumers[0].credit, 5);
}

/// Last versions of the streams that workers have handled, and the number of events of each.
struct HandledStreams {
    each: u64,
    last: Mutex<BTreeMap<String, u64>>,
}

impl HandledStreams {
    /// Notes an event; true if it was the last of all. None comes before the one before it was
    /// handled; one that its worker has for too long may be handled by another one meanwhile.
    fn note(&self, delivery: &GivenEvent) -> bool {
        let at = delivery.event.stream.as_ref().unwrap();
        let mut last = self.last.lock().unwrap();
        let known = last.get_mut(at.name.as_str()).unwrap();
        assert!(at.version.0 <= *known + 1, "{at:?} behind {known}");
        *known = at.version.0.max(*known);
        last.values().all(|known| *known == self.each)
    }
}

/// A worker that answers well, or too late, or not, and is killed now and then.
async fn fickle(
    groups: RemoteGroups,
    mut random: Rng,
    handled: Arc<HandledStreams>,
    done: mpsc::UnboundedSender<()>,
) {
    loop {
        let mut consumer = groups.consume("ordered", random.u32(1..6));
        let mut late = Vec::new();
        for _ in 0..random.u32(1..40) {
            let delivery = consumer.next().await.unwrap();
            match random.u32(..20) {
                0..=1 => delivery.retry(),
                2 => drop(delivery),
                3 => late.push(delivery),
                _ => {
                    if handled.note(&delivery) {
                        let _ = done.send(());
                    }
                    delivery.acknowledge();
                }
            }
        }
        if random.bool() {
            drop(late);
            consumer.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_key_keep_their_order_though_workers_refuse_are_late_and_die() {
    let seed = leftfold::testing::seed();
    println!("LEFTFOLD_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let (streams, each) = (8, leftfold::testing::extent(40, 400));
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let groups = groups(&server).await;
    let options = everything().ordered(GroupKey::Stream).retries(1_000_000);
    let options = options.answered_within(Duration::from_millis(20));
    groups.create("ordered", &options).await.unwrap();
    let names: Vec<_> = (0..streams).map(|number| format!("order-{number}")).collect();
    for _ in 0..each {
        for name in &names {
            append(&store, name, 1).await;
        }
    }
    let last = Mutex::new(names.into_iter().map(|name| (name, 0)).collect());
    let handled = Arc::new(HandledStreams { each, last });
    let (done, mut is_done) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let random = random.fork();
        workers.spawn(fickle(groups.clone(), random, Arc::clone(&handled), done.clone()));
    }
    tokio::select! {
        _ = is_done.recv() => {}
        ended = workers.join_next() => panic!("a worker ended: {ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_parked_by_wish_or_after_its_retries_and_comes_again_by_a_replay() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let groups = groups(&server).await;
    groups.create("all", &everything().retries(1)).await.unwrap();
    append(&store, "order-1", 4).await;
    let mut consumer = groups.consume("all", 10);
    let given: [GivenEvent; 4] = taken(&mut consumer).await;
    assert_eq!(places(&given), [(1, 0, false), (2, 0, false), (3, 0, false), (4, 0, false)]);
    let [refused, bad, skipped, good] = given;
    refused.retry();
    bad.park("the address is none");
    skipped.skip();
    good.acknowledge();
    let [refused] = taken(&mut consumer).await;
    assert_eq!((refused.event.version(), refused.retries), (Version(1), 1));
    refused.retry();
    until(&groups, "all", |info| info.parked == 2).await;
    let parked = groups.parked("all", 0).await.unwrap();
    let told = |at: usize| (parked[at].number, parked[at].is_wish, parked[at].retries);
    assert_eq!((told(0), told(1)), ((1, true, 0), (2, false, 1)));
    assert_eq!(parked[0].reason, "the address is none");
    assert_eq!(parked[0].event.as_ref().unwrap().version(), Version(2));
    assert_eq!(groups.parked("all", 1).await.unwrap(), parked[1..]);
    groups.replay("all", Some(1)).await.unwrap();
    let [again] = taken(&mut consumer).await;
    assert_eq!((again.event.version(), again.is_replayed), (Version(2), true));
    again.acknowledge();
    groups.replay("all", None).await.unwrap();
    let [again] = taken(&mut consumer).await;
    assert_eq!((again.event.version(), again.is_replayed), (Version(1), true));
    again.acknowledge();
    consumer.close().await;
    until(&groups, "all", |info| info.running.is_none() && info.parked == 0).await;
    assert_eq!(groups.parked("all", 0).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_deleted_ends_its_consumers_and_its_name_is_free() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let groups = groups(&server).await;
    groups.create("all", &everything()).await.unwrap();
    append(&store, "order-1", 1).await;
    let mut consumer = groups.consume("all", 1);
    let [first] = taken(&mut consumer).await;
    groups.delete("all").await.unwrap();
    assert_eq!(consumer.next().await.err(), Some(GroupCallError::NotFound));
    first.acknowledge();
    assert_eq!(groups.info("all").await.err(), Some(GroupCallError::NotFound));
    assert_eq!(groups.delete("all").await, Err(GroupCallError::NotFound));
    let end = everything().starting(GroupPlace::End);
    groups.create("all", &end).await.unwrap();
    append(&store, "order-2", 1).await;
    let [second] = taken(&mut consumer).await;
    assert_eq!(second.event.version(), Version(1));
    assert_eq!(second.event.position, store.head().position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_come_back_as_they_were_given_and_change_under_consumers() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let groups = groups(&server).await;
    let query = Query::category("order").and_tag("shop:1");
    let options = GroupOptions {
        strategy: GroupStrategy::OneAtATime,
        consumers_max: 1,
        ..GroupOptions::of(query).ordered(GroupKey::Tag("shop:".to_owned())).retries(3)
    };
    groups.create("shop", &options).await.unwrap();
    assert_eq!(groups.create("shop", &options).await, Err(GroupCallError::Exists));
    groups.create_if_absent("shop", &everything()).await.unwrap();
    groups.create("all", &everything().pinned(GroupKey::Correlation)).await.unwrap();
    let listed = groups.list().await.unwrap();
    let names: Vec<_> = listed.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["all", "shop"]);
    assert_eq!((&listed[1].options, listed[1].is_foreign), (&options, false));
    let mut first = groups.consume("shop", 1);
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let event = event.in_stream("order-1".try_into().unwrap());
    let event = event.tagged(Tags::none().with("shop:1"));
    store.append(Append::of(vec![event.clone()])).await.unwrap();
    let [held] = taken(&mut first).await;
    let full = groups.consume("shop", 1).next().await.err();
    assert_eq!(full, Some(GroupCallError::ConsumersMax { limit: 1 }));
    groups.update("shop", &GroupOptions { consumers_max: 2, ..options }).await.unwrap();
    held.retry();
    let [held] = taken(&mut first).await;
    assert_eq!(held.retries, 1);
    held.acknowledge();
    let mut second = groups.consume("shop", 1);
    store.append(Append::of(vec![event; 2])).await.unwrap();
    // Both events have one key: the second one waits for the answer to the first.
    let [held] = taken(&mut first).await;
    let is_there = |info: &GroupState| info.running.as_ref().map_or(0, |now| now.consumers.len());
    tokio::select! {
        early = second.next() => panic!("{:?}", early.map(|early| early.retries)),
        () = until(&groups, "shop", |info| is_there(info) == 2) => {}
    }
    held.skip();
    let last = tokio::select! {
        one = first.next() => one,
        other = second.next() => other,
    };
    last.unwrap().acknowledge();
    for credit in [0, 10_001] {
        let refused = groups.consume("all", credit).next().await.err();
        assert!(matches!(refused, Some(GroupCallError::Invalid { .. })), "{refused:?}");
    }
    let long = groups.create(&"x".repeat(201), &everything()).await;
    assert!(matches!(long, Err(GroupCallError::Invalid { .. })), "{long:?}");
    assert_eq!(groups.update("none", &everything()).await, Err(GroupCallError::NotFound));
    assert_eq!(groups.consume("none", 1).next().await.err(), Some(GroupCallError::NotFound));
    assert_eq!(groups.replay("none", None).await, Err(GroupCallError::NotFound));
}

/// A client that knows fewer settings than the one that made the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_an_update_leaves_out_stay_as_they_were() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = raw_client(server.port).await;
    let settings = wire::GroupSettings {
        query: Some((&Query::all()).into()),
        buffer_events: Some(10),
        checkpoint_after_ms: Some(77),
        ..wire::GroupSettings::default()
    };
    let name = "reports".to_owned();
    let made = wire::CreateGroupRequest { name, settings: Some(settings), start: None };
    client.create_group(made).await.unwrap();
    groups(&server).await.update("reports", &everything().retries(3)).await.unwrap();
    let asked = wire::GetGroupRequest { name: "reports".to_owned() };
    let info = client.get_group(asked).await.unwrap().into_inner().group.unwrap();
    let settings = info.settings.unwrap();
    assert_eq!(settings.retries_max, Some(3));
    assert_eq!((settings.buffer_events, settings.checkpoint_after_ms), (Some(10), Some(77)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_does_with_groups_what_the_rights_have() {
    let users = [("adm", "admin"), ("ada", "append"), ("rae", "read"), ("wil", "append")];
    let entries = users.map(|(name, role)| Users::entry(name, role, "p").unwrap());
    let lines = format!("{}\nappend.streams = [\"public-\"]\n", entries.join("\n"));
    let (_directory, path) = file(&lines);
    let users = Some(Users::of_file(&path).unwrap());
    let options = ServerOptions { users, ..usual_options() };
    let store = Store::memory();
    let server = RunningServer::with(options, store.clone()).await;
    append(&store, "order-1", 1).await;
    let of = async |name: &str| {
        let url = format!("leftfold://{name}:p@127.0.0.1:{}", server.port);
        RemoteStore::open(&url).await.unwrap().groups()
    };
    let [adm, ada, rae, wil] = [of("adm").await, of("ada").await, of("rae").await, of("wil").await];
    let is_denied =
        |error: Option<GroupCallError>| matches!(error, Some(GroupCallError::Denied { .. }));
    for other in [&ada, &rae, &wil] {
        assert!(is_denied(other.create("all", &everything()).await.err()));
    }
    adm.create("all", &everything()).await.unwrap();
    for other in [&rae, &wil] {
        assert!(is_denied(other.consume("all", 1).next().await.err()));
        assert!(is_denied(other.replay("all", None).await.err()));
        assert!(is_denied(other.delete("all").await.err()));
    }
    let mut consumer = ada.consume("all", 1).named("a");
    let [held] = taken(&mut consumer).await;
    let running = rae.info("all").await.unwrap().running.unwrap();
    assert_eq!((&*running.consumers[0].name, &*running.consumers[0].user), ("a", "ada"));
    held.park("later");
    until(&rae, "all", |info| info.parked == 1).await;
    assert_eq!(rae.parked("all", 0).await.unwrap()[0].reason, "later");
    ada.replay("all", None).await.unwrap();
    let [again] = taken(&mut consumer).await;
    again.acknowledge();
    adm.delete("all").await.unwrap();
}
