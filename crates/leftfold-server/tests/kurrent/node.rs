//! The clients of Node: `@kurrent/kurrentdb-client`, and the older `@eventstore/db-client`.

use std::process::Command;

use leftfold::store::Store;

use super::{Certified, CertifiedBy, conversation, run, scripts};
use crate::support::RunningServer;

const CLIENTS: [&str; 2] = ["@kurrent/kurrentdb-client", "@eventstore/db-client"];

fn node(client: &str, part: &str, address: &str) -> Command {
    let told = |name: &str| std::env::var_os(name).expect("run the tests by `cargo xtask test`");
    let mut command = Command::new(told("LEFTFOLD_NODE"));
    command.arg(scripts().join("node/scenario.mjs")).args([client, part, address]);
    command.env("LEFTFOLD_NODE_CLIENTS", told("LEFTFOLD_NODE_CLIENTS"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_of_node_append_read_delete_and_follow() {
    let server = RunningServer::of(Store::memory()).await;
    let address = format!("127.0.0.1:{}?tls=false", server.port);
    for client in CLIENTS {
        for part in ["streams", "deletions", "subscriptions", "groups"] {
            run(node(client, part, &address)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_of_node_find_a_server_that_was_restarted() {
    for client in CLIENTS {
        conversation(|address| node(client, "restart", &format!("{address}?tls=false"))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_of_node_speak_over_encrypted_connections_with_passwords() {
    let certified = Certified::new().await;
    for client in CLIENTS {
        let file = certified.authority.display();
        let address = format!("ada:secret@localhost:{}?tlsCAFile={file}", certified.server.port);
        run(node(client, "encrypted", &address)).await;
        let wrong = address.replace("ada:secret", "ada:guess");
        run(node(client, "refused", &wrong)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_of_node_refuse_a_server_that_is_not_to_be_trusted() {
    let [good, expired] = [Certified::new().await, Certified::with(CertifiedBy::Expired).await];
    for client in CLIENTS {
        for (certified, roots) in [(&good, "other.pem"), (&expired, "good.pem")] {
            let (file, port) = (certified.certificates.path(roots), certified.server.port);
            let options = format!("tlsCAFile={}&maxDiscoverAttempts=1", file.display());
            let address = format!("ada:secret@localhost:{port}?{options}");
            run(node(client, "refused", &address)).await;
        }
    }
}
