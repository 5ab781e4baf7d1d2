//! Requests to the writer: appends with what is known of them, and leases.

use leftfold_core::store::held_bytes;
use leftfold_core::store::{
    Append, AppendError, CheckpointRecord, CommandRecord, Condition, Fence, Label, NewEvent,
    Outcome, Position, StreamName, Version,
};
use tokio::sync::oneshot;

use crate::figures::LogCounters;
use crate::format::EncodedEvents;
use crate::write::lease::QueuedLease;

/// A request on its way to the writer. All are judged in one order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are appends, and each would have to be allocated"
)]
pub(crate) enum WriteRequest {
    Append(AppendRequest),
    Lease(QueuedLease),
}

/// An append, with what its caller found out for the writer.
#[derive(Debug)]
pub(crate) struct AppendRequest {
    /// Without what only their records carry.
    pub(crate) events: Vec<NewEvent>,
    pub(crate) encoded: EncodedEvents,
    pub(crate) condition: Condition,
    pub(crate) command: Option<CommandRecord>,
    pub(crate) checkpoint: Option<CheckpointRecord>,
    pub(crate) fence: Option<(Label, Fence)>,
    pub(crate) precheck: Precheck,
    held_bytes: usize,
    /// `None` once it is answered.
    answer: Option<Answer>,
}

pub(crate) type Answer = oneshot::Sender<Result<Outcome, AppendError>>;

/// The facts that an append depends on, as they were at a head.
#[derive(Debug, Default)]
pub(crate) struct Precheck {
    pub(crate) at: Position,
    /// The streams that the append writes, or expects something of, and their versions.
    pub(crate) streams: Vec<(StreamName, Version)>,
    /// Index in `streams` of the stream that each event goes to; `None` if it goes to none.
    pub(crate) of_events: Vec<Option<u32>>,
    /// Index in `streams` of the stream that each expectation is about.
    pub(crate) of_expectations: Vec<u32>,
    /// The first query of the condition that an event matches, and the first event that does: once
    /// there, it stays.
    pub(crate) found: Option<(usize, Position)>,
    /// Position of the consumer that the append moves.
    pub(crate) consumer: Option<Position>,
}

impl WriteRequest {
    /// Answers and counts it. The caller may have gone.
    pub(crate) fn answer(&mut self, figures: &LogCounters, outcome: Result<Outcome, AppendError>) {
        match self {
            Self::Append(append) => {
                if let Some(answer) = append.answer.take() {
                    figures.answered(&outcome);
                    let _ = answer.send(outcome);
                }
            }
            Self::Lease(lease) => lease.answer(outcome.err()),
        }
    }

    /// Bytes that it counts for in the queue.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.held_bytes,
            Self::Lease(lease) => held_bytes::EACH + lease.note_bytes(),
        }
    }
}

impl AppendRequest {
    pub(crate) fn new(append: Append, precheck: Precheck, answer: Answer) -> Self {
        let Append { mut events, condition, command, checkpoint, fence, authority: _ } = append;
        let encoded = EncodedEvents::take(&mut events);
        let beside = held_bytes::beside_events(&condition, command.as_ref());
        let held_bytes = encoded.weight() + events.len() * size_of::<NewEvent>() + beside;
        Self {
            events,
            encoded,
            condition,
            command,
            checkpoint,
            fence,
            precheck,
            held_bytes,
            answer: Some(answer),
        }
    }
}
