//! Events as the server sends them, on a call for each subscription.
//!
//! A call that breaks is made again from where it was. A subscription that is live goes on waiting
//! while the server is away, as one does that asks for page after page.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use leftfold_core::store::{
    FedEvents, Position, Query, ReadError, RecordedEvent, Signal, State, Status,
};
use leftfold_protocol::{Malformed, event_of, wire};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tonic::Streaming;
use wire::subscribe_reply::Signal as WireSignal;
use wire::{SubscribeReply, SubscribeRequest, subscribe_request};

use crate::calls::{FIRST_WAIT, LONGEST_WAIT, UnansweredCall, call, is_answer};
use crate::channel::Client;
use crate::connect::request;
use crate::shared::{LinkState, RemoteShared};

/// State of a subscription between two of its messages.
struct FeedCall {
    shared: Arc<RemoteShared>,
    status: watch::Receiver<Status>,
    query: wire::Query,
    /// Everything up to here was told.
    through: Position,
    is_live: bool,
    /// `None` if it is to be made.
    replies: Option<Streaming<SubscribeReply>>,
    /// Time until it is made again if it breaks before it has told anything new.
    wait: Duration,
    _place: OwnedSemaphorePermit,
}

/// Follows the events that match from just after a position; `None` if too many do so already.
pub(crate) fn feed(
    shared: Arc<RemoteShared>,
    query: &Query,
    after: Position,
) -> Option<impl Stream<Item = Result<FedEvents, ReadError>> + Send + 'static> {
    let place = Arc::clone(&shared.feeds).try_acquire_owned().ok()?;
    let status = shared.status.subscribe();
    let (query, is_valid) = (query.into(), query.validate());
    let call = FeedCall {
        shared,
        status,
        query,
        through: after,
        is_live: false,
        replies: None,
        wait: FIRST_WAIT,
        _place: place,
    };
    Some(stream::unfold(call, move |mut call| {
        let is_valid = is_valid.clone();
        async move {
            let found = match is_valid {
                Ok(()) => call.next().await,
                Err(invalid) => Err(invalid.into()),
            };
            Some((found, call))
        }
    }))
}

impl FeedCall {
    async fn next(&mut self) -> Result<FedEvents, ReadError> {
        loop {
            if self.shared.is_closed() {
                return Err(ReadError::Closed);
            }
            let replied = match self.replies.take() {
                Some(mut replies) => {
                    let closed = self.status.wait_for(|status| status.state == State::Closed);
                    let replied = tokio::select! {
                        replied = replies.message() => replied,
                        _ = closed => continue,
                    };
                    replied.map(|reply| reply.map(|reply| (reply, replies)))
                }
                None => match self.open().await {
                    Ok(opened) => Ok(opened),
                    Err(UnansweredCall::Away(_)) if self.is_live && self.is_open() => {
                        self.await_connection().await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            match replied {
                Ok(Some((reply, replies))) => {
                    // What cannot be read is asked for again: the call would go on behind it.
                    let found = self.take(reply)?;
                    self.replies = Some(replies);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(status) if is_answer(&status) => {
                    return Err(UnansweredCall::Refused(status).into());
                }
                // The call broke, or the server stops.
                Ok(None) | Err(_) => {
                    sleep(self.wait).await;
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        self.status.borrow().state != State::Closed
    }

    /// Makes the call, and waits for its first message.
    async fn open(
        &self,
    ) -> Result<Option<(SubscribeReply, Streaming<SubscribeReply>)>, UnansweredCall> {
        let message = SubscribeRequest {
            query: Some(self.query.clone()),
            from: Some(subscribe_request::From::After(self.through.0)),
            takes_through: true,
        };
        let make = |mut client: Client| {
            let asked = request(&self.shared.options, message.clone());
            async move {
                let mut replies = client.subscribe(asked).await?.into_inner();
                let first = replies.message().await?;
                Ok(first.map(|first| (first, replies)))
            }
        };
        call(&self.shared, make).await
    }

    /// Waits until there is a connection, or the handle is closed.
    async fn await_connection(&mut self) {
        let mut connection = self.shared.connection.subscribe();
        let closed = self.status.wait_for(|status| status.state == State::Closed);
        tokio::select! {
            _ = connection.wait_for(|state| !matches!(state, LinkState::Away { .. })) => {}
            _ = closed => {}
        }
    }

    /// Reads a message; `None` if it says nothing that this version of the protocol knows.
    fn take(&mut self, reply: SubscribeReply) -> Result<Option<FedEvents>, ReadError> {
        self.shared.answered();
        let strange = |malformed: Malformed| ReadError::from(UnansweredCall::strange(malformed));
        let (events, mark) = match reply.signal {
            None => return Ok(None),
            Some(WireSignal::Events(message)) => {
                if let Some(Ok(head)) = message.head.map(TryInto::try_into) {
                    self.shared.see_head(head);
                }
                let events = message.events.into_iter().map(event_of);
                let events: Vec<RecordedEvent> =
                    events.collect::<Result<_, _>>().map_err(strange)?;
                (events, message.through.map(|through| Signal::Progress(Position(through))))
            }
            Some(WireSignal::Progress(at)) => (Vec::new(), Some(Signal::Progress(Position(at)))),
            // It was live before the call was made again.
            Some(WireSignal::CaughtUp(at)) if self.is_live => {
                (Vec::new(), Some(Signal::Progress(Position(at))))
            }
            Some(WireSignal::CaughtUp(at)) => {
                self.is_live = true;
                (Vec::new(), Some(Signal::CaughtUp(Position(at))))
            }
            Some(WireSignal::FellBehind(at)) => {
                self.is_live = false;
                (Vec::new(), Some(Signal::FellBehind(Position(at))))
            }
        };
        let last = events.last().map(|event| event.position);
        let marked = match mark {
            Some(
                Signal::Progress(position)
                | Signal::CaughtUp(position)
                | Signal::FellBehind(position),
            ) => Some(position),
            _ => None,
        };
        let through = self.through.max(last.max(marked).unwrap_or_default());
        if through > self.through {
            (self.through, self.wait) = (through, FIRST_WAIT);
        }
        Ok(Some(FedEvents { events, mark }))
    }
}
