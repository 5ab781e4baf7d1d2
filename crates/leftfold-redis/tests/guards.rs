//! What guarded rows do that the rules for all targets do not say.

use std::time::Duration;

use leftfold_core::runtime::projection::{Place, ProjectionError, Session, Target};
use leftfold_core::store::Position;
use leftfold_proving::RedisServer;
use leftfold_redis::redis::{self, AsyncTypedCommands};
use leftfold_redis::{Redis, RedisError, RedisSession};

fn place(version: u32) -> Place {
    Place { name: "cats", version, lane: 0 }
}

async fn connection(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn put(session: &mut RedisSession, position: u64, rows: &[(&str, &str)]) {
    session.begin().await.unwrap();
    session.at(Position(position));
    for (key, value) in rows {
        session.rows().put(*key, *value).unwrap();
    }
    session.note("checkpoint", Some(&position.to_be_bytes())).await.unwrap();
    session.commit().await.unwrap();
}

async fn row(redis: &Redis, key: &str) -> Option<String> {
    let row = redis.reader_of("cats").of_version(1).read(key).await.unwrap();
    row.map(|row| String::from_utf8(row).unwrap())
}

#[tokio::test]
async fn an_older_event_does_not_undo_a_newer_one_written_or_removed() {
    let redis = Redis::at(&RedisServer::shared().database()).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 10, &[("tom", "white"), ("kit", "black")]).await;
    put(&mut session, 9, &[("tom", "grey")]).await;
    put(&mut session, 10, &[("tom", "grey")]).await;
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("white"));
    session.begin().await.unwrap();
    session.at(Position(11));
    session.rows().remove("kit").unwrap();
    session.commit().await.unwrap();
    put(&mut session, 10, &[("kit", "brown")]).await;
    assert_eq!(row(&redis, "kit").await, None);
    put(&mut session, 12, &[("kit", "brown")]).await;
    assert_eq!(row(&redis, "kit").await.as_deref(), Some("brown"));
}

#[tokio::test]
async fn rows_are_read_as_they_were_put_before_the_commit() {
    let redis = Redis::at(&RedisServer::shared().database()).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 1, &[("tom", "1"), ("kit", "1")]).await;
    session.begin().await.unwrap();
    session.at(Position(2));
    let rows = session.rows();
    assert_eq!(rows.read("tom").await.unwrap().as_deref(), Some(&b"1"[..]));
    rows.put("tom", "2").unwrap();
    rows.remove("kit").unwrap();
    assert_eq!(rows.read("tom").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(rows.read("kit").await.unwrap(), None);
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("1"));
    session.rollback().await.unwrap();
    assert_eq!(session.rows().read("kit").await.unwrap().as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_commit_of_any_size_is_written_whole_and_its_notes_with_the_last_of_it() {
    let redis = Redis::at(&RedisServer::shared().database()).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    for (count, bytes) in [(0, 0), (5_000, 1), (12_345, 10), (9, 3 << 20)] {
        session.begin().await.unwrap();
        session.at(Position(bytes as u64 + 1));
        for row in 0..count {
            session.rows().put(row.to_string(), vec![7; bytes]).unwrap();
        }
        session.note("count", Some(count.to_string().as_bytes())).await.unwrap();
        session.commit().await.unwrap();
        let keys: Vec<String> = (0..count).map(|row| row.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rows = redis.reader_of("cats").of_version(1).read_all(&keys).await.unwrap();
        assert!(
            rows.iter().all(|row| row.as_ref().is_some_and(|row| row.len() == bytes)),
            "{count} rows of {bytes}"
        );
        session.begin().await.unwrap();
        assert_eq!(
            session.notes("", None, 9).await.unwrap(),
            [("count".to_owned(), count.to_string().into_bytes())]
        );
    }
}

#[tokio::test]
async fn whoever_comes_second_is_told_who_writes() {
    let redis = Redis::at(&RedisServer::shared().database()).unwrap();
    let session = redis.open(&place(1)).await.unwrap();
    let error = redis.open(&place(1)).await.unwrap_err();
    assert!(redis.is_away(&error));
    let names = format!("cats:v1 is written by process {}, which is client ", std::process::id());
    assert!(error.to_string().contains(&names), "{error}");
    let error = redis.discard("cats", 1).await.unwrap_err();
    assert!(error.to_string().contains("cats:v1 is written by"), "{error}");
    drop(session);
}

#[tokio::test]
async fn a_session_that_lost_its_version_writes_nothing_more() {
    let url = RedisServer::shared().database();
    let redis = Redis::at(&url).unwrap();
    let mut late = redis.open(&place(1)).await.unwrap();
    put(&mut late, 1, &[("tom", "grey")]).await;
    late.begin().await.unwrap();
    late.at(Position(2));
    late.rows().put("tom", "white").unwrap();
    // As if it had stood still until its lease was over.
    connection(&url).await.del("cats:owner:v1").await.unwrap();
    let mut next = redis.open(&place(1)).await.unwrap();
    put(&mut next, 2, &[("kit", "black")]).await;
    for error in [late.commit().await.unwrap_err(), late.begin().await.unwrap_err()] {
        assert!(redis.is_away(&error), "{error}");
        assert!(error.to_string().contains("another session has it"), "{error}");
    }
    drop(late);
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("grey"));
    put(&mut next, 3, &[("tom", "silver")]).await;
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("silver"));
}

#[tokio::test]
async fn a_holder_whose_connection_is_gone_is_not_waited_for() {
    let url = RedisServer::shared().database();
    let redis = Redis::at(&url).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 1, &[("tom", "grey")]).await;
    let mut other = connection(&url).await;
    let owner = other.get("cats:owner:v1").await.unwrap().unwrap();
    let client = owner.split(' ').next().unwrap();
    let _: i64 = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("ID")
        .arg(client)
        .query_async(&mut other)
        .await
        .unwrap();
    let mut next = redis.open(&place(1)).await.unwrap();
    put(&mut next, 2, &[("tom", "white")]).await;
    let error = session.begin().await.unwrap_err();
    assert!(redis.is_away(&error), "{error}");
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_ended_before_the_version_is_written_anew() {
    let url = RedisServer::shared().database();
    let redis = Redis::at(&url).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 9, &[("tom", "grey"), ("kit", "black")]).await;
    drop(session);
    let mut connection = connection(&url).await;
    connection.hset("cats:versions", 1, "being removed").await.unwrap();
    connection.del("cats:v1:tom").await.unwrap();
    let mut session = loop {
        match redis.open(&place(1)).await {
            Ok(session) => break session,
            Err(error) => assert!(error.to_string().contains("is written by"), "{error}"),
        }
    };
    session.begin().await.unwrap();
    assert_eq!(session.notes("", None, 9).await.unwrap(), []);
    put(&mut session, 1, &[("tom", "white")]).await;
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("white"));
    assert_eq!(row(&redis, "kit").await, None);
}

#[tokio::test]
async fn nothing_stays_of_a_version_that_is_discarded() {
    let url = RedisServer::shared().database();
    let redis = Redis::at(&url).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    let names: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "grey")).collect();
    put(&mut session, 1, &rows).await;
    redis.serve("cats", 1).await.unwrap();
    drop(session);
    while redis.discard("cats", 1).await.is_err() {}
    let mut connection = connection(&url).await;
    let mut left: Vec<String> = connection.keys("*").await.unwrap();
    // It is given back in the background.
    left.retain(|key| key != "cats:owner:v1");
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_killed_is_waited_for_and_nothing_committed_is_lost() {
    let mut server = RedisServer::start_append_only();
    let redis = Redis::at(&server.url()).unwrap();
    let reader = redis.reader_of("cats");
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 1, &[("tom", "grey")]).await;
    redis.serve("cats", 1).await.unwrap();
    assert_eq!(reader.read("tom").await.unwrap().as_deref(), Some(&b"grey"[..]));
    session.begin().await.unwrap();
    session.at(Position(2));
    session.rows().put("tom", "white").unwrap();
    server.stop_hard();
    let mut errors = vec![session.commit().await.unwrap_err(), session.begin().await.unwrap_err()];
    errors.push(session.rows().read("kit").await.unwrap_err().into());
    errors.push(redis.open(&place(1)).await.unwrap_err());
    errors.push(redis.serving("cats").await.unwrap_err());
    for error in errors {
        assert!(redis.is_away(&error), "{error}");
    }
    assert!(reader.read("tom").await.is_err());
    drop(session);
    server.start_again();
    // The holder's number may be another's in the new server; its lease is over then.
    let mut session = loop {
        match redis.open(&place(1)).await {
            Ok(session) => break session,
            Err(error) => assert!(error.to_string().contains("is written by"), "{error}"),
        }
    };
    assert_eq!(reader.read("tom").await.unwrap().as_deref(), Some(&b"grey"[..]));
    put(&mut session, 2, &[("tom", "white")]).await;
    assert_eq!(reader.read("tom").await.unwrap().as_deref(), Some(&b"white"[..]));
}

#[tokio::test]
async fn a_server_that_is_full_is_waited_for_and_one_that_evicts_is_refused() {
    let server = RedisServer::start();
    let redis = Redis::at(&server.url()).unwrap();
    let mut connection = connection(&server.url()).await;
    let set =
        async |connection: &mut redis::aio::MultiplexedConnection, what: &str, value: &str| {
            redis::cmd("CONFIG")
                .arg("SET")
                .arg(what)
                .arg(value)
                .query_async::<()>(connection)
                .await
                .unwrap();
        };
    let mut session = redis.open(&place(1)).await.unwrap();
    put(&mut session, 1, &[("tom", "grey")]).await;
    set(&mut connection, "maxmemory", "1").await;
    session.begin().await.unwrap();
    session.at(Position(2));
    session.rows().put("tom", "white").unwrap();
    let error = session.commit().await.unwrap_err();
    assert!(redis.is_away(&error), "{error}");
    session.rollback().await.unwrap();
    assert_eq!(row(&redis, "tom").await.as_deref(), Some("grey"));
    set(&mut connection, "maxmemory", "0").await;
    put(&mut session, 2, &[("tom", "white")]).await;
    drop(session);
    set(&mut connection, "maxmemory-policy", "allkeys-lru").await;
    let error = redis.open(&place(2)).await.unwrap_err();
    assert!(
        redis.is_away(&error)
            && error.to_string().contains("set its maxmemory-policy to noeviction"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_is_not_absence() {
    let redis = Redis::at(&RedisServer::shared().database()).unwrap();
    let mut session = redis.open(&place(1)).await.unwrap();
    session.begin().await.unwrap();
    let rows = session.rows();
    rows.put("k".repeat(1_024), "").unwrap();
    rows.put("tom", vec![0; 16 << 20]).unwrap();
    let mut refused =
        vec![rows.put("k".repeat(1_025), "").unwrap_err(), rows.remove("").unwrap_err()];
    refused.push(rows.put("tom", vec![0; (16 << 20) + 1]).unwrap_err());
    refused.push((0..20).find_map(|n| rows.put(n.to_string(), vec![0; 16 << 20]).err()).unwrap());
    for error in refused {
        assert!(matches!(error, RedisError::Key { .. } | RedisError::TooLarge { .. }), "{error}");
        assert!(!redis.is_away(&ProjectionError::from(error)));
    }
}

#[tokio::test]
async fn a_reader_follows_the_version_that_serves() {
    let server = RedisServer::start();
    let url = server.url();
    let redis = Redis::at(&url).unwrap();
    let reader = redis.reader_of("cats");
    assert!(matches!(reader.read("tom").await, Err(RedisError::NothingServes { .. })));
    for (version, colour) in [(1, "grey"), (2, "silver")] {
        let mut session = redis.open(&place(version)).await.unwrap();
        put(&mut session, 1, &[("tom", colour)]).await;
        redis.serve("cats", version).await.unwrap();
        let rows = reader.read_all(&["kit", "tom"]).await.unwrap();
        assert_eq!(rows, [None, Some(colour.as_bytes().to_vec())]);
        let key = format!("{}tom", reader.prefix().await.unwrap());
        assert_eq!(connection(&url).await.get(key).await.unwrap().as_deref(), Some(colour));
    }
    let mut other = connection(&url).await;
    let _: i64 = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .query_async(&mut other)
        .await
        .unwrap();
    let again =
        tokio::time::timeout(Duration::from_secs(60), reader.read("tom")).await.unwrap().unwrap();
    assert_eq!(again.as_deref(), Some(&b"silver"[..]));
}
