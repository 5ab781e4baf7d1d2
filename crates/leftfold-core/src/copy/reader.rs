//! Appends of a store, one after the other, one page ahead.

use std::collections::VecDeque;

use super::record::is_own;
use crate::store::{
    AppendsFrom, AppendsPage, Head, Pending, Position, ReadError, RecordedAppend, Store,
};

/// Bytes of appends that are read at once.
const PAGE_BYTES: u32 = 2 << 20;

/// Returns the durable end of a store as it is there now. What a handle knows by itself may be a
/// moment behind what other processes appended.
pub(super) async fn head_now(store: &Store, known: Position) -> Result<Head, ReadError> {
    Ok(store.appends(AppendsFrom::After(known), 1).await?.head)
}

/// Reads the appends of a store in order.
#[derive(Debug)]
pub(super) struct AppendReader {
    store: Store,
    from: AppendsFrom,
    ready: VecDeque<RecordedAppend>,
    coming: Option<Pending<AppendsPage, ReadError>>,
    head: Head,
}

impl AppendReader {
    pub(super) fn after(store: &Store, position: Position) -> Self {
        let from = AppendsFrom::After(position);
        Self { store: store.clone(), from, ready: VecDeque::new(), coming: None, head: Head::EMPTY }
    }

    /// Returns the next append; `None` at the durable end, where it can be asked again later. Safe
    /// to cancel.
    pub(super) async fn next(&mut self) -> Result<Option<RecordedAppend>, ReadError> {
        if let Some(append) = self.ready.pop_front() {
            return Ok(Some(append));
        }
        let coming = self.coming.get_or_insert_with(|| self.store.appends(self.from, PAGE_BYTES));
        let answer = coming.await;
        self.coming = None;
        let page = answer?;
        (self.from, self.head) = (page.next, page.head);
        self.ready = page.appends.into();
        if !self.ready.is_empty() {
            self.coming = Some(self.store.appends(self.from, PAGE_BYTES));
        }
        Ok(self.ready.pop_front())
    }

    /// The next append that is not the copy's own.
    pub(super) async fn next_copied(&mut self) -> Result<Option<RecordedAppend>, ReadError> {
        while let Some(append) = self.next().await? {
            let own = append
                .events
                .iter()
                .all(|event| event.stream.as_ref().is_some_and(|at| is_own(&at.name)));
            if append.command.is_some() || !own {
                return Ok(Some(append));
            }
        }
        Ok(None)
    }

    /// The durable end of the store when it was last read.
    pub(super) fn head(&self) -> Head {
        self.head
    }
}
