//! What the tests of the engine share: random appends and queries from a seed, a clock that a test
//! sets, and a way to wait for an answer.
#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod faulty;
pub(crate) mod gate;
pub(crate) mod hooked;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use leftfold_core::store::{
    Append, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Digest, EventId, EventType,
    Expected, Hash, Label, MoveFrom, NewEvent, Partition, Position, Query, QueryItem, StoreId,
    StreamMatch, StreamName, Tags, Timestamp, TypeMatch, Version,
};
use leftfold_log::LogClock;
use leftfold_testing::by_runtime;
use tokio::runtime::{Builder, Runtime};

/// A directory of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that goes on by a microsecond whenever it is asked.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<Clocks>);

#[derive(Debug)]
struct Clocks {
    passed: i64,
    /// Microseconds by which the wall clock was set.
    set: i64,
}

impl Default for TestClock {
    fn default() -> Self {
        Self(Mutex::new(Clocks { passed: 1_700_000_000_000_000, set: 0 }))
    }
}

impl TestClock {
    /// Time passes, by both clocks.
    pub(crate) fn shift(&self, micros: i64) {
        self.0.lock().unwrap().passed += micros;
    }

    /// The wall clock is set.
    pub(crate) fn jump(&self, micros: i64) {
        self.0.lock().unwrap().set += micros;
    }
}

impl LogClock for TestClock {
    fn wall(&self) -> Timestamp {
        let mut clocks = self.0.lock().unwrap();
        clocks.passed += 1;
        Timestamp::from_micros(clocks.passed + clocks.set)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.lock().unwrap().passed.unsigned_abs())
    }
}

/// The answer, waited for on this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// The answer, waited for on this thread for a minute at most.
pub(crate) fn wait_within<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let within = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(within).expect("the answer comes within a minute")
}

pub(crate) fn seed() -> u64 {
    let seed = std::env::var("LEFTFOLD_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("LEFTFOLD_SEED={seed}");
    seed
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Past the capture of the test runner: anyone who runs the tests sees what was tried.
pub(crate) fn tell(text: &str) {
    let told = writeln!(std::io::stderr(), "{text}");
    assert!(told.is_ok(), "standard error takes a line");
}

pub(crate) fn event_type(text: &str) -> EventType {
    EventType::new(text.to_owned()).unwrap()
}

pub(crate) fn stream(text: &str) -> StreamName {
    StreamName::new(text.to_owned()).unwrap()
}

const TYPES: [&str; 5] = ["a.Made", "a.Moved", "b.Made", "$timer.Set", "c"];
const STREAMS: [&str; 7] = ["a-1", "a-2", "a-3", "b-1", "b", "$timer-1", "ab-1"];
const TAGS: [&str; 5] = ["x:1", "x:2", "y:1", "y:2", "z"];

fn one_of<'a>(random: &mut fastrand::Rng, texts: &[&'a str]) -> &'a str {
    texts[random.usize(..texts.len())]
}

pub(crate) fn random_event(random: &mut fastrand::Rng) -> NewEvent {
    let len = match random.u8(..20) {
        0 => random.usize(..6_000),
        1 => 0,
        _ => random.usize(..120),
    };
    let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    let mut event = NewEvent::new(event_type(one_of(random, &TYPES)), data);
    if random.u8(..10) > 0 {
        event.stream = Some(stream(one_of(random, &STREAMS)));
    }
    for _ in 0..random.usize(..4) {
        event.tags.insert(leftfold_core::store::Tag::new(one_of(random, &TAGS)).unwrap());
    }
    if random.u8(..6) == 0 {
        event.id = Some(EventId(uuid::Uuid::from_u128(u128::from(random.u8(..8)))));
    }
    if random.u8(..8) == 0 {
        event.metadata.correlation = Some(Label::new("talk").unwrap());
        event.metadata.user = vec![random.u8(..); 3].into();
        event.key_ids = vec![Label::new("key").unwrap()];
    }
    event
}

fn random_item(random: &mut fastrand::Rng) -> QueryItem {
    let mut item = QueryItem::default();
    for _ in 0..random.usize(..3) {
        let text = one_of(random, &TYPES);
        item.types.push(if random.u8(..4) == 0 {
            TypeMatch::Prefix(text[..random.usize(..=text.len())].to_owned())
        } else {
            TypeMatch::Exact(event_type(text))
        });
    }
    let mut tags = Tags::none();
    for _ in 0..random.usize(..3) {
        tags = tags.with(one_of(random, &TAGS));
    }
    item.tags = tags.to_vec();
    let text = one_of(random, &STREAMS);
    item.streams = match random.u8(..6) {
        0 => Some(StreamMatch::Exact(stream(text))),
        1 => Some(StreamMatch::Category(stream(text).category().to_owned())),
        2 => Some(StreamMatch::Prefix(text[..random.usize(..=text.len())].to_owned())),
        _ => None,
    };
    if random.u8(..4) == 0 { item.with_system() } else { item }
}

pub(crate) fn random_query(random: &mut fastrand::Rng) -> Query {
    match random.u8(..10) {
        0 => Query::all(),
        1 => Query::everything(),
        _ => (0..=random.usize(..2)).map(|_| random_item(random)).collect(),
    }
}

/// Facts that a random append needs, so that about half of its conditions hold.
pub(crate) struct Known<'a> {
    pub(crate) head: Position,
    pub(crate) version: &'a dyn Fn(&StreamName) -> Version,
    pub(crate) checkpoint: Position,
    pub(crate) store: StoreId,
}

pub(crate) fn random_append(random: &mut fastrand::Rng, known: &Known<'_>) -> Append {
    let mut append = Append::of((0..random.usize(..4)).map(|_| random_event(random)).collect());
    for _ in 0..random.usize(..2) {
        let name = stream(one_of(random, &STREAMS));
        let version = (known.version)(&name);
        let expected = match random.u8(..6) {
            0 => Expected::Any,
            1 => Expected::Absent,
            2 => Expected::Exists,
            3 => Expected::Exact(Version(version.0.saturating_sub(1))),
            _ => Expected::Exact(version),
        };
        append.condition.streams.push((name, expected));
    }
    for _ in 0..[0, 0, 0, 0, 1, 2, 3][random.usize(..7)] {
        let after = Position(known.head.0.saturating_sub(random.u64(..6)));
        append.condition = append.condition.and_none_matching(random_query(random), after);
    }
    if random.u8(..4) == 0 {
        append.command = Some(CommandRecord {
            id: CommandId([random.u8(..20); 16]),
            digest: Digest([random.u8(..2); 16]),
            answer: vec![random.u8(..); random.usize(..9)].into(),
        });
    }
    if random.u8(..5) == 0 {
        append.checkpoint = Some(random_checkpoint(random, known));
    }
    // Some of its names are the runtime's.
    by_runtime(append)
}

fn random_checkpoint(random: &mut fastrand::Rng, known: &Known<'_>) -> CheckpointRecord {
    let from = match random.u8(..4) {
        0 => MoveFrom::Anywhere,
        1 => MoveFrom::Earlier,
        _ => MoveFrom::Exactly(known.checkpoint),
    };
    let partition = if random.u8(..8) == 0 { Some(Label::new("p").unwrap()) } else { None };
    let position = Position(known.checkpoint.0 + random.u64(..4));
    let checkpoint = Checkpoint {
        store: known.store,
        partition: Partition(partition),
        position,
        hash: Hash([9; 32]),
    };
    CheckpointRecord { consumer: consumer(), from, checkpoint }
}

pub(crate) fn consumer() -> Label {
    Label::new("consumer").unwrap()
}
