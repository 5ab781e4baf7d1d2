//! Another server of this protocol: its client, and its events as this one would have them.

pub(crate) use super::event::new_event;
pub use super::wire::dcb_client::DcbClient;
pub use super::wire::{AppendRequest, Event, MetadataEntry, ReadRequest, ReadResponse};
