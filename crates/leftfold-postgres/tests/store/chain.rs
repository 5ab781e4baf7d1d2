//! The chain of hashes: another program recomputes it from the rows, and verification finds what
//! was changed in them.

use std::io::Write;
use std::process::{Command, Stdio};

use leftfold_core::store::{
    Append, CommandId, CommandRecord, Condition, ContentType, Digest, EventId, EventType, Expected,
    Metadata, NewEvent, Outcome, ReadError, Store, StreamName, Tags, TraceContext,
};
use leftfold_postgres::{PostgresStore, RowsProgress};
use leftfold_proving::PostgresServer;
use uuid::Uuid;

use crate::support::{label, place};

const SELECT: &str = "SELECT json_build_object('append', a.append, 'events', a.events,
    'micros', (extract(epoch FROM a.recorded_at) * 1000000)::bigint, 'hash', encode(a.hash, 'hex'),
    'command', encode(uuid_send(a.command), 'base64'), 'digest', encode(a.digest, 'base64'),
    'answer', encode(a.answer, 'base64'), 'consumer', a.consumer,
    'source', encode(uuid_send(a.source), 'base64'), 'partition', a.partition,
    'checkpoint', a.checkpoint, 'checkpoint_hash', encode(a.checkpoint_hash, 'base64'),
    'rows', (SELECT json_agg(json_build_object('position', e.position, 'stream', e.stream,
        'version', e.version, 'type', e.type, 'schema_version', e.schema_version,
        'id', encode(uuid_send(e.id), 'base64'), 'content_type', e.content_type,
        'data', encode(coalesce(e.data_bytes, convert_to(e.data::text, 'UTF8')), 'base64'),
        'metadata', encode(coalesce(e.metadata_bytes, convert_to(e.metadata::text, 'UTF8'), ''),
            'base64'), 'tags', e.tags, 'correlation', e.correlation, 'causation', e.causation,
        'traceparent', e.traceparent, 'tracestate', e.tracestate, 'key_ids', coalesce(e.key_ids, '{}'))
        ORDER BY e.position) FROM events e WHERE e.append = a.append))
    FROM appends a ORDER BY a.append";

/// An event with a value in every field that an event can have.
fn full() -> NewEvent {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    NewEvent {
        stream: Some(StreamName::new("order-\0\u{1a}0 ü").unwrap()),
        event_type: EventType::new("shop.Sold").unwrap(),
        schema_version: u32::MAX,
        content_type: ContentType::Other(label("application/json")),
        data: "{ \"price\": 1.0e2 }\n".into(),
        metadata: Metadata {
            correlation: Some(label("c\0")),
            causation: Some(label("\u{1a}")),
            user: "\"\\u0000\"".into(),
            trace: Some(TraceContext::parse(parent, Some("a=b")).unwrap()),
        },
        tags: Tags::none().with("shop:\"1\"").with("\\,{}\0"),
        id: Some(EventId(Uuid::from_u128(7))),
        key_ids: vec![label("key 1"), label("key,2")],
    }
}

/// Appends of every shape.
async fn fill(store: &Store) {
    let bare = || NewEvent::new(EventType::new("test.Happened").unwrap(), vec![0, 255, b'"']);
    let binary = NewEvent { content_type: ContentType::Binary, ..bare() };
    let command = |key: &str| {
        let record = CommandRecord {
            id: CommandId::new("test", key),
            digest: Digest::of(key.as_bytes()),
            answer: "yes".into(),
        };
        Some(record)
    };
    let appends = [
        Append { command: command("before everything"), ..Append::default() },
        Append::of(vec![bare()]),
        Append::of(vec![full(), binary, full()]),
        Append { command: command("with events"), ..Append::of(vec![full()]) },
        Append::of(vec![bare()]).when(Condition::stream(full().stream.unwrap(), Expected::Exists)),
    ];
    for append in appends {
        assert!(matches!(store.append(append).await, Ok(Outcome::Appended(_))));
    }
}

/// Runs the program with the rows, and returns the chain that it tells.
fn recomputed(url: &str, schema: &str) -> String {
    let statements = format!("SET search_path TO {schema}; {SELECT}");
    let rows = PostgresServer::shared().psql(url, &statements);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/chain.py");
    let python = std::env::var_os("LEFTFOLD_PYTHON").expect("cargo xtask test sets it");
    let mut child = Command::new(python)
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_30_lines_recomputes_the_chain_from_a_plain_select() {
    for payload in ["json", "bytes"] {
        let (schema, url) = place("chain");
        let backend = PostgresStore::open(&format!("{url}&payload={payload}")).await.unwrap();
        let store = Store::new(backend.clone());
        fill(&store).await;
        let report = backend.verify(|_| {}).await.unwrap();
        assert_eq!((report.appends, report.events, report.tags), (5, 6, 6));
        assert_eq!(report.chain, store.head().chain);
        let plain = PostgresServer::shared().url();
        assert_eq!(recomputed(&plain, &schema), report.chain.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_in_the_rows_is_found() {
    let changes = [
        "UPDATE events SET data = '{ \"price\": 1.0e3 }' WHERE position = 2",
        "UPDATE events SET type = 'shop.Sole' WHERE position = 2",
        "UPDATE events SET stream = 'order-2', version = 1 WHERE position = 2",
        "UPDATE events SET tags = '{}' WHERE position = 2",
        "UPDATE events SET key_ids = '{}' WHERE position = 2",
        "UPDATE events SET recorded_at = recorded_at + interval '1 us' WHERE position = 2",
        "UPDATE events SET tracestate = 'a=c' WHERE position = 2",
        "UPDATE appends SET answer = 'no' WHERE append = 4",
        "UPDATE appends SET recorded_at = recorded_at + interval '1 us' WHERE append = 1",
        "UPDATE appends SET hash = sha256('') WHERE append = 5",
        "DELETE FROM appends WHERE append = 3",
        "DELETE FROM appends WHERE append = 5",
        "DELETE FROM events WHERE position = 6",
        "DELETE FROM tags WHERE position = 2 AND tag = 'shop:\"1\"'",
        "INSERT INTO tags VALUES ('more', 1)",
    ];
    for change in changes {
        let (schema, url) = place("chain");
        let backend = PostgresStore::open(&url).await.unwrap();
        fill(&Store::new(backend.clone())).await;
        let server = PostgresServer::shared();
        server.psql(&server.url(), &format!("SET search_path TO {schema}; {change}"));
        let verified = backend.verify(|_| {}).await;
        // The end of the history may be missed before anybody looks at the rest.
        let is_found = match &verified {
            Err(ReadError::Damaged { .. }) => true,
            Err(ReadError::Io { detail }) => detail.contains("has lost what was acknowledged"),
            _ => false,
        };
        assert!(is_found, "{change}: {verified:?}");
    }
}

/// All rows were counted by one statement, which a large store did not answer in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_tags_is_counted_in_parts_also_if_it_is_written_anew_meanwhile() {
    let (schema, url) = place("parts");
    let backend = PostgresStore::open(&url).await.unwrap();
    let server = PostgresServer::shared();
    // A page each, so that few rows are many pages.
    let sparse = format!("ALTER TABLE {schema}.tags SET (fillfactor = 10)");
    server.psql(&server.url(), &sparse);
    let store = Store::new(backend.clone());
    let tags = |event: u32| {
        let tags = (0..10).map(|tag| format!("{event}:{tag}:{}", "x".repeat(490)));
        tags.fold(Tags::none(), Tags::with)
    };
    for append in 0..10 {
        let events = (0..50).map(|event| {
            let event_type = EventType::new("test.Happened").unwrap();
            NewEvent::new(event_type, "{}").tagged(tags(append * 50 + event))
        });
        store.append(Append::of(events.collect())).await.unwrap();
    }
    let heard = |progress| match progress {
        RowsProgress::Tags { counted, all } => Some((counted, all)),
        _ => None,
    };
    let mut told = Vec::new();
    let report = backend.verify(|progress| told.extend(heard(progress))).await.unwrap();
    assert_eq!(report.tags, 5_000);
    assert!(told.len() >= 2 && told.is_sorted_by(|one, next| one.0 < next.0), "{told:?}");
    assert_eq!(told.last(), Some(&(5_000, 5_000)));
    // What it has counted is elsewhere, in the order of the writing or not.
    let (anew, mut parts) = (format!("VACUUM FULL {schema}.tags"), 0);
    let verified = backend.verify(|progress| {
        parts += usize::from(heard(progress).is_some());
        if parts == 1 {
            server.psql(&server.url(), &anew);
            parts += 1;
        }
    });
    assert_eq!(verified.await, Ok(report));
    assert!(parts >= 4, "{parts}: it was counted anew");
    server.psql(&server.url(), &format!("INSERT INTO {schema}.tags VALUES ('more', 1)"));
    let refused = backend.verify(|_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("it has 5001 rows"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_can_be_read_by_sql() {
    let (schema, url) = place("sql");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    fill(&store).await;
    let server = PostgresServer::shared();
    let ask = format!(
        "SELECT position, type, data->>'price', tags[1] FROM {schema}.events WHERE data IS NOT NULL
        ORDER BY position LIMIT 1"
    );
    assert_eq!(server.psql(&server.url(), &ask), "2|shop.Sold|1.0e2|shop:\"1\"");
}
