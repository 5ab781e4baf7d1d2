//! A request that is repeated while its first sending is being made durable: what is known of it is
//! never ahead of what can be read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leftfold_core::fold::{Answer, Event};
use leftfold_core::store::{
    Append, AppendsFrom, Backend, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Digest,
    Hash, Label, MoveFrom, NewEvent, Partition, Position, Query, Read, Store, StoreId,
};
use leftfold_log::{Log, Options};
use serde::{Deserialize, Serialize};

use crate::support::{Folder, event_type, stream, wait};

fn id(n: u64) -> CommandId {
    CommandId(u128::from(n).to_le_bytes())
}

fn import(n: u64) -> Append {
    let events = (0..800)
        .map(|i| NewEvent::new(event_type("t"), "x").in_stream(stream(&format!("s-{n}-{i}"))))
        .collect();
    Append::of(events)
}

/// An append of one event, with its answer and a checkpoint at it.
fn with_records(n: u64, (consumer, source): (&Label, StoreId), position: Position) -> Append {
    let (partition, hash) = (Partition::default(), Hash::EMPTY);
    let checkpoint = Checkpoint { store: source, partition, position, hash };
    let (digest, answer) = (Digest([2; 16]), vec![3].into());
    Append {
        events: vec![NewEvent::new(event_type("t"), "x")],
        command: Some(CommandRecord { id: id(n), digest, answer }),
        checkpoint: Some(CheckpointRecord {
            consumer: consumer.clone(),
            from: MoveFrom::Anywhere,
            checkpoint,
        }),
        ..Append::default()
    }
}

fn head(log: &Log) -> Position {
    log.status().borrow().head.position
}

/// Looks once for the answer of a round; if it is there, so is its event. Returns whether it is.
fn answer_has_its_event(log: &Log, n: u64) -> bool {
    let Some(answered) = wait(log.answered(id(n))).unwrap() else { return false };
    assert!(
        head(log) >= answered.first,
        "of round {n} the answer is there, and the head behind it"
    );
    let read = Read::matching(Query::everything(), answered.first).page_of(1);
    let page = wait(log.read(read)).unwrap();
    assert_eq!(page.events.len(), 1, "of round {n} the answer is there, and its event not");
    true
}

/// Looks once where the checkpoint stands: there is an event, and no append beyond the head.
fn checkpoint_has_its_event(log: &Log, (consumer, source): (&Label, StoreId)) {
    let stands = wait(log.checkpoint(consumer.clone(), source, Partition::default())).unwrap();
    let position = stands.map_or(Position::START, |checkpoint| checkpoint.position);
    assert!(head(log) >= position, "the checkpoint came with an event that is not there");
    let from = AppendsFrom::After(Position(position.0.saturating_sub(1)));
    let page = wait(log.appends(from, 1)).unwrap();
    let events = page.appends.iter().flat_map(|append| &append.events);
    let last = events.map(|event| event.position).max();
    assert!(
        last.is_none_or(|last| last <= page.head.position),
        "a page of appends goes beyond its head"
    );
}

/// The index knew of the records of a group while its many events were still taken over, before the
/// head was told: an answer named events that nobody could read, and a checkpoint stood where no
/// event was.
#[test]
fn records_are_seen_when_the_head_has_what_came_with_them_and_not_before() {
    let folder = Folder::new("ahead");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    let (round, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let (consumer, source) = (Label::new("consumer").unwrap(), StoreId(uuid::Uuid::from_u128(5)));
    let whose = (&consumer, source);
    let looks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                let n = round.load(Ordering::Acquire);
                if answer_has_its_event(&log, n) {
                    looks.fetch_add(1, Ordering::Relaxed);
                    while round.load(Ordering::Acquire) == n && !end.load(Ordering::Relaxed) {}
                }
            }
        });
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                checkpoint_has_its_event(&log, whose);
            }
        });
        for n in 1..=80 {
            round.store(n, Ordering::Release);
            let small = with_records(n, whose, head(&log).next());
            // The records stand early in the group, and many events behind them.
            for pending in log.append_together(vec![small, import(n)]) {
                wait(pending).unwrap();
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(looks.load(Ordering::Relaxed) > 10, "the answers were looked at while they came");
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Reading {
    Taken { wh: u64 },
}

impl Event for Reading {
    const NAMESPACE: &'static str = "meter";
}

/// A station that hears nothing sends again while the first sending is under way. It was told that
/// the id had been used for something else, or got fewer events than it had sent.
#[test]
fn a_request_that_is_sent_again_while_it_is_under_way_is_answered_as_the_first_time() {
    let folder = Folder::new("repeats");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    let (first, again) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = AtomicBool::new(false);
    let send = |n: u64| {
        let store = Store::new(log.clone());
        let events = [Reading::Taken { wh: n }, Reading::Taken { wh: n + 1 }];
        let request = store
            .facts("meter", "m1", &events)
            .id("station", &n.to_string())
            .request(&n.to_le_bytes());
        let done = wait(request.record()).unwrap_or_else(|error| panic!("request {n}: {error}"));
        if done.answer == Answer::First { &first } else { &again }.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                wait(log.append(import(n))).unwrap();
            }
        });
        let senders: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..100).for_each(send))).collect();
        let sent: Vec<_> = senders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        end.store(true, Ordering::Relaxed);
        assert!(sent.iter().all(Result::is_ok));
    });
    assert_eq!((first.into_inner(), again.into_inner()), (100, 200));
}
