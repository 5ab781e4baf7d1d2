//! The appends of a handle, from their handing over to their answers.
//!
//! Each append that is sent has a number in the session of the handle. A server that knows the
//! session says on a new connection which numbers it has taken: those are answered without being
//! sent again, and the others are sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use leftfold_core::store::{Append, AppendError, Outcome};
use leftfold_protocol::wire::{
    AppendAnswer, AppendAnswers, AppendRequest, AppendsOpened, OpenAppends, append_request,
};
use leftfold_protocol::{AppendBatch, IN_FLIGHT_MAX, Malformed, answers_of, outcome_of};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::shared::RemoteShared;

/// Appends of one message.
const SENT_TOGETHER_MAX: usize = 1_024;
/// Bytes of a message after which no append is added to it.
const MESSAGE_BYTES: usize = 128 << 10;

/// An append that was handed over.
pub(crate) struct HandedOver {
    pub(crate) append: Append,
    /// Bytes that it counts for.
    pub(crate) bytes: usize,
    pub(crate) answer: oneshot::Sender<Result<Outcome, AppendError>>,
}

/// All appends that are not answered, in their order.
pub(crate) struct AppendQueue {
    shared: Arc<RemoteShared>,
    session: Uuid,
    /// Number of the append that is sent next.
    next: u64,
    /// Appends that were sent, with consecutive numbers up to the next; `None` for those that are
    /// answered.
    sent: VecDeque<Option<HandedOver>>,
    waiting: VecDeque<HandedOver>,
}

impl AppendQueue {
    pub(crate) fn new(shared: Arc<RemoteShared>) -> Self {
        let (sent, waiting) = (VecDeque::new(), VecDeque::new());
        Self { shared, session: Uuid::new_v4(), next: 1, sent, waiting }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty()
    }

    /// Tells whether an append was sent and has no answer.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Tells whether an append waits that may be sent now.
    pub(crate) fn may_send(&self) -> bool {
        !self.waiting.is_empty() && self.sent.len() < IN_FLIGHT_MAX
    }

    pub(crate) fn push(&mut self, handed_over: HandedOver) {
        self.waiting.push_back(handed_over);
    }

    fn first_unanswered(&self) -> u64 {
        self.next - self.sent.len() as u64
    }

    /// Returns the message that opens a call.
    pub(crate) fn open(&self) -> AppendRequest {
        let open = OpenAppends {
            session: self.session.as_bytes().to_vec().into(),
            first_unanswered: self.first_unanswered(),
            takes_several: true,
        };
        AppendRequest { request: Some(append_request::Request::Open(open)) }
    }

    /// Takes note of what the server knows: what it has not taken is to be sent. If it does not
    /// know the session, another one before it may have taken what was sent; only a command id
    /// makes it safe to send that again.
    pub(crate) fn opened(&mut self, opened: &AppendsOpened) {
        if opened.resumed {
            self.untake(opened.next);
        } else {
            let sent: Vec<_> = self.sent.drain(..).flatten().collect();
            for handed_over in sent.into_iter().rev() {
                if handed_over.append.command.is_some() {
                    self.waiting.push_front(handed_over);
                } else {
                    self.unknown(handed_over, "the server ended before it answered");
                }
            }
            self.next = opened.next;
        }
    }

    /// Takes note that the server takes nothing from this number on.
    pub(crate) fn untake(&mut self, next: u64) {
        while self.next > next.max(1) {
            let Some(sent) = self.sent.pop_back() else { break };
            self.next -= 1;
            if let Some(handed_over) = sent {
                self.waiting.push_front(handed_over);
            }
        }
        self.forget_answered();
    }

    /// Returns the next appends as they are sent; `None` if none may be.
    pub(crate) fn send(&mut self) -> Option<AppendRequest> {
        if !self.may_send() {
            return None;
        }
        let mut batch = AppendBatch::new(self.next, self.first_unanswered());
        let mut count = 0;
        while self.may_send() && count < SENT_TOGETHER_MAX && batch.bytes() < MESSAGE_BYTES {
            // A large one goes alone: a message has its limit.
            let is_large = |next: &HandedOver| count > 0 && next.bytes >= MESSAGE_BYTES;
            if self.waiting.front().is_some_and(is_large) {
                break;
            }
            let Some(handed_over) = self.waiting.pop_front() else { break };
            batch.push(&handed_over.append);
            count += 1;
            self.next += 1;
            self.sent.push_back(Some(handed_over));
        }
        Some(batch.into_request())
    }

    /// Gives the answers of a message to their callers.
    pub(crate) fn answers(&mut self, answers: Bytes) -> Result<(), tonic::Status> {
        let strange = |error: Malformed| tonic::Status::internal(error.to_string());
        let AppendAnswers { answers, mut head } = answers_of(answers).map_err(strange)?;
        for mut answer in answers {
            answer.head = head.take();
            self.answer(answer);
        }
        Ok(())
    }

    /// Gives an answer to its caller. The durable end is known before.
    pub(crate) fn answer(&mut self, answer: AppendAnswer) {
        if let Some(Ok(head)) = answer.head.map(TryInto::try_into) {
            self.shared.see_head(head);
        }
        let place = answer.number.checked_sub(self.first_unanswered());
        let place = place.and_then(|place| usize::try_from(place).ok());
        // An answer that is not waited for was given before.
        let Some(sent) = place.and_then(|place| self.sent.get_mut(place)) else { return };
        let Some(handed_over) = sent.take() else { return };
        let strange = |detail: String| Err(AppendError::Unknown { detail });
        let outcome = match answer.outcome.map(outcome_of) {
            Some(Ok(Err(AppendError::Closed))) => {
                Err(AppendError::Unavailable { detail: "the server closed the store".to_owned() })
            }
            Some(Ok(outcome)) => outcome,
            Some(Err(malformed)) => strange(malformed.to_string()),
            None => strange("the server answered in an unknown way".to_owned()),
        };
        self.tell(handed_over, outcome);
        self.forget_answered();
    }

    fn forget_answered(&mut self) {
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
        }
    }

    /// Gives up everything: what was sent is unknown, and what was not is refused.
    pub(crate) fn give_up(&mut self, why: &str, refused: impl Fn() -> AppendError) {
        let sent: Vec<_> = self.sent.drain(..).flatten().collect();
        if !sent.is_empty() {
            // A server that still has it answers nobody; the next call has nothing to do with it.
            (self.session, self.next) = (Uuid::new_v4(), 1);
        }
        for handed_over in sent {
            self.unknown(handed_over, why);
        }
        for handed_over in std::mem::take(&mut self.waiting) {
            self.tell(handed_over, Err(refused()));
        }
    }

    fn unknown(&self, handed_over: HandedOver, why: &str) {
        self.tell(handed_over, Err(AppendError::Unknown { detail: why.to_owned() }));
    }

    fn tell(&self, handed_over: HandedOver, answer: Result<Outcome, AppendError>) {
        self.shared.append_bytes.fetch_sub(handed_over.bytes, Ordering::AcqRel);
        // Nobody has to wait for an answer.
        let _ = handed_over.answer.send(answer);
    }
}
