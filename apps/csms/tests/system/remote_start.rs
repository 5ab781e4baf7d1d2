//! Remote starts: accepted, rejected, unanswered, raced for, refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Folder, Response, Server};
use crate::station::Station;

const START: &str = "/api/stations/CP1/remote-start";
const CAFE: &str = r#"{"connectorId": 1, "idTag": "CAFE"}"#;

fn start(station: &mut Station, id_tag: &str, connector_id: u32) -> i64 {
    let now = "2036-02-01T10:00:00Z";
    let payload = json!({ "connector_id": connector_id, "id_tag": id_tag, "meter_start": 0, "timestamp": now });
    station.call("StartTransaction", payload)["transaction_id"].as_i64().unwrap()
}

fn effect_of(response: &Response) -> String {
    response.json()["link"].as_str().unwrap().to_owned()
}

#[test]
fn accepted_means_that_the_station_tries_and_the_start_that_follows_is_taken_for_its_result() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    let answered = server.post(&format!("{START}?wait=30s"), CAFE);
    assert_eq!((answered.status, &answered.json()["answer"]), (200, &json!("done")), "{answered:?}");
    assert_eq!(station.received("RemoteStartTransaction")["payload"], json!({ "connectorId": 1, "idTag": "CAFE" }));
    assert_eq!(server.json("/api/transactions")["items"], json!([]), "accepted is no transaction");
    server.post(START, r#"{"connectorId": 1, "idTag": "BEEF"}"#).is_problem(409, "connector-claimed");
    let id = start(&mut station, "CAFE", 1);
    let transaction = server.json(&format!("/api/transactions/{id}"));
    assert_eq!(transaction["remoteStart"], answered.json()["request"]["request"]);
    server.post(START, r#"{"connectorId": 1, "idTag": "BEEF"}"#).is_problem(409, "connector-occupied");
    // And the way back.
    let stop = format!(r#"{{"transactionId": {id}}}"#);
    let foreign = format!(r#"{{"transactionId": {id}, "idTag": "BEEF"}}"#);
    server.post("/api/stations/CP1/remote-stop", &foreign).is_problem(409, "foreign-tag");
    assert_eq!(server.post("/api/stations/CP1/remote-stop?wait=30s", &stop).json()["answer"], "done");
    assert_eq!(station.received("RemoteStopTransaction")["payload"], json!({ "transactionId": id }));
    let unlocked = server.post("/api/stations/CP1/unlock?wait=30s", r#"{"connectorId": 1}"#);
    assert_eq!(unlocked.json()["answer"], "done", "{unlocked:?}");
}

#[test]
fn a_rejection_is_an_answer_and_frees_the_connector() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    station.answer("RemoteStartTransaction", Some("Rejected"));
    let answered = server.post(&format!("{START}?wait=30s"), CAFE).json();
    assert_eq!(
        (&answered["answer"], &answered["state"], &answered["reason"]),
        (&json!("rejected"), &json!("done"), &json!("Rejected"))
    );
    station.answer("RemoteStartTransaction", Some("Accepted"));
    assert_eq!(server.post(&format!("{START}?wait=30s"), r#"{"connectorId": 1, "idTag": "BEEF"}"#).json()["answer"], "done");
}

#[test]
fn no_answer_leaves_a_doubt_that_the_start_of_the_transaction_resolves_without_asking_twice() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    station.answer("RemoteStartTransaction", None);
    let answered = server.post(&format!("{START}?wait=30s"), CAFE);
    assert_eq!((answered.status, &answered.json()["answer"]), (200, &json!("noAnswer")), "{answered:?}");
    assert_eq!(server.json("/api/effects?state=inDoubt")["items"].as_array().unwrap().len(), 1);
    start(&mut station, "CAFE", 1);
    let effect = server.until(&effect_of(&answered), |effect| effect["answer"] == "done");
    assert_eq!((&effect["attempts"], &effect["by"]), (&json!(1), &json!("runtime")));
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(100)), 1, "sent once");
}

#[test]
fn no_answer_is_resolved_by_asking_the_station_how_its_connector_is() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    let mut station = Station::ready(&server, "CP1");
    station.answer("RemoteStartTransaction", None);
    let answered = server.post(&format!("{START}?wait=30s"), CAFE);
    assert_eq!(answered.json()["answer"], "noAnswer");
    station.received("RemoteStartTransaction");
    let asked = station.received("TriggerMessage");
    assert_eq!(asked["payload"], json!({ "requestedMessage": "StatusNotification", "connectorId": 1 }));
    station.status(1, "Available", "NoError");
    let effect = server.until(&effect_of(&answered), |effect| effect["state"] == "notDone");
    assert!(effect["reason"].as_str().unwrap().contains("no transaction has started"), "{effect}");
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(100)), 0, "never repeated blindly");
}

#[test]
fn a_person_may_say_what_happened() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    station.answer("UnlockConnector", None);
    let answered = server.post("/api/stations/CP1/unlock?wait=30s", r#"{"connectorId": 2}"#);
    assert_eq!(answered.json()["answer"], "noAnswer");
    let resolve = format!("{}/resolve", effect_of(&answered));
    server.post(&resolve, r#"{"verdict": "perhaps"}"#).is_problem(400, "invalid-json");
    let resolved = server.post(&resolve, r#"{"verdict": "done", "by": "Ada"}"#);
    assert_eq!((resolved.status, &resolved.json()["answer"], &resolved.json()["by"]), (200, &json!("done"), &json!("Ada")));
    server.post(&resolve, r#"{"verdict": "notDone"}"#).is_problem(409, "effect-concluded");
}

#[test]
fn of_two_drivers_in_the_same_millisecond_exactly_one_gets_the_connector() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    let ask = |driver: usize| server.post(START, &format!(r#"{{"connectorId": 1, "idTag": "DRIVER{driver}"}}"#));
    let responses: Vec<Response> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|driver| scope.spawn(move || ask(driver))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = responses.iter().partition(|response| response.status == 202);
    assert_eq!((won.len(), lost.len()), (1, 7));
    lost.iter().for_each(|response| response.is_problem(409, "connector-claimed"));
    let sent = station.received("RemoteStartTransaction");
    assert_eq!(sent["payload"]["idTag"], won[0].json()["request"]["id_tag"]);
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(200)), 0);
}

#[test]
fn heartbeats_that_race_a_remote_start_neither_lose_it_nor_send_it_twice() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--keep-heartbeats", "--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    for _ in 0..50 {
        station.tell(json!({ "do": "call", "action": "Heartbeat", "payload": {} }));
    }
    assert_eq!(server.post(&format!("{START}?wait=30s"), CAFE).json()["answer"], "done");
    for _ in 0..50 {
        station.next("reply");
    }
    let history = server.json("/api/stations/CP1/history?limit=500");
    let count = |wanted: &str| history["items"].as_array().unwrap().iter().filter(|event| event["type"] == wanted).count();
    assert_eq!(count("station.HeartbeatReceived"), 50);
    assert_eq!(count("station.RemoteStartRequested"), 1);
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(100)), 1);
}

#[test]
fn what_cannot_charge_is_refused_and_nothing_is_sent() {
    let store = Folder::new();
    let server = Server::start(store.path(), &[]);
    server.post(START, CAFE).is_problem(404, "unknown-station");
    let mut station = Station::ready(&server, "CP1");
    station.status(1, "Faulted", "UnderVoltage");
    server.post(START, CAFE).is_problem(409, "connector-out-of-order");
    station.status(1, "Unavailable", "NoError");
    server.post(START, CAFE).is_problem(409, "connector-out-of-order");
    server.post(START, r#"{"connectorId": 3, "idTag": "CAFE"}"#).is_problem(409, "unknown-connector");
    assert_eq!(server.put("/api/tags/BEEF", r#"{"status": "Expired"}"#).status, 201);
    server.post(START, r#"{"connectorId": 2, "idTag": "beef"}"#).is_problem(409, "tag-not-accepted");
    // One at a time, though there are two connectors.
    station.status(1, "Available", "NoError");
    assert_eq!(server.put("/api/stations/CP1", r#"{"maxTransactions": 1}"#).json()["maxTransactions"], 1);
    start(&mut station, "CAFE", 2);
    server.post(START, CAFE).is_problem(409, "transaction-limit-reached");
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(100)), 0);
}

#[test]
fn a_request_under_one_key_takes_effect_once() {
    let store = Folder::new();
    let server = Server::start(store.path(), &["--start-within", "60s"]);
    let mut station = Station::ready(&server, "CP1");
    let key = [("Idempotency-Key", "order-17")];
    let first = server.request("POST", &format!("{START}?wait=30s"), &key, CAFE);
    let again = server.request("POST", &format!("{START}?wait=30s"), &key, CAFE);
    assert_eq!((first.status, again.status), (200, 200), "{again:?}");
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert!(again.head.to_lowercase().contains("idempotency-replayed: true"));
    let other = server.request("POST", START, &key, r#"{"connectorId": 2, "idTag": "CAFE"}"#);
    other.is_problem(422, "idempotency-key-reused");
    assert_eq!(station.count_within("RemoteStartTransaction", Duration::from_millis(200)), 1);
    let listed: Value = server.json("/api/effects");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}
