//! The energy of transactions, and what was charged on each day at each station.
//!
//! These tables belong to the read model of the transactions: all evidence of the energy of each,
//! what [`domain::energy`](crate::domain::energy) makes of it, and the days that it divides into. A
//! day is one of UTC. Whenever there is new evidence everything is computed again from all of it,
//! so the order in which a station tells changes nothing, and the days of a transaction add up to
//! its energy.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::prelude::{ProjectionError, Timestamp};

use super::facts::MeterRead;
use super::sql::{Conditions, Sql, SqlRow, SqlValue, Unexpected};
use super::{ReadModelError, ReadModels, TRANSACTIONS};
use crate::domain::energy::{
    ComputedEnergy, DAY_MICROS, EnergyCorrected, EnergyFlag, Evidence, MeterChannel, MeterMark,
    MeterReading, days_corrected, readings_of, thinned,
};
use crate::domain::transaction::{TransactionAdopted, TransactionStarted, TransactionStopped};

pub(super) const TABLES: &str = "
    CREATE TABLE energies (
        energy_of BIGINT PRIMARY KEY, energy_station TEXT NOT NULL,
        begin_at BIGINT NOT NULL, begin_by_station BIGINT NOT NULL, begin_wh BIGINT,
        end_at BIGINT, end_by_station BIGINT, end_wh BIGINT, is_end_reported BIGINT NOT NULL,
        metered_at BIGINT, computed_wh BIGINT, energy_source TEXT NOT NULL, energy_flags TEXT NOT NULL,
        corrected_wh BIGINT, correction_reason TEXT, corrected_by TEXT, corrected_at BIGINT,
        needs_person BIGINT NOT NULL
    );
    CREATE INDEX energies_that_need_a_person ON energies (needs_person, energy_of);
    CREATE TABLE readings (
        transaction_id BIGINT NOT NULL, at BIGINT NOT NULL, channel BIGINT NOT NULL, amount BIGINT NOT NULL,
        by_station BIGINT NOT NULL, arrival BIGINT NOT NULL, since BIGINT,
        PRIMARY KEY (transaction_id, at, channel, amount)
    );
    CREATE TABLE days (
        transaction_id BIGINT NOT NULL, day BIGINT NOT NULL, station TEXT NOT NULL, wh BIGINT NOT NULL,
        PRIMARY KEY (transaction_id, day)
    );
    CREATE INDEX days_of_stations ON days (day, station);";

/// The columns of a transaction's energy, in the order in which [`EnergyColumns`] reads them.
pub(super) const COLUMNS: &str =
    "metered_at, computed_wh, energy_source, energy_flags, corrected_wh,
    correction_reason, corrected_by, corrected_at, needs_person";

/// Messages whose numbers are told apart in the order of arrival: a message has fewer.
const NUMBERS_OF_MESSAGE: i64 = 1 << 16;

/// Takes the start of a transaction.
pub(super) async fn start(
    rows: &mut impl Sql,
    station: &str,
    started: &TransactionStarted,
) -> Result<(), ProjectionError> {
    let mark = MeterMark::new(started.timestamp, started.received_at, started.meter_start_wh);
    begin(rows, station, started.transaction_id.value(), mark).await
}

/// Takes a transaction that began under another backend, nobody knows when.
pub(super) async fn adopt(
    rows: &mut impl Sql,
    station: &str,
    adopted: &TransactionAdopted,
) -> Result<(), ProjectionError> {
    let mark = MeterMark { at: Timestamp::from_micros(0), is_by_station: false, meter_wh: None };
    begin(rows, station, adopted.transaction_id.value(), mark).await
}

async fn begin(
    rows: &mut impl Sql,
    station: &str,
    id: i64,
    mark: MeterMark,
) -> Result<(), ProjectionError> {
    let insert = "INSERT INTO energies (energy_of, energy_station, begin_at, begin_by_station, begin_wh, is_end_reported,
            energy_source, energy_flags, needs_person)
        VALUES ($1, $2, $3, $4, $5, 0, '', '', 0)";
    let values: [SqlValue; 5] = [
        id.into(),
        station.into(),
        mark.at.into(),
        mark.is_by_station.into(),
        mark.meter_wh.into(),
    ];
    rows.run(insert, &values).await?;
    compute(rows, station, id).await
}

/// Takes the stop of a transaction; of several stops the first counts.
pub(super) async fn stop(
    rows: &mut impl Sql,
    station: &str,
    stopped: &TransactionStopped,
    position: i64,
) -> Result<(), ProjectionError> {
    let Some(id) = stopped.transaction_id else { return Ok(()) };
    let find = "SELECT is_end_reported FROM energies WHERE energy_of = $1 AND energy_station = $2";
    let Some(mut row) = rows.find(find, &[id.into(), station.into()]).await?.pop() else {
        return Ok(());
    };
    if row.take::<i64>()? != 0 {
        return Ok(());
    }
    let mark = MeterMark::new(stopped.timestamp, stopped.received_at, stopped.meter_stop_wh);
    let update =
        "UPDATE energies SET end_at = $1, end_by_station = $2, end_wh = $3, is_end_reported = 1
        WHERE energy_of = $4";
    let values: [SqlValue; 4] =
        [mark.at.into(), mark.is_by_station.into(), mark.meter_wh.into(), id.into()];
    rows.run(update, &values).await?;
    let mut readings =
        readings_of(&stopped.transaction_data, stopped.received_at, position * NUMBERS_OF_MESSAGE);
    // What came with the stop is of the transaction, whatever its moment.
    readings.iter_mut().for_each(|reading| reading.at = reading.at.min(mark.at));
    insert_readings(rows, id, &readings).await?;
    compute(rows, station, id).await
}

/// Takes the end of a transaction whose stop was not reported; a later stop has the last word.
pub(super) async fn end(
    rows: &mut impl Sql,
    station: &str,
    id: i64,
    end: MeterMark,
) -> Result<(), ProjectionError> {
    let update = "UPDATE energies SET end_at = $1, end_by_station = $2
        WHERE energy_of = $3 AND energy_station = $4 AND is_end_reported = 0";
    let values: [SqlValue; 4] =
        [end.at.into(), end.is_by_station.into(), id.into(), station.into()];
    rows.run(update, &values).await?;
    compute(rows, station, id).await
}

/// Takes readings of the meter.
pub(super) async fn read_meter(
    rows: &mut impl Sql,
    station: &str,
    read: &MeterRead,
    position: i64,
) -> Result<(), ProjectionError> {
    let Some(id) = read.transaction_id else { return Ok(()) };
    let readings = readings_of(&read.values, read.received_at, position * NUMBERS_OF_MESSAGE);
    let Some(latest) = readings.iter().map(|reading| reading.at).max() else { return Ok(()) };
    let find = "SELECT metered_at FROM energies WHERE energy_of = $1 AND energy_station = $2";
    let Some(mut row) = rows.find(find, &[id.into(), station.into()]).await?.pop() else {
        return Ok(());
    };
    if row.take::<Option<Timestamp>>()?.is_none_or(|before| before < latest) {
        let update = "UPDATE energies SET metered_at = $1 WHERE energy_of = $2";
        rows.run(update, &[latest.into(), id.into()]).await?;
    }
    insert_readings(rows, id, &readings).await?;
    compute(rows, station, id).await
}

/// Takes the word of a person.
pub(super) async fn correct(
    rows: &mut impl Sql,
    station: &str,
    corrected: &EnergyCorrected,
) -> Result<(), ProjectionError> {
    let update = "UPDATE energies SET corrected_wh = $1, correction_reason = $2, corrected_by = $3, corrected_at = $4
        WHERE energy_of = $5 AND energy_station = $6";
    let id = corrected.transaction_id.value();
    let values: [SqlValue; 6] = [
        corrected.energy_wh.into(),
        corrected.reason.as_str().into(),
        corrected.by.as_str().into(),
        corrected.at.into(),
        id.into(),
        station.into(),
    ];
    rows.run(update, &values).await?;
    compute(rows, station, id).await
}

async fn insert_readings(
    rows: &mut impl Sql,
    id: i64,
    readings: &[MeterReading],
) -> Result<(), ProjectionError> {
    let insert = "INSERT INTO readings (transaction_id, at, channel, amount, by_station, arrival, since)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (transaction_id, at, channel, amount) DO NOTHING";
    for reading in readings {
        let values: [SqlValue; 7] = [
            id.into(),
            reading.at.into(),
            reading.channel.code().into(),
            reading.amount.into(),
            reading.is_by_station.into(),
            reading.arrival.into(),
            reading.since.into(),
        ];
        rows.run(insert, &values).await?;
    }
    Ok(())
}

/// Computes the energy of a transaction from all evidence, and writes what has changed.
async fn compute(rows: &mut impl Sql, station: &str, id: i64) -> Result<(), ProjectionError> {
    let find = "SELECT begin_at, begin_by_station, begin_wh, end_at, end_by_station, end_wh, is_end_reported, corrected_wh
        FROM energies WHERE energy_of = $1 AND energy_station = $2";
    let Some(mut row) = rows.find(find, &[id.into(), station.into()]).await?.pop() else {
        return Ok(());
    };
    let start = MeterMark {
        at: row.take()?,
        is_by_station: row.take::<i64>()? != 0,
        meter_wh: row.take()?,
    };
    let (end_at, end_by_station): (Option<Timestamp>, Option<i64>) = (row.take()?, row.take()?);
    let end_wh: Option<i64> = row.take()?;
    let end = end_at.zip(end_by_station).map(|(at, is_by_station)| MeterMark {
        at,
        is_by_station: is_by_station != 0,
        meter_wh: end_wh,
    });
    let is_end_reported = row.take::<i64>()? != 0;
    let corrected_wh: Option<i64> = row.take()?;
    let readings = readings(rows, id).await?;
    // Nobody knows when a transaction of another backend began.
    let last_at = readings.iter().map(|reading| reading.at).max().unwrap_or(start.at);
    let computed = Evidence { start, end, is_end_reported, readings }.energy();
    let days = match corrected_wh {
        None => computed.curve.days(),
        Some(wh) => days_corrected(&computed.curve.days(), wh, end.map_or(last_at, |end| end.at)),
    };
    write_days(rows, station, id, days).await?;
    write_energy(rows, id, &computed, corrected_wh.is_some()).await
}

/// Returns the readings of a transaction. If there are too many, fewer take their place.
async fn readings(rows: &mut impl Sql, id: i64) -> Result<Vec<MeterReading>, ProjectionError> {
    let find = "SELECT at, by_station, arrival, channel, amount, since FROM readings WHERE transaction_id = $1";
    let mut found = Vec::new();
    for mut row in rows.find(find, &[id.into()]).await? {
        let (at, is_by_station) = (row.take()?, row.take::<i64>()? != 0);
        let (arrival, code) = (row.take()?, row.take()?);
        let Some(channel) = MeterChannel::of_code(code) else { continue };
        let (amount, since) = (row.take()?, row.take()?);
        found.push(MeterReading { at, is_by_station, arrival, channel, amount, since });
    }
    let kept = thinned(found.clone());
    if kept.len() < found.len() {
        let (found, kept): (BTreeSet<_>, BTreeSet<_>) =
            (found.into_iter().collect(), kept.iter().copied().collect());
        let delete = "DELETE FROM readings WHERE transaction_id = $1 AND at = $2 AND channel = $3 AND amount = $4";
        for gone in found.difference(&kept) {
            let channel = gone.channel.code();
            let key = [id.into(), gone.at.into(), channel.into(), gone.amount.into()];
            rows.run(delete, &key).await?;
        }
        let added: Vec<MeterReading> = kept.difference(&found).copied().collect();
        insert_readings(rows, id, &added).await?;
    }
    Ok(kept)
}

async fn write_days(
    rows: &mut impl Sql,
    station: &str,
    id: i64,
    mut days: BTreeMap<i64, i64>,
) -> Result<(), ProjectionError> {
    let find = "SELECT day, wh FROM days WHERE transaction_id = $1";
    for mut row in rows.find(find, &[id.into()]).await? {
        let (day, wh): (i64, i64) = (row.take()?, row.take()?);
        match days.get(&day) {
            Some(now) if *now == wh => _ = days.remove(&day),
            Some(_) => {}
            None => {
                let delete = "DELETE FROM days WHERE transaction_id = $1 AND day = $2";
                rows.run(delete, &[id.into(), day.into()]).await?;
            }
        }
    }
    let keep = "INSERT INTO days (transaction_id, day, station, wh) VALUES ($1, $2, $3, $4)
        ON CONFLICT (transaction_id, day) DO UPDATE SET wh = excluded.wh";
    for (day, wh) in days {
        rows.run(keep, &[id.into(), day.into(), station.into(), wh.into()]).await?;
    }
    Ok(())
}

async fn write_energy(
    rows: &mut impl Sql,
    id: i64,
    computed: &ComputedEnergy,
    is_corrected: bool,
) -> Result<(), ProjectionError> {
    let update = "UPDATE energies SET computed_wh = $1, energy_source = $2, energy_flags = $3, needs_person = $4
        WHERE energy_of = $5";
    let flags: Vec<&str> = computed.flags.iter().map(|flag| flag.as_str()).collect();
    let values: [SqlValue; 5] = [
        computed.energy_wh.into(),
        computed.source.as_str().into(),
        flags.join(" ").into(),
        (computed.flags.contains(&EnergyFlag::Unknown) && !is_corrected).into(),
        id.into(),
    ];
    rows.run(update, &values).await
}

/// Energy of a transaction, as it stands in the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnergyColumns {
    /// Moment of the latest reading that came while it ran; `None` if none came.
    pub(crate) metered_at: Option<Timestamp>,
    /// Energy that the evidence shows, in Wh; `None` if it is not known.
    pub(crate) computed_wh: Option<i64>,
    /// Evidence that it rests on.
    pub(crate) source: String,
    /// Peculiarities of the evidence.
    pub(crate) flags: Vec<String>,
    /// Latest correction; `None` if nobody corrected it.
    pub(crate) correction: Option<EnergyCorrection>,
    /// True if it is not known, the transaction is over, and nobody has said it.
    pub(crate) needs_person: bool,
}

/// Correction of an energy, as it stands in the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnergyCorrection {
    /// The energy in Wh.
    pub(crate) energy_wh: i64,
    /// Reason, in the person's words.
    pub(crate) reason: String,
    /// The person.
    pub(crate) by: String,
    /// Moment of the correction.
    pub(crate) at: Timestamp,
}

impl EnergyColumns {
    pub(super) fn read(row: &mut SqlRow) -> Result<Self, Unexpected> {
        let (metered_at, computed_wh, source) = (row.take()?, row.take()?, row.take()?);
        let flags: String = row.take()?;
        let (energy_wh, reason): (Option<i64>, Option<String>) = (row.take()?, row.take()?);
        let (by, at): (Option<String>, Option<Timestamp>) = (row.take()?, row.take()?);
        let correction = energy_wh.zip(at).map(|(energy_wh, at)| EnergyCorrection {
            energy_wh,
            reason: reason.unwrap_or_default(),
            by: by.unwrap_or_default(),
            at,
        });
        Ok(Self {
            metered_at,
            computed_wh,
            source,
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            correction,
            needs_person: row.take::<i64>()? != 0,
        })
    }

    /// Returns the energy in Wh, by a person's word if there is one; `None` if it is not known.
    #[must_use]
    pub(crate) fn energy_wh(&self) -> Option<i64> {
        self.correction.as_ref().map(|corrected| corrected.energy_wh).or(self.computed_wh)
    }
}
/// A day, counted from 1970-01-01, as a date.
#[must_use]
pub(crate) fn date_of(day: i64) -> jiff::civil::Date {
    let start =
        jiff::Timestamp::from_microsecond(day.saturating_mul(DAY_MICROS)).unwrap_or_default();
    start.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A date as a day, counted from 1970-01-01.
#[must_use]
pub(crate) fn day_at(date: jiff::civil::Date) -> i64 {
    // A date has no zone that it could not be in: UTC has no gaps.
    let start =
        date.to_zoned(jiff::tz::TimeZone::UTC).map(|start| start.timestamp().as_microsecond());
    start.unwrap_or_default().div_euclid(DAY_MICROS)
}

/// Energy that was charged on a day, at one station or at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnergyRow {
    /// The day, counted from 1970-01-01, in UTC.
    pub(crate) day: i64,
    /// Station; empty if all stations are added up.
    pub(crate) station: String,
    /// The energy in Wh.
    pub(crate) energy_wh: i64,
    /// Number of transactions that charged.
    pub(crate) transactions: i64,
}

impl EnergyRow {
    fn read(mut row: SqlRow) -> Result<Self, Unexpected> {
        Ok(Self {
            day: row.take()?,
            station: row.take()?,
            energy_wh: row.take()?,
            transactions: row.take()?,
        })
    }
}

/// Days and stations of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnergyFilter {
    /// The first day.
    pub(crate) from: i64,
    /// The last day.
    pub(crate) to: i64,
    /// Station; `None` for all stations.
    pub(crate) station: Option<String>,
    /// Grouping of the report.
    pub(crate) by: EnergyBy,
    /// Day and station after which the report goes on; `None` for its beginning.
    pub(crate) after: Option<(i64, String)>,
}

/// Grouping of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnergyBy {
    /// Each station on each day.
    Station,
    /// All stations on each day.
    Day,
}

impl ReadModels {
    /// Returns the report, the earliest day first.
    pub(crate) async fn daily_energy(
        &self,
        filter: &EnergyFilter,
        limit: usize,
    ) -> Result<Vec<EnergyRow>, ReadModelError> {
        let mut conditions = Conditions::default();
        conditions.and("day >= ?", [filter.from.into()]);
        conditions.and("day <= ?", [filter.to.into()]);
        if let Some(station) = &filter.station {
            conditions.and("station = ?", [station.as_str().into()]);
        }
        let (station, group) = match filter.by {
            EnergyBy::Station => ("station", "day, station"),
            EnergyBy::Day => ("''", "day"),
        };
        match (&filter.after, filter.by) {
            (Some((day, station)), EnergyBy::Station) => {
                conditions.and("(day, station) > (?, ?)", [(*day).into(), station.as_str().into()]);
            }
            (Some((day, _)), EnergyBy::Day) => conditions.and("day > ?", [(*day).into()]),
            (None, _) => {}
        }
        let limit = conditions.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
        let statement = format!(
            "SELECT day, {station}, CAST(SUM(wh) AS BIGINT), COUNT(*) FROM days{} GROUP BY {group} ORDER BY {group} LIMIT {limit}",
            conditions.text()
        );
        self.rows(TRANSACTIONS, statement, conditions, EnergyRow::read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (date, day) in [("1970-01-01", 0), ("1969-12-31", -1), ("2026-05-04", 20_577)] {
            let date: jiff::civil::Date = date.parse().unwrap();
            assert_eq!((day_at(date), date_of(day)), (day, date));
        }
    }
}
