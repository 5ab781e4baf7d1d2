//! Persistent subscriptions over servers that are killed, and over two servers on one store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use leftfold::store::{Label, Store};
use leftfold_proving::PostgresServer;
use leftfold_server::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::calls::wire::persistent_subscriptions as persistent;
use super::calls::wire::streams::read_req as stream_read;
use super::calls::wire::streams::read_resp::RecordedEvent;
use super::calls::wire::{Empty, StreamIdentifier, Uuid as WireUuid};
use super::calls::{append, client};
use crate::support::{RawChannel, RunningServer, try_raw, usual_options};
use persistent::persistent_subscriptions_client::PersistentSubscriptionsClient;
use persistent::read_req::nack::Action;
use persistent::read_req::options::StreamOption as ReadOption;
use persistent::read_req::{Ack, Content as Sent, Nack, Options};
use persistent::read_resp::Content;
use persistent::{CreateReq, GroupOptions, ReadReq, ReadResp, Settings, group_options};

const STREAM: &str = "order-1";
const EVENTS: u64 = 120;

type GroupsClient = PersistentSubscriptionsClient<RawChannel>;

fn stream() -> StreamIdentifier {
    StreamIdentifier { stream_name: STREAM.as_bytes().to_vec().into() }
}

async fn groups(port: u16) -> Option<GroupsClient> {
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    Some(PersistentSubscriptionsClient::with_origin(try_raw(port).await.ok()?, origin))
}

async fn create(port: u16) {
    let beginning = stream_read::StreamOptions {
        stream_identifier: Some(stream()),
        revision_option: Some(stream_read::stream_options::RevisionOption::Start(Empty {})),
    };
    let settings = Settings {
        max_retry_count: 1_000_000,
        min_checkpoint_count: 1,
        max_checkpoint_count: 5,
        read_batch_size: 20,
        history_buffer_size: 50,
        consumer_strategy: "RoundRobin".to_owned(),
        ..Settings::default()
    };
    let options = GroupOptions {
        stream_option: Some(group_options::StreamOption::Stream(beginning)),
        group_name: "workers".to_owned(),
        settings: Some(settings),
        ..GroupOptions::default()
    };
    let request = CreateReq { options: Some(options) };
    groups(port).await.unwrap().create(request).await.unwrap();
}

/// Appends so many events by one call.
async fn append_events(port: u16, count: u64) {
    let [options, _] = append(STREAM);
    let events = (0..count).map(|_| {
        let [_, event] = append(STREAM);
        event
    });
    let messages: Vec<_> = std::iter::once(options).chain(events).collect();
    client(port).await.append(tokio_stream::iter(messages)).await.unwrap();
}

/// A consumer, and the way by which it answers.
struct RawConsumer {
    events: Streaming<ReadResp>,
    answers: mpsc::Sender<ReadReq>,
}

impl RawConsumer {
    /// Begins to consume; `None` if the server is gone.
    async fn begin(port: u16, buffer_size: i32) -> Option<Self> {
        let (answers, sent) = mpsc::channel(100);
        let options = Options {
            stream_option: Some(ReadOption::StreamIdentifier(stream())),
            group_name: "workers".to_owned(),
            buffer_size,
            ..Options::default()
        };
        answers.send(ReadReq { content: Some(Sent::Options(options)) }).await.unwrap();
        let events = groups(port).await?.read(ReceiverStream::new(sent)).await.ok()?;
        Some(Self { events: events.into_inner(), answers })
    }

    /// Returns the next event; `None` if the call ended.
    async fn next(&mut self) -> Option<RecordedEvent> {
        loop {
            match self.events.message().await.ok()??.content? {
                Content::Event(event) => return event.event,
                Content::SubscriptionConfirmation(_) => {}
            }
        }
    }

    async fn answer(&self, ids: Vec<WireUuid>, acks: bool) {
        let content = match acks {
            true => Sent::Ack(Ack { ids, ..Ack::default() }),
            false => Sent::Nack(Nack { ids, action: Action::Retry.into(), ..Nack::default() }),
        };
        let _ = self.answers.send(ReadReq { content: Some(content) }).await;
    }
}

/// Revisions that consumers have, each with its consumer, and those that were acknowledged.
#[derive(Default)]
struct Observed {
    out: BTreeMap<u64, u64>,
    acked: BTreeSet<u64>,
}

/// Consumes, answers and goes away at random until the server is gone or everything is done.
async fn work(port: u16, seed: u64, observed: Arc<Mutex<Observed>>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let is_done = || observed.lock().unwrap().acked.len() as u64 == EVENTS;
    let mut number = seed;
    while !is_done() {
        number = number.wrapping_add(1);
        let Some(mut consumer) = RawConsumer::begin(port, random.i32(1..8)).await else { return };
        let mut has: Vec<(u64, WireUuid)> = Vec::new();
        let goes_after = random.usize(5..40);
        let mut given = 0;
        while given < goes_after && !is_done() {
            tokio::select! {
                biased;
                event = consumer.next() => {
                    let Some(event) = event else { break };
                    given += 1;
                    let mut observed = observed.lock().unwrap();
                    let other = observed.out.insert(event.stream_revision, number);
                    assert_eq!(other, None, "{} is with two consumers", event.stream_revision);
                    has.push((event.stream_revision, event.id.unwrap()));
                }
                () = tokio::task::yield_now() => {}
            }
            if !has.is_empty() && random.bool() {
                let count = random.usize(1..=has.len());
                random.shuffle(&mut has);
                let (revisions, ids): (Vec<_>, Vec<_>) = has.drain(..count).unzip();
                let acks = random.u8(0..4) > 0;
                {
                    let mut observed = observed.lock().unwrap();
                    for revision in &revisions {
                        observed.out.remove(revision);
                        if acks {
                            observed.acked.insert(*revision);
                        }
                    }
                }
                consumer.answer(ids, acks).await;
            }
        }
        let mut observed = observed.lock().unwrap();
        for (revision, _) in has {
            observed.out.remove(&revision);
        }
    }
}

/// A server with threads and a store of its own, which can be killed.
struct KilledServer {
    runtime: Option<Runtime>,
    port: u16,
}

impl KilledServer {
    async fn over(directory: &Path) -> Self {
        let url = format!("file:{}", directory.display());
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (tell, told) = oneshot::channel();
        runtime.spawn(async move {
            // The one before may not have let go of the directory yet.
            let store = loop {
                match leftfold::open(&url).await {
                    Ok(store) => break store,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let stores = vec![("default".to_owned(), store.clone())];
            let server = Server::bind(usual_options(), stores).await.unwrap();
            tell.send(server.addresses()[0].port()).unwrap();
            server.run(std::future::pending()).await.unwrap();
        });
        Self { runtime: Some(runtime), port: told.await.unwrap() }
    }
}

impl Drop for KilledServer {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_another_has_and_nothing_is_lost_though_servers_are_killed() {
    let seed = leftfold::testing::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let observed = Arc::new(Mutex::new(Observed::default()));
    let kills = leftfold::testing::extent(3, 30);
    for kill in 0..=kills {
        let server = KilledServer::over(directory.path()).await;
        if kill == 0 {
            create(server.port).await;
            append_events(server.port, EVENTS).await;
        }
        let workers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(work(server.port, random.u64(..), Arc::clone(&observed))))
            .collect();
        let target = if kill == kills { EVENTS } else { EVENTS * (kill + 1) / (kills + 1) };
        while (observed.lock().unwrap().acked.len() as u64) < target {
            assert!(workers.iter().all(|worker| !worker.is_finished()) || target == EVENTS);
            tokio::task::yield_now().await;
        }
        drop(server);
        for worker in workers {
            worker.await.unwrap();
        }
        observed.lock().unwrap().out.clear();
        assert_checkpoint(directory.path(), &observed).await;
    }
}

/// Expects that everything up to the checkpoint was acknowledged.
async fn assert_checkpoint(directory: &Path, observed: &Mutex<Observed>) {
    let url = format!("file:{}", directory.display());
    let store = loop {
        match leftfold::open(&url).await {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let consumer = Label::try_from(&*format!("$group kurrent:{STREAM}::workers")).unwrap();
    let reached = store.checkpoint(consumer).await.unwrap().unwrap().position;
    let settled = events_through(&store, reached.0).await;
    store.close().await.unwrap();
    let observed = observed.lock().unwrap();
    let missing: Vec<_> = (0..settled).filter(|at| !observed.acked.contains(at)).collect();
    assert!(missing.is_empty(), "the checkpoint {reached} is ahead of {missing:?}");
}

/// Returns the number of events of the stream up to a position.
async fn events_through(store: &Store, position: u64) -> u64 {
    use leftfold::store::{Read, StreamName, Version};
    let read = Read::stream(StreamName::new(STREAM).unwrap(), Version(1));
    let events = store.read(read).all().await.unwrap();
    events.iter().filter(|event| event.position.0 <= position).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_a_database_goes_on_when_the_first_one_stops() {
    let url = format!("{}?schema=shop", PostgresServer::shared().database("groups"));
    let [first, second] = [
        RunningServer::of(leftfold::open(&url).await.unwrap()).await,
        RunningServer::of(leftfold::open(&url).await.unwrap()).await,
    ];
    create(first.port).await;
    append_events(first.port, 6).await;
    let mut consumer = RawConsumer::begin(first.port, 3).await.unwrap();
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(consumer.next().await.unwrap());
    }
    assert_eq!(given.iter().map(|event| event.stream_revision).collect::<Vec<_>>(), [0, 1, 2]);
    let mut waiting = RawConsumer::begin(second.port, 10).await.unwrap();
    consumer.answer(vec![given[0].id.clone().unwrap()], true).await;
    // The room of the first one is full again: its answer was taken.
    assert_eq!(consumer.next().await.unwrap().stream_revision, 3);
    first.stop().await;
    assert!(consumer.next().await.is_none());
    let mut rest = Vec::new();
    for _ in 0..5 {
        rest.push(waiting.next().await.unwrap().stream_revision);
    }
    assert_eq!(rest, [1, 2, 3, 4, 5]);
}
