//! Keeping a place that others may have, and standing by behind another session that has it: how
//! far that one is, as far as the target tells.

use std::time::Duration;

use super::desk::Desk;
use super::lane::{LaneContext, ProjectionTrouble};
use super::notes::{self, CHECKPOINTS, LaneNote, PARKED};
use super::parked::ParkedSet;
use super::runner::{Runner, closes_or_grows};
use super::{Notes, Place, Projection, ProjectionError, TARGET_WITHIN, Target};
use crate::runtime::stopped;
use crate::store::{Position, ReadError, StoreId};

/// Time between two looks at the position while somebody waits for it.
const AWAITED_EVERY: Duration = Duration::from_millis(20);
/// The same while nobody waits, and there is something new.
const BEHIND_EVERY: Duration = Duration::from_millis(500);
/// Time for which the session that has the place may stand still behind the end of the log before
/// this one tries to have it.
const STILL_FOR: Duration = Duration::from_secs(1);
/// The same for one that is not called to have the place: whoever is has had the time to take it.
const UNCALLED_STILL_FOR: Duration = Duration::from_secs(3);
/// Time between two tries at a place of which the target does not tell how far it is, if it is
/// another one's turn.
const UNTOLD_FOR: Duration = Duration::from_secs(5);
/// Time after which it tries in any case: readers may be given another version.
const TRIES_EVERY: Duration = Duration::from_secs(30);

/// State of a place that another session has.
struct PlaceBehind {
    through: Position,
    parked: ParkedSet,
}

impl<T: Target, P: Projection<T>> Runner<T, P> {
    /// Stands by while another session has the place, and follows the position and the parked items
    /// of that one, so that those who wait here for rows are told when they are there. Returns when
    /// it is time to ask for the place again, and the trouble if the target does not tell.
    pub(super) async fn stand_behind(
        &mut self,
        mut trouble: ProjectionTrouble,
    ) -> Result<(), ProjectionTrouble> {
        self.call_off_handover();
        self.turn.give_back(&self.ground.host).await;
        self.turn.insists = false;
        let (mut stop, mut status) = (self.ground.stop.clone(), self.ground.host.store.status());
        let (clock, desk) = (self.ground.host.clock.clone(), self.ground.desk.clone());
        let tries_at = clock.now().plus(TRIES_EVERY);
        let (mut seen, mut moved_at) = (None, clock.now());
        loop {
            let Some(through) = self.look_behind().await? else {
                return self.stand_untold(trouble).await;
            };
            if self.turn.is_shared() && self.see_who_serves().await? {
                return Ok(());
            }
            // The target answers.
            self.turn.steps_forward(clock.now());
            self.say_trouble(&trouble);
            let now = clock.now();
            if seen.replace(through) != Some(through) {
                moved_at = now;
            }
            let head = self.ground.host.store.head().position;
            let is_behind = through < head;
            let still_for = match trouble {
                ProjectionTrouble::StandsBy(..) => UNCALLED_STILL_FOR,
                _ => STILL_FOR,
            };
            let gives_up_at = if is_behind { moved_at.plus(still_for) } else { tries_at };
            if now >= gives_up_at.min(tries_at) {
                self.turn.insists = now >= gives_up_at && is_behind;
                return Ok(());
            }
            let called = self.turn.called();
            let looks_at = now.plus(if desk.is_awaited() { AWAITED_EVERY } else { BEHIND_EVERY });
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Err(ProjectionTrouble::Stopped),
                Some(ask) = self.asks.recv() => drop(self.answer(ask).await),
                is_closed = closes_or_grows(&mut status, head), if !is_behind => {
                    if is_closed {
                        return Err(ProjectionTrouble::Log(ReadError::Closed));
                    }
                    // It stood still because there was nothing to do.
                    moved_at = clock.now();
                }
                () = clock.sleep_until(looks_at), if is_behind => {}
                () = desk.awaited.notified(), if is_behind => {}
                () = clock.sleep_until(tries_at) => return Ok(()),
                () = called => match self.turn.waits(clock.now()) {
                    None => return Ok(()),
                    Some(waits) => trouble = waits,
                },
            }
        }
    }

    /// Stands by behind a place of which the target does not tell how far it is: until it is called
    /// to have it, if it is another one's turn, or for a while.
    async fn stand_untold(&mut self, trouble: ProjectionTrouble) -> Result<(), ProjectionTrouble> {
        if !matches!(trouble, ProjectionTrouble::StandsBy(..)) {
            return Err(trouble);
        }
        let (mut stop, clock) = (self.ground.stop.clone(), self.ground.host.clock.clone());
        self.turn.steps_forward(clock.now());
        self.say_trouble(&trouble);
        let (called, tries_at) = (self.turn.called(), clock.now().plus(UNTOLD_FOR));
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return Err(ProjectionTrouble::Stopped),
            Some(ask) = self.asks.recv() => drop(self.answer(ask).await),
            () = called => {}
            () = clock.sleep_until(tries_at) => self.turn.insists = true,
        }
        Ok(())
    }

    /// Keeps its part in the place between two batches. Returns false if its rows are in another
    /// place by now, and an error if another process is to have the place: whoever asks for that
    /// when the lease is free must find it free, too.
    pub(super) async fn stays_in_place(&mut self) -> Result<bool, ProjectionTrouble> {
        let now = self.ground.host.clock.now();
        if self.turn.is_called_away() {
            self.lanes.clear();
            self.turn.give_back(&self.ground.host).await;
            let why = "its place, which another runtime is about to take".to_owned();
            return Err(ProjectionTrouble::StandsBy(why, now));
        }
        self.turn.announce(&self.ground.host).await;
        if self.sees_who_serves_at().is_some_and(|at| at <= now) && self.see_who_serves().await? {
            self.lanes.clear();
            return Ok(false);
        }
        Ok(true)
    }

    /// Learns how far the session is that has the place, and shows it; `None` if the target does
    /// not tell.
    async fn look_behind(&mut self) -> Result<Option<Position>, ProjectionTrouble> {
        let desk = self.ground.desk.clone();
        let noted = self.ground.noted(desk.slot(), &[CHECKPOINTS, PARKED]).await?;
        Ok(noted.map(|behind| {
            show(&desk, behind);
            desk.through()
        }))
    }
}

impl<T: Target, P: Projection<T>> LaneContext<T, P> {
    /// Returns the position of a place that another session may have, as far as the target tells.
    pub(super) async fn through_of(&self, place: u32) -> Result<Position, ProjectionTrouble> {
        let behind = self.noted(place, &[CHECKPOINTS]).await?;
        Ok(behind.map_or(Position::START, |behind| behind.through))
    }

    async fn noted(
        &self,
        place: u32,
        prefixes: &[&str],
    ) -> Result<Option<PlaceBehind>, ProjectionTrouble> {
        let place = Place { name: P::NAME, version: place, lane: 0 };
        let (noted, at) = (self.target.noted(&place, prefixes), self.desk.through());
        let what = "its target to tell how far another one is, at";
        let noted = self
            .calls
            .ask(what, at, TARGET_WITHIN, noted)
            .await
            .map_err(|error| self.trouble(&error))?;
        let store = self.host.store.identity().store;
        let read = |noted: Notes| read(&noted, store).map_err(|error| self.trouble(&error));
        noted.map(read).transpose()
    }
}

fn show(desk: &Desk, PlaceBehind { through, parked }: PlaceBehind) {
    // Whoever is told of the position looks for parked items next.
    desk.change_parked(|shown| *shown = parked);
    desk.stands_at(through);
}

/// Reads the notes of a place; notes of another store say nothing of this one.
fn read(noted: &[(String, Vec<u8>)], store: StoreId) -> Result<PlaceBehind, ProjectionError> {
    let (mut lanes, mut parked) = (Vec::<LaneNote>::new(), ParkedSet::default());
    for (key, value) in noted {
        if key.starts_with(CHECKPOINTS) {
            lanes.push(notes::decode(key, value)?);
        } else if let Ok(item) = notes::parked(key, value) {
            // One that cannot be read is mended by whoever has the place.
            parked.insert(item);
        }
    }
    let is_whole = |lane: &LaneNote| lane.checkpoint().store == store && lane.lanes <= lanes.len();
    let through = match lanes.iter().all(is_whole) {
        true => lanes.iter().map(|lane| Position(lane.position)).min().unwrap_or_default(),
        false => Position::START,
    };
    Ok(PlaceBehind { through, parked })
}
