//! Clients that send what is no request, say nothing, send too much, or take nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use leftfold::store::{Append, EventType, NewEvent, Outcome, Store};
use leftfold::testing::seed;
use leftfold_protocol::{MESSAGE_BYTES_MAX, wire};
use leftfold_server::ServerOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::{RunningServer, raw_client, usual_options};
use crate::umadb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn accepts(store: &Store) {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let outcome = store.append(Append::of(vec![event])).await;
    assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_the_port_end_their_connection_and_nothing_else() {
    let mut random = Rng::with_seed(seed());
    let patience = Duration::from_millis(200);
    let options = ServerOptions { first_call_within: patience, ..usual_options() };
    let server = RunningServer::with(options, Store::memory()).await;
    let store = server.open().await;
    for number in 0..300 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
        let mut sent: Vec<u8> = match number % 4 {
            0 => PREFACE.to_vec(),
            1 => PREFACE[..random.usize(..PREFACE.len())].to_vec(),
            2 => b"POST /leftfold.v1.Store/Append HTTP/1.1\r\n".to_vec(),
            _ => Vec::new(),
        };
        sent.extend((0..random.usize(..4_000)).map(|_| random.u8(..)));
        // The server may have closed it already.
        let _ = stream.write_all(&sent).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        if number % 50 == 0 {
            accepts(&store).await;
        }
    }
    accepts(&store).await;
}

/// One sends nothing, and others only the beginning of something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_call_is_closed_and_one_with_a_call_stays() {
    let patience = Duration::from_millis(200);
    let options = ServerOptions { first_call_within: patience, ..usual_options() };
    let server = RunningServer::with(options, Store::memory()).await;
    let store = server.open().await;
    for begins in [&b""[..], &PREFACE[..10], PREFACE, b"GET /health HT"] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
        stream.write_all(begins).await.unwrap();
        // It ends: without the limit this would wait for ever.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    accepts(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_the_limit_is_refused_and_the_server_goes_on() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = raw_client(server.port).await;
    let too_much = wire::KeepSnapshotRequest {
        key: Bytes::from_static(b"key"),
        value: vec![7; MESSAGE_BYTES_MAX].into(),
    };
    // Each of the empty parts would take fifty times its bytes.
    let parts = vec![wire::QueryItem::default(); 3 << 20];
    let query = Some(wire::Query { items: parts });
    let place = Some(wire::place::Place::Matching(wire::QueryPlace { query, from: 1 }));
    let many = wire::ReadRequest { place: Some(wire::Place { place }), ..Default::default() };
    assert_eq!(client.read(many).await.unwrap_err().code(), Code::OutOfRange);
    let refused = client.keep_snapshot(too_much).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    accepts(&server.open().await).await;
}

/// A message of half a megabyte would have taken a hundred.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_small_parts_is_refused_by_every_protocol_before_it_takes_memory() {
    let server = RunningServer::of(Store::memory()).await;
    // One append with as many empty events, in a message of several.
    let events = [0x0a, 0].repeat(1 << 18);
    let mut appends = vec![0x1a];
    prost::encoding::encode_varint(events.len() as u64, &mut appends);
    appends.extend(events);
    let messages = [
        wire::append_request::Request::Open(wire::OpenAppends::default()),
        wire::append_request::Request::Appends(appends.into()),
    ]
    .map(|request| wire::AppendRequest { request: Some(request) });
    let mut client = raw_client(server.port).await;
    let mut answers = client.append(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    // The call of a session is over when a message cannot be read.
    assert!(!matches!(answers.message().await, Ok(Some(_))));

    let mut uma = umadb::client(server.port).await;
    let floods = umadb::appends(vec![umadb::wire::Event::default(); 1 << 19]);
    let refused = uma.append(floods).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    // A few too many are told what the limit is.
    let many = umadb::appends(vec![umadb::event("a", "b"); 10_001]);
    let refused = uma.append(many).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    accepts(&server.open().await).await;
}

/// Handles that this process may have open.
fn handles_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    soft.unwrap_or(1_024)
}

/// 10,000 of them at length; both ends of each are in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_stay_and_cost_others_nothing() {
    let wanted = if std::env::var_os("LEFTFOLD_LONG").is_some() { 10_000 } else { 500 };
    let count = wanted.min(handles_max().saturating_sub(400) / 2);
    let server = RunningServer::of(Store::memory()).await;
    let store = server.open().await;
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut client = raw_client(server.port).await;
        client.identify(wire::IdentifyRequest::default()).await.unwrap();
        idle.push(client);
    }
    accepts(&store).await;
    accepts(&server.open().await).await;
    // None of them was cut off.
    for client in &mut idle {
        client.identify(wire::IdentifyRequest::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_metadata_is_refused_and_the_server_goes_on() {
    let server = RunningServer::of(Store::memory()).await;
    let store = server.open().await;
    let mut client = raw_client(server.port).await;
    let mut request = tonic::Request::new(wire::IdentifyRequest::default());
    for number in 0..64 {
        let name = format!("huge-{number}").parse::<tonic::metadata::MetadataKey<_>>().unwrap();
        request.metadata_mut().insert(name, "x".repeat(1_000).parse().unwrap());
    }
    assert!(client.identify(request).await.is_err());
    accepts(&store).await;
}
