//! The targets: what a stranger sends, handed to the server as its sockets would hand it over.
//!
//! Nothing panics, no input takes much memory, the server goes on, and the store is sound.

use std::ops::ControlFlow;
use std::panic::{Location, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::StreamExt;
use leftfold::store::{Append, EventType, NewEvent, Outcome, Store};
use leftfold_server::ServerOptions;
use leftfold_server::drive::DrivenServer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::requests::Descriptions;

/// Time for which an answer that goes on, as that of a subscription, is listened to.
const LISTENED: Duration = Duration::from_millis(2);
/// Time within which a connection must begin a call.
const FIRST_CALL: Duration = Duration::from_millis(20);
/// Time for which any answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Parts of an answer that are looked at.
const PARTS_MAX: usize = 16;
/// Memory that the process may take, beside what it had at the beginning.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// A protocol whose requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Native,
    UmaDb,
    KurrentDb,
}

impl Protocol {
    /// Tells whether a call is one of the protocol.
    pub(crate) fn has(self, path: &str) -> bool {
        let of = |packages: &[&str]| packages.iter().any(|package| path.starts_with(package));
        match self {
            Self::Native => of(&["/leftfold.", "/grpc.health."]),
            Self::UmaDb => of(&["/umadb."]),
            Self::KurrentDb => of(&["/event_store.", "/kurrentdb."]),
        }
    }
}

/// A call with its messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// Number of the call among those of its protocol.
    pub(crate) call: u8,
    /// 0 for frames as they have to be; anything else changes them.
    pub(crate) framing: u8,
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Input {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.call, self.framing];
        for message in &self.messages {
            bytes.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
            bytes.extend(message);
        }
        bytes
    }

    /// Reads any bytes as an input: what a length says beyond the end is the rest.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let [call, framing, rest @ ..] = bytes else { return Self::default() };
        let (mut rest, mut messages) = (rest, Vec::new());
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = (u32::from_le_bytes(*length) as usize).min(behind.len());
            let (message, behind) = behind.split_at(length);
            messages.push(message.to_vec());
            rest = behind;
        }
        Self { call: *call, framing: *framing, messages }
    }

    /// The messages in frames of gRPC.
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for message in &self.messages {
            let wrong = u32::from(self.framing == 7) * 9;
            body.push(u8::from(self.framing == 5));
            body.extend((message.len() as u32 + wrong).to_be_bytes());
            body.extend(message);
        }
        body
    }
}

/// A server over a store in a directory, for one target.
pub(crate) struct Harness {
    runtime: Runtime,
    server: Arc<DrivenServer>,
    store: Store,
    descriptions: Descriptions,
    directory: TempDir,
    most_before: u64,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !is_spurious(panic) {
                PANICS.fetch_add(1, Ordering::Relaxed);
                usual(panic);
            }
        }));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("store");
        let store = runtime.block_on(leftfold::open(place.to_str().unwrap())).unwrap();
        let stores = vec![("default".to_owned(), store.clone())];
        let options = ServerOptions {
            first_call_within: FIRST_CALL,
            ..ServerOptions::at("127.0.0.1:0".parse().unwrap())
        };
        let server = runtime.block_on(async { Arc::new(DrivenServer::new(options, stores)) });
        let descriptions = Descriptions::read();
        let most_before = most_resident();
        Self { runtime, server, store, descriptions, directory, most_before }
    }

    /// Makes a call of the protocol, and listens to its answer.
    pub(crate) fn call(&self, protocol: Protocol, input: &[u8]) {
        let input = Input::decode(input);
        let calls = self.descriptions.calls(protocol);
        let call = &calls[usize::from(input.call) % calls.len()];
        let body = input.body();
        let request = Request::post(&*call.path)
            .version(axum::http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(Bytes::from(body)))
            .unwrap();
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(PATIENCE, self.server.call(request)).await;
            let mut parts = answered.expect("it is answered").into_body().into_data_stream();
            for _ in 0..PARTS_MAX {
                match tokio::time::timeout(LISTENED, parts.next()).await {
                    Ok(Some(Ok(_))) => {}
                    _ => break,
                }
            }
        });
    }

    /// Sends bytes on a connection, and reads until it ends.
    pub(crate) fn connect(&self, input: &[u8]) {
        self.runtime.block_on(async {
            let (mut own, theirs) = tokio::io::duplex(64 << 10);
            let talks = async {
                let _ = own.write_all(input).await;
                // Calls that were begun go on while the connection is open.
                let mut answer = [0; 4_096];
                let mut read = async || tokio::time::timeout(LISTENED, own.read(&mut answer)).await;
                while let Ok(Ok(1..)) = read().await {}
                let _ = own.shutdown().await;
            };
            let server = Arc::clone(&self.server);
            let served = tokio::spawn(async move { server.serve(theirs).await });
            // What panics is counted.
            let talked = async { (talks.await, served.await.is_ok()) };
            tokio::time::timeout(PATIENCE, talked).await.expect("the connection ends");
        });
    }

    /// Expects that nothing has happened to the server.
    pub(crate) fn check(&self, input: &[u8]) {
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a panic: {input:?}");
        let more = most_resident().saturating_sub(self.most_before);
        assert!(more < MEMORY_BYTES_MAX, "{} MiB more: {input:?}", more >> 20);
    }

    /// Expects that the store takes appends, closes cleanly, and is sound.
    pub(crate) fn close(self) {
        let Self { runtime, server, store, directory, .. } = self;
        runtime.block_on(async {
            let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
            let appended = store.append(Append::of(vec![event])).await;
            assert!(matches!(appended, Ok(Outcome::Appended(_))), "{appended:?}");
            let head = store.head();
            eprintln!("{} events, and {}", head.position, answered(&server).await);
            server.close().await.unwrap();
            drop(store);
            let place = directory.path().join("store");
            let mut go_on = |_| ControlFlow::Continue(());
            let verified = leftfold::log::verify(place, &mut go_on).unwrap();
            assert!(verified.is_sound() && verified.events == head.position.0, "{verified:?}");
        });
        assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    }
}

/// The answers that the server has counted, by call and status.
async fn answered(server: &DrivenServer) -> String {
    let asks = Request::get("/metrics").body(Body::empty()).unwrap();
    let mut parts = server.call(asks).await.into_body().into_data_stream();
    let mut text = Vec::new();
    while let Some(Ok(part)) = parts.next().await {
        text.extend(part);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let counts = text.lines().filter(|line| line.starts_with("leftfold_server_calls_total"));
    counts.collect::<Vec<_>>().join("\n")
}

/// Tells of an assertion of h2 in debug builds. It does not hold if a connection is dropped while
/// calls are open, and nothing is wrong then.
fn is_spurious(panic: &PanicHookInfo<'_>) -> bool {
    let is_there = |place: &Location<'_>| place.file().ends_with("proto/streams/counts.rs");
    panic.location().is_some_and(is_there)
        && panic.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("has_streams"))
}

/// Most memory that the process has had, in bytes; 0 where that is not known.
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
