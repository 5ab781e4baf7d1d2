//! The service of streams: takes requests apart, and puts answers together.

use leftfold::store::Direction;
use tonic::{Request, Response, Status, Streaming};

use super::appending::{Deletion, PartsAnswer, StreamAppend, Written};
use super::batches::BatchCall;
use super::expected::ExpectedRevision;
use super::faults;
use super::filter::EventFilter;
use super::following::FollowCall;
use super::indexed::IndexedStream;
use super::names::NamedStream;
use super::proposals::{APPEND_BYTES_MAX, counted_bytes, event_of, refuse_too_many};
use super::reading::{FromPosition, FromRevision, ReadWish, ReadingCall};
use super::records::{EventForm, IdSpelling, wire_position};
use super::wire::Empty;
use super::wire::streams::append_req::options::ExpectedStreamRevision;
use super::wire::streams::append_req::{Content, Options};
use super::wire::streams::append_resp::wrong_expected_version::{
    CurrentRevisionOption, CurrentRevisionOption2060, ExpectedRevisionOption,
    ExpectedRevisionOption2060,
};
use super::wire::streams::append_resp::{self, Success, WrongExpectedVersion, success};
use super::wire::streams::read_req::all_options::AllOption;
use super::wire::streams::read_req::options::{CountOption, FilterOption, StreamOption};
use super::wire::streams::read_req::stream_options::RevisionOption;
use super::wire::streams::read_req::{self, uuid_option};
use super::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp, delete_resp, streams_server, tombstone_resp,
};
use super::{ANSWER_BYTES_MAX, Facades, MESSAGE_BYTES_MAX};
use crate::services::Messages;
use crate::users::{UserRole, Wish};

/// The service `event_store.client.streams.Streams`.
pub(super) struct StreamsService(Facades);

pub(super) fn service(facades: Facades) -> streams_server::StreamsServer<StreamsService> {
    streams_server::StreamsServer::new(StreamsService(facades))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}

/// Reads a state that a stream is expected to have.
fn expected_of(expected: Option<ExpectedStreamRevision>) -> Result<ExpectedRevision, Status> {
    match expected {
        Some(ExpectedStreamRevision::Revision(revision)) => ExpectedRevision::of_revision(revision),
        Some(ExpectedStreamRevision::NoStream(_)) => Ok(ExpectedRevision::NoStream),
        Some(ExpectedStreamRevision::Any(_)) => Ok(ExpectedRevision::Any),
        Some(ExpectedStreamRevision::StreamExists(_)) => Ok(ExpectedRevision::StreamExists),
        None => Err(Status::invalid_argument("an expected revision is missing")),
    }
}

fn options_of(options: Option<Options>) -> Result<(NamedStream, ExpectedRevision), Status> {
    let options = options.ok_or_else(|| Status::invalid_argument("the options are missing"))?;
    let expected = expected_of(options.expected_stream_revision)?;
    Ok((NamedStream::of(options.stream_identifier)?, expected))
}

async fn appended_parts(mut incoming: Streaming<AppendReq>) -> Result<StreamAppend, Status> {
    let first = incoming.message().await?.and_then(|first| first.content);
    let Some(Content::Options(options)) = first else {
        return Err(Status::invalid_argument("the first message of an append has its options"));
    };
    let (stream, expected) = options_of(Some(options))?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(message) = incoming.message().await? {
        let Some(Content::ProposedMessage(message)) = message.content else {
            return Err(Status::invalid_argument("behind the options come events"));
        };
        let event = event_of(message)?;
        bytes += counted_bytes(&event);
        if bytes > APPEND_BYTES_MAX {
            return Err(faults::append_too_large(APPEND_BYTES_MAX));
        }
        events.push(event);
        refuse_too_many(events.len())?;
    }
    Ok(StreamAppend { stream, expected, events })
}

fn success(answer: Written) -> Success {
    let position = answer.position.map_or(success::PositionOption::NoPosition(Empty {}), |at| {
        success::PositionOption::Position(wire_position(at))
    });
    let revision = match answer.revision {
        Some(revision) => success::CurrentRevisionOption::CurrentRevision(revision),
        None => success::CurrentRevisionOption::NoStream(Empty {}),
    };
    Success { current_revision_option: Some(revision), position_option: Some(position) }
}

fn wrong_version(expected: ExpectedRevision, current: Option<u64>) -> WrongExpectedVersion {
    use ExpectedRevisionOption as Now;
    use ExpectedRevisionOption2060 as Before;
    let (expected, before) = match expected {
        ExpectedRevision::Any => (Now::ExpectedAny(Empty {}), Before::Any2060(Empty {})),
        ExpectedRevision::StreamExists => {
            (Now::ExpectedStreamExists(Empty {}), Before::StreamExists2060(Empty {}))
        }
        ExpectedRevision::NoStream => {
            (Now::ExpectedNoStream(Empty {}), Before::ExpectedRevision2060(u64::MAX))
        }
        ExpectedRevision::Revision(at) => {
            (Now::ExpectedRevision(at), Before::ExpectedRevision2060(at))
        }
    };
    let (current, current_before) = match current {
        None => (
            CurrentRevisionOption::CurrentNoStream(Empty {}),
            CurrentRevisionOption2060::NoStream2060(Empty {}),
        ),
        Some(at) => (
            CurrentRevisionOption::CurrentRevision(at),
            CurrentRevisionOption2060::CurrentRevision2060(at),
        ),
    };
    WrongExpectedVersion {
        current_revision_option_20_6_0: Some(current_before),
        expected_revision_option_20_6_0: Some(before),
        current_revision_option: Some(current),
        expected_revision_option: Some(expected),
    }
}

fn form_of(options: &read_req::Options) -> Result<EventForm, Status> {
    let spelling = match &options.uuid_option {
        None => return Err(Status::invalid_argument("'uuidOption' is a required argument")),
        Some(read_req::UuidOption { content: Some(uuid_option::Content::String(_)) }) => {
            IdSpelling::Text
        }
        Some(_) => IdSpelling::Structured,
    };
    Ok(EventForm { spelling, resolves_links: options.resolve_links })
}

fn revision_of(from: Option<RevisionOption>) -> Result<FromRevision, Status> {
    match from {
        Some(RevisionOption::Start(_)) => Ok(FromRevision::Start),
        Some(RevisionOption::End(_) | RevisionOption::Revision(u64::MAX)) => Ok(FromRevision::End),
        Some(RevisionOption::Revision(revision)) => Ok(FromRevision::Revision(revision)),
        None => Err(Status::invalid_argument("the revision to read from is missing")),
    }
}

fn position_of(from: Option<AllOption>) -> Result<FromPosition, Status> {
    match from {
        Some(AllOption::Start(_)) => Ok(FromPosition::Start),
        Some(AllOption::End(_)) => Ok(FromPosition::End),
        Some(AllOption::Position(at)) => Ok(FromPosition::Position(at.commit_position)),
        None => Err(Status::invalid_argument("the position to read from is missing")),
    }
}

impl StreamsService {
    /// Begins a read, or a subscription.
    async fn begin(&self, request: Request<ReadReq>) -> Result<Messages<ReadResp>, Status> {
        let facade = self.0.of(&request).await?;
        facade.may(Wish::Role(UserRole::Read))?;
        let options = request.into_inner().options;
        let options = options.ok_or_else(|| Status::invalid_argument("the options are missing"))?;
        let form = form_of(&options)?;
        let direction = match options.read_direction {
            0 => Direction::Forwards,
            1 => Direction::Backwards,
            _ => return Err(Status::invalid_argument("this direction of a read is none")),
        };
        let filter = match (options.filter_option, &options.stream_option) {
            (Some(FilterOption::Filter(filter)), Some(StreamOption::All(_))) => {
                let subscribes = matches!(options.count_option, Some(CountOption::Subscription(_)));
                Some(EventFilter::of(filter, subscribes)?)
            }
            (Some(FilterOption::NoFilter(_)), _) => None,
            _ => return Err(Status::invalid_argument("this combination of options is invalid")),
        };
        let tells_last = options.control_option.is_some_and(|control| control.compatibility >= 1);
        let stopping = self.0.stopping.clone();
        match (options.count_option, direction) {
            (Some(CountOption::Count(count)), _) => {
                let wish = ReadWish { form, direction, count, tells_last };
                let call = match options.stream_option {
                    Some(StreamOption::All(all)) => {
                        ReadingCall::of_all(facade, position_of(all.all_option)?, filter, wish)
                            .await?
                    }
                    Some(StreamOption::Stream(stream)) => {
                        let from = revision_of(stream.revision_option)?;
                        let stream = NamedStream::of(stream.stream_identifier)?;
                        match IndexedStream::named(&stream.shown) {
                            Some(stream) => {
                                ReadingCall::of_indexed(facade, stream, from, wish).await?
                            }
                            None => ReadingCall::of_stream(facade, stream, from, wish).await?,
                        }
                    }
                    None => return Err(Status::invalid_argument("a stream, or all, is missing")),
                };
                Ok(call.responses())
            }
            (Some(CountOption::Subscription(_)), Direction::Forwards) => {
                let call = match options.stream_option {
                    Some(StreamOption::All(all)) => {
                        let from = position_of(all.all_option)?;
                        FollowCall::of_all(facade, from, filter, form, stopping).await?
                    }
                    Some(StreamOption::Stream(stream)) => {
                        let from = revision_of(stream.revision_option)?;
                        let stream = NamedStream::of(stream.stream_identifier)?;
                        match IndexedStream::named(&stream.shown) {
                            Some(stream) => {
                                FollowCall::of_indexed(facade, stream, from, form, stopping).await?
                            }
                            None => {
                                FollowCall::of_stream(facade, stream, from, form, stopping).await?
                            }
                        }
                    }
                    None => return Err(Status::invalid_argument("a stream, or all, is missing")),
                };
                Ok(call.responses())
            }
            _ => Err(Status::invalid_argument("this combination of options is invalid")),
        }
    }

    async fn remove<T: Sync>(
        &self,
        request: &Request<T>,
        options: Option<Options>,
        for_ever: bool,
    ) -> Result<super::wire::AllStreamPosition, Status> {
        let facade = self.0.of(request).await?;
        let (stream, expected) = options_of(options)?;
        match facade.delete(&stream, expected, for_ever).await? {
            Deletion::Deleted(position) => Ok(wire_position(position)),
            Deletion::DeletedBefore => Err(faults::stream_deleted(&stream.shown)),
            Deletion::WrongRevision(current) => {
                Err(faults::wrong_expected_version("Delete", &stream.shown, expected, current))
            }
        }
    }
}

#[tonic::async_trait]
impl streams_server::Streams for StreamsService {
    type ReadStream = Messages<ReadResp>;
    type BatchAppendStream = Messages<BatchAppendResp>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        self.begin(request).await.map(Response::new)
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        let facade = self.0.to_append(&request).await?;
        facade.may(Wish::Role(UserRole::Append))?;
        let part = appended_parts(request.into_inner()).await?;
        let result = match facade.append(std::slice::from_ref(&part)).await? {
            PartsAnswer::Written(written) => {
                let none = Written { revision: None, position: None };
                append_resp::Result::Success(success(written.first().copied().unwrap_or(none)))
            }
            PartsAnswer::WrongRevision { current, .. } => {
                append_resp::Result::WrongExpectedVersion(wrong_version(part.expected, current))
            }
            PartsAnswer::Deleted { .. } => return Err(faults::stream_deleted(&part.stream.shown)),
        };
        Ok(Response::new(AppendResp { result: Some(result) }))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let facade = self.0.to_append(&request).await?;
        let call = BatchCall::new(facade, request.into_inner(), self.0.stopping.clone());
        Ok(Response::new(call.responses()))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        let options = request.get_ref().options.clone();
        let position = self.remove(&request, options, false).await?;
        let position = Some(delete_resp::PositionOption::Position(position));
        Ok(Response::new(DeleteResp { position_option: position }))
    }

    async fn tombstone(
        &self,
        request: Request<TombstoneReq>,
    ) -> Result<Response<TombstoneResp>, Status> {
        let options = request.get_ref().options.clone();
        let position = self.remove(&request, options, true).await?;
        let position = Some(tombstone_resp::PositionOption::Position(position));
        Ok(Response::new(TombstoneResp { position_option: position }))
    }
}
