//! Many appends on one call, each answered under the id that the client gave it.
//!
//! Appends to one stream are carried out in the order in which they were sent, those to different
//! streams side by side.

use std::collections::{HashMap, VecDeque};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use leftfold::store::Timestamp;
use prost::Message;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use super::Facade;
use super::appending::{PartsAnswer, StreamAppend, Written};
use super::expected::ExpectedRevision;
use super::faults;
use super::names::NamedStream;
use super::proposals::{APPEND_BYTES_MAX, counted_bytes, event_of, refuse_too_many};
use super::records::{id_of, wire_position};
use super::wire::streams::batch_append_req::Options;
use super::wire::streams::batch_append_req::options::{DeadlineOption, ExpectedStreamPosition};
use super::wire::streams::batch_append_resp::{
    ExpectedStreamPosition as EchoedPosition, Result as BatchResult, Success, success,
};
use super::wire::streams::{BatchAppendReq, BatchAppendResp};
use super::wire::{
    BadRequest, Empty, MaximumAppendSizeExceeded, Packed, PartStatus, StreamDeleted,
    Uuid as WireUuid, WrongExpectedVersion, wrong_expected_version as wrong,
};
use crate::services::Messages;
use crate::stopping::Stopping;
use crate::users::{UserRole, Wish};

/// Appends of a call that were sent in part, or are carried out, or wait; no more are read.
const APPENDS_MAX: usize = 64;
/// Events of the appends of a call that are sent in part, or are carried out, or wait.
const CALL_EVENTS_MAX: usize = 100_000;
/// Bytes of these events.
const CALL_BYTES_MAX: usize = 16 << 20;
/// Package of the messages that are packed into answers.
const PACKAGE: &str = "type.googleapis.com/event_store.client.";

/// A call that carries appends.
pub(super) struct BatchCall {
    facade: Facade,
    incoming: Option<Streaming<BatchAppendReq>>,
    /// Appends whose events have not all come.
    open: HashMap<Uuid, OpenBatch>,
    carried_out: FuturesUnordered<BoxFuture<'static, CarriedOut>>,
    /// Appends that wait for one to the same stream; a key for each stream that is written.
    waiting: HashMap<String, VecDeque<OpenBatch>>,
    waiting_count: usize,
    ready: VecDeque<BatchAppendResp>,
    held: Held,
    stopping: Stopping,
}

/// Events that are kept in memory, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    events: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }

    fn remove(&mut self, other: Self) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }

    fn is_too_much(self) -> bool {
        self.events > CALL_EVENTS_MAX || self.bytes > CALL_BYTES_MAX
    }
}

/// An append that was carried out: its stream, what it held, and the answer.
struct CarriedOut {
    stream: String,
    held: Held,
    response: BatchAppendResp,
}

/// An append, as far as it has come.
struct OpenBatch {
    correlation_id: Option<WireUuid>,
    append: StreamAppend,
    held: Held,
}

impl BatchCall {
    pub(super) fn new(
        facade: Facade,
        incoming: Streaming<BatchAppendReq>,
        stopping: Stopping,
    ) -> Self {
        Self {
            facade,
            incoming: Some(incoming),
            open: HashMap::new(),
            carried_out: FuturesUnordered::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            ready: VecDeque::new(),
            held: Held::default(),
            stopping,
        }
    }

    /// The answers, made as the client takes them.
    pub(super) fn responses(self) -> Messages<BatchAppendResp> {
        Box::pin(stream::try_unfold(self, |mut call| async move {
            Ok(call.response().await?.map(|response| (response, call)))
        }))
    }

    async fn response(&mut self) -> Result<Option<BatchAppendResp>, Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(Some(response));
            }
            if self.incoming.is_none() && self.carried_out.is_empty() {
                return Ok(None);
            }
            let appends = self.open.len() + self.carried_out.len() + self.waiting_count;
            let is_full = appends >= APPENDS_MAX || self.held.is_too_much();
            let has_room = !is_full || self.carried_out.is_empty();
            tokio::select! {
                Some(CarriedOut { stream, held, response }) = self.carried_out.next() => {
                    self.held.remove(held);
                    self.ready.push_back(response);
                    self.begin_next(&stream);
                }
                request = next_request(&mut self.incoming),
                    if has_room && self.incoming.is_some() =>
                {
                    match request? {
                        Some(request) => self.take(request),
                        None => self.incoming = None,
                    }
                }
                () = self.stopping.wanted(), if self.carried_out.is_empty() => {
                    return Err(faults::is_stopping());
                }
            }
        }
    }

    fn take(&mut self, request: BatchAppendReq) {
        let correlation_id = request.correlation_id.clone();
        let named = request.options.as_ref().and_then(|one| one.stream_identifier.clone());
        if let Err(refused) = self.try_take(request) {
            self.ready.push_back(BatchAppendResp {
                correlation_id,
                stream_identifier: named,
                result: Some(BatchResult::Error(refused)),
                expected_stream_position: None,
            });
        }
    }

    fn try_take(&mut self, request: BatchAppendReq) -> Result<(), PartStatus> {
        let id = id_of(request.correlation_id.as_ref());
        let id = id.ok_or_else(|| bad_request("the correlation id is a UUID".to_owned()))?;
        if let Some(options) = request.options {
            if self.open.len() >= APPENDS_MAX {
                let text = format!("at most {APPENDS_MAX} appends of a call are sent in parts");
                return Err(bad_request(text));
            }
            self.facade.may(Wish::Role(UserRole::Append)).map_err(refused)?;
            if is_over(&options) {
                return Err(part_status(Code::DeadlineExceeded, "Timeout", "Timeout", &Empty {}));
            }
            let append = append_of(options).map_err(refused)?;
            let correlation_id = request.correlation_id.clone();
            self.open.entry(id).or_insert(OpenBatch {
                correlation_id,
                append,
                held: Held::default(),
            });
        }
        // What follows an append that was refused is left out, as their server does.
        let Some(batch) = self.open.get_mut(&id) else { return Ok(()) };
        for message in request.proposed_messages {
            let event = event_of(message).map_err(refused);
            let bytes = event.as_ref().map_or(0, counted_bytes);
            let one = Held { events: 1, bytes };
            batch.held.add(one);
            self.held.add(one);
            let event = event.and_then(|event| {
                refuse_too_many(batch.held.events).map_err(refused)?;
                if batch.held.bytes > APPEND_BYTES_MAX {
                    return Err(too_large());
                }
                if self.held.is_too_much() && self.carried_out.is_empty() {
                    return Err(bad_request(too_much_sent_in_parts()));
                }
                Ok(event)
            });
            match event {
                Ok(event) => batch.append.events.push(event),
                Err(status) => {
                    self.held.remove(batch.held);
                    self.open.remove(&id);
                    return Err(status);
                }
            }
        }
        if request.is_final
            && let Some(batch) = self.open.remove(&id)
        {
            self.begin(batch);
        }
        Ok(())
    }

    /// Carries an append out, or lets it wait for those to its stream that were sent before.
    fn begin(&mut self, batch: OpenBatch) {
        let stream = batch.append.stream.shown.clone();
        if let Some(waiting) = self.waiting.get_mut(&stream) {
            waiting.push_back(batch);
            self.waiting_count += 1;
            return;
        }
        self.waiting.insert(stream.clone(), VecDeque::new());
        self.carry_out(stream, batch);
    }

    fn carry_out(&mut self, stream: String, batch: OpenBatch) {
        let facade = self.facade.clone();
        let carried_out = async move {
            let answer = facade.append(std::slice::from_ref(&batch.append)).await;
            let held = batch.held;
            CarriedOut { stream, held, response: answered(batch, answer) }
        };
        self.carried_out.push(carried_out.boxed());
    }

    fn begin_next(&mut self, stream: &str) {
        let Some(waiting) = self.waiting.get_mut(stream) else { return };
        match waiting.pop_front() {
            Some(batch) => {
                self.waiting_count -= 1;
                self.carry_out(stream.to_owned(), batch);
            }
            None => {
                self.waiting.remove(stream);
            }
        }
    }
}

async fn next_request(
    incoming: &mut Option<Streaming<BatchAppendReq>>,
) -> Result<Option<BatchAppendReq>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => Ok(None),
    }
}

fn append_of(options: Options) -> Result<StreamAppend, Status> {
    let expected = match options.expected_stream_position {
        Some(ExpectedStreamPosition::StreamPosition(at)) => ExpectedRevision::of_revision(at)?,
        Some(ExpectedStreamPosition::NoStream(_)) => ExpectedRevision::NoStream,
        Some(ExpectedStreamPosition::Any(_)) => ExpectedRevision::Any,
        Some(ExpectedStreamPosition::StreamExists(_)) => ExpectedRevision::StreamExists,
        None => return Err(Status::invalid_argument("an expected revision is missing")),
    };
    let stream = NamedStream::of(options.stream_identifier)?;
    Ok(StreamAppend { stream, expected, events: Vec::new() })
}

/// Tells whether the time that the client gives its append is over already.
fn is_over(options: &Options) -> bool {
    match &options.deadline_option {
        None => false,
        Some(DeadlineOption::Deadline(left)) => {
            left.seconds < 0 || (left.seconds, left.nanos) == (0, 0)
        }
        Some(DeadlineOption::Deadline21100(at)) => {
            let at =
                at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1_000);
            at <= Timestamp::now().as_micros()
        }
    }
}

fn answered(batch: OpenBatch, answer: Result<PartsAnswer, Status>) -> BatchAppendResp {
    let OpenBatch { correlation_id, append, .. } = batch;
    let result = match answer {
        Ok(PartsAnswer::Written(written)) => BatchResult::Success(success(written.first())),
        Ok(PartsAnswer::WrongRevision { current, .. }) => {
            BatchResult::Error(wrong_version(append.expected, current))
        }
        Ok(PartsAnswer::Deleted { .. }) => {
            let deleted = StreamDeleted { stream_identifier: Some(append.stream.identifier()) };
            let name = "StreamDeleted";
            BatchResult::Error(part_status(Code::NotFound, name, name, &deleted))
        }
        Err(status) => BatchResult::Error(refused(status)),
    };
    let expected = match append.expected {
        ExpectedRevision::Any => EchoedPosition::Any(Empty {}),
        ExpectedRevision::NoStream => EchoedPosition::NoStream(Empty {}),
        ExpectedRevision::StreamExists => EchoedPosition::StreamExists(Empty {}),
        ExpectedRevision::Revision(at) => EchoedPosition::StreamPosition(at),
    };
    BatchAppendResp {
        correlation_id,
        stream_identifier: Some(append.stream.identifier()),
        result: Some(result),
        expected_stream_position: Some(expected),
    }
}

fn success(written: Option<&Written>) -> Success {
    let revision = match written.and_then(|written| written.revision) {
        Some(revision) => success::CurrentRevisionOption::CurrentRevision(revision),
        None => success::CurrentRevisionOption::NoStream(Empty {}),
    };
    let position = match written.and_then(|written| written.position) {
        Some(position) => success::PositionOption::Position(wire_position(position)),
        None => success::PositionOption::NoPosition(Empty {}),
    };
    Success { current_revision_option: Some(revision), position_option: Some(position) }
}

fn wrong_version(expected: ExpectedRevision, current: Option<u64>) -> PartStatus {
    use wrong::{CurrentStreamRevisionOption as Current, ExpectedStreamPositionOption as Wish};
    let current = match current {
        Some(revision) => Current::CurrentStreamRevision(revision),
        None => Current::CurrentNoStream(Empty {}),
    };
    let wish = match expected {
        ExpectedRevision::Any => Wish::ExpectedAny(Empty {}),
        ExpectedRevision::NoStream => Wish::ExpectedNoStream(Empty {}),
        ExpectedRevision::StreamExists => Wish::ExpectedStreamExists(Empty {}),
        ExpectedRevision::Revision(at) => Wish::ExpectedStreamPosition(at),
    };
    let detail = WrongExpectedVersion {
        current_stream_revision_option: Some(current),
        expected_stream_position_option: Some(wish),
    };
    let name = "WrongExpectedVersion";
    part_status(Code::AlreadyExists, name, name, &detail)
}

fn too_large() -> PartStatus {
    let limit = u32::try_from(APPEND_BYTES_MAX).unwrap_or(u32::MAX);
    let name = "MaximumAppendSizeExceeded";
    let detail = MaximumAppendSizeExceeded { max_append_size: limit };
    part_status(Code::InvalidArgument, name, name, &detail)
}

fn too_much_sent_in_parts() -> String {
    format!(
        "the appends of a call that are sent in parts have at most {CALL_EVENTS_MAX} events and \
         {CALL_BYTES_MAX} bytes"
    )
}

fn bad_request(message: String) -> PartStatus {
    let name = "BadRequest";
    part_status(Code::InvalidArgument, name, name, &BadRequest { message })
}

/// The outcome of an append that ended with a status.
fn refused(status: Status) -> PartStatus {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => bad_request(text),
        Code::PermissionDenied => {
            let name = "AccessDenied";
            part_status(Code::PermissionDenied, name, name, &Empty {})
        }
        Code::Aborted => part_status(Code::DeadlineExceeded, "Timeout", "Timeout", &Empty {}),
        code => part_status(code, &text, "Unknown", &Empty {}),
    }
}

fn part_status(code: Code, message: &str, name: &str, detail: &impl Message) -> PartStatus {
    let value = detail.encode_to_vec().into();
    let detail = Packed { type_url: format!("{PACKAGE}{name}"), value };
    PartStatus { code: code.into(), message: message.to_owned(), details: vec![detail] }
}
