//! Servers that die, refuse or are full: each request has a typed answer, nothing is lost, and
//! appends go on when it is over.

use std::time::Duration;

use leftfold_core::store::{
    Append, AppendError, EventType, NewEvent, Outcome, Position, Query, Read, ReadError, State,
    Store, Tags,
};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::{extent, seed};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::ledger::{Ledger, accept, attempt};
use crate::support::{label, moved, place, rows};

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a store that waits for others only shortly.
async fn open(url: &str) -> PostgresStore {
    let options = PostgresStoreOptions {
        transaction_within: Duration::from_millis(200),
        ..PostgresStoreOptions::at(url).unwrap()
    };
    PostgresStore::open_with(options).await.unwrap()
}

/// Appends once and expects an error.
async fn error(store: &Store, number: u64) -> AppendError {
    let outcome = timeout(PATIENCE, attempt(store, "a", number)).await.expect("it is answered");
    match outcome {
        Err(error) => error,
        Ok(outcome) => panic!("{outcome:?}"),
    }
}

async fn note(ledger: &mut Ledger, store: &Store, number: u64) {
    let accepted = timeout(PATIENCE, accept(store, "a", number, |_| {})).await;
    ledger.note("a", number, accepted.expect("appends go on"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_costs_nothing_that_was_accepted() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut server = PostgresServer::start();
    let backend = open(&server.url()).await;
    let mut ledger = Ledger::default();
    let mut errors = 0;
    for round in 0..extent(2, 40) {
        let mut tasks = JoinSet::new();
        let before = backend_events(&backend).await;
        for task in 0..4 {
            let store = Store::new(backend.clone());
            tasks.spawn(async move {
                let (writer, mut accepted) = (format!("{round}-{task}"), Vec::new());
                let mut failed = 0;
                for number in 1..=60 {
                    accepted.push(accept(&store, &writer, number, |_| failed += 1).await);
                }
                (writer, accepted, failed)
            });
        }
        // Somewhere in the middle of it.
        let aim = Position(before.0 + random.u64(1..100));
        let mut status = Store::new(backend.clone()).status();
        status.wait_for(|status| status.head.position >= aim).await.unwrap();
        server.stop_hard();
        server.start_again();
        while let Some(ended) = timeout(PATIENCE, tasks.join_next()).await.expect("they go on") {
            let (writer, accepted, failed) = ended.unwrap();
            errors += failed;
            (1..).zip(accepted).for_each(|(number, at)| ledger.note(&writer, number, at));
        }
        ledger.check(&backend).await;
    }
    eprintln!("{errors} errors: all {} accepted requests are there once", ledger.all());
}

async fn backend_events(backend: &PostgresStore) -> Position {
    Store::new(backend.clone()).head().position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_is_an_answer_and_passes() {
    let server = PostgresServer::start();
    let url = server.database("few");
    let database = url.rsplit('/').next().unwrap().to_owned();
    let sql = format!("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE {database} TO app");
    server.psql(&url, &sql);
    let backend = open(&url.replace("postgres@", "app@")).await;
    // Limits do not hold for those who set them.
    let limit = |connections: i32| {
        server.psql(&url, &format!("ALTER ROLE app CONNECTION LIMIT {connections}"));
    };
    let store = Store::new(backend.clone());
    limit(0);
    let refused = error(&store, 2).await;
    assert!(matches!(refused, AppendError::Unavailable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("too many connections"), "{refused}");
    let read = timeout(PATIENCE, store.page(Read::matching(Query::all(), Position(1)))).await;
    assert!(matches!(read, Ok(Err(ReadError::Io { .. }))), "{read:?}");
    limit(-1);
    let mut ledger = Ledger::default();
    note(&mut ledger, &store, 1).await;
    ledger.check(&backend).await;
}

async fn lock(other: &Client, schema: &str) {
    let lock = format!("BEGIN; {}", lock_of_head(schema));
    other.batch_execute(&lock).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_behind_the_lock_of_another_session_is_given_up_in_time() {
    let (schema, url) = place("locked");
    let backend = open(&url).await;
    let store = Store::new(backend.clone());
    let mut ledger = Ledger::default();
    note(&mut ledger, &store, 1).await;
    let other = rows(&PostgresServer::shared().url()).await;
    lock(&other, &schema).await;
    let refused = error(&store, 2).await;
    assert!(matches!(refused, AppendError::Unavailable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("statement timeout"), "{refused}");
    // Readers wait for nobody.
    assert_eq!(store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap().len(), 2);
    other.batch_execute("ROLLBACK").await.unwrap();
    note(&mut ledger, &store, 2).await;
    ledger.check(&backend).await;
}

/// Whoever repeated an append that the server takes too long for, as the error allowed, did so for
/// ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_takes_the_server_too_long_says_how_long_it_has_and_what_to_do() {
    let (schema, url) = place("too_long");
    let store = Store::new(open(&url).await);
    let other = rows(&PostgresServer::shared().url()).await;
    let slow = format!(
        "CREATE FUNCTION \"{schema}\".slow() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON \"{schema}\".events
         FOR EACH STATEMENT EXECUTE FUNCTION \"{schema}\".slow()"
    );
    other.batch_execute(&slow).await.unwrap();
    let AppendError::Unavailable { detail } = error(&store, 1).await else { panic!() };
    for part in ["400ms", "divide it", "PostgresStoreOptions::transaction_within"] {
        assert!(detail.contains(part), "{part} is missing in {detail}");
    }
    other.batch_execute(&format!("DROP TRIGGER slow ON \"{schema}\".events")).await.unwrap();
    note(&mut Ledger::default(), &store, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_a_foreign_session_ends_one_of_both_and_the_append_may_be_repeated() {
    let (schema, url) = place("deadlock");
    let backend = PostgresStore::open(&url).await.unwrap();
    let store = Store::new(backend.clone());
    let moved = |position| moved(&store, "reader", position);
    store.append(moved(1)).await.unwrap();
    let other = rows(&PostgresServer::shared().url()).await;
    let locked = format!("BEGIN; LOCK TABLE {schema}.appends IN SHARE MODE");
    other.batch_execute(&locked).await.unwrap();
    let append = store.append(moved(2));
    // It has the head, and waits for the table.
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND query LIKE '%appends%' AND query LIKE $1)";
    let monitor = rows(&PostgresServer::shared().url()).await;
    let pattern = format!("%{schema}%");
    while !monitor.query_one(waits, &[&pattern]).await.unwrap().get::<_, bool>(0) {}
    let lost = lock_within(&other, &schema).await;
    match timeout(PATIENCE, append).await.expect("one of both goes on") {
        Ok(Outcome::Appended(_)) => assert!(lost, "the other session was ended"),
        Err(AppendError::Unavailable { detail }) => {
            assert!(detail.contains("deadlock"), "{detail}");
            other.batch_execute("ROLLBACK").await.unwrap();
            store.append(moved(2)).await.unwrap();
        }
        other => panic!("{other:?}"),
    }
    let at = store.checkpoint(label("reader")).await.unwrap().unwrap();
    assert_eq!(at.position, Position(2));
    backend.verify(|_| {}).await.unwrap();
}

/// The statement that takes the lock of a store's head.
fn lock_of_head(schema: &str) -> String {
    format!("SELECT FROM {schema}.state FOR UPDATE")
}

async fn lock_within(other: &Client, schema: &str) -> bool {
    other.batch_execute(&lock_of_head(schema)).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_dropped_is_damage_and_appends_go_on_when_it_is_back() {
    let (schema, url) = place("dropped");
    let backend = open(&url).await;
    let store = Store::new(backend.clone());
    let server = PostgresServer::shared();
    let tagged = || {
        let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
        Append::of(vec![event.tagged(Tags::none().with("a"))])
    };
    store.append(tagged()).await.unwrap();
    let rename = |from: &str, to: &str| {
        server.psql(&server.url(), &format!("ALTER TABLE {schema}.{from} RENAME TO {to}"));
    };
    rename("tags", "elsewhere");
    let refused = timeout(PATIENCE, store.append(tagged())).await.expect("it is answered");
    assert!(matches!(refused, Err(AppendError::Read(ReadError::Damaged { .. }))), "{refused:?}");
    let ask = || store.page(Read::matching(Query::tag("a"), Position(1)));
    let refused = timeout(PATIENCE, ask()).await.expect("it is answered");
    assert!(matches!(refused, Err(ReadError::Damaged { .. })), "{refused:?}");
    rename("elsewhere", "tags");
    let appended = timeout(PATIENCE, store.append(tagged())).await.expect("appends go on");
    assert!(matches!(appended, Ok(Outcome::Appended(_))), "{appended:?}");
    assert_eq!(ask().await.unwrap().events.len(), 2);
    backend.verify(|_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_answer_and_appends_go_on_when_there_is_room() {
    let mut server = PostgresServer::start();
    let backend = open(&server.url()).await;
    let store = Store::new(backend.clone());
    let mut ledger = Ledger::default();
    note(&mut ledger, &store, 1).await;
    server.stop_hard();
    server.limit_files(true);
    server.start_again();
    note(&mut ledger, &store, 2).await;
    let large = || {
        let event = NewEvent::new(EventType::new("test.Happened").unwrap(), random_text());
        Append::of(vec![event])
    };
    let mut appended = 0;
    let refused = loop {
        match timeout(PATIENCE, store.append(large())).await.expect("it is answered") {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 1_000, "the limit on files holds");
    };
    // Newer servers tell a limit on files from a disk that is full.
    let version = server.psql(&server.url(), "SHOW server_version_num").parse::<u32>().unwrap();
    let is_told = match refused {
        AppendError::Full { .. } => version < 160_000,
        AppendError::Read(ReadError::Damaged { .. }) => version >= 160_000,
        _ => false,
    };
    assert!(is_told, "{refused:?}");
    let read = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    assert_eq!(read.len(), 3 + appended);
    backend.verify(|_| {}).await.unwrap();
    server.stop_hard();
    server.limit_files(false);
    server.start_again();
    note(&mut ledger, &store, 3).await;
    backend.verify(|_| {}).await.unwrap();
    assert_eq!(store.status().borrow().state, State::Open);
}

/// A text that is not stored smaller than it is.
fn random_text() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    (0..50_000).map(|_| random.alphanumeric()).collect()
}

async fn is_read_only(store: &Store) {
    let only_reads = |state: &State| matches!(state, State::ReadOnly { .. });
    let mut status = store.status();
    let told = timeout(PATIENCE, status.wait_for(|status| only_reads(&status.state))).await;
    told.expect("the status tells it").unwrap();
    let refused = error(store, 2).await;
    assert!(matches!(refused, AppendError::ReadOnly { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_reads() {
    let (schema, url) = place("reads");
    let owner = open(&url).await;
    let mut ledger = Ledger::default();
    note(&mut ledger, &Store::new(owner.clone()), 1).await;
    let server = PostgresServer::shared();
    let role = format!("reader_of_{schema}");
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    server.psql(&server.url(), &grant);
    let reader = Store::new(open(&url.replace("postgres@", &format!("{role}@"))).await);
    is_read_only(&reader).await;
    let read = reader.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    assert_eq!(read.len(), 2);
    let more = format!("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO {role}");
    server.psql(&server.url(), &more);
    note(&mut ledger, &reader, 2).await;
    ledger.check(&owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_transactions_only_read_is_told_and_passes() {
    let server = PostgresServer::start();
    let backend = open(&server.url()).await;
    let store = Store::new(backend.clone());
    let mut ledger = Ledger::default();
    note(&mut ledger, &store, 1).await;
    let set = |value: &str| {
        for statement in [
            &*format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            "SELECT pg_reload_conf()",
        ] {
            let writes = format!("{}?options=-cdefault_transaction_read_only%3Doff", server.url());
            server.psql(&writes, statement);
        }
    };
    set("on");
    is_read_only(&store).await;
    set("off");
    note(&mut ledger, &store, 2).await;
    ledger.check(&backend).await;
    let mut status = store.status();
    let open = timeout(PATIENCE, status.wait_for(|status| status.state == State::Open)).await;
    open.expect("the status tells it").unwrap();
}
