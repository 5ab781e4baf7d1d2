//! The rules: pure functions of what happened to one card within a window of time.

use std::collections::BTreeSet;
use std::time::Duration;

use leftfold::prelude::*;

/// One thing that happened to a card.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// When it happened, which may be long before it is known.
    pub(crate) at: Timestamp,
    pub(crate) position: Position,
    /// Amount and place of a payment; `None` for a failed login.
    pub(crate) paid: Option<(u32, String)>,
}

/// Rule about the events of a card within a period.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    within: Duration,
    breaks: fn(&[&Entry]) -> bool,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
/// The longest window.
const LONGEST: Duration = HOUR.saturating_mul(24);
/// Longest delay of an event: one that is older than the newest known event by more is not judged
/// any more.
pub(crate) const LATE_MAX: Duration = HOUR.saturating_mul(24);
/// Longest time that an entry can still be in a window, counted back from the newest one.
pub(crate) const KEPT: Duration = LONGEST.saturating_add(LATE_MAX);

pub(crate) const RULES: [Rule; 3] = [
    Rule {
        name: "five failed logins in ten minutes",
        within: HOUR.checked_div(6).unwrap(),
        breaks: |window| window.iter().filter(|entry| entry.paid.is_none()).count() >= 5,
    },
    Rule {
        name: "more than 1000.00 in a day",
        within: LONGEST,
        breaks: |window| {
            window
                .iter()
                .filter_map(|entry| entry.paid.as_ref())
                .map(|(cents, _)| u64::from(*cents))
                .sum::<u64>()
                > 100_000
        },
    },
    Rule {
        name: "two countries in an hour",
        within: HOUR,
        breaks: |window| {
            let countries =
                window.iter().filter_map(|entry| entry.paid.as_ref()).map(|(_, country)| country);
            countries.collect::<BTreeSet<_>>().len() > 1
        },
    },
];

/// The rules that are broken with what is new. What is late is in windows that ended since: each
/// that ends with an entry is looked at.
pub(crate) fn broken(known: &[Entry], new: &Entry) -> impl Iterator<Item = &'static Rule> {
    RULES.iter().filter(move |rule| {
        let end_of_all = new.at.plus(rule.within);
        let later =
            known.iter().map(|entry| entry.at).filter(|at| *at > new.at && *at < end_of_all);
        std::iter::once(new.at).chain(later).any(|end| {
            let is_in = |entry: &&Entry| entry.at > end.minus(rule.within) && entry.at <= end;
            let window: Vec<&Entry> = known.iter().filter(is_in).chain([new]).collect();
            (rule.breaks)(&window)
        })
    })
}

impl Rule {
    /// Between these moments another alert of the rule makes one at this moment needless: once in a
    /// window is enough.
    pub(crate) fn silence(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        (at.minus(self.within), at.plus(self.within))
    }
}
