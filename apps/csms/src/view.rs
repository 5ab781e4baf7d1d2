//! A read model in memory: all stations and the transactions, folded from the log, for lists and the dashboard.
//!
//! It is made anew at every start and follows the log. What it says is a moment old; [`View::reached`] waits until it
//! has caught up with a position. Bounds: every station is kept, and every transaction that runs; of the others, which
//! have stopped or were superseded, the newest [`CLOSED_MAX`]. What is older is in the log.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use leftfold::fold::{EventError, Schema};
use leftfold::prelude::{Aggregate, Position, Store, Timestamp, Unknown};
use leftfold::store::{ReadError, RecordedEvent, Signal, Subscription};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::domain::meter::MeterEvent;
use crate::domain::station::{Station, StationEvent};
use crate::domain::transaction::{Started, Stopped};
use crate::ocpp::v16::{MeterValue, TransactionId, energy_active_import_register_wh};

/// Transactions that are kept though they do not run.
pub const CLOSED_MAX: usize = 50_000;
/// How long a caller waits for the view to catch up.
const REACH_WITHIN: Duration = Duration::from_secs(2);

/// Why the view cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// What is recorded is not what is expected.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The read model.
#[derive(Debug)]
pub struct View {
    model: RwLock<Model>,
    through: watch::Sender<Position>,
}

/// What it holds.
#[derive(Debug, Default)]
pub struct Model {
    /// The stations by identity.
    pub stations: BTreeMap<String, StationRow>,
    /// The transactions by id.
    pub transactions: BTreeMap<i64, TransactionRow>,
    closed: usize,
}

/// A station.
#[derive(Clone, Debug, Default)]
pub struct StationRow {
    /// What is known of it.
    pub state: Station,
    /// How many events it has.
    pub version: u64,
    /// When the last of them was recorded.
    pub changed_at: Option<Timestamp>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionRow {
    /// Where.
    pub station: String,
    /// How it started.
    pub started: Started,
    /// How it stopped.
    pub stopped: Option<Stopped>,
    /// Another one started on its connector, and nothing was heard of its stop: that was lost, or will come late.
    pub superseded: bool,
    /// The latest reading of the energy register, in Wh, and when it was read.
    pub register_wh: Option<(Timestamp, i64)>,
    /// How many messages with meter values there were.
    pub meter_messages: u64,
}

impl TransactionRow {
    /// A transaction of which only the start is known.
    #[must_use]
    pub fn new(station: &str, started: Started) -> Self {
        let station = station.to_owned();
        Self { station, started, stopped: None, superseded: false, register_wh: None, meter_messages: 0 }
    }

    /// Whether it goes on, as far as is known.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.stopped.is_none() && !self.superseded
    }

    /// Takes a report of its stop. The first one counts; a late one ends a superseded transaction too.
    pub fn stop(&mut self, stopped: Stopped) {
        if self.stopped.is_none() {
            (self.stopped, self.superseded) = (Some(stopped), false);
        }
    }

    /// Takes a message with meter values.
    pub fn read_meter(&mut self, values: &[MeterValue]) {
        self.meter_messages += 1;
        let reading = energy_active_import_register_wh(values).map(|(at, wh)| (crate::domain::moment(at), wh));
        self.register_wh = self.register_wh.max(reading);
    }

    /// The energy so far, in Wh.
    #[must_use]
    pub fn energy_wh(&self) -> Option<i64> {
        let stop = self.stopped.as_ref().and_then(|stopped| stopped.meter_stop_wh);
        let end = stop.or_else(|| self.register_wh.map(|(_, wh)| wh))?;
        Some(end.saturating_sub(self.started.meter_start_wh?))
    }
}

impl View {
    /// Folds everything that is recorded, and follows what comes.
    pub async fn follow(store: &Store) -> Result<Arc<Self>, ViewError> {
        let schemas = Schemas { stations: Schema::of::<StationEvent>()?, meters: Schema::of::<MeterEvent>()? };
        let query = schemas.stations.query().or(schemas.meters.query());
        let mut subscription = store.subscribe(query, Position::START);
        let view = Arc::new(Self { model: RwLock::default(), through: watch::Sender::new(Position::START) });
        while let Some(signal) = view.step(&mut subscription, &schemas).await? {
            if let Signal::CaughtUp(_) = signal {
                break;
            }
        }
        let following = view.clone();
        tokio::spawn(async move {
            loop {
                match following.step(&mut subscription, &schemas).await {
                    Ok(_) => {}
                    Err(ViewError::Read(ReadError::Closed)) => return,
                    Err(error) => {
                        tracing::error!(%error, "lists and the dashboard stand still until the next try");
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                }
            }
        });
        Ok(view)
    }

    async fn step(&self, subscription: &mut Subscription, schemas: &Schemas) -> Result<Option<Signal>, ViewError> {
        let signal = subscription.next().await?;
        if let Signal::Event(event) = &signal {
            let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = model.take(event, schemas) {
                // It stays out of lists; the aggregate itself says what is wrong.
                tracing::error!(position = %event.position, %error, "an event cannot be shown");
            }
        }
        self.through.send_replace(subscription.through());
        Ok(Some(signal))
    }

    /// What is known now.
    pub fn read(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that is durable now is shown, for a moment; whether it is.
    pub async fn caught_up(&self, store: &Store) -> bool {
        self.reached(store.head().position).await
    }

    /// Waits until everything up to a position is shown, for a moment; whether it is.
    pub async fn reached(&self, position: Position) -> bool {
        let mut through = self.through.subscribe();
        timeout(REACH_WITHIN, through.wait_for(|through| *through >= position)).await.is_ok()
    }

    /// Follows how far it has come.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Position> {
        self.through.subscribe()
    }

    /// The stations that are online by what was recorded.
    #[must_use]
    pub fn online_stations(&self) -> Vec<String> {
        let model = self.read();
        model.stations.iter().filter(|(_, row)| row.state.online).map(|(id, _)| id.clone()).collect()
    }

    /// Whether any station is registered.
    #[must_use]
    pub fn has_registered_station(&self) -> bool {
        self.read().stations.values().any(|row| row.state.registered)
    }
}

struct Schemas {
    stations: Arc<Schema>,
    meters: Arc<Schema>,
}

impl Model {
    fn take(&mut self, recorded: &RecordedEvent, schemas: &Schemas) -> Result<(), EventError> {
        let stream = recorded.stream.as_ref();
        let Some(stream) = stream else { return Ok(()) };
        if stream.name.category() == Station::CATEGORY {
            for event in schemas.stations.decode::<StationEvent>(recorded, Unknown::Ignore)? {
                self.take_station(stream.name.id(), event);
                let row = self.stations.entry(stream.name.id().to_owned()).or_default();
                (row.version, row.changed_at) = (stream.version.0, Some(recorded.recorded_at));
            }
            return Ok(());
        }
        for MeterEvent::ValuesRecorded { station, transaction_id, values, .. } in
            schemas.meters.decode::<MeterEvent>(recorded, Unknown::Ignore)?
        {
            let row = transaction_id.and_then(|id| self.transactions.get_mut(&id));
            // A station may name any number: what is another's is left alone.
            if let Some(row) = row.filter(|row| row.station == station) {
                row.read_meter(&values);
            }
        }
        Ok(())
    }

    fn take_station(&mut self, station: &str, event: StationEvent) {
        let row = self.stations.entry(station.to_owned()).or_default();
        let superseded = match &event {
            StationEvent::TransactionStarted(started) => row.state.superseded_by(started),
            _ => None,
        };
        row.state.apply(&event);
        self.take_transaction(station, event, superseded);
    }

    fn take_transaction(&mut self, station: &str, event: StationEvent, superseded: Option<TransactionId>) {
        match event {
            StationEvent::TransactionStarted(started) => {
                let row = superseded.and_then(|id| self.transactions.get_mut(&id.value()));
                if let Some(row) = row.filter(|row| row.station == station && row.is_running()) {
                    row.superseded = true;
                    self.closed += 1;
                }
                self.transactions.insert(started.transaction_id.value(), TransactionRow::new(station, started));
            }
            StationEvent::TransactionStopped(stopped) | StationEvent::UnmatchedStopReported(stopped) => {
                let row = stopped.transaction_id.and_then(|id| self.transactions.get_mut(&id));
                if let Some(row) = row.filter(|row| row.station == station) {
                    // A superseded one was counted already.
                    self.closed += usize::from(row.is_running());
                    row.stop(stopped);
                }
            }
            _ => return,
        }
        self.forget_old();
    }

    fn forget_old(&mut self) {
        if self.closed > CLOSED_MAX
            && let Some(oldest) = self.transactions.iter().find(|(_, row)| !row.is_running()).map(|(id, _)| *id)
        {
            self.transactions.remove(&oldest);
            self.closed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocpp::v16::AuthorizationStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + second * 1_000_000)
    }

    fn started(id: i64, connector_id: u32) -> StationEvent {
        StationEvent::TransactionStarted(Started {
            transaction_id: TransactionId::new(id).unwrap(),
            connector_id,
            id_tag: "CAFE".to_owned(),
            parent_id_tag: None,
            authorization: AuthorizationStatus::Accepted,
            meter_start_wh: Some(1_000),
            timestamp: Some(at(id)),
            received_at: at(id),
            reservation_id: None,
            remote_start: None,
        })
    }

    fn stopped(id: i64) -> StationEvent {
        let (transaction_id, meter_stop_wh, received_at) = (Some(id), Some(2_000), at(id + 1));
        let (id_tag, timestamp, reason, transaction_data) = (None, None, None, Vec::new());
        StationEvent::TransactionStopped(Stopped {
            transaction_id,
            id_tag,
            meter_stop_wh,
            timestamp,
            received_at,
            reason,
            transaction_data,
        })
    }

    fn model(events: impl IntoIterator<Item = StationEvent>) -> Model {
        let mut model = Model::default();
        events.into_iter().for_each(|event| model.take_station("CP1", event));
        model
    }

    fn running(model: &Model) -> Vec<i64> {
        model.transactions.iter().filter(|(_, row)| row.is_running()).map(|(id, _)| *id).collect()
    }

    /// A transaction whose stop was lost was shown as running for ever.
    #[test]
    fn a_transaction_is_superseded_by_the_next_one_on_its_connector_until_its_stop_comes() {
        let events = [started(1, 1), started(2, 2), started(3, 1)];
        let superseded = model(events.clone());
        assert_eq!(running(&superseded), [2, 3]);
        assert!(superseded.transactions[&1].superseded);
        assert_eq!(superseded.closed, 1);
        let late = model(events.into_iter().chain([stopped(1), stopped(1)]));
        assert_eq!(running(&late), [2, 3]);
        assert!(late.transactions[&1].stopped.is_some() && !late.transactions[&1].superseded);
        assert_eq!(late.closed, 1, "it is counted once");
    }

    #[test]
    fn of_the_transactions_that_do_not_run_the_newest_are_kept_and_of_those_that_run_all() {
        let lost = 10;
        let last = CLOSED_MAX as i64 + lost;
        let churn = (2..=last).map(|id| started(id, 1));
        let model = model([started(1, 2)].into_iter().chain(churn));
        assert_eq!(running(&model), [1, last]);
        assert_eq!(model.closed, CLOSED_MAX);
        assert_eq!(model.transactions.len(), CLOSED_MAX + 2);
        assert!(!model.transactions.contains_key(&2) && model.transactions.contains_key(&(last - 1)));
    }
}
