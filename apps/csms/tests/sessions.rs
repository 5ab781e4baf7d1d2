//! A whole session, as it should be.

use serde_json::json;

use crate::harness::Server;
use crate::harness::station::{meter_values, start};
use crate::harness::views::{StationView, TransactionView};

#[test]
fn a_session_is_seen_from_boot_to_stop() {
    let server = Server::start();
    let api = server.api();
    let station = server.station("CP-1");
    let booted = station.boot();
    assert_eq!(booted["status"], "Accepted");
    assert!(booted["interval"].as_i64().unwrap() > 0, "{booted}");
    station.status(0, "Available");
    station.status(1, "Available");
    assert_eq!(station.authorize("TAG"), "Accepted");
    station.status(1, "Preparing");
    let transaction_id = station.start(1, "TAG");
    assert!(transaction_id > 0, "OCPP.md point 4: ids that we assign are positive");
    station.status(1, "Charging");

    let view = api.station_when("CP-1", "charging", |view| view.status_of(1) == Some("Charging"));
    assert!(view.online);
    let boot = view.boot.as_ref().unwrap();
    assert_eq!((boot.vendor.as_deref(), boot.model.as_deref()), (Some("Leftfold"), Some("Tester")));
    assert_eq!(view.connector(1).transaction_id, Some(transaction_id));
    assert_eq!(view.connector(1).error_code.as_deref(), Some("NoError"));

    station.call("MeterValues", meter_values(1, transaction_id, 1200));
    station.call("MeterValues", meter_values(1, transaction_id, 1900));
    let running = api.transaction(transaction_id);
    assert_eq!(
        (running.station.as_str(), running.connector_id, running.id_tag.as_str()),
        ("CP-1", 1, "TAG")
    );
    assert_eq!(running.meter_messages, 2);
    assert_eq!(
        (running.meter_start_wh, running.meter_stop_wh, &running.stopped_at),
        (Some(1000), None, &None)
    );
    assert_eq!(running.energy_wh, Some(900), "the latest reading less the one at the start");

    station.stop(transaction_id);
    station.status(1, "Available");
    let stopped = api.transaction(transaction_id);
    assert_eq!((stopped.meter_stop_wh, stopped.energy_wh), (Some(2500), Some(1500)));
    assert!(
        stopped.started_at.is_some() && stopped.stopped_at >= stopped.started_at,
        "{stopped:?}"
    );
    assert_eq!(stopped.meter_messages, 2);
    assert_eq!(stopped.remote_start, None);
    api.station_when("CP-1", "free again", |view| view.connector(1).transaction_id.is_none());
}

#[test]
fn transactions_are_listed_by_station_and_by_whether_they_are_open() {
    let server = Server::start();
    let api = server.api();
    let one = server.ready_station("CP-1", 2);
    let other = server.ready_station("CP-2", 1);
    let over = one.start(1, "ANN");
    one.stop(over);
    let open = one.start(2, "BOB");
    let elsewhere = other.start(1, "EVE");
    let ids = |path: &str| {
        let mut ids: Vec<i64> = api
            .all::<serde_json::Value>(path)
            .iter()
            .map(|item| item["id"].as_i64().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    let sorted = |mut ids: Vec<i64>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids("/api/transactions"), sorted(vec![over, open, elsewhere]));
    assert_eq!(ids("/api/transactions?station=CP-1"), sorted(vec![over, open]));
    assert_eq!(ids("/api/transactions?open=true"), sorted(vec![open, elsewhere]));
    assert_eq!(ids("/api/transactions?station=CP-1&open=false"), [over]);
}

/// A transaction whose stop was lost was shown as running for ever.
#[test]
fn a_transaction_whose_stop_was_lost_runs_no_more_once_another_one_started_there() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let (lost, next) = (station.start(1, "ANN"), station.start(1, "BOB"));
    let seen = |id| {
        let view = api.transaction(id);
        (view.open, view.state)
    };
    let state = |open: bool, state: &str| (open, state.to_owned());
    assert_eq!((seen(lost), seen(next)), (state(false, "replaced"), state(true, "running")));
    assert_eq!(api.all::<TransactionView>("/api/transactions?open=true").len(), 1);
    let page = api.fetch("/").expect(200).body;
    assert!(page.contains("BOB") && !page.contains("ANN"), "{page}");
    station.stop(lost);
    assert_eq!((seen(lost), seen(next)), (state(false, "stopped"), state(true, "running")));
    assert!(api.transaction(lost).stopped_at.is_some());
}

#[test]
fn the_past_of_a_station_can_be_looked_at() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let before = api.history("CP-1").last().unwrap().clone();
    let transaction_id = station.start(1, "TAG");
    station.stop(transaction_id);
    api.station_when("CP-1", "changed", |view| view.version >= before.version + 2);

    let at_version: StationView =
        api.fetch(&format!("/api/stations/CP-1?version={}", before.version + 1)).expect(200).view();
    assert_eq!(at_version.version, before.version + 1);
    assert_eq!(at_version.connector(1).transaction_id, Some(transaction_id));
    let at_moment: StationView =
        api.fetch(&format!("/api/stations/CP-1?at={}", before.recorded_at)).expect(200).view();
    assert_eq!(at_moment.version, before.version);
    assert_eq!(at_moment.connector(1).transaction_id, None);

    let history = api.history("CP-1");
    let versions: Vec<u64> = history.iter().map(|item| item.version).collect();
    assert_eq!(
        versions,
        (1..=history.len() as u64).collect::<Vec<_>>(),
        "nothing is missing and nothing is there twice"
    );
    for event_type in [
        "station.Booted",
        "station.StatusChanged",
        "station.TransactionStarted",
        "station.TransactionStopped",
    ] {
        assert!(
            history.iter().any(|item| item.event_type == event_type),
            "{event_type} in {history:?}"
        );
    }
    assert!(history.is_sorted_by(|a, b| a.recorded_at <= b.recorded_at), "{history:?}");
}

#[test]
fn meter_values_without_a_transaction_are_answered() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let mut clock_aligned = meter_values(0, 1, 77);
    clock_aligned.as_object_mut().unwrap().remove("transactionId");
    station.call("MeterValues", clock_aligned);
    assert_eq!(server.api().transactions("CP-1"), []);
}

#[test]
fn values_that_come_with_the_stop_are_kept() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let started = start(1, "TAG");
    let transaction_id =
        station.call("StartTransaction", started.clone())["transactionId"].as_i64().unwrap();
    let data = json!([{"timestamp": started["timestamp"], "sampledValue": [{"value": "1000", "context": "Transaction.Begin"}]}]);
    let stop = json!({"transactionId": transaction_id, "meterStop": 1700, "timestamp": started["timestamp"],
                      "reason": "EVDisconnected", "transactionData": data});
    station.call("StopTransaction", stop);
    let transaction = server.api().transaction(transaction_id);
    assert_eq!(
        (transaction.energy_wh, transaction.stop_reason.as_deref()),
        (Some(700), Some("EVDisconnected"))
    );
    assert_eq!(transaction.transaction_data.len(), 1);
}

#[test]
fn heartbeats_are_answered_with_the_time_and_leave_no_trace() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let before = server.api().station("CP-1").version;
    let answer = station.call("Heartbeat", json!({}));
    let told: jiff::Timestamp = answer["currentTime"].as_str().unwrap().parse().unwrap();
    assert!(
        jiff::Timestamp::now().duration_since(told).abs() < jiff::SignedDuration::from_mins(1),
        "{answer}"
    );
    assert_eq!(
        server.api().station("CP-1").version,
        before,
        "a heartbeat is no fact worth keeping"
    );
}
