//! Opening a version, building it beside the rows that serve, and taking their place.
//!
//! The rows of a version are in one of two places of its target: under its number, or under that
//! with [`BESIDE`] added. What is rebuilt is built in the other place than that which serves,
//! and takes over when it has caught up.

use std::time::Duration;

use super::batch::Batch;
use super::calls::{APPLY_WITHIN, DISCARD_WITHIN, TARGET_WITHIN, TimedSession};
use super::desk::ReaderNews;
use super::lane::{Lane, LaneContext, ProjectionTrouble};
use super::notes::{self, LaneNote, PARKED, checkpoint_key, receipt_key};
use super::parked::ParkedSet;
use super::places::{BESIDE, is_of};
use super::receipts::{EventReceipt, Receipts, range_of};
use super::runner::Runner;
use super::{Place, Projection, ProjectionError, Session, Target, receipts};
use crate::store::{Checkpoint, Fence, Label, Position, Timestamp};

/// Time between two questions who serves, to a target that other processes may have told to let
/// another place serve.
const SEES_WHO_SERVES_EVERY: Duration = Duration::from_millis(500);

impl<T: Target, P: Projection<T>> LaneContext<T, P> {
    async fn serving(&self) -> Result<Option<u32>, ProjectionTrouble> {
        let serving = self.target.serving(P::NAME);
        let calls = &self.calls;
        calls
            .ask("its target to say what serves, at", Position::START, TARGET_WITHIN, serving)
            .await
            .map_err(|error| self.trouble(&error))
    }

    async fn serve(&self, place: u32) -> Result<(), ProjectionTrouble> {
        let (serve, at) = (self.target.serve(P::NAME, place), self.desk.through());
        self.calls
            .ask("its target to let it serve, at", at, TARGET_WITHIN, serve)
            .await
            .map_err(|error| self.trouble(&error))
    }

    async fn versions(&self) -> Result<Vec<u32>, ProjectionTrouble> {
        let versions = self.target.versions(P::NAME);
        let calls = &self.calls;
        calls
            .ask("its target to list versions, at", Position::START, TARGET_WITHIN, versions)
            .await
            .map_err(|error| self.trouble(&error))
    }

    async fn discard(&self, place: u32) -> Result<(), ProjectionTrouble> {
        let (discard, at) = (self.target.discard(P::NAME, place), self.desk.through());
        self.calls
            .ask("an old version to be discarded, at", at, DISCARD_WITHIN, discard)
            .await
            .map_err(|error| self.trouble(&error))
    }

    async fn discard_in_passing(&self, place: u32) {
        if let Err(trouble) = self.discard(place).await {
            tracing::warn!(
                projection = self.desk.label,
                place,
                ?trouble,
                "an old version could not be discarded"
            );
        }
    }
}

impl<T: Target, P: Projection<T>> Runner<T, P> {
    /// Opens the target and goes on from the position of the version; at a new version, from the
    /// beginning.
    pub(super) async fn open(&mut self) -> Result<(), ProjectionTrouble> {
        // Anyone who had the work may have noted something until now: nothing is read before it is
        // this runner's.
        let fence = self.ground.hold().await?;
        self.aims_at = None;
        self.ground.host.look_for_types(self.ground.desk.label).await;
        self.find_place().await?;
        self.turn.join(&self.ground).await?;
        self.turn.begins(self.ground.host.clock.now())?;
        let mut first = self.session(0).await?;
        first.under(fence.clone());
        first.begin().await.map_err(|error| self.ground.trouble(&error))?;
        let mut noted =
            notes::lanes(&mut first).await.map_err(|error| self.ground.trouble(&error))?;
        if noted.is_empty() {
            noted = self.set_up(&mut first).await?;
        }
        let parked =
            notes::all(&mut first, PARKED).await.map_err(|error| self.ground.trouble(&error))?;
        first.commit().await.map_err(|error| self.ground.trouble(&error))?;
        for lane in &noted {
            self.ground.host.store.verify(&lane.checkpoint()).await?;
        }
        self.keep_parked(&mut first, &parked).await?;
        self.level_at = None;
        let wanted = lanes_of::<T, P>();
        if noted.len() != wanted {
            if noted.iter().all(|lane| lane.position == noted[0].position) {
                noted = redivide(&mut first, &noted, wanted)
                    .await
                    .map_err(|error| self.ground.trouble(&error))?;
            } else {
                // As many as there were go on until all stand at one place.
                self.level_at = noted.iter().map(|lane| Position(lane.position)).max();
            }
        }
        if T::KEPT_IN_STORE {
            let stands = Position(noted[0].position);
            receipts::begin_in_copy(&mut first, stands)
                .await
                .map_err(|error| self.ground.trouble(&error))?;
        }
        self.open_lanes(first, &noted, fence).await?;
        self.take_place().await?;
        self.turn.announce(&self.ground.host).await;
        Ok(())
    }

    /// Finds the place of the version's rows; for a version that is to be rebuilt, the other place.
    async fn find_place(&mut self) -> Result<(), ProjectionTrouble> {
        if !T::REBUILDS {
            return Ok(());
        }
        let serving = self.learn_who_serves().await?;
        let versions = self.ground.versions().await?;
        let own = serving.filter(|place| is_of(*place, P::VERSION));
        let mut place = self.building.or(own).unwrap_or(P::VERSION);
        if self.role.rebuild {
            place = own.map_or(P::VERSION, |own| own ^ BESIDE);
            if versions.contains(&place) {
                self.ground.discard(place).await?;
            }
            (self.role.rebuild, self.building) = (false, Some(place));
        } else if self.building.is_none()
            && own.is_none()
            && !versions.contains(&place)
            && versions.contains(&(place ^ BESIDE))
        {
            place ^= BESIDE;
        }
        self.ground.desk.moves_to(place);
        if self.building.is_none() && versions.contains(&(place ^ BESIDE)) {
            // Of a build that did not come to its end, or of what it replaced.
            self.ground.discard_in_passing(place ^ BESIDE).await;
        }
        Ok(())
    }

    async fn session(
        &mut self,
        lane: usize,
    ) -> Result<TimedSession<T::Session>, ProjectionTrouble> {
        let place = Place { name: P::NAME, version: self.ground.desk.slot(), lane };
        let calls = self.ground.calls.clone();
        let open = self.ground.target.open(&place);
        let session =
            calls.ask("its target to be opened at", Position::START, TARGET_WITHIN, open).await;
        Ok(TimedSession::new(session.map_err(|error| self.ground.trouble(&error))?, calls))
    }

    /// Makes the tables, in the first transaction of a version.
    async fn set_up(
        &mut self,
        session: &mut TimedSession<T::Session>,
    ) -> Result<Vec<LaneNote>, ProjectionTrouble> {
        let (calls, projection) = (&self.ground.calls, &self.ground.projection);
        let set_up = async { projection.set_up(session.rows()).await };
        let set_up =
            calls.ask("the tables to be set up at", Position::START, APPLY_WITHIN, set_up).await;
        set_up.map_err(|error| match self.ground.trouble(&error) {
            ProjectionTrouble::Away(said) if self.ground.is_away(&error) => {
                ProjectionTrouble::Away(format!("set_up failed: {said}"))
            }
            ProjectionTrouble::Away(said) => ProjectionTrouble::NotSetUp(said),
            trouble => trouble,
        })?;
        let start = self.ground.host.store.checkpoint_at(Position::START).await?;
        note_lanes(session, &start, lanes_of::<T, P>())
            .await
            .map_err(|error| self.ground.trouble(&error))
    }

    /// Takes up the parked items. A note that cannot be read is written again, as far as its
    /// content can be known from the log.
    async fn keep_parked(
        &mut self,
        session: &mut TimedSession<T::Session>,
        noted: &[(String, Vec<u8>)],
    ) -> Result<(), ProjectionTrouble> {
        let mut set = ParkedSet::default();
        for (key, value) in noted {
            match notes::parked(key, value) {
                Ok(parked) => set.insert(parked),
                Err(error) => {
                    let position =
                        notes::position_of(key).ok_or_else(|| self.ground.trouble(&error))?;
                    tracing::error!(projection = self.ground.desk.label, %error, "what is parked cannot be read");
                    let parked = self.ground.known_from_log(position, &error).await?;
                    let value =
                        notes::encode(&parked).map_err(|error| self.ground.trouble(&error))?;
                    let written = async {
                        session.begin().await?;
                        session.note(key, None).await?;
                        session
                            .note(&notes::parked_key(&parked.key, position), Some(&value))
                            .await?;
                        session.commit().await
                    };
                    written.await.map_err(|error| self.ground.trouble(&error))?;
                    set.insert(parked);
                }
            }
        }
        self.ground.desk.change_parked(|parked| *parked = set);
        Ok(())
    }

    async fn open_lanes(
        &mut self,
        first: TimedSession<T::Session>,
        noted: &[LaneNote],
        fence: Option<(Label, Fence)>,
    ) -> Result<(), ProjectionTrouble> {
        let mut lanes = Vec::with_capacity(noted.len());
        let mut first = Some(first);
        for (number, note) in noted.iter().enumerate() {
            let mut session = match first.take() {
                Some(first) => first,
                None => self.session(number).await?,
            };
            let receipts = resume_receipts(&mut session, Position(note.position), number)
                .await
                .map_err(|error| self.ground.trouble(&error))?;
            session.under(fence.clone());
            let (position, lanes_noted, staged) =
                (Position(note.position), note.lanes, ParkedSet::default());
            lanes.push(Lane {
                session,
                number,
                lanes: lanes_noted,
                position,
                receipts,
                staged,
                fence: fence.clone(),
            });
        }
        self.lanes = lanes;
        let from = self.stands_at();
        self.read_from = self.read_from.min(from);
        self.log = self.ground.host.store.subscribe(self.ground.schema.query(), from);
        self.batch = Batch::new(from, self.level_at.unwrap_or(Position::END));
        Ok(())
    }

    /// Learns which place serves; and so whether this version does, if the target gave no answer
    /// when it was asked to let it. A target that carries that out later than it answers here is
    /// not known to.
    async fn learn_who_serves(&mut self) -> Result<Option<u32>, ProjectionTrouble> {
        let readers = self.ground.desk.readers.clone();
        let _moving = readers.moving.lock().await;
        let serving = self.ground.serving().await?;
        readers.see(serving);
        self.asked_to_serve = false;
        self.call_off_handover();
        Ok(serving)
    }

    /// Returns the moment at which to ask who serves; `None` if only this process decides it.
    pub(super) fn sees_who_serves_at(&self) -> Option<Timestamp> {
        let asks = T::REBUILDS && self.turn.is_shared();
        asks.then(|| self.saw_who_serves_at.plus(SEES_WHO_SERVES_EVERY))
    }

    /// Learns which place serves, since another process may have let it. Readers of this one are
    /// told of places that are followed here. Returns true if this version serves from another
    /// place than that of this runner.
    pub(super) async fn see_who_serves(&mut self) -> Result<bool, ProjectionTrouble> {
        let desk = self.ground.desk.clone();
        let _moving = desk.readers.moving.lock().await;
        let serving = self.ground.serving().await?;
        self.saw_who_serves_at = self.ground.host.clock.now();
        let is_followed =
            |place: &u32| desk.readers.versions.iter().any(|version| is_of(*place, *version));
        let Some(place) = serving.filter(is_followed) else { return Ok(false) };
        desk.readers.see(Some(place));
        Ok(self.building.is_none() && is_of(place, P::VERSION) && place != desk.slot())
    }

    /// Lets a place serve from now on.
    pub(super) async fn let_serve(&mut self, place: u32) -> Result<(), ProjectionTrouble> {
        let readers = self.ground.desk.readers.clone();
        let _moving = readers.moving.lock().await;
        self.asked_to_serve = true;
        self.ground.serve(place).await?;
        self.asked_to_serve = false;
        readers.see(Some(place));
        Ok(())
    }

    /// Serves at once if no version did, and learns which version does.
    async fn take_place(&mut self) -> Result<(), ProjectionTrouble> {
        if self.learn_who_serves().await?.is_none() && self.role.newest {
            self.let_serve(self.ground.desk.slot()).await?;
        }
        let desk = &self.ground.desk;
        if desk.serves() {
            self.building = None;
            // A commit whose answer was lost may have taken effect: nobody was told of its changes.
            desk.readers.tell(ReaderNews::ReadAnew);
        }
        desk.stands_at(self.stands_at());
        Ok(())
    }

    /// Takes the place of the rows that serve, as soon as its own have everything that anybody was
    /// told to find in those, in this process, or had been when the handover began, in another one:
    /// the version that serves goes on meanwhile, but answers nobody who
    /// waits, so this takes a batch or two however fast the log grows.
    pub(super) async fn hand_over(&mut self) -> Result<(), ProjectionTrouble> {
        let desk = self.ground.desk.clone();
        let (place, replaced) = (desk.slot(), desk.readers.serving.borrow().place);
        let promised = desk.readers.hand_over();
        let promised_elsewhere = match (self.aims_at, replaced) {
            (Some(aims_at), _) => aims_at,
            (None, Some(replaced)) if self.turn.is_shared() => {
                self.ground.through_of(replaced).await?
            }
            (None, _) => Position::START,
        };
        self.aims_at = Some(promised_elsewhere);
        if desk.through() < promised.max(promised_elsewhere) {
            return Ok(());
        }
        self.let_serve(place).await?;
        self.aims_at = None;
        tracing::info!(
            projection = desk.label,
            version = P::VERSION,
            ?replaced,
            "a version has taken its place"
        );
        let rebuilt = replaced.is_some_and(|replaced| is_of(replaced, P::VERSION));
        self.building = None;
        for old in self.ground.versions().await.unwrap_or_default() {
            let runs = desk.readers.versions.iter().any(|version| is_of(old, *version));
            let of_this = is_of(old, P::VERSION) && old != place;
            // The version before is kept, for going back; rows that were rebuilt are of no use
            // any more.
            if of_this || (!rebuilt && !runs && Some(old) != replaced) {
                self.ground.discard_in_passing(old).await;
            }
        }
        Ok(())
    }
}

/// Returns the number of lanes that there are to be.
fn lanes_of<T: Target, P: Projection<T>>() -> usize {
    P::LANES.clamp(1, T::LANES_MAX.max(1))
}

/// Notes one position for all lanes.
async fn note_lanes(
    session: &mut impl Session,
    at: &Checkpoint,
    lanes: usize,
) -> Result<Vec<LaneNote>, ProjectionError> {
    let note = LaneNote::new(at, lanes);
    for lane in 0..lanes {
        session.note(&checkpoint_key(lane), Some(&notes::encode(&note)?)).await?;
    }
    Ok(vec![note; lanes])
}

/// Divides the keys again, when all lanes are at one position. Their receipts stay.
async fn redivide(
    session: &mut impl Session,
    noted: &[LaneNote],
    lanes: usize,
) -> Result<Vec<LaneNote>, ProjectionError> {
    session.begin().await?;
    for lane in lanes..noted.len() {
        session.note(&checkpoint_key(lane), None).await?;
    }
    let noted = note_lanes(session, &noted[0].checkpoint(), lanes).await?;
    session.commit().await?;
    Ok(noted)
}

/// The receipt that a lane goes on with.
async fn resume_receipts(
    session: &mut impl Session,
    at: Position,
    lane: usize,
) -> Result<Receipts, ProjectionError> {
    let range = range_of(at);
    let key = receipt_key(range, lane);
    session.begin().await?;
    let noted = session.notes(&key, None, 1).await?;
    session.commit().await?;
    // One that cannot be read is found by anyone who verifies; the rows are none the worse for it.
    let receipt = noted.first().and_then(|(key, value)| EventReceipt::decode(key, value).ok());
    Ok(Receipts::resumed(range, receipt.unwrap_or_default()))
}
