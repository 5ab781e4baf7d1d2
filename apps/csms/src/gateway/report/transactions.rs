//! The start and the stop of transactions.

use leftfold::store::CommandId;

use super::{Confirmed, ReportError, StationReport};
use crate::app::Csms;
use crate::domain::moment;
use crate::domain::station::{StationCommand, StationEvent};
use crate::domain::transaction::{TransactionStarted, TransactionStopped};
use crate::ocpp::v16::{Confirmation, IdTagInfo, StartTransaction, StopTransaction, TransactionId};

impl StationReport<'_> {
    pub(super) async fn start(&self, start: StartTransaction) -> Confirmed {
        let id_tag = start.id_tag.unwrap_or_default();
        let info = self.tag(&id_tag).await?;
        let started = TransactionStarted {
            transaction_id: self.csms.transaction_numbers.next().await?,
            connector_id: start.connector_id.unwrap_or(0),
            id_tag,
            parent_id_tag: info.parent_id_tag.as_ref().map(|parent| parent.as_str().to_owned()),
            authorization: info.status,
            meter_start_wh: start.meter_start,
            timestamp: start.timestamp.map(moment),
            received_at: self.now,
            reservation_id: start.reservation_id,
            remote_start: None,
        };
        let (csms, station, key) = (self.csms, self.station, started.natural_key());
        let id = key.map(|key| CommandId::new(&format!("ocpp/{station}/StartTransaction"), &key));
        let events = self.execute(StationCommand::ReportStart(started.clone()), id).await?;
        let recorded = events.into_iter().find_map(|event| match event {
            StationEvent::TransactionStarted(started) => Some(started),
            _ => None,
        });
        let (transaction_id, status) = match recorded {
            Some(recorded) => {
                if recorded.remote_start.is_some() {
                    csms.look_again();
                }
                (recorded.transaction_id, recorded.authorization)
            }
            None => (running(csms, station, &started).await?, info.status),
        };
        Ok(Confirmation::StartTransaction {
            transaction_id,
            id_tag_info: IdTagInfo { status, ..info },
        })
    }

    pub(super) async fn stop(&self, stop: StopTransaction) -> Confirmed {
        let stopped = TransactionStopped {
            transaction_id: stop.transaction_id,
            id_tag: stop.id_tag,
            meter_stop_wh: stop.meter_stop,
            timestamp: stop.timestamp.map(moment),
            received_at: self.now,
            reason: stop.reason,
            transaction_data: stop.transaction_data,
        };
        let id_tag_info = match &stopped.id_tag {
            Some(id_tag) => Some(self.tag(id_tag).await?),
            None => None,
        };
        let id = CommandId::new(
            &format!("ocpp/{}/StopTransaction", self.station),
            &stopped.natural_key(),
        );
        self.execute(StationCommand::ReportStop(stopped), Some(id)).await?;
        Ok(Confirmation::StopTransaction { id_tag_info })
    }
}

/// The transaction that a start was recognized as, although it has no key of its own.
async fn running(
    csms: &Csms,
    station: &str,
    started: &TransactionStarted,
) -> Result<TransactionId, ReportError> {
    let station = csms.stations.load(station).await?;
    station
        .state
        .running_as(started)
        .map(|transaction| transaction.id)
        .ok_or(ReportError::NoSuchStart)
}
