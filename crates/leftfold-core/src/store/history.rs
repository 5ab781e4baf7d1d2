//! The history of a store as its chain of hashes covers it: the bytes, so that anybody can compute
//! the chain again.

use bytes::Bytes;

use super::{AppendsFrom, Hash, Head, Position};

/// Rule by which the hash of a link is made of the hash before it and the bytes of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryRule {
    /// BLAKE3 of the hash before and the bytes: the embedded log, as `docs/log-format.md` has it.
    Blake3,
    /// SHA-256 of the number 32 in 4 bytes, the highest first, the hash before and the bytes: the
    /// store in PostgreSQL, as `docs/postgres-store.md` has it.
    Sha256Field,
}

/// Place in a history to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryFrom {
    /// Place of the first link. After a position means after the link that holds it.
    pub link: AppendsFrom,
    /// Bytes of that link that are known already; 0 reads it from its beginning.
    pub known_bytes: u64,
}

impl HistoryFrom {
    /// The beginning of the history.
    pub const START: Self = Self::after(Position::START);

    /// Everything behind the link that holds a position.
    #[must_use]
    pub const fn after(position: Position) -> Self {
        Self { link: AppendsFrom::After(position), known_bytes: 0 }
    }
}

/// Part of a history: what follows from one hash, and the place to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// Rule of the hashes.
    pub rule: HistoryRule,
    /// Hash before the first link of the page. If there is no link, the hash at the end.
    pub before: Hash,
    /// Links, in order. If there are none, the durable end was reached.
    pub links: Vec<HistoryLink>,
    /// End of the page: what comes later is read from here.
    pub next: HistoryFrom,
    /// Durable end of the store when the page was read; the links may reach a little further.
    pub head: Head,
}

/// Link of the chain of hashes: what became durable with one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLink {
    /// Content of the link.
    pub kind: HistoryKind,
    /// Version of the backend's format in which it is stored.
    pub version: u32,
    /// Bytes that are hashed behind the hash before; the last one of a page may go on in the next.
    pub hashed: Bytes,
    /// End of the link; `None` if the next page has more of it.
    pub end: Option<HistoryEnd>,
}

/// Content of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryKind {
    /// Appends, or what the backend records for itself.
    Records,
    /// The identity of the store, or a new life of it.
    Life,
}

/// End of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEnd {
    /// Hash behind the link.
    pub hash: Hash,
    /// Position of the last event up to here.
    pub position: Position,
}

impl HistoryRule {
    /// Begins the hash of a link; `None` if this build cannot compute the rule: that of PostgreSQL
    /// needs the feature `sign`.
    #[must_use]
    pub fn begin(self, before: Hash) -> Option<HistoryHasher> {
        match self {
            Self::Blake3 => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&before.0);
                Some(HistoryHasher(HasherOf::Blake3(Box::new(hasher))))
            }
            #[cfg(feature = "sign")]
            Self::Sha256Field => {
                let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
                hasher.update(&32_u32.to_be_bytes());
                hasher.update(&before.0);
                Some(HistoryHasher(HasherOf::Sha256(Box::new(hasher))))
            }
            #[cfg(not(feature = "sign"))]
            Self::Sha256Field => None,
        }
    }
}

/// Hash of a link under way: its bytes may come in parts.
pub struct HistoryHasher(HasherOf);

enum HasherOf {
    Blake3(Box<blake3::Hasher>),
    #[cfg(feature = "sign")]
    Sha256(Box<ring::digest::Context>),
}

impl HistoryHasher {
    /// Takes the next bytes of the link.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherOf::Blake3(hasher) => _ = hasher.update(bytes),
            #[cfg(feature = "sign")]
            HasherOf::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the hash behind the link.
    #[must_use]
    pub fn finish(self) -> Hash {
        match self.0 {
            HasherOf::Blake3(hasher) => Hash(*hasher.finalize().as_bytes()),
            #[cfg(feature = "sign")]
            HasherOf::Sha256(hasher) => {
                let mut hash = [0; 32];
                // A hash of SHA-256 has 32 bytes.
                hash.copy_from_slice(hasher.finish().as_ref());
                Hash(hash)
            }
        }
    }
}

impl HistoryPage {
    /// Makes an empty page, to be filled from a place on.
    #[must_use]
    pub fn empty(rule: HistoryRule, before: Hash, from: HistoryFrom, head: Head) -> Self {
        Self { rule, before, links: Vec::new(), next: from, head }
    }

    /// Adds a link, or as much of it as the page has room for behind what is known of the first
    /// one. Returns false if the page is full then.
    ///
    /// `this` is the place of the link, and `next` the one behind it.
    pub fn push(
        &mut self,
        link: HistoryLink,
        (this, next): (AppendsFrom, AppendsFrom),
        room: &mut PageRoom,
    ) -> bool {
        let known = std::mem::take(&mut room.known_bytes).min(link.hashed.len() as u64);
        let rest = link.hashed.slice(known as usize..);
        let take =
            if self.links.is_empty() { rest.len().min(room.bytes.max(1)) } else { rest.len() };
        if take > room.bytes && !self.links.is_empty() {
            return false;
        }
        room.bytes = room.bytes.saturating_sub(take);
        let is_whole = take == rest.len();
        self.next = if is_whole {
            HistoryFrom { link: next, known_bytes: 0 }
        } else {
            HistoryFrom { link: this, known_bytes: known + take as u64 }
        };
        let end = link.end.filter(|_| is_whole);
        self.links.push(HistoryLink { hashed: rest.slice(..take), end, ..link });
        is_whole && room.bytes > 0
    }
}

/// Room that is left in a page of history.
#[derive(Clone, Copy, Debug)]
pub struct PageRoom {
    bytes: usize,
    known_bytes: u64,
}

impl PageRoom {
    /// The room of a page of at most so many bytes, from a place on.
    #[must_use]
    pub fn of(page_bytes: u32, from: HistoryFrom) -> Self {
        Self { bytes: page_bytes as usize, known_bytes: from.known_bytes }
    }
}
