//! As many pairs as possible, kept while halves come and go: each change repairs the matching that
//! there was, so the work of an event depends on the halves near its price, and not on how many
//! wait or ever came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::pool::{Half, Side, TOLERANCE_CENTS};

/// Candidates that are looked at to find a partner for one half. Beyond that it waits without one
/// until another half of its neighbourhood comes, or its time is up.
pub(crate) const CANDIDATES_MAX: usize = 1_000;

/// The complete halves of a pool, and a largest matching of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Matching {
    /// By all criteria: side, pieces, cents. What can be matched with a half stands together.
    shelf: BTreeSet<Place>,
    /// The place of each half's partner, both ways.
    partners: BTreeMap<ByteString, Place>,
}

/// Side, pieces, cents and id of a complete half.
type Place = (Side, u32, u32, ByteString);

/// Result of looking for a partner.
pub(crate) struct Search {
    /// The pairs that are to be instead of those that were; empty if nobody more can be paired.
    pairs: Vec<(Place, Place)>,
    pub(crate) candidates: usize,
}

impl Matching {
    // ANCHOR: enter
    /// Takes a half in. A matching that was the largest is so again after one path along which
    /// partners are exchanged; if there is no such path it is the largest as it is (Berge).
    pub(crate) fn enter(&mut self, half: &Half) {
        let Some(place) = place(half) else { return };
        self.shelf.insert(place);
        for (one, other) in self.search(half).pairs {
            self.partners.insert(one.3.clone(), other.clone());
            self.partners.insert(other.3.clone(), one);
        }
    }

    /// Lets a half go, and its partner wait for another one. What remains is a largest matching of
    /// those that remain, if it had no partner, or took one whom it matches: the partner goes too
    /// then.
    pub(crate) fn leave(&mut self, half: &Half) {
        if let Some(place) = place(half) {
            self.shelf.remove(&place);
        }
        if let Some(partner) = self.partners.remove(&half.id) {
            self.partners.remove(&partner.3);
        }
    }
    // ANCHOR_END: enter

    /// Returns the partner with whom as many of the others as possible can still be paired. A half
    /// without one takes the partner of another half that it matches: the pairs are as many, and
    /// the other half has more time.
    pub(crate) fn partner<'a>(&'a self, half: &Half) -> Option<&'a str> {
        let partner = self.partners.get(&half.id);
        let partner = partner.or_else(|| self.candidates(&place(half)?).next());
        partner.map(|(.., id)| &**id)
    }

    /// Looks for a path from a half without partner to another one, breadth first.
    pub(crate) fn search(&self, half: &Half) -> Search {
        let mut search = Search { pairs: Vec::new(), candidates: 0 };
        let Some(start) = place(half) else { return search };
        let (mut reached_from, mut next) = (BTreeMap::new(), VecDeque::from([&start]));
        while let Some(one) = next.pop_front() {
            for other in self.candidates(one) {
                search.candidates += 1;
                if search.candidates > CANDIDATES_MAX {
                    return search;
                }
                if reached_from.contains_key(other) {
                    continue;
                }
                reached_from.insert(other, one);
                match self.partners.get(&other.3) {
                    Some(rival) => next.push_back(rival),
                    None => {
                        search.pairs = self.path(&reached_from, other, &start);
                        return search;
                    }
                }
            }
        }
        search
    }

    /// The pairs along the way back.
    fn path(
        &self,
        reached_from: &BTreeMap<&Place, &Place>,
        end: &Place,
        start: &Place,
    ) -> Vec<(Place, Place)> {
        let mut pairs = Vec::new();
        let mut other = Some(end);
        while let Some(to) = other
            && let Some(one) = reached_from.get(to)
        {
            pairs.push(((*one).clone(), to.clone()));
            other = if *one == start { None } else { self.partners.get(&one.3) };
        }
        pairs
    }

    fn candidates(&self, (side, pieces, cents, _): &Place) -> impl Iterator<Item = &Place> {
        let (side, pieces, most) = (side.other(), *pieces, cents.saturating_add(TOLERANCE_CENTS));
        let from = (side, pieces, cents.saturating_sub(TOLERANCE_CENTS), ByteString::new());
        self.shelf
            .range(from..)
            .take_while(move |place| (place.0, place.1) == (side, pieces) && place.2 <= most)
    }
}

/// `None` if it is incomplete.
fn place(half: &Half) -> Option<Place> {
    Some((half.side, half.pieces?, half.cents, half.id.clone()))
}
