//! The reaction of one instance to a trigger, within its limits: what cannot be recorded fails
//! here, where its trigger can be parked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::batch::BatchEntry;
use super::chain::Chain;
use super::correlation::Concern;
use super::instance::{IncomingTrigger, Instance, TriggerOrder};
use super::record::{ProcessEvent, ReactionRecord};
use super::{Process, Reaction, Targets, panicked};
use crate::fold::Schema;
use crate::runtime::consumer::message;
use crate::store::limits::DATA_BYTES_MAX;
use crate::store::{Append, Metadata, NewEvent, Position};

// ANCHOR: limits
/// Commands of one reaction.
pub const COMMANDS_MAX: usize = 10_000;
/// Effects that one reaction asks for.
pub const EFFECTS_MAX: usize = 1_000;
/// Timers that one reaction sets.
pub const TIMERS_MAX: usize = 60;
// ANCHOR_END: limits
/// Bytes of a timer's name.
const TIMER_NAME_BYTES_MAX: usize = 200;

/// Origin of a reaction, beside its trigger.
#[derive(Clone, Debug)]
pub(super) struct ReactionOrigin {
    pub(super) metadata: Metadata,
    pub(super) chain: Chain,
}

impl ReactionOrigin {
    /// The same on behalf of an earlier request, as far as that says something of itself. A span
    /// of the same trace stays: it is nearer to what follows.
    fn on_behalf_of(&self, request: Option<Metadata>) -> Self {
        let mut origin = self.clone();
        let Some(Metadata { correlation, trace, user, .. }) = request else { return origin };
        let metadata = &mut origin.metadata;
        metadata.correlation = correlation.or(metadata.correlation.take());
        metadata.user = user;
        metadata.trace = match (metadata.trace.take(), trace) {
            (Some(own), Some(trace)) if own.trace_id() != trace.trace_id() => Some(trace),
            (own, trace) => own.or(trace),
        };
        origin
    }

    /// A person's word, or the runtime's own.
    pub(super) fn none() -> Self {
        Self { metadata: Metadata::default(), chain: Chain::default() }
    }
}

impl<P: Process> Instance<P> {
    /// Takes a trigger in and reacts. See
    /// [`Instances::hear_one`](super::instances::Instances::hear_one).
    pub(super) fn react(
        &mut self,
        key: &str,
        heard: &IncomingTrigger<P::Event>,
        concern: Concern,
        origin: &ReactionOrigin,
        targets: &Targets,
    ) -> Result<Option<BatchEntry>, String> {
        let Some(begins) = self.concerned(concern) else { return Ok(None) };
        origin.chain.check()?;
        let starts = begins == TriggerOrder::First;
        self.begin(starts, Position::END);
        self.apply(heard);
        let trigger = self.hears(heard);
        let state = self.state.as_ref().map_err(Clone::clone)?;
        let react = AssertUnwindSafe(|| state.react(&trigger, &heard.context));
        let reaction =
            catch_unwind(react).map_err(|panic| panicked::<P>("react", &message(&*panic)))?;
        check(&reaction, targets)?;
        let (timers, cancelled) = reaction.timers_at(heard.context.at);
        let ends = reaction.ends || concern == Concern::Ends;
        let Reaction { commands, intents, request, .. } = reaction;
        let origin = &origin.on_behalf_of(request);
        let commands = commands.into_iter().map(|asked| asked.stored).collect();
        let (process, cause, Chain { depth, rounds }) =
            (P::NAME.to_owned(), heard.cause.clone(), origin.chain);
        let marks = (0, 0, 0);
        let (behind, carried, fired_before) = marks;
        let reacted = ReactionRecord {
            process,
            cause,
            starts,
            ends,
            commands,
            timers,
            cancelled,
            behind,
            depth,
            rounds,
            carried,
            fired_before,
        };
        self.end_timers(&reacted);
        self.correlation.clone_from(&origin.metadata.correlation);
        let entry = self.entry(key, ProcessEvent::Reacted(reacted), intents, origin);
        // What cannot be recorded fails here, where its trigger can be parked.
        Schema::of::<ProcessEvent>()
            .and_then(|own| own.encode(&entry.event))
            .map_err(|error| error.to_string())?;
        if entry.event_bytes > DATA_BYTES_MAX / 2 {
            return Err(format!(
                "its commands and timers take more than {} bytes",
                DATA_BYTES_MAX / 2
            ));
        }
        Ok(Some(entry))
    }

    /// A line for its stream, which has it from now on.
    pub(super) fn entry(
        &mut self,
        key: &str,
        event: ProcessEvent,
        intents: Vec<NewEvent>,
        origin: &ReactionOrigin,
    ) -> BatchEntry {
        let before = self.version;
        self.version = before.next();
        BatchEntry::new(
            key.to_owned(),
            (self.stream.clone(), before),
            event,
            intents,
            origin.metadata.clone(),
        )
    }
}

/// Checks a reaction against its limits.
fn check(reaction: &Reaction, targets: &Targets) -> Result<(), String> {
    if let Some(fault) = &reaction.fault {
        return Err(fault.clone());
    }
    if reaction.commands.len() > COMMANDS_MAX {
        return Err(format!(
            "it issues {} commands, at most {COMMANDS_MAX} go into one reaction",
            reaction.commands.len()
        ));
    }
    let bytes: usize =
        reaction.commands.iter().map(|asked| asked.stored.command.text().len()).sum();
    if bytes > DATA_BYTES_MAX / 2 {
        return Err(format!("its commands take more than {} bytes", DATA_BYTES_MAX / 2));
    }
    reaction.commands.iter().try_for_each(|asked| targets.check(asked))?;
    if reaction.intents.len() > EFFECTS_MAX {
        return Err(format!(
            "it asks for {} effects, at most {EFFECTS_MAX} go into one reaction",
            reaction.intents.len()
        ));
    }
    check_intents(&reaction.intents)?;
    if reaction.timers.len() > TIMERS_MAX {
        return Err(format!(
            "it sets or cancels {} timers, at most {TIMERS_MAX} go into one reaction",
            reaction.timers.len()
        ));
    }
    match reaction.timers.iter().find(|(name, _)| name.len() > TIMER_NAME_BYTES_MAX) {
        Some((name, _)) => Err(format!(
            "a timer's name has {} bytes, at most {TIMER_NAME_BYTES_MAX} are allowed",
            name.len()
        )),
        None => Ok(()),
    }
}

/// An intent that no store takes would hold up the whole process.
fn check_intents(intents: &[NewEvent]) -> Result<(), String> {
    if intents.is_empty() {
        return Ok(());
    }
    Append::of(intents.to_vec())
        .validate()
        .map_err(|invalid| format!("an effect that it asks for cannot be recorded: {invalid}"))
}
