//! What people see of processes, and what they say of triggers that are parked.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::correlation::Concern;
use super::instance::{Archive, category};
use super::instances::{Instances, Origin};
use super::record::{Parked, ProcessEvent, Reacted, StoredCause};
use super::runner::Trouble;
use super::{Process, Refused};
use crate::fold::{LoadError, Schema};
use crate::store::{Metadata, Position, Query, Read, Store, StreamName, Timestamp, Version};

/// A request of a person to a runner.
pub(crate) struct Asked {
    pub(super) what: What,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// How many triggers were concluded, or why none was.
type Answer = Result<usize, AskError>;

/// What a person wants.
#[derive(Clone, Debug)]
pub(super) enum What {
    Retry(Whose),
    Skip { whose: Whose, position: Position, by: String },
}

/// For whom triggers are parked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// An instance of the process, by its key.
    Instance(String),
    /// A stream, by its name, with an event that cannot be read; empty for events in no stream.
    Stream(String),
}

/// A trigger that waits for a person, or behind one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedTrigger {
    /// For whom.
    pub whose: Whose,
    /// The event; of a timer or a refusal, the reaction that set the timer or issued the command.
    pub position: Position,
    /// Why; none where it only waits behind another one.
    pub error: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// How one instance stands, read from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceStatus {
    /// Its key.
    pub key: String,
    /// Whether it was started and has not ended.
    pub is_open: bool,
    /// How many triggers it reacted to.
    pub reactions: u64,
    /// The timers that are set, and when they are due.
    pub timers: BTreeMap<String, Timestamp>,
    /// The commands that were refused, the oldest first, at most the last 100.
    pub refused: Vec<Refused>,
    /// When it reacted last.
    pub last: Option<Timestamp>,
}

/// Why nothing could be done about what is parked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No process of this runtime has the name.
    #[error("no process of this runtime is named {name}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Nothing is parked there.
    #[error("nothing is parked there, list what is")]
    NotParked,
    /// It fails again.
    #[error("it fails again at {position}, mend that or skip it: {why}")]
    FailsAgain {
        /// Where.
        position: Position,
        /// Why.
        why: String,
    },
    /// The store failed, or the runtime has stopped.
    #[error("it could not be done: {detail}")]
    Store {
        /// What went wrong.
        detail: String,
    },
}

impl Asked {
    pub(super) fn take(self) -> (What, oneshot::Sender<Answer>) {
        (self.what, self.answer)
    }

    pub(super) fn refuse(self, why: &str) {
        // Whoever asked may be gone.
        let _ = self.answer.send(Err(AskError::Store { detail: why.to_owned() }));
    }
}

/// All processes of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Processes {
    pub(crate) store: Store,
    pub(crate) asked: BTreeMap<&'static str, mpsc::Sender<Asked>>,
}

/// Refusals that a status shows.
const REFUSED_MAX: usize = 100;

impl Processes {
    /// How an instance stands; none where it never began.
    pub async fn find(&self, process: &str, key: &str) -> Result<Option<InstanceStatus>, LoadError> {
        let stream = StreamName::of(&category(process), key)?;
        let schema = Schema::of::<ProcessEvent>()?;
        let mut status = InstanceStatus {
            key: key.to_owned(),
            is_open: false,
            reactions: 0,
            timers: BTreeMap::new(),
            refused: Vec::new(),
            last: None,
        };
        let mut events = self.store.read(Read::stream(stream, Version(1)));
        let mut known = false;
        while let Some(event) = events.next().await? {
            known = true;
            for own in schema.decode::<ProcessEvent>(&event, crate::fold::Unknown::Refuse)? {
                if let ProcessEvent::Reacted(reacted) = own {
                    status.take(reacted);
                    status.last = Some(event.recorded_at);
                }
            }
        }
        Ok(known.then_some(status))
    }

    /// What is parked in a process, by whom it is parked for, in order.
    pub async fn parked(&self, process: &str) -> Result<Vec<ParkedTrigger>, LoadError> {
        let schema = Schema::of::<ProcessEvent>()?;
        let unread = super::instances::unread_category(process);
        let streams = Query::category(category(process)).or(Query::category(unread.clone()));
        let mut parked: Vec<(ParkedTrigger, StoredCause)> = Vec::new();
        let mut events = self.store.read(Read::matching(streams, Position(1)));
        while let Some(event) = events.next().await? {
            let Some(at) = &event.stream else { continue };
            let id = at.name.id().to_owned();
            let whose = if at.name.category() == unread { Whose::Stream(id) } else { Whose::Instance(id) };
            for own in schema.decode::<ProcessEvent>(&event, crate::fold::Unknown::Refuse)? {
                match own {
                    ProcessEvent::Parked(Parked { cause, error, .. }) => {
                        let (whose, position, since) = (whose.clone(), cause.position(), event.recorded_at);
                        parked.push((ParkedTrigger { whose, position, error, since }, cause));
                    }
                    ProcessEvent::Reacted(Reacted { cause, .. })
                    | ProcessEvent::Skipped { cause, .. }
                    | ProcessEvent::Unparked { cause } => {
                        parked.retain(|(trigger, waiting)| trigger.whose != whose || *waiting != cause);
                    }
                }
            }
        }
        let mut parked: Vec<_> = parked.into_iter().map(|(trigger, _)| trigger).collect();
        parked.sort_by(|a, b| a.whose.cmp(&b.whose));
        Ok(parked)
    }

    /// Lets what is parked be reacted to, in order, as of today's code; up to the first that fails again. How many were.
    pub async fn retry(&self, process: &str, whose: &Whose) -> Result<usize, AskError> {
        self.ask(process, What::Retry(whose.clone())).await
    }

    /// Lets one trigger go without a reaction, and remembers who said so. What waits behind it waits on until it is
    /// [retried](Processes::retry).
    pub async fn skip(&self, process: &str, whose: &Whose, position: Position, by: &str) -> Result<usize, AskError> {
        self.ask(process, What::Skip { whose: whose.clone(), position, by: by.to_owned() }).await
    }

    async fn ask(&self, process: &str, what: What) -> Result<usize, AskError> {
        let asks = self.asked.get(process).ok_or_else(|| AskError::Unknown { name: process.to_owned() })?;
        let (answer, answered) = oneshot::channel();
        let stopped = || AskError::Store { detail: "the runtime has stopped".to_owned() };
        asks.send(Asked { what, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl InstanceStatus {
    fn take(&mut self, reacted: Reacted) {
        self.reactions += 1;
        if reacted.starts {
            self.timers.clear();
            self.is_open = true;
        }
        match &reacted.cause {
            StoredCause::Timer { name, .. } => _ = self.timers.remove(name),
            cause @ StoredCause::Refused { .. } => {
                self.refused.extend(Refused::stored(cause));
                let surplus = self.refused.len().saturating_sub(REFUSED_MAX);
                self.refused.drain(..surplus);
            }
            StoredCause::Event { .. } => {}
        }
        for name in &reacted.cancelled {
            self.timers.remove(name);
        }
        self.timers.extend(reacted.timers.into_iter().map(|timer| (timer.name, timer.due)));
        if reacted.ends {
            self.timers.clear();
            self.is_open = false;
        }
    }
}

/// Who lets a trigger go that does not concern its instance any more.
const RUNTIME: &str = "the runtime: it does not concern the instance any more";

impl<P: Process> Instances<P> {
    /// Does what a person wants, as far as it goes; the rest is in the answer.
    pub(super) async fn heed(&mut self, what: What, batch: &mut Batch) -> Result<Answer, Trouble> {
        match what {
            What::Retry(Whose::Instance(key)) => self.retry(&key, batch).await,
            What::Retry(Whose::Stream(stream)) => self.retry_unread(&stream, batch).await,
            What::Skip { whose: Whose::Instance(key), position, by } => {
                let instance = self.instance(&key).await?;
                let Some(cause) = instance.parked.iter().find(|cause| cause.position() == position).cloned() else {
                    return Ok(Err(AskError::NotParked));
                };
                instance.unpark(&cause);
                let entry = instance.entry(&key, ProcessEvent::Skipped { cause, by }, Vec::new(), &Origin::person());
                batch.take(vec![entry]);
                Ok(Ok(1))
            }
            What::Skip { whose: Whose::Stream(stream), position, by } => {
                let causes = self.unread.get_mut(&stream).map(|unread| &mut unread.causes);
                let found = causes.and_then(|causes| {
                    let at = causes.iter().position(|cause| cause.position() == position)?;
                    causes.remove(at)
                });
                let Some(cause) = found else { return Ok(Err(AskError::NotParked)) };
                batch.take(vec![self.unread_entry(&stream, ProcessEvent::Skipped { cause, by }, Metadata::default())?]);
                Ok(Ok(1))
            }
        }
    }

    async fn retry(&mut self, key: &str, batch: &mut Batch) -> Result<Answer, Trouble> {
        // Read anew: what it failed at may be mended.
        self.forget(key);
        let targets = self.targets().clone();
        let archive = self.archive.clone();
        let mut done = 0;
        while batch.has_room() {
            let instance = self.instance(key).await?;
            let Some(cause) = instance.parked.front().cloned() else { break };
            let again = |why: String| AskError::FailsAgain { position: cause.position(), why };
            if let Some(why) = instance.broken.clone() {
                return Ok(Err(again(why)));
            }
            let heard = match archive.concern::<P>(key, &cause).await {
                Ok(heard) => heard,
                Err(LoadError::Read(error)) => return Err(error.into()),
                Err(error) => return Ok(Err(again(error.to_string()))),
            };
            let reacted = match &heard {
                Some((heard, concern, metadata)) => {
                    let origin = Origin { metadata: metadata.clone(), depth: 0 };
                    instance.react(key, heard, *concern, &origin, &targets)
                }
                None => Ok(None),
            };
            let entry = match reacted {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    let skipped = ProcessEvent::Skipped { cause: cause.clone(), by: RUNTIME.to_owned() };
                    instance.entry(key, skipped, Vec::new(), &Origin::person())
                }
                Err(why) => {
                    self.forget(key);
                    return Ok(if done > 0 { Ok(done) } else { Err(again(why)) });
                }
            };
            instance.unpark(&cause);
            batch.take(vec![entry]);
            done += 1;
        }
        Ok(if done > 0 { Ok(done) } else { Err(AskError::NotParked) })
    }

    /// The first of a stream that can be read again now; those behind it are let go with it, one request each.
    async fn retry_unread(&mut self, stream: &str, batch: &mut Batch) -> Result<Answer, Trouble> {
        let Some(cause) = self.unread.get(stream).and_then(|unread| unread.causes.front().cloned()) else {
            return Ok(Err(AskError::NotParked));
        };
        let Some(event) = self.archive.event_at(cause.position()).await? else {
            return Ok(Err(AskError::FailsAgain { position: cause.position(), why: "it is not in the store".to_owned() }));
        };
        let waiting = self.unread.get_mut(stream).map(|unread| std::mem::take(&mut unread.causes));
        let mut waiting = waiting.unwrap_or_default();
        if let Err(why) = self.try_read(&event) {
            self.unread.entry(stream.to_owned()).or_default().causes = waiting;
            return Ok(Err(AskError::FailsAgain { position: cause.position(), why }));
        }
        // The batch is empty, so that it is heard whatever happens.
        self.hear(&event, batch).await?;
        waiting.pop_front();
        self.unread.entry(stream.to_owned()).or_default().causes = waiting;
        batch.take(vec![self.unread_entry(stream, ProcessEvent::Unparked { cause }, Metadata::default())?]);
        Ok(Ok(1))
    }
}

impl Origin {
    /// A person's word.
    fn person() -> Self {
        Self { metadata: Metadata::default(), depth: 0 }
    }
}

impl Archive {
    /// What was parked, as of today's code, and how it concerns the instance; none where it does not any more.
    async fn concern<P: Process>(
        &self,
        key: &str,
        cause: &StoredCause,
    ) -> Result<Option<(super::instance::Heard<P::Event>, Concern, Metadata)>, LoadError> {
        let Some(heard) = self.heard::<P>(key, cause).await? else { return Ok(None) };
        let StoredCause::Event { position, .. } = cause else { return Ok(Some((heard, Concern::Own, Metadata::default()))) };
        let (Some(envelope), super::Trigger::Event(event)) = (self.event_at(Position(*position)).await?, &heard.trigger) else {
            return Ok(None);
        };
        let metadata = super::instances::metadata(&crate::fold::Cause::from(&envelope));
        let recorded = crate::fold::Recorded { event: event.clone(), envelope };
        let correlation = super::instances::correlate::<P>(&recorded);
        let concern = correlation.ok().and_then(|found| found.concerned.into_iter().find(|(known, _)| known == key));
        Ok(concern.map(|(_, concern)| (heard, concern, metadata)))
    }
}
