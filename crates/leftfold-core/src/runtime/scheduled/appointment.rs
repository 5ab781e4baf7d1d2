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
pub(super) enum Booked {
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

/// [`Booked`], of commands for one kind of aggregate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct BookedFor<A> {
    pub(super) what: Booked,
    #[serde(skip)]
    aggregate: PhantomData<fn() -> A>,
}

/// Command to a scheduled command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Book {
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
    pub(super) asked: Option<AskedFor>,
    pub(super) at: Option<Timestamp>,
    pub(super) over: Option<Over>,
}

/// Content of the first request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AskedFor {
    pub(super) at: Timestamp,
    pub(super) target: String,
    pub(super) command: Json,
    #[serde(default, skip_serializing_if = "StoredOrigin::is_empty")]
    pub(super) origin: StoredOrigin,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Over {
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

impl<A> From<Booked> for BookedFor<A> {
    fn from(what: Booked) -> Self {
        Self { what, aggregate: PhantomData }
    }
}

impl<A> Clone for BookedFor<A> {
    fn clone(&self) -> Self {
        self.what.clone().into()
    }
}

impl<A: Aggregate> BookedFor<A> {
    const JOINED: &'static JoinedName = &joined(PREFIX, A::CATEGORY);
}

impl<A: Aggregate> Event for BookedFor<A> {
    const NAMESPACE: &'static str = Self::JOINED.as_str();
}

impl<A: Aggregate> Aggregate for AppointmentFor<A> {
    const CATEGORY: &'static str = BookedFor::<A>::NAMESPACE;
    type Event = BookedFor<A>;
    type Command = Book;
    type Refusal = ScheduleRefusal;

    fn authority() -> Authority {
        Authority::RUNTIME
    }

    fn apply(&mut self, event: &BookedFor<A>) {
        self.state.apply(&event.what);
    }

    fn decide(&self, book: &Book) -> Result<Vec<BookedFor<A>>, ScheduleRefusal> {
        Ok(self.state.decide(book)?.into_iter().map(BookedFor::from).collect())
    }
}

impl Appointment {
    fn apply(&mut self, event: &Booked) {
        match event.clone() {
            Booked::Scheduled { at, target, command, origin } => {
                (self.at, self.asked) = (Some(at), Some(AskedFor { at, target, command, origin }));
            }
            Booked::Moved { at } => self.at = Some(at),
            Booked::Cancelled {} => self.over = Some(Over::Cancelled),
            Booked::FellDue { .. } => self.over = Some(Over::Due),
            Booked::Refused { reason } => self.over = Some(Over::Refused(reason)),
        }
    }

    fn decide(&self, book: &Book) -> Result<Option<Booked>, ScheduleRefusal> {
        let (Some(asked), Some(until)) = (&self.asked, self.at) else {
            return match book.clone() {
                Book::Schedule { at, target, command, origin } => {
                    Ok(Some(Booked::Scheduled { at, target, command, origin }))
                }
                Book::Move { .. } | Book::Cancel => Err(ScheduleRefusal::Unknown),
                Book::Fire { .. } | Book::Refuse { .. } => Ok(None),
            };
        };
        let happened = match (book, &self.over) {
            // Where a repetition comes from is its own: another attempt, or another trace.
            (Book::Schedule { at, target, command, .. }, over) => {
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
                    Some(Over::Cancelled) => return Err(ScheduleRefusal::Cancelled),
                    None | Some(Over::Due | Over::Refused(_)) => None,
                }
            }
            (Book::Move { at }, None) => (*at != until).then_some(Booked::Moved { at: *at }),
            (Book::Cancel, None) => Some(Booked::Cancelled {}),
            (Book::Move { .. }, Some(Over::Cancelled)) => return Err(ScheduleRefusal::Cancelled),
            (Book::Cancel, Some(Over::Cancelled)) => None,
            (Book::Move { .. } | Book::Cancel, Some(Over::Due | Over::Refused(_))) => {
                return Err(ScheduleRefusal::TooLate { due: until });
            }
            // A timer for a moment that it was moved away from counts no longer.
            (Book::Fire { due }, None) if until <= *due => Some(Booked::FellDue {
                target: asked.target.clone(),
                command: asked.command.clone(),
                origin: asked.origin.clone(),
            }),
            (Book::Fire { .. }, _) => None,
            (Book::Refuse { reason }, Some(Over::Due)) => {
                Some(Booked::Refused { reason: reason.chars().take(REASON_CHARS_MAX).collect() })
            }
            (Book::Refuse { .. }, _) => None,
        };
        Ok(happened)
    }
}
