//! Carrying scheduled commands out, as a process: an instance for each, with one timer and no
//! memory of the command.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::appointment::{
    AppointmentCommand, AppointmentEvent, AppointmentEventFor, AppointmentFor,
};
use super::{PROCESS_PREFIX, joined};
use crate::fold::{Aggregate, Recorded};
use crate::runtime::names::JoinedName;
use crate::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};

const DUE: &str = "due";

/// The process that carries out scheduled commands for one kind of aggregate.
///
/// When the timer fires, the command's own stream is asked first: only its answer tells a firing
/// from a cancellation that comes at the same moment.
#[derive(Debug)]
pub(crate) struct CarryingOut<A>(PhantomData<fn() -> A>);

impl<A> Default for CarryingOut<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Aggregate> CarryingOut<A> {
    const JOINED: &'static JoinedName = &joined(PROCESS_PREFIX, A::CATEGORY);

    /// The name of the process.
    pub(super) const fn name() -> &'static str {
        Self::JOINED.as_str()
    }
}

impl<A: Aggregate> Process for CarryingOut<A>
where
    A::Command: Serialize + DeserializeOwned,
    A::Refusal: Serialize + DeserializeOwned,
{
    const NAME: &'static str = Self::name();
    type Event = AppointmentEventFor<A>;

    fn targets() -> Targets {
        Targets::of::<A>().and::<AppointmentFor<A>>()
    }

    fn correlate(event: &Recorded<AppointmentEventFor<A>>) -> Correlation {
        let id = event.stream_id();
        match event.event.what {
            AppointmentEvent::Scheduled { .. } => Correlation::starts(id),
            AppointmentEvent::Moved { .. } => Correlation::continues(id),
            AppointmentEvent::Cancelled {} | AppointmentEvent::FellDue { .. } => {
                Correlation::ends(id)
            }
            AppointmentEvent::Refused { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<AppointmentEventFor<A>>, _: &Context) {}

    fn react(&self, trigger: &Trigger<AppointmentEventFor<A>>, context: &Context) -> Reaction {
        let own = |book| Reaction::none().command::<AppointmentFor<A>>(&context.key, book);
        match trigger {
            Trigger::Event(AppointmentEventFor {
                what: AppointmentEvent::Scheduled { at, .. } | AppointmentEvent::Moved { at },
                ..
            }) => Reaction::none().timer(DUE, *at),
            Trigger::TimerFired { .. } => own(AppointmentCommand::Fire { due: context.at }),
            Trigger::Event(AppointmentEventFor {
                what: AppointmentEvent::FellDue { target, command, origin },
                ..
            }) => match command.read::<A::Command>() {
                Ok(command) => {
                    Reaction::none().command::<A>(target, command).requested(origin.metadata())
                }
                Err(error) => Reaction::failed(format!(
                    "the scheduled command {} for {}-{target} does not parse: {error}",
                    context.key,
                    A::CATEGORY
                )),
            },
            // A scheduled command that is told of time and refusals refuses nothing.
            Trigger::Refused(refused) if refused.is_for::<AppointmentFor<A>>() => Reaction::none(),
            Trigger::Refused(refused) => {
                let (id, target, reason) = (&context.key, refused.target(), refused.reason());
                tracing::error!(
                    category = A::CATEGORY,
                    target,
                    id,
                    reason,
                    "a scheduled command was refused"
                );
                own(AppointmentCommand::Refuse { reason: reason.to_owned() })
            }
            Trigger::Event(AppointmentEventFor {
                what: AppointmentEvent::Cancelled {} | AppointmentEvent::Refused { .. },
                ..
            }) => Reaction::none(),
        }
    }
}
