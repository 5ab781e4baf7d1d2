//! The store that a rule judges.

use std::ops::Deref;

use leftfold_core::store::{
    Append, AppendError, Appended, Conflict, Head, Outcome, Page, Position, Query, Read, ReadError,
    RecordedEvent, Store,
};

use super::{Factory, Faults, PassingTime, Reopens};
use crate::by_runtime;

/// A store, and its home. It is the store for everything but opening it again.
pub(super) struct TestedStore<'f, F: Factory> {
    // The store is dropped before its place.
    store: Store,
    place: F::Place,
    factory: &'f F,
}

impl<F: Factory> Deref for TestedStore<'_, F> {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

impl<F: Factory> Drop for TestedStore<'_, F> {
    fn drop(&mut self) {
        // Handed over is carried out; a rule that needs the answer closes the store itself.
        drop(self.store.close());
    }
}

impl<'f, F: Factory> TestedStore<'f, F> {
    /// A new, empty store.
    pub(super) async fn new(factory: &'f F) -> Self {
        let place = factory.place().await;
        let store = factory.open(&place).await;
        Self { store, place, factory }
    }

    /// Closes the store and opens it again, if it outlives its handle.
    pub(super) async fn reopen(&mut self) {
        if F::REOPENS == Reopens::Yes {
            let closed = self.store.close().await;
            assert_eq!(closed, Ok(()), "the store closes cleanly");
            self.store = self.factory.open(&self.place).await;
        }
    }

    /// The same after a failure: the store may not close cleanly.
    pub(super) async fn reopen_after_failure(&mut self) {
        if F::REOPENS == Reopens::Yes {
            let _ = self.store.close().await;
            self.store = self.factory.open(&self.place).await;
        }
    }

    /// Another handle on the same store.
    pub(super) async fn beside(&self) -> Store {
        self.factory.open_beside(&self.place, &self.store).await
    }

    /// Returns the means to make the store's disk fail, if its factory has any.
    pub(super) fn faults(&self) -> Option<Box<dyn Faults>> {
        self.factory.faults(&self.place)
    }

    /// Returns the means to let hours pass for the store, if its factory has any.
    pub(super) fn time(&self) -> Option<Box<dyn PassingTime>> {
        self.factory.time(&self.place)
    }

    pub(super) async fn appended(&self, append: Append) -> Appended {
        match self.store.append(by_runtime(append)).await {
            Ok(Outcome::Appended(appended)) => appended,
            other => panic!("the append should have gone through, but the answer is {other:?}"),
        }
    }

    /// The conflict that the append meets; nothing may be written by it.
    pub(super) async fn conflict(&self, append: Append) -> Conflict {
        let before = self.head();
        let answer = self.store.append(by_runtime(append)).await;
        self.assert_unchanged_since(before).await;
        match answer {
            Ok(Outcome::Conflict(conflict)) => conflict,
            other => panic!("the append should have met a conflict, but the answer is {other:?}"),
        }
    }

    /// The error that the append meets; nothing may be written by it.
    pub(super) async fn refused(&self, append: Append) -> AppendError {
        let before = self.head();
        let answer = self.store.append(append).await;
        self.assert_unchanged_since(before).await;
        answer.expect_err("the append should have been refused")
    }

    async fn assert_unchanged_since(&self, before: Head) {
        assert_eq!(self.head().position, before.position, "a refused append moved the head");
        let after =
            self.read_page(Read::matching(Query::everything(), before.position.next())).await;
        assert_eq!(after.events, [], "a refused append wrote events");
    }

    pub(super) async fn read_page(&self, read: Read) -> Page {
        self.store.page(read).await.expect("the store can be read")
    }

    /// Everything that the request asks for, page by page. A store that answers at once gives
    /// nobody the chance to see that it never ends, so the pages are counted.
    pub(super) async fn read_all(&self, read: Read) -> Vec<RecordedEvent> {
        const PAGES_MAX: usize = 50_000;
        let mut pages = self.store.read(read.clone());
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            match pages.page().await.expect("the store can be read") {
                Some(page) => all.extend(page),
                None => return all,
            }
        }
        panic!("{read:?} is not at its end after {PAGES_MAX} pages");
    }

    /// Every event that is stored.
    pub(super) async fn everything(&self) -> Vec<RecordedEvent> {
        self.read_all(Read::matching(Query::everything(), Position(1))).await
    }

    /// The positions of the events that match; forwards and backwards must agree.
    pub(super) async fn matching(&self, query: Query) -> Vec<u64> {
        let forwards = super::examples::positions(
            &self.read_all(Read::matching(query.clone(), Position(1))).await,
        );
        let backwards =
            self.read_all(Read::matching(query.clone(), Position::END).backwards()).await;
        let mut backwards = super::examples::positions(&backwards);
        backwards.reverse();
        assert_eq!(
            forwards, backwards,
            "forwards and backwards find different events for {query:?}"
        );
        forwards
    }

    pub(super) async fn read_error(&self, read: Read) -> ReadError {
        self.store.page(read).await.expect_err("the read should have been refused")
    }
}
