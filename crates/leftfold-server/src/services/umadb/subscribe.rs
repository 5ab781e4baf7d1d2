//! Subscriptions: the events that match, and those that come, until the client or the server ends.

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use leftfold::store::{Position, ReadError, RecordedEvent, Signal, Subscription};
use tonic::Status;

use super::access::AskedStore;
use super::event::EventBatch;
use super::query::query_of;
use super::{batch_of, status, wire};
use crate::metrics::OpenSubscription;
use crate::services::Messages;
use crate::stopping::Stopping;
use crate::users::Wish;

/// State of a subscription between two of its messages.
struct SubscribedCall {
    subscription: Subscription,
    /// Event, or error, behind the events of the message before.
    behind: Option<Result<RecordedEvent, ReadError>>,
    batch: u32,
    stopping: Stopping,
    _counted: OpenSubscription,
}

/// Answers a subscription, one message as the client takes the one before. It ends without an error
/// when the server stops, and at once if nothing can come after its position.
pub(super) fn subscribe(
    asked: &AskedStore,
    request: wire::SubscribeRequest,
    stopping: Stopping,
) -> Result<Messages<Bytes>, Status> {
    let wire::SubscribeRequest { query, after, batch_size } = request;
    let query = query_of(query).map_err(status::of_invalid)?;
    asked.may(Wish::Query(&query))?;
    let after = after.map_or(Position::START, Position);
    if after == Position::END {
        return Ok(Box::pin(stream::empty()));
    }
    let subscription = asked.store.subscribe(query, after);
    let (batch, counted) = (batch_of(batch_size), asked.subscribed());
    let call = SubscribedCall { subscription, behind: None, batch, stopping, _counted: counted };
    Ok(Box::pin(stream::try_unfold(call, |mut call| async move {
        let message = call.message().await?;
        Ok(message.map(|message| (message, call)))
    })))
}

impl SubscribedCall {
    /// Waits for events; `None` if the server stops.
    async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let first = match self.behind.take() {
            Some(first) => first,
            None => tokio::select! {
                event = self.subscription.event() => event,
                () = self.stopping.wanted() => return Ok(None),
            },
        };
        let mut batch = EventBatch::default();
        let first = first.map_err(status::of_read)?;
        self.behind = batch.push(first).map_err(status::unreadable)?.map(Ok);
        while batch.len() < self.batch as usize && self.behind.is_none() {
            match self.subscription.next().now_or_never() {
                Some(Ok(Signal::Event(event))) => {
                    let beyond = batch.push(event);
                    self.behind = beyond.map_err(status::unreadable)?.map(Ok);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => self.behind = Some(Err(error)),
                None => break,
            }
        }
        Ok(Some(batch.finish(None)))
    }
}
