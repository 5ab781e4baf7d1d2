//! Departures of stations from the specification, in memory: counted by message and place, so that
//! people see what a station's firmware does wrong. Events keep those of what they record.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use leftfold::prelude::Timestamp;

use crate::ocpp::reading::Violation;

/// Stations whose violations are kept at most.
const STATIONS_MAX: usize = 20_000;
/// Kinds of violations that are kept of a station at most.
const KINDS_MAX: usize = 64;

/// Violations of all stations that were connected here.
#[derive(Debug, Default)]
pub(crate) struct ViolationLog(Mutex<HashMap<String, KindsOfViolation>>);

/// Violations of a station by message, place and kind.
type KindsOfViolation = BTreeMap<(String, String, String), CountedViolation>;

/// Violation of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CountedViolation {
    /// Number of times.
    pub(crate) count: u64,
    /// Moment of the first one since the server has started.
    pub(crate) first_at: Timestamp,
    /// Moment of the last one.
    pub(crate) last_at: Timestamp,
}

/// Violation of one kind, with its message and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListedViolation {
    /// Message that it is in: an action, with `.conf` if it is an answer.
    pub(crate) message: String,
    /// Place in the message, without the numbers of elements.
    pub(crate) path: String,
    /// Kind, for people.
    pub(crate) kind: String,
    /// Its count and times.
    pub(crate) counted: CountedViolation,
}

impl ViolationLog {
    /// Counts the violations of a message.
    pub(crate) fn note<'a>(
        &self,
        station: &str,
        message: &str,
        violations: impl IntoIterator<Item = &'a Violation>,
    ) {
        let mut violations = violations.into_iter().peekable();
        if violations.peek().is_none() {
            return;
        }
        let (mut stations, now) = (self.stations(), Timestamp::now());
        if stations.len() >= STATIONS_MAX && !stations.contains_key(station) {
            return;
        }
        let kinds = stations.entry(station.to_owned()).or_default();
        for violation in violations {
            let key = (message.to_owned(), place(&violation.path), violation.kind.to_string());
            if let Some(counted) = kinds.get_mut(&key) {
                (counted.count, counted.last_at) = (counted.count + 1, now);
            } else if kinds.len() < KINDS_MAX {
                kinds.insert(key, CountedViolation { count: 1, first_at: now, last_at: now });
            }
        }
    }

    /// Returns the violations of a station, the latest first.
    #[must_use]
    pub(crate) fn of(&self, station: &str) -> Vec<ListedViolation> {
        let stations = self.stations();
        let listed = stations.get(station).into_iter().flatten().map(|(key, counted)| {
            let (message, path, kind) = key.clone();
            ListedViolation { message, path, kind, counted: counted.clone() }
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by_key(|violation| std::cmp::Reverse(violation.counted.last_at));
        listed
    }

    fn stations(&self) -> MutexGuard<'_, HashMap<String, KindsOfViolation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a path without the numbers of elements.
fn place(path: &str) -> String {
    let mut within = false;
    let kept = |character: &char| {
        let is_end = *character == ']';
        let is_kept = !within || is_end;
        within = (within || *character == '[') && !is_end;
        is_kept
    };
    path.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocpp::reading::ViolationKind;

    #[test]
    fn violations_of_a_kind_are_counted_whatever_element_they_are_in_and_are_bounded() {
        let log = ViolationLog::default();
        let violation = |path: String| Violation { path, kind: ViolationKind::Missing };
        for number in 0..200 {
            log.note("CP", "MeterValues", &[violation(format!("meterValue[{number}].unit"))]);
        }
        let listed = log.of("CP");
        assert_eq!((listed.len(), listed[0].counted.count), (1, 200));
        assert_eq!(listed[0].path, "meterValue[].unit");
        for number in 0..200 {
            log.note("CP", "MeterValues", &[violation(format!("extra{number}"))]);
        }
        assert_eq!(log.of("CP").len(), KINDS_MAX);
        assert_eq!(log.of("OTHER"), []);
    }
}
