//! Values of columns: moments, JSON as it was written, and numbers without a sign.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use leftfold_core::store::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

type Failure = Box<dyn Error + Sync + Send>;

/// Microseconds from 1970 to 2000, from which PostgreSQL counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The year 1: earlier moments, of which nothing was recorded, count as this one.
const EARLIEST_MICROS: i64 = -62_135_596_800_000_000;

/// A moment in a column `timestamptz`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseTime(pub(crate) Timestamp);

impl ToSql for DatabaseTime {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.0.as_micros().max(EARLIEST_MICROS) - EPOCH_MICROS);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for DatabaseTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH_MICROS))))
    }

    accepts!(TIMESTAMPTZ);
}

/// The text of a column `json`, byte for byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonText<'t>(pub(super) &'t [u8]);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(raw))
    }

    accepts!(JSON);
}

/// A number in a column `bigint`. Those beyond 2^63, which only foreign positions can be, are
/// stored as the negative number of the same bits.
pub(super) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// The number that was stored so.
pub(super) const fn unsigned(stored: i64) -> u64 {
    stored.cast_unsigned()
}

/// A position, version or count to compare with: none in a column is beyond 2^63.
pub(super) fn at_most_signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
