//! Stored logs of every format version: they open, and read the same, for ever.
//!
//! `LEFTFOLD_STORE_OLD=1` makes the files of this release's version anew where there are none.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leftfold_core::store::{
    Append, Backend, Checkpoint, CheckpointRecord, CommandId, CommandRecord, ContentType, Digest, EventId, Hash, Label, Metadata,
    MoveFrom, NewEvent, Partition, Position, Query, Read, Store, StoreId, Tags,
};
use leftfold_core::testing::by_runtime;
use leftfold_log::{Log, Options, dump, restore, verify};
use support::{TestClock, event_type, stream, wait};

fn stored(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/old/{version}"))
}

fn options() -> Options {
    Options { segment_bytes: 4096, clock: Arc::new(TestClock::default()), ..Options::default() }
}

#[test]
fn a_log_of_version_1_opens_and_reads_the_same() {
    if std::env::var_os("LEFTFOLD_STORE_OLD").is_some() && !stored(1).exists() {
        store_version_1(&stored(1));
    }
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("old-1-{}", std::process::id()));
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(stored(1)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let mut lines = String::new();
    let verified = dump(&copy, &mut |line| {
        lines.push_str(line);
        lines.push('\n');
    });
    assert_eq!(verified.unwrap().damage, None);
    assert_eq!(lines, fs::read_to_string(stored(1).join("dump.txt")).unwrap());
    // The dump lies beside the log: it is no part of it.
    fs::remove_file(copy.join("dump.txt")).unwrap();
    assert!(verify(&copy).unwrap().is_sound());
    let (log, recovery) = Log::open(&copy, Options::default()).unwrap();
    assert!(recovery.closed_cleanly);
    let store = Store::new(log.clone());
    let all = wait(store.read(Read::matching(Query::everything(), Position(1))).all()).unwrap();
    assert_eq!(all.len(), 26);
    assert_eq!(all[0].key_ids, [Label::new("key-1").unwrap(), Label::new("key-2").unwrap()]);
    assert_eq!(all[0].id, EventId(uuid::Uuid::from_u128(7)));
    assert_eq!(all[1].content_type, ContentType::Other(Label::new("text/plain").unwrap()));
    assert_eq!(wait(log.answered(CommandId([1; 16]))).unwrap().unwrap().record.answer, &b"answer"[..]);
    let source = StoreId(uuid::Uuid::from_u128(5));
    let checkpoint = wait(log.checkpoint(Label::new("consumer").unwrap(), source, Partition::default())).unwrap().unwrap();
    assert_eq!(checkpoint.position, Position(3));
    assert_eq!(log.identity().epoch.number, 2);
    drop(store);
    drop(log);
    fs::remove_dir_all(&copy).unwrap();
}

/// Every field of the format, several segments, and two epochs.
fn store_version_1(path: &Path) {
    let (log, _) = Log::open(path, options()).unwrap();
    let mut full = NewEvent::new(event_type("test.Full"), "{\"n\":1}").in_stream(stream("test-1"));
    full.id = Some(EventId(uuid::Uuid::from_u128(7)));
    full.schema_version = 300;
    full.tags = Tags::none().with("a:1").with("b:2");
    full.metadata = Metadata {
        correlation: Some(Label::new("talk").unwrap()),
        causation: Some(Label::new("cause").unwrap()),
        user: "user".into(),
    };
    full.key_ids = vec![Label::new("key-1").unwrap(), Label::new("key-2").unwrap()];
    let mut text = NewEvent::new(event_type("$system"), "text");
    text.content_type = ContentType::Other(Label::new("text/plain").unwrap());
    let mut append = by_runtime(Append::of(vec![full, text]));
    append.command = Some(CommandRecord { id: CommandId([1; 16]), digest: Digest([2; 16]), answer: "answer".into() });
    let source = StoreId(uuid::Uuid::from_u128(5));
    let checkpoint = Checkpoint { store: source, partition: Partition::default(), position: Position(3), hash: Hash([4; 32]) };
    let consumer = Label::new("consumer").unwrap();
    append.checkpoint = Some(CheckpointRecord { consumer, from: MoveFrom::Earlier, checkpoint });
    wait(log.append(append)).unwrap();
    for n in 0..20 {
        let event = NewEvent::new(event_type("test.Many"), vec![n; 300]).in_stream(stream("test-2"));
        wait(log.append(Append::of(vec![event]))).unwrap();
    }
    wait(log.close()).unwrap();
    drop(log);
    restore(path, options()).unwrap();
    let (log, _) = Log::open(path, options()).unwrap();
    for n in 0..4 {
        let event = NewEvent::new(event_type("test.Later"), vec![n; 10]);
        wait(log.append(Append::of(vec![event]))).unwrap();
    }
    drop(log);
    let mut lines = String::new();
    dump(path, &mut |line| {
        lines.push_str(line);
        lines.push('\n');
    })
    .unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        // Only the truth is kept: what is derived has versions of its own.
        if path.extension().is_none_or(|extension| extension != "seg") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(path.join("dump.txt"), lines).unwrap();
}
