//! Leases of the log: where there is no disk to record an opening, after a crash, and by the clock.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::{
    Append, AppendError, AppendsFrom, Backend, Checkpoint, CheckpointRecord, Fence, Hash, Holder,
    Label, Lease, LeaseError, LeaseRequest, Leased, MoveFrom, NewEvent, Outcome, Partition,
    Position, Query, Read,
};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{Log, Options, Upkeep, restore_on};

use crate::support::{TestClock, event_type, wait};

const MINUTE: Duration = Duration::from_secs(60);

fn opened(disk: impl Disk, clock: &Arc<TestClock>) -> Log {
    let options =
        Options { upkeep: Upkeep::Inline, clock: Arc::clone(clock) as _, ..Options::default() };
    Log::open_on(Arc::new(disk), options).unwrap().0
}

fn work() -> Label {
    Label::new("work").unwrap()
}

fn ask(log: &Log, holder: Holder) -> Result<Leased, LeaseError> {
    wait(log.lease(LeaseRequest::new(work(), holder, MINUTE)))
}

fn held(log: &Log, holder: Holder) -> Lease {
    match ask(log, holder) {
        Ok(Leased::Held(lease)) => lease,
        other => panic!("the work should have been given, but the answer is {other:?}"),
    }
}

fn fact() -> Append {
    Append::of(vec![NewEvent::new(event_type("test.Happened"), "{}")])
}

fn appended(answer: &Result<Outcome, AppendError>) -> bool {
    matches!(answer, Ok(Outcome::Appended(_)))
}

#[test]
fn a_fence_is_never_given_again_after_a_crash_though_the_clock_went_back() {
    let (mut disk, clock) = (Simulated::new(fastrand::u64(..)), Arc::new(TestClock::default()));
    let mut last = Fence(0);
    for opening in 0..5 {
        let log = opened(disk.clone(), &clock);
        let lease = held(&log, Holder::random());
        assert!(lease.fence > last, "{} in opening {opening}, after {last}", lease.fence);
        let old = Lease { fence: last, ..lease.clone() };
        let refused = AppendError::Fenced { work: work(), fence: last, current: Some(lease.fence) };
        assert_eq!(wait(log.append(fact().under(&old))), Err(refused));
        last = lease.fence;
        // Nothing is closed, and nothing but the lease was asked for since.
        disk = disk.crash();
        clock.shift(-1_000_000);
    }
}

#[test]
fn a_renewal_and_a_refusal_write_nothing() {
    let log = opened(Simulated::new(1), &Arc::new(TestClock::default()));
    let (one, other) = (Holder::random(), Holder::random());
    let lease = held(&log, one);
    let head = log.status().borrow().head;
    held(&log, one);
    assert!(matches!(ask(&log, other), Ok(Leased::HeldBy { .. })));
    wait(log.release(lease)).unwrap();
    held(&log, other);
    assert_eq!(log.status().borrow().head, head);
    assert_eq!(head.position, Position::START);
    let page = wait(log.read(Read::matching(Query::everything(), Position(1)))).unwrap();
    assert_eq!(page.events, []);
}

#[test]
fn a_lease_lasts_by_a_clock_that_only_passes() {
    let clock = Arc::new(TestClock::default());
    let log = opened(Simulated::new(2), &clock);
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&log, one);
    clock.shift(59_000_000);
    assert_eq!(ask(&log, other), Ok(Leased::HeldBy { holder: one, until: first.until }));
    clock.shift(1_000_000);
    assert!(held(&log, other).fence > first.fence);
}

#[test]
fn a_disk_that_is_full_gives_no_lease_until_there_is_room() {
    let (disk, clock) = (Simulated::new(3), Arc::new(TestClock::default()));
    let log = opened(disk.clone(), &clock);
    wait(log.append(fact())).unwrap();
    disk.set_room(Some(0));
    let me = Holder::random();
    while appended(&wait(log.append(fact()))) {}
    assert!(matches!(ask(&log, me), Err(LeaseError::Unavailable { .. })));
    disk.set_room(None);
    let lease = held(&log, me);
    drop(log);
    let again = held(&opened(disk.crash(), &clock), Holder::random());
    assert!(again.fence > lease.fence, "the opening was recorded when there was room");
}

#[test]
fn a_log_that_takes_no_appends_gives_no_leases() {
    let (disk, clock) = (Simulated::new(4), Arc::new(TestClock::default()));
    let log = opened(disk.clone(), &clock);
    disk.plan(DiskUse::Sync, 1, Fault::Fail);
    assert!(
        matches!(ask(&log, Holder::random()), Err(LeaseError::Unavailable { .. })),
        "whether it was recorded is unknown"
    );
    assert!(
        matches!(ask(&log, Holder::random()), Err(LeaseError::Unavailable { .. })),
        "it is read-only since"
    );
    drop(log);
    let disk = disk.kill();
    drop(opened(disk.clone(), &clock));
    let options = Options { clock, ..Options::default() };
    let (reader, _) = Log::open_read_only_on(Arc::new(disk), options).unwrap();
    let refused = ask(&reader, Holder::random());
    assert!(
        matches!(refused, Err(LeaseError::Unavailable { .. })),
        "it may be another process's: {refused:?}"
    );
}

#[test]
fn an_append_whose_condition_is_looked_up_elsewhere_is_held_against_the_fence_of_its_turn() {
    let log = opened(Simulated::new(5), &Arc::new(TestClock::default()));
    for _ in 0..200 {
        drop(log.append(fact()));
    }
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&log, one);
    wait(log.release(first.clone())).unwrap();
    let second = held(&log, other);
    // So many events that a thread of the log looks them up: it finds a conflict that lasts, and
    // still the fence is told.
    let condition = leftfold_core::store::Condition::none_matching(Query::all(), Position::START);
    let answer = wait(log.append(fact().when(condition).under(&first)));
    assert_eq!(
        answer,
        Err(AppendError::Fenced { work: work(), fence: first.fence, current: Some(second.fence) })
    );
}

/// The store's own count of openings was a checkpoint that a declared restore took back: fences of
/// the life that was lost came again in the next one.
#[test]
fn fences_grow_over_declared_restores_of_one_copy_that_knows_nothing_of_them() {
    let (original, clock) = (Simulated::new(6), Arc::new(TestClock::default()));
    let log = opened(original.clone(), &clock);
    wait(log.append(fact())).unwrap();
    drop(log);
    let files: Vec<(String, Vec<u8>)> = original
        .names()
        .unwrap()
        .into_iter()
        .filter_map(|name| original.content(&name).map(|content| (name, content)))
        .collect();
    let log = opened(original, &clock);
    let mut last = held(&log, Holder::random()).fence;
    drop(log);
    // The same copy is brought back again and again: each life knows nothing of the one before.
    for life in 0..3 {
        clock.shift(60_000_000);
        let disk = Simulated::new(7);
        for (name, content) in &files {
            disk.create(name).unwrap().write_all_at(content, 0).unwrap();
        }
        let options = Options {
            upkeep: Upkeep::Inline,
            clock: Arc::clone(&clock) as _,
            ..Options::default()
        };
        restore_on(Arc::new(disk.clone()), options).unwrap();
        // However often it is opened, its fences do not run ahead of the clock, which tells it from
        // the next life.
        for opening in 0..20 {
            let log = opened(disk.clone(), &clock);
            for tenure in 0..10 {
                let lease = held(&log, Holder::random());
                assert!(
                    lease.fence > last,
                    "life {life}, opening {opening}, tenure {tenure}: {} after {last}",
                    lease.fence
                );
                last = lease.fence;
                wait(log.release(lease)).unwrap();
            }
        }
    }
}

/// Users could move the consumer that counted openings: fences came again, and their appends were
/// missing from what a copy reads.
#[test]
fn no_checkpoint_of_a_user_moves_the_fences_or_hides_what_came_with_it() {
    let (disk, clock) = (Simulated::new(8), Arc::new(TestClock::default()));
    let log = opened(disk.clone(), &clock);
    let first = held(&log, Holder::random());
    let mut written = 0;
    for (n, consumer) in ["$leases", "fences", "leases"].into_iter().enumerate() {
        let checkpoint = Checkpoint {
            store: log.identity().store,
            partition: Partition::default(),
            position: Position(n as u64 % 2),
            hash: Hash::EMPTY,
        };
        let record = CheckpointRecord {
            consumer: Label::new(consumer).unwrap(),
            from: MoveFrom::Anywhere,
            checkpoint,
        };
        for events in [vec![], fact().events] {
            // Names with a dollar may be refused altogether.
            written += u64::from(appended(&wait(log.append(Append {
                events,
                checkpoint: Some(record.clone()),
                ..Append::default()
            }))));
        }
    }
    let page = wait(log.appends(AppendsFrom::After(Position::START), 1 << 20)).unwrap();
    assert_eq!(page.appends.len() as u64, written);
    assert!(written >= 4);
    drop(log);
    let log = opened(disk, &clock);
    assert!(held(&log, Holder::random()).fence > first.fence);
}

#[test]
fn more_fences_are_reserved_when_those_of_an_opening_are_used_up() {
    let (disk, clock) = (Simulated::new(9), Arc::new(TestClock::default()));
    let log = opened(disk.clone(), &clock);
    let mut last = held(&log, Holder::random());
    let head = |log: &Log| log.status().borrow().head.chain;
    let (before, mut records) = (head(&log), 0);
    let mut seen = before;
    for _ in 0..600 {
        drop(log.release(last.clone()));
        let next = held(&log, Holder::random());
        assert!(next.fence > last.fence);
        last = next;
        if head(&log) != seen {
            seen = head(&log);
            records += 1;
        }
    }
    assert_eq!(records, 2, "one record for so many fences");
    let log = opened(disk.kill(), &clock);
    assert!(held(&log, Holder::random()).fence > last.fence);
}
