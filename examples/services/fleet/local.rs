//! A bus within one process, for the story. What is on it is lost with the process.

use leftfold::prelude::*;
use leftfold::runtime::projection::{Bus, Message};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) struct LocalBus(UnboundedSender<Message>);

impl LocalBus {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Message>) {
        let (send, sent) = unbounded_channel();
        (Self(send), sent)
    }
}

impl Bus for LocalBus {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        for message in messages {
            self.0.send(message)?;
        }
        Ok(())
    }
}

/// Brings what is on the bus into an inbox.
pub(crate) async fn receive<I: Inbox>(store: Store, mut sent: UnboundedReceiver<Message>) {
    let inbox = store.inbox::<I>();
    while let Some(Message { destination, id, payload, .. }) = sent.recv().await {
        // A store that is closed takes nothing more.
        let _ = inbox.receive_bytes(&destination, &id.to_string(), None, &payload).await;
    }
}
