//! Sessions of appends: a client that lost its connection goes on with its session on another one,
//! and learns exactly what came of the appends that it had sent.
//!
//! A task of its own carries a session from its first call to its end. It reads the appends of the
//! call, hands them to the store in their order, and answers each when it is durable. The answers
//! that the client has not confirmed are kept, so that the next call gets them again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use leftfold::runtime::operator;
use leftfold::store::{
    Append, AppendError, Backend, CommandId, Head, Outcome, Pending, Status as StoreStatus,
    TraceContext,
};
use leftfold_protocol::wire::{
    AppendAnswer, AppendProblem, AppendRequest, AppendsClosing, AppendsOpened, append_answer,
    append_reply, append_request,
};
use leftfold_protocol::{AnswerBatch, IN_FLIGHT_MAX, Malformed, SentAppends, answer_of, append_of};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::commands::{CommandSpace, answer_with};
use super::kept::{ANSWERS_MAX, KeptAnswers, KeptBytes, KnownAnswer};
use super::replies::ReplySender;
use super::shown;
use crate::services::traced::note_trace;
use crate::stopping::Stopping;
use crate::stores::{RoomNotice, ServedStore};
use crate::users::{Caller, UserRole, Wish};

/// Time for which a session without a call is kept: longer than clients try to come back.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);
/// Bytes of answers after which a message of them is sent.
const ANSWERS_BYTES: usize = 64 << 10;

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
            let is_admin = || self.caller.has(name, Wish::Role(UserRole::Admin));
            operator::stamp(&mut append, self.caller.name(), is_admin)
                .map_err(|error| AppendError::Denied { detail: error.to_string() })?;
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
    /// True if the caller of the last call reads all events.
    reads_all: bool,
    /// Number of the append that is expected next; `None` before the first call.
    next: Option<u64>,
    in_flight: FuturesUnordered<InFlight>,
    kept: KeptAnswers,
    call: Option<RunningCall>,
}

struct RunningCall {
    incoming: Streaming<AppendRequest>,
    replies: ReplySender,
    author: AppendRight,
    /// Appends that came and were not taken yet.
    arrived: VecDeque<ArrivedAppend>,
    /// Turn of the next append; `None` if it is now.
    turn: Option<Instant>,
    ending: CallEnding,
}

/// Append that came with a call.
enum ArrivedAppend {
    /// Still encoded.
    Encoded(Bytes),
    Read(Box<Result<Append, Malformed>>),
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
    room: RoomNotice,
}

impl Future for InFlight {
    type Output = (u64, Result<Outcome, AppendError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (number, command) = (self.number, self.command);
        Pin::new(&mut self.pending).poll(context).map(|answer| {
            self.room.note(&answer);
            match command {
                Some(id) => (number, answer_with(id, answer)),
                None => (number, answer),
            }
        })
    }
}

impl AppendSession {
    /// `of_user` counts what the sessions of the user keep; `None` if no other call may go on with
    /// this one.
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
            reads_all: false,
            next: None,
            in_flight: FuturesUnordered::new(),
            kept: KeptAnswers::new(of_user),
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
                Some((number, answer)) = self.in_flight.next() => {
                    let mut answers = AnswerBatch::default();
                    answers.push(&answer_of(number, answer));
                    answers.finish(self.head()).1.for_each(|(n, answer)| self.kept.note(n, answer));
                }
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

    /// Returns the durable end, as it is shown to the caller.
    fn head(&self) -> Head {
        shown(self.status.borrow().head, self.reads_all)
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
        self.kept.confirm(first_unanswered);
        let mut answers = AnswerBatch::default();
        // Whoever asks for more than was ever kept is told so of that much only.
        for number in first_unanswered.max(next.saturating_sub(ANSWERS_MAX as u64))..next {
            match self.kept.get(number) {
                KnownAnswer::Known(answer) => answers.push_encoded(number, answer),
                KnownAnswer::ToCome => {}
                KnownAnswer::Forgotten => {
                    let detail = "the server has forgotten the answer".to_owned();
                    answers.push(&answer_of(number, Err(AppendError::Unknown { detail })));
                }
            }
        }
        let head = self.head();
        replies.answer(answers, head, &mut self.kept);
        self.call = Some(RunningCall {
            incoming,
            replies,
            author,
            arrived: VecDeque::new(),
            turn: None,
            ending: CallEnding::Open,
        });
    }

    /// Carries a call until it ends, breaks, or another one takes its place.
    async fn carry_call(&mut self, mut call: RunningCall) -> Option<AppendSessionEnd> {
        let queue = Arc::clone(&call.replies.queue);
        loop {
            self.take_arrived(&mut call);
            if call.is_over() && self.in_flight.is_empty() {
                if call.ending == CallEnding::ByServer {
                    let next = self.next.unwrap_or(1);
                    call.replies.reply(append_reply::Reply::Closing(AppendsClosing { next }));
                    call.replies.end(Status::unavailable("the server is stopping"));
                }
                return Some(AppendSessionEnd::Done);
            }
            let is_taken_in = self.has_room(&call);
            let may_read = call.ending == CallEnding::Open && is_taken_in && call.turn.is_none();
            let turn = call.turn.unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(turn), if call.turn.is_some() => call.turn = None,
                message = call.incoming.message(), if may_read => match message {
                    Ok(Some(request)) => {
                        if let Err(status) = self.arrive(request, &mut call) {
                            call.replies.end(status);
                            return None;
                        }
                    }
                    Ok(None) => call.ending = CallEnding::ByClient,
                    Err(_) => return None,
                },
                Some((number, answer)) = self.in_flight.next() => {
                    self.answer(number, answer, &call.replies);
                }
                Some(other) = self.calls.recv() => {
                    self.open(other);
                    return None;
                }
                () = queue.taken(), if !is_taken_in => {}
                () = call.replies.closed() => return None,
                () = self.stopping.wanted(), if call.ending == CallEnding::Open => {
                    call.ending = CallEnding::ByServer;
                }
            }
        }
    }

    /// Tells whether the call may have one more append without an answer that was taken.
    fn has_room(&self, call: &RunningCall) -> bool {
        self.in_flight.len() + call.replies.queue.waiting() < IN_FLIGHT_MAX
    }

    /// Sends an answer, with all others that are there at once.
    fn answer(&mut self, number: u64, answer: Result<Outcome, AppendError>, replies: &ReplySender) {
        let mut answers = AnswerBatch::default();
        let mut ready = Some((number, answer));
        while let Some((number, answer)) = ready {
            answers.push(&answer_of(number, answer));
            ready = match self.in_flight.next().now_or_never() {
                Some(next) if answers.bytes() < ANSWERS_BYTES => next,
                Some(Some((number, answer))) => {
                    answers.push(&answer_of(number, answer));
                    None
                }
                _ => None,
            };
        }
        let head = self.head();
        replies.answer(answers, head, &mut self.kept);
    }

    /// Looks at the numbers of what came with a message.
    fn arrive(&mut self, request: AppendRequest, call: &mut RunningCall) -> Result<(), Status> {
        let (first, first_unanswered, appends) = match request.request {
            Some(append_request::Request::Append(one)) => {
                let append = Append::try_from(one.append.unwrap_or_default());
                let append = ArrivedAppend::Read(Box::new(append));
                (one.number, one.first_unanswered, VecDeque::from([append]))
            }
            Some(append_request::Request::Appends(bytes)) => {
                let refused = |error: Malformed| Status::invalid_argument(error.to_string());
                let sent = SentAppends::read(bytes).map_err(refused)?;
                let appends = sent.appends.into_iter().map(ArrivedAppend::Encoded).collect();
                (sent.first, sent.first_unanswered, appends)
            }
            _ => {
                return Err(Status::invalid_argument(
                    "a call is opened once, by its first message",
                ));
            }
        };
        let expected = self.next.unwrap_or(1);
        if first != expected {
            let text = format!("append {first} came, and {expected} was expected");
            return Err(Status::failed_precondition(text));
        }
        self.kept.confirm(first_unanswered);
        call.arrived = appends;
        Ok(())
    }

    /// Takes what has arrived, as far as there is room for it and it is its turn.
    fn take_arrived(&mut self, call: &mut RunningCall) {
        // What was not taken when the server stops is not answered.
        if call.ending == CallEnding::ByServer {
            call.arrived.clear();
        }
        while call.turn.is_none() && self.has_room(call) {
            let append = match call.arrived.pop_front() {
                None => return,
                Some(ArrivedAppend::Encoded(bytes)) => append_of(bytes),
                Some(ArrivedAppend::Read(append)) => *append,
            };
            let turn = self.take(append, call);
            call.turn = (!turn.is_zero()).then(|| Instant::now() + turn);
        }
    }

    /// Hands an append to the store, and returns the time until the turn of the next one.
    fn take(&mut self, append: Result<Append, Malformed>, call: &RunningCall) -> Duration {
        let number = self.next.unwrap_or(1);
        self.next = Some(number.saturating_add(1));
        self.kept.expect(number);
        let author = &call.author;
        match append.map_err(AppendProblem::from).and_then(|append| author.check(append)) {
            Ok((mut append, turn)) => {
                let command = append.command.as_ref().map(|command| command.id);
                if let Some(command) = &mut append.command {
                    command.id = author.commands().kept(command.id);
                }
                let (pending, room) = (self.backend.append(append), author.store.room.clone());
                self.in_flight.push(InFlight { number, command, pending, room });
                turn
            }
            Err(problem) => {
                let outcome = Some(append_answer::Outcome::Problem(problem));
                let mut answers = AnswerBatch::default();
                answers.push(&AppendAnswer { number, outcome, head: None });
                let head = self.head();
                call.replies.answer(answers, head, &mut self.kept);
                Duration::ZERO
            }
        }
    }
}

impl RunningCall {
    /// Tells whether no more appends are to be taken.
    fn is_over(&self) -> bool {
        self.ending != CallEnding::Open && self.arrived.is_empty()
    }
}
