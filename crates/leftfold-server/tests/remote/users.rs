//! Users: nobody else is let in, and each does what the role has.

use std::path::PathBuf;

use leftfold::store::{
    Append, AppendError, EventType, Holder, Label, LeaseError, LeaseRequest, Leased, NewEvent,
    Outcome, Position, Query, Read, Store,
};
use leftfold::testing::by_runtime;
use leftfold_protocol::wire::IdentifyRequest;
use leftfold_remote::{RemoteError, RemoteStore};
use leftfold_server::{ServerOptions, Users, UsersError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::support::{RunningServer, raw_client, usual_options};

fn file(lines: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, lines).unwrap();
    (directory, path)
}

async fn serve() -> RunningServer {
    let line = |name, role, password| Users::line(name, role, password).unwrap();
    let lines = [
        "# The users of this test.".to_owned(),
        String::new(),
        line("rae", "read", "r"),
        line("ada", "append", "a b:c"),
        line("app", "runtime", "p"),
    ];
    let (_directory, path) = file(&lines.join("\n"));
    let users = Some(Users::of_file(&path).unwrap());
    RunningServer::with(ServerOptions { users, ..usual_options() }, Store::memory()).await
}

async fn open(server: &RunningServer, user: &str) -> Result<Store, RemoteError> {
    let url = format!("leftfold://{user}@127.0.0.1:{}", server.port);
    RemoteStore::open(&url).await.map(Store::new)
}

fn happened(name: &str) -> Append {
    Append::of(vec![NewEvent::new(EventType::new(name.to_owned()).unwrap(), "{}")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_without_the_password_of_a_user() {
    let server = serve().await;
    for stranger in ["ada:wrong", "eve:a", "ada:", "rae:a%20b%3Ac"] {
        let error = open(&server, stranger).await.map(drop).unwrap_err();
        assert!(matches!(error, RemoteError::Refused { .. }), "{stranger}: {error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let mut nameless = raw_client(server.port).await;
    let refused = nameless.identify(IdentifyRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(open(&server, "ada:a%20b%3Ac").await.is_ok());
    for (path, status) in [("/health", "200"), ("/metrics", "401")] {
        let place = (std::net::Ipv4Addr::LOCALHOST, server.port);
        let mut stream = tokio::net::TcpStream::connect(place).await.unwrap();
        let asks = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(asks.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_does_what_the_role_has_and_no_more() {
    let server = serve().await;
    let reader = open(&server, "rae:r").await.unwrap();
    let writer = open(&server, "ada:a%20b%3Ac").await.unwrap();
    let program = open(&server, "app:p").await.unwrap();
    let lease = |work: &str| {
        let work = Label::new(work.to_owned()).unwrap();
        LeaseRequest::new(work, Holder::random(), std::time::Duration::from_secs(60))
    };

    let refused = reader.append(happened("test.Happened")).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    let refused = reader.lease(lease("work")).await;
    assert!(matches!(refused, Err(LeaseError::Unavailable { .. })), "{refused:?}");

    let accepted = writer.append(happened("test.Happened")).await;
    assert!(matches!(accepted, Ok(Outcome::Appended(_))), "{accepted:?}");
    assert!(matches!(writer.lease(lease("work")).await, Ok(Leased::Held(_))));
    let refused = writer.append(by_runtime(happened("$timer.Set"))).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");

    let accepted = program.append(by_runtime(happened("$timer.Set"))).await;
    assert!(matches!(accepted, Ok(Outcome::Appended(_))), "{accepted:?}");

    let all = reader.page(Read::matching(Query::everything(), Position(1))).await.unwrap();
    assert_eq!(all.events.len(), 2);
}

#[test]
fn a_file_that_lets_nobody_in_or_cannot_be_understood_is_refused() {
    let of = |lines: &str| {
        let (_directory, path) = file(lines);
        Users::of_file(&path).map(drop)
    };
    let good = Users::line("ada", "read", "secret").unwrap();
    assert!(!good.contains("secret"));
    assert_eq!(of(&good), Ok(()));
    assert!(matches!(of("# nobody\n"), Err(UsersError::Nobody { .. })));
    for bad in ["ada read", "ada read secret", "ada rule $argon2id$v=19$m=1,t=1,p=1$x$y"] {
        let error = of(&format!("{good}\n{bad}"));
        assert!(matches!(error, Err(UsersError::Line { line: 2, .. })), "{bad}: {error:?}");
    }
    assert!(matches!(of(&format!("{good}\n{good}")), Err(UsersError::Line { line: 2, .. })));
    assert_eq!(Users::line("a b", "read", "x"), Err(UsersError::Name));
    assert_eq!(Users::line("ada", "king", "x"), Err(UsersError::Name));
    assert_eq!(Users::line("ada", "read", ""), Err(UsersError::Password));
}
