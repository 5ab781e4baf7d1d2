//! A random run on a simulated disk that crashes at every kind of point, held against the memory backend.
//!
//! `LEFTFOLD_SEED` repeats a run, `LEFTFOLD_CRASHES` says how many crash points it has, `LEFTFOLD_LONG=1` that they are many.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{
    Append, AppendError, Backend, Hash, Label, MemoryBackend, NewEvent, Outcome, Partition, Position, Read, RecordedEvent,
    Signal, Store, StoreId, StreamName, Version,
};
use leftfold_core::testing::extent;
use leftfold_log::disk::{Fault, Simulated, Use};
use leftfold_log::{Log, OpenError, Options, Upkeep};
use support::{Known, TestClock, consumer, number, random_append, random_query, seed, stream, tell, wait};

#[test]
fn the_log_is_the_model_through_crashes_of_every_kind() {
    let seed = seed();
    let crashes = number("LEFTFOLD_CRASHES", extent(2_000, 50_000));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = BTreeMap::<String, u64>::new();
    let mut total = 0;
    while total < crashes {
        let mut run = Run::new(&mut random);
        for _ in 0..8 {
            total += run.life(&mut counts);
        }
    }
    let lines: String = counts.iter().map(|(kind, count)| format!("\n{count:>6} {kind}")).collect();
    tell(&format!("seed {seed}: {total} crash points{lines}"));
    assert!(counts.get("crash in recovery").is_some_and(|count| *count > 0), "no crash came during recovery");
}

const SOURCE: StoreId = StoreId(uuid::Uuid::from_u128(5));

/// One store, through several lives.
struct Run {
    random: fastrand::Rng,
    disk: Simulated,
    clock: Arc<TestClock>,
    options: Options,
    /// What is known to be in the log, in order.
    accepted: Vec<Append>,
    /// What may have become durable, in order, all or nothing of each, and only a first part of them.
    unknown: Vec<Append>,
    model: Store,
    model_backend: Arc<dyn Backend>,
    /// What was read of the log: it never changes.
    seen: Vec<(RecordedEvent, Hash)>,
    snapshots: BTreeMap<Bytes, Vec<Bytes>>,
}

/// How a life ends.
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
            memory_bytes: 1 << random.u32(14..22),
            upkeep: Upkeep::Inline,
            clock: Arc::clone(&clock) as Arc<dyn leftfold_log::Clock>,
            ..Options::default()
        };
        Self {
            disk: Simulated::new(random.u64(..)),
            random,
            clock,
            options,
            accepted: Vec::new(),
            unknown: Vec::new(),
            model: Store::shared(Arc::clone(&model_backend)),
            model_backend,
            seen: Vec::new(),
            snapshots: BTreeMap::new(),
        }
    }

    /// One life. Returns how many crash points it had.
    fn life(&mut self, counts: &mut BTreeMap<String, u64>) -> u64 {
        let mut points = 0;
        let log = loop {
            if self.random.u8(..4) == 0 {
                self.plan(Fault::Stop, 8);
            }
            match Log::open_on(Arc::new(self.disk.clone()), self.options.clone()) {
                Ok((log, _)) if !self.disk.is_stopped() => break log,
                Ok(_) | Err(OpenError::Io { .. }) if self.disk.is_stopped() => {
                    points += 1;
                    *counts.entry("crash in recovery".to_owned()).or_default() += 1;
                    self.disk = self.disk.crash();
                }
                Ok(_) => unreachable!("the disk has stopped or it has not"),
                Err(error) => panic!("the log does not open: {error}"),
            }
        };
        self.disk.plan_nothing();
        self.settle(&log);
        let kind = match self.random.u8(..10) {
            0..7 => Some(self.plan(Fault::Stop, 20)),
            7 => Some(self.plan(Fault::Fail, 20)),
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
        let dead = if matches!(end, End::Kill | End::Crash) { Some(self.disk.kill()) } else { None };
        let stopped = self.disk.is_stopped();
        drop(log);
        self.disk.set_room(None);
        let what = match kind {
            Some(kind) if stopped || self.disk.is_stopped() => format!("crash at {kind:?}"),
            _ => format!("{end:?}"),
        };
        *counts.entry(what.clone()).or_default() += 1;
        self.disk = match dead {
            Some(disk) if end == End::Kill && !what.starts_with("crash") => disk,
            _ => self.disk.crash(),
        };
        points + u64::from(what.starts_with("crash") || end == End::Crash)
    }

    fn plan(&mut self, fault: Fault, within: u64) -> Use {
        let kind = Use::CHANGES[self.random.usize(..Use::CHANGES.len())];
        // Rarer uses come sooner, or they would hardly ever be stopped at.
        let within = if matches!(kind, Use::Write | Use::Sync) { within } else { within / 4 };
        self.disk.plan(kind, 1 + self.random.u64(..within.max(1)), fault);
        kind
    }

    /// One use of the log, held against the model.
    fn step(&mut self, log: &Log) {
        match self.random.u8(..12) {
            0..8 => self.append(log),
            8 => self.read(log),
            9 => self.snapshot(log),
            10 => self.clock.shift([-40, 1_000, 5_000_000][self.random.usize(..3)]),
            _ => self.look_up(log),
        }
    }

    fn append(&mut self, log: &Log) {
        let model = self.model.clone();
        let known = Known {
            head: model.head().position,
            version: &|name: &StreamName| wait(model.version(name.clone())).unwrap(),
            checkpoint: stands(&*self.model_backend)[0].unwrap_or(Position::START),
            store: SOURCE,
        };
        let appends: Vec<Append> = (0..=self.random.usize(..3)).map(|_| random_append(&mut self.random, &known)).collect();
        let pending = log.append_together(appends.clone());
        for (append, pending) in appends.into_iter().zip(pending) {
            let outcome = wait(pending);
            match outcome {
                Err(AppendError::Unknown { .. }) => self.unknown.push(append),
                Err(AppendError::Full { .. }) => self.disk.set_room(None),
                Err(AppendError::ReadOnly { .. } | AppendError::Closed) => {}
                Err(AppendError::Read(_)) if self.disk.is_stopped() => {}
                judged if !self.unknown.is_empty() => {
                    assert!(
                        !matches!(judged, Ok(Outcome::Appended(_))),
                        "nothing is appended after what is unknown: {judged:?} of {append:?}"
                    );
                }
                judged => {
                    let expected = wait(self.model.append(append.clone()));
                    assert_eq!(comparable(judged), comparable(expected.clone()), "of {append:?}");
                    if matches!(expected, Ok(Outcome::Appended(_))) {
                        self.accepted.push(append);
                    }
                }
            }
        }
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
            Err(error) => return assert!(self.disk.is_stopped(), "{read:?} fails: {error}"),
            Ok(found) => found,
        };
        if self.unknown.is_empty() {
            let expected = wait(self.model.read(read.clone()).all()).unwrap();
            let bare = |events: Vec<RecordedEvent>| events.into_iter().map(bare).collect::<Vec<_>>();
            assert_eq!(bare(found), bare(expected), "of {read:?}");
        }
    }

    fn look_up(&mut self, log: &Log) {
        if self.disk.is_stopped() || !self.unknown.is_empty() {
            return;
        }
        let id = leftfold_core::store::EventId(uuid::Uuid::from_u128(u128::from(self.random.u8(..8))));
        assert_eq!(wait(log.positions_of(id, 5)).unwrap(), wait(self.model.positions_of(id, 5)).unwrap());
        let command = leftfold_core::store::CommandId([self.random.u8(..20); 16]);
        let kept = |answered: Option<leftfold_core::store::Answered>| {
            answered.map(|answered| (answered.record, answered.first, answered.events))
        };
        assert_eq!(kept(wait(log.answered(command)).unwrap()), kept(wait(self.model.answered(command)).unwrap()));
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

    /// After opening: what was accepted is there, what was unknown is there or not, a first part of it and each whole;
    /// what was seen before is as it was.
    fn settle(&mut self, log: &Log) {
        let store = Store::new(log.clone());
        let all = wait(store.read(Read::matching(leftfold_core::store::Query::everything(), Position(1))).all()).unwrap();
        let found: Vec<(NewEvent, Version)> = all.iter().cloned().map(bare).collect();
        let mut candidates = vec![];
        for kept in 0..=self.unknown.len() {
            let backend = self.rebuilt(kept);
            let model = Store::shared(Arc::clone(&backend));
            let expected =
                wait(model.read(Read::matching(leftfold_core::store::Query::everything(), Position(1))).all()).unwrap();
            let same = expected.into_iter().map(bare).collect::<Vec<_>>() == found
                && (0..20).all(|n| {
                    let id = leftfold_core::store::CommandId([n; 16]);
                    let answer = |store: &Store| wait(store.answered(id)).unwrap().map(|answered| answered.record);
                    answer(&model) == answer(&store)
                })
                && stands(&*backend) == stands(log);
            if same {
                candidates.push((kept, backend));
            }
        }
        let Some((kept, backend)) = candidates.pop() else {
            panic!("the log holds {} events, which is not what was accepted, nor with what was unknown", found.len());
        };
        self.accepted.extend(self.unknown.drain(..).take(kept));
        self.model = Store::shared(Arc::clone(&backend));
        self.model_backend = backend;
        for (position, (event, hash)) in (1..).zip(&self.seen) {
            assert_eq!(all.get(position as usize - 1), Some(event), "what was seen stays");
            assert_eq!(wait(log.hash_at(Position(position))).unwrap(), Some(*hash), "and so does its hash");
        }
        for event in all.iter().skip(self.seen.len()) {
            let hash = wait(log.hash_at(event.position)).unwrap().unwrap();
            self.seen.push((event.clone(), hash));
        }
        for (position, event) in (1..).zip(&all) {
            assert_eq!(event.position, Position(position), "positions have no gap");
        }
        self.follow(&store, &all);
        self.moments(log, &all);
    }

    fn rebuilt(&self, kept: usize) -> Arc<dyn Backend> {
        let model = Arc::new(MemoryBackend::new());
        for append in self.accepted.iter().chain(self.unknown.iter().take(kept)) {
            // Of what was unknown some was judged to be a conflict; then it changes nothing here either.
            let _ = wait(model.append(append.clone()));
        }
        model
    }

    fn follow(&mut self, store: &Store, all: &[RecordedEvent]) {
        let after = self.random.u64(..=all.len() as u64);
        let query = random_query(&mut self.random);
        let expected = all.iter().skip(after as usize).filter(|event| query.matches(event)).cloned().collect::<Vec<_>>();
        let mut subscription = store.subscribe(query.clone(), Position(after));
        let mut found = Vec::new();
        loop {
            match wait(subscription.next()).unwrap() {
                Signal::Event(event) => found.push(event),
                Signal::CaughtUp(through) => break assert_eq!(through, store.head().position),
                Signal::Progress(_) | Signal::FellBehind(_) => {}
            }
        }
        assert_eq!(found, expected, "of {query:?} after {after}");
    }

    fn moments(&mut self, log: &Log, all: &[RecordedEvent]) {
        let Some(event) = self.random.choice(all) else { return };
        let at = event.recorded_at;
        let expected = all.iter().filter(|event| event.recorded_at <= at).count() as u64;
        assert_eq!(wait(log.position_at(at)).unwrap(), Position(expected));
    }
}

/// What of an event is the caller's, and its version.
fn bare(event: RecordedEvent) -> (NewEvent, Version) {
    let version = event.version();
    let minted = event.id.0.get_version_num() == 7;
    let new = NewEvent {
        stream: event.stream.map(|at| at.name),
        event_type: event.event_type,
        schema_version: event.schema_version,
        content_type: event.content_type,
        data: event.data,
        metadata: event.metadata,
        tags: event.tags,
        id: (!minted).then_some(event.id),
        key_ids: event.key_ids,
    };
    (new, version)
}

/// An answer without its time.
fn comparable(outcome: Result<Outcome, AppendError>) -> Result<Outcome, AppendError> {
    let never = leftfold_core::store::Timestamp::MIN;
    outcome.map(|outcome| match outcome {
        Outcome::Appended(mut appended) => {
            appended.recorded_at = never;
            Outcome::Appended(appended)
        }
        Outcome::Repeated(mut answered) => {
            answered.recorded_at = never;
            Outcome::Repeated(answered)
        }
        Outcome::Conflict(conflict) => Outcome::Conflict(conflict),
    })
}

/// Where the consumer stands in the default partition, and in another.
fn stands(backend: &dyn Backend) -> [Option<Position>; 2] {
    [None, Some(Label::new("p").unwrap())].map(|partition| {
        let checkpoint = wait(backend.checkpoint(consumer(), SOURCE, Partition(partition))).unwrap();
        checkpoint.map(|checkpoint| checkpoint.position)
    })
}
