//! Calls that follow a store: its status, and the events that match a query.

use std::time::Duration;

use futures_util::{FutureExt, stream};
use leftfold::store::{ReadError, Signal, State, Status as StoreStatus, Subscription};
use leftfold_protocol::{encoded_event, read_status, wire};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use wire::subscribe_reply::Signal as WireSignal;

use super::shown;
use crate::metrics::OpenSubscription;
use crate::services::Messages;
use crate::stopping::Stopping;

/// Time between two statuses: a client of a busy store is not told of every group.
const BETWEEN_STATUSES: Duration = Duration::from_millis(1);
/// Events of one message of a subscription.
const EVENTS_MAX: usize = 512;
/// Bytes of their data after which a message is sent.
const EVENT_BYTES: usize = 1 << 20;

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
    subscription: Subscription,
    _counted: OpenSubscription,
    /// Signal that was found behind the events of the message before.
    behind: Option<Result<Signal, ReadError>>,
    stopping: Stopping,
}

/// The signals of a subscription, several events in one message if they are there at once.
pub(super) fn signals(
    subscription: Subscription,
    counted: OpenSubscription,
    stopping: Stopping,
) -> Messages<wire::SubscribeReply> {
    let following = SubscribeCall { subscription, _counted: counted, behind: None, stopping };
    Box::pin(stream::try_unfold(following, |mut following| async move {
        let signal = following.message().await?;
        Ok(Some((wire::SubscribeReply { signal: Some(signal) }, following)))
    }))
}

impl SubscribeCall {
    async fn message(&mut self) -> Result<WireSignal, Status> {
        let signal = match self.behind.take() {
            Some(signal) => signal,
            None => tokio::select! {
                signal = self.subscription.next() => signal,
                () = self.stopping.wanted() => return Err(is_stopping()),
            },
        };
        match signal.map_err(|error| read_status(&error))? {
            Signal::Progress(position) => Ok(WireSignal::Progress(position.0)),
            Signal::CaughtUp(position) => Ok(WireSignal::CaughtUp(position.0)),
            Signal::FellBehind(position) => Ok(WireSignal::FellBehind(position.0)),
            Signal::Event(event) => {
                let mut bytes = event.data.len();
                let mut events = vec![encoded_event(&event)];
                while events.len() < EVENTS_MAX && bytes < EVENT_BYTES {
                    match self.subscription.next().now_or_never() {
                        Some(Ok(Signal::Event(event))) => {
                            bytes += event.data.len();
                            events.push(encoded_event(&event));
                        }
                        behind => {
                            self.behind = behind;
                            break;
                        }
                    }
                }
                Ok(WireSignal::Events(wire::RecordedEvents { events, through: None }))
            }
        }
    }
}
