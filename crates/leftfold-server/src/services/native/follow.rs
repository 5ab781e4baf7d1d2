//! Calls that follow a store: its status, and the events that match a query.

use std::time::Duration;

use futures_util::stream;
use leftfold::store::{Signal, State, Status as StoreStatus};
use leftfold_protocol::{read_status, wire};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use wire::subscribe_reply::Signal as WireSignal;

use super::shown;
use crate::metrics::{CallProtocol, OpenSubscription};
use crate::services::Messages;
use crate::stopping::Stopping;
use crate::stores::{LiveEvents, LiveSubscription, ServedStore};

/// Time between two statuses: a client of a busy store is not told of every group.
const BETWEEN_STATUSES: Duration = Duration::from_millis(1);

/// The status now, and after every change, until the store or the server ends.
pub(super) fn statuses(
    mut status: watch::Receiver<StoreStatus>,
    reads_all: bool,
    stopping: Stopping,
) -> Messages<wire::Status> {
    status.mark_changed();
    let following = (status, stopping, Instant::now());
    Box::pin(stream::try_unfold(following, move |following| async move {
        let (mut status, mut stopping, not_before) = following;
        let changed = async {
            tokio::time::sleep_until(not_before).await;
            status.changed().await
        };
        tokio::select! {
            changed = changed => {
                changed.map_err(|_| Status::unavailable("the store is closed"))?;
            }
            () = stopping.wanted() => return Err(is_stopping()),
        }
        let mut now = status.borrow_and_update().clone();
        now.head = shown(now.head, reads_all);
        if now.state == State::Closed {
            return Err(Status::unavailable("the store is closed"));
        }
        let next = (status, stopping, Instant::now() + BETWEEN_STATUSES);
        Ok(Some((wire::Status::from(&now), next)))
    }))
}

fn is_stopping() -> Status {
    Status::unavailable("the server is stopping")
}

/// State of a subscription's call.
struct SubscribeCall {
    subscription: LiveSubscription,
    /// The client takes a mark with the events before it, and the durable end.
    takes_through: bool,
    /// Mark behind the events of the message before.
    behind: Option<WireSignal>,
    reads_all: bool,
    status: watch::Receiver<StoreStatus>,
    stopping: Stopping,
    _counted: OpenSubscription,
}

/// The signals of a subscription, several events in one message if they are there at once.
pub(super) fn signals(
    served: &ServedStore,
    subscription: LiveSubscription,
    (takes_through, reads_all): (bool, bool),
    stopping: Stopping,
) -> Messages<wire::SubscribeReply> {
    let following = SubscribeCall {
        subscription,
        takes_through,
        behind: None,
        reads_all,
        status: served.store.status(),
        stopping,
        _counted: served.subscribed(CallProtocol::Native),
    };
    Box::pin(stream::try_unfold(following, |mut following| async move {
        let signal = following.message().await?;
        Ok(Some((wire::SubscribeReply { signal: Some(signal) }, following)))
    }))
}

impl SubscribeCall {
    async fn message(&mut self) -> Result<WireSignal, Status> {
        if let Some(mark) = self.behind.take() {
            return Ok(mark);
        }
        let found = tokio::select! {
            found = self.subscription.next() => found,
            () = self.stopping.wanted() => return Err(is_stopping()),
        };
        let LiveEvents { events, mark, .. } = found.map_err(|error| read_status(&error))?;
        let mark = mark.and_then(mark_of);
        if events.is_empty() {
            return mark.ok_or_else(|| Status::internal("a subscription told nothing"));
        }
        let mut message = wire::RecordedEvents {
            events: events.iter().map(|event| event.encoded()).collect(),
            ..wire::RecordedEvents::default()
        };
        match mark {
            Some(WireSignal::Progress(through)) if self.takes_through => {
                message.through = Some(through);
                let head = shown(self.status.borrow().head, self.reads_all);
                message.head = Some(head.into());
            }
            mark => self.behind = mark,
        }
        Ok(WireSignal::Events(message))
    }
}

fn mark_of(signal: Signal) -> Option<WireSignal> {
    Some(match signal {
        Signal::Progress(position) => WireSignal::Progress(position.0),
        Signal::CaughtUp(position) => WireSignal::CaughtUp(position.0),
        Signal::FellBehind(position) => WireSignal::FellBehind(position.0),
        Signal::Event(_) => return None,
    })
}
