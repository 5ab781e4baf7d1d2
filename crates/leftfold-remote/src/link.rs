//! The task of a handle: it keeps a connection, sends appends over it, and follows the status.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leftfold_core::store::{AppendError, CloseError, Status};
use leftfold_protocol::wire::{AppendReply, AppendRequest, WatchRequest, append_reply};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::appends::{AppendQueue, HandedOver};
use crate::channel::{Client, ConnectionEnd};
use crate::connect::{CheckedConnection, connect, request};
use crate::error::RemoteError;
use crate::shared::{LinkState, RemoteShared};

/// First wait before a connection is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Messages that wait to be written to the connection: what is handed over meanwhile goes together.
const SENDS: usize = 4;
/// Requests that are taken at once.
const TAKEN_MAX: usize = 1_024;

/// Time for the answers to what was sent over a connection that takes no more calls.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Request to the task.
pub(crate) enum ToLink {
    Append(Box<HandedOver>),
    Close(oneshot::Sender<Result<(), CloseError>>),
}

/// The task of a handle.
pub(crate) struct LinkTask {
    shared: Arc<RemoteShared>,
    requests: mpsc::UnboundedReceiver<ToLink>,
    queue: AppendQueue,
    closers: Vec<oneshot::Sender<Result<(), CloseError>>>,
    /// Nothing more is handed over.
    is_ending: bool,
    /// Beginning of the time without a call of appends; `None` while there is one.
    down_since: Option<Instant>,
    /// Wait before the next connection.
    wait: Duration,
}

/// Says that there is no connection any more when the task ends, also by a panic or because its
/// runtime was shut down: nobody makes calls on the connection that was the last one.
///
/// Nothing is said if all handles were dropped: what was made of one, such as its groups, goes on
/// over the last connection.
struct LinkEnding(Option<Arc<RemoteShared>>);

impl Drop for LinkEnding {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let is_known = matches!(&*shared.connection.borrow(), LinkState::Ended { .. });
        if !is_known {
            let detail = "the handle on the store is closed; open it again".to_owned();
            shared.connection.send_replace(LinkState::Ended { detail });
        }
        shared.end();
    }
}

impl LinkTask {
    pub(crate) fn new(
        shared: Arc<RemoteShared>,
        requests: mpsc::UnboundedReceiver<ToLink>,
    ) -> Self {
        let queue = AppendQueue::new(Arc::clone(&shared));
        let closers = Vec::new();
        let (is_ending, down_since, wait) = (false, None, Duration::ZERO);
        Self { shared, requests, queue, closers, is_ending, down_since, wait }
    }

    /// Works until the handle is closed, or nobody has it any more, and everything is answered.
    pub(crate) async fn run(mut self, first: CheckedConnection) {
        let mut ending = LinkEnding(Some(Arc::clone(&self.shared)));
        let mut connected = Some(first);
        while !self.is_done() {
            let now = match connected.take() {
                Some(connected) => connected,
                None => match self.connect().await {
                    Some(connected) => connected,
                    None => break,
                },
            };
            self.shared.connection.send_replace(LinkState::Up(now.client.clone()));
            self.work(now.client, now.ended).await;
            if !self.is_done() {
                self.shared.connection.send_replace(LinkState::Connecting);
            }
        }
        self.shared.end();
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.take(Some(request));
        }
        self.queue.give_up("the handle was closed", || AppendError::Closed);
        if self.closers.is_empty() {
            ending.0 = None;
        }
        for closer in self.closers {
            let _ = closer.send(Ok(()));
        }
    }

    fn is_done(&self) -> bool {
        self.is_ending && self.queue.is_empty()
    }

    fn take(&mut self, request: Option<ToLink>) {
        match request {
            Some(ToLink::Append(handed_over)) => self.queue.push(*handed_over),
            Some(ToLink::Close(closer)) => {
                self.closers.push(closer);
                self.is_ending = true;
            }
            None => self.is_ending = true,
        }
    }

    /// Connects again, and returns when it has; `None` if there is nothing left to do before.
    /// Requests wait until the patience is over, and fail from then on.
    async fn connect(&mut self) -> Option<CheckedConnection> {
        let down_since = *self.down_since.get_or_insert_with(Instant::now);
        let patience = down_since + self.shared.options.patience;
        let options = self.shared.options.clone();
        let mut is_away = None;
        loop {
            let micros = u64::try_from(self.wait.as_micros()).unwrap_or(u64::MAX);
            let wait = self.wait / 2 + Duration::from_micros(fastrand::u64(..=micros / 2));
            self.beside(tokio::time::sleep(wait), patience, &is_away).await?;
            self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
            let detail = match self.beside(connect(&options), patience, &is_away).await? {
                Ok(connected) => match self.fault_of(&connected) {
                    None => {
                        self.shared.connections.fetch_add(1, Ordering::Relaxed);
                        return Some(connected);
                    }
                    Some(fault) => return self.end(&fault).await,
                },
                Err(error @ (RemoteError::NoStore { .. } | RemoteError::Refused { .. })) => {
                    tracing::warn!(%error, "the server does not serve the store now");
                    error.to_string()
                }
                Err(error) => error.to_string(),
            };
            self.shared.failed(&detail);
            if Instant::now() >= patience {
                self.go_away(&detail);
                is_away = Some(detail);
            }
        }
    }

    /// Awaits something without a connection, and takes requests beside it; `None` if there is
    /// nothing left to do.
    async fn beside<T>(
        &mut self,
        awaited: impl Future<Output = T>,
        patience: Instant,
        is_away: &Option<String>,
    ) -> Option<T> {
        let mut awaited = std::pin::pin!(awaited);
        let mut is_over = is_away.is_some();
        loop {
            if self.is_done() {
                return None;
            }
            tokio::select! {
                done = awaited.as_mut() => return Some(done),
                request = self.requests.recv(), if !self.is_ending => {
                    self.take(request);
                    if is_over {
                        self.go_away(is_away.as_deref().unwrap_or("it does not answer"));
                    }
                }
                () = tokio::time::sleep_until(patience), if !is_over => {
                    is_over = true;
                    self.go_away("it does not answer");
                }
            }
        }
    }

    /// Lets everything fail that waits, and that comes while there is no connection.
    fn go_away(&mut self, why: &str) {
        let detail = format!("the server {} is away: {why}", self.shared.options.address());
        self.queue.give_up(&detail, || AppendError::Unavailable { detail: detail.clone() });
        self.shared.connection.send_replace(LinkState::Away { detail });
    }

    /// Returns the reason why the handle cannot go on with what answers now.
    fn fault_of(&self, connected: &CheckedConnection) -> Option<String> {
        let (known, now) = (self.shared.identity, connected.identity);
        let address = self.shared.options.address();
        let acknowledged = self.shared.status.borrow().head.position;
        if known.store != now.store {
            let (known, now) = (known.store, now.store);
            Some(format!("at {address} is another store now, {now} and not {known}; open it again"))
        } else if known.epoch != now.epoch {
            Some(format!("the store at {address} was declared restored; open it again"))
        } else if connected.status.head.position < acknowledged {
            let head = connected.status.head.position;
            Some(format!(
                "the store at {address} ends at {head} and has lost what was acknowledged, up to \
                 {acknowledged}; declare its restore and open it again"
            ))
        } else {
            self.shared.see(connected.status.clone());
            None
        }
    }

    /// Ends the handle for good: whatever is asked of it is told why, until somebody closes it.
    async fn end(&mut self, fault: &str) -> Option<CheckedConnection> {
        tracing::error!(fault, "the handle on the store ended");
        let detail = fault.to_owned();
        self.shared.connection.send_replace(LinkState::Ended { detail: detail.clone() });
        self.shared.end();
        while !self.is_ending {
            self.queue.give_up(fault, || AppendError::ReadOnly { detail: detail.clone() });
            let request = self.requests.recv().await;
            self.take(request);
        }
        self.queue.give_up(fault, || AppendError::ReadOnly { detail: detail.clone() });
        None
    }

    /// Works with a connection until it breaks, or everything is done. The call of appends says
    /// when that is: what the server said last is read before.
    async fn work(&mut self, client: Client, ended: ConnectionEnd) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            broken = self.send_appends(client.clone(), ended) => {
                tracing::debug!(?broken, "the call of appends ended");
            }
            () = watch(&shared, client) => {}
        }
    }

    /// Makes the call of appends. What the server had taken of earlier ones is known then.
    async fn open_appends(
        &mut self,
        mut client: Client,
        ended: &mut ConnectionEnd,
    ) -> Result<(mpsc::Sender<AppendRequest>, Streaming<AppendReply>), tonic::Status> {
        let (sends, messages) = mpsc::channel::<AppendRequest>(SENDS);
        // The channel is empty and open.
        let _ = sends.try_send(self.queue.open());
        let call = request(&self.shared.options, ReceiverStream::new(messages));
        let opening = async {
            let mut replies = client.append(call).await?.into_inner();
            let first = replies.message().await?.and_then(|message| message.reply);
            Ok::<_, tonic::Status>((first, replies))
        };
        let (first, replies) = tokio::select! {
            opened = opening => opened?,
            () = ended.come() => return Err(takes_no_more()),
        };
        match first {
            Some(append_reply::Reply::Opened(opened)) => {
                self.queue.opened(&opened);
                (self.down_since, self.wait) = (None, Duration::ZERO);
                Ok((sends, replies))
            }
            other => Err(strange(&other)),
        }
    }

    /// Sends appends and takes their answers; returns when the call broke, or all is done.
    ///
    /// If the connection takes no more calls this one may still go on, and reads would fail as long
    /// as it does: so it ends when what was sent is answered.
    async fn send_appends(
        &mut self,
        client: Client,
        mut ended: ConnectionEnd,
    ) -> Result<(), tonic::Status> {
        let (sends, mut replies) = self.open_appends(client, &mut ended).await?;
        let mut takes_more = true;
        let mut ends_at = None;
        let mut taken = Vec::new();
        while !self.is_done() {
            if ends_at.is_some() && !self.queue.is_unanswered() {
                return Err(takes_no_more());
            }
            let is_open = tokio::select! {
                () = ended.come(), if ends_at.is_none() => {
                    (takes_more, ends_at) = (false, Some(Instant::now() + ANSWERED_WITHIN));
                    true
                }
                () = tokio::time::sleep_until(ends_at.unwrap_or_else(Instant::now)),
                    if ends_at.is_some() => return Err(takes_no_more()),
                permit = sends.reserve(), if takes_more && self.queue.may_send() => {
                    match permit {
                        Ok(permit) => {
                            if let Some(message) = self.queue.send() {
                                permit.send(message);
                            }
                        }
                        // It takes no more; what it says last is still to be read.
                        Err(_) => takes_more = false,
                    }
                    true
                }
                message = replies.message() => self.reply(message?)?,
                _ = self.requests.recv_many(&mut taken, TAKEN_MAX), if !self.is_ending => {
                    if taken.is_empty() {
                        self.take(None);
                    }
                    taken.drain(..).for_each(|request| self.take(Some(request)));
                    true
                }
            };
            if !is_open {
                return Ok(());
            }
        }
        // The server forgets a session whose client says that it is done.
        drop(sends);
        drain(replies).await;
        Ok(())
    }

    /// Takes a reply; false if it is the last one.
    fn reply(&mut self, message: Option<AppendReply>) -> Result<bool, tonic::Status> {
        if message.is_some() {
            self.shared.answered();
        }
        match message.map(|message| message.reply) {
            Some(Some(append_reply::Reply::Answers(answers))) => self.queue.answers(answers)?,
            Some(Some(append_reply::Reply::Answer(answer))) => self.queue.answer(answer),
            Some(Some(append_reply::Reply::Closing(closing))) => {
                self.queue.untake(closing.next);
                return Ok(false);
            }
            // One of a later version of the protocol.
            Some(None) => {}
            Some(other) => return Err(strange(&other)),
            None => return Ok(false),
        }
        Ok(true)
    }
}

fn takes_no_more() -> tonic::Status {
    tonic::Status::unavailable("the connection takes no more calls")
}

fn strange(reply: &Option<append_reply::Reply>) -> tonic::Status {
    tonic::Status::internal(format!("the server replied {reply:?} where it may not"))
}

/// Time that a server has to end a call that the client ended.
const DRAINED_WITHIN: Duration = Duration::from_millis(100);

async fn drain(mut replies: Streaming<AppendReply>) {
    let ends = async { while let Ok(Some(_)) = replies.message().await {} };
    let _ = tokio::time::timeout(DRAINED_WITHIN, ends).await;
}

/// Wait before the status is followed again on a connection that is still there.
const WATCH_AGAIN: Duration = Duration::from_millis(100);

/// Follows the status of the store, as long as it is asked to.
async fn watch(shared: &RemoteShared, mut client: Client) {
    loop {
        let ended = follow_status(shared, &mut client).await;
        tracing::debug!(?ended, "the call that follows the status ended");
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

async fn follow_status(shared: &RemoteShared, client: &mut Client) -> Result<(), tonic::Status> {
    let call = request(&shared.options, WatchRequest {});
    let mut statuses = client.watch(call).await?.into_inner();
    while let Some(status) = statuses.message().await? {
        match Status::try_from(status) {
            Ok(status) => shared.see(status),
            Err(malformed) => return Err(tonic::Status::internal(malformed.to_string())),
        }
    }
    Ok(())
}
