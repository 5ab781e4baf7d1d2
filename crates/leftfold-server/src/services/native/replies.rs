//! Replies of a call of appends, on their way to its client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use leftfold::store::Head;
use leftfold_protocol::wire::{AppendReply, append_reply};
use leftfold_protocol::{AnswerBatch, IN_FLIGHT_MAX, encoded_answer};
use tokio::sync::{Notify, mpsc};
use tonic::Status;

use super::kept::KeptAnswers;

/// A reply, with the number of appends that it answers.
type Counted = (usize, Result<AppendReply, Status>);

/// Replies of a call that wait until the client takes them.
pub(super) struct ReplySender {
    sender: mpsc::UnboundedSender<Counted>,
    pub(super) queue: Arc<ReplyQueue>,
    /// The client takes several answers in one message.
    takes_several: bool,
}

/// The replies of a call, for the client.
pub(in crate::services) struct Replies {
    receiver: mpsc::UnboundedReceiver<Counted>,
    queue: Arc<ReplyQueue>,
}

#[derive(Default)]
pub(super) struct ReplyQueue {
    /// Answers that wait.
    waiting: AtomicUsize,
    taken: Notify,
}

/// Makes the two ends of a call's replies. The session bounds what waits between them: it reads no
/// more appends while [`IN_FLIGHT_MAX`] have no answer that was taken.
pub(super) fn replies(takes_several: bool) -> (ReplySender, Replies) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queue = Arc::new(ReplyQueue::default());
    let sender = ReplySender { sender, queue: Arc::clone(&queue), takes_several };
    (sender, Replies { receiver, queue })
}

impl ReplySender {
    pub(super) fn reply(&self, reply: append_reply::Reply) {
        self.send(0, Ok(AppendReply { reply: Some(reply) }));
    }

    /// Ends the call.
    pub(super) fn end(&self, status: Status) {
        self.send(0, Err(status));
    }

    /// Sends answers, and keeps them.
    pub(super) fn answer(&self, answers: AnswerBatch, head: Head, kept: &mut KeptAnswers) {
        if answers.is_empty() {
            return;
        }
        let count = answers.len();
        let (reply, encoded) = answers.finish(head);
        if self.takes_several {
            self.send(count, Ok(reply));
        }
        for (number, answer) in encoded {
            if !self.takes_several {
                let answer = encoded_answer(answer.clone(), head);
                let reply = Some(append_reply::Reply::Answer(answer));
                self.send(1, Ok(AppendReply { reply }));
            }
            kept.note(number, answer);
        }
    }

    fn send(&self, count: usize, reply: Result<AppendReply, Status>) {
        self.queue.waiting.fetch_add(count, Ordering::Relaxed);
        // A client that is gone asks again, on another connection.
        let _ = self.sender.send((count, reply));
    }

    /// Waits until the client is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl ReplyQueue {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until the client has taken an answer of very many.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }
}

impl Stream for Replies {
    type Item = Result<AppendReply, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.receiver.poll_recv(context);
        if let Poll::Ready(Some((count, _))) = &polled {
            let before = this.queue.waiting.fetch_sub(*count, Ordering::Relaxed);
            if before >= IN_FLIGHT_MAX / 2 {
                this.queue.taken.notify_one();
            }
        }
        polled.map(|reply| reply.map(|(_, reply)| reply))
    }
}
