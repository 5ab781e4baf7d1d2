//! Reaction to a trigger: commands, effects and timers.

use std::any::Any;
use std::time::Duration;

use serde::Serialize;

use super::super::effect::Effect;
use super::record::{SetTimer, StoredCommand};
use crate::fold::{Aggregate, EventError, Schema};
use crate::json;
use crate::runtime::json::Json;
use crate::store::{EventType, Metadata, NewEvent, StreamName, Timestamp};

/// Result of a reaction to a trigger: commands, effects, timers, the end. All of it is recorded in
/// one atomic append.
///
/// Commands for one aggregate are carried out in the order given, and after those of earlier
/// reactions of the instance; commands for several aggregates side by side, in any order. Each is
/// carried out whatever the result of those before it, unless one for the same aggregate waits for
/// a person: then those behind it wait too. A command that depends on another command's success, or
/// on its coming first elsewhere, belongs in the reaction to that command's event.
#[derive(Debug, Default)]
#[must_use = "a reaction does nothing until it is returned"]
pub struct Reaction {
    pub(super) commands: Vec<IssuedCommand>,
    pub(super) intents: Vec<NewEvent>,
    pub(super) timers: Vec<(String, Option<Due>)>,
    pub(super) ends: bool,
    /// Correlation, trace and metadata of the request that its commands carry out; `None` if they
    /// are those of the trigger.
    pub(super) request: Option<Metadata>,
    /// Description of a part that cannot be written: the trigger is parked for it.
    pub(super) fault: Option<String>,
}

/// A command as it is to be recorded, and as it was issued.
#[derive(Debug)]
pub(super) struct IssuedCommand {
    pub(super) stored: StoredCommand,
    pub(super) issued: Box<dyn Any + Send + Sync>,
}

/// Due time of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// This long after the moment of the trigger ([`Context::at`](super::Context::at)).
    After(Duration),
    /// At a moment; one before the trigger's fires as soon as everything recorded was reacted to.
    At(Timestamp),
}

impl From<Duration> for Due {
    fn from(after: Duration) -> Self {
        Self::After(after)
    }
}

impl From<Timestamp> for Due {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl Due {
    /// The moment, for a trigger's.
    pub(super) fn moment(self, trigger: Timestamp) -> Timestamp {
        match self {
            Self::After(after) => trigger.plus(after),
            Self::At(at) => at.max(trigger),
        }
    }
}

impl Reaction {
    /// A reaction from which nothing follows.
    pub fn none() -> Self {
        Self::default()
    }

    /// A command for an aggregate, one of the process's [`targets`](super::Process::targets).
    pub fn command<A: Aggregate>(mut self, id: impl Into<String>, command: A::Command) -> Self
    where
        A::Command: Serialize,
    {
        let id = id.into();
        match (Json::of_unread(&command), StreamName::of(A::CATEGORY, &id)) {
            (Ok(json), Ok(_)) => {
                let stored = StoredCommand { to: A::CATEGORY.to_owned(), id, command: json };
                self.commands.push(IssuedCommand { stored, issued: Box::new(command) });
            }
            (Err(lost), _) => {
                self.fault(format!(
                    "the command for {}-{id} cannot be written: {}",
                    A::CATEGORY,
                    lost.with_name()
                ));
            }
            (_, Err(invalid)) => {
                self.fault(format!("the command for {}-{id} has no target: {invalid}", A::CATEGORY))
            }
        }
        self
    }

    /// An effect: its intent is recorded in the stream of the aggregate that will learn of the
    /// outcome, with the tags that its event has. That aggregate is not asked.
    pub fn effect<E: Effect>(mut self, target: &str, intent: &E::Intent) -> Self
    where
        E::Intent: Serialize,
    {
        match encode_intent::<E>(target, intent) {
            Ok(event) => self.intents.push(event),
            Err(error) => {
                self.fault(format!("the intent of effect {} cannot be written: {error}", E::NAME))
            }
        }
        self
    }

    /// Sets a timer of this instance; one of the same name is replaced.
    pub fn timer(mut self, name: impl Into<String>, due: impl Into<Due>) -> Self {
        self.timers.push((name.into(), Some(due.into())));
        self
    }

    /// Cancels a timer of this instance, if it is set.
    pub fn cancel(mut self, name: impl Into<String>) -> Self {
        self.timers.push((name.into(), None));
        self
    }

    /// Ends the instance: its timers are cancelled, and no event concerns it until one starts it
    /// again. Refusals of commands that it issued still come back to it.
    pub fn end(mut self) -> Self {
        self.ends = true;
        self
    }

    /// The same, with commands that carry out an earlier request: they go on in its conversation
    /// and its trace, and their events have its user metadata.
    pub(in crate::runtime) fn requested(mut self, request: Metadata) -> Self {
        self.request = Some(request);
        self
    }

    /// One that cannot be carried out: the trigger is parked.
    pub(in crate::runtime) fn failed(why: String) -> Self {
        Self { fault: Some(why), ..Self::default() }
    }

    /// The same, refused if it sets timers or ends the instance.
    pub(in crate::runtime) fn without_timers(mut self, what: &str) -> Self {
        if self.ends || !self.timers.is_empty() {
            self.fault(format!("{what} can neither set timers nor end"));
        }
        self
    }

    /// The timers as they are recorded: set ones with their moments, and the names of those that
    /// are cancelled.
    pub(super) fn timers_at(&self, trigger: Timestamp) -> (Vec<SetTimer>, Vec<String>) {
        let mut last: Vec<(&String, Option<Due>)> = Vec::new();
        for (name, due) in &self.timers {
            last.retain(|(known, _)| *known != name);
            last.push((name, *due));
        }
        let set = |(name, due): &(&String, Option<Due>)| {
            let due = due.as_ref()?.moment(trigger);
            Some(SetTimer { name: (*name).clone(), due, at_once: due <= trigger })
        };
        let cancelled =
            last.iter().filter(|(_, due)| due.is_none()).map(|(name, _)| (*name).clone()).collect();
        (last.iter().filter_map(set).collect(), cancelled)
    }

    fn fault(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }
}

fn encode_intent<E: Effect>(target: &str, intent: &E::Intent) -> Result<NewEvent, EventError>
where
    E::Intent: Serialize,
{
    let schema = Schema::of::<<E::Target as Aggregate>::Event>()?;
    let data = json::encode(intent)?;
    // As the event that it is, which alone knows its tags.
    let event: <E::Target as Aggregate>::Event =
        schema.event_of(&EventType::new(E::INTENT)?, &data)?;
    let intent = NewEvent { data: data.into(), ..schema.encode(&event)? };
    Ok(intent.in_stream(StreamName::of(E::Target::CATEGORY, target)?))
}
