//! The stations that were told at their start that they are not accepted yet, in memory: every
//! message of a station is held against it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Stations that are connected here and are not accepted.
#[derive(Debug, Default)]
pub(crate) struct UnacceptedStations(Mutex<HashSet<String>>);

impl UnacceptedStations {
    /// Notes if a station is accepted, by what it was told when it started last.
    pub(crate) fn note(&self, station: &str, is_accepted: bool) {
        let mut unaccepted = self.stations();
        if is_accepted {
            unaccepted.remove(station);
        } else {
            unaccepted.insert(station.to_owned());
        }
    }

    /// Tells whether a station is not accepted.
    #[must_use]
    pub(crate) fn has(&self, station: &str) -> bool {
        self.stations().contains(station)
    }

    fn stations(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
