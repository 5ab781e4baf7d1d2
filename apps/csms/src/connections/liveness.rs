//! Silence and its end. Any message counts, a WebSocket ping or pong too; each restarts a light
//! timer and writes nothing. Only the end of the silence, and the silence itself, are facts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::runtime::Countdowns;

use crate::Csms;
use crate::domain::station::{OfflineReason, StationCommand};

/// Stations that were heard of lately.
#[derive(Debug)]
pub struct Liveness {
    countdowns: Countdowns<String>,
    online: Mutex<HashSet<String>>,
    offline_after: Duration,
}

/// Kind of a sign of life: the first since the station was last offline, or a further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOfLife {
    /// The first one: it is recorded.
    First,
    /// A further one: it is not recorded.
    Further,
}

impl Liveness {
    /// Creates the state in which no station is online: the state before a restart is not assumed.
    #[must_use]
    pub fn new(offline_after: Duration) -> Self {
        Self { countdowns: Countdowns::new(), online: Mutex::default(), offline_after }
    }

    /// A station was heard of.
    #[must_use]
    pub fn heard(&self, station: &str) -> SignOfLife {
        self.countdowns.restart(station.to_owned(), self.offline_after);
        let mut online = self.online();
        if online.contains(station) {
            return SignOfLife::Further;
        }
        online.insert(station.to_owned());
        SignOfLife::First
    }

    /// Tells whether the station was heard of lately.
    #[must_use]
    pub fn is_online(&self, station: &str) -> bool {
        self.online().contains(station)
    }

    fn forget(&self, station: &str) {
        self.online().remove(station);
    }

    fn online(&self) -> MutexGuard<'_, HashSet<String>> {
        self.online.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that a station was heard of after a silence.
pub(crate) async fn come_online(csms: &Csms, station: &str) {
    let at = Timestamp::now();
    match csms.stations.execute(station, StationCommand::MarkOnline { at }).await {
        Ok(_) => csms.look_again(),
        Err(error) => {
            // The next sign of life tries again.
            tracing::error!(station, %error, "that the station is online could not be recorded");
            csms.liveness.forget(station);
        }
    }
}

// ANCHOR: silence
/// Records silence, station by station, until the process ends.
pub async fn watch_for_silence(csms: Arc<Csms>) {
    loop {
        let station = csms.liveness.countdowns.expired().await;
        csms.liveness.forget(&station);
        tracing::info!(station, "nothing was heard of the station for too long");
        let offline =
            StationCommand::MarkOffline { at: Timestamp::now(), reason: OfflineReason::Silent };
        if let Err(error) = csms.stations.execute(&station, offline).await {
            tracing::error!(station, %error, "that the station is offline could not be recorded; trying again");
            csms.liveness.countdowns.restart(station, csms.liveness.offline_after);
            continue;
        }
        // It may have been heard of while this was recorded.
        if csms.liveness.is_online(&station) {
            come_online(&csms, &station).await;
        }
    }
}
// ANCHOR_END: silence
