//! The runner of one version of a projection: follows the log from its checkpoint, batch by batch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tracing::Instrument;

use super::batch::{Batch, Item};
use super::calls::{TimedCalls, TimedResult};
use super::desk::Desk;
use super::handle::ProjectionRequest;
use super::lane::{Lane, LaneContext, ProjectionTrouble, all};
use super::places::Role;
use super::turn::PlaceTurn;
use super::{Projection, Session, Target, outbox};
use crate::fold::{LoadError, Purpose};
use crate::runtime::consumer::PARKED_MAX;
use crate::runtime::consumer::backoff::{PROJECTION_AWAY, PROJECTION_IN_USE};
use crate::runtime::consumer::lease::WorkTenure;
use crate::runtime::consumer::status::ForPerson;
use crate::runtime::{Host, Named, StartError, StartFault, stopped};
use crate::store::{Invalid, Position, ReadError, State, Status, Subscription, Timestamp};

/// Positions that were looked at and did not concern the projection before they are noted too.
const POSITIONS_PER_CHECKPOINT: u64 = 10_000;
/// Time that a start waits for the target. A target that is not open by then is opened afterwards.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// Time between two notes of such positions, if other processes may stand by and want to know.
const NOTED_EVERY: Duration = Duration::from_millis(100);
/// Condition that it waits for when all is well.
const EVENTS: &str = "new events";
const BUILDING: &str = "the end of the log, to take the place of the version that serves";

/// Runs one version of a projection until it is told to stop.
pub(in crate::runtime) struct Runner<T: Target, P: Projection<T>> {
    pub(super) ground: LaneContext<T, P>,
    pub(super) role: Role,
    /// One, or several; empty while the target is to be opened.
    pub(super) lanes: Vec<Lane<T>>,
    pub(super) log: Subscription,
    pub(super) batch: Batch<P::Event>,
    pub(super) asks: mpsc::Receiver<ProjectionRequest>,
    /// Position to end at before the lanes are divided again.
    pub(super) level_at: Option<Position>,
    /// The place in which the version is rebuilt, until it serves.
    pub(super) building: Option<u32>,
    /// Calls a handover off when the runner ends, however that comes.
    handover: HandoverGuard,
    /// True if the target was asked to let this version serve, and gave no answer so far.
    pub(super) asked_to_serve: bool,
    /// Lowest position from which this runner has read.
    pub(super) read_from: Position,
    /// Troubles in a row.
    failures: u32,
    /// Last description of the trouble; `None` if all is well.
    pub(super) said: Option<String>,
    /// Time since which another does the work.
    stands_by_since: Option<Timestamp>,
    /// Time at which it last wrote to its target, or gave a sign of life.
    shown_at: Timestamp,
    /// Its part in a place that other processes share.
    pub(super) turn: PlaceTurn,
    /// Time at which the target was last asked who serves.
    pub(super) saw_who_serves_at: Timestamp,
    /// Position that its rows must have to take the place of rows that another process writes.
    pub(super) aims_at: Option<Position>,
}

/// The handover that a runner may have begun.
struct HandoverGuard {
    desk: Arc<Desk>,
    newest: bool,
}

impl HandoverGuard {
    /// Lets the version that serves answer again, if this one was about to take its place.
    fn call_off(&self) {
        if self.newest && !self.desk.serves() {
            self.desk.readers.call_off_handover();
        }
    }
}

impl Drop for HandoverGuard {
    fn drop(&mut self) {
        self.call_off();
    }
}

/// Parts that a runner is made of.
pub(in crate::runtime) struct RunnerParts<T, P> {
    pub(in crate::runtime) host: Host,
    pub(in crate::runtime) target: T,
    pub(in crate::runtime) projection: P,
    pub(in crate::runtime) desk: Arc<Desk>,
    pub(in crate::runtime) asks: mpsc::Receiver<ProjectionRequest>,
    pub(in crate::runtime) role: Role,
    pub(in crate::runtime) stop: watch::Receiver<bool>,
    /// True if others may do the same work, so that it takes the lease if there is one.
    pub(in crate::runtime) leased: bool,
}

impl<T: Target, P: Projection<T>> Runner<T, P> {
    /// Opens the target, if it is there; its notes must belong to the log.
    pub(in crate::runtime) async fn new(parts: RunnerParts<T, P>) -> Result<Self, StartFault> {
        let RunnerParts { host, target, projection, desk, asks, role, stop, leased } = parts;
        let schema = host.store.schema::<P::Event>(Purpose::Reading)?;
        let log = host.store.subscribe(schema.query(), host.store.head().position);
        host.board.watch(desk.label, desk.doing.clone());
        host.board.say_where(desk.label, Position::START, "its start", 1, 0);
        let (clock, doing) = (host.clock.clone(), desk.doing.clone());
        let calls = TimedCalls { clock, doing, blocks: T::BLOCKING };
        let tenure = if T::KEPT_IN_STORE && leased {
            Some(Mutex::new(WorkTenure::new::<P>(&host, desk.label, outbox::consumer(P::NAME)?)))
        } else {
            None
        };
        let handover = HandoverGuard { desk: desk.clone(), newest: role.newest };
        let ground = LaneContext { host, target, projection, schema, desk, stop, calls, tenure };
        let (batch, level_at, said) = (Batch::new(Position::START, Position::END), None, None);
        let (lanes, building, stands_by_since) = (Vec::new(), None, None);
        let (failures, read_from) = (0, Position::END);
        let mut runner = Self {
            ground,
            role,
            lanes,
            log,
            batch,
            asks,
            level_at,
            building,
            handover,
            asked_to_serve: false,
            read_from,
            failures,
            said,
            stands_by_since,
            shown_at: Timestamp::MIN,
            turn: PlaceTurn::default(),
            saw_who_serves_at: Timestamp::MIN,
            aims_at: None,
        };
        let calls = runner.ground.calls.clone();
        let (projection, name, version) = (std::any::type_name::<P>(), P::NAME, P::VERSION);
        match calls
            .wait("its target to be opened at", Position::START, OPENED_WITHIN, runner.open())
            .await
        {
            TimedResult::Answer(Ok(()) | Err(ProjectionTrouble::Stopped)) => {}
            TimedResult::Answer(Err(ProjectionTrouble::Foreign(error))) => {
                let error = StartError::ForeignProjection { projection, name, version, error };
                return Err(error.into());
            }
            TimedResult::Answer(Err(ProjectionTrouble::NotSetUp(error))) => {
                return Err(StartError::SetUp { projection, name, version, error }.into());
            }
            TimedResult::Answer(Err(ProjectionTrouble::Panicked(said)))
            | TimedResult::Panic(said) => {
                return Err(Named::of::<P>(P::NAME).panicked(said).into());
            }
            TimedResult::Answer(Err(trouble)) => {
                runner.lanes.clear();
                runner.say_trouble(&trouble);
            }
            TimedResult::Nothing => {
                runner.lanes.clear();
                let seconds = OPENED_WITHIN.as_secs();
                runner.say_trouble(&ProjectionTrouble::Silent(format!(
                    "it was not opened within {seconds} s"
                )));
            }
        }
        Ok(runner)
    }

    /// Runs until told to stop; a transaction that is under way ends first.
    pub(in crate::runtime) async fn run(mut self) {
        let why = loop {
            if self.is_told_to_stop() {
                break "stopped";
            }
            let went = if self.lanes.is_empty() { self.open().await } else { self.follow().await };
            match went {
                Ok(()) => {}
                Err(ProjectionTrouble::Stopped) => break "stopped",
                Err(ProjectionTrouble::Log(ReadError::Closed)) => {
                    break "stopped: the store is closed";
                }
                Err(trouble @ (ProjectionTrouble::StandsBy(..) | ProjectionTrouble::InUse(_))) => {
                    self.lanes.clear();
                    let stood = match trouble {
                        ProjectionTrouble::StandsBy(_, until) if T::KEPT_IN_STORE => {
                            self.stand_by(&trouble, until).await
                        }
                        trouble => self.stand_behind(trouble).await,
                    };
                    match stood {
                        Ok(()) => {}
                        Err(ProjectionTrouble::Stopped) => break "stopped",
                        Err(ProjectionTrouble::Log(ReadError::Closed)) => {
                            break "stopped: the store is closed";
                        }
                        Err(trouble) => self.recover(trouble).await,
                    }
                }
                Err(trouble) => self.recover(trouble).await,
            }
        };
        self.lanes.clear();
        if let Some(tenure) = &self.ground.tenure {
            tenure.lock().await.release(&self.ground.host).await;
        }
        self.turn.give_back(&self.ground.host).await;
        self.ground.host.board.say(self.ground.desk.label, why);
        self.ground.desk.ended();
    }

    /// Tells whether it is told to stop. Also true when the sender is dropped.
    fn is_told_to_stop(&self) -> bool {
        *self.ground.stop.borrow() || self.ground.stop.has_changed().is_err()
    }

    /// Does what comes next: an answer to a person, or a batch.
    async fn follow(&mut self) -> Result<(), ProjectionTrouble> {
        self.renew().await?;
        let mut stop = self.ground.stop.clone();
        self.ground.hand_over_if_called().await;
        if !self.stays_in_place().await? {
            return Ok(());
        }
        let due = self.ground.due().await;
        let (clock, shows_at) = (self.ground.host.clock.clone(), self.shows_at());
        let turn_due = self.turn.due(&clock);
        let sees_at = self.sees_who_serves_at();
        let sees = clock.sleep_until(sees_at.unwrap_or(Timestamp::MAX));
        tokio::select! {
            biased;
            () = stopped(&mut stop) => Err(ProjectionTrouble::Stopped),
            () = clock.sleep_until(shows_at.unwrap_or(Timestamp::MAX)), if shows_at.is_some() => {
                self.show_itself().await
            }
            Some(ask) = self.asks.recv() => {
                self.answer(ask).await?;
                self.say_where(usize::from(self.is_building()));
                Ok(())
            }
            filled = self.batch.fill(&mut self.log, &self.ground.schema) => {
                filled.map_err(ProjectionTrouble::Log)?;
                if self.ground.schema.is_stale() {
                    // What was read may have passed over events that are of concern now.
                    return Ok(());
                }
                self.consume().await?;
                self.went_well();
                Ok(())
            }
            () = self.ground.schema.until_stale() => Ok(()),
            () = due => {
                self.ground.hold().await.map(drop)
            }
            () = turn_due => Ok(()),
            () = sees, if sees_at.is_some() => Ok(()),
        }
    }

    /// Returns the moment at which it shows the other processes on its target how far it is, or at
    /// least that it lives; `None` if the target has no use for that.
    fn shows_at(&self) -> Option<Timestamp> {
        let every = T::TOUCHED_EVERY?;
        let is_further = self.ground.desk.through() > self.stands_at();
        Some(self.shown_at.plus(if is_further { NOTED_EVERY } else { every }))
    }

    /// Notes the position that it has come to without anything to write; if there is none, it gives
    /// a sign of life of each session.
    async fn show_itself(&mut self) -> Result<(), ProjectionTrouble> {
        let after = self.ground.desk.through();
        if after > self.stands_at() {
            return self.take(&Batch::new(after, Position::END), after).await;
        }
        for lane in &mut self.lanes {
            lane.session.touch().await.map_err(|error| self.ground.trouble(&error))?;
        }
        self.shown_at = self.ground.host.clock.now();
        Ok(())
    }

    /// Renews the schema if the owner of a type came into use since. Events that could not be read
    /// before are tried again.
    async fn renew(&mut self) -> Result<(), ProjectionTrouble> {
        let (store, stands_at) = (&self.ground.host.store, self.stands_at());
        let schema = match store.renewed(&self.ground.schema, (self.read_from, stands_at)).await {
            Ok(None) => return Ok(()),
            Ok(Some(schema)) => schema,
            Err(LoadError::Read(error)) => return Err(ProjectionTrouble::Log(error)),
            Err(error) => return Err(ProjectionTrouble::Unreadable(error.to_string())),
        };
        self.log = store.subscribe(schema.query(), stands_at);
        self.batch = Batch::new(stands_at, self.level_at.unwrap_or(Position::END));
        self.ground.schema = schema;
        self.retry_unreadable().await?;
        self.say_where(usize::from(self.is_building()));
        Ok(())
    }

    /// Takes a batch into the rows.
    async fn consume(&mut self) -> Result<(), ProjectionTrouble> {
        let after = self.batch.through;
        let mut batch = std::mem::replace(
            &mut self.batch,
            Batch::new(after, self.level_at.unwrap_or(Position::END)),
        );
        let noted = self.stands_at();
        let due = batch.caught_up
            || after.0 >= noted.0.saturating_add(POSITIONS_PER_CHECKPOINT)
            || self.level_at == Some(after);
        if !batch.items.is_empty() || (due && T::REBUILDS && after > noted) {
            if self.said.is_none() {
                self.say_where(batch.items.len().max(1));
            }
            batch.divide(&self.ground.projection, self.lanes.len());
            self.take(&batch, after).await?;
            if let Some(tenure) = &self.ground.tenure {
                tenure.lock().await.worked();
            }
            self.turn.worked();
        }
        self.ground
            .host
            .board
            .has_read(self.ground.desk.label, batch.items.iter().map(Item::envelope));
        self.ground.desk.stands_at(after);
        let begun = self.ground.desk.readers.serving.borrow().handing_over;
        if (batch.caught_up || begun) && self.is_building() {
            self.hand_over().await?;
        }
        if self.level_at.take_if(|at| *at <= after).is_some() {
            // All lanes stand at one place: they can be created again.
            self.lanes.clear();
        }
        Ok(())
    }

    /// Takes a batch that is divided into the rows, and notes its end.
    async fn take(
        &mut self,
        batch: &Batch<P::Event>,
        after: Position,
    ) -> Result<(), ProjectionTrouble> {
        let end = self.ground.host.store.checkpoint_at(after).await?;
        let (ground, span) = (&self.ground, batch.span(P::NAME, P::VERSION));
        let taken = async {
            match &mut self.lanes[..] {
                [lane] => lane.take(ground, batch, &end).await,
                lanes => all(lanes.iter_mut().map(|lane| lane.take(ground, batch, &end))).await,
            }
        };
        taken.instrument(span).await?;
        self.shown_at = self.ground.host.clock.now();
        Ok(())
    }

    /// Everything up to here is durable.
    pub(super) fn stands_at(&self) -> Position {
        self.lanes.iter().map(|lane| lane.position).min().unwrap_or_default()
    }

    fn went_well(&mut self) {
        (self.failures, self.stands_by_since) = (0, None);
        if self.said.take().is_some() {
            tracing::info!(projection = self.ground.desk.label, "a projection continues");
        }
        // Until it has taken its place, something is under way.
        self.say_where(usize::from(self.is_building()));
    }

    /// Tells whether it will take another version's place.
    pub(super) fn is_building(&self) -> bool {
        self.role.newest && !self.ground.desk.serves()
    }

    /// Calls a handover off, unless this version may have taken the place: that the target tells
    /// when it is opened again.
    pub(super) fn call_off_handover(&self) {
        if !self.asked_to_serve {
            self.handover.call_off();
        }
    }

    fn say_where(&self, under_way: usize) {
        let (desk, board) = (&self.ground.desk, &self.ground.host.board);
        let waits_for = match under_way {
            _ if self.is_building() => BUILDING,
            0 => EVENTS,
            _ => "its target to take what was read",
        };
        board.say_where(desk.label, desk.through(), waits_for, under_way, desk.parked_len());
        board.say_for_person(
            desk.label,
            ForPerson { parked: desk.parked_len(), ..ForPerson::default() },
        );
    }

    /// Reports a trouble: in the status at once, in the log if it has changed.
    pub(super) fn say_trouble(&mut self, trouble: &ProjectionTrouble) {
        let (what, who) = describe(trouble, P::NAME);
        let (desk, board) = (&self.ground.desk, &self.ground.host.board);
        board.say_where(desk.label, desk.through(), &what, 1, desk.parked_len());
        board.say_for_person(
            desk.label,
            ForPerson { parked: desk.parked_len(), ..ForPerson::default() },
        );
        match who {
            TroubleEnd::Alone => board.say_away(desk.label, &what),
            TroubleEnd::WithPerson => board.say_stalled(desk.label, &what),
            TroubleEnd::WithoutUs => {
                // Until its lease is over it is not known whether the other one is alive.
                let now = self.ground.host.clock.now();
                let since = *self.stands_by_since.get_or_insert(now);
                let lease = self.ground.host.work_lease();
                let unknown = self.ground.tenure.is_some() && now.since(since) < lease;
                board.say_standby(desk.label, &what, usize::from(unknown));
            }
        }
        if self.said.as_ref() != Some(&what) {
            if who == TroubleEnd::WithoutUs {
                tracing::info!(projection = desk.label, waits_for = what, "a projection stands by");
            } else {
                tracing::error!(
                    projection = desk.label,
                    waits_for = what,
                    "a projection does not go on"
                );
            }
            self.said = Some(what);
        }
    }

    /// Stands by while another runtime works, and follows the position of that one.
    async fn stand_by(
        &mut self,
        trouble: &ProjectionTrouble,
        again_at: Timestamp,
    ) -> Result<(), ProjectionTrouble> {
        let (mut stop, mut status) = (self.ground.stop.clone(), self.ground.host.store.status());
        let (clock, store) = (self.ground.host.clock.clone(), self.ground.host.store.clone());
        let slot = self.ground.desk.slot();
        self.let_serve(slot).await?;
        loop {
            let head = store.head().position;
            let stands = store
                .checkpoint(outbox::consumer(P::NAME).map_err(not_named)?)
                .await
                .map_err(ProjectionTrouble::Log)?;
            self.ground
                .desk
                .stands_at(stands.map_or(Position::START, |checkpoint| checkpoint.position));
            self.say_trouble(trouble);
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Err(ProjectionTrouble::Stopped),
                Some(ask) = self.asks.recv() => drop(self.answer(ask).await),
                is_closed = closes_or_grows(&mut status, head) => if is_closed {
                    return Err(ProjectionTrouble::Log(ReadError::Closed));
                },
                () = clock.sleep_until(again_at) => return Ok(()),
                () = self.ground.due().await => return Ok(()),
            }
        }
    }

    /// Waits until the trouble has passed. Nothing is parked for it, and nothing is lost: the
    /// target is opened again and gives its position.
    async fn recover(&mut self, trouble: ProjectionTrouble) {
        self.say_trouble(&trouble);
        self.call_off_handover();
        let full = matches!(trouble, ProjectionTrouble::Full(_));
        if !full {
            self.lanes.clear();
        }
        self.role.rebuild |= matches!(trouble, ProjectionTrouble::Spoiled(_));
        if let Some(tenure) = self.ground.tenure.as_ref().filter(|_| !full) {
            // Another runtime may be able to go on. Whether the store takes appends, and from this
            // runner, is asked before anything is sent again.
            tenure.lock().await.give_up(&self.ground.host).await;
        }
        let in_use = matches!(trouble, ProjectionTrouble::InUse(_));
        match in_use {
            _ if full => {}
            true => self.turn.give_back(&self.ground.host).await,
            false => self.turn.give_up(&self.ground.host).await,
        }
        self.failures += 1;
        // Anyone who gave no answer was waited for already.
        let silent =
            matches!(trouble, ProjectionTrouble::Silent(_) | ProjectionTrouble::Spoiled(_));
        let clock = self.ground.host.clock.clone();
        let wait = if in_use { PROJECTION_IN_USE } else { PROJECTION_AWAY };
        let again_at = clock.now().plus(wait.after(if silent { 1 } else { self.failures }));
        let mut stop = self.ground.stop.clone();
        loop {
            let (due, turn_due) = (self.ground.due().await, self.turn.due(&clock));
            let asked = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                () = clock.sleep_until(again_at), if !full => return,
                // Nobody else could go on either: it keeps the work, unless it is called away.
                () = due, if full => {
                    self.ground.hand_over_if_called().await;
                    self.ground.hold().await.map(drop)
                }
                () = turn_due, if full => match self.stays_in_place().await {
                    Ok(true) => Ok(()),
                    Ok(false) | Err(_) => return,
                },
            };
            if full && (asked.is_err() || self.ground.desk.parked_len() < PARKED_MAX) {
                // What was read of the log and not taken is read again.
                self.lanes.clear();
                return;
            }
        }
    }
}

fn not_named(invalid: Invalid) -> ProjectionTrouble {
    ProjectionTrouble::Away(invalid.to_string())
}

/// Way in which a trouble ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TroubleEnd {
    Alone,
    WithPerson,
    /// Nothing is wrong: another runtime does the work.
    WithoutUs,
}

/// Returns the description of a trouble in status, and the way in which it ends.
fn describe(trouble: &ProjectionTrouble, name: &str) -> (String, TroubleEnd) {
    match trouble {
        ProjectionTrouble::Away(error) => {
            (format!("its target to come back: {error}"), TroubleEnd::Alone)
        }
        ProjectionTrouble::NotSetUp(error) => {
            (format!("its set_up to be fixed: {error}"), TroubleEnd::WithPerson)
        }
        ProjectionTrouble::Silent(error) => {
            (format!("its target to answer: {error}"), TroubleEnd::Alone)
        }
        ProjectionTrouble::Lost(error) => {
            (format!("its target to be opened again: {error}"), TroubleEnd::Alone)
        }
        ProjectionTrouble::Spoiled(error) => {
            (format!("its rows to be rebuilt: {error}"), TroubleEnd::Alone)
        }
        ProjectionTrouble::InUse(error) | ProjectionTrouble::StandsBy(error, _) => {
            (format!("its turn: {error}"), TroubleEnd::WithoutUs)
        }
        ProjectionTrouble::Panicked(error) => {
            (format!("its target to be fixed: {error}"), TroubleEnd::WithPerson)
        }
        ProjectionTrouble::Log(error) => {
            (format!("the log to be read again: {error}"), TroubleEnd::Alone)
        }
        ProjectionTrouble::Foreign(error) => {
            (format!("a rebuild, by Runtime::rebuild({name:?}): {error}"), TroubleEnd::WithPerson)
        }
        ProjectionTrouble::Unreadable(error) => {
            (format!("a rebuild, by Runtime::rebuild({name:?}): {error}"), TroubleEnd::WithPerson)
        }
        ProjectionTrouble::Full(position) => {
            let full = format!(
                "parked items to be retried or skipped, there are {PARKED_MAX}: the event at {position} is one more"
            );
            (full, TroubleEnd::WithPerson)
        }
        ProjectionTrouble::Stopped => ("nothing, it stops".to_owned(), TroubleEnd::Alone),
    }
}

/// Waits until the log has grown beyond a position, or the store is closed; tells whether it is
/// closed.
pub(super) async fn closes_or_grows(status: &mut watch::Receiver<Status>, head: Position) -> bool {
    let news = |status: &Status| status.head.position > head || status.state == State::Closed;
    let told = status.wait_for(news).await;
    told.map_or(true, |status| status.state == State::Closed)
}
