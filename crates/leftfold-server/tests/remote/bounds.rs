//! Bounds on callers: connections, calls, rates and guesses; and no secret in any line of the log.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leftfold::store::{Append, EventType, NewEvent, Outcome, Query, Store};
use leftfold_protocol::wire::{self, IdentifyRequest};
use leftfold_remote::RemoteStore;
use leftfold_server::{ServerOptions, Users};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::{Code, Request};
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::{RunningServer, raw_client, usual_options};

/// A server with these users.
async fn serve(entries: &str) -> RunningServer {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, entries).unwrap();
    let users = Some(Users::of_file(&path).unwrap());
    RunningServer::with(ServerOptions { users, ..usual_options() }, Store::memory()).await
}

fn authorized<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Asks again until it is answered otherwise.
async fn until<T>(mut asks: impl AsyncFnMut() -> Option<T>) -> T {
    let within = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = asks().await {
            return found;
        }
        assert!(Instant::now() < within, "it is still answered the same");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_has_no_more_connections_than_it_may_and_gets_back_what_it_closes() {
    let options = ServerOptions { connections_of_prefix_max: 2, ..usual_options() };
    let server = RunningServer::with(options, Store::memory()).await;
    let mut first = raw_client(server.port).await;
    let mut second = raw_client(server.port).await;
    first.identify(IdentifyRequest::default()).await.unwrap();
    second.identify(IdentifyRequest::default()).await.unwrap();
    let connects = async || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
        let asks = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, asks).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer.contains("200 OK")
    };
    assert!(!connects().await);
    first.identify(IdentifyRequest::default()).await.unwrap();
    drop(second);
    until(async || connects().await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_no_more_calls_at_once_and_a_second_than_it_may() {
    let user = |name, limit| {
        let made = Users::with_token(name, "append").unwrap();
        (format!("{}limits.{limit}\n", made.entry), format!("Bearer {}", made.token))
    };
    let (few, few_token) = user("few", "calls_at_once = 2");
    let (slow, slow_token) = user("slow", "calls_per_second = 1");
    let (free, free_token) = user("free", "calls_per_second = 1_000_000");
    let server = serve(&[few, slow, free].concat()).await;

    let mut client = raw_client(server.port).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let all =
            wire::SubscribeRequest { query: Some((&Query::all()).into()), ..Default::default() };
        open.push(client.subscribe(authorized(all, &few_token)).await.unwrap());
    }
    let refused =
        client.identify(authorized(IdentifyRequest::default(), &few_token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    client.identify(authorized(IdentifyRequest::default(), &free_token)).await.unwrap();
    open.pop();
    until(async || client.identify(authorized(IdentifyRequest::default(), &few_token)).await.ok())
        .await;

    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let (mut client, token) = (client.clone(), slow_token.clone());
        calls.spawn(async move {
            client.identify(authorized(IdentifyRequest::default(), &token)).await
        });
    }
    let refused = loop {
        if let Err(status) = calls.join_next().await.unwrap().unwrap() {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    client.identify(authorized(IdentifyRequest::default(), &free_token)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_beyond_the_bytes_of_a_user_wait_for_their_turn_and_none_is_lost() {
    let made = Users::entry("bulk", "append", "b").unwrap();
    let server = serve(&format!("{made}limits.bytes_per_second = 1000\n")).await;
    let url = format!("leftfold://bulk:b@127.0.0.1:{}", server.port);
    let store = Store::new(RemoteStore::open(&url).await.unwrap());
    let began = Instant::now();
    for _ in 0..3 {
        let event = NewEvent::new(EventType::new("test.Happened").unwrap(), vec![b' '; 1000]);
        let outcome = store.append(Append::of(vec![event])).await;
        assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

/// The guesses come from the prefix of the user, who had said the right password before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_sent_away_and_a_user_who_was_let_in_does_not_notice() {
    let server = serve(&Users::entry("ada", "read", "right").unwrap()).await;
    let mut client = raw_client(server.port).await;
    let right = basic("ada", "right");
    client.identify(authorized(IdentifyRequest::default(), &right)).await.unwrap();
    let mut guesses = JoinSet::new();
    for number in 0..100 {
        let (mut client, wrong) = (client.clone(), basic("ada", &number.to_string()));
        guesses.spawn(async move {
            client.identify(authorized(IdentifyRequest::default(), &wrong)).await
        });
    }
    let sent_away = loop {
        let status = guesses.join_next().await.unwrap().unwrap().unwrap_err();
        if status.code() != Code::Unauthenticated {
            break status;
        }
    };
    assert_eq!(sent_away.code(), Code::Unavailable, "{sent_away:?}");
    client.identify(authorized(IdentifyRequest::default(), &right)).await.unwrap();
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// At every level, of every library; the server and its clients are in this thread.
#[tokio::test]
async fn no_password_and_no_token_reaches_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let _set = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .set_default();
    let made = Users::with_token("pipe", "append").unwrap();
    let ada = Users::entry("ada", "append", "correct-horse").unwrap();
    let server = serve(&format!("{ada}{}", made.entry)).await;
    let mut client = raw_client(server.port).await;
    let shown = [
        (basic("ada", "correct-horse"), true),
        (basic("ada", "battery-staple"), false),
        (format!("Bearer {}", made.token), true),
        ("Bearer leftfold_wrong-token".to_owned(), false),
    ];
    for (authorization, is_right) in &shown {
        let called = client.identify(authorized(IdentifyRequest::default(), authorization)).await;
        assert_eq!(called.is_ok(), *is_right);
    }
    let url = format!("leftfold://ada:battery-staple@127.0.0.1:{}", server.port);
    assert!(RemoteStore::open(&url).await.is_err());
    drop(server);
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!said.is_empty());
    let hash = ada.split('"').nth(1).unwrap();
    let encoded = shown.iter().map(|(authorization, _)| &authorization[6..]);
    for secret in ["correct-horse", "battery-staple", &made.token, hash].into_iter().chain(encoded)
    {
        let line = said.lines().find(|line| line.contains(secret.trim()));
        assert_eq!(line, None, "{secret}");
    }
}
