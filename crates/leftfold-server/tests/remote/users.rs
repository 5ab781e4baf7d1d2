//! Users: nobody else is let in, and each does what the role has.

use std::mem::discriminant;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use leftfold::runtime::operator::{OperatorRequests, RequestFilter};
use leftfold::store::{
    Append, AppendError, Authority, Checkpoint, CheckpointRecord, CommandId, CommandRecord,
    Condition, Digest, EventId, EventType, Expected, Fence, Hash, Holder, Label, LeaseError,
    LeaseRequest, Leased, MoveFrom, NewEvent, Outcome, Partition, Position, Query, Read, ReadError,
    Store, StreamName, Tags, Timestamp, Version,
};
use leftfold::testing::by_runtime;
use leftfold_protocol::wire::{self, IdentifyRequest};
use leftfold_remote::{RemoteError, RemoteStore};
use leftfold_server::{ServerOptions, Users, UsersError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Request};

use crate::support::{RawChannel, RunningServer, raw_client, usual_options};

pub(crate) fn file(lines: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, lines).unwrap();
    (directory, path)
}

/// A server with users, and their file.
struct Served {
    server: RunningServer,
    _directory: TempDir,
    path: PathBuf,
}

impl Served {
    async fn with(users: &[&str]) -> Self {
        let (directory, path) = file(&users.join("\n"));
        let users = Some(Users::of_file(&path).unwrap());
        let stores = ["default", "orders", "stock"];
        let stores = stores.map(|name| (name.to_owned(), Store::memory()));
        let options = ServerOptions { users, ..usual_options() };
        let server = RunningServer::with_stores(options, stores.to_vec()).await;
        Self { server, _directory: directory, path }
    }

    async fn usual() -> Self {
        let [rae, ada, app] =
            [("rae", "read", "r"), ("ada", "append", "a b:c"), ("app", "runtime", "p")]
                .map(|(name, role, password)| Users::entry(name, role, password).unwrap());
        Self::with(&["# The users of this test.\n", &rae, &ada, &app]).await
    }

    async fn open(&self, user: &str, store: &str) -> Result<Store, RemoteError> {
        let url = format!("leftfold://{user}@127.0.0.1:{}/{store}", self.server.port);
        RemoteStore::open(&url).await.map(Store::new)
    }

    async fn client(&self) -> wire::store_client::StoreClient<RawChannel> {
        raw_client(self.server.port).await
    }

    fn write(&self, users: &[&str]) {
        std::fs::write(&self.path, users.join("\n")).unwrap();
        self.server.reloader.look_now();
    }
}

fn authorized<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

fn event(name: &str) -> NewEvent {
    NewEvent::new(EventType::new(name.to_owned()).unwrap(), "{}")
}

fn happened(name: &str) -> Append {
    Append::of(vec![event(name)])
}

fn in_stream(stream: &str, tag: &str) -> Append {
    let stream = StreamName::new(stream.to_owned()).unwrap();
    let event = event("test.Happened").in_stream(stream).tagged(Tags::none().with(tag));
    Append::of(vec![event])
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name.to_owned()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_without_the_password_of_a_user() {
    let served = Served::usual().await;
    for stranger in ["ada:wrong", "eve:a", "ada:", "rae:a%20b%3Ac"] {
        let error = served.open(stranger, "default").await.map(drop).unwrap_err();
        assert!(matches!(error, RemoteError::Refused { .. }), "{stranger}: {error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let mut nameless = served.client().await;
    let refused = nameless.identify(IdentifyRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(served.open("ada:a%20b%3Ac", "default").await.is_ok());
    for (path, status) in [("/health", "200"), ("/metrics", "401")] {
        let place = (std::net::Ipv4Addr::LOCALHOST, served.server.port);
        let mut stream = tokio::net::TcpStream::connect(place).await.unwrap();
        let asks = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(asks.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_does_what_the_role_has_and_no_more() {
    let served = Served::usual().await;
    let reader = served.open("rae:r", "default").await.unwrap();
    let writer = served.open("ada:a%20b%3Ac", "default").await.unwrap();
    let program = served.open("app:p", "default").await.unwrap();
    let lease = |work: &str| {
        let work = Label::new(work.to_owned()).unwrap();
        LeaseRequest::new(work, Holder::random(), std::time::Duration::from_secs(60))
    };

    let refused = reader.append(happened("test.Happened")).await;
    assert!(matches!(refused, Err(AppendError::Denied { .. })), "{refused:?}");
    let refused = reader.lease(lease("work")).await;
    assert!(matches!(refused, Err(LeaseError::Denied { .. })), "{refused:?}");

    let accepted = writer.append(happened("test.Happened")).await;
    assert!(matches!(accepted, Ok(Outcome::Appended(_))), "{accepted:?}");
    assert!(matches!(writer.lease(lease("work")).await, Ok(Leased::Held(_))));
    let refused = writer.append(by_runtime(happened("$timer.Set"))).await;
    assert!(matches!(refused, Err(AppendError::Denied { .. })), "{refused:?}");

    let accepted = program.append(by_runtime(happened("$timer.Set"))).await;
    assert!(matches!(accepted, Ok(Outcome::Appended(_))), "{accepted:?}");

    let all = reader.page(Read::matching(Query::everything(), Position(1))).await.unwrap();
    assert_eq!(all.events.len(), 2);
}

/// Of each store, and within a store of the streams and tags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_is_to_the_stores_streams_and_tags_that_it_names_and_no_others() {
    let till = Users::entry("till", "read", "t").unwrap().replace("role = \"read\"\n", "");
    let till = format!(
        "{till}\n[users.till.stores.orders]\nrole = \"append\"\nappend.streams = [\"order-\"]\n\
         append.tags = [\"shop:7\", \"shop:8\"]\nread.streams = [\"order-\", \"price-\"]\n\
         [users.till.stores.stock]\nrole = \"read\"\n"
    );
    let served = Served::with(&[&till]).await;
    let unknown = served.open("till:t", "default").await.map(drop).unwrap_err();
    assert!(matches!(unknown, RemoteError::NoStore { .. }), "{unknown:?}");
    let orders = served.open("till:t", "orders").await.unwrap();
    let stock = served.open("till:t", "stock").await.unwrap();
    assert!(stock.append(in_stream("order-1", "shop:7")).await.is_err());
    assert!(stock.page(Read::matching(Query::all(), Position(1))).await.is_ok());

    let refused = async |append: Append| {
        let refused = orders.append(append.clone()).await;
        assert!(matches!(refused, Err(AppendError::Denied { .. })), "{append:?} {refused:?}");
    };
    let accepted = async |append: Append| {
        let accepted = orders.append(append).await;
        assert!(matches!(accepted, Ok(Outcome::Appended(_))), "{accepted:?}");
    };
    accepted(in_stream("order-1", "shop:8")).await;
    refused(in_stream("price-1", "shop:7")).await;
    refused(in_stream("order-1", "shop:9")).await;
    refused(happened("test.Happened")).await;
    // One of two events is enough, and a condition would tell what is there.
    let mut two = in_stream("order-1", "shop:7");
    two.events.extend(in_stream("payroll-1", "shop:7").events);
    refused(two).await;
    let on = |name: &str| Condition::stream(stream(name), Expected::Absent);
    refused(in_stream("order-2", "shop:7").when(on("payroll-1"))).await;
    accepted(in_stream("order-2", "shop:7").when(on("price-1"))).await;
    let none = |query| Condition::none_matching(query, Position::START);
    refused(in_stream("order-3", "shop:7").when(none(Query::tag("salary:ada")))).await;
    accepted(in_stream("order-3", "shop:7").when(none(Query::category("price-1")))).await;

    assert!(orders.page(Read::stream(stream("order-1"), Version(1))).await.is_ok());
    for denied in [
        Read::stream(stream("payroll-1"), Version(1)),
        Read::matching(Query::all(), Position(1)),
        Read::matching(Query::stream(stream("order-1")).or(Query::tag("x")), Position(1)),
        Read::matching(Query::category("order"), Position(1)),
    ] {
        let denied = orders.page(denied).await;
        assert!(matches!(denied, Err(ReadError::Denied { .. })), "{denied:?}");
    }
    let mut client = served.client().await;
    let till = format!("Basic {}", BASE64_STANDARD.encode("till:t"));
    let mut whole = authorized(wire::ReadAppendsRequest::default(), &till);
    whole.metadata_mut().insert("leftfold-store", "orders".parse().unwrap());
    assert_eq!(client.read_appends(whole).await.unwrap_err().code(), Code::PermissionDenied);
    let mut snapshot = authorized(wire::KeepSnapshotRequest::default(), &till);
    snapshot.metadata_mut().insert("leftfold-store", "orders".parse().unwrap());
    assert_eq!(client.keep_snapshot(snapshot).await.unwrap_err().code(), Code::PermissionDenied);
}

/// The ids of the runtime are made of names and numbers that its readers know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_id_of_the_role_append_never_meets_one_of_the_runtime() {
    let served = Served::usual().await;
    let writer = served.open("ada:a%20b%3Ac", "default").await.unwrap();
    let program = served.open("app:p", "default").await.unwrap();
    let id = CommandId([7; 16]);
    let with = |digest| {
        let command = Some(CommandRecord { id, digest, answer: "done".into() });
        Append { command, ..happened("test.Happened") }
    };
    for (store, first) in [(&writer, 1), (&program, 2)] {
        let appended = store.append(with(Digest::UNCHECKED)).await;
        assert!(matches!(&appended, Ok(Outcome::Appended(_))), "{appended:?}");
        // Each knows its own by the id that it sent.
        let repeated = store.append(with(Digest::UNCHECKED)).await;
        let Ok(Outcome::Repeated(answered)) = repeated else { panic!("{repeated:?}") };
        assert_eq!((answered.record.id, answered.first), (id, Position(first)));
        assert_eq!(store.answered(id).await.unwrap(), Some(answered));
        let reused = store.append(with(Digest::of(b"other"))).await;
        assert_eq!(reused, Err(AppendError::CommandIdReused { id }));
    }
}

/// A process goes on from what is kept there, and gives commands by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_append_keeps_no_snapshot_and_a_reader_sees_no_holder() {
    let served = Served::usual().await;
    let mut client = served.client().await;
    let [rae, ada, app] = ["rae:r", "ada:a b:c", "app:p"]
        .map(|user| format!("Basic {}", BASE64_STANDARD.encode(user)));
    let snapshot = |key: usize| wire::KeepSnapshotRequest {
        key: vec![7; key].into(),
        value: Bytes::from_static(b"state"),
    };
    let denied = client.keep_snapshot(authorized(snapshot(3), &ada)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    client.keep_snapshot(authorized(snapshot(3), &app)).await.unwrap();
    let invalid = client.keep_snapshot(authorized(snapshot(100_000), &app)).await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);

    let writer = served.open("ada:a%20b%3Ac", "default").await.unwrap();
    let holder = Holder::random();
    let work = Label::new("work").unwrap();
    writer.lease(LeaseRequest::new(work, holder, Duration::from_secs(60))).await.unwrap();
    for (user, shows) in [(&rae, false), (&ada, true), (&app, true)] {
        let asked = authorized(wire::ListLeasesRequest {}, user);
        let mut leases = client.list_leases(asked).await.unwrap().into_inner();
        let held = leases.message().await.unwrap().unwrap().leases.remove(0);
        assert_eq!(held.holder.as_ref() == holder.0.as_bytes(), shows, "{user}");
        assert_eq!(held.fence != 0, shows, "{user}");
    }
}

/// After a leak somebody empties the file: a reload that refused it let everybody stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_emptied_lets_nobody_in_any_more() {
    let user = Users::with_token("ada", "append").unwrap();
    let served = Served::with(&[&user.entry]).await;
    let mut client = served.client().await;
    let bearer = format!("Bearer {}", user.token);
    let all = wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
    let signals = client.subscribe(authorized(all, &bearer)).await.unwrap();
    let mut signals = signals.into_inner();
    served.write(&["# Nobody for now."]);
    let status = loop {
        match signals.message().await {
            Ok(signal) => assert!(signal.is_some(), "the call ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let again = client.identify(authorized(IdentifyRequest::default(), &bearer)).await;
    assert_eq!(again.unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn a_file_that_is_away_is_told_once_and_one_with_a_fault_too() {
    let (directory, path) = file(&Users::entry("ada", "read", "a").unwrap());
    let users = Users::of_file(&path).unwrap();
    assert_eq!(users.reload(), Ok(()));
    for lines in [None, Some("role"), None] {
        match lines {
            None => std::fs::remove_file(&path).unwrap(),
            Some(lines) => std::fs::write(&path, lines).unwrap(),
        }
        assert!(users.reload().is_err(), "{lines:?}");
        assert_eq!(users.reload(), Ok(()));
    }
    drop(directory);
}

/// The hash of a position, or of the end, confirms what somebody guesses of events that may not be
/// read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrowed_right_sees_no_hash_of_the_history() {
    let till = Users::entry("till", "append", "t").unwrap();
    let till = format!("{till}append.streams = [\"order-\"]\nread.streams = [\"order-\"]\n");
    let all = Users::entry("all", "append", "a").unwrap();
    let served = Served::with(&[&till, &all]).await;
    let whole = served.open("all:a", "orders").await.unwrap();
    whole.append(in_stream("order-1", "shop:7")).await.unwrap();
    let real = whole.status().borrow().head.chain;
    let checkpoint = whole.checkpoint_at(Position(1)).await.unwrap();
    assert!(real != Hash::EMPTY && whole.resume(Query::all(), &checkpoint).await.is_ok());

    let orders = served.open("till:t", "orders").await.unwrap();
    assert_eq!(orders.head().chain, Hash::EMPTY);
    orders.append(in_stream("order-1", "shop:7")).await.unwrap();
    let page = orders.page(Read::stream(stream("order-1"), Version(1))).await.unwrap();
    assert_eq!((page.events.len(), page.head.position), (2, Position(2)));
    assert_eq!((page.head.chain, orders.head().chain), (Hash::EMPTY, Hash::EMPTY));
    let denied = orders.hash_at(Position(1)).await;
    assert!(matches!(denied, Err(ReadError::Denied { .. })), "{denied:?}");
    let mut client = served.client().await;
    let query = Query::stream(stream("order-1"));
    let resumed = wire::SubscribeRequest {
        query: Some((&query).into()),
        from: Some(wire::subscribe_request::From::Checkpoint(checkpoint.into())),
        takes_through: false,
    };
    let mut resumed = authorized(resumed, &format!("Basic {}", BASE64_STANDARD.encode("till:t")));
    resumed.metadata_mut().insert("leftfold-store", "orders".parse().unwrap());
    assert_eq!(client.subscribe(resumed).await.unwrap_err().code(), Code::PermissionDenied);
}

/// A command id, a checkpoint and a lease are shared by all writers, whatever their streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrowed_right_carries_events_and_conditions_and_nothing_beside() {
    let till = Users::entry("till", "append", "t").unwrap();
    let till = format!("{till}append.streams = [\"order-\"]\nread.streams = [\"order-\"]\n");
    let served = Served::with(&[&till]).await;
    let orders = served.open("till:t", "orders").await.unwrap();
    let refused = async |append: Append| {
        let refused = orders.append(append.clone()).await;
        assert!(matches!(refused, Err(AppendError::Denied { .. })), "{append:?} {refused:?}");
    };
    let first = in_stream("order-1", "shop:7");
    assert!(matches!(orders.append(first).await, Ok(Outcome::Appended(_))));
    let (id, digest, answer) = (CommandId([7; 16]), Digest::UNCHECKED, Bytes::new());
    let command = Some(CommandRecord { id, digest, answer });
    refused(Append { command, ..in_stream("order-4", "shop:7") }).await;
    let consumer = Label::new("billing").unwrap();
    let checkpoint = Some(CheckpointRecord {
        consumer: consumer.clone(),
        from: MoveFrom::Anywhere,
        checkpoint: Checkpoint {
            store: orders.identity().store,
            partition: Partition(None),
            position: Position(1),
            hash: Hash::EMPTY,
        },
    });
    refused(Append { checkpoint, ..Append::default() }).await;
    let fence = Some((consumer.clone(), Fence(1)));
    refused(Append { fence, ..in_stream("order-4", "shop:7") }).await;
    refused(
        in_stream("order-4", "shop:7")
            .when(Condition::stream(stream("$effect-1"), Expected::Absent)),
    )
    .await;
    let lease = LeaseRequest::new(consumer.clone(), Holder::random(), Duration::from_secs(60));
    assert!(matches!(orders.lease(lease).await, Err(LeaseError::Denied { .. })));
    assert!(matches!(orders.leases().await, Err(LeaseError::Denied { .. })));
    let denied = ReadError::Denied { detail: String::new() };
    let same = |error: ReadError| assert_eq!(discriminant(&error), discriminant(&denied));
    same(orders.checkpoint(consumer).await.unwrap_err());
    same(orders.position_at(Timestamp::from_micros(0)).await.unwrap_err());
    same(orders.positions_of(EventId(uuid::Uuid::nil()), 1).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_stands_for_name_and_password_and_the_file_does_not_have_it() {
    let made = Users::with_token("pipe", "append").unwrap();
    assert!(!made.entry.contains(&made.token) && !format!("{made:?}").contains(&made.token));
    let served = Served::with(&[&made.entry]).await;
    let mut client = served.client().await;
    let basic = |text: String| format!("Basic {}", BASE64_STANDARD.encode(text));
    for good in [
        format!("Bearer {}", made.token),
        format!("bearer {}", made.token),
        basic(format!("pipe:{}", made.token)),
    ] {
        client.identify(authorized(IdentifyRequest::default(), &good)).await.unwrap();
    }
    for bad in [
        "Bearer leftfold_0".to_owned(),
        "Bearer".to_owned(),
        format!("Token {}", made.token),
        basic(format!("other:{}", made.token)),
    ] {
        let refused =
            client.identify(authorized(IdentifyRequest::default(), &bad)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{bad}");
    }
}

/// A call that is open ends, and an append on it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_removed_from_the_file_is_out_at_once_on_open_calls_too() {
    let [stays, goes] = ["stays", "goes"].map(|name| Users::with_token(name, "append").unwrap());
    let served = Served::with(&[&stays.entry, &goes.entry]).await;
    let bearer = |user: &leftfold_server::NewUser| format!("Bearer {}", user.token);
    let subscribe = async |authorization: &str| {
        let all =
            wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
        let mut client = served.client().await;
        let mut signals =
            client.subscribe(authorized(all, authorization)).await.unwrap().into_inner();
        // It is caught up: the call has begun.
        signals.message().await.unwrap().unwrap();
        (signals, client)
    };
    let (mut ended, mut client) = subscribe(&bearer(&goes)).await;
    let (mut goes_on, _client) = subscribe(&bearer(&stays)).await;

    served.write(&[&stays.entry]);
    let status = loop {
        match ended.message().await {
            Ok(signal) => assert!(signal.is_some(), "the call ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let again = client.identify(authorized(IdentifyRequest::default(), &bearer(&goes))).await;
    assert_eq!(again.unwrap_err().code(), Code::Unauthenticated);

    // A file with a fault changes nothing, and one with other rights ends calls too.
    served.write(&["[users.stays]\nrole = \"king\""]);
    let mut client = served.client().await;
    client.identify(authorized(IdentifyRequest::default(), &bearer(&stays))).await.unwrap();
    served.write(&[&stays.entry.replace("append", "read")]);
    let status = loop {
        match goes_on.message().await {
            Ok(signal) => assert!(signal.is_some(), "the call ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    client.identify(authorized(IdentifyRequest::default(), &bearer(&stays))).await.unwrap();
}

#[test]
fn a_file_that_lets_nobody_in_or_cannot_be_understood_is_refused() {
    let of = |lines: &str| {
        let (_directory, path) = file(lines);
        Users::of_file(&path).map(drop)
    };
    let good = Users::entry("ada", "read", "secret").unwrap();
    assert!(!good.contains("secret"));
    assert_eq!(of(&good), Ok(()));
    let quoted = Users::entry("ada \"b\" c".replace(' ', "_").as_str(), "read", "secret").unwrap();
    assert_eq!(of(&quoted), Ok(()));
    assert!(matches!(of("# nobody\n"), Err(UsersError::Nobody { .. })));
    for bad in [
        "rule = \"read\"",
        "stores.orders.role = \"king\"",
        "append.streams = []",
        "append.stream = [\"order-\"]",
        "read.tags = [\"\"]",
        "tokens = [\"secret\"]",
        "stores.\"a/b\".role = \"read\"",
        "limits",
    ] {
        let error = of(&format!("{good}{bad}"));
        assert!(matches!(error, Err(UsersError::Line { line: 4, .. })), "{bad}: {error:?}");
    }
    let twice = of(&format!("{good}{good}"));
    assert!(matches!(twice, Err(UsersError::Line { line: 4, .. })), "{twice:?}");
    let token = Users::with_token("ada", "read").unwrap().entry;
    for bad in [
        "[users.ada]\nrole = \"read\"\n".to_owned(),
        good.replace("role = \"read\"", ""),
        good.replace("role = \"read\"", "role = \"runtime\"\nappend.streams = [\"order-\"]"),
        good.replace(
            "role = \"read\"",
            "[users.ada.stores.b]\nrole = \"admin\"\nread.tags = [\"x\"]",
        ),
        good.replace("role = \"read\"", "append.streams = [\"a\"]\nstores.b.role = \"read\""),
        format!("{token}\n{}", token.replace("users.ada", "users.eve")),
    ] {
        assert!(matches!(of(&bad), Err(UsersError::User { .. })), "{bad}");
    }
    assert_eq!(Users::entry("a b", "read", "x"), Err(UsersError::Name));
    assert_eq!(Users::entry("ada", "king", "x"), Err(UsersError::Name));
    assert_eq!(Users::entry("ada", "read", ""), Err(UsersError::Password));
}

/// An append of a copy kept what the client had written, and a struct is read from an array too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_an_operator_names_the_user_who_wrote_it_unless_an_admin_copies_it() {
    let users = [("app", "runtime", "p"), ("root", "admin", "r")];
    let users = users.map(|(name, role, password)| Users::entry(name, role, password).unwrap());
    let served = Served::with(&[&users[0], &users[1]]).await;
    let (runtime, copy) = (1, 2);
    let asked = |authority: i32, data: &[u8]| {
        let id = uuid::Uuid::now_v7();
        let event = NewEvent::new(EventType::new("$operator.Asked").unwrap(), data.to_vec());
        let event = event.in_stream(stream(&format!("$operator-{id}")));
        Append { authority: Authority::of_number(authority).unwrap(), ..Append::of(vec![event]) }
    };
    let forged = r#"{"action":{"Cancel":{"effect":7}},"by":"ada","reason":"no","caller":"ada"}"#;
    let unknown = [&forged.as_bytes()[..forged.len() - 1], b",\"more\":\"\xff\"}"].concat();
    let listed = br#"[{"Cancel":{"effect":7}},"ada","no",null,"ada"]"#;
    let mut expected = Vec::new();
    for (user, authority, caller) in [
        ("app:p", runtime, "app"),
        ("app:p", copy, "app"),
        ("root:r", runtime, "root"),
        ("root:r", copy, "ada"),
    ] {
        let store = served.open(user, "default").await.unwrap();
        store.append(asked(authority, forged.as_bytes())).await.unwrap();
        expected.push(Some(caller.to_owned()));
    }
    let store = served.open("app:p", "default").await.unwrap();
    for (authority, data) in [(runtime, &unknown[..]), (runtime, listed), (copy, listed)] {
        let refused = store.append(asked(authority, data)).await;
        assert!(matches!(refused, Err(AppendError::Denied { .. })), "{refused:?}");
    }
    let mut callers = Vec::new();
    let requests = OperatorRequests::of(&store);
    requests.each(RequestFilter::All, |status| callers.push(status.caller)).await.unwrap();
    assert_eq!(callers, expected);
}
