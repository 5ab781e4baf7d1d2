//! One run: the application's own code over a store and a clock that do what a schedule says.

use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use leftfold_core::drive::{HandClock, events_after, panic_message};
use leftfold_core::runtime::Clock;
use leftfold_core::store::{Append, Backend, RecordedEvent, Store, Timestamp};
use tokio::sync::watch;

use super::client_run::ClientRun;
use super::clients::Clients;
use super::models::{Models, SentMessages};
use super::outside::Outside;
use super::scene::Scene;
use super::schedule::{Choice, ChoiceOptions, ChoiceSource, ClockMove, RunSchedule};
use super::store::{OperationSubject, PendingOperation, SharedSimulation, SimulatedStore};
use super::story::{AppendAuthor, Story, crashed};
use super::task::{Application, ConsumerFuture, ConsumerTask, Flag};
use super::world::{States, World};
use super::{BrokenInvariant, Invariant};

/// Beginning of every simulation: 2020-01-01T00:00:00Z.
const BEGIN: i64 = 1_577_836_800_000_000;

/// Number of points after which a run that has not come to its end never does.
const POINTS_MAX: u32 = 20_000;
/// Time without events after which nothing more is expected.
const QUIET: Duration = Duration::from_secs(3_600);
/// Time without events after which even things that must happen are not expected any more; a moment
/// that is further away does not come.
const QUIET_FOR_EVER: Duration = Duration::from_secs(400 * 86_400);
/// The tasks of clients are numbered from here.
const CLIENTS: usize = usize::MAX / 2;

/// Plan of an exploration.
#[derive(Default)]
pub(super) struct ExplorationPlan {
    pub(super) folds: Vec<MakeStates>,
    pub(super) consumers: Vec<(&'static str, Start)>,
    pub(super) clients: Clients,
    pub(super) always: Vec<Invariant>,
    pub(super) finally: Vec<Invariant>,
    pub(super) spoil: Option<fn(&mut Append)>,
}

type MakeStates = Box<dyn Fn() -> (TypeId, Box<dyn States>)>;
type Start = Box<dyn Fn(&Scene) -> ConsumerFuture>;

/// Result of a run.
pub(super) struct RunResult {
    pub(super) schedule: RunSchedule,
    pub(super) points: u32,
    pub(super) broken: Option<BrokenInvariant>,
    pub(super) story: Vec<String>,
}

/// Tells whether the run is put into words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StoryMode {
    InFull,
    NotAtAll,
}

/// Carries out one run.
pub(super) fn run(
    plan: &ExplorationPlan,
    mut source: ChoiceSource,
    telling: StoryMode,
) -> RunResult {
    // Jitter comes from here: it is the same in every run.
    let seed_of_the_thread = fastrand::get_seed();
    fastrand::seed(0);
    let mut simulation = Simulation::new(plan, source.others(), telling);
    let broken = simulation.go(&mut source).err();
    fastrand::seed(seed_of_the_thread);
    let mut story = simulation.story.take().unwrap_or_default();
    if let Some(broken) = &broken {
        story.end(format!("broken: {broken}"));
    }
    RunResult { schedule: source.made(), points: simulation.point, broken, story: story.lines() }
}

struct Simulation<'p> {
    plan: &'p ExplorationPlan,
    shared: Arc<SharedSimulation>,
    clock: Arc<HandClock>,
    world: World,
    outside: Outside,
    models: Models,
    sent: SentMessages,
    applications: Vec<Application>,
    tasks: Vec<ConsumerTask>,
    clients: Vec<ClientRun<'p>>,
    is_alone: bool,
    point: u32,
    /// Time that the clock goes forward at least, because nothing happened when it was last moved.
    patience: Duration,
    /// True if something was to be appended, or went wrong outside, since the clock was moved.
    busy: bool,
    story: Option<Story>,
}

impl<'p> Simulation<'p> {
    fn new(plan: &'p ExplorationPlan, others: u8, telling: StoryMode) -> Self {
        let clock = Arc::new(HandClock::of_simulation(Timestamp::from_micros(BEGIN)));
        let shared = SharedSimulation::new({
            let clock = clock.clone();
            move || clock.now()
        });
        let outside = Outside::default();
        let (models, sent) = (Models::default(), SentMessages::default());
        let folds = plan.folds.iter().map(|make| make());
        let world = World::new(folds, outside.clone(), models.clone(), sent.clone(), clock.now());
        let story = (telling == StoryMode::InFull).then(Story::default);
        let clients = plan.clients.clients.iter().map(ClientRun::new).collect();
        let (applications, tasks) = (Vec::new(), Vec::new());
        let (patience, busy) = (Duration::ZERO, true);
        let (is_alone, point) = (others == 0, 0);
        let mut simulation = Self {
            plan,
            shared,
            clock,
            world,
            outside,
            models,
            sent,
            applications,
            tasks,
            clients,
            is_alone,
            point,
            patience,
            busy,
            story,
        };
        for application in 0..=usize::from(others) {
            simulation.start(application);
        }
        simulation
    }

    /// Starts an application, for the first time or again.
    fn start(&mut self, application: usize) {
        let (sender, stop) = watch::channel(false);
        let store =
            Store::new(SimulatedStore { shared: self.shared.clone(), spoil: self.plan.spoil });
        for (name, start) in &self.plan.consumers {
            let (clock, shared, outside) =
                (self.clock.clone(), self.shared.clone(), self.outside.clone());
            let (stop, is_alone) = (stop.clone(), self.is_alone);
            let (store, models, sent) = (store.clone(), self.models.clone(), self.sent.clone());
            let scene =
                Scene { store, clock, shared, outside, stop, is_alone, application, models, sent };
            self.tasks.push(ConsumerTask {
                name,
                application,
                running: Some(start(&scene)),
                flag: Flag::raised(),
            });
        }
        let started = Application { store, _stop: sender };
        match self.applications.get_mut(application) {
            Some(place) => *place = started,
            None => self.applications.push(started),
        }
    }

    fn go(&mut self, source: &mut ChoiceSource) -> Result<(), BrokenInvariant> {
        self.give()?;
        loop {
            self.clock.begin_point();
            self.settle()?;
            let choice = self.choose(source);
            let goes_on = match choice {
                Some(choice) => self.carry_on(choice)?,
                None => self.usual()?,
            };
            if !goes_on {
                break;
            }
            self.point += 1;
            if self.point >= POINTS_MAX {
                return Err(BrokenInvariant::new(
                    "the run comes to an end",
                    format!("it does not end within {POINTS_MAX} points"),
                ));
            }
        }
        self.judge_the_end()
    }

    /// Records the events of the past.
    fn give(&mut self) -> Result<(), BrokenInvariant> {
        let mut given = self.plan.clients.given.iter().cloned();
        loop {
            let events: Vec<_> = given.by_ref().take(100).collect();
            if events.is_empty() {
                return Ok(());
            }
            let appended = self.shared.memory.append(Append::of(events)).now_or_never();
            if !matches!(appended, Some(Ok(_))) {
                return Err(BrokenInvariant::new(
                    "what is given can be recorded",
                    format!("{appended:?}"),
                ));
            }
            let events = events_after(&self.shared.memory, self.world.head());
            if let Some(story) = &mut self.story {
                story.line(format!(
                    "given {}",
                    super::story::in_streams(&events.iter().collect::<Vec<_>>())
                ));
            }
            self.take_in(events)?;
            self.hold_invariants()?;
        }
    }

    fn choose(&self, source: &mut ChoiceSource) -> Option<Choice> {
        let queue = self.shared.queue();
        let waiting: Vec<_> =
            queue.iter().map(|operation| (operation.ways, operation.about.kind())).collect();
        let first = queue.iter().position(|operation| !operation.held);
        let asking: Vec<u8> = (0_u8..)
            .zip(&self.clients)
            .filter(|(_, client)| client.application.is_some())
            .map(|(n, _)| n)
            .collect();
        let applications = self.applications.len() as u8;
        source.choose(
            self.point,
            &ChoiceOptions { waiting: &waiting, first, applications, asking: &asking },
        )
    }

    /// Does what happens if the schedule says nothing else. Returns whether the run goes on.
    fn usual(&mut self) -> Result<bool, BrokenInvariant> {
        let mut queue = self.shared.queue();
        if let Some(first) = queue.iter().position(|operation| !operation.held) {
            drop(queue);
            self.carry_out(first, 0)?;
            return Ok(true);
        }
        if let Some(held) = queue.first_mut() {
            held.held = false;
            return Ok(true);
        }
        drop(queue);
        Ok(self.go_on_in_time())
    }

    /// Moves the clock to the next moment at which something may happen. Returns false if there is
    /// none.
    fn go_on_in_time(&mut self) -> bool {
        let busy = std::mem::take(&mut self.busy);
        self.patience =
            if busy { Duration::ZERO } else { (self.patience * 4).max(Duration::from_secs(1)) };
        let now = self.clock.now();
        let for_ever = now.plus(QUIET_FOR_EVER);
        let due = self.next_due().filter(|due| *due < for_ever);
        let expected = due.is_some() || self.clients.iter().any(|client| !client.is_done());
        if self.patience > if expected { QUIET_FOR_EVER } else { QUIET } {
            return false;
        }
        // What is due comes before consumers that only look again and again: they would use up the
        // patience. If nothing is due, they look without result until so much time has passed: a
        // lease runs out meanwhile.
        let at_least = now.plus(self.patience);
        let awaited = self.clock.awaited(at_least, for_ever);
        let moment = due
            .into_iter()
            .chain(awaited)
            .min()
            .or_else(|| self.clock.awaited(now, for_ever).map(|_| at_least));
        let Some(moment) = moment else { return false };
        // The one that is to act may look a moment later: all that is due at nearly the same time
        // must not use up the patience.
        self.busy = due == Some(moment);
        self.set_clock(moment);
        true
    }

    /// The next moment at which something must happen.
    fn next_due(&self) -> Option<Timestamp> {
        self.world.next_due().into_iter().chain(self.clock.due()).min()
    }

    fn carry_on(&mut self, choice: Choice) -> Result<bool, BrokenInvariant> {
        match choice {
            Choice::Take { operation, way } => {
                if usize::from(operation) >= self.shared.queue().len() {
                    return self.usual();
                }
                self.carry_out(usize::from(operation), way)?;
            }
            Choice::Hold { operation } => {
                if let Some(operation) = self.shared.queue().get_mut(usize::from(operation)) {
                    operation.held = true;
                }
            }
            Choice::Lose { client } => self.lose(usize::from(client)),
            Choice::Crash { application, carried } => {
                self.busy = true;
                self.crash(usize::from(application), carried)?;
            }
            Choice::Clock(turn) => self.turn_clock(turn),
        }
        Ok(true)
    }

    fn turn_clock(&mut self, turn: ClockMove) {
        let now = self.clock.now();
        let next = || {
            self.world
                .next_due()
                .into_iter()
                .chain(self.clock.awaited(now, now.plus(QUIET_FOR_EVER)))
                .min()
                .unwrap_or(now)
        };
        let moment = match turn {
            ClockMove::Next => next(),
            ClockMove::Past(beyond) => next().plus(beyond),
            ClockMove::On(by) => now.plus(by),
            ClockMove::Back(by) => now.minus(by),
        };
        self.set_clock(moment);
    }

    fn set_clock(&mut self, moment: Timestamp) {
        let now = self.clock.now();
        if let Some(story) = &mut self.story {
            story.time_passes(moment.since(now));
            story.clock_goes_back(now.since(moment));
        }
        self.clock.set(moment);
        self.world.set_now(moment);
    }

    /// Carries out one operation, and checks what became durable against the invariants.
    fn carry_out(&mut self, index: usize, way: u8) -> Result<(), BrokenInvariant> {
        let operation = self.shared.queue().remove(index);
        self.perform(operation, way)
    }

    fn perform(&mut self, operation: PendingOperation, way: u8) -> Result<(), BrokenInvariant> {
        let (by, about) = (operation.by, operation.about.clone());
        // What did not go as usual outside is tried again, after a wait that may be long.
        self.busy |= matches!(about, OperationSubject::Append(_))
            || (way > 0 && matches!(about, OperationSubject::Outside(_)));
        operation.carry_out(&self.shared.memory, way);
        if let Some(story) = &mut self.story {
            self.outside.said().into_iter().for_each(|said| story.line(said));
            if way > 0 && matches!(about, OperationSubject::Append(_)) {
                story.line(format!("the store is busy, and takes nothing: {}", about.words()));
            }
        }
        let events = events_after(&self.shared.memory, self.world.head());
        if events.is_empty() {
            return Ok(());
        }
        let taken = self.take_in(events.clone());
        if let Some(story) = &mut self.story {
            let teller = match by.checked_sub(CLIENTS) {
                Some(client) => self.clients[client].teller(),
                None => AppendAuthor::Consumer(self.tasks[by].name),
            };
            story.appended(&teller, &events, &self.world);
        }
        taken.and_then(|()| self.hold_invariants())
    }

    /// Folds what became durable: code of the user, that may panic at what should not be there.
    fn take_in(&mut self, events: Vec<RecordedEvent>) -> Result<(), BrokenInvariant> {
        let taken = catch_unwind(AssertUnwindSafe(|| self.world.take(events)));
        let taken =
            taken.unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_message(&*panic))));
        taken.map_err(|why| BrokenInvariant::new("every event can be folded", why))
    }

    fn hold_invariants(&self) -> Result<(), BrokenInvariant> {
        self.plan.always.iter().try_for_each(|invariant| invariant.hold(&self.world))
    }

    /// An application stops, with what it has in memory, and is started again.
    fn crash(&mut self, application: usize, carried: u32) -> Result<(), BrokenInvariant> {
        let application = application % self.applications.len();
        // Others wait for its leases now.
        self.busy = true;
        for task in self.tasks.iter_mut().filter(|task| task.application == application) {
            task.running = None;
        }
        for client in
            self.clients.iter_mut().filter(|client| client.application == Some(application))
        {
            client.ask_again();
        }
        let (tasks, clients) = (&self.tasks, &self.clients);
        let is_of_it = |by: usize| match by.checked_sub(CLIENTS) {
            Some(client) => clients[client].asks(application),
            None => tasks[by].application == application,
        };
        let all = std::mem::take(&mut *self.shared.queue());
        let (under_way, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|operation| is_of_it(operation.by));
        *self.shared.queue() = others;
        let (kept, lost): (Vec<_>, Vec<_>) = (0..)
            .zip(under_way)
            .partition(|(nth, _): &(u32, PendingOperation)| carried >> (*nth).min(31) & 1 == 1);
        if let Some(story) = &mut self.story {
            let name = |all: &[(u32, PendingOperation)]| -> Vec<String> {
                all.iter()
                    .map(|(_, operation)| operation.about.words())
                    .filter(|words| !words.is_empty())
                    .collect()
            };
            story.line(crashed(application, self.applications.len(), &name(&lost), &name(&kept)));
        }
        for (_, operation) in kept {
            self.perform(operation, 0)?;
        }
        self.start(application);
        Ok(())
    }

    /// A client does not get the answer that it waits for.
    fn lose(&mut self, client: usize) {
        let Some(client) =
            self.clients.get_mut(client).filter(|client| client.application.is_some())
        else {
            return;
        };
        client.ask_again();
        if let Some(story) = &mut self.story {
            story.line(format!("{} gives up waiting, and asks again", client.plan.name));
        }
    }

    /// Lets everyone go on who can, until nobody can.
    fn settle(&mut self) -> Result<(), BrokenInvariant> {
        loop {
            let mut went_on = false;
            for index in 0..self.tasks.len() {
                if self.tasks[index].flag.take() {
                    went_on = true;
                    self.shared.runs(index);
                    self.tasks[index].poll()?;
                }
            }
            for index in 0..self.clients.len() {
                if self.clients[index].flag.take() {
                    went_on = true;
                    self.poll_client(index)?;
                }
            }
            if !went_on {
                return Ok(());
            }
        }
    }

    fn poll_client(&mut self, index: usize) -> Result<(), BrokenInvariant> {
        self.shared.runs(CLIENTS + index);
        let client = &mut self.clients[index];
        while let Poll::Ready(line) = client.poll(index, &self.applications, &self.clock)? {
            if let (Some(story), Some(line)) = (&mut self.story, line) {
                story.line(line);
            }
        }
        Ok(())
    }

    fn judge_the_end(&self) -> Result<(), BrokenInvariant> {
        if let Some(client) = self.clients.iter().find(|client| !client.is_done()) {
            return Err(BrokenInvariant::new(
                "clients are answered",
                format!("{} never was: {}", client.plan.name, client.what()),
            ));
        }
        if let Some(parked) = self.world.parked_for().first() {
            return Err(BrokenInvariant::new("nothing is parked", parked.clone()));
        }
        if let Some(overdue) = self.world.overdue() {
            return Err(BrokenInvariant::new("timers fire", overdue));
        }
        let models =
            catch_unwind(AssertUnwindSafe(|| self.models.judge(self.world.events(), &self.sent)));
        let models = models.unwrap_or_else(|panic| {
            Err(("projections do not panic".to_owned(), panic_message(&*panic)))
        });
        models.map_err(|(name, why)| BrokenInvariant::new(&name, why))?;
        self.plan.finally.iter().try_for_each(|invariant| invariant.hold(&self.world))
    }
}
