//! An order: received, then shipped. It knows to which change of its customer's address it belongs.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::store::{EventType, Read};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) item: String,
    pub(crate) pieces: u32,
    /// Price of one piece, without tax.
    pub(crate) cents: u32,
    pub(crate) tax_percent: u8,
}

/// Destination of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Address {
    /// The customer's postal address, as of that change of it.
    Customers { postal: String, change: u32 },
    /// An address of its own.
    Own { postal: String },
}

impl Address {
    pub(crate) fn postal(&self) -> &str {
        let (Address::Customers { postal, .. } | Address::Own { postal }) = self;
        postal
    }
}

/// Wish of a customer: what, for whom, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Basket {
    pub(crate) customer: String,
    pub(crate) address: Address,
    pub(crate) lines: Vec<Line>,
    /// Price of the shipping, without tax.
    pub(crate) shipping_cents: u32,
}

/// Tax on the shipping.
const SHIPPING_TAX_PERCENT: u8 = 20;

/// Amounts of an order, in cents: money is never a fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Amounts {
    pub(crate) goods_cents: u64,
    pub(crate) shipping_cents: u64,
    pub(crate) tax_cents: u64,
}

impl Amounts {
    pub(crate) fn total_cents(self) -> u64 {
        self.goods_cents.saturating_add(self.shipping_cents).saturating_add(self.tax_cents)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.goods_cents = self.goods_cents.saturating_add(other.goods_cents);
        self.shipping_cents = self.shipping_cents.saturating_add(other.shipping_cents);
        self.tax_cents = self.tax_cents.saturating_add(other.tax_cents);
    }
}

// ANCHOR: amounts
impl Basket {
    /// Computes the amounts; `None` if they are too large. What is taxed at one rate is added up
    /// first and the tax on the sum is rounded to a cent, half a cent up: so it is rounded once for
    /// each rate, and not for each line.
    fn amounts(&self) -> Option<Amounts> {
        let shipping_cents = u64::from(self.shipping_cents);
        let mut goods_cents = 0_u64;
        let mut taxed = BTreeMap::from([(SHIPPING_TAX_PERCENT, shipping_cents)]);
        for line in &self.lines {
            let cents = u64::from(line.pieces) * u64::from(line.cents);
            goods_cents = goods_cents.checked_add(cents)?;
            let of_rate = taxed.entry(line.tax_percent).or_default();
            *of_rate = of_rate.checked_add(cents)?;
        }
        let mut tax_cents = 0_u64;
        for (percent, cents) in taxed {
            let hundredths = cents.checked_mul(percent.into())?;
            tax_cents = tax_cents.checked_add(hundredths.checked_add(50)? / 100)?;
        }
        goods_cents.checked_add(shipping_cents)?.checked_add(tax_cents)?;
        Some(Amounts { goods_cents, shipping_cents, tax_cents })
    }

    /// Turns it into an order. The amounts stay as they are from then on: another tax rate is for
    /// other orders.
    pub(crate) fn placed(self) -> Result<Placed, OrderRefusal> {
        let amounts = self.amounts().ok_or(OrderRefusal::TooLarge)?;
        let Self { customer, address, lines, .. } = self;
        Ok(Placed { customer, address, lines, amounts })
    }
}
// ANCHOR_END: amounts

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) customer: String,
    pub(crate) address: Address,
    pub(crate) lines: Vec<Line>,
    pub(crate) amounts: Amounts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    Placed(Placed),
    AddressFollowed { customer: String, postal: String, change: u32 },
    Shipped { customer: String, to: String },
}

impl Event for OrderEvent {
    const NAMESPACE: &'static str = "order";

    /// The lookup key beside the order's own id.
    fn tags(&self) -> Tags {
        let (OrderEvent::Placed(Placed { customer, .. })
        | OrderEvent::AddressFollowed { customer, .. }
        | OrderEvent::Shipped { customer, .. }) = self;
        Tags::none().with(format!("customer:{customer}"))
    }
}

// ANCHOR: lookup
/// The ids of a customer's orders, found by its id in the store itself: nothing to keep in step.
pub(crate) async fn orders_of(
    store: &Store,
    customer: &str,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let placed =
        Query::tag(format!("customer:{customer}")).of_types(&[EventType::new("order.Placed")?]);
    let placed = store.read(Read::matching(placed, Position::START)).all().await?;
    Ok(placed
        .iter()
        .filter_map(|event| Some(event.stream.as_ref()?.name.id().to_owned()))
        .collect())
}
// ANCHOR_END: lookup

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderCommand {
    Place(Basket),
    /// The customer lives elsewhere.
    Follow {
        postal: String,
        change: u32,
    },
    Ship,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum OrderRefusal {
    #[error("it was shipped to {to}")]
    Shipped { to: String },
    #[error("it goes to an address of its own, {postal}")]
    OwnAddress { postal: String },
    #[error("there is no such order")]
    Absent,
    #[error("it was placed before")]
    Placed,
    #[error("its amounts are too large")]
    TooLarge,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    placed: Option<(String, Address)>,
    pub(crate) shipped_to: Option<String>,
}

impl Order {
    pub(crate) fn postal(&self) -> &str {
        self.placed.as_ref().map_or("", |(_, address)| address.postal())
    }
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Refusal = OrderRefusal;

    fn apply(&mut self, event: &OrderEvent) {
        match event.clone() {
            OrderEvent::Placed(Placed { customer, address, .. }) => {
                self.placed = Some((customer, address))
            }
            OrderEvent::AddressFollowed { customer, postal, change } => {
                self.placed = Some((customer, Address::Customers { postal, change }));
            }
            OrderEvent::Shipped { to, .. } => self.shipped_to = Some(to),
        }
    }

    // ANCHOR: decide
    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, OrderRefusal> {
        let Some((customer, address)) = self.placed.clone() else {
            return match command.clone() {
                OrderCommand::Place(basket) => Ok(vec![OrderEvent::Placed(basket.placed()?)]),
                OrderCommand::Follow { .. } | OrderCommand::Ship => Err(OrderRefusal::Absent),
            };
        };
        if let Some(to) = self.shipped_to.clone() {
            return Err(OrderRefusal::Shipped { to });
        }
        match (command.clone(), address) {
            (OrderCommand::Place(_), _) => Err(OrderRefusal::Placed),
            (OrderCommand::Ship, address) => {
                Ok(vec![OrderEvent::Shipped { customer, to: address.postal().to_owned() }])
            }
            (OrderCommand::Follow { .. }, Address::Own { postal }) => {
                Err(OrderRefusal::OwnAddress { postal })
            }
            (OrderCommand::Follow { postal, change }, Address::Customers { .. }) => {
                Ok(vec![OrderEvent::AddressFollowed { customer, postal, change }])
            }
        }
    }
    // ANCHOR_END: decide
}
