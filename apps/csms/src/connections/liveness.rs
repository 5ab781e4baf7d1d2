//! Signs of life of the stations. Each restarts a light timer in memory and writes nothing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold::runtime::Countdowns;

/// Stations that were heard of lately.
#[derive(Debug)]
pub(crate) struct Liveness {
    countdowns: Countdowns<String>,
    online: Mutex<HashSet<String>>,
    offline_after: Duration,
}

/// Kind of a sign of life: the first since the station was last offline, or a further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignOfLife {
    /// The first one: it is recorded.
    First,
    /// A further one: it is not recorded.
    Further,
}

impl Liveness {
    /// Creates the state in which no station is online: the state before a restart is not assumed.
    #[must_use]
    pub(crate) fn new(offline_after: Duration) -> Self {
        Self { countdowns: Countdowns::new(), online: Mutex::default(), offline_after }
    }

    /// A station was heard of, and may be silent for so long.
    #[must_use]
    pub(crate) fn heard(&self, station: &str, silent_for: Duration) -> SignOfLife {
        self.countdowns.restart(station.to_owned(), silent_for);
        let mut online = self.online();
        if online.contains(station) {
            return SignOfLife::Further;
        }
        online.insert(station.to_owned());
        SignOfLife::First
    }

    /// Tells whether the station was heard of lately.
    #[must_use]
    pub(crate) fn is_online(&self, station: &str) -> bool {
        self.online().contains(station)
    }

    /// Waits until a station was silent for too long: it is not online any more.
    pub(crate) async fn silent(&self) -> String {
        let station = self.countdowns.expired().await;
        self.forget(&station);
        station
    }

    /// Starts the countdown to the silence of a station, or starts it again.
    pub(crate) fn restart(&self, station: String) {
        self.countdowns.restart(station, self.offline_after);
    }

    /// Has the next sign of life of a station count as its first.
    pub(crate) fn forget(&self, station: &str) {
        self.online().remove(station);
    }

    fn online(&self) -> MutexGuard<'_, HashSet<String>> {
        self.online.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
