//! Standing by behind another session that has the place: how far that one is, as far as the target
//! tells.

use std::time::Duration;

use super::desk::Desk;
use super::lane::ProjectionTrouble;
use super::notes::{self, CHECKPOINTS, LaneNote, PARKED};
use super::parked::ParkedSet;
use super::runner::{Runner, closes_or_grows};
use super::{Place, Projection, ProjectionError, TARGET_WITHIN, Target};
use crate::runtime::stopped;
use crate::store::{Position, ReadError, StoreId};

/// Time between two looks at the position while somebody waits for it.
const AWAITED_EVERY: Duration = Duration::from_millis(20);
/// The same while nobody waits, and there is something new.
const BEHIND_EVERY: Duration = Duration::from_millis(500);
/// Time for which the session that has the place may stand still behind the end of the log before
/// this one tries to have it.
const STILL_FOR: Duration = Duration::from_secs(1);
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
        trouble: ProjectionTrouble,
    ) -> Result<(), ProjectionTrouble> {
        self.call_off_handover();
        let (mut stop, mut status) = (self.ground.stop.clone(), self.ground.host.store.status());
        let (clock, desk) = (self.ground.host.clock.clone(), self.ground.desk.clone());
        let tries_at = clock.now().plus(TRIES_EVERY);
        let (mut seen, mut moved_at) = (None, clock.now());
        loop {
            let Some(through) = self.look_behind().await? else { return Err(trouble) };
            self.say_trouble(&trouble);
            let now = clock.now();
            if seen.replace(through) != Some(through) {
                moved_at = now;
            }
            let head = self.ground.host.store.head().position;
            let is_behind = through < head;
            let gives_up_at = if is_behind { moved_at.plus(STILL_FOR) } else { tries_at };
            if now >= gives_up_at.min(tries_at) {
                return Ok(());
            }
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
            }
        }
    }

    /// Learns how far the session is that has the place, and shows it; `None` if the target does
    /// not tell.
    async fn look_behind(&mut self) -> Result<Option<Position>, ProjectionTrouble> {
        let (ground, desk) = (&self.ground, self.ground.desk.clone());
        let place = Place { name: P::NAME, version: desk.slot(), lane: 0 };
        let noted = ground.target.noted(&place, &[CHECKPOINTS, PARKED]);
        let noted = ground
            .calls
            .ask(
                "its target to tell how far another one is, at",
                desk.through(),
                TARGET_WITHIN,
                noted,
            )
            .await
            .map_err(|error| ground.trouble(&error))?;
        let Some(noted) = noted else { return Ok(None) };
        let store = ground.host.store.identity().store;
        let behind = read(&noted, store).map_err(|error| ground.trouble(&error))?;
        show(&desk, behind);
        Ok(Some(desk.through()))
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
