//! The call by which a client consumes: events to it, and its answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream;
use leftfold::store::{Position, ReadError};
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::super::Facade;
use super::super::faults;
use super::super::records::{EventForm, FoundEvent, id_of};
use super::super::wire::Uuid as WireUuid;
use super::super::wire::persistent::read_req::nack::Action;
use super::super::wire::persistent::read_req::{Ack, Content as Answered, Nack};
use super::super::wire::persistent::read_resp::read_event::{Count, Position as WirePosition};
use super::super::wire::persistent::read_resp::{Content, ReadEvent, SubscriptionConfirmation};
use super::super::wire::persistent::{ReadReq, ReadResp};
use super::face::{GroupSource, NamedGroup};
use crate::groups::{ConsumerAnswer, GroupConsumer, GroupDelivery, GroupEnd, ItemId};
use crate::services::Messages;
use crate::stopping::Stopping;

/// Events that one answer names.
const ANSWERED_MAX: usize = 2_000;
/// Events that are known to a call beside as many as a client has at once.
const KNOWN_BESIDE: usize = 1_000;

/// A client that consumes.
pub(super) struct ConsumeCall {
    facade: Facade,
    named: NamedGroup,
    form: EventForm,
    consumer: Arc<GroupConsumer>,
    given: Arc<AnswerableEvents>,
    is_confirmed: bool,
    /// Number and position of the last event of an indexed stream.
    near: Option<(u64, Position)>,
    stopping: Stopping,
    answers: AnswerTask,
}

/// The task that takes the answers of a call, which goes with the call.
struct AnswerTask(JoinHandle<Status>);

impl Drop for AnswerTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The events that a client may answer, by the ids that it names. An id may be that of several.
#[derive(Debug)]
struct AnswerableEvents {
    known: Mutex<KnownEvents>,
    count_max: usize,
}

#[derive(Debug, Default)]
struct KnownEvents {
    by_id: HashMap<Uuid, Vec<(u64, ItemId)>>,
    by_age: BTreeMap<u64, Uuid>,
    next: u64,
}

impl AnswerableEvents {
    fn known(&self) -> MutexGuard<'_, KnownEvents> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: Uuid, item: ItemId) {
        let mut known = self.known();
        known.forget(id, |other| other == item);
        known.next += 1;
        let age = known.next;
        known.by_id.entry(id).or_default().push((age, item));
        known.by_age.insert(age, id);
        // A client that never answers has the oldest ones no longer.
        if known.by_age.len() > self.count_max
            && let Some((oldest, id)) = known.by_age.pop_first()
            && let Some(items) = known.by_id.get_mut(&id)
        {
            items.retain(|(age, _)| *age != oldest);
            if items.is_empty() {
                known.by_id.remove(&id);
            }
        }
    }

    /// Returns the events of some ids, and forgets them.
    fn take(&self, ids: &[WireUuid]) -> Vec<ItemId> {
        let mut known = self.known();
        let ids = ids.iter().filter_map(|id| id_of(Some(id)));
        ids.filter_map(|id| {
            let (_, item) = *known.by_id.get(&id)?.first()?;
            known.forget(id, |other| other == item);
            Some(item)
        })
        .collect()
    }
}

impl KnownEvents {
    fn forget(&mut self, id: Uuid, is_meant: impl Fn(ItemId) -> bool) {
        let Some(items) = self.by_id.get_mut(&id) else { return };
        for (age, _) in items.extract_if(.., |(_, item)| is_meant(*item)) {
            self.by_age.remove(&age);
        }
        if items.is_empty() {
            self.by_id.remove(&id);
        }
    }
}

impl ConsumeCall {
    pub(super) fn new(
        facade: Facade,
        named: NamedGroup,
        form: EventForm,
        consumer: GroupConsumer,
        capacity: usize,
        incoming: Streaming<ReadReq>,
        stopping: Stopping,
    ) -> Self {
        let consumer = Arc::new(consumer);
        let count_max = 2 * capacity + KNOWN_BESIDE;
        let given = Arc::new(AnswerableEvents { known: Mutex::default(), count_max });
        let taking = take_answers(incoming, Arc::clone(&consumer), Arc::clone(&given));
        let answers = AnswerTask(tokio::spawn(taking));
        Self {
            facade,
            named,
            form,
            consumer,
            given,
            is_confirmed: false,
            near: None,
            stopping,
            answers,
        }
    }

    /// The answers, made as the client takes them.
    pub(super) fn responses(self) -> Messages<ReadResp> {
        Box::pin(stream::try_unfold(self, |mut call| async move {
            let content = call.next().await?;
            Ok(Some((ReadResp { content: Some(content) }, call)))
        }))
    }

    async fn next(&mut self) -> Result<Content, Status> {
        if !self.is_confirmed {
            self.is_confirmed = true;
            let subscription_id = self.named.id();
            let confirmation = SubscriptionConfirmation { subscription_id };
            return Ok(Content::SubscriptionConfirmation(confirmation));
        }
        loop {
            let delivery = tokio::select! {
                delivery = self.consumer.next() => delivery,
                () = self.stopping.wanted() => return Err(faults::is_stopping()),
                failed = &mut self.answers.0 => {
                    return Err(failed.unwrap_or_else(|_| faults::is_stopping()));
                }
            };
            let delivery = delivery.map_err(|end| self.ended(end))?;
            if let Some(event) = self.shown(&delivery).await? {
                return Ok(Content::Event(event));
            }
            // Nobody sees what the link leads to.
            self.consumer.answer(vec![delivery.id], ConsumerAnswer::Skip).await;
        }
    }

    /// Returns an event as the client sees it; `None` if it is a link that leads nowhere.
    async fn shown(&mut self, delivery: &GroupDelivery) -> Result<Option<ReadEvent>, Status> {
        let found = self.found(delivery).await.map_err(faults::unread)?;
        let (event, link, position) = found.into_parts();
        if event.is_none() {
            return Ok(None);
        }
        let original = link.as_ref().or(event.as_ref());
        if let Some(id) = original.and_then(|original| id_of(original.id.as_ref())) {
            self.given.note(id, delivery.id);
        }
        let retries = i32::try_from(delivery.retries).unwrap_or(i32::MAX);
        Ok(Some(ReadEvent {
            event,
            link,
            position: Some(WirePosition::CommitPosition(position.0)),
            count: Some(Count::RetryCount(retries)),
        }))
    }

    async fn found(&mut self, delivery: &GroupDelivery) -> Result<FoundEvent, ReadError> {
        let GroupSource::Indexed(stream) = &self.named.source else {
            return self.form.found(&self.facade, &delivery.event).await;
        };
        let (store, position) = (&self.facade.store, delivery.event.position);
        let near = self.near;
        let number = self.facade.ordinals.number_of(store, stream, position, near).await?;
        // A replayed one is far before what comes next.
        if near.is_none_or(|(_, near)| near < position) {
            self.near = Some((number, position));
        }
        let is_hidden = self.facade.marks.hide(store, &delivery.event).await?;
        Ok(self.form.indexed(stream, number, &delivery.event, is_hidden))
    }

    fn ended(&self, end: GroupEnd) -> Status {
        match end {
            GroupEnd::Deleted | GroupEnd::Updated | GroupEnd::Stopped => {
                faults::group_dropped(self.named.source.shown(), &self.named.group)
            }
            GroupEnd::Away { .. } => Status::unavailable(end.to_string()),
        }
    }
}

/// Takes the answers of a client. Returns only with an error: a client that sends nothing more may
/// go on to get events.
async fn take_answers(
    mut incoming: Streaming<ReadReq>,
    consumer: Arc<GroupConsumer>,
    given: Arc<AnswerableEvents>,
) -> Status {
    loop {
        let (ids, answer) = match incoming.message().await {
            Ok(Some(ReadReq { content: Some(Answered::Ack(Ack { ids, .. })) })) => {
                (ids, ConsumerAnswer::Ack)
            }
            Ok(Some(ReadReq { content: Some(Answered::Nack(nack)) })) => {
                let answer = answer_of(&nack);
                (nack.ids, answer)
            }
            Ok(Some(_)) => {
                return Status::invalid_argument("behind the options come answers to events");
            }
            Ok(None) => std::future::pending().await,
            Err(error) => return error,
        };
        if ids.len() > ANSWERED_MAX {
            let text = format!("an answer names at most {ANSWERED_MAX} events");
            return Status::invalid_argument(text);
        }
        consumer.answer(given.take(&ids), answer).await;
    }
}

/// Returns what an answer means. To stop does nothing but settle the event, as in KurrentDB: its
/// server takes every event that was answered from those that are out, whatever the answer, and has
/// no other action for this one.
fn answer_of(nack: &Nack) -> ConsumerAnswer {
    match nack.action() {
        Action::Unknown | Action::Retry => ConsumerAnswer::Retry,
        Action::Park => {
            let reason = format!("Client explicitly NAK'ed message.\n{}", nack.reason);
            ConsumerAnswer::Park { reason }
        }
        Action::Skip | Action::Stop => ConsumerAnswer::Skip,
    }
}
