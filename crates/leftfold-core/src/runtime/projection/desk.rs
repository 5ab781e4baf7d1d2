//! State that a runner shares with its handle: where it stands, what is parked, what it does right
//! now.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast, watch};

use super::calls::LOCK_WITHIN;
use super::parked::ParkedSet;
use crate::runtime::consumer::status::Doing;
use crate::store::{Position, Query, Timestamp};

// ANCHOR: limits
/// Changes that wait for one slow reader of a feed.
pub const CHANGES_MAX: usize = 4_096;
// ANCHOR_END: limits

/// A key whose rows changed, by the event at a position, which is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, as the projection names it.
    pub key: String,
    /// The event.
    pub position: Position,
}

/// Item of the feed.
#[derive(Clone, Debug)]
pub(super) enum ReaderNews {
    Change(Change),
    /// Some rows may have changed and their keys are lost: read everything again.
    ReadAnew,
}

/// One version of a projection, as others see it.
#[derive(Debug)]
pub(in crate::runtime) struct Desk {
    pub(super) name: &'static str,
    pub(super) version: u32,
    /// Name of it in status and metrics.
    pub(super) label: &'static str,
    /// Place of the target that has its rows.
    slot: AtomicU32,
    /// The events that it reads.
    pub(super) query: Query,
    pub(super) readers: Arc<ProjectionReaders>,
    pub(super) standing: watch::Sender<Standing>,
    /// Somebody begins to wait for a position.
    pub(super) awaited: Notify,
    pub(super) doing: Arc<Doing>,
    parked: Mutex<ParkedSet>,
    parked_len: AtomicUsize,
    suspects: Mutex<BTreeMap<Position, Suspect>>,
}

/// View of a projection for its readers, whichever version it comes from.
#[derive(Debug)]
pub(in crate::runtime) struct ProjectionReaders {
    /// The versions that run here.
    pub(super) versions: Vec<u32>,
    pub(super) serving: watch::Sender<Serving>,
    /// Highest position that somebody was told to find in the rows.
    promised: AtomicU64,
    /// Held while the target is asked who serves, or told to let another place serve, until that is
    /// known here: so an older answer never replaces a newer one.
    pub(super) moving: tokio::sync::Mutex<()>,
    pub(super) feed: broadcast::Sender<ReaderNews>,
}

/// The rows that readers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Serving {
    /// Their place, if it is known.
    pub(super) place: Option<u32>,
    /// True while another version is about to take that place: no position is promised until then,
    /// so that the other one can reach all that were.
    pub(super) handing_over: bool,
}

/// Progress of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Everything up to here is committed.
    pub(super) through: Position,
    /// True if nothing will move it.
    pub(super) ended: bool,
}

/// An event that failed and was not parked so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspect {
    pub(super) attempts: u32,
    pub(super) error: String,
    /// Time since which it gives no answer.
    hangs_since: Option<Timestamp>,
}

impl ProjectionReaders {
    pub(in crate::runtime) fn new(versions: Vec<u32>) -> Self {
        Self {
            versions,
            serving: watch::Sender::default(),
            promised: AtomicU64::new(0),
            moving: tokio::sync::Mutex::default(),
            feed: broadcast::Sender::new(CHANGES_MAX),
        }
    }

    /// Learns which place serves. If it is another one, a handover is over, and readers see other
    /// rows.
    pub(super) fn see(&self, place: Option<u32>) {
        let moved = self.serving.send_if_modified(|serving| {
            let moves = serving.place != place;
            if moves {
                *serving = Serving { place, handing_over: false };
            }
            moves
        });
        if moved {
            self.tell(ReaderNews::ReadAnew);
        }
    }

    /// Promises a position of the rows that were seen to serve. Returns false if others serve by
    /// now, or are about to.
    pub(super) fn promise(&self, seen: Serving, through: Position) -> bool {
        // As long as this is borrowed, no handover begins that would miss the promise.
        let serving = self.serving.borrow();
        let holds = *serving == seen && !serving.handing_over;
        if holds {
            self.promised.fetch_max(through.0, Ordering::SeqCst);
        }
        holds
    }

    /// Returns the position that rows must have reached to serve.
    pub(super) fn promised(&self) -> Position {
        Position(self.promised.load(Ordering::SeqCst))
    }

    /// Begins or goes on with a handover: nothing is promised any more until it ends. Returns the
    /// position that the rows of the next version must have reached to serve.
    pub(super) fn hand_over(&self) -> Position {
        self.set_handing_over(true);
        self.promised()
    }

    /// Ends a handover without another version: the one that serves promises again.
    pub(super) fn call_off_handover(&self) {
        self.set_handing_over(false);
    }

    fn set_handing_over(&self, handing_over: bool) {
        self.serving.send_if_modified(|serving| {
            std::mem::replace(&mut serving.handing_over, handing_over) != handing_over
        });
    }

    pub(super) fn tell(&self, told: ReaderNews) {
        // Nobody may listen.
        let _ = self.feed.send(told);
    }
}

impl Desk {
    pub(in crate::runtime) fn new(
        name: &'static str,
        version: u32,
        label: &'static str,
        query: Query,
        readers: Arc<ProjectionReaders>,
    ) -> Self {
        Self {
            name,
            version,
            label,
            slot: AtomicU32::new(version),
            query,
            readers,
            standing: watch::Sender::default(),
            awaited: Notify::new(),
            doing: Arc::default(),
            parked: Mutex::default(),
            parked_len: AtomicUsize::new(0),
            suspects: Mutex::default(),
        }
    }

    /// Tells whether readers see the rows that this version writes.
    pub(super) fn serves(&self) -> bool {
        self.readers.serving.borrow().place == Some(self.slot())
    }

    /// Returns the place of the target that has its rows.
    pub(super) fn slot(&self) -> u32 {
        self.slot.load(Ordering::Acquire)
    }

    pub(super) fn moves_to(&self, slot: u32) {
        self.slot.store(slot, Ordering::Release);
    }

    /// Tells everyone who waits the position of the version.
    pub(super) fn stands_at(&self, through: Position) {
        self.standing.send_if_modified(|standing| {
            std::mem::replace(&mut standing.through, through) != through
        });
    }

    /// Tells whether somebody waits for a position.
    pub(super) fn is_awaited(&self) -> bool {
        self.standing.receiver_count() > 0
    }

    pub(super) fn ended(&self) {
        self.standing.send_modify(|standing| standing.ended = true);
    }

    pub(super) fn through(&self) -> Position {
        self.standing.borrow().through
    }

    /// Returns the number of parked items, without waiting for anything.
    pub(super) fn parked_len(&self) -> usize {
        self.parked_len.load(Ordering::Relaxed)
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, ParkedSet> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_parked<R>(&self, change: impl FnOnce(&mut ParkedSet) -> R) -> R {
        let mut parked = self.parked();
        let result = change(&mut parked);
        self.parked_len.store(parked.len(), Ordering::Relaxed);
        result
    }

    /// Counts a failure of an event; how often it has failed.
    pub(super) fn failed(&self, position: Position, error: String) -> u32 {
        let mut suspects = self.suspects();
        let suspect = suspects.entry(position).or_default();
        suspect.attempts += 1;
        suspect.error = error;
        suspect.attempts
    }

    /// An event gives no answer, which is a failure of its own only when it has gone on for long.
    pub(super) fn hung(&self, position: Position, error: String, now: Timestamp) {
        let mut suspects = self.suspects();
        let suspect = suspects.entry(position).or_default();
        let since = *suspect.hangs_since.get_or_insert(now);
        suspect.attempts += u32::from(now.since(since) >= LOCK_WITHIN);
        suspect.error = error;
    }

    pub(super) fn suspect(&self, position: Position) -> Option<Suspect> {
        self.suspects().get(&position).cloned()
    }

    pub(super) fn cleared(&self, position: Position) {
        self.suspects().remove(&position);
    }

    fn suspects(&self) -> MutexGuard<'_, BTreeMap<Position, Suspect>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
