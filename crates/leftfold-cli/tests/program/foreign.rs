//! `leftfold import` from other servers: from UmaDB, and from KurrentDB's protocol as this server
//! speaks it, since their own server is no part of any package.

use std::time::Duration;

use leftfold::remote::{Channel, RemoteOptions, dial};
use leftfold::store::Timestamp;
use leftfold_proving::UmaDbServer;
use leftfold_server::foreign::{UmaAppend, UmaClient, UmaEvent, UmaMetadata, UmaReply, uma_read};
use serde_json::Value;

use crate::support::{Program, Ran, port, ran, ran_with, store_of};

async fn uma(port: u16) -> UmaClient<Channel> {
    let options = RemoteOptions::at(&format!("leftfold://127.0.0.1:{port}")).unwrap();
    let (channel, origin) = dial(&options).await.unwrap();
    UmaClient::with_origin(channel, origin)
}

/// An event of a number, of every form that the protocol knows.
fn uma_event(number: usize) -> UmaEvent {
    let metadata = (0..number % 3)
        .map(|key| UmaMetadata { key: format!("key{key}"), value: number.to_string() });
    let uuid = match number % 4 {
        0 => String::new(),
        _ => format!("0a22f83c-0000-4000-8000-{number:012x}"),
    };
    UmaEvent {
        event_type: ["OrderPlaced", "$timer", "\\escaped"][number % 3].to_owned(),
        tags: (0..number % 3).map(|tag| format!("order:{tag}")).collect(),
        data: format!("{{\"n\":{number}}}").into_bytes().into(),
        uuid,
        metadata: metadata.collect(),
    }
}

async fn append(client: &mut UmaClient<Channel>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let events = vec![uma_event(number)];
        client.append(UmaAppend { events, ..UmaAppend::default() }).await.unwrap();
    }
}

/// Everything that a server has, as its clients read it.
async fn read(client: &mut UmaClient<Channel>) -> Vec<(u64, Option<UmaEvent>)> {
    let mut replies = client.read(uma_read(0)).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(UmaReply { events: some, .. }) = replies.message().await.unwrap() {
        events.extend(some.into_iter().map(|sequenced| (sequenced.position, sequenced.event)));
    }
    events
}

fn imported(arguments: &[&str]) -> Ran {
    ran(&[&["import"], arguments, &["--json"]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_umadb_server_has_is_read_the_same_after_an_import_that_went_on() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let place = directory.path().join("new").to_str().unwrap().to_owned();
    let server = UmaDbServer::start();
    let source = format!("umadb://127.0.0.1:{}", server.port());
    let mut theirs = uma(server.port()).await;
    append(&mut theirs, 0..40).await;
    assert_eq!(imported(&[&place, &source]).object()["events"], 40);
    append(&mut theirs, 40..60).await;
    assert_eq!(imported(&[&place, &source]).object()["events"], 20);
    assert_eq!(imported(&[&place, &source]).object()["events"], 0);
    let program = Program::serve(place.as_ref(), port);
    let mut ours = uma(port).await;
    assert_eq!(read(&mut ours).await, read(&mut theirs).await);
    // A store that has events of others is no place for it.
    let other = store_of(directory.path(), 1);
    let refused = imported(&[&other, &source]);
    assert!(refused.code == 1 && refused.said.contains("import into a new one"), "{refused:?}");
    program.stop();
}

/// The members of the events in a store that an import keeps.
fn kept(place: &str) -> Vec<Value> {
    let mut events = ran(&["read", place, "--json"]).objects();
    for event in &mut events {
        for member in ["position", "recordedAt"] {
            event.as_object_mut().unwrap().remove(member);
        }
    }
    events
}

/// The times at which the events of a store were recorded.
fn times(place: &str) -> Vec<Timestamp> {
    let events = ran(&["read", place, "--json"]).objects();
    events.iter().map(|event| event["recordedAt"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn what_a_server_of_kurrentdbs_protocol_has_is_the_same_after_an_import() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let place = store_of(directory.path(), 50);
    let more = [
        r#"{"type":"shop.Sold","stream":"~$$shop-1","data":{"$maxCount":100}}"#,
        r#"{"type":"~$weather","stream":"shop-1","data":{"n":"x"},"metadata":{"user":"ada"}}"#,
        r#"{"type":"shop.Noted","stream":"shop-1","data64":"AAEC","contentType":"text/plain"}"#,
    ];
    ran_with(&["append", &place], &more.join("\n")).well();
    let program = Program::serve(place.as_ref(), port);
    let source = format!("kurrentdb://127.0.0.1:{port}?tls=false");
    let new = directory.path().join("new").to_str().unwrap().to_owned();
    assert_eq!(imported(&[&new, &source]).object()["events"], 53);
    let address = format!("leftfold://127.0.0.1:{port}");
    let sold = r#"{"type":"shop.Sold","stream":"shop-1","data":{"n":99}}"#;
    ran_with(&["append", &address], sold).well();
    assert_eq!(imported(&[&new, &source]).object()["events"], 1);
    // Tags are ours alone: no client of the protocol has them.
    let mut expected = kept(&place);
    for event in &mut expected {
        event.as_object_mut().unwrap().remove("tags");
    }
    assert_eq!(kept(&new), expected);
    // What was recorded at one moment there is recorded at several here.
    for (here, there) in times(&new).into_iter().zip(times(&place)) {
        let off = here.since(there);
        assert!(here >= there && off < Duration::from_millis(1), "{there}, recorded at {here}");
    }
    program.stop();
    // What is not there says so, and the call may be made again.
    let away = imported(&[&new, &source]);
    assert!(away.code == 1 && away.said.contains("127.0.0.1"), "{away:?}");
}

/// A log was closed at the time of the machine, so that whatever an import that had been
/// interrupted took later was older than the end of the log, and lost its times.
#[test]
fn an_import_that_was_interrupted_keeps_the_times_of_what_it_takes_later() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let named = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (place, new, backup, early) =
        (store_of(directory.path(), 5), named("new"), named("backup"), named("early"));
    ran(&["backup", &place, &backup]).well();
    ran(&["restore", &backup, &early]).well();
    let more = [r#"{"type":"shop.Sold","stream":"late-1","data":{"n":1}}"#; 20];
    ran_with(&["append", &place], &more.join("\n")).well();
    let source = format!("kurrentdb://127.0.0.1:{port}?tls=false");
    // All that the first import comes to was recorded before, as was what the second one takes.
    for (served, events) in [(&early, 5), (&place, 20)] {
        let program = Program::serve(served.as_ref(), port);
        assert_eq!(imported(&[&new, &source]).object()["events"], events);
        program.stop();
    }
    for (here, there) in times(&new).into_iter().zip(times(&place)) {
        let off = here.since(there);
        assert!(here >= there && off < Duration::from_millis(1), "{there}, recorded at {here}");
    }
    assert!(kept(&new).iter().all(|event| event["metadata"].is_null()));
}
