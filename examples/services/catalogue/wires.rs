//! Queues within the process, for the story without a broker.

use std::collections::HashMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::{Bus, Message};
use tokio::sync::mpsc;

/// Queues within one process. What is in them is lost with it: good for a story.
#[derive(Clone)]
pub(crate) struct Wire(HashMap<&'static str, mpsc::UnboundedSender<Message>>);

impl Wire {
    /// A wire with one queue, and its other end.
    pub(crate) fn new(queue: &'static str) -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (send, sent) = mpsc::unbounded_channel();
        (Self(HashMap::from([(queue, send)])), sent)
    }
}

impl Bus for Wire {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        for message in messages {
            let queue = self.0.get(message.destination.as_str());
            queue
                .ok_or_else(|| ProjectionError::message("there is no such queue"))?
                .send(message)?;
        }
        Ok(())
    }
}

/// Brings what comes over a wire into an inbox.
pub(crate) async fn receive<I: Inbox>(store: Store, mut wire: mpsc::UnboundedReceiver<Message>) {
    let inbox = store.inbox::<I>();
    while let Some(message) = wire.recv().await {
        if let Ok(heard) = serde_json::from_slice(&message.payload) {
            // A store that is closed takes nothing more.
            let _ = inbox.receive(&message.destination, &message.id.to_string(), None, heard).await;
        }
    }
}
