//! A bank for stories and tests. It charges cards, and is not to be relied on: it takes no care
//! that a charge is asked for once, so whatever the shop asks for twice is paid twice.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Behaviour of the bank on a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Works,
    Declines,
    /// Says that it failed, and did not charge.
    Fails,
    /// Says that it failed, and charged all the same.
    FailsCharged,
    /// Charges and never answers.
    Hangs,
    /// Charges and breaks off its answer.
    BreaksOff,
}

impl Mood {
    pub(crate) const ALL: [Self; 6] = [
        Self::FailsCharged,
        Self::Works,
        Self::Declines,
        Self::Hangs,
        Self::Fails,
        Self::BreaksOff,
    ];
}

#[derive(Debug, Default)]
struct Books {
    /// Receipts by key: one for each time that the card was charged.
    charged: BTreeMap<String, Vec<String>>,
    /// Number of charges, by order.
    orders: BTreeMap<String, u32>,
    declined: BTreeMap<String, String>,
    moods: VecDeque<Mood>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Bank {
    books: Arc<Mutex<Books>>,
    /// Number of charges that were asked for.
    asked: Arc<watch::Sender<u32>>,
    /// True while the answers to charges are held back.
    holds: Arc<watch::Sender<bool>>,
}

impl Bank {
    /// Opens at an address of its own.
    pub(crate) async fn open(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes =
            Router::new().route("/charges", post(charge)).route("/charges/{key}", get(look_up));
        let routes = routes.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(address)
    }

    /// Sets how the bank answers the next requests for charges; after those it works.
    pub(crate) fn takes(&self, moods: &[Mood]) {
        self.books().moods.extend(moods);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the charge, as far as there is one.
    fn take(&self, key: &str, order: &str) -> (Mood, String) {
        let mut books = self.books();
        let mood = books.moods.pop_front().unwrap_or(Mood::Works);
        let receipt =
            format!("receipt {} of {order}", books.orders.get(order).map_or(1, |times| times + 1));
        match mood {
            Mood::Fails => {}
            Mood::Declines => {
                _ = books.declined.insert(key.to_owned(), "the card has no money".to_owned())
            }
            Mood::Works | Mood::FailsCharged | Mood::Hangs | Mood::BreaksOff => {
                books.charged.entry(key.to_owned()).or_default().push(receipt.clone());
                *books.orders.entry(order.to_owned()).or_default() += 1;
            }
        }
        drop(books);
        self.asked.send_modify(|asked| *asked += 1);
        (mood, receipt)
    }
}

#[cfg(test)]
impl Bank {
    /// Returns the number of charges, by order.
    pub(crate) fn charged(&self) -> BTreeMap<String, u32> {
        self.books().orders.clone()
    }

    /// Holds the answers to charges back, or gives them.
    pub(crate) fn holds(&self, holds: bool) {
        self.holds.send_replace(holds);
    }

    /// Waits until so many charges were asked for.
    pub(crate) async fn until_asked(&self, times: u32) {
        _ = self.asked.subscribe().wait_for(|asked| *asked >= times).await;
    }
}

async fn charge(State(bank): State<Bank>, headers: HeaderMap, body: Bytes) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let body: Option<Value> = serde_json::from_slice(&body).ok();
    let (Some(key), Some(order)) = (key, body.as_ref().and_then(|body| body["order"].as_str()))
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (mood, receipt) = bank.take(key, order);
    _ = bank.holds.subscribe().wait_for(|holds| !holds).await;
    match mood {
        Mood::Works => receipt_of(&receipt),
        Mood::Declines => declined("the card has no money"),
        Mood::Fails | Mood::FailsCharged => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Hangs => pending().await,
        Mood::BreaksOff => {
            let broken = futures_util::stream::iter([
                Ok("{\"receipt\":"),
                Err(io::Error::other("broken off")),
            ]);
            Body::from_stream(broken).into_response()
        }
    }
}

async fn look_up(State(bank): State<Bank>, Path(key): Path<String>) -> Response {
    let books = bank.books();
    match (books.charged.get(&key).and_then(|receipts| receipts.first()), books.declined.get(&key))
    {
        (Some(receipt), _) => receipt_of(receipt),
        (None, Some(why)) => declined(why),
        (None, None) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn receipt_of(receipt: &str) -> Response {
    json!({ "receipt": receipt }).to_string().into_response()
}

fn declined(why: &str) -> Response {
    (StatusCode::PAYMENT_REQUIRED, json!({ "why": why }).to_string()).into_response()
}
