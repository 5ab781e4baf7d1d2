use leftfold_core::fold::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SeatEvent {
    Reserved { guest: String },
    Released,
}

impl Event for SeatEvent {
    const NAMESPACE: &'static str = "seat";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    pub guests: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Seating {
    Reserve { guest: String },
    Release,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the seat is taken")]
pub struct Taken;

impl Aggregate for Seat {
    const CATEGORY: &'static str = "seat";
    type Event = SeatEvent;
    type Command = Seating;
    type Refusal = Taken;

    fn apply(&mut self, event: &SeatEvent) {
        match event {
            SeatEvent::Reserved { guest } => self.guests.push(guest.clone()),
            SeatEvent::Released => self.guests.clear(),
        }
    }

    fn decide(&self, command: &Seating) -> Result<Vec<SeatEvent>, Taken> {
        match command {
            Seating::Reserve { guest } if self.guests.is_empty() => {
                Ok(vec![SeatEvent::Reserved { guest: guest.clone() }])
            }
            Seating::Reserve { .. } => Err(Taken),
            Seating::Release if self.guests.is_empty() => Ok(vec![]),
            Seating::Release => Ok(vec![SeatEvent::Released]),
        }
    }
}
