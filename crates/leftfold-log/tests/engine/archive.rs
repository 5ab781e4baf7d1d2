//! Sealed segments in another directory: read as before, wherever moving them was interrupted.

use std::ops::ControlFlow;
use std::sync::Arc;

use leftfold_core::store::{Append, Backend, NewEvent, Position, Query, Read, Store};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated, WithArchive};
use leftfold_log::{
    ArchiveError, ArchiveReport, Log, LogFollower, LogOpenError, Options, Upkeep, backup,
    restore_backup, verify, verify_on,
};

use crate::support::{Folder, event_type, stream, wait};

fn options() -> Options {
    Options { segment_bytes: 8 << 10, upkeep: Upkeep::Inline, ..Options::default() }
}

fn append(log: &Log, bytes: usize) {
    let event = NewEvent::new(event_type("t"), "x".repeat(bytes)).in_stream(stream("s-1"));
    wait(log.append(Append::of(vec![event]))).unwrap();
}

fn go_on(_: ArchiveReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn datas(log: impl Backend) -> Vec<usize> {
    let read = Read::matching(Query::everything(), Position(1));
    let events = wait(Store::new(log).read(read).all()).unwrap();
    events.iter().map(|event| event.data.len()).collect()
}

#[test]
fn a_log_is_read_followed_verified_and_backed_up_with_its_segments_in_an_archive() {
    let folder = Folder::new("archived");
    let place = |name: &str| folder.0.join(name);
    let (log, _) = Log::open(place("log"), options()).unwrap();
    (1..=100).for_each(|n| append(&log, n * 10));
    let (follower, _) = LogFollower::open(place("log"), options()).unwrap();
    let report = log.archive(place("archive"), 1, &mut go_on).unwrap();
    assert!(report.archived > 3 && report.kept == 2 && report.moved_bytes > 30_000, "{report:?}");
    let here = || {
        let names = std::fs::read_dir(place("log")).unwrap();
        names
            .filter(|name| name.as_ref().unwrap().path().extension() == Some("seg".as_ref()))
            .count()
    };
    assert_eq!(here(), 2);
    assert_eq!(log.archive(place("archive"), 1, &mut go_on).unwrap().moved_bytes, 0);
    let other = log.archive(place("other"), 1, &mut go_on);
    assert!(matches!(other, Err(ArchiveError::OtherArchive { .. })), "{other:?}");
    append(&log, 7);
    let all = datas(log.clone());
    assert_eq!(all.len(), 101);
    let mut status = follower.status();
    let told = status.wait_for(|status| status.head.position == Position(101));
    crate::support::wait_within(told).unwrap();
    assert_eq!(datas(follower), all);
    backup(place("log"), place("backup"), &mut |_| ControlFlow::Continue(())).unwrap();
    wait(log.close()).unwrap();
    drop(log);
    assert!(verify(place("log"), &mut |_| ControlFlow::Continue(())).unwrap().is_sound());
    let (log, _) = Log::open(place("log"), options()).unwrap();
    assert_eq!(datas(log.clone()), all);
    let go = &mut |_| ControlFlow::Continue(());
    restore_backup(place("backup"), place("restored"), options(), go).unwrap();
    assert_eq!(datas(Log::open(place("restored"), options()).unwrap().0), all);
    drop(log);

    // An archive that is away is said to be, and nothing is taken for lost.
    std::fs::rename(place("archive"), place("elsewhere")).unwrap();
    let away = Log::open(place("log"), options()).map(drop);
    let said = |detail: &str| detail.contains("mount it");
    assert!(matches!(&away, Err(LogOpenError::Io { detail }) if said(detail)), "{away:?}");
    std::fs::write(place("log").join("archive"), place("elsewhere").to_str().unwrap()).unwrap();
    assert_eq!(datas(Log::open(place("log"), options()).unwrap().0), all);
}

#[test]
fn moving_may_be_interrupted_anywhere_on_either_disk() {
    let first = fastrand::u64(..1 << 32);
    println!("first seed {first}");
    let mut interrupted = 0;
    for seed in first..first + 60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut disk, mut archive) = (Simulated::new(seed), Simulated::new(seed + 1));
        let on = |disk: &Simulated, archive: &Simulated| -> Arc<dyn Disk> {
            let archive = archive.clone();
            Arc::new(WithArchive::found_by(Arc::new(disk.clone()), move |_| {
                Ok(Arc::new(archive.clone()))
            }))
        };
        let log = Log::open_on(on(&disk, &archive), options()).unwrap().0;
        (0..100).for_each(|_| append(&log, random.usize(..900)));
        let all = datas(log.clone());
        let fails = if random.bool() { &disk } else { &archive };
        let kind = DiskUse::CHANGES[random.usize(..DiskUse::CHANGES.len())];
        fails.plan(kind, random.u64(1..12), if random.bool() { Fault::Stop } else { Fault::Fail });
        interrupted += u32::from(log.archive_on("there", &archive, 0, &mut go_on).is_err());
        (disk, archive) = (disk.crash(), archive.crash());
        drop(log);
        let log = Log::open_on(on(&disk, &archive), options()).unwrap().0;
        assert_eq!(datas(log.clone()), all, "seed {seed}");
        let report = log.archive_on("there", &archive, 0, &mut go_on).unwrap();
        assert_eq!(report.kept, 1);
        assert_eq!(datas(log.clone()), all, "seed {seed}");
        drop(log);
        assert!(
            verify_on(on(&disk, &archive), &mut |_| ControlFlow::Continue(())).unwrap().is_sound(),
            "seed {seed}"
        );
    }
    assert!(interrupted > 10, "{interrupted} of 60 were interrupted");
}
