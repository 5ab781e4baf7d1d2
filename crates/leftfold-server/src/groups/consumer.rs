//! A consumer, as a protocol has it: what was given to it, and its answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::command::GroupCommand;
use super::error::GroupEnd;
use super::machine::{ConsumerAnswer, ConsumerId, GroupDelivery, ItemId};
use super::queue::ConsumerQueue;

/// A consumer of a group. When it is dropped, what it had goes to others.
pub(crate) struct GroupConsumer {
    pub(super) id: ConsumerId,
    pub(super) queue: Arc<ConsumerQueue>,
    pub(super) commands: mpsc::UnboundedSender<GroupCommand>,
}

impl GroupConsumer {
    /// Returns the next event; waits while there is none. Safe to cancel.
    pub(crate) async fn next(&self) -> Result<GroupDelivery, GroupEnd> {
        self.queue.next().await
    }

    /// Answers to events that it has. Ids of others are left out. Returns when the answer is taken,
    /// so that one consumer never has two under way.
    pub(crate) async fn answer(&self, ids: Vec<ItemId>, answer: ConsumerAnswer) {
        let (reply, taken) = oneshot::channel();
        let command = GroupCommand::Answer { consumer: self.id, ids, answer, reply };
        // If nobody serves the group any more, `next` tells.
        if self.commands.send(command).is_ok() {
            tokio::select! {
                _ = taken => {}
                () = self.queue.ended() => {}
            }
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        let _ = self.commands.send(GroupCommand::Leave { consumer: self.id });
    }
}
