//! Placing an order: one decision over a customer and a product. What it read may not change before
//! it is recorded, so a customer who is blocked at that moment gets nothing, and the last piece is
//! not promised twice.
//!
//! A decision has no snapshot: it reads each delivery, order and release of the product, about a
//! millisecond for a thousand, and fails beyond [`PlaceOrder::EVENTS_MAX`]. Leave it before a
//! product comes near that: let the product alone reserve, since an aggregate has snapshots and is
//! kept in memory, and let a process place the order or give the pieces back, as in `points`.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::customer::{Customer, CustomerEvent};
use crate::order::{Order, OrderEvent};
use crate::product::{Product, ProductEvent};
use crate::refusal::Refusal;

/// Events that the decision reads of both, and those that it records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderingEvent {
    #[serde(rename = "customer.SignedUp")]
    SignedUp { customer: String },
    #[serde(rename = "customer.Blocked")]
    Blocked { why: String },
    #[serde(rename = "product.Listed")]
    Listed { cents: u32 },
    #[serde(rename = "product.Delivered")]
    Delivered { pieces: u32 },
    #[serde(rename = "product.Released")]
    Released { pieces: u32 },
    #[serde(rename = "product.Reserved")]
    Reserved { order: String, pieces: u32 },
    #[serde(rename = "order.Placed")]
    Placed { customer: String, product: String, pieces: u32, cents: u64 },
}

impl Event for OrderingEvent {
    const NAMESPACE: &'static str = "ordering";

    fn owners() -> Owners {
        Owners::of::<CustomerEvent>().and::<ProductEvent>().and::<OrderEvent>()
    }
}

// ANCHOR: place-order
#[derive(Clone, Debug)]
pub(crate) struct PlaceOrder {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) pieces: u32,
}

/// State that an order depends on.
#[derive(Debug, Default)]
pub(crate) struct Situation {
    signed_up: bool,
    blocked: Option<String>,
    /// For one piece, if the product is listed.
    cents: Option<u32>,
    free: u64,
}

impl Decision for PlaceOrder {
    type Event = OrderingEvent;
    type State = Situation;
    type Refusal = Refusal;
    /// A product with more deliveries, orders and releases cannot be ordered any more: that is
    /// `TooManyEvents`, which the shop answers with 500.
    const EVENTS_MAX: usize = 200_000;

    fn query(&self) -> Query {
        let stream =
            |category, id| StreamName::of(category, id).map_or(Query::nothing(), Query::stream);
        stream(Customer::CATEGORY, &self.customer).or(stream(Product::CATEGORY, &self.product))
    }

    fn apply(&self, situation: &mut Situation, event: &OrderingEvent) {
        match event {
            OrderingEvent::SignedUp { .. } => situation.signed_up = true,
            OrderingEvent::Blocked { why } => situation.blocked = Some(why.clone()),
            OrderingEvent::Listed { cents } => situation.cents = Some(*cents),
            OrderingEvent::Delivered { pieces } | OrderingEvent::Released { pieces } => {
                situation.free += u64::from(*pieces);
            }
            OrderingEvent::Reserved { pieces, .. } => {
                situation.free = situation.free.saturating_sub(u64::from(*pieces));
            }
            OrderingEvent::Placed { .. } => {}
        }
    }

    fn decide(&self, situation: &Situation) -> Result<Decided<OrderingEvent>, Refusal> {
        let Self { order, customer, product, pieces } = self.clone();
        if !situation.signed_up {
            return Err(Refusal::NoCustomer);
        }
        if let Some(why) = situation.blocked.clone() {
            return Err(Refusal::Blocked { why });
        }
        let cents = u64::from(pieces) * u64::from(situation.cents.ok_or(Refusal::NoProduct)?);
        if situation.free < u64::from(pieces) {
            return Err(Refusal::SoldOut { left: situation.free });
        }
        let (to_product, to_order) = (format!("product-{product}"), format!("order-{order}"));
        let placed = OrderingEvent::Placed { customer, product, pieces, cents };
        Ok(Decided::event(to_product, OrderingEvent::Reserved { order: order.clone(), pieces })
            .and(to_order, placed)
            .expecting_of::<Order>(&order, Expected::Absent))
    }
}
// ANCHOR_END: place-order
