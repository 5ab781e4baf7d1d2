//! What the system asks of a station by itself after a start: its configuration, so that people see
//! it and decisions can rest on it.

use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::runtime::EffectId;

use crate::app::Csms;
use crate::domain::operation::StationOperation;

/// Wait after a start before the station is asked; spread up to twice that, since after a power
/// failure many start at once.
const ASK_AFTER_BOOT: Duration = Duration::from_secs(2);
/// Time for which a configuration that was read is not read again: some stations start over and
/// over.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Reads the configuration of a station that has started. The permits bound how many are read at a
/// time.
pub(super) async fn read_configuration(csms: Arc<Csms>, station: String) {
    tokio::time::sleep(ASK_AFTER_BOOT.mul_f64(1.0 + fastrand::f64())).await;
    let Ok(_turn) = csms.configuration_readings.acquire().await else { return };
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
