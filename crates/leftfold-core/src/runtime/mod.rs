//! The runtime behind the log: effects, processes with their timers, inboxes, projections.
//!
//! This file has the [`Runtime`]: consumers are registered, made ready or refused, and run until
//! they stop. What all of them share is in `consumer`: leases, waits after failures, status, errors
//! of starting and stopping. There are four kinds, each in a folder of its own: `effect` touches
//! the outside world, `process` reacts with commands and timers, `projection` keeps rows up to
//! date, `recurring` gives a command whenever it is due. An `inbox` and a `scheduled` command are
//! aggregates of the runtime with a process behind each.
//!
//! Several runtimes on one store divide the work between them (`sharing`). What people ask of them
//! from other programs are records (`operator`).
//!
//! The owner of what runs is `running`. The status of the consumers is read by the `handle`, by
//! `idle` and by `metrics`. Time comes from a `clock`; users' tasks keep timers in memory with a
//! `countdown`.
//!
//! What is recorded of users' values stays as they wrote it (`json`), `names` puts names together,
//! and `records` moves all kinds of the runtime's records into a copy of the store, each by its
//! owner (`positions`), those of the `groups` of a server too. `kind` tells what the errors mean to
//! a caller.

pub(crate) mod clock;
mod consumer;
mod countdown;
pub(crate) mod effect;
mod groups;
mod handle;
mod idle;
pub mod inbox;
mod json;
mod kind;
mod metrics;
mod names;
pub mod operator;
mod positions;
pub mod process;
pub mod projection;
mod records;
mod recurring;
mod running;
pub mod scheduled;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use clock::{CLOCK_JUMP_MAX, Clock, Sleep, SystemClock};
pub use consumer::{
    ConsumerStatus, START_WITHIN, STOP_WITHIN, StartError, StopError, WORK_LEASE, WORK_LEASE_MIN,
};
pub use countdown::Countdowns;
/// The former name of [`ATTEMPT_GRACE`].
#[doc(hidden)]
pub use effect::ATTEMPT_GRACE as LEASE;
pub use effect::{
    ATTEMPT_GRACE, Attempt, Begin, CancelError, Conclusion, Effect, EffectFilter, EffectId,
    EffectPage, EffectState, EffectStatus, Effects, FOR_PERSON_MAX, Fate, HANGING_BYTES_MAX,
    HANGING_MAX, HANGS_AFTER_PART, OPEN_EFFECTS_MAX, Order, Performed, Policy, ResolveError,
    STOP_RECORDS_WITHIN, Try, UNDER_WAY_BYTES_MAX, Verdict,
};
pub use handle::RuntimeHandle;
pub use sharing::{MemberStatus, SharedWork};

pub use recurring::{CronError, CronField, MADE_UP_MAX, Missed, Plan, Recurring};
pub use running::RunningRuntime;

pub(crate) use consumer::StartFault;
pub(crate) use effect::EffectRunner;
pub(crate) use positions::{Positions, RewriteError};
pub(crate) use process::ProcessRunner;
pub(crate) use records::{rewrite_labels, rewritten};

use crate::fold::EventError;
use crate::store::limits::LEASE_SECONDS_MAX;
use crate::store::{Invalid, Store};
use clock::{FollowedClock, StoreClock};
use consumer::status::Board;
use consumer::{contained, message, stop, unheard};
use effect::EffectKind;
use metrics::RuntimeFigures;
use operator::OperatorFollower;
use process::{Process, Processes};
use projection::{PlacedProjection, Projection, Projections, Registered, Target};
use recurring::RecurringRunner;
use sharing::{Member, Membership};

/// People's answers that wait for one runner at most; more wait with the caller.
const ASKED_MAX: usize = 16;

/// Takes the enums that own the events which a consumer makes others record into use with the
/// store.
type OwnerRegistration = fn(&Store) -> Result<(), EventError>;
type Starting = Box<dyn FnOnce(Host, watch::Receiver<bool>) -> Start + Send>;
type Start = Pin<Box<dyn Future<Output = Result<Running, StartFault>> + Send>>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Consumers of a store, before they are started.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// # mod balances {
/// #     use super::wallet::*;
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
/// # }
/// use std::time::Duration;
///
/// use balances::Balances;
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::projection::Memory;
/// use leftfold_core::store::Store;
/// use wallet::{Wallet, WalletCommand};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let rows = Memory::new();
/// let runtime = Runtime::new(&store).project(Balances, rows.clone()).start().await?;
///
/// let deposit = WalletCommand::Deposit { cents: 500 };
/// let done = store.aggregate::<Wallet>().execute("ada", deposit).await?;
/// runtime.projections().wait_until("balances", done.position, Duration::from_secs(5)).await?;
/// assert_eq!(rows.read(|rows| rows["ada"]).await, 500);
/// runtime.stop().await?;
/// # Ok(()) }
/// ```
#[must_use = "a runtime does nothing until it is started"]
pub struct Runtime {
    host: Host,
    /// The store's clock; `None` if another one is given.
    followed: Option<Arc<StoreClock>>,
    kinds: Vec<(&'static str, &'static str, Result<EffectKind, Invalid>)>,
    processes: BTreeMap<&'static str, mpsc::Sender<process::ProcessRequest>>,
    consumers: Vec<Consumer>,
    projections: Vec<Registered>,
    rebuild: BTreeSet<String>,
    owners: Vec<(Named, OwnerRegistration)>,
    /// Longest time that an effect under way may take.
    longest: Duration,
    name: Option<String>,
    lease: Duration,
}

/// The name of a consumer, and its type, as they appear in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) type_name: &'static str,
}

impl Named {
    pub(crate) fn of<T: ?Sized>(name: &'static str) -> Self {
        Self { name, type_name: std::any::type_name::<T>() }
    }
}

/// A consumer before it is started.
struct Consumer {
    named: Named,
    starting: Starting,
}

/// Store, clock and status board that every consumer uses.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    store: Store,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    /// Its part among the runtimes on the store; `None` if it takes whatever is free.
    membership: Option<Arc<Membership>>,
}

impl Host {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, board: Arc::default(), membership: None }
    }

    /// Returns the time for which work is leased.
    pub(crate) fn work_lease(&self) -> Duration {
        self.membership.as_ref().map_or(WORK_LEASE, |membership| membership.lease)
    }
}

impl Runtime {
    /// A runtime of no consumers yet, behind a store.
    pub fn new(store: &Store) -> Self {
        let clock = Arc::new(StoreClock::of(store));
        let mut host = Host::new(store.clone(), clock.clone());
        host.board = Arc::new(Board::new(clock.clone()));
        Self {
            host,
            followed: Some(clock),
            kinds: Vec::new(),
            processes: BTreeMap::new(),
            consumers: Vec::new(),
            projections: Vec::new(),
            rebuild: BTreeSet::new(),
            owners: Vec::new(),
            longest: Duration::ZERO,
            name: None,
            lease: WORK_LEASE,
        }
    }

    /// Takes the time from another clock than the store's.
    ///
    /// Due times and deadlines are in the log, and all processes on a store compare them with one
    /// clock: that by which the store records, which is the machine's for the embedded log and the
    /// database's for PostgreSQL. The runtime asks for it every two seconds, and is never ahead of
    /// it. So a process whose own clock is wrong fires no timer early and ends no effect early.
    /// Whoever gives another clock answers for that, for every process on the store.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::{Position, Store, Timestamp};
    /// use leftfold_testing::HandClock;
    /// use wallet::{Wallet, WalletCommand, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (store, clock) = (Store::memory(), Arc::new(HandClock::going()));
    /// let runtime = Runtime::new(&store).clock(clock.clone()).scheduled::<Wallet>();
    /// let runtime = runtime.start().await?;
    /// let tomorrow = Timestamp::now().plus(Duration::from_secs(24 * 60 * 60));
    /// let allowance = store.scheduled::<Wallet>("allowance of ada");
    /// allowance.send("ada", &WalletCommand::Deposit { cents: 500 }, tomorrow).await?;
    ///
    /// clock.advance(Duration::from_secs(25 * 60 * 60));
    /// let mut events = store.follow::<WalletEvent>(Position::START)?;
    /// assert_eq!(events.next().await?.event, WalletEvent::Deposited { cents: 500 });
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.host.board = Arc::new(Board::new(clock.clone()));
        (self.host.clock, self.followed) = (clock, None);
        self
    }

    /// Returns the name of a runtime of this process that is given none: that of the machine, as
    /// far as it is known, and the id of the process, `host:4711`. In a container the machine is
    /// the container.
    #[must_use]
    pub fn default_name() -> String {
        sharing::default_name()
    }

    /// Names the runtime for people, among those on the same store: at most 255 bytes are shown. If
    /// it has no name, it is called after its machine and its process: `host:4711`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the time for which it leases the work that several runtimes on one store divide between
    /// them: processes, effects, outboxes, inboxes, and read models in a database that they share.
    /// So long a work stands still whose runtime was killed, and half a second longer; each lease
    /// is renewed after a third of it. All runtimes on a store are to have the same.
    ///
    /// [`WORK_LEASE`] if not set; [`WORK_LEASE_MIN`] at least, a day at most: another time is taken
    /// as the nearest of these.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let east = Runtime::new(&store).named("east").lease(Duration::from_secs(10)).start().await?;
    /// let west = Runtime::new(&store).named("west").lease(Duration::from_secs(10)).start().await?;
    /// let members = west.members().await?;
    /// let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    /// assert_eq!(names, ["east", "west"]);
    /// east.stop().await?;
    /// west.stop().await?;
    /// # Ok(()) }
    /// ```
    pub fn lease(mut self, lease: Duration) -> Self {
        let longest = Duration::from_secs(LEASE_SECONDS_MAX as u64);
        self.lease = lease.clamp(WORK_LEASE_MIN, longest);
        self
    }

    /// Carries out an effect.
    pub fn effect<E: Effect>(mut self, effect: E) -> Self {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        // Its start tells of a panic, and nothing is under way then.
        let deadline =
            catch_unwind(AssertUnwindSafe(|| effect.policy().deadline)).unwrap_or_default();
        self.longest = self.longest.max(deadline);
        let named = Named::of::<E>(E::NAME);
        self.kinds.push((named.type_name, E::INTENT, EffectKind::new::<E>(asked)));
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move {
                Ok(Box::pin(
                    EffectRunner::new(host, effect, asks).await?.leased()?.spawning().run(stop),
                ) as Running)
            })
        });
        self.owners.push((named, process::take_into_use::<E::Target>));
        let starting = unheard::announced(E::NAME, unheard::of_effect::<E>, starting);
        self.consumers.push(Consumer { named, starting });
        self
    }

    /// Runs a process.
    pub fn process<P: Process>(mut self) -> Self {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        self.processes.insert(P::NAME, asked);
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move {
                Ok(Box::pin(ProcessRunner::<P>::new(host, asks).await?.leased().run(stop))
                    as Running)
            })
        });
        let named = Named::of::<P>(P::NAME);
        self.owners.push((named, |store| P::targets().take_into_use(store)));
        let starting = unheard::announced(P::NAME, unheard::of_enum::<P::Event>, starting);
        self.consumers.push(Consumer { named, starting });
        self
    }

    /// Carries out a command that recurs, when it is due.
    pub fn recurring<R: Recurring>(mut self, recurring: R) -> Self {
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move {
                Ok(Box::pin(RecurringRunner::new(host, recurring)?.run(stop)) as Running)
            })
        });
        let named = Named::of::<R>(R::NAME);
        self.owners.push((named, process::take_into_use::<R::Target>));
        self.consumers.push(Consumer { named, starting });
        self
    }

    /// Keeps a projection up to date in a target. Two versions of one may run side by side: the
    /// newer one takes the older one's place once it has caught up.
    pub fn project<T: Target, P: Projection<T>>(mut self, projection: P, target: T) -> Self {
        self.projections.push(Registered::new(projection, target));
        self
    }

    /// Rebuilds a projection, in the versions that are registered, whatever there is of it. Readers
    /// see the present rows until the new ones have caught up and take their place.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use balances::Balances;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::runtime::{Runtime, StartError};
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// store.aggregate::<Wallet>().record("ada", &deposit).await?;
    ///
    /// let rows = Memory::new();
    /// let runtime = Runtime::new(&store).project(Balances, rows.clone());
    /// runtime.rebuild("balances").run_until_idle().await?;
    /// assert_eq!(rows.read(|rows| rows["ada"]).await, 500);
    ///
    /// // A name that no registered projection has is refused at the start.
    /// let misspelt = Runtime::new(&store).project(Balances, rows).rebuild("balance");
    /// assert!(matches!(misspelt.start().await, Err(StartError::UnknownProjection { .. })));
    /// # Ok(()) }
    /// ```
    pub fn rebuild(mut self, name: impl Into<String>) -> Self {
        self.rebuild.insert(name.into());
        self
    }

    /// Starts everything, or nothing.
    pub async fn start(mut self) -> Result<RunningRuntime, StartError> {
        let within = self.longest + STOP_WITHIN;
        let name = self.name.take().unwrap_or_else(sharing::default_name);
        let membership = Arc::new(Membership::new(name.clone(), self.lease));
        self.host.membership = Some(membership.clone());
        let host = self.host.clone();
        let Ready { effects, processes, projections, stop, consumers, followed } =
            self.ready().await?;
        let clock = followed.map(FollowedClock::new);
        let mut sharing = None;
        if let Ok(mut member) = Member::new(host, membership) {
            // Whether or not the store answers: it is asked again.
            let begun = contained(member.take_part(false));
            let _ = tokio::time::timeout(sharing::TAKES_PART_WITHIN, begun).await;
            sharing = Some(tokio::spawn(member.run(stop.subscribe())));
        }
        let tasks =
            consumers.into_iter().map(|(name, consumer)| (name, tokio::spawn(consumer))).collect();
        let figures = RuntimeFigures::shown(&effects.board, &effects.store, &projections);
        let handle = RuntimeHandle { effects, processes, projections, stop: stop.subscribe() };
        let (_clock, _figures) = (clock, figures);
        let follower = OperatorFollower::new(handle.effects.store.clone(), handle.clone(), name);
        let operators = Some(tokio::spawn(follower.run(stop.subscribe())));
        Ok(RunningRuntime { handle, stop, tasks, sharing, operators, within, _clock, _figures })
    }

    /// Runs everything in the caller's task until all of it has taken up the log to its durable end
    /// and nothing is under way, and returns the state of each consumer then: for programs that are
    /// started to do the work there is and to end.
    ///
    /// Timers that are due later, effects that are in doubt or wait to be tried again, and parked
    /// items are not under way. A database or a log that is away is waited for, so a caller gives
    /// this a time limit; it is safe to drop it.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// store.aggregate::<Wallet>().record("ada", &deposit).await?;
    ///
    /// let rows = Memory::new();
    /// let work = Runtime::new(&store).project(Balances, rows.clone()).run_until_idle();
    /// let consumers = tokio::time::timeout(Duration::from_secs(60), work).await??;
    /// assert_eq!((consumers[0].name, consumers[0].lag()), ("balances", 0));
    /// assert_eq!(rows.read(|rows| rows["ada"]).await, 500);
    /// # Ok(()) }
    /// ```
    pub async fn run_until_idle(self) -> Result<Vec<ConsumerStatus>, StartError> {
        let Ready { effects, projections, stop, consumers, followed, .. } = self.ready().await?;
        let _clock = followed.map(FollowedClock::new);
        let _figures = RuntimeFigures::shown(&effects.board, &effects.store, &projections);
        let consumers = consumers.into_iter().map(|(_, consumer)| consumer).collect();
        idle::run(&effects.store, &effects.board, &stop, consumers).await;
        Ok(effects.board.statuses(&effects.store))
    }

    /// Prepares everything for its first step.
    async fn ready(mut self) -> Result<Ready, StartError> {
        let (lease, writer_ended_within) =
            (self.host.work_lease(), self.host.store.writer_ended_within());
        if lease <= 2 * writer_ended_within {
            return Err(StartError::ShortLease { lease, writer_ended_within });
        }
        let followed = self.followed.take();
        if let Some(clock) = &followed {
            stop::told_time(clock).await?;
        }
        // Before the views of those who read: they read events as the owners do.
        for (named, take_into_use) in self.owners {
            let taken = catch_unwind(AssertUnwindSafe(|| take_into_use(&self.host.store)));
            taken
                .map_err(|panic| named.panicked(message(&*panic)))?
                .map_err(|error| named.error(error.into()))?;
        }
        let mut entries = Vec::with_capacity(self.projections.len());
        for PlacedProjection { named, entry, starting } in
            Registered::place_all(self.projections, &self.rebuild, &self.host.store)?
        {
            self.consumers.push(Consumer { named, starting });
            entries.push(entry);
        }
        if let Some(Consumer { named, .. }) =
            self.consumers.iter().find(|consumer| consumer.named.name.is_empty())
        {
            return Err(named.error(Invalid::Empty { what: "a name" }.into()));
        }
        let names =
            self.consumers.iter().map(|Consumer { named, .. }| (named.name, named.type_name));
        if let Some((name, types)) = twice(names) {
            return Err(StartError::NameTaken { name, types });
        }
        let kinds = kinds(self.kinds)?;
        let stop = watch::Sender::new(false);
        let mut consumers = Vec::with_capacity(self.consumers.len());
        for Consumer { named, starting } in self.consumers {
            let starting = starting(self.host.clone(), stop.subscribe());
            let consumer = stop::started(named, starting).await?;
            let name = named.name;
            let guard = EndedByPanic { name, board: self.host.board.clone() };
            let consumer: Running = Box::pin(async move {
                let _guard = guard;
                consumer.await;
            });
            consumers.push((name, consumer));
        }
        let announced = scheduled::announce(&self.host, |name| self.processes.contains_key(name));
        // A store that gives no answer says nothing of what waits.
        let _ = tokio::time::timeout(START_WITHIN, announced).await;
        let Host { store, board, .. } = self.host;
        let processes = Processes { store: store.clone(), asked: self.processes };
        let projections =
            Projections { store: store.clone(), board: board.clone(), entries: entries.into() };
        let effects = Effects { store, board, kinds: kinds.into() };
        Ok(Ready { effects, processes, projections, stop, consumers, followed })
    }
}

/// A runtime before its first step.
struct Ready {
    effects: Effects,
    processes: Processes,
    projections: Projections,
    stop: watch::Sender<bool>,
    consumers: Vec<(&'static str, Running)>,
    followed: Option<Arc<StoreClock>>,
}

/// The kinds of effects, each asked for by a type of its own.
fn kinds(
    all: Vec<(&'static str, &'static str, Result<EffectKind, Invalid>)>,
) -> Result<Vec<EffectKind>, StartError> {
    let mut kinds = Vec::with_capacity(all.len());
    let mut types = Vec::with_capacity(all.len());
    for (type_name, value, kind) in all {
        let invalid = |error| StartError::Name { type_name, constant: "INTENT", value, error };
        let kind = kind.map_err(invalid)?;
        types.push((kind.intent.clone(), type_name));
        kinds.push(kind);
    }
    match twice(types.into_iter()) {
        Some((intent, types)) => Err(StartError::IntentTaken { intent, types }),
        None => Ok(kinds),
    }
}

/// Returns the first key that is there twice, with the types that it belongs to.
fn twice<T: Ord + Clone>(
    all: impl Iterator<Item = (T, &'static str)>,
) -> Option<(T, [&'static str; 2])> {
    let mut seen = BTreeMap::new();
    for (one, type_name) in all {
        if let Some(first) = seen.insert(one.clone(), type_name) {
            return Some((one, [first, type_name]));
        }
    }
    None
}

/// Reports the panic of a consumer: a bug of the runtime, that must not go unseen.
struct EndedByPanic {
    name: &'static str,
    board: Arc<Board>,
}

impl Drop for EndedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(consumer = self.name, "a consumer ended by a panic");
            self.board.say_stalled(self.name, "a restart of the process: it ended by a panic");
        }
    }
}

/// Waits until a runtime is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
