//! Events of another server of this protocol, as this one would have them.

use leftfold::store::NewEvent;
use tonic::Status;

use super::names::{DELETED_TYPE, METADATA_STREAM, NamedStream};
use super::proposals::proposed;
use super::records::{id_of, moment_of};
use super::wire::streams::read_req::options::{CountOption, FilterOption, StreamOption};
use super::wire::streams::read_req::{
    AllOptions, Options, ReadDirection, UuidOption, all_options, uuid_option,
};
use super::wire::streams::read_resp::{Content, RecordedEvent};
use super::wire::{AllStreamPosition, Empty};
use crate::foreign::{ForeignEvent, UnfitForeign};

pub use super::wire::streams::streams_client::StreamsClient;
pub use super::wire::streams::{ReadReq, ReadResp};

/// Returns the request for all events, from the one at a place on.
pub(crate) fn read_all(from: Option<u64>) -> ReadReq {
    let place = match from {
        None => all_options::AllOption::Start(Empty {}),
        Some(at) => all_options::AllOption::Position(AllStreamPosition {
            commit_position: at,
            prepare_position: at,
        }),
    };
    let spelling = UuidOption { content: Some(uuid_option::Content::Structured(Empty {})) };
    let options = Options {
        stream_option: Some(StreamOption::All(AllOptions { all_option: Some(place) })),
        read_direction: ReadDirection::Forwards.into(),
        count_option: Some(CountOption::Count(u64::MAX)),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: Some(spelling),
        ..Options::default()
    };
    ReadReq { options: Some(options) }
}

/// Returns the event of a reply; `None` if it has none, or one of the streams that the server
/// writes itself: links of projections, statistics, settings.
pub(crate) fn event_of(reply: ReadResp) -> Result<Option<ForeignEvent>, UnfitForeign> {
    let Some(Content::Event(read)) = reply.content else { return Ok(None) };
    let Some(recorded) = read.event else { return Ok(None) };
    let place = recorded.commit_position;
    let revision = recorded.stream_revision;
    let created = recorded.metadata.get("created").and_then(|ticks| ticks.parse().ok());
    let recorded_at = created.map(moment_of);
    match new_event(recorded) {
        Ok(Some((event, is_end))) => {
            // The end of a stream has no revision of its own.
            let revision = (!is_end).then_some(revision);
            Ok(Some(ForeignEvent { place, revision, recorded_at, event }))
        }
        Ok(None) => Ok(None),
        Err(status) => Err(UnfitForeign { place, reason: status.message().to_owned() }),
    }
}

fn new_event(recorded: RecordedEvent) -> Result<Option<(NewEvent, bool)>, Status> {
    let stream = NamedStream::of(recorded.stream_identifier)?;
    if stream.owner().shown.starts_with('$') {
        return Ok(None);
    }
    let property = |name: &str| recorded.metadata.get(name).map_or("", String::as_str);
    let (kind, content_type) = (property("type"), property("content-type"));
    let is_end = kind == DELETED_TYPE;
    let id = id_of(recorded.id.as_ref());
    let id = id.ok_or_else(|| Status::invalid_argument("its id is no UUID"))?;
    let mut event =
        proposed(id, kind, content_type, recorded.custom_metadata.clone(), recorded.data.clone())?;
    // This server keeps the end of a stream beside its metadata.
    event.stream = Some(match is_end && !stream.shown.starts_with(METADATA_STREAM) {
        true => stream.metadata(),
        false => stream.name,
    });
    Ok(Some((event, is_end)))
}
