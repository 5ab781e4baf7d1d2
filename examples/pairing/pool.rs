//! The pool of one article: halves that wait, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matching::Matching;

/// Prices that differ by no more are the same price.
pub(crate) const TOLERANCE_CENTS: u32 = 5;
/// Halves that wait at once for one article. A feed that is faster has to wait.
pub(crate) const WAITING_MAX: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Side {
    Bought,
    Sold,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Bought => Self::Sold,
            Self::Sold => Self::Bought,
        }
    }
}

/// One side's report of a trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Half {
    /// Its text is shared by all that name it in a pool: each command copies the pool, and then
    /// copies no text.
    pub(crate) id: ByteString,
    pub(crate) side: Side,
    pub(crate) cents: u32,
    /// `None` if the reporter forgot it.
    pub(crate) pieces: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CorrectionAsked {
    pub(crate) half: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PoolEvent {
    Arrived {
        half: Half,
    },
    /// The intent of the effect that asks the correcting component.
    CorrectionAsked(CorrectionAsked),
    Corrected {
        half: String,
        pieces: u32,
    },
    /// Its time is up, but its likely partner is being corrected.
    Held {
        half: String,
        partner: String,
    },
    Paired {
        one: String,
        other: String,
    },
    Discarded {
        half: String,
        why: String,
    },
}

impl Event for PoolEvent {
    const NAMESPACE: &'static str = "pool";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Feed {
    Arrive { half: Half },
    Correct { half: String, pieces: u32 },
    GiveUpCorrecting { half: String, why: String },
    TimeIsUp { half: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum PoolRefusal {
    #[error("{waiting} halves wait already, report it again when some of them are gone")]
    Full { waiting: usize },
}

// ANCHOR: pool
/// The halves of one article that have no partner yet. Those that are gone leave nothing here: that
/// one comes again is known by the id of its command, which the store remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) waiting: BTreeMap<ByteString, Half>,
    /// Those with pieces, and who is to be whose partner.
    pub(crate) matching: Matching,
    /// Those without, by price.
    incomplete: BTreeSet<ByPrice>,
    /// Their time is up; each is held for a partner. By price.
    held: BTreeSet<ByPrice>,
}

type ByPrice = (Side, u32, ByteString);
// ANCHOR_END: pool

impl Aggregate for Pool {
    const CATEGORY: &'static str = "pool";
    type Event = PoolEvent;
    type Command = Feed;
    type Refusal = PoolRefusal;

    fn apply(&mut self, event: &PoolEvent) {
        match event.clone() {
            PoolEvent::Arrived { half } => self.enter(half),
            PoolEvent::CorrectionAsked(_) => {}
            PoolEvent::Corrected { half, pieces } => {
                if let Some(half) = self.leave(&half) {
                    self.enter(Half { pieces: Some(pieces), ..half });
                }
            }
            PoolEvent::Held { half, .. } => {
                if let Some(Half { side, cents, id, .. }) = self.waiting.get(half.as_str()).cloned()
                {
                    self.held.insert((side, cents, id));
                }
            }
            PoolEvent::Paired { one, other } => {
                [one, other].iter().for_each(|half| _ = self.leave(half))
            }
            PoolEvent::Discarded { half, .. } => _ = self.leave(&half),
        }
    }

    fn decide(&self, command: &Feed) -> Result<Vec<PoolEvent>, PoolRefusal> {
        Ok(match command.clone() {
            Feed::Arrive { half } if self.waiting.contains_key(&half.id) => Vec::new(),
            Feed::Arrive { .. } if self.waiting.len() >= WAITING_MAX => {
                return Err(PoolRefusal::Full { waiting: self.waiting.len() });
            }
            Feed::Arrive { half } if half.pieces.is_none() => {
                let asked = CorrectionAsked { half: half.id.to_string() };
                vec![PoolEvent::Arrived { half }, PoolEvent::CorrectionAsked(asked)]
            }
            Feed::Arrive { half } => vec![PoolEvent::Arrived { half }],
            Feed::Correct { half: id, pieces } => match self.waiting.get(id.as_str()) {
                Some(half) => self.and_those_held(half, PoolEvent::Corrected { half: id, pieces }),
                None => Vec::new(),
            },
            Feed::GiveUpCorrecting { half: id, why } => match self.waiting.get(id.as_str()) {
                Some(half) => self.and_those_held(half, PoolEvent::Discarded { half: id, why }),
                None => Vec::new(),
            },
            Feed::TimeIsUp { half } => self.time_is_up(&half).into_iter().collect(),
        })
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(10_000)
    }
}

impl Pool {
    fn enter(&mut self, half: Half) {
        match half.pieces {
            Some(_) => self.matching.enter(&half),
            None => _ = self.incomplete.insert((half.side, half.cents, half.id.clone())),
        }
        self.waiting.insert(half.id.clone(), half);
    }

    fn leave(&mut self, id: &str) -> Option<Half> {
        let half = self.waiting.remove(id)?;
        let by_price = (half.side, half.cents, half.id.clone());
        self.incomplete.remove(&by_price);
        self.held.remove(&by_price);
        self.matching.leave(&half);
        Some(half)
    }

    // ANCHOR: time-is-up
    /// Decides about a half whose time is up.
    fn time_is_up(&self, id: &str) -> Option<PoolEvent> {
        // One that is being corrected has time until that is over.
        let half = self.waiting.get(id).filter(|half| half.pieces.is_some())?;
        if let Some(partner) = self.matching.partner(half) {
            return Some(PoolEvent::Paired { one: id.to_owned(), other: partner.to_owned() });
        }
        match near(&self.incomplete, half).next() {
            Some(_)
                if near(&self.held, &Half { side: half.side.other(), ..half.clone() })
                    .any(|held| held == id) =>
            {
                None
            }
            Some(likely) => {
                Some(PoolEvent::Held { half: id.to_owned(), partner: likely.to_owned() })
            }
            None => Some(PoolEvent::Discarded {
                half: id.to_owned(),
                why: "nobody reported the other half".to_owned(),
            }),
        }
    }

    /// A correction came to its end; those that were held for it are looked at again.
    fn and_those_held(&self, corrected: &Half, event: PoolEvent) -> Vec<PoolEvent> {
        let mut pool = self.clone();
        pool.apply(&event);
        let mut events = vec![event];
        for half in near(&self.held, corrected) {
            if let Some(follows) = pool.time_is_up(half) {
                pool.apply(&follows);
                events.push(follows);
            }
        }
        events
    }
    // ANCHOR_END: time-is-up
}

/// Those of the other side at nearly the same price.
fn near<'a>(by_price: &'a BTreeSet<ByPrice>, half: &Half) -> impl Iterator<Item = &'a str> {
    let (side, most) = (half.side.other(), half.cents.saturating_add(TOLERANCE_CENTS));
    let from = (side, half.cents.saturating_sub(TOLERANCE_CENTS), ByteString::new());
    let near =
        by_price.range(from..).take_while(move |(of, cents, _)| *of == side && *cents <= most);
    near.map(|(.., id)| &**id)
}
