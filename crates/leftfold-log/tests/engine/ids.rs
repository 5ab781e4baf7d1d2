//! Ids of events that the log mints, over declared restores.

use std::collections::HashSet;
use std::sync::Arc;

use leftfold_core::store::{Append, EventId, NewEvent, Position, Query, Read, Store};
use leftfold_log::disk::{Disk, Simulated};
use leftfold_log::{Log, Options, Upkeep, restore_on};

use crate::support::{TestClock, event_type, wait};

/// Always begins at the same time: a clock that was set back.
fn options() -> Options {
    Options { upkeep: Upkeep::Inline, clock: Arc::new(TestClock::default()), ..Options::default() }
}

/// Records an event and gives the ids of all.
fn recorded(disk: &Simulated) -> Vec<EventId> {
    let log = Log::open_on(Arc::new(disk.clone()), options()).unwrap().0;
    let store = Store::new(log);
    wait(store.append(Append::of(vec![NewEvent::new(event_type("test.Happened"), "{}")]))).unwrap();
    let all = wait(store.read(Read::matching(Query::all(), Position(1))).all()).unwrap();
    wait(store.close()).unwrap();
    all.iter().map(|event| event.id).collect()
}

/// An event at the position of a lost one, recorded in the same millisecond by a clock that was set
/// back, had the id of the lost one: a payment service that knew of the lost one left the new
/// payment out.
#[test]
fn an_id_never_comes_again_after_a_declared_restore_whatever_the_clock_says() {
    let original = Simulated::new(1);
    let before = recorded(&original);
    let names = original.names().unwrap().into_iter();
    let files: Vec<_> =
        names.filter_map(|name| original.content(&name).map(|content| (name, content))).collect();
    let mut seen: HashSet<EventId> = recorded(&original).into_iter().collect();
    for life in 0..3 {
        let disk = Simulated::new(2);
        for (name, content) in &files {
            disk.create(name).unwrap().write_all_at(content, 0).unwrap();
        }
        restore_on(Arc::new(disk.clone()), options()).unwrap();
        let ids = recorded(&disk);
        assert_eq!(ids[..1], before, "what was there before keeps its id");
        assert!(seen.insert(ids[1]), "life {life} gave {} again", ids[1]);
        assert_eq!(
            ids[1].moment().map(|at| at.as_micros() / 1_000),
            before[0].moment().map(|at| at.as_micros() / 1_000)
        );
        assert_eq!(recorded(&disk)[..2], ids, "an id stays after reopening");
    }
}
