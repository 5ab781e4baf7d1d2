//! Requests of people to a runner: to try parked items again, to let one go, to say what was
//! consumed.

use std::collections::{BTreeSet, VecDeque};

use super::batch::{Content, decode, key_of};
use super::desk::{Change, ReaderNews};
use super::handle::{ProjectionRequest, Retried, Skipped};
use super::lane::{LaneContext, ProjectionTrouble, TransactionStop, not_of_an_event};
use super::notes::{self, SkippedNote, parked_key, skipped_key};
use super::parked::{ERROR_BYTES_MAX, Parked, ParkedState, stream_of};
use super::runner::Runner;
use super::{Projection, ProjectionError, Session, Target, receipts};
use crate::fold::Recorded;
use crate::runtime::consumer::{AskError, shortened_to};
use crate::store::{Position, Read};

/// Items that are let go in one transaction.
const SKIPPED_AT_ONCE: usize = 500;

/// Result of trying one item.
enum ItemRetry {
    /// It is in the rows.
    Applied,
    /// It waits under another key now: the one that it has since it can be read.
    Moved,
    /// It still cannot be applied.
    Failed(Box<Parked>),
}

impl<T: Target, P: Projection<T>> Runner<T, P> {
    /// Answers a person's request. If the target fails meanwhile, the answer says so, and it is
    /// opened again.
    pub(super) async fn answer(&mut self, ask: ProjectionRequest) -> Result<(), ProjectionTrouble> {
        let away = |trouble: &ProjectionTrouble| AskError::Away { detail: detail(trouble) };
        // The caller may be gone: what was asked is done all the same.
        match ask {
            ProjectionRequest::Retry { key, answer } => {
                let done = self.retry(key).await;
                let _ = answer.send(done.as_ref().map(Clone::clone).map_err(away));
                done.map(drop)
            }
            ProjectionRequest::Skip { position, by, answer } => match self.skip(position, by).await
            {
                Ok(skipped) => {
                    let _ = answer
                        .send(skipped.ok_or(AskError::NotParked { position: Some(position) }));
                    Ok(())
                }
                Err(trouble) => {
                    let _ = answer.send(Err(away(&trouble)));
                    Err(trouble)
                }
            },
            ProjectionRequest::SkipAll { positions, by, answer } => {
                let done = self.skip_all(&positions, &by).await;
                let _ = answer.send(done.as_ref().map(Clone::clone).map_err(away));
                done.map(drop)
            }
            ProjectionRequest::Taken { answer } => {
                let taken = match self.lanes.first_mut() {
                    Some(lane) => receipts::taken(&mut lane.session)
                        .await
                        .map_err(|error| self.ground.trouble(&error)),
                    None => Err(not_open()),
                };
                let (taken, told) = match taken {
                    Ok(taken) => (Ok(taken), Ok(())),
                    Err(trouble) => (Err(away(&trouble)), Err(trouble)),
                };
                let _ = answer.send(taken);
                match told {
                    // The rows are none the worse for it; the transaction is left open.
                    Err(ProjectionTrouble::Unreadable(why)) => Err(ProjectionTrouble::Lost(why)),
                    told => told,
                }
            }
        }
    }

    /// Tries the items of a key in order, each once, and then those that waited for them; up to the
    /// first that fails.
    async fn retry(&mut self, key: String) -> Result<Retried, ProjectionTrouble> {
        self.is_open()?;
        let mut done = Retried::default();
        let mut keys = VecDeque::from([key]);
        while let Some(key) = keys.pop_front() {
            while let Some(item) = self.first_of(&key) {
                if self.ground.desk.parked().has_unreadable_before(&item.stream, item.position) {
                    done.stopped_by.get_or_insert(item);
                    break;
                }
                match self.try_item(&item).await? {
                    ItemRetry::Applied => {
                        done.applied.push(item.position);
                        keys.extend(self.freed_by(&item));
                    }
                    ItemRetry::Moved => keys.extend(self.freed_by(&item)),
                    ItemRetry::Failed(item) => {
                        done.stopped_by = Some(*item);
                        break;
                    }
                }
            }
        }
        Ok(done)
    }

    /// Tries the items that could not be read when they came, and those that wait for them.
    pub(super) async fn retry_unreadable(&mut self) -> Result<(), ProjectionTrouble> {
        let keys: BTreeSet<String> = {
            let parked = self.ground.desk.parked();
            let unreadable =
                parked.items().filter(|item| matches!(item.state, ParkedState::Unreadable { .. }));
            unreadable.map(|item| item.key.clone()).collect()
        };
        for key in keys {
            self.retry(key).await?;
        }
        Ok(())
    }

    /// Lets one item go, records the person's name, and tries the rest of its key.
    async fn skip(
        &mut self,
        position: Position,
        by: String,
    ) -> Result<Option<Retried>, ProjectionTrouble> {
        if self.ground.desk.parked().find(position).is_none() {
            return Ok(None);
        }
        self.skip_all(&[position], &by).await.map(|skipped| Some(skipped.retried))
    }

    /// Lets items go, records the person's name, and tries the items that had waited for them.
    async fn skip_all(
        &mut self,
        positions: &[Position],
        by: &str,
    ) -> Result<Skipped, ProjectionTrouble> {
        self.is_open()?;
        let mut done = Skipped::default();
        let mut gone: Vec<Parked> = Vec::new();
        for some in positions.chunks(SKIPPED_AT_ONCE) {
            let found: Vec<Parked> = {
                let parked = self.ground.desk.parked();
                some.iter().filter_map(|position| parked.find(*position).cloned()).collect()
            };
            self.let_go(&found, by).await?;
            done.skipped.extend(found.iter().map(|item| item.position));
            gone.extend(found);
        }
        // Each key once, and those that only waited for what could not be read.
        let mut keys: Vec<String> = gone.iter().flat_map(|item| self.freed_by(item)).collect();
        keys.extend(gone.into_iter().map(|item| item.key));
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let more = self.retry(key).await?;
            done.retried.applied.extend(more.applied);
            done.retried.stopped_by = done.retried.stopped_by.or(more.stopped_by);
        }
        Ok(done)
    }

    /// Notes in one transaction that items are let go.
    async fn let_go(&mut self, items: &[Parked], by: &str) -> Result<(), ProjectionTrouble> {
        let at = self.ground.host.clock.now().to_string();
        let lane = self.lanes.first_mut().ok_or_else(not_open)?;
        lane.begin(&self.ground).await?;
        let noted = async {
            for item in items {
                let error = item.state.error().map(str::to_owned);
                let note = SkippedNote {
                    key: item.key.clone(),
                    error,
                    by: shortened_to(ERROR_BYTES_MAX, by.to_owned()),
                    at: at.clone(),
                };
                lane.session.note(&parked_key(&item.key, item.position), None).await?;
                lane.session
                    .note(&skipped_key(item.position), Some(&notes::encode(&note)?))
                    .await?;
            }
            Ok(())
        };
        noted.await.map_err(|error| self.ground.trouble(&error))?;
        let last = items.last().map_or(lane.position, |item| item.position);
        lane.commit_session(&self.ground, last).await.map_err(not_of_an_event)?;
        for Parked { position, key, .. } in items {
            tracing::warn!(projection = self.ground.desk.label, %position, key, by, "a parked event is skipped");
            self.ground.desk.change_parked(|set| set.remove(*position));
        }
        Ok(())
    }

    /// Returns an error if the runner stands by, or waits for the target: then it can do nothing.
    fn is_open(&self) -> Result<(), ProjectionTrouble> {
        match (self.lanes.is_empty(), &self.said) {
            (false, _) => Ok(()),
            (true, Some(said)) => Err(ProjectionTrouble::Away(format!("it waits for {said}"))),
            (true, None) => Err(not_open()),
        }
    }

    fn first_of(&self, key: &str) -> Option<Parked> {
        self.ground.desk.parked().first_of(key).cloned()
    }

    /// The keys that only waited for an item that could not be read.
    fn freed_by(&self, item: &Parked) -> Vec<String> {
        let parked = self.ground.desk.parked();
        if !matches!(item.state, ParkedState::Unreadable { .. })
            || parked.has_unreadable(&item.stream)
        {
            return Vec::new();
        }
        let mut keys = parked.keys_in(&item.stream);
        keys.retain(|key| {
            parked.first_of(key).is_some_and(|first| first.state == ParkedState::Waits)
        });
        keys
    }

    /// Reads the event again, so that today's code and upcasters see it, and applies it together
    /// with its release.
    async fn try_item(&mut self, item: &Parked) -> Result<ItemRetry, ProjectionTrouble> {
        if item.stream.starts_with('$') {
            // It stands for a record of the runtime, which is read at each start.
            return Ok(ItemRetry::Failed(Box::new(item.clone())));
        }
        let events = match read_again(&self.ground, item).await? {
            RereadEvent::Events(events) => events,
            RereadEvent::Unreadable(error) => {
                return self.fails(item, ParkedState::unreadable(&error)).await;
            }
        };
        // Today's code may give it another key, whose earlier events come first.
        let key = match key_of(&self.ground.projection, &events) {
            Some(Ok(key)) => key,
            Some(Err(error)) => return self.fails(item, ParkedState::unreadable(&error)).await,
            None => item.key.clone(),
        };
        let waits = key != item.key
            && self.first_of(&key).is_some_and(|first| first.position < item.position);
        if waits {
            let stream =
                events.first().map_or(String::new(), |event| stream_of(&event.envelope).to_owned());
            let moved = Parked { position: item.position, key, stream, state: ParkedState::Waits };
            self.replace(item, moved).await?;
            return Ok(ItemRetry::Moved);
        }
        // Its rows and its release are one transaction.
        let lane = self.lanes.first_mut().ok_or_else(not_open)?;
        lane.begin(&self.ground).await?;
        let tried = match lane.apply(&self.ground, &events).await {
            Ok(()) => {
                let removed = lane.session.note(&parked_key(&item.key, item.position), None).await;
                match removed.map_err(|error| self.ground.stop_by(&error)) {
                    Ok(()) => lane.commit_session(&self.ground, item.position).await,
                    stop => stop,
                }
            }
            stop => stop,
        };
        match tried {
            Ok(()) => {
                self.ground.desk.cleared(item.position);
                self.ground.desk.change_parked(|set| set.remove(item.position));
                if self.ground.desk.serves() && !events.is_empty() {
                    self.ground
                        .desk
                        .readers
                        .tell(ReaderNews::Change(Change { key, position: item.position }));
                }
                Ok(ItemRetry::Applied)
            }
            Err(TransactionStop::Trouble(trouble)) => Err(trouble),
            Err(TransactionStop::Event(error)) => {
                let before = match item.state {
                    ParkedState::Failed { attempts, .. } => attempts,
                    _ => 0,
                };
                if T::UNDOES {
                    lane.undo(&self.ground).await?;
                } else {
                    // What failed has written nothing: the transaction can end.
                    lane.session.commit().await.map_err(|error| self.ground.trouble(&error))?;
                }
                self.fails(item, ParkedState::failed(&error, before + 1)).await
            }
        }
    }

    /// Keeps the message of this failure.
    async fn fails(
        &mut self,
        item: &Parked,
        state: ParkedState,
    ) -> Result<ItemRetry, ProjectionTrouble> {
        let failed = Parked { state, ..item.clone() };
        self.replace(item, failed.clone()).await?;
        Ok(ItemRetry::Failed(Box::new(failed)))
    }

    /// Writes the note of an item again.
    async fn replace(&mut self, old: &Parked, new: Parked) -> Result<(), ProjectionTrouble> {
        let lane = self.lanes.first_mut().ok_or_else(not_open)?;
        lane.begin(&self.ground).await?;
        let key = parked_key(&old.key, old.position);
        lane.session.note(&key, None).await.map_err(|error| self.ground.trouble(&error))?;
        lane.note_parked(&self.ground, &new).await.map_err(not_of_an_event)?;
        lane.commit_session(&self.ground, old.position).await.map_err(not_of_an_event)?;
        self.ground.desk.change_parked(|set| {
            set.remove(old.position);
            set.insert(new);
        });
        Ok(())
    }
}

impl<T: Target, P: Projection<T>> LaneContext<T, P> {
    /// Returns as much as can be known of a parked item whose note cannot be read.
    pub(super) async fn known_from_log(
        &self,
        position: Position,
        error: &ProjectionError,
    ) -> Result<Parked, ProjectionTrouble> {
        let read = Read::matching(self.schema.query(), position).page_of(1);
        let page = self.host.store.page(read).await.map_err(ProjectionTrouble::Log)?;
        let event = page.events.into_iter().find(|event| event.position == position);
        let stream = event.as_ref().map_or("", stream_of).to_owned();
        let content = event.map(|event| decode(event, &self.schema));
        let key = match &content {
            Some(Content::One(event)) => key_of(&self.projection, std::slice::from_ref(event)),
            Some(Content::Several(_, events)) => key_of(&self.projection, events),
            Some(Content::Unreadable(..)) | None => None,
        };
        let (error, attempts) =
            (format!("it was parked, and its note could not be read: {error}"), 0);
        let (key, state) = match (key, content) {
            (Some(Ok(key)), _) => (key, ParkedState::failed(&error, attempts)),
            (_, Some(Content::Unreadable(..))) => (stream.clone(), ParkedState::unreadable(&error)),
            _ => (stream.clone(), ParkedState::failed(&error, attempts)),
        };
        Ok(Parked { position, key, stream, state })
    }
}

fn not_open() -> ProjectionTrouble {
    ProjectionTrouble::Away("it is not open".to_owned())
}

fn detail(trouble: &ProjectionTrouble) -> String {
    match trouble {
        ProjectionTrouble::Away(detail)
        | ProjectionTrouble::NotSetUp(detail)
        | ProjectionTrouble::Lost(detail)
        | ProjectionTrouble::Silent(detail)
        | ProjectionTrouble::InUse(detail)
        | ProjectionTrouble::StandsBy(detail, _)
        | ProjectionTrouble::Spoiled(detail)
        | ProjectionTrouble::Panicked(detail)
        | ProjectionTrouble::Unreadable(detail) => detail.clone(),
        ProjectionTrouble::Log(error) => error.to_string(),
        ProjectionTrouble::Foreign(error) => error.to_string(),
        ProjectionTrouble::Full(_) => "there are too many parked items".to_owned(),
        ProjectionTrouble::Stopped => "it has stopped".to_owned(),
    }
}

/// The event of an item, in today's shape.
enum RereadEvent<E> {
    /// It is none, one or several of today's.
    Events(Vec<Recorded<E>>),
    Unreadable(String),
}

/// Reads the event of an item from the log, in today's shape.
async fn read_again<T: Target, P: Projection<T>>(
    ground: &LaneContext<T, P>,
    item: &Parked,
) -> Result<RereadEvent<P::Event>, ProjectionTrouble> {
    let read = Read::matching(ground.schema.query(), item.position).page_of(1);
    let page = ground.host.store.page(read).await.map_err(ProjectionTrouble::Log)?;
    let event = page.events.into_iter().find(|event| event.position == item.position);
    Ok(match event.map(|event| decode(event, &ground.schema)) {
        // What no variant names any more does not concern the projection.
        None => RereadEvent::Events(Vec::new()),
        Some(Content::One(event)) => RereadEvent::Events(vec![event]),
        Some(Content::Several(_, events)) => RereadEvent::Events(events),
        Some(Content::Unreadable(_, error)) => RereadEvent::Unreadable(error),
    })
}
