//! What a station reports of its connectors.

use super::{CONNECTORS_MAX, Station, StationEvent, StationRefusal};
use crate::domain::connector::StatusChanged;
use crate::domain::transaction::{EndCause, TransactionEnded};
use crate::ocpp::v16::ChargePointStatus;

impl Station {
    pub(super) fn decide_status(
        &self,
        report: &StatusChanged,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        let Some(connector) = self.connectors.get(&report.connector_id) else {
            if self.connectors.len() >= CONNECTORS_MAX {
                return Err(StationRefusal::TooManyConnectors { connectors_max: CONNECTORS_MAX });
            }
            return Ok(vec![StationEvent::StatusChanged(report.clone())]);
        };
        // A status that says nothing new may still be new to the transaction.
        let ended = self.ended_by(report).map(StationEvent::TransactionEnded);
        let status = connector.is_news(report).then(|| StationEvent::StatusChanged(report.clone()));
        Ok(ended.into_iter().chain(status).collect())
    }

    /// Returns the end of the transaction on a connector, if a report shows that it is over. Its
    /// stop may still wait in the station's queue, since reports of state overtake those of
    /// transactions.
    fn ended_by(&self, report: &StatusChanged) -> Option<TransactionEnded> {
        let connector = self.connectors.get(&report.connector_id)?;
        let transaction = self.transactions.get(&connector.transaction?.value())?;
        if !connector.shows_the_end(report, transaction) {
            return None;
        }
        let cause = match report.status {
            ChargePointStatus::Preparing => EndCause::StationRestarted,
            _ => EndCause::ConnectorFree,
        };
        Some(TransactionEnded {
            transaction_id: transaction.id,
            connector_id: report.connector_id,
            cause,
            at: report.since(),
            concluded_at: report.received_at,
        })
    }
}
