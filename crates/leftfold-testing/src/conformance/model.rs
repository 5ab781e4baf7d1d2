//! Random operations, compared with the memory backend; what differs is shrunk to the fewest
//! operations that still do.

use leftfold_core::store::{
    Append, Appended, Checkpoint, CheckpointRecord, CommandRecord, Digest, EventId, Expected, Hash,
    MemoryBackend, MoveFrom, NewEvent, Outcome, Partition, Position, Query, Read, RecordedEvent,
    Store, StoreId, Timestamp, Version,
};

use super::Factory;
use super::examples::{command, event_type, fact, label, stream, tagged};
use super::subject::TestedStore;
use crate::by_runtime;

const RUNS: u64 = 12;
const OPERATIONS: usize = 80;
/// Runs that shrinking may take.
const TRIES_MAX: u32 = 400;
const SOURCE: StoreId = StoreId(uuid::Uuid::from_u128(5));

/// One use of a store, which does not depend on what earlier ones were answered: so any of them can
/// be left out.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every operation is an append")]
enum Operation {
    Append(Append),
    Read(Read),
    Answered(CommandRecord),
    PositionsOf(EventId),
    Checkpoint,
    Reopen,
}

/// Whatever is done, in whatever order, the store answers as the memory backend does. A failure
/// names its seed, and the fewest operations that show it.
pub async fn random_operations_are_those_of_the_memory_backend(factory: &impl Factory) {
    let seed = crate::seed();
    for run in 0..RUNS {
        let mut choices = OperationGenerator(fastrand::Rng::with_seed(seed.wrapping_add(run)));
        let mut operations: Vec<Operation> = (0..OPERATIONS).map(|_| choices.operation()).collect();
        let Some(mut how) = difference(factory, &operations).await else { continue };
        let (mut index, mut tries) = (0, 0);
        while index < operations.len() && tries < TRIES_MAX {
            let mut fewer = operations.clone();
            fewer.remove(index);
            tries += 1;
            match difference(factory, &fewer).await {
                Some(still) => (operations, how) = (fewer, still),
                None => index += 1,
            }
        }
        panic!(
            "with seed {seed} the store differs from the memory backend: {how}\nafter {operations:#?}"
        );
    }
}

/// Describes the first difference between the answers of the store and of the memory backend;
/// `None` if there is none.
async fn difference<F: Factory>(factory: &F, operations: &[Operation]) -> Option<String> {
    let mut store = TestedStore::new(factory).await;
    let model = Store::shared(std::sync::Arc::new(MemoryBackend::new()));
    for operation in operations {
        let (found, expected) = match operation {
            Operation::Reopen => {
                store.reopen().await;
                continue;
            }
            Operation::Append(append) => {
                (appended(&store, append).await, appended(&model, append).await)
            }
            Operation::Read(read) => (all(&store, read).await, all(&model, read).await),
            Operation::Answered(record) => {
                let told = async |store: &Store| {
                    format!("{:?}", store.answered(record.id).await.map(|told| told.map(timeless)))
                };
                (told(&store).await, told(&model).await)
            }
            Operation::PositionsOf(id) => {
                let told = async |store: &Store| format!("{:?}", store.positions_of(*id, 9).await);
                (told(&store).await, told(&model).await)
            }
            Operation::Checkpoint => {
                let told = async |store: &Store| {
                    format!("{:?}", store.checkpoint_in(label("c"), SOURCE).await)
                };
                (told(&store).await, told(&model).await)
            }
        };
        if found != expected {
            return Some(format!("{operation:?} is answered {found}, not {expected}"));
        }
    }
    let everything = Read::matching(Query::everything(), Position(1));
    let (found, expected) = (all(&store, &everything).await, all(&model, &everything).await);
    (found != expected).then(|| format!("at the end there is {found}, not {expected}"))
}

/// The answer to an append, without its time.
async fn appended(store: &Store, append: &Append) -> String {
    let answer = store.append(by_runtime(append.clone())).await.map(|outcome| match outcome {
        Outcome::Appended(appended) => {
            Outcome::Appended(Appended { recorded_at: Timestamp::MIN, ..appended })
        }
        Outcome::Repeated(answered) => Outcome::Repeated(timeless(answered)),
        conflict @ Outcome::Conflict(_) => conflict,
    });
    format!("{answer:?}")
}

fn timeless(answered: leftfold_core::store::Answered) -> leftfold_core::store::Answered {
    leftfold_core::store::Answered { recorded_at: Timestamp::MIN, ..answered }
}

/// Shows the result of a read, without times and minted ids.
async fn all(store: &Store, read: &Read) -> String {
    let found = store.read(read.clone()).all().await;
    let bare = |event: RecordedEvent| {
        let id =
            if event.id.0.get_version_num() == 7 { EventId(uuid::Uuid::nil()) } else { event.id };
        RecordedEvent { recorded_at: Timestamp::MIN, id, ..event }
    };
    format!("{:?}", found.map(|found| found.into_iter().map(bare).collect::<Vec<_>>()))
}

struct OperationGenerator(fastrand::Rng);

impl OperationGenerator {
    fn operation(&mut self) -> Operation {
        match self.0.u8(..20) {
            0..13 => Operation::Append(self.append()),
            13..16 => Operation::Read(self.read()),
            16 => Operation::Answered(self.record()),
            17 => Operation::PositionsOf(self.id()),
            18 => Operation::Checkpoint,
            _ => Operation::Reopen,
        }
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.0.usize(..texts.len())]
    }

    fn stream(&mut self) -> &'static str {
        self.of(&["a-1", "a-2", "b-1", "$s-1"])
    }

    fn id(&mut self) -> EventId {
        EventId(uuid::Uuid::from_u128(u128::from(self.0.u8(1..6))))
    }

    fn record(&mut self) -> CommandRecord {
        let record = command(&self.0.u8(..12).to_string());
        if self.0.u8(..6) == 0 {
            CommandRecord { digest: Digest::of(b"other bytes"), ..record }
        } else {
            record
        }
    }

    fn event(&mut self) -> NewEvent {
        let mut event = fact(self.of(&["t.A", "t.B", "$t.C"]));
        let data: Vec<u8> = (0..self.0.usize(..40)).map(|_| self.0.u8(..)).collect();
        event.data = data.into();
        if self.0.u8(..5) > 0 {
            event = event.in_stream(stream(self.stream()));
        }
        if self.0.bool() {
            event = tagged(event, &[self.of(&["x", "y", "z"])]);
        }
        if self.0.u8(..5) == 0 {
            event.id = Some(self.id());
        }
        event
    }

    fn query(&mut self) -> Query {
        let one = match self.0.u8(..5) {
            0 => Query::tag(self.of(&["x", "y", "z"])),
            1 => Query::stream(stream(self.stream())),
            2 => Query::category(self.of(&["a", "b", "$s"])),
            3 => Query::types([event_type(self.of(&["t.A", "t.B", "$t.C"]))]),
            _ => Query::all(),
        };
        if self.0.u8(..3) == 0 { one.or(self.query()) } else { one }
    }

    fn append(&mut self) -> Append {
        let mut append = Append::of((0..self.0.usize(..4)).map(|_| self.event()).collect());
        for _ in 0..self.0.usize(..3) {
            let expected = match self.0.u8(..8) {
                0 => Expected::Absent,
                1 | 2 => Expected::Exists,
                3 => Expected::Any,
                _ => Expected::Exact(Version(self.0.u64(..6))),
            };
            append.condition.streams.push((stream(self.stream()), expected));
        }
        for _ in 0..[0, 0, 0, 1, 2][self.0.usize(..5)] {
            append.condition =
                append.condition.and_none_matching(self.query(), Position(self.0.u64(..40)));
        }
        if self.0.u8(..3) == 0 {
            append.command = Some(self.record());
        }
        if self.0.u8(..5) == 0 {
            append.checkpoint = Some(self.checkpoint());
        }
        append
    }

    fn checkpoint(&mut self) -> CheckpointRecord {
        let from = match self.0.u8(..3) {
            0 => MoveFrom::Anywhere,
            1 => MoveFrom::Earlier,
            _ => MoveFrom::Exactly(Position(self.0.u64(..4))),
        };
        let position = Position(self.0.u64(..6));
        let checkpoint = Checkpoint {
            store: SOURCE,
            partition: Partition::default(),
            position,
            hash: Hash([9; 32]),
        };
        CheckpointRecord { consumer: label("c"), from, checkpoint }
    }

    fn read(&mut self) -> Read {
        let from = self.0.u64(..40);
        let read = if self.0.bool() {
            Read::matching(self.query(), Position(from))
        } else {
            Read::stream(stream(self.stream()), Version(from / 6))
        };
        let read = read.page_of(self.0.u32(1..8));
        if self.0.bool() { read.backwards() } else { read }
    }
}
