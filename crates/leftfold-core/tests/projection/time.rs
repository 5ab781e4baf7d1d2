//! Time limits: a target that gives no answer, locks of others, and an end that comes within its
//! time.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{
    APPLY_WITHIN, LOCK_WITHIN, Memory, Place, Projection, ProjectionError, Session, TARGET_WITHIN,
    Target,
};
use leftfold_core::runtime::{ConsumerStatus, RunningRuntime, StartError, StopError};
use leftfold_core::store::Position;

use crate::projection_stage::{
    Note, Shelf, ShelfSession, Shelved, add, fold_of, reach, time_goes_by,
};
use crate::runtime_stage::{Process, SECOND, Stage, until};

/// A call of a target, or of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Open,
    Serving,
    Serve,
    Versions,
    Begin,
    Note,
    Notes,
    Commit,
    /// It takes effect, but is never answered.
    CommitAfter,
}

const CALLS: [Call; 9] = {
    use Call::*;
    [Open, Serving, Serve, Versions, Begin, Note, Notes, Commit, CommitAfter]
};

/// A target whose calls hang, as often as that is said of them.
#[derive(Clone, Debug, Default)]
struct Silent {
    shelf: Shelf,
    hangs: Arc<Mutex<BTreeMap<Call, u32>>>,
}

impl Silent {
    fn hang(&self, call: Call, times: u32) {
        self.hangs.lock().unwrap().insert(call, times);
    }

    /// Tells whether all hangs took place.
    fn is_spent(&self) -> bool {
        self.hangs.lock().unwrap().values().all(|left| *left == 0)
    }

    fn hangs_now(&self, call: Call) -> bool {
        let mut hangs = self.hangs.lock().unwrap();
        let left = hangs.entry(call).or_default();
        let hangs = *left > 0;
        *left = left.saturating_sub(1);
        hangs
    }

    async fn may_hang(&self, call: Call) {
        if self.hangs_now(call) {
            pending::<()>().await;
        }
    }
}

struct SilentSession(Silent, ShelfSession<1, false>);

impl Target for Silent {
    type Session = SilentSession;

    async fn open(&self, place: &Place) -> Result<SilentSession, ProjectionError> {
        self.may_hang(Call::Open).await;
        Ok(SilentSession(self.clone(), self.shelf.open(place).await?))
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        self.may_hang(Call::Serving).await;
        self.shelf.serving(name).await
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.may_hang(Call::Serve).await;
        self.shelf.serve(name, version).await
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        self.may_hang(Call::Versions).await;
        self.shelf.versions(name).await
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.shelf.discard(name, version).await
    }

    fn is_away(&self, _: &ProjectionError) -> bool {
        false
    }
}

impl Session for SilentSession {
    type Rows = Shelved;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.0.may_hang(Call::Begin).await;
        self.1.begin().await
    }

    fn rows(&mut self) -> &mut Shelved {
        self.1.rows()
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.0.may_hang(Call::Note).await;
        self.1.note(key, value).await
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        self.0.may_hang(Call::Notes).await;
        self.1.notes(prefix, after, at_most).await
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.0.may_hang(Call::Commit).await;
        let committed = self.1.commit().await;
        self.0.may_hang(Call::CommitAfter).await;
        committed
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.1.rollback().await
    }
}

/// Each row is the list of the positions that went into it; events may have to wait for a table.
#[derive(Default)]
struct Tally(Arc<tokio::sync::Mutex<()>>);

impl Projection<Silent> for Tally {
    const NAME: &'static str = "tally";
    type Event = Note;

    async fn apply(
        &self,
        rows: &mut Shelved,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, .. } = &event.event;
        rows.add(key, event.envelope.position.0);
        drop(self.0.lock().await);
        Ok(())
    }
}

fn status(running: &RunningRuntime) -> ConsumerStatus {
    running.status().swap_remove(0)
}

/// A commit that was never answered held its projection forever, and `stop` with it.
#[tokio::test]
async fn a_call_that_is_never_answered_is_given_up_and_every_event_is_in_the_rows_once() {
    for call in CALLS {
        let process = Stage::new().process();
        let target = Silent::default();
        add(&process.store, "a", "x", "fine").await;
        target.hang(call, 2);
        let runtime = process.runtime().project(Tally::default(), target.clone());
        let running = tokio::select! {
            running = runtime.start() => running.unwrap(),
            () = time_goes_by(&process.clock) => unreachable!(),
        };
        let last = add(&process.store, "a", "y", "fine").await;
        reach(&process, &running, last).await;
        assert!(target.is_spent(), "{call:?}");
        assert_eq!(target.shelf.rows("tally", 1), fold_of(&process.store).await, "{call:?}");
        let verified = running.projections().verify("tally").await.unwrap();
        assert_eq!((verified.events, status(&running).stalled), (2, false), "{call:?}");
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_hangs_is_named_and_then_said_to_stand_still() {
    let process = Stage::new().process();
    let target = Silent::default();
    let running =
        process.runtime().project(Tally::default(), target.clone()).start().await.unwrap();
    let last = add(&process.store, "a", "x", "fine").await;
    reach(&process, &running, last).await;
    target.hang(Call::Commit, u32::MAX);
    add(&process.store, "a", "x", "fine").await;
    until("it hangs", async || {
        process.clock.advance(SECOND / 10);
        status(&running).waits_for.starts_with("the commit up to 2, under way since")
    })
    .await;
    until("it stands still", async || {
        process.clock.advance(SECOND);
        status(&running).stalled
    })
    .await;
    assert!(!status(&running).needs_person, "the target may answer again");
    until("it says what it waits for", async || {
        process.clock.advance(SECOND);
        status(&running).waits_for
            == "its target to answer: the commit up to 2 gave no answer within 30 s"
    })
    .await;
    assert_eq!(TARGET_WITHIN, 30 * SECOND);
}

#[tokio::test]
async fn a_stop_ends_within_its_time_and_names_who_did_not_stop() {
    let process = Stage::new().process();
    let target = Silent::default();
    let runtime = process.runtime().project(Tally::default(), target.clone());
    let running = runtime.project(Count, Memory::new()).start().await.unwrap();
    target.hang(Call::Commit, u32::MAX);
    add(&process.store, "a", "x", "fine").await;
    until("it hangs", async || target.shelf.count("begin") > 1).await;
    until("the other one has it", async || running.status()[0].through == Position(1)).await;
    let stopped = running.stop_within(SECOND / 10).await;
    assert_eq!(stopped, Err(StopError::Late { consumers: vec!["tally"], within: SECOND / 10 }));
    // Nobody has the version any more.
    target.hang(Call::Commit, 0);
    let running =
        process.runtime().project(Tally::default(), target.clone()).start().await.unwrap();
    reach(&process, &running, Position(1)).await;
    assert_eq!(target.shelf.rows("tally", 1), fold_of(&process.store).await);
}

struct Count;

impl Projection<Memory<u32>> for Count {
    const NAME: &'static str = "count";
    type Event = Note;

    async fn apply(&self, rows: &mut u32, _: &Recorded<Note>) -> Result<(), ProjectionError> {
        *rows += 1;
        Ok(())
    }
}

/// An event that waited longer than half a minute for a table that somebody else had locked was
/// parked.
#[tokio::test]
async fn a_lock_of_somebody_else_is_waited_for_and_nothing_is_parked() {
    let process = Stage::new().process();
    let target = Silent::default();
    let table = Arc::new(tokio::sync::Mutex::new(()));
    let held = table.clone().lock_owned().await;
    let running =
        process.runtime().project(Tally(table.clone()), target.clone()).start().await.unwrap();
    for key in ["x", "y", "z"] {
        add(&process.store, "a", key, "fine").await;
    }
    for _ in 0..(LOCK_WITHIN.as_secs() - 2 * APPLY_WITHIN.as_secs()) {
        process.clock.advance(SECOND);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(running.projections().parked("tally").unwrap(), []);
    let ConsumerStatus { stalled, needs_person, .. } = status(&running);
    assert!(stalled && !needs_person);
    let said = "its target to answer: apply gave no answer within 30 s for the event at 1; another session may hold a lock";
    until("it says so", async || {
        process.clock.advance(SECOND);
        status(&running).waits_for.starts_with(said)
    })
    .await;
    drop(held);
    reach(&process, &running, Position(3)).await;
    assert_eq!(running.projections().parked("tally").unwrap(), []);
    assert_eq!(target.shelf.rows("tally", 1), fold_of(&process.store).await);
}

/// Its rows cannot be made.
#[derive(Debug)]
struct NoDefault;

impl Default for NoDefault {
    fn default() -> Self {
        panic!("no rows of this kind")
    }
}

struct Rowless;

impl Projection<Memory<NoDefault>> for Rowless {
    const NAME: &'static str = "rowless";
    type Event = Note;

    async fn apply(&self, _: &mut NoDefault, _: &Recorded<Note>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_constructor_that_panics_is_an_error_of_the_start_that_names_its_consumer() {
    let process: Process = Stage::new().process();
    let runtime = process.runtime().project(Rowless, Memory::new()).project(Count, Memory::new());
    let Err(StartError::Panicked { name: "rowless", said, type_name }) = runtime.start().await
    else {
        panic!("it starts")
    };
    assert_eq!(type_name, std::any::type_name::<Rowless>());
    assert!(said.contains("no rows of this kind"), "{said}");
}
