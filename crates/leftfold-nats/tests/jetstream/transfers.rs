//! Transfers from wallets of one store to those of another.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::inbox::{ReceiverStatus, RunningReceiver};
use leftfold_core::runtime::projection::{Message, Outbox, Outgoing, Projection, ProjectionError};
use leftfold_core::store::{Position, Store};
use leftfold_nats::async_nats::jetstream::{self, consumer};
use leftfold_nats::async_nats::{self, HeaderMap};
use leftfold_nats::{Keep, Nats, NatsBus, NatsQueue, StreamOptions};
use uuid::Uuid;

use crate::soon;

#[allow(unreachable_pub, reason = "it is a part of the documentation")]
mod wallet {
    include!("../../../leftfold-core/doc/wallet.rs");
}
#[allow(unreachable_pub, reason = "it is a part of the documentation")]
mod incoming {
    use super::wallet::*;
    include!("../../../leftfold-core/doc/incoming.rs");
}

pub(crate) use incoming::Incoming;
pub(crate) use wallet::{Wallet, WalletCommand, WalletEvent};

/// The outbox: each deposit goes to a subject that ends with what the wallet's name begins with.
pub(crate) struct Transfers(pub(crate) String);

impl Projection<Outbox<NatsBus>> for Transfers {
    const NAME: &'static str = "transfers";
    type Event = WalletEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<WalletEvent>,
    ) -> Result<(), ProjectionError> {
        if let WalletEvent::Deposited { cents } = event.event {
            let wallet = event.stream_id();
            out.send(&*self.0, wallet, payload(wallet, cents));
        }
        Ok(())
    }
}

pub(crate) fn payload(wallet: &str, cents: u64) -> Vec<u8> {
    serde_json::to_vec(&Incoming { wallet: wallet.to_owned(), cents }).unwrap()
}

pub(crate) fn message(subject: &str, key: &str, number: u64) -> Message {
    Message {
        destination: subject.to_owned(),
        id: Uuid::from_u128(u128::from(number) << 64 | 7),
        key: key.to_owned(),
        sequence: Position(number),
        payload: payload(key, number).into(),
    }
}

/// Servers that create what is missing.
pub(crate) fn creating(url: &str) -> Nats {
    let keep = Keep::For(Duration::from_secs(3_600));
    Nats::at(url).unwrap().streams(StreamOptions { keep, ..StreamOptions::default() })
}

pub(crate) fn receive(store: &Store, queue: &NatsQueue) -> RunningReceiver {
    store.inbox::<Incoming>().receive_from(queue.clone())
}

/// Waits until a receiver is in a state.
pub(crate) async fn until(
    receiver: &RunningReceiver,
    is_reached: impl Fn(&ReceiverStatus) -> bool,
) -> ReceiverStatus {
    let mut status = receiver.status();
    let reached = status.wait_for(|status| is_reached(status));
    match tokio::time::timeout(crate::SOON, reached).await {
        Ok(reached) => reached.unwrap().clone(),
        Err(_) => panic!("it stays as it is: {}", *receiver.status().borrow()),
    }
}

/// A client of the test itself.
pub(crate) async fn client(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

/// All messages of a stream, in its order: headers and payload.
pub(crate) async fn kept(client: &jetstream::Context, stream: &str) -> Vec<(HeaderMap, String)> {
    let mut stream = client.get_stream(stream).await.unwrap();
    let state = &stream.info().await.unwrap().state;
    let (first, last) = (state.first_sequence, state.last_sequence);
    let mut all = Vec::new();
    for sequence in first.max(1)..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        all.push((message.headers, text));
    }
    all
}

/// The state of the only consumer of a stream.
pub(crate) async fn consumer(client: &jetstream::Context, stream: &str) -> consumer::Info {
    use futures_util::StreamExt;
    let stream = client.get_stream(stream).await.unwrap();
    let mut all = stream.consumers();
    let only = all.next().await.unwrap().unwrap();
    assert!(all.next().await.is_none(), "it has one consumer");
    only
}

/// Follows a store until all its wallets have had so many deposits; returns the deposits of each,
/// in their order.
pub(crate) async fn deposits(store: &Store, count: usize) -> BTreeMap<String, Vec<u64>> {
    let mut news = store.follow::<WalletEvent>(Position::START).unwrap();
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 0..count {
        let comes = soon("a deposit", news.next()).await;
        let event = comes.unwrap_or_else(|error| panic!("after {number}: {error}"));
        if let WalletEvent::Deposited { cents } = event.event {
            all.entry(event.stream_id().to_owned()).or_default().push(cents);
        }
    }
    all
}
