//! The state machine of one connection with a station: it pairs answers with calls, in both
//! directions, and knows at every moment which of our calls can have reached the station. It has no
//! socket and no clock.
//!
//! The task that owns the socket drives it like this:
//!
//! ```text
//! loop {
//!     while let Some(output) = session.poll(now) {
//!         // write the text, or pass on what became of a call
//!     }
//!     wait for the first of
//!         a text from the socket       -> session.received(&text, now),
//!                                         then session.reply(key, ..) when decided
//!         a call from the application  -> session.call(call, deadline)
//!         session.next_deadline()      -> go round
//!         the end of the socket        -> for settled in session.close() { .. }; leave
//! }
//! ```
//!
//! `received` returns its one result, while `poll` yields what there is to do; a version in which
//! everything came out of `poll` served the task as well, but hid from it, and from tests, what a
//! given text had led to, and needed one more bound.
//!
//! Rules (OCPP-J 1.6 section 4.1.1):
//! - At most one call of ours awaits its answer; further ones queue, up to
//!   [`Limits::queued_calls_max`]. A call that has timed out no longer counts.
//! - Calls may cross: the station's are delivered while ours waits, and answered at once.
//! - The ids of the two directions have nothing to do with each other.
//!
//! **Message ids are no idempotency key.** Stations resend a transaction message under a new id,
//! and some use one id for everything. What a message tells must be recognized by its content,
//! behind this layer. Here only the one case is caught in which nothing can go wrong: a station
//! that awaits an answer can repeat only its latest call, so if the latest call comes again, byte
//! for byte and soon ([`Limits::repeat_within`]), it gets the same answer again. That holds for
//! calls that report ([`REPEATABLE_ACTIONS`]). The answers to others age, such as the time in a
//! heartbeat's, so they are always delivered again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::frame::{Call, CallError, CallResult, ErrorCode, Frame, FrameError, MessageId, Payload};
use super::reading::{Violation, WithViolations};

/// Actions that report something and whose answer does not age, so that an exact repetition may be
/// answered again.
pub(crate) const REPEATABLE_ACTIONS: [&str; 4] =
    ["StartTransaction", "StopTransaction", "MeterValues", "StatusNotification"];

/// Timed-out calls that are remembered, to tell a late answer from an answer to no call.
const TIMED_OUT_MAX: usize = 16;

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Calls of ours that may queue at most behind the one that awaits its answer.
    pub(crate) queued_calls_max: usize,
    /// Texts from the station that may be unanswered at most, including those whose answer has not
    /// been polled. The specification allows a station one call at a time.
    pub(crate) unanswered_max: usize,
    /// Time for which the latest answer is kept for an exact repetition.
    pub(crate) repeat_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queued_calls_max: 8, unanswered_max: 16, repeat_within: Duration::from_secs(120) }
    }
}

/// One connection. At its end, [`close`](Self::close) returns the outcome of the calls under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Session {
    limits: Limits,
    /// Answers to the station that are still to be written.
    replies: VecDeque<String>,
    /// Calls of ours that have not been handed out.
    queue: VecDeque<QueuedCall>,
    /// The call of ours that has been handed out and awaits its answer.
    outstanding: Option<Awaited>,
    timed_out: VecDeque<MessageId>,
    /// Calls of the station that have not been answered, oldest first.
    unanswered: VecDeque<Unanswered>,
    latest: Option<LatestReply>,
    next_key: u64,
}

#[derive(Debug)]
struct QueuedCall {
    call: Call,
    deadline: Instant,
}

#[derive(Debug)]
struct Awaited {
    id: MessageId,
    deadline: Instant,
}

#[derive(Debug)]
struct Unanswered {
    key: CallKey,
    id: MessageId,
    print: Print,
    repeatable: bool,
}

#[derive(Debug)]
struct LatestReply {
    print: Print,
    reply: String,
    at: Instant,
}

/// Stands for a text without keeping it: two texts of a station with equal prints are taken as
/// equal. A forger could only deceive himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    bytes: usize,
    hash: u64,
}

/// Identifies one call of the station within its session, even if the station uses a message id
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallKey(u64);

/// A call of the station, to be answered with [`Session::reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StationCall {
    /// Key to answer under.
    pub(crate) key: CallKey,
    /// The call.
    pub(crate) call: Call,
    /// Violations in the frame that were tolerated.
    pub(crate) violations: Vec<Violation>,
}

/// Result of taking a text from the station.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Received {
    /// A call to handle and answer.
    Call(StationCall),
    /// An answer to the call of ours that was outstanding.
    Settled(SettledCall),
    /// The latest call again; the same answer is sent again. Nothing to do.
    Repeated {
        /// Its message id.
        id: MessageId,
    },
    /// A call that is still being handled, again; the one answer will serve both. Nothing to do.
    InProgress {
        /// Its message id.
        id: MessageId,
    },
    /// An answer to a call of ours that had timed out. The call stays settled, but the answer may
    /// resolve a doubt.
    Late {
        /// The call's id.
        id: MessageId,
        /// The answer.
        outcome: CallOutcome,
    },
    /// An answer that belongs to no call of ours; ignored.
    Unsolicited {
        /// The id that it names.
        id: MessageId,
    },
    /// The text is not a frame. If it was a call with a readable id, a CALLERROR is on its way;
    /// otherwise it is ignored.
    Malformed(FrameError),
    /// More calls at once than [`Limits::unanswered_max`]. This one is not handled: close the
    /// connection. The station keeps the messages that have no answer.
    Overrun,
}

/// The end of a call of ours. Each call accepted by [`Session::call`] gets exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettledCall {
    /// The call's id.
    pub(crate) id: MessageId,
    /// Outcome of the call.
    pub(crate) outcome: CallOutcome,
}

/// Outcome of a call of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// The station answered with a CALLRESULT.
    Answered(WithViolations<Payload>),
    /// The station answered with a CALLERROR.
    Refused(WithViolations<CallError>),
    /// The station answered, but the answer cannot be read: it is unknown what the station did.
    Unreadable(FrameError),
    /// The deadline passed without an answer.
    TimedOut(Transmission),
    /// The connection ended without an answer.
    ConnectionLost(Transmission),
}

/// Transmission of a call without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transmission {
    /// The call was never handed out for writing: the station certainly does not know of it.
    NeverWritten,
    /// The call was handed out for writing: its arrival and its result are unknown.
    MayBeWritten,
}

/// Something to do for the owner of the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionOutput {
    /// Write this text to the socket, in this order. From here on a call counts as
    /// [`Transmission::MayBeWritten`].
    Send(String),
    /// A call of ours has timed out.
    Settled(SettledCall),
}

/// A call of ours was not accepted; nothing is or will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallRejected {
    /// The queue is full.
    #[error(
        "{queued_calls_max} calls to this station are waiting already; try again when one has been answered"
    )]
    Full {
        /// The limit.
        queued_calls_max: usize,
    },
    /// The message id is that of a call under way or lately timed out.
    #[error("the message id belongs to another call of this connection; use a new one")]
    IdInUse,
}

/// The call does not await an answer: it has been answered before, or it came over another
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such call awaits an answer; answer each call once, on its own connection")]
pub(crate) struct UnknownCall;

/// Our answer to a call of the station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A CALLRESULT with this payload.
    Result(Payload),
    /// A CALLERROR.
    Error {
        /// Error code.
        code: ErrorCode,
        /// Description in words.
        description: String,
    },
}

impl Session {
    /// A connection over which nothing has been sent yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            replies: VecDeque::new(),
            queue: VecDeque::new(),
            outstanding: None,
            timed_out: VecDeque::new(),
            unanswered: VecDeque::new(),
            latest: None,
            next_key: 0,
        }
    }

    /// Takes a text from the socket. An answer that comes after its call's deadline still counts as
    /// long as [`poll`](Self::poll) has not reported the timeout.
    pub(crate) fn received(&mut self, text: &str, now: Instant) -> Received {
        match Frame::parse(text) {
            Ok(WithViolations { message: Frame::Call(call), violations }) => {
                self.call_received(call, violations, Print::of(text), now)
            }
            Ok(WithViolations {
                message: Frame::CallResult(CallResult { id, payload }),
                violations,
            }) => self.answer_received(
                id,
                CallOutcome::Answered(WithViolations { message: payload, violations }),
            ),
            Ok(WithViolations { message: Frame::CallError(error), violations }) => self
                .answer_received(
                    error.id.clone(),
                    CallOutcome::Refused(WithViolations { message: error, violations }),
                ),
            Err(error) => self.malformed_received(error),
        }
    }

    /// Tells whether another call of the station would be an [`Overrun`](Received::Overrun);
    /// answers are always taken. A task that stops reading while this is true, and goes on when it
    /// has replied and polled, never sees an overrun; the station then feels back-pressure.
    pub(crate) fn is_saturated(&self) -> bool {
        self.unanswered.len() + self.replies.len() >= self.limits.unanswered_max
    }

    /// Answers a call of the station. The text comes out of [`poll`](Self::poll).
    pub(crate) fn reply(
        &mut self,
        key: CallKey,
        reply: Reply,
        now: Instant,
    ) -> Result<(), UnknownCall> {
        let at = self
            .unanswered
            .iter()
            .position(|unanswered| unanswered.key == key)
            .ok_or(UnknownCall)?;
        let Unanswered { id, print, repeatable, .. } =
            self.unanswered.remove(at).ok_or(UnknownCall)?;
        let frame = match reply {
            Reply::Result(payload) => Frame::CallResult(CallResult { id, payload }),
            Reply::Error { code, description } => {
                Frame::CallError(CallError { id, code, description, details: Payload::empty() })
            }
        };
        let reply = frame.encode();
        let is_result = matches!(frame, Frame::CallResult(_));
        // A CALLERROR asks the station to try again, so the repetition deserves a new attempt.
        self.latest =
            (repeatable && is_result).then(|| LatestReply { print, reply: reply.clone(), at: now });
        self.replies.push_back(reply);
        Ok(())
    }

    /// Accepts a call to the station: it will be sent when the ones before it are settled, or never
    /// if its deadline passes first. Its id must be new on this connection.
    pub(crate) fn call(&mut self, call: Call, deadline: Instant) -> Result<(), CallRejected> {
        let is_used = self.outstanding.as_ref().is_some_and(|awaited| awaited.id == call.id)
            || self.queue.iter().any(|pending| pending.call.id == call.id)
            || self.timed_out.contains(&call.id);
        if is_used {
            return Err(CallRejected::IdInUse);
        }
        // An idle session passes one call straight on; it does not count as queued.
        let idle = usize::from(self.outstanding.is_none());
        if self.queue.len() >= self.limits.queued_calls_max + idle {
            return Err(CallRejected::Full { queued_calls_max: self.limits.queued_calls_max });
        }
        self.queue.push_back(QueuedCall { call, deadline });
        Ok(())
    }

    /// Returns the next thing to do: timeouts first, then answers to the station, then our next
    /// call. Call it until it returns `None` after every other method, and when
    /// [`next_deadline`](Self::next_deadline) has come.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<SessionOutput> {
        if let Some(settled) = self.expired(now) {
            return Some(SessionOutput::Settled(settled));
        }
        if let Some(reply) = self.replies.pop_front() {
            return Some(SessionOutput::Send(reply));
        }
        if self.outstanding.is_some() {
            return None;
        }
        let QueuedCall { call, deadline } = self.queue.pop_front()?;
        self.outstanding = Some(Awaited { id: call.id.clone(), deadline });
        Some(SessionOutput::Send(Frame::Call(call).encode()))
    }

    /// Returns the moment when [`poll`](Self::poll) has a timeout to report; `None` if no call of
    /// ours is queued or awaits its answer.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let awaited = self.outstanding.iter().map(|awaited| awaited.deadline);
        awaited.chain(self.queue.iter().map(|pending| pending.deadline)).min()
    }

    /// Ends the session: settles every call of ours, the outstanding one first.
    pub(crate) fn close(self) -> Vec<SettledCall> {
        let lost =
            |id, delivery| SettledCall { id, outcome: CallOutcome::ConnectionLost(delivery) };
        let outstanding = self
            .outstanding
            .into_iter()
            .map(|awaited| lost(awaited.id, Transmission::MayBeWritten));
        let queued =
            self.queue.into_iter().map(|pending| lost(pending.call.id, Transmission::NeverWritten));
        outstanding.chain(queued).collect()
    }

    fn call_received(
        &mut self,
        call: Call,
        violations: Vec<Violation>,
        print: Print,
        now: Instant,
    ) -> Received {
        if self.unanswered.iter().any(|unanswered| unanswered.print == print) {
            return Received::InProgress { id: call.id };
        }
        if self.is_saturated() {
            return Received::Overrun;
        }
        // The print covers the message id, so equal prints are equal ids.
        let is_repetition = |latest: &&LatestReply| {
            latest.print == print
                && now.saturating_duration_since(latest.at) <= self.limits.repeat_within
        };
        match self.latest.as_ref().filter(is_repetition) {
            Some(latest) => {
                self.replies.push_back(latest.reply.clone());
                return Received::Repeated { id: call.id };
            }
            None => self.latest = None,
        }
        let key = CallKey(self.next_key);
        self.next_key += 1;
        let repeatable = REPEATABLE_ACTIONS.contains(&call.action.as_str());
        self.unanswered.push_back(Unanswered { key, id: call.id.clone(), print, repeatable });
        Received::Call(StationCall { key, call, violations })
    }

    fn answer_received(&mut self, id: MessageId, outcome: CallOutcome) -> Received {
        if self.outstanding.take_if(|awaited| awaited.id == id).is_some() {
            return Received::Settled(SettledCall { id, outcome });
        }
        if let Some(at) = self.timed_out.iter().position(|timed_out| *timed_out == id) {
            self.timed_out.remove(at);
            return Received::Late { id, outcome };
        }
        Received::Unsolicited { id }
    }

    fn malformed_received(&mut self, error: FrameError) -> Received {
        if let Some(answer) = error.answer() {
            if self.is_saturated() {
                return Received::Overrun;
            }
            self.replies.push_back(Frame::CallError(answer).encode());
            return Received::Malformed(error);
        }
        match &error.id {
            Some(id) if error.is_answer() => {
                self.answer_received(id.clone(), CallOutcome::Unreadable(error))
            }
            _ => Received::Malformed(error),
        }
    }

    fn expired(&mut self, now: Instant) -> Option<SettledCall> {
        let (id, delivery) =
            if let Some(awaited) = self.outstanding.take_if(|awaited| awaited.deadline <= now) {
                (awaited.id, Transmission::MayBeWritten)
            } else {
                let at = self.queue.iter().position(|pending| pending.deadline <= now)?;
                (self.queue.remove(at)?.call.id, Transmission::NeverWritten)
            };
        if delivery == Transmission::MayBeWritten {
            if self.timed_out.len() == TIMED_OUT_MAX {
                self.timed_out.pop_front();
            }
            self.timed_out.push_back(id.clone());
        }
        Some(SettledCall { id, outcome: CallOutcome::TimedOut(delivery) })
    }
}

impl Print {
    fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { bytes: text.len(), hash: hasher.finish() }
    }
}

#[cfg(test)]
mod tests;
