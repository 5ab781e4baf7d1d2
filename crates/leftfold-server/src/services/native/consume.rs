//! The call of a consumer of a group: the server gives it events, and it answers each.

use std::sync::Arc;

use futures_util::stream;
use leftfold_protocol::group_status;
use leftfold_protocol::wire::{
    self, ConsumeReply, ConsumeRequest, consume_reply, consume_request, consumer_answer,
    group_problem,
};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use super::groups::{GroupCalls, name_of, ungrouped};
use crate::groups::{
    ConsumerAnswer, ConsumerName, EveryEvent, GroupConsumer, GroupDelivery, GroupEnd, ItemId,
    ItemSource, LensMaker,
};
use crate::services::{Messages, cut};
use crate::stopping::Stopping;

/// Characters of the name of a consumer that are kept.
const NAME_CHARACTERS_MAX: usize = 100;
/// Characters of the reason for which an event is parked that are kept.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// State of the call of a consumer.
struct ConsumerCall {
    consumer: Arc<GroupConsumer>,
    /// The task that takes the answers: it is ended with the call.
    answering: JoinSet<Result<(), Status>>,
    is_told: bool,
    stopping: Stopping,
    _calls: GroupCalls,
}

/// Begins to consume: the events of the group, until either side ends the call.
pub(super) async fn begin(
    calls: GroupCalls,
    open: wire::OpenConsumer,
    incoming: Streaming<ConsumeRequest>,
    stopping: Stopping,
) -> Result<Messages<ConsumeReply>, Status> {
    let name = name_of(&open.group)?;
    calls.may_consume(&name).await?;
    calls.own(&name).await?;
    let who = ConsumerName {
        name: cut(&open.name, NAME_CHARACTERS_MAX),
        user: calls.caller.name().to_string(),
        from: String::new(),
    };
    let credit = usize::try_from(open.credit).unwrap_or(usize::MAX);
    let lenses: LensMaker = Arc::new(|_| Arc::new(EveryEvent));
    let consumer = calls.groups.consume(calls.store(), &name, credit, who, lenses).await;
    let consumer = Arc::new(consumer.map_err(ungrouped)?);
    let mut answering = JoinSet::new();
    answering.spawn(take_answers(Arc::clone(&consumer), incoming));
    let call = ConsumerCall { consumer, answering, is_told: false, stopping, _calls: calls };
    Ok(Box::pin(stream::try_unfold(call, |mut call| async move {
        Ok(call.reply().await?.map(|reply| (ConsumeReply { reply: Some(reply) }, call)))
    })))
}

impl ConsumerCall {
    /// Returns the next reply; `None` if the client is done.
    async fn reply(&mut self) -> Result<Option<consume_reply::Reply>, Status> {
        if !self.is_told {
            self.is_told = true;
            return Ok(Some(consume_reply::Reply::Opened(wire::Empty {})));
        }
        tokio::select! {
            biased;
            ended = self.answering.join_next() => match ended {
                Some(Ok(Err(status))) => Err(status),
                _ => Ok(None),
            },
            () = self.stopping.wanted() => Err(Status::unavailable("the server is stopping")),
            delivery = self.consumer.next() => match delivery {
                Ok(delivery) => Ok(Some(consume_reply::Reply::Delivery(wire_delivery(delivery)))),
                Err(end) => Err(ended(&end)),
            },
        }
    }
}

/// Takes the answers of a client until it says that it is done.
async fn take_answers(
    consumer: Arc<GroupConsumer>,
    mut incoming: Streaming<ConsumeRequest>,
) -> Result<(), Status> {
    while let Some(message) = incoming.message().await? {
        let Some(consume_request::Request::Answer(answer)) = message.request else {
            return Err(Status::invalid_argument("behind the first message come answers"));
        };
        let given = match answer.answer {
            None => return Err(Status::invalid_argument("an answer says what it is")),
            Some(consumer_answer::Answer::Acknowledge(_)) => ConsumerAnswer::Ack,
            Some(consumer_answer::Answer::Retry(_)) => ConsumerAnswer::Retry,
            Some(consumer_answer::Answer::Skip(_)) => ConsumerAnswer::Skip,
            Some(consumer_answer::Answer::Park(reason)) => {
                ConsumerAnswer::Park { reason: cut(&reason, REASON_CHARACTERS_MAX) }
            }
        };
        let ids = answer.items.into_iter().flat_map(|item| {
            // A record is of one of the two sources; the other one has none there.
            let sources: &[_] = match item.replayed {
                true => &[ItemSource::Parked, ItemSource::Retried],
                false => &[ItemSource::Read],
            };
            let position = leftfold::store::Position(item.position);
            sources.iter().map(move |source| ItemId { source: *source, position })
        });
        consumer.answer(ids.collect(), given).await;
    }
    Ok(())
}

fn wire_delivery(delivery: GroupDelivery) -> wire::GroupDelivery {
    let GroupDelivery { id, event, retries } = delivery;
    let item = wire::GroupItem { replayed: id.source != ItemSource::Read, position: id.position.0 };
    wire::GroupDelivery { item: Some(item), event: Some(event.into()), retries }
}

/// The status of a consumer that was ended.
fn ended(end: &GroupEnd) -> Status {
    use group_problem::Problem;
    let problem = match end {
        GroupEnd::Deleted => Problem::NotFound(wire::Empty {}),
        GroupEnd::Updated => Problem::Updated(wire::Empty {}),
        GroupEnd::Stopped => Problem::Stopped(wire::Empty {}),
        GroupEnd::Away { detail } => Problem::Unavailable(detail.clone()),
    };
    group_status(problem, end.to_string())
}
