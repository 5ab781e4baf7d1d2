//! Keys of the index.

/// Key with a list of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PostingKey<'a> {
    /// The events of one stream.
    Stream(&'a str),
    /// The events of all streams of a category.
    Category(&'a str),
    /// The events of one type.
    Type(&'a str),
    /// The events that carry a tag.
    Tag(&'a str),
    /// The events that callers brought with this id.
    EventId(&'a [u8; 16]),
}

/// The first byte of every key, in files too: the kinds lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum KeyKind {
    /// Stream names: positions, and the version of the first of each chunk.
    Stream = 1,
    /// Categories: positions.
    Category = 2,
    /// Event types: positions.
    Type = 3,
    /// Tags: positions.
    Tag = 4,
    /// Ids that callers brought: positions.
    EventId = 5,
    /// Command ids: an address each.
    Command = 6,
    /// Consumers, each with what it follows: the address of the latest checkpoint.
    Consumer = 7,
    /// Cached values; the newest wins.
    Snapshot = 8,
}

/// A key as it is stored and compared: the kind, then the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawKey<'a> {
    pub(super) kind: KeyKind,
    pub(super) bytes: &'a [u8],
}

impl<'a> From<PostingKey<'a>> for RawKey<'a> {
    fn from(key: PostingKey<'a>) -> Self {
        let (kind, bytes) = match key {
            PostingKey::Stream(name) => (KeyKind::Stream, name.as_bytes()),
            PostingKey::Category(name) => (KeyKind::Category, name.as_bytes()),
            PostingKey::Type(name) => (KeyKind::Type, name.as_bytes()),
            PostingKey::Tag(name) => (KeyKind::Tag, name.as_bytes()),
            PostingKey::EventId(id) => (KeyKind::EventId, id.as_slice()),
        };
        Self { kind, bytes }
    }
}

impl KeyKind {
    /// The kind of a raw key.
    pub(super) fn of(raw: &[u8]) -> Option<Self> {
        const ALL: [KeyKind; 8] = [
            KeyKind::Stream,
            KeyKind::Category,
            KeyKind::Type,
            KeyKind::Tag,
            KeyKind::EventId,
            KeyKind::Command,
            KeyKind::Consumer,
            KeyKind::Snapshot,
        ];
        let first = *raw.first()?;
        ALL.into_iter().find(|kind| *kind as u8 == first)
    }
}

impl<'a> RawKey<'a> {
    /// Parses a stored key, kind first; `None` if its kind is unknown.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        Some(Self { kind: KeyKind::of(raw)?, bytes: &raw[1..] })
    }

    /// Tells whether these are the stored bytes of the key.
    pub(super) fn is(self, raw: &[u8]) -> bool {
        raw.split_first()
            .is_some_and(|(&kind, bytes)| kind == self.kind as u8 && bytes == self.bytes)
    }

    pub(super) fn command(id: &'a [u8; 16]) -> Self {
        Self { kind: KeyKind::Command, bytes: id }
    }

    pub(super) fn consumer(key: &'a [u8]) -> Self {
        Self { kind: KeyKind::Consumer, bytes: key }
    }

    pub(super) fn snapshot(key: &'a [u8]) -> Self {
        Self { kind: KeyKind::Snapshot, bytes: key }
    }

    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(1 + self.bytes.len());
        raw.push(self.kind as u8);
        raw.extend_from_slice(self.bytes);
        raw
    }
}
