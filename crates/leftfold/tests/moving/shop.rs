//! The application that moves: an aggregate, an effect, a process with a deadline, an outbox and a
//! read model. Nothing in it knows where its events are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::projection::{Bus, Memory, Message, Outbox, Outgoing};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    Placed { cents: u64 },
    ChargeRequested(Charge),
    Paid { receipt: String },
    Expired,
}

impl Event for OrderEvent {
    const NAMESPACE: &'static str = "order";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderCommand {
    Place { cents: u64 },
    Pay,
    RecordPayment { receipt: String },
    Expire,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    cents: Option<u64>,
    is_over: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the order is over, or there is none")]
pub(crate) struct NotOpen;

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Refusal = NotOpen;

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Placed { cents } => self.cents = Some(*cents),
            OrderEvent::ChargeRequested(_) => {}
            OrderEvent::Paid { .. } | OrderEvent::Expired => self.is_over = true,
        }
    }

    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, NotOpen> {
        match (command, self.cents) {
            (OrderCommand::Place { cents }, None) => Ok(vec![OrderEvent::Placed { cents: *cents }]),
            (OrderCommand::Pay, Some(cents)) if !self.is_over => {
                Ok(vec![OrderEvent::ChargeRequested(Charge { cents })])
            }
            (OrderCommand::RecordPayment { receipt }, Some(_)) => {
                Ok(vec![OrderEvent::Paid { receipt: receipt.clone() }])
            }
            (OrderCommand::Expire, Some(_)) if !self.is_over => Ok(vec![OrderEvent::Expired]),
            (OrderCommand::Expire, Some(_)) => Ok(vec![]),
            _ => Err(NotOpen),
        }
    }
}

/// The world outside: what was charged and what was mailed, each as often as it happened.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) charged: Arc<Mutex<Vec<String>>>,
    pub(crate) mailed: Arc<Mutex<Vec<String>>>,
}

pub(crate) struct ChargeCard(pub(crate) World);

impl Effect for ChargeCard {
    const NAME: &'static str = "charge";
    const INTENT: &'static str = "order.ChargeRequested";
    type Intent = Charge;
    type Outcome = String;
    type Target = Order;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    async fn perform(&self, attempt: &Attempt<Charge>) -> Performed<String> {
        let order = attempt.event.stream.as_ref().unwrap().name.id().to_owned();
        self.0.charged.lock().unwrap().push(order.clone());
        Performed::Done(format!("receipt of {order}"))
    }

    fn report(
        &self,
        attempt: &Attempt<Charge>,
        conclusion: &Conclusion<String>,
    ) -> Option<(String, OrderCommand)> {
        let order = attempt.event.stream.as_ref()?.name.id().to_owned();
        match conclusion {
            Conclusion::Done(receipt) => {
                Some((order, OrderCommand::RecordPayment { receipt: receipt.clone() }))
            }
            Conclusion::NotDone { .. } => None,
        }
    }
}

/// Time within which an order is paid.
pub(crate) const PAY_WITHIN: Duration = Duration::from_secs(60 * 60);

/// Lets an order expire that nobody pays.
#[derive(Debug, Default)]
pub(crate) struct Expiry;

impl Process for Expiry {
    const NAME: &'static str = "expiry";
    type Event = OrderEvent;

    fn targets() -> Targets {
        Targets::of::<Order>()
    }

    fn correlate(event: &Recorded<OrderEvent>) -> Correlation {
        match &event.event {
            OrderEvent::Placed { .. } => Correlation::starts(event.stream_id()),
            OrderEvent::ChargeRequested(_) => Correlation::ignores(),
            OrderEvent::Paid { .. } | OrderEvent::Expired => Correlation::ends(event.stream_id()),
        }
    }

    fn apply(&mut self, _: &Trigger<OrderEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<OrderEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(OrderEvent::Placed { .. }) => Reaction::none().timer("pay", PAY_WITHIN),
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Order>(&context.key, OrderCommand::Expire)
            }
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}

impl Bus for World {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        self.mailed.lock().unwrap().extend(messages.into_iter().map(|message| message.key));
        Ok(())
    }
}

/// Mails a confirmation of each order.
pub(crate) struct Mail;

impl Projection<Outbox<World>> for Mail {
    const NAME: &'static str = "mail";
    type Event = OrderEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        if let OrderEvent::Placed { .. } = &event.event {
            out.send("mail", event.stream_id(), "thank you");
        }
        Ok(())
    }
}

/// Cents of all orders that were paid or not, by how they stand.
pub(crate) type Totals = BTreeMap<String, &'static str>;

pub(crate) struct States;

impl Projection<Memory<Totals>> for States {
    const NAME: &'static str = "states";
    type Event = OrderEvent;

    async fn apply(
        &self,
        rows: &mut Totals,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        let state = match &event.event {
            OrderEvent::Placed { .. } => "placed",
            OrderEvent::ChargeRequested(_) => "charging",
            OrderEvent::Paid { .. } => "paid",
            OrderEvent::Expired => "expired",
        };
        rows.insert(event.stream_id().to_owned(), state);
        Ok(())
    }
}
