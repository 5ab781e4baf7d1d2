//! One instance of a process: the fold of its own stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::correlation::Concern;
use super::record::{ParkedRecord, ProcessEvent, ReactionRecord, StoredCause};
use super::trust::InstanceTrust;
use super::{Context, Process, Refused, Trigger, panicked};
use crate::fold::{EventError, LoadError, Purpose, Recorded, Schema, Unknown};
use crate::runtime::consumer::{message, shortened};
use crate::store::{
    Invalid, Label, Position, Query, Read, RecordedEvent, Store, StreamName, Timestamp, Version,
};

/// One instance, as its stream tells it.
#[derive(Debug)]
pub(super) struct Instance<P> {
    pub(super) stream: StreamName,
    pub(super) version: Version,
    /// Its state, or the reason why that cannot be folded: then every trigger that concerns it is
    /// parked.
    pub(super) state: Result<P, String>,
    pub(super) life: Lifecycle,
    /// The reaction that its present life began with; [`Position::END`] while that is not recorded
    /// yet.
    pub(super) began: Position,
    /// Its last record.
    pub(super) last: Position,
    /// Version up to which a snapshot has it.
    pub(super) snapshot_version: Version,
    /// The timers that are set.
    pub(super) timers: BTreeMap<String, PendingTimer>,
    /// Triggers that wait for a person, in order.
    pub(super) parked: VecDeque<StoredCause>,
    /// Records of its own that cannot be read and are not parked yet, and why.
    pub(super) unread: Vec<(Position, String)>,
    /// The conversation that it takes part in.
    pub(super) correlation: Option<Label>,
}

/// A timer that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingTimer {
    pub(super) due: Timestamp,
    /// The reaction that set it.
    pub(super) at: Position,
    /// True if it was due when it was set.
    pub(super) at_once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// It never began.
    Absent,
    Open,
    Ended,
}

/// Trigger that an instance is to react to.
#[derive(Clone, Debug)]
pub(super) struct IncomingTrigger<E> {
    pub(super) cause: StoredCause,
    pub(super) trigger: Trigger<E>,
    pub(super) context: Context,
}

/// The category of a process's instances.
pub(super) fn category(process: &str) -> String {
    format!("$process:{process}")
}

/// The consumer that a process is to the store: the name of its checkpoint and of its lease.
pub(in crate::runtime) fn consumer(process: &str) -> Result<Label, Invalid> {
    Label::new(category(process))
}

/// Reads instances, and what they reacted to, from the store.
#[derive(Clone, Debug)]
pub(super) struct InstanceReader {
    pub(super) store: Store,
    /// Schema of the events that the process reads.
    pub(super) schema: Arc<Schema>,
    /// Schema of its own records.
    pub(super) own: Arc<Schema>,
    pub(super) trust: Arc<InstanceTrust>,
}

impl InstanceReader {
    pub(super) fn new<P: Process>(store: Store) -> Result<Self, EventError> {
        let trust = store.attached(InstanceTrust::default);
        let (schema, own) =
            (store.schema::<P::Event>(Purpose::Reading)?, Schema::of::<ProcessEvent>()?);
        Ok(Self { store, schema, own, trust })
    }

    /// Loads an instance, from a snapshot if there is one.
    pub(super) async fn load<P: Process>(&self, key: &str) -> Result<Instance<P>, LoadError> {
        let start = self.snapshotted::<P>(key, &StreamName::of(&category(P::NAME), key)?).await?;
        self.fold(key, start, Version::END).await
    }

    /// An instance, folded from its stream since its present life began, or from a snapshot: before
    /// that, nothing is left of it.
    pub(super) async fn fold<P: Process>(
        &self,
        key: &str,
        start: Option<Instance<P>>,
        through: Version,
    ) -> Result<Instance<P>, LoadError> {
        let stream = StreamName::of(&category(P::NAME), key)?;
        let start_version = start.as_ref().map_or(Version::ABSENT, |start| start.version);
        let mut instance = start.unwrap_or_else(|| Instance::absent(stream.clone()));
        // Read backwards, up to the event with which its present life began: what was before that
        // does not count, however often it began.
        let mut begins_anew = false;
        let (mut latest_first, mut skipped) = (Vec::new(), BTreeSet::new());
        let mut pages =
            self.store.read(Read::stream(stream.clone(), through).backwards().page_of(PAGE_EVENTS));
        'looking: while let Some(page) = pages.page().await? {
            for recorded in page {
                if recorded.version() <= start_version {
                    break 'looking;
                }
                if recorded.version() > instance.version {
                    (instance.version, instance.last) = (recorded.version(), recorded.position);
                }
                // A record that cannot be read, and that a person let go, is passed over.
                let read = self.own(&recorded);
                if let Ok(ProcessEvent::Skipped {
                    cause: StoredCause::Record { position }, ..
                }) = &read
                {
                    skipped.insert(*position);
                }
                if read.is_err() && skipped.contains(&recorded.position.0) {
                    continue;
                }
                // Where something was parked then, it may still be.
                let is_first = matches!(
                    &read,
                    Ok(ProcessEvent::Reacted(reacted)) if reacted.starts && reacted.behind == 0
                );
                latest_first.push((read, recorded));
                if is_first {
                    begins_anew = true;
                    break 'looking;
                }
            }
        }
        // A life that began after the start owes nothing to it.
        if begins_anew && start_version > Version::ABSENT {
            let (version, last) = (instance.version, instance.last);
            instance = Instance { version, last, ..Instance::absent(stream) };
        }
        // Folded forwards.
        for (read, recorded) in latest_first.into_iter().rev() {
            match read {
                Ok(event) => self.take(&mut instance, key, event, &recorded).await?,
                Err(why) => instance.take_unread(&recorded, &why),
            }
        }
        // What is parked is known: only new faults are still to be parked.
        instance.unread.retain(|(position, _)| {
            !instance.parked.contains(&StoredCause::Record { position: position.0 })
        });
        Ok(instance)
    }

    async fn take<P: Process>(
        &self,
        instance: &mut Instance<P>,
        key: &str,
        event: ProcessEvent,
        recorded: &RecordedEvent,
    ) -> Result<(), LoadError> {
        match event {
            ProcessEvent::Reacted(reacted) => {
                instance.begin(reacted.starts, recorded.position);
                match self.heard::<P>(key, &reacted.cause).await {
                    Err(LoadError::Read(error)) => return Err(error.into()),
                    Err(error) => instance.breaks(error.to_string()),
                    Ok(Some(heard)) => instance.apply(&heard),
                    // What is not in the store any more is no part of the state.
                    Ok(None) => {}
                }
                instance.settle(&reacted, recorded.position);
                instance.correlation.clone_from(&recorded.metadata.correlation);
            }
            ProcessEvent::Parked(ParkedRecord { cause, .. }) => instance.park(cause),
            ProcessEvent::Skipped { cause, .. } => instance.let_go(&cause),
            ProcessEvent::Unparked { cause } => instance.unpark(&cause),
        }
        Ok(())
    }

    /// Returns the trigger of a recorded cause, in today's shape of its event; `None` if the event
    /// is not there any more.
    pub(super) async fn heard<P: Process>(
        &self,
        key: &str,
        cause: &StoredCause,
    ) -> Result<Option<IncomingTrigger<P::Event>>, LoadError> {
        let found = match cause {
            StoredCause::Event { position, part } => {
                let Some(recorded) = self.event_at(Position(*position)).await? else {
                    return Ok(None);
                };
                let mut parts =
                    self.schema.decode::<P::Event>(&recorded, Unknown::Ignore)?.into_iter();
                parts.nth(*part as usize).map(|event| {
                    IncomingTrigger::event(key, &Recorded { event, envelope: recorded }, *part)
                })
            }
            StoredCause::Timer { name, due, set_at } => {
                Some(IncomingTrigger::timer(key, name, *due, Position(*set_at)))
            }
            StoredCause::Refused { position, .. } => {
                let issued = self.event_at(Position(*position)).await?;
                issued.and_then(|issued| IncomingTrigger::refused(key, cause, issued.recorded_at))
            }
            // No instance learns of them.
            StoredCause::Command { .. } | StoredCause::Record { .. } => None,
        };
        Ok(found)
    }

    /// The record, as one of a process's own.
    pub(super) fn own(&self, record: &RecordedEvent) -> Result<ProcessEvent, EventError> {
        let unknown = || EventError::UnknownType {
            position: record.position.0,
            event_type: record.event_type.clone(),
        };
        self.own.decode::<ProcessEvent>(record, Unknown::Refuse)?.pop().ok_or_else(unknown)
    }

    /// Reads the event at a position; `None` beyond the end.
    pub(super) async fn event_at(
        &self,
        position: Position,
    ) -> Result<Option<RecordedEvent>, LoadError> {
        let page =
            self.store.page(Read::matching(Query::everything(), position).page_of(1)).await?;
        Ok(page.events.into_iter().next().filter(|event| event.position == position))
    }
}

impl<P: Process> Instance<P> {
    pub(super) fn absent(stream: StreamName) -> Self {
        Self {
            stream,
            version: Version::ABSENT,
            state: fresh(),
            life: Lifecycle::Absent,
            began: Position::START,
            last: Position::START,
            snapshot_version: Version::ABSENT,
            timers: BTreeMap::new(),
            parked: VecDeque::new(),
            unread: Vec::new(),
            correlation: None,
        }
    }

    /// Returns whether it begins with the trigger; `None` if it does not react to it.
    pub(super) fn concerned(&self, concern: Concern) -> Option<TriggerOrder> {
        match (concern, self.life) {
            (Concern::Starts, Lifecycle::Open)
            | (Concern::Continues | Concern::Ends, Lifecycle::Open) => Some(TriggerOrder::Later),
            (Concern::Starts, Lifecycle::Absent | Lifecycle::Ended) => Some(TriggerOrder::First),
            (Concern::Continues | Concern::Ends, Lifecycle::Absent | Lifecycle::Ended) => None,
            (Concern::Own, Lifecycle::Absent) => None,
            (Concern::Own, Lifecycle::Open | Lifecycle::Ended) => Some(TriggerOrder::Later),
        }
    }

    /// Begins a life, on an empty state, if the reaction starts one.
    pub(super) fn begin(&mut self, starts: bool, at: Position) {
        if starts {
            self.state = fresh();
            self.began = at;
            self.life = Lifecycle::Open;
            self.timers.clear();
        }
    }

    /// The trigger as this instance hears it.
    pub(super) fn hears(&self, heard: &IncomingTrigger<P::Event>) -> Trigger<P::Event> {
        let mut trigger = heard.trigger.clone();
        if let Trigger::Refused(refused) = &mut trigger {
            refused.is_of_earlier_life = heard.context.position < self.began;
        }
        trigger
    }

    /// Takes a trigger into the state. If that panics, the state is of no use now.
    pub(super) fn apply(&mut self, heard: &IncomingTrigger<P::Event>) {
        let trigger = self.hears(heard);
        let Ok(state) = &mut self.state else { return };
        let apply = AssertUnwindSafe(|| state.apply(&trigger, &heard.context));
        if let Err(panic) = catch_unwind(apply) {
            self.breaks(panicked::<P>("apply", &message(&*panic)));
        }
    }

    /// Its state cannot be folded. The first reason is the one that a person is to look at.
    fn breaks(&mut self, why: String) {
        if self.state.is_ok() {
            self.state = Err(why);
        }
    }

    /// Notes that a record of its own cannot be read: its state is not known.
    fn take_unread(&mut self, record: &RecordedEvent, why: &EventError) {
        let why = unreadable(record, why);
        self.breaks(why.clone());
        self.unread.push((record.position, why));
    }

    /// Something waits for a person.
    pub(super) fn park(&mut self, cause: StoredCause) {
        let at = self.parked.partition_point(|parked| parked.rank() <= cause.rank());
        self.parked.insert(at, cause);
    }

    /// Removes the timers that a reaction ends. Those that it sets come later: their position is
    /// the one at which it is recorded.
    pub(super) fn end_timers(&mut self, reacted: &ReactionRecord) {
        if let StoredCause::Timer { name, set_at, .. } = &reacted.cause
            && self.timers.get(name).is_some_and(|set| set.at.0 == *set_at)
        {
            self.timers.remove(name);
        }
        for name in reacted.cancelled.iter().chain(reacted.timers.iter().map(|timer| &timer.name)) {
            self.timers.remove(name);
        }
        if reacted.ends {
            self.life = Lifecycle::Ended;
            self.timers.clear();
        }
    }

    /// Takes in a reaction, recorded at a position: its effect on timers and on parked triggers.
    pub(super) fn settle(&mut self, reacted: &ReactionRecord, position: Position) {
        if reacted.starts {
            self.began = position;
            self.life = Lifecycle::Open;
            self.timers.clear();
        }
        self.end_timers(reacted);
        if !reacted.ends {
            let set = |timer: &super::record::SetTimer| PendingTimer {
                due: timer.due,
                at: position,
                at_once: timer.at_once,
            };
            self.timers.extend(reacted.timers.iter().map(|timer| (timer.name.clone(), set(timer))));
        }
    }

    /// Removes a parked trigger, without a reaction.
    pub(super) fn let_go(&mut self, cause: &StoredCause) {
        self.unpark(cause);
        if let StoredCause::Timer { name, set_at, .. } = cause
            && self.timers.get(name).is_some_and(|set| set.at.0 == *set_at)
        {
            self.timers.remove(name);
        }
    }

    pub(super) fn unpark(&mut self, cause: &StoredCause) {
        // Of several that were dropped by a copy each is one.
        if let Some(at) = self.parked.iter().position(|parked| parked == cause) {
            self.parked.remove(at);
        }
    }

    /// Tells whether a trigger is still valid: its timer may have been cancelled or replaced since,
    /// and a trigger that waits already is not to wait twice.
    pub(super) fn is_due(&self, cause: &StoredCause) -> bool {
        let still_set = match cause {
            StoredCause::Timer { name, due, set_at } => {
                let is_it = |set: &PendingTimer| (set.due, set.at) == (*due, Position(*set_at));
                self.life == Lifecycle::Open && self.timers.get(name).is_some_and(is_it)
            }
            StoredCause::Event { .. }
            | StoredCause::Refused { .. }
            | StoredCause::Command { .. }
            | StoredCause::Record { .. } => true,
        };
        still_set && !self.parked.contains(cause)
    }
}

/// The state of an instance that begins.
fn fresh<P: Process>() -> Result<P, String> {
    catch_unwind(P::default).map_err(|panic| panicked::<P>("default", &message(&*panic)))
}

/// Describes for people a record of the runtime's that cannot be read.
pub(super) fn unreadable(record: &RecordedEvent, why: &EventError) -> String {
    let stream = record.stream.as_ref().map_or("", |at| &at.name);
    shortened(format!(
        "the record at position {} in stream {stream} cannot be read: {why}; if a later release wrote it, upgrade and retry, if \
         not, skip it",
        record.position
    ))
}

/// Events of an instance that are read at once.
const PAGE_EVENTS: u32 = 64;

/// Place of a trigger in the life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TriggerOrder {
    /// The instance begins with it.
    First,
    Later,
}

impl<E> IncomingTrigger<E> {
    pub(super) fn event(key: &str, recorded: &Recorded<E>, part: u32) -> Self
    where
        E: Clone,
    {
        let envelope = &recorded.envelope;
        let context = Context {
            key: key.to_owned(),
            stream_id: recorded.stream_id().to_owned(),
            position: envelope.position,
            at: envelope.recorded_at,
        };
        let cause = StoredCause::Event { position: envelope.position.0, part };
        Self { cause, trigger: Trigger::Event(recorded.event.clone()), context }
    }

    pub(super) fn timer(key: &str, name: &str, due: Timestamp, set_at: Position) -> Self {
        let context =
            Context { key: key.to_owned(), stream_id: String::new(), position: set_at, at: due };
        let cause = StoredCause::Timer { name: name.to_owned(), due, set_at: set_at.0 };
        Self { cause, trigger: Trigger::TimerFired { name: name.to_owned() }, context }
    }

    /// The refusal of a command that was issued at a moment; `None` if the cause is not a refusal.
    pub(super) fn refused(key: &str, cause: &StoredCause, issued_at: Timestamp) -> Option<Self> {
        let (StoredCause::Refused { position, .. }, Some(refused)) =
            (cause, Refused::stored(cause))
        else {
            return None;
        };
        let context = Context {
            key: key.to_owned(),
            stream_id: String::new(),
            position: Position(*position),
            at: issued_at,
        };
        Some(Self { cause: cause.clone(), trigger: Trigger::Refused(refused), context })
    }
}

/// The id of an instance must name a stream.
pub(super) fn check_key(process: &str, key: &str) -> Result<(), Invalid> {
    StreamName::of(&category(process), key).map(drop)
}
