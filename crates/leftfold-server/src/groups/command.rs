//! What the task of a group is told.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::error::GroupError;
use super::info::RunningInfo;
use super::machine::{ConsumerAnswer, ConsumerId, ItemId};
use super::queue::{ConsumerName, ConsumerQueue};

/// Something that the task of a group is told.
pub(super) enum GroupCommand {
    Enter(NewConsumer),
    Leave {
        consumer: ConsumerId,
    },
    Answer {
        consumer: ConsumerId,
        ids: Vec<ItemId>,
        answer: ConsumerAnswer,
        reply: oneshot::Sender<()>,
    },
    Look {
        reply: oneshot::Sender<RunningInfo>,
    },
    /// The group was changed in the store.
    Changed,
    /// All consumers are to be ended.
    Stop,
}

/// A consumer that wants to come in.
pub(super) struct NewConsumer {
    pub(super) id: ConsumerId,
    pub(super) queue: Arc<ConsumerQueue>,
    pub(super) capacity: usize,
    pub(super) who: ConsumerName,
    pub(super) reply: oneshot::Sender<Result<(), GroupError>>,
}
