//! The read model against real databases, and the API with a client from another language.

use std::process::Stdio;
use std::time::Duration;

use leftfold_proving::RedisServer;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::*;
use crate::cache::seen;

const SOON: Duration = Duration::from_secs(30);
const UUIDS: [&str; 2] =
    ["550e8400-e29b-41d4-a716-446655440000", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"];

fn noon(hour: u8, status_seen: Status) -> FooFact {
    status(&format!("2026-05-01T{hour:02}:00:00Z"), status_seen).unwrap()
}

fn labelled(hour: u8, label: &str) -> FooFact {
    FooFact::Labelled {
        at: format!("2026-05-01T{hour:02}:00:00Z").parse().unwrap(),
        label: label.to_owned(),
    }
}

/// Records sightings of some foos, out of order and partly twice.
async fn seen_of_some(store: &Store) -> Position {
    let blue = [
        noon(12, Status::Paused),
        noon(11, Status::Active),
        noon(12, Status::Paused),
        labelled(9, "old"),
        labelled(8, "older"),
    ];
    see(store, "7", "blue", &blue).await.unwrap();
    see(store, "7", "red", &[noon(10, Status::Active)]).await.unwrap();
    see(store, "8", "b-z", &[noon(10, Status::Retired), noon(9, Status::Active)]).await.unwrap()
}

#[test]
fn a_foos_id_is_made_of_the_ids_in_its_streams_name() {
    assert_eq!(FooName::new("7", "blue").id.get_version_num(), 5);
    assert_eq!(FooName::new("7", "blue"), FooName::new("7", "blue"));
    assert_ne!(FooName::new("7", "blue").id, FooName::new("7b", "lue").id);
    assert_ne!(FooName::new("7/b", "lue").id, FooName::new("7", "b/lue").id);
}

/// The first dash parted the ids, so that a foo of UUIDs had the id of another one, and was never
/// found.
#[test]
fn ids_with_dashes_are_told_from_the_stream_whether_they_are_uuids_or_not() {
    let [bar, baz] = UUIDS;
    let upper = baz.to_uppercase();
    let ids = [
        bar,
        baz,
        &upper,
        "7",
        "b-z",
        "-",
        "%2D",
        "%",
        "%25-",
        "550e8400",
        "446655440000",
        "b/z",
        "gr\u{fc}n-\u{1f980}",
    ];
    for (bar, baz) in ids.iter().flat_map(|bar| ids.map(|baz| (*bar, baz))) {
        let name = FooName::new(bar, baz);
        assert_eq!(FooName::in_stream(&name.stream()), Some(name));
    }
    // As the other system writes them.
    assert_eq!(FooName::in_stream(&format!("foos-{bar}-{baz}")), Some(FooName::new(bar, baz)));
    for nothing in [
        "foos-a-b-c",
        "foos-a",
        "foos--b",
        "foos-a-",
        "foos-a%-b",
        "foos-a%2d-b",
        &format!("foos-{bar}"),
        "bars-a-b",
    ] {
        assert_eq!(FooName::in_stream(nothing), None, "{nothing}");
    }
}

#[tokio::test]
async fn what_comes_late_or_twice_changes_nothing() {
    for store in examples::stores().await {
        let place = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::at(place.path());
        seen_of_some(&store).await;
        Runtime::new(&store).project(Foos, sqlite.clone()).run_until_idle().await.unwrap();
        let foos = sqlite.reader::<Foos>();
        let blue = tables::find(&foos, FooName::new("7", "blue").id).unwrap().unwrap();
        assert_eq!((blue.status, blue.label.as_deref()), (Some(Status::Paused), Some("old")));
        let retired = tables::page(&foos, Some(Status::Retired), "").unwrap();
        assert_eq!(retired.iter().map(|foo| foo.name.baz.as_str()).collect::<Vec<_>>(), ["b-z"]);
        assert_eq!(tables::page(&foos, None, "").unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_stream_that_names_no_foo_is_parked_and_the_others_go_on() {
    for store in examples::stores().await {
        let place = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::at(place.path());
        see(&store, "only", "", &[noon(9, Status::Active)]).await.unwrap();
        let last = seen_of_some(&store).await;
        let running = Runtime::new(&store).project(Foos, sqlite.clone()).start().await.unwrap();
        let projections = running.projections();
        projections.wait_until("foos", last, SOON).await.unwrap();
        let parked = projections.parked("foos").unwrap();
        assert_eq!(parked.iter().map(|item| item.position).collect::<Vec<_>>(), [Position(1)]);
        assert!(format!("{:?}", parked[0].state).contains("foos-only-"), "{parked:?}");
        assert_eq!(tables::page(&sqlite.reader::<Foos>(), None, "").unwrap().len(), 3);
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn redis_holds_the_same_read_model() {
    for store in examples::stores().await {
        let (place, server) = (tempfile::tempdir().unwrap(), RedisServer::shared().database());
        let (sqlite, redis) = (Sqlite::at(place.path()), Redis::at(&server).unwrap());
        seen_of_some(&store).await;
        Runtime::new(&store).project(Foos, sqlite.clone()).run_until_idle().await.unwrap();
        Runtime::new(&store).project(FooCache, redis.clone()).run_until_idle().await.unwrap();
        let cached = redis.reader::<FooCache>();
        for foo in tables::page(&sqlite.reader::<Foos>(), None, "").unwrap() {
            let read = async |what| {
                cached
                    .read(&format!("{}:{what}", foo.name.id))
                    .await
                    .unwrap()
                    .map(|stored| seen(&stored).1)
            };
            assert_eq!(read("status").await.as_deref(), foo.status.map(Status::name));
            assert_eq!(read("label").await, foo.label);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_another_language_finds_the_service_by_reflection() {
    for store in examples::stores().await {
        let place = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::at(place.path());
        let written = seen_of_some(&store).await;
        let running = Runtime::new(&store).project(Foos, sqlite.clone()).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let service =
            FoosService { foos: sqlite.reader::<Foos>(), projections: running.projections() };
        let serving = tokio::spawn(async move {
            serve(service, listener, async { _ = stopped.await }).await.unwrap();
        });

        let blue = FooName::new("7", "blue").id.to_string();
        let (at, beyond) = (written.0.to_string(), (written.0 + 1).to_string());
        let got = ask(&address, &["get", &blue, &at]).await;
        assert!(
            got.contains(r#""status": "STATUS_PAUSED""#) && got.contains(r#""label": "old""#),
            "{got}"
        );
        let active = ask(&address, &["list", "STATUS_ACTIVE"]).await;
        assert!(active.lines().count() == 1 && active.contains(r#""baz_id": "red""#), "{active}");
        assert_eq!(ask(&address, &["list"]).await.lines().count(), 3);
        let nobody = ask(&address, &["get", "00000000-0000-0000-0000-000000000000"]).await;
        assert!(nobody.contains("NOT_FOUND"), "{nobody}");
        assert!(ask(&address, &["get", "blue"]).await.contains("INVALID_ARGUMENT"));
        let early = ask(&address, &["get", &blue, &beyond]).await;
        assert!(early.contains("UNAVAILABLE"), "{early}");
        let [bar, baz] = UUIDS;
        let seen = see(&store, bar, baz, &[noon(12, Status::Active)]).await.unwrap().0.to_string();
        let of_uuids = ask(&address, &["get", &FooName::new(bar, baz).id.to_string(), &seen]).await;
        assert!(of_uuids.contains(bar) && of_uuids.contains(baz), "{of_uuids}");
        stop.send(()).unwrap();
        serving.await.unwrap();
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_another_language_records_what_it_sees_by_its_client_of_kurrentdb() {
    let [bar, baz] = UUIDS;
    let paused = r#"{"bar":"7","baz":"b-l","status":"Paused","at":"2026-05-01T12:00:00Z"}"#;
    let late = r#"{"bar":"7","baz":"b-l","status":"Active","at":"2026-05-01T11:00:00Z"}"#;
    let label = r#"{"bar":"7","baz":"b-l","label":"gr\u00fcn","at":"2026-05-01T09:00:00Z"}"#;
    let no_status = r#"{"bar":"8","baz":"red","status":"Lost","at":"2026-05-01T09:00:00Z"}"#;
    let of_uuids =
        format!(r#"{{"bar":"{bar}","baz":"{baz}","status":"Active","at":"2026-05-01T10:00:00Z"}}"#);
    let seen = [paused, late, paused, label, no_status, &of_uuids];
    let clients = ["@kurrent/kurrentdb-client", "@eventstore/db-client"];
    for (store, client) in examples::stores().await.into_iter().zip(clients) {
        let place = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::at(place.path());
        let running = Runtime::new(&store).project(Foos, sqlite.clone()).start().await.unwrap();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let port = SightingsPort::open(&store, anywhere).await.unwrap();
        let written = sight(&port.address.to_string(), client, &seen.join("\n")).await;
        assert_eq!(written, store.head().position);
        running.projections().wait_until("foos", written, SOON).await.unwrap();
        let foos = sqlite.reader::<Foos>();
        let found = |name: FooName| tables::find(&foos, name.id).unwrap().unwrap();
        let blue = found(FooName::new("7", "b-l"));
        assert_eq!((blue.status, blue.label.as_deref()), (Some(Status::Paused), Some("gr\u{fc}n")));
        assert_eq!(found(FooName::new(bar, baz)).status, Some(Status::Active));
        assert_eq!(tables::page(&foos, None, "").unwrap().len(), 2);
        let parked = running.projections().parked("foos").unwrap();
        assert_eq!(parked.iter().map(|item| item.position).collect::<Vec<_>>(), [Position(5)]);
        running.stop().await.unwrap();
        port.close().await.unwrap();
    }
}

/// Runs the other system on its sightings, and returns the position of the last one.
async fn sight(address: &str, client: &str, seen: &str) -> Position {
    let told = |name: &str| std::env::var_os(name).expect("run the tests by `cargo xtask test`");
    let mut command = Command::new(told("LEFTFOLD_NODE"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/foos/sightings.mjs")).args([address, client]);
    command.env("LEFTFOLD_NODE_CLIENTS", told("LEFTFOLD_NODE_CLIENTS")).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    running.stdin.take().unwrap().write_all(seen.as_bytes()).await.unwrap();
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.success(), "the other system failed");
    Position(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// Runs the Python client, and returns what it prints.
async fn ask(address: &str, arguments: &[&str]) -> String {
    let python = std::env::var("LEFTFOLD_PYTHON")
        .expect("run the tests by `cargo xtask test`, which sets LEFTFOLD_PYTHON");
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/foos/client.py");
    let mut command = Command::new(python);
    command.arg(client).arg(address).args(arguments).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "the client failed");
    String::from_utf8(output.stdout).unwrap()
}
