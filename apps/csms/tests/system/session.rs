//! A full session, and what is told of it.

use serde_json::json;

use crate::server::{Folder, Server};
use crate::station::Station;

#[test]
fn a_session_is_told_from_boot_to_stop() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP%201");
    let heartbeat = station.call("Heartbeat", json!({}));
    assert!(heartbeat["current_time"].as_str().unwrap().ends_with('Z'), "{heartbeat}");
    let authorized = station.call("Authorize", json!({ "id_tag": "CAFE" }));
    assert_eq!(authorized["id_tag_info"]["status"], "Accepted");
    station.status(1, "Preparing", "NoError");
    let start = json!({ "connector_id": 1, "id_tag": "CAFE", "meter_start": 1000, "timestamp": "2026-02-01T10:00:00Z" });
    let started = station.call("StartTransaction", start);
    let id = started["transaction_id"].as_i64().unwrap();
    assert!(id > 0);
    station.status(1, "Charging", "NoError");
    let values = json!({ "connector_id": 1, "transaction_id": id, "meter_value": [{ "timestamp": "2026-02-01T10:10:00Z",
        "sampled_value": [{ "value": "3.5", "unit": "kWh" }] }] });
    station.call("MeterValues", values.clone());
    // The same again, under another message id.
    station.call("MeterValues", values);
    let running = server.json(&format!("/api/transactions/{id}"));
    assert_eq!((&running["open"], &running["energyWh"], &running["station"]), (&json!(true), &json!(2500), &json!("CP 1")));
    assert_eq!(running["meterMessages"], 1, "a repeated message is counted once: {running}");
    assert_eq!(running["meterValues"]["items"].as_array().unwrap().len(), 1);
    let before = server.json("/api/stations/CP%201");
    let stop =
        json!({ "transaction_id": id, "meter_stop": 5000, "timestamp": "2026-02-01T10:20:00Z", "reason": "EVDisconnected" });
    station.call("StopTransaction", stop);
    let stopped = server.json(&format!("/api/transactions/{id}"));
    assert_eq!((&stopped["open"], &stopped["energyWh"]), (&json!(false), &json!(4000)));
    assert_eq!(server.json("/api/transactions?open=true")["items"], json!([]));
    let ended = server.json("/api/transactions?open=false&station=CP%201");
    assert_eq!(ended["items"][0]["stopReason"], "EVDisconnected");
    // The past is as it was.
    let version = before["version"].as_u64().unwrap();
    let then = server.json(&format!("/api/stations/CP%201?version={version}"));
    assert_eq!(then["connectors"], before["connectors"]);
    let history = server.json("/api/stations/CP%201/history?limit=2");
    assert_eq!(history["items"][0]["type"], "station.CameOnline");
    assert_eq!(history["items"][1]["type"], "station.Booted");
    assert_eq!(history["next"], "2");
    let at = history["items"][1]["recordedAt"].as_str().unwrap();
    assert_eq!(server.json(&format!("/api/stations/CP%201?at={at}"))["version"], 2);
    assert_eq!(server.json("/health")["status"], "ok");
}

#[test]
fn only_what_is_new_is_recorded_and_heartbeats_are_not() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    let before = server.json("/api/stations/CP1")["version"].clone();
    for _ in 0..3 {
        station.call("Heartbeat", json!({}));
        station.status(1, "Available", "NoError");
    }
    assert_eq!(server.json("/api/stations/CP1")["version"], before);
    let kept = Folder::new();
    let auditing = Server::start(kept.path(), &["--keep-heartbeats"]);
    let mut station = Station::ready(&auditing, "CP1");
    station.call("Heartbeat", json!({}));
    let history = auditing.json("/api/stations/CP1/history");
    let types: Vec<_> = history["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.last(), Some(&"station.HeartbeatReceived"), "{types:?}");
}

#[test]
fn a_transaction_message_is_answered_whatever_it_says() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    server.put("/api/tags/BLOCKED", r#"{"status": "Blocked"}"#);
    let start = json!({ "connector_id": 1, "id_tag": "blocked", "meter_start": 0, "timestamp": "2026-02-01T10:00:00Z" });
    let started = station.call("StartTransaction", start);
    assert_eq!(started["id_tag_info"]["status"], "Blocked");
    let id = started["transaction_id"].as_i64().unwrap();
    assert_eq!(server.json(&format!("/api/transactions/{id}"))["open"], true, "the transaction exists all the same");
    for unknown in [-1, 4711] {
        let stop = json!({ "transaction_id": unknown, "meter_stop": 1, "timestamp": "2026-02-01T10:00:00Z" });
        station.call("StopTransaction", stop);
    }
    let history = server.json("/api/stations/CP1/history");
    let unmatched = history["items"].as_array().unwrap().iter().filter(|event| event["type"] == "station.UnmatchedStopReported");
    assert_eq!(unmatched.count(), 2);
    // Nonsense, past the charge point's own validation.
    station.tell(json!({ "do": "raw", "text": r#"[2,"x1","StartTransaction",{"connectorId":"?","meterStart":1e99}]"# }));
    station.tell(json!({ "do": "raw", "text": r#"[2,"x2","StopTransaction",[]]"# }));
    let transactions = server.until("/api/transactions", |list| list["items"].as_array().is_some_and(|items| items.len() == 2));
    assert_eq!(transactions["items"][0]["idTag"], "");
    let history = server.until("/api/stations/CP1/history", |list| {
        let unmatched = |event: &&serde_json::Value| event["type"] == "station.UnmatchedStopReported";
        list["items"].as_array().is_some_and(|items| items.iter().filter(unmatched).count() == 3)
    });
    let last = history["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["metadata"]["note"]["raw"], "[]", "what was wrong is kept: {last}");
}
