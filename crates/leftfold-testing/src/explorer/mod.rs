//! The explorer: what is built on the store is run through crashes, delays and doubts, until
//! something breaks.
//!
//! ```
//! # use leftfold_core::fold::{Aggregate, Event};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! # enum SeatEvent { Reserved { guest: String }, Released }
//! # impl Event for SeatEvent { const NAMESPACE: &'static str = "seat"; }
//! # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
//! # struct Seat { guests: Vec<String> }
//! # #[derive(Clone, Debug)]
//! # enum Seating { Reserve { guest: &'static str } }
//! # #[derive(Clone, Debug, PartialEq, thiserror::Error)]
//! # #[error("the seat is taken")]
//! # struct Taken;
//! # impl Aggregate for Seat {
//! #     const CATEGORY: &'static str = "seat";
//! #     type Event = SeatEvent; type Command = Seating; type Refusal = Taken;
//! #     fn apply(&mut self, event: &SeatEvent) {
//! #         match event {
//! #             SeatEvent::Reserved { guest } => self.guests.push(guest.clone()),
//! #             SeatEvent::Released => self.guests.clear(),
//! #         }
//! #     }
//! #     fn decide(&self, Seating::Reserve { guest }: &Seating) -> Result<Vec<SeatEvent>, Taken> {
//! #         match &self.guests[..] {
//! #             [] => Ok(vec![SeatEvent::Reserved { guest: guest.to_string() }]),
//! #             _ => Err(Taken),
//! #         }
//! #     }
//! # }
//! use leftfold_testing::{Explorer, Schedules};
//!
//! Explorer::new()
//!     .aggregate::<Seat>()
//!     // .process::<Payment>(), .effect(SendMail { .. }, [outcomes])
//!     .start(|clients| {
//!         clients.given::<Seat>("12a", [SeatEvent::Released]);
//!         clients.client("anna").command::<Seat>("12a", Seating::Reserve { guest: "anna" });
//!         clients.client("ben").command::<Seat>("12a", Seating::Reserve { guest: "ben" });
//!     })
//!     .always("a seat has one guest at most", |world| {
//!         world.states::<Seat>().all(|seat| seat.guests.len() <= 1)
//!     })
//!     .finally("someone got it", |world| {
//!         world.states::<Seat>().all(|seat| seat.guests.len() == 1)
//!     })
//!     .run(Schedules(500));
//! ```
//!
//! # What runs
//! The real code: commands, processes, effects, projections and outboxes as they are in production,
//! over a store in memory, on one thread, in a world where nothing happens by itself. Whatever is
//! asked of the store or of the outside waits, until the *schedule* lets it be carried out. Between
//! two of these *points* the schedule may
//! - carry out what was asked for later first, or hold something back for long: delays, and every
//!   order between clients, processes and effects;
//! - stop an application and start it again from the store, with each thing that was under way
//!   carried out or lost;
//! - lose an answer, so that a client asks again: under the same command id, where it has one;
//! - find the store busy, once or for a while; end a page of a read early;
//! - move the clock: to the next moment that matters, beyond it, a little, or back a little;
//! - let an effect be done, be refused, be in doubt whether it took place or not, or not be
//!   answered in time.
//!
//! Orders that no store may show are not tried: a position is seen by everyone at the same place,
//! as every backend promises within a partition. Between streams it is the order of the appends
//! that varies.
//!
//! # Which schedules
//! First the usual course, then a crash at each of its points, as long as those are no more than
//! half of what may be run; then schedules that are drawn from seeds. All of it follows from the
//! seed: no thread, no clock and no random number of the machine has a part in it, as long as the
//! user's own code is pure.
//!
//! A schedule that breaks something is made shorter, by leaving out what is not needed, and told
//! line by line. It also counts as broken when an event cannot be folded, a trigger is parked, a
//! read model or what an outbox sent is not what the events say, a client is never answered, a
//! timer that is due does not fire, a consumer panics or runs in circles, or the run does not end.

// `clients` is what is asked of the application. `simulation` runs it once, as a `schedule` says:
// each consumer on its `scene`, over a `store`, `effects` and `projections` that wait for the
// schedule. `world` is what invariants look at. `shrink` makes a schedule that fails shorter, and
// `story` tells it, with values as `shown`.

// A run is a `simulation`: each application has a `store` of its own over the memory backend, and
// consumers that are a `task` each, on a `scene`. `clients` plans the requests, and `client_run`
// makes them; `effects` and `projections` run over the `outside` world and rows in memory, and
// `models` has the results. A `schedule` chooses the next step, `shrink` shortens one that fails.
// Invariants see the `world`, people read the `story`, with values as they are `shown`.

mod client_run;
mod clients;
mod effects;
mod models;
mod outside;
mod projections;
mod scene;
mod schedule;
mod shown;
mod shrink;
mod simulation;
mod store;
mod story;
mod task;
mod world;

use std::any::TypeId;
use std::fmt;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use clients::{Client, Clients};
pub use world::{PerformedIntent, World};

use effects::ScriptedEffect;
use leftfold_core::drive::panic_message;
use leftfold_core::fold::{Aggregate, Schema};
use leftfold_core::runtime::inbox::Inbox;
use leftfold_core::runtime::process::Process;
use leftfold_core::runtime::projection::{Bus, Memory, Outbox, Projection};
use leftfold_core::runtime::{Effect, Performed};
use leftfold_core::store::Append;
use scene::Scene;
use schedule::{ALL, ChoiceSource, RunSchedule};
use simulation::{ExplorationPlan, RunResult, StoryMode};
use world::{Fold, States};

/// Number of schedules to run. With a few clients and processes some thousands take a second in a
/// release build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedules(pub u64);

/// Seeds below this name a crash point; those from here on are drawn from.
const DRAWN: u64 = 1 << 32;

/// Runs aggregates, processes and effects through many schedules, and holds what becomes durable
/// against invariants.
#[must_use = "an explorer does nothing until it is run"]
pub struct Explorer {
    plan: ExplorationPlan,
    seed: Option<u64>,
    applications: u8,
}

impl Default for Explorer {
    fn default() -> Self {
        Self::new()
    }
}

impl Explorer {
    /// An explorer of nothing yet.
    pub fn new() -> Self {
        Self { plan: ExplorationPlan::default(), seed: None, applications: 1 }
    }

    /// Makes the states of a kind of aggregates known to invariants.
    ///
    /// # Panics
    /// If its events are not a plain enum.
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        let schema = Schema::of::<A::Event>().unwrap_or_else(|error| panic!("{error}"));
        self.plan.folds.push(Box::new(move || {
            (TypeId::of::<A>(), Box::new(Fold::<A>::new(schema.clone())) as Box<dyn States>)
        }));
        self
    }

    /// Runs a process.
    pub fn process<P: Process>(mut self) -> Self {
        let start = |scene: &Scene| scene.driver().process::<P>();
        self.plan.consumers.push((P::NAME, Box::new(start)));
        self
    }

    /// Delivers what an inbox accepts.
    pub fn inbox<I: Inbox>(mut self) -> Self {
        let start = |scene: &Scene| scene.driver().inbox::<I>();
        self.plan.consumers.push((I::NAME, Box::new(start)));
        self
    }

    /// Carries out an effect, but for the outside world: there one of these outcomes comes of an
    /// attempt, as the schedule says, or no answer before its deadline.
    ///
    /// An attempt that is [in doubt](Performed::InDoubt), or that is not answered, may have taken
    /// place or not. When it is looked up, the truth is found, at the third look at the latest. One
    /// that reaches the world outside after its deadline does not take place: what is looked up
    /// then is final, as it has to be. Of the effect itself only its [`policy`](Effect::policy) and
    /// [`report`](Effect::report) are called.
    pub fn effect<E: Effect>(
        mut self,
        effect: E,
        outcomes: impl IntoIterator<Item = Performed<E::Outcome>>,
    ) -> Self {
        let (effect, outcomes) = (Arc::new(effect), outcomes.into_iter().collect::<Arc<[_]>>());
        let start = move |scene: &Scene| -> task::ConsumerFuture {
            let (shared, clock, outside) =
                (scene.shared.clone(), scene.clock.clone(), scene.outside.clone());
            let scripted = ScriptedEffect {
                effect: effect.clone(),
                outcomes: outcomes.clone(),
                shared,
                clock,
                outside,
            };
            scene.driver().effect(scripted)
        };
        self.plan.consumers.push((E::NAME, Box::new(start)));
        self
    }

    /// Runs a projection in memory, which each life of an application builds again from nothing. In
    /// the end its rows must be what `apply` makes of all events in their order, whatever happened
    /// in between; [`World::rows`] has them at any time.
    ///
    /// ```
    /// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/seat.rs")); }
    /// use leftfold_core::fold::Recorded;
    /// use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
    /// use leftfold_testing::{Explorer, Schedules};
    /// use seat::{Seat, SeatEvent, Seating};
    ///
    /// struct Reservations;
    ///
    /// impl Projection<Memory<u32>> for Reservations {
    ///     const NAME: &'static str = "reservations";
    ///     type Event = SeatEvent;
    ///
    ///     async fn apply(
    ///         &self,
    ///         count: &mut u32,
    ///         event: &Recorded<SeatEvent>,
    ///     ) -> Result<(), ProjectionError> {
    ///         if let SeatEvent::Reserved { .. } = event.event {
    ///             *count += 1;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// Explorer::new()
    ///     .projection(|| Reservations)
    ///     .start(|clients| {
    ///         let reserve = Seating::Reserve { guest: "ada".to_owned() };
    ///         clients.client("ada").command::<Seat>("12a", reserve);
    ///     })
    ///     .finally("one is counted", |world| world.rows::<u32>("reservations") == [1])
    ///     .run(Schedules(50));
    /// # }
    /// ```
    pub fn projection<S, P>(mut self, make: impl Fn() -> P + Send + Sync + 'static) -> Self
    where
        S: Clone + fmt::Debug + Default + PartialEq + Send + Sync + 'static,
        P: Projection<Memory<S>>,
    {
        let make: Arc<dyn Fn() -> P + Send + Sync> = Arc::new(make);
        self.plan.consumers.push((
            P::NAME,
            Box::new(move |scene: &Scene| projections::model::<S, P>(scene, make.clone())),
        ));
        self
    }

    /// Runs an outbox, whose bus may be away, or forget to answer. In the end every message that
    /// the events ask for was sent, in order, and no other; [`World::sent`] has them at any time.
    pub fn outbox<B: Bus, P: Projection<Outbox<B>>>(
        mut self,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        let make: Arc<dyn Fn() -> P + Send + Sync> = Arc::new(make);
        self.plan.consumers.push((
            P::NAME,
            Box::new(move |scene: &Scene| projections::outbox::<B, P>(scene, make.clone())),
        ));
        self
    }

    /// Says what was there before, and who asks for what.
    pub fn start(mut self, start: impl FnOnce(&mut Clients)) -> Self {
        start(&mut self.plan.clients);
        self
    }

    /// Adds an invariant that must hold after everything that becomes durable.
    ///
    /// ```
    /// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/seat.rs")); }
    /// use leftfold_testing::{Explorer, Schedules};
    /// use seat::{Seat, Seating};
    ///
    /// # fn main() {
    /// let explored = Explorer::new()
    ///     .aggregate::<Seat>()
    ///     .start(|clients| {
    ///         for guest in ["ada", "bob"] {
    ///             let reserve = Seating::Reserve { guest: guest.to_owned() };
    ///             clients.client(guest).command::<Seat>("12a", reserve);
    ///         }
    ///     })
    ///     .always("a seat has one guest", |world| match world.state::<Seat>("12a") {
    ///         Some(seat) if seat.guests.len() > 1 => Err(format!("{:?}", seat.guests)),
    ///         _ => Ok(()),
    ///     })
    ///     .run(Schedules(50));
    /// assert!(explored.points > 0);
    /// # }
    /// ```
    pub fn always<H: InvariantAnswer>(
        mut self,
        name: &str,
        holds: impl Fn(&World) -> H + 'static,
    ) -> Self {
        self.plan.always.push(Invariant::new(name, holds));
        self
    }

    /// Adds an invariant that must hold when nothing more happens: all is carried out, all timers
    /// have fired.
    pub fn finally<H: InvariantAnswer>(
        mut self,
        name: &str,
        holds: impl Fn(&World) -> H + 'static,
    ) -> Self {
        self.plan.finally.push(Invariant::new(name, holds));
        self
    }

    /// Lets up to this number of applications share the store, each with all processes and effects:
    /// the work of one may be tried by another as well. At least 1, which is the default.
    pub fn applications(mut self, applications: u8) -> Self {
        self.applications = applications.max(1);
        self
    }

    /// Spoils what is appended before the store gets it: as a store that forgets command ids,
    /// checkpoints, conditions or fences. So it can be seen that a test would notice.
    ///
    /// ```
    /// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/seat.rs")); }
    /// use leftfold_testing::{Explorer, Schedules};
    /// use seat::{Seat, Seating};
    ///
    /// # fn main() {
    /// let explorer = Explorer::new()
    ///     .aggregate::<Seat>()
    ///     .start(|clients| {
    ///         for guest in ["ada", "bob"] {
    ///             let reserve = Seating::Reserve { guest: guest.to_owned() };
    ///             clients.client(guest).command::<Seat>("12a", reserve);
    ///         }
    ///     })
    ///     .always("a seat has one guest", |world| {
    ///         world.states::<Seat>().all(|seat| seat.guests.len() < 2)
    ///     })
    ///     // A store that checks no condition.
    ///     .spoiling(|append| append.condition = Default::default())
    ///     .seed(1);
    /// let failure = explorer.explore(Schedules(200)).unwrap_err();
    /// assert_eq!(failure.name, "a seat has one guest");
    /// // The same schedule again, to look at it in a debugger.
    /// assert_eq!(explorer.replay(failure.seed).unwrap_err().story, failure.story);
    /// # }
    /// ```
    pub fn spoiling(mut self, spoil: fn(&mut Append)) -> Self {
        self.plan.spoil = Some(spoil);
        self
    }

    /// Draws all schedules from this seed, instead of from another one each time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Runs this number of schedules, and ten times as many in a [long
    /// run](crate::extent); or, if `LEFTFOLD_SEED` is set, the one that it names.
    ///
    /// # Panics
    /// If one of them breaks an invariant: with its story, and the seed that replays it.
    #[track_caller]
    pub fn run(&self, schedules: Schedules) -> Explored {
        let explored = match std::env::var("LEFTFOLD_SEED") {
            Ok(text) => self.replay(
                text.parse()
                    .unwrap_or_else(|_| panic!("LEFTFOLD_SEED is {text:?}, set it to a number")),
            ),
            Err(_) => self.explore(Schedules(schedules.0 * crate::extent(1, 10))),
        };
        let explored = explored.unwrap_or_else(|failure| panic!("{failure}"));
        if explored.schedules > schedules.0 {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("an explorer");
            // Past the capture of the test runner: anyone who starts a long run sees what was
            // tried.
            let line = format!(
                "{test}: {} schedules with {} points\n",
                explored.schedules, explored.points
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        explored
    }

    /// As [`run`](Self::run), with the failure as a value.
    pub fn explore(&self, Schedules(count): Schedules) -> Result<Explored, Box<Failure>> {
        let mut explored = Explored { schedules: 0, points: 0 };
        let usual = self.take(&mut explored, 0, ChoiceSource::Known(RunSchedule::default()))?;
        // Every crash point of the usual course, for as long as it is short.
        let systematic = (u64::from(usual) * 2).min(count / 2);
        for seed in 1..=systematic {
            self.take(&mut explored, seed, systematic_schedule(seed))?;
        }
        let base = self.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..));
        let mut seeds = fastrand::Rng::with_seed(base);
        while explored.schedules < count {
            let seed = seeds.u64(DRAWN..);
            self.take(&mut explored, seed, self.drawn(seed, usual))?;
        }
        Ok(explored)
    }

    /// Runs the one schedule that a seed names.
    pub fn replay(&self, seed: u64) -> Result<Explored, Box<Failure>> {
        let mut explored = Explored { schedules: 0, points: 0 };
        let source = if seed < DRAWN {
            systematic_schedule(seed)
        } else {
            let usual = simulation::run(
                &self.plan,
                ChoiceSource::Known(RunSchedule::default()),
                StoryMode::NotAtAll,
            );
            self.drawn(seed, usual.points)
        };
        self.take(&mut explored, seed, source)?;
        Ok(explored)
    }

    fn drawn(&self, seed: u64, points: u32) -> ChoiceSource {
        ChoiceSource::drawn(seed, points, self.applications - 1)
    }

    /// Runs one schedule, and shrinks it if it fails. Returns its length.
    fn take(
        &self,
        explored: &mut Explored,
        seed: u64,
        source: ChoiceSource,
    ) -> Result<u32, Box<Failure>> {
        let ended = simulation::run(&self.plan, source, StoryMode::NotAtAll);
        explored.schedules += 1;
        explored.points += u64::from(ended.points);
        if ended.broken.is_none() {
            return Ok(ended.points);
        }
        let RunResult { broken, story, .. } = shrink::shrink(&self.plan, ended);
        let (name, detail) = broken.map(|broken| (broken.name, broken.detail)).unwrap_or_default();
        Err(Box::new(Failure { seed, schedules: explored.schedules, name, detail, story }))
    }
}

/// Seed 0 is the usual course, 1 and 2 a crash at its first point, 3 and 4 at its second.
fn systematic_schedule(seed: u64) -> ChoiceSource {
    let Some(nth) = seed.checked_sub(1) else { return ChoiceSource::Known(RunSchedule::default()) };
    let point = u32::try_from(nth / 2).unwrap_or(u32::MAX);
    ChoiceSource::Known(RunSchedule::crash_at(point, if nth % 2 == 0 { 0 } else { ALL }))
}

/// Extent of an exploration in which every invariant held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// Number of schedules.
    pub schedules: u64,
    /// Points at which something else could have happened, in all of them.
    pub points: u64,
}

/// Broken invariant, and the run that broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// Number of schedules run so far, this one included.
    pub schedules: u64,
    /// Name of the invariant.
    pub name: String,
    /// Description of how it is broken.
    pub detail: String,
    /// Events of the run, line by line.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} does not hold (schedule {}):\n", self.name, self.schedules)?;
        for (number, line) in (1..).zip(&self.story) {
            writeln!(f, "{number:3}  {line}")?;
        }
        let test = std::thread::current().name().unwrap_or("NAME").to_owned();
        write!(
            f,
            "\nreplay with LEFTFOLD_SEED={} cargo test {test}, or with .replay({0})",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// Answer of an invariant: it holds, or the reason it does not.
pub trait InvariantAnswer {
    /// The error says why it does not hold, if it says anything.
    fn holds(self) -> Result<(), String>;
}

impl InvariantAnswer for bool {
    fn holds(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<E: fmt::Display> InvariantAnswer for Result<(), E> {
    fn holds(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

type InvariantFn = dyn Fn(&World) -> Result<(), String>;

/// Something that must hold.
struct Invariant {
    name: String,
    holds: Box<InvariantFn>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BrokenInvariant {
    name: String,
    detail: String,
}

impl Invariant {
    fn new<H: InvariantAnswer>(name: &str, holds: impl Fn(&World) -> H + 'static) -> Self {
        Self { name: name.to_owned(), holds: Box::new(move |world| holds(world).holds()) }
    }

    fn hold(&self, world: &World) -> Result<(), BrokenInvariant> {
        let held = catch_unwind(AssertUnwindSafe(|| (self.holds)(world)));
        let why = match held {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(panic) => panic_message(&*panic),
        };
        let states = world.show().join("\n     ");
        let detail = if why.is_empty() {
            format!("\n     {states}")
        } else {
            format!("{why}\n     {states}")
        };
        Err(BrokenInvariant::new(&self.name, detail))
    }
}

impl BrokenInvariant {
    fn new(name: &str, detail: String) -> Self {
        Self { name: name.to_owned(), detail }
    }
}

impl fmt::Display for BrokenInvariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}
