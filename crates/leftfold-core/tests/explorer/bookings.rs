//! A seat is held until it is paid, for a quarter of an hour at most.

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_testing::explorer::{Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

/// Nothing is wrong.
const SOUND: u8 = 0;
/// The timer is not cancelled when the seat is paid, and the seat does not look whether it was.
const NOT_CANCELLED: u8 = 1;
/// The timer is cancelled, but the seat does not look: a payment while the release is on its way is
/// lost.
const NOT_PROTECTED: u8 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SeatEvent {
    Held,
    Paid,
    Released,
}

impl Event for SeatEvent {
    const NAMESPACE: &'static str = "seat";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Book {
    Hold,
    Pay,
    Release,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the seat is {now:?}")]
struct NotNow {
    now: SeatState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum SeatState {
    #[default]
    Free,
    Held,
    Paid,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seat<const BUG: u8> {
    now: SeatState,
    lost_payments: u64,
}

impl<const BUG: u8> Aggregate for Seat<BUG> {
    const CATEGORY: &'static str = "seat";
    type Event = SeatEvent;
    type Command = Book;
    type Refusal = NotNow;

    fn apply(&mut self, event: &SeatEvent) {
        self.lost_payments +=
            u64::from(*event == SeatEvent::Released && self.now == SeatState::Paid);
        self.now = match event {
            SeatEvent::Held => SeatState::Held,
            SeatEvent::Paid => SeatState::Paid,
            SeatEvent::Released => SeatState::Free,
        };
    }

    fn decide(&self, command: &Book) -> Result<Vec<SeatEvent>, NotNow> {
        match (command, self.now) {
            (Book::Hold, SeatState::Free) => Ok(vec![SeatEvent::Held]),
            (Book::Pay, SeatState::Held) => Ok(vec![SeatEvent::Paid]),
            (Book::Release, SeatState::Held) => Ok(vec![SeatEvent::Released]),
            (Book::Release, SeatState::Paid) if BUG != SOUND => Ok(vec![SeatEvent::Released]),
            (_, now) => Err(NotNow { now }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SeatFact {
    #[serde(rename = "seat.Held")]
    Held,
    #[serde(rename = "seat.Paid")]
    Paid,
    #[serde(rename = "seat.Released")]
    Released,
}

impl Event for SeatFact {
    const NAMESPACE: &'static str = "payment";
}

#[derive(Debug, Default)]
struct Payment<const BUG: u8>;

impl<const BUG: u8> Process for Payment<BUG> {
    const NAME: &'static str = "payment";
    type Event = SeatFact;

    fn targets() -> Targets {
        Targets::of::<Seat<BUG>>()
    }

    fn correlate(event: &Recorded<SeatFact>) -> Correlation {
        match event.event {
            SeatFact::Held => Correlation::starts(event.stream_id()),
            SeatFact::Paid if BUG == NOT_CANCELLED => Correlation::continues(event.stream_id()),
            SeatFact::Paid | SeatFact::Released => Correlation::ends(event.stream_id()),
        }
    }

    fn apply(&mut self, _: &Trigger<SeatFact>, _: &Context) {}

    fn react(&self, trigger: &Trigger<SeatFact>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(SeatFact::Held) => {
                Reaction::none().timer("unpaid", Duration::from_secs(900))
            }
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Seat<BUG>>(&context.key, Book::Release)
            }
            _ => Reaction::none(),
        }
    }
}

fn explorer<const BUG: u8>() -> Explorer {
    Explorer::new()
        .seed(7)
        .aggregate::<Seat<BUG>>()
        .process::<Payment<BUG>>()
        .start(|clients| {
            let anna = clients.client("anna").command::<Seat<BUG>>("12a", Book::Hold);
            anna.wait(Duration::from_secs(600)).command::<Seat<BUG>>("12a", Book::Pay);
        })
        .always("what is paid is not given away", |world| {
            world.states::<Seat<BUG>>().all(|seat| seat.lost_payments == 0)
        })
        .finally("no seat is held for ever", |world| {
            world.states::<Seat<BUG>>().all(|seat| seat.now != SeatState::Held)
        })
        .finally("nothing is left open", |world| world.open_processes() == 0)
}

#[test]
fn a_seat_is_paid_or_released_whatever_happens() {
    explorer::<SOUND>().run(MANY);
}

#[test]
fn a_timer_that_is_not_cancelled_is_found() {
    let failure = explorer::<NOT_CANCELLED>().explore(Schedules(200)).unwrap_err();
    is_found(&failure, "what is paid is not given away", 10);
}

#[test]
fn a_payment_that_races_with_the_timer_is_found() {
    let failure = explorer::<NOT_PROTECTED>().explore(Schedules(5_000)).unwrap_err();
    is_found(&failure, "what is paid is not given away", 10);
}
