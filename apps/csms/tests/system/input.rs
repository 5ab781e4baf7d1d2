//! Bad input, from stations and from callers: a clear error, nothing lost, no panic.

use serde_json::json;

use crate::server::{Folder, Server};
use crate::station::Station;

#[test]
fn frames_that_are_none_are_answered_or_ignored_and_the_connection_goes_on() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    let texts = ["", "nonsense", "[]", "[2]", r#"[9,"a"]"#, r#"[3,"nobody",{}]"#, r#"[2,"a","FluxCapacitor",{}]"#];
    for text in texts {
        station.tell(json!({ "do": "raw", "text": text }));
    }
    let large = format!(r#"[2,"large","DataTransfer",{{"vendorId":"{}"}}]"#, "x".repeat(300 * 1024));
    station.tell(json!({ "do": "raw", "text": large }));
    assert!(station.call("Heartbeat", json!({}))["current_time"].is_string(), "it goes on");
    // Beyond what is read at all the connection ends, and a new one is taken.
    station.tell(json!({ "do": "raw", "text": "x".repeat(1024 * 1024) }));
    station.next("closed");
    station.connect(&server, "CP1");
    assert!(station.call("Heartbeat", json!({}))["current_time"].is_string());
}

#[test]
fn another_subprotocol_is_turned_away_after_the_handshake() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::new();
    station.tell(json!({ "do": "connect", "url": server.url("CP1"), "subprotocols": ["ocpp9.9"] }));
    assert_eq!(station.next("connected")["connected"], "", "the handshake was completed without the header");
    station.next("closed");
    server.fetch("/ocpp/CP1").is_problem(426, "websocket-required");
}

#[test]
fn a_closed_server_serves_registered_stations_and_whoever_has_the_token() {
    let store = Folder::new();
    let stations = store.path().join("stations.txt");
    std::fs::write(&stations, "# ours\nCP1\n").unwrap();
    let token = "0123456789abcdef";
    let flags = ["--api-token", token, "--stations", stations.to_str().unwrap()];
    let mut server = Server::start(&store.path().join("store"), &flags);
    server.fetch("/api/stations").is_problem(401, "token-required");
    server.fetch("/ocpp/CP2").is_problem(404, "unknown-station");
    server.token = Some(token);
    let mut station = Station::ready(&server, "CP1");
    assert_eq!(station.call("Authorize", json!({ "id_tag": "CAFE" }))["id_tag_info"]["status"], "Invalid");
    station.tell(json!({ "do": "connect", "url": server.url("CP2") }));
    assert_eq!(station.next("failed")["status"], 404);
    assert_eq!(server.put("/api/stations/CP2", "").status, 201);
    station.connect(&server, "CP2");
    let refused = Server::command(store.path()).args(["--api-token", token]).output().unwrap();
    assert!(!refused.status.success(), "without any registered station it does not start");
}

#[test]
fn the_api_says_what_is_wrong() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let _station = Station::ready(&server, "CP1");
    let start = "/api/stations/CP1/remote-start";
    server.post(start, "{").is_problem(400, "invalid-json");
    server.post(start, r#"{"connectorId": 0, "idTag": "CAFE"}"#).is_problem(400, "invalid-json");
    server.post(start, r#"{"idTag": "far too long for an id tag"}"#).is_problem(400, "invalid-json");
    server.post(start, r#"{"idTag": "A", "color": "red"}"#).is_problem(400, "invalid-json");
    server.post(start, &"x".repeat(100_000)).is_problem(413, "body-too-large");
    server.post(&format!("{start}?wait=forever"), r#"{"idTag": "A"}"#).is_problem(400, "invalid-query");
    server.request("POST", start, &[("Idempotency-Key", "")], r#"{"idTag": "A"}"#).is_problem(400, "invalid-idempotency-key");
    server.request("DELETE", start, &[], "").is_problem(405, "method-not-allowed");
    server.fetch("/api/nothing").is_problem(404, "no-such-route");
    server.fetch("/api/stations/nobody").is_problem(404, "unknown-station");
    server.fetch("/api/stations/nobody/history").is_problem(404, "unknown-station");
    server.fetch("/api/stations/CP1?version=1&at=2026-01-01T00:00:00Z").is_problem(400, "invalid-query");
    server.fetch("/api/stations/CP1?at=yesterday").is_problem(400, "invalid-query");
    server.fetch("/api/stations/%FF").is_problem(400, "invalid-path");
    server.fetch("/api/stations?limit=many").is_problem(400, "invalid-query");
    server.fetch("/api/transactions/none").is_problem(404, "unknown-transaction");
    server.fetch("/api/effects/99").is_problem(404, "unknown-effect");
    server.fetch("/api/effects?state=odd").is_problem(400, "invalid-query");
    server.fetch("/api/tags/NOBODY").is_problem(404, "unknown-tag");
    server.put("/api/tags/CAFE", r#"{"status": "Superb"}"#).is_problem(400, "invalid-json");
    let foreign = [("Origin", "https://evil.example")];
    server.request("POST", start, &foreign, r#"{"idTag": "A"}"#).is_problem(403, "foreign-origin");
}

#[test]
fn tags_are_defined_read_and_removed() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let body = r#"{"status": "Accepted", "parentIdTag": "FLEET", "expiryDate": "2036-01-01T00:00:00Z"}"#;
    assert_eq!(server.put("/api/tags/Cafe", body).status, 201);
    assert_eq!(server.put("/api/tags/CAFE", body).status, 200);
    let tag = server.json("/api/tags/cafe");
    assert_eq!((&tag["status"], &tag["parentIdTag"]), (&json!("Accepted"), &json!("FLEET")));
    assert_eq!(server.request("DELETE", "/api/tags/CAFE", &[], "").status, 204);
    server.fetch("/api/tags/CAFE").is_problem(404, "unknown-tag");
}
