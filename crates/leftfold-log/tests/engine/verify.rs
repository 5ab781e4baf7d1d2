//! Verifying a log while it is written, and how far it is.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::store::{Append, Backend, CommandId, CommandRecord, Digest, NewEvent, Position};
use leftfold_log::disk::{Disk, Simulated};
use leftfold_log::{Log, LogFollower, LogVerifyError, Options, Upkeep, verify, verify_on};

use crate::support::{Folder, event_type, stream, wait};

fn options() -> Options {
    Options { segment_bytes: 32 << 10, ..Options::default() }
}

fn append(log: &Log, number: u64) {
    let event = NewEvent::new(event_type("t"), "x".repeat(number as usize % 900))
        .in_stream(stream(&format!("s-{}", number % 7)));
    let id = CommandId::new("test", &number.to_string());
    let command = CommandRecord { id, digest: Digest([1; 16]), answer: "ok".into() };
    let append = Append { command: Some(command), ..Append::of(vec![event]) };
    wait(log.append(append)).unwrap();
}

#[test]
fn a_log_is_verified_while_it_is_written_by_its_own_process_and_by_another_one() {
    let folder = Folder::new("verify-live");
    // The index is written and merged all the while.
    let options = || Options { memory_bytes: 1 << 20, ..options() };
    let (log, _) = Log::open(&folder.0, options()).unwrap();
    (0..200).for_each(|number| append(&log, number));
    let (follower, _) = LogFollower::open(&folder.0, options()).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Large groups take a while to be shown.
            let events = || (0..2_000).map(|_| NewEvent::new(event_type("t"), "x"));
            for number in 200..215 {
                append(&log, number);
                wait(log.append(Append::of(events().collect()))).unwrap();
            }
            end.store(true, Ordering::Relaxed);
        });
        let mut last = Position::START;
        while !end.load(Ordering::Relaxed) || last == Position::START {
            let mut goes_on = |_| ControlFlow::Continue(());
            let here = log.verify(&mut goes_on).unwrap();
            let elsewhere = verify(&folder.0, &mut goes_on).unwrap();
            let followed = follower.verify(&mut goes_on).unwrap();
            for verified in [&here, &elsewhere, &followed] {
                assert!(verified.is_sound(), "{verified:?}");
                assert_eq!(verified.head.position.0, verified.events);
                assert_eq!(verified.tail, None);
            }
            assert!(here.head.position >= last && elsewhere.head.position >= here.head.position);
            last = here.head.position;
        }
    });
}

#[test]
fn damage_to_a_log_that_is_open_is_named() {
    let disk = Simulated::new(1);
    let options = || Options { upkeep: Upkeep::Inline, ..options() };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options()).unwrap();
    (0..200).for_each(|number| append(&log, number));
    let mut names = disk.names().unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    assert!(names.len() > 1, "{names:?}");
    disk.rot(&names[0], 5_000, 1);
    let verified = log.verify(&mut |_| ControlFlow::Continue(())).unwrap();
    let damage = verified.damage.expect("it is damaged");
    assert!(damage.place.contains(&names[0]), "{damage}");
    assert!(verified.events > 0 && verified.events < 200);
    assert_eq!(verified.head.position.0, verified.events);
}

#[test]
fn the_caller_is_told_how_far_it_is_and_may_end_it() {
    let disk = Simulated::new(2);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let big = || NewEvent::new(event_type("t"), "x".repeat(500 << 10));
    (0..20).for_each(|_| drop(wait(log.append(Append::of(vec![big()]))).unwrap()));
    wait(log.close()).unwrap();
    drop(log);
    let closed: Arc<dyn Disk> = Arc::new(disk);
    let mut told = Vec::new();
    let verified = verify_on(Arc::clone(&closed), &mut |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    });
    assert!(verified.unwrap().is_sound());
    let all = told[0].bytes;
    assert!(all > 20 * (1_000 << 10) && told.len() > 10, "twice the bytes of the log: {told:?}");
    assert!(told.iter().all(|progress| progress.bytes == all));
    assert!(told.windows(2).all(|pair| pair[0].bytes_done < pair[1].bytes_done));
    assert_eq!(told.last().map(|last| last.bytes_done), Some(all));
    let stopped = verify_on(closed, &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped, Err(LogVerifyError::Stopped));
}
