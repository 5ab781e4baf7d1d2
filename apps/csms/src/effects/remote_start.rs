//! A remote start.
//!
//! If its answer was lost it is in doubt. The proof that it took place is a transaction with its
//! tag, on its connector, in its time; the proof that it did not is a station that reports the
//! connector as available after that time. One gap remains: a station that started and stopped a
//! transaction while it was cut off, and reports its connector before its queued messages. Its
//! transaction is recorded all the same, without the reference to the remote start.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};
use tokio::time::timeout;

use super::{answered, doubt};
use crate::app::Csms;
use crate::connections::Called;
use crate::domain::request::{RemoteStartRequested, StationAnswer};
use crate::domain::station::{Station, StationCommand};
use crate::ocpp::v16::{
    CentralRequest, ChargePointStatus, MessageTrigger, StationConfirmation, TriggerMessageStatus,
};

/// Time that a station may take to send a report after it agreed to send it.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// Starts a transaction remotely.
pub(super) struct RemoteStartTransaction(pub(super) Arc<Csms>);

// ANCHOR: remote-start
impl Effect for RemoteStartTransaction {
    const NAME: &'static str = "remote-start";
    const INTENT: &'static str = "station.RemoteStartRequested";
    type Intent = RemoteStartRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    fn is_here(&self, intent: &RemoteStartRequested) -> bool {
        self.0.registry.is_connected(&intent.station)
    }

    async fn perform(&self, attempt: &Attempt<RemoteStartRequested>) -> Performed<StationAnswer> {
        let RemoteStartRequested { station, request, until, .. } = &attempt.intent;
        self.0.ask(station, request, &remote_start(&attempt.intent), *until).await
    }

    async fn resolve(&self, attempt: &Attempt<RemoteStartRequested>) -> Performed<StationAnswer> {
        let intent = &attempt.intent;
        if let Some(known) = self.0.late(&intent.request, &remote_start(intent)) {
            return known;
        }
        match self.0.started(intent).await {
            Some(performed) => performed,
            None => self.0.look(intent).await,
        }
    }

    fn report(
        &self,
        attempt: &Attempt<RemoteStartRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let RemoteStartRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeRemoteStart(answered(request, conclusion))))
    }
}
// ANCHOR_END: remote-start

impl Csms {
    /// Returns the proof that a remote start took place; `None` if there is none.
    async fn started(&self, intent: &RemoteStartRequested) -> Option<Performed<StationAnswer>> {
        let Ok(station) = self.stations.load(&intent.station).await else {
            return Some(doubt("the station cannot be loaded"));
        };
        station.state.result_of(&intent.request).map(|_| Performed::Done(StationAnswer::Accepted))
    }

    // ANCHOR: look
    /// Asks the station how the connector is, and concludes from that what can be.
    async fn look(&self, intent: &RemoteStartRequested) -> Performed<StationAnswer> {
        if Timestamp::now() < intent.until {
            return doubt("a transaction may still start");
        }
        let Some(mut reports) = self.registry.reports(&intent.station) else {
            return doubt("the station is not connected");
        };
        reports.mark_unchanged();
        let request = trigger_status(intent.connector_id);
        let called =
            self.registry.call(&intent.station, None, &request, self.config.call_timeout).await;
        if called
            != Called::Answered(StationConfirmation::TriggerMessage(TriggerMessageStatus::Accepted))
        {
            return doubt("the station does not say how its connector is");
        }
        if !matches!(
            timeout(REPORT_WITHIN.min(self.config.call_timeout), reports.changed()).await,
            Ok(Ok(()))
        ) {
            return doubt("the station did not send the report that it was asked for");
        }
        if let Some(proof) = self.started(intent).await {
            return proof;
        }
        let Ok(station) = self.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        let connectors = &station.state.connectors;
        let is_available = |id: u32| {
            let status = connectors.get(&id).and_then(|connector| connector.status());
            matches!(status, Some(ChargePointStatus::Available))
        };
        let all_available = match intent.connector_id {
            Some(connector_id) => is_available(connector_id.get()),
            None => connectors.keys().filter(|id| **id > 0).all(|id| is_available(*id)),
        };
        if all_available {
            let reason =
                "the station reports the connector as available, and no transaction has started"
                    .to_owned();
            return Performed::NotDone { reason };
        }
        doubt("the connector is in use, but by no transaction that was reported")
    }
    // ANCHOR_END: look
}

fn remote_start(intent: &RemoteStartRequested) -> CentralRequest {
    CentralRequest::RemoteStartTransaction {
        connector_id: intent.connector_id,
        id_tag: intent.id_tag.clone(),
        charging_profile: intent.charging_profile.clone(),
    }
}

fn trigger_status(connector_id: Option<NonZeroU32>) -> CentralRequest {
    CentralRequest::TriggerMessage {
        requested_message: MessageTrigger::StatusNotification,
        connector_id,
    }
}
