//! The signed meter values of transactions, byte for byte as they came: with meter values, and with
//! the stop. Their table belongs to the read model of the transactions.

use leftfold::prelude::{ProjectionError, Timestamp};

use super::facts::MeterRead;
use super::sql::{Conditions, Sql, SqlRow, SqlValue, Unexpected};
use super::{ReadModelError, ReadModels, TRANSACTIONS};
use crate::domain::moment;
use crate::domain::transaction::TransactionStopped;
use crate::ocpp::v16::{MeterValue, SampledValue};

pub(super) const TABLES: &str = "
    CREATE TABLE signed_values (
        position BIGINT NOT NULL, ordinal BIGINT NOT NULL, transaction_id BIGINT NOT NULL, station TEXT NOT NULL,
        at BIGINT, received_at BIGINT NOT NULL, came_with_stop BIGINT NOT NULL, sample TEXT NOT NULL,
        PRIMARY KEY (position, ordinal)
    );
    CREATE INDEX signed_values_of_transaction ON signed_values (transaction_id, position, ordinal);";

/// A message with values of a transaction.
struct SignedMessage<'a> {
    station: &'a str,
    transaction_id: Option<i64>,
    values: &'a [MeterValue],
    received_at: Timestamp,
    is_stop: bool,
}

/// Takes the values that came with a stop.
pub(super) async fn stop(
    rows: &mut impl Sql,
    station: &str,
    stopped: &TransactionStopped,
    position: i64,
) -> Result<(), ProjectionError> {
    let TransactionStopped { transaction_id, transaction_data: values, received_at, .. } = stopped;
    let (transaction_id, received_at) = (*transaction_id, *received_at);
    let message = SignedMessage { station, transaction_id, values, received_at, is_stop: true };
    message.keep(rows, position).await
}

/// Takes meter values.
pub(super) async fn read_meter(
    rows: &mut impl Sql,
    station: &str,
    read: &MeterRead,
    position: i64,
) -> Result<(), ProjectionError> {
    let MeterRead { transaction_id, values, received_at, .. } = read;
    let (transaction_id, received_at) = (*transaction_id, *received_at);
    let message = SignedMessage { station, transaction_id, values, received_at, is_stop: false };
    message.keep(rows, position).await
}

impl SignedMessage<'_> {
    async fn keep(&self, rows: &mut impl Sql, position: i64) -> Result<(), ProjectionError> {
        let Some(id) = self.transaction_id else { return Ok(()) };
        let mut signed = Vec::new();
        for value in self.values {
            let at = value.timestamp.map(moment);
            signed
                .extend(value.sampled_values.iter().filter(|it| it.is_signed()).map(|it| (at, it)));
        }
        for (ordinal, (at, sample)) in (0_i64..).zip(signed) {
            let insert = "INSERT INTO signed_values (position, ordinal, transaction_id, station, at, received_at,
                    came_with_stop, sample)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            let values: [SqlValue; 8] = [
                position.into(),
                ordinal.into(),
                id.into(),
                self.station.into(),
                at.into(),
                self.received_at.into(),
                self.is_stop.into(),
                serde_json::to_string(sample)?.into(),
            ];
            rows.run(insert, &values).await?;
        }
        Ok(())
    }
}

/// One signed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedValue {
    /// Place in the order of arrival, after which a list goes on.
    pub(crate) cursor: SignedCursor,
    /// Moment by the station's clock; `None` if it gave none.
    pub(crate) at: Option<Timestamp>,
    /// Moment of the arrival.
    pub(crate) received_at: Timestamp,
    /// True if it came with the stop.
    pub(crate) came_with_stop: bool,
    /// The value.
    pub(crate) sample: SampledValue,
}

/// A place in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedCursor {
    position: i64,
    ordinal: i64,
}

impl std::fmt::Display for SignedCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.position, self.ordinal)
    }
}

impl std::str::FromStr for SignedCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, ordinal) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { position: position.parse()?, ordinal: ordinal.parse()? })
    }
}

impl SignedValue {
    fn read(mut row: SqlRow) -> Result<Option<Self>, Unexpected> {
        let cursor = SignedCursor { position: row.take()?, ordinal: row.take()? };
        let (at, received_at) = (row.take()?, row.take()?);
        let came_with_stop = row.take::<i64>()? != 0;
        let sample: String = row.take()?;
        let sample = serde_json::from_str(&sample).ok();
        Ok(sample.map(|sample| Self { cursor, at, received_at, came_with_stop, sample }))
    }
}

impl ReadModels {
    /// Returns the signed values that a station gave of a transaction, in the order of arrival.
    pub(crate) async fn signed_values(
        &self,
        station: &str,
        transaction_id: i64,
        after: Option<SignedCursor>,
        limit: usize,
    ) -> Result<Vec<SignedValue>, ReadModelError> {
        let mut conditions = Conditions::default();
        conditions.and("transaction_id = ?", [transaction_id.into()]);
        conditions.and("station = ?", [station.into()]);
        if let Some(SignedCursor { position, ordinal }) = after {
            conditions.and("(position, ordinal) > (?, ?)", [position.into(), ordinal.into()]);
        }
        let limit = conditions.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
        let statement = format!(
            "SELECT position, ordinal, at, received_at, came_with_stop, sample FROM signed_values{}
            ORDER BY position, ordinal LIMIT {limit}",
            conditions.text()
        );
        let found = self.rows(TRANSACTIONS, statement, conditions, SignedValue::read).await?;
        Ok(found.into_iter().flatten().collect())
    }
}
