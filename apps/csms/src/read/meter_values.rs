//! Every value that was read from a meter: by transaction, by connector, over time.
//!
//! The values that came with the stop of a transaction are not here but with that transaction:
//! stations repeat there what they sent before.

use leftfold::fold::Recorded;
use leftfold::prelude::{Projection, ProjectionError, Timestamp};
use leftfold::runtime::projection::{Rows, Target};

use super::facts::{MeterFact, MeterRead};
use super::sql::{Conditions, Sql, SqlRow, SqlValue, Unexpected};
use super::{ReadModelError, ReadModels};
use crate::domain::moment;
use crate::ocpp::v16::SampledValue;

/// Projection of the values that were read from meters.
pub(crate) struct MeterSamples;

/// Name of the projection.
pub(crate) const NAME: &str = "meter_values";

const TABLES: &str = "
    CREATE TABLE meter_values (
        position BIGINT NOT NULL, ordinal BIGINT NOT NULL, station TEXT NOT NULL, connector_id BIGINT,
        transaction_id BIGINT, at BIGINT NOT NULL, measurand TEXT NOT NULL, value TEXT NOT NULL, unit TEXT,
        phase TEXT, location TEXT, context TEXT,
        PRIMARY KEY (position, ordinal)
    );
    CREATE INDEX meter_values_of_station ON meter_values (station, at);
    CREATE INDEX meter_values_of_transaction ON meter_values (transaction_id, at);";

/// The columns, in the order in which [`MeterSample`] reads them.
const COLUMNS: &str = "position, ordinal, station, connector_id, transaction_id, at, measurand, value, unit, phase, location, context";

/// Measurand of a value if the station leaves it out (OCPP 1.6 section 7.43).
const MEASURAND: &str = "Energy.Active.Import.Register";

impl<T: Target> Projection<T> for MeterSamples
where
    Rows<T>: Sql,
{
    const NAME: &'static str = NAME;
    type Event = MeterFact;

    async fn set_up(&self, rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        rows.batch(TABLES).await
    }

    async fn apply(
        &self,
        rows: &mut Rows<T>,
        event: &Recorded<MeterFact>,
    ) -> Result<(), ProjectionError> {
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
    let values: [SqlValue; 12] = [
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
pub(crate) struct MeterSample {
    /// Place of the value in the order of all values, after which a list goes on.
    pub(crate) cursor: MeterCursor,
    /// The station.
    pub(crate) station: String,
    /// Connector; 0 is the main meter.
    pub(crate) connector_id: Option<i64>,
    /// The transaction, as the station said.
    pub(crate) transaction_id: Option<i64>,
    /// Measurand in OCPP's words.
    pub(crate) measurand: String,
    /// The value as it came.
    pub(crate) value: String,
    /// Unit; `None` if the station left it out, which stands for Wh.
    pub(crate) unit: Option<String>,
    /// Phase of the measurement.
    pub(crate) phase: Option<String>,
    /// Place of the measurement.
    pub(crate) location: Option<String>,
    /// Occasion of the reading.
    pub(crate) context: Option<String>,
}

/// A place in the order of all values: by time, then as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MeterCursor {
    /// Moment of the reading by the station's clock, or the moment of its arrival if the station
    /// gave none.
    pub(crate) at: Timestamp,
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
    fn read(mut row: SqlRow) -> Result<Self, Unexpected> {
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

/// Conditions on the values to list; `None` is no condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MeterFilter {
    /// Station of the values.
    pub(crate) station: Option<String>,
    /// Connector of the values.
    pub(crate) connector_id: Option<u32>,
    /// Transaction of the values.
    pub(crate) transaction_id: Option<i64>,
    /// Measurand of the values, in OCPP's words.
    pub(crate) measurand: Option<String>,
    /// Earliest moment of the values.
    pub(crate) from: Option<Timestamp>,
    /// Moment that the values are earlier than.
    pub(crate) to: Option<Timestamp>,
    /// Place that the values come after.
    pub(crate) after: Option<MeterCursor>,
}

impl ReadModels {
    /// Returns values, the earliest first.
    pub(crate) async fn meter_values(
        &self,
        filter: &MeterFilter,
        limit: usize,
    ) -> Result<Vec<MeterSample>, ReadModelError> {
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
            conditions.and(
                "(at, position, ordinal) > (?, ?, ?)",
                [at.into(), position.into(), ordinal.into()],
            );
        }
        let limit = conditions.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
        let statement = format!(
            "SELECT {COLUMNS} FROM meter_values{} ORDER BY at, position, ordinal LIMIT {limit}",
            conditions.text()
        );
        self.rows(NAME, statement, conditions, MeterSample::read).await
    }
}
