//! Energy that was charged on each day at each station.
//!
//! A day is one of UTC. The energy of a transaction is the rise of its meter, and a rise counts on
//! the day of the reading that shows it: so if a transaction lasts over midnight, its meter values
//! divide it, and without meter values all of it counts on the day of its end. A reading at
//! midnight itself closes the day before. While a transaction runs, it counts up to its latest
//! meter value; the meter at its stop, if the station reports it, is the last word. So the days of
//! a transaction add up to its energy, whatever the order of the station's reports. A day on which
//! a meter runs backwards is negative: that takes back the energy of a wrong reading.

use std::collections::BTreeMap;

use leftfold::fold::Recorded;
use leftfold::prelude::{Projection, ProjectionError, Timestamp};
use leftfold::runtime::projection::{Rows, Target};

use super::facts::{ChargingFact, MeterRead};
use super::sql::{Conditions, Sql, SqlRow, SqlValue, Unexpected};
use super::{ReadModelError, ReadModels};
use crate::domain::moment;
use crate::domain::transaction::{TransactionStarted, TransactionStopped};
use crate::ocpp::v16::MeterValue;

/// Projection of the energy by day and station.
pub(crate) struct DailyEnergy;

/// Name of the projection.
pub(crate) const NAME: &str = "daily_energy";

const TABLES: &str = "
    CREATE TABLE meters (
        transaction_id BIGINT PRIMARY KEY, station TEXT NOT NULL, base_at BIGINT, base_wh BIGINT, ended_at BIGINT
    );
    CREATE TABLE days (
        transaction_id BIGINT NOT NULL, day BIGINT NOT NULL, station TEXT NOT NULL, at BIGINT NOT NULL,
        register_wh BIGINT NOT NULL, wh BIGINT NOT NULL,
        PRIMARY KEY (transaction_id, day)
    );
    CREATE INDEX days_of_stations ON days (day, station);";

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Bound of a plausible reading in Wh: a thousand gigawatt-hours, so that no sum of readings
/// overflows.
const REGISTER_WH_MAX: i64 = 1_000_000_000_000;

impl<T: Target> Projection<T> for DailyEnergy
where
    Rows<T>: Sql,
{
    const NAME: &'static str = NAME;
    type Event = ChargingFact;

    /// Returns the id of the station: the stream of its meter has the same id.
    fn key(&self, event: &Recorded<ChargingFact>) -> String {
        event.stream_id().to_owned()
    }

    async fn set_up(&self, rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        rows.batch(TABLES).await
    }

    async fn apply(
        &self,
        rows: &mut Rows<T>,
        event: &Recorded<ChargingFact>,
    ) -> Result<(), ProjectionError> {
        let station = event.stream_id();
        match &event.event {
            ChargingFact::Started(started) => {
                let meter = Meter::started(started);
                meter.insert(rows, station, started.transaction_id.value()).await
            }
            ChargingFact::Stopped(stopped) | ChargingFact::StoppedLate(stopped) => {
                change(rows, station, stopped.transaction_id, |meter| meter.stopped(stopped)).await
            }
            ChargingFact::Read(MeterRead { transaction_id, values, .. }) => {
                change(rows, station, *transaction_id, |meter| meter.read_all(values)).await
            }
        }
    }
}

/// Applies a change to the meter of a transaction, if the transaction is one of the station, and
/// writes the rows that differ.
async fn change(
    rows: &mut impl Sql,
    station: &str,
    transaction_id: Option<i64>,
    happen: impl FnOnce(&mut Meter) + Send,
) -> Result<(), ProjectionError> {
    let Some(id) = transaction_id else { return Ok(()) };
    let Some(before) = Meter::load(rows, station, id).await? else { return Ok(()) };
    let mut after = before.clone();
    happen(&mut after);
    after.write(rows, station, id, &before).await
}

/// The meter of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
struct Meter {
    /// First reading in Wh, with its moment; the moment is `None` if the station told the reading
    /// with the start.
    base: Option<(Option<Timestamp>, i64)>,
    /// End of the transaction: later readings are not its own; `None` while it runs.
    ended_at: Option<Timestamp>,
    /// Last reading of each day.
    days: BTreeMap<i64, (Timestamp, i64)>,
}

impl Meter {
    fn started(started: &TransactionStarted) -> Self {
        Self {
            base: started.meter_start_wh.filter(|wh| is_plausible(*wh)).map(|wh| (None, wh)),
            ..Self::default()
        }
    }

    fn read_all(&mut self, values: &[MeterValue]) {
        for value in values {
            if let Some((at, wh)) = value.timestamp.zip(value.energy_active_import_register_wh()) {
                self.read(moment(at), wh);
            }
        }
    }

    fn read(&mut self, at: Timestamp, wh: i64) {
        if !is_plausible(wh) || self.ended_at.is_some_and(|ended_at| at >= ended_at) {
            return;
        }
        if self.base.is_none_or(|(since, _)| since.is_some_and(|since| at < since)) {
            self.base = Some((Some(at), wh));
        }
        let last = self.days.entry(day_of(at)).or_insert((at, wh));
        if at >= last.0 {
            *last = (at, wh);
        }
    }

    /// Ends the transaction; of several stops the first counts.
    fn stopped(&mut self, stopped: &TransactionStopped) {
        if self.ended_at.is_some() {
            return;
        }
        self.read_all(&stopped.transaction_data);
        let ended_at = stopped.timestamp.unwrap_or(stopped.received_at);
        self.ended_at = Some(ended_at);
        let Some(wh) = stopped.meter_stop_wh.filter(|wh| is_plausible(*wh)) else { return };
        self.days.retain(|_, (at, _)| *at < ended_at);
        self.days.insert(day_of(ended_at), (ended_at, wh));
    }

    /// Returns the rise of the meter on each day.
    fn rises(&self) -> BTreeMap<i64, i64> {
        let Some((_, base)) = self.base else { return BTreeMap::new() };
        let mut before = base;
        let mut rise = |wh: i64| wh - std::mem::replace(&mut before, wh);
        self.days.iter().map(|(day, (_, wh))| (*day, rise(*wh))).collect()
    }

    async fn load(
        rows: &mut impl Sql,
        station: &str,
        id: i64,
    ) -> Result<Option<Self>, ProjectionError> {
        let meter = "SELECT base_at, base_wh, ended_at FROM meters WHERE transaction_id = $1 AND station = $2";
        let Some(mut row) = rows.find(meter, &[id.into(), station.into()]).await?.pop() else {
            return Ok(None);
        };
        let (base_at, base_wh): (Option<Timestamp>, Option<i64>) = (row.take()?, row.take()?);
        let mut meter = Self {
            base: base_wh.map(|wh| (base_at, wh)),
            ended_at: row.take()?,
            days: BTreeMap::new(),
        };
        let days = "SELECT day, at, register_wh FROM days WHERE transaction_id = $1";
        for mut row in rows.find(days, &[id.into()]).await? {
            meter.days.insert(row.take()?, (row.take()?, row.take()?));
        }
        Ok(Some(meter))
    }

    async fn insert(
        &self,
        rows: &mut impl Sql,
        station: &str,
        id: i64,
    ) -> Result<(), ProjectionError> {
        let insert = "INSERT INTO meters (transaction_id, station, base_wh) VALUES ($1, $2, $3)";
        rows.run(insert, &[id.into(), station.into(), self.base.map(|(_, wh)| wh).into()]).await
    }

    /// Writes the rows that differ from those of `before`.
    async fn write(
        &self,
        rows: &mut impl Sql,
        station: &str,
        id: i64,
        before: &Self,
    ) -> Result<(), ProjectionError> {
        if (self.base, self.ended_at) != (before.base, before.ended_at) {
            let update = "UPDATE meters SET base_at = $1, base_wh = $2, ended_at = $3 WHERE transaction_id = $4";
            let (base_at, base_wh) =
                (self.base.and_then(|(at, _)| at), self.base.map(|(_, wh)| wh));
            rows.run(update, &[base_at.into(), base_wh.into(), self.ended_at.into(), id.into()])
                .await?;
        }
        let (rises, rises_before) = (self.rises(), before.rises());
        for day in before.days.keys().filter(|day| !self.days.contains_key(day)) {
            rows.run(
                "DELETE FROM days WHERE transaction_id = $1 AND day = $2",
                &[id.into(), (*day).into()],
            )
            .await?;
        }
        for (day, (at, register_wh)) in &self.days {
            let wh = rises.get(day).copied().unwrap_or_default();
            if before.days.get(day) == Some(&(*at, *register_wh))
                && rises_before.get(day) == Some(&wh)
            {
                continue;
            }
            let keep = "INSERT INTO days (transaction_id, day, station, at, register_wh, wh) VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (transaction_id, day) DO UPDATE
                SET at = excluded.at, register_wh = excluded.register_wh, wh = excluded.wh";
            let values: [SqlValue; 6] = [
                id.into(),
                (*day).into(),
                station.into(),
                (*at).into(),
                (*register_wh).into(),
                wh.into(),
            ];
            rows.run(keep, &values).await?;
        }
        Ok(())
    }
}

fn is_plausible(wh: i64) -> bool {
    (-REGISTER_WH_MAX..=REGISTER_WH_MAX).contains(&wh)
}

/// The day that a reading closes or falls into, counted from 1970-01-01.
fn day_of(at: Timestamp) -> i64 {
    (at.as_micros() - 1).div_euclid(DAY_MICROS)
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
        self.rows(NAME, statement, conditions, EnergyRow::read).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stop(at: Timestamp, meter_stop_wh: Option<i64>) -> TransactionStopped {
        let (transaction_id, id_tag, reason, transaction_data) = (Some(1), None, None, Vec::new());
        TransactionStopped {
            transaction_id,
            id_tag,
            meter_stop_wh,
            timestamp: Some(at),
            received_at: at,
            reason,
            transaction_data,
        }
    }

    fn meter(meter_start_wh: Option<i64>, readings: &[(&str, i64)]) -> Meter {
        let mut meter = Meter { base: meter_start_wh.map(|wh| (None, wh)), ..Meter::default() };
        readings.iter().for_each(|(text, wh)| meter.read(at(text), *wh));
        meter
    }

    fn report(meter: &Meter) -> Vec<(String, i64)> {
        meter.rises().into_iter().map(|(day, wh)| (date_of(day).to_string(), wh)).collect()
    }

    fn days(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
        expected.iter().map(|(day, wh)| ((*day).to_owned(), *wh)).collect()
    }

    #[test]
    fn a_transaction_over_midnight_is_divided_by_its_meter_values() {
        let mut over =
            meter(Some(1_000), &[("2026-05-04T23:50:00Z", 4_000), ("2026-05-05T00:05:00Z", 4_500)]);
        assert_eq!(report(&over), days(&[("2026-05-04", 3_000), ("2026-05-05", 500)]));
        over.stopped(&stop(at("2026-05-05T01:00:00Z"), Some(9_000)));
        assert_eq!(report(&over), days(&[("2026-05-04", 3_000), ("2026-05-05", 5_000)]));
    }

    #[test]
    fn a_reading_at_midnight_closes_the_day_before() {
        let mut over = meter(Some(0), &[("2026-05-05T00:00:00Z", 4_000)]);
        over.stopped(&stop(at("2026-05-06T00:00:00Z"), Some(4_700)));
        assert_eq!(report(&over), days(&[("2026-05-04", 4_000), ("2026-05-05", 700)]));
    }

    #[test]
    fn without_meter_values_all_counts_on_the_day_of_the_end() {
        let mut over = meter(Some(1_000), &[]);
        assert_eq!(report(&over), []);
        over.stopped(&stop(at("2026-05-05T01:00:00Z"), Some(9_000)));
        assert_eq!(report(&over), days(&[("2026-05-05", 8_000)]));
    }

    #[test]
    fn a_reading_before_the_stop_divides_even_if_it_comes_after_it_and_a_later_one_does_not_count()
    {
        let mut late = meter(Some(0), &[]);
        late.stopped(&stop(at("2026-05-05T01:00:00Z"), Some(9_000)));
        late.stopped(&stop(at("2026-05-09T01:00:00Z"), Some(99_000)));
        late.read(at("2026-05-04T23:00:00Z"), 2_000);
        late.read(at("2026-05-05T01:00:01Z"), 9_500);
        assert_eq!(report(&late), days(&[("2026-05-04", 2_000), ("2026-05-05", 7_000)]));
    }

    #[test]
    fn a_station_that_does_not_tell_the_meter_at_the_start_counts_from_its_first_reading() {
        let none = meter(
            None,
            &[
                ("2026-05-04T10:00:00Z", 700),
                ("2026-05-04T09:00:00Z", 500),
                ("2026-05-04T11:00:00Z", 900),
            ],
        );
        assert_eq!(report(&none), days(&[("2026-05-04", 400)]));
        let mut nonsense = meter(Some(0), &[("2026-05-04T10:00:00Z", i64::MAX)]);
        nonsense.stopped(&stop(at("2026-05-04T12:00:00Z"), Some(i64::MIN)));
        assert_eq!(report(&nonsense), []);
    }

    #[test]
    fn a_wrong_reading_is_taken_back_by_the_day_that_shows_it() {
        let mut wrong = meter(Some(0), &[("2026-05-04T23:00:00Z", 9_000)]);
        wrong.stopped(&stop(at("2026-05-05T01:00:00Z"), Some(2_000)));
        assert_eq!(report(&wrong), days(&[("2026-05-04", 9_000), ("2026-05-05", -7_000)]));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (date, day) in [("1970-01-01", 0), ("1969-12-31", -1), ("2026-05-04", 20_577)] {
            let date: jiff::civil::Date = date.parse().unwrap();
            assert_eq!((day_at(date), date_of(day)), (day, date));
        }
    }

    proptest! {
        /// Stations tell of a transaction late, twice and in any order.
        #[test]
        fn the_order_in_which_a_station_tells_changes_nothing(
            readings in proptest::collection::vec((0_i64..4 * 86_400, 0_i64..50_000), 0..12),
            stop_at in 0_i64..4 * 86_400,
            stop_place in 0_usize..12,
            twice in any::<bool>(),
            shuffle in any::<u64>(),
        ) {
            let readings: BTreeMap<i64, i64> = readings.into_iter().collect();
            let second =
                |second: i64| Timestamp::from_micros(1_777_000_000_000_000 + second * 1_000_000);
            let tell = |told: Vec<(i64, i64)>, place: usize| {
                let mut meter = meter(Some(100), &[]);
                for (number, (at, wh)) in told.iter().enumerate() {
                    if number == place {
                        meter.stopped(&stop(second(stop_at), Some(60_000)));
                    }
                    meter.read(second(*at), *wh);
                }
                meter.stopped(&stop(second(stop_at), Some(60_000)));
                meter
            };
            let in_order = tell(readings.clone().into_iter().collect(), usize::MAX);
            let mut told: Vec<(i64, i64)> = readings.into_iter().collect();
            if twice {
                told.extend(told.clone());
            }
            fastrand::Rng::with_seed(shuffle).shuffle(&mut told);
            let mixed = tell(told, stop_place);
            prop_assert_eq!(mixed.rises(), in_order.rises());
            prop_assert_eq!(in_order.rises().values().sum::<i64>(), 60_000 - 100);
        }
    }
}
