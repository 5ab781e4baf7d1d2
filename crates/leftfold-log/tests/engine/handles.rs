//! File handles: a log needs a bounded number of them, and a moment without any is like a full
//! disk.

use std::fs::{self, File};
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use leftfold_core::store::{
    Append, AppendError, Backend, CommandId, CommandRecord, Digest, NewEvent, Outcome, Position,
    Query, Read, ReadError, State, Store,
};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{Log, LogOpenError, Options, Upkeep, verify_on};

use crate::support::{TestClock, event_type, stream, wait};

const FOLDER: &str = "LEFTFOLD_HANDLES_FOLDER";
/// Limit of files that the process below may have open. It is less than the segments that it
/// writes.
const HANDLES: &str = "48";

/// Each is a segment of its own.
fn large(n: usize) -> Append {
    Append::of(vec![
        NewEvent::new(event_type("test.Happened"), format!("{n} {}", "x".repeat(5_000)))
            .in_stream(stream("test-1")),
    ])
}

fn read_all(log: &Log) -> Result<usize, ReadError> {
    wait(Store::new(log.clone()).read(Read::matching(Query::everything(), Position(1))).all())
        .map(|all| all.len())
}

/// The process whose handles are few: the test below starts it.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let options = || Options { segment_bytes: 4096, ..Options::default() };
    let open_files = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let (log, _) = Log::open(&folder, options()).unwrap();
    for n in 0..150 {
        wait(log.append(large(n))).unwrap();
    }
    let written = open_files();
    assert_eq!(read_all(&log), Ok(150));
    assert!(
        written < 30,
        "{written} files are open after 150 segments were written and none was read"
    );
    wait(log.append(large(150))).unwrap();
    drop(log);
    let (log, _) = Log::open(&folder, options()).unwrap();
    assert_eq!(read_all(&log), Ok(151));
    wait(log.append(large(151))).unwrap();
    // Now somebody else takes every handle that is left, while the next segment is to be begun.
    let (mut taken, mut appended) = (Vec::new(), 152);
    for round in 0..3 {
        // The handles of the files that were read are let go of first, so an append or two may
        // still go in.
        let refused = loop {
            while let Ok(file) = File::open("/dev/null") {
                taken.push(file);
            }
            match wait(log.append(large(appended))) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AppendError::Full { .. }), "round {round}: {refused:?}");
        assert!(matches!(read_all(&log), Err(ReadError::Io { .. })), "round {round}");
        assert_eq!(log.status().borrow().state, State::Open);
        taken.clear();
        assert_eq!(read_all(&log), Ok(appended));
        wait(log.append(large(appended))).unwrap();
        appended += 1;
    }
    drop(log);
    let (log, recovery) = Log::open(&folder, options()).unwrap();
    assert!(recovery.closed_cleanly);
    assert_eq!(read_all(&log), Ok(appended));
}

/// Every segment that was written or read kept a handle, and one moment without handles at a
/// rotation made the store read-only for good: the directory could not be opened to make it durable
/// that nothing was begun.
#[test]
fn a_process_with_few_handles_writes_and_reads_any_number_of_segments() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("handles-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let itself = std::env::current_exe().unwrap();
    let script = format!("ulimit -n {HANDLES} && exec \"$0\" --exact handles::child --nocapture");
    let output =
        Command::new("sh").arg("-c").arg(script).arg(itself).env(FOLDER, &folder).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
    fs::remove_dir_all(&folder).unwrap();
}

fn options() -> Options {
    Options {
        segment_bytes: 4096,
        memory_bytes: 8 << 10,
        open_files: 2,
        upkeep: Upkeep::Inline,
        clock: Arc::new(TestClock::default()),
        ..Options::default()
    }
}

/// Leads a store through its life: rotations, flushes and merges of the index, reads of old
/// segments and repeated requests. Returns how many times it was told that there is no room.
fn live(log: &Log) -> usize {
    let mut refused = 0;
    for n in 0..20_u8 {
        let mut append = Append::of((0..8).map(|k| event(n, k)).collect());
        append.command = Some(CommandRecord {
            id: CommandId([n; 16]),
            digest: Digest([n; 16]),
            answer: vec![n].into(),
        });
        loop {
            match wait(log.append(append.clone())) {
                Ok(Outcome::Appended(_)) => break,
                Err(AppendError::Full { .. } | AppendError::Read(ReadError::Io { .. })) => {
                    refused += 1
                }
                other => panic!("append {n}: {other:?}"),
            }
            assert_eq!(log.status().borrow().state, State::Open, "append {n}");
        }
        let again = CommandId([n / 2; 16]);
        while let Err(error) = wait(log.answered(again)).map(|answered| assert!(answered.is_some()))
        {
            assert!(matches!(error, ReadError::Io { .. }), "{error:?}");
            refused += 1;
        }
        if n % 8 == 0 {
            while let Err(error) =
                read_all(log).map(|count| assert_eq!(count, (usize::from(n) + 1) * 8))
            {
                assert!(matches!(error, ReadError::Io { .. }), "{error:?}");
                refused += 1;
            }
        }
    }
    refused
}

fn event(n: u8, k: u8) -> NewEvent {
    let name = stream(&format!("s-{}", u32::from(n) * 8 + u32::from(k)));
    NewEvent::new(event_type("test.Happened"), vec![n; 60]).in_stream(name)
}

/// The n-th use of the disk of a kind, and so many behind it, are refused for want of handles, for
/// every n.
#[test]
fn a_moment_without_handles_at_any_place_loses_nothing_and_passes() {
    let kinds = [
        DiskUse::Open,
        DiskUse::Create,
        DiskUse::Rename,
        DiskUse::Remove,
        DiskUse::SyncNames,
        DiskUse::Write,
        DiskUse::Read,
    ];
    for kind in kinds {
        let mut reached = 0;
        for moment in [1, 4] {
            // Files are opened and read so often that not every time is tried.
            let step = match kind {
                DiskUse::Open => 3,
                DiskUse::Read => 41,
                _ => 1,
            };
            for nth in (1..).step_by(step) {
                let disk = Simulated::new(nth);
                let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
                let before = disk.count(kind);
                (nth..nth + moment).for_each(|nth| disk.plan(kind, nth, Fault::Lack));
                let refused = live(&log);
                let came = disk.count(kind) >= before + nth;
                disk.plan_nothing();
                wait(log.close()).unwrap();
                drop(log);
                let verified = verify_on(Arc::new(disk.clone()), &mut |_| Continue(())).unwrap();
                assert!(verified.is_sound(), "{kind:?} {nth}: {verified:?}");
                assert_eq!((verified.events, verified.commands), (160, 20), "{kind:?} {nth}");
                let (log, recovery) = Log::open_on(Arc::new(disk), options()).unwrap();
                assert_eq!(
                    (read_all(&log), recovery.index_rebuilt),
                    (Ok(160), None),
                    "{kind:?} {nth}"
                );
                reached = reached.max(refused);
                if !came {
                    break;
                }
            }
        }
        assert!(reached > 0 || kind == DiskUse::Remove, "{kind:?} was refused and nobody noticed");
    }
}

#[test]
fn a_log_that_cannot_be_opened_for_want_of_handles_opens_when_there_are_some() {
    let disk = Simulated::new(1);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
    live(&log);
    let disk = disk.kill();
    drop(log);
    for kind in [
        DiskUse::Open,
        DiskUse::Create,
        DiskUse::Rename,
        DiskUse::Remove,
        DiskUse::SyncNames,
        DiskUse::SetLen,
    ] {
        for nth in 1.. {
            let before = disk.count(kind);
            disk.plan(kind, nth, Fault::Lack);
            let opened = Log::open_on(Arc::new(disk.clone()), options());
            let came = disk.count(kind) >= before + nth;
            disk.plan_nothing();
            if let Err(error) = &opened {
                assert!(matches!(error, LogOpenError::Io { .. }), "{kind:?} {nth}: {error:?}");
            }
            drop(opened);
            let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
            assert_eq!(read_all(&log), Ok(160), "{kind:?} {nth}");
            drop(log);
            if !came {
                break;
            }
        }
    }
    assert!(disk.names().unwrap().iter().all(|name| !name.ends_with(".tmp")));
}

/// A next segment that was begun may have its name already. A seal behind the segment before it
/// would make the log one that does not open.
#[test]
fn a_log_that_is_closed_while_its_next_segment_is_half_made_opens_again() {
    for nth in 1..4 {
        let disk = Simulated::new(1);
        let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
        wait(log.append(large(0))).unwrap();
        // Making the names of the new segment durable fails, and so does taking them back, until
        // the log is closed.
        (1..20).for_each(|nth| disk.plan(DiskUse::SyncNames, nth, Fault::Lack));
        for _ in 0..nth {
            assert!(matches!(wait(log.append(large(1))), Err(AppendError::Full { .. })));
        }
        let closed = wait(log.close());
        drop(log);
        disk.plan_nothing();
        let (log, recovery) = Log::open_on(Arc::new(disk), options()).unwrap();
        assert_eq!((read_all(&log), recovery.closed_cleanly), (Ok(1), closed.is_ok()));
        wait(log.append(large(1))).unwrap();
    }
}
