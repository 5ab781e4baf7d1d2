//! The aggregate that most tests use: coins go in and out, and no more out than in.

use bytes::Bytes;
use leftfold_core::fold::{Aggregate, Event, ExecuteError, Executed};
use leftfold_core::store::{Append, EventType, MemoryBackend, NewEvent, Outcome, StreamName, Tags};
use serde::{Deserialize, Serialize};

use crate::probe::now;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PurseEvent {
    Put { coins: u64 },
    Taken { coins: u64 },
}

impl Event for PurseEvent {
    const NAMESPACE: &'static str = "purse";

    fn tags(&self) -> Tags {
        Tags::none().with("purses")
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Do {
    Put(u64),
    Take(u64),
    /// Fills up to so many coins; nothing to do where they are there.
    FillTo(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("there are only {there} coins")]
pub(crate) struct TooFew {
    pub(crate) there: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Purse {
    pub(crate) coins: u64,
}

impl Aggregate for Purse {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;
    type Command = Do;
    type Refusal = TooFew;

    fn apply(&mut self, event: &PurseEvent) {
        match event {
            PurseEvent::Put { coins } => self.coins += coins,
            PurseEvent::Taken { coins } => self.coins = self.coins.saturating_sub(*coins),
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<PurseEvent>, TooFew> {
        match *command {
            Do::Put(coins) => Ok(vec![put(coins)]),
            Do::Take(coins) if coins > self.coins => Err(TooFew { there: self.coins }),
            Do::Take(coins) => Ok(vec![taken(coins)]),
            Do::FillTo(coins) if coins <= self.coins => Ok(vec![]),
            Do::FillTo(coins) => Ok(vec![put(coins - self.coins)]),
        }
    }
}

pub(crate) type Done = Result<Executed<PurseEvent>, ExecuteError<TooFew>>;

pub(crate) const fn put(coins: u64) -> PurseEvent {
    PurseEvent::Put { coins }
}

pub(crate) const fn taken(coins: u64) -> PurseEvent {
    PurseEvent::Taken { coins }
}

pub(crate) const fn refused(there: u64) -> Done {
    Err(ExecuteError::Refused(TooFew { there }))
}

/// An event as somebody else might have written it.
pub(crate) fn raw(
    stream: &str,
    event_type: &'static str,
    schema_version: u32,
    data: &str,
) -> NewEvent {
    let new = NewEvent::new(EventType::new(event_type).unwrap(), Bytes::from(data.to_owned()));
    NewEvent { schema_version, ..new.in_stream(StreamName::new(stream.to_owned()).unwrap()) }
}

/// Somebody else takes coins from a purse, unasked.
pub(crate) fn rival_takes(
    id: &'static str,
    coins: u64,
) -> impl FnOnce(&MemoryBackend) + Send + 'static {
    use leftfold_core::store::Backend;
    move |memory| {
        let event =
            raw(&format!("purse-{id}"), "purse.Taken", 1, &format!(r#"{{"coins":{coins}}}"#));
        assert!(matches!(now(memory.append(Append::of(vec![event]))), Ok(Outcome::Appended(_))));
    }
}
