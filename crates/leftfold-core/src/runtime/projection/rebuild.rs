//! Opening a version, building it beside the one that serves, and taking its place.

use super::batch::Batch;
use super::desk::Told;
use super::lane::{Lane, Trouble, query_of};
use super::notes::{self, LaneNote, PARKED, checkpoint_key, receipt_key};
use super::parked::{Parked, ParkedSet};
use super::receipts::{Receipt, Receipts, range_of};
use super::runner::Runner;
use super::{Place, Projection, ProjectionError, Session, Target};
use crate::runtime::contained::contained;
use crate::store::{Checkpoint, Position};

/// What a version is for its projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Role {
    /// Whether a higher version runs here: then it does not take any other's place.
    pub(in crate::runtime) newest: bool,
    /// Whether what there is of it is to be discarded first.
    pub(in crate::runtime) discard: bool,
}

fn away(error: ProjectionError) -> Trouble {
    Trouble::Away(error.to_string())
}

impl<T: Target, P: Projection<T>> Runner<T, P> {
    /// Opens the target and goes on from where the version stands; at a new version, from the beginning.
    pub(super) async fn open(&mut self) -> Result<(), Trouble> {
        if self.role.discard {
            self.ground.target.discard(P::NAME, P::VERSION).await.map_err(away)?;
            self.role.discard = false;
        }
        let mut first = self.session(0).await?;
        first.begin().await.map_err(away)?;
        let mut noted = notes::lanes(&mut first).await.map_err(away)?;
        if noted.is_empty() {
            noted = self.set_up(&mut first).await?;
        }
        let parked = notes::all(&mut first, PARKED).await.map_err(away)?;
        first.commit().await.map_err(away)?;
        for lane in &noted {
            self.ground.host.store.verify(&lane.checkpoint()).await?;
        }
        self.keep_parked(&parked).map_err(away)?;
        self.level_at = None;
        let wanted = lanes_of::<T, P>();
        if noted.len() != wanted {
            if noted.iter().all(|lane| lane.position == noted[0].position) {
                noted = redivide(&mut first, &noted, wanted).await.map_err(away)?;
            } else {
                // As many as there were go on until all stand at one place.
                self.level_at = noted.iter().map(|lane| Position(lane.position)).max();
            }
        }
        self.open_lanes(first, &noted).await?;
        self.take_place().await
    }

    async fn session(&mut self, lane: usize) -> Result<T::Session, Trouble> {
        let place = Place { name: P::NAME, version: P::VERSION, lane };
        self.ground.target.open(&place).await.map_err(away)
    }

    /// Makes the tables, in the first transaction of a version.
    async fn set_up(&mut self, session: &mut T::Session) -> Result<Vec<LaneNote>, Trouble> {
        let set_up = contained(self.ground.projection.set_up(session.rows())).await;
        let set_up = set_up.unwrap_or_else(|panic| Err(ProjectionError::message(format!("it panicked: {panic}"))));
        set_up.map_err(|error| Trouble::Away(format!("set_up failed: {error}")))?;
        let start = self.ground.host.store.checkpoint_at(Position::START).await?;
        note_lanes(session, &start, lanes_of::<T, P>()).await.map_err(away)
    }

    fn keep_parked(&self, noted: &[(String, Vec<u8>)]) -> Result<(), ProjectionError> {
        let mut set = ParkedSet::default();
        for (key, value) in noted {
            set.insert(notes::decode::<Parked>(key, value)?);
        }
        self.ground.desk.change_parked(|parked| *parked = set);
        Ok(())
    }

    async fn open_lanes(&mut self, first: T::Session, noted: &[LaneNote]) -> Result<(), Trouble> {
        let mut lanes = Vec::with_capacity(noted.len());
        let mut first = Some(first);
        for (number, note) in noted.iter().enumerate() {
            let mut session = match first.take() {
                Some(first) => first,
                None => self.session(number).await?,
            };
            let receipts = resume_receipts(&mut session, Position(note.position), number).await.map_err(away)?;
            let (position, lanes_noted, staged) = (Position(note.position), note.lanes, ParkedSet::default());
            lanes.push(Lane { session, number, lanes: lanes_noted, position, receipts, staged });
        }
        self.lanes = lanes;
        let from = self.stands_at();
        let query = query_of::<T, P>().map_err(|error| Trouble::Away(error.to_string()))?;
        self.log = self.ground.host.store.subscribe(query, from);
        self.batch = Batch::new(from, self.level_at.unwrap_or(Position::END));
        Ok(())
    }

    /// Serves at once where nothing did, and learns which version does.
    async fn take_place(&mut self) -> Result<(), Trouble> {
        let mut serving = self.ground.target.serving(P::NAME).await.map_err(away)?;
        if serving.is_none() && self.role.newest {
            self.ground.target.serve(P::NAME, P::VERSION).await.map_err(away)?;
            serving = Some(P::VERSION);
        }
        let desk = &self.ground.desk;
        desk.readers.see(serving);
        if desk.serves() {
            // A commit whose answer was lost may have taken effect: nobody was told of its changes.
            desk.readers.tell(Told::ReadAnew);
        }
        desk.stands_at(self.stands_at());
        Ok(())
    }

    /// Takes the place of the version that serves, now that everything is in the rows.
    pub(super) async fn caught_up(&mut self) -> Result<(), Trouble> {
        if !self.is_building() {
            return Ok(());
        }
        let (desk, target) = (&self.ground.desk, &self.ground.target);
        let replaced = *desk.readers.serving.borrow();
        target.serve(P::NAME, P::VERSION).await.map_err(away)?;
        desk.readers.see(Some(P::VERSION));
        tracing::info!(projection = desk.label, version = P::VERSION, ?replaced, "a version has taken its place");
        let versions = target.versions(P::NAME).await.unwrap_or_default();
        for old in versions.into_iter().filter(|old| Some(*old) != replaced && !desk.readers.versions.contains(old)) {
            if let Err(error) = target.discard(P::NAME, old).await {
                tracing::warn!(projection = desk.label, old, %error, "an old version could not be discarded");
            }
        }
        Ok(())
    }
}

/// How many lanes there are to be.
fn lanes_of<T: Target, P: Projection<T>>() -> usize {
    P::LANES.clamp(1, T::LANES_MAX.max(1))
}

/// Writes where all lanes stand, at one place.
async fn note_lanes(session: &mut impl Session, at: &Checkpoint, lanes: usize) -> Result<Vec<LaneNote>, ProjectionError> {
    let note = LaneNote::new(at, lanes);
    for lane in 0..lanes {
        session.note(&checkpoint_key(lane), Some(&notes::encode(&note)?)).await?;
    }
    Ok(vec![note; lanes])
}

/// Divides the keys anew, where all lanes stand at one place. What they noted as consumed stays.
async fn redivide(session: &mut impl Session, noted: &[LaneNote], lanes: usize) -> Result<Vec<LaneNote>, ProjectionError> {
    session.begin().await?;
    for lane in lanes..noted.len() {
        session.note(&checkpoint_key(lane), None).await?;
    }
    let noted = note_lanes(session, &noted[0].checkpoint(), lanes).await?;
    session.commit().await?;
    Ok(noted)
}

/// The receipt that a lane goes on with.
async fn resume_receipts(session: &mut impl Session, at: Position, lane: usize) -> Result<Receipts, ProjectionError> {
    let range = range_of(at);
    let key = receipt_key(range, lane);
    session.begin().await?;
    let noted = session.notes(&key, None, 1).await?;
    session.commit().await?;
    let receipt = noted.first().map(|(key, value)| Receipt::decode(key, value)).transpose()?;
    Ok(Receipts::resumed(range, receipt.unwrap_or_default()))
}
