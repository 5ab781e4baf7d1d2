//! Every value that was read from a meter: by transaction, by connector, over time.
//!
//! What came with the stop of a transaction is not here but with that transaction: stations send there again what they
//! sent before.

use leftfold::fold::Recorded;
use leftfold::prelude::{Projection, ProjectionError, Timestamp};
use leftfold::runtime::projection::{Rows, Target};

use super::facts::{MeterFact, MeterRead};
use super::sql::{Conditions, Row, Sql, Unexpected, Value};
use super::{ReadModelError, ReadModels};
use crate::domain::moment;
use crate::ocpp::v16::SampledValue;

/// The projection.
pub struct MeterValues;

/// Names it.
pub const NAME: &str = "meter_values";

const TABLES: &str = "
    CREATE TABLE meter_values (
        position BIGINT NOT NULL, ordinal BIGINT NOT NULL, station TEXT NOT NULL, connector_id BIGINT,
        transaction_id BIGINT, at BIGINT NOT NULL, measurand TEXT NOT NULL, value TEXT NOT NULL, unit TEXT,
        phase TEXT, location TEXT, context TEXT,
        PRIMARY KEY (position, ordinal)
    );
    CREATE INDEX meter_values_of_station ON meter_values (station, at);
    CREATE INDEX meter_values_of_transaction ON meter_values (transaction_id, at);";

/// In the order in which [`MeterSample`] reads them.
const COLUMNS: &str =
    "position, ordinal, station, connector_id, transaction_id, at, measurand, value, unit, phase, location, context";

/// What a value measures where the station leaves it out (OCPP 1.6 section 7.43).
const MEASURAND: &str = "Energy.Active.Import.Register";

impl<T: Target> Projection<T> for MeterValues
where
    Rows<T>: Sql,
{
    const NAME: &'static str = NAME;
    type Event = MeterFact;

    async fn set_up(&self, rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        rows.batch(TABLES).await
    }

    async fn apply(&self, rows: &mut Rows<T>, event: &Recorded<MeterFact>) -> Result<(), ProjectionError> {
        let MeterFact::Read(read) = &event.event;
        let position = i64::try_from(event.envelope.position.0)?;
        let mut ordinal = 0;
        for value in &read.values {
            let at = value.timestamp.map_or(read.received_at, moment);
            for sample in &value.sampled_values {
                insert(rows, (position, ordinal), event.stream_id(), read, at, sample).await?;
                ordinal += 1;
            }
        }
        Ok(())
    }
}

async fn insert(
    rows: &mut impl Sql,
    (position, ordinal): (i64, i64),
    station: &str,
    read: &MeterRead,
    at: Timestamp,
    sample: &SampledValue,
) -> Result<(), ProjectionError> {
    let insert = "INSERT INTO meter_values (position, ordinal, station, connector_id, transaction_id, at, measurand, value,
            unit, phase, location, context)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let values: [Value; 12] = [
        position.into(),
        ordinal.into(),
        station.into(),
        read.connector_id.into(),
        read.transaction_id.into(),
        at.into(),
        sample.measurand.as_ref().map_or(MEASURAND, |measurand| measurand.as_str()).into(),
        sample.value.as_str().into(),
        sample.unit.as_ref().map(|unit| unit.as_str()).into(),
        sample.phase.as_ref().map(|phase| phase.as_str()).into(),
        sample.location.as_ref().map(|location| location.as_str()).into(),
        sample.context.as_ref().map(|context| context.as_str()).into(),
    ];
    rows.run(insert, &values).await
}

/// One value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterSample {
    /// Where a list goes on after it.
    pub cursor: MeterCursor,
    /// The station.
    pub station: String,
    /// Where; 0 is the main meter.
    pub connector_id: Option<i64>,
    /// The transaction, as the station said.
    pub transaction_id: Option<i64>,
    /// What was measured.
    pub measurand: String,
    /// The value as it came.
    pub value: String,
    /// Its unit; none where the station left it out, which stands for Wh.
    pub unit: Option<String>,
    /// On which phase.
    pub phase: Option<String>,
    /// Where it was measured.
    pub location: Option<String>,
    /// Why it was read.
    pub context: Option<String>,
}

/// A place in the order of all values: by time, then as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeterCursor {
    /// When it was read, by the station's clock; when it came, where the station did not say.
    pub at: Timestamp,
    position: i64,
    ordinal: i64,
}

impl std::fmt::Display for MeterCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.at.as_micros(), self.position, self.ordinal)
    }
}

impl std::str::FromStr for MeterCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().unwrap_or_default().parse();
        Ok(Self { at: Timestamp::from_micros(next()?), position: next()?, ordinal: next()? })
    }
}

impl MeterSample {
    fn read(mut row: Row) -> Result<Self, Unexpected> {
        let row = &mut row;
        let (position, ordinal) = (row.take()?, row.take()?);
        let (station, connector_id, transaction_id) = (row.take()?, row.take()?, row.take()?);
        Ok(Self {
            cursor: MeterCursor { at: row.take()?, position, ordinal },
            station,
            connector_id,
            transaction_id,
            measurand: row.take()?,
            value: row.take()?,
            unit: row.take()?,
            phase: row.take()?,
            location: row.take()?,
            context: row.take()?,
        })
    }
}

/// Which values are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterFilter {
    /// Those of one station.
    pub station: Option<String>,
    /// Those of one connector.
    pub connector_id: Option<u32>,
    /// Those of one transaction.
    pub transaction_id: Option<i64>,
    /// Those that measure this.
    pub measurand: Option<String>,
    /// Those that were read then or later.
    pub from: Option<Timestamp>,
    /// Those that were read earlier.
    pub to: Option<Timestamp>,
    /// Those behind this place.
    pub after: Option<MeterCursor>,
}

impl ReadModels {
    /// Values, the earliest first.
    pub async fn meter_values(&self, filter: &MeterFilter, limit: usize) -> Result<Vec<MeterSample>, ReadModelError> {
        let mut conditions = Conditions::default();
        if let Some(station) = &filter.station {
            conditions.and("station = ?", [station.as_str().into()]);
        }
        if let Some(connector_id) = filter.connector_id {
            conditions.and("connector_id = ?", [connector_id.into()]);
        }
        if let Some(transaction_id) = filter.transaction_id {
            conditions.and("transaction_id = ?", [transaction_id.into()]);
        }
        if let Some(measurand) = &filter.measurand {
            conditions.and("measurand = ?", [measurand.as_str().into()]);
        }
        if let Some(from) = filter.from {
            conditions.and("at >= ?", [from.into()]);
        }
        if let Some(to) = filter.to {
            conditions.and("at < ?", [to.into()]);
        }
        if let Some(MeterCursor { at, position, ordinal }) = filter.after {
            conditions.and("(at, position, ordinal) > (?, ?, ?)", [at.into(), position.into(), ordinal.into()]);
        }
        let limit = conditions.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
        let statement =
            format!("SELECT {COLUMNS} FROM meter_values{} ORDER BY at, position, ordinal LIMIT {limit}", conditions.text());
        self.rows(NAME, statement, conditions, MeterSample::read).await
    }
}
