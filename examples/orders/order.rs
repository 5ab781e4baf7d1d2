//! An order: received, then shipped. It knows to which change of its customer's address it belongs.

use leftfold::prelude::*;
use leftfold::store::{EventType, Read};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) item: String,
    pub(crate) pieces: u32,
    pub(crate) cents: u64,
}

/// Where an order goes to.
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) customer: String,
    pub(crate) address: Address,
    pub(crate) lines: Vec<Line>,
    pub(crate) shipping_cents: u64,
    pub(crate) tax_cents: u64,
}

impl Placed {
    pub(crate) fn goods_cents(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.pieces) * line.cents).sum()
    }
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
pub(crate) async fn orders_of(store: &Store, customer: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let placed = Query::tag(format!("customer:{customer}")).of_types(&[EventType::new("order.Placed")?]);
    let placed = store.read(Read::matching(placed, Position::START)).all().await?;
    Ok(placed.iter().filter_map(|event| Some(event.stream.as_ref()?.name.id().to_owned())).collect())
}
// ANCHOR_END: lookup

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderCommand {
    Place(Placed),
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
            OrderEvent::Placed(Placed { customer, address, .. }) => self.placed = Some((customer, address)),
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
                OrderCommand::Place(placed) => Ok(vec![OrderEvent::Placed(placed)]),
                OrderCommand::Follow { .. } | OrderCommand::Ship => Err(OrderRefusal::Absent),
            };
        };
        if let Some(to) = self.shipped_to.clone() {
            return Err(OrderRefusal::Shipped { to });
        }
        match (command.clone(), address) {
            (OrderCommand::Place(_), _) => Err(OrderRefusal::Placed),
            (OrderCommand::Ship, address) => Ok(vec![OrderEvent::Shipped { customer, to: address.postal().to_owned() }]),
            (OrderCommand::Follow { .. }, Address::Own { postal }) => Err(OrderRefusal::OwnAddress { postal }),
            (OrderCommand::Follow { postal, change }, Address::Customers { .. }) => {
                Ok(vec![OrderEvent::AddressFollowed { customer, postal, change }])
            }
        }
    }
    // ANCHOR_END: decide
}
