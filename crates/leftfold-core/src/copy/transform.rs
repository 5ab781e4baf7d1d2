//! Answers of the user's function, and the way to ask it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::error::{CopyError, FunctionFault};
use crate::store::{Append, NewEvent, RecordedEvent};

/// Answer of the function for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transformed {
    /// The event stays as it is.
    Keep,
    /// The event does not go over.
    Drop,
    /// These events take its place, in this order, in the append that it was part of.
    ///
    /// One of them is its *image*: a reference to the event means this one in the new store. It is
    /// the first that bears the event's id ([`RecordedEvent::to_new`] brings it); if none does, the
    /// first of all, which is given the id. Others that bear it get ids of their own. No events are
    /// the same as [`Transformed::Drop`].
    Replace(Vec<NewEvent>),
    /// The function cannot tell, for this reason: the copy stops here, until it goes on with a
    /// function that can.
    Refuse(String),
}

impl From<NewEvent> for Transformed {
    /// This event takes its place.
    fn from(event: NewEvent) -> Self {
        Self::Replace(vec![event])
    }
}

/// The user's function, asked for all events of users of one append at once.
#[derive(Clone)]
pub(super) struct Function(Arc<Code>);

type Code = dyn Fn(&[&RecordedEvent]) -> Vec<Transformed> + Send + Sync;

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

/// Events that take the place of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Images {
    pub(super) events: Vec<NewEvent>,
    /// Index of the one that a reference to the event means.
    pub(super) primary: usize,
}

impl Function {
    pub(super) fn new(
        code: impl Fn(&[&RecordedEvent]) -> Vec<Transformed> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(code))
    }

    /// Asks the function, and refuses answers that are not allowed.
    pub(super) fn ask(&self, events: &[&RecordedEvent]) -> Result<Vec<Images>, CopyError> {
        let Some(first) = events.first() else { return Ok(Vec::new()) };
        let failed = |position, fault| CopyError::Function { position, fault };
        // The function is pure: nothing of its own can be left half done.
        let said = catch_unwind(AssertUnwindSafe(|| (self.0)(events))).map_err(|panic| {
            failed(first.position, FunctionFault::Panicked { message: message(&*panic) })
        })?;
        if said.len() != events.len() {
            return Err(failed(
                first.position,
                FunctionFault::Answers { events: events.len(), answers: said.len() },
            ));
        }
        let images = events.iter().zip(said).map(|(event, said)| match said {
            Transformed::Keep => Ok(Images { events: vec![event.to_new()], primary: 0 }),
            Transformed::Drop => Ok(Images::default()),
            Transformed::Replace(new) => {
                checked(event, new).map_err(|fault| failed(event.position, fault))
            }
            Transformed::Refuse(reason) => {
                Err(failed(event.position, FunctionFault::Refused { reason }))
            }
        });
        images.collect()
    }
}

fn checked(event: &RecordedEvent, new: Vec<NewEvent>) -> Result<Images, FunctionFault> {
    let system = |name: &str| FunctionFault::System { name: name.to_owned() };
    for one in &new {
        if one.event_type.is_system() {
            return Err(system(&one.event_type));
        }
        if let Some(stream) = one.stream.as_ref().filter(|stream| stream.is_system()) {
            return Err(system(stream));
        }
    }
    let append = Append::of(new);
    append.validate()?;
    let mut events = append.events;
    let primary = events.iter().position(|one| one.id == Some(event.id)).unwrap_or(0);
    for (index, one) in events.iter_mut().enumerate() {
        if index == primary {
            one.id = Some(event.id);
        } else if one.id == Some(event.id) {
            one.id = None;
        }
    }
    Ok(Images { events, primary })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
