//! Several runtimes on one store divide the work between them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{
    Context, Correlation, Process as Processing, Reaction, Targets, Trigger,
};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::runtime::{Clock, MemberStatus, RunningRuntime, Runtime};
use leftfold_core::store::{Position, Query, Read, Timestamp};
use leftfold_testing::extent;
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Process, SECOND, Stage};

pub(crate) const LEASE: Duration = Duration::from_secs(6);
/// Step in which the time passes.
pub(crate) const STEP: Duration = Duration::from_millis(250);
const WORKS: usize = 12;
const NAMES: [&str; WORKS] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum JobEvent {
    Asked { number: u32 },
    Counted { number: u32 },
}

impl Event for JobEvent {
    const NAMESPACE: &'static str = "job";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum JobCommand {
    Ask(u32),
    Count(u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is not wanted")]
struct Unwanted;

/// All that one worker has counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Job {
    counted: Vec<u32>,
}

impl Aggregate for Job {
    const CATEGORY: &'static str = "job";
    type Event = JobEvent;
    type Command = JobCommand;
    type Refusal = Unwanted;

    fn apply(&mut self, event: &JobEvent) {
        if let JobEvent::Counted { number } = event {
            self.counted.push(*number);
        }
    }

    fn decide(&self, command: &JobCommand) -> Result<Vec<JobEvent>, Unwanted> {
        Ok(vec![match command {
            JobCommand::Ask(number) => JobEvent::Asked { number: *number },
            JobCommand::Count(number) => JobEvent::Counted { number: *number },
        }])
    }
}

/// Counts everything that is asked for.
#[derive(Debug, Default)]
pub(crate) struct Worker<const N: usize>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Asking {
    #[serde(rename = "job.Asked")]
    Asked { number: u32 },
}

impl Event for Asking {
    const NAMESPACE: &'static str = "asking";
}

impl<const N: usize> Processing for Worker<N> {
    const NAME: &'static str = NAMES[N];
    type Event = Asking;

    fn targets() -> Targets {
        Targets::of::<Job>()
    }

    fn correlate(event: &Recorded<Asking>) -> Correlation {
        let Asking::Asked { number } = event.event;
        Correlation::starts(number.to_string())
    }

    fn apply(&mut self, _: &Trigger<Asking>, _: &Context) {}

    fn react(&self, trigger: &Trigger<Asking>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(Asking::Asked { number }) => {
                Reaction::none().command::<Job>(NAMES[N], JobCommand::Count(*number)).end()
            }
            _ => Reaction::none(),
        }
    }
}

fn all_workers(runtime: Runtime) -> Runtime {
    let runtime = runtime.process::<Worker<0>>().process::<Worker<1>>().process::<Worker<2>>();
    let runtime = runtime.process::<Worker<3>>().process::<Worker<4>>().process::<Worker<5>>();
    let runtime = runtime.process::<Worker<6>>().process::<Worker<7>>().process::<Worker<8>>();
    runtime.process::<Worker<9>>().process::<Worker<10>>().process::<Worker<11>>()
}

/// Works by the member that does them, and since when.
pub(crate) type Spread = BTreeMap<String, Vec<(String, Timestamp)>>;

/// Runtimes of several processes, on a store whose time is that of the clock.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    pub(crate) asking: Process,
    pub(crate) running: BTreeMap<String, (Process, RunningRuntime)>,
    asked: u32,
}

impl Cluster {
    pub(crate) async fn of(names: &[&str]) -> Self {
        let stage = Stage::in_time();
        let (asking, running) = (stage.process(), BTreeMap::new());
        let mut cluster = Self { stage, asking, running, asked: 0 };
        for name in names {
            cluster.start(name).await;
        }
        cluster
    }

    async fn start(&mut self, name: &str) {
        self.start_with(name, all_workers).await;
    }

    pub(crate) async fn start_with(
        &mut self,
        name: &str,
        workers: impl FnOnce(Runtime) -> Runtime,
    ) {
        let process = self.stage.process();
        let runtime = workers(process.runtime().named(name).lease(LEASE));
        let running = runtime.start().await.unwrap();
        self.running.insert(name.to_owned(), (process, running));
    }

    /// The process ends without a word.
    pub(crate) fn crash(&mut self, name: &str) {
        let (process, runtime) = self.running.remove(name).unwrap();
        process.kill();
        drop(runtime);
    }

    pub(crate) async fn stop(&mut self, name: &str) {
        let (_, runtime) = self.running.remove(name).unwrap();
        runtime.stop().await.unwrap();
    }

    /// Lets the time pass, and everybody do what there is to do in it.
    pub(crate) async fn pass(&self, time: Duration) {
        self.pass_in(STEP, time).await;
    }

    /// The same, in other steps.
    pub(crate) async fn pass_in(&self, step: Duration, time: Duration) {
        let until = self.stage.clock.now().plus(time);
        settle().await;
        while self.stage.clock.now() < until {
            self.stage.clock.advance(step.min(until.since(self.stage.clock.now())));
            settle().await;
        }
    }

    pub(crate) async fn ask(&mut self) {
        self.asked += 1;
        let jobs = self.asking.store.aggregate::<Job>();
        jobs.execute("asked", JobCommand::Ask(self.asked)).await.unwrap();
    }

    pub(crate) async fn members(&self) -> Vec<MemberStatus> {
        let (_, runtime) = self.running.values().next().unwrap();
        runtime.members().await.unwrap()
    }

    pub(crate) async fn spread(&self) -> Spread {
        let works = |member: &MemberStatus| {
            member.works.iter().map(|work| (work.consumer.clone(), work.since)).collect()
        };
        self.members().await.iter().map(|member| (member.name.clone(), works(member))).collect()
    }

    /// The numbers of works of the members, the smallest first.
    pub(crate) async fn loads(&self) -> Vec<usize> {
        let mut loads: Vec<usize> = self.spread().await.values().map(Vec::len).collect();
        loads.sort_unstable();
        loads
    }

    /// Every worker has counted everything once.
    async fn assert_all_counted_once(&self) {
        let all: Vec<u32> = (1..=self.asked).collect();
        for name in NAMES {
            let job = self.asking.store.aggregate::<Job>().load(name).await.unwrap();
            let mut counted = job.state.counted;
            counted.sort_unstable();
            assert_eq!(counted, all, "by {name}");
        }
    }

    /// The longest time from a question to its being counted, by the clock of the store.
    async fn longest_wait(&self) -> Duration {
        let (mut asked, mut longest) = (BTreeMap::new(), Duration::ZERO);
        let read = Read::matching(Query::category("job"), Position(1));
        for event in self.asking.store.read(read).all().await.unwrap() {
            let number = || {
                let data: BTreeMap<String, u32> = serde_json::from_slice(&event.data).unwrap();
                data["number"]
            };
            if event.event_type.ends_with("Asked") {
                asked.insert(number(), event.recorded_at);
            } else {
                longest = longest.max(event.recorded_at.since(asked[&number()]));
            }
        }
        longest
    }
}

/// Gives every task its turn until nothing is left to do but to wait.
async fn settle() {
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_work_is_spread_evenly_and_then_nothing_moves() {
    let mut cluster = Cluster::of(&["one", "two", "three"]).await;
    cluster.ask().await;
    cluster.pass(6 * SECOND).await;
    assert_eq!(cluster.loads().await, [4, 4, 4]);
    let spread = cluster.spread().await;
    for _ in 0..20 {
        cluster.ask().await;
        cluster.pass(3 * SECOND).await;
    }
    assert_eq!(cluster.spread().await, spread);
    cluster.assert_all_counted_once().await;
    assert!(cluster.longest_wait().await <= SECOND);
}

#[tokio::test]
async fn what_a_crashed_runtime_did_is_taken_over_when_its_leases_are_over() {
    let mut cluster = Cluster::of(&["one", "two", "three"]).await;
    cluster.pass(6 * SECOND).await;
    cluster.crash("two");
    cluster.ask().await;
    cluster.pass(LEASE * 2 / 3 - STEP).await;
    assert_eq!(cluster.loads().await, [4, 4, 4], "its leases are not over");
    cluster.pass(LEASE / 3 + STEP + SECOND).await;
    assert_eq!(cluster.loads().await, [6, 6]);
    cluster.assert_all_counted_once().await;
    assert!(cluster.longest_wait().await <= LEASE + SECOND);
}

/// Work of a crashed runtime was planned to it again as soon as its first lease was over, since
/// its membership lasted a little longer, and nobody else took it for three seconds.
#[tokio::test]
async fn a_crashed_runtime_is_given_no_work_though_its_membership_is_not_over() {
    for quarters in 0..8 {
        let mut cluster = Cluster::of(&["one", "two", "three"]).await;
        cluster.pass(6 * SECOND + quarters * STEP).await;
        cluster.crash("two");
        cluster.ask().await;
        cluster.pass(LEASE + 2 * SECOND).await;
        cluster.assert_all_counted_once().await;
        let longest = cluster.longest_wait().await;
        assert!(longest <= LEASE + SECOND, "{longest:?}, crashed after {quarters} quarters");
    }
}

/// A panic where the plan is made left every consumer of the runtime waiting for its part.
#[tokio::test]
async fn a_runtime_whose_plan_panics_works_without_one() {
    let mut cluster = Cluster::of(&["one", "two"]).await;
    cluster.pass(6 * SECOND).await;
    let panics = |cluster: &Cluster, panics| {
        cluster.running["one"].0.faults.leases_panic.store(panics, Ordering::SeqCst);
    };
    panics(&cluster, true);
    cluster.ask().await;
    cluster.pass(SECOND).await;
    cluster.assert_all_counted_once().await;
    // What others leave it takes, without being told to.
    cluster.crash("two");
    cluster.ask().await;
    cluster.pass(2 * LEASE).await;
    cluster.assert_all_counted_once().await;
    panics(&cluster, false);
    cluster.start("three").await;
    cluster.pass(2 * LEASE).await;
    assert_eq!(cluster.loads().await, [6, 6]);
}

#[tokio::test]
async fn what_a_stopped_runtime_did_is_taken_over_within_a_second() {
    let mut cluster = Cluster::of(&["one", "two", "three"]).await;
    cluster.pass(6 * SECOND).await;
    cluster.stop("two").await;
    cluster.ask().await;
    cluster.pass(SECOND).await;
    assert_eq!(cluster.loads().await, [6, 6]);
    cluster.assert_all_counted_once().await;
    assert!(cluster.longest_wait().await <= SECOND);
}

#[tokio::test]
async fn a_runtime_that_comes_gets_its_share_and_nothing_else_moves() {
    let mut cluster = Cluster::of(&["one", "two", "three"]).await;
    cluster.pass(6 * SECOND).await;
    let before = cluster.spread().await;
    cluster.start("four").await;
    cluster.ask().await;
    cluster.pass(3 * SECOND).await;
    assert_eq!(cluster.loads().await, [3, 3, 3, 3]);
    let after = cluster.spread().await;
    for (name, works) in before {
        let kept = works.iter().filter(|work| after[&name].contains(work)).count();
        assert_eq!(kept, 3, "{name}");
    }
    cluster.assert_all_counted_once().await;
    assert!(cluster.longest_wait().await <= SECOND);
}

#[tokio::test]
async fn work_that_only_some_can_do_stays_with_them() {
    let mut cluster = Cluster::of(&["one"]).await;
    let two_workers = |runtime: Runtime| runtime.process::<Worker<0>>().process::<Worker<1>>();
    cluster.start_with("two", two_workers).await;
    cluster.ask().await;
    cluster.pass(6 * SECOND).await;
    assert_eq!(cluster.loads().await, [2, 10]);
    cluster.stop("one").await;
    cluster.ask().await;
    cluster.pass(2 * SECOND).await;
    assert_eq!(cluster.loads().await, [2]);
    cluster.start("three").await;
    cluster.pass(4 * SECOND).await;
    assert_eq!(cluster.loads().await, [2, 10]);
    cluster.assert_all_counted_once().await;
}

/// Counts all questions, in the memory of its process.
struct Seen;

impl Projection<Memory<u32>> for Seen {
    const NAME: &'static str = "seen";
    type Event = Asking;

    async fn apply(&self, rows: &mut u32, _: &Recorded<Asking>) -> Result<(), ProjectionError> {
        *rows += 1;
        Ok(())
    }
}

#[tokio::test]
async fn rows_in_the_memory_of_a_process_are_kept_in_every_process() {
    let mut cluster = Cluster::of(&[]).await;
    let all = [Memory::new(), Memory::new(), Memory::new()];
    for (name, rows) in ["one", "two", "three"].into_iter().zip(&all) {
        cluster.start_with(name, |runtime| runtime.project(Seen, rows.clone())).await;
    }
    for asked in 1..4 {
        cluster.ask().await;
        cluster.pass(SECOND).await;
        for rows in &all {
            assert_eq!(rows.read(|rows| *rows).await, asked);
        }
    }
}

#[tokio::test]
async fn a_rolling_restart_loses_nothing_repeats_nothing_and_pauses_nothing_for_long() {
    let mut cluster = Cluster::of(&["one", "two", "three"]).await;
    cluster.pass(6 * SECOND).await;
    for name in ["one", "two", "three"] {
        for _ in 0..4 {
            cluster.ask().await;
            cluster.pass(SECOND / 2).await;
        }
        cluster.stop(name).await;
        for _ in 0..4 {
            cluster.ask().await;
            cluster.pass(SECOND / 2).await;
        }
        cluster.start(name).await;
    }
    cluster.pass(6 * SECOND).await;
    assert_eq!(cluster.loads().await, [4, 4, 4]);
    cluster.assert_all_counted_once().await;
    let longest = cluster.longest_wait().await;
    assert!(longest <= SECOND, "{longest:?}");
}

#[tokio::test]
async fn everybody_sees_who_does_what_and_how_far_it_is() {
    let mut cluster = Cluster::of(&["one", "two"]).await;
    cluster.ask().await;
    cluster.pass(LEASE).await;
    let members = cluster.members().await;
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    let mut works: Vec<_> = members.iter().flat_map(|member| member.works.clone()).collect();
    works.sort_by(|one, other| one.work.cmp(&other.work));
    for (work, name) in works.iter().zip(NAMES) {
        assert_eq!((&*work.work, &*work.consumer), (&*format!("$process:{name}"), name));
        assert_eq!(work.waits_for, "events, or the next due time");
        assert!(work.through >= Position(1), "{work:?}");
        assert!(work.since < work.until, "{work:?}");
    }
    assert_eq!(works.len(), WORKS);
    // Of its own consumers each runtime says who else has the work.
    let (_, one) = &cluster.running["one"];
    let (by_others, own): (Vec<_>, Vec<_>) =
        one.status().into_iter().partition(|consumer| consumer.standby);
    assert_eq!((by_others.len(), own.len()), (6, 6));
    assert!(by_others.iter().all(|consumer| consumer.waits_for.starts_with("the lease, held by")));
    cluster.stop("one").await;
    assert_eq!(cluster.members().await.len(), 1);
}

#[tokio::test]
async fn at_random_nothing_is_lost_or_repeated_and_in_the_end_all_is_even() {
    let seed = leftfold_testing::seed();
    for round in 0..extent(3, 100) {
        at_random(seed.wrapping_add(round)).await;
    }
}

/// Everybody took what a runtime that crashed at its start was to take, kept it for a minute, and
/// handed other work to the dead one.
#[tokio::test]
async fn a_runtime_that_crashes_at_its_start_holds_work_up_for_three_seconds_and_no_more() {
    for quarters in 0..16 {
        let mut cluster = Cluster::of(&["one", "two", "three"]).await;
        cluster.pass(6 * SECOND).await;
        cluster.start("four").await;
        cluster.crash("four");
        cluster.pass(quarters * STEP).await;
        cluster.stop("two").await;
        cluster.ask().await;
        cluster.pass(4 * SECOND).await;
        let loads = cluster.loads().await;
        assert!(loads.ends_with(&[6, 6]), "{loads:?} after {quarters} quarters");
        cluster.assert_all_counted_once().await;
        cluster.pass(3 * LEASE).await;
        assert_eq!(cluster.loads().await, [6, 6], "after {quarters} quarters");
    }
}

async fn at_random(seed: u64) {
    let mut chance = Rng::with_seed(seed);
    let mut cluster = Cluster::of(&["one", "two"]).await;
    for _ in 0..40 {
        let name = ["one", "two", "three", "four"][chance.usize(0..4)];
        match (chance.u32(0..8), cluster.running.contains_key(name)) {
            (0, true) => cluster.crash(name),
            (1, true) => cluster.stop(name).await,
            (0..5, false) => cluster.start(name).await,
            _ => cluster.ask().await,
        }
        cluster.pass(STEP * chance.u32(0..8)).await;
    }
    if cluster.running.is_empty() {
        cluster.start("one").await;
    }
    cluster.pass(3 * LEASE).await;
    let (members, loads) = (cluster.running.len(), cluster.loads().await);
    let even: Vec<usize> = (0..members).map(|member| (WORKS + member) / members).collect();
    assert_eq!(loads, even, "seed {seed}");
    cluster.assert_all_counted_once().await;
}
