//! The API's word on what cannot be: a problem document (RFC 9457) that says what to do.

use serde_json::{Value, json};

use crate::harness::api::page_path;
use crate::harness::views::Page;
use crate::harness::{Server, State};

#[test]
fn a_body_that_is_no_json_or_has_other_fields_is_a_bad_request_that_names_the_fault() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    for (body, named) in [
        ("", ""),
        ("{", "EOF"),
        ("[]", ""),
        ("\"text\"", ""),
        (r#"{"connectorId": 1}"#, "idTag"),
        (r#"{"connectorId": "one", "idTag": "TAG"}"#, "one"),
        (r#"{"connectorId": -1, "idTag": "TAG"}"#, "-1"),
        (r#"{"connectorId": 0, "idTag": "TAG"}"#, "0"),
        (r#"{"connectorId": 1, "idTag": 5}"#, "5"),
        (r#"{"connectorId": 1, "idTag": ""}"#, ""),
        (r#"{"connectorId": 1, "idTag": "A-TAG-OF-MORE-THAN-TWENTY-CHARACTERS"}"#, "20"),
        (r#"{"connectorId": 1, "idTag": "TAG", "conectorId": 2}"#, "conectorId"),
    ] {
        let problem = api.send("POST", "/api/stations/CP-1/remote-start", &[], body).problem(400);
        assert!(problem.detail.len() > 10 && problem.detail.contains(named), "{body}: {problem:?}");
    }
    assert_eq!(api.effects(), []);
    assert_eq!(station.count_calls("RemoteStartTransaction"), 0);
}

#[test]
fn unknown_routes_and_things_are_not_found() {
    let server = Server::start();
    let api = server.api();
    for path in [
        "/nowhere",
        "/api",
        "/api/nowhere",
        "/api/stations/CP-9",
        "/api/stations/CP-9/history",
        "/api/transactions/77",
        "/api/effects/77",
        "/api/tags/NOBODY",
    ] {
        api.fetch(path).problem(404);
    }
    api.resolve("77", "done", "").problem(404);
    api.unlock("CP-9", 1).problem(404);
    api.remote_stop("CP-9", 1).problem(404);
}

#[test]
fn a_wrong_method_is_not_allowed_and_the_right_ones_are_named() {
    let server = Server::start();
    let api = server.api();
    for (method, path, allowed) in [
        ("DELETE", "/api/stations", "GET"),
        ("GET", "/api/stations/CP-1/remote-start", "POST"),
        ("POST", "/api/tags/ANN", "PUT"),
        ("PUT", "/api/effects/1/resolve", "POST"),
    ] {
        let reply = api.send(method, path, &[], "");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains(allowed)), "{reply:?}");
        reply.problem(405);
    }
}

#[test]
fn queries_that_make_no_sense_are_bad_requests() {
    let server = Server::start();
    let api = server.api();
    server.ready_station("CP-1", 1);
    for path in [
        "/api/stations/CP-1?version=first",
        "/api/stations/CP-1?at=yesterday",
        "/api/stations/CP-1?version=1&at=2026-01-01T00:00:00Z",
        "/api/stations?limit=many",
        "/api/stations/CP-1/history?after=never",
        "/api/transactions?open=perhaps",
        "/api/effects?state=confused",
        "/api/transactions/first",
        "/api/effects/first",
    ] {
        let reply = api.fetch(path);
        // An id that can be none is as good as one that is not there.
        let status = if reply.status == 404 && !path.contains('?') { 404 } else { 400 };
        reply.problem(status);
    }
    api.post("/api/stations/CP-1/unlock?wait=long", &json!({"connectorId": 1})).problem(400);
    // A version that is still to come is not the present.
    let reply = api.fetch("/api/stations/CP-1?version=1000000");
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
}

#[test]
fn bodies_and_keys_are_bounded() {
    let server = Server::start();
    let api = server.api();
    server.ready_station("CP-1", 1);
    let body = json!({"connectorId": 1, "idTag": "TAG", "padding": "x".repeat(1024 * 1024)});
    let reply = api.post("/api/stations/CP-1/remote-start", &body);
    assert!(matches!(reply.status, 400 | 413), "{}", reply.status);
    api.remote_start_under(&"k".repeat(1000), "CP-1", 1, "TAG").problem(400);
    api.remote_start_under("", "CP-1", 1, "TAG").problem(400);
    assert_eq!(api.effects(), []);
}

/// A page of somewhere else, opened in a browser on this machine, must not command stations in open
/// mode.
#[test]
fn a_foreign_page_may_not_call() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let body = json!({"connectorId": 1}).to_string();
    let origin = [("Origin", "https://evil.example")];
    api.send("POST", "/api/stations/CP-1/unlock", &origin, &body).problem(403);
    assert_eq!(station.count_calls("UnlockConnector"), 0);
}

#[test]
fn lists_come_in_pages_that_lead_on_to_each_other() {
    let server = Server::start();
    let api = server.api();
    for number in 0..5 {
        let reply = api.put(&format!("/api/stations/CP-{number}"), &json!({}));
        assert!(matches!(reply.status, 200 | 201 | 204), "{reply:?}");
    }
    let station = server.ready_station("CP-0", 1);
    for _ in 0..5 {
        let transaction_id = station.start(1, "TAG");
        api.unlock("CP-0", 1).concluded(State::Done);
        station.stop(transaction_id);
    }
    for path in [
        "/api/stations",
        "/api/transactions",
        "/api/transactions?station=CP-0",
        "/api/effects",
        "/api/effects?state=concluded",
    ] {
        let limited = format!("{path}{}limit=2", if path.contains('?') { '&' } else { '?' });
        let mut sizes = Vec::new();
        let mut page: Page<Value> = api.fetch(&limited).expect(200).view();
        let mut items = Vec::new();
        loop {
            sizes.push(page.items.len());
            items.append(&mut page.items);
            let Some(next) = page.next else { break };
            page = api.fetch(&page_path(&limited, &next)).expect(200).view();
        }
        assert_eq!(sizes, [2, 2, 1], "{path}");
        assert_eq!(items, api.all::<Value>(path), "{path}: page by page it is the same list");
    }
    let history = api.history("CP-0").len();
    let in_threes: Vec<Value> = api.all("/api/stations/CP-0/history?limit=3");
    assert_eq!(in_threes.len(), history);
}

#[test]
fn health_is_told() {
    let server = Server::start();
    let health = server.api().fetch("/health").expect(200).json();
    assert_eq!(health["status"], "ok");
}
