//! Data that is stored while it is measured: accounts, whose every event is 256 bytes of JSON with
//! one tag.

use leftfold_core::fold::{Aggregate, Event, Schema};
use leftfold_core::store::{NewEvent, StreamName, Tags};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Number of accounts unless a benchmark has its own.
pub(crate) const ACCOUNTS: u64 = 1_000;
/// Events of an append that has many.
pub(crate) const BATCH_EVENTS: usize = 100;
/// Numbers begin here, so that every id is of one length.
const FIRST_NUMBER: u64 = 1_000;

const COUNTERPARTY: &str = "DE89370400440532013000";
const NOTE: &str = "Invoice 2024-1187, hosting and support, thank you for your order; this is due within fourteen days of it";

/// The fold of an account's bookings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) balance_cents: i64,
    pub(crate) bookings: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    Booked(Booking),
}

/// Asks for a booking.
#[derive(Clone, Debug)]
pub(crate) struct MakeBooking(Booking);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Booking {
    customer: u64,
    amount_cents: i64,
    currency: String,
    reference: String,
    counterparty: String,
    note: String,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum BookRefusal {
    #[error("a booking of nothing books nothing")]
    Nothing,
    #[error("the account holds {balance_cents} cents, which is not enough")]
    Overdrawn { balance_cents: i64 },
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    fn tags(&self) -> Tags {
        let Self::Booked(booking) = self;
        Tags::none().with(tag(booking.customer))
    }
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";

    type Event = AccountEvent;
    type Command = MakeBooking;
    type Refusal = BookRefusal;

    fn apply(&mut self, event: &AccountEvent) {
        let AccountEvent::Booked(booking) = event;
        self.balance_cents += booking.amount_cents;
        self.bookings += 1;
    }

    fn decide(&self, MakeBooking(booking): &MakeBooking) -> Result<Vec<AccountEvent>, BookRefusal> {
        if booking.amount_cents == 0 {
            return Err(BookRefusal::Nothing);
        }
        if self.balance_cents + booking.amount_cents < 0 {
            return Err(BookRefusal::Overdrawn { balance_cents: self.balance_cents });
        }
        Ok(vec![AccountEvent::Booked(booking.clone())])
    }
}

/// A command for the account of this index.
pub(crate) fn book(index: u64, serial: u64) -> MakeBooking {
    MakeBooking(Booking {
        customer: FIRST_NUMBER + index,
        amount_cents: 10_000 + (serial % 90_000) as i64,
        currency: "EUR".to_owned(),
        reference: format!("{serial:032x}"),
        counterparty: COUNTERPARTY.to_owned(),
        note: NOTE.to_owned(),
    })
}

/// The event that such a command leads to.
pub(crate) fn booked(serial: u64) -> AccountEvent {
    AccountEvent::Booked(book(serial, serial).0)
}

/// Returns the booking of the event, which is all of its data.
pub(crate) const fn booking(AccountEvent::Booked(booking): &AccountEvent) -> &Booking {
    booking
}

/// The account's id.
pub(crate) fn id(index: u64) -> String {
    (FIRST_NUMBER + index).to_string()
}

/// The account's stream.
pub(crate) fn stream(index: u64) -> Outcome<StreamName> {
    Ok(StreamName::of(Account::CATEGORY, &id(index))?)
}

/// The tag of an account's customer.
fn tag(number: u64) -> String {
    format!("customer:{number}")
}

/// Returns an event of the account as the store takes it, to be cloned: the benchmarks of stores do
/// not measure the cost of making one.
pub(crate) fn event(index: u64) -> Outcome<NewEvent> {
    Ok(Schema::of::<AccountEvent>()?.encode(&booked(index))?.in_stream(stream(index)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_256_bytes_of_data_with_one_tag() {
        for index in [0, ACCOUNTS - 1] {
            let event = event(index).unwrap();
            assert_eq!((event.data.len(), event.tags.len()), (256, 1), "{event:?}");
        }
    }
}
