//! Lost replies, repeated messages, replaced and silent connections.

use serde_json::json;

use crate::server::{Folder, Server};
use crate::station::Station;

#[test]
fn a_start_whose_reply_was_lost_and_that_is_sent_again_under_a_new_id_gets_the_same_transaction() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    let start = json!({ "connector_id": 1, "id_tag": "CAFE", "meter_start": 7, "timestamp": "2026-02-01T10:00:00Z" });
    // The line breaks while the reply is on its way.
    let raw =
        r#"[2,"first","StartTransaction",{"connectorId":1,"idTag":"CAFE","meterStart":7,"timestamp":"2026-02-01T10:00:00Z"}]"#;
    station.tell(json!({ "do": "raw", "text": raw }));
    let listed = server.until("/api/transactions", |list| list["items"].as_array().is_some_and(|items| !items.is_empty()));
    station.tell(json!({ "do": "abort" }));
    station.next("closed");
    station.connect(&server, "CP1");
    let again = station.call("StartTransaction", start.clone());
    assert_eq!(again["transaction_id"], listed["items"][0]["id"]);
    let stop = json!({ "transaction_id": again["transaction_id"], "meter_stop": 9, "timestamp": "2026-02-01T11:00:00Z" });
    station.call("StopTransaction", stop.clone());
    station.call("StopTransaction", stop);
    // Even after the stop it is the same start.
    assert_eq!(station.call("StartTransaction", start)["transaction_id"], again["transaction_id"]);
    let listed = server.json("/api/transactions");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["items"][0]["energyWh"], 2);
    let history = server.json("/api/stations/CP1/history");
    let count = |wanted: &str| history["items"].as_array().unwrap().iter().filter(|event| event["type"] == wanted).count();
    assert_eq!((count("station.TransactionStarted"), count("station.TransactionStopped")), (1, 1));
    assert_eq!(count("station.UnmatchedStopReported"), 0);
}

#[test]
fn a_new_connection_replaces_the_old_one_and_calls_go_to_the_new_one() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut old = Station::ready(&server, "CP1");
    let mut new = Station::new();
    new.connect(&server, "CP1");
    let closed = old.next("closed");
    assert_eq!(closed["reason"], "replaced by a newer connection");
    let station = server.json("/api/stations/CP1");
    assert_eq!((&station["online"], &station["connected"]), (&json!(true), &json!(true)));
    let answered = server.post("/api/stations/CP1/remote-start?wait=30s", r#"{"connectorId": 1, "idTag": "CAFE"}"#);
    assert_eq!(answered.json()["answer"], "done", "{answered:?}");
    new.received("RemoteStartTransaction");
}

#[test]
fn silence_is_recorded_and_so_is_its_end() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--offline-after", "500ms"]);
    let mut station = Station::ready(&server, "CP1");
    assert_eq!(server.json("/api/stations/CP1")["online"], true);
    station.tell(json!({ "do": "abort" }));
    station.next("closed");
    server.until("/api/stations/CP1", |station| station["online"] == false);
    let refused = server.post("/api/stations/CP1/remote-start", r#"{"connectorId": 1, "idTag": "CAFE"}"#);
    refused.is_problem(409, "station-offline");
    station.connect(&server, "CP1");
    // It says nothing, but answers pings.
    server.until("/api/stations/CP1", |station| station["online"] == true);
    let history = server.json("/api/stations/CP1/history");
    let types: Vec<_> = history["items"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types.iter().filter(|name| **name == "station.WentOffline").count(), 1, "{types:?}");
    assert_eq!(types.last(), Some(&"station.CameOnline"));
}

#[test]
fn a_connection_that_answers_pings_is_not_silent() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--offline-after", "600ms"]);
    let mut station = Station::ready(&server, "CP1");
    // It answers pings, and sends nothing, for several times that long.
    let none = station.count_within("TriggerMessage", std::time::Duration::from_secs(2));
    assert_eq!(none, 0);
    let history = server.json("/api/stations/CP1/history");
    let offline = history["items"].as_array().unwrap().iter().filter(|event| event["type"] == "station.WentOffline").count();
    assert_eq!((offline, &server.json("/api/stations/CP1")["online"]), (0, &json!(true)));
}

#[test]
fn a_station_that_connects_and_says_nothing_is_asked_and_is_not_assumed_to_be_online() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    assert_eq!(server.put("/api/stations/CP1", "").status, 201);
    let mut station = Station::new();
    station.answer("TriggerMessage", None);
    station.connect(&server, "CP1");
    assert_eq!(station.received("TriggerMessage")["payload"], json!({ "requestedMessage": "Heartbeat" }));
    assert_eq!(server.json("/api/stations/CP1")["online"], false, "it was connected, but not heard of");
    // It does what it was asked for, and is asked on for what is not known of it.
    station.call("Heartbeat", json!({}));
    server.until("/api/stations/CP1", |station| station["online"] == true);
    assert_eq!(station.received("TriggerMessage")["payload"], json!({ "requestedMessage": "StatusNotification" }));
}
