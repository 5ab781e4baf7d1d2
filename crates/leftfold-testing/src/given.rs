//! Given, when, then: an aggregate's decision, tested without a store.
//!
//! ```
//! # use leftfold_core::fold::{Aggregate, Event};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! # enum LampEvent { SwitchedOn }
//! # impl Event for LampEvent { const NAMESPACE: &'static str = "lamp"; }
//! # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
//! # struct Lamp { on: bool }
//! # struct SwitchOn;
//! # #[derive(Clone, Debug, PartialEq, thiserror::Error)]
//! # #[error("it is on")]
//! # struct IsOn;
//! # impl Aggregate for Lamp {
//! #     const CATEGORY: &'static str = "lamp";
//! #     type Event = LampEvent; type Command = SwitchOn; type Refusal = IsOn;
//! #     fn apply(&mut self, _: &LampEvent) { self.on = true }
//! #     fn decide(&self, _: &SwitchOn) -> Result<Vec<LampEvent>, IsOn> {
//! #         if self.on { Err(IsOn) } else { Ok(vec![LampEvent::SwitchedOn]) }
//! #     }
//! # }
//! use leftfold_testing::given;
//!
//! given::<Lamp>([]).when(SwitchOn).then([LampEvent::SwitchedOn]);
//! given::<Lamp>([LampEvent::SwitchedOn]).when(SwitchOn).then_refused(IsOn);
//! ```
//!
//! Every step also checks what a store would do: each event is written and read again and must be
//! the same, the state must survive a snapshot, and folding or deciding twice must give the same.

use std::fmt::Debug;

use leftfold_core::drive;
use leftfold_core::fold::{Aggregate, Event, Schema, Unknown};
use leftfold_core::store::{
    EventId, InStream, NewEvent, Position, RecordedEvent, StoreId, StreamName, Timestamp, Version,
};

/// An aggregate with a past.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/seat.rs")); }
/// use leftfold_testing::given;
/// use seat::{Seat, SeatEvent, Seating, Taken};
///
/// # fn main() {
/// let reserved = SeatEvent::Reserved { guest: "ada".to_owned() };
/// let reserve = || Seating::Reserve { guest: "bob".to_owned() };
/// given::<Seat>([reserved.clone()]).when(reserve()).then_refused(Taken);
/// given::<Seat>([reserved.clone()]).when(Seating::Release).then([SeatEvent::Released]);
/// given::<Seat>([reserved, SeatEvent::Released]).when(Seating::Release).then_nothing();
/// # }
/// ```
#[must_use]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A>
where
    A::Event: Debug + PartialEq,
{
    let events: Vec<A::Event> = events.into_iter().collect();
    let state = fold::<A>(&events);
    survives_snapshot(&state);
    assert!(
        drive::is_same(&fold::<A>(&events), &state),
        "folding the same events twice gives two states: apply is not pure"
    );
    Given { state }
}

/// An aggregate, before the command.
#[derive(Debug)]
pub struct Given<A> {
    state: A,
}

impl<A: Aggregate> Given<A>
where
    A::Event: Debug + PartialEq,
{
    /// The state that the past led to.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Decides a command.
    #[must_use = "say what is expected with then, then_nothing or then_refused"]
    pub fn when(self, command: A::Command) -> When<A> {
        let decided = self.state.decide(&command);
        let again = self.state.decide(&command);
        assert_eq!(
            show(&decided),
            show(&again),
            "deciding twice gives two answers: decide is not pure"
        );
        if let Ok(events) = &decided {
            let mut state = self.state.clone();
            written_and_read(events).iter().for_each(|event| state.apply(event));
            survives_snapshot(&state);
        }
        When { decided }
    }
}

/// Result of a decision.
#[derive(Debug)]
pub struct When<A: Aggregate> {
    decided: Result<Vec<A::Event>, A::Refusal>,
}

impl<A: Aggregate> When<A>
where
    A::Event: Debug + PartialEq,
{
    /// These events, in this order.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        match self.decided {
            Ok(events) => assert_eq!(events, expected, "other events than expected"),
            Err(refusal) => panic!("refused ({refusal}), expected {expected:?}"),
        }
    }

    /// No event: there was nothing to do.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }

    /// This refusal.
    #[track_caller]
    pub fn then_refused(self, expected: A::Refusal) {
        match self.decided {
            Ok(events) => panic!("decided {events:?}, expected to be refused: {expected}"),
            Err(refusal) => assert_eq!(refusal, expected, "refused, but not as expected"),
        }
    }
}

fn fold<A: Aggregate>(events: &[A::Event]) -> A
where
    A::Event: Debug + PartialEq,
{
    let mut state = A::default();
    written_and_read(events).iter().for_each(|event| state.apply(event));
    state
}

/// The events as a store would give them back.
fn written_and_read<E: Event + Debug + PartialEq>(events: &[E]) -> Vec<E> {
    let schema = Schema::of::<E>().unwrap_or_else(|error| panic!("{error}"));
    events.iter().map(|event| round_trip(&schema, event)).collect()
}

/// The event as a store would give it back, which must be the same.
pub(super) fn round_trip<E: Event + Debug + PartialEq>(schema: &Schema, event: &E) -> E {
    let recorded =
        recorded(schema.encode(event).unwrap_or_else(|error| panic!("{event:?}: {error}")), 0);
    let read: Vec<E> = schema
        .decode(&recorded, Unknown::Refuse)
        .unwrap_or_else(|error| panic!("{event:?} does not come back: {error}"));
    assert_eq!(
        read,
        std::slice::from_ref(event),
        "the event is another when it was written and read"
    );
    event.clone()
}

/// The event as it would be recorded after the given number of others.
pub(super) fn recorded(new: NewEvent, before: usize) -> RecordedEvent {
    let (position, recorded_at) =
        (Position(before as u64 + 1), Timestamp::from_micros(before as i64));
    // A constant, short name.
    let name = StreamName::new("test-1").expect("the name is a stream's");
    let stream = InStream { name, version: Version(before as u64 + 1) };
    let id = EventId::minted(StoreId(uuid::Uuid::nil()), position, recorded_at);
    RecordedEvent::of(new, position, recorded_at, Some(stream), id)
}

fn survives_snapshot<A: Aggregate>(state: &A) {
    if let Err(lost) = drive::survives_snapshot(state) {
        panic!("the state does not come back from a snapshot: {lost}");
    }
}

fn show<E: Debug, R: std::error::Error>(decided: &Result<Vec<E>, R>) -> String {
    match decided {
        Ok(events) => format!("{events:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}
