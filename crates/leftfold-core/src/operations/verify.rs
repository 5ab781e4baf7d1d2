//! Verification of a history by its bytes, over any backend that gives them.

use crate::store::{
    Hash, HistoryEnd, HistoryFrom, HistoryHasher, HistoryPage, Kind, Position, ReadError, Store,
};

/// Bytes of a page that is verified at once.
const PAGE_BYTES: u32 = 4 << 20;

/// Error of verifying a history by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The history cannot be read, or the store does not give it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bytes of a link have another hash than the store says.
    #[error(
        "the history is not what was written: behind position {after} the chain of hashes goes on \
         with {stated}, and the bytes have {computed}; restore the store from a backup"
    )]
    Broken {
        /// Position of the last event before the link.
        after: Position,
        /// Hash that the store gives.
        stated: Hash,
        /// Hash of the bytes.
        computed: Hash,
    },
    /// The chain does not come to the end that the store names.
    #[error(
        "the history ends at position {position} with hash {computed}, and not with {stated} as the \
         store says; restore the store from a backup"
    )]
    OtherEnd {
        /// Position of the last event that was found.
        position: Position,
        /// Hash that the store names.
        stated: Hash,
        /// Hash of what was found.
        computed: Hash,
    },
    /// This build cannot compute the hashes of the store.
    #[error("the hashes of this store cannot be computed here; build with the feature \"sign\"")]
    UnknownRule,
}

impl HistoryError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Broken { .. } | Self::OtherEnd { .. } => Kind::Bug,
            Self::UnknownRule => Kind::Invalid,
        }
    }
}

/// Computes the chain of hashes of a store again, page by page, from the bytes that the store
/// gives: up to the end that the store has when it begins.
///
/// What the store says of its hashes is not believed. Whoever keeps the hash of a position
/// elsewhere compares it with the [end](HistoryEnd) of the link that holds the position.
///
/// ```
/// use leftfold_core::operations::HistoryCheck;
/// use leftfold_core::store::{Append, EventType, NewEvent, Position, Store};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
/// store.append(Append::of(vec![sold])).await?;
/// let mut check = HistoryCheck::of(&store);
/// while let Some(links) = check.next().await? {
///     println!("{} links are right, up to {}", links.len(), check.position());
/// }
/// assert_eq!((check.position(), check.chain()), (Position(1), store.head().chain));
/// # Ok(()) }
/// ```
pub struct HistoryCheck {
    store: Store,
    page_bytes: u32,
    from: HistoryFrom,
    chain: Hash,
    position: Position,
    /// Hash of the link that a page ended in.
    unfinished: Option<HistoryHasher>,
    /// Hash at the end that the store had at the beginning; `None` before it is known.
    end: Option<Hash>,
    links: u64,
    bytes: u64,
}

impl HistoryCheck {
    /// Begins to verify all of a store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self::in_pages_of(store, PAGE_BYTES)
    }

    /// The same in pages of at most about so many bytes.
    #[must_use]
    pub fn in_pages_of(store: &Store, page_bytes: u32) -> Self {
        Self {
            store: store.clone(),
            page_bytes,
            from: HistoryFrom::START,
            chain: Hash::EMPTY,
            position: Position::START,
            unfinished: None,
            end: None,
            links: 0,
            bytes: 0,
        }
    }

    /// Verifies the next page. Returns the ends of the links that are complete with it, `None` if
    /// everything is verified. It may be called again after [`HistoryError::Read`].
    pub async fn next(&mut self) -> Result<Option<Vec<HistoryEnd>>, HistoryError> {
        // Nothing recorded is told as the empty hash, whatever the store has of its identity.
        if self.end == Some(Hash::EMPTY) || self.end == Some(self.chain) {
            return Ok(None);
        }
        let page = self.store.history(self.from, self.page_bytes).await?;
        self.end.get_or_insert(page.head.chain);
        if page.links.is_empty() {
            return match self.end {
                Some(stated) if stated != self.chain && stated != Hash::EMPTY => {
                    let (position, computed) = (self.position, self.chain);
                    Err(HistoryError::OtherEnd { position, stated, computed })
                }
                _ => Ok(None),
            };
        }
        self.take(page).map(Some)
    }

    fn take(&mut self, page: HistoryPage) -> Result<Vec<HistoryEnd>, HistoryError> {
        if page.before != self.chain {
            let (after, stated, computed) = (self.position, page.before, self.chain);
            return Err(HistoryError::Broken { after, stated, computed });
        }
        let mut ends = Vec::with_capacity(page.links.len());
        for link in page.links {
            let hasher = match self.unfinished.take() {
                Some(hasher) => Some(hasher),
                None => page.rule.begin(self.chain),
            };
            let mut hasher = hasher.ok_or(HistoryError::UnknownRule)?;
            hasher.update(&link.hashed);
            self.bytes += link.hashed.len() as u64;
            let Some(end) = link.end else {
                self.unfinished = Some(hasher);
                continue;
            };
            let computed = hasher.finish();
            if computed != end.hash {
                let (after, stated) = (self.position, end.hash);
                return Err(HistoryError::Broken { after, stated, computed });
            }
            (self.chain, self.position) = (computed, end.position);
            self.links += 1;
            ends.push(end);
        }
        self.from = page.next;
        Ok(ends)
    }

    /// Hash of everything that was verified.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// Position of the last event that was verified.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Number of links that were verified.
    #[must_use]
    pub fn links(&self) -> u64 {
        self.links
    }

    /// Number of bytes that were verified.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
