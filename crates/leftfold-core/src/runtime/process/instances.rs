//! The instances of a process: those in memory, how they learn of a trigger, and what is parked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::{Instrument, Span};

use super::batch::{BatchEntry, ReactionBatch};
use super::chain::{Chain, ChainLink, Chains};
use super::correlation::{Concern, Correlation};
use super::instance::{IncomingTrigger, Instance, InstanceReader, check_key};
use super::orders::StuckOrder;
use super::parking::{Parking, UnreadableRecord, parked_as};
use super::react::ReactionOrigin;
use super::record::{ParkedRecord, ProcessEvent, StoredCause};
use super::step::ProcessTrouble;
use super::{INSTANCES_MAX, Process, Targets, Whose, panicked};
use crate::fold::{Cause, LoadError, Recorded, Unknown};
use crate::runtime::consumer::{message, shortened};
use crate::span;
use crate::store::limits::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX};
use crate::store::{Label, Metadata, Position, RecordedEvent};

/// Instances in memory; of more, those that were not used for longest are read again when they are.
const KEPT_MAX: usize = 20_000;
/// The instances of one process.
pub(super) struct Instances<P: Process> {
    pub(super) archive: InstanceReader,
    targets: Targets,
    kept: HashMap<String, (u64, Instance<P>)>,
    uses: u64,
    pub(super) parking: Parking,
    pub(super) chains: Chains,
}

/// Result of letting instances hear a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchAdmission {
    /// It is in the batch, as far as it concerns any.
    Taken,
    /// It is to be heard again, when the batch is recorded.
    Again,
    /// It would have to be parked, and too much is. The batch is to be recorded first.
    Full,
}

/// Response of all instances that an event concerns.
enum EventResponse {
    /// The lines to record.
    Entries(Vec<BatchEntry>),
    /// It is to be heard again, when the batch is recorded.
    Again,
    /// It would have to be parked, and too much is. The batch is to be recorded first.
    Full,
}

/// Response of one instance to a trigger.
enum InstanceResponse {
    Entries(Vec<BatchEntry>),
    /// It is not concerned.
    Nothing,
    /// It cannot react; its state in memory is of no use now.
    Failed(String),
    /// It would have to be parked, and too much is.
    Full,
}

/// An event as the process reads it: its parts, and whom each concerns.
type CorrelatedParts<E> = Vec<(Recorded<E>, Correlation)>;

impl<P: Process> Instances<P> {
    /// None yet: they are read when they are concerned.
    pub(super) fn new(archive: InstanceReader, targets: Targets, parking: Parking) -> Self {
        Self { archive, targets, kept: HashMap::new(), uses: 0, parking, chains: Chains::default() }
    }

    /// Parks a record that cannot be read: whom it concerns waits for a person.
    pub(super) async fn park_record(
        &mut self,
        found: UnreadableRecord,
        batch: &mut ReactionBatch,
    ) -> Result<(), ProcessTrouble> {
        if self.parking.knows_record(found.position) || self.parking.is_full(batch.parked()) {
            return Ok(());
        }
        tracing::error!(process = P::NAME, whose = ?found.whose, why = found.why, "a record of a process cannot be read");
        let cause = StoredCause::Record { position: found.position.0 };
        let event = ParkedRecord {
            process: P::NAME.to_owned(),
            cause: cause.clone(),
            error: Some(found.why),
        };
        let entry = match found.whose {
            Whose::Instance(key) => {
                let instance = self.instance(&key).await?;
                instance.unread.retain(|(position, _)| *position != found.position);
                instance.park(cause);
                instance.entry(
                    &key,
                    ProcessEvent::Parked(event),
                    Vec::new(),
                    &ReactionOrigin::none(),
                )
            }
            Whose::Stream(stream) => {
                self.parking.unread.entry(stream.clone()).or_default().causes.push_front(cause);
                self.parking.unread_entry(
                    P::NAME,
                    &stream,
                    ProcessEvent::Parked(event),
                    Metadata::default(),
                )?
            }
        };
        batch.take(vec![entry]);
        Ok(())
    }

    /// Parks a command that cannot be carried out, or one of the same instance that waits behind
    /// it.
    pub(super) async fn park_command(
        &mut self,
        stuck: StuckOrder,
        batch: &mut ReactionBatch,
    ) -> Result<BatchAdmission, ProcessTrouble> {
        let StuckOrder { key, cause, error, metadata: Metadata { correlation, trace, .. } } = stuck;
        let full = self.parking.is_full(batch.parked());
        let instance = self.instance(&key).await?;
        if instance.parked.contains(&cause) {
            return Ok(BatchAdmission::Taken);
        }
        if full {
            return Ok(BatchAdmission::Full);
        }
        if let Some(why) = &error {
            tracing::error!(
                process = P::NAME,
                key,
                ?cause,
                why,
                "a command cannot be carried out and is parked"
            );
        }
        let causation = issued_by(P::NAME, cause.position());
        let metadata = Metadata { correlation, causation, trace, ..Metadata::default() };
        let event = ParkedRecord {
            process: P::NAME.to_owned(),
            cause: cause.clone(),
            error: error.map(shortened),
        };
        instance.park(cause);
        let entry = instance.entry(
            &key,
            ProcessEvent::Parked(event),
            Vec::new(),
            &ReactionOrigin { metadata, chain: Chain::default() },
        );
        batch.take(vec![entry]);
        Ok(BatchAdmission::Taken)
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

    /// Drops the instances that were not used for longest, if there are too many.
    pub(super) fn forget_some(&mut self) {
        if self.kept.len() > KEPT_MAX {
            let mut used: Vec<u64> = self.kept.values().map(|(used, _)| *used).collect();
            let middle = used.len() / 2;
            let (_, median, _) = used.select_nth_unstable(middle);
            let median = *median;
            self.kept.retain(|_, (used, _)| *used >= median);
        }
        self.chains.forget_some();
    }

    /// Lets every instance that an event concerns react to it.
    pub(super) async fn hear(
        &mut self,
        event: &RecordedEvent,
        batch: &mut ReactionBatch,
    ) -> Result<BatchAdmission, ProcessTrouble> {
        let stream = parked_as(P::NAME, event.stream.as_ref().map_or("", |at| &at.name));
        let waits =
            self.parking.unread.get(&stream).is_some_and(|unread| !unread.causes.is_empty());
        let parts = if waits { Err(None) } else { self.read(event).map_err(Some) };
        let response = match parts {
            Ok(parts) => self.hear_parts(event, parts, batch).await?,
            Err(_) if self.parking.is_full(batch.parked()) => EventResponse::Full,
            Err(why) => {
                if let Some(why) = &why {
                    tracing::error!(process = P::NAME, position = %event.position, why, "an event cannot be read and is parked");
                }
                EventResponse::Entries(vec![self.park_unread(&stream, event, why)?])
            }
        };
        Ok(match response {
            EventResponse::Entries(entries) => {
                batch.take(entries);
                BatchAdmission::Taken
            }
            EventResponse::Again => BatchAdmission::Again,
            EventResponse::Full => BatchAdmission::Full,
        })
    }

    /// Parks an event that was passed over, if it concerns any instance.
    pub(super) fn park_passed_over(
        &mut self,
        event: &RecordedEvent,
        batch: &mut ReactionBatch,
    ) -> Result<BatchAdmission, ProcessTrouble> {
        let read = self.read(event);
        let stream = parked_as(P::NAME, event.stream.as_ref().map_or("", |at| &at.name));
        let is_parked = self
            .parking
            .unread
            .get(&stream)
            .is_some_and(|unread| unread.causes.contains(&unread_cause(event)));
        if is_parked
            || read
                .as_ref()
                .is_ok_and(|parts| parts.iter().all(|(_, whom)| whom.concerned.is_empty()))
        {
            return Ok(BatchAdmission::Taken);
        }
        if self.parking.is_full(batch.parked()) {
            return Ok(BatchAdmission::Full);
        }
        let why = read.err().unwrap_or_else(|| {
            let event_type = &event.event_type;
            format!(
                "{event_type} was passed over, as the owner that knows this name came into use later, and what came after it was \
                 reacted to: retry or skip it, and name the owner in owners()"
            )
        });
        tracing::error!(process = P::NAME, position = %event.position, why, "an event was passed over and is parked");
        batch.take(vec![self.park_unread(&stream, event, Some(why))?]);
        Ok(BatchAdmission::Taken)
    }

    /// Returns the entries of every instance for an event. Those that fail are parked, if the batch
    /// is empty.
    async fn hear_parts(
        &mut self,
        event: &RecordedEvent,
        parts: CorrelatedParts<P::Event>,
        batch: &ReactionBatch,
    ) -> Result<EventResponse, ProcessTrouble> {
        if parts.iter().all(|(_, correlation)| correlation.concerned.is_empty()) {
            return Ok(EventResponse::Entries(Vec::new()));
        }
        let span = reaction_span(P::NAME, event.position);
        span::continues(&span, event.metadata.trace.as_ref());
        let mut origin = ReactionOrigin {
            metadata: metadata(&Cause::from(event)),
            chain: self.chain_after(event).await?,
        };
        span::carries(&span, &mut origin.metadata);
        self.hear_each(parts, &origin, batch).instrument(span).await
    }

    async fn hear_each(
        &mut self,
        parts: CorrelatedParts<P::Event>,
        origin: &ReactionOrigin,
        batch: &ReactionBatch,
    ) -> Result<EventResponse, ProcessTrouble> {
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let (mut entries, mut failed, mut parked) =
                (Vec::new(), BTreeMap::new(), batch.parked());
            let mut full = false;
            for (part, (recorded, correlation)) in parts.iter().enumerate() {
                for (key, concern) in &correlation.concerned {
                    if full || failed.contains_key(key) {
                        continue;
                    }
                    let heard = IncomingTrigger::event(key, recorded, part as u32);
                    match self.hear_one(heard, *concern, origin, faults.get(key), parked).await? {
                        InstanceResponse::Entries(more) => {
                            parked += more.iter().filter(|entry| entry.is_parked()).count();
                            entries.extend(more);
                        }
                        InstanceResponse::Nothing => {}
                        InstanceResponse::Failed(why) => _ = failed.insert(key.clone(), why),
                        InstanceResponse::Full => full = true,
                    }
                }
            }
            if !full && failed.is_empty() {
                let Some(why) = too_large(&entries) else {
                    return Ok(EventResponse::Entries(entries));
                };
                failed.extend(entries.iter().map(|entry| (entry.key.clone(), why.clone())));
            }
            // What they took in is not recorded.
            entries
                .iter()
                .map(|entry| &entry.key)
                .chain(failed.keys())
                .for_each(|key| _ = self.kept.remove(key));
            if full {
                return Ok(EventResponse::Full);
            }
            if !batch.is_empty() {
                return Ok(EventResponse::Again);
            }
            faults.extend(failed);
        }
    }

    /// Lets an instance react to a timer or a refusal of its own, if that still concerns it. A
    /// failure parks it.
    pub(super) async fn hear_own(
        &mut self,
        heard: IncomingTrigger<P::Event>,
        mut metadata: Metadata,
        batch: &mut ReactionBatch,
    ) -> Result<BatchAdmission, ProcessTrouble> {
        let ChainLink { chain, trace } = self.link_before(&heard).await?;
        metadata.trace = metadata.trace.or(trace);
        let span = reaction_span(P::NAME, heard.cause.position());
        span::continues(&span, metadata.trace.as_ref());
        span::carries(&span, &mut metadata);
        self.hear_own_within(heard, metadata, chain, batch).instrument(span).await
    }

    async fn hear_own_within(
        &mut self,
        heard: IncomingTrigger<P::Event>,
        Metadata { correlation, trace, .. }: Metadata,
        chain: Chain,
        batch: &mut ReactionBatch,
    ) -> Result<BatchAdmission, ProcessTrouble> {
        let key = heard.context.key.clone();
        let instance = self.instance(&key).await?;
        let correlation = correlation.or_else(|| instance.correlation.clone());
        let causation = issued_by(P::NAME, heard.cause.position());
        let origin = ReactionOrigin {
            metadata: Metadata { correlation, causation, trace, ..Metadata::default() },
            chain,
        };
        let mut response =
            self.hear_one(heard.clone(), Concern::Own, &origin, None, batch.parked()).await?;
        if let InstanceResponse::Failed(why) = response {
            self.kept.remove(&key);
            if batch.concerns(&key) {
                // What the instance took in before is not recorded yet: it cannot be read again
                // before it is.
                return Ok(BatchAdmission::Again);
            }
            response =
                self.hear_one(heard, Concern::Own, &origin, Some(&why), batch.parked()).await?;
        }
        match response {
            InstanceResponse::Entries(entries) => batch.take(entries),
            InstanceResponse::Nothing => {}
            InstanceResponse::Full => return Ok(BatchAdmission::Full),
            // With a fault given it is parked.
            InstanceResponse::Failed(why) => return Err(ProcessTrouble::Store(why)),
        }
        Ok(BatchAdmission::Taken)
    }

    /// Returns one instance's response to a trigger; a `fault` parks it beside `parked` others.
    async fn hear_one(
        &mut self,
        heard: IncomingTrigger<P::Event>,
        concern: Concern,
        origin: &ReactionOrigin,
        fault: Option<&String>,
        parked: usize,
    ) -> Result<InstanceResponse, ProcessTrouble> {
        let full = self.parking.is_full(parked);
        let key = heard.context.key.clone();
        let targets = self.targets.clone();
        let instance = self.instance(&key).await?;
        let waits = !instance.unread.is_empty() || !instance.parked.is_empty();
        if !instance.is_due(&heard.cause) || !waits && instance.concerned(concern).is_none() {
            return Ok(InstanceResponse::Nothing);
        }
        let error = fault.or(instance.state.as_ref().err()).cloned();
        if error.is_none() && !waits {
            return Ok(match instance.react(&key, &heard, concern, origin, &targets) {
                Ok(Some(entry)) => InstanceResponse::Entries(vec![entry]),
                Ok(None) => InstanceResponse::Nothing,
                Err(why) => InstanceResponse::Failed(why),
            });
        }
        if full {
            return Ok(InstanceResponse::Full);
        }
        let records = std::mem::take(&mut instance.unread).into_iter();
        let records = records
            .map(|(position, why)| (StoredCause::Record { position: position.0 }, Some(why)));
        let error = error.filter(|_| !waits);
        let mut entries = Vec::new();
        for (cause, error) in records.chain([(heard.cause, error)]) {
            if let Some(why) = &error {
                tracing::error!(
                    process = P::NAME,
                    key,
                    ?cause,
                    why,
                    "an instance cannot react and is parked"
                );
            }
            let event = ParkedRecord {
                process: P::NAME.to_owned(),
                cause: cause.clone(),
                error: error.map(shortened),
            };
            instance.park(cause);
            entries.push(instance.entry(&key, ProcessEvent::Parked(event), Vec::new(), origin));
        }
        Ok(InstanceResponse::Entries(entries))
    }

    /// The event in today's shape, and whom it concerns.
    fn read(&self, event: &RecordedEvent) -> Result<CorrelatedParts<P::Event>, String> {
        let read = AssertUnwindSafe(|| {
            let parts = self
                .archive
                .schema
                .decode::<P::Event>(event, Unknown::Ignore)
                .map_err(|error| error.to_string())?;
            let mut concerned = 0;
            let mut all = Vec::with_capacity(parts.len());
            for part in parts {
                let recorded = Recorded { event: part, envelope: event.clone() };
                let correlation = P::correlate(&recorded);
                concerned += correlation.concerned.len();
                for (key, _) in &correlation.concerned {
                    check_key(P::NAME, key)
                        .map_err(|invalid| format!("its key names no instance: {invalid}"))?;
                }
                all.push((recorded, correlation));
            }
            if concerned > INSTANCES_MAX {
                return Err(format!(
                    "it concerns {concerned} instances, at most {INSTANCES_MAX} can react to one event"
                ));
            }
            Ok(all)
        });
        catch_unwind(read)
            .unwrap_or_else(|panic| Err(panicked::<P>("correlate", &message(&*panic))))
    }

    fn park_unread(
        &mut self,
        stream: &str,
        event: &RecordedEvent,
        error: Option<String>,
    ) -> Result<BatchEntry, ProcessTrouble> {
        let cause = unread_cause(event);
        let parked = ParkedRecord {
            process: P::NAME.to_owned(),
            cause: cause.clone(),
            error: error.map(shortened),
        };
        let entry = self.parking.unread_entry(
            P::NAME,
            stream,
            ProcessEvent::Parked(parked),
            metadata(&Cause::from(event)),
        )?;
        self.parking.unread.entry(stream.to_owned()).or_default().causes.push_back(cause);
        Ok(entry)
    }

    /// Takes in an event that is durable now.
    pub(super) fn settle(
        &mut self,
        key: &str,
        event: &ProcessEvent,
        position: Position,
        metadata: &Metadata,
    ) {
        self.parking.count(key, event);
        if let ProcessEvent::Reacted(reacted) = event {
            self.chains.settle(reacted, position, metadata);
        }
        let Some((_, instance)) = self.kept.get_mut(key) else { return };
        instance.last = instance.last.max(position);
        if let ProcessEvent::Reacted(reacted) = event {
            instance.settle(reacted, position);
        }
    }

    /// Makes the snapshots of instances that are due. All their reactions are recorded.
    pub(super) fn keep_snapshots(&mut self, keys: &BTreeSet<String>) {
        for key in keys {
            if let Some((_, instance)) = self.kept.get_mut(key) {
                self.archive.keep_snapshot(instance);
            }
        }
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Checks that an event can be read, and its instances can be found.
    pub(super) fn try_read(&self, event: &RecordedEvent) -> Result<(), String> {
        self.read(event).map(drop)
    }

    /// Drops the state kept of an instance, which is of no use now.
    pub(super) fn forget(&mut self, key: &str) {
        self.kept.remove(key);
    }
}

/// Returns the cause under which an unread event is parked.
fn unread_cause(event: &RecordedEvent) -> StoredCause {
    StoredCause::Event { position: event.position.0, part: 0 }
}

/// Returns the label that names a reaction as the cause of the commands it issued.
fn issued_by(process: &str, reaction: Position) -> Option<Label> {
    Label::new(format!("$process:{process}@{reaction}")).ok()
}

/// Returns the reason why the reactions to one event cannot be recorded together; `None` if they
/// can. Half of an append's limits is for other triggers.
fn too_large(entries: &[BatchEntry]) -> Option<String> {
    let events: usize = entries.iter().map(BatchEntry::events).sum();
    let bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
    (events > APPEND_EVENTS_MAX / 2 || bytes > APPEND_BYTES_MAX / 2).then(|| {
        format!(
            "all reactions to the event together are {events} events of {bytes} bytes, which is more than can be recorded at once"
        )
    })
}

/// Returns the instances that an event concerns; an error if that panics.
pub(super) fn correlate<P: Process>(recorded: &Recorded<P::Event>) -> Result<Correlation, String> {
    catch_unwind(AssertUnwindSafe(|| P::correlate(recorded))).map_err(|panic| message(&*panic))
}

pub(super) fn metadata(cause: &Cause) -> Metadata {
    let (correlation, causation) = (Some(cause.correlation.clone()), Some(cause.causation.clone()));
    Metadata { correlation, causation, trace: cause.trace.clone(), ..Metadata::default() }
}

/// The span of the reactions to one trigger.
fn reaction_span(process: &'static str, position: Position) -> Span {
    tracing::info_span!(
        "leftfold.reaction",
        process,
        position = position.0,
        trace_id = tracing::field::Empty,
        parent_id = tracing::field::Empty
    )
}
