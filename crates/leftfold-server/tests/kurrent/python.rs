//! The client of Python, `kurrentdbclient`.

use std::process::Command;

use leftfold::store::limits::APPEND_EVENTS_MAX;
use leftfold::store::{Append, EventType, NewEvent, Store, StreamName};
use leftfold_proving::PostgresServer;
use tempfile::TempDir;

use super::pages::CountedPages;
use super::{Certified, CertifiedBy, conversation, run, scripts};
use crate::support::RunningServer;

fn python(script: &str, part: &str, address: &str) -> Command {
    let python = std::env::var_os("LEFTFOLD_PYTHON");
    let mut command = Command::new(python.expect("run the tests by `cargo xtask test`"));
    command.arg(scripts().join("python").join(script)).args([part, address]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs all parts of a script.
async fn run_python(script: &str, server: &RunningServer) {
    run(python(script, "all", &format!("127.0.0.1:{}", server.port))).await;
}

/// A store in memory and one in a directory.
async fn stores() -> [(Store, TempDir); 2] {
    let [none, directory] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let log = leftfold::open(&format!("file:{}", directory.path().display())).await.unwrap();
    [(Store::memory(), none), (log, directory)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_appended_to_read_and_deleted() {
    for (store, _directory) in stores().await {
        let server = RunningServer::of(store).await;
        run_python("streams.py", &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_are_known_when_something_is_refused_or_hidden() {
    let server = RunningServer::of(Store::memory()).await;
    run_python("deletions.py", &server).await;
}

/// A repetition of the append that brought a stream back was a wrong revision: its events were
/// looked for at the beginning of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_is_sent_again_is_answered_as_the_first_time_whatever_was_deleted() {
    for (store, _directory) in stores().await {
        let server = RunningServer::of(store).await;
        run_python("repeats.py", &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_projections_write_elsewhere_is_answered_from_the_index() {
    for (store, _directory) in stores().await {
        let server = RunningServer::of(store).await;
        run_python("indexed.py", &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_catch_up_and_follow() {
    for (store, _directory) in stores().await {
        let server = RunningServer::of(store).await;
        run_python("subscriptions.py", &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_share_persistent_subscriptions() {
    for (store, _directory) in stores().await {
        let server = RunningServer::of(store).await;
        run_python("groups.py", &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_postgresql_is_served_too() {
    let url = format!("{}?schema=shop", PostgresServer::shared().database("kurrent"));
    let server = RunningServer::of(leftfold::open(&url).await.unwrap()).await;
    for script in ["streams.py", "subscriptions.py", "groups.py"] {
        run_python(script, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_and_the_server_goes_on() {
    let server = RunningServer::of(Store::memory()).await;
    run_python("hostile.py", &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_a_server_that_was_restarted() {
    conversation(|address| python("restart.py", "all", &address)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_speaks_over_an_encrypted_connection_and_does_what_its_user_may() {
    let certified = Certified::new().await;
    let address = format!("localhost:{}", certified.server.port);
    let mut command = python("encrypted.py", "all", &address);
    command.arg(&certified.authority);
    run(command).await;
}

/// Runs a part of the script of encrypted connections with the certificates in these files.
async fn run_encrypted(part: &str, certified: &Certified, files: &[&str]) {
    let mut command = python("encrypted.py", part, &format!("localhost:{}", certified.server.port));
    command.args(files.iter().map(|file| certified.certificates.path(file)));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_of_a_password_are_refused_and_its_user_goes_on() {
    run_encrypted("guesses_passwords", &Certified::new().await, &["good.pem"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_refuses_a_server_with_an_expired_certificate_or_of_another_authority() {
    let certified = Certified::new().await;
    run_encrypted("refuses_the_server", &certified, &["other.pem"]).await;
    let expired = Certified::with(CertifiedBy::Expired).await;
    run_encrypted("refuses_the_server", &expired, &["good.pem"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_certificates_takes_a_good_one_of_a_client_and_no_other() {
    let certified = Certified::with(CertifiedBy::Both).await;
    run_encrypted("refuses_the_server", &certified, &["good.pem"]).await;
    let good = ["good.pem", "client.pem", "client.key"];
    run_encrypted("shows_a_certificate", &certified, &good).await;
    // The name of the part says what is expected of a client that shows another one.
    let other = ["good.pem", "stranger.pem", "stranger.key"];
    run_encrypted("shows_a_wrong_certificate", &certified, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_clients_recorded_is_seen_too() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let sold = || NewEvent::new(EventType::new("shop.Sold").unwrap(), "{\"cents\":5}");
    let own = NewEvent::new(EventType::new("$timer.Set").unwrap(), "{}");
    let in_stream = sold().in_stream(StreamName::of("sale", "1").unwrap());
    store.append(Append::of(vec![in_stream, sold()])).await.unwrap();
    store.append(leftfold::testing::by_runtime(Append::of(vec![own]))).await.unwrap();
    run_python("native.py", &server).await;
}

/// Serves these events and runs parts of `far.py` one after the other; returns the number of pages
/// that each of them read.
async fn pages_of<const PARTS: usize>(events: Vec<NewEvent>, parts: [&str; PARTS]) -> [u64; PARTS] {
    let backend = CountedPages::new();
    let store = Store::shared(backend.clone());
    for events in events.chunks(APPEND_EVENTS_MAX) {
        store.append(Append::of(events.to_vec())).await.unwrap();
    }
    let server = RunningServer::of(store).await;
    let mut pages = [0; PARTS];
    for (part, pages) in parts.into_iter().zip(&mut pages) {
        let before = backend.pages();
        run(python("far.py", part, &format!("127.0.0.1:{}", server.port))).await;
        *pages = backend.pages() - before;
    }
    pages
}

fn empty(kind: &str) -> NewEvent {
    NewEvent::new(EventType::new(kind.to_owned()).unwrap(), "{}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_among_many_is_found_in_few_pages() {
    let mut events = vec![empty("other.Kind"); 4_000];
    events[2_000] = empty("wanted.Kind");
    let [pages] = pages_of(events, ["all"]).await;
    assert!(pages < 100, "{pages} pages were read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_before_a_stream_are_looked_at_once_to_number_it() {
    let of = |stream: &'static str, count| {
        std::iter::repeat_n(empty("a.Kind").in_stream(StreamName::new(stream).unwrap()), count)
    };
    let events = of("many-1", 20_000).chain(of("one-1", 1)).chain(of("many-2", 20_000));
    let events = events.chain(of("one-2", 1)).collect();
    let [counting, finding] = pages_of(events, ["count_streams", "find_the_last_stream"]).await;
    assert!(counting > 5 && finding < 60, "{counting} and {finding} pages were read");
}
