//! Operations that are asked of a station, and what it reports of them.

use leftfold::prelude::Timestamp;

use super::{Station, StationEvent, StationRefusal};
use crate::domain::operation::{
    EquipmentReport, OPEN_OPERATIONS_MAX, OpenOperation, OperationAnswered, OperationRequested,
    OperationalState, ProfilePurpose, StationOperation,
};
use crate::domain::transaction::Transaction;
use crate::ocpp::v16::ChargePointStatus;

/// The folds.
impl Station {
    /// Takes in an event about operations.
    pub(super) fn operated(&mut self, event: &StationEvent) {
        let operations = self.operations.change();
        match event {
            StationEvent::OperationRequested(asked) => operations.requested(asked),
            StationEvent::OperationAnswered(answered) => {
                operations.answered(answered);
                self.access.answered(answered);
            }
            StationEvent::FirmwareReported(reported) => operations.firmware_reported(reported),
            StationEvent::UploadReported(reported) => operations.upload_reported(reported),
            StationEvent::SecurityEventReported(event) => operations.security.reported(event),
            StationEvent::CertificateRequested(asked) => {
                operations.certificates.requested = Some(asked.clone());
            }
            _ => {}
        }
    }
}

/// The decisions.
impl Station {
    pub(super) fn decide_operation(
        &self,
        asked: &OperationRequested,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        let under_way = |open: &&OpenOperation| open.asked.until >= asked.requested_at;
        if !self.known {
            return Err(StationRefusal::Unknown);
        }
        if self.operations.open.iter().filter(under_way).count() >= OPEN_OPERATIONS_MAX {
            return Err(StationRefusal::TooManyRequests);
        }
        if !asked.forced {
            self.reachable()?;
            self.accepts(&asked.operation)?;
        }
        let mut asked = asked.clone();
        if let StationOperation::SetChargingProfile { profile, .. } = &mut asked.operation {
            let known = profile.transaction_id.and_then(|id| self.transactions.get(&id));
            profile.transaction_id = known.map(Transaction::station_id).or(profile.transaction_id);
        }
        Ok(vec![StationEvent::OperationRequested(Box::new(asked))])
    }

    /// Checks an operation against the state of the station.
    fn accepts(&self, operation: &StationOperation) -> Result<(), StationRefusal> {
        match operation {
            StationOperation::ChangeAvailability { connector_id, .. }
            | StationOperation::ReadCompositeSchedule { connector_id, .. } => {
                self.has_connector(connector_id.get())?;
            }
            StationOperation::SetChargingProfile { connector_id, profile } => {
                self.has_connector(connector_id.get())?;
                let running = self.running_on(connector_id.get());
                if profile.purpose == ProfilePurpose::Transaction && connector_id.get() > 0 {
                    let named = profile.transaction_id;
                    let is_running =
                        running.is_some_and(|it| named.is_none_or(|named| named == it.id.value()));
                    if !is_running {
                        let transaction_id = named.unwrap_or_default();
                        return Err(StationRefusal::NotRunning { transaction_id });
                    }
                }
            }
            _ => {}
        }
        Ok(self.operations.check(operation)?)
    }

    fn has_connector(&self, connector_id: u32) -> Result<(), StationRefusal> {
        // Nothing is known of the connectors of a station that has just come.
        let is_known = connector_id == 0
            || self.connectors.keys().all(|id| *id == 0)
            || self.connectors.contains_key(&connector_id);
        is_known.then_some(()).ok_or(StationRefusal::UnknownConnector { connector_id })
    }

    /// Records an answer; settings that are known already are not repeated.
    pub(super) fn decide_conclusion(&self, answered: &OperationAnswered) -> Vec<StationEvent> {
        vec![StationEvent::OperationAnswered(Box::new(self.operations.concise(answered)))]
    }

    /// Records a report, unless it says what was said already.
    pub(super) fn decide_equipment(&self, report: &EquipmentReport) -> Vec<StationEvent> {
        let known = &self.operations;
        match report {
            EquipmentReport::Firmware(it) => {
                match known.firmware.repeats(it.status.as_str(), it.request_id) {
                    true => Vec::new(),
                    false => vec![StationEvent::FirmwareReported(it.clone())],
                }
            }
            EquipmentReport::Upload(it) => {
                let progress = if it.of_log { &known.log } else { &known.diagnostics };
                match progress.repeats(it.status.as_str(), it.request_id) {
                    true => Vec::new(),
                    false => vec![StationEvent::UploadReported(it.clone())],
                }
            }
            EquipmentReport::Security(it) if known.security.has(it) => Vec::new(),
            EquipmentReport::Security(it) => vec![StationEvent::SecurityEventReported(it.clone())],
            EquipmentReport::Certificate(it) => {
                vec![StationEvent::CertificateRequested(it.clone())]
            }
            EquipmentReport::Vendor(it) => vec![StationEvent::VendorMessageReceived(it.clone())],
        }
    }

    /// Returns the transaction that runs on a connector, by the id that the station knows, with the
    /// moment of its start; `None` for that if the station did not say.
    #[must_use]
    pub(crate) fn transaction_on(&self, connector_id: u32) -> Option<(i64, Option<Timestamp>)> {
        let transaction = self.running_on(connector_id)?;
        Some((transaction.station_id(), transaction.start.timestamp))
    }

    /// Tells whether what the station has reported since shows that an operation took place.
    #[must_use]
    pub(crate) fn proves(&self, asked: &OperationRequested) -> bool {
        let open = self.operations.open(&asked.request);
        if open.is_some_and(|open| open.is_proved) {
            return true;
        }
        let StationOperation::ChangeAvailability { connector_id, availability } = &asked.operation
        else {
            return false;
        };
        let connector = self.connectors.get(&connector_id.get());
        let report = connector.and_then(|connector| connector.report.as_ref());
        report.is_some_and(|report| {
            let is_out = report.status == ChargePointStatus::Unavailable;
            report.received_at > asked.requested_at
                && is_out == (*availability == OperationalState::Inoperative)
        })
    }
}
