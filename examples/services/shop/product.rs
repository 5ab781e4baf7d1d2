//! Products, and how many pieces of each are free, reserved for orders, and sold.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ProductEvent {
    Listed { name: String, cents: u32 },
    Delivered { pieces: u32 },
    Reserved { order: String, pieces: u32 },
    Released { order: String, pieces: u32 },
    Sold { order: String, pieces: u32 },
}

impl Event for ProductEvent {
    const NAMESPACE: &'static str = "product";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    /// Name and price, if it is listed.
    pub(crate) listed: Option<(String, u32)>,
    pub(crate) free: u64,
    /// Pieces by order.
    pub(crate) reserved: BTreeMap<String, u32>,
    pub(crate) sold: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProductCommand {
    List {
        name: String,
        cents: u32,
    },
    Deliver {
        pieces: u32,
    },
    /// The order is paid: its pieces leave the house.
    Sell {
        order: String,
    },
    /// The order is cancelled: its pieces are free again.
    Release {
        order: String,
    },
}

impl Aggregate for Product {
    const CATEGORY: &'static str = "product";
    type Event = ProductEvent;
    type Command = ProductCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::Listed { name, cents } => self.listed = Some((name.clone(), *cents)),
            ProductEvent::Delivered { pieces } => self.free += u64::from(*pieces),
            ProductEvent::Reserved { order, pieces } => {
                self.free = self.free.saturating_sub(u64::from(*pieces));
                self.reserved.insert(order.clone(), *pieces);
            }
            ProductEvent::Released { order, pieces } => {
                self.free += u64::from(*pieces);
                self.reserved.remove(order);
            }
            ProductEvent::Sold { order, pieces } => {
                self.sold += u64::from(*pieces);
                self.reserved.remove(order);
            }
        }
    }

    fn decide(&self, command: &ProductCommand) -> Result<Vec<ProductEvent>, Refusal> {
        let Some(listed) = &self.listed else {
            let ProductCommand::List { name, cents } = command.clone() else {
                return Err(Refusal::NoProduct);
            };
            return Ok(vec![ProductEvent::Listed { name, cents }]);
        };
        let reserved = |order: &String| Some((order.clone(), *self.reserved.get(order)?));
        match command {
            ProductCommand::List { name, cents } if *listed == (name.clone(), *cents) => Ok(vec![]),
            ProductCommand::List { .. } => Err(Refusal::Listed),
            ProductCommand::Deliver { pieces } => {
                Ok(vec![ProductEvent::Delivered { pieces: *pieces }])
            }
            ProductCommand::Sell { order } => Ok(reserved(order)
                .map(|(order, pieces)| ProductEvent::Sold { order, pieces })
                .into_iter()
                .collect()),
            ProductCommand::Release { order } => Ok(reserved(order)
                .map(|(order, pieces)| ProductEvent::Released { order, pieces })
                .into_iter()
                .collect()),
        }
    }

    // ANCHOR: snapshots
    /// A product that sells well has a long history.
    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(100)
    }
    // ANCHOR_END: snapshots
}
