//! Records of a copy of itself in the new store.

use serde::{Deserialize, Serialize};

use crate::fold::Event;
use crate::store::{Invalid, StoreId, StreamName};

/// Event of a copy, stored as `$copy.…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum CopyEvent {
    /// It began. The first event of a copied store.
    Began { old: String },
    /// A consumer of the old store was seen: its checkpoint is carried over at the switch.
    ConsumerSeen { consumer: String, source: String },
    /// The images of the events after `after`, up to and including `through`. See
    /// [`ImageRun`](super::map::ImageRun) for the runs.
    Mapped { after: u64, through: u64, before: (u64, u64), runs: Vec<(u64, u64, u64, u64)> },
    /// The old store is not copied any further.
    Switched { through: u64, chain: String, consumers: u64 },
}

impl Event for CopyEvent {
    const NAMESPACE: &'static str = "$copy";
}

/// Beginning of the names of the streams and of the consumer of copies.
pub(super) const COPY: &str = "$copy";

/// Returns the stream of the events of one copy, but for `ConsumerSeen`. Its first event is
/// `Began`; but for `Switched`, which is the last, all others are `Mapped`.
pub(super) fn stream(old: StoreId) -> Result<StreamName, Invalid> {
    StreamName::of(COPY, &old.to_string())
}

/// The stream of the consumers that were seen.
pub(super) fn consumers(old: StoreId) -> Result<StreamName, Invalid> {
    StreamName::of("$copy:consumers", &old.to_string())
}

/// Tells whether a stream is a copy's own.
pub(super) fn is_own(stream: &str) -> bool {
    stream.starts_with("$copy-") || stream.starts_with("$copy:")
}
