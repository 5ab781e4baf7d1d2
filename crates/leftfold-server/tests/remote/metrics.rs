//! Figures of the server itself, at `/metrics`.

use std::collections::{BTreeSet, HashMap};
use std::iter;
use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leftfold::store::{Append, EventType, NewEvent, Query, Store};
use leftfold_protocol::bounded::RequestShapes;
use leftfold_protocol::{DESCRIPTIONS, wire};
use leftfold_remote::{GroupOptions, RemoteStore};
use leftfold_server::{ServerOptions, Users};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::{Code, Request};

use crate::kurrent::calls;
use crate::support::{RunningServer, options_at, raw, raw_client, usual_options};
use crate::umadb;
use crate::users::file;

/// The answer of the port to a request over plain HTTP.
async fn asked(port: u16, path: &str, authorization: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let asks = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n"
    );
    stream.write_all(asks.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Samples by their names and labels.
fn samples(answer: &str) -> HashMap<&str, f64> {
    let lines = answer.lines().filter(|line| line.starts_with("leftfold_"));
    lines
        .map(|line| {
            let (key, value) = line.rsplit_once(' ').unwrap();
            (key, value.parse().unwrap())
        })
        .collect()
}

fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(user))
}

fn of<T>(user: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", basic(user).parse().unwrap());
    request
}

/// A server with a monitor, who reads all, and a till, who appends to some streams.
async fn serve() -> (RunningServer, tempfile::TempDir) {
    let till = Users::entry("till", "append", "t").unwrap();
    let till = format!("{till}append.streams = [\"order-\"]\nread.streams = [\"order-\"]\n");
    let monitor = Users::entry("monitor", "admin", "m").unwrap();
    let narrow = Users::entry("narrow", "read", "n").unwrap();
    let narrow = narrow.replace("role = \"read\"\n", "stores.default.role = \"read\"\n");
    let (directory, path) = file(&[till, monitor, narrow].join("\n"));
    let users = Some(Users::of_file(&path).unwrap());
    let options = ServerOptions {
        users,
        connections_of_prefix_max: 3,
        first_call_within: Duration::from_millis(300),
        ..usual_options()
    };
    (RunningServer::with(options, Store::memory()).await, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_connections_refusals_and_subscriptions_are_counted() {
    let (server, _directory) = serve().await;
    let port = server.port;
    let mut client = raw_client(port).await;
    client.identify(of("monitor:m", wire::IdentifyRequest::default())).await.unwrap();
    let wrong = client.identify(of("monitor:x", wire::IdentifyRequest::default())).await;
    assert_eq!(wrong.unwrap_err().code(), Code::Unauthenticated);
    let all =
        || wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
    let denied = client.subscribe(of("till:t", all())).await.map(drop);
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    let mut open = client.subscribe(of("monitor:m", all())).await.unwrap().into_inner();
    open.message().await.unwrap().unwrap();
    let mut uma = umadb::client(port).await;
    let event = umadb::appends(vec![umadb::event("a", "b")]);
    uma.append(of("monitor:m", event)).await.unwrap();
    // A third connection is the last one: the fourth is closed.
    let mut streams = calls::client(port).await;
    let append = tokio_stream::iter(calls::append("a-1"));
    streams.append(of("monitor:m", append)).await.unwrap();
    assert!(raw(port).await.call(hyper::Request::default()).await.is_err());
    drop((uma, streams));

    let answer = loop {
        let answer = asked(port, "/metrics", &basic("monitor:m")).await;
        if answer.contains("200 OK") {
            break answer;
        }
    };
    let samples = samples(&answer);
    let at = |key: &str| *samples.get(key).unwrap_or_else(|| panic!("{key}: {answer}"));
    let native = "protocol=\"native\",method=\"Store/";
    assert_eq!(
        at(&format!("leftfold_server_calls_total{{{native}Identify\",status=\"OK\"}}")),
        1.0
    );
    for (call, status) in [("Identify", "UNAUTHENTICATED"), ("Subscribe", "PERMISSION_DENIED")] {
        let key = format!("leftfold_server_calls_total{{{native}{call}\",status=\"{status}\"}}");
        assert_eq!(at(&key), 1.0);
    }
    assert_eq!(at(&format!("leftfold_server_calls_open{{{native}Subscribe\"}}")), 1.0);
    assert_eq!(at("leftfold_server_subscriptions{protocol=\"native\"}"), 1.0);
    for (protocol, method) in [("umadb", "DCB/Append"), ("kurrentdb", "Streams/Append")] {
        let labels = format!("protocol=\"{protocol}\",method=\"{method}\"");
        assert_eq!(at(&format!("leftfold_server_calls_total{{{labels},status=\"OK\"}}")), 1.0);
        assert_eq!(at(&format!("leftfold_server_call_seconds_count{{{labels}}}")), 1.0);
    }
    assert_eq!(at("leftfold_server_calls_refused_total{reason=\"unauthenticated\"}"), 1.0);
    assert_eq!(at("leftfold_server_calls_refused_total{reason=\"denied\"}"), 1.0);
    assert!(at("leftfold_server_connections_refused_total{reason=\"crowded\"}") >= 1.0);
    assert!(at("leftfold_server_connections") >= 2.0);
    assert!(at("leftfold_server_connections_accepted_total") >= 4.0);
    for name in ["received", "sent"] {
        assert!(at(&format!("leftfold_server_{name}_bytes_total")) > 100.0);
    }
    assert_eq!(at("leftfold_server_stores_open{kind=\"lasting\"}"), 1.0);
    assert_eq!(at("leftfold_store_head_position"), 2.0);
    // The same name twice would be no format of Prometheus.
    let names: Vec<_> = answer.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len());
}

/// A subscription of KurrentDB's clients is a group too, and one that nobody consumes has figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_have_figures_whether_anybody_consumes_them_or_not() {
    let server = RunningServer::of(Store::memory()).await;
    let store = server.open().await;
    let groups = RemoteStore::open_with(options_at(server.port)).await.unwrap().groups();
    groups.create("mails", &GroupOptions::of(Query::all()).retries(5)).await.unwrap();
    groups.create("idle", &GroupOptions::of(Query::all())).await.unwrap();
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    store.append(Append::of(vec![event; 4])).await.unwrap();
    let mut consumer = groups.consume("mails", 4);
    consumer.next().await.unwrap().park("bad");
    consumer.next().await.unwrap().retry();
    let mut held = Vec::new();
    while held.len() < 3 {
        held.push(consumer.next().await.unwrap());
    }
    let answer = loop {
        let answer = asked(server.port, "/metrics", "").await;
        let parked = "leftfold_group_parked{group=\"mails\",protocol=\"native\"} 1";
        if answer.contains(parked) {
            break answer;
        }
    };
    let samples = samples(&answer);
    let at = |name: &str, group: &str| {
        let key = format!("leftfold_group_{name}{{group=\"{group}\",protocol=\"native\"}}");
        *samples.get(&*key).unwrap_or_else(|| panic!("{key}: {answer}"))
    };
    let figures = [
        ("consumers", 1.0),
        ("in_flight", 3.0),
        ("waiting", 0.0),
        ("delivered_total", 5.0),
        ("retried_total", 1.0),
        ("parked_total", 1.0),
    ];
    for (name, of_mails) in figures {
        assert_eq!((at(name, "mails"), at(name, "idle")), (of_mails, 0.0), "{name}: {answer}");
    }
    assert_eq!(samples["leftfold_groups"], 2.0);
    assert!(at("checkpoint_lag", "idle") >= 4.0 && at("lag", "idle") >= 4.0, "{answer}");
}

/// Rule 55 of servers: what a client cancels is freed, by every protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_its_client_cancels_is_gone_by_every_protocol() {
    let server = RunningServer::of(Store::memory()).await;
    let port = server.port;
    let all = wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
    let native = raw_client(port).await.subscribe(all).await.unwrap().into_inner();
    let uma = umadb::wire::SubscribeRequest::default();
    let uma = umadb::client(port).await.subscribe(uma).await.unwrap().into_inner();
    let mut kurrent = calls::client(port).await.read(calls::follow("a-1")).await.unwrap();
    kurrent.get_mut().message().await.unwrap();
    let open = async || {
        let answer = asked(port, "/metrics", "").await;
        let samples = samples(&answer);
        ["native", "umadb", "kurrentdb"]
            .map(|of| samples[&*format!("leftfold_server_subscriptions{{protocol=\"{of}\"}}")])
    };
    assert_eq!(open().await, [1.0; 3]);
    drop((native, uma, kurrent));
    while open().await != [0.0; 3] {}
}

/// Rule 56 of servers: without a right credential each call is UNAUTHENTICATED, but those that only
/// tell that the server is there, and what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_every_protocol_wants_a_user_but_those_that_tell_of_the_server() {
    let (server, _directory) = serve().await;
    let open = [
        "/grpc.health.v1.Health/Check",
        "/event_store.client.gossip.Gossip/Read",
        "/event_store.client.server_features.ServerFeatures/GetSupportedMethods",
    ];
    let mut client = raw(server.port).await;
    let mut services = BTreeSet::new();
    for path in described_calls() {
        let is_new = services.insert(path.rsplit_once('/').unwrap().0.to_owned());
        let guesses = [basic("monitor:x"), "Bearer leftfold_x".to_owned()];
        // Guesses are slowed.
        let guesses = guesses.into_iter().filter(|_| is_new).map(Some);
        for authorization in iter::once(None).chain(guesses) {
            let mut request = hyper::Request::post(format!("http://x{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            if let Some(authorization) = &authorization {
                request = request.header("authorization", authorization);
            }
            let answer = client.call(request.body(tonic::body::Body::empty()).unwrap()).await;
            let answer = answer.unwrap();
            let status = answer.headers().get("grpc-status").map(|text| text.to_str().unwrap());
            let is_out = status == Some("16");
            assert_eq!(is_out, !open.contains(&&*path), "{path} {authorization:?} {status:?}");
        }
    }
}

/// The paths of all calls that are described.
fn described_calls() -> Vec<String> {
    let facades = &include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"))[..];
    let shapes = [DESCRIPTIONS, facades].map(|all| RequestShapes::described(all).unwrap());
    let calls = shapes.iter().flat_map(|all| all.methods());
    let paths: Vec<_> = calls.map(|(service, method)| format!("/{service}/{method}")).collect();
    assert!(paths.len() > 25, "{paths:?}");
    paths
}

/// A label for each path that a stranger asks for would fill the memory of whoever collects them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_a_client_becomes_a_label() {
    let server = RunningServer::of(Store::memory()).await;
    for path in
        ["/evil", "/leftfold.v1.Store/Evil", "/evil.v1.Store/Identify", "/metrics?store=evil"]
    {
        asked(server.port, path, "Basic evil").await;
    }
    let answer = asked(server.port, "/metrics", "Basic evil").await;
    assert!(!answer.to_lowercase().contains("evil"), "{answer}");
    let other = "leftfold_server_calls_open{protocol=\"other\",method=\"other\"}";
    assert!(samples(&answer).contains_key(other), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_the_server_are_for_whoever_may_read_every_store() {
    let (server, _directory) = serve().await;
    let of_server = async |path: &str, user: &str| {
        let answer = asked(server.port, path, &basic(user)).await;
        let has = |name: &str| answer.contains(name);
        (has("leftfold_server_connections "), has("leftfold_store_head_position"))
    };
    assert_eq!(of_server("/metrics", "monitor:m").await, (true, true));
    assert_eq!(of_server("/metrics?store=default", "monitor:m").await, (false, true));
    assert_eq!(of_server("/metrics", "narrow:n").await, (false, true));
    assert_eq!(of_server("/metrics", "till:t").await, (false, false));
}
