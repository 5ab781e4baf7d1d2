//! Requests that say in their events who sent them, and a ledger of those that were accepted, which
//! is held against the store in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold_core::store::{
    Append, AppendError, CommandId, CommandRecord, Condition, Digest, EventType, Expected,
    NewEvent, Outcome, Position, Query, Read, ReadError, RecordedEvent, Store, StreamName, Version,
};
use leftfold_postgres::PostgresStore;
use tokio::time::interval;

/// Streams that every writer writes to, under their exact versions.
const CONTENDED: u64 = 2;
/// Wait before a request is repeated that the store could not answer.
const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// The requests of each writer that were accepted: the position of the first event of each, by
/// the number of the request less 1.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, Vec<Position>>);

/// Hands a request over until it is accepted, as often under the same command id as it takes, and
/// returns the position of its first event. Each error that the store answered is told to `heard`.
///
/// # Panics
/// If the store answers an error after which a repetition is no use.
pub(crate) async fn accept(
    store: &Store,
    writer: &str,
    number: u64,
    heard: impl FnMut(&AppendError),
) -> Position {
    repeat(|| attempt(store, writer, number), heard).await
}

/// The same for a request that writes to the writer's own stream only, for which nothing is read.
pub(crate) async fn accept_own(
    store: &Store,
    writer: &str,
    number: u64,
    heard: impl FnMut(&AppendError),
) -> Position {
    repeat(|| store.append(request(writer, number)), heard).await
}

async fn repeat<F: Future<Output = Result<Outcome, AppendError>>>(
    attempt: impl Fn() -> F,
    mut heard: impl FnMut(&AppendError),
) -> Position {
    let mut pauses = interval(REPEAT_AFTER);
    loop {
        let error = match attempt().await {
            Ok(Outcome::Appended(appended)) => return appended.first,
            Ok(Outcome::Repeated(answered)) => return answered.first,
            Ok(Outcome::Conflict(_)) => continue,
            Err(error) => error,
        };
        let may_pass = matches!(
            error,
            AppendError::Unavailable { .. }
                | AppendError::Unknown { .. }
                | AppendError::Full { .. }
                | AppendError::Read(ReadError::Io { .. })
                | AppendError::ReadOnly { .. }
        );
        assert!(may_pass, "{error:?}");
        heard(&error);
        pauses.reset();
        pauses.tick().await;
    }
}

/// Hands a request over once. One with an odd number also writes to a stream that others write to,
/// and expects the version that it has now.
pub(crate) async fn attempt(
    store: &Store,
    writer: &str,
    number: u64,
) -> Result<Outcome, AppendError> {
    let mut append = request(writer, number);
    if number % 2 == 1 {
        let stream = StreamName::of("contended", &(number / 2 % CONTENDED).to_string()).unwrap();
        let version = store.version(stream.clone()).await.map_err(AppendError::Read)?;
        append.events.push(event(writer, number).in_stream(stream.clone()));
        append.condition = Condition::stream(stream, Expected::Exact(version));
    }
    store.append(append).await
}

/// A request with one event in the writer's own stream. No version is expected: nothing but its
/// command id keeps it from being carried out twice.
pub(crate) fn request(writer: &str, number: u64) -> Append {
    let events = vec![event(writer, number).in_stream(own_stream(writer))];
    let command = CommandRecord {
        id: CommandId::new(writer, &number.to_string()),
        digest: Digest::of(b"the same"),
        answer: number.to_string().into(),
    };
    Append { command: Some(command), ..Append::of(events) }
}

fn event(writer: &str, number: u64) -> NewEvent {
    let data = format!(r#"{{"writer":"{writer}","number":{number}}}"#);
    NewEvent::new(EventType::new("test.Happened").unwrap(), data)
}

fn own_stream(writer: &str) -> StreamName {
    StreamName::of("own", writer).unwrap()
}

impl Ledger {
    /// Notes that the next request of a writer was accepted.
    pub(crate) fn note(&mut self, writer: &str, number: u64, position: Position) {
        let accepted = self.0.entry(writer.to_owned()).or_default();
        accepted.push(position);
        assert_eq!(accepted.len() as u64, number, "{writer} sends one request after the other");
    }

    /// Returns the number of requests of a writer that were accepted.
    pub(crate) fn accepted(&self, writer: &str) -> u64 {
        self.0.get(writer).map_or(0, |accepted| accepted.len() as u64)
    }

    /// Returns the number of requests that were accepted.
    pub(crate) fn all(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Holds the ledger against a store: what was accepted is there once and in its place, there
    /// is no gap, and the chain is that of the rows.
    pub(crate) async fn check(&self, backend: &PostgresStore) -> Vec<RecordedEvent> {
        let store = Store::new(backend.clone());
        let events = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
        let mut versions: BTreeMap<StreamName, Version> = BTreeMap::new();
        for (event, position) in events.iter().zip(1..) {
            assert_eq!(event.position, Position(position), "positions have no gap");
            let at = event.stream.clone().expect("every event is in a stream");
            let version = versions.entry(at.name).or_default();
            *version = version.next();
            assert_eq!(at.version, *version, "versions have no gap");
        }
        for (writer, accepted) in &self.0 {
            let own = own_stream(writer);
            let of_writer = events
                .iter()
                .filter(|event| event.stream.as_ref().is_some_and(|at| at.name == own));
            let mut numbers = 0;
            for (event, number) in of_writer.zip(1..) {
                numbers = number;
                let expected = format!(r#"{{"writer":"{writer}","number":{number}}}"#);
                assert_eq!(event.data, expected, "each request of {writer} is there once");
                if let Some(position) = accepted.get(number as usize - 1) {
                    assert_eq!(event.position, *position, "{writer} {number} was accepted there");
                }
            }
            assert!(numbers >= accepted.len() as u64, "{writer}: {numbers} of {accepted:?}");
        }
        let report = backend.verify(|_| {}).await.unwrap();
        // More may have been written since they were read.
        assert!(report.events >= events.len() as u64, "{report:?}");
        events
    }
}
