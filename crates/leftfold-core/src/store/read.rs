//! Reading: one bounded page at a time, each with how to go on.

use std::time::Instant;

use super::{
    Answered, Checkpoint, Hash, Invalid, Label, Position, Query, RecordedEvent, StreamName,
    Timestamp, Version,
};

/// A request for one page of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Events to read, and the place to begin.
    pub what: What,
    /// Direction of the read.
    pub direction: Direction,
    /// Largest number of events a page; 0 asks for no event, only for the head and the stream's
    /// version.
    pub page_events: u32,
    /// Largest number of bytes of events a page, approximately; one event is always returned,
    /// however large.
    pub page_bytes: u32,
}

/// Events to read, and the place to begin. The bound is inclusive in both directions; an `END`
/// reads backwards from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The events of one stream, by version.
    Stream {
        /// Name of the stream.
        stream: StreamName,
        /// The first version that is returned, if it is there.
        from: Version,
    },
    /// The events that match, by position.
    Matching {
        /// Query that the events match.
        query: Query,
        /// The first position that is looked at.
        from: Position,
    },
}

/// Direction of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From old to new.
    #[default]
    Forwards,
    /// From new to old.
    Backwards,
}

impl What {
    /// The same request from the place of an event on.
    #[must_use]
    pub fn starting_at(&self, event: &RecordedEvent) -> Self {
        match self {
            Self::Stream { stream, .. } => {
                Self::Stream { stream: stream.clone(), from: event.version() }
            }
            Self::Matching { query, .. } => {
                Self::Matching { query: query.clone(), from: event.position }
            }
        }
    }
}

impl Read {
    /// Usual bytes of a page: 1 MiB.
    pub const PAGE_BYTES: u32 = 1 << 20;
    /// Usual number of events of a page.
    pub const PAGE_EVENTS: u32 = 8_192;

    /// The events of a stream, forwards from a version.
    #[must_use]
    pub fn stream(stream: StreamName, from: Version) -> Self {
        Self::forwards(What::Stream { stream, from })
    }

    /// The events that match, forwards from a position.
    #[must_use]
    pub fn matching(query: Query, from: Position) -> Self {
        Self::forwards(What::Matching { query, from })
    }

    const fn forwards(what: What) -> Self {
        Self {
            what,
            direction: Direction::Forwards,
            page_events: Self::PAGE_EVENTS,
            page_bytes: Self::PAGE_BYTES,
        }
    }

    /// The same, from new to old.
    #[must_use]
    pub fn backwards(mut self) -> Self {
        self.direction = Direction::Backwards;
        self
    }

    /// The same, with at most this number of events a page.
    #[must_use]
    pub fn page_of(mut self, events: u32) -> Self {
        self.page_events = events;
        self
    }
}

/// One page: a prefix of what was asked for, and the place to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Events, in the direction of the read. A page may be empty and still not the last, because
    /// one page looks at a bounded part of the store.
    pub events: Vec<RecordedEvent>,
    /// The same request from the end of this page; `None` if there is nothing more now: forwards
    /// the durable end, `head`, was reached; backwards the beginning.
    pub next: Option<What>,
    /// Every event that matches up to here (backwards: down to here), inclusive, has been returned.
    pub through: Position,
    /// The durable end of the store when the page was read.
    pub head: Head,
    /// Version of the stream; `None` if the request was no read of one stream.
    pub stream_version: Option<Version>,
}

/// An append as the store recorded it: what became durable together.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedAppend {
    /// Position of its first event; if it has none, of the last event before it.
    pub first: Position,
    /// Its events, in order.
    pub events: Vec<RecordedEvent>,
    /// Request that it answered; `None` if it answered none.
    pub command: Option<Answered>,
    /// Consumer that it moved, and its new checkpoint; `None` if it moved none.
    pub checkpoint: Option<(Label, Checkpoint)>,
    /// Hash of the group that recorded it; [`hash_at`](super::Backend::hash_at) returns it for the
    /// positions of its events.
    pub hash: Hash,
}

impl RecordedAppend {
    /// Returns the position of its last event; if it has none, of the last event before it.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first.0 + (self.events.len() as u64).saturating_sub(1))
    }
}

/// Place to read appends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendsFrom {
    /// The append after the one that holds the position; [`Position::START`] is the beginning.
    After(Position),
    /// End of a page of this store. It stays good for as long as the store does; in another store
    /// it means nothing.
    Mark(u64),
}

/// Some appends, and the place to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendsPage {
    /// Appends, in order. If there are none, the durable end was reached.
    pub appends: Vec<RecordedAppend>,
    /// End of the page: appends that come later are read from here.
    pub next: AppendsFrom,
    /// Durable end of the store when the page was read; the appends of the page may reach a little
    /// further.
    pub head: Head,
}

/// The durable end of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last event; [`Position::START`] while there is none.
    pub position: Position,
    /// Chain hash over everything durable, also over records without a position (command records,
    /// seals): it is exported and signed as an anchor. The hash of a position is another: see
    /// [`hash_at`](super::Backend::hash_at).
    pub chain: Hash,
    /// Recorded time of the last group; [`Timestamp::MIN`] while there is none.
    pub recorded_at: Timestamp,
}

impl Head {
    /// The end of an empty store.
    pub const EMPTY: Self =
        Self { position: Position::START, chain: Hash::EMPTY, recorded_at: Timestamp::MIN };
}

/// Status of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The durable end.
    pub head: Head,
    /// State of the store: tells whether it takes appends.
    pub state: State,
}

/// State of a store: tells whether it takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes appends.
    Open,
    /// It takes no appends, though it can be read: until it is opened again, or, in a database that
    /// other processes use too, until that takes writes again.
    ReadOnly {
        /// Reason, for people.
        detail: String,
    },
    /// It cannot be reached: appends and reads fail, and the end is as it was when it was reached
    /// last. It goes on by itself. A store in memory or in a directory of this machine is never
    /// away.
    Away {
        /// Moment from which on it is known to be away.
        since: Instant,
        /// Reason, for people.
        detail: String,
    },
    /// It answers nothing any more.
    Closed,
}

/// Error of a read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The request is beyond a limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// More reads wait than the store holds in memory. None of this one was carried out.
    #[error("{waiting} bytes of reads wait to be carried out, read again when some were answered")]
    Busy {
        /// Bytes that wait.
        waiting: usize,
    },
    /// The stored data is damaged. Everything before the place can still be read.
    #[error("the store is damaged at {place}: {detail}; restore it from a copy")]
    Damaged {
        /// File and byte.
        place: String,
        /// Description of the damage.
        detail: String,
    },
    /// The system refused to read.
    #[error("the store cannot be read: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
    /// The user of this handle has not the right to it, and will not have it if asked again.
    #[error("the read is not allowed: {detail}")]
    Denied {
        /// Reason, for people.
        detail: String,
    },
    /// The store keeps no bytes of which its chain of hashes can be computed again.
    #[error(
        "the store does not give the bytes of its chain of hashes; verify it where it is kept, or \
         dump it"
    )]
    NoHistory,
    /// The store is closed.
    #[error("the store is closed, open it again")]
    Closed,
}

impl From<super::Gone> for ReadError {
    fn from(_: super::Gone) -> Self {
        Self::Closed
    }
}
