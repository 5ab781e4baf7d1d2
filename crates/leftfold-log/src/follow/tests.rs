//! A follower beside a writer on one simulated disk, looked at step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::store::{
    Append, AppendError, Backend, EventType, Hash, NewEvent, Outcome, Position, StreamName,
};
use tokio::runtime::{Builder, Runtime};

use super::FollowEnd;
use super::feed::{Feed, FollowStep};
use crate::disk::{DiskUse, Fault, Simulated};
use crate::{Log, Options, Upkeep, restore_on};

fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn options() -> Options {
    Options { segment_bytes: 8 << 10, upkeep: Upkeep::Inline, ..Options::default() }
}

fn shared(seed: u64) -> Simulated {
    let disk = Simulated::new(seed);
    disk.share();
    disk
}

fn writer(disk: &Simulated) -> Log {
    Log::open_on(Arc::new(disk.clone()), options()).unwrap().0
}

fn follower(disk: &Simulated) -> Feed {
    Feed::open(Arc::new(disk.clone()), options()).unwrap().0
}

fn append(log: &Log, bytes: usize) -> Result<Outcome, AppendError> {
    let stream = StreamName::of("s", "1").unwrap();
    let event = NewEvent::new(EventType::new("t.Happened").unwrap(), "x".repeat(bytes));
    wait(log.append(Append::of(vec![event.in_stream(stream)])))
}

fn head(feed: &Feed) -> Position {
    feed.follower().status.borrow().head.position
}

/// The last position that was shown, and the hash of its group.
fn shown(feed: &Feed) -> Option<(Position, Hash)> {
    let groups = feed.log().groups.read().unwrap();
    groups.back().map(|group| (group.last, group.hash))
}

#[test]
fn nothing_that_was_shown_is_gone_after_the_machine_fails_at_any_moment() {
    let first = fastrand::u64(..1 << 32);
    println!("first seed {first}");
    let mut seen = 0;
    for seed in first..first + 60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = shared(seed);
        let log = writer(&disk);
        append(&log, 10).unwrap();
        let mut feed = follower(&disk);
        let kind = DiskUse::CHANGES[random.usize(..DiskUse::CHANGES.len())];
        let fault = if random.bool() { Fault::Stop } else { Fault::Fail };
        disk.plan(kind, random.u64(1..40), fault);
        let done = AtomicBool::new(false);
        let last = std::thread::scope(|scope| {
            let following = scope.spawn(|| {
                let mut last = None;
                loop {
                    let ended = done.load(Ordering::Acquire);
                    feed.look().unwrap();
                    last = shown(&feed).max_by_position(last);
                    if ended {
                        return last;
                    }
                }
            });
            for _ in 0..60 {
                if append(&log, random.usize(1..900)).is_err() {
                    break;
                }
            }
            done.store(true, Ordering::Release);
            following.join().unwrap()
        });
        drop((log, feed));
        let again = writer(&if random.bool() { disk.crash() } else { disk.kill() });
        if let Some((position, hash)) = last {
            seen += 1;
            assert_eq!(wait(again.hash_at(position)), Ok(Some(hash)), "seed {seed}, {position}");
        }
    }
    assert!(seen > 30, "{seen} of 60 followers saw something");
}

trait MaxByPosition {
    fn max_by_position(self, other: Self) -> Self;
}

impl MaxByPosition for Option<(Position, Hash)> {
    fn max_by_position(self, other: Self) -> Self {
        if self.map(|(at, _)| at) >= other.map(|(at, _)| at) { self } else { other }
    }
}

#[test]
fn the_last_group_is_shown_when_it_is_marked_or_something_stands_behind_it() {
    let disk = Simulated::new(1);
    let log = writer(&disk);
    append(&log, 10).unwrap();
    let mut feed = follower(&disk);
    assert_eq!((feed.look(), head(&feed)), (Ok(FollowStep::Nothing), Position(0)));
    append(&log, 10).unwrap();
    assert_eq!((feed.look(), head(&feed)), (Ok(FollowStep::More), Position(1)));
    disk.share();
    append(&log, 10).unwrap();
    assert_eq!((feed.look(), head(&feed)), (Ok(FollowStep::More), Position(3)));
    wait(log.close()).unwrap();
    // The seal says nothing new of events.
    assert_eq!((feed.look(), head(&feed)), (Ok(FollowStep::More), Position(3)));
}

#[test]
fn segments_come_and_go_under_a_follower_and_opening_it_anew_loses_nothing() {
    let disk = shared(2);
    let log = writer(&disk);
    append(&log, 10).unwrap();
    let mut feed = follower(&disk);
    for n in 2..200 {
        append(&log, 300).unwrap();
        feed.look().unwrap();
        assert_eq!(head(&feed), Position(n));
        if n % 50 == 0 {
            feed.renew();
        }
    }
    let read = leftfold_core::store::Read::stream(
        StreamName::of("s", "1").unwrap(),
        leftfold_core::store::Version(1),
    );
    let opened = feed.follower().opened.read().unwrap().clone();
    let events = wait(leftfold_core::store::Store::new(opened).read(read).all()).unwrap();
    assert_eq!(events.len(), 199);
}

#[test]
fn a_declared_restore_and_files_that_were_exchanged_end_it() {
    let disk = shared(3);
    let log = writer(&disk);
    append(&log, 10).unwrap();
    wait(log.close()).unwrap();
    drop(log);
    let mut feed = follower(&disk);
    restore_on(Arc::new(disk.clone()), options()).unwrap();
    assert_eq!(feed.look(), Err(FollowEnd::Restored { began_after: Position(1) }));

    let disk = shared(4);
    let log = writer(&disk);
    append(&log, 10).unwrap();
    let mut feed = follower(&disk);
    let name = crate::format::segment_name(1);
    let other = shared(5);
    append(&writer(&other), 10).unwrap();
    let content = other.content(&name).unwrap();
    use crate::disk::Disk;
    disk.remove(&name).unwrap();
    disk.create(&name).unwrap().write_all_at(&content, 0).unwrap();
    feed.inspect().unwrap();
    assert_eq!(feed.inspect(), Err(FollowEnd::Replaced { file: name }));
}

#[test]
fn damage_at_the_end_is_told_and_not_waited_for() {
    let disk = shared(6);
    let log = writer(&disk);
    append(&log, 10).unwrap();
    let mut feed = follower(&disk);
    feed.look().unwrap();
    let damaged = feed.place();
    append(&log, 10).unwrap();
    append(&log, 10).unwrap();
    disk.rot(&crate::format::segment_name(1), damaged + 100, 1);
    assert_eq!((feed.look(), head(&feed)), (Ok(FollowStep::Nothing), Position(1)));
    feed.inspect().unwrap();
    assert!(matches!(feed.inspect(), Err(FollowEnd::Damaged { .. })));
}
