//! Records: what a store keeps beside events, for requests and for consumers.

use bytes::Bytes;

use super::{CommandId, Digest, Hash, Label, Position, StoreId, Timestamp};

/// Record of a request that the store keeps: no event, without position or version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRecord {
    /// Id of the request.
    pub id: CommandId,
    /// Digest of the request's bytes; a request with other bytes under the same id is refused.
    pub digest: Digest,
    /// Answer to the request, beside the events that were appended with it.
    pub answer: Bytes,
}

/// A request that took effect earlier, as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Record of the request.
    pub record: CommandRecord,
    /// Recorded time of the append that answered it.
    pub recorded_at: Timestamp,
    /// Position of the first event that was appended with it; if there were none, of the last event
    /// before it.
    pub first: Position,
    /// Number of events that were appended with it.
    pub events: u32,
}

/// The scope of order, conditions and atomicity that a checkpoint speaks of. The embedded log is
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition(pub Option<Label>);

/// Position of a consumer: it has handled everything at and before it.
///
/// The hash is that of the history at the position: by it a consumer notices that its log was
/// restored or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The store that the position belongs to. A consumer of another system writes that system's
    /// id.
    pub store: StoreId,
    /// The partition.
    pub partition: Partition,
    /// Everything up to here is handled.
    pub position: Position,
    /// Hash of the group that recorded the position; [`Hash::EMPTY`] at the start, or if the source
    /// has no hashes.
    pub hash: Hash,
}

/// Moves a consumer, atomically with the events of the same append.
///
/// A consumer has one checkpoint for each source store and partition that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Name of the consumer.
    pub consumer: Label,
    /// Position that the consumer must have before; the append is refused if it has another.
    pub from: MoveFrom,
    /// Checkpoint that the consumer has afterwards.
    pub checkpoint: Checkpoint,
}

/// Position that a consumer must have for its checkpoint to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveFrom {
    /// Exactly here; [`Position::START`] if it has no checkpoint yet. Of two runners only one moves
    /// on: a process needs this to react once.
    Exactly(Position),
    /// Anywhere before the new position.
    Earlier,
    /// Anywhere: a consumer that is rebuilt goes back.
    Anywhere,
}

impl MoveFrom {
    /// Tells whether a consumer that stands at `current` (`None` if it has no checkpoint) may go to
    /// `proposed`.
    #[must_use]
    pub fn allows(self, current: Option<Position>, proposed: Position) -> bool {
        match self {
            Self::Exactly(position) => current.unwrap_or(Position::START) == position,
            Self::Earlier => current.is_none_or(|current| current < proposed),
            Self::Anywhere => true,
        }
    }
}
