//! The keys of personal data in a database: the contract, several processes at once, and what is
//! left of a key that was destroyed.

use std::time::Duration;

use leftfold_core::personal::{
    DestroyedKey, KeyState, KeyStore, KeyStoreError, Keys, KeysError, Lookup, Opened, SubjectKey,
    Token,
};
use leftfold_core::store::{Kind, Label, Store, Timestamp};
use leftfold_postgres::{PostgresKeys, PostgresKeysError, PostgresKeysOptions};
use leftfold_proving::PostgresServer;
use tokio_postgres::{Client, NoTls};

/// A database without keys.
fn database() -> String {
    PostgresServer::shared().database("keys")
}

async fn open(url: &str) -> PostgresKeys {
    PostgresKeys::open(url).await.unwrap()
}

/// A connection beside those of the keys.
async fn rows(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn label(text: &str) -> Label {
    Label::try_from(text).unwrap()
}

fn value(number: u8) -> Lookup {
    Lookup { name: label("email"), hash: [number; 16] }
}

fn destroyed(key: &SubjectKey) -> DestroyedKey {
    DestroyedKey { id: key.id, subject: key.subject.clone(), at: Timestamp::from_micros(7) }
}

async fn drawn(keys: &PostgresKeys, subject: &str) -> SubjectKey {
    match keys.draw(label(subject)).await.unwrap() {
        KeyState::Held(key) => key,
        KeyState::Destroyed(_) => panic!("{subject} is forgotten"),
    }
}

async fn kept(keys: &PostgresKeys, number: u8, owner: &SubjectKey) -> Token {
    keys.token(value(number), owner.id, Timestamp::from_micros(1)).await.unwrap().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_in_a_database_keep_the_contract() {
    let url = database();
    leftfold_testing::key_store::conformance(async || open(&url).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_open_and_draw_at_once_get_the_same_keys_and_tokens() {
    let url = database();
    let (one, other) = tokio::join!(open(&url), open(&url));
    assert_eq!(one.identity().id, other.identity().id);
    assert_eq!(one.identity().lookup, other.identity().lookup);
    for round in 0..50_u8 {
        let subject = label(&format!("customer-{round}"));
        let (left, right) = tokio::join!(one.draw(subject.clone()), other.draw(subject));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!(left, right);
        let neighbour = drawn(&one, "neighbour").await;
        let since = Timestamp::from_micros(1);
        let (left, right) = tokio::join!(
            one.token(value(round), left.id(), since),
            other.token(value(round), neighbour.id, since)
        );
        assert!(left.as_ref().unwrap().is_some() && left == right, "{left:?} {right:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_process_destroys_while_another_one_uses_it_is_gone_for_both() {
    let url = database();
    let (one, other) = (open(&url).await, open(&url).await);
    for round in 0..50_u8 {
        let subject = format!("customer-{round}");
        let key = drawn(&one, &subject).await;
        let (_, ended, _) = tokio::join!(
            other.token(value(round), key.id, Timestamp::from_micros(1)),
            one.destroy(destroyed(&key)),
            other.draw(label(&subject))
        );
        assert_eq!(ended, Ok(()));
        for keys in [&one, &other] {
            let state = KeyState::Destroyed(destroyed(&key));
            assert_eq!(keys.draw(label(&subject)).await, Ok(state.clone()));
            assert_eq!(keys.key(key.id).await, Ok(Some(state)));
            assert_eq!(keys.find(value(round)).await, Ok(None));
        }
    }
    let left = "SELECT (SELECT count(*) FROM leftfold_keys.keys)
        + (SELECT count(*) FROM leftfold_keys.tokens)
        + (SELECT count(*) FROM leftfold_keys.owners)";
    assert_eq!(rows(&url).await.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_everything_that_was_acknowledged_is_there_afterwards() {
    let mut server = PostgresServer::start();
    let url = server.database("keys");
    let keys = open(&url).await;
    let (ada, bob) = (drawn(&keys, "ada").await, drawn(&keys, "bob\0 or so").await);
    let token = kept(&keys, 1, &bob).await;
    keys.destroy(destroyed(&ada)).await.unwrap();
    server.stop_hard();
    let away = keys.key(bob.id).await.unwrap_err();
    assert!(matches!(away, KeyStoreError::Failed { .. }), "{away}");
    let away = keys.draw(label("eve")).await.unwrap_err();
    assert!(matches!(away, KeyStoreError::Failed { .. }), "{away}");
    let refused = PostgresKeys::open(&url).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable, "{refused}");

    server.start_again();
    for keys in [keys, open(&url).await] {
        assert_eq!(keys.draw(bob.subject.clone()).await, Ok(KeyState::Held(bob.clone())));
        assert_eq!(keys.find(value(1)).await, Ok(Some(token)));
        assert_eq!(keys.destroyed().await, Ok(vec![destroyed(&ada)]));
    }
}

/// The server is gone at the commit: neither answer would be true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_unknown_and_the_same_call_finds_it_out() {
    let url = database();
    let keys = open(&url).await;
    drawn(&keys, "ada").await;
    let beside = rows(&url).await;
    // At its commit the transaction ends its own connection.
    beside
        .batch_execute(
            "CREATE FUNCTION leftfold_keys.cut() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON leftfold_keys.keys
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leftfold_keys.cut()",
        )
        .await
        .unwrap();
    let lost = keys.draw(label("bob")).await.unwrap_err();
    assert!(matches!(lost, KeyStoreError::Unknown { .. }), "{lost}");
    beside.batch_execute("DROP TRIGGER cut ON leftfold_keys.keys").await.unwrap();
    let bob = drawn(&keys, "bob").await;
    assert_eq!(keys.draw(label("bob")).await, Ok(KeyState::Held(bob)));
}

/// Returns all rows of all tables of the keys, as text.
async fn all_rows(beside: &Client) -> String {
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'leftfold_keys'";
    let mut all = String::new();
    for table in beside.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let ask =
            format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM leftfold_keys.{table} t");
        all.push_str(&beside.query_one(&ask, &[]).await.unwrap().get::<_, String>(0));
    }
    all
}

/// Tells whether a file of a table or an index of the keys has these bytes.
async fn is_in_a_file(beside: &Client, bytes: &[u8]) -> bool {
    let ask = "SELECT coalesce(bool_or(position($1::bytea IN
            pg_read_binary_file(pg_relation_filepath(oid))) > 0), false)
        FROM pg_class WHERE relnamespace = 'leftfold_keys'::regnamespace
            AND relkind IN ('r', 'i') AND relfilenode <> 0";
    beside.batch_execute("CHECKPOINT").await.unwrap();
    beside.query_one(ask, &[&bytes]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_secret_is_in_no_row_and_after_a_full_vacuum_in_no_file() {
    let url = database();
    let keys = open(&url).await;
    let (ada, bob) = (drawn(&keys, "ada").await, drawn(&keys, "bob").await);
    let (own, shared) = (kept(&keys, 1, &ada).await, kept(&keys, 2, &ada).await);
    assert_eq!(kept(&keys, 2, &bob).await, shared);
    let beside = rows(&url).await;
    let hash = value(1).hash;
    let gone = [ada.secret.0.as_slice(), own.0.as_slice(), hash.as_slice()];
    for bytes in gone {
        assert!(all_rows(&beside).await.contains(&hex(bytes)));
        assert!(is_in_a_file(&beside, bytes).await);
    }
    keys.destroy(destroyed(&ada)).await.unwrap();
    let left = all_rows(&beside).await;
    for bytes in gone {
        assert!(!left.contains(&hex(bytes)), "{left}");
    }
    assert!(left.contains(&hex(&bob.secret.0)) && left.contains(&hex(&shared.0)), "{left}");

    let tables = ["keys", "tokens", "owners"].map(|table| format!("leftfold_keys.{table}"));
    // A transaction that is older than the destruction, such as one of autovacuum, has the server
    // keep the rows: so it is done again until there is none.
    let rewritten = async {
        for bytes in gone {
            while is_in_a_file(&beside, bytes).await {
                let vacuum = format!("VACUUM FULL {}", tables.join(", "));
                beside.batch_execute(&vacuum).await.unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rewritten).await.unwrap();
    assert_eq!(keys.draw(label("bob")).await, Ok(KeyState::Held(bob)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_one_process_forgets_is_forgotten_in_the_other_one() {
    let url = database();
    let store = Store::memory();
    let one = Keys::of(&store, open(&url).await).await.unwrap();
    let other = Keys::of(&store, open(&url).await).await.unwrap();
    let ada = one.subject("ada").await.unwrap();
    let email = ada.seal_findable("email", &"ada@example.org".to_owned()).await.unwrap();
    assert_eq!(other.open(&email).await, Ok(Opened::Known("ada@example.org".to_owned())));
    let receipt = one.forget("ada").await.unwrap();
    assert_eq!(other.open(&email).await, Ok(Opened::Forgotten));
    assert_eq!(other.find("email", &"ada@example.org".to_owned()).await, Ok(None));
    assert!(matches!(other.subject("ada").await, Err(KeysError::Forgotten { .. })));
    assert_eq!(other.verify(&receipt).await, Ok(()));
    assert_eq!(other.forget("ada").await, Ok(receipt));
}

/// The rights are those that the page on personal data names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_vacuumed_by_their_owner_and_used_by_a_role_with_rights_on_rows_only() {
    let url = database();
    let (owner, beside) = (open(&url).await, rows(&url).await);
    let ada = drawn(&owner, "ada").await;
    owner.destroy(destroyed(&ada)).await.unwrap();
    let vacuumed = "SELECT coalesce(min(vacuum_count), 0) > 0 FROM pg_stat_user_tables
        WHERE schemaname = 'leftfold_keys' AND relname IN ('keys', 'tokens', 'owners')";
    let seen = async { while !beside.query_one(vacuumed, &[]).await.unwrap().get::<_, bool>(0) {} };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();

    let role = format!("application_of_{}", url.rsplit('/').next().unwrap());
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA leftfold_keys TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA leftfold_keys TO {role}"
    );
    beside.batch_execute(&grant).await.unwrap();
    let keys = open(&url.replace("postgres@", &format!("{role}@"))).await;
    let bob = drawn(&keys, "bob").await;
    kept(&keys, 1, &bob).await;
    keys.release(vec![(value(1), bob.id)]).await.unwrap();
    kept(&keys, 2, &bob).await;
    keys.destroy(destroyed(&bob)).await.unwrap();
    assert_eq!(owner.key(bob.id).await, Ok(Some(KeyState::Destroyed(destroyed(&bob)))));
    assert_eq!(owner.find(value(2)).await, Ok(None));
}

#[tokio::test]
async fn what_is_no_key_store_is_refused_with_the_remedy() {
    let url = database();
    let beside = rows(&url).await;
    beside.batch_execute("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int)").await.unwrap();
    let foreign = PostgresKeys::open(&format!("{url}?schema=shop")).await.unwrap_err();
    assert_eq!(foreign, PostgresKeysError::NotKeys { schema: "shop".to_owned() });
    open(&url).await;
    beside.batch_execute("UPDATE leftfold_keys.key_store SET format = 9").await.unwrap();
    let newer = PostgresKeys::open(&url).await.unwrap_err();
    assert!(matches!(newer, PostgresKeysError::NewerFormat { found: 9, .. }), "{newer}");
    for (url, told) in [("postgres://h/d?schema=pg_x", "pg_"), ("http://h", "postgres://")] {
        let refused = PostgresKeysOptions::at(url).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.to_string().contains(told), "{refused}");
    }
    let read_only = format!("{}?options=-c%20default_transaction_read_only%3Don", database());
    let absent = PostgresKeys::open(&read_only).await.unwrap_err();
    assert!(matches!(absent, PostgresKeysError::Absent { .. }), "{absent}");
}
