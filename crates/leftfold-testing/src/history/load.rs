//! A random concurrent workload, small enough in its names that its appends collide.

use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{
    Append, CommandId, CommandRecord, Condition, Digest, EventType, Expected, NewEvent, Position,
    Query, Read, Store, StreamName, Tags, Version,
};
use tokio::task::JoinSet;

use super::AppendHistory;

/// Runs this number of tasks with this number of appends each against the store, and returns their
/// record.
///
/// Conditions are of every kind, and chosen so that many hold and many fail. The choices, not the
/// interleaving, follow from the seed.
///
/// # Panics
/// If the store answers with an error: nothing here is beyond a limit.
pub async fn load(store: &Store, seed: u64, tasks: usize, appends: usize) -> AppendHistory {
    let history = Arc::new(AppendHistory::of(store));
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let client = LoadClient {
            store: store.clone(),
            history: Arc::clone(&history),
            choices: fastrand::Rng::with_seed(seed.wrapping_add(task as u64)),
            seen: store.head().position,
            name: format!("{seed}-{task}"),
            scope: format!("load {seed}"),
        };
        running.spawn(client.run(appends));
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a task of the load ends without a panic");
    }
    Arc::try_unwrap(history).expect("every task of the load has ended")
}

struct LoadClient {
    store: Store,
    history: Arc<AppendHistory>,
    choices: fastrand::Rng,
    /// Position up to which the client last read: the window of its conditions begins here.
    seen: Position,
    name: String,
    scope: String,
}

const STREAMS: u32 = 4;
const TAGS: u32 = 5;
const TYPES: u32 = 3;

impl LoadClient {
    async fn run(mut self, appends: usize) {
        for number in 0..appends {
            if self.choices.u8(..4) > 0 {
                self.seen = self.store.head().position;
            }
            let mut append = self.append(number).await;
            if self.choices.u8(..4) == 0 {
                append.command = Some(self.command());
            }
            if self.choices.bool() {
                tokio::task::yield_now().await;
            }
            let outcome = self.history.append(&self.store, append).await;
            assert!(
                outcome.is_ok(),
                "the store answered {outcome:?} to an append within its limits"
            );
        }
    }

    async fn append(&mut self, number: usize) -> Append {
        let count = [0, 1, 1, 1, 2, 3, 5][self.choices.usize(..7)];
        let events = (0..count).map(|index| self.event(number, index)).collect();
        Append::of(events).when(self.condition().await)
    }

    fn event(&mut self, number: usize, index: usize) -> NewEvent {
        let data = format!(r#"{{"by":"{}","append":{number},"event":{index}}}"#, self.name);
        let mut event = NewEvent::new(self.event_type(), data);
        if self.choices.u8(..5) > 0 {
            event = event.in_stream(self.stream());
        }
        let tags = (0..self.choices.u8(..3)).fold(Tags::none(), |tags, _| tags.with(self.tag()));
        event.tagged(tags)
    }

    async fn condition(&mut self) -> Condition {
        let mut condition = Condition::none();
        if self.choices.bool() {
            let stream = self.stream();
            let expected = self.expected(&stream).await;
            condition.streams.push((stream, expected));
            if self.choices.u8(..4) == 0 {
                condition.streams.push((self.stream(), Expected::Exists));
            }
        }
        for _ in 0..[0, 0, 1, 1, 2][self.choices.usize(..5)] {
            let after = if self.choices.u8(..16) == 0 { Position::START } else { self.seen };
            condition = condition.and_none_matching(self.query(), after);
        }
        condition
    }

    async fn expected(&mut self, stream: &StreamName) -> Expected {
        match self.choices.u8(..16) {
            0 => Expected::Absent,
            1 => Expected::Any,
            2 => Expected::Exists,
            3 => Expected::Exact(Version(self.choices.u64(..50))),
            _ => {
                let last = self
                    .store
                    .page(Read::stream(stream.clone(), Version::END).backwards().page_of(1))
                    .await;
                let version =
                    last.expect("the store can be read").stream_version.unwrap_or(Version::ABSENT);
                Expected::Exact(version)
            }
        }
    }

    fn query(&mut self) -> Query {
        match self.choices.u8(..4) {
            0 => Query::tag(self.tag()),
            1 => Query::stream(self.stream()),
            2 => Query::types([self.event_type()]).and_tag(self.tag()),
            _ => Query::tag(self.tag())
                .and_tag(self.tag())
                .or(Query::stream(self.stream()).and_tag(self.tag())),
        }
    }

    /// From a pool that all clients share, so that requests meet their own repetition.
    fn command(&mut self) -> CommandRecord {
        let key = self.choices.u16(..200).to_string();
        let digest = Digest::of(key.as_bytes());
        CommandRecord { id: CommandId::new(&self.scope, &key), digest, answer: Bytes::from(key) }
    }

    fn stream(&mut self) -> StreamName {
        let number = self.choices.u32(..STREAMS);
        StreamName::of("load", &number.to_string()).expect("a category and a number are a name")
    }

    fn event_type(&mut self) -> EventType {
        EventType::new(format!("load.Happened{}", self.choices.u32(..TYPES)))
            .expect("a short text is a type")
    }

    fn tag(&mut self) -> String {
        format!("load:{}", self.choices.u32(..TAGS))
    }
}
