//! A handle behind something that takes part in its calls: it spoils a message of a subscription,
//! or takes no more calls on a connection that goes on.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use leftfold::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, ReadError, Signal, Store,
};
use leftfold_protocol::wire::{self, subscribe_reply};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service};

use crate::support::{RawChannel, RunningServer, open_at, raw};

/// Time after which a test that waits has failed: less than a handle is patient.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to a server that hands on calls, of one connection each.
struct CallProxy {
    port: u16,
    /// Connections that were taken.
    connections: Arc<AtomicU32>,
    /// Number of connections that take no more calls.
    full: watch::Sender<u32>,
    /// Messages of subscriptions that are spoilt yet.
    spoils: Arc<AtomicU32>,
}

impl CallProxy {
    async fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, spoils) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (full, is_full) = watch::channel(0);
        let (counted, spoiling) = (Arc::clone(&connections), Arc::clone(&spoils));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let (mut is_full, spoiling) = (is_full.clone(), Arc::clone(&spoiling));
                let server = raw(server).await;
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |call| {
                        hand_on(server.clone(), Arc::clone(&spoiling), call)
                    });
                    let builder = Builder::new(TokioExecutor::new());
                    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
                    tokio::select! {
                        _ = serving.as_mut() => return,
                        _ = is_full.wait_for(|full| *full >= number) => {}
                    }
                    serving.as_mut().graceful_shutdown();
                    let _ = serving.await;
                });
            }
        });
        Self { port, connections, full, spoils }
    }
}

async fn hand_on(
    mut server: RawChannel,
    spoils: Arc<AtomicU32>,
    call: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let is_subscription = call.uri().path().ends_with("/Subscribe");
    let response = server.call(call.map(Body::new)).await.expect("the server is there");
    if !is_subscription {
        return Ok(response.map(Body::new));
    }
    Ok(response.map(|incoming| Body::new(SpoiltBody { incoming, spoils })))
}

/// Messages of a subscription, some of which are spoilt on their way.
struct SpoiltBody {
    incoming: Incoming,
    spoils: Arc<AtomicU32>,
}

impl hyper::body::Body for SpoiltBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            return Poll::Pending;
        };
        let spoilt = |frame: Frame<Bytes>| frame.map_data(|data| spoil(data, &self.spoils));
        Poll::Ready(frame.map(|frame| frame.map(spoilt)))
    }
}

/// Makes the event unreadable, if the frame is a message with one and it is to be spoilt.
fn spoil(data: Bytes, spoils: &AtomicU32) -> Bytes {
    let reply = data.get(5..).map(wire::SubscribeReply::decode);
    let Some(Ok(mut reply)) = reply else { return data };
    let Some(subscribe_reply::Signal::Events(events)) = &mut reply.signal else { return data };
    let take = |left: u32| left.checked_sub(1);
    if spoils.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
        return data;
    }
    events.events[0] = Bytes::from_static(b"no event");
    let message = reply.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

async fn record(store: &Store) -> Position {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    match timeout(PATIENCE, store.append(Append::of(vec![event]))).await.unwrap().unwrap() {
        Outcome::Appended(appended) => appended.first,
        other => panic!("{other:?}"),
    }
}

/// A message that could not be read was passed by the next one: its events were lost to whoever
/// went on after the error.
#[tokio::test]
async fn a_subscription_goes_on_at_the_message_that_it_could_not_read() {
    let server = RunningServer::of(Store::memory()).await;
    let proxy = CallProxy::before(server.port).await;
    let store = open_at(proxy.port).await;
    let mut following = store.subscribe(Query::all(), Position::START);
    let mut next = async || timeout(PATIENCE, following.next()).await.expect("something comes");
    assert_eq!(next().await.unwrap(), Signal::CaughtUp(Position::START));
    for position in 1..=5_u64 {
        let is_spoilt = position % 2 == 0;
        proxy.spoils.store(u32::from(is_spoilt), Ordering::SeqCst);
        record(&store).await;
        let mut faults = 0;
        loop {
            match next().await {
                Ok(Signal::Event(event)) => {
                    assert_eq!(event.position, Position(position));
                    break;
                }
                Ok(_) => {}
                Err(ReadError::Io { detail }) => {
                    assert!(detail.contains("in an unknown way"), "{detail}");
                    faults += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(faults, u32::from(is_spoilt), "at {position}");
    }
}

/// A server that stopped had said that its connection takes no more calls, and did not end the call
/// of appends. A handle went on with that one, and each read failed until it was out of patience
/// ("channel closed").
#[tokio::test]
async fn a_handle_connects_again_when_its_connection_takes_no_more_calls() {
    let server = RunningServer::of(Store::memory()).await;
    let proxy = CallProxy::before(server.port).await;
    let store = open_at(proxy.port).await;
    for number in 1..=3 {
        assert_eq!(record(&store).await, Position(u64::from(number)));
        assert_eq!(proxy.connections.load(Ordering::SeqCst), number);
        proxy.full.send_replace(number);
        timeout(PATIENCE, store.now()).await.expect("it is answered").unwrap();
        // The next call may still have found the former connection.
        while proxy.connections.load(Ordering::SeqCst) == number {
            timeout(PATIENCE, store.now()).await.expect("it is answered").unwrap();
        }
    }
}

/// The task that keeps the connection of a handle was gone with its runtime: the handle went on
/// with the connection that was the last one.
#[test]
fn a_handle_whose_runtime_is_gone_says_that_it_is_closed() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (serving, handles) = (runtime(), runtime());
    let server = serving.block_on(RunningServer::of(Store::memory()));
    let store = handles.block_on(server.open());
    let mut following = store.subscribe(Query::all(), Position::START);
    let caught_up = serving.block_on(following.next());
    assert_eq!(caught_up.unwrap(), Signal::CaughtUp(Position::START));
    handles.shutdown_background();
    let told = serving.block_on(async { timeout(PATIENCE, following.next()).await });
    assert!(matches!(told, Ok(Err(ReadError::Closed | ReadError::Io { .. }))), "{told:?}");
    let read = serving.block_on(async { timeout(PATIENCE, store.now()).await });
    assert_eq!(read, Ok(Err(ReadError::Closed)));
}
