//! The unmodified client of UmaDB for Python.

use std::process::Command;

use leftfold::store::{Position, Query, Read, Store};
use leftfold_server::{ServerOptions, Users};

use crate::encrypted::Certificates;
use crate::support::{RunningServer, usual_options};
use crate::users::file;

/// Runs the script with a mode and its arguments; it fails if anything is not as it expects.
async fn run(arguments: Vec<String>) {
    let python = std::env::var_os("LEFTFOLD_PYTHON")
        .expect("run the tests by `cargo xtask test`, which sets LEFTFOLD_PYTHON");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/umadb/client.py");
    let ended = tokio::task::spawn_blocking(move || {
        Command::new(python).arg(script).args(arguments).output().unwrap()
    });
    let output = ended.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_for_python_works_unmodified() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    run(vec!["calls".to_owned(), format!("http://127.0.0.1:{}", server.port)]).await;
    let seen = store.read(Read::matching(Query::tag("order:7"), Position(1))).all().await.unwrap();
    assert_eq!(&*seen[0].event_type, "OrderPlaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_for_python_is_let_in_by_its_api_key_over_an_encrypted_connection() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    certificates.issue("expired", "localhost", &certificates.good, true);
    let ada = Users::with_token("ada", "append").unwrap();
    let (_directory, path) = file(&ada.entry);
    let options = ServerOptions {
        tls: Some(certificates.tls("server", None)),
        users: Some(Users::of_file(&path).unwrap()),
        ..usual_options()
    };
    let tls = Some(certificates.tls("expired", None));
    let expired = RunningServer::with(ServerOptions { tls, ..options.clone() }, Store::memory());
    let expired = expired.await;
    let server = RunningServer::with(options, Store::memory()).await;
    let call = async |part: &str, server: &RunningServer, authority: &str| {
        let authority = certificates.path(authority).display().to_string();
        let url = format!("https://localhost:{}", server.port);
        run(vec![part.to_owned(), url, authority, ada.token.clone()]).await;
    };
    call("key", &server, "good.pem").await;
    call("guesses", &server, "good.pem").await;
    // A server that is not to be trusted gets no key.
    call("refused", &server, "other.pem").await;
    call("refused", &expired, "good.pem").await;
}
