//! Deadline of an order: nobody keeps pieces forever without paying, and the stock hears how it
//! ended.

use std::time::Duration;

use leftfold::prelude::*;

use crate::order::{Order, OrderCommand, OrderEvent};
use crate::product::{Product, ProductCommand};

/// An order that is not paid within this time is cancelled.
pub(crate) const PAY_WITHIN: Duration = Duration::from_secs(15 * 60);

// ANCHOR: process
/// One order, from the moment that it is placed until it is paid or cancelled.
#[derive(Debug, Default)]
pub(crate) struct Unpaid {
    product: String,
}

impl Process for Unpaid {
    const NAME: &'static str = "unpaid";
    type Event = OrderEvent;

    fn targets() -> Targets {
        Targets::of::<Order>().and::<Product>()
    }

    fn correlate(event: &Recorded<OrderEvent>) -> Correlation {
        match event.event {
            OrderEvent::Placed { .. } => Correlation::starts(event.stream_id()),
            OrderEvent::Paid { .. } | OrderEvent::Cancelled { .. } => {
                Correlation::ends(event.stream_id())
            }
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<OrderEvent>, _: &Context) {
        if let Trigger::Event(OrderEvent::Placed { product, .. }) = trigger {
            self.product.clone_from(product);
        }
    }

    fn react(&self, trigger: &Trigger<OrderEvent>, context: &Context) -> Reaction {
        let order = context.key.clone();
        let product = |command| Reaction::none().command::<Product>(&self.product, command);
        match trigger {
            Trigger::Event(OrderEvent::Placed { .. }) => Reaction::none().timer("pay", PAY_WITHIN),
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Order>(order, OrderCommand::Expire)
            }
            Trigger::Event(OrderEvent::Paid { .. }) => product(ProductCommand::Sell { order }),
            Trigger::Event(OrderEvent::Cancelled { .. }) => {
                product(ProductCommand::Release { order })
            }
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}
// ANCHOR_END: process
