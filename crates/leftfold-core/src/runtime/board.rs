//! What the runtime's consumers are doing: for status pages, and for lists of what is open.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::effect::EffectId;
use crate::store::Position;

/// What one consumer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: &'static str,
    /// It has taken up every event that concerns it, up to here.
    pub through: Position,
    /// What it waits for.
    pub waits_for: String,
    /// How many of its effects are being carried out.
    pub under_way: usize,
    /// How many of its effects or timers wait, or are in doubt.
    pub waiting: usize,
}

/// What all consumers of one runtime are doing.
#[derive(Debug)]
pub(super) struct Board {
    open: Mutex<BTreeSet<EffectId>>,
    consumers: Mutex<HashMap<&'static str, ConsumerStatus>>,
    /// Counts requests to look at what is in doubt.
    looks: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self { open: Mutex::default(), consumers: Mutex::default(), looks: watch::Sender::new(0) }
    }
}

impl Board {
    pub(super) fn opened(&self, id: EffectId) {
        self.open().insert(id);
    }

    pub(super) fn closed(&self, id: EffectId) {
        self.open().remove(&id);
    }

    /// The effects that were taken up and are not concluded, after one of them.
    pub(super) fn open_after(&self, after: EffectId, at_most: usize) -> Vec<EffectId> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.open().range((Excluded(after), Unbounded)).take(at_most).copied().collect()
    }

    /// Everything up to here was taken up by all of these consumers.
    pub(super) fn taken_up(&self, names: impl Iterator<Item = &'static str>) -> Position {
        let consumers = self.consumers();
        names.map(|name| consumers.get(name).map_or(Position::START, |status| status.through)).min().unwrap_or_default()
    }

    pub(super) fn look_again(&self) {
        self.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Requests to look at what is in doubt.
    pub(super) fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    pub(super) fn say(&self, name: &'static str, waits_for: &str) {
        self.with(name, |status| waits_for.clone_into(&mut status.waits_for));
    }

    pub(super) fn say_where(&self, name: &'static str, through: Position, waits_for: &str, under_way: usize, waiting: usize) {
        self.with(name, |status| {
            (status.through, status.under_way, status.waiting) = (through, under_way, waiting);
            if status.waits_for != waits_for {
                waits_for.clone_into(&mut status.waits_for);
            }
        });
    }

    pub(super) fn statuses(&self) -> Vec<ConsumerStatus> {
        let mut all: Vec<_> = self.consumers().values().cloned().collect();
        all.sort_by_key(|status| status.name);
        all
    }

    fn with(&self, name: &'static str, change: impl FnOnce(&mut ConsumerStatus)) {
        let mut consumers = self.consumers();
        let new = || ConsumerStatus { name, through: Position::START, waits_for: String::new(), under_way: 0, waiting: 0 };
        change(consumers.entry(name).or_insert_with(new));
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<EffectId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consumers(&self) -> MutexGuard<'_, HashMap<&'static str, ConsumerStatus>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
