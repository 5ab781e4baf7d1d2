//! Orders: open until they are paid or cancelled.

use std::fmt;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::payment::Charge;
use crate::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    Placed {
        customer: String,
        product: String,
        pieces: u32,
        cents: u64,
    },
    /// The intent of the effect.
    PaymentRequested(Charge),
    PaymentFailed {
        why: String,
    },
    Paid {
        receipt: String,
    },
    /// The deadline passed while a payment was under way: if it fails, the order ends with it.
    Overdue,
    Cancelled {
        why: String,
    },
}

// ANCHOR: upcaster
impl Event for OrderEvent {
    const NAMESPACE: &'static str = "order";

    /// In the shop's first year an order was for one piece, and did not say so.
    fn upcasters() -> Upcasters {
        Upcasters::none().change("order.Placed", 1, |mut placed| {
            placed["pieces"] = 1.into();
            Ok(placed)
        })
    }
}
// ANCHOR_END: upcaster

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum State {
    #[default]
    Unknown,
    Open,
    Paying,
    Paid,
    Cancelled,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Open => "open",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        })
    }
}

impl OrderEvent {
    /// The state of the order after the event; `None` if it stays as it was.
    pub(crate) fn leads_to(&self) -> Option<State> {
        match self {
            Self::Placed { .. } | Self::PaymentFailed { .. } => Some(State::Open),
            Self::PaymentRequested(_) => Some(State::Paying),
            Self::Paid { .. } => Some(State::Paid),
            Self::Cancelled { .. } => Some(State::Cancelled),
            Self::Overdue => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) pieces: u32,
    pub(crate) cents: u64,
    pub(crate) state: State,
    overdue: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum OrderCommand {
    Pay {
        order: String,
        card: String,
    },
    /// The bank took the money.
    TakePayment {
        receipt: String,
    },
    /// It did not, and will not.
    FailPayment {
        why: String,
    },
    Cancel,
    /// The deadline has passed.
    Expire,
}

const LATE: &str = "it was not paid in time";

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &OrderEvent) {
        self.state = event.leads_to().unwrap_or(self.state);
        match event.clone() {
            OrderEvent::Placed { customer, product, pieces, cents } => {
                *self =
                    Self { customer, product, pieces, cents, state: self.state, overdue: false };
            }
            OrderEvent::Overdue => self.overdue = true,
            _ => {}
        }
    }

    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, Refusal> {
        use OrderCommand::{Cancel, Expire, FailPayment, Pay, TakePayment};
        match (command.clone(), self.state) {
            (_, State::Unknown) => Err(Refusal::NoOrder),
            (Pay { order, card }, State::Open) => {
                Ok(vec![OrderEvent::PaymentRequested(Charge { order, cents: self.cents, card })])
            }
            (TakePayment { receipt }, State::Paying) => Ok(vec![OrderEvent::Paid { receipt }]),
            (FailPayment { why }, State::Paying) => {
                let late = self.overdue.then(|| OrderEvent::Cancelled { why: LATE.to_owned() });
                Ok([OrderEvent::PaymentFailed { why }].into_iter().chain(late).collect())
            }
            (Cancel, State::Open) => {
                Ok(vec![OrderEvent::Cancelled { why: "the customer wanted it".to_owned() }])
            }
            (Expire, State::Open) => Ok(vec![OrderEvent::Cancelled { why: LATE.to_owned() }]),
            (Expire, State::Paying) if !self.overdue => Ok(vec![OrderEvent::Overdue]),
            (Pay { .. } | Cancel, State::Paying) => Err(Refusal::PaymentUnderWay),
            (Pay { .. }, state) | (Cancel, state @ State::Paid) => {
                Err(Refusal::Over { state: state.to_string() })
            }
            // It has come to that already.
            (TakePayment { .. } | FailPayment { .. } | Expire | Cancel, _) => Ok(vec![]),
        }
    }
}
