//! `leftfold groups`, and workers of a server that is killed.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold::remote::{GroupKey, GroupOptions, RemoteGroups, RemoteOptions, RemoteStore};
use leftfold::store::{Append, EventType, NewEvent, Position, Query, Store, StreamName, Version};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{Program, port, ran, until};

async fn open(port: u16) -> RemoteStore {
    let options = RemoteOptions::at(&format!("leftfold://127.0.0.1:{port}")).unwrap();
    let options = RemoteOptions { patience: Duration::from_secs(60), ..options };
    RemoteStore::open_with(options).await.unwrap()
}

async fn append(store: &Store, stream: &str, count: usize) {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let event = event.in_stream(StreamName::new(stream.to_owned()).unwrap());
    store.append(Append::of(vec![event; count])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_shown_replayed_and_deleted_from_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let port = port();
    let _server = Program::serve(directory.path(), port);
    let remote = open(port).await;
    let store = Store::new(remote.clone());
    append(&store, "order-1", 2).await;
    append(&store, "other-1", 1).await;
    let url = &*format!("leftfold://127.0.0.1:{port}");
    let group = ["groups", "create", url, "orders", "--category", "order", "--ordered", "stream"];
    ran(&[&group[..], &["--retries", "3", "--answer-within", "5"]].concat()).well();
    let again = ran(&group);
    assert!(again.code == 1 && again.said.contains("update it"), "{again:?}");
    let shown = ran(&["groups", "show", url, "orders", "--json"]).object();
    assert_eq!(
        (&shown["ordered"], &shown["retries"], &shown["answerWithinMs"], &shown["running"]),
        (&json!("stream"), &json!(3), &json!(5_000), &json!(null))
    );
    let mut consumer = remote.groups().consume("orders", 5).named("worker 1");
    consumer.next().await.unwrap().park("no such customer");
    consumer.next().await.unwrap().acknowledge();
    let listed = ran(&["groups", "list", url]).well();
    assert!(listed.contains("orders") && listed.contains("consumers"), "{listed}");
    let shown = ran(&["groups", "show", url, "orders"]).well();
    assert!(shown.contains("worker 1") && shown.contains("ordered by"), "{shown}");
    consumer.close().await;
    let parked = ran(&["groups", "parked", url, "orders", "--json"]).object();
    assert_eq!(
        (&parked["number"], &parked["reason"], &parked["event"]["stream"]),
        (&json!(1), &json!("no such customer"), &json!("order-1"))
    );
    let text = ran(&["groups", "parked", url, "orders"]).well();
    assert!(text.contains("test.Happened") && text.contains("no such customer"), "{text}");
    ran(&["groups", "replay", url, "orders", "--through", "1"]).well();
    let mut consumer = remote.groups().consume("orders", 5);
    let again = consumer.next().await.unwrap();
    assert!(again.is_replayed && again.event.stream.as_ref().unwrap().name.as_str() == "order-1");
    again.acknowledge();
    consumer.close().await;
    change_and_take_out(url, &remote).await;
    let new_only = ["groups", "create", url, "new", "--new-only", "--pinned", "tag:shop:"];
    ran(&new_only).well();
    let names: Vec<_> = ran(&["groups", "list", url, "--json"]).objects();
    let names: Vec<_> = names.iter().map(|one| (&one["group"], &one["given"])).collect();
    let pinned = json!("one consumer for each tag:shop:");
    assert_eq!(names, [(&json!("new"), &pinned), (&json!("orders"), &json!("consumers in turn"))]);
    ran(&["groups", "delete", url, "new"]).well();
    assert_eq!(ran(&["groups", "show", url, "new"]).code, 1);
    let place = directory.path().display().to_string();
    for wrong in [
        vec!["groups", "list", &place],
        vec!["groups", "create", url, "x", "--ordered", "colour"],
        vec!["groups", "create", url, "x", "--where", "position <= 7"],
    ] {
        let wrong = ran(&wrong);
        assert_eq!(wrong.code, 2, "{wrong:?}");
    }
}

/// Options that are not named stay as they are; a parked event is retried or forgotten by itself.
async fn change_and_take_out(url: &str, remote: &RemoteStore) {
    let update = ["groups", "update", url, "orders"];
    ran(&[&update[..], &["--retries", "7", "--ordered", "none"]].concat()).well();
    let shown = ran(&["groups", "show", url, "orders", "--json"]).object();
    assert_eq!(
        (&shown["ordered"], &shown["retries"], &shown["answerWithinMs"]),
        (&json!(null), &json!(7), &json!(5_000))
    );
    let place = [&update[..], &["--where", "position >= 7"]].concat();
    assert!(ran(&place).said.contains("keeps its place"));
    assert!(ran(&[&update[..], &["--retries", "1000001"]].concat()).said.contains("1000000"));

    append(&Store::new(remote.clone()), "order-2", 3).await;
    let mut consumer = remote.groups().consume("orders", 5);
    for _ in 0..3 {
        consumer.next().await.unwrap().park("no such customer");
    }
    let parked = || ran(&["groups", "parked", url, "orders", "--json"]).objects();
    until("all are parked", || parked().len() == 3);
    ran(&["groups", "retry", url, "orders", "3"]).well();
    let again = consumer.next().await.unwrap();
    assert!(again.is_replayed && again.event.version() == Version(2), "{:?}", again.event);
    again.acknowledge();
    consumer.close().await;
    let twice = ran(&["groups", "retry", url, "orders", "4", "3"]);
    assert!(twice.code == 1 && twice.said.contains("not parked number 3"), "{twice:?}");
    ran(&["groups", "discard", url, "orders", "2", "4"]).well();
    assert!(parked().is_empty());
}

/// Events in the hands of workers, by position, each with the life of the server that gave it.
#[derive(Default)]
struct Hands {
    held: Mutex<HashMap<Position, u64>>,
    life: AtomicU64,
}

/// A worker that has several events at once, and tells each that it has handled.
async fn work(groups: RemoteGroups, hands: Arc<Hands>, done: mpsc::UnboundedSender<Position>) {
    let mut consumer = groups.consume("all", 4);
    loop {
        let delivery = consumer.next().await.unwrap();
        let (hands, done) = (Arc::clone(&hands), done.clone());
        tokio::spawn(async move {
            let (position, life) = (delivery.event.position, hands.life.load(Ordering::SeqCst));
            let before = hands.held.lock().unwrap().insert(position, life);
            assert!(before.is_none_or(|before| before < life), "{position:?} is with two workers");
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            hands.held.lock().unwrap().remove(&position);
            let _ = done.send(position);
            delivery.acknowledge();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_event_and_gives_none_to_two_workers_at_a_time() {
    const KILLS: u64 = 2;
    let directory = tempfile::tempdir().unwrap();
    let port = port();
    let mut server = Program::serve(directory.path(), port);
    let remote = open(port).await;
    let groups = remote.groups();
    let options = GroupOptions::of(Query::category("order")).ordered(GroupKey::Stream);
    groups.create("all", &options).await.unwrap();
    let store = Store::new(remote.clone());
    for number in 0..30 {
        append(&store, &format!("order-{number}"), 20).await;
    }
    let hands = Arc::new(Hands::default());
    let (done, mut handled) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(work(groups.clone(), Arc::clone(&hands), done.clone()));
    }
    let mut positions = BTreeSet::new();
    while positions.len() < 600 {
        positions.insert(handled.recv().await.unwrap());
        let life = hands.life.load(Ordering::SeqCst);
        if life < KILLS && positions.len() as u64 > 150 * (life + 1) {
            hands.life.fetch_add(1, Ordering::SeqCst);
            server.kill();
            server = Program::serve(directory.path(), port);
        }
    }
    assert!(workers.try_join_next().is_none(), "a worker ended");
    // Nothing comes to those who come later.
    drop(workers);
    loop {
        let info = groups.info("all").await.unwrap();
        if info.running.is_none() {
            assert_eq!(info.parked, 0);
            break;
        }
    }
}
