//! The shop from outside, over HTTP.

mod clients;
mod explored;
mod killed;
mod past;
mod payments;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::Method;
use leftfold::prelude::*;
use leftfold::testing::HandClock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::bank::Bank;
use crate::client::{Feed, Reply, send};
use crate::order::OrderEvent;
use crate::payment::Payment;
use crate::product::ProductEvent;
use crate::service::{self, Running};

/// Nothing that is waited for takes so long.
const SOON: Duration = Duration::from_secs(60);

/// A shop that is served, and its bank.
struct Street {
    running: Running,
    shop: String,
    bank: Bank,
    store: Store,
    clock: Arc<HandClock>,
    rows: TempDir,
    keys: AtomicU32,
}

impl Street {
    async fn open(store: Store) -> Self {
        Self::open_with(store, Bank::default(), tempfile::tempdir().unwrap()).await
    }

    async fn open_with(store: Store, bank: Bank, rows: TempDir) -> Self {
        let address = bank.open().await.unwrap().to_string();
        let payment = Payment { bank: address, within: Duration::from_secs(1) };
        Self::open_before(payment, store, bank, rows).await
    }

    async fn open_before(payment: Payment, store: Store, bank: Bank, rows: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clock = Arc::new(HandClock::going());
        let running =
            service::start_by(clock.clone(), store.clone(), rows.path(), listener, payment)
                .await
                .unwrap();
        let shop = running.address.to_string();
        Self { running, shop, bank, store, clock, rows, keys: AtomicU32::new(0) }
    }

    async fn post_as(&self, key: &str, path: &str, body: &Value) -> Reply {
        send(&self.shop, Method::POST, path, &[("idempotency-key", key)], body.to_string())
            .await
            .unwrap()
    }

    /// Posts with a key of its own.
    async fn post(&self, path: &str, body: Value) -> Reply {
        let key = format!("key {}", self.keys.fetch_add(1, Ordering::Relaxed));
        self.post_as(&key, path, &body).await
    }

    async fn get(&self, path: &str) -> Reply {
        send(&self.shop, Method::GET, path, &[], String::new()).await.unwrap()
    }

    async fn customer(&self, name: &str) -> String {
        let reply = self
            .post("/customers", json!({ "name": name, "email": format!("{name}@example.org") }))
            .await;
        field(&reply, 201, "customer")
    }

    async fn product(&self, id: &str, pieces: u32) {
        let listed =
            self.post(&format!("/products/{id}"), json!({ "name": "a thing", "cents": 300 })).await;
        let delivered =
            self.post(&format!("/products/{id}/deliveries"), json!({ "pieces": pieces })).await;
        assert_eq!((listed.status, delivered.status), (202, 202));
    }

    async fn order(&self, customer: &str, product: &str, pieces: u32) -> Reply {
        self.post("/orders", json!({ "customer": customer, "product": product, "pieces": pieces }))
            .await
    }

    async fn pay(&self, order: &str) -> Reply {
        self.post(&format!("/orders/{order}/payments"), json!({ "card": "4711" })).await
    }

    /// Waits until an order has ended so: `order.Paid`, `order.Cancelled`.
    async fn until(&self, order: &str, what: &str) {
        let mut feed = Feed::open(&self.shop, "0").await.unwrap();
        let found = async {
            while !matches!(feed.next().await, Ok((_, data)) if is(&data, order, what)) {}
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("{order} is not {what}"));
    }

    /// Pieces that are free, reserved and sold now. What follows from an order's end may still be
    /// on its way: [`until_recorded`] waits for it.
    async fn stock(&self, product: &str) -> [u64; 3] {
        let reply = self.get(&format!("/products/{product}")).await.json().unwrap();
        ["free", "reserved", "sold"].map(|name| reply[name].as_u64().unwrap())
    }
}

/// Waits until something has happened, and returns it.
async fn until_recorded<E: Event>(store: &Store, happened: impl Fn(&E) -> bool) -> Recorded<E> {
    let mut events = store.follow(Position::START).unwrap();
    let found = events.find(|event: &Recorded<E>| happened(&event.event));
    timeout(SOON, found).await.expect("it happens soon").unwrap()
}

fn placed() -> OrderEvent {
    OrderEvent::Placed { customer: "ada".into(), product: "mug".into(), pieces: 2, cents: 600 }
}

fn cancelled() -> OrderEvent {
    OrderEvent::Cancelled { why: "nobody wants it".into() }
}

fn is(data: &Value, order: &str, what: &str) -> bool {
    data["order"] == order && data["what"].get(what).is_some()
}

fn field(reply: &Reply, status: u16, name: &str) -> String {
    assert_eq!(reply.status, status, "{}", reply.body);
    reply.json().unwrap()[name].as_str().unwrap().to_owned()
}

fn position(reply: &Reply) -> String {
    reply.headers["position"].to_str().unwrap().to_owned()
}

/// The status and the word for programs.
fn problem(reply: &Reply) -> (u16, String) {
    let body = reply.json().unwrap_or_else(|| panic!("{} {}", reply.status, reply.body));
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert!(!body["detail"].as_str().unwrap().is_empty());
    (reply.status, body["code"].as_str().unwrap().to_owned())
}
