//! The receiver: connects to a queue, takes its messages into an inbox and settles them, until it
//! is stopped or the store is closed.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::queue::{BrokerQueue, QueueSession};
use super::settlement::Settlement;
use super::sources::{IncomingSources, RECEIVED_MAX};
use super::status::{ReceiverState, ReceiverStatus};
use crate::runtime::consumer::backoff::RECEIVER_AWAY;
use crate::runtime::consumer::{STOP_WITHIN, StopError, contained, shortened, stop};
use crate::runtime::inbox::{Inbox, Intake, Receipt};
use crate::runtime::projection::with_causes;
use crate::store::{State, Status, Timestamp};

// ANCHOR: time
/// Time that connecting to a broker may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Time that a broker may take to hear that a message is settled, or to take a dead letter.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(30);
// ANCHOR_END: time

/// A receiver that runs. It is safe to kill the process at any time: the broker delivers again what
/// was not settled, and the inbox knows what it has.
///
/// Dropping it tells it to stop, without waiting.
#[derive(Debug)]
pub struct RunningReceiver {
    inbox: &'static str,
    status: watch::Receiver<ReceiverStatus>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl RunningReceiver {
    /// Returns the status, as it is and as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ReceiverStatus> {
        self.status.clone()
    }

    /// Takes no more messages, waits until those under way are settled, and ends the connection;
    /// [`STOP_WITHIN`] and not longer.
    ///
    /// # Errors
    /// [`StopError::Late`] if the store or the broker gave no answer in that time. The broker
    /// delivers again what was not settled.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.stop.send_replace(true);
        let task = self.task.take().map(|task| (self.inbox, task));
        stop::stopped(task.into_iter().collect(), STOP_WITHIN).await
    }
}

impl Drop for RunningReceiver {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl<I: Inbox> Intake<I> {
    /// Takes what comes from a queue of a broker, until the receiver is stopped or the store is
    /// closed.
    ///
    /// A message is acknowledged once the inbox has it durably, so it comes at least once and takes
    /// effect once. Messages of one source are taken in their order; a source is the queue unless
    /// the adapter says another. A message that can never be taken becomes a dead letter, with the
    /// [reason](Settlement::Poison). While the broker or the store is away, the messages stay with
    /// the broker, and the receiver tries again after a wait that doubles from 0.1 s to 30 s.
    ///
    /// Several processes may receive from the same queue.
    ///
    /// # Panics
    /// Outside a runtime of tokio.
    #[must_use = "a receiver that is dropped stops"]
    pub fn receive_from<Q: BrokerQueue>(&self, queue: Q) -> RunningReceiver {
        let initial = ReceiverStatus::new(I::NAME, queue.name().to_owned());
        let (board, status) = watch::channel(initial);
        let (stop, stopped) = watch::channel(false);
        let receiver = Receiving {
            intake: self.clone(),
            ending: Ending { stopped, store: self.store().status() },
            queue,
            board,
        };
        let task = Some(tokio::spawn(receiver.run()));
        RunningReceiver { inbox: I::NAME, status, stop, task }
    }
}

struct Receiving<I: Inbox, Q> {
    intake: Intake<I>,
    queue: Q,
    ending: Ending,
    board: watch::Sender<ReceiverStatus>,
}

/// Reason why a session with the broker ended, or did not begin.
enum SessionEnd {
    Over(ReceiverState),
    BrokerFailed(String),
    StoreFailed(String),
}

impl<I: Inbox, Q: BrokerQueue> Receiving<I, Q> {
    async fn run(mut self) {
        let mut tries = 0;
        loop {
            let (began, settled_before) = (Instant::now(), self.settled());
            // A panic of an adapter is a failure as others are.
            let end = contained(self.session()).await.unwrap_or_else(|said| {
                SessionEnd::BrokerFailed(format!("the adapter panicked: {said}"))
            });
            // A broker that is restarted now and then is no failing one.
            let has_worked = self.settled() > settled_before
                || (self.has_connected() && began.elapsed() > RECEIVER_AWAY.longest);
            tries = if has_worked { 1 } else { tries + 1 };
            let wait = RECEIVER_AWAY.after(tries);
            match end {
                SessionEnd::Over(state) => {
                    return self.change(|status| (status.state, status.under_way) = (state, 0));
                }
                SessionEnd::BrokerFailed(error) => self.waits_for_broker(error, wait),
                SessionEnd::StoreFailed(error) => self.waits_for_store(error, wait),
            }
            tokio::select! {
                () = sleep(wait) => {}
                over = self.ending.reached() => return self.change(|status| status.state = over),
            }
        }
    }

    async fn session(&mut self) -> SessionEnd {
        let connecting = within(CONNECT_WITHIN, "connecting", self.queue.connect());
        let mut session = tokio::select! {
            connected = connecting => match connected {
                Ok(session) => session,
                Err(error) => return SessionEnd::BrokerFailed(error),
            },
            over = self.ending.reached() => return SessionEnd::Over(over),
        };
        self.change(|status| status.state = ReceiverState::Receiving);
        let mut sources = IncomingSources::new(self.intake.clone(), self.queue.name());
        let end = self.take(&mut session, &mut sources).await;
        let handles = sources.given_up();
        let after = match end {
            SessionEnd::Over(_) => Duration::ZERO,
            // The broker knows what was not settled.
            SessionEnd::BrokerFailed(_) => return end,
            SessionEnd::StoreFailed(_) => RECEIVER_AWAY.first,
        };
        self.change(|status| status.given_back += handles.len() as u64);
        // If it takes too long, the broker finds out by the end of the connection.
        let _ = timeout(SETTLE_WITHIN, session.give_back(handles, after)).await;
        end
    }

    /// Takes and settles messages until the session ends.
    async fn take<S: QueueSession>(
        &mut self,
        session: &mut S,
        sources: &mut IncomingSources<I, S::Handle>,
    ) -> SessionEnd {
        let mut over = None;
        loop {
            let under_way = sources.under_way();
            self.change(|status| status.under_way = under_way);
            if let (Some(state), 0) = (over, under_way) {
                return SessionEnd::Over(state);
            }
            tokio::select! {
                biased;
                Some((number, settlement)) = sources.next(), if under_way > 0 => {
                    if let Err(end) = self.settle(session, sources, number, settlement).await {
                        return end;
                    }
                }
                state = self.ending.reached(), if over.is_none() => over = Some(state),
                arrived = session.next(), if over.is_none() && under_way < RECEIVED_MAX => {
                    match arrived {
                        Ok(arrival) => sources.add(arrival),
                        Err(error) => return SessionEnd::BrokerFailed(told(&error)),
                    }
                }
            }
        }
    }

    async fn settle<S: QueueSession>(
        &mut self,
        session: &mut S,
        sources: &mut IncomingSources<I, S::Handle>,
        number: u64,
        settlement: Settlement,
    ) -> Result<(), SessionEnd> {
        match settlement {
            Settlement::Taken(receipt) => {
                let Some(handle) = sources.remove(number) else { return Ok(()) };
                let settled = session.acknowledge(handle);
                let settled = within(SETTLE_WITHIN, "acknowledging", settled).await;
                settled.map_err(SessionEnd::BrokerFailed)?;
                self.change(|status| match receipt {
                    Receipt::Duplicate => status.repeated += 1,
                    Receipt::Accepted | Receipt::Held { .. } | Receipt::Late => status.taken += 1,
                });
                Ok(())
            }
            Settlement::Poison { reason } => {
                let Some(handle) = sources.remove(number) else { return Ok(()) };
                let (inbox, queue) = (I::NAME, self.queue.name());
                tracing::warn!(inbox, queue, reason, "a message becomes a dead letter");
                let settled = session.dead_letter(handle, &reason);
                let settled = within(SETTLE_WITHIN, "writing a dead letter", settled).await;
                settled.map_err(SessionEnd::BrokerFailed)?;
                self.change(|status| {
                    status.poisoned += 1;
                    status.last_error = Some(reason);
                });
                Ok(())
            }
            Settlement::Later { reason } => Err(SessionEnd::StoreFailed(reason)),
            Settlement::Closed => Err(SessionEnd::Over(ReceiverState::StoreClosed)),
        }
    }

    fn waits_for_broker(&self, error: String, wait: Duration) {
        let (inbox, queue) = (I::NAME, self.queue.name());
        tracing::warn!(inbox, queue, error, ?wait, "an inbox waits for its broker");
        let now = Timestamp::now();
        self.change(|status| {
            let since = match status.state {
                ReceiverState::BrokerAway { since } => since,
                _ => now,
            };
            status.state = ReceiverState::BrokerAway { since };
            (status.last_error, status.under_way) = (Some(error), 0);
        });
    }

    fn waits_for_store(&self, error: String, wait: Duration) {
        let (inbox, queue) = (I::NAME, self.queue.name());
        tracing::warn!(inbox, queue, error, ?wait, "an inbox waits for its store");
        let since = Timestamp::now();
        self.change(|status| {
            status.state = ReceiverState::StoreAway { since };
            (status.last_error, status.under_way) = (Some(error), 0);
        });
    }

    fn settled(&self) -> u64 {
        let status = self.board.borrow();
        status.taken + status.repeated + status.poisoned
    }

    fn has_connected(&self) -> bool {
        self.board.borrow().state == ReceiverState::Receiving
    }

    /// Changes the status, and tells those who wait for news if it did.
    fn change(&self, change: impl FnOnce(&mut ReceiverStatus)) {
        self.board.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}

/// Conditions under which a receiver ends.
struct Ending {
    stopped: watch::Receiver<bool>,
    store: watch::Receiver<Status>,
}

impl Ending {
    /// Waits until the receiver is to end, and returns its last state. Cancel safe.
    async fn reached(&mut self) -> ReceiverState {
        // One whose sender is gone is at its end too.
        tokio::select! {
            _ = self.stopped.wait_for(|is_stopped| *is_stopped) => ReceiverState::Stopped,
            _ = self.store.wait_for(|store| store.state == State::Closed) => {
                ReceiverState::StoreClosed
            }
        }
    }
}

/// Waits for the broker, and not longer than a time.
async fn within<T, E: Error + 'static>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| told(&error)),
        Err(_) => Err(format!("{what} took longer than {} s", limit.as_secs())),
    }
}

fn told(error: &(dyn Error + 'static)) -> String {
    shortened(with_causes(error).to_string())
}
