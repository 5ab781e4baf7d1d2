//! Reading: one bounded page at a time, each with how to go on.

use super::{Answered, Checkpoint, Hash, Invalid, Label, Position, Query, RecordedEvent, StreamName, Timestamp, Version};

/// A request for one page of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which events, from where.
    pub what: What,
    /// Which way.
    pub direction: Direction,
    /// At most so many events a page; 0 asks for none, only for where things stand.
    pub page_events: u32,
    /// At most about so many bytes of events a page; one event is always returned, however large.
    pub page_bytes: u32,
}

/// Which events, from where. The bound is inclusive in both directions; an `END` reads backwards from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The events of one stream, by version.
    Stream {
        /// The stream.
        stream: StreamName,
        /// The first version that is returned, if it is there.
        from: Version,
    },
    /// The events that match, by position.
    Matching {
        /// Which.
        query: Query,
        /// The first position that is looked at.
        from: Position,
    },
}

/// Which way to read.
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
            Self::Stream { stream, .. } => Self::Stream { stream: stream.clone(), from: event.version() },
            Self::Matching { query, .. } => Self::Matching { query: query.clone(), from: event.position },
        }
    }
}

impl Read {
    /// The bytes of a page where nothing else is said: 1 MiB.
    pub const PAGE_BYTES: u32 = 1 << 20;
    /// The events of a page where nothing else is said.
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
        Self { what, direction: Direction::Forwards, page_events: Self::PAGE_EVENTS, page_bytes: Self::PAGE_BYTES }
    }

    /// The same, from new to old.
    #[must_use]
    pub fn backwards(mut self) -> Self {
        self.direction = Direction::Backwards;
        self
    }

    /// The same, at most so many events a page.
    #[must_use]
    pub fn page_of(mut self, events: u32) -> Self {
        self.page_events = events;
        self
    }
}

/// One page: a prefix of what was asked for, and how to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The events, in the direction of the read. A page may be empty and still not the last: much was looked at.
    pub events: Vec<RecordedEvent>,
    /// The same request from where this page ends; none where there is nothing more now: forwards the durable end,
    /// `head`, was reached; backwards the beginning.
    pub next: Option<What>,
    /// Every event that matches up to here (backwards: down to here), inclusive, has been returned.
    pub through: Position,
    /// The durable end of the store when the page was read.
    pub head: Head,
    /// The version of the stream, where one was read.
    pub stream_version: Option<Version>,
}

/// An append as the store recorded it: what became durable together.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedAppend {
    /// The position of its first event; where it has none, of the last event before it.
    pub first: Position,
    /// Its events, in order.
    pub events: Vec<RecordedEvent>,
    /// The request that it answered.
    pub command: Option<Answered>,
    /// The consumer that it moved, and where to.
    pub checkpoint: Option<(Label, Checkpoint)>,
    /// The hash of the group that recorded it: what [`hash_at`](super::Backend::hash_at) tells of its events.
    pub hash: Hash,
}

impl RecordedAppend {
    /// The position of its last event; where it has none, of the last event before it.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first.0 + (self.events.len() as u64).saturating_sub(1))
    }
}

/// Where to read appends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendsFrom {
    /// The append after the one that holds the position; [`Position::START`] is the beginning.
    After(Position),
    /// Where a page of this store ended. It stays good for as long as the store does; another store's means nothing.
    Mark(u64),
}

/// Some appends, and how to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendsPage {
    /// The appends, in order. Where there are none, the durable end was reached.
    pub appends: Vec<RecordedAppend>,
    /// Where the page ends: what was not there yet is read from here later.
    pub next: AppendsFrom,
    /// The durable end of the store when the page was read: what the page holds may go a little further.
    pub head: Head,
}

/// The durable end of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last event; [`Position::START`] while there is none.
    pub position: Position,
    /// The chain hash over everything durable, also over what has no position (command records, seals): what is
    /// exported and signed as an anchor. The hash of a position is another: see [`hash_at`](super::Backend::hash_at).
    pub chain: Hash,
    /// When the last group was recorded; [`Timestamp::MIN`] while there is none.
    pub recorded_at: Timestamp,
}

impl Head {
    /// The end of an empty store.
    pub const EMPTY: Self = Self { position: Position::START, chain: Hash::EMPTY, recorded_at: Timestamp::MIN };
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The durable end.
    pub head: Head,
    /// Whether it takes appends.
    pub state: State,
}

/// Whether a store takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Open,
    /// It does not, until it is opened again; it can be read.
    ReadOnly {
        /// Since what.
        detail: String,
    },
    /// It answers nothing any more.
    Closed,
}

/// Why something cannot be read.
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
    /// What is stored is damaged. Everything before the place can still be read.
    #[error("the store is damaged at {place}: {detail}; restore it from a copy")]
    Damaged {
        /// Which file and byte.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// The system refused to read.
    #[error("the store cannot be read: {detail}")]
    Io {
        /// What the system said.
        detail: String,
    },
    /// The store is closed.
    #[error("the store is closed, open it again")]
    Closed,
}

impl From<super::Gone> for ReadError {
    fn from(_: super::Gone) -> Self {
        Self::Closed
    }
}
