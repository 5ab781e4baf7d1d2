//! Whatever the clock of a machine shows, effects and timers go by the clock of the store.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::drive::memory_at;
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy, Runtime,
};
use leftfold_core::store::{Position, Store, Timestamp};

use crate::runtime_stage::{
    Command, Door, DoorEvent, Opener, Opening, SECOND, done, everything, settled,
};

const MINUTES: Duration = Duration::from_secs(300);

/// A store that several processes use, whose clock is not that of their machines.
fn store_ahead_by(ahead: Duration, behind: Duration) -> (Store, Store) {
    let backend = memory_at(move || Timestamp::now().plus(ahead).minus(behind));
    let backend = Arc::new(backend);
    (Store::shared(backend.clone()), Store::shared(backend))
}

/// Opens doors, none of which is within reach.
struct Unreached;

impl Effect for Unreached {
    const NAME: &'static str = "reach";
    const INTENT: &'static str = "door.ClosingAsked";
    type Intent = Opening;
    type Outcome = String;
    type Target = Door;

    fn policy(&self) -> Policy {
        Policy::once().only_here(SECOND)
    }

    fn is_here(&self, _: &Opening) -> bool {
        false
    }

    async fn perform(&self, _: &Attempt<Opening>) -> Performed<String> {
        done("closed")
    }

    fn report(
        &self,
        _: &Attempt<Opening>,
        conclusion: &Conclusion<String>,
    ) -> Option<(String, Command)> {
        Some(("unreached".to_owned(), Command::Hear(conclusion.clone())))
    }
}

fn runtime(store: &Store) -> Runtime {
    let silent = Opener::silent().with(|policy| policy.deadline(SECOND));
    Runtime::new(store).effect(silent).effect(Unreached).scheduled::<Door>()
}

/// Returns the time at which the last event of a type was recorded.
async fn recorded_at(store: &Store, name: &str) -> Timestamp {
    let events = everything(store).await;
    let last = events.iter().rfind(|event| &*event.event_type == name);
    last.map(|event| event.recorded_at).unwrap()
}

/// Deadlines, due times and the time for which an intent may be nowhere used to be compared with
/// the clock of the process that looked: one that was fast by minutes ended them early, and one
/// that was slow ended them late.
#[tokio::test]
async fn nothing_is_early_or_late_in_processes_whose_clocks_are_wrong_by_minutes() {
    for (ahead, behind) in [(MINUTES, Duration::ZERO), (Duration::ZERO, MINUTES)] {
        let (one, other) = store_ahead_by(ahead, behind);
        let running =
            [runtime(&one).start().await.unwrap(), runtime(&other).start().await.unwrap()];
        let doors = one.aggregate::<Door>();
        let due = one.now().await.unwrap().plus(SECOND);
        let wall_up = one.scheduled::<Door>("walls");
        wall_up.send("walled up", &Command::WallUp, due).await.unwrap();
        let asked = doors.execute("silent", Command::Ask(1)).await.unwrap();
        let asked_at = recorded_at(&one, "door.OpeningAsked").await;
        let closing = DoorEvent::ClosingAsked(Opening { code: 1 });
        let unreached = doors.record("unreached", &[closing]).await.unwrap();

        let in_doubt = settled(&running[0].effects(), EffectId(asked.position)).await;
        let EffectState::InDoubt { since, .. } = in_doubt else { panic!("{in_doubt:?}") };
        let shut = settled(&running[1].effects(), EffectId(unreached.first)).await;
        assert!(matches!(shut, EffectState::NotDone { .. }), "{shut:?}");
        let shut_at = recorded_at(&one, "door.StayedShut").await;
        let mut walls = one.follow::<DoorEvent>(Position::START).unwrap();
        while walls.next().await.unwrap().event != DoorEvent::WalledUp {}
        let walled_up_at = recorded_at(&one, "door.WalledUp").await;
        for (what, at, due) in [
            ("the attempt", since, asked_at.plus(SECOND)),
            ("the effect that is nowhere", shut_at, unreached.recorded_at.plus(SECOND)),
            ("the command", walled_up_at, due),
        ] {
            assert!(at >= due, "{what} is early: {at} and not {due}");
            assert!(at <= due.plus(MINUTES / 10), "{what} is late: {at} and not {due}");
        }
        for running in running {
            running.stop().await.unwrap();
        }
    }
}
