//! Silence and its end. Any message counts, a WebSocket ping or pong too; each restarts a light
//! timer and writes nothing. Only the end of the silence, and the silence itself, are facts.

use std::sync::Arc;

use leftfold::prelude::Timestamp;

use crate::app::Csms;
use crate::domain::station::{OfflineReason, StationCommand};

/// Records that a station was heard of after a silence.
pub(super) async fn come_online(csms: &Csms, station: &str) {
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
pub(crate) async fn watch_for_silence(csms: Arc<Csms>) {
    loop {
        let station = csms.liveness.silent().await;
        tracing::info!(station, "nothing was heard of the station for too long");
        let offline =
            StationCommand::MarkOffline { at: Timestamp::now(), reason: OfflineReason::Silent };
        if let Err(error) = csms.stations.execute(&station, offline).await {
            tracing::error!(station, %error, "that the station is offline could not be recorded; trying again");
            csms.liveness.restart(station);
            continue;
        }
        // It may have been heard of while this was recorded.
        if csms.liveness.is_online(&station) {
            come_online(&csms, &station).await;
        }
    }
}
// ANCHOR_END: silence
