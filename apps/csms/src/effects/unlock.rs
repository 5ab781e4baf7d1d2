//! The unlocking of a connector.

use std::sync::Arc;

use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};

use super::{answered, doubt};
use crate::app::Csms;
use crate::domain::request::{StationAnswer, UnlockRequested};
use crate::domain::station::{Station, StationCommand};
use crate::ocpp::v16::CentralRequest;

/// Unlocks a connector.
pub(super) struct UnlockConnector(pub(super) Arc<Csms>);

impl Effect for UnlockConnector {
    const NAME: &'static str = "unlock";
    const INTENT: &'static str = "station.UnlockRequested";
    type Intent = UnlockRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    fn is_here(&self, intent: &UnlockRequested) -> bool {
        self.0.registry.is_connected(&intent.station)
    }

    async fn perform(&self, attempt: &Attempt<UnlockRequested>) -> Performed<StationAnswer> {
        let UnlockRequested { station, request, connector_id, until } = &attempt.intent;
        self.0
            .ask(
                station,
                request,
                &CentralRequest::UnlockConnector { connector_id: *connector_id },
                *until,
            )
            .await
    }

    /// A station does not tell whether a connector is unlocked: only a late answer, or a person,
    /// can say.
    async fn resolve(&self, attempt: &Attempt<UnlockRequested>) -> Performed<StationAnswer> {
        let UnlockRequested { request, connector_id, .. } = &attempt.intent;
        let late =
            self.0.late(request, &CentralRequest::UnlockConnector { connector_id: *connector_id });
        late.unwrap_or_else(|| {
            doubt("a station does not tell whether a connector is unlocked; look, and say so")
        })
    }

    fn report(
        &self,
        attempt: &Attempt<UnlockRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let UnlockRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeUnlock(answered(request, conclusion))))
    }
}
