//! The client of Rust, `kurrentdb`: the program in the folder of that name, a workspace of its own.

use std::process::Command;

use leftfold::store::Store;

use super::{Certified, conversation, run};
use crate::support::RunningServer;

fn calls(part: &str, address: &str) -> Command {
    let program = std::env::var_os("LEFTFOLD_KURRENT_CALLS");
    let mut command = Command::new(program.expect("run the tests by `cargo xtask test`"));
    command.args([part, address]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_rust_appends_reads_deletes_and_follows() {
    let server = RunningServer::of(Store::memory()).await;
    for part in ["streams", "deletions", "subscriptions", "groups"] {
        run(calls(part, &format!("127.0.0.1:{}?tls=false", server.port))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_rust_and_its_subscription_find_a_server_that_was_restarted() {
    conversation(|address| calls("restart", &format!("{address}?tls=false"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_rust_speaks_over_an_encrypted_connection_with_passwords() {
    let certified = Certified::new().await;
    let file = certified.authority.display();
    let address = format!("ada:secret@localhost:{}?tlsCaFile={file}", certified.server.port);
    run(calls("encrypted", &address)).await;
}
