//! Values of users that pass through processes and inboxes, as commands, refusals and messages:
//! what is written is what is read.

use std::collections::HashSet;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::inbox::{Delivery, Inbox, ReceiveError};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::store::{Position, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::runtime_stage::{Stage, until};

/// Everything that JSON makes hard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Amount {
    wei: u128,
    kwh: f64,
    owed: i128,
    labels: HashSet<String>,
    /// Value that a client sent.
    client: Value,
}

fn amount(number: u32) -> Amount {
    Amount {
        wei: 20_000_000_000_000_000_000 + u128::from(number),
        kwh: 117.633_311_394_000_17 * f64::from(number),
        owed: i128::MIN + i128::from(number),
        labels: (0..20).map(|label| format!("{number} {label}")).collect(),
        client: (0..90).fold(Value::from(0.1), |inner, _| Value::Array(vec![inner])),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum MeterEvent {
    Read { amount: Amount },
    Booked { amount: Amount },
}

impl Event for MeterEvent {
    const NAMESPACE: &'static str = "meter";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Do {
    Read(Amount),
    Book(Amount),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{} was booked before", .amount.wei)]
struct Again {
    amount: Amount,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meter {
    booked: Vec<Amount>,
}

impl Aggregate for Meter {
    const CATEGORY: &'static str = "meter";
    type Event = MeterEvent;
    type Command = Do;
    type Refusal = Again;

    fn apply(&mut self, event: &MeterEvent) {
        if let MeterEvent::Booked { amount } = event {
            self.booked.push(amount.clone());
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<MeterEvent>, Again> {
        match command.clone() {
            Do::Read(amount) => Ok(vec![MeterEvent::Read { amount }]),
            Do::Book(amount) if self.booked.contains(&amount) => Err(Again { amount }),
            Do::Book(amount) => Ok(vec![MeterEvent::Booked { amount }]),
        }
    }
}

/// Books each reading twice; what is refused is booked for the refused.
#[derive(Debug, Default)]
struct Booking;

impl Process for Booking {
    const NAME: &'static str = "booking";
    type Event = MeterEvent;

    fn targets() -> Targets {
        Targets::of::<Meter>()
    }

    fn correlate(event: &Recorded<MeterEvent>) -> Correlation {
        match event.event {
            MeterEvent::Read { .. } => Correlation::starts("all"),
            MeterEvent::Booked { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<MeterEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<MeterEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(MeterEvent::Read { amount }) if amount.kwh < 0.0 => {
                let amount = Amount { kwh: f64::NAN, ..amount.clone() };
                Reaction::none().command::<Meter>("booked", Do::Book(amount))
            }
            Trigger::Event(MeterEvent::Read { amount }) => Reaction::none()
                .command::<Meter>("booked", Do::Book(amount.clone()))
                .command::<Meter>("booked", Do::Book(amount.clone())),
            Trigger::Refused(refused) => {
                let (Some(Again { amount }), Some(Do::Book(same))) =
                    (refused.by::<Meter>(), refused.command::<Meter>())
                else {
                    panic!("it was refused: {}", refused.reason());
                };
                assert_eq!(amount, same);
                Reaction::none().command::<Meter>("refused", Do::Book(amount))
            }
            _ => Reaction::none(),
        }
    }
}

impl Inbox for Booking {
    const NAME: &'static str = "readings";
    type Message = Amount;

    fn targets() -> Targets {
        Targets::of::<Meter>()
    }

    fn deliver(message: &Amount, _: &Delivery) -> Reaction {
        Reaction::none().command::<Meter>("booked", Do::Book(message.clone()))
    }
}

/// As the log has it, not the fold that is kept.
async fn booked(store: &Store, id: &str) -> Vec<Amount> {
    store
        .aggregate::<Meter>()
        .load_at(id, leftfold_core::store::Version::END)
        .await
        .unwrap()
        .state
        .booked
}

/// A command with a float was carried out once, and after a restart no other one ever was: its
/// recorded JSON was parsed, written again, and digested. One with a number beyond 64 bits parked
/// the process.
#[tokio::test]
async fn commands_and_refusals_of_processes_are_what_they_were_also_after_a_restart() {
    let stage = Stage::new();
    let mut expected = Vec::new();
    for number in 1..=3 {
        let process = stage.process();
        let running = process.runtime().process::<Booking>().start().await.unwrap();
        process.store.aggregate::<Meter>().execute("1", Do::Read(amount(number))).await.unwrap();
        expected.push(amount(number));
        for id in ["booked", "refused"] {
            until(format!("{number} is {id}"), async || {
                booked(&process.store, id).await == expected
            })
            .await;
        }
        assert_eq!(running.processes().parked("booking").await.unwrap(), []);
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_would_not_be_read_as_it_was_parks_its_trigger_and_says_why() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Booking>().start().await.unwrap();
    let reading = Amount { kwh: -1.0, ..amount(1) };
    process.store.aggregate::<Meter>().execute("1", Do::Read(reading)).await.unwrap();
    until("it is parked", async || {
        !running.processes().parked("booking").await.unwrap().is_empty()
    })
    .await;
    let parked = running.processes().parked("booking").await.unwrap();
    let error = parked[0].error.as_ref().unwrap();
    for part in [
        "the command for meter-booked cannot be written",
        "values::Do: Book.kwh: NaN is not a number",
    ] {
        assert!(error.contains(part), "{error}");
    }
    running.stop().await.unwrap();
}

/// A message with 123 arrays of a client within each other was delivered, and no runtime started
/// any more: in the record of the process it was deeper than could be read.
#[tokio::test]
async fn messages_are_what_they_were_and_one_that_is_nested_too_deeply_is_refused_at_the_door() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Booking>();
    for levels in [100, 119, 120, 123, 126, 500] {
        let client = (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let refused = inbox.receive("depot", "deep", None, Amount { client, ..amount(1) }).await;
        assert!(
            matches!(refused, Err(ReceiveError::Invalid(_) | ReceiveError::Unwritable { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(process.store.head().position, Position::START);
    let mut expected = Vec::new();
    for number in 1..=3_u32 {
        let process = stage.process();
        let running = process.runtime().inbox::<Booking>().start().await.unwrap();
        let inbox = process.store.inbox::<Booking>();
        inbox
            .receive("depot", &number.to_string(), Some(number.into()), amount(number))
            .await
            .unwrap();
        expected.push(amount(number));
        until(format!("{number} is booked"), async || {
            booked(&process.store, "booked").await == expected
        })
        .await;
        running.stop().await.unwrap();
    }
}
