//! Feed of orders, as server-sent events: a client that was cut off goes on where it stood.

use axum::response::sse;
use futures_util::{Stream, StreamExt};
use leftfold::fold::LoadError;
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::order::OrderEvent;

/// Public view of an order: no cards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FeedEvent {
    #[serde(rename = "order.Placed")]
    Placed { customer: String, product: String, pieces: u32, cents: u64 },
    #[serde(rename = "order.Paid")]
    Paid { receipt: String },
    #[serde(rename = "order.Cancelled")]
    Cancelled { why: String },
}

impl Event for FeedEvent {
    const NAMESPACE: &'static str = "feed";

    /// Old events are read as the orders themselves read them.
    fn owners() -> Owners {
        Owners::of::<OrderEvent>()
    }
}

// ANCHOR: feed
/// The events after a position, those that are there and those that come, until the shop stops.
pub(crate) fn events(
    store: &Store,
    after: Position,
    mut stopping: watch::Receiver<bool>,
) -> Result<impl Stream<Item = Result<sse::Event, LoadError>> + use<>, leftfold::fold::EventError> {
    let stop = async move { _ = stopping.wait_for(|stopping| *stopping).await };
    let told = |event: Result<Recorded<FeedEvent>, LoadError>| {
        let event = event.map(|event| {
            let data = json!({ "order": event.stream_id(), "at": event.recorded_at(), "what": event.event });
            sse::Event::default().id(event.position().to_string()).data(data.to_string())
        });
        // An event that cannot be read ends the answer; the client comes again, and somebody has to
        // look.
        event.inspect_err(|error| eprintln!("the feed of orders ends: {error}"))
    };
    Ok(store.follow::<FeedEvent>(after)?.map(told).take_until(stop))
}
// ANCHOR_END: feed
