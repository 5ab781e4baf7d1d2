//! Connections that are cut at any byte: who sends a request again until it is answered, with the
//! same ids under the same condition, has it once, and who follows on misses nothing.

use leftfold::testing::seed;
use leftfold_proving::CuttingProxy;
use tokio::task::JoinSet;

use super::wire::dcb_client::DcbClient;
use super::wire::{AppendCondition, AppendRequest, Event, ReadRequest, SubscribeRequest};
use super::{appends, client, event, events, tagged};
use crate::support::{RawChannel, RunningServer, try_raw};

const WRITERS: u64 = 4;
const APPENDS: u64 = 25;
/// Powers of two of the bytes after which a connection is cut.
const BYTES_LOG2: std::ops::Range<u32> = 8..12;

async fn connect(port: u16) -> Option<DcbClient<RawChannel>> {
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    try_raw(port).await.ok().map(|channel| DcbClient::with_origin(channel, origin))
}

/// Appends two events at a time, each pair once; returns the positions that were answered.
async fn write(port: u16, writer: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    let mut client = None;
    for number in 0..APPENDS {
        let tag = format!("{writer}-{number}");
        let named = || Event { uuid: uuid::Uuid::new_v4().to_string(), ..event("A", &tag) };
        let condition = AppendCondition { fail_if_events_match: Some(tagged(&tag)), after: None };
        let request =
            AppendRequest { condition: Some(condition), ..appends(vec![named(), named()]) };
        let position = loop {
            let Some(connected) = &mut client else {
                client = connect(port).await;
                continue;
            };
            match connected.append(request.clone()).await {
                Ok(reply) => break reply.into_inner().position,
                // It is not a refusal: the connection is gone.
                Err(status) if status.details().is_empty() => client = None,
                Err(status) => panic!("{status:?}"),
            }
        };
        positions.push(position);
    }
    positions
}

/// Follows all events, from the last position that came, over as many connections as it takes.
async fn follow(port: u16, events: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    while (positions.len() as u64) < events {
        let Some(mut client) = connect(port).await else { continue };
        // A message is whole or nothing: larger ones would not come through.
        let (after, batch_size) = (positions.last().copied(), Some(3));
        let request = SubscribeRequest { after, batch_size, ..SubscribeRequest::default() };
        let Ok(stream) = client.subscribe(request).await else { continue };
        let mut stream = stream.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            positions.extend(message.events.iter().map(|event| event.position));
            if positions.len() as u64 == events {
                break;
            }
        }
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_over_connections_that_are_cut_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = leftfold::open(directory.path().to_str().unwrap()).await.unwrap();
    let server = RunningServer::of(log).await;
    let proxy = CuttingProxy::before(server.port);
    proxy.cut_after(BYTES_LOG2, seed());
    let following = tokio::spawn(follow(proxy.port(), 2 * WRITERS * APPENDS));
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        writing.spawn(write(proxy.port(), writer));
    }
    let mut answered: Vec<u64> = writing.join_all().await.concat();
    answered.sort_unstable();
    let all = 2 * WRITERS * APPENDS;
    assert_eq!(answered, (2..=all).step_by(2).collect::<Vec<_>>());
    assert_eq!(following.await.unwrap(), (1..=all).collect::<Vec<_>>());
    let stored = events(&mut client(server.port).await, ReadRequest::default()).await;
    for pair in stored.chunks(2) {
        let tags = |index: usize| pair[index].event.as_ref().map(|event| &event.tags);
        assert_eq!(tags(0), tags(1));
    }
    assert_eq!(stored.len() as u64, all);
    assert!(proxy.cuts() > 10, "{}", proxy.cuts());
}
