//! Three read models of one history, each with no more than its readers need.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;

use crate::order::{OrderEvent, Placed};

/// The list: one line for each order, with total, shipping and taxes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Listed {
    pub(crate) customer: String,
    pub(crate) goods_cents: u64,
    pub(crate) shipping_cents: u64,
    pub(crate) tax_cents: u64,
    pub(crate) total_cents: u64,
}

pub(crate) type List = BTreeMap<String, Listed>;

pub(crate) struct OrderList;

impl Projection<Memory<List>> for OrderList {
    const NAME: &'static str = "order_list";
    type Event = OrderEvent;

    async fn apply(&self, list: &mut List, event: &Recorded<OrderEvent>) -> Result<(), ProjectionError> {
        if let OrderEvent::Placed(placed) = &event.event {
            let Placed { customer, shipping_cents, tax_cents, .. } = placed.clone();
            let goods_cents = placed.goods_cents();
            let total_cents = goods_cents + shipping_cents + tax_cents;
            let line = Listed { customer, goods_cents, shipping_cents, tax_cents, total_cents };
            list.insert(event.stream_id().to_owned(), line);
        }
        Ok(())
    }
}

/// One order in full: its lines, where it goes to or went to, and all that happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InFull {
    pub(crate) lines: Vec<String>,
    pub(crate) postal: String,
    pub(crate) state: &'static str,
    pub(crate) history: Vec<String>,
}

pub(crate) type Details = BTreeMap<String, InFull>;

pub(crate) struct OrderInFull;

impl Projection<Memory<Details>> for OrderInFull {
    const NAME: &'static str = "order_in_full";
    type Event = OrderEvent;

    async fn apply(&self, details: &mut Details, event: &Recorded<OrderEvent>) -> Result<(), ProjectionError> {
        let order = details.entry(event.stream_id().to_owned()).or_default();
        let what = match &event.event {
            OrderEvent::Placed(placed) => {
                order.lines = placed.lines.iter().map(|line| format!("{} x {}", line.pieces, line.item)).collect();
                placed.address.postal().clone_into(&mut order.postal);
                order.state = "RECEIVED";
                format!("placed, to {}", order.postal)
            }
            OrderEvent::AddressFollowed { postal, .. } => {
                order.postal.clone_from(postal);
                format!("goes to {postal} now")
            }
            OrderEvent::Shipped { to, .. } => {
                order.state = "SHIPPED";
                format!("shipped to {to}")
            }
        };
        order.history.push(what);
        Ok(())
    }
}

/// The report: what came in and went out on each day (UTC).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Day {
    pub(crate) placed: u32,
    pub(crate) shipped: u32,
    pub(crate) goods_cents: u64,
}

pub(crate) type Days = BTreeMap<String, Day>;

pub(crate) struct DailyReport;

impl Projection<Memory<Days>> for DailyReport {
    const NAME: &'static str = "daily_report";
    type Event = OrderEvent;

    async fn apply(&self, days: &mut Days, event: &Recorded<OrderEvent>) -> Result<(), ProjectionError> {
        let moment = event.recorded_at().to_string();
        let day = days.entry(moment.split('T').next().unwrap_or_default().to_owned()).or_default();
        match &event.event {
            OrderEvent::Placed(placed) => {
                day.placed += 1;
                day.goods_cents += placed.goods_cents();
            }
            OrderEvent::Shipped { .. } => day.shipped += 1,
            OrderEvent::AddressFollowed { .. } => {}
        }
        Ok(())
    }
}
