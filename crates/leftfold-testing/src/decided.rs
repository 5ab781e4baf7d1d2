//! Given, when, then for decisions: the events go through the decision's own query first, as they
//! would in a store.

use std::collections::HashMap;
use std::fmt::Debug;

use leftfold_core::drive;
use leftfold_core::fold::{Decided, Decision, Event, Schema};
use leftfold_core::store::{InStream, StreamName, Version};

use super::given::{recorded, round_trip};

/// A history that a decision is about: events, each in its stream, or in none if the name is empty.
///
/// `given_events([("account-1", signed_up)]).decide(&sign_up).then_refused(NameTaken)`: see
/// `examples/accounts/tests.rs`.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/seat.rs")); }
/// use leftfold_core::fold::{Decided, Decision};
/// use leftfold_core::store::Query;
/// use leftfold_testing::given_events;
/// use seat::{SeatEvent, Taken};
///
/// /// Two neighbouring seats, or none.
/// struct ReservePair;
///
/// impl Decision for ReservePair {
///     type Event = SeatEvent;
///     /// The number of seats that are taken.
///     type State = usize;
///     type Refusal = Taken;
///
///     fn query(&self) -> Query {
///         Query::category("seat")
///     }
///     # fn apply(&self, taken: &mut usize, event: &SeatEvent) {
///     #     match event {
///     #         SeatEvent::Reserved { .. } => *taken += 1,
///     #         SeatEvent::Released => *taken -= 1,
///     #     }
///     # }
///     # fn decide(&self, taken: &usize) -> Result<Decided<SeatEvent>, Taken> {
///     #     let reserved = || SeatEvent::Reserved { guest: "ada".to_owned() };
///     #     if *taken > 0 { Err(Taken) } else {
///     #         Ok(Decided::event("seat-1", reserved()).and("seat-2", reserved()))
///     #     }
///     # }
///     // `apply` counts, `decide` refuses if any is taken.
/// }
///
/// # fn main() {
/// let reserved = |guest: &str| SeatEvent::Reserved { guest: guest.to_owned() };
/// given_events([("seat-2", reserved("bob"))]).decide(&ReservePair).then_refused(Taken);
/// // What stands in other streams is not found by the query.
/// given_events([("table-2", reserved("bob"))])
///     .decide(&ReservePair)
///     .then([reserved("ada"), reserved("ada")]);
/// # }
/// ```
#[must_use]
pub fn given_events<S: AsRef<str>, E: Event>(
    events: impl IntoIterator<Item = (S, E)>,
) -> GivenEvents<E> {
    GivenEvents {
        events: events
            .into_iter()
            .map(|(stream, event)| (stream.as_ref().to_owned(), event))
            .collect(),
    }
}

/// A history, before the decision.
#[derive(Debug)]
pub struct GivenEvents<E> {
    events: Vec<(String, E)>,
}

impl<E: Event + Debug + PartialEq> GivenEvents<E> {
    /// Decides, on what the decision's query finds: an event that `apply` needs but the query does
    /// not find is missing here as it would be in a store. Checks on the way that events come back
    /// as they were written, and that folding and deciding twice give the same.
    #[must_use = "say what is expected with then, then_nothing or then_refused"]
    pub fn decide<D: Decision<Event = E>>(&self, decision: &D) -> WhenDecided<D> {
        let (decided, again) = (self.decided(decision), self.decided(decision));
        assert_eq!(
            show(&decided),
            show(&again),
            "deciding twice gives two answers: apply or decide is not pure"
        );
        WhenDecided { decided }
    }

    fn decided<D: Decision<Event = E>>(&self, decision: &D) -> Result<Decided<E>, D::Refusal> {
        let schema = Schema::of::<E>().unwrap_or_else(|error| panic!("{error}"));
        let query = drive::widened(&schema, decision.query());
        let mut state = D::State::default();
        let mut versions: HashMap<&str, Version> = HashMap::new();
        for (index, (stream, event)) in self.events.iter().enumerate() {
            let mut found = recorded(
                schema.encode(event).unwrap_or_else(|error| panic!("{event:?}: {error}")),
                index,
            );
            found.stream = None;
            if !stream.is_empty() {
                let name = StreamName::try_from(stream.as_str())
                    .unwrap_or_else(|error| panic!("{stream:?}: {error}"));
                let version = versions.entry(stream).or_default();
                *version = version.next();
                found.stream = Some(InStream { name, version: *version });
            }
            if query.matches(&found) {
                decision.apply(&mut state, &round_trip(&schema, event));
            }
        }
        let decided = decision.decide(&state)?;
        decided.events().for_each(|event| drop(round_trip(&schema, event)));
        Ok(decided)
    }
}

/// Result of a decision.
#[derive(Debug)]
pub struct WhenDecided<D: Decision> {
    decided: Result<Decided<D::Event>, D::Refusal>,
}

impl<D: Decision> WhenDecided<D>
where
    D::Event: Debug + PartialEq,
{
    /// These events, in this order, whatever streams they go to.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        let expected: Vec<D::Event> = expected.into_iter().collect();
        match &self.decided {
            Ok(decided) => {
                let events: Vec<&D::Event> = decided.events().collect();
                assert_eq!(
                    events,
                    expected.iter().collect::<Vec<_>>(),
                    "other events than expected"
                );
            }
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
    pub fn then_refused(self, expected: D::Refusal) {
        match self.decided {
            Ok(decided) => panic!("decided {decided:?}, expected to be refused: {expected}"),
            Err(refusal) => assert_eq!(refusal, expected, "refused, but not as expected"),
        }
    }
}

fn show<T: Debug, R: std::error::Error>(decided: &Result<T, R>) -> String {
    match decided {
        Ok(decided) => format!("{decided:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}
