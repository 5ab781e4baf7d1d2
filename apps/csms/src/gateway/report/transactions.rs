//! The start and the stop of transactions.

use leftfold::fold::LoadError;
use leftfold::prelude::{Aggregate, Position, StreamName};
use leftfold::store::{CommandId, EventType, Query, Read};

use super::{Confirmed, ReportError, StationReport};
use crate::domain::meter::{reported_tag, transaction_tag};
use crate::domain::moment;
use crate::domain::station::{Station, StationCommand, StationEvent};
use crate::domain::transaction::{
    Transaction, TransactionAdopted, TransactionStarted, TransactionStopped,
};
use crate::ocpp::v16::{Confirmation, StartTransaction, StopTransaction, TransactionId};

/// Times that a start is decided on at most, if the station reports on two connections at once.
const START_TRIES: usize = 3;

impl StationReport<'_> {
    pub(super) async fn start(&self, start: StartTransaction) -> Confirmed {
        let id_tag = start.id_tag.unwrap_or_default();
        let info = self.tag(&id_tag).await?;
        let started = TransactionStarted {
            transaction_id: self.free_number().await?,
            connector_id: start.connector_id.unwrap_or(0),
            id_tag,
            parent_id_tag: info.parent_id_tag.as_ref().map(|parent| parent.as_str().to_owned()),
            authorization: info.status,
            meter_start_wh: start.meter_start,
            timestamp: start.timestamp.map(moment),
            received_at: self.now,
            reservation_id: start.reservation_id,
            remote_start: None,
            late: false,
            possible_repeat_of: None,
        };
        for _ in 0..START_TRIES {
            let events = self.execute(StationCommand::ReportStart(started.clone()), None).await?;
            let recorded = events.into_iter().find_map(|event| match event {
                StationEvent::TransactionStarted(started) => Some(started),
                _ => None,
            });
            if let Some(recorded) = recorded {
                if recorded.remote_start.is_some() {
                    self.csms.look_again();
                }
                let (transaction_id, id_tag_info) = (recorded.transaction_id, info);
                return Ok(Confirmation::StartTransaction { transaction_id, id_tag_info });
            }
            // It was reported before, unless that transaction has stopped since.
            let known = self.csms.stations.load(self.station).await?.state;
            if let Some(transaction) = known.repeated_start(&started) {
                let (transaction_id, id_tag_info) = (transaction.id, info);
                return Ok(Confirmation::StartTransaction { transaction_id, id_tag_info });
            }
        }
        Err(ReportError::NoSuchStart)
    }

    pub(super) async fn stop(&self, stop: StopTransaction) -> Confirmed {
        let stopped = TransactionStopped {
            transaction_id: stop.transaction_id,
            reported_id: None,
            guessed: false,
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
        // Of a report that names no transaction only the station's state tells if it came again.
        let named = stopped.transaction_id.filter(|id| *id > 0);
        let id = named.map(|_| {
            let scope = format!("ocpp/{}/StopTransaction", self.station);
            CommandId::new(&scope, &stopped.natural_key())
        });
        let adopt_as = match named {
            Some(said) => self.number_for_foreign(said).await?,
            None => None,
        };
        self.execute(StationCommand::ReportStop { stopped, adopt_as }, id).await?;
        Ok(Confirmation::StopTransaction { id_tag_info })
    }

    /// Returns the id that we know a transaction by of which a station reports meter values, and
    /// takes one over that began under another backend.
    pub(super) async fn transaction_of_values(
        &self,
        connector_id: Option<u32>,
        said: Option<i64>,
    ) -> Result<Option<i64>, ReportError> {
        let Some(said) = said else { return Ok(None) };
        let known = self.csms.stations.load(self.station).await?.state;
        let open = match said {
            ..=0 => connector_id.and_then(|connector| known.running_on(connector)),
            said => known.transaction_named(said),
        };
        if let Some(transaction) = open {
            return Ok(Some(transaction.id.value()));
        }
        if said <= 0 {
            return Ok(Some(said));
        }
        if let Some(id) = self.began_here(said).await? {
            return Ok(Some(id));
        }
        let transaction_id = self.free_number().await?;
        let adopted = TransactionAdopted {
            transaction_id,
            reported_id: said,
            connector_id: connector_id.unwrap_or(0),
            received_at: self.now,
        };
        self.execute(StationCommand::ReportForeign(adopted), None).await?;
        let known = self.csms.stations.load(self.station).await?.state;
        Ok(Some(known.transaction_named(said).map_or(said, |transaction| transaction.id.value())))
    }

    /// Returns a free number for the transaction that a stop names, if it began under another
    /// backend.
    async fn number_for_foreign(&self, said: i64) -> Result<Option<TransactionId>, ReportError> {
        let known = self.csms.stations.load(self.station).await?.state;
        if known.transaction_named(said).is_some() || self.began_here(said).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(self.free_number().await?))
    }

    /// Returns a number for a transaction, which the station uses for no other one.
    async fn free_number(&self) -> Result<TransactionId, ReportError> {
        loop {
            let number = self.csms.transaction_numbers.next().await?;
            let known = self.csms.stations.load(self.station).await?.state;
            let is_used = |it: &Transaction| it.reported_id == Some(number.value());
            if !known.transactions.values().any(is_used) {
                return Ok(number);
            }
        }
    }

    /// Returns the id of a transaction of the station, running or not, by the id that the station
    /// uses; `None` if it neither had it from us, nor was taken over before.
    async fn began_here(&self, said: i64) -> Result<Option<i64>, ReportError> {
        let stream = StreamName::of(Station::CATEGORY, self.station).map_err(LoadError::from)?;
        let beginnings = ["station.TransactionStarted", "station.TransactionAdopted"];
        let beginnings = beginnings.map(EventType::new).into_iter().collect::<Result<Vec<_>, _>>();
        let beginnings = beginnings.map_err(LoadError::from)?;
        for tag in [transaction_tag(said), reported_tag(said)] {
            let query = Query::stream(stream.clone()).and_tag(tag).of_types(&beginnings);
            let read = Read::matching(query, Position::END).backwards();
            let Some(event) = self.csms.store.read(read).next().await.map_err(LoadError::from)?
            else {
                continue;
            };
            let decoded = self.csms.stations.decode(&event).map_err(LoadError::from)?;
            let id = decoded.into_iter().find_map(|event| match event {
                StationEvent::TransactionStarted(started) => Some(started.transaction_id),
                StationEvent::TransactionAdopted(adopted) if adopted.reported_id == said => {
                    Some(adopted.transaction_id)
                }
                _ => None,
            });
            if let Some(id) = id {
                return Ok(Some(id.value()));
            }
        }
        Ok(None)
    }
}
