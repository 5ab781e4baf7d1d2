//! Sessions of appends: a client that lost its connection goes on with its session on another one,
//! and learns exactly what came of the appends that it had sent.
//!
//! A task of its own carries a session from its first call to its end. It reads the appends of the
//! call, hands them to the store in their order, and answers each when it is durable. The answers
//! that the client has not confirmed are kept, so that the next call gets them again.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use leftfold::runtime::operator;
use leftfold::store::{
    Append, AppendError, Backend, CommandId, Head, Outcome, Pending, Status as StoreStatus,
    TraceContext,
};
use leftfold_protocol::wire::{
    AppendAnswer, AppendProblem, AppendReply, AppendRequest, AppendsClosing, AppendsOpened,
    NumberedAppend, append_answer, append_reply, append_request,
};
use leftfold_protocol::{IN_FLIGHT_MAX, answer_of};
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::commands::{CommandSpace, answer_with};
use super::kept::KeptBytes;
use super::shown;
use crate::services::traced::note_trace;
use crate::stopping::Stopping;
use crate::stores::ServedStore;
use crate::users::{Caller, Wish};

/// Time for which a session without a call is kept: longer than clients try to come back.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);
/// Answers that are kept for a client that has not confirmed them; an older one is then unknown.
const ANSWERS_MAX: usize = 2 * IN_FLIGHT_MAX;
/// Bytes of these answers.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A call that was opened, on its way to its session.
pub(super) struct AppendCall {
    pub(super) incoming: Streaming<AppendRequest>,
    pub(super) replies: ReplySender,
    /// Number of the first append whose answer the client has not got.
    pub(super) first_unanswered: u64,
    pub(super) author: AppendRight,
}

/// Caller who appends, and the store.
pub(super) struct AppendRight {
    pub(super) caller: Caller,
    pub(super) store: ServedStore,
    /// Trace of the call, for events that have none.
    pub(super) trace: Option<TraceContext>,
}

/// Replies of a call that wait until the client takes them.
pub(super) struct ReplySender {
    sender: mpsc::UnboundedSender<Result<AppendReply, Status>>,
    queue: Arc<ReplyQueue>,
}

/// The replies of a call, for the client.
pub(in crate::services) struct Replies {
    receiver: mpsc::UnboundedReceiver<Result<AppendReply, Status>>,
    queue: Arc<ReplyQueue>,
}

#[derive(Default)]
struct ReplyQueue {
    waiting: AtomicUsize,
    taken: Notify,
}

/// Makes the two ends of a call's replies. The session bounds what waits between them: it reads no
/// more appends while [`IN_FLIGHT_MAX`] have no answer that was taken.
pub(super) fn replies() -> (ReplySender, Replies) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queue = Arc::new(ReplyQueue::default());
    (ReplySender { sender, queue: Arc::clone(&queue) }, Replies { receiver, queue })
}

impl ReplySender {
    pub(super) fn send(&self, reply: Result<AppendReply, Status>) {
        self.queue.waiting.fetch_add(1, Ordering::Relaxed);
        // A client that is gone asks again, on another connection.
        let _ = self.sender.send(reply);
    }

    fn reply(&self, reply: append_reply::Reply) {
        self.send(Ok(AppendReply { reply: Some(reply) }));
    }

    fn waiting(&self) -> usize {
        self.queue.waiting.load(Ordering::Relaxed)
    }
}

impl Stream for Replies {
    type Item = Result<AppendReply, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.receiver.poll_recv(context);
        if let Poll::Ready(Some(_)) = &polled {
            let before = this.queue.waiting.fetch_sub(1, Ordering::Relaxed);
            if before >= IN_FLIGHT_MAX / 2 {
                this.queue.taken.notify_one();
            }
        }
        polled
    }
}

impl AppendRight {
    fn reads_all(&self) -> bool {
        self.caller.has(&self.store.name, Wish::ReadAll)
    }

    fn commands(&self) -> CommandSpace {
        CommandSpace::of(&self.caller, &self.store.name)
    }

    /// Refuses an append that the caller may not make, by the rights that it has now, or that comes
    /// too fast. Returns the time until the turn of the next one beside it.
    fn check(&self, mut append: Append) -> Result<(Append, Duration), AppendProblem> {
        let name = &self.store.name;
        if let Err(denied) = self.caller.may(name, Wish::Append(&append)) {
            return Err(AppendError::Denied { detail: denied.to_string() }.into());
        }
        note_trace(&mut append, self.trace.as_ref());
        if !self.caller.name().is_empty() {
            operator::stamp(&mut append, self.caller.name());
        }
        match self.store.pace(&self.caller, &append) {
            Ok(turn) => Ok((append, turn)),
            Err(_) => Err(AppendError::Busy { waiting: 0 }.into()),
        }
    }
}

/// A session, as its task has it.
pub(super) struct AppendSession {
    backend: Arc<dyn Backend>,
    status: watch::Receiver<StoreStatus>,
    calls: mpsc::UnboundedReceiver<AppendCall>,
    stopping: Stopping,
    /// Bytes that the sessions of the user keep; `None` if no other call may go on with this one.
    of_user: Option<Arc<KeptBytes>>,
    /// True if the caller of the last call reads all events.
    reads_all: bool,
    /// Number of the append that is expected next; `None` before the first call.
    next: Option<u64>,
    in_flight: FuturesUnordered<InFlight>,
    /// Answers that the client has not confirmed, `None` for those that are to come. Empty if
    /// nobody can ask for them.
    kept: BTreeMap<u64, Option<AppendAnswer>>,
    kept_bytes: usize,
    call: Option<RunningCall>,
}

struct RunningCall {
    incoming: Streaming<AppendRequest>,
    replies: ReplySender,
    author: AppendRight,
    /// Turn of the next append; `None` if it is now.
    turn: Option<Instant>,
    ending: CallEnding,
}

/// State of a call: more appends may come, or it ends when all are answered.
#[derive(Clone, Copy, PartialEq)]
enum CallEnding {
    Open,
    /// The client sends no more.
    ByClient,
    /// The server takes no more.
    ByServer,
}

/// End of a session's task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AppendSessionEnd {
    /// The client ended it, or nobody can go on with it.
    Done,
    /// Nobody came back for it.
    Idle,
}

struct InFlight {
    number: u64,
    /// Id of its command, as the client knows it.
    command: Option<CommandId>,
    pending: Pending<Outcome, AppendError>,
}

impl Future for InFlight {
    type Output = (u64, Result<Outcome, AppendError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (number, command) = (self.number, self.command);
        Pin::new(&mut self.pending).poll(context).map(|answer| match command {
            Some(id) => (number, answer_with(id, answer)),
            None => (number, answer),
        })
    }
}

impl AppendSession {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        calls: mpsc::UnboundedReceiver<AppendCall>,
        stopping: Stopping,
        of_user: Option<Arc<KeptBytes>>,
    ) -> Self {
        Self {
            status: backend.status(),
            backend,
            calls,
            stopping,
            of_user,
            reads_all: false,
            next: None,
            in_flight: FuturesUnordered::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            call: None,
        }
    }

    /// Tells whether a call waits to be taken.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Carries the session until the client ends it, or nobody has come back for it for long.
    pub(super) async fn carry(&mut self) -> AppendSessionEnd {
        loop {
            let ended = match self.call.take() {
                Some(call) => self.carry_call(call).await,
                None => self.await_call().await,
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// Waits for a call while there is none.
    async fn await_call(&mut self) -> Option<AppendSessionEnd> {
        let until = Instant::now() + KEPT_FOR;
        loop {
            tokio::select! {
                biased;
                call = self.calls.recv() => match call {
                    Some(call) => { self.open(call); return None; }
                    None if self.in_flight.is_empty() => return Some(AppendSessionEnd::Done),
                    None => self.drain().await,
                },
                Some((number, answer)) = self.in_flight.next() => self.keep(number, answer),
                () = self.stopping.wanted() => {
                    self.drain().await;
                    return Some(AppendSessionEnd::Done);
                }
                () = tokio::time::sleep_until(until) => return Some(AppendSessionEnd::Idle),
            }
        }
    }

    async fn drain(&mut self) {
        while self.in_flight.next().await.is_some() {}
    }

    /// Begins a call: tells where the session stands, and gives the answers again that the client
    /// has not got.
    fn open(&mut self, call: AppendCall) {
        let AppendCall { incoming, replies, first_unanswered, author } = call;
        let first_unanswered = first_unanswered.max(1);
        self.reads_all = author.reads_all();
        let resumed = self.next.is_some();
        let next = *self.next.get_or_insert(first_unanswered);
        replies.reply(append_reply::Reply::Opened(AppendsOpened { next, resumed }));
        self.confirm(first_unanswered);
        // Whoever asks for more than was ever kept is told so of that much only.
        for number in first_unanswered.max(next.saturating_sub(ANSWERS_MAX as u64))..next {
            match self.kept.get(&number) {
                Some(Some(answer)) => replies.reply(append_reply::Reply::Answer(answer.clone())),
                Some(None) => {}
                None => replies.reply(append_reply::Reply::Answer(self.forgotten(number))),
            }
        }
        self.call =
            Some(RunningCall { incoming, replies, author, turn: None, ending: CallEnding::Open });
    }

    /// Returns the durable end, as it is shown to the caller.
    fn head(&self) -> Head {
        shown(self.status.borrow().head, self.reads_all)
    }

    fn forgotten(&self, number: u64) -> AppendAnswer {
        let detail = "the server has forgotten the answer".to_owned();
        answer_of(number, Err(AppendError::Unknown { detail }), self.head())
    }

    /// Carries a call until it ends, breaks, or another one takes its place.
    async fn carry_call(&mut self, mut call: RunningCall) -> Option<AppendSessionEnd> {
        let queue = Arc::clone(&call.replies.queue);
        loop {
            if call.ending != CallEnding::Open && self.in_flight.is_empty() {
                if call.ending == CallEnding::ByServer {
                    let next = self.next.unwrap_or(1);
                    call.replies.reply(append_reply::Reply::Closing(AppendsClosing { next }));
                    call.replies.send(Err(Status::unavailable("the server is stopping")));
                }
                return Some(AppendSessionEnd::Done);
            }
            let unanswered = self.in_flight.len() + call.replies.waiting();
            let is_taken_in = unanswered < IN_FLIGHT_MAX;
            let may_read = call.ending == CallEnding::Open && is_taken_in && call.turn.is_none();
            let turn = call.turn.unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(turn), if call.turn.is_some() => call.turn = None,
                message = call.incoming.message(), if may_read => match message {
                    Ok(Some(request)) => {
                        match self.take(request, &call.replies, &call.author) {
                            Ok(turn) if turn.is_zero() => {}
                            Ok(turn) => call.turn = Some(Instant::now() + turn),
                            Err(status) => {
                                call.replies.send(Err(status));
                                return None;
                            }
                        }
                    }
                    Ok(None) => call.ending = CallEnding::ByClient,
                    Err(_) => return None,
                },
                Some((number, answer)) = self.in_flight.next() => {
                    let answer = answer_of(number, answer, self.head());
                    self.note(number, &answer);
                    call.replies.reply(append_reply::Reply::Answer(answer));
                }
                Some(other) = self.calls.recv() => {
                    self.open(other);
                    return None;
                }
                () = queue.taken.notified(), if !is_taken_in => {}
                () = call.replies.sender.closed() => return None,
                () = self.stopping.wanted(), if call.ending == CallEnding::Open => {
                    call.ending = CallEnding::ByServer;
                }
            }
        }
    }

    /// Hands an append to the store, and returns the time until the turn of the next one.
    fn take(
        &mut self,
        request: AppendRequest,
        replies: &ReplySender,
        author: &AppendRight,
    ) -> Result<Duration, Status> {
        let Some(append_request::Request::Append(numbered)) = request.request else {
            return Err(Status::invalid_argument("a call is opened once, by its first message"));
        };
        let NumberedAppend { number, first_unanswered, append } = numbered;
        let expected = self.next.unwrap_or(1);
        if number != expected {
            let text = format!("append {number} came, and {expected} was expected");
            return Err(Status::failed_precondition(text));
        }
        self.next = Some(expected.saturating_add(1));
        self.confirm(first_unanswered);
        let append = Append::try_from(append.unwrap_or_default());
        match append.map_err(AppendProblem::from).and_then(|append| author.check(append)) {
            Ok((mut append, turn)) => {
                if self.of_user.is_some() {
                    self.kept.insert(number, None);
                }
                let command = append.command.as_ref().map(|command| command.id);
                if let Some(command) = &mut append.command {
                    command.id = author.commands().kept(command.id);
                }
                let pending = self.backend.append(append);
                self.in_flight.push(InFlight { number, command, pending });
                Ok(turn)
            }
            Err(problem) => {
                let problem = append_answer::Outcome::Problem(problem);
                let head = Some(self.head().into());
                let answer = AppendAnswer { number, outcome: Some(problem), head };
                self.note(number, &answer);
                replies.reply(append_reply::Reply::Answer(answer));
                Ok(Duration::ZERO)
            }
        }
    }

    /// Keeps the answer of an append that comes while there is no call.
    fn keep(&mut self, number: u64, answer: Result<Outcome, AppendError>) {
        let answer = answer_of(number, answer, self.head());
        self.note(number, &answer);
    }

    /// Notes an answer for the next call.
    fn note(&mut self, number: u64, answer: &AppendAnswer) {
        let Some(of_user) = self.of_user.clone() else { return };
        let bytes = answer.encoded_len();
        of_user.add(bytes);
        self.kept_bytes += bytes;
        self.kept.insert(number, Some(answer.clone()));
        while self.kept.len() > ANSWERS_MAX
            || self.kept_bytes > ANSWER_BYTES_MAX
            || (self.kept_bytes > 0 && of_user.is_too_much())
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, oldest)) = self.kept.pop_first() else { return };
        let bytes = oldest.map_or(0, |answer| answer.encoded_len());
        self.kept_bytes -= bytes;
        if let Some(of_user) = &self.of_user {
            of_user.forget(bytes);
        }
    }

    /// Forgets the answers that the client has got.
    fn confirm(&mut self, first_unanswered: u64) {
        while self.kept.first_key_value().is_some_and(|(oldest, _)| *oldest < first_unanswered) {
            self.forget_oldest();
        }
    }
}

impl Drop for AppendSession {
    fn drop(&mut self) {
        if let Some(of_user) = &self.of_user {
            of_user.forget(self.kept_bytes);
        }
    }
}
