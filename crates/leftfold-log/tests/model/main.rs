//! A random run on a simulated disk that crashes at every kind of point, compared with the memory
//! backend.
//!
//! `LEFTFOLD_SEED` repeats a run, `LEFTFOLD_CRASHES` says how many crash points it has,
//! `LEFTFOLD_LONG=1` that they are many.

mod age;
mod judge;
mod settle;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{
    Append, AppendError, Backend, CommandId, EventId, Hash, Label, MemoryBackend, Outcome,
    Partition, Position, Read, RecordedEvent, Store, StoreId, Version,
};
use leftfold_log::disk::{DiskUse, Fault, Simulated};
use leftfold_log::{ClockBehind, Log, LogOpenError, Options, Upkeep, restore_on};
use leftfold_testing::extent;

use judge::{Answer, comparable, refusal};
use settle::{bare, kept};
use support::gate::Gate;
use support::hooked::Hooked;
use support::{TestClock, consumer, number, random_query, seed, stream, tell, wait};

#[test]
fn the_log_is_the_model_through_crashes_of_every_kind() {
    let seed = seed();
    let crashes = number("LEFTFOLD_CRASHES", extent(1_500, 50_000));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = BTreeMap::<String, u64>::new();
    let mut total = 0;
    while total < crashes {
        let mut run = Run::new(&mut random);
        for _ in 0..8 {
            total += run.life();
        }
        for (kind, count) in run.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    let lines: String = counts.iter().map(|(kind, count)| format!("\n{count:>7} {kind}")).collect();
    tell(&format!("seed {seed}: {total} crash points{lines}"));
    for kind in [
        "crash in recovery",
        "crash in a restore",
        "look-up held",
        "refused after an unknown outcome",
        "read failed",
    ] {
        assert!(counts.get(kind).is_some_and(|count| *count > 0), "there was no {kind}");
    }
}

const SOURCE: StoreId = StoreId(uuid::Uuid::from_u128(5));
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// One store, through several lives.
struct Run {
    random: fastrand::Rng,
    disk: Simulated,
    gate: Arc<Gate>,
    clock: Arc<TestClock>,
    options: Options,
    /// Appends known to be in the log, in order.
    accepted: Vec<Append>,
    /// Appends that may have become durable, in order, all or nothing of each, and only a first
    /// part of them.
    unknown: Vec<Append>,
    /// Only what is known to be in the log.
    model: Store,
    model_backend: Arc<dyn Backend>,
    /// Events that were read of the log: they never change.
    seen: Vec<RecordedEvent>,
    hashes: BTreeMap<Position, Hash>,
    snapshots: BTreeMap<Bytes, Vec<Bytes>>,
    /// Appends so far of which each has a name of its own.
    fillers: u64,
    reads: Reads,
    counts: BTreeMap<String, u64>,
}

/// Reliability of reads of the disk in this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Sound,
    MayFail,
}

/// Way in which a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Drop,
    Kill,
    Crash,
}

impl Run {
    fn new(random: &mut fastrand::Rng) -> Self {
        let mut random = random.fork();
        let model_backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let clock = Arc::new(TestClock::default());
        let options = Options {
            segment_bytes: 4 << random.u32(10..16),
            // The smallest, most often: memory then goes back over some dozens of groups.
            memory_bytes: 1 << random.u32(14..22).min(random.u32(14..22)),
            upkeep: Upkeep::Inline,
            clock: Arc::clone(&clock) as Arc<dyn leftfold_log::LogClock>,
            clock_behind: ClockBehind::GoOn,
            ..Options::default()
        };
        Self {
            disk: Simulated::new(random.u64(..)),
            gate: Arc::default(),
            random,
            clock,
            options,
            accepted: Vec::new(),
            unknown: Vec::new(),
            model: Store::shared(Arc::clone(&model_backend)),
            model_backend,
            seen: Vec::new(),
            hashes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            fillers: 0,
            reads: Reads::Sound,
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }

    /// One life. Returns how many crash points it had.
    fn life(&mut self) -> u64 {
        let mut points = if self.random.u8(..12) == 0 { self.restore() } else { 0 };
        let log = self.open(&mut points);
        self.disk.plan_nothing();
        self.settle(&log);
        self.reads = Reads::Sound;
        let kind = match self.random.u8(..10) {
            0..6 => Some(self.plan(Fault::Stop, 20)),
            6 => Some(self.plan(Fault::Fail, 20)),
            7 => {
                self.disk.plan(DiskUse::Read, 1 + self.random.u64(..10), Fault::Fail);
                self.reads = Reads::MayFail;
                None
            }
            8 => {
                self.disk.set_room(Some(self.random.u64(..20_000)));
                None
            }
            _ => None,
        };
        for _ in 0..self.random.u32(..30) {
            self.step(&log);
        }
        let end = [End::Close, End::Drop, End::Kill, End::Crash][self.random.usize(..4)];
        if end == End::Close {
            let _ = wait(log.close());
        }
        let dead =
            if matches!(end, End::Kill | End::Crash) { Some(self.disk.kill()) } else { None };
        let stopped = self.disk.is_stopped();
        drop(log);
        self.disk.set_room(None);
        let what = match kind {
            Some(kind) if stopped || self.disk.is_stopped() => format!("crash at {kind:?}"),
            _ => format!("{end:?}"),
        };
        self.count(&what);
        self.disk = match dead {
            Some(disk) if end == End::Kill && !what.starts_with("crash") => disk,
            _ => self.disk.crash(),
        };
        points + u64::from(what.starts_with("crash") || end == End::Crash)
    }

    /// Opens the log, over crashes and failing reads in between.
    fn open(&mut self, points: &mut u64) -> Log {
        loop {
            let mut reads = Reads::Sound;
            match self.random.u8(..16) {
                0..4 => drop(self.plan(Fault::Stop, 8)),
                4 => {
                    self.disk.plan(DiskUse::Read, 1 + self.random.u64(..30), Fault::Fail);
                    reads = Reads::MayFail;
                }
                _ => {}
            }
            let disk = Arc::new(Hooked(self.disk.clone(), Arc::clone(&self.gate)));
            match Log::open_on(disk, self.options.clone()) {
                Ok((log, _)) if !self.disk.is_stopped() => return log,
                Ok(_) | Err(LogOpenError::Io { .. }) if self.disk.is_stopped() => {
                    *points += 1;
                    self.count("crash in recovery");
                    self.disk = self.disk.crash();
                }
                Err(LogOpenError::Io { .. }) if reads == Reads::MayFail => {
                    self.count("read failed in recovery");
                    self.disk.plan_nothing();
                }
                Ok(_) => unreachable!("the disk has stopped or it has not"),
                Err(error) => panic!("the log does not open: {error}"),
            }
        }
    }

    /// Declares that the log is a copy that was brought back. Returns how many crash points that
    /// had.
    fn restore(&mut self) -> u64 {
        if self.accepted.is_empty() {
            return 0;
        }
        if self.random.bool() {
            self.plan(Fault::Stop, 8);
        }
        let restored = restore_on(Arc::new(self.disk.clone()), self.options.clone());
        if self.disk.is_stopped() {
            self.count("crash in a restore");
            self.disk = self.disk.crash();
            return 1;
        }
        self.disk.plan_nothing();
        match restored {
            Ok(_) => self.count("restore"),
            Err(error) => panic!("a restore cannot be declared: {error}"),
        }
        0
    }

    fn plan(&mut self, fault: Fault, within: u64) -> DiskUse {
        let kind = DiskUse::CHANGES[self.random.usize(..DiskUse::CHANGES.len())];
        // Rarer uses come sooner, or they would hardly ever be stopped at.
        let within =
            if matches!(kind, DiskUse::Write | DiskUse::Sync) { within } else { within / 4 };
        self.disk.plan(kind, 1 + self.random.u64(..within.max(1)), fault);
        kind
    }

    /// One use of the log, compared with the model.
    fn step(&mut self, log: &Log) {
        match self.random.u8(..26) {
            0..12 => self.append_together(log),
            12..16 => self.append_side_by_side(log),
            16 => self.append_held(log),
            17..20 => self.read(log),
            20..22 => self.snapshot(log),
            22 => self.clock.shift([1_000, 5_000_000][self.random.usize(..2)]),
            23 => self.clock.jump(
                [-40, 3_600_000_000, -40 * DAY_MICROS, 40 * DAY_MICROS][self.random.usize(..4)],
            ),
            _ => self.look_up(log),
        }
    }

    fn append_together(&mut self, log: &Log) {
        let appends: Vec<Append> =
            (0..=self.random.usize(..3)).map(|_| self.random_append()).collect();
        let pending = log.append_together(appends.clone());
        for (append, pending) in appends.into_iter().zip(pending) {
            let answer = wait(pending);
            self.judge(append, answer, &[]);
        }
    }

    /// Checks an answer against the model, which knows all that was judged before. What the append
    /// would have been refused with at earlier heads may be answered too, if it lasts.
    fn judge(&mut self, append: Append, answer: Answer, earlier: &[Option<Answer>]) {
        match answer {
            Err(AppendError::Unknown { .. }) => return self.unknown.push(append),
            Err(AppendError::Full { .. }) => return self.disk.set_room(None),
            Err(AppendError::ReadOnly { .. } | AppendError::Closed) => return,
            Err(AppendError::Read(_)) if self.may_not_read() => return self.count("read failed"),
            _ => {}
        }
        let now = refusal(&*self.model_backend, &append);
        if matches!(answer, Ok(Outcome::Appended(_))) {
            assert!(
                self.unknown.is_empty(),
                "nothing is appended after what is unknown: {answer:?} of {append:?}"
            );
            assert!(now.is_none(), "it had to be refused with {now:?}: {append:?}");
            let expected = wait(self.model.append(append.clone()));
            assert_eq!(comparable(answer), comparable(expected), "of {append:?}");
            return self.accepted.push(append);
        }
        if !self.unknown.is_empty() {
            // It is known of the model, so of what is durable: never of what may not be.
            self.count("refused after an unknown outcome");
        }
        let Some(now) = now.map(comparable) else {
            panic!("nothing speaks against it, but it is {answer:?}: {append:?}")
        };
        let answer = comparable(answer);
        let lasts = matches!(now, Ok(Outcome::Conflict(_)))
            && earlier.iter().flatten().any(|earlier| comparable(earlier.clone()) == answer);
        assert!(
            answer == now || lasts,
            "{answer:?} instead of {now:?}, nor was it {earlier:?} before: {append:?}"
        );
    }

    fn may_not_read(&self) -> bool {
        self.reads == Reads::MayFail || self.disk.is_stopped()
    }

    fn read(&mut self, log: &Log) {
        let store = Store::new(log.clone());
        let mut read = if self.random.bool() {
            Read::matching(random_query(&mut self.random), Position(self.random.u64(..30)))
        } else {
            Read::stream(stream("a-1"), Version(self.random.u64(..5)))
        };
        if self.random.bool() {
            read = read.backwards();
        }
        read.page_events = 1 + self.random.u32(..10);
        read.page_bytes = 1 + self.random.u32(..4_000);
        let found = match wait(store.read(read.clone()).all()) {
            Err(error) => {
                assert!(self.may_not_read(), "{read:?} fails: {error}");
                return self.count("read failed");
            }
            Ok(found) => found,
        };
        // Of what is unknown nothing is shown.
        let expected = wait(self.model.read(read.clone()).all()).unwrap();
        let bare = |events: Vec<RecordedEvent>| events.into_iter().map(bare).collect::<Vec<_>>();
        assert_eq!(bare(found), bare(expected), "of {read:?}");
    }

    fn look_up(&mut self, log: &Log) {
        if self.may_not_read() {
            return;
        }
        let store = Store::new(log.clone());
        let id = EventId(uuid::Uuid::from_u128(u128::from(self.random.u8(..8))));
        assert_eq!(
            wait(log.positions_of(id, 5)).unwrap(),
            wait(self.model.positions_of(id, 5)).unwrap()
        );
        let command = CommandId([self.random.u8(..20); 16]);
        assert_eq!(kept(&store, command), kept(&self.model, command));
        assert_eq!(stands(log), stands(&*self.model_backend));
    }

    fn snapshot(&mut self, log: &Log) {
        let key = Bytes::from(vec![self.random.u8(..4)]);
        if let Ok(Some(value)) = wait(log.snapshot(key.clone())) {
            let kept = self.snapshots.get(&key).is_some_and(|kept| kept.contains(&value));
            assert!(kept, "a snapshot is one that was kept under its key");
        }
        let value = Bytes::from(vec![self.random.u8(..); self.random.usize(..300)]);
        self.snapshots.entry(key.clone()).or_default().push(value.clone());
        log.keep_snapshot(key, value);
    }
}

/// Returns where the consumer stands in the default partition, and in another.
fn stands(backend: &dyn Backend) -> [Option<Position>; 2] {
    [None, Some(Label::new("p").unwrap())].map(|partition| {
        let checkpoint =
            wait(backend.checkpoint(consumer(), SOURCE, Partition(partition))).unwrap();
        checkpoint.map(|checkpoint| checkpoint.position)
    })
}
