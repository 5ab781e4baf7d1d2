//! Instances that never end are read from snapshots, and from nothing that is not true.

use std::sync::atomic::{AtomicUsize, Ordering};

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{
    Context, Correlation, InstanceSnapshots, Process, Reaction, Targets, Trigger,
};
use leftfold_core::store::{Position, Query, Read};
use serde::{Deserialize, Serialize};

use crate::clerk::{Ask, Desk, DeskEvent, Do, ask, starts, texts};
use crate::runtime_stage::{SECOND, Stage, until};

static APPLIED: AtomicUsize = AtomicUsize::new(0);
/// Lock of the test that counts what is applied.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Counts questions, and says how many there were, forever. Its fold version is a parameter, and
/// what it counts by.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter<const FOLD: u32, const STEP: u64> {
    count: u64,
}

impl<const FOLD: u32, const STEP: u64> Process for Counter<FOLD, STEP> {
    const NAME: &'static str = "counter";
    const FOLD_VERSION: u32 = FOLD;
    type Event = DeskEvent;

    fn targets() -> Targets {
        Targets::of::<Desk>()
    }

    fn correlate(event: &Recorded<DeskEvent>) -> Correlation {
        match event.event {
            DeskEvent::Asked(_) => Correlation::starts("all"),
            DeskEvent::Wrote { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DeskEvent>, _: &Context) {
        APPLIED.fetch_add(1, Ordering::SeqCst);
        self.count += STEP;
    }

    fn react(&self, trigger: &Trigger<DeskEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(DeskEvent::Asked(asked)) if !asked.continues.is_empty() => {
                Reaction::none().timer("said", SECOND).timer("old", SECOND * 1_000)
            }
            Trigger::TimerFired { name } if name == "said" => {
                Reaction::none().command::<Desk>("count", Do::Write(self.count.to_string()))
            }
            _ => Reaction::none(),
        }
    }

    fn snapshots() -> InstanceSnapshots<Self> {
        InstanceSnapshots::every_reactions(10)
    }
}

fn says() -> Ask {
    Ask { continues: vec!["say".into()], ..Ask::default() }
}

async fn runs<const FOLD: u32, const STEP: u64>(
    stage: &Stage,
    asks: usize,
    expected: u64,
) -> usize {
    let process = stage.process();
    APPLIED.store(0, Ordering::SeqCst);
    let running = process.runtime().process::<Counter<FOLD, STEP>>().start().await.unwrap();
    let before = texts(&process.store, "count").await.len();
    for _ in 0..asks {
        ask(&process.store, starts("", [])).await;
    }
    ask(&process.store, says()).await;
    let reacted = Query::category("$process:counter");
    until("the question is heard", async || {
        let last = process
            .store
            .read(Read::matching(reacted.clone(), Position::END).backwards())
            .next()
            .await
            .unwrap();
        last.is_some_and(|last| last.data.windows(6).any(|part| part == b"\"said\""))
    })
    .await;
    stage.clock.advance(SECOND * 2);
    until("it is said", async || texts(&process.store, "count").await.len() > before).await;
    assert_eq!(texts(&process.store, "count").await.pop().unwrap(), expected.to_string());
    let applied = APPLIED.load(Ordering::SeqCst);
    running.stop().await.unwrap();
    applied
}

/// All that an instance had ever reacted to was read and folded again at every start.
#[tokio::test]
async fn an_instance_that_never_ends_is_read_from_where_its_snapshot_ends() {
    let _alone = ALONE.lock().await;
    let stage = Stage::new();
    assert_eq!(runs::<1, 1>(&stage, 200, 202).await, 202);
    // The first that is used is compared with the whole; then there are the events since.
    let applied = runs::<1, 1>(&stage, 20, 224).await;
    assert!((22..22 + 202 + 20).contains(&applied), "{applied} were applied");
    // The timer that was set before the snapshot is still set.
    let process = stage.process();
    let running = process.runtime().process::<Counter<1, 1>>().start().await.unwrap();
    let found = running.processes().find("counter", "all").await.unwrap().unwrap();
    assert_eq!(found.timers.keys().collect::<Vec<_>>(), ["old"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_another_fold_is_not_used_whether_that_is_said_or_forgotten() {
    let _alone = ALONE.lock().await;
    let stage = Stage::new();
    assert_eq!(runs::<1, 1>(&stage, 50, 52).await, 52);
    // It counts otherwise now, and its version says so.
    assert_eq!(runs::<2, 10>(&stage, 0, 540).await, 54);
    // It counts otherwise again, and nobody said so: the first load finds out.
    let applied = runs::<2, 3>(&stage, 0, 168).await;
    assert!(applied >= 54, "{applied}");
}
