//! `/api/transactions`: what was charged.
//!
//! A transaction is `open` while it runs. It is `superseded` when another one started on its connector and nothing was
//! heard of its stop. By its id every transaction is found that was ever recorded; see [`list`] for what is listed.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use leftfold::fold::Schema;
use leftfold::prelude::{Position, Store, StreamName, Unknown};
use leftfold::store::{EventType, Query as StoreQuery, QueryItem, Read, StreamMatch, Tag};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::{Bounds, LIMIT_MAX, list as page, path, query};
use super::{Problem, json_body};
use crate::Csms;
use crate::domain::meter::{self, MeterEvent, transaction_tag};
use crate::domain::station::{Station, StationEvent};
use crate::view::TransactionRow;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    station: Option<String>,
    open: Option<bool>,
}

/// Lists the transactions, the newest first: all that run, and of the others the newest
/// [`CLOSED_MAX`](crate::view::CLOSED_MAX). Older ones are in the log, and are told of by their ids.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<Which>, QueryRejection>,
    bounds: Result<Query<Bounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (which, bounds) = (query(which)?, query(bounds)?);
    let before = match bounds.after_number()? {
        0 => i64::MAX,
        after => i64::try_from(after).unwrap_or(i64::MAX),
    };
    csms.view.caught_up(&csms.store).await;
    let model = csms.view.read();
    let wanted = |row: &&TransactionRow| {
        which.station.as_ref().is_none_or(|station| *station == row.station)
            && which.open.is_none_or(|open| open == row.is_running())
    };
    let mut rows = model.transactions.range(..before).rev().map(|(_, row)| row).filter(wanted);
    let found: Vec<&TransactionRow> = rows.by_ref().take(bounds.limit()).collect();
    let next = rows.next().and_then(|_| found.last().map(|row| row.started.transaction_id.value().to_string()));
    Ok(json_body(&page(found.into_iter().map(transaction_json).collect(), next)).into_response())
}

/// One transaction, with a page of its meter values.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
    bounds: Result<Query<Bounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, bounds) = (path(id)?, query(bounds)?);
    let unknown = || Problem::not_found("unknown-transaction", "there is no such transaction; list them to find its id");
    let id: i64 = id.parse().map_err(|_| unknown())?;
    csms.view.caught_up(&csms.store).await;
    let row = csms.view.read().transactions.get(&id).cloned();
    let row = match row {
        Some(row) => row,
        None => from_log(&csms.store, id).await?.ok_or_else(unknown)?,
    };
    let after = Position(bounds.after_number()?);
    let mut transaction = transaction_json(&row);
    transaction["meterValues"] = meter_values(&csms, &row.station, id, after, bounds.limit().min(LIMIT_MAX)).await?;
    transaction["transactionData"] = json!(row.stopped.map(|stopped| stopped.transaction_data).unwrap_or_default());
    Ok(json_body(&transaction).into_response())
}

/// A transaction as the log tells of it, for one that the view does not keep.
async fn from_log(store: &Store, id: i64) -> Result<Option<TransactionRow>, Problem> {
    let started = EventType::new("station.TransactionStarted").map_err(invalid)?;
    let query = StoreQuery::types([started]).and_tag(transaction_tag(id));
    let schema = Schema::of::<StationEvent>().map_err(unreadable)?;
    let mut starts = store.read(Read::matching(query, Position::START.next()));
    let Some(start) = starts.next().await? else { return Ok(None) };
    let Some(stream) = &start.stream else { return Ok(None) };
    let station = stream.name.id();
    // Looked at before the events are read: what it has no more by then has stopped, which these tell, or was superseded.
    let known = store.aggregate::<Station>().load(station).await?.state.transactions.remove(&id);
    let mut row = None;
    // Any station may name this id; what concerns the transaction is in the stream of its own one, from its start on.
    let stream = StreamMatch::Exact(stream.name.clone());
    let mut events = store.read(Read::matching(of_transaction(id, stream)?, start.position));
    while let Some(event) = events.next().await? {
        for event in schema.decode(&event, Unknown::Ignore).map_err(unreadable)? {
            take(&mut row, station, event);
        }
    }
    let Some(mut row) = row else { return Ok(None) };
    let stream = StreamName::of(meter::CATEGORY, station).map_err(invalid)?;
    let schema = Schema::of::<MeterEvent>().map_err(unreadable)?;
    let mut readings = store.read(Read::matching(of_transaction(id, StreamMatch::Exact(stream))?, start.position));
    while let Some(reading) = readings.next().await? {
        for MeterEvent::ValuesRecorded { values, .. } in schema.decode(&reading, Unknown::Refuse).map_err(unreadable)? {
            row.read_meter(&values);
        }
    }
    // The station keeps what runs, and forgets a superseded one some day.
    row.superseded = row.stopped.is_none() && known.is_none_or(|transaction| transaction.superseded);
    Ok(Some(row))
}

fn take(row: &mut Option<TransactionRow>, station: &str, event: StationEvent) {
    match event {
        StationEvent::TransactionStarted(started) => *row = Some(TransactionRow::new(station, started)),
        StationEvent::TransactionStopped(stopped) | StationEvent::UnmatchedStopReported(stopped) => {
            if let Some(row) = row {
                row.stop(stopped);
            }
        }
        _ => {}
    }
}

fn of_transaction(id: i64, stream: StreamMatch) -> Result<StoreQuery, Problem> {
    let tag = Tag::new(transaction_tag(id)).map_err(invalid)?;
    Ok(QueryItem { tags: vec![tag], streams: Some(stream), ..QueryItem::default() }.into())
}

/// The messages with meter values that the transaction's own station sent.
async fn meter_values(csms: &Csms, station: &str, id: i64, after: Position, limit: usize) -> Result<Value, Problem> {
    let schema = Schema::of::<MeterEvent>().map_err(unreadable)?;
    let stream = StreamName::of(meter::CATEGORY, station).map_err(invalid)?;
    let query = of_transaction(id, StreamMatch::Exact(stream))?;
    let mut events = csms.store.read(Read::matching(query, after.next()).page_of(limit as u32 + 1));
    let mut items = Vec::new();
    let mut last = after;
    let mut more = false;
    while let Some(recorded) = events.next().await? {
        if items.len() == limit {
            more = true;
            break;
        }
        last = recorded.position;
        for MeterEvent::ValuesRecorded { connector_id, values, received_at, .. } in
            schema.decode(&recorded, Unknown::Refuse).map_err(unreadable)?
        {
            items.push(json!({ "connectorId": connector_id, "receivedAt": received_at, "values": values }));
        }
    }
    Ok(page(items, more.then(|| last.to_string())))
}

fn invalid(error: leftfold::store::Invalid) -> Problem {
    Problem::bad_request("invalid-id", error.to_string())
}

fn unreadable(error: leftfold::fold::EventError) -> Problem {
    Problem::from(leftfold::fold::LoadError::from(error))
}

fn transaction_json(row: &TransactionRow) -> Value {
    let started = &row.started;
    let stopped = row.stopped.as_ref();
    json!({
        "id": started.transaction_id,
        "station": row.station,
        "connectorId": started.connector_id,
        "idTag": started.id_tag,
        "authorization": started.authorization,
        "open": row.is_running(),
        "superseded": row.superseded,
        "startedAt": started.timestamp.unwrap_or(started.received_at),
        "meterStartWh": started.meter_start_wh,
        "remoteStart": started.remote_start,
        "stoppedAt": stopped.map(|stopped| stopped.timestamp.unwrap_or(stopped.received_at)),
        "meterStopWh": stopped.and_then(|stopped| stopped.meter_stop_wh),
        "stopReason": stopped.map(|stopped| stopped.reason.as_ref().map_or("Local", |reason| reason.as_str())),
        "stopIdTag": stopped.and_then(|stopped| stopped.id_tag.as_deref()),
        "energyWh": row.energy_wh(),
        "meterMessages": row.meter_messages,
    })
}

#[cfg(test)]
mod tests {
    use leftfold::prelude::{Aggregates, Timestamp};
    use leftfold::store::Append;

    use super::*;
    use crate::domain::station::StationCommand;
    use crate::domain::transaction::{Started, Stopped};
    use crate::ocpp::v16::{AuthorizationStatus, TransactionId};
    use crate::view::View;

    fn start(id: i64, connector_id: u32) -> StationCommand {
        StationCommand::ReportStart(Started {
            transaction_id: TransactionId::new(id).unwrap(),
            connector_id,
            id_tag: "CAFE".to_owned(),
            parent_id_tag: None,
            authorization: AuthorizationStatus::Accepted,
            meter_start_wh: Some(1_000),
            timestamp: Some(Timestamp::from_micros(id)),
            received_at: Timestamp::from_micros(id),
            reservation_id: None,
            remote_start: None,
        })
    }

    fn stop(id: i64) -> StationCommand {
        StationCommand::ReportStop(Stopped {
            transaction_id: Some(id),
            id_tag: None,
            meter_stop_wh: Some(3_000),
            timestamp: None,
            received_at: Timestamp::from_micros(9),
            reason: None,
            transaction_data: Vec::new(),
        })
    }

    async fn read_meter(store: &Store, station: &str, transaction_id: i64) {
        let event = MeterEvent::ValuesRecorded {
            station: station.to_owned(),
            connector_id: Some(1),
            transaction_id: Some(transaction_id),
            values: Vec::new(),
            received_at: Timestamp::from_micros(5),
        };
        let stream = StreamName::of(meter::CATEGORY, station).unwrap();
        let new = Schema::of::<MeterEvent>().unwrap().encode(&event).unwrap().in_stream(stream);
        store.append(Append::of(vec![new])).await.unwrap();
    }

    /// The view forgets what stopped long ago, and such a transaction was then answered with 404.
    #[tokio::test]
    async fn the_log_tells_of_a_transaction_what_the_view_told() {
        let store = leftfold::open("memory:").await.unwrap();
        let stations: Aggregates<Station> = store.aggregate();
        for command in [start(1, 1), start(2, 1), start(3, 2), stop(3), start(4, 3)] {
            stations.execute("CP1", command).await.unwrap();
        }
        // Another station names a transaction that is not its own.
        stations.execute("CP2", stop(1)).await.unwrap();
        for (station, id) in [("CP1", 1), ("CP1", 3), ("CP2", 3), ("CP1", 3), ("CP1", 99)] {
            read_meter(&store, station, id).await;
        }
        let view = View::follow(&store).await.unwrap();
        let shown = view.read().transactions.clone();
        assert_eq!(shown.len(), 4);
        for (id, row) in shown {
            assert_eq!(from_log(&store, id).await.unwrap(), Some(row), "transaction {id}");
        }
        let superseded = from_log(&store, 1).await.unwrap().unwrap();
        assert!(superseded.superseded && superseded.stopped.is_none(), "{superseded:?}");
        assert_eq!(from_log(&store, 3).await.unwrap().unwrap().meter_messages, 2);
        assert_eq!(from_log(&store, 99).await.unwrap(), None);
    }
}
