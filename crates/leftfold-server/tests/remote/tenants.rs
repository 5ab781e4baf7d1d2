//! Several stores behind one server: each lives apart, is opened when it is asked for and closed
//! when nobody uses it.

use std::path::Path;
use std::time::{Duration, Instant};

use leftfold::store::{
    Append, AppendError, Checkpoint, CheckpointRecord, Condition, Conflict, EventType, Expected,
    Hash, Label, MoveFrom, NewEvent, Outcome, Partition, Position, Query, Read, Store, StreamName,
    Version,
};
use leftfold_protocol::wire;
use leftfold_remote::{RemoteError, RemoteStore};
use leftfold_server::{ServerOptions, StoreLimits, Tenants, Users};
use tempfile::TempDir;
use tonic::Code;

use crate::kurrent::calls;
use crate::support::{RunningServer, raw_client, usual_options};
use crate::umadb;

async fn serve(tenants: Tenants, users: Option<Users>) -> RunningServer {
    let options = ServerOptions { tenants: Some(tenants), users, ..usual_options() };
    RunningServer::with_stores(options, Vec::new()).await
}

async fn open(server: &RunningServer, user: &str, name: &str) -> Result<Store, RemoteError> {
    let url = format!("leftfold://{user}127.0.0.1:{}/{name}", server.port);
    RemoteStore::open(&url).await.map(Store::new)
}

fn stream() -> StreamName {
    StreamName::of("order", "1").unwrap()
}

fn event() -> NewEvent {
    NewEvent::new(EventType::new("order.Placed").unwrap(), "{}").in_stream(stream())
}

async fn place(store: &Store, expected: Expected) -> Outcome {
    let append = Append::of(vec![event()]).when(Condition::stream(stream(), expected));
    store.append(append).await.unwrap()
}

async fn version(store: &Store) -> Version {
    let read = Read::stream(stream(), Version(1));
    store.page(read).await.unwrap().stream_version.unwrap()
}

/// Rule 57 of servers: a file of an older schema opens. One of a schema that is not known is
/// refused with its version named, by the engine's test of its files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_every_earlier_format_is_served_with_all_that_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leftfold-log/tests/old");
    let mut heads = Vec::new();
    for format in ["1", "2"] {
        let place = directory.path().join(format!("format-{format}"));
        std::fs::create_dir(&place).unwrap();
        for file in std::fs::read_dir(old.join(format)).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "dump.txt" {
                std::fs::copy(file.path(), place.join(file.file_name())).unwrap();
            }
        }
        let dump = std::fs::read_to_string(old.join(format).join("dump.txt")).unwrap();
        heads.push((format, dump));
    }
    let server = serve(Tenants::in_directory(directory.path()), None).await;
    for (format, dump) in heads {
        let store = open(&server, "", &format!("format-{format}")).await.unwrap();
        let mut events = store.read(Read::matching(Query::everything(), Position(1)));
        let mut count = 0;
        while let Some(event) = events.next().await.unwrap() {
            assert!(dump.contains(&*event.event_type), "{}", event.event_type);
            count += 1;
        }
        assert!(count > 0 && store.head().position.0 >= count, "{count}");
        let appended = place(&store, Expected::Absent).await;
        assert!(matches!(appended, Outcome::Appended(_)), "{appended:?}");
    }
}

/// Rules 30 and 31 of tenants: the same stream name lives apart, and an append for one moves and
/// wakes nothing of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_have_nothing_in_common() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(Tenants::in_directory(directory.path()), None).await;
    let one = open(&server, "", "one").await.unwrap();
    let two = open(&server, "", "two").await.unwrap();
    assert_ne!(one.identity(), two.identity());
    let mut follows_one = one.subscribe(Query::all(), Position::START);
    let mut follows_two = two.subscribe(Query::all(), Position::START);

    for version in 0..5 {
        let expected =
            if version == 0 { Expected::Absent } else { Expected::Exact(Version(version)) };
        assert!(matches!(place(&one, expected).await, Outcome::Appended(_)));
    }
    for position in 1..=5 {
        assert_eq!(follows_one.event().await.unwrap().position, Position(position));
    }
    // The stream is new in the other one, and so is every event.
    assert_eq!((version(&one).await, version(&two).await), (Version(5), Version(0)));
    assert_eq!(two.status().borrow().head.position, Position::START);
    let refused = place(&two, Expected::Exact(Version(5))).await;
    assert!(matches!(refused, Outcome::Conflict(Conflict::Stream { .. })), "{refused:?}");
    let none = Condition::none_matching(Query::stream(stream()), Position::START);
    let first = two.append(Append::of(vec![event()]).when(none)).await;
    assert!(matches!(first, Ok(Outcome::Appended(_))), "{first:?}");
    // Nothing came before it.
    assert_eq!(follows_two.event().await.unwrap().position, Position(1));
    assert_eq!((version(&one).await, version(&two).await), (Version(5), Version(1)));

    let consumer = Label::new("reports").unwrap();
    let source = one.identity().store;
    let checkpoint = Checkpoint {
        store: source,
        partition: Partition(None),
        position: Position(3),
        hash: Hash([7; 32]),
    };
    let record =
        CheckpointRecord { consumer: consumer.clone(), from: MoveFrom::Anywhere, checkpoint };
    let moves = Append { checkpoint: Some(record), ..Append::default() };
    assert!(matches!(one.append(moves).await, Ok(Outcome::Appended(_))));
    let found = async |store: &Store| {
        store.backend().checkpoint(consumer.clone(), source, Partition(None)).await.unwrap()
    };
    assert_eq!(found(&one).await.map(|found| found.position), Some(Position(3)));
    assert_eq!(found(&two).await, None);
}

/// Waits until the server has closed the store: only one may have it open.
async fn closed(path: &Path) -> Store {
    let within = Instant::now() + Duration::from_secs(60);
    loop {
        match leftfold::open(path.to_str().unwrap()).await {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < within, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_nobody_uses_is_closed_and_opened_again_for_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut tenants = Tenants::in_directory(directory.path());
    tenants.close_after = Duration::from_millis(50);
    let server = serve(tenants, None).await;
    let one = open(&server, "", "one").await.unwrap();
    place(&one, Expected::Absent).await;
    let mut follows = one.subscribe(Query::all(), Position::START);
    follows.event().await.unwrap();
    // Somebody follows it, so it stays while the other one, which nobody uses, is closed.
    let two = open(&server, "", "two").await.unwrap();
    place(&two, Expected::Absent).await;
    two.close().await.unwrap();
    let alone = closed(&directory.path().join("two")).await;
    assert_eq!(version(&alone).await, Version(1));
    alone.close().await.unwrap();
    place(&one, Expected::Exact(Version(1))).await;
    assert_eq!(follows.event().await.unwrap().position, Position(2));
    let two = open(&server, "", "two").await.unwrap();
    place(&two, Expected::Exact(Version(1))).await;
}

/// The file of users in a directory beside.
fn users(entries: &str) -> (TempDir, Users) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    std::fs::write(&path, entries).unwrap();
    let users = Users::of_file(&path).unwrap();
    (directory, users)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_has_the_stores_of_its_right_and_only_an_admin_makes_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (_users, users) = users(&format!(
        "{}\n{}\nstores.one.role = \"append\"\nstores.none.role = \"append\"\n",
        Users::entry("boss", "admin", "b").unwrap(),
        Users::entry("ada", "read", "a").unwrap().replace("role = \"read\"\n", ""),
    ));
    let server = serve(Tenants::in_directory(directory.path()), Some(users)).await;
    let missing = async |user: &str, name: &str| {
        let error = open(&server, user, name).await.map(drop).unwrap_err();
        assert!(matches!(error, RemoteError::NoStore { .. }), "{user} {name}: {error:?}");
    };
    for name in ["one", "two", "none"] {
        missing("ada:a@", name).await;
    }
    for name in ["one", "two"] {
        place(&open(&server, "boss:b@", name).await.unwrap(), Expected::Absent).await;
    }
    place(&open(&server, "ada:a@", "one").await.unwrap(), Expected::Exists).await;
    missing("ada:a@", "two").await;
    missing("ada:a@", "none").await;
    missing("boss:b@", "..").await;
    missing("boss:b@", ".one").await;
    let mut made: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    assert_eq!(made, ["one", "two"]);
}

/// Reads, figures and names that are misspelt made stores, of nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_a_store_makes_none_by_any_protocol_and_an_append_does() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(Tenants::in_directory(directory.path()), None).await;
    let looked = open(&server, "", "look?create=no").await.map(drop).unwrap_err();
    assert!(matches!(looked, RemoteError::NoStore { .. }), "{looked:?}");
    let mut client = raw_client(server.port).await;
    fn of<T>(name: &str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("leftfold-store", name.parse().unwrap());
        request
    }
    let not_found = |code: Code| assert_eq!(code, Code::NotFound);
    not_found(client.identify(of("look", Default::default())).await.unwrap_err().code());
    let read =
        wire::ReadRequest { page_events: 1, ..(&Read::matching(Query::all(), Position(1))).into() };
    not_found(client.read(of("look", read)).await.unwrap_err().code());
    let all = wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
    not_found(client.subscribe(of("look", all)).await.map(drop).unwrap_err().code());
    not_found(
        client.list_leases(of("look", Default::default())).await.map(drop).unwrap_err().code(),
    );
    let mut uma = umadb::client(server.port).await;
    not_found(uma.head(of("look", Default::default())).await.unwrap_err().code());
    not_found(uma.read(of("look", Default::default())).await.map(drop).unwrap_err().code());
    let mut streams = calls::client(server.port).await;
    not_found(streams.read(of("look", calls::read("a-1"))).await.map(drop).unwrap_err().code());
    not_found(streams.delete(of("look", calls::delete("a-1"))).await.unwrap_err().code());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    uma.append(of("made-1", umadb::appends(vec![umadb::event("Made", "a")]))).await.unwrap();
    let opening = wire::OpenAppends { first_unanswered: 1, ..Default::default() };
    let opening =
        wire::AppendRequest { request: Some(wire::append_request::Request::Open(opening)) };
    client.append(of("made-2", tokio_stream::iter([opening]))).await.unwrap();
    open(&server, "", "made-3").await.unwrap();
    streams.append(of("made-4", tokio_stream::iter(calls::append("a-1")))).await.unwrap();
    let mut made: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    assert_eq!(made, ["made-1", "made-2", "made-3", "made-4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_stores_are_open_than_may_be_and_an_unused_one_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut tenants = Tenants::in_directory(directory.path());
    tenants.open_max = 1;
    let server = serve(tenants, None).await;
    let one = open(&server, "", "one").await.unwrap();
    let mut follows = one.subscribe(Query::all(), Position::START);
    place(&one, Expected::Absent).await;
    follows.event().await.unwrap();
    assert!(open(&server, "", "two").await.is_err());
    drop(follows);
    one.close().await.unwrap();
    let within = Instant::now() + Duration::from_secs(60);
    while let Err(error) = open(&server, "", "two").await {
        assert!(Instant::now() < within, "{error}");
    }
}

/// A limit of one tenant is none of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_store_has_limits_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let narrow = StoreLimits { bytes_per_second: Some(1), ..StoreLimits::default() };
    let options = ServerOptions {
        tenants: Some(Tenants::in_directory(directory.path())),
        store_limits_of: [("narrow".to_owned(), narrow)].into(),
        ..usual_options()
    };
    let server = RunningServer::with_stores(options, Vec::new()).await;
    let large = || {
        let event = NewEvent::new(EventType::new("order.Placed").unwrap(), vec![b' '; 1000]);
        Append::of(vec![event])
    };
    let wide = open(&server, "", "wide").await.unwrap();
    let narrow = open(&server, "", "narrow").await.unwrap();
    narrow.append(large()).await.unwrap();
    for _ in 0..3 {
        wide.append(large()).await.unwrap();
    }
    // Its turn is more than a quarter of an hour away, for other handles too.
    let other = open(&server, "", "narrow").await.unwrap();
    let refused = other.append(large()).await;
    assert!(matches!(refused, Err(AppendError::Busy { .. })), "{refused:?}");
}
