//! The protocol of UmaDB: what it promises, its unmodified client, and the server that it was made
//! for, side by side with this one.

mod calls;
mod cut;
mod differential;
mod hostile;
mod python;

use tonic::Status;

use crate::support::{RawChannel, raw};
use wire::dcb_client::DcbClient;

/// Messages and calls, as the server's build makes them.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod wire {
    include!(concat!(env!("OUT_DIR"), "/umadb.v1.rs"));
}

/// The calls, on a connection of their own.
pub(crate) async fn client(port: u16) -> DcbClient<RawChannel> {
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    DcbClient::with_origin(raw(port).await, origin)
}

/// An event without an id, of a type, with a tag.
pub(crate) fn event(event_type: &str, tag: &str) -> wire::Event {
    let (event_type, tags) = (event_type.to_owned(), vec![tag.to_owned()]);
    wire::Event { event_type, tags, data: "data".into(), ..wire::Event::default() }
}

pub(crate) fn appends(events: Vec<wire::Event>) -> wire::AppendRequest {
    wire::AppendRequest { events, ..wire::AppendRequest::default() }
}

fn tagged(tag: &str) -> wire::Query {
    wire::Query { items: vec![wire::QueryItem { tags: vec![tag.to_owned()], types: Vec::new() }] }
}

/// All events that a read returns.
async fn events(
    client: &mut DcbClient<RawChannel>,
    read: wire::ReadRequest,
) -> Vec<wire::SequencedEvent> {
    let mut stream = client.read(read).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.events);
    }
    events
}

/// Class of an error, as clients tell them apart.
fn class(status: &Status) -> (tonic::Code, wire::error_response::ErrorType) {
    let details = <wire::ErrorResponse as prost::Message>::decode(status.details());
    let details = details.unwrap_or_else(|error| panic!("{status:?}: {error}"));
    assert_eq!(details.message, status.message());
    (status.code(), details.error_type())
}
