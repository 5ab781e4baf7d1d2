//! Reads, and the pages that answer them.

use bytes::Bytes;
use leftfold_core::store::{
    AppendsFrom, AppendsPage, Direction, Hash, Label, Page, Position, Query, Read, RecordedAppend,
    RecordedEvent, StreamName, Version, What,
};

use crate::malformed::{Malformed, exactly, some};
use crate::wire::{self, appends_place, place};

impl From<&Read> for wire::ReadRequest {
    fn from(read: &Read) -> Self {
        Self {
            place: Some((&read.what).into()),
            backwards: read.direction == Direction::Backwards,
            page_events: read.page_events,
            page_bytes: read.page_bytes,
        }
    }
}

impl TryFrom<wire::ReadRequest> for Read {
    type Error = Malformed;

    fn try_from(read: wire::ReadRequest) -> Result<Self, Malformed> {
        let direction = if read.backwards { Direction::Backwards } else { Direction::Forwards };
        Ok(Self {
            what: some("place", read.place)?.try_into()?,
            direction,
            page_events: read.page_events,
            page_bytes: read.page_bytes,
        })
    }
}

impl From<&What> for wire::Place {
    fn from(what: &What) -> Self {
        let place = match what {
            What::Stream { stream, from } => place::Place::Stream(wire::StreamPlace {
                stream: stream.as_str().to_owned(),
                from: from.0,
            }),
            What::Matching { query, from } => {
                place::Place::Matching(wire::QueryPlace { query: Some(query.into()), from: from.0 })
            }
        };
        Self { place: Some(place) }
    }
}

impl TryFrom<wire::Place> for What {
    type Error = Malformed;

    fn try_from(place: wire::Place) -> Result<Self, Malformed> {
        Ok(match some("place", place.place)? {
            place::Place::Stream(at) => {
                Self::Stream { stream: StreamName::new(at.stream)?, from: Version(at.from) }
            }
            place::Place::Matching(at) => {
                let query = Query::try_from(some("query", at.query)?)?;
                Self::Matching { query, from: Position(at.from) }
            }
        })
    }
}

impl From<Page> for wire::Page {
    fn from(page: Page) -> Self {
        Self {
            events: page.events.into_iter().map(Into::into).collect(),
            next: page.next.as_ref().map(Into::into),
            through: page.through.0,
            head: Some(page.head.into()),
            stream_version: page.stream_version.map(|version| version.0),
        }
    }
}

impl TryFrom<wire::Page> for Page {
    type Error = Malformed;

    fn try_from(page: wire::Page) -> Result<Self, Malformed> {
        let events = page.events.into_iter().map(RecordedEvent::try_from);
        Ok(Self {
            events: events.collect::<Result<_, _>>()?,
            next: page.next.map(What::try_from).transpose()?,
            through: Position(page.through),
            head: some("head", page.head)?.try_into()?,
            stream_version: page.stream_version.map(Version),
        })
    }
}

impl From<AppendsFrom> for wire::AppendsPlace {
    fn from(from: AppendsFrom) -> Self {
        let place = match from {
            AppendsFrom::After(position) => appends_place::Place::After(position.0),
            AppendsFrom::Mark(mark) => appends_place::Place::Mark(mark),
        };
        Self { place: Some(place) }
    }
}

impl TryFrom<wire::AppendsPlace> for AppendsFrom {
    type Error = Malformed;

    fn try_from(place: wire::AppendsPlace) -> Result<Self, Malformed> {
        Ok(match some("place", place.place)? {
            appends_place::Place::After(position) => Self::After(Position(position)),
            appends_place::Place::Mark(mark) => Self::Mark(mark),
        })
    }
}

impl From<RecordedAppend> for wire::RecordedAppend {
    fn from(append: RecordedAppend) -> Self {
        let (consumer, checkpoint) = append.checkpoint.unzip();
        Self {
            first: append.first.0,
            events: append.events.into_iter().map(Into::into).collect(),
            command: append.command.map(Into::into),
            consumer: consumer.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            checkpoint: checkpoint.map(Into::into),
            hash: Bytes::copy_from_slice(&append.hash.0),
        }
    }
}

impl TryFrom<wire::RecordedAppend> for RecordedAppend {
    type Error = Malformed;

    fn try_from(append: wire::RecordedAppend) -> Result<Self, Malformed> {
        let events = append.events.into_iter().map(RecordedEvent::try_from);
        let checkpoint = match append.checkpoint {
            None => None,
            Some(checkpoint) => Some((Label::new(append.consumer)?, checkpoint.try_into()?)),
        };
        Ok(Self {
            first: Position(append.first),
            events: events.collect::<Result<_, _>>()?,
            command: append.command.map(TryInto::try_into).transpose()?,
            checkpoint,
            hash: Hash(exactly("hash of an append", &append.hash)?),
        })
    }
}

impl From<AppendsPage> for wire::AppendsPage {
    fn from(page: AppendsPage) -> Self {
        Self {
            appends: page.appends.into_iter().map(Into::into).collect(),
            next: Some(page.next.into()),
            head: Some(page.head.into()),
        }
    }
}

impl TryFrom<wire::AppendsPage> for AppendsPage {
    type Error = Malformed;

    fn try_from(page: wire::AppendsPage) -> Result<Self, Malformed> {
        let appends = page.appends.into_iter().map(RecordedAppend::try_from);
        Ok(Self {
            appends: appends.collect::<Result<_, _>>()?,
            next: some("next", page.next)?.try_into()?,
            head: some("head", page.head)?.try_into()?,
        })
    }
}
