//! All transactions that there ever were: the read model behind lists of them.
//!
//! A transaction is replaced by the next one on its connector, and ended by what shows that it is
//! over, until its own stop is heard of. Of several stops the first counts. A station may name any
//! number: what names another station's transaction is left alone.

use leftfold::fold::Recorded;
use leftfold::prelude::{Projection, ProjectionError, Timestamp};
use leftfold::runtime::projection::{Rows, Target};

use super::energy::{self, COLUMNS as ENERGY_COLUMNS, EnergyColumns};
use super::facts::{ChargingFact, MeterRead};
use super::signed_values;
use super::sql::{Conditions, Sql, SqlRow, Unexpected};
use super::{ReadModelError, ReadModels};
use crate::domain::energy::MeterMark;
use crate::domain::transaction::{
    EndCause, TransactionAdopted, TransactionEnded, TransactionStarted, TransactionStopped,
};
use crate::ocpp::v16::{MeterValue, TransactionId};

/// Projection of all transactions.
pub(crate) struct Transactions;

/// Name of the projection.
pub(crate) const NAME: &str = super::TRANSACTIONS;

const TABLES: &str = "
    CREATE TABLE transactions (
        id BIGINT PRIMARY KEY, station TEXT NOT NULL, connector_id BIGINT NOT NULL, id_tag TEXT NOT NULL,
        authorization_status TEXT NOT NULL, state TEXT NOT NULL, started_at BIGINT NOT NULL, meter_start_wh BIGINT,
        reservation_id BIGINT, remote_start TEXT,
        stopped_at BIGINT, meter_stop_wh BIGINT, stop_reason TEXT, stop_id_tag TEXT, transaction_data TEXT,
        meter_messages BIGINT NOT NULL,
        reported_id BIGINT, flags TEXT NOT NULL, possible_repeat_of BIGINT,
        ended_at BIGINT, closed_by TEXT, close_reason TEXT
    );
    CREATE INDEX transactions_of_station ON transactions (station, id);
    CREATE INDEX transactions_in_state ON transactions (state, id);
    CREATE INDEX transactions_of_tag ON transactions (id_tag, id);
    CREATE INDEX transactions_by_start ON transactions (started_at);";

/// The columns, in the order in which [`TransactionRow`] reads them.
const COLUMNS: &str = "id, station, connector_id, id_tag, authorization_status, state, started_at, meter_start_wh,
    reservation_id, remote_start, stopped_at, meter_stop_wh, stop_reason, stop_id_tag, transaction_data,
    meter_messages, reported_id, flags, possible_repeat_of, ended_at, closed_by, close_reason";

/// The tables of a transaction and of its energy.
const TABLES_READ: &str = "transactions JOIN energies ON energy_of = id";

impl<T: Target> Projection<T> for Transactions
where
    Rows<T>: Sql,
{
    const NAME: &'static str = NAME;
    const VERSION: u32 = 4;
    type Event = ChargingFact;

    /// Returns the id of the station: the stream of its meter has the same id.
    fn key(&self, event: &Recorded<ChargingFact>) -> String {
        event.stream_id().to_owned()
    }

    async fn set_up(&self, rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        rows.batch(TABLES).await?;
        rows.batch(energy::TABLES).await?;
        rows.batch(signed_values::TABLES).await
    }

    async fn apply(
        &self,
        rows: &mut Rows<T>,
        event: &Recorded<ChargingFact>,
    ) -> Result<(), ProjectionError> {
        let station = event.stream_id();
        let position = i64::try_from(event.envelope.position.0)?;
        match &event.event {
            ChargingFact::Started(started) => {
                start(rows, station, started).await?;
                energy::start(rows, station, started).await
            }
            ChargingFact::Adopted(adopted) => {
                adopt(rows, station, adopted).await?;
                energy::adopt(rows, station, adopted).await
            }
            ChargingFact::Ended(ended) => {
                end(rows, station, ended).await?;
                let mark = MeterMark::new(Some(ended.at), ended.concluded_at, None);
                energy::end(rows, station, ended.transaction_id.value(), mark).await
            }
            ChargingFact::Stopped(stopped) | ChargingFact::StoppedLate(stopped) => {
                stop(rows, station, stopped).await?;
                energy::stop(rows, station, stopped, position).await?;
                signed_values::stop(rows, station, stopped, position).await
            }
            ChargingFact::Corrected(corrected) => energy::correct(rows, station, corrected).await,
            ChargingFact::Read(read) => {
                count_message(rows, station, read).await?;
                energy::read_meter(rows, station, read, position).await?;
                signed_values::read_meter(rows, station, read, position).await
            }
        }
    }
}

async fn start(
    rows: &mut impl Sql,
    station: &str,
    started: &TransactionStarted,
) -> Result<(), ProjectionError> {
    if !started.late {
        replace(rows, station, started).await?;
    }
    let flags = [
        started.late.then_some(TransactionFlag::Late),
        started.possible_repeat_of.map(|_| TransactionFlag::PossibleRepeat),
    ];
    let insert = "INSERT INTO transactions (id, station, connector_id, id_tag, authorization_status, state, started_at,
            meter_start_wh, reservation_id, remote_start, meter_messages, flags, possible_repeat_of)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12)";
    let values = [
        started.transaction_id.value().into(),
        station.into(),
        started.connector_id.into(),
        started.id_tag.as_str().into(),
        started.authorization.as_str().into(),
        (if started.late { "replaced" } else { "running" }).into(),
        started.timestamp.unwrap_or(started.received_at).into(),
        started.meter_start_wh.into(),
        started.reservation_id.into(),
        started.remote_start.as_ref().map(|request| request.0.as_str()).into(),
        words(flags.into_iter().flatten()).into(),
        started.possible_repeat_of.map(TransactionId::value).into(),
    ];
    rows.run(insert, &values).await
}

async fn replace(
    rows: &mut impl Sql,
    station: &str,
    started: &TransactionStarted,
) -> Result<(), ProjectionError> {
    let running = "SELECT id FROM transactions WHERE station = $1 AND connector_id = $2 AND state = 'running'";
    for mut row in rows.find(running, &[station.into(), started.connector_id.into()]).await? {
        let id: i64 = row.take()?;
        let replace = "UPDATE transactions SET state = 'replaced' WHERE id = $1";
        rows.run(replace, &[id.into()]).await?;
        let end = MeterMark::new(started.timestamp, started.received_at, None);
        energy::end(rows, station, id, end).await?;
    }
    Ok(())
}

async fn adopt(
    rows: &mut impl Sql,
    station: &str,
    adopted: &TransactionAdopted,
) -> Result<(), ProjectionError> {
    let insert = "INSERT INTO transactions (id, station, connector_id, id_tag, authorization_status, state, started_at,
            meter_messages, reported_id, flags)
        VALUES ($1, $2, $3, '', '', $4, $5, 0, $6, $7)";
    let running = "SELECT id FROM transactions WHERE station = $1 AND connector_id = $2 AND state = 'running'";
    let running = rows.find(running, &[station.into(), adopted.connector_id.into()]).await?;
    let holds_it = adopted.connector_id > 0 && running.is_empty();
    let values = [
        adopted.transaction_id.value().into(),
        station.into(),
        adopted.connector_id.into(),
        (if holds_it { "running" } else { "replaced" }).into(),
        adopted.received_at.into(),
        adopted.reported_id.into(),
        words([TransactionFlag::Adopted]).into(),
    ];
    rows.run(insert, &values).await
}

async fn end(
    rows: &mut impl Sql,
    station: &str,
    ended: &TransactionEnded,
) -> Result<(), ProjectionError> {
    let update =
        "UPDATE transactions SET state = $1, ended_at = $2, closed_by = $3, close_reason = $4
        WHERE id = $5 AND station = $6 AND state <> 'stopped'";
    let (state, by, reason) = match &ended.cause {
        EndCause::ConnectorFree | EndCause::StationRestarted => ("ended", None, None),
        EndCause::Closed { by, reason } => ("closed", Some(by.as_str()), Some(reason.as_str())),
    };
    let values = [
        state.into(),
        ended.at.into(),
        by.into(),
        reason.into(),
        ended.transaction_id.value().into(),
        station.into(),
    ];
    rows.run(update, &values).await
}

async fn stop(
    rows: &mut impl Sql,
    station: &str,
    stopped: &TransactionStopped,
) -> Result<(), ProjectionError> {
    let Some(id) = stopped.transaction_id else { return Ok(()) };
    let update = "UPDATE transactions SET state = 'stopped', stopped_at = $1, meter_stop_wh = $2, stop_reason = $3,
            stop_id_tag = $4, transaction_data = $5,
            flags = CASE WHEN $6 = '' OR flags = '' THEN flags || $6 ELSE flags || ' ' || $6 END
        WHERE id = $7 AND station = $8 AND state <> 'stopped'";
    let data = if stopped.transaction_data.is_empty() {
        None
    } else {
        Some(serde_json::to_string(&stopped.transaction_data)?)
    };
    let values = [
        stopped.timestamp.unwrap_or(stopped.received_at).into(),
        stopped.meter_stop_wh.into(),
        stopped.reason.as_ref().map_or("Local", |reason| reason.as_str()).into(),
        stopped.id_tag.as_deref().into(),
        data.into(),
        words(stopped.guessed.then_some(TransactionFlag::StopMatched)).into(),
        id.into(),
        station.into(),
    ];
    rows.run(update, &values).await
}

async fn count_message(
    rows: &mut impl Sql,
    station: &str,
    read: &MeterRead,
) -> Result<(), ProjectionError> {
    let Some(id) = read.transaction_id else { return Ok(()) };
    let count = "UPDATE transactions SET meter_messages = meter_messages + 1 WHERE id = $1 AND station = $2";
    rows.run(count, &[id.into(), station.into()]).await
}

/// A transaction, as it stands in the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TransactionRow {
    /// Its id.
    pub(crate) id: i64,
    /// Station.
    pub(crate) station: String,
    /// Connector; 0 if the station did not say.
    pub(crate) connector_id: u32,
    /// Id tag that started it, as it came.
    pub(crate) id_tag: String,
    /// Authorization status of the tag, as the station was told.
    pub(crate) authorization: String,
    /// State, as far as is known.
    pub(crate) state: TransactionState,
    /// Moment of the start.
    pub(crate) started_at: Timestamp,
    /// The meter at the start, in Wh.
    pub(crate) meter_start_wh: Option<i64>,
    /// Reservation that it used; `None` if it used none.
    pub(crate) reservation_id: Option<i64>,
    /// Remote start that led to it; `None` if none is known.
    pub(crate) remote_start: Option<String>,
    /// Moment of the stop; `None` if no stop was reported.
    pub(crate) stopped_at: Option<Timestamp>,
    /// The meter at the stop, in Wh.
    pub(crate) meter_stop_wh: Option<i64>,
    /// Reason of the stop in OCPP's words, `Local` if the station left it out; `None` if no stop
    /// was reported.
    pub(crate) stop_reason: Option<String>,
    /// Id tag that stopped it; `None` if it was not stopped with a tag.
    pub(crate) stop_id_tag: Option<String>,
    /// The meter values that came with the stop.
    pub(crate) transaction_data: Vec<MeterValue>,
    /// Number of messages with meter values about it.
    pub(crate) meter_messages: i64,
    /// Its energy.
    pub(crate) energy: EnergyColumns,
    /// Id that the station uses, if it is another one.
    pub(crate) reported_id: Option<i64>,
    /// Unusual circumstances of it.
    pub(crate) flags: Vec<TransactionFlag>,
    /// Transaction that it may be a repeated report of.
    pub(crate) possible_repeat_of: Option<i64>,
    /// Moment of its end, if it was concluded that it is over.
    pub(crate) ended_at: Option<Timestamp>,
    /// Person who closed it, and why.
    pub(crate) closed: Option<(String, String)>,
}

/// An unusual circumstance of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionFlag {
    /// Its start was reported after a later start on the connector.
    Late,
    /// Its start may be that of another transaction, reported again.
    PossibleRepeat,
    /// It began under another backend.
    Adopted,
    /// Its stop named no id of ours, and was taken for its own as there was no other.
    StopMatched,
}

impl TransactionFlag {
    const ALL: [Self; 4] = [Self::Late, Self::PossibleRepeat, Self::Adopted, Self::StopMatched];

    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Late => "reported-late",
            Self::PossibleRepeat => "possible-repeat",
            Self::Adopted => "adopted",
            Self::StopMatched => "stop-matched",
        }
    }
}

/// Returns the words of flags, as they stand in the rows.
fn words(flags: impl IntoIterator<Item = TransactionFlag>) -> String {
    flags.into_iter().map(TransactionFlag::word).collect::<Vec<_>>().join(" ")
}

/// State of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionState {
    /// It runs, as far as is known.
    Running,
    /// A later one started on its connector, and its stop was not reported: the stop is lost, or
    /// comes late.
    Replaced,
    /// Its connector was reported as free, and its stop was not reported.
    Ended,
    /// A person closed it.
    Closed,
    /// It has stopped.
    Stopped,
}

impl TransactionState {
    const ALL: [Self; 5] =
        [Self::Running, Self::Replaced, Self::Ended, Self::Closed, Self::Stopped];

    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Replaced => "replaced",
            Self::Ended => "ended",
            Self::Closed => "closed",
            Self::Stopped => "stopped",
        }
    }

    fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.word() == word).unwrap_or(Self::Stopped)
    }
}

impl TransactionRow {
    fn read(mut row: SqlRow) -> Result<Self, Unexpected> {
        let row = &mut row;
        Ok(Self {
            id: row.take()?,
            station: row.take()?,
            connector_id: u32::try_from(row.take::<i64>()?).unwrap_or_default(),
            id_tag: row.take()?,
            authorization: row.take()?,
            state: TransactionState::of(&row.take::<String>()?),
            started_at: row.take()?,
            meter_start_wh: row.take()?,
            reservation_id: row.take()?,
            remote_start: row.take()?,
            stopped_at: row.take()?,
            meter_stop_wh: row.take()?,
            stop_reason: row.take()?,
            stop_id_tag: row.take()?,
            transaction_data: row
                .take::<Option<String>>()?
                .and_then(|data| serde_json::from_str(&data).ok())
                .unwrap_or_default(),
            meter_messages: row.take()?,
            reported_id: row.take()?,
            flags: {
                let words = row.take::<String>()?;
                let is_said = |flag: &TransactionFlag| words.split(' ').any(|it| it == flag.word());
                TransactionFlag::ALL.into_iter().filter(is_said).collect()
            },
            possible_repeat_of: row.take()?,
            ended_at: row.take()?,
            closed: row.take::<Option<String>>()?.zip(row.take::<Option<String>>()?),
            energy: EnergyColumns::read(row)?,
        })
    }
}

/// Conditions on the transactions to list; `None` is no condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TransactionFilter {
    /// Station of the transactions.
    pub(crate) station: Option<String>,
    /// Connector of the transactions.
    pub(crate) connector_id: Option<u32>,
    /// Id tag of the transactions, as it came.
    pub(crate) id_tag: Option<String>,
    /// True for those that run, false for those that do not.
    pub(crate) open: Option<bool>,
    /// True for those whose energy a person has to say, false for the others.
    pub(crate) needs_person: Option<bool>,
    /// Earliest moment of the start.
    pub(crate) from: Option<Timestamp>,
    /// Moment that the start is earlier than.
    pub(crate) to: Option<Timestamp>,
    /// Id that the ids are smaller than.
    pub(crate) before: Option<i64>,
}

impl TransactionFilter {
    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(station) = &self.station {
            conditions.and("station = ?", [station.as_str().into()]);
        }
        if let Some(connector_id) = self.connector_id {
            conditions.and("connector_id = ?", [connector_id.into()]);
        }
        if let Some(id_tag) = &self.id_tag {
            conditions.and("id_tag = ?", [id_tag.as_str().into()]);
        }
        match self.open {
            Some(true) => conditions.and("state = 'running'", []),
            Some(false) => conditions.and("state <> 'running'", []),
            None => {}
        }
        if let Some(needs_person) = self.needs_person {
            conditions.and("needs_person = ?", [needs_person.into()]);
        }
        if let Some(from) = self.from {
            conditions.and("started_at >= ?", [from.into()]);
        }
        if let Some(to) = self.to {
            conditions.and("started_at < ?", [to.into()]);
        }
        conditions
    }
}

/// Reading of the transactions.
impl ReadModels {
    /// Returns transactions, the newest first.
    pub(crate) async fn transactions(
        &self,
        filter: &TransactionFilter,
        limit: usize,
    ) -> Result<Vec<TransactionRow>, ReadModelError> {
        let mut conditions = filter.conditions();
        if let Some(before) = filter.before {
            conditions.and("id < ?", [before.into()]);
        }
        let limit = conditions.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
        let statement = format!(
            "SELECT {COLUMNS}, {ENERGY_COLUMNS} FROM {TABLES_READ}{} ORDER BY id DESC LIMIT {limit}",
            conditions.text()
        );
        self.rows(NAME, statement, conditions, TransactionRow::read).await
    }

    /// Returns the number of transactions that match the filter, regardless of its `before`.
    pub(crate) async fn count_transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<i64, ReadModelError> {
        let conditions = filter.conditions();
        let statement = format!("SELECT COUNT(*) FROM {TABLES_READ}{}", conditions.text());
        let counted = self.rows(NAME, statement, conditions, |mut row| row.take()).await?;
        Ok(counted.first().copied().unwrap_or_default())
    }

    /// Returns one transaction; `None` if there is none with this id.
    pub(crate) async fn transaction(
        &self,
        id: i64,
    ) -> Result<Option<TransactionRow>, ReadModelError> {
        let mut conditions = Conditions::default();
        conditions.and("id = ?", [id.into()]);
        let statement =
            format!("SELECT {COLUMNS}, {ENERGY_COLUMNS} FROM {TABLES_READ}{}", conditions.text());
        Ok(self.rows(NAME, statement, conditions, TransactionRow::read).await?.pop())
    }
}
