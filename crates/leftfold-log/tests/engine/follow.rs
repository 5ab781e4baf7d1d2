//! A log that is followed by another process, which is played here by another handle.

use std::collections::BTreeMap;
use std::fs;

use leftfold_core::store::{
    Append, AppendError, Backend, CommandId, CommandRecord, Digest, NewEvent, Position, Query,
    ReadError, State, Store,
};
use leftfold_log::disk::Simulated;
use leftfold_log::{FollowEnd, Log, LogFollower, LogOpenError, Options, restore};
use std::sync::Arc;

use crate::support::{Folder, event_type, stream, wait, wait_within};

fn append(log: &Log, text: &str) {
    let event = NewEvent::new(event_type("t"), text.to_owned()).in_stream(stream("s-1"));
    wait(log.append(Append::of(vec![event]))).unwrap();
}

#[test]
fn a_follower_is_told_what_is_new_and_refuses_appends() {
    let folder = Folder::new("followed");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    append(&log, "before");
    let (follower, recovery) = LogFollower::open(&folder.0, Options::default()).unwrap();
    assert_eq!(recovery.identity, log.identity());
    let store = Store::new(follower.clone());
    let mut events = store.subscribe(Query::all(), Position::START);
    assert_eq!(wait_within(events.event()).unwrap().data, "before");
    for n in 0..20 {
        append(&log, &n.to_string());
        assert_eq!(wait_within(events.event()).unwrap().data, n.to_string());
    }
    // A record without an event is found too, once the head tells of it.
    let (id, mut status) = (CommandId([7; 16]), follower.status());
    let record = CommandRecord { id, digest: Digest([1; 16]), answer: "ok".into() };
    wait(log.append(Append { command: Some(record), ..Append::default() })).unwrap();
    let chain = log.status().borrow().head.chain;
    wait_within(status.wait_for(|status| status.head.chain == chain)).unwrap();
    assert!(wait(store.answered(id)).unwrap().is_some());
    let refused = wait(store.append(Append::default()));
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    assert!(matches!(store.status().borrow().state, State::ReadOnly { .. }));
    wait(store.close()).unwrap();
    let ended = loop {
        match wait_within(events.next()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended, ReadError::Closed);
}

#[test]
fn following_changes_nothing_in_the_directory() {
    let folder = Folder::new("untouched");
    let options = || Options { segment_bytes: 16 << 10, ..Options::default() };
    let (log, _) = Log::open(&folder.0, options()).unwrap();
    (0..200).for_each(|n| append(&log, &format!("{n:0200}")));
    wait(log.close()).unwrap();
    drop(log);
    for gone in ["index.manifest", "log-000000000001.off"] {
        let _ = fs::remove_file(folder.0.join(gone));
    }
    let contents = || {
        let entries = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = contents();
    let (follower, _) = LogFollower::open(&folder.0, options()).unwrap();
    let mut events = Store::new(follower).subscribe(Query::all(), Position::START);
    for n in 1..=200 {
        assert_eq!(wait_within(events.event()).unwrap().position, Position(n));
    }
    drop(events);
    assert_eq!(contents(), before);
}

#[test]
fn a_consumer_of_a_restored_log_is_told_so_by_its_next_read() {
    let folder = Folder::new("restored-below");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    append(&log, "one");
    wait(log.close()).unwrap();
    drop(log);
    let (follower, _) = LogFollower::open(&folder.0, Options::default()).unwrap();
    let mut events = Store::new(follower.clone()).subscribe(Query::all(), Position(1));
    restore(&folder.0, Options::default()).unwrap();
    let ended = loop {
        match wait_within(events.next()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&ended, ReadError::Io { detail } if detail.contains("restored")), "{ended}");
    assert_eq!(follower.ended(), Some(FollowEnd::Restored { began_after: Position(1) }));
}

#[test]
fn a_log_on_a_full_disk_is_opened_to_be_read_and_says_why_it_is_not_written() {
    let disk = Simulated::new(9);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    append(&log, "one");
    append(&log, "two");
    // It is killed, so opening it has a seal to write.
    let disk = disk.kill();
    drop(log);
    let name = "log-000000000001.seg";
    let file = leftfold_log::disk::Disk::open(&disk, name).unwrap();
    let whole = disk.content(name).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    file.set_len(end).unwrap();
    disk.set_room(Some(0));
    let (log, recovery) = Log::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let why = recovery.no_room.expect("the disk is full");
    assert_eq!(recovery.head.position, Position(1), "the last group may not be durable");
    let refused = wait(log.append(Append::default()));
    assert_eq!(refused.unwrap_err(), AppendError::ReadOnly { detail: why });
    wait(log.close()).unwrap();
    drop(log);
    let new = Simulated::new(10);
    new.set_room(Some(0));
    let none = Log::open_on(Arc::new(new), Options::default()).map(drop);
    assert!(matches!(none, Err(LogOpenError::Full { .. })), "{none:?}");
    disk.set_room(None);
    let (log, recovery) = Log::open_on(Arc::new(disk), Options::default()).unwrap();
    assert_eq!((recovery.no_room, recovery.head.position), (None, Position(2)));
    append(&log, "three");
}
