//! The index against a model, on a disk that fails, forgets and rots.

mod model;
mod ram_disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;
use leftfold_core::store::{Direction, Hash, Position, StoreId, Version};
use leftfold_testing::extent;
use uuid::Uuid;

use super::{Covered, Index, IndexError, IndexSettings, OpenedIndex, PostingKey, Upkeep};
use crate::disk::Disk;
use model::Model;
use ram_disk::RamDisk;

const STORE: StoreId = StoreId(Uuid::from_u128(7));

fn open(disk: &Arc<RamDisk>, memory_bytes: usize, upkeep: Upkeep) -> OpenedIndex {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    Index::open(disk, STORE, IndexSettings { memory_bytes, upkeep }).unwrap()
}

/// Seeds of a test, each printed, so that a failure can be repeated:
/// `LEFTFOLD_SEED=… cargo test …`.
fn seeds(count: u64) -> impl Iterator<Item = Rng> {
    let given = std::env::var("LEFTFOLD_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = count * extent(1, 20);
    let seeds =
        given.map_or_else(|| (0..count).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    seeds.into_iter().map(|seed| {
        println!("LEFTFOLD_SEED={seed}");
        Rng::with_seed(seed)
    })
}

/// Inserts groups, and keeps snapshots in between.
fn grow(model: &mut Model, index: &Index, groups: u64, rng: &mut Rng) {
    let mut pending = index.pending();
    for _ in 0..groups {
        index.make_room().unwrap();
        model.add_group(rng).insert(index, &mut pending);
        if rng.u8(..) < 30 {
            model.keep_snapshot(rng, index);
        }
    }
}

/// A store's index after some lives, closed.
fn closed(rng: &mut Rng, groups: u64) -> (Model, Arc<RamDisk>) {
    let (mut model, disk) = (Model::default(), Arc::new(RamDisk::default()));
    for _ in 0..2 {
        let opened = open(&disk, 1 << 16, Upkeep::Inline);
        grow(&mut model, &opened.index, groups, rng);
        opened.index.flush(model.covered()).unwrap();
    }
    (model, disk)
}

#[test]
fn every_lookup_equals_the_model_through_flushes_merges_and_reopening() {
    for mut rng in seeds(6) {
        let (mut model, mut disk) = (Model::default(), Arc::new(RamDisk::default()));
        let memory_bytes = 1 << rng.u32(13..20);
        for _ in 0..6 {
            let upkeep = if rng.bool() { Upkeep::Inline } else { Upkeep::Thread };
            let OpenedIndex { index, covered, discarded } = open(&disk, memory_bytes, upkeep);
            assert!(discarded.is_none() || covered == Covered::NONE, "{discarded:?}");
            model.replay(&index, covered);
            model.forget_lost_snapshots(&index);
            for _ in 0..rng.u32(1..4) {
                let groups = rng.u64(..150);
                grow(&mut model, &index, groups, &mut rng);
                if upkeep == Upkeep::Thread {
                    // A cache: while memory is full, nothing is kept.
                    model.forget_lost_snapshots(&index);
                }
                model.check(&index, &mut rng).unwrap();
            }
            if rng.bool() {
                index.flush(model.covered()).unwrap();
                model.check(&index, &mut rng).unwrap();
                let OpenedIndex { index, covered, .. } =
                    open(&disk.image(), memory_bytes, Upkeep::Inline);
                assert_eq!(covered, model.covered());
                model.check(&index, &mut rng).unwrap();
            }
            drop(index);
            disk = if rng.bool() { disk.after_power_cut() } else { disk };
        }
    }
}

#[test]
fn a_crash_at_any_change_of_the_disk_leaves_an_index_that_can_be_brought_up_to_date() {
    for rng in seeds(1) {
        let mut changes = 0;
        loop {
            let mut rng = rng.clone();
            let (mut model, disk) = (Model::default(), Arc::new(RamDisk::default()));
            let index = open(&disk, 1 << 15, Upkeep::Inline).index;
            disk.allow_changes(changes);
            let mut pending = index.pending();
            for _ in 0..40 {
                model.add_group(&mut rng).insert(&index, &mut pending);
                model.keep_snapshot(&mut rng, &index);
            }
            let finished = index.flush(model.covered()).is_ok();
            model.forget_lost_snapshots(&index);
            if changes % 8 == 0 {
                model.check(&index, &mut rng).unwrap();
            }
            drop(index);
            let disk = disk.after_power_cut();
            let OpenedIndex { index, covered, discarded } = open(&disk, 1 << 20, Upkeep::Inline);
            // A crash between the first run and the first manifest leaves a run that nothing names.
            assert!(
                discarded.is_none() || covered == Covered::NONE,
                "after {changes} changes: {discarded:?}"
            );
            model.replay(&index, covered);
            model.forget_lost_snapshots(&index);
            model.check(&index, &mut rng).unwrap();
            if finished {
                assert_eq!(covered, model.covered());
                break;
            }
            changes += 1;
        }
        println!("{changes} crash points");
        assert!(changes > 50);
    }
}

#[test]
fn a_damaged_file_is_noticed_never_believed_and_rebuilt() {
    for mut rng in seeds(1) {
        let (model, sound) = closed(&mut rng, 60);
        let mut seen = [0; 3];
        for _ in 0..100 {
            let disk = sound.image();
            let sizes = disk.sizes();
            let (name, size) = &sizes[rng.usize(..sizes.len())];
            let place = rng.usize(..*size);
            disk.change(name, |bytes| match rng.u8(..3) {
                0 => bytes.truncate(place),
                1 => bytes[place] ^= 1 << rng.u8(..8),
                _ => bytes[place..(place + 600).min(*size)].fill(rng.u8(..)),
            });
            let OpenedIndex { index, covered, discarded } = open(&disk, 1 << 20, Upkeep::Inline);
            if discarded.is_some() {
                seen[0] += 1;
                assert_eq!(covered, Covered::NONE);
                let mut model = model.clone();
                model.replay(&index, covered);
                model.forget_lost_snapshots(&index);
                model.check(&index, &mut rng).unwrap();
                continue;
            }
            match model.check(&index, &mut rng) {
                // A filter, a page that nobody needed, or bytes that were so before.
                Ok(()) => seen[1] += 1,
                Err(error) => {
                    seen[2] += 1;
                    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
                    assert_eq!(index.damage(), Some(error));
                    index.flush(model.covered()).unwrap();
                    drop(index);
                    let reopened = open(&disk, 1 << 20, Upkeep::Inline);
                    assert_eq!(reopened.covered, Covered::NONE);
                    assert!(reopened.discarded.is_some());
                    model.replay(&reopened.index, reopened.covered);
                }
            }
        }
        println!("found when opened, harmless, found by a lookup: {seen:?}");
        assert!(seen[0] > 10 && seen[2] > 10, "{seen:?}");
    }
}

#[test]
fn an_index_without_its_manifest_of_another_store_or_of_another_version_is_rebuilt() {
    let mut rng = Rng::with_seed(1);
    let (_, sound) = closed(&mut rng, 20);
    let reopened = |disk: &Arc<RamDisk>| {
        let OpenedIndex { covered, discarded, .. } = open(disk, 1 << 16, Upkeep::Inline);
        let left = disk.sizes().into_iter().filter(|(name, _)| name.starts_with("index")).count();
        (covered, discarded.is_some(), left)
    };
    let disk = sound.image();
    disk.remove("index.manifest").unwrap();
    assert_eq!(reopened(&disk), (Covered::NONE, true, 0));

    for (place, byte) in [(4, 2), (8, 99)] {
        let disk = sound.image();
        disk.change("index.manifest", |bytes| {
            bytes[place] = byte;
            let end = bytes.len() - 4;
            let crc = crc32c::crc32c(&bytes[..end]);
            bytes[end..].copy_from_slice(&crc.to_le_bytes());
        });
        assert_eq!(reopened(&disk), (Covered::NONE, true, 0));
    }

    let disk = sound.image();
    Index::discard(&*disk).unwrap();
    assert_eq!(reopened(&disk), (Covered::NONE, false, 0));
}

#[test]
fn what_is_no_file_of_the_index_is_left_alone() {
    let disk = Arc::new(RamDisk::default());
    for name in [
        "log-000000000001.seg",
        "log-000000000001.seg.tmp",
        "index-000000000009.run",
        "index.manifest.tmp",
    ] {
        disk.create(name).unwrap();
    }
    open(&disk, 1 << 16, Upkeep::Inline);
    let names = disk.names().unwrap();
    assert_eq!(names, ["log-000000000001.seg", "log-000000000001.seg.tmp"]);
}

#[test]
fn a_full_disk_stops_the_writer_when_memory_is_full_and_not_before_and_not_for_ever() {
    for upkeep in [Upkeep::Inline, Upkeep::Thread] {
        let (mut model, disk) = (Model::default(), Arc::new(RamDisk::default()));
        let mut rng = Rng::with_seed(3);
        let index = open(&disk, 1 << 18, upkeep).index;
        disk.allow_changes(0);
        let mut pending = index.pending();
        let error = loop {
            match index.make_room() {
                Ok(()) => model.add_group(&mut rng).insert(&index, &mut pending),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, IndexError::Full { .. }), "{error}");
        assert!(model.groups.len() > 10);
        model.check(&index, &mut rng).unwrap();
        assert!(index.flush(model.covered()).is_err());
        disk.allow_changes(i64::MAX);
        grow(&mut model, &index, 100, &mut rng);
        index.flush(model.covered()).unwrap();
        model.forget_lost_snapshots(&index);
        model.check(&index, &mut rng).unwrap();
        assert!(disk.names().unwrap().iter().all(|name| !name.ends_with(".tmp")));
    }
}

#[test]
fn readers_beside_the_writer_see_every_prefix_whole() {
    let disk = Arc::new(RamDisk::default());
    let index = open(&disk, 1 << 17, Upkeep::Thread).index;
    let head = AtomicU64::new(0);
    const EVENTS: u64 = 60_000;
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (index, head) = (&index, &head);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(reader);
                loop {
                    let through = head.load(Ordering::Acquire);
                    let from = rng.u64(1..=through.max(1));
                    let mut expected = from;
                    for found in index.postings(
                        PostingKey::Type("t"),
                        Position(from),
                        Direction::Forwards,
                        Position(through),
                    ) {
                        assert_eq!(found.unwrap(), Position(expected));
                        expected += 1;
                    }
                    assert_eq!(expected, through.max(from - 1) + 1);
                    for stream in 0..7 {
                        let version = index
                            .stream_version(&format!("s-{stream}"), Position(through))
                            .unwrap();
                        assert_eq!(
                            version,
                            Version(if stream == 0 {
                                through / 7
                            } else {
                                (through + 7 - stream) / 7
                            })
                        );
                    }
                    if through == EVENTS {
                        break;
                    }
                }
            });
        }
        let mut pending = index.pending();
        for position in 1..=EVENTS {
            let stream = format!("s-{}", position % 7);
            let version = Version(position.div_ceil(7));
            pending.add_event(Position(position), "t", Some((&stream, version)), [], None);
            if position % 50 == 0 {
                index.make_room().unwrap();
                index.insert_group(
                    &mut pending,
                    Covered { position: Position(position), address: position, hash: Hash::EMPTY },
                );
                head.store(position, Ordering::Release);
            }
        }
    });
    // Not by the number of files: they may all be merged by now.
    assert!(index.recent().since().position > Position::START, "nothing was flushed");
}

#[test]
fn a_million_events_take_at_most_twelve_bytes_each_on_disk() {
    const EVENTS: u64 = 1_000_000;
    let disk = Arc::new(RamDisk::default());
    let index = open(&disk, 32 << 20, Upkeep::Thread).index;
    let names = |prefix: &str| (0..1000).map(|n| format!("{prefix}{n:06}")).collect::<Vec<_>>();
    let (streams, tags) = (names("station-"), names("location:"));
    let mut versions = vec![0; 1000];
    let mut rng = Rng::with_seed(5);
    let mut pending = index.pending();
    let mut covered = Covered::NONE;
    let started = Instant::now();
    for position in 1..=EVENTS {
        let (stream, tag) = (rng.usize(..1000), rng.usize(..1000));
        versions[stream] += 1;
        let at = Some((streams[stream].as_str(), Version(versions[stream])));
        let event_type = ["rover.Moved", "rover.Turned", "rover.Stopped"][rng.usize(..3)];
        pending.add_event(Position(position), event_type, at, [tags[tag].as_str()], None);
        if position % 256 == 0 || position == EVENTS {
            index.make_room().unwrap();
            covered =
                Covered { position: Position(position), address: position, hash: Hash::EMPTY };
            index.insert_group(&mut pending, covered);
        }
    }
    let inserted = started.elapsed();
    index.flush(covered).unwrap();
    let flushed = started.elapsed() - inserted;
    let reopening = Instant::now();
    let reopened = open(&disk.image(), 32 << 20, Upkeep::Inline);
    let reopening = reopening.elapsed();
    drop(index);
    let bytes: usize = disk.sizes().iter().map(|(_, bytes)| bytes).sum();
    println!(
        "{:.2} bytes an event in {} files, {} ns an event inserted, {flushed:?} to flush, {reopening:?} to open",
        bytes as f64 / EVENTS as f64,
        disk.sizes().len(),
        inserted.as_nanos() / u128::from(EVENTS),
    );
    assert!(bytes as u64 <= 12 * EVENTS);
    assert_eq!(reopened.covered, covered);
    let started = Instant::now();
    for (stream, version) in versions.iter().enumerate() {
        let found = reopened.index.stream_version(&streams[stream], Position::END).unwrap();
        assert_eq!(found, Version(*version));
        let list = reopened.index.postings(
            PostingKey::Tag(&tags[stream]),
            Position::START,
            Direction::Forwards,
            Position::END,
        );
        assert!(list.map(Result::unwrap).is_sorted());
    }
    println!("{} ns for a version and a list of 1000", started.elapsed().as_nanos() / 1000);
}
