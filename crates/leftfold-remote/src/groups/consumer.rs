//! A consumer of a group, and the events that it is given.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::RecordedEvent;
use leftfold_protocol::wire::{
    self, ConsumeReply, ConsumeRequest, consume_reply, consume_request, consumer_answer,
};
use leftfold_protocol::{group_problem, wire::group_problem::Problem};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::error::GroupCallError;
use crate::calls::{UnansweredCall, call};
use crate::channel::Client;
use crate::connect::request;
use crate::shared::RemoteShared;

/// First wait before a call that ended is made again.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A consumer of a group. When it is dropped, what it has not answered goes to others, and so may
/// what it answered at the last moment: [`close`](Self::close) it to be sure.
pub struct RemoteConsumer {
    shared: Arc<RemoteShared>,
    group: String,
    name: String,
    credit: u32,
    live: Option<LiveConsumer>,
    /// Wait before the next call, if the one before ended without an event.
    wait: Duration,
}

/// The call of a consumer.
struct LiveConsumer {
    /// Bounded by what the consumer was given and has not answered.
    answers: mpsc::UnboundedSender<ConsumeRequest>,
    replies: Streaming<ConsumeReply>,
}

impl RemoteConsumer {
    pub(super) fn new(shared: Arc<RemoteShared>, group: String, credit: u32) -> Self {
        Self { shared, group, name: String::new(), credit, live: None, wait: Duration::ZERO }
    }

    /// The same, with a name for those who look at the group.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Returns the next event; waits while there is none, and while the consumer has as many as it
    /// may have at once. Safe to cancel.
    ///
    /// A connection that breaks, or a server that restarts, is waited for; events that were not
    /// answered then come again, to this consumer or to another one.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no such group, also when it is deleted meanwhile;
    /// [`GroupCallError::ConsumersMax`] if it has no place; [`GroupCallError::Unavailable`] if the
    /// server was away for longer than the patience of the store's handle. The call may be
    /// repeated.
    pub async fn next(&mut self) -> Result<GivenEvent, GroupCallError> {
        loop {
            let live = match &mut self.live {
                Some(live) => live,
                None => {
                    tokio::time::sleep(self.wait).await;
                    let live = self.connect().await?;
                    self.live.insert(live)
                }
            };
            match live.replies.message().await {
                Ok(Some(ConsumeReply { reply: Some(consume_reply::Reply::Delivery(given)) })) => {
                    self.wait = Duration::ZERO;
                    return GivenEvent::read(given, live.answers.clone());
                }
                // One of a later version of the protocol.
                Ok(Some(_)) => {}
                ended => {
                    self.live = None;
                    self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
                    if let Err(status) = ended
                        && !is_worth_another_call(&status)
                    {
                        return Err(UnansweredCall::Refused(status).into());
                    }
                }
            }
        }
    }

    /// Leaves the group when all events that were given are answered, and the server has the
    /// answers. What it gives meanwhile goes to others.
    pub async fn close(self) {
        if let Some(LiveConsumer { answers, mut replies }) = self.live {
            drop(answers);
            while let Ok(Some(_)) = replies.message().await {}
        }
    }

    async fn connect(&self) -> Result<LiveConsumer, GroupCallError> {
        let make = |mut client: Client| {
            let open = wire::OpenConsumer {
                group: self.group.clone(),
                name: self.name.clone(),
                credit: self.credit,
            };
            let (answers, messages) = mpsc::unbounded_channel();
            // The channel is open.
            let _ = answers
                .send(ConsumeRequest { request: Some(consume_request::Request::Open(open)) });
            let call = request(&self.shared.options, UnboundedReceiverStream::new(messages));
            async move {
                let mut replies = client.consume(call).await?.into_inner();
                match replies.message().await?.and_then(|message| message.reply) {
                    Some(consume_reply::Reply::Opened(_)) => Ok(LiveConsumer { answers, replies }),
                    other => Err(Status::internal(format!("the server replied {other:?} first"))),
                }
            }
        };
        Ok(call(&self.shared, make).await?)
    }
}

/// Tells whether a consumer that was ended so may come back.
fn is_worth_another_call(status: &Status) -> bool {
    match group_problem(status) {
        Some(problem) => {
            matches!(problem, Problem::Unavailable(_) | Problem::Updated(_) | Problem::Stopped(_))
        }
        None => !matches!(
            status.code(),
            Code::PermissionDenied
                | Code::Unauthenticated
                | Code::NotFound
                | Code::InvalidArgument
                | Code::Unimplemented
        ),
    }
}

/// An event that a consumer was given, and has to answer. Dropped without an answer it is one to be
/// given out again.
///
/// Answers are sent without being waited for: an event comes again if the connection breaks before
/// the server has the answer, or before the group's next checkpoint if the server is killed.
pub struct GivenEvent {
    /// The event.
    pub event: RecordedEvent,
    /// Number of times that it was given out before.
    pub retries: u32,
    /// The event was parked, and is replayed.
    pub is_replayed: bool,
    item: wire::GroupItem,
    answers: mpsc::UnboundedSender<ConsumeRequest>,
    is_answered: bool,
}

impl GivenEvent {
    fn read(
        given: wire::GroupDelivery,
        answers: mpsc::UnboundedSender<ConsumeRequest>,
    ) -> Result<Self, GroupCallError> {
        let item = given.item.ok_or_else(|| GroupCallError::strange("an event without a name"))?;
        let event =
            given.event.ok_or_else(|| GroupCallError::strange("a delivery without event"))?;
        let event = event.try_into().map_err(GroupCallError::strange)?;
        let (retries, is_replayed) = (given.retries, item.replayed);
        Ok(Self { event, retries, is_replayed, item, answers, is_answered: false })
    }

    /// The event was handled.
    pub fn acknowledge(mut self) {
        self.answer(consumer_answer::Answer::Acknowledge(wire::Empty {}));
    }

    /// The event is to be given out again, to this consumer or to another one; it is parked if that
    /// was done as often as the group allows.
    pub fn retry(mut self) {
        self.answer(consumer_answer::Answer::Retry(wire::Empty {}));
    }

    /// The event is to be parked, for this reason, of which 1,000 characters are kept. It can be
    /// replayed, and holds up no other.
    pub fn park(mut self, reason: &str) {
        self.answer(consumer_answer::Answer::Park(reason.to_owned()));
    }

    /// The event is settled without being handled.
    pub fn skip(mut self) {
        self.answer(consumer_answer::Answer::Skip(wire::Empty {}));
    }

    fn answer(&mut self, answer: consumer_answer::Answer) {
        self.is_answered = true;
        let answer = wire::ConsumerAnswer { items: vec![self.item], answer: Some(answer) };
        let message = ConsumeRequest { request: Some(consume_request::Request::Answer(answer)) };
        // Without a connection the event is with another consumer by now.
        let _ = self.answers.send(message);
    }
}

impl Drop for GivenEvent {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(consumer_answer::Answer::Retry(wire::Empty {}));
        }
    }
}
