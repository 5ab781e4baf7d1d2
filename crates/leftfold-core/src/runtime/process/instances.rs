//! The instances of a process: those in memory, how they hear of a trigger, and what is parked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::batch::{Batch, Entry};
use super::correlation::{Concern, Correlation};
use super::instance::{Archive, Begins, Heard, Instance, Life, category, check_key};
use super::record::{Parked, ProcessEvent, Reacted, StoredCause};
use super::runner::{Trouble, still_set};
use super::{INSTANCES_MAX, Process, Reaction, Targets};
use crate::fold::{Cause, LoadError, Recorded, Unknown};
use crate::runtime::{message, shortened};
use crate::store::limits::DATA_BYTES_MAX;
use crate::store::{Label, Metadata, Position, Query, Read, RecordedEvent, StreamName, Version};

/// Instances in memory; of more, those that were not used for longest are read again when they are.
const KEPT_MAX: usize = 20_000;
/// Reactions that may lead one to another, without anything from outside: a process that goes on beyond that reacts to
/// itself without end, and is parked.
pub const CHAIN_MAX: u32 = 100;
/// Commands of one reaction.
pub const COMMANDS_MAX: usize = 10_000;
/// Timers that one reaction sets.
pub const TIMERS_MAX: usize = 60;
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
    /// The instances that something is parked for.
    pub(super) parked: BTreeSet<String>,
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

/// An event as the process reads it: its parts, and whom each concerns.
type Parts<E> = Vec<(Recorded<E>, Correlation)>;

/// The category of what is parked because it cannot be read.
pub(super) fn unread_category(process: &str) -> String {
    format!("$parked:{process}")
}

impl<P: Process> Instances<P> {
    /// What is parked, as the log tells it. Instances are read when they are concerned.
    pub(super) async fn load(archive: Archive, targets: Targets) -> Result<Self, LoadError> {
        let (unread, parked) = (BTreeMap::new(), BTreeSet::new());
        let mut instances = Self { archive, targets, kept: HashMap::new(), uses: 0, unread, parked, depths: HashMap::new() };
        let streams = Query::category(category(P::NAME)).or(Query::category(unread_category(P::NAME)));
        let about_parking = ["$process.Parked", "$process.Unparked", "$process.Skipped"];
        let types: Vec<_> = about_parking.into_iter().map(crate::store::EventType::new).collect::<Result<_, _>>()?;
        let mut events = instances.archive.store.read(Read::matching(streams.of_types(&types), Position(1)));
        let mut doubtful = BTreeSet::new();
        while let Some(event) = events.next().await? {
            let Some(at) = &event.stream else { continue };
            if at.name.category() == category(P::NAME) {
                doubtful.insert(at.name.id().to_owned());
                continue;
            }
            let unread = instances.unread.entry(at.name.id().to_owned()).or_default();
            unread.version = at.version;
            match instances.archive.own(&event)? {
                Some(ProcessEvent::Parked(Parked { cause, .. })) => unread.causes.push_back(cause),
                Some(ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause }) => {
                    unread.causes.retain(|waiting| *waiting != cause);
                }
                Some(ProcessEvent::Reacted(_)) | None => {}
            }
        }
        for key in doubtful {
            instances.instance(&key).await?;
            instances.note_parked(&key);
        }
        Ok(instances)
    }

    /// How many triggers are parked, those that wait behind others included.
    pub(super) fn parked_count(&self) -> usize {
        let of_instances = self.parked.iter().filter_map(|key| self.kept.get(key)).map(|(_, one)| one.parked.len());
        of_instances.sum::<usize>() + self.unread.values().map(|unread| unread.causes.len()).sum::<usize>()
    }

    /// What a person is to look at.
    pub(super) fn trouble(&self) -> Option<String> {
        let parked = self.parked.first().map(|key| format!("instance {key}"));
        let unread = || self.unread.iter().find(|(_, unread)| !unread.causes.is_empty()).map(|(s, _)| format!("stream {s}"));
        parked.or_else(unread).map(|whose| format!("events; what is parked for {whose} waits for a person"))
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
            let (median, parked) = (*median, &self.parked);
            self.kept.retain(|key, (used, _)| *used >= median || parked.contains(key));
        }
        if self.depths.len() > DEPTHS_MAX {
            self.depths.clear();
        }
    }

    /// Lets every instance that an event concerns react to it. False where one of them fails while others wait in the
    /// batch: then the event is to be heard again, alone.
    pub(super) async fn hear(&mut self, event: &RecordedEvent, batch: &mut Batch) -> Result<bool, Trouble> {
        let stream = event.stream.as_ref().map_or("", |at| &at.name).to_owned();
        if self.unread.get(&stream).is_some_and(|unread| !unread.causes.is_empty()) {
            batch.take(vec![self.park_unread(&stream, event, None)?]);
            return Ok(true);
        }
        let parts = match self.read(event) {
            Ok(parts) => parts,
            Err(why) => {
                tracing::error!(process = P::NAME, position = %event.position, why, "an event cannot be read and is parked");
                batch.take(vec![self.park_unread(&stream, event, Some(why))?]);
                return Ok(true);
            }
        };
        match self.hear_parts(event, parts, batch).await? {
            Some(entries) => {
                batch.take(entries);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// What every instance makes of an event. None where one of them fails and the batch is not empty.
    async fn hear_parts(
        &mut self,
        event: &RecordedEvent,
        parts: Parts<P::Event>,
        batch: &Batch,
    ) -> Result<Option<Vec<Entry>>, Trouble> {
        if parts.iter().all(|(_, correlation)| correlation.concerned.is_empty()) {
            return Ok(Some(Vec::new()));
        }
        let origin = Origin { metadata: metadata(&Cause::from(event)), depth: self.depth_after(event).await? };
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let mut entries = Vec::new();
            let mut failed = None;
            for (part, (recorded, correlation)) in parts.iter().enumerate() {
                for (key, concern) in &correlation.concerned {
                    let heard = Heard::event(key, recorded, part as u32);
                    match self.hear_one(heard, *concern, &origin, faults.get(key)).await? {
                        Ok(entry) => entries.extend(entry),
                        Err(why) => failed = Some((key.clone(), why)),
                    }
                    if failed.is_some() {
                        break;
                    }
                }
            }
            let Some((key, why)) = failed else { return Ok(Some(entries)) };
            // What they took in is not recorded.
            entries.iter().for_each(|entry| _ = self.kept.remove(&entry.key));
            self.kept.remove(&key);
            if !batch.is_empty() {
                return Ok(None);
            }
            faults.insert(key, why);
        }
    }

    /// Lets an instance react to a timer or a refusal of its own, if that still concerns it. A failure parks it.
    pub(super) async fn hear_own(
        &mut self,
        heard: Heard<P::Event>,
        correlation: Option<Label>,
        batch: &mut Batch,
    ) -> Result<(), Trouble> {
        let key = heard.context.key.clone();
        let correlation = match correlation {
            Some(correlation) => Some(correlation),
            None => self.instance(&key).await?.correlation.clone(),
        };
        let depth = match &heard.cause {
            // Time is from outside.
            StoredCause::Timer { .. } | StoredCause::Event { .. } => 0,
            StoredCause::Refused { position, .. } => self.depth_of(Position(*position)).await?.saturating_add(1),
        };
        let causation = Label::new(format!("$process:{}@{}", P::NAME, heard.cause.position())).ok();
        let origin = Origin { metadata: Metadata { correlation, causation, ..Metadata::default() }, depth };
        let entry = match self.hear_one(heard.clone(), Concern::Own, &origin, None).await? {
            Ok(entry) => entry,
            Err(why) => {
                if batch.concerns(&key) {
                    // What the instance took in before is not recorded yet: it cannot be read again before it is.
                    return Err(Trouble::Begin(why));
                }
                self.kept.remove(&key);
                self.hear_one(heard, Concern::Own, &origin, Some(&why)).await?.map_err(Trouble::Store)?
            }
        };
        batch.take(entry.into_iter().collect());
        Ok(())
    }

    /// What one instance makes of a trigger: an entry for its stream, none where it is not concerned. The error says why
    /// it cannot react; what is in memory of it is then of no use any more. With a fault given it is parked for that.
    async fn hear_one(
        &mut self,
        heard: Heard<P::Event>,
        concern: Concern,
        origin: &Origin,
        fault: Option<&String>,
    ) -> Result<Result<Option<Entry>, String>, Trouble> {
        let full = self.parked_count() >= PARKED_MAX;
        let key = heard.context.key.clone();
        let targets = self.targets.clone();
        let instance = self.instance(&key).await?;
        if instance.has_heard(&heard.cause) || !still_set(instance, &heard.cause) {
            return Ok(Ok(None));
        }
        let error = fault.or(instance.broken.as_ref()).cloned();
        if error.is_some() || !instance.parked.is_empty() {
            if full {
                return Err(Trouble::Store(format!("a person: {PARKED_MAX} triggers are parked, retry or skip some")));
            }
            if let Some(why) = &error {
                tracing::error!(process = P::NAME, key, cause = ?heard.cause, why, "an instance cannot react and is parked");
            }
            let event = Parked { process: P::NAME.to_owned(), cause: heard.cause.clone(), error: error.map(shortened) };
            instance.parked.push_back(heard.cause);
            let entry = instance.entry(&key, ProcessEvent::Parked(event), Vec::new(), origin);
            self.parked.insert(key);
            return Ok(Ok(Some(entry)));
        }
        Ok(instance.react(&key, &heard, concern, origin, &targets))
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
        if self.parked_count() >= PARKED_MAX {
            return Err(Trouble::Store(format!("a person: {PARKED_MAX} triggers are parked, retry or skip some")));
        }
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
        Ok(Entry { key: String::new(), stream, before, event, intents: Vec::new(), metadata })
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
        if let ProcessEvent::Reacted(reacted) = event {
            self.depths.insert(position.0, reacted.depth);
            if let Some((_, instance)) = self.kept.get_mut(key) {
                instance.settle(reacted, position);
            }
        }
        self.note_parked(key);
    }

    fn note_parked(&mut self, key: &str) {
        if self.kept.get(key).is_some_and(|(_, instance)| !instance.parked.is_empty()) {
            self.parked.insert(key.to_owned());
        } else {
            self.parked.remove(key);
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
        self.begin(starts);
        self.apply(heard).map_err(|panic| format!("apply panicked: {panic}"))?;
        let react = AssertUnwindSafe(|| self.state.react(&heard.trigger, &heard.context));
        let reaction = catch_unwind(react).map_err(|panic| format!("react panicked: {}", message(&*panic)))?;
        check(&reaction, targets)?;
        let (timers, cancelled) = reaction.timers_at(heard.context.at);
        let ends = reaction.ends || concern == Concern::Ends;
        if ends {
            self.life = Life::Ended;
        }
        let Reaction { commands, intents, .. } = reaction;
        let (process, cause, depth) = (P::NAME.to_owned(), heard.cause.clone(), origin.depth);
        let reacted = Reacted { process, cause, starts, ends, commands, timers, cancelled, depth, carried: 0 };
        let event = ProcessEvent::Reacted(reacted);
        if event.weight() > DATA_BYTES_MAX / 2 {
            return Err(format!("its commands take more than {} bytes", DATA_BYTES_MAX / 2));
        }
        self.correlation.clone_from(&origin.metadata.correlation);
        Ok(Some(self.entry(key, event, intents, origin)))
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
        let metadata = origin.metadata.clone();
        Entry { key: key.to_owned(), stream: self.stream.clone(), before, event, intents, metadata }
    }

    /// Whether it reacted to a refusal before, or whether the trigger waits already.
    fn has_heard(&self, cause: &StoredCause) -> bool {
        match cause {
            StoredCause::Refused { position, index, .. } => self.knows_refusal(*position, *index),
            StoredCause::Event { .. } | StoredCause::Timer { .. } => self.parked.contains(cause),
        }
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
    if reaction.timers.len() > TIMERS_MAX {
        return Err(format!("it sets or cancels {} timers, at most {TIMERS_MAX} go into one reaction", reaction.timers.len()));
    }
    match reaction.timers.iter().find(|(name, _)| name.len() > TIMER_NAME_BYTES_MAX) {
        Some((name, _)) => Err(format!("a timer's name has {} bytes, at most {TIMER_NAME_BYTES_MAX} are allowed", name.len())),
        None => Ok(()),
    }
}

/// Which instances an event concerns; an error where that panics.
pub(super) fn correlate<P: Process>(recorded: &Recorded<P::Event>) -> Result<Correlation, String> {
    catch_unwind(AssertUnwindSafe(|| P::correlate(recorded))).map_err(|panic| message(&*panic))
}

pub(super) fn metadata(cause: &Cause) -> Metadata {
    let (correlation, causation) = (Some(cause.correlation.clone()), Some(cause.causation.clone()));
    Metadata { correlation, causation, ..Metadata::default() }
}
