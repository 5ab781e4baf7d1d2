//! Clients of the protocol that send what is no request, cancel, or take nothing.

use std::sync::Arc;

use fastrand::Rng;
use leftfold::store::{MemoryBackend, Store};
use leftfold::testing::seed;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;

use super::wire::{AppendRequest, Event, HeadRequest, ReadRequest, SubscribeRequest};
use super::{appends, client, event};
use crate::support::{RunningServer, raw};

const CALLS: [&str; 5] = ["Read", "Subscribe", "Append", "Head", "GetTrackingInfo"];

/// Bytes that resemble a message, in a frame of gRPC that is good or not.
fn garbage(random: &mut Rng) -> Vec<u8> {
    let mut message: Vec<u8> = match random.usize(..3) {
        0 => prost::Message::encode_to_vec(&appends(vec![event("A", "a"), event("B", "b")])),
        _ => Vec::new(),
    };
    message.extend((0..random.usize(..200)).map(|_| random.u8(..)));
    for _ in 0..random.usize(..4) {
        if let Some(index) = message.len().checked_sub(1).map(|last| random.usize(..=last)) {
            message[index] = random.u8(..);
        }
    }
    let length = match random.usize(..8) {
        0 => random.u32(..),
        1 => message.len() as u32 / 2,
        _ => message.len() as u32,
    };
    let mut frame = vec![u8::from(random.usize(..10) == 0)];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_messages_and_huge_metadata_are_refused_and_the_server_goes_on() {
    let mut random = Rng::with_seed(seed());
    let server = RunningServer::of(Store::memory()).await;
    let mut good = client(server.port).await;
    for number in 0..300 {
        let call = CALLS[random.usize(..CALLS.len())];
        let url = format!("http://127.0.0.1:{}/umadb.v1.DCB/{call}", server.port);
        let mut request = hyper::Request::post(url).header("content-type", "application/grpc");
        if number % 30 == 0 {
            request = request.header("x-much", "m".repeat(100_000));
        }
        let body = axum::body::Body::from(garbage(&mut random));
        let mut channel = raw(server.port).await;
        // It answers, or cuts the connection; what it would go on with is not waited for.
        let _ = channel.call(request.body(Body::new(body)).unwrap()).await;
        if number % 30 == 0 {
            good.append(appends(vec![event("A", "a")])).await.unwrap();
        }
    }
    assert!(good.head(HeadRequest {}).await.unwrap().into_inner().position >= Some(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_leave_whole_appends_and_nothing_else() {
    let mut random = Rng::with_seed(seed());
    let backend = Arc::new(MemoryBackend::new());
    let server = RunningServer::of(Store::shared(backend.clone())).await;
    let mut good = client(server.port).await;
    let before = Arc::strong_count(&backend);
    let mut calling = JoinSet::new();
    for number in 0..400u32 {
        let (mut client, polls) = (good.clone(), random.u32(..4));
        calling.spawn(async move {
            let call = async {
                match number % 3 {
                    0 => {
                        let event = event("A", &number.to_string());
                        client.append(appends(vec![event; 5])).await.map(drop)
                    }
                    1 => client.read(ReadRequest::default()).await.map(drop),
                    _ => client.subscribe(SubscribeRequest::default()).await.map(drop),
                }
            };
            let given_up = async {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { biased; _ = call => {}, () = given_up => {} }
        });
    }
    calling.join_all().await;
    while Arc::strong_count(&backend) > before {
        tokio::task::yield_now().await;
    }
    let read = super::events(&mut good, ReadRequest::default()).await;
    assert_eq!(read.len() % 5, 0);
    for append in read.chunks(5) {
        assert!(append.iter().all(|event| event.event == append[0].event));
    }
}

/// Nothing is queued for it but what the connection holds: others go on, and it misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading_costs_nobody_anything() {
    const APPENDS: u64 = 150;
    let server = RunningServer::of(Store::memory()).await;
    let mut slow = client(server.port).await;
    let mut fast = client(server.port).await;
    let mut stalled = slow.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let mut live = fast.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let data = vec![7; 200_000];
    for position in 1..=APPENDS {
        let large = Event { data: data.clone().into(), ..event("A", "a") };
        let request = AppendRequest { events: vec![large], ..AppendRequest::default() };
        assert_eq!(fast.append(request).await.unwrap().into_inner().position, position);
        let message = live.message().await.unwrap().unwrap();
        assert_eq!(message.events[0].position, position);
    }
    let mut next = 1;
    while next <= APPENDS {
        for event in stalled.message().await.unwrap().unwrap().events {
            assert_eq!(event.position, next);
            next += 1;
        }
    }
}
