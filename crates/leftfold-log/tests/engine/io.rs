//! Disks that are full, broken, taken or foreign: a clear error, and nothing lost.

use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{
    Append, AppendError, Backend, CloseError, CommandId, CommandRecord, Condition, Digest,
    Expected, NewEvent, Outcome, Position, Query, Read, ReadError, State, Store, Version,
};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{
    ClockBehind, Existing, Log, LogOpenError, Options, Upkeep, dump_on, restore, restore_on,
    verify, verify_on,
};

use crate::support::{Folder, TestClock, event_type, stream, wait};

fn options() -> Options {
    Options { upkeep: Upkeep::Inline, clock: Arc::new(TestClock::default()), ..Options::default() }
}

fn on(disk: &Simulated) -> Log {
    Log::open_on(Arc::new(disk.clone()), options()).unwrap().0
}

fn event(data: &str) -> NewEvent {
    NewEvent::new(event_type("test.Happened"), data.to_owned()).in_stream(stream("test-1"))
}

fn append(log: &Log, data: &str) -> Result<Outcome, AppendError> {
    wait(log.append(Append::of(vec![event(data)])))
}

fn count(log: &Log) -> usize {
    wait(Store::new(log.clone()).read(Read::matching(Query::all(), Position(1))).all())
        .unwrap()
        .len()
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let disk = Simulated::new(1);
    let log = on(&disk);
    append(&log, "first").unwrap();
    disk.set_room(Some(0));
    let large = "x".repeat(1 << 20);
    assert!(matches!(append(&log, &large), Err(AppendError::Full { .. })));
    assert_eq!(log.status().borrow().state, State::Open);
    disk.set_room(None);
    append(&log, &large).unwrap();
    assert_eq!(count(&log), 2);
    wait(log.close()).unwrap();
    drop(log);
    assert_eq!(count(&on(&disk.crash())), 2);
}

#[test]
fn a_failed_sync_makes_waiting_appends_unknown_and_the_store_read_only() {
    let disk = Simulated::new(2);
    let log = on(&disk);
    append(&log, "first").unwrap();
    disk.plan(DiskUse::Sync, 1, Fault::Fail);
    assert!(matches!(append(&log, "second"), Err(AppendError::Unknown { .. })));
    assert!(matches!(append(&log, "third"), Err(AppendError::ReadOnly { .. })));
    assert!(matches!(log.status().borrow().state, State::ReadOnly { .. }));
    assert_eq!(count(&log), 1, "what is durable can be read");
    assert!(matches!(wait(log.close()), Err(CloseError { .. })));
    drop(log);
    // The system may still show what the disk never got: whatever is shown after opening must
    // outlive a crash.
    let log = on(&disk.kill());
    let shown = count(&log);
    assert!(shown == 1 || shown == 2);
    drop(log);
    assert_eq!(count(&on(&disk.crash())), shown);
}

#[test]
fn what_a_failed_write_of_a_group_left_is_never_shown() {
    for nth in 1..4 {
        let disk = Simulated::new(nth);
        let log = on(&disk);
        append(&log, "first").unwrap();
        disk.plan(DiskUse::Write, nth, Fault::Fail);
        for n in 0..5 {
            let _ = append(&log, &format!("{n}"));
        }
        drop(log);
        let log = on(&disk.kill());
        let found = count(&log);
        assert!((1..=6).contains(&found));
        assert_eq!(
            append(&log, "last").map(|outcome| matches!(outcome, Outcome::Appended(_))),
            Ok(true)
        );
    }
}

#[test]
fn a_second_opening_is_refused_while_the_first_lasts() {
    let folder = Folder::new("taken");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    let again = Log::open(&folder.0, Options::default());
    assert!(matches!(again.map(|_| ()), Err(LogOpenError::InUse { .. })));
    drop(log);
    Log::open(&folder.0, Options { open: Existing::Only, ..Options::default() }).unwrap();
}

#[test]
fn a_directory_that_is_no_log_is_left_alone() {
    let folder = Folder::new("foreign");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("photo.jpg"), b"\xff\xd8").unwrap();
    let opened = Log::open(&folder.0, Options::default()).map(|_| ());
    assert!(matches!(opened, Err(LogOpenError::Foreign { file, .. }) if file == "photo.jpg"));
    fs::remove_file(folder.0.join("photo.jpg")).unwrap();
    fs::write(folder.0.join("log-000000000001.seg"), b"something else entirely").unwrap();
    let opened = Log::open(&folder.0, Options::default()).map(|_| ());
    assert!(
        matches!(opened, Err(LogOpenError::Damaged { .. })),
        "who names a file so has a log here: {opened:?}"
    );
    let missing =
        Log::open(folder.0.join("none"), Options { open: Existing::Only, ..Options::default() })
            .map(|_| ());
    assert!(matches!(missing, Err(LogOpenError::Missing { .. })));
}

/// The root of a fresh ext4 volume holds a directory of the file system's own, and looked like
/// somebody's.
#[test]
fn a_fresh_volume_is_an_empty_directory() {
    let folder = Folder::new("volume");
    fs::create_dir_all(folder.0.join("lost+found")).unwrap();
    let (log, _) =
        Log::open(&folder.0, Options { open: Existing::Never, ..Options::default() }).unwrap();
    append(&log, "first").unwrap();
    drop(log);
    assert!(verify(&folder.0, &mut |_| Continue(())).unwrap().is_sound());
    assert_eq!(count(&Log::open(&folder.0, Options::default()).unwrap().0), 1);
    let other = Folder::new("no-volume");
    fs::create_dir_all(&other.0).unwrap();
    fs::write(other.0.join("lost+found"), "somebody's own list").unwrap();
    let opened = Log::open(&other.0, Options::default()).map(|_| ());
    assert!(matches!(opened, Err(LogOpenError::Foreign { file, .. }) if file == "lost+found"));
}

/// Rule 57 of servers: a file of another schema is refused with its version named. Those of older
/// ones open, as the tests in `old` say.
#[test]
fn another_format_version_is_named_and_nothing_is_changed() {
    let folder = Folder::new("version");
    drop(Log::open(&folder.0, Options::default()).unwrap());
    let file = folder.0.join("log-000000000001.seg");
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..252]).to_le_bytes();
    bytes[252..256].copy_from_slice(&crc);
    fs::write(&file, &bytes).unwrap();
    let opened = Log::open(&folder.0, Options::default()).map(|_| ());
    assert!(
        matches!(opened, Err(LogOpenError::OtherRelease { what: "format version", found: 3, .. })),
        "{opened:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_clock_far_behind_the_last_record_is_refused() {
    let disk = Simulated::new(3);
    let clock = Arc::new(TestClock::default());
    let with = |clock: &Arc<TestClock>| Options { clock: Arc::clone(clock) as _, ..options() };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), with(&clock)).unwrap();
    append(&log, "first").unwrap();
    drop(log);
    clock.shift(-25 * 3_600_000_000);
    let opened = Log::open_on(Arc::new(disk.clone()), with(&clock)).map(|_| ());
    assert!(matches!(opened, Err(LogOpenError::ClockBehind { .. })), "{opened:?}");
    clock.shift(25 * 3_600_000_000);
    assert_eq!(count(&Log::open_on(Arc::new(disk), with(&clock)).unwrap().0), 1);
}

/// A machine whose clock said 2099 once, when a log was opened: every later opening was refused,
/// for good.
#[test]
fn a_log_with_a_record_of_the_far_future_goes_on_where_that_is_meant() {
    const YEARS: i64 = 75 * 365 * 86_400_000_000;
    let (disk, clock) = (Simulated::new(3), Arc::new(TestClock::default()));
    let open = |clock_behind| {
        let options = Options { clock: Arc::clone(&clock) as _, clock_behind, ..options() };
        Log::open_on(Arc::new(disk.clone()), options).map(|(log, _)| log)
    };
    let recorded = |log: &Log| log.status().borrow().head.recorded_at;
    clock.shift(YEARS);
    let log = open(ClockBehind::Refuse).unwrap();
    append(&log, "of the future").unwrap();
    let mut last = recorded(&log);
    drop(log);
    clock.shift(-YEARS);
    for opening in 1..4 {
        assert!(matches!(open(ClockBehind::Refuse), Err(LogOpenError::ClockBehind { .. })));
        let log = open(ClockBehind::GoOn).unwrap();
        append(&log, "now").unwrap();
        clock.shift(5_000_000);
        append(&log, "five seconds later").unwrap();
        assert!(log.clock_skew_micros() < -YEARS / 2, "it is told: {}", log.clock_skew_micros());
        let passed = recorded(&log).since(last);
        assert!((5..6).contains(&passed.as_secs()), "{passed:?} passed in opening {opening}");
        last = recorded(&log);
        drop(log);
    }
    assert_eq!(verify_on(Arc::new(disk.clone()), &mut |_| Continue(())).unwrap().events, 7);
    clock.shift(YEARS);
    let log = open(ClockBehind::Refuse).unwrap();
    append(&log, "when the clock has come there").unwrap();
    assert_eq!((count(&log), log.clock_skew_micros()), (8, 0));
}

#[test]
fn damage_below_a_durable_mark_is_an_error_with_its_place_wherever_it_is() {
    let disk = Simulated::new(4);
    let log = on(&disk);
    for n in 0..6 {
        append(&log, &format!("event {n}")).unwrap();
    }
    wait(log.close()).unwrap();
    drop(log);
    let sound = disk.content("log-000000000001.seg").unwrap();
    for byte in 0..sound.len() - 1 {
        disk.rot("log-000000000001.seg", byte, 3);
        let verified = verify_on(Arc::new(disk.clone()), &mut |_| Continue(()));
        let seal = byte >= sound.len() - 80;
        match verified {
            Ok(verified) => {
                // A seal that is damaged looks like a group that was never acknowledged.
                let found = if seal { verified.tail.is_some() } else { verified.damage.is_some() };
                assert!(found, "byte {byte}: {verified:?}");
            }
            Err(error) => assert!(byte < 256, "byte {byte}: {error}"),
        }
        disk.rot("log-000000000001.seg", byte, 3);
    }
    assert!(verify_on(Arc::new(disk), &mut |_| Continue(())).unwrap().is_sound());
}

/// A sector across the end of one group and the header of the next was lost. Recovery looked only
/// right behind the first group for a later one, found none, and cut everything from there on:
/// acknowledged groups were gone without a word.
#[test]
fn a_lost_sector_across_two_groups_is_damage_where_a_later_group_stands() {
    let disk = Simulated::new(4);
    let log = on(&disk);
    for n in 0..6 {
        append(&log, &format!("event {n}")).unwrap();
    }
    let dead = disk.kill();
    drop(log);
    let bytes = dead.content("log-000000000001.seg").unwrap();
    let groups: Vec<usize> =
        (0..bytes.len() - 4).filter(|at| &bytes[*at..*at + 4] == b"LFG1").collect();
    assert_eq!(groups.len(), 6);
    for pair in groups[..5].windows(2) {
        let (body, header) = (pair[0] + 100, pair[1] + 50);
        for at in [body, header] {
            dead.rot("log-000000000001.seg", at, 2);
        }
        let opened = Log::open_on(Arc::new(dead.clone()), options());
        assert!(matches!(opened, Err(LogOpenError::Damaged { .. })), "{pair:?}: {opened:?}");
        for at in [body, header] {
            dead.rot("log-000000000001.seg", at, 2);
        }
    }
    assert_eq!(count(&on(&dead)), 6);
}

/// The last record of a later release was cut off as if it had been torn.
#[test]
fn a_last_record_that_checks_and_is_not_understood_is_refused_and_not_cut() {
    let disk = Simulated::new(4);
    let log = on(&disk);
    append(&log, "known").unwrap();
    append(&log, "strange").unwrap();
    let dead = disk.kill();
    drop(log);
    let name = "log-000000000001.seg";
    let bytes = dead.content(name).unwrap();
    let group = (0..bytes.len() - 4).rfind(|at| &bytes[*at..*at + 4] == b"LFG1").unwrap();
    let mut record = bytes[group + 80..].to_vec();
    let len = u32::from_le_bytes(record[4..8].try_into().unwrap()) as usize;
    record.truncate(9 + len);
    record[8] = 9;
    let crc = crc32c::crc32c(&record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    dead.open(name).unwrap().write_all_at(&record, group as u64 + 80).unwrap();
    let opened = Log::open_on(Arc::new(dead.clone()), options());
    assert!(
        matches!(&opened, Err(LogOpenError::Damaged { detail, .. }) if detail.contains("kind 9")),
        "{opened:?}"
    );
    assert_eq!(
        dead.content(name).unwrap()[group + 80..][..record.len()],
        record,
        "nothing was changed"
    );
}

#[test]
fn rot_is_noticed_by_readers_of_an_open_log() {
    let disk = Simulated::new(5);
    let log = on(&disk);
    append(&log, "first").unwrap();
    append(&log, "second").unwrap();
    let place = disk
        .content("log-000000000001.seg")
        .unwrap()
        .windows(6)
        .position(|bytes| bytes == b"second")
        .unwrap();
    disk.rot("log-000000000001.seg", place, 0);
    let found = wait(Store::new(log.clone()).read(Read::matching(Query::all(), Position(2))).all());
    let Err(ReadError::Damaged { place, .. }) = found else { panic!("{found:?}") };
    assert!(place.contains("log-000000000001.seg byte"), "{place}");
    let first = wait(log.read(Read::matching(Query::all(), Position(1)).page_of(1)));
    assert!(first.is_ok() || matches!(first, Err(ReadError::Damaged { .. })));
}

#[test]
fn a_torn_end_is_cut_and_reported() {
    let disk = Simulated::new(6);
    let log = on(&disk);
    append(&log, "first").unwrap();
    let end =
        disk.content("log-000000000001.seg").unwrap().iter().rposition(|byte| *byte != 0).unwrap()
            + 1;
    append(&log, "second").unwrap();
    let dead = disk.kill();
    drop(log);
    dead.rot("log-000000000001.seg", end + 100, 1);
    let (log, recovery) = Log::open_on(Arc::new(dead), options()).unwrap();
    assert_eq!(count(&log), 1);
    let cut = recovery.cut.unwrap();
    assert_eq!(cut.place, format!("log-000000000001.seg byte {end}"));
    assert!(!recovery.closed_cleanly);
}

#[test]
fn an_index_that_knows_more_than_the_log_is_a_witness_of_loss() {
    let disk = Simulated::new(7);
    let log = on(&disk);
    append(&log, "first").unwrap();
    let old = disk.content("log-000000000001.seg").unwrap();
    append(&log, "second").unwrap();
    wait(log.close()).unwrap();
    drop(log);
    let file = disk.open("log-000000000001.seg").unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&old, 0).unwrap();
    file.sync().unwrap();
    let opened = Log::open_on(Arc::new(disk.clone()), options()).map(|_| ());
    assert!(matches!(opened, Err(LogOpenError::Damaged { .. })), "{opened:?}");
    let restored = leftfold_log::restore_on(Arc::new(disk.clone()), options()).unwrap();
    assert_eq!((restored.identity.epoch.number, restored.head.position), (2, Position(1)));
    let log = on(&disk);
    assert_eq!(log.identity(), restored.identity);
    assert_eq!(count(&log), 1);
    append(&log, "another").unwrap();
    drop(log);
    assert!(verify_on(Arc::new(disk), &mut |_| Continue(())).unwrap().is_sound());
}

#[test]
fn a_log_is_read_only_where_it_is_opened_so_and_its_directory_stays_as_it_is() {
    let folder = Folder::new("read-only");
    let (log, _) =
        Log::open(&folder.0, Options { segment_bytes: 4096, ..Options::default() }).unwrap();
    for n in 0..50 {
        append(&log, &format!("{n} {}", "x".repeat(400))).unwrap();
    }
    // The directory of a process that has it open.
    let (reader, recovery) = Log::open_read_only(&folder.0, Options::default()).unwrap();
    assert_eq!(
        count(&reader) as u64 + recovery.held_back,
        50,
        "the last group is shown once that process has said that it is durable"
    );
    assert!(matches!(append(&reader, "no"), Err(AppendError::ReadOnly { .. })));
    wait(reader.close()).unwrap();
    drop(log);
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // A copy without anything that is derived.
    for name in names(&folder.0) {
        let name = name.to_string_lossy().into_owned();
        if !name.ends_with(".seg") {
            fs::remove_file(folder.0.join(name)).unwrap();
        }
    }
    let before = names(&folder.0);
    let (reader, recovery) = Log::open_read_only(&folder.0, Options::default()).unwrap();
    assert_eq!(
        (count(&reader), recovery.replayed, recovery.held_back),
        (50, 50, 0),
        "a seal stands behind the last group"
    );
    drop(reader);
    assert_eq!(names(&folder.0), before);
    assert!(verify(&folder.0, &mut |_| Continue(())).unwrap().is_sound());
    assert_eq!(restore(&folder.0, Options::default()).unwrap().identity.epoch.number, 2);
}

/// A process was killed between writing a group and its sync: a reader was shown the group, and a
/// crash of the machine took it back.
#[test]
fn what_a_reader_is_shown_outlives_a_crash() {
    let (mut lost, mut held_back) = (0, 0);
    for seed in 0..30 {
        let disk = Simulated::new(seed);
        let log = on(&disk);
        append(&log, "first").unwrap();
        append(&log, "second").unwrap();
        disk.plan(DiskUse::Sync, 1, Fault::Stop);
        assert!(append(&log, "third").is_err());
        drop(log);
        let disk = disk.kill();
        let (reader, recovery) = Log::open_read_only_on(Arc::new(disk.clone()), options()).unwrap();
        let shown = count(&reader);
        assert_eq!(
            (shown, recovery.head.position),
            (2, Position(2)),
            "what is acknowledged and followed is shown"
        );
        assert_eq!(wait(Store::new(reader).version(stream("test-1"))), Ok(Version(2)));
        held_back += recovery.held_back;
        let outlived = count(&on(&disk.crash()));
        assert!(
            outlived >= shown,
            "{shown} events were shown to a reader, {outlived} outlived the crash"
        );
        lost += usize::from(outlived == 2);
    }
    assert!(
        lost > 0 && held_back > 0,
        "the group that was not synced is lost sometimes: {lost}, {held_back}"
    );
}

#[test]
fn a_dump_has_a_line_for_every_record() {
    let disk = Simulated::new(8);
    let log = on(&disk);
    append(&log, "{\"n\":1}").unwrap();
    let condition = Condition::stream(stream("test-1"), Expected::Exact(Version(1)));
    wait(log.append(Append::of(vec![event("two"), event("\u{1}")]).when(condition))).unwrap();
    drop(log);
    let mut lines = Vec::new();
    let verified = dump_on(Arc::new(disk), &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!((verified.events, verified.groups), (3, 3));
    assert_eq!(lines.len(), 1 + 3 + 3, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("data {\"n\":1}")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("continues data two")));
    assert!(lines.iter().any(|line| line.contains("data 0x01")));
}

#[test]
fn a_dump_shows_bytes_that_are_no_text_in_hexadecimal() {
    let disk = Simulated::new(8);
    let log = on(&disk);
    let (data, answer) = (b"caf\xe9 \xff\x00".to_vec(), b"\xc3\x28".to_vec());
    let command = CommandRecord {
        id: CommandId::new("test", "k"),
        digest: Digest::of(b"k"),
        answer: answer.into(),
    };
    let event = NewEvent::new(event_type("test.Happened"), data);
    wait(log.append(Append { command: Some(command), ..Append::of(vec![event]) })).unwrap();
    drop(log);
    let mut lines = Vec::new();
    dump_on(Arc::new(disk), &mut |line| lines.push(line.to_owned())).unwrap();
    assert!(lines.iter().any(|line| line.ends_with("data 0x636166e920ff00")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("answer 0xc328")), "{lines:#?}");
}

#[test]
fn more_than_may_wait_is_refused_as_busy() {
    let disk = Simulated::new(9);
    let small = Options { queue_appends: 1, ..options() };
    let (log, _) = Log::open_on(Arc::new(disk), small).unwrap();
    let answers =
        log.append_together((0..4).map(|n| Append::of(vec![event(&n.to_string())])).collect());
    let more: Vec<_> =
        (0..64).map(|n| log.append(Append::of(vec![event(&n.to_string())]))).collect();
    for answer in answers {
        assert!(matches!(wait(answer), Ok(Outcome::Appended(_))));
    }
    for answer in more {
        assert!(matches!(wait(answer), Ok(Outcome::Appended(_)) | Err(AppendError::Busy { .. })));
    }
}

#[test]
fn a_page_backwards_reads_no_more_than_it_may_hold() {
    let disk = Simulated::new(10);
    let log = on(&disk);
    let large = "x".repeat(1 << 20);
    for _ in 0..40 {
        append(&log, &large).unwrap();
    }
    let reads =
        [Read::matching(Query::all(), Position::END), Read::stream(stream("test-1"), Version::END)];
    for read in reads.map(Read::backwards) {
        let before = disk.count(DiskUse::Read);
        let page = wait(log.read(read.clone())).unwrap();
        assert_eq!(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [40]);
        let used = disk.count(DiskUse::Read) - before;
        assert!(used < 10, "{used} reads for a page of one event, of {read:?}");
    }
}

/// Versions are compared with the index when a log is opened. An index that could not be read was
/// taken for damage of the log.
#[test]
fn an_index_that_cannot_be_read_is_no_damage_of_the_log() {
    let disk = Simulated::new(11);
    let small = || Options { memory_bytes: 256 << 10, ..options() };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), small()).unwrap();
    let spread = |n: u64| event("x").in_stream(stream(&format!("test-{}", n * 7_919 % 500)));
    for first in (0..6_000).step_by(50) {
        wait(log.append(Append::of((first..first + 50).map(spread).collect()))).unwrap();
    }
    // It is not closed, and what the index had no time to cover is gone through again.
    let disk = disk.kill();
    drop(log);
    let open = |disk: &Simulated| Log::open_read_only_on(Arc::new(disk.clone()), small());
    let before = disk.count(DiskUse::Read);
    let (_, recovery) = open(&disk).unwrap();
    let reads = disk.count(DiskUse::Read) - before;
    assert!(recovery.replayed > 500 && recovery.replayed < 5_500, "{recovery:?}");
    let mut opened = 0;
    for nth in 1..=reads {
        disk.plan(DiskUse::Read, nth, Fault::Fail);
        match open(&disk) {
            Ok((_, again)) => {
                assert_eq!(again.head, recovery.head, "read {nth}");
                opened += 1;
            }
            Err(error) => {
                assert!(matches!(error, LogOpenError::Io { .. }), "read {nth}: {error:?}")
            }
        }
        disk.plan_nothing();
    }
    assert!(opened > reads / 4, "{opened} openings went on, of {reads}");
}

/// The hash in the header of a new epoch's segment is not that at the end of the one before. The
/// offsets of that one were taken for another segment's, and made again, by going through all of
/// it, whenever a log was read that was restored once.
#[test]
fn offsets_are_kept_over_a_change_of_epoch() {
    for closed in [true, false] {
        let disk = Simulated::new(12);
        let log = on(&disk);
        for n in 0..100 {
            append(&log, &n.to_string()).unwrap();
        }
        let disk = if closed {
            drop(log);
            disk
        } else {
            disk.kill()
        };
        for restores in 1..3 {
            restore_on(Arc::new(disk.clone()), options()).unwrap();
            for opening in 0..2 {
                let log = on(&disk);
                let before = disk.count(DiskUse::Rename);
                assert_eq!(count(&log), 100);
                let made = disk.count(DiskUse::Rename) - before;
                assert_eq!(
                    made, 0,
                    "files of offsets made, restored {restores} times, opening {opening}, closed: {closed}"
                );
            }
        }
    }
}
