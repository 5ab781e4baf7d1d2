//! Silence and its end. Any message counts, a WebSocket ping or pong too; each restarts a light
//! timer and writes nothing. Only the end of the silence, and the silence itself, are facts.

use std::sync::Arc;

use leftfold::prelude::Timestamp;

use crate::app::Csms;
use crate::domain::station::{OfflineReason, StationCommand};
use crate::ocpp::v16::RegistrationStatus;

/// Records that a station was heard of on a new connection, if another server heard it before, or
/// none. Returns false if that could not be recorded.
pub(super) async fn connect(csms: &Csms, station: &str, generation: u64) -> bool {
    let connected = StationCommand::MarkConnected { at: Timestamp::now(), server: csms.server };
    match csms.stations.execute(station, connected).await {
        Ok(executed) => {
            csms.registry.recorded(station, generation, executed.version);
            if let Ok(folded) = csms.stations.load(station).await {
                let told = folded.state.told();
                csms.unaccepted.note(station, told == RegistrationStatus::Accepted);
            }
            csms.look_again();
            true
        }
        Err(error) => {
            tracing::error!(station, %error, "that the station is connected could not be recorded");
            csms.liveness.forget(station);
            false
        }
    }
}

/// Records that a station was heard of after a silence.
pub(super) async fn come_online(csms: &Csms, station: &str) {
    let online = StationCommand::MarkOnline { at: Timestamp::now(), server: csms.server };
    match csms.stations.execute(station, online).await {
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
        let (at, reason) = (Timestamp::now(), OfflineReason::Silent);
        let offline = StationCommand::MarkOffline { at, reason, heard_by: Some(csms.server) };
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
