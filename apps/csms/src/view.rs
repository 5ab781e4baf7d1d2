//! A read model in memory: all stations and the transactions, folded from the log, for lists and the dashboard.
//!
//! It is made anew at every start and follows the log. What it says is a moment old; [`View::reached`] waits until it
//! has caught up with a position. Bounds: every station is kept, and every open transaction; of the closed ones the
//! newest [`CLOSED_MAX`].

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
use crate::ocpp::v16::energy_active_import_register_wh;

/// Closed transactions that are kept.
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
#[derive(Clone, Debug)]
pub struct TransactionRow {
    /// Where.
    pub station: String,
    /// How it started.
    pub started: Started,
    /// How it stopped.
    pub stopped: Option<Stopped>,
    /// The latest reading of the energy register, in Wh, and when it was read.
    pub register_wh: Option<(Timestamp, i64)>,
    /// How many messages with meter values there were.
    pub meter_messages: u64,
}

impl TransactionRow {
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
                let row = self.stations.entry(stream.name.id().to_owned()).or_default();
                row.state.apply(&event);
                (row.version, row.changed_at) = (stream.version.0, Some(recorded.recorded_at));
                self.take_transaction(stream.name.id(), event);
            }
            return Ok(());
        }
        for MeterEvent::ValuesRecorded { station, transaction_id, values, .. } in
            schemas.meters.decode::<MeterEvent>(recorded, Unknown::Ignore)?
        {
            let row = transaction_id.and_then(|id| self.transactions.get_mut(&id));
            // A station may name any number: what is another's is left alone.
            if let Some(row) = row.filter(|row| row.station == station) {
                row.meter_messages += 1;
                row.register_wh = row
                    .register_wh
                    .max(energy_active_import_register_wh(&values).map(|(at, wh)| (crate::domain::moment(at), wh)));
            }
        }
        Ok(())
    }

    fn take_transaction(&mut self, station: &str, event: StationEvent) {
        match event {
            StationEvent::TransactionStarted(started) => {
                let id = started.transaction_id.value();
                let station = station.to_owned();
                let row = TransactionRow { station, started, stopped: None, register_wh: None, meter_messages: 0 };
                self.transactions.insert(id, row);
            }
            StationEvent::TransactionStopped(stopped) | StationEvent::UnmatchedStopReported(stopped) => {
                let row = stopped.transaction_id.and_then(|id| self.transactions.get_mut(&id));
                if let Some(row) = row.filter(|row| row.station == station && row.stopped.is_none()) {
                    row.stopped = Some(stopped);
                    self.closed += 1;
                    self.forget_old();
                }
            }
            _ => {}
        }
    }

    fn forget_old(&mut self) {
        if self.closed > CLOSED_MAX
            && let Some(oldest) = self.transactions.iter().find(|(_, row)| row.stopped.is_some()).map(|(id, _)| *id)
        {
            self.transactions.remove(&oldest);
            self.closed -= 1;
        }
    }
}
