//! Delivery, as a process: an instance for each source, which carries no messages, only how long
//! each is held.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use super::source::{InboxOccurrence, Occurrence, Source, SourceCommand};
use super::{Delivery, Inbox};
use crate::fold::Recorded;
use crate::runtime::json::Json;
use crate::runtime::names::JoinedName;
use crate::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use crate::store::Timestamp;

/// The timer of the message that is held for longest.
const GAP: &str = "gap";

/// Messages that are held of a source.
#[derive(Debug)]
pub(crate) struct Delivering<I> {
    /// End of the wait of each message that is held and was not given up.
    held: BTreeMap<u64, Timestamp>,
    /// The message whose time has come just now.
    overdue: Option<u64>,
    /// Due time of the timer.
    due: Option<Timestamp>,
    /// Due time of the timer before the last trigger.
    due_before: Option<Timestamp>,
    inbox: PhantomData<fn() -> I>,
}

impl<I> Default for Delivering<I> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            overdue: None,
            due: None,
            due_before: None,
            inbox: PhantomData,
        }
    }
}

impl<I: Inbox> Delivering<I> {
    const JOINED: &'static JoinedName = &super::joined("inbox:", I::NAME);

    /// Returns the commands and effects that a message means, without the steps that only a process
    /// may take.
    fn deliver(
        id: &str,
        sequence: Option<u64>,
        is_late: bool,
        message: &Json,
        context: &Context,
    ) -> Reaction {
        let from = Delivery {
            source: context.stream_id.clone(),
            id: id.to_owned(),
            sequence,
            is_late,
            at: context.at,
        };
        match message.read::<I::Message>() {
            Ok(message) => I::deliver(&message, &from).without_timers("what an inbox delivers"),
            Err(error) => Reaction::failed(format!("message {id} does not parse: {error}")),
        }
    }
}

impl<I: Inbox> Process for Delivering<I> {
    const NAME: &'static str = Self::JOINED.as_str();
    type Event = InboxOccurrence<I>;

    fn targets() -> Targets {
        I::targets().and::<Source<I>>()
    }

    fn correlate(event: &Recorded<InboxOccurrence<I>>) -> Correlation {
        match &event.event.what {
            Occurrence::Accepted { .. } | Occurrence::Held { .. } | Occurrence::CameLate { .. } => {
                Correlation::starts(event.stream_id())
            }
            Occurrence::GapReported { .. }
            | Occurrence::GapReleased { .. }
            | Occurrence::DeliveryRefused { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<InboxOccurrence<I>>, context: &Context) {
        (self.due_before, self.overdue) = (self.due, None);
        match trigger {
            Trigger::Event(InboxOccurrence { what: Occurrence::Held { sequence, .. }, .. }) => {
                self.held.insert(*sequence, context.at.plus(I::hold()));
            }
            Trigger::Event(InboxOccurrence {
                what: Occurrence::Accepted { sequence: Some(sequence), .. },
                ..
            }) => {
                self.held.remove(sequence);
            }
            Trigger::TimerFired { .. } => {
                // The last one whose time has come: those before it are delivered with it.
                self.overdue = self
                    .held
                    .iter()
                    .rev()
                    .find(|(_, until)| **until <= context.at)
                    .map(|(sequence, _)| *sequence);
                // Nobody waits for them any more: they are delivered, or a person was told.
                self.held.retain(|_, until| *until > context.at);
                self.due_before = None;
            }
            Trigger::Event(_) | Trigger::Refused(_) => {}
        }
        self.due = self.held.values().min().copied();
    }

    fn react(&self, trigger: &Trigger<InboxOccurrence<I>>, context: &Context) -> Reaction {
        let reaction = match trigger {
            Trigger::Event(InboxOccurrence {
                what: Occurrence::Accepted { id, sequence, message },
                ..
            }) => Self::deliver(id, *sequence, false, message, context),
            Trigger::Event(InboxOccurrence {
                what: Occurrence::CameLate { id, sequence, message },
                ..
            }) => Self::deliver(id, Some(*sequence), true, message, context),
            Trigger::Refused(refused) if !refused.is_for::<Source<I>>() => {
                let (target, reason) = (
                    format!("{}-{}", refused.category(), refused.target()),
                    refused.reason().to_owned(),
                );
                return Reaction::none()
                    .command::<Source<I>>(&context.key, SourceCommand::Refused { target, reason });
            }
            // A source that is told of time and people refuses nothing.
            Trigger::Refused(_) => return Reaction::none(),
            Trigger::Event(_) | Trigger::TimerFired { .. } => Reaction::none(),
        };
        let reaction = match self.overdue {
            Some(sequence) => {
                reaction.command::<Source<I>>(&context.key, SourceCommand::HeldTooLong { sequence })
            }
            None => reaction,
        };
        match self.due {
            Some(due) if self.due != self.due_before => reaction.timer(GAP, due),
            Some(_) => reaction,
            // It begins again with the next message, so that its history is short.
            None => reaction.end(),
        }
    }
}
