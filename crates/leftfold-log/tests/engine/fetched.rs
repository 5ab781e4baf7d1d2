//! Backups of a log that a server keeps: of the history that a handle gives, page by page.

use std::ops::ControlFlow;
use std::sync::Arc;

use leftfold_core::operations::HistoryCheck;
use leftfold_core::store::{
    Append, AppendsFrom, Backend, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Digest,
    EventId, Hash, HistoryPage, Holder, Label, LeaseRequest, MoveFrom, NewEvent, Position,
    ReadError, RecordedAppend, Store,
};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{
    BackedUp, BackupError, BackupProgress, Log, Options, Upkeep, backup_history_on,
    restore_backup_on, restore_on,
};

use crate::support::{event_type, stream, wait};

fn options() -> Options {
    Options { segment_bytes: 8 << 10, upkeep: Upkeep::Inline, ..Options::default() }
}

fn on(disk: &Simulated) -> Log {
    Log::open_on(Arc::new(disk.clone()), options()).unwrap().0
}

fn go_on(_: BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Records a few appends of every kind.
fn record(log: &Log, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..40) {
        let number = random.u128(..).to_le_bytes();
        let mut append = Append::of(
            (0..random.usize(..4))
                .map(|_| {
                    let mut event = NewEvent::new(event_type("t"), "x".repeat(random.usize(..900)))
                        .in_stream(stream("s-1"));
                    event.id = random.bool().then(|| EventId(uuid::Uuid::from_bytes(number)));
                    event
                })
                .collect(),
        );
        if random.bool() {
            let (id, digest) = (CommandId(number), Digest(number));
            append.command = Some(CommandRecord { id, digest, answer: "done".into() });
        }
        if random.u8(..4) == 0 {
            let checkpoint = Checkpoint {
                store: log.identity().store,
                partition: Default::default(),
                position: Position(random.u64(..)),
                hash: Hash(random.u128(..).to_le_bytes().repeat(2).try_into().unwrap()),
            };
            let (consumer, from) = (Label::try_from("c").unwrap(), MoveFrom::Anywhere);
            append.checkpoint = Some(CheckpointRecord { consumer, from, checkpoint });
        }
        wait(log.append(append)).unwrap();
    }
    let asked = LeaseRequest::new(
        Label::try_from("work").unwrap(),
        Holder::random(),
        std::time::Duration::from_secs(1),
    );
    wait(log.lease(asked)).unwrap();
}

/// Opens the log again, or declares it restored: then another life of it begins.
fn again(log: Log, disk: &Simulated, random: &mut fastrand::Rng) -> Log {
    if random.bool() {
        return log;
    }
    wait(log.close()).unwrap();
    drop(log);
    if random.bool() {
        restore_on(Arc::new(disk.clone()), options()).unwrap();
    }
    on(disk)
}

fn fetch(log: &Log, to: &Simulated, page_bytes: u32) -> Result<BackedUp, BackupError> {
    let mut history = |from| wait(log.history(from, page_bytes));
    backup_history_on(log.identity(), &mut history, to, &options(), &mut go_on)
}

fn appends(log: &Log) -> Vec<RecordedAppend> {
    let page = wait(log.appends(AppendsFrom::After(Position::START), u32::MAX)).unwrap();
    page.appends
}

/// Fetches with each page changed on its way.
fn fetch_changed(
    log: &Log,
    to: &Simulated,
    change: &mut dyn FnMut(&mut HistoryPage),
) -> Result<BackedUp, BackupError> {
    let mut asked = 0;
    let mut history = |from| {
        asked += 1;
        if asked > 1_000 {
            return Err(ReadError::Io { detail: "it goes on without end".to_owned() });
        }
        let mut page = wait(log.history(from, 300))?;
        change(&mut page);
        Ok(page)
    };
    backup_history_on(log.identity(), &mut history, to, &options(), &mut go_on)
}

/// The chain computed again, of the bytes that a log gives.
fn chain(log: &Log) -> (Position, Hash) {
    let mut check = HistoryCheck::of(&Store::new(log.clone()));
    while wait(check.next()).unwrap().is_some() {}
    (check.position(), check.chain())
}

#[test]
fn a_fetched_backup_is_of_the_same_history_wherever_it_was_interrupted() {
    let first = fastrand::u64(..1 << 32);
    println!("first seed {first}");
    let mut interrupted = 0;
    for seed in first..first + 40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, mut to) = (Simulated::new(seed), Simulated::new(seed + 1));
        let mut log = on(&disk);
        for _ in 0..3 {
            record(&log, &mut random);
            log = again(log, &disk, &mut random);
            let page_bytes = 1 << random.u32(5..20);
            let kind = DiskUse::CHANGES[random.usize(..DiskUse::CHANGES.len())];
            to.plan(kind, random.u64(1..12), if random.bool() { Fault::Stop } else { Fault::Fail });
            if fetch(&log, &to, page_bytes).is_err() {
                interrupted += 1;
                to = if random.bool() { to.crash() } else { to.kill() };
                // It is a backup as it is, if one was ever complete.
                let back = Arc::new(Simulated::new(seed + 2));
                match restore_backup_on(&to, back, options(), &mut go_on) {
                    Ok(_) | Err(BackupError::Missing { .. }) => {}
                    refused => panic!("seed {seed}: {refused:?}"),
                }
            }
        }
        to = to.kill();
        let done = fetch(&log, &to, 1 << 16).unwrap();
        let head = log.status().borrow().head;
        assert_eq!((done.head, done.identity), (head, log.identity()), "seed {seed}");
        assert_eq!(fetch(&log, &to, 1 << 16).unwrap().copied_bytes, 0, "seed {seed}");

        let back = Simulated::new(seed + 2);
        restore_backup_on(&to, Arc::new(back.clone()), options(), &mut go_on).unwrap();
        let back = on(&back);
        assert_eq!(appends(&back), appends(&log), "seed {seed}");
        let (old, new) = (log.identity(), back.identity());
        assert_eq!((new.store, new.epoch.number), (old.store, old.epoch.number + 1));
        assert_eq!(chain(&log), (head.position, head.chain), "seed {seed}");
        assert_eq!(chain(&back).0, head.position, "seed {seed}");
    }
    assert!(interrupted > 10, "{interrupted} were interrupted");
}

#[test]
fn a_fetched_backup_goes_on_in_its_own_way_and_only_of_its_own_history() {
    let (log, to) = (on(&Simulated::new(1)), Simulated::new(2));
    let mut random = fastrand::Rng::with_seed(1);
    record(&log, &mut random);
    fetch(&log, &to, 1 << 20).unwrap();
    let before_more = Simulated::new(6);
    restore_backup_on(&to, Arc::new(before_more.clone()), options(), &mut go_on).unwrap();
    record(&log, &mut random);
    let done = fetch(&log, &to, 1 << 20).unwrap();
    assert!(done.copied_bytes > 0, "{done:?}");
    // The other way has segments of the log itself.
    let refused = log.backup_on(&to, &mut go_on);
    assert!(matches!(refused, Err(BackupError::OtherHistory { .. })), "{refused:?}");
    let other = on(&Simulated::new(3));
    let refused = fetch(&other, &to, 1 << 20);
    assert!(matches!(refused, Err(BackupError::OtherStore { .. })), "{refused:?}");
    // An earlier copy that went on in another way.
    let earlier = on(&before_more);
    let refused = fetch(&earlier, &to, 1 << 20);
    assert!(matches!(refused, Err(BackupError::OtherHistory { .. })), "{refused:?}");
    record(&earlier, &mut random);
    record(&earlier, &mut random);
    let refused = fetch(&earlier, &to, 1 << 20);
    assert!(matches!(refused, Err(BackupError::OtherHistory { .. })), "{refused:?}");
    // What was damaged since is fetched again.
    let name = to.names().unwrap().into_iter().filter(|name| name.ends_with(".seg")).max().unwrap();
    to.open(&name).unwrap().write_all_at(b"spoilt", 300).unwrap();
    fetch(&log, &to, 1 << 20).unwrap();
    let back = Simulated::new(4);
    restore_backup_on(&to, Arc::new(back.clone()), options(), &mut go_on).unwrap();
    assert_eq!(appends(&on(&back)), appends(&log));
    let memory = Store::memory();
    let mut history = |from| wait(memory.history(from, 1 << 20));
    let to = Simulated::new(5);
    let refused = backup_history_on(memory.identity(), &mut history, &to, &options(), &mut go_on);
    assert!(matches!(refused, Err(BackupError::NoLog { .. })), "{refused:?}");
}

#[test]
fn what_is_recorded_while_it_is_fetched_or_verified_is_for_the_next_time() {
    // The end that a store had was looked for only at the ends of pages, so a store in which
    // something was recorded between two pages was copied and verified without end.
    let (log, to) = (on(&Simulated::new(1)), Simulated::new(2));
    let one = || Append::of(vec![NewEvent::new(event_type("t"), "{}")]);
    let append = || _ = wait(log.append(one())).unwrap();
    (0..20).for_each(|_| append());
    for number in 0..3 {
        let begun = log.status().borrow().head;
        let done = fetch_changed(&log, &to, &mut |_| append()).unwrap();
        assert_eq!(done.head, begun, "backup {number}");
        let back = Simulated::new(3 + number);
        restore_backup_on(&to, Arc::new(back.clone()), options(), &mut go_on).unwrap();
        assert_eq!(appends(&on(&back)).len() as u64, begun.position.0);
    }
    let begun = log.status().borrow().head;
    let mut check = HistoryCheck::in_pages_of(&Store::new(log.clone()), 300);
    let mut pages = 0;
    while let Some(ends) = wait(check.next()).unwrap() {
        assert!(ends.iter().all(|end| end.position <= begun.position));
        append();
        pages += 1;
        assert!(pages < 1_000, "it goes on without end");
    }
    assert_eq!((check.position(), check.chain()), (begun.position, begun.chain));
}

#[test]
fn a_history_that_is_short_or_does_not_move_on_is_no_backup() {
    let log = on(&Simulated::new(1));
    record(&log, &mut fastrand::Rng::with_seed(7));
    let refused = |what: &str, change: &mut dyn FnMut(&mut HistoryPage)| {
        let refused = fetch_changed(&log, &Simulated::new(2), change);
        let Err(BackupError::SourceDamaged { detail, .. }) = &refused else {
            panic!("{what}: {refused:?}");
        };
        assert!(detail.contains(what), "{detail}");
    };
    let mut pages = 0;
    refused("before the end that the store names", &mut |page| {
        pages += 1;
        if pages > 3 {
            page.links.clear();
        }
    });
    refused("by the end that the store names", &mut |page| {
        (page.head.position, page.head.chain) = (Position(1), Hash([7; 32]));
    });
    let mut first = None;
    refused("in the place that it begins in", &mut |page| {
        page.next = *first.get_or_insert(page.next);
    });
    let open = |page: &mut HistoryPage, bytes: usize| {
        let link = page.links.last_mut().unwrap();
        (link.hashed, link.end) = (vec![0; bytes].into(), None);
    };
    refused("without bytes", &mut |page| open(page, 0));
    refused("than the largest group has", &mut |page| open(page, 512 << 20));
}
