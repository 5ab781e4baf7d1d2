//! Effects that only one of several processes can carry out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use leftfold_core::runtime::{
    ATTEMPT_GRACE, Attempt, Clock, Conclusion, Effect, EffectId, EffectState, Order, Performed,
    Policy, RunningRuntime, WORK_LEASE,
};
use leftfold_core::store::{RecordedEvent, Timestamp};
use leftfold_testing::{HandClock, extent};
use tokio::sync::Notify;

use crate::runtime_stage::{
    Command, Door, Opening, Process, SECOND, Stage, done, in_doubt, not_done, quiet, story, until,
};

const DEADLINE: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(600);

/// Doors, each of which is within reach of one process at a time, and all that is done to them.
#[derive(Default)]
struct Doors(Mutex<Reach>);

#[derive(Default)]
struct Reach {
    /// The process that reaches each door.
    by: BTreeMap<u32, usize>,
    /// Every attempt that touched a door: effect, number, process.
    touched: Vec<(EffectId, u32, usize)>,
    /// Attempts under way, with their deadlines.
    under_way: BTreeMap<EffectId, Timestamp>,
    looked_up: Vec<(EffectId, usize)>,
}

impl Doors {
    fn reach(&self) -> MutexGuard<'_, Reach> {
        self.0.lock().unwrap()
    }

    fn bring(&self, door: u32, process: usize) {
        self.reach().by.insert(door, process);
    }

    fn touched(&self) -> Vec<(EffectId, u32, usize)> {
        self.reach().touched.clone()
    }
}

/// Answers of a door.
#[derive(Clone)]
enum Answers {
    AtOnce,
    /// When the test lets it.
    When(Arc<Notify>),
    Never,
    /// By chance.
    Any(Arc<Mutex<Rng>>),
}

/// Opens the doors that one process reaches.
#[derive(Clone)]
struct Reacher {
    process: usize,
    doors: Arc<Doors>,
    clock: Arc<HandClock>,
    answers: Answers,
    within: Duration,
}

impl Reacher {
    fn touch(&self, attempt: &Attempt<Opening>) {
        let mut reach = self.doors.reach();
        let (id, number, now) = (attempt.effect, attempt.number, self.clock.now());
        let known = reach.touched.iter().any(|(of, before, _)| (*of, *before) == (id, number));
        assert!(!known, "attempt {number} at {id} touches its door a second time");
        let open = reach.under_way.insert(id, attempt.deadline);
        assert!(open.is_none_or(|until| until <= now), "{id} is touched while it is open");
        reach.touched.push((id, number, self.process));
    }
}

impl Effect for Reacher {
    const NAME: &'static str = "reach";
    const INTENT: &'static str = "door.OpeningAsked";
    type Intent = Opening;
    type Outcome = String;
    type Target = Door;

    fn policy(&self) -> Policy {
        Policy::once()
            .deadline(DEADLINE)
            .attempts(3)
            .backoff(SECOND, 10 * SECOND)
            .only_here(self.within)
    }

    fn is_here(&self, intent: &Opening) -> bool {
        self.doors.reach().by.get(&intent.code) == Some(&self.process)
    }

    fn order(&self, intent: &Opening, _: &RecordedEvent) -> Order {
        Order::Key(intent.code.to_string())
    }

    async fn perform(&self, attempt: &Attempt<Opening>) -> Performed<String> {
        self.touch(attempt);
        let performed = match &self.answers {
            Answers::AtOnce => done("open"),
            Answers::When(let_in) => {
                let_in.notified().await;
                done("open")
            }
            Answers::Never => std::future::pending().await,
            Answers::Any(chance) => {
                let (turns, answer) = {
                    let mut chance = chance.lock().unwrap();
                    (chance.u32(0..50), chance.u32(0..10))
                };
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                match answer {
                    0 => in_doubt("it may be open"),
                    1 | 2 => not_done("it is stuck"),
                    3 => std::future::pending().await,
                    _ => done("open"),
                }
            }
        };
        self.doors.reach().under_way.remove(&attempt.effect);
        performed
    }

    async fn resolve(&self, attempt: &Attempt<Opening>) -> Performed<String> {
        let mut reach = self.doors.reach();
        let until = reach.under_way.get(&attempt.effect).copied();
        assert!(until.is_none_or(|until| until <= self.clock.now()), "it is looked up while open");
        reach.looked_up.push((attempt.effect, self.process));
        done("it had opened")
    }

    fn report(
        &self,
        attempt: &Attempt<Opening>,
        conclusion: &Conclusion<String>,
    ) -> Option<(String, Command)> {
        Some((attempt.intent.code.to_string(), Command::Hear(conclusion.clone())))
    }
}

/// Three processes on one store, whose time is that of the clock.
struct Three {
    stage: Stage,
    doors: Arc<Doors>,
    answers: Answers,
    within: Duration,
    processes: BTreeMap<usize, (Process, RunningRuntime)>,
}

impl Three {
    async fn with(answers: Answers, within: Duration) -> Self {
        let (stage, doors) = (Stage::in_time(), Arc::default());
        let mut three = Self { stage, doors, answers, within, processes: BTreeMap::new() };
        for process in 0..3 {
            three.start(process).await;
        }
        three
    }

    async fn start(&mut self, number: usize) {
        let process = self.stage.process();
        let reacher = Reacher {
            process: number,
            doors: self.doors.clone(),
            clock: self.stage.clock.clone(),
            answers: self.answers.clone(),
            within: self.within,
        };
        let runtime = process.runtime().effect(reacher).start().await.unwrap();
        self.processes.insert(number, (process, runtime));
    }

    /// The process ends without a word, with all that it has under way.
    fn crash(&mut self, number: usize) {
        let (process, runtime) = self.processes.remove(&number).unwrap();
        process.kill();
        drop(runtime);
    }

    async fn ask(&self, door: u32) -> EffectId {
        let (process, _) = self.processes.values().next().unwrap();
        process.ask(&door.to_string(), door).await
    }

    async fn state(&self, id: EffectId) -> EffectState {
        let (_, runtime) = self.processes.values().next().unwrap();
        runtime.effects().find(id).await.unwrap().unwrap().state
    }

    async fn story(&self) -> Vec<String> {
        let (process, _) = self.processes.values().next().unwrap();
        story(&process.store).await
    }

    /// Tells a process that something has come to it.
    fn look_again(&self, number: usize) {
        self.processes[&number].1.effects().look_again();
    }
}

#[tokio::test]
async fn each_intent_is_carried_out_by_the_process_that_has_it() {
    let three = Three::with(Answers::AtOnce, WITHIN).await;
    let mut expected = Vec::new();
    for door in 0..12 {
        three.doors.bring(door, door as usize % 3);
        expected.push((three.ask(door).await, 1, door as usize % 3));
    }
    until("all are open", async || three.doors.touched().len() == 12).await;
    quiet().await;
    let mut touched = three.doors.touched();
    touched.sort();
    assert_eq!(touched, expected);
    for (id, _, _) in expected {
        assert!(matches!(three.state(id).await, EffectState::Done { .. }));
    }
}

#[tokio::test]
async fn an_intent_that_is_nowhere_is_carried_out_when_something_comes_with_or_without_a_word() {
    let three = Three::with(Answers::AtOnce, WITHIN).await;
    let (first, second) = (three.ask(1).await, three.ask(2).await);
    quiet().await;
    assert_eq!(three.doors.touched(), []);
    three.doors.bring(1, 2);
    three.doors.bring(2, 1);
    three.look_again(2);
    until("it is open", async || three.doors.touched() == [(first, 1, 2)]).await;
    quiet().await;
    assert_eq!(three.doors.touched().len(), 1, "nobody told the other process");
    three.stage.clock.advance(SECOND);
    until("the other is open", async || three.doors.touched().len() == 2).await;
    assert_eq!(three.doors.touched()[1], (second, 1, 1));
}

#[tokio::test]
async fn later_ones_of_a_key_wait_for_the_one_that_is_elsewhere() {
    let go = Arc::new(Notify::new());
    let three = Three::with(Answers::When(go.clone()), WITHIN).await;
    three.doors.bring(1, 0);
    let (first, second) = (three.ask(1).await, three.ask(1).await);
    until("it is touched", async || three.doors.touched().len() == 1).await;
    // The door moves while the attempt is open.
    three.doors.bring(1, 1);
    three.look_again(1);
    three.stage.clock.advance(10 * SECOND);
    quiet().await;
    assert_eq!(three.doors.touched(), [(first, 1, 0)]);
    go.notify_waiters();
    until("the outcome is known", async || {
        matches!(three.state(first).await, EffectState::Done { .. })
    })
    .await;
    quiet().await;
    three.stage.clock.advance(10 * SECOND);
    until("the next one is touched", async || three.doors.touched().len() == 2).await;
    assert_eq!(three.doors.touched()[1], (second, 1, 1));
}

#[tokio::test]
async fn an_open_attempt_whose_process_crashed_is_not_touched_again_where_its_target_moves() {
    let mut three = Three::with(Answers::Never, WITHIN).await;
    three.doors.bring(1, 0);
    let id = three.ask(1).await;
    until("it is touched", async || three.doors.touched().len() == 1).await;
    three.crash(0);
    three.doors.bring(1, 2);
    three.look_again(2);
    three.stage.clock.advance(DEADLINE);
    quiet().await;
    assert!(matches!(three.state(id).await, EffectState::InFlight { .. }));
    three.stage.clock.advance(ATTEMPT_GRACE);
    until("it is looked up", async || three.state(id).await.is_concluded()).await;
    let reach = three.doors.reach();
    assert_eq!((&reach.touched[..], &reach.looked_up[..]), (&[(id, 1, 0)][..], &[(id, 2)][..]));
}

#[tokio::test]
async fn a_doubt_that_is_nowhere_is_looked_up_where_it_comes() {
    let mut three = Three::with(Answers::Never, WITHIN).await;
    three.doors.bring(1, 0);
    let id = three.ask(1).await;
    until("it is touched", async || three.doors.touched().len() == 1).await;
    three.crash(0);
    three.doors.bring(1, 7);
    // The crashed process held the lease of the kind.
    three.stage.clock.advance(DEADLINE + ATTEMPT_GRACE);
    quiet().await;
    three.stage.clock.advance(WORK_LEASE);
    until("it is in doubt", async || matches!(three.state(id).await, EffectState::InDoubt { .. }))
        .await;
    three.stage.clock.advance(WITHIN);
    quiet().await;
    assert!(three.doors.reach().looked_up.is_empty());
    three.doors.bring(1, 1);
    three.look_again(1);
    until("it is looked up", async || three.state(id).await.is_concluded()).await;
    assert_eq!(three.doors.reach().looked_up, [(id, 1)]);
}

#[tokio::test]
async fn an_intent_that_is_nowhere_for_too_long_is_not_done_even_if_the_holder_crashed() {
    let mut three = Three::with(Answers::AtOnce, WITHIN).await;
    let id = three.ask(1).await;
    quiet().await;
    three.stage.clock.advance(WITHIN - SECOND);
    quiet().await;
    assert_eq!(three.state(id).await, EffectState::Pending);
    three.crash(0);
    three.stage.clock.advance(SECOND);
    quiet().await;
    three.stage.clock.advance(WORK_LEASE);
    until("it has ended", async || three.state(id).await.is_concluded()).await;
    let EffectState::NotDone { reason, .. } = three.state(id).await else {
        panic!("it took place nowhere")
    };
    assert_eq!(reason, "no process could carry it out within 600s");
    assert_eq!(three.story().await, ["OpeningAsked", "StayedShut+NotDone"]);
}

/// Two processes that both say that they have it: one opens the attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_processes_that_have_it_one_touches_it() {
    let three = Three::with(Answers::AtOnce, WITHIN).await;
    let doors = three.doors.clone();
    let mut asked = Vec::new();
    for door in 0..100 {
        asked.push(three.ask(door).await);
        // Each is wherever it is looked for, sooner or later.
        let doors = doors.clone();
        tokio::spawn(async move {
            for turn in 0..1_000 {
                doors.bring(door, turn % 3);
                tokio::task::yield_now().await;
            }
        });
    }
    until("all are open", async || {
        (0..3).for_each(|process| three.look_again(process));
        three.doors.touched().len() == 100
    })
    .await;
    let touched: BTreeSet<_> = three.doors.touched().into_iter().map(|(id, _, _)| id).collect();
    assert_eq!(touched, asked.into_iter().collect());
}

#[tokio::test]
async fn at_random_each_attempt_touches_its_door_once_and_in_the_order_of_its_key() {
    let seed = leftfold_testing::seed();
    for round in 0..extent(10, 300) {
        at_random(seed.wrapping_add(round)).await;
    }
}

async fn at_random(seed: u64) {
    let mut chance = Rng::with_seed(seed);
    let answers = Answers::Any(Arc::new(Mutex::new(Rng::with_seed(seed))));
    let mut three = Three::with(answers, Duration::MAX).await;
    let mut asked: BTreeMap<u32, Vec<EffectId>> = BTreeMap::new();
    for _ in 0..120 {
        let door = chance.u32(0..6);
        match chance.u32(0..20) {
            0..8 => asked.entry(door).or_default().push(three.ask(door).await),
            8..13 => {
                let process = chance.usize(0..4);
                three.doors.bring(door, process);
                if three.processes.contains_key(&process) && chance.bool() {
                    three.look_again(process);
                }
            }
            13 if three.processes.len() > 1 => {
                let process = *chance.choice(three.processes.keys()).unwrap();
                three.crash(process);
            }
            14 if three.processes.len() > 1 => {
                let process = *chance.choice(three.processes.keys()).unwrap();
                let (_, runtime) = three.processes.remove(&process).unwrap();
                // What is under way ends by its deadline.
                let stopping = tokio::spawn(runtime.stop());
                quiet().await;
                three.stage.clock.advance(DEADLINE);
                stopping.await.unwrap().unwrap();
            }
            15 => {
                let gone = (0..3).find(|process| !three.processes.contains_key(process));
                if let Some(process) = gone {
                    three.start(process).await;
                }
            }
            16 => three.stage.clock.advance(WORK_LEASE),
            _ => three.stage.clock.advance(SECOND * chance.u32(0..5)),
        }
        for _ in 0..chance.u32(0..100) {
            tokio::task::yield_now().await;
        }
    }
    let alive = *three.processes.keys().next().unwrap();
    (0..6).for_each(|door| three.doors.bring(door, alive));
    let all: Vec<EffectId> = asked.values().flatten().copied().collect();
    until(format!("all have ended, of seed {seed}"), async || {
        three.stage.clock.advance(DEADLINE + ATTEMPT_GRACE);
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        for id in &all {
            if !three.state(*id).await.is_concluded() {
                return false;
            }
        }
        true
    })
    .await;
    let touched = three.doors.touched();
    for (door, ids) in asked {
        let mut firsts: Vec<EffectId> = Vec::new();
        for (id, _, _) in touched.iter().filter(|(id, _, _)| ids.contains(id)) {
            if firsts.last() != Some(id) {
                firsts.push(*id);
            }
        }
        assert!(firsts.is_sorted(), "door {door} of seed {seed}: {firsts:?}");
    }
}
