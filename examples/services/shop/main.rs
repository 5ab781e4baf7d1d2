//! Customers order and pay over HTTP; clients repeat requests, the bank fails and hangs, and the
//! program is killed. The last piece is sold once, a card is charged once, and what was
//! acknowledged is there. The pattern is a web service of one process: decisions at the door, an
//! effect for the bank, a process for what must happen in time, a list in SQLite, and a feed of
//! what happens. Names, addresses and the numbers of cards stand in the log in the clear, to keep
//! the story short: seal the first two as `accounts` does, and keep a token of the card. Leave the
//! shape where several programs share one store: that is `catalogue`.
//!
//! `cargo run --example shop` tells the story;
//! `cargo run --example shop -- DIRECTORY 127.0.0.1:8080` serves until Ctrl-C or SIGTERM.

mod asked;
mod bank;
mod client;
mod customer;
mod feed;
mod list;
mod order;
mod ordering;
mod payment;
mod problem;
mod product;
mod refusal;
mod service;
#[cfg(test)]
mod tests;
mod unpaid;
mod web;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::bank::{Bank, Mood};
use crate::client::{Reply, send};
use crate::payment::Payment;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let address = std::env::args().nth(2);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let bank = Bank::default();
    // Another bank than the one of this program, and how long it may take to answer. The story is
    // soon told.
    let seconds = std::env::var("SHOP_BANK_SECONDS").map(|seconds| seconds.parse()).ok();
    let payment = Payment {
        bank: match std::env::var("SHOP_BANK") {
            Ok(address) => address,
            Err(_) => bank.open().await?.to_string(),
        },
        within: Duration::from_secs(seconds.unwrap_or(Ok(if address.is_some() {
            10
        } else {
            1
        }))?),
    };
    let store = leftfold::open(place.path()).await?;
    let rows = PathBuf::from(format!("{}-rows", place.path()));
    let running = service::start(store, &rows, listener, payment).await?;
    if address.is_some() {
        // Before anybody can know the address, so that no signal finds the program unprepared.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        println!("the shop is served at {}", running.address);
        // Who tries it out meets each of them once.
        bank.takes(&Mood::ALL);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        return running.stop().await;
    }
    story(&running.address.to_string(), &bank).await?;
    running.stop().await
}

/// Tells the story of a customer with a bad line, and of a bank that has a bad day.
async fn story(shop: &str, bank: &Bank) -> Result<(), Box<dyn Error>> {
    let ask = async |key: &str, path: &str, body: Value| {
        send(shop, Method::POST, path, &[("idempotency-key", key)], body.to_string()).await
    };
    ask("1", "/products/mug", json!({ "name": "a mug", "cents": 1250 })).await?;
    ask("2", "/products/mug/deliveries", json!({ "pieces": 1 })).await?;
    let ada = ask("3", "/customers", json!({ "name": "Ada", "email": "ada@example.org" })).await?;
    let ada = text(&ada, "customer")?;

    let wish = json!({ "customer": ada, "product": "mug", "pieces": 1 });
    let first = ask("4", "/orders", wish.clone()).await?;
    let again = ask("4", "/orders", wish.clone()).await?;
    println!(
        "ordered twice with one key: {} and {}, the same order: {}",
        first.status,
        again.status,
        first.body == again.body
    );
    let late = ask("5", "/orders", wish).await?;
    println!("and once more with another: {} {}", late.status, late.body);

    bank.takes(&[Mood::FailsCharged]);
    let order = text(&first, "order")?;
    let asked = ask("6", &format!("/orders/{order}/payments"), json!({ "card": "4711" })).await?;
    println!("the bank takes the money and says that it failed");
    let (at, paid) = paid_after(shop, &asked).await?;
    println!("it was asked what became of it: {paid}");

    let list = format!("/orders?customer={ada}&at={at}");
    println!("the list says: {}", send(shop, Method::GET, &list, &[], String::new()).await?.body);
    Ok(())
}

fn text(reply: &Reply, name: &str) -> Result<String, Box<dyn Error>> {
    let text = reply.json().and_then(|json| Some(json[name].as_str()?.to_owned()));
    text.ok_or_else(|| format!("{} {} has no {name}", reply.status, reply.body).into())
}

/// The first payment in the feed of orders after what a request recorded, and its position.
async fn paid_after(shop: &str, since: &Reply) -> Result<(String, Value), Box<dyn Error>> {
    let after =
        since.headers.get("position").and_then(|position| position.to_str().ok()).unwrap_or("0");
    let mut feed = client::Feed::open(shop, after).await?;
    loop {
        let (position, data) = feed.next().await?;
        if let Some(paid) = data["what"].get("order.Paid") {
            return Ok((position, paid.clone()));
        }
    }
}
