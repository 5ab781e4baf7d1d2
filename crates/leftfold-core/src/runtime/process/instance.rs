//! One instance of a process: the fold of its own stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::correlation::Concern;
use super::record::{Parked, ProcessEvent, Reacted, StoredCause};
use super::{Context, Process, Refused, Trigger};
use crate::fold::{EventError, LoadError, Recorded, Schema, Unknown};
use crate::store::{Invalid, Label, Position, Query, Read, RecordedEvent, Store, StreamName, Timestamp, Version};

/// One instance, as its stream tells it.
#[derive(Debug)]
pub(super) struct Instance<P> {
    pub(super) stream: StreamName,
    pub(super) version: Version,
    pub(super) state: P,
    pub(super) life: Life,
    /// The timers that are set: when they are due, and the reaction that set them.
    pub(super) timers: BTreeMap<String, (Timestamp, Position)>,
    /// The refusals that were reacted to.
    pub(super) refusals: BTreeSet<(u64, u32)>,
    /// What waits for a person, in order.
    pub(super) parked: VecDeque<StoredCause>,
    /// Why its state cannot be folded, where it cannot: then whatever concerns it is parked.
    pub(super) broken: Option<String>,
    /// The conversation that it takes part in.
    pub(super) correlation: Option<Label>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It never began.
    Absent,
    Open,
    Ended,
}

/// What an instance is to react to.
#[derive(Clone, Debug)]
pub(super) struct Heard<E> {
    pub(super) cause: StoredCause,
    pub(super) trigger: Trigger<E>,
    pub(super) context: Context,
}

/// The category of a process's instances.
pub(super) fn category(process: &str) -> String {
    format!("$process:{process}")
}

/// Reads instances, and what they reacted to, from the store.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    pub(super) store: Store,
    /// How the process reads its events.
    pub(super) schema: Arc<Schema>,
    /// How its own are read.
    pub(super) own: Arc<Schema>,
}

impl Archive {
    pub(super) fn new<P: Process>(store: Store) -> Result<Self, EventError> {
        Ok(Self { store, schema: Schema::of::<P::Event>()?, own: Schema::of::<ProcessEvent>()? })
    }

    /// An instance, folded from its stream.
    pub(super) async fn load<P: Process>(&self, key: &str) -> Result<Instance<P>, LoadError> {
        let stream = StreamName::of(&category(P::NAME), key)?;
        let mut instance = Instance::absent(stream.clone());
        let mut events = self.store.read(Read::stream(stream, Version(1)));
        while let Some(recorded) = events.next().await? {
            for event in self.own.decode::<ProcessEvent>(&recorded, Unknown::Refuse)? {
                self.take(&mut instance, key, event, &recorded).await?;
            }
            instance.version = recorded.version();
        }
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
                instance.begin(reacted.starts);
                match self.heard::<P>(key, &reacted.cause).await {
                    Err(LoadError::Read(error)) => return Err(error.into()),
                    Err(error) => _ = instance.broken.get_or_insert(error.to_string()),
                    Ok(Some(heard)) if instance.broken.is_none() => instance.broken = instance.apply(&heard).err(),
                    // What is not in the store any more is no part of the state.
                    Ok(_) => {}
                }
                instance.settle(&reacted, recorded.position);
                instance.correlation.clone_from(&recorded.metadata.correlation);
            }
            ProcessEvent::Parked(Parked { cause, .. }) => instance.parked.push_back(cause),
            ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => instance.unpark(&cause),
        }
        Ok(())
    }

    /// What a recorded cause was, as of today's shape of its event; none where it is not there any more.
    pub(super) async fn heard<P: Process>(&self, key: &str, cause: &StoredCause) -> Result<Option<Heard<P::Event>>, LoadError> {
        let found = match cause {
            StoredCause::Event { position, part } => {
                let Some(recorded) = self.event_at(Position(*position)).await? else { return Ok(None) };
                let mut parts = self.schema.decode::<P::Event>(&recorded, Unknown::Ignore)?.into_iter();
                parts.nth(*part as usize).map(|event| Heard::event(key, &Recorded { event, envelope: recorded }, *part))
            }
            StoredCause::Timer { name, due, set_at } => Some(Heard::timer(key, name, *due, Position(*set_at))),
            StoredCause::Refused { position, .. } => {
                let issued = self.event_at(Position(*position)).await?;
                issued.and_then(|issued| Heard::refused(key, cause, issued.recorded_at))
            }
        };
        Ok(found)
    }

    /// The event at a position; none beyond the end.
    pub(super) async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, LoadError> {
        let page = self.store.page(Read::matching(Query::everything(), position).page_of(1)).await?;
        Ok(page.events.into_iter().next().filter(|event| event.position == position))
    }
}

impl<P: Process> Instance<P> {
    fn absent(stream: StreamName) -> Self {
        Self {
            stream,
            version: Version::ABSENT,
            state: P::default(),
            life: Life::Absent,
            timers: BTreeMap::new(),
            refusals: BTreeSet::new(),
            parked: VecDeque::new(),
            broken: None,
            correlation: None,
        }
    }

    /// Whether it is to react, and whether it begins with that.
    pub(super) fn concerned(&self, concern: Concern) -> Option<Begins> {
        match (concern, self.life) {
            (Concern::Starts, Life::Open) | (Concern::Continues | Concern::Ends, Life::Open) => Some(Begins::No),
            (Concern::Starts, Life::Absent | Life::Ended) => Some(Begins::Yes),
            (Concern::Continues | Concern::Ends, Life::Absent | Life::Ended) => None,
            (Concern::Own, Life::Absent) => None,
            (Concern::Own, Life::Open | Life::Ended) => Some(Begins::No),
        }
    }

    /// Begins a life, on an empty state, if the reaction starts one.
    pub(super) fn begin(&mut self, starts: bool) {
        if starts {
            self.state = P::default();
            self.life = Life::Open;
            self.timers.clear();
        }
    }

    /// Takes what was heard into the state. The error is what it panicked with; the state is then of no use any more.
    pub(super) fn apply(&mut self, heard: &Heard<P::Event>) -> Result<(), String> {
        let apply = AssertUnwindSafe(|| self.state.apply(&heard.trigger, &heard.context));
        catch_unwind(apply).map_err(|panic| super::super::message(&*panic))
    }

    /// Takes in what a reaction, recorded at a position, means for timers and for what waits.
    pub(super) fn settle(&mut self, reacted: &Reacted, position: Position) {
        if reacted.starts {
            self.life = Life::Open;
            self.timers.clear();
        }
        match &reacted.cause {
            StoredCause::Event { .. } => {}
            StoredCause::Timer { name, set_at, .. } => {
                if self.timers.get(name).is_some_and(|(_, set)| set.0 == *set_at) {
                    self.timers.remove(name);
                }
            }
            StoredCause::Refused { position, index, .. } => _ = self.refusals.insert((*position, *index)),
        }
        self.unpark(&reacted.cause);
        for name in &reacted.cancelled {
            self.timers.remove(name);
        }
        for timer in &reacted.timers {
            self.timers.insert(timer.name.clone(), (timer.due, position));
        }
        if reacted.ends {
            self.life = Life::Ended;
            self.timers.clear();
        }
    }

    pub(super) fn unpark(&mut self, cause: &StoredCause) {
        self.parked.retain(|parked| parked != cause);
    }

    /// Whether a refusal was heard of before.
    pub(super) fn knows_refusal(&self, position: u64, index: u32) -> bool {
        let parked = |cause: &StoredCause| matches!(cause, StoredCause::Refused { position: at, index: i, .. } if (*at, *i) == (position, index));
        self.refusals.contains(&(position, index)) || self.parked.iter().any(parked)
    }
}

/// Whether an instance begins with what it reacts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Yes,
    No,
}

impl<E> Heard<E> {
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
        let context = Context { key: key.to_owned(), stream_id: String::new(), position: set_at, at: due };
        let cause = StoredCause::Timer { name: name.to_owned(), due, set_at: set_at.0 };
        Self { cause, trigger: Trigger::TimerFired { name: name.to_owned() }, context }
    }

    /// A refusal of a command that was issued then; none where the cause is no refusal.
    pub(super) fn refused(key: &str, cause: &StoredCause, issued_at: Timestamp) -> Option<Self> {
        let (StoredCause::Refused { position, .. }, Some(refused)) = (cause, Refused::stored(cause)) else { return None };
        let context = Context { key: key.to_owned(), stream_id: String::new(), position: Position(*position), at: issued_at };
        Some(Self { cause: cause.clone(), trigger: Trigger::Refused(refused), context })
    }
}

/// The id of an instance must name a stream.
pub(super) fn check_key(process: &str, key: &str) -> Result<(), Invalid> {
    StreamName::of(&category(process), key).map(drop)
}
