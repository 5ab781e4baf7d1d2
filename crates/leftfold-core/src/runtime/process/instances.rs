//! The instances of a process: those in memory, how they hear of a trigger, and what is parked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::batch::{Batch, Entry};
use super::correlation::{Concern, Correlation};
use super::instance::{Archive, Begins, Heard, Instance, category, check_key};
use super::record::{Parked, ProcessEvent, Reacted, StoredCause};
use super::step::Trouble;
use super::{INSTANCES_MAX, Process, Reaction, Targets};
use crate::fold::{Cause, LoadError, Recorded, Unknown};
use crate::runtime::{message, shortened};
use crate::store::limits::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX, DATA_BYTES_MAX, STREAM_BYTES_MAX};
use crate::store::{
    Append, Digest, EventType, Invalid, Label, Metadata, NewEvent, Position, Query, Read, RecordedEvent, StreamName, Version,
};

/// Instances in memory; of more, those that were not used for longest are read again when they are.
const KEPT_MAX: usize = 20_000;
// ANCHOR: limits
/// Reactions that may lead one to another, without anything from outside: a process that goes on beyond that reacts to
/// itself without end, and is parked.
pub const CHAIN_MAX: u32 = 100;
/// Commands of one reaction.
pub const COMMANDS_MAX: usize = 10_000;
/// Effects that one reaction asks for.
pub const EFFECTS_MAX: usize = 1_000;
/// Timers that one reaction sets.
pub const TIMERS_MAX: usize = 60;
// ANCHOR_END: limits
/// Bytes of a timer's name.
const TIMER_NAME_BYTES_MAX: usize = 200;
/// Triggers that are parked at most; beyond that the process stops at the next one that fails.
pub const PARKED_MAX: usize = 10_000;
/// Depths of reactions that are remembered.
const DEPTHS_MAX: usize = 4_096;

/// The instances of one process.
pub(super) struct Instances<P: Process> {
    pub(super) archive: Archive,
    targets: Targets,
    kept: HashMap<String, (u64, Instance<P>)>,
    uses: u64,
    /// Events that cannot be read, by the stream that they are in, and what waits behind them.
    pub(super) unread: BTreeMap<String, Unread>,
    /// How much is parked for each instance that something is parked for.
    parked: BTreeMap<String, usize>,
    /// How much is parked in all.
    parked_count: usize,
    depths: HashMap<u64, u32>,
}

/// What is parked for a stream.
#[derive(Debug, Default)]
pub(super) struct Unread {
    version: Version,
    pub(super) causes: VecDeque<StoredCause>,
}

/// Where a reaction comes from, beside its trigger.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) metadata: Metadata,
    pub(super) depth: u32,
}

/// What came of letting instances hear a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is in the batch, as far as it concerns any.
    Taken,
    /// It is to be heard again, when what is in the batch is recorded.
    Again,
    /// It would have to be parked, and too much is. What is in the batch is to be recorded first.
    Full,
}

/// What one instance makes of a trigger.
enum Heeded {
    Entry(Box<Entry>),
    /// It is not concerned.
    Nothing,
    /// It cannot react; what is in memory of it is of no use any more.
    Failed(String),
    /// It would have to be parked, and too much is.
    Full,
}

/// An event as the process reads it: its parts, and whom each concerns.
type Parts<E> = Vec<(Recorded<E>, Correlation)>;

/// The category of what is parked because it cannot be read.
pub(super) fn unread_category(process: &str) -> String {
    format!("$parked:{process}")
}

/// What is recorded of triggers that are parked, and of how each was concluded but by a reaction.
pub(super) fn about_parking(process: &str) -> Result<Query, Invalid> {
    let streams = Query::category(category(process)).or(Query::category(unread_category(process)));
    let types = ["$process.Parked", "$process.Unparked", "$process.Skipped"].into_iter().map(EventType::new);
    Ok(streams.of_types(&types.collect::<Result<Vec<_>, _>>()?))
}

impl<P: Process> Instances<P> {
    /// What is parked, as the log tells it. Instances are read when they are concerned.
    pub(super) async fn load(archive: Archive, targets: Targets) -> Result<Self, LoadError> {
        let (unread, parked) = (BTreeMap::new(), BTreeMap::new());
        let mut instances =
            Self { archive, targets, kept: HashMap::new(), uses: 0, unread, parked, parked_count: 0, depths: HashMap::new() };
        let mut events = instances.archive.store.read(Read::matching(about_parking(P::NAME)?, Position(1)));
        while let Some(event) = events.next().await? {
            let (Some(at), Some(own)) = (&event.stream, instances.archive.own(&event)?) else { continue };
            if at.name.category() == category(P::NAME) {
                instances.count(at.name.id(), &own);
                continue;
            }
            instances.count("", &own);
            let unread = instances.unread.entry(at.name.id().to_owned()).or_default();
            unread.version = at.version;
            match own {
                ProcessEvent::Parked(Parked { cause, .. }) => unread.causes.push_back(cause),
                ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => {
                    unread.causes.retain(|waiting| *waiting != cause);
                }
                ProcessEvent::Reacted(_) => {}
            }
        }
        Ok(instances)
    }

    /// How many triggers are parked, those that wait behind others included.
    pub(super) fn parked_count(&self) -> usize {
        self.parked_count
    }

    /// Counts what is parked for an instance; without a key, for a stream.
    fn count(&mut self, key: &str, event: &ProcessEvent) {
        match event {
            ProcessEvent::Parked(_) => {
                self.parked_count += 1;
                if !key.is_empty() {
                    *self.parked.entry(key.to_owned()).or_default() += 1;
                }
            }
            ProcessEvent::Skipped { .. } | ProcessEvent::Unparked { .. } => {
                self.parked_count = self.parked_count.saturating_sub(1);
                if let Some(parked) = self.parked.get_mut(key) {
                    *parked = parked.saturating_sub(1);
                    if *parked == 0 {
                        self.parked.remove(key);
                    }
                }
            }
            ProcessEvent::Reacted(_) => {}
        }
    }

    /// What a person is to look at.
    pub(super) fn trouble(&self) -> Option<String> {
        let parked = self.parked.first_key_value().map(|(key, _)| format!("instance {key}"));
        let unread = || self.unread.iter().find(|(_, unread)| !unread.causes.is_empty()).map(|(s, _)| format!("stream {s}"));
        parked.or_else(unread).map(|whose| format!("events; what is parked for {whose} waits for a person"))
    }

    /// Why nothing more can be parked.
    pub(super) fn full() -> String {
        format!("a person: {PARKED_MAX} triggers are parked, retry or skip some")
    }

    /// An instance, from memory or from its stream.
    pub(super) async fn instance(&mut self, key: &str) -> Result<&mut Instance<P>, LoadError> {
        self.uses += 1;
        if !self.kept.contains_key(key) {
            let loaded = self.archive.load(key).await?;
            self.kept.insert(key.to_owned(), (self.uses, loaded));
        }
        // It was there, or was put there.
        let (used, instance) = self.kept.get_mut(key).expect("the instance is kept");
        *used = self.uses;
        Ok(instance)
    }

    /// Lets go what was not used for longest, where there is too much.
    pub(super) fn forget_some(&mut self) {
        if self.kept.len() > KEPT_MAX {
            let mut used: Vec<u64> = self.kept.values().map(|(used, _)| *used).collect();
            let middle = used.len() / 2;
            let (_, median, _) = used.select_nth_unstable(middle);
            let median = *median;
            self.kept.retain(|_, (used, _)| *used >= median);
        }
        if self.depths.len() > DEPTHS_MAX {
            self.depths.clear();
        }
    }

    /// Lets every instance that an event concerns react to it.
    pub(super) async fn hear(&mut self, event: &RecordedEvent, batch: &mut Batch) -> Result<Hearing, Trouble> {
        let stream = parked_as(P::NAME, event.stream.as_ref().map_or("", |at| &at.name));
        let waits = self.unread.get(&stream).is_some_and(|unread| !unread.causes.is_empty());
        let parts = if waits { Err(None) } else { self.read(event).map_err(Some) };
        let heard = match parts {
            Ok(parts) => self.hear_parts(event, parts, batch).await?,
            Err(_) if self.parked_count + batch.parked() >= PARKED_MAX => Err(Hearing::Full),
            Err(why) => {
                if let Some(why) = &why {
                    tracing::error!(process = P::NAME, position = %event.position, why, "an event cannot be read and is parked");
                }
                Ok(vec![self.park_unread(&stream, event, why)?])
            }
        };
        match heard {
            Ok(entries) => {
                batch.take(entries);
                Ok(Hearing::Taken)
            }
            Err(not_now) => Ok(not_now),
        }
    }

    /// What every instance makes of an event. Those that fail are parked, if the batch is empty.
    async fn hear_parts(
        &mut self,
        event: &RecordedEvent,
        parts: Parts<P::Event>,
        batch: &Batch,
    ) -> Result<Result<Vec<Entry>, Hearing>, Trouble> {
        if parts.iter().all(|(_, correlation)| correlation.concerned.is_empty()) {
            return Ok(Ok(Vec::new()));
        }
        let origin = Origin { metadata: metadata(&Cause::from(event)), depth: self.depth_after(event).await? };
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let (mut entries, mut failed, mut parked) = (Vec::new(), BTreeMap::new(), batch.parked());
            let mut full = false;
            for (part, (recorded, correlation)) in parts.iter().enumerate() {
                for (key, concern) in &correlation.concerned {
                    if full || failed.contains_key(key) {
                        continue;
                    }
                    let heard = Heard::event(key, recorded, part as u32);
                    match self.hear_one(heard, *concern, &origin, faults.get(key), parked).await? {
                        Heeded::Entry(entry) => {
                            parked += usize::from(entry.is_parked());
                            entries.push(*entry);
                        }
                        Heeded::Nothing => {}
                        Heeded::Failed(why) => _ = failed.insert(key.clone(), why),
                        Heeded::Full => full = true,
                    }
                }
            }
            if !full && failed.is_empty() {
                let Some(why) = too_large(&entries) else { return Ok(Ok(entries)) };
                failed.extend(entries.iter().map(|entry| (entry.key.clone(), why.clone())));
            }
            // What they took in is not recorded.
            entries.iter().map(|entry| &entry.key).chain(failed.keys()).for_each(|key| _ = self.kept.remove(key));
            if full {
                return Ok(Err(Hearing::Full));
            }
            if !batch.is_empty() {
                return Ok(Err(Hearing::Again));
            }
            faults.extend(failed);
        }
    }

    /// Lets an instance react to a timer or a refusal of its own, if that still concerns it. A failure parks it.
    pub(super) async fn hear_own(
        &mut self,
        heard: Heard<P::Event>,
        correlation: Option<Label>,
        batch: &mut Batch,
    ) -> Result<Hearing, Trouble> {
        let key = heard.context.key.clone();
        let instance = self.instance(&key).await?;
        let correlation = correlation.or_else(|| instance.correlation.clone());
        let follows = match &heard.cause {
            // Time is from outside, but only where some has passed.
            StoredCause::Timer { name, set_at, .. } => {
                instance.timers.get(name).filter(|set| set.at_once).map(|_| Position(*set_at))
            }
            StoredCause::Refused { position, .. } => Some(Position(*position)),
            StoredCause::Event { .. } => None,
        };
        let depth = match follows {
            Some(reaction) => self.depth_of(reaction).await?.saturating_add(1),
            None => 0,
        };
        let causation = Label::new(format!("$process:{}@{}", P::NAME, heard.cause.position())).ok();
        let origin = Origin { metadata: Metadata { correlation, causation, ..Metadata::default() }, depth };
        let mut heeded = self.hear_one(heard.clone(), Concern::Own, &origin, None, batch.parked()).await?;
        if let Heeded::Failed(why) = heeded {
            self.kept.remove(&key);
            if batch.concerns(&key) {
                // What the instance took in before is not recorded yet: it cannot be read again before it is.
                return Ok(Hearing::Again);
            }
            heeded = self.hear_one(heard, Concern::Own, &origin, Some(&why), batch.parked()).await?;
        }
        match heeded {
            Heeded::Entry(entry) => batch.take(vec![*entry]),
            Heeded::Nothing => {}
            Heeded::Full => return Ok(Hearing::Full),
            // With a fault given it is parked.
            Heeded::Failed(why) => return Err(Trouble::Store(why)),
        }
        Ok(Hearing::Taken)
    }

    /// What one instance makes of a trigger. With a fault given it is parked for that. So much is parked in the batch.
    async fn hear_one(
        &mut self,
        heard: Heard<P::Event>,
        concern: Concern,
        origin: &Origin,
        fault: Option<&String>,
        parked: usize,
    ) -> Result<Heeded, Trouble> {
        let full = self.parked_count + parked >= PARKED_MAX;
        let key = heard.context.key.clone();
        let targets = self.targets.clone();
        let instance = self.instance(&key).await?;
        if !instance.is_due(&heard.cause) {
            return Ok(Heeded::Nothing);
        }
        let error = fault.or(instance.broken.as_ref()).cloned();
        if error.is_none() && instance.parked.is_empty() {
            return Ok(match instance.react(&key, &heard, concern, origin, &targets) {
                Ok(Some(entry)) => Heeded::Entry(Box::new(entry)),
                Ok(None) => Heeded::Nothing,
                Err(why) => Heeded::Failed(why),
            });
        }
        if full {
            return Ok(Heeded::Full);
        }
        if let Some(why) = &error {
            tracing::error!(process = P::NAME, key, cause = ?heard.cause, why, "an instance cannot react and is parked");
        }
        let event = Parked { process: P::NAME.to_owned(), cause: heard.cause.clone(), error: error.map(shortened) };
        instance.parked.push_back(heard.cause);
        Ok(Heeded::Entry(Box::new(instance.entry(&key, ProcessEvent::Parked(event), Vec::new(), origin))))
    }

    /// The event in today's shape, and whom it concerns.
    fn read(&self, event: &RecordedEvent) -> Result<Parts<P::Event>, String> {
        let read = AssertUnwindSafe(|| {
            let parts = self.archive.schema.decode::<P::Event>(event, Unknown::Ignore).map_err(|error| error.to_string())?;
            let mut concerned = 0;
            let mut all = Vec::with_capacity(parts.len());
            for part in parts {
                let recorded = Recorded { event: part, envelope: event.clone() };
                let correlation = P::correlate(&recorded);
                concerned += correlation.concerned.len();
                for (key, _) in &correlation.concerned {
                    check_key(P::NAME, key).map_err(|invalid| format!("its key names no instance: {invalid}"))?;
                }
                all.push((recorded, correlation));
            }
            if concerned > INSTANCES_MAX {
                return Err(format!("it concerns {concerned} instances, at most {INSTANCES_MAX} can react to one event"));
            }
            Ok(all)
        });
        catch_unwind(read).unwrap_or_else(|panic| Err(format!("correlate panicked: {}", message(&*panic))))
    }

    fn park_unread(&mut self, stream: &str, event: &RecordedEvent, error: Option<String>) -> Result<Entry, Trouble> {
        let cause = StoredCause::Event { position: event.position.0, part: 0 };
        let parked = Parked { process: P::NAME.to_owned(), cause: cause.clone(), error: error.map(shortened) };
        let entry = self.unread_entry(stream, ProcessEvent::Parked(parked), metadata(&Cause::from(event)))?;
        self.unread.entry(stream.to_owned()).or_default().causes.push_back(cause);
        Ok(entry)
    }

    /// A line about an event that could not be read.
    pub(super) fn unread_entry(&mut self, of: &str, event: ProcessEvent, metadata: Metadata) -> Result<Entry, Trouble> {
        let name = format!("{}-{of}", unread_category(P::NAME));
        let stream = StreamName::new(name).map_err(|invalid| Trouble::Store(invalid.to_string()))?;
        let unread = self.unread.entry(of.to_owned()).or_default();
        let before = unread.version;
        unread.version = before.next();
        Ok(Entry::new(String::new(), (stream, before), event, Vec::new(), metadata))
    }

    /// How many reactions led to an event, one from another.
    async fn depth_after(&mut self, event: &RecordedEvent) -> Result<u32, Trouble> {
        let Some(causation) = event.metadata.causation.as_ref().filter(|label| label.starts_with("$process:")) else {
            return Ok(0);
        };
        let position = causation.rsplit_once('@').and_then(|(_, position)| position.parse().ok());
        match position {
            Some(position) => Ok(self.depth_of(Position(position)).await?.saturating_add(1)),
            None => Ok(0),
        }
    }

    async fn depth_of(&mut self, reaction: Position) -> Result<u32, Trouble> {
        if let Some(depth) = self.depths.get(&reaction.0) {
            return Ok(*depth);
        }
        let depth = match self.archive.event_at(reaction).await? {
            Some(event) if &*event.event_type == "$process.Reacted" => match self.archive.own(&event)? {
                Some(ProcessEvent::Reacted(reacted)) => reacted.depth,
                _ => 0,
            },
            _ => 0,
        };
        self.depths.insert(reaction.0, depth);
        Ok(depth)
    }

    /// Takes in what is durable now.
    pub(super) fn settle(&mut self, key: &str, event: &ProcessEvent, position: Position) {
        self.count(key, event);
        if let ProcessEvent::Reacted(reacted) = event {
            self.depths.insert(position.0, reacted.depth);
            if let Some((_, instance)) = self.kept.get_mut(key) {
                instance.settle(reacted, position);
            }
        }
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Whether an event can be read, and what it concerns can be found.
    pub(super) fn try_read(&self, event: &RecordedEvent) -> Result<(), String> {
        self.read(event).map(drop)
    }

    /// What is kept of an instance is of no use any more.
    pub(super) fn forget(&mut self, key: &str) {
        self.kept.remove(key);
    }
}

impl<P: Process> Instance<P> {
    /// Takes a trigger in and reacts. See [`Instances::hear_one`].
    pub(super) fn react(
        &mut self,
        key: &str,
        heard: &Heard<P::Event>,
        concern: Concern,
        origin: &Origin,
        targets: &Targets,
    ) -> Result<Option<Entry>, String> {
        let Some(begins) = self.concerned(concern) else { return Ok(None) };
        if origin.depth > CHAIN_MAX {
            return Err(format!("more than {CHAIN_MAX} reactions led one to another: the process reacts to itself without end"));
        }
        let starts = begins == Begins::Yes;
        self.begin(starts, Position::END);
        self.apply(heard).map_err(|panic| format!("apply panicked: {panic}"))?;
        let trigger = self.hears(heard);
        let react = AssertUnwindSafe(|| self.state.react(&trigger, &heard.context));
        let reaction = catch_unwind(react).map_err(|panic| format!("react panicked: {}", message(&*panic)))?;
        check(&reaction, targets)?;
        let (timers, cancelled) = reaction.timers_at(heard.context.at);
        let ends = reaction.ends || concern == Concern::Ends;
        let Reaction { commands, intents, .. } = reaction;
        let (process, cause, depth) = (P::NAME.to_owned(), heard.cause.clone(), origin.depth);
        let marks = (0, 0, 0);
        let (behind, carried, fired_before) = marks;
        let reacted = Reacted { process, cause, starts, ends, commands, timers, cancelled, behind, depth, carried, fired_before };
        self.end_timers(&reacted);
        self.correlation.clone_from(&origin.metadata.correlation);
        let entry = self.entry(key, ProcessEvent::Reacted(reacted), intents, origin);
        if entry.event_bytes > DATA_BYTES_MAX / 2 {
            return Err(format!("its commands and timers take more than {} bytes", DATA_BYTES_MAX / 2));
        }
        Ok(Some(entry))
    }

    /// A line for its stream, which has it from now on.
    pub(super) fn entry(
        &mut self,
        key: &str,
        event: ProcessEvent,
        intents: Vec<crate::store::NewEvent>,
        origin: &Origin,
    ) -> Entry {
        let before = self.version;
        self.version = before.next();
        Entry::new(key.to_owned(), (self.stream.clone(), before), event, intents, origin.metadata.clone())
    }
}

/// Holds a reaction against its limits.
fn check(reaction: &Reaction, targets: &Targets) -> Result<(), String> {
    if let Some(fault) = &reaction.fault {
        return Err(fault.clone());
    }
    if let Some(unknown) = reaction.commands.iter().find(|command| !targets.know(&command.to)) {
        return Err(format!("{} is no target of the process, name it in targets()", unknown.to));
    }
    if reaction.commands.len() > COMMANDS_MAX {
        return Err(format!("it issues {} commands, at most {COMMANDS_MAX} go into one reaction", reaction.commands.len()));
    }
    if reaction.intents.len() > EFFECTS_MAX {
        return Err(format!("it asks for {} effects, at most {EFFECTS_MAX} go into one reaction", reaction.intents.len()));
    }
    check_intents(&reaction.intents)?;
    if reaction.timers.len() > TIMERS_MAX {
        return Err(format!("it sets or cancels {} timers, at most {TIMERS_MAX} go into one reaction", reaction.timers.len()));
    }
    match reaction.timers.iter().find(|(name, _)| name.len() > TIMER_NAME_BYTES_MAX) {
        Some((name, _)) => Err(format!("a timer's name has {} bytes, at most {TIMER_NAME_BYTES_MAX} are allowed", name.len())),
        None => Ok(()),
    }
}

/// An intent that no store takes would hold up the whole process.
fn check_intents(intents: &[NewEvent]) -> Result<(), String> {
    if intents.is_empty() {
        return Ok(());
    }
    Append::of(intents.to_vec()).validate().map_err(|invalid| format!("an effect that it asks for cannot be recorded: {invalid}"))
}

/// Why the reactions to one event cannot be recorded together, where they cannot. Half of what an append may hold is
/// for other triggers.
fn too_large(entries: &[Entry]) -> Option<String> {
    let events: usize = entries.iter().map(Entry::events).sum();
    let bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
    (events > APPEND_EVENTS_MAX / 2 || bytes > APPEND_BYTES_MAX / 2).then(|| {
        format!(
            "all reactions to the event together are {events} events of {bytes} bytes, which is more than can be recorded at once"
        )
    })
}

/// Under which id what is parked for a stream is found: its name, or as much of it as fits into a name.
pub(super) fn parked_as(process: &str, stream: &str) -> String {
    let room = STREAM_BYTES_MAX - unread_category(process).len() - 1;
    if stream.len() <= room {
        return stream.to_owned();
    }
    let Digest(digest) = Digest::of(stream.as_bytes());
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let end = (0..=room - digest.len() - 1).rev().find(|end| stream.is_char_boundary(*end)).unwrap_or(0);
    format!("{}~{digest}", &stream[..end])
}

/// Which instances an event concerns; an error where that panics.
pub(super) fn correlate<P: Process>(recorded: &Recorded<P::Event>) -> Result<Correlation, String> {
    catch_unwind(AssertUnwindSafe(|| P::correlate(recorded))).map_err(|panic| message(&*panic))
}

pub(super) fn metadata(cause: &Cause) -> Metadata {
    let (correlation, causation) = (Some(cause.correlation.clone()), Some(cause.causation.clone()));
    Metadata { correlation, causation, ..Metadata::default() }
}
