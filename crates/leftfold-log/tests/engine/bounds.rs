//! What waits in memory is bounded, whatever it is made of: the disk stands still, and callers do
//! not.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use leftfold_core::store::{
    Append, AppendError, Backend, Condition, Expected, NewEvent, Outcome, Pending, Position, Query,
    Read, ReadError, StreamName,
};
use leftfold_log::disk::{File, Simulated};
use leftfold_log::{Log, Options, Upkeep};

use crate::support::hooked::{Hook, Hooked};
use crate::support::{TestClock, event_type, stream, wait};

/// Lets reads or syncs of a disk pass, or holds them up.
#[derive(Debug, Default)]
struct Gate {
    held: Mutex<Held>,
    opened: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    Reads,
    Syncs,
}

impl Gate {
    fn hold(&self, what: Held) {
        *self.held.lock().unwrap() = what;
        self.opened.notify_all();
    }

    fn pass(&self, what: Held) {
        let mut held = self.held.lock().unwrap();
        while *held == what {
            held = self.opened.wait(held).unwrap();
        }
    }
}

impl Hook for Gate {
    fn read(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.pass(Held::Reads);
        file.read_exact_at(buffer, offset)
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        self.pass(Held::Syncs);
        file.sync()
    }
}

const QUEUE_BYTES: usize = 4 << 20;

fn opened() -> (Log, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let disk = Hooked(Simulated::new(1), Arc::clone(&gate));
    let clock = Arc::new(TestClock::default());
    let options =
        Options { upkeep: Upkeep::Inline, clock, queue_bytes: QUEUE_BYTES, ..Options::default() };
    (Log::open_on(Arc::new(disk), options).unwrap().0, gate)
}

fn event(bytes: usize) -> NewEvent {
    NewEvent::new(event_type("test.Happened"), vec![7; bytes]).in_stream(stream("test-1"))
}

/// Counts those that were judged; the others were told that the store is busy.
fn judged(answers: Vec<Pending<Outcome, AppendError>>) -> usize {
    let mut count = 0;
    for answer in answers {
        match wait(answer) {
            Ok(Outcome::Appended(_) | Outcome::Conflict(_)) => count += 1,
            Err(AppendError::Busy { waiting }) => {
                assert!(waiting >= QUEUE_BYTES, "{waiting} bytes waited")
            }
            other => panic!("an append was answered {other:?}"),
        }
    }
    count
}

#[test]
fn conditions_count_for_the_memory_that_they_take() {
    let (log, gate) = opened();
    gate.hold(Held::Syncs);
    let mut answers = vec![log.append(Append::of(vec![event(1)]))];
    let name = |n: usize| StreamName::new(format!("other-{n:0>500}")).unwrap();
    let large = Condition {
        streams: (0..1_000).map(|n| (name(n), Expected::Absent)).collect(),
        none_matching: vec![],
    };
    for _ in 0..64 {
        // About half a MiB each, without a single large event.
        answers.push(log.append(Append::of(vec![event(1)]).when(large.clone())));
    }
    gate.hold(Held::Nothing);
    let count = judged(answers);
    // The writer takes up to twice the bound away: what it holds in its group, and what it had
    // taken before.
    assert!((4..=20).contains(&count), "{count} were judged");
}

#[test]
fn appends_whose_condition_is_still_looked_up_count_too() {
    let (log, gate) = opened();
    wait(log.append(Append::of(vec![event(1); 300]))).unwrap();
    gate.hold(Held::Reads);
    // So many events that a thread of the log looks: it finds one, once it may read.
    let condition = Condition::none_matching(Query::all(), Position::START);
    let large = || Append::of(vec![event(1 << 20)]).when(condition.clone());
    let answers: Vec<_> = (0..64).map(|_| log.append(large())).collect();
    gate.hold(Held::Nothing);
    let count = judged(answers);
    assert!((4..=20).contains(&count), "{count} were judged");
}

#[test]
fn reads_that_wait_for_a_thread_are_bounded() {
    let (log, gate) = opened();
    wait(log.append(Append::of(vec![event(1); 10]))).unwrap();
    gate.hold(Held::Reads);
    let query: Query =
        (0..100).map(|n| Query::tag(format!("{n:0>500}")).items()[0].clone()).collect();
    let query = query.or(Query::all());
    // About 60 KiB each.
    let answers: Vec<_> =
        (0..1_000).map(|_| log.read(Read::matching(query.clone(), Position(1)))).collect();
    gate.hold(Held::Nothing);
    let (mut read, mut busy) = (0, 0);
    for answer in answers {
        match wait(answer) {
            Ok(page) => {
                assert_eq!(page.events.len(), 10);
                read += 1;
            }
            Err(ReadError::Busy { waiting }) => {
                assert!(waiting >= QUEUE_BYTES, "{waiting} bytes waited");
                busy += 1;
            }
            Err(error) => panic!("a read was answered {error:?}"),
        }
    }
    assert!(read >= 50 && busy >= 500, "{read} were read, {busy} were refused");
    assert_eq!(
        wait(log.read(Read::matching(Query::all(), Position(1)))).map(|page| page.events.len()),
        Ok(10)
    );
}
