//! One scheduled command, as an aggregate: the stream that says when it is due, and whether it
//! still is.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::origin::StoredOrigin;
use super::{PREFIX, ScheduleRefusal, joined};
use crate::fold::{Aggregate, Event};
use crate::runtime::json::Json;
use crate::runtime::names::JoinedName;
use crate::store::{Authority, Timestamp};

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 1_000;

/// Fact about a scheduled command, stored as `$scheduled:CATEGORY.…` in the stream
/// `$scheduled:CATEGORY-ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum AppointmentEvent {
    Scheduled {
        at: Timestamp,
        target: String,
        command: Json,
        #[serde(default, skip_serializing_if = "StoredOrigin::is_empty")]
        origin: StoredOrigin,
    },
    Moved {
        at: Timestamp,
    },
    Cancelled {},
    /// From here on it is carried out, and neither moved nor cancelled. It bears the command again,
    /// so that the process that carries it out needs no memory of it.
    FellDue {
        target: String,
        command: Json,
        #[serde(default, skip_serializing_if = "StoredOrigin::is_empty")]
        origin: StoredOrigin,
    },
    /// Its aggregate refused it.
    Refused {
        reason: String,
    },
}

/// [`AppointmentEvent`], of commands for one kind of aggregate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct AppointmentEventFor<A> {
    pub(super) what: AppointmentEvent,
    #[serde(skip)]
    aggregate: PhantomData<fn() -> A>,
}

/// Command to a scheduled command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum AppointmentCommand {
    Schedule {
        at: Timestamp,
        target: String,
        command: Json,
        origin: StoredOrigin,
    },
    Move {
        at: Timestamp,
    },
    Cancel,
    /// The timer for that moment has fired.
    Fire {
        due: Timestamp,
    },
    Refuse {
        reason: String,
    },
}

/// The state of a scheduled command; its fields are `None` before there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Appointment {
    pub(super) asked: Option<FirstRequest>,
    pub(super) at: Option<Timestamp>,
    pub(super) over: Option<AppointmentEnd>,
}

/// Content of the first request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FirstRequest {
    pub(super) at: Timestamp,
    pub(super) target: String,
    pub(super) command: Json,
    #[serde(default, skip_serializing_if = "StoredOrigin::is_empty")]
    pub(super) origin: StoredOrigin,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum AppointmentEnd {
    Due,
    Cancelled,
    Refused(String),
}

/// [`Appointment`] of a command for one kind of aggregate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct AppointmentFor<A> {
    pub(super) state: Appointment,
    #[serde(skip)]
    aggregate: PhantomData<fn() -> A>,
}

impl<A> Default for AppointmentFor<A> {
    fn default() -> Self {
        Self { state: Appointment::default(), aggregate: PhantomData }
    }
}

impl<A> Clone for AppointmentFor<A> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), aggregate: PhantomData }
    }
}

impl<A> From<AppointmentEvent> for AppointmentEventFor<A> {
    fn from(what: AppointmentEvent) -> Self {
        Self { what, aggregate: PhantomData }
    }
}

impl<A> Clone for AppointmentEventFor<A> {
    fn clone(&self) -> Self {
        self.what.clone().into()
    }
}

impl<A: Aggregate> AppointmentEventFor<A> {
    const JOINED: &'static JoinedName = &joined(PREFIX, A::CATEGORY);
}

impl<A: Aggregate> Event for AppointmentEventFor<A> {
    const NAMESPACE: &'static str = Self::JOINED.as_str();
}

impl<A: Aggregate> Aggregate for AppointmentFor<A> {
    const CATEGORY: &'static str = AppointmentEventFor::<A>::NAMESPACE;
    type Event = AppointmentEventFor<A>;
    type Command = AppointmentCommand;
    type Refusal = ScheduleRefusal;

    fn authority() -> Authority {
        Authority::RUNTIME
    }

    fn apply(&mut self, event: &AppointmentEventFor<A>) {
        self.state.apply(&event.what);
    }

    fn decide(
        &self,
        book: &AppointmentCommand,
    ) -> Result<Vec<AppointmentEventFor<A>>, ScheduleRefusal> {
        Ok(self.state.decide(book)?.into_iter().map(AppointmentEventFor::from).collect())
    }
}

impl Appointment {
    fn apply(&mut self, event: &AppointmentEvent) {
        match event.clone() {
            AppointmentEvent::Scheduled { at, target, command, origin } => {
                (self.at, self.asked) =
                    (Some(at), Some(FirstRequest { at, target, command, origin }));
            }
            AppointmentEvent::Moved { at } => self.at = Some(at),
            AppointmentEvent::Cancelled {} => self.over = Some(AppointmentEnd::Cancelled),
            AppointmentEvent::FellDue { .. } => self.over = Some(AppointmentEnd::Due),
            AppointmentEvent::Refused { reason } => {
                self.over = Some(AppointmentEnd::Refused(reason))
            }
        }
    }

    fn decide(
        &self,
        book: &AppointmentCommand,
    ) -> Result<Option<AppointmentEvent>, ScheduleRefusal> {
        let (Some(asked), Some(until)) = (&self.asked, self.at) else {
            return match book.clone() {
                AppointmentCommand::Schedule { at, target, command, origin } => {
                    Ok(Some(AppointmentEvent::Scheduled { at, target, command, origin }))
                }
                AppointmentCommand::Move { .. } | AppointmentCommand::Cancel => {
                    Err(ScheduleRefusal::Unknown)
                }
                AppointmentCommand::Fire { .. } | AppointmentCommand::Refuse { .. } => Ok(None),
            };
        };
        let happened = match (book, &self.over) {
            // Where a repetition comes from is its own: another attempt, or another trace.
            (AppointmentCommand::Schedule { at, target, command, .. }, over) => {
                let is_same = asked.at == *at
                    && asked.target == *target
                    && asked.command.says_the_same(command);
                match over {
                    _ if !is_same => {
                        return Err(ScheduleRefusal::Taken {
                            target: asked.target.clone(),
                            at: asked.at,
                        });
                    }
                    Some(AppointmentEnd::Cancelled) => return Err(ScheduleRefusal::Cancelled),
                    None | Some(AppointmentEnd::Due | AppointmentEnd::Refused(_)) => None,
                }
            }
            (AppointmentCommand::Move { at }, None) => {
                (*at != until).then_some(AppointmentEvent::Moved { at: *at })
            }
            (AppointmentCommand::Cancel, None) => Some(AppointmentEvent::Cancelled {}),
            (AppointmentCommand::Move { .. }, Some(AppointmentEnd::Cancelled)) => {
                return Err(ScheduleRefusal::Cancelled);
            }
            (AppointmentCommand::Cancel, Some(AppointmentEnd::Cancelled)) => None,
            (
                AppointmentCommand::Move { .. } | AppointmentCommand::Cancel,
                Some(AppointmentEnd::Due | AppointmentEnd::Refused(_)),
            ) => {
                return Err(ScheduleRefusal::TooLate { due: until });
            }
            // A timer for a moment that it was moved away from counts no longer.
            (AppointmentCommand::Fire { due }, None) if until <= *due => {
                Some(AppointmentEvent::FellDue {
                    target: asked.target.clone(),
                    command: asked.command.clone(),
                    origin: asked.origin.clone(),
                })
            }
            (AppointmentCommand::Fire { .. }, _) => None,
            (AppointmentCommand::Refuse { reason }, Some(AppointmentEnd::Due)) => {
                Some(AppointmentEvent::Refused {
                    reason: reason.chars().take(REASON_CHARS_MAX).collect(),
                })
            }
            (AppointmentCommand::Refuse { .. }, _) => None,
        };
        Ok(happened)
    }
}
