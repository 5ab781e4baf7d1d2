//! What the system asks of a station by itself after a start: its configuration, so that people see
//! it and decisions can rest on it, and the state of connectors whose transaction may be over.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::runtime::EffectId;

use crate::app::{Csms, StationPlace};
use crate::connections::Called;
use crate::domain::operation::StationOperation;
use crate::ocpp::v16::{CentralRequest, MessageTrigger};

/// Wait after a start before the station is asked; spread up to twice that, since after a power
/// failure many start at once.
const ASK_AFTER_BOOT: Duration = Duration::from_secs(2);
/// Time for which a configuration that was read is not read again: some stations start over and
/// over.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Time for which a station is not asked again that did not answer.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(120);
/// Connectors whose state is asked for after one start.
const STATES_ASKED_MAX: usize = 16;

/// Asks a station that has started for what is not known of it any more. A station that starts over
/// and over is asked once at a time.
pub(super) fn follow_up(csms: &Arc<Csms>, station: &str) {
    if let Some(place) = csms.state_places.take(station) {
        tokio::spawn(ask_for_states(csms.clone(), place));
    }
    if csms.config.reads_configuration
        && let Some(place) = csms.configuration_places.take(station)
    {
        tokio::spawn(read_configuration(csms.clone(), place));
    }
}

async fn wait_after_boot() {
    tokio::time::sleep(ASK_AFTER_BOOT.mul_f64(1.0 + fastrand::f64())).await;
}

/// Asks for the state of the connectors of which is not known if their transactions still run. Most
/// stations tell it by themselves.
async fn ask_for_states(csms: Arc<Csms>, place: StationPlace) {
    wait_after_boot().await;
    let station = &*place.station;
    let Ok(folded) = csms.stations.load(station).await else { return };
    let connectors = folded.state.connectors.iter();
    let restarted = connectors.filter(|(_, connector)| connector.has_restarted);
    for (id, _) in restarted.take(STATES_ASKED_MAX) {
        let request = CentralRequest::TriggerMessage {
            requested_message: MessageTrigger::StatusNotification,
            connector_id: NonZeroU32::new(*id),
        };
        let called = csms.registry.call(station, None, &request, csms.config.call_timeout).await;
        tracing::debug!(station, connector = id, ?called, "asked for the state after a start");
        if !matches!(called, Called::Answered(_)) {
            return;
        }
    }
}

/// Reads the configuration of a station that has started. The permits bound how many are read at a
/// time.
async fn read_configuration(csms: Arc<Csms>, mut place: StationPlace) {
    wait_after_boot().await;
    let Ok(_turn) = csms.configuration_readings.acquire().await else { return };
    let station = place.station.clone();
    if !csms.registry.is_connected(&station) {
        return;
    }
    let read_at = match csms.stations.load(&station).await {
        Ok(folded) => folded.state.operations.settings.read_at,
        Err(error) => {
            tracing::warn!(station, %error, "the configuration is not read");
            return;
        }
    };
    if read_at.is_some_and(|at| Timestamp::now().since(at) < READ_AGAIN_AFTER) {
        return;
    }
    place.rest_for(TRY_AGAIN_AFTER);
    let asked = csms.operate(&station, StationOperation::ReadSettings { keys: Vec::new() }).await;
    let position = match asked {
        Ok(executed) => executed.position,
        Err(error) => {
            tracing::debug!(station, %error, "the configuration is not read");
            return;
        }
    };
    if let Ok(consumers) = csms.consumers() {
        // It keeps its permit until the station has answered, or was given up.
        let within = 2 * csms.config.call_timeout;
        let ended = consumers.effects.wait(EffectId(position), within).await;
        tracing::debug!(station, ?ended, "asked for the configuration");
    }
}
