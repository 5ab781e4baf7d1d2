//! The right to write names that begin with `$`.

use super::{CheckpointRecord, Invalid, NewEvent};

/// The right by which an append is made, and with it which names it may write.
///
/// Names that begin with `$` belong to the runtime: its streams, event types and consumers. What an
/// application wrote under them would be taken for the runtime's own memory of what it did. So an
/// append has the right of [an application](Authority::APPLICATION) unless the runtime or a copy
/// made it, and a backend refuses what is beyond that right, in
/// [`Append::validate`](super::Append::validate). Only this crate makes the other rights; a server
/// repeats the right of the runtime, or of the copy, that speaks to it from another program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authority(Rights);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rights {
    #[default]
    Application,
    Runtime,
    Copy,
}

impl Authority {
    /// Every name but those that begin with `$`: what an append has by default.
    pub const APPLICATION: Self = Self(Rights::Application);
    /// Any name: the runtime's ledgers, processes, inboxes and outboxes.
    pub(crate) const RUNTIME: Self = Self(Rights::Runtime);
    /// Any name: a copy takes over what the runtime wrote in another store.
    pub(crate) const COPY: Self = Self(Rights::Copy);

    /// Returns the number that stands for the right in the protocol of a server.
    #[doc(hidden)]
    #[must_use]
    pub fn number(self) -> i32 {
        match self.0 {
            Rights::Application => 0,
            Rights::Runtime => 1,
            Rights::Copy => 2,
        }
    }

    /// Returns the right of that number, for a server that carries out the append of another
    /// program; `None` if the number stands for none.
    #[doc(hidden)]
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::APPLICATION),
            1 => Some(Self::RUNTIME),
            2 => Some(Self::COPY),
            _ => None,
        }
    }

    /// Tells whether names that begin with `$` may be written.
    #[must_use]
    pub fn writes_system_names(self) -> bool {
        self != Self::APPLICATION
    }

    /// Refuses the first name that is beyond the right.
    pub fn check(
        self,
        events: &[NewEvent],
        checkpoint: Option<&CheckpointRecord>,
    ) -> Result<(), Invalid> {
        if self.writes_system_names() {
            return Ok(());
        }
        for event in events {
            if event.event_type.is_system() {
                return Err(reserved("an event type", &event.event_type));
            }
            if let Some(stream) = event.stream.as_ref().filter(|stream| stream.is_system()) {
                return Err(reserved("a stream name", stream));
            }
        }
        match checkpoint {
            Some(record) if record.consumer.is_system() => {
                Err(reserved("a consumer", &record.consumer))
            }
            _ => Ok(()),
        }
    }
}

fn reserved(what: &'static str, name: &str) -> Invalid {
    Invalid::Reserved { what, name: name.to_owned() }
}
