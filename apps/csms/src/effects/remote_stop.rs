//! A remote stop.

use std::sync::Arc;

use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};

use super::{answered, doubt};
use crate::app::Csms;
use crate::domain::connector::Connector;
use crate::domain::request::{RemoteStopRequested, StationAnswer};
use crate::domain::station::{Station, StationCommand};
use crate::domain::transaction::Transaction;
use crate::ocpp::v16::{CentralRequest, TransactionId};

/// Stops a transaction remotely.
pub(super) struct RemoteStopTransaction(pub(super) Arc<Csms>);

impl Effect for RemoteStopTransaction {
    const NAME: &'static str = "remote-stop";
    const INTENT: &'static str = "station.RemoteStopRequested";
    type Intent = RemoteStopRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    fn is_here(&self, intent: &RemoteStopRequested) -> bool {
        self.0.registry.is_connected(&intent.station)
    }

    async fn perform(&self, attempt: &Attempt<RemoteStopRequested>) -> Performed<StationAnswer> {
        let RemoteStopRequested { station, request, until, .. } = &attempt.intent;
        self.0.ask(station, request, &remote_stop(&attempt.intent), *until).await
    }

    /// A transaction that has stopped, or ended on a connector on which nothing charges, is the
    /// proof. While it runs the station has not heard, or is about to stop.
    async fn resolve(&self, attempt: &Attempt<RemoteStopRequested>) -> Performed<StationAnswer> {
        let intent = &attempt.intent;
        if let Some(known) = self.0.late(&intent.request, &remote_stop(intent)) {
            return known;
        }
        let Ok(station) = self.0.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        let is_charging = |transaction: &Transaction| {
            let connector = station.state.connectors.get(&transaction.start.connector_id);
            transaction.ended_at.is_none() || connector.is_some_and(Connector::is_occupied)
        };
        let transaction = station.state.transactions.get(&intent.transaction_id.value());
        if transaction.is_some_and(is_charging) {
            return doubt(
                "the transaction has not stopped, and the station did not say whether it will",
            );
        }
        Performed::Done(StationAnswer::Accepted)
    }

    fn report(
        &self,
        attempt: &Attempt<RemoteStopRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let RemoteStopRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeRemoteStop(answered(request, conclusion))))
    }
}

fn remote_stop(intent: &RemoteStopRequested) -> CentralRequest {
    let theirs = intent.reported_id.and_then(|id| TransactionId::new(id).ok());
    CentralRequest::RemoteStopTransaction {
        transaction_id: theirs.unwrap_or(intent.transaction_id),
    }
}
