//! What people see of processes, and what they say of triggers that are parked.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::correlation::Concern;
use super::instance::{Archive, category};
use super::instances::{Hearing, Instances, Origin};
use super::record::{Parked, ProcessEvent, Reacted, StoredCause};
use super::step::Trouble;
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

/// Some of the instances of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<InstanceStatus>,
    /// Where to go on; none at the end.
    pub next: Option<Position>,
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
}

/// All processes of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Processes {
    pub(crate) store: Store,
    pub(crate) asked: BTreeMap<&'static str, mpsc::Sender<Asked>>,
}

/// Instances in one page.
const INSTANCES_PER_PAGE_MAX: usize = 1_000;
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

    /// The processes of this runtime.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.asked.keys().copied().collect()
    }

    /// The instances of a process in the order in which they first began, from the first that began after a position, at
    /// most so many and at most 1,000.
    pub async fn instances(&self, process: &str, after: Position, at_most: usize) -> Result<InstancePage, LoadError> {
        let at_most = at_most.clamp(1, INSTANCES_PER_PAGE_MAX);
        let mut page = InstancePage { instances: Vec::new(), next: None };
        let mut events = self.store.read(Read::matching(Query::category(category(process)), after.next()));
        while let Some(event) = events.next().await? {
            let Some(at) = event.stream.as_ref().filter(|at| at.version == Version(1)) else { continue };
            page.instances.extend(self.find(process, at.name.id()).await?);
            if page.instances.len() >= at_most {
                page.next = Some(event.position);
                break;
            }
        }
        Ok(page)
    }

    /// What is parked in a process, by whom it is parked for, in order.
    pub async fn parked(&self, process: &str) -> Result<Vec<ParkedTrigger>, LoadError> {
        let schema = Schema::of::<ProcessEvent>()?;
        let unread = super::instances::unread_category(process);
        let about_parking = super::instances::about_parking(process)?;
        let mut parked: Vec<(ParkedTrigger, StoredCause)> = Vec::new();
        let mut events = self.store.read(Read::matching(about_parking, Position(1)));
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
                    ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => {
                        parked.retain(|(trigger, waiting)| trigger.whose != whose || *waiting != cause);
                    }
                    ProcessEvent::Reacted(_) => {}
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
                instance.let_go(&cause);
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
            let reacted = match (instance.broken.clone(), archive.concern::<P>(key, &cause).await) {
                (Some(why), _) => Err(why),
                (None, Err(LoadError::Read(error))) => return Err(error.into()),
                (None, Err(error)) => Err(error.to_string()),
                (None, Ok(Err(panic))) => Err(panic),
                (None, Ok(Ok(None))) => Ok(None),
                (None, Ok(Ok(Some((heard, concern, metadata))))) => {
                    instance.unpark(&cause);
                    let is_due = instance.is_due(&cause);
                    let origin = Origin { metadata, depth: 0 };
                    if is_due { instance.react(key, &heard, concern, &origin, &targets) } else { Ok(None) }
                }
            };
            instance.unpark(&cause);
            let entries = match reacted {
                Ok(Some(entry)) => {
                    let entry = entry.with_behind(instance.parked.len());
                    let unparked = ProcessEvent::Unparked { cause };
                    vec![entry, instance.entry(key, unparked, Vec::new(), &Origin::person())]
                }
                Ok(None) => {
                    instance.let_go(&cause);
                    let skipped = ProcessEvent::Skipped { cause, by: RUNTIME.to_owned() };
                    vec![instance.entry(key, skipped, Vec::new(), &Origin::person())]
                }
                Err(why) => {
                    self.forget(key);
                    let again = AskError::FailsAgain { position: cause.position(), why };
                    return Ok(if done > 0 { Ok(done) } else { Err(again) });
                }
            };
            batch.take(entries);
            done += 1;
        }
        Ok(if done > 0 { Ok(done) } else { Err(AskError::NotParked) })
    }

    /// What is parked for a stream, in order, up to the first event that still cannot be read.
    async fn retry_unread(&mut self, stream: &str, batch: &mut Batch) -> Result<Answer, Trouble> {
        let mut done = 0;
        while batch.has_room() {
            let Some(cause) = self.unread.get(stream).and_then(|unread| unread.causes.front().cloned()) else { break };
            let event = self.archive.event_at(cause.position()).await?;
            let readable = match &event {
                Some(event) => self.try_read(event),
                None => Err("it is not in the store".to_owned()),
            };
            let event = match (event, readable) {
                (Some(event), Ok(())) => event,
                (_, readable) => {
                    let why = readable.err().unwrap_or_default();
                    let again = AskError::FailsAgain { position: cause.position(), why };
                    return Ok(if done > 0 { Ok(done) } else { Err(again) });
                }
            };
            // While it is heard, nothing is parked before it.
            let mut waiting = self.unread.get_mut(stream).map(|unread| std::mem::take(&mut unread.causes)).unwrap_or_default();
            let heard = self.hear(&event, batch).await?;
            if heard == Hearing::Taken {
                waiting.pop_front();
            }
            self.unread.entry(stream.to_owned()).or_default().causes = waiting;
            if heard != Hearing::Taken {
                // With nothing else in the batch only that can be.
                let full = AskError::Store { detail: Self::full() };
                return Ok(if done > 0 { Ok(done) } else { Err(full) });
            }
            batch.take(vec![self.unread_entry(stream, ProcessEvent::Unparked { cause }, Metadata::default())?]);
            done += 1;
        }
        Ok(if done > 0 { Ok(done) } else { Err(AskError::NotParked) })
    }
}

impl Origin {
    /// A person's word.
    fn person() -> Self {
        Self { metadata: Metadata::default(), depth: 0 }
    }
}

impl Archive {
    /// What was parked, as of today's code, and how it concerns the instance; none where it does not any more. The inner
    /// error is what users' code panicked with.
    async fn concern<P: Process>(&self, key: &str, cause: &StoredCause) -> Result<Result<Option<Retried<P>>, String>, LoadError> {
        let Some(heard) = self.heard::<P>(key, cause).await? else { return Ok(Ok(None)) };
        let StoredCause::Event { position, .. } = cause else {
            return Ok(Ok(Some((heard, Concern::Own, Metadata::default()))));
        };
        let (Some(envelope), super::Trigger::Event(event)) = (self.event_at(Position(*position)).await?, &heard.trigger) else {
            return Ok(Ok(None));
        };
        let metadata = super::instances::metadata(&crate::fold::Cause::from(&envelope));
        let recorded = crate::fold::Recorded { event: event.clone(), envelope };
        let concerned = match super::instances::correlate::<P>(&recorded) {
            Ok(correlation) => correlation.concerned,
            Err(panic) => return Ok(Err(format!("correlate panicked: {panic}"))),
        };
        let concern = concerned.into_iter().find(|(known, _)| known == key);
        Ok(Ok(concern.map(|(_, concern)| (heard, concern, metadata))))
    }
}

/// A parked trigger as it is heard, how it concerns its instance, and what its reaction says of where it comes from.
type Retried<P> = (super::instance::Heard<<P as Process>::Event>, Concern, Metadata);
