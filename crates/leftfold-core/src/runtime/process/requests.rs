//! Requests of people about parked items, carried out by the runner.

use std::collections::VecDeque;

use super::batch::{BatchEntry, ReactionBatch};
use super::chain::Chain;
use super::correlation::Concern;
use super::handle::{ProcessRequest, RequestedAction};
use super::instance::{IncomingTrigger, Instance, InstanceReader};
use super::instances::{BatchAdmission, Instances, correlate, metadata};
use super::orders::command_id;
use super::parking::Parking;
use super::react::ReactionOrigin;
use super::record::{ProcessEvent, StoredCause};
use super::runner::ProcessRunner;
use super::step::ProcessTrouble;
use super::targets::{CommandOrder, CommandResult};
use super::whose::Whose;
use super::{Process, Trigger, panicked};
use crate::fold::{Cause, LoadError, Recorded};
use crate::runtime::consumer::lease::Right;
use crate::runtime::consumer::{AskError, shortened};
use crate::store::{Fence, Label, Metadata, Position};

/// Extent to which a person's request was carried out.
#[derive(Debug)]
pub(super) struct HandledRequest {
    /// Number of triggers and commands that are concluded with the batch.
    pub(super) done: usize,
    /// Reason to go no further; `None` if all is done, or there is more to do once the batch is
    /// recorded.
    pub(super) stops: Option<AskError>,
    /// True if there may be more to do.
    pub(super) goes_on: bool,
    /// True if the state in memory is to be read again: a record can be read now that could not be
    /// before.
    pub(super) reads_again: bool,
}

/// Recorded as the author when the runtime lets a trigger go that does not concern its instance any
/// more.
const RUNTIME: &str = "the runtime: it does not concern the instance any more";

/// Result of trying one parked trigger again.
enum RetryOutcome {
    /// It is concluded with these.
    Concluded(Vec<BatchEntry>),
    /// It is a record that can be read now: the state in memory was folded without it.
    Readable(Box<BatchEntry>),
    /// It fails again.
    Fails(String),
    /// The store fails.
    Store(String),
}

/// A parked trigger, as today's code reads it, the way it concerns its instance, and the metadata
/// of its reaction.
enum TodaysTrigger<P: Process> {
    Concerns(Box<(IncomingTrigger<P::Event>, Concern, Metadata)>),
    /// It does not concern the instance any more.
    ConcernsNot,
    /// Users' code panicked: the reason, for people.
    Panicked(String),
}

impl HandledRequest {
    fn goes_on(done: usize) -> Self {
        Self { done, stops: None, goes_on: true, reads_again: false }
    }

    fn ends(done: usize, stops: Option<AskError>) -> Self {
        Self { done, stops, goes_on: false, reads_again: false }
    }
}

impl<P: Process> ProcessRunner<P> {
    /// Carries out a person's request, and answers.
    pub(super) async fn answer(&mut self, asked: ProcessRequest) {
        let (what, answer) = asked.take();
        let answered = self.handle_request(what).await;
        // The caller may be gone; what was done stands.
        let _ = answer.send(answered);
    }

    async fn handle_request(&mut self, mut what: RequestedAction) -> Result<usize, AskError> {
        if let Right::StandsBy(why, _) | Right::Waits(why, _) = self.right().await {
            return Err(AskError::Store { detail: format!("this runtime waits for {why}") });
        }
        let mut all = 0;
        loop {
            let HandledRequest { done, stops, goes_on, reads_again } =
                self.handle_once(&mut what).await?;
            all += done;
            if reads_again {
                self.known = None;
            }
            match stops {
                Some(stops) if all == 0 => return Err(stops),
                None if !goes_on && all == 0 => return Err(AskError::NotParked { position: None }),
                None if goes_on => {}
                _ => return Ok(all),
            }
        }
    }

    /// As much of it as goes into one append.
    async fn handle_once(
        &mut self,
        what: &mut RequestedAction,
    ) -> Result<HandledRequest, AskError> {
        let not_done = |detail: String| AskError::Store { detail };
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.begin().await.map_err(|error| not_done(error.to_string()))?,
        };
        let (mut batch, fence) = (ReactionBatch::default(), self.fence());
        let done = match known.instances.handle_request(what, fence.as_ref(), &mut batch).await {
            Ok(done) => self.append(&mut known, batch, None, None).await.map(|()| done),
            Err(trouble) => Err(trouble),
        };
        match done {
            Ok(done) => {
                self.known = Some(known);
                Ok(done)
            }
            Err(trouble) => {
                let why = match &trouble {
                    ProcessTrouble::Begin(why) | ProcessTrouble::Store(why) => why.clone(),
                    ProcessTrouble::Full => Parking::full(),
                    ProcessTrouble::Fenced => "another runtime has the work".to_owned(),
                    ProcessTrouble::Closed => "the store is closed".to_owned(),
                };
                self.troubled(trouble);
                Err(not_done(why))
            }
        }
    }
}

impl<P: Process> Instances<P> {
    /// Carries out a person's request, as far as it goes into one append.
    pub(super) async fn handle_request(
        &mut self,
        what: &mut RequestedAction,
        fence: Option<&(Label, Fence)>,
        batch: &mut ReactionBatch,
    ) -> Result<HandledRequest, ProcessTrouble> {
        match what {
            RequestedAction::Retry(Whose::Instance(key)) => self.retry(key, fence, batch).await,
            RequestedAction::Retry(Whose::Stream(stream)) => self.retry_unread(stream, batch).await,
            RequestedAction::Skip { which, by } => self.skip(which, by, batch).await,
        }
    }

    async fn skip(
        &mut self,
        which: &mut VecDeque<(Whose, Position)>,
        by: &str,
        batch: &mut ReactionBatch,
    ) -> Result<HandledRequest, ProcessTrouble> {
        let mut done = 0;
        while batch.has_room() {
            let Some((whose, position)) = which.pop_front() else {
                return Ok(HandledRequest::ends(done, None));
            };
            let skipped = match &whose {
                Whose::Instance(key) => self.skip_of_instance(key, position, by).await?,
                Whose::Stream(stream) => self.skip_of_stream(stream, position, by)?,
            };
            let Some((entry, is_record)) = skipped else { continue };
            batch.take(vec![entry]);
            done += 1;
            if is_record && let Whose::Instance(key) = &whose {
                // Without it the instance is another one.
                self.forget(key);
                return Ok(HandledRequest::goes_on(done));
            }
        }
        Ok(HandledRequest::goes_on(done))
    }

    async fn skip_of_instance(
        &mut self,
        key: &str,
        position: Position,
        by: &str,
    ) -> Result<Option<(BatchEntry, bool)>, ProcessTrouble> {
        let instance = self.instance(key).await?;
        let parked = instance.parked.iter().find(|cause| cause.position() == position).cloned();
        let unread = || instance.unread.iter().any(|(unread, _)| *unread == position);
        let Some(cause) =
            parked.or_else(|| unread().then_some(StoredCause::Record { position: position.0 }))
        else {
            return Ok(None);
        };
        instance.let_go(&cause);
        let is_record = matches!(cause, StoredCause::Record { .. });
        let event = ProcessEvent::Skipped { cause, by: shortened(by.to_owned()) };
        Ok(Some((instance.entry(key, event, Vec::new(), &ReactionOrigin::none()), is_record)))
    }

    fn skip_of_stream(
        &mut self,
        stream: &str,
        position: Position,
        by: &str,
    ) -> Result<Option<(BatchEntry, bool)>, ProcessTrouble> {
        let causes = self.parking.unread.get_mut(stream).map(|unread| &mut unread.causes);
        let found = causes.and_then(|causes| {
            let at = causes.iter().position(|cause| cause.position() == position)?;
            causes.remove(at)
        });
        let Some(cause) = found else { return Ok(None) };
        let event = ProcessEvent::Skipped { cause, by: shortened(by.to_owned()) };
        Ok(Some((self.parking.unread_entry(P::NAME, stream, event, Metadata::default())?, false)))
    }

    async fn retry(
        &mut self,
        key: &str,
        fence: Option<&(Label, Fence)>,
        batch: &mut ReactionBatch,
    ) -> Result<HandledRequest, ProcessTrouble> {
        // Read again: what it failed at may be fixed.
        self.forget(key);
        let mut done = 0;
        while batch.has_room() {
            let Some(cause) = self.instance(key).await?.parked.front().cloned() else {
                return Ok(HandledRequest::ends(done, None));
            };
            let retried = match &cause {
                StoredCause::Record { .. } => self.retry_record(key, &cause).await?,
                StoredCause::Command { .. } => self.retry_command(key, &cause, fence).await?,
                _ => self.retry_trigger(key, &cause).await?,
            };
            match retried {
                RetryOutcome::Concluded(entries) => batch.take(entries),
                RetryOutcome::Readable(entry) => {
                    batch.take(vec![*entry]);
                    return Ok(HandledRequest {
                        reads_again: true,
                        ..HandledRequest::goes_on(done + 1)
                    });
                }
                RetryOutcome::Fails(why) => {
                    self.forget(key);
                    return Ok(HandledRequest::ends(
                        done,
                        Some(AskError::FailsAgain { position: cause.position(), why }),
                    ));
                }
                RetryOutcome::Store(detail) => {
                    self.forget(key);
                    return Ok(HandledRequest::ends(done, Some(AskError::Store { detail })));
                }
            }
            done += 1;
        }
        Ok(HandledRequest::goes_on(done))
    }

    async fn retry_record(
        &mut self,
        key: &str,
        cause: &StoredCause,
    ) -> Result<RetryOutcome, ProcessTrouble> {
        if let Some(why) = self.archive.unreadable(cause.position()).await? {
            return Ok(RetryOutcome::Fails(why));
        }
        let instance = self.instance(key).await?;
        instance.unpark(cause);
        Ok(RetryOutcome::Readable(Box::new(unparked(instance, key, cause))))
    }

    /// Carries a parked command out, under the id that it has always had: if it was carried out and
    /// that is not recorded, it changes nothing again.
    async fn retry_command(
        &mut self,
        key: &str,
        cause: &StoredCause,
        fence: Option<&(Label, Fence)>,
    ) -> Result<RetryOutcome, ProcessTrouble> {
        let fails = |why: &str| Ok(RetryOutcome::Fails(why.to_owned()));
        let StoredCause::Command { position, index, .. } = cause else {
            return fails("it is not a command");
        };
        let reaction = Position(*position);
        let record = self.archive.event_at(reaction).await?;
        let reacted = match record.as_ref().map(|record| self.archive.own(record)) {
            Some(Ok(ProcessEvent::Reacted(reacted))) => reacted,
            Some(Err(why)) => return Ok(RetryOutcome::Fails(why.to_string())),
            Some(Ok(_)) | None => return fails("the reaction that issued it is not in the store"),
        };
        let (Some(record), Some(command)) = (record, reacted.commands.get(*index as usize)) else {
            return fails("its reaction has no such command");
        };
        let targets = self.targets().clone();
        let id = command_id(P::NAME, key, record.version(), *index);
        let order = (&self.archive.store.clone(), fence);
        let order = CommandOrder::new(P::NAME, reaction, (command, id), &record.metadata, order);
        let order = order.map_err(|invalid| ProcessTrouble::Store(invalid.to_string()))?;
        match targets.carry(&command.to, order).await {
            CommandResult::Done => {
                let instance = self.instance(key).await?;
                instance.unpark(cause);
                Ok(RetryOutcome::Concluded(vec![unparked(instance, key, cause)]))
            }
            // The instance reacts to the refusal, as to one that came at the first try.
            CommandResult::Refused { refusal, reason } => {
                let refused = StoredCause::Refused {
                    position: *position,
                    index: *index,
                    to: command.to.clone(),
                    id: command.id.clone(),
                    command: command.command.clone(),
                    refusal: Some(refusal),
                    reason: shortened(reason),
                };
                let Some(heard) = IncomingTrigger::refused(key, &refused, record.recorded_at)
                else {
                    return fails("it is not a refusal");
                };
                let instance = self.instance(key).await?;
                instance.unpark(cause);
                let chain = Chain::of(&reacted).caused();
                let origin = ReactionOrigin { metadata: record.metadata.clone(), chain };
                Ok(match instance.react(key, &heard, Concern::Own, &origin, &targets) {
                    Ok(reacted) => {
                        let behind = instance.parked.len();
                        let mut entries: Vec<BatchEntry> =
                            reacted.map(|entry| entry.with_behind(behind)).into_iter().collect();
                        entries.push(unparked(instance, key, cause));
                        RetryOutcome::Concluded(entries)
                    }
                    Err(why) => RetryOutcome::Fails(format!(
                        "it is refused, and that cannot be reacted to: {why}"
                    )),
                })
            }
            CommandResult::Stuck(why) => Ok(RetryOutcome::Fails(why)),
            CommandResult::Failed(why) => Ok(RetryOutcome::Store(why)),
            CommandResult::Fenced => Err(ProcessTrouble::Fenced),
        }
    }

    async fn retry_trigger(
        &mut self,
        key: &str,
        cause: &StoredCause,
    ) -> Result<RetryOutcome, ProcessTrouble> {
        let targets = self.targets().clone();
        let archive = self.archive.clone();
        let broken = self.instance(key).await?.state.as_ref().err().cloned();
        let parked = archive.parked::<P>(key, cause).await;
        let instance = self.instance(key).await?;
        instance.unpark(cause);
        let reacted = match (broken, parked) {
            (Some(why), _) => Err(why),
            (None, Err(LoadError::Read(error))) => return Err(error.into()),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok(TodaysTrigger::Panicked(why))) => Err(why),
            (None, Ok(TodaysTrigger::ConcernsNot)) => Ok(None),
            (None, Ok(TodaysTrigger::Concerns(read))) => {
                let (heard, concern, metadata) = *read;
                let origin = ReactionOrigin { metadata, chain: Chain::default() };
                if instance.is_due(cause) {
                    instance.react(key, &heard, concern, &origin, &targets)
                } else {
                    Ok(None)
                }
            }
        };
        Ok(match reacted {
            Ok(Some(entry)) => {
                let entry = entry.with_behind(instance.parked.len());
                RetryOutcome::Concluded(vec![entry, unparked(instance, key, cause)])
            }
            Ok(None) => {
                instance.let_go(cause);
                let skipped =
                    ProcessEvent::Skipped { cause: cause.clone(), by: RUNTIME.to_owned() };
                RetryOutcome::Concluded(vec![instance.entry(
                    key,
                    skipped,
                    Vec::new(),
                    &ReactionOrigin::none(),
                )])
            }
            Err(why) => RetryOutcome::Fails(why),
        })
    }

    /// Retries the triggers parked for a stream, in order, up to the first event that still cannot
    /// be read.
    async fn retry_unread(
        &mut self,
        stream: &str,
        batch: &mut ReactionBatch,
    ) -> Result<HandledRequest, ProcessTrouble> {
        let mut done = 0;
        while batch.has_room() {
            let Some(cause) =
                self.parking.unread.get(stream).and_then(|unread| unread.causes.front().cloned())
            else {
                return Ok(HandledRequest::ends(done, None));
            };
            let position = cause.position();
            let fails =
                |why| Ok(HandledRequest::ends(done, Some(AskError::FailsAgain { position, why })));
            if let StoredCause::Record { .. } = &cause {
                if let Some(why) = self.archive.unreadable(position).await? {
                    return fails(why);
                }
                batch.take(vec![self.unpark_entry(stream, cause)?]);
                return Ok(HandledRequest {
                    reads_again: true,
                    ..HandledRequest::goes_on(done + 1)
                });
            }
            let Some(event) = self.archive.event_at(position).await? else {
                return fails("it is not in the store".to_owned());
            };
            if let Err(why) = self.try_read(&event) {
                return fails(why);
            }
            // While it is heard, nothing is parked before it.
            let mut waiting = self
                .parking
                .unread
                .get_mut(stream)
                .map(|unread| std::mem::take(&mut unread.causes))
                .unwrap_or_default();
            let heard = self.hear(&event, batch).await?;
            if heard == BatchAdmission::Taken {
                waiting.pop_front();
            }
            self.parking.unread.entry(stream.to_owned()).or_default().causes = waiting;
            match heard {
                BatchAdmission::Taken => {}
                // What is in the batch is to be recorded first.
                BatchAdmission::Again | BatchAdmission::Full if !batch.is_empty() => {
                    return Ok(HandledRequest::goes_on(done));
                }
                BatchAdmission::Again | BatchAdmission::Full => {
                    return Ok(HandledRequest::ends(
                        done,
                        Some(AskError::Store { detail: Parking::full() }),
                    ));
                }
            }
            batch.take(vec![self.unpark_entry(stream, cause)?]);
            done += 1;
        }
        Ok(HandledRequest::goes_on(done))
    }

    /// Returns the record that an event of a stream is no longer parked.
    fn unpark_entry(
        &mut self,
        stream: &str,
        cause: StoredCause,
    ) -> Result<BatchEntry, ProcessTrouble> {
        let event = ProcessEvent::Unparked { cause };
        self.parking.unread_entry(P::NAME, stream, event, Metadata::default())
    }
}

impl InstanceReader {
    /// Returns the reason why a record of the process's own cannot be read; `None` if it can.
    async fn unreadable(&self, position: Position) -> Result<Option<String>, ProcessTrouble> {
        let Some(record) = self.event_at(position).await? else {
            return Ok(Some("it is not in the store".to_owned()));
        };
        Ok(self.own(&record).err().map(|why| why.to_string()))
    }

    /// Returns a parked trigger as read by today's code, and the way it concerns the instance.
    async fn parked<P: Process>(
        &self,
        key: &str,
        cause: &StoredCause,
    ) -> Result<TodaysTrigger<P>, LoadError> {
        let Some(heard) = self.heard::<P>(key, cause).await? else {
            return Ok(TodaysTrigger::ConcernsNot);
        };
        let StoredCause::Event { position, .. } = cause else {
            return Ok(TodaysTrigger::Concerns(Box::new((
                heard,
                Concern::Own,
                Metadata::default(),
            ))));
        };
        let (Some(envelope), Trigger::Event(event)) =
            (self.event_at(Position(*position)).await?, &heard.trigger)
        else {
            return Ok(TodaysTrigger::ConcernsNot);
        };
        let metadata = metadata(&Cause::from(&envelope));
        let recorded = Recorded { event: event.clone(), envelope };
        let concerned = match correlate::<P>(&recorded) {
            Ok(correlation) => correlation.concerned,
            Err(panic) => {
                return Ok(TodaysTrigger::Panicked(panicked::<P>("correlate", &panic)));
            }
        };
        Ok(match concerned.into_iter().find(|(known, _)| known == key) {
            Some((_, concern)) => TodaysTrigger::Concerns(Box::new((heard, concern, metadata))),
            None => TodaysTrigger::ConcernsNot,
        })
    }
}

/// Returns the line which says that what was parked for an instance has gone on.
fn unparked<P: Process>(instance: &mut Instance<P>, key: &str, cause: &StoredCause) -> BatchEntry {
    let event = ProcessEvent::Unparked { cause: cause.clone() };
    instance.entry(key, event, Vec::new(), &ReactionOrigin::none())
}
