//! Verification of a history by its bytes, over any backend that gives them.

use crate::store::{
    Hash, Head, HistoryEnd, HistoryFrom, HistoryHasher, HistoryPage, Kind, Position, ReadError,
    Store,
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
    /// A page has links, and the one behind it would be the same again.
    #[error(
        "behind position {after} the store gives a page of its history that does not move on; \
         restore the store from a backup"
    )]
    Stuck {
        /// Position of the last event that was found.
        after: Position,
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
            Self::Broken { .. } | Self::OtherEnd { .. } | Self::Stuck { .. } => Kind::Bug,
            Self::UnknownRule => Kind::Invalid,
        }
    }
}

/// Computes the chain of hashes of a store again, page by page, from the bytes that the store
/// gives: up to the end that the store has when it begins. The [head](Store::head) that the handle
/// has then is on the way.
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
    /// End that the store had with the first page; `None` before it is known.
    end: Option<Head>,
    /// End that the handle had at the beginning, until its link is found.
    known: Option<Head>,
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
            known: Some(store.head()).filter(|head| head.chain != Hash::EMPTY),
            links: 0,
            bytes: 0,
        }
    }

    /// Verifies the next page. Returns the ends of the links that are complete with it, `None` if
    /// everything is verified. It may be called again after [`HistoryError::Read`].
    pub async fn next(&mut self) -> Result<Option<Vec<HistoryEnd>>, HistoryError> {
        // Nothing recorded is told as the empty hash, whatever the store has of its identity.
        if self.end.is_some_and(|end| end.chain == Hash::EMPTY || end.chain == self.chain) {
            return self.ended();
        }
        let page = self.store.history(self.from, self.page_bytes).await?;
        let end = *self.end.get_or_insert(page.head);
        if page.links.is_empty() {
            let is_at_end = end.chain == self.chain || end.chain == Hash::EMPTY;
            return if is_at_end { self.ended() } else { Err(self.other_end(end)) };
        }
        self.take(page, end).map(Some)
    }

    /// Compares what was verified with the end that the handle had at the beginning.
    fn ended(&self) -> Result<Option<Vec<HistoryEnd>>, HistoryError> {
        self.known.map_or(Ok(None), |known| Err(self.other_end(known)))
    }

    /// Verifies a page up to an end, at which it stops.
    fn take(&mut self, page: HistoryPage, stated: Head) -> Result<Vec<HistoryEnd>, HistoryError> {
        if page.before != self.chain {
            let (after, stated, computed) = (self.position, page.before, self.chain);
            return Err(HistoryError::Broken { after, stated, computed });
        }
        if page.next == self.from {
            return Err(HistoryError::Stuck { after: self.position });
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
                if link.hashed.is_empty() {
                    return Err(HistoryError::Stuck { after: self.position });
                }
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
            self.known = self.known.filter(|known| known.chain != computed);
            // What comes behind it was recorded since.
            if computed == stated.chain {
                break;
            }
            if end.position > stated.position && stated.chain != Hash::EMPTY {
                return Err(self.other_end(stated));
            }
        }
        self.from = page.next;
        Ok(ends)
    }

    fn other_end(&self, stated: Head) -> HistoryError {
        let (position, stated, computed) = (self.position, stated.chain, self.chain);
        HistoryError::OtherEnd { position, stated, computed }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Append, EventType, NewEvent};

    /// A store with events, and the first page of its history.
    async fn some_history() -> (Store, HistoryPage) {
        let store = Store::memory();
        for _ in 0..3 {
            let event = NewEvent::new(EventType::new("t").unwrap(), "{}");
            store.append(Append::of(vec![event])).await.unwrap();
        }
        let page = store.history(HistoryFrom::START, 1 << 20).await.unwrap();
        (store, page)
    }

    #[tokio::test]
    async fn a_page_that_does_not_move_on_or_passes_by_the_end_is_refused() {
        let (store, page) = some_history().await;
        let taken = |change: &dyn Fn(&mut HistoryPage)| {
            let mut page = page.clone();
            change(&mut page);
            let end = page.head;
            HistoryCheck::of(&store).take(page, end)
        };
        let stuck = |after| Err(HistoryError::Stuck { after: Position(after) });
        assert_eq!(taken(&|_| {}).unwrap().last().unwrap().hash, store.head().chain);
        assert_eq!(taken(&|page| page.next = HistoryFrom::START), stuck(0));
        let open = |page: &mut HistoryPage| {
            let last = page.links.last_mut().unwrap();
            (last.hashed, last.end) = (bytes::Bytes::new(), None);
        };
        assert_eq!(taken(&open), stuck(2));
        let passed = taken(&|page| {
            (page.head.position, page.head.chain) = (Position(1), Hash([7; 32]));
        });
        assert!(matches!(passed, Err(HistoryError::OtherEnd { position: Position(2), .. })));
    }
    #[tokio::test]
    async fn a_history_without_the_end_that_the_handle_has_is_refused() {
        let (store, _) = some_history().await;
        let head = store.head();
        let mut hidden = HistoryCheck::of(&store);
        // The store says in its history that nothing is recorded.
        hidden.end = Some(Head::EMPTY);
        let (position, stated, computed) = (Position::START, head.chain, Hash::EMPTY);
        let refused = Err(HistoryError::OtherEnd { position, stated, computed });
        assert_eq!(hidden.next().await, refused);
        // Another history, which is whole in itself.
        let mut other = HistoryCheck::of(&store);
        other.store = some_history().await.0;
        assert!(other.next().await.unwrap().is_some());
        assert!(matches!(other.next().await, Err(HistoryError::OtherEnd { .. })));
        let mut check = HistoryCheck::of(&store);
        while check.next().await.unwrap().is_some() {}
        assert_eq!(check.chain(), head.chain);
    }
}
