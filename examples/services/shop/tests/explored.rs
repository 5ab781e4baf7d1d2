//! The decision, the process and the effect together, through crashes and in many orders of things.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::testing::explorer::{Explorer, Schedules, World};

use crate::customer::{Block, Customer, CustomerEvent};
use crate::order::{Order, OrderCommand, State};
use crate::ordering::{OrderingEvent, PlaceOrder};
use crate::payment::{Payment, Verdict};
use crate::product::{Product, ProductEvent};
use crate::unpaid::{PAY_WITHIN, Unpaid};

const PIECES: u64 = 3;

fn pieces_are_kept(world: &World) -> Result<(), String> {
    let product = world.state::<Product>("mug").cloned().unwrap_or_default();
    let reserved: u64 = product.reserved.values().copied().map(u64::from).sum();
    let all = product.free + reserved + product.sold;
    if all == PIECES { Ok(()) } else { Err(format!("{all} of {PIECES} pieces: {product:?}")) }
}

/// Counts the charges of each order.
fn charged(world: &World) -> BTreeMap<String, usize> {
    let mut charged = BTreeMap::new();
    for charge in world.performed::<Payment>() {
        *charged.entry(charge.intent.order).or_default() += charge.times;
    }
    charged
}

fn nobody_orders_who_is_blocked(world: &World) -> bool {
    let events = world.events_of::<OrderingEvent>();
    let after = events.iter().skip_while(|event| !matches!(event, OrderingEvent::Blocked { .. }));
    !after
        .into_iter()
        .any(|event| matches!(event, OrderingEvent::Placed { customer, .. } if customer == "bob"))
}

fn every_order_is_settled(world: &World) -> Result<(), String> {
    let charged = charged(world);
    let mut sold = 0;
    for (id, order) in world.aggregates::<Order>() {
        let times = charged.get(id).copied().unwrap_or_default();
        match (order.state, times) {
            (State::Paid, 1) => sold += u64::from(order.pieces),
            (State::Cancelled, 0) => {}
            (state, times) => return Err(format!("{id} is {state} and was charged {times} times")),
        }
    }
    let product = world.state::<Product>("mug").cloned().unwrap_or_default();
    let is_settled = product.reserved.is_empty() && product.sold == sold;
    if is_settled { Ok(()) } else { Err(format!("{sold} were paid for: {product:?}")) }
}

fn order(id: &str, customer: &str, pieces: u32) -> PlaceOrder {
    PlaceOrder { order: id.into(), customer: customer.into(), product: "mug".into(), pieces }
}

fn pay(order: &str) -> OrderCommand {
    OrderCommand::Pay { order: order.into(), card: "4711".into() }
}

// ANCHOR: explored
#[test]
fn every_piece_is_somewhere_and_every_order_is_charged_once_or_cancelled_whatever_happens() {
    let charges = Performed::Done(Verdict::Charged { receipt: "r".into() });
    let fails = Performed::NotDone { reason: "the bank is closed".into() };
    let doubts = Performed::InDoubt { reason: "no answer".into() };
    Explorer::new()
        .aggregate::<Customer>()
        .aggregate::<Product>()
        .aggregate::<Order>()
        .process::<Unpaid>()
        .effect(
            Payment { bank: String::new(), within: Duration::from_secs(10) },
            [charges, fails, doubts],
        )
        .start(|clients| {
            for customer in ["ada", "bob"] {
                let (name, email) = (customer.to_owned(), format!("{customer}@example.org"));
                let signed_up = CustomerEvent::SignedUp { customer: customer.into(), name, email };
                clients.given::<Customer>(customer, [signed_up]);
            }
            let listed = ProductEvent::Listed { name: "a mug".into(), cents: 300 };
            clients.given::<Product>(
                "mug",
                [listed, ProductEvent::Delivered { pieces: PIECES as u32 }],
            );
            let ada =
                clients.client("ada").decide(order("a", "ada", 2)).command::<Order>("a", pay("a"));
            ada.wait(PAY_WITHIN).command::<Order>("a", pay("a"));
            let bob = clients
                .client("bob")
                .decide(order("b", "bob", 2))
                .command::<Order>("b", OrderCommand::Cancel);
            bob.decide(order("c", "bob", 1)).command::<Order>("c", pay("c"));
            clients.client("office").command::<Customer>("bob", Block { why: "debts".into() });
        })
        .always("every piece is free, reserved or sold", pieces_are_kept)
        .always("no order is charged twice", |world| {
            charged(world).values().all(|times| *times <= 1)
        })
        .always("nobody orders who is blocked", nobody_orders_who_is_blocked)
        .finally("every order is paid or cancelled, and its pieces with it", every_order_is_settled)
        .finally("nothing is left to do", |world| {
            world.open_processes() == 0 && world.parked() == 0
        })
        .run(Schedules(300));
}
// ANCHOR_END: explored
