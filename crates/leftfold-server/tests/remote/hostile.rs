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
