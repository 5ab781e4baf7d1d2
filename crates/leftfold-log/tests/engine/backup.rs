//! Backups of a live log, interrupted at any moment, and bringing them back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::store::{Append, Backend, NewEvent, Position, Query, Read, Store};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{
    BackedUp, BackupError, BackupProgress, Log, LogFollower, LogOpenError, Options, Upkeep, backup,
    backup_on, restore_backup, restore_backup_on, restore_on,
};

use crate::support::{Folder, event_type, stream, wait};

fn options() -> Options {
    Options { segment_bytes: 8 << 10, upkeep: Upkeep::Inline, ..Options::default() }
}

fn on(disk: &Simulated) -> Log {
    Log::open_on(Arc::new(disk.clone()), options()).unwrap().0
}

fn append(log: &Log, bytes: usize) {
    let event = NewEvent::new(event_type("t"), "x".repeat(bytes)).in_stream(stream("s-1"));
    wait(log.append(Append::of(vec![event]))).unwrap();
}

fn go_on(_: BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn back_up(log: &Log, to: &Simulated) -> Result<BackedUp, BackupError> {
    log.backup_on(to, &mut go_on)
}

fn bring_back(from: &Simulated, to: &Simulated) -> Result<Log, BackupError> {
    restore_backup_on(from, Arc::new(to.clone()), options(), &mut go_on)?;
    Ok(on(to))
}

fn datas(log: &Log) -> Vec<usize> {
    let read = Read::matching(Query::everything(), Position(1));
    let events = wait(Store::new(log.clone()).read(read).all()).unwrap();
    events.iter().map(|event| event.data.len()).collect()
}

#[test]
fn only_what_is_new_is_copied_and_what_comes_back_is_the_same_log_in_a_new_epoch() {
    let (log, to) = (on(&Simulated::new(1)), Simulated::new(2));
    (1..=60).for_each(|n| append(&log, n * 10));
    let first = back_up(&log, &to).unwrap();
    assert_eq!((first.head, first.identity), (log.status().borrow().head, log.identity()));
    assert!(first.segments > 2, "{first:?}");
    assert_eq!(back_up(&log, &to).unwrap().copied_bytes, 0);
    append(&log, 100);
    let second = back_up(&log, &to).unwrap();
    assert!((1..600).contains(&second.copied_bytes), "{second:?}");
    (1..=60).for_each(|n| append(&log, n * 10));
    let third = back_up(&log, &to).unwrap();
    assert!(third.copied_bytes < first.copied_bytes + 600, "{third:?}");

    let again = bring_back(&to, &Simulated::new(3)).unwrap();
    assert_eq!(datas(&again), datas(&log));
    let (old, new) = (log.identity(), again.identity());
    assert_eq!((new.store, new.epoch.number), (old.store, old.epoch.number + 1));
    assert_eq!(new.epoch.began_after, third.head.position);
    let at = |log: &Log| wait(log.hash_at(third.head.position)).unwrap();
    assert_eq!(at(&again), at(&log));
}

#[test]
fn a_backup_that_is_interrupted_anywhere_leaves_one_that_is_whole() {
    let first = fastrand::u64(..1 << 32);
    println!("first seed {first}");
    let mut interrupted = 0;
    for seed in first..first + 60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (log, mut to) = (on(&Simulated::new(seed)), Simulated::new(seed + 1));
        (0..random.usize(1..50)).for_each(|_| append(&log, random.usize(..900)));
        let before = back_up(&log, &to).unwrap().head.position;
        (0..random.usize(1..150)).for_each(|_| append(&log, random.usize(..900)));
        let kind = DiskUse::CHANGES[random.usize(..DiskUse::CHANGES.len())];
        to.plan(kind, random.u64(1..12), if random.bool() { Fault::Stop } else { Fault::Fail });
        interrupted += u32::from(back_up(&log, &to).is_err());
        to = if random.bool() { to.crash() } else { to.kill() };

        let all = datas(&log);
        let again = bring_back(&to, &Simulated::new(seed + 2)).unwrap();
        let found = datas(&again);
        assert!(found.len() as u64 >= before.0, "seed {seed}: the former backup is there");
        assert_eq!(found, all[..found.len()], "seed {seed}");
        back_up(&log, &to).unwrap();
        let again = bring_back(&to, &Simulated::new(seed + 3)).unwrap();
        assert_eq!(datas(&again), all, "seed {seed}");
    }
    assert!(interrupted > 10, "{interrupted} of 60 were interrupted");
}

#[test]
fn a_restore_that_is_interrupted_anywhere_is_never_taken_for_a_log() {
    let first = fastrand::u64(..1 << 32);
    println!("first seed {first}");
    let (log, from) = (on(&Simulated::new(first)), Simulated::new(first));
    (1..=60).for_each(|n| append(&log, n * 10));
    back_up(&log, &from).unwrap();
    let mut refused = 0;
    for seed in first..first + 60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let to = Simulated::new(seed);
        let kind = DiskUse::CHANGES[random.usize(..DiskUse::CHANGES.len())];
        to.plan(kind, random.u64(1..12), Fault::Stop);
        let log_disk = Arc::new(to.clone());
        let done = restore_backup_on(&from, log_disk, options(), &mut go_on).is_ok();
        let to = to.crash();
        let opened = Log::open_read_only_on(Arc::new(to.clone()), options());
        match opened {
            Ok((opened, _)) => assert_eq!(datas(&opened), datas(&log), "seed {seed}"),
            Err(LogOpenError::Unfinished { .. }) => refused += 1,
            // Its first file is not durable yet.
            Err(error) => assert!(matches!(error, LogOpenError::Missing { .. }), "{error}"),
        }
        if !done {
            let again = bring_back(&from, &to);
            let there = matches!(&again, Err(BackupError::Open(LogOpenError::AlreadyThere { .. })));
            assert!(there || datas(&again.unwrap()) == datas(&log), "seed {seed}");
        }
    }
    assert!(refused > 10, "{refused} of 60 were refused");
}

#[test]
fn a_restore_has_the_directory_to_itself_and_leaves_files_of_others() {
    let (log, from) = (on(&Simulated::new(1)), Simulated::new(2));
    (1..=60).for_each(|n| append(&log, n * 10));
    back_up(&log, &from).unwrap();
    let (to, mut second) = (Simulated::new(3), None);
    let mut beside = |_| {
        second.get_or_insert_with(|| bring_back(&from, &to).map(drop));
        ControlFlow::Continue(())
    };
    restore_backup_on(&from, Arc::new(to.clone()), options(), &mut beside).unwrap();
    let in_use = matches!(second, Some(Err(BackupError::Open(LogOpenError::InUse { .. }))));
    assert!(in_use, "{second:?}");
    assert_eq!(datas(&on(&to)), datas(&log));

    let other = Simulated::new(4);
    other.create("notes.tmp").unwrap().sync().unwrap();
    let refused = bring_back(&from, &other).map(drop);
    let foreign = matches!(refused, Err(BackupError::Open(LogOpenError::Foreign { .. })));
    assert!(foreign, "{refused:?}");
    assert_eq!(other.names().unwrap(), ["notes.tmp"]);
}

#[test]
fn a_log_is_backed_up_while_it_is_written_by_its_own_process_and_by_another_one() {
    let folder = Folder::new("backup-live");
    let place = |name: &str| folder.0.join(name);
    let (log, _) = Log::open(place("log"), options()).unwrap();
    append(&log, 10);
    let (follower, _) = LogFollower::open(place("log"), options()).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                append(&log, 300);
            }
        });
        let mut last = Position::START;
        for _ in 0..5 {
            log.backup(place("here"), &mut go_on).unwrap();
            last = backup(place("log"), place("there"), &mut go_on).unwrap().head.position;
            follower.backup(place("followed"), &mut go_on).unwrap();
        }
        end.store(true, Ordering::Relaxed);
        assert!(last > Position::START);
    });
    let all = datas(&log);
    for name in ["here", "there", "followed"] {
        let to = place(&format!("{name}-restored"));
        restore_backup(place(name), &to, options(), &mut go_on).unwrap();
        let found = datas(&Log::open(&to, options()).unwrap().0);
        assert!(!found.is_empty() && found == all[..found.len()], "{name}");
        // The backup itself is no log, and is not opened as one.
        let opened = Log::open(place(name), options()).map(drop);
        assert!(opened.is_err(), "{name}");
    }
}

#[test]
fn another_store_another_history_and_damage_are_refused_and_the_backup_stays() {
    let (disk, to) = (Simulated::new(1), Simulated::new(2));
    let log = on(&disk);
    (1..=40).for_each(|n| append(&log, n * 10));
    back_up(&log, &to).unwrap();
    let other = on(&Simulated::new(3));
    append(&other, 1);
    assert!(matches!(back_up(&other, &to), Err(BackupError::OtherStore { .. })));

    // A copy is brought back and grows in its own way; the log that was lost had gone on.
    let earlier = Simulated::new(4);
    let restored = bring_back(&to, &earlier).unwrap();
    append(&restored, 7);
    append(&log, 8);
    back_up(&log, &to).unwrap();
    let refused = back_up(&restored, &to);
    assert!(matches!(refused, Err(BackupError::OtherHistory { .. })), "{refused:?}");
    let stopped = log.backup_on(&Simulated::new(5), &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped, Err(BackupError::Stopped));

    // A part of the log rots that was not copied yet.
    let all = datas(&log);
    (1..=40).for_each(|n| append(&log, n * 10));
    let last = disk.names().unwrap().into_iter().filter(|name| name.ends_with(".seg")).max();
    disk.rot(&last.unwrap(), 400, 3);
    let refused = back_up(&log, &to);
    assert!(matches!(refused, Err(BackupError::SourceDamaged { .. })), "{refused:?}");
    assert!(datas(&bring_back(&to, &Simulated::new(6)).unwrap()).starts_with(&all));

    // A copy rots: it is not brought back.
    to.rot("backup-000000000001.seg", 1_000, 1);
    let refused = bring_back(&to, &Simulated::new(7)).map(drop);
    assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}");
    let nothing = bring_back(&Simulated::new(8), &Simulated::new(9)).map(drop);
    assert!(matches!(nothing, Err(BackupError::Missing { .. })), "{nothing:?}");
}

#[test]
fn a_directory_with_something_else_is_left_alone() {
    let (disk, to) = (Simulated::new(1), Simulated::new(2));
    append(&on(&disk), 1);
    to.create("holiday.jpg").unwrap();
    let refused = backup_on(Arc::new(disk.kill()), &to, &mut go_on);
    assert!(matches!(refused, Err(BackupError::Foreign { .. })), "{refused:?}");
    let log = on(&Simulated::new(3));
    append(&log, 1);
    let backed_up = Simulated::new(4);
    back_up(&log, &backed_up).unwrap();
    let refused = bring_back(&backed_up, &to).map(drop);
    assert!(matches!(refused, Err(BackupError::Open(LogOpenError::Foreign { .. }))), "{refused:?}");
    let taken = Simulated::new(5);
    append(&on(&taken), 1);
    restore_on(Arc::new(taken.kill()), options()).unwrap();
    let refused = bring_back(&backed_up, &taken.kill()).map(drop);
    assert!(
        matches!(refused, Err(BackupError::Open(LogOpenError::AlreadyThere { .. }))),
        "{refused:?}"
    );
}
