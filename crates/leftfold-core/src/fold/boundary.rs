//! Queues of decisions on one boundary, once they have got into each other's way.
//!
//! A decision that meets nobody takes no turn: many boundaries overlap in something that is hardly
//! ever written, and would wait for each other without need. One that was overtaken queues for each
//! item of its query that matched what was new, and so does every decision that comes while others
//! queue there. Within the process each then decides on what the one before it recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::command::in_order;
use crate::store::{Digest, Query, RecordedEvent};

type Item = [u8; 16];

/// The items of queries for which decisions of one store queue.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    queues: Mutex<HashMap<Item, Arc<tokio::sync::Mutex<()>>>>,
}

/// One decision among the others.
#[derive(Debug)]
pub(super) struct DecisionTurn<'q> {
    boundaries: Arc<Boundaries>,
    query: &'q Query,
    /// The turns that it has, and the one that it waits for.
    held: BTreeMap<Item, Option<OwnedMutexGuard<()>>>,
}

impl<'q> DecisionTurn<'q> {
    /// Enters a decision with this query; it waits if others queue.
    pub(super) async fn of(boundaries: Arc<Boundaries>, query: &'q Query) -> Self {
        let mut turn = Self { boundaries, query, held: BTreeMap::new() };
        let crowded: BTreeSet<Item> = match turn.boundaries.queues().len() {
            0 => BTreeSet::new(),
            _ => turn.items(|_| true).into_iter().collect(),
        };
        let crowded = crowded
            .into_iter()
            .filter(|item| turn.boundaries.queues().contains_key(item))
            .collect();
        turn.wait_for(crowded).await;
        turn
    }

    /// Queues for the items that events match which came in between. Returns true if it waited:
    /// then there may be newer events.
    pub(super) async fn after(&mut self, new: &[RecordedEvent]) -> bool {
        let met = self.items(|query| new.iter().any(|event| query.matches(event)));
        if met.iter().all(|item| self.held.contains_key(item)) {
            return false;
        }
        // All again and in one order, so that no two wait for each other.
        let all = self.held.keys().copied().chain(met).collect();
        self.give_back();
        self.wait_for(all).await;
        true
    }

    fn items(&self, is_meant: impl Fn(&Query) -> bool) -> Vec<Item> {
        let items =
            self.query.items().iter().filter(|item| is_meant(&Query::from((*item).clone())));
        items.map(|item| Digest::of(in_order(item.clone()).as_bytes()).0).collect()
    }

    async fn wait_for(&mut self, items: BTreeSet<Item>) {
        for item in items {
            let queue = self.boundaries.queues().entry(item).or_default().clone();
            self.held.insert(item, None);
            let turn = queue.lock_owned().await;
            self.held.insert(item, Some(turn));
        }
    }

    fn give_back(&mut self) {
        let items: Vec<Item> = self.held.keys().copied().collect();
        self.held.clear();
        let mut queues = self.boundaries.queues();
        for item in items {
            if queues.get(&item).is_some_and(|queue| Arc::strong_count(queue) == 1) {
                queues.remove(&item);
            }
        }
    }
}

impl Drop for DecisionTurn<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Boundaries {
    fn queues(&self) -> MutexGuard<'_, HashMap<Item, Arc<tokio::sync::Mutex<()>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_a_queue_that_nobody_stands_in() {
        let (boundaries, query) =
            (Arc::new(Boundaries::default()), Query::tag("a").or(Query::tag("b")));
        let mut first = DecisionTurn::of(boundaries.clone(), &query).await;
        assert!(first.held.is_empty());
        let items: BTreeSet<Item> = first.items(|_| true).into_iter().collect();
        first.wait_for(items).await;
        assert_eq!(boundaries.queues().len(), 2);
        let (other, of_other) = (boundaries.clone(), query.clone());
        let second =
            tokio::spawn(async move { DecisionTurn::of(other, &of_other).await.held.len() });
        while boundaries.queues().values().all(|queue| Arc::strong_count(queue) < 3) {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(second.await.unwrap(), 2);
        assert!(boundaries.queues().is_empty());
    }

    #[tokio::test]
    async fn a_decision_that_goes_away_while_it_queues_leaves_nothing_behind() {
        let (boundaries, query) = (Arc::new(Boundaries::default()), Query::tag("a"));
        let mut first = DecisionTurn::of(boundaries.clone(), &query).await;
        let items: BTreeSet<Item> = first.items(|_| true).into_iter().collect();
        first.wait_for(items).await;
        {
            let mut second = std::pin::pin!(DecisionTurn::of(boundaries.clone(), &query));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(second.as_mut().poll(&mut context).is_pending());
        }
        drop(first);
        assert!(boundaries.queues().is_empty());
    }
}
