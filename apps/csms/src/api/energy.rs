//! `/api/energy`: the daily report.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use leftfold::prelude::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{At, PageBounds, cut, list as page, query, shown};
use crate::app::Csms;
use crate::http::Problem;
use crate::read::energy::{EnergyBy, EnergyFilter, EnergyRow, date_of, day_at};
use crate::read::transactions;

/// Days of the report if the caller does not give its start.
const DAYS: i64 = 31;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct EnergyQuery {
    from: Option<String>,
    to: Option<String>,
    station: Option<String>,
    by: Option<String>,
}

impl EnergyQuery {
    /// Returns the filter; by default the report ends today and covers the [`DAYS`] days up to its
    /// end.
    pub(crate) fn filter(
        self,
        now: Timestamp,
        after: Option<&str>,
    ) -> Result<EnergyFilter, Problem> {
        let invalid = |detail| Problem::bad_request("invalid-query", detail);
        let day = |text: Option<String>| match text.filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => text
                .parse::<Date>()
                .map(|date| Some(day_at(date)))
                .map_err(|_| invalid("a day is such as 2026-05-04")),
        };
        let to =
            day(self.to)?.unwrap_or_else(|| now.as_micros().div_euclid(24 * 60 * 60 * 1_000_000));
        let from = day(self.from)?.unwrap_or(to - DAYS + 1);
        if from > to {
            return Err(invalid("from must not be after to"));
        }
        let by = match self.by.as_deref() {
            None | Some("station") => EnergyBy::Station,
            Some("day") => EnergyBy::Day,
            Some(_) => return Err(invalid("by is one of station, day")),
        };
        let after = after.map(|after| -> Result<_, Problem> {
            let (date, station) = after.split_once('/').unwrap_or((after, ""));
            let date: Date = date
                .parse()
                .map_err(|_| invalid("after is no cursor; take it from \"next\" of a page"))?;
            Ok((day_at(date), station.to_owned()))
        });
        let station = self.station.filter(|station| !station.is_empty());
        Ok(EnergyFilter { from, to, station, by, after: after.transpose()? })
    }
}

/// Returns the energy by day and station, the earliest day first.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    which: Result<Query<EnergyQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let bounds = query(bounds)?;
    let filter = query(which)?.filter(Timestamp::now(), bounds.after.as_deref())?;
    let position = shown(&csms, transactions::NAME, &headers, query(at)?).await?;
    let mut rows = csms.read.daily_energy(&filter, bounds.limit() + 1).await?;
    let next =
        cut(&mut rows, bounds.limit(), |last| format!("{}/{}", date_of(last.day), last.station));
    let items = rows.iter().map(|row| energy_json(row, filter.by)).collect();
    Ok((position, json_body(&page(items, next))).into_response())
}

fn energy_json(row: &EnergyRow, by: EnergyBy) -> Value {
    let mut json = json!({
        "day": date_of(row.day).to_string(),
        "energyWh": row.energy_wh,
        "transactions": row.transactions,
    });
    if by == EnergyBy::Station {
        json["station"] = row.station.as_str().into();
    }
    json
}
