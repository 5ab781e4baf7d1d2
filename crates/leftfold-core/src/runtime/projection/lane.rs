//! A lane: one session, and the transactions in which events, notes and checkpoint become one.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{Mutex, watch};

use super::batch::{Batch, Content, Item, key_of};
use super::calls::{APPLY_WITHIN, TargetCallError, TimedCalls, TimedResult, TimedSession};
use super::desk::{Change, Desk, ReaderNews};
use super::notes::{self, LaneNote, checkpoint_key, parked_key, receipt_key};
use super::parked::{Parked, ParkedSet, ParkedState, stream_of};
use super::receipts::Receipts;
use super::{Projection, ProjectionError, Session, Target};
use crate::fold::{Recorded, Schema};
use crate::runtime::consumer::PARKED_MAX;
use crate::runtime::consumer::backoff::PROJECTION_EVENT;
use crate::runtime::consumer::lease::{self, Right, WorkTenure};
use crate::runtime::{Host, stopped};
use crate::store::{Checkpoint, Fence, Label, Position, ReadError, SubscribeError, Timestamp};

// ANCHOR: limits
/// Number of times that an event is tried before it is parked.
pub const TRIES: u32 = 3;
// ANCHOR_END: limits
/// Context shared by all lanes of a projection version.
pub(super) struct LaneContext<T: Target, P: Projection<T>> {
    pub(super) host: Host,
    pub(super) target: T,
    pub(super) projection: P,
    pub(super) schema: Arc<Schema>,
    pub(super) desk: Arc<Desk>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) calls: TimedCalls,
    /// The lease on the work; `None` if it is not shared.
    pub(super) tenure: Option<Mutex<WorkTenure>>,
}

/// One session, and the progress of its lane.
pub(super) struct Lane<T: Target> {
    pub(super) session: TimedSession<T::Session>,
    pub(super) number: usize,
    pub(super) lanes: usize,
    /// Everything up to here is in the rows.
    pub(super) position: Position,
    pub(super) receipts: Receipts,
    /// Items that the open transaction parks.
    pub(super) staged: ParkedSet,
    /// Fence of the lease under which it was opened.
    pub(super) fence: Option<(Label, Fence)>,
}

/// Reason why a projection does not go on.
#[derive(Debug)]
pub(super) enum ProjectionTrouble {
    /// The target cannot be used now.
    Away(String),
    /// The target refused to set up its tables, for a reason that is not its own failure.
    NotSetUp(String),
    /// The session is of no use now; another one may be.
    Lost(String),
    /// The target, or code of users that waits for it, gives no answer.
    Silent(String),
    /// Another session writes the version.
    InUse(String),
    /// Another runtime has the lease; it is worth asking again at this moment.
    StandsBy(String, Timestamp),
    /// The rows were written in part, and that cannot be undone.
    Spoiled(String),
    /// Code of the target panicked.
    Panicked(String),
    /// The notes of the target cannot be read.
    Unreadable(String),
    /// The log cannot be read now.
    Log(ReadError),
    /// The notes do not belong to this log.
    Foreign(SubscribeError),
    /// There are too many parked items for one more.
    Full(Position),
    /// It is told to stop.
    Stopped,
}

/// Reason why a transaction was not committed.
pub(super) enum TransactionStop {
    /// An event of it cannot be applied, or the target does not take its rows.
    Event(String),
    Trouble(ProjectionTrouble),
}

impl From<ProjectionTrouble> for TransactionStop {
    fn from(trouble: ProjectionTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<SubscribeError> for ProjectionTrouble {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Read(error) => Self::Log(error),
            error => Self::Foreign(error),
        }
    }
}

impl<T: Target> Lane<T> {
    /// Consumes its part of a batch, in one transaction if nothing fails, and is at its end then.
    pub(super) async fn take<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        batch: &Batch<P::Event>,
        end: &Checkpoint,
    ) -> Result<(), ProjectionTrouble> {
        let (from, number) = (self.position, self.number);
        let own =
            || batch.items.iter().filter(move |item| item.lane == number && item.position() > from);
        if end.position <= from {
            return Ok(());
        }
        if !own().any(|item| ground.desk.suspect(item.position()).is_some()) {
            match self.together(ground, own(), end).await {
                Ok(()) => {
                    self.publish(ground, own());
                    return Ok(());
                }
                // Some event fails: which one is found by a transaction each.
                Err(TransactionStop::Event(_)) => self.undo(ground).await?,
                Err(TransactionStop::Trouble(ProjectionTrouble::Full(_))) if T::UNDOES => {
                    self.undo(ground).await?
                }
                Err(TransactionStop::Trouble(trouble)) => return Err(trouble),
            }
        }
        for item in own() {
            self.take_alone(ground, item).await?;
            self.publish(ground, std::iter::once(item));
        }
        if end.position > self.position {
            self.begin(ground).await?;
            self.commit(ground, end).await.map_err(not_of_an_event)?;
        }
        Ok(())
    }

    async fn together<'i, P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        items: impl Iterator<Item = &'i Item<P::Event>>,
        end: &Checkpoint,
    ) -> Result<(), TransactionStop> {
        self.begin(ground).await?;
        let mut last = None;
        for item in items {
            match self.consume(ground, item).await {
                Ok(()) => last = Some(item.position()),
                Err(TransactionStop::Trouble(ProjectionTrouble::Full(position))) if !T::UNDOES => {
                    // What went in cannot be undone: it is kept, and the event waits.
                    let end = last.map_or(self.position, |last| last);
                    let end = ground
                        .host
                        .store
                        .checkpoint_at(end)
                        .await
                        .map_err(ProjectionTrouble::from)?;
                    self.commit(ground, &end).await?;
                    return Err(ProjectionTrouble::Full(position).into());
                }
                Err(stop) => return Err(stop),
            }
        }
        self.commit(ground, end).await
    }

    /// Tries one event, in a transaction of its own, until it is in the rows or parked.
    async fn take_alone<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        item: &Item<P::Event>,
    ) -> Result<(), ProjectionTrouble> {
        let (desk, clock, position) = (&ground.desk, &ground.host.clock, item.position());
        let end = ground.host.store.checkpoint_at(position).await?;
        loop {
            self.begin(ground).await?;
            // An event that failed often enough is parked, which consumes it too.
            let tried = match desk.suspect(position).filter(|suspect| suspect.attempts >= TRIES) {
                Some(suspect) => {
                    let parked = self
                        .stage(ground, item, ParkedState::failed(&suspect.error, suspect.attempts))
                        .await;
                    self.receipts.add(item.envelope());
                    parked
                }
                None => self.consume(ground, item).await,
            };
            let tried = match tried {
                Ok(()) => self.commit(ground, &end).await,
                stop => stop,
            };
            match tried {
                Ok(()) => {
                    desk.cleared(position);
                    return Ok(());
                }
                Err(TransactionStop::Event(error)) => {
                    let tries = desk.failed(position, error.clone());
                    self.undo(ground).await?;
                    // Parking itself failed.
                    if tries > TRIES {
                        return Err(ProjectionTrouble::Away(format!(
                            "the event at {position} can neither be applied nor parked: {error}"
                        )));
                    }
                    // The reason may pass: the next try waits longer.
                    if tries < TRIES {
                        tracing::warn!(projection = desk.label, %position, error, tries, "an event failed, trying again");
                        let mut stop = ground.stop.clone();
                        let again_at = clock.now().plus(PROJECTION_EVENT.after(tries));
                        tokio::select! {
                            biased;
                            () = stopped(&mut stop) => return Err(ProjectionTrouble::Stopped),
                            () = clock.sleep_until(again_at) => {}
                        }
                    }
                }
                Err(TransactionStop::Trouble(trouble @ ProjectionTrouble::Full(_))) => {
                    if T::UNDOES {
                        self.undo(ground).await?;
                    } else {
                        // Nothing was written.
                        self.session.commit().await.map_err(|error| ground.trouble(&error))?;
                    }
                    return Err(trouble);
                }
                Err(TransactionStop::Trouble(trouble)) => return Err(trouble),
            }
        }
    }

    /// Applies an event, or parks it if it cannot be applied.
    async fn consume<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        item: &Item<P::Event>,
    ) -> Result<(), TransactionStop> {
        if let Content::Unreadable(_, error) = &item.content {
            self.stage(ground, item, ParkedState::unreadable(error)).await?;
        } else if let Some(state) = self.must_wait(ground, item) {
            self.stage(ground, item, state).await?;
        } else {
            match self.apply(ground, item.events()).await {
                Err(TransactionStop::Event(error)) if !T::UNDOES => {
                    self.stage(ground, item, ParkedState::failed(&error, 1)).await?
                }
                applied => applied?,
            }
        }
        self.receipts.add(item.envelope());
        Ok(())
    }

    /// Returns a parked state if an earlier event that must come before this one is parked, or may
    /// be.
    fn must_wait<P: Projection<T>>(
        &self,
        ground: &LaneContext<T, P>,
        item: &Item<P::Event>,
    ) -> Option<ParkedState> {
        if item.behind_unreadable {
            return Some(ParkedState::Waits);
        }
        if self.staged.is_empty() && ground.desk.parked_len() == 0 {
            return None;
        }
        if item.key.is_none()
            && let Some(Err(error)) = key_of(&ground.projection, item.events())
        {
            return Some(ParkedState::unreadable(&error));
        }
        let (key, stream) = (item.known_key(&ground.projection), stream_of(item.envelope()));
        let waits = |set: &ParkedSet| {
            set.has_key(&key) || set.has_unreadable_before(stream, item.position())
        };
        (waits(&self.staged) || waits(&ground.desk.parked())).then_some(ParkedState::Waits)
    }

    /// Parks an event with the open transaction.
    async fn stage<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        item: &Item<P::Event>,
        state: ParkedState,
    ) -> Result<(), TransactionStop> {
        let position = item.position();
        if ground.desk.parked_len() + self.staged.len() >= PARKED_MAX {
            return Err(ProjectionTrouble::Full(position).into());
        }
        let (key, stream) =
            (item.known_key(&ground.projection), stream_of(item.envelope()).to_owned());
        let parked = Parked { position, key, stream, state };
        self.note_parked(ground, &parked).await?;
        self.staged.insert(parked);
        Ok(())
    }

    pub(super) async fn note_parked<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        parked: &Parked,
    ) -> Result<(), TransactionStop> {
        let key = parked_key(&parked.key, parked.position);
        let value =
            notes::encode(parked).map_err(|error| TransactionStop::Event(error.to_string()))?;
        self.session.note(&key, Some(&value)).await.map_err(|error| ground.stop_by(&error))
    }

    /// Opens a transaction, in which the lane must be at the position it is believed to be at.
    pub(super) async fn begin<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
    ) -> Result<(), ProjectionTrouble> {
        let trouble = |error: ProjectionError| ground.trouble(&error);
        self.hold(ground).await?;
        self.session.about(self.position);
        self.session.begin().await.map_err(trouble)?;
        let key = checkpoint_key(self.number);
        let noted = self.session.notes(&key, None, 1).await.map_err(trouble)?;
        let noted: Option<LaneNote> = noted
            .first()
            .map(|(key, value)| notes::decode(key, value))
            .transpose()
            .map_err(trouble)?;
        let stands = noted.map(|noted| (Position(noted.position), noted.lanes));
        if stands == Some((self.position, self.lanes)) {
            return Ok(());
        }
        let stands = stands.map_or_else(
            || "nowhere".to_owned(),
            |(position, lanes)| format!("at {position} in {lanes} lanes"),
        );
        let (position, lanes) = (self.position, self.lanes);
        Err(ProjectionTrouble::Lost(format!(
            "it stands {stands}, not at {position} in {lanes} lanes: another runner moved it"
        )))
    }

    /// Applies an event.
    pub(super) async fn apply<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        events: &[Recorded<P::Event>],
    ) -> Result<(), TransactionStop> {
        for event in events {
            self.session.takes(&event.envelope);
            let code = async { ground.projection.apply(self.session.rows(), event).await };
            let position = event.envelope.position;
            match ground
                .calls
                .wait("the event to be applied at", position, APPLY_WITHIN, code)
                .await
            {
                TimedResult::Answer(Ok(())) => {}
                TimedResult::Answer(Err(error)) => return Err(ground.stop_by(&error)),
                TimedResult::Panic(said) => {
                    return Err(ground.failed_half_way(position, format!("apply panicked: {said}")));
                }
                TimedResult::Nothing => {
                    let error = format!("apply gave no answer within {} s", APPLY_WITHIN.as_secs());
                    ground.desk.hung(position, error.clone(), ground.host.clock.now());
                    let said = format!(
                        "{error} for the event at {position}; another session may hold a lock that it waits for"
                    );
                    return Err(if T::UNDOES {
                        ProjectionTrouble::Silent(said)
                    } else {
                        ProjectionTrouble::Spoiled(said)
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Notes the lane's position and receipts, and makes everything durable.
    async fn commit<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        end: &Checkpoint,
    ) -> Result<(), TransactionStop> {
        for (range, receipt) in self.receipts.changed() {
            let key = receipt_key(range, self.number);
            self.session
                .note(&key, Some(&receipt.encode()))
                .await
                .map_err(|error| ground.stop_by(&error))?;
        }
        let note = notes::encode(&LaneNote::new(end, self.lanes))
            .map_err(|error| TransactionStop::Event(error.to_string()))?;
        let key = checkpoint_key(self.number);
        self.session.note(&key, Some(&note)).await.map_err(|error| ground.stop_by(&error))?;
        self.commit_session(ground, end.position).await?;
        self.position = end.position;
        self.receipts.committed();
        if !self.staged.is_empty() {
            for parked in self.staged.items() {
                tracing::warn!(
                    projection = ground.desk.label,
                    position = %parked.position,
                    key = parked.key,
                    error = parked.state.error().unwrap_or("an earlier event of its key"),
                    "an event is parked"
                );
            }
            let staged = std::mem::take(&mut self.staged);
            ground.desk.change_parked(|set| set.extend(staged));
        }
        Ok(())
    }

    pub(super) async fn commit_session<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
        at: Position,
    ) -> Result<(), TransactionStop> {
        self.hold(ground).await?;
        self.session.about(at);
        self.session.commit().await.map_err(|error| ground.stop_by(&error))
    }

    /// Makes sure that the work is still this runner's, as it was when the lane was opened.
    async fn hold<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
    ) -> Result<(), ProjectionTrouble> {
        if ground.hold().await? == self.fence {
            return Ok(());
        }
        Err(ProjectionTrouble::Lost("another runtime had the work meanwhile".to_owned()))
    }

    /// Undoes the open transaction.
    pub(super) async fn undo<P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
    ) -> Result<(), ProjectionTrouble> {
        self.staged.clear();
        self.receipts.undo();
        if !T::UNDOES {
            return Err(ProjectionTrouble::Spoiled("a transaction cannot be undone".to_owned()));
        }
        self.session.rollback().await.map_err(|error| match ground.trouble(&error) {
            ProjectionTrouble::Away(error) => ProjectionTrouble::Lost(error),
            trouble => trouble,
        })
    }

    /// Tells the readers of the feed which keys changed. Those that were parked did not.
    fn publish<'i, P: Projection<T>>(
        &self,
        ground: &LaneContext<T, P>,
        items: impl Iterator<Item = &'i Item<P::Event>>,
    ) {
        if ground.desk.readers.feed.receiver_count() == 0 || !ground.desk.serves() {
            return;
        }
        for item in items.filter(|item| !item.events().is_empty()) {
            let (key, position) = (item.known_key(&ground.projection), item.position());
            if ground.desk.parked_len() == 0 || ground.desk.parked().find(position).is_none() {
                ground.desk.readers.tell(ReaderNews::Change(Change { key, position }));
            }
        }
    }
}

impl<T: Target, P: Projection<T>> LaneContext<T, P> {
    /// Takes the lease on the work, or keeps it, if it is shared. Returns the fence for appends.
    pub(super) async fn hold(&self) -> Result<Option<(Label, Fence)>, ProjectionTrouble> {
        let Some(tenure) = &self.tenure else { return Ok(None) };
        let mut tenure = tenure.lock().await;
        match tenure.hold(&self.host).await {
            Right::Held => Ok(tenure.fence()),
            Right::StandsBy(why, again_at) => Err(ProjectionTrouble::StandsBy(why, again_at)),
            Right::Waits(why, _) => Err(ProjectionTrouble::Away(why)),
            Right::Closed => Err(ProjectionTrouble::Log(ReadError::Closed)),
        }
    }

    /// Gives the lease back if another runtime is to have the work: between two batches.
    pub(super) async fn hand_over_if_called(&self) {
        let Some(tenure) = &self.tenure else { return };
        let mut tenure = tenure.lock().await;
        if tenure.is_called_away() {
            tenure.release(&self.host).await;
        }
    }

    /// Returns a wait until the lease is to be asked for or handed over; without an end if there is
    /// none.
    pub(super) async fn due(&self) -> impl Future<Output = ()> + Send + use<T, P> {
        match &self.tenure {
            Some(tenure) => lease::due(Some(&*tenure.lock().await), &self.host.clock),
            None => lease::due(None, &self.host.clock),
        }
    }

    /// Returns the meaning of a target's error while an event is applied.
    pub(super) fn stop_by(&self, error: &ProjectionError) -> TransactionStop {
        if error.downcast_ref::<TargetCallError>().is_some() || self.is_away(error) {
            return self.trouble(error).into();
        }
        TransactionStop::Event(error.to_string())
    }

    /// Returns the meaning of a target's error when no event is applied.
    pub(super) fn trouble(&self, error: &ProjectionError) -> ProjectionTrouble {
        let said = error.to_string();
        match error.downcast_ref::<TargetCallError>() {
            Some(TargetCallError::Silent { .. }) => return ProjectionTrouble::Silent(said),
            Some(TargetCallError::Panicked { .. }) => return ProjectionTrouble::Panicked(said),
            None => {}
        }
        if error.downcast_ref::<notes::UnreadableNote>().is_some() {
            return ProjectionTrouble::Unreadable(said);
        }
        let in_use =
            catch_unwind(AssertUnwindSafe(|| self.target.is_in_use(error))).unwrap_or(false);
        if in_use { ProjectionTrouble::InUse(said) } else { ProjectionTrouble::Away(said) }
    }

    pub(super) fn is_away(&self, error: &ProjectionError) -> bool {
        catch_unwind(AssertUnwindSafe(|| {
            self.target.is_away(error) || self.target.is_in_use(error)
        }))
        .unwrap_or(false)
    }

    /// Handles the failure of an event that may have written a part. If that cannot be undone, the
    /// rows are rebuilt, and then the event is parked before it is applied.
    fn failed_half_way(&self, position: Position, error: String) -> TransactionStop {
        if T::UNDOES {
            return TransactionStop::Event(error);
        }
        while self.desk.failed(position, error.clone()) < TRIES {}
        ProjectionTrouble::Spoiled(error).into()
    }
}

/// Turns a refusal by the target into trouble of the target itself, if no event is applied.
pub(super) fn not_of_an_event(stop: TransactionStop) -> ProjectionTrouble {
    match stop {
        TransactionStop::Event(error) => ProjectionTrouble::Away(error),
        TransactionStop::Trouble(trouble) => trouble,
    }
}

/// Lets all lanes work at the same time and waits for all of them; the first error in their order.
pub(super) async fn all<'l, F: Future<Output = Result<(), ProjectionTrouble>> + Send + 'l>(
    lanes: impl Iterator<Item = F>,
) -> Result<(), ProjectionTrouble> {
    let mut lanes: Vec<Pin<Box<F>>> = lanes.map(Box::pin).collect();
    let mut ended: Vec<Option<Result<(), ProjectionTrouble>>> =
        lanes.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (lane, ended) in lanes.iter_mut().zip(&mut ended) {
            if ended.is_none()
                && let Poll::Ready(result) = lane.as_mut().poll(context)
            {
                *ended = Some(result);
            }
        }
        if ended.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}
