//! Reading a directory while a process is writing in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::store::{Append, Backend, NewEvent, Position, Query, Read, Store};
use leftfold_log::{Log, Options};

use crate::support::{Folder, event_type, stream, wait};

/// A group that was being written looked torn, a segment that was just begun was missing to an
/// index that was read later, and a part of the index that had just been merged was taken for
/// damage.
#[test]
fn a_reader_beside_a_writer_sees_no_damage_and_nothing_cut() {
    let folder = Folder::new("beside");
    let options =
        || Options { segment_bytes: 256 << 10, memory_bytes: 64 << 10, ..Options::default() };
    let (log, _) = Log::open(&folder.0, options()).unwrap();
    let end = AtomicBool::new(false);
    let append = |n: u64| {
        let event = |k: u64| {
            NewEvent::new(event_type("t"), "x".repeat(700))
                .in_stream(stream(&format!("s-{}", n * 3 + k)))
        };
        wait(log.append(Append::of((0..3).map(event).collect()))).unwrap();
    };
    append(0);
    append(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 2.. {
                append(n);
                if end.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let mut wrong = BTreeMap::<String, u32>::new();
        let mut last = Position::START;
        for _ in 0..200 {
            let durable = log.status().borrow().head.position;
            match Log::open_read_only(&folder.0, options()) {
                Ok((reader, recovery)) => {
                    let head = recovery.head.position;
                    if recovery.cut.is_some()
                        || recovery.index_rebuilt.is_some()
                        || head < last
                        || head.0 + 3 < durable.0
                    {
                        *wrong
                            .entry(format!("{recovery:?}, after {last}, durable {durable}"))
                            .or_default() += 1;
                    }
                    last = last.max(head);
                    let read =
                        Read::matching(Query::everything(), Position(head.0.saturating_sub(20)));
                    let found = wait(Store::new(reader).read(read).all());
                    if !found
                        .as_ref()
                        .is_ok_and(|found| found.last().map(|event| event.position) == Some(head))
                    {
                        *wrong.entry(format!("{:?}", found.err())).or_default() += 1;
                    }
                }
                Err(error) => *wrong.entry(error.to_string()).or_default() += 1,
            }
        }
        end.store(true, Ordering::Relaxed);
        assert_eq!(wrong, BTreeMap::new());
    });
}
