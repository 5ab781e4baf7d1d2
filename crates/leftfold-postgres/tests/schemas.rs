//! What a schema of rows does that the rules for all targets do not say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Place, ProjectionError, Session, Target};
use leftfold_postgres::tokio_postgres::tls::{MakeTlsConnect, NoTlsError, NoTlsStream};
use leftfold_postgres::tokio_postgres::{Error, NoTls, Socket};
use leftfold_postgres::{Postgres, PostgresError, PostgresSession, Rows};
use leftfold_proving::PostgresServer;

fn place(version: u32) -> Place {
    Place { name: "cats", version, lane: 0 }
}

fn database() -> (Postgres, String) {
    let url = PostgresServer::shared().database("schemas");
    (Postgres::at(&url).unwrap(), url)
}

async fn open(postgres: &Postgres, version: u32) -> PostgresSession {
    let mut session = postgres.open(&place(version)).await.unwrap();
    session.begin().await.unwrap();
    session
        .rows()
        .batch_execute("CREATE TABLE IF NOT EXISTS cats (name text PRIMARY KEY)")
        .await
        .unwrap();
    session.commit().await.unwrap();
    session
}

async fn add(session: &mut PostgresSession, name: &str) {
    session.begin().await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES ($1)", &[&name]).await.unwrap();
    session.commit().await.unwrap();
}

async fn count(rows: &Rows) -> i64 {
    rows.query_one("SELECT count(*) FROM cats", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn an_error_that_users_code_passed_over_fails_the_commit() {
    let (postgres, _) = database();
    let mut session = open(&postgres, 1).await;
    session.begin().await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES ('tom')", &[]).await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES ('tom')", &[]).await.unwrap_err();
    let error = session.commit().await.unwrap_err();
    assert!(!postgres.is_away(&error), "{error}");
    session.rollback().await.unwrap();
    assert_eq!(count_committed(&postgres).await, 0);
    add(&mut session, "tom").await;
    assert_eq!(count_committed(&postgres).await, 1);
}

async fn count_committed(postgres: &Postgres) -> i64 {
    count(&postgres.reader_of("cats").of_version(1).read().await.unwrap()).await
}

#[tokio::test]
async fn code_of_users_that_ends_the_transaction_is_an_error() {
    let (postgres, _) = database();
    let mut session = open(&postgres, 1).await;
    for ends in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN"] {
        session.begin().await.unwrap();
        session.rows().batch_execute(ends).await.unwrap();
        let error = session.commit().await.unwrap_err();
        assert!(error.to_string().contains("leave it to the runtime"), "{ends}: {error}");
        assert!(!postgres.is_away(&error), "{ends}: {error}");
        session.rollback().await.unwrap();
    }
    add(&mut session, "tom").await;
}

#[tokio::test]
async fn whoever_comes_second_is_told_who_writes() {
    let (postgres, _) = database();
    let session = open(&postgres, 1).await;
    let name = Runtime::default_name();
    let error = postgres.open(&place(1)).await.unwrap_err();
    assert!(postgres.is_away(&error));
    assert!(error.to_string().contains("cats_v1 is in use by process "), "{error}");
    assert!(
        error.to_string().contains(&format!("(leftfold of {name}, connected from 127.0.0.1")),
        "{error}"
    );
    let error = postgres.discard("cats", 1).await.unwrap_err();
    assert!(error.to_string().contains("cats_v1 is in use by"), "{error}");
    drop(session);
    postgres.discard("cats", 1).await.unwrap();
}

#[tokio::test]
async fn a_schema_of_others_is_neither_used_nor_removed() {
    let (postgres, url) = database();
    PostgresServer::shared().psql(&url, "CREATE SCHEMA cats_v1; CREATE TABLE cats_v1.mine (a int)");
    let error = postgres.open(&place(1)).await.unwrap_err();
    assert!(error.to_string().contains("the schema cats_v1 was not made by Leftfold"), "{error}");
    assert_eq!(postgres.versions("cats").await.unwrap(), [0; 0]);
    postgres.discard("cats", 1).await.unwrap();
    assert_eq!(PostgresServer::shared().psql(&url, "SELECT count(*) FROM cats_v1.mine"), "0");
}

#[tokio::test]
async fn a_server_that_is_killed_is_waited_for_and_nothing_committed_is_lost() {
    let mut server = PostgresServer::start();
    let postgres = Postgres::at(&server.url()).unwrap();
    let reader = postgres.reader_of("cats");
    let mut session = open(&postgres, 1).await;
    add(&mut session, "tom").await;
    postgres.serve("cats", 1).await.unwrap();
    assert_eq!(count(&reader.read().await.unwrap()).await, 1);
    session.begin().await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES ('kit')", &[]).await.unwrap();
    server.stop_hard();
    let mut errors =
        vec![ProjectionError::from(session.rows().execute("SELECT 1", &[]).await.unwrap_err())];
    errors.push(session.commit().await.unwrap_err());
    errors.push(session.begin().await.unwrap_err());
    errors.push(postgres.open(&place(1)).await.unwrap_err());
    errors.push(postgres.serving("cats").await.unwrap_err());
    for error in errors {
        assert!(postgres.is_away(&error), "{error}");
    }
    assert!(reader.read().await.is_err());
    drop(session);
    server.start_again();
    let mut session = postgres.open(&place(1)).await.unwrap();
    assert_eq!(count(&reader.read().await.unwrap()).await, 1);
    add(&mut session, "kit").await;
    assert_eq!(count(&reader.read().await.unwrap()).await, 2);
}

#[tokio::test]
async fn a_connection_that_an_operator_cuts_is_waited_for() {
    let (postgres, url) = database();
    let mut session = open(&postgres, 1).await;
    session.begin().await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()";
    PostgresServer::shared().psql(&url, cut);
    let error =
        session.rows().execute("INSERT INTO cats VALUES ('tom')", &[]).await.unwrap_err().into();
    assert!(postgres.is_away(&error), "{error}");
}

#[tokio::test]
async fn a_table_that_changes_under_a_prepared_statement_costs_one_more_try() {
    let (postgres, url) = database();
    let mut session = open(&postgres, 1).await;
    add(&mut session, "tom").await;
    for column in ["a", "b"] {
        session.begin().await.unwrap();
        select_all(session.rows()).await.unwrap();
        session.commit().await.unwrap();
        PostgresServer::shared()
            .psql(&url, &format!("ALTER TABLE cats_v1.cats ADD COLUMN {column} int"));
        session.begin().await.unwrap();
        let error = select_all(session.rows()).await.unwrap_err().into();
        assert!(!postgres.is_away(&error), "{error}");
        session.rollback().await.unwrap();
    }
    session.begin().await.unwrap();
    assert_eq!(select_all(session.rows()).await.unwrap(), 1);
    session.commit().await.unwrap();
}

async fn select_all(rows: &Rows) -> Result<usize, Error> {
    let all = rows.prepare_cached("SELECT * FROM cats").await?;
    Ok(rows.query(&all, &[]).await?.len())
}

#[tokio::test]
async fn one_read_sees_one_moment_of_one_version_and_cannot_write() {
    let (postgres, _) = database();
    let reader = postgres.reader_of("cats");
    assert!(matches!(reader.read().await, Err(PostgresError::NothingServes { .. })));
    let mut old = open(&postgres, 1).await;
    add(&mut old, "tom").await;
    assert!(matches!(reader.read().await, Err(PostgresError::NothingServes { .. })));
    postgres.serve("cats", 1).await.unwrap();
    let mut new = open(&postgres, 2).await;
    let read = reader.read().await.unwrap();
    add(&mut old, "mia").await;
    add(&mut new, "kit").await;
    add(&mut new, "max").await;
    add(&mut new, "leo").await;
    postgres.serve("cats", 2).await.unwrap();
    assert_eq!((read.version(), count(&read).await), (1, 1));
    let next = reader.read().await.unwrap();
    assert_eq!((next.version(), count(&next).await), (2, 3));
    next.execute("INSERT INTO cats VALUES ('leo')", &[]).await.unwrap_err();
}

#[tokio::test]
async fn more_reads_than_connections_wait_for_each_other() {
    let (postgres, url) = database();
    drop(open(&postgres, 1).await);
    postgres.serve("cats", 1).await.unwrap();
    let reader = postgres.reader_of("cats");
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let reader = reader.clone();
        reads.spawn(async move { count(&reader.read().await.unwrap()).await });
    }
    let counted = reads.join_all().await;
    assert_eq!(counted, [0; 100]);
    let connections = PostgresServer::shared()
        .psql(&url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()");
    assert!(connections.parse::<u32>().unwrap() <= 17, "{connections} connections");
}

#[tokio::test]
async fn what_concerns_one_event_is_not_absence() {
    let (postgres, _) = database();
    let mut session = open(&postgres, 1).await;
    for statement in [
        "INSERT INTO cats VALUES (NULL)",
        "SELECT 1 / 0",
        "SELECT nothing",
        "SET LOCAL statement_timeout TO 1; SELECT pg_sleep(10)",
        "not SQL",
    ] {
        session.begin().await.unwrap();
        let error = session.rows().batch_execute(statement).await.unwrap_err().into();
        assert!(!postgres.is_away(&error), "{statement}: {error}");
        session.rollback().await.unwrap();
    }
    let wrong_type = session.rows().query("SELECT $1::int", &[&"text"]).await.unwrap_err().into();
    assert!(!postgres.is_away(&wrong_type), "{wrong_type}");
    let none = session.rows().query_one("SELECT 1 WHERE false", &[]).await.unwrap_err().into();
    assert!(!postgres.is_away(&none), "{none}");
}

/// Encrypts nothing, but is asked to.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicU32>);

impl MakeTlsConnect<Socket> for Asked {
    type Stream = NoTlsStream;
    type TlsConnect = NoTls;
    type Error = NoTlsError;

    fn make_tls_connect(&mut self, _: &str) -> Result<NoTls, NoTlsError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(NoTls)
    }
}

#[tokio::test]
async fn every_connection_is_made_by_the_connector_that_is_given() {
    let (postgres, url) = database();
    let asked = Asked::default();
    let encrypted = postgres.clone().encrypted_by(asked.clone());
    add(&mut open(&encrypted, 1).await, "tom").await;
    encrypted.serve("cats", 1).await.unwrap();
    assert_eq!(count(&encrypted.reader_of("cats").read().await.unwrap()).await, 1);
    assert_eq!(asked.0.load(Ordering::Relaxed), 3);
    let required = Postgres::at(&format!("{url}?sslmode=require")).unwrap();
    let error = required.open(&place(2)).await.unwrap_err();
    assert!(required.is_away(&error) && error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_waited_for() {
    let (postgres, url) = database();
    let database = url.rsplit('/').next().unwrap();
    PostgresServer::shared().psql(&url, &format!("CREATE ROLE {database}_guest LOGIN"));
    let guest = Postgres::at(&url.replace("postgres@", &format!("{database}_guest@"))).unwrap();
    let error = guest.open(&place(1)).await.unwrap_err();
    assert!(guest.is_away(&error) && error.to_string().contains("permission denied"), "{error}");
    PostgresServer::shared()
        .psql(&url, &format!("GRANT CREATE ON DATABASE {database} TO {database}_guest"));
    add(&mut open(&guest, 1).await, "tom").await;
    drop(postgres);
}

/// A statement that waited for a lock until its time was over was taken for one that its event had
/// spoilt.
#[tokio::test]
async fn a_lock_of_somebody_else_is_told_as_such_also_under_a_limit_on_the_time_of_statements() {
    let url = PostgresServer::shared().database("locks");
    let held = Postgres::at(&url).unwrap();
    let mut session = open(&held, 1).await;
    session.begin().await.unwrap();
    session.rows().batch_execute("CREATE TABLE public.shared (a int)").await.unwrap();
    session.commit().await.unwrap();
    session.begin().await.unwrap();
    session.rows().batch_execute("LOCK TABLE public.shared").await.unwrap();
    let limited: Postgres =
        Postgres::at(&format!("{url}?options=-c%20statement_timeout%3D200")).unwrap();
    let mut waits = limited.open(&Place { name: "cats", version: 2, lane: 0 }).await.unwrap();
    waits.begin().await.unwrap();
    let error =
        waits.rows().execute("INSERT INTO public.shared VALUES (1)", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{error:?}");
    assert!(limited.is_away(&error.into()));
    waits.rollback().await.unwrap();
    waits.begin().await.unwrap();
    let too_long = waits.rows().batch_execute("SELECT pg_sleep(5)").await.unwrap_err();
    assert!(!limited.is_away(&too_long.into()), "what takes too long by itself is the event's");
    waits.rollback().await.unwrap();
    let patient = Postgres::at(&format!("{url}?options=-c%20lock_timeout%3D100")).unwrap();
    let session = &mut patient.open(&Place { name: "cats", version: 3, lane: 0 }).await.unwrap();
    let said = session.rows().query_one("SHOW lock_timeout", &[]).await.unwrap();
    assert_eq!(said.get::<_, String>(0), "100ms", "what the URL says counts");
}

#[tokio::test]
async fn readers_share_their_connections_and_one_too_many_is_told_so() {
    let (_, url) = database();
    let postgres = Postgres::at(&format!("{url}?readers=2")).unwrap();
    let mut session = open(&postgres, 1).await;
    add(&mut session, "tom").await;
    postgres.serve("cats", 1).await.unwrap();
    let (one, other) = (postgres.reader_of("cats"), postgres.reader_of("cats").of_version(1));
    let (first, second) = (one.read().await.unwrap(), other.read().await.unwrap());
    tokio::time::pause();
    let error = one.read().await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, PostgresError::ReadersBusy { at_most: 2, .. }), "{error}");
    drop(first);
    assert_eq!(count(&one.read().await.unwrap()).await, 1);
    drop(second);
    let error = Postgres::at(&format!("{url}?readers=0")).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}
