//! Stored logs of every format version: they open, and read the same, forever.
//!
//! `LEFTFOLD_STORE_OLD=1` makes the files of this release's version if there are none.

use std::fmt::Display;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::{
    Append, AppendsFrom, Backend, Checkpoint, CheckpointRecord, CommandId, CommandRecord,
    ContentType, Digest, EventId, Fence, Hash, Holder, Label, LeaseRequest, Leased, Metadata,
    MoveFrom, NewEvent, Outcome, Partition, Position, Query, Read, Store, StoreId, Tags,
    TraceContext,
};
use leftfold_log::{Log, Options, dump, restore, verify};
use leftfold_testing::by_runtime;

use crate::support::{TestClock, event_type, stream, wait};

fn stored(version: impl Display) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/old/{version}"))
}

fn options() -> Options {
    Options { segment_bytes: 4096, clock: Arc::new(TestClock::default()), ..Options::default() }
}

/// A copy of a stored log, without what lies beside it.
fn copied(version: impl Display, name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("old-{version}-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(stored(version)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "dump.txt" {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn segments(path: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    names.iter().map(|name| fs::read(name).unwrap()).collect()
}

fn version_of(segment: &[u8]) -> u8 {
    segment[8]
}

#[test]
fn a_log_of_version_1_opens_and_reads_the_same() {
    opens_and_reads_the_same(1);
}

#[test]
fn a_log_of_version_2_opens_and_reads_the_same() {
    if std::env::var_os("LEFTFOLD_STORE_OLD").is_some() && !stored(2).exists() {
        store_this_version(&stored(2));
    }
    opens_and_reads_the_same(2);
}

fn opens_and_reads_the_same(version: u32) {
    assert!(
        segments(&stored(version)).iter().all(|segment| u32::from(version_of(segment)) == version)
    );
    let copy = copied(version, "read");
    assert_eq!(dumped(&copy), fs::read_to_string(stored(version).join("dump.txt")).unwrap());
    assert!(verify(&copy, &mut |_| Continue(())).unwrap().is_sound());
    let (log, recovery) = Log::open(&copy, Options::default()).unwrap();
    assert!(recovery.closed_cleanly);
    check(&log);
    assert_eq!(log.identity().epoch.number, 2);
    drop(log);
    assert_eq!(segments(&copy), segments(&stored(version)), "who only reads changes nothing");
    fs::remove_dir_all(&copy).unwrap();
}

/// Events with the extension that version 1 left room for, and one without.
#[test]
fn a_log_with_trace_contexts_opens_and_reads_the_same() {
    if std::env::var_os("LEFTFOLD_STORE_OLD").is_some() && !stored("traced").exists() {
        store_traced(&stored("traced"));
    }
    let copy = copied("traced", "read");
    let dumped = dumped(&copy);
    assert_eq!(dumped, fs::read_to_string(stored("traced").join("dump.txt")).unwrap());
    assert!(verify(&copy, &mut |_| Continue(())).unwrap().is_sound());
    let (log, recovery) = Log::open(&copy, Options::default()).unwrap();
    assert!(recovery.closed_cleanly);
    let events =
        wait(Store::new(log).read(Read::matching(Query::all(), Position(1))).all()).unwrap();
    assert_eq!(events.into_iter().map(|event| event.metadata.trace).collect::<Vec<_>>(), traces());
    assert_eq!(segments(&copy), segments(&stored("traced")), "who only reads changes nothing");
    fs::remove_dir_all(&copy).unwrap();
}

fn traces() -> [Option<TraceContext>; 3] {
    let with = |state| TraceContext::new([0x4b; 16], [0xf0; 8], 1, state);
    [with("vendor=1,other=2"), with(""), None]
}

fn store_traced(path: &Path) {
    let (log, _) = Log::open(path, options()).unwrap();
    for trace in traces() {
        let metadata = Metadata { trace, user: "user".into(), ..Metadata::default() };
        let event = NewEvent {
            metadata,
            ..NewEvent::new(event_type("test.Traced"), "{}").in_stream(stream("test-1"))
        };
        wait(log.append(Append::of(vec![event]))).unwrap();
    }
    wait(log.close()).unwrap();
    drop(log);
    keep_with_dump(path);
}

fn check(log: &Log) {
    let store = Store::new(log.clone());
    let all = wait(store.read(Read::matching(Query::everything(), Position(1))).all()).unwrap();
    assert_eq!(all[0].key_ids, [Label::new("key-1").unwrap(), Label::new("key-2").unwrap()]);
    assert_eq!(all[0].id, EventId(uuid::Uuid::from_u128(7)));
    assert_eq!(all[1].content_type, ContentType::Other(Label::new("text/plain").unwrap()));
    assert_eq!(
        wait(log.answered(CommandId([1; 16]))).unwrap().unwrap().record.answer,
        &b"answer"[..]
    );
    let source = StoreId(uuid::Uuid::from_u128(5));
    let checkpoint =
        wait(log.checkpoint(Label::new("consumer").unwrap(), source, Partition::default()))
            .unwrap()
            .unwrap();
    assert_eq!(checkpoint.position, Position(3));
    let mut appends = Vec::new();
    let mut from = AppendsFrom::After(Position::START);
    loop {
        let page = wait(log.appends(from, 1)).unwrap();
        if page.appends.is_empty() {
            break;
        }
        from = page.next;
        appends.extend(page.appends);
    }
    let events: Vec<_> = appends.iter().flat_map(|append| &append.events).cloned().collect();
    assert_eq!(events, all);
    assert!(
        appends.iter().all(|append| !append.events.is_empty()),
        "the log's own records are nobody's append"
    );
    assert_eq!(all.len(), 26);
}

fn held(log: &Log) -> Fence {
    let work = Label::new("work").unwrap();
    let asking = LeaseRequest::new(work, Holder::random(), Duration::from_secs(1));
    match wait(log.lease(asking)).unwrap() {
        Leased::Held(lease) => lease.fence,
        other @ Leased::HeldBy { .. } => panic!("{other:?}"),
    }
}

/// The upgrade: an old log is read and sealed as it is, and what is appended begins a segment of
/// this version.
#[test]
fn a_log_of_version_1_goes_on_in_version_2_with_its_first_append() {
    let copy = copied(1, "goes-on");
    // It was not closed: the seal at its end is gone, and the last group may not be durable.
    let last = copy.join("log-000000000004.seg");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 80]).unwrap();
    let (log, recovery) = Log::open(&copy, Options::default()).unwrap();
    assert!(!recovery.closed_cleanly);
    check(&log);
    drop(log);
    let sealed = segments(&copy);
    assert!(
        sealed.iter().all(|segment| version_of(segment) == 1) && sealed[3].len() == bytes.len()
    );
    assert_eq!(sealed[3][..bytes.len() - 80], bytes[..bytes.len() - 80]);
    let (log, recovery) = Log::open(&copy, Options::default()).unwrap();
    assert!(recovery.closed_cleanly);
    let fence = held(&log);
    assert!(fence.0 > 1 << 62, "version 1 gave no fence that is greater: {fence}");
    let event = NewEvent::new(event_type("test.New"), "new").in_stream(stream("test-2"));
    let Ok(Outcome::Appended(appended)) = wait(log.append(Append::of(vec![event]))) else {
        panic!("it goes on")
    };
    assert_eq!((appended.first, appended.versions[0].0), (Position(27), 21));
    drop(log);
    let now = segments(&copy);
    assert_eq!(now[..4], sealed[..]);
    assert_eq!(now[4..].iter().map(|segment| version_of(segment)).collect::<Vec<_>>(), [2]);
    assert!(verify(&copy, &mut |_| Continue(())).unwrap().is_sound());
    assert_eq!(restore(&copy, Options::default()).unwrap().identity.epoch.number, 3);
    let (log, _) = Log::open(&copy, Options::default()).unwrap();
    assert!(held(&log) > fence);
    drop(log);
    assert!(verify(&copy, &mut |_| Continue(())).unwrap().is_sound());
    fs::remove_dir_all(&copy).unwrap();
}

#[test]
fn a_restore_declared_on_a_log_of_version_1_begins_version_2() {
    let copy = copied(1, "restored");
    assert_eq!(restore(&copy, Options::default()).unwrap().identity.epoch.number, 3);
    assert_eq!(
        segments(&copy).iter().map(|segment| version_of(segment)).collect::<Vec<_>>(),
        [1, 1, 1, 1, 2]
    );
    let (log, _) = Log::open(&copy, Options::default()).unwrap();
    check(&log);
    drop(log);
    assert!(verify(&copy, &mut |_| Continue(())).unwrap().is_sound());
    fs::remove_dir_all(&copy).unwrap();
}

/// Every field of the format, several segments, and two epochs.
fn store_this_version(path: &Path) {
    let (log, _) = Log::open(path, options()).unwrap();
    let mut full = NewEvent::new(event_type("test.Full"), "{\"n\":1}").in_stream(stream("test-1"));
    full.id = Some(EventId(uuid::Uuid::from_u128(7)));
    full.schema_version = 300;
    full.tags = Tags::none().with("a:1").with("b:2");
    full.metadata = Metadata {
        correlation: Some(Label::new("talk").unwrap()),
        causation: Some(Label::new("cause").unwrap()),
        user: "user".into(),
        trace: None,
    };
    full.key_ids = vec![Label::new("key-1").unwrap(), Label::new("key-2").unwrap()];
    let mut text = NewEvent::new(event_type("$system"), "text");
    text.content_type = ContentType::Other(Label::new("text/plain").unwrap());
    let mut append = by_runtime(Append::of(vec![full, text]));
    append.command = Some(CommandRecord {
        id: CommandId([1; 16]),
        digest: Digest([2; 16]),
        answer: "answer".into(),
    });
    let source = StoreId(uuid::Uuid::from_u128(5));
    let checkpoint = Checkpoint {
        store: source,
        partition: Partition::default(),
        position: Position(3),
        hash: Hash([4; 32]),
    };
    let consumer = Label::new("consumer").unwrap();
    append.checkpoint = Some(CheckpointRecord { consumer, from: MoveFrom::Earlier, checkpoint });
    wait(log.append(append)).unwrap();
    for n in 0..20 {
        let event =
            NewEvent::new(event_type("test.Many"), vec![n; 300]).in_stream(stream("test-2"));
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
    held(&log);
    drop(log);
    keep_with_dump(path);
}

/// The lines of a dump of a sound log.
fn dumped(path: &Path) -> String {
    let mut lines = String::new();
    let verified = dump(path, &mut |line| {
        lines.push_str(line);
        lines.push('\n');
    });
    assert_eq!(verified.unwrap().damage, None);
    lines
}

/// Leaves the segments of a log, and a dump beside them.
fn keep_with_dump(path: &Path) {
    let lines = dumped(path);
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        // Only the truth is kept: what is derived has versions of its own.
        if path.extension().is_none_or(|extension| extension != "seg") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(path.join("dump.txt"), lines).unwrap();
}
