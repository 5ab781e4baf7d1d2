//! The checker is tested with stores that lie: each planted bug is caught.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, Appended, AppendsFrom, AppendsPage, Backend, Checkpoint,
    CloseError, CommandId, CommandRecord, Condition, Conflict, Digest, EventId, EventType,
    Expected, Hash, HeldLease, Identity, Label, Lease, LeaseError, LeaseRequest, Leased,
    MemoryBackend, NewEvent, Outcome, Page, Partition, Pending, Position, Query, Read, ReadError,
    Status, Store, StoreId, StreamName, Timestamp, Version,
};
use tokio::sync::watch;

use super::{AppendHistory, HistoryViolation, load};

/// Fault of the wrapper, once in a while.
#[derive(Clone, Copy)]
enum Lie {
    /// Query conditions always hold.
    IgnoresQueries,
    /// Expectations on streams always hold.
    IgnoresStreams,
    /// Reports an event that does not match, or does not exist.
    InventsMatch,
    /// Reports a version that the stream does not have.
    InventsVersion,
    /// Acknowledges the last event of an append without keeping it.
    DropsEvent,
    /// Appends the events of one append one by one.
    Splits,
    /// Forgets command ids.
    ForgetsCommands,
    /// Appends what it refuses.
    AppendsDespiteConflict,
}

struct Liar {
    lie: Lie,
    honest: MemoryBackend,
    appends: AtomicUsize,
}

impl Liar {
    fn store(lie: Lie) -> Store {
        Store::new(Self { lie, honest: MemoryBackend::new(), appends: AtomicUsize::new(0) })
    }

    fn judged(&self, append: Append) -> Result<Outcome, AppendError> {
        let mut pending = self.honest.append(append);
        match std::pin::Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => unreachable!("the memory backend answers at once"),
        }
    }

    fn lied(&self, mut append: Append) -> Result<Outcome, AppendError> {
        match self.lie {
            Lie::IgnoresQueries => append.condition.none_matching.clear(),
            Lie::IgnoresStreams => append.condition.streams.clear(),
            Lie::ForgetsCommands => append.command = None,
            Lie::InventsMatch => {
                if let Some(none) = append.condition.none_matching.first() {
                    let conflict = Conflict::Matching {
                        clause: 0,
                        after: none.after,
                        found: none.after.next(),
                    };
                    return Ok(Outcome::Conflict(conflict));
                }
            }
            Lie::InventsVersion => {
                if let Some((stream, expected)) = append.condition.streams.first().cloned() {
                    return Ok(Outcome::Conflict(Conflict::Stream {
                        stream,
                        expected,
                        actual: Version(1_000),
                    }));
                }
            }
            Lie::DropsEvent => {
                if append.events.len() > 1 {
                    append.events.pop();
                    let outcome = self.judged(append);
                    return outcome.map(with_one_more);
                }
            }
            Lie::Splits => return self.split(append),
            Lie::AppendsDespiteConflict => {
                let events = append.events.clone();
                let outcome = self.judged(append);
                if matches!(outcome, Ok(Outcome::Conflict(_))) {
                    self.judged(Append::of(events))?;
                }
                return outcome;
            }
        }
        self.judged(append)
    }

    fn split(&self, append: Append) -> Result<Outcome, AppendError> {
        let mut events = append.events.into_iter();
        let first = self.judged(Append { events: events.by_ref().take(1).collect(), ..append })?;
        let Outcome::Appended(mut all) = first else { return Ok(first) };
        for event in events {
            let Outcome::Appended(next) = self.judged(Append::of(vec![event]))? else { continue };
            all.versions.extend(next.versions);
        }
        Ok(Outcome::Appended(all))
    }
}

fn with_one_more(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Appended(mut appended) => {
            appended.versions.push(Version(1));
            Outcome::Appended(appended)
        }
        other => other,
    }
}

impl Backend for Liar {
    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        let lies = self.appends.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        Pending::ready(if lies { self.lied(append) } else { self.judged(append) })
    }
    fn identity(&self) -> Identity {
        self.honest.identity()
    }
    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.honest.read(read)
    }
    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.honest.answered(id)
    }
    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.honest.checkpoint(consumer, source, partition)
    }
    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.honest.position_at(moment)
    }
    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.honest.appends(from, page_bytes)
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.honest.hash_at(position)
    }
    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.honest.positions_of(id, at_most)
    }
    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.honest.snapshot(key)
    }
    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.honest.keep_snapshot(key, value);
    }
    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.honest.lease(request)
    }
    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.honest.release(lease)
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.honest.leases()
    }
    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.honest.now()
    }
    fn status(&self) -> watch::Receiver<Status> {
        self.honest.status()
    }
    fn close(&self) -> Pending<(), CloseError> {
        self.honest.close()
    }
}

async fn verdict(store: &Store) -> Result<(), HistoryViolation> {
    let history = load(store, crate::seed(), 8, 100).await;
    history.verify(store).await.unwrap()
}

async fn caught(lie: Lie) -> HistoryViolation {
    verdict(&Liar::store(lie)).await.expect_err("the lie is caught")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_honest_store_passes_and_sees_every_kind_of_outcome() {
    let store = Store::memory();
    let history = load(&store, crate::seed(), 8, 300).await;
    assert_eq!(history.verify(&store).await.unwrap(), Ok(()));
    let (mut appended, mut repeated, mut streams, mut matching) = (0, 0, 0, 0);
    for attempt in history.attempts() {
        match attempt.answer.expect("every attempt was answered").outcome.unwrap() {
            Outcome::Appended(_) => appended += 1,
            Outcome::Repeated(_) => repeated += 1,
            Outcome::Conflict(Conflict::Stream { .. }) => streams += 1,
            Outcome::Conflict(Conflict::Matching { .. }) => matching += 1,
        }
    }
    assert!(
        appended > 100 && repeated > 20 && streams > 20 && matching > 5,
        "{appended} {repeated} {streams} {matching}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_query_conditions_are_caught() {
    let violation = caught(Lie::IgnoresQueries).await;
    assert!(
        matches!(
            violation,
            HistoryViolation::FalseSuccess { conflict: Conflict::Matching { .. }, .. }
        ),
        "{violation}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_expectations_are_caught() {
    let violation = caught(Lie::IgnoresStreams).await;
    assert!(
        matches!(
            violation,
            HistoryViolation::FalseSuccess { conflict: Conflict::Stream { .. }, .. }
        ),
        "{violation}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invented_match_is_caught() {
    let violation = caught(Lie::InventsMatch).await;
    assert!(
        matches!(
            violation,
            HistoryViolation::FalseConflict { conflict: Conflict::Matching { .. }, .. }
        ),
        "{violation}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invented_version_is_caught() {
    let violation = caught(Lie::InventsVersion).await;
    assert!(
        matches!(
            violation,
            HistoryViolation::FalseConflict { conflict: Conflict::Stream { .. }, .. }
        ),
        "{violation}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_event_is_caught() {
    let violation = caught(Lie::DropsEvent).await;
    let told = matches!(
        violation,
        HistoryViolation::Differs { .. }
            | HistoryViolation::Lost { .. }
            | HistoryViolation::Split { .. }
    );
    assert!(told, "{violation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_append_is_caught() {
    let violation = caught(Lie::Splits).await;
    // Where another task came between, the second event is not even the next one.
    let told = matches!(
        violation,
        HistoryViolation::Split { .. }
            | HistoryViolation::Differs { .. }
            | HistoryViolation::Lost { .. }
    );
    assert!(told, "{violation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_effect_twice_is_caught() {
    let violation = caught(Lie::ForgetsCommands).await;
    assert!(matches!(violation, HistoryViolation::CommandTwice { .. }), "{violation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_despite_a_conflict_is_caught() {
    let violation = caught(Lie::AppendsDespiteConflict).await;
    assert!(matches!(violation, HistoryViolation::Stray { .. }), "{violation}");
}

fn event(stream: &str, data: &'static str) -> NewEvent {
    NewEvent::new(EventType::new("test.Happened").unwrap(), data)
        .in_stream(StreamName::new(stream).unwrap())
}

async fn everything(store: &Store) -> Vec<leftfold_core::store::RecordedEvent> {
    store.read(Read::matching(Query::everything(), Position(1))).all().await.unwrap()
}

/// The recorder is told by hand, so that each rule of real time has its own lie.
fn answered(
    history: &AppendHistory,
    store: &Store,
    append: &Append,
    first: Position,
    time: Timestamp,
) {
    let id = history.start(store, append);
    let appended = Appended {
        first,
        versions: vec![Version(first.0); append.events.len()],
        recorded_at: time,
    };
    history.answer(store, id, Ok(Outcome::Appended(appended)));
}

#[tokio::test]
async fn an_append_ordered_before_what_was_acknowledged_earlier_is_caught() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    let (early, late) = (Append::of(vec![event("a-1", "1")]), Append::of(vec![event("a-1", "2")]));
    for append in [&early, &late] {
        store.append(append.clone()).await.unwrap();
    }
    let log = everything(&store).await;
    answered(&history, &store, &late, Position(2), log[1].recorded_at);
    answered(&history, &store, &early, Position(1), log[0].recorded_at);
    let violation = super::check(&history, &log).unwrap_err();
    assert!(
        matches!(violation, HistoryViolation::Early { durable: Position(2), .. }),
        "{violation}"
    );
}

#[tokio::test]
async fn one_place_acknowledged_to_two_appends_is_caught() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    let append = Append::of(vec![event("a-1", "the same")]);
    let ids = [history.start(&store, &append), history.start(&store, &append)];
    let outcome = store.append(append).await;
    for id in ids {
        history.answer(&store, id, outcome.clone());
    }
    let violation = history.verify(&store).await.unwrap().unwrap_err();
    assert!(matches!(violation, HistoryViolation::Twice { at: Position(1), .. }), "{violation}");
}

#[tokio::test]
async fn an_append_without_an_answer_may_be_there_once_or_not_at_all_but_not_twice() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    let append = Append::of(vec![event("a-1", "1"), event("a-2", "2")]);
    history.start(&store, &append);
    assert_eq!(history.verify(&store).await.unwrap(), Ok(()));
    store.append(append.clone()).await.unwrap();
    assert_eq!(history.verify(&store).await.unwrap(), Ok(()));
    store.append(append).await.unwrap();
    assert_eq!(
        history.verify(&store).await.unwrap(),
        Err(HistoryViolation::Stray { at: Position(3) })
    );
}

#[tokio::test]
async fn a_conflict_with_what_came_only_after_the_answer_is_caught() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    let stream = StreamName::new("a-1").unwrap();
    let refused = Append::default().when(Condition::stream(stream.clone(), Expected::Absent));
    let id = history.start(&store, &refused);
    let conflict = Conflict::Stream { stream, expected: Expected::Absent, actual: Version(1) };
    history.answer(&store, id, Ok(Outcome::Conflict(conflict)));
    history.append(&store, Append::of(vec![event("a-1", "1")])).await.unwrap();
    let violation = history.verify(&store).await.unwrap().unwrap_err();
    assert!(
        matches!(violation, HistoryViolation::FalseConflict { to: Position(0), .. }),
        "{violation}"
    );
}

#[tokio::test]
async fn a_gap_and_an_event_gone_from_the_end_are_caught() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    for _ in 0..3 {
        history.append(&store, Append::of(vec![event("a-1", "x")])).await.unwrap();
    }
    let log = everything(&store).await;
    assert!(matches!(
        super::check(&history, &log[..2]),
        Err(HistoryViolation::Lost { at: Position(3), .. })
    ));
    let gap = [log[0].clone(), log[2].clone()];
    assert!(matches!(
        super::check(&history, &gap),
        Err(HistoryViolation::Gap { at: Position(3), expected: 2, .. })
    ));
}

#[tokio::test]
async fn a_repeated_answer_that_is_not_the_first_is_caught() {
    let store = Store::memory();
    let history = AppendHistory::of(&store);
    let id = CommandId::new("test", "1");
    let record = CommandRecord { id, digest: Digest::of(b"1"), answer: Bytes::new() };
    let append = Append { command: Some(record), ..Append::of(vec![event("a-1", "1")]) };
    history.append(&store, append.clone()).await.unwrap();
    history.append(&store, append.clone()).await.unwrap();
    assert_eq!(history.verify(&store).await.unwrap(), Ok(()));
    let mut wrong = store.answered(id).await.unwrap().unwrap();
    wrong.events += 1;
    let attempt = history.start(&store, &append);
    history.answer(&store, attempt, Ok(Outcome::Repeated(wrong)));
    assert_eq!(
        history.verify(&store).await.unwrap(),
        Err(HistoryViolation::FalseRepeat { attempt })
    );
}
