//! What a station reports of its connectors and transactions.

use super::{CONNECTORS_MAX, OPEN_TRANSACTIONS_MAX, Station, StationEvent, StationRefusal};
use crate::domain::connector::StatusChanged;
use crate::domain::request::RemoteStart;
use crate::domain::transaction::{Transaction, TransactionStarted, TransactionStopped};
use crate::ocpp::v16::TransactionId;

/// The folds.
impl Station {
    pub(super) fn started(&mut self, started: &TransactionStarted) {
        if let Some(before) = self.superseded_by(started)
            && let Some(transaction) = self.transactions.get_mut(&before.value())
        {
            transaction.superseded = true;
        }
        let transaction = Transaction::from(started);
        if self.connectors.len() < CONNECTORS_MAX
            || self.connectors.contains_key(&started.connector_id)
        {
            self.connectors.entry(started.connector_id).or_default().started(&transaction);
        }
        let remote_start = self
            .remote_starts
            .iter_mut()
            .find(|start| Some(&start.asked.request) == started.remote_start.as_ref());
        if let Some(remote_start) = remote_start {
            remote_start.transaction = Some(started.transaction_id);
            if let Some(profile) = &remote_start.asked.charging_profile {
                let at = started.received_at;
                self.operations.change().profiles.install(started.connector_id, profile, at);
            }
        }
        self.use_reservation(started);
        self.transactions.insert(started.transaction_id.value(), transaction);
        if self.transactions.len() > OPEN_TRANSACTIONS_MAX
            && let Some(oldest) =
                self.transactions.values().find(|t| t.superseded).map(|t| t.id.value())
        {
            self.transactions.remove(&oldest);
        }
        self.forget_finished_remote_starts(started.received_at);
    }

    pub(super) fn stopped(&mut self, stopped: &TransactionStopped) {
        let Some(transaction) = stopped.transaction_id.and_then(|id| self.transactions.remove(&id))
        else {
            return;
        };
        if let Some(connector) = self.connectors.get_mut(&transaction.connector_id) {
            connector.stopped(transaction.id);
        }
        if self.operations.profiles.has_of_transaction(transaction.connector_id) {
            let (connector_id, id) = (transaction.connector_id, transaction.id.value());
            self.operations.change().profiles.transaction_ended(connector_id, id);
        }
    }
}

/// The decisions.
impl Station {
    pub(super) fn decide_status(
        &self,
        report: &StatusChanged,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        match self.connectors.get(&report.connector_id) {
            Some(connector) if !connector.is_news(report) => Ok(Vec::new()),
            None if self.connectors.len() >= CONNECTORS_MAX => {
                Err(StationRefusal::TooManyConnectors { connectors_max: CONNECTORS_MAX })
            }
            _ => Ok(vec![StationEvent::StatusChanged(report.clone())]),
        }
    }

    pub(super) fn decide_start(&self, started: &TransactionStarted) -> Vec<StationEvent> {
        if self.running_as(started).is_some() {
            return Vec::new();
        }
        let led_to = |start: &&RemoteStart| {
            start.may_have_led_to(
                started.connector_id,
                &started.id_tag,
                started.timestamp,
                started.received_at,
            )
        };
        // One that named this connector is likelier than one that left the choice to the station.
        let mut candidates: Vec<_> = self.remote_starts.iter().filter(led_to).collect();
        candidates.sort_by_key(|start| start.asked.connector_id.is_none());
        let remote_start = candidates.first().map(|start| start.asked.request.clone());
        vec![StationEvent::TransactionStarted(TransactionStarted {
            remote_start,
            ..started.clone()
        })]
    }

    pub(super) fn decide_stop(&self, stopped: &TransactionStopped) -> Vec<StationEvent> {
        let is_open = stopped.transaction_id.is_some_and(|id| self.transactions.contains_key(&id));
        let stopped = stopped.clone();
        vec![if is_open {
            StationEvent::TransactionStopped(stopped)
        } else {
            StationEvent::UnmatchedStopReported(stopped)
        }]
    }

    /// Returns the open transaction that a report of a start is about, if the start was reported
    /// before.
    #[must_use]
    pub(crate) fn running_as(&self, started: &TransactionStarted) -> Option<&Transaction> {
        self.transactions
            .values()
            .find(|transaction| !transaction.superseded && started.is_same_start(transaction))
    }

    /// Returns the transaction that a start on its connector supersedes: its stop was lost, or
    /// comes late.
    #[must_use]
    pub(crate) fn superseded_by(&self, started: &TransactionStarted) -> Option<TransactionId> {
        self.connectors.get(&started.connector_id)?.transaction
    }
}
