//! Files of a log that are damaged, empty, gone, or under other names: the error names the file and
//! leads to a copy. It never advises another directory or a new log, and no new log is begun beside
//! what is left.

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use leftfold_core::store::{Append, Backend, NewEvent, Position, Query, Read, Store};
use leftfold_log::disk::{Disk, Real, Simulated};
use leftfold_log::{
    Existing, Log, LogOpenError, LogVerifyError, Options, Upkeep, dump_on, restore_on, verify_on,
};

use crate::support::{Folder, TestClock, event_type, stream, wait};

const EVENTS: usize = 36;

/// The files of a directory.
type Files = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options {
        segment_bytes: 4096,
        upkeep: Upkeep::Inline,
        clock: Arc::new(TestClock::default()),
        ..Options::default()
    }
}

fn files(disk: &dyn Disk) -> Files {
    let content = |name: &String| {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    disk.names().unwrap().into_iter().map(|name| (name.clone(), content(&name))).collect()
}

/// Makes a log of several segments, and gives what is in its directory after a close, or after the
/// process was killed.
fn made(disk: &Arc<dyn Disk>, is_closed: bool) -> Files {
    let (log, _) = Log::open_on(Arc::clone(disk), options()).unwrap();
    for n in 0..EVENTS {
        let event = NewEvent::new(event_type("test.Happened"), vec![b'.'; 200])
            .in_stream(stream(&format!("test-{}", n % 7)));
        wait(log.append(Append::of(vec![event]))).unwrap();
    }
    if !is_closed {
        return files(&**disk);
    }
    wait(log.close()).unwrap();
    drop(log);
    files(&**disk)
}

fn disk_of(files: &Files) -> Arc<dyn Disk> {
    let disk = Simulated::new(1);
    for (name, bytes) in files {
        let file = disk.create(name).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync().unwrap();
    }
    disk.sync_names().unwrap();
    Arc::new(disk)
}

/// Both states in which a process leaves a directory, with the lock file that only a real one has.
fn directories() -> Vec<(&'static str, Files)> {
    // Tests run side by side.
    let next = fastrand::u64(..);
    let directory = |name: &str, is_closed| {
        let folder = Folder::new(&format!("{name}-{next}"));
        made(&(Arc::new(Real::create(&folder.0).unwrap()) as Arc<dyn Disk>), is_closed)
    };
    vec![("closed", directory("closed", true)), ("killed", directory("killed", false))]
}

fn count(log: Log) -> usize {
    wait(Store::new(log).read(Read::matching(Query::all(), Position(1))).all()).unwrap().len()
}

/// The place of `restore` among the ways.
const RESTORE: usize = 3;

/// Checks every way to open a directory against the rule; whatever opens has all events. Returns
/// the error of the first way.
fn judged(what: &str, files: &Files) -> Option<LogOpenError> {
    let open = |existing| {
        let (log, _) = Log::open_on(disk_of(files), Options { open: existing, ..options() })?;
        Ok(count(log))
    };
    let read_only = || {
        Log::open_read_only_on(disk_of(files), options())
            .map(|(log, report)| count(log) + report.held_back as usize)
    };
    let restored =
        || restore_on(disk_of(files), options()).map(|restored| restored.head.position.0 as usize);
    let verified = verify_on(disk_of(files), &mut |_| Continue(()))
        .map(|verified| if verified.damage.is_some() { EVENTS } else { verified.events as usize })
        .map_err(|error| match error {
            LogVerifyError::Open(error) => error,
            other => panic!("{what}: {other}"),
        });
    let dumped = dump_on(disk_of(files), &mut |_| {}).map(|_| EVENTS);
    let ways =
        [open(Existing::OrCreate), open(Existing::Only), read_only(), restored(), verified, dumped];
    for (way, found) in ways.iter().enumerate() {
        match found {
            // A declared restore is told that what is there is all.
            Ok(count) if way == RESTORE => assert!(*count <= EVENTS),
            Ok(count) => {
                assert_eq!(*count, EVENTS, "{what}, way {way}: a part of history was taken for all")
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    matches!(error, LogOpenError::Damaged { .. }),
                    "{what}, way {way}: {error:?}"
                );
                assert!(
                    text.contains("log-0000") && text.contains("bring back a copy"),
                    "{what}, way {way}: {text}"
                );
            }
        }
    }
    let [first, ..] = ways;
    first.err()
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".seg")
}

#[test]
fn a_flipped_bit_in_any_header_is_damage_of_that_file_or_is_mended() {
    let disk: Arc<dyn Disk> = Arc::new(Simulated::new(1));
    let sound = made(&disk, true);
    assert!(sound.keys().filter(|name| is_segment(name)).count() >= 3, "{:?}", sound.keys());
    for (name, bytes) in &sound {
        // The index is compared with its checksums elsewhere; of each of its files the beginning
        // and the end are tried.
        for byte in
            (0..bytes.len().min(256)).chain(bytes.len().saturating_sub(64).max(256)..bytes.len())
        {
            if is_segment(name) && byte >= 256 {
                continue;
            }
            let mut rotten = sound.clone();
            rotten.get_mut(name).unwrap()[byte] ^= 1 << (byte % 8);
            let error = judged(&format!("{name} byte {byte}"), &rotten);
            match error {
                Some(LogOpenError::Damaged { place, .. }) => {
                    assert!(place.contains(name.as_str()), "{name} byte {byte}: {place}")
                }
                other => {
                    assert!(!is_segment(name) && other.is_none(), "{name} byte {byte}: {other:?}")
                }
            }
        }
    }
}

#[test]
fn a_magic_that_is_wrong_is_no_foreign_directory() {
    let (_, mut files) = directories().remove(0);
    files.get_mut("log-000000000001.seg").unwrap()[..8].copy_from_slice(b"LEFTFOOT");
    let Some(LogOpenError::Damaged { place, detail }) = judged("magic", &files) else {
        panic!("it opens")
    };
    assert_eq!(
        (place.as_str(), detail.as_str()),
        ("log-000000000001.seg byte 0", "the segment header does not begin as one does")
    );
}

#[test]
fn a_file_that_is_gone_is_named_and_nothing_is_begun_in_its_place() {
    for (state, sound) in directories() {
        let last = sound.keys().filter(|name| is_segment(name)).max().unwrap().clone();
        for name in sound.keys() {
            let mut left = sound.clone();
            left.remove(name);
            if state == "killed" && *name == last {
                // Nothing that is left tells of it: it was never sealed, and no index covers it.
                continue;
            }
            let error = judged(&format!("{state}, without {name}"), &left);
            match error {
                Some(LogOpenError::Damaged { place, .. }) => {
                    assert!(place.contains(name.as_str()), "{place} for {name}")
                }
                other => {
                    assert!(!is_segment(name) && other.is_none(), "{state}, {name}: {other:?}")
                }
            }
        }
        // All segments but one kind of file after another, down to the lock alone.
        let mut left: Files = sound.clone();
        left.retain(|name, _| !is_segment(name));
        for kind in ["", ".off", ".manifest", ".run", "durable-end"] {
            left.retain(|name, _| kind.is_empty() || !name.ends_with(kind));
            let error = judged(&format!("{state}, with {:?}", left.keys()), &left);
            let Some(LogOpenError::Damaged { place, .. }) = error else {
                panic!("{state}, {:?}: {error:?}", left.keys())
            };
            assert_eq!(place, "log-000000000001.seg");
        }
        assert_eq!(left.keys().collect::<Vec<_>>(), ["lock"]);
    }
}

#[test]
fn a_file_that_is_empty_is_damaged_or_is_made_anew() {
    for (state, sound) in directories() {
        for name in sound.keys() {
            let mut left = sound.clone();
            left.insert(name.clone(), Vec::new());
            let error = judged(&format!("{state}, {name} empty"), &left);
            assert_eq!(error.is_some(), is_segment(name), "{state}, {name}: {error:?}");
        }
    }
}

#[test]
fn a_segment_under_another_name_is_found_and_asked_for() {
    for (state, sound) in directories() {
        for name in sound.keys().filter(|name| is_segment(name)) {
            for other in
                [format!("{name}.bak"), format!("{name}.tmp"), "copy of the log".to_owned()]
            {
                let mut files = sound.clone();
                let content = files.remove(name).unwrap();
                files.insert(other.clone(), content);
                let error = judged(&format!("{state}, {name} as {other}"), &files);
                let Some(LogOpenError::Damaged { place, detail }) = error else {
                    panic!("{state}, {name} as {other}: {error:?}")
                };
                assert!(
                    place.contains(name.as_str()) && detail.contains(&other),
                    "{place}: {detail}"
                );
            }
        }
        // All of them, without anything else.
        let only: Files = sound
            .iter()
            .filter(|(name, _)| is_segment(name))
            .map(|(name, bytes)| (format!("{name}.old"), bytes.clone()))
            .collect();
        assert!(judged("all renamed", &only).is_some());
        let mut swapped = sound.clone();
        let (one, two) = (&sound["log-000000000001.seg"], &sound["log-000000000002.seg"]);
        swapped.insert("log-000000000001.seg".to_owned(), two.clone());
        swapped.insert("log-000000000002.seg".to_owned(), one.clone());
        let error = judged("swapped", &swapped);
        assert!(
            matches!(&error, Some(LogOpenError::Damaged { detail, .. }) if detail.contains("that of segment 2")),
            "{error:?}"
        );
    }
}

#[test]
fn a_directory_without_any_history_is_somebody_elses_or_begins() {
    let files = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect::<Files>()
    };
    for begun in [files(&[]), files(&["lock"]), files(&["lock", "log-000000000001.seg.tmp"])] {
        assert!(Log::open_on(disk_of(&begun), options()).is_ok(), "{begun:?}");
        let missing = Log::open_on(disk_of(&begun), Options { open: Existing::Only, ..options() });
        assert!(matches!(missing, Err(LogOpenError::Missing { .. })), "{missing:?}");
    }
    for name in ["photo.jpg", "log.txt", "log-1.seg", "keys"] {
        let opened = Log::open_on(disk_of(&files(&["lock", name])), options());
        assert!(
            matches!(&opened, Err(LogOpenError::Foreign { file, .. }) if file == name),
            "{opened:?}"
        );
    }
}
