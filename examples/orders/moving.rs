//! Moving: every order under way is asked to follow its customer, each decides for itself, and when
//! the last one has answered the customer is told. An order that is shipped in the meantime answers
//! no.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::customer::{Customer, CustomerCommand, Letter};
use crate::order::{Address, Order, OrderCommand, OrderRefusal};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fact {
    #[serde(rename = "customer.AddressChanged")]
    AddressChanged { postal: String, change: u32 },
    #[serde(rename = "order.Placed")]
    Placed { customer: String, address: Address },
    #[serde(rename = "order.AddressFollowed")]
    Followed { customer: String, change: u32 },
}

impl Event for Fact {
    const NAMESPACE: &'static str = "moving";
}

/// One instance for each customer, with the customer's orders, but for those that have said that
/// they are shipped.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    postal: String,
    change: u32,
    orders: BTreeSet<String>,
    /// Changes that orders have yet to answer.
    open: BTreeMap<u32, Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    waiting: BTreeSet<String>,
    letter: Letter,
}

impl Process for Moving {
    const NAME: &'static str = "moving";
    type Event = Fact;

    fn targets() -> Targets {
        Targets::of::<Order>().and::<Customer>()
    }

    fn correlate(event: &Recorded<Fact>) -> Correlation {
        match &event.event {
            Fact::AddressChanged { .. } => Correlation::starts(event.stream_id()),
            Fact::Placed { customer, .. } | Fact::Followed { customer, .. } => {
                Correlation::starts(customer)
            }
        }
    }

    // ANCHOR: apply
    fn apply(&mut self, trigger: &Trigger<Fact>, context: &Context) {
        self.open.retain(|_, answers| !answers.waiting.is_empty());
        match trigger {
            Trigger::Event(Fact::AddressChanged { postal, change }) => {
                (self.postal, self.change) = (postal.clone(), *change);
                self.open.entry(*change).or_default().waiting.clone_from(&self.orders);
            }
            Trigger::Event(Fact::Placed { address, .. }) => {
                self.orders.insert(context.stream_id.clone());
                if self.is_late(address) {
                    self.open
                        .entry(self.change)
                        .or_default()
                        .waiting
                        .insert(context.stream_id.clone());
                }
            }
            Trigger::Event(Fact::Followed { change, .. }) => {
                let Some(answers) = self.open.get_mut(change) else { return };
                if answers.waiting.remove(&context.stream_id) {
                    answers.letter.followed.insert(context.stream_id.clone());
                }
            }
            Trigger::Refused(refused) => {
                let Some(OrderCommand::Follow { change, .. }) = refused.command::<Order>() else {
                    return;
                };
                if matches!(refused.by::<Order>(), Some(OrderRefusal::Shipped { .. })) {
                    self.orders.remove(refused.target());
                }
                let Some(answers) = self.open.get_mut(&change) else { return };
                if answers.waiting.remove(refused.target()) {
                    answers
                        .letter
                        .kept
                        .insert(refused.target().to_owned(), refused.reason().to_owned());
                }
            }
            Trigger::TimerFired { .. } => {}
        }
    }
    // ANCHOR_END: apply

    // ANCHOR: react
    fn react(&self, trigger: &Trigger<Fact>, context: &Context) -> Reaction {
        let follow = |reaction: Reaction, order: &String| {
            reaction.command::<Order>(
                order,
                OrderCommand::Follow { postal: self.postal.clone(), change: self.change },
            )
        };
        match trigger {
            Trigger::Event(Fact::AddressChanged { change, .. }) if self.orders.is_empty() => {
                self.tell(*change, context)
            }
            Trigger::Event(Fact::AddressChanged { .. }) => {
                self.orders.iter().fold(Reaction::none(), follow)
            }
            // It was placed for the old address while the customer moved.
            Trigger::Event(Fact::Placed { address, .. }) if self.is_late(address) => {
                follow(Reaction::none(), &context.stream_id)
            }
            Trigger::Event(Fact::Followed { change, .. }) => self.tell(*change, context),
            Trigger::Refused(refused) => match refused.command::<Order>() {
                Some(OrderCommand::Follow { change, .. }) => self.tell(change, context),
                _ => Reaction::none(),
            },
            _ => Reaction::none(),
        }
    }
    // ANCHOR_END: react
}

// ANCHOR: tell
impl Moving {
    fn is_late(&self, address: &Address) -> bool {
        matches!(address, Address::Customers { change, .. } if *change < self.change)
    }

    /// Tells the customer, if every order has answered.
    fn tell(&self, change: u32, context: &Context) -> Reaction {
        match self.open.get(&change) {
            Some(answers) if answers.waiting.is_empty() => {
                let letter = answers.letter.clone();
                Reaction::none()
                    .command::<Customer>(&context.key, CustomerCommand::Tell { change, letter })
            }
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: tell
