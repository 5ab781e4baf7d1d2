//! `/api/stations/{id}/availability`: how much of a span of time a station could be counted on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use leftfold::fold::{LoadError, Schema};
use leftfold::prelude::{Aggregate, Position, StreamName, Timestamp, Unknown, Version};
use leftfold::store::{EventType, Query as StoreQuery, Read};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{path, query};
use crate::app::Csms;
use crate::domain::availability::{Availability, AvailabilityFold, Outage};
use crate::domain::station::{Station, StationEvent, StationRefusal};
use crate::http::Problem;

/// Length of the span if the caller does not give its start.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Default, Deserialize)]
pub(super) struct SpanQuery {
    from: Option<String>,
    to: Option<String>,
}

impl SpanQuery {
    /// Returns the span; by default it ends now and begins [`SPAN`] before its end. It never ends
    /// in the future.
    fn read(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Problem> {
        let to = self.to.as_deref().map(moment).transpose()?.unwrap_or(now).min(now);
        let from = self.from.as_deref().map(moment).transpose()?.unwrap_or_else(|| to.minus(SPAN));
        if from > to {
            return Err(Problem::bad_request(
                "invalid-query",
                "from must not be after to, nor in the future",
            ));
        }
        Ok((from, to))
    }
}

/// Returns the report of one station; by default of the last 24 hours.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
    span: Result<Query<SpanQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = path(id)?;
    let (from, to) = query(span)?.read(Timestamp::now())?;
    if csms.stations.load(&id).await?.version == Version::ABSENT {
        return Err(Problem::not_found(
            StationRefusal::Unknown.code(),
            StationRefusal::Unknown.to_string(),
        ));
    }
    let schema = Schema::of::<StationEvent>().map_err(LoadError::from)?;
    let stream = StreamName::of(Station::CATEGORY, &id).map_err(LoadError::from)?;
    let turns = ["station.CameOnline", "station.WentOffline"].map(EventType::new);
    let turns = turns.into_iter().collect::<Result<Vec<_>, _>>().map_err(LoadError::from)?;
    let mut events = csms
        .store
        .read(Read::matching(StoreQuery::stream(stream).of_types(&turns), Position::START.next()));
    let mut fold = AvailabilityFold::within(from, to);
    while let Some(recorded) = events.next().await? {
        schema
            .decode_each(&recorded, Unknown::Refuse, |event| fold.apply(&event))
            .map_err(LoadError::from)?;
    }
    Ok(json_body(&report_json(&id, (from, to), &fold.finish())).into_response())
}

fn moment(text: &str) -> Result<Timestamp, Problem> {
    text.parse().map_err(|error| Problem::bad_request("invalid-query", format!("{error}")))
}

fn report_json(station: &str, (from, to): (Timestamp, Timestamp), report: &Availability) -> Value {
    let outages: Vec<Value> = report
        .outages
        .iter()
        .map(|Outage { from, to, reason }| json!({ "from": from, "to": to, "reason": reason }))
        .collect();
    json!({
        "station": station,
        "from": from,
        "to": to,
        "onlineSeconds": report.online.as_secs_f64(),
        "offlineSeconds": report.offline.as_secs_f64(),
        "share": report.share(),
        "outagesTotal": report.outages_total,
        "outages": outages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: Option<&str>, to: Option<&str>) -> Option<(String, String)> {
        let span = SpanQuery { from: from.map(str::to_owned), to: to.map(str::to_owned) };
        let read = span.read("2026-05-04T10:00:00Z".parse().unwrap()).ok()?;
        Some((read.0.to_string()[..16].to_owned(), read.1.to_string()[..16].to_owned()))
    }

    #[test]
    fn a_span_is_the_last_day_unless_said_and_never_the_future() {
        let expected = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(span(None, None), expected("2026-05-03T10:00", "2026-05-04T10:00"));
        assert_eq!(
            span(None, Some("2026-05-02T00:00:00Z")),
            expected("2026-05-01T00:00", "2026-05-02T00:00")
        );
        assert_eq!(
            span(Some("2026-05-04T08:00:00+02:00"), None),
            expected("2026-05-04T06:00", "2026-05-04T10:00")
        );
        assert_eq!(
            span(None, Some("2030-01-01T00:00:00Z")),
            expected("2026-05-03T10:00", "2026-05-04T10:00")
        );
        assert_eq!(span(Some("2026-05-05T00:00:00Z"), None), None);
        assert_eq!(span(Some("soon"), None), None);
    }
}
