//! What stations send late, twice, or out of order: nothing is counted twice, and nothing is lost.
//!
//! Message ids are no idempotency key (OCPP.md point 3): the harness sends every call under a new
//! one.

use serde_json::{Value, json};

use crate::harness::station::{meter_values, start, stop};
use crate::harness::{Server, Station};

fn id_in(answer: &Value) -> i64 {
    answer["transactionId"].as_i64().unwrap_or_else(|| panic!("no transactionId in {answer}"))
}

/// The answer to a message that no library of a station would send.
fn answer_to(station: &Station, action: &str, payload: &Value) -> Value {
    let id = format!("odd-{action}-{payload}").chars().take(36).collect::<String>();
    let id = format!("{id}{}", payload["transactionId"]);
    station.send_frame(&json!([2, id, action, payload]).to_string());
    let answer = station.frame_under(&id);
    assert_eq!(answer[0], 3, "{payload} was answered with {answer}");
    answer[2].clone()
}

#[test]
fn a_resent_start_gets_the_same_transaction() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let started = start(1, "TAG");
    let first = station.call("StartTransaction", started.clone());
    assert_eq!(station.call("StartTransaction", started.clone()), first);
    // The reply was lost with the socket.
    station.abort();
    station.connect();
    assert_eq!(station.call("StartTransaction", started.clone()), first);
    assert_eq!(api.transactions("CP-1").len(), 1);
    // Once it has stopped nobody can know whether this is another one: both are kept.
    station.stop(id_in(&first));
    let second = id_in(&station.call("StartTransaction", started));
    assert_ne!(second, id_in(&first));
    let view = api.transaction(second);
    assert_eq!(view.possible_repeat_of, Some(id_in(&first)));
    assert_eq!(view.flags, ["possible-repeat"]);
}

#[test]
fn starts_that_differ_are_different_transactions() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 2);
    let one = json!({"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": "2026-01-01T10:00:00Z"});
    let with = |field: &str, value: Value| {
        let mut other = one.clone();
        other[field] = value;
        other
    };
    let all = [
        one.clone(),
        with("connectorId", json!(2)),
        with("idTag", json!("OTHER")),
        with("meterStart", json!(1)),
        with("timestamp", json!("2026-01-01T10:00:01Z")),
    ];
    let mut ids: Vec<i64> =
        all.map(|started| id_in(&station.call("StartTransaction", started))).into();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(server.api().transactions("CP-1").len(), 5);
}

#[test]
fn stations_do_not_share_transactions() {
    let server = Server::start();
    let one = server.ready_station("CP-1", 1);
    let other = server.ready_station("CP-2", 1);
    let started = start(1, "TAG");
    let of_one = id_in(&one.call("StartTransaction", started.clone()));
    let of_other = id_in(&other.call("StartTransaction", started));
    assert_ne!(of_one, of_other);
    // A foreign id cannot stop someone's transaction, though it is answered.
    other.call("StopTransaction", stop(of_one));
    assert_eq!(server.api().transaction(of_one).stopped_at, None);
}

#[test]
fn a_resent_stop_counts_once() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    let mut stopped = stop(transaction_id);
    station.call("StopTransaction", stopped.clone());
    let next = station.start(1, "NEXT");
    station.abort();
    station.connect();
    station.call("StopTransaction", stopped.clone());
    stopped["idTag"] = json!("TAG");
    station.call("StopTransaction", stopped);
    assert_eq!(api.count_in_history("CP-1", "station.TransactionStopped"), 1);
    assert_eq!(api.transaction(transaction_id).energy_wh, Some(1500));
    assert_eq!(api.transaction(next).stopped_at, None);
    assert_eq!(api.station("CP-1").connector(1).transaction_id, Some(next), "the next one goes on");
}

#[test]
fn resent_meter_values_count_once() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    let values = meter_values(1, transaction_id, 1700);
    for _ in 0..3 {
        station.call("MeterValues", values.clone());
    }
    station.abort();
    station.connect();
    station.call("MeterValues", values);
    assert_eq!(server.api().transaction(transaction_id).meter_messages, 1);
}

/// The server cannot refuse that a transaction stopped (OCPP.md point 4): an error would be retried
/// for ever.
#[test]
fn a_stop_of_a_transaction_of_another_backend_is_answered_and_counted_once() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let unknown = stop(987_654);
    for _ in 0..2 {
        station.call("StopTransaction", unknown.clone());
    }
    let api = server.api();
    assert_eq!(api.count_in_history("CP-1", "station.TransactionStopped"), 1);
    let adopted = &api.transactions("CP-1")[0];
    assert_eq!(adopted.reported_id, Some(987_654));
    assert_eq!((&*adopted.state, &adopted.flags[..]), ("stopped", &["adopted".to_owned()][..]));
}

/// A station that never learned its transaction's id uses -1.
#[test]
fn transaction_minus_one_is_answered_as_if_it_were_valid() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    station.call("MeterValues", meter_values(1, -1, 5));
    station.call("StopTransaction", stop(-1));
    assert_eq!(server.api().count_in_history("CP-1", "station.UnmatchedStopReported"), 1);
}

/// History looks live (OCPP.md point 5): what was queued carries old timestamps, and may come twice
/// and last.
#[test]
fn messages_queued_while_offline_become_the_history_that_they_tell_of() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.abort();
    station.connect();
    station.status(1, "Available");
    let started = json!({"connectorId": 1, "idTag": "TAG", "meterStart": 100, "timestamp": "2026-02-03T04:05:06Z"});
    let transaction_id = id_in(&station.call("StartTransaction", started.clone()));
    let mut values = meter_values(1, transaction_id, 300);
    values["meterValue"][0]["timestamp"] = json!("2026-02-03T04:35:06Z");
    let stopped = json!({"transactionId": transaction_id, "meterStop": 600, "timestamp": "2026-02-03T05:05:06Z"});
    assert_eq!(id_in(&station.call("StartTransaction", started)), transaction_id);
    for _ in 0..2 {
        station.call("MeterValues", values.clone());
    }
    for _ in 0..2 {
        station.call("StopTransaction", stopped.clone());
    }
    let transaction = api.transaction(transaction_id);
    assert_eq!((transaction.energy_wh, transaction.meter_messages), (Some(500), 1));
    let moment = |text: Option<String>| text.unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(moment(transaction.started_at), "2026-02-03T04:05:06Z".parse().unwrap());
    assert_eq!(moment(transaction.stopped_at), "2026-02-03T05:05:06Z".parse().unwrap());
    let view = api.station("CP-1");
    assert_eq!((view.status_of(1), view.connector(1).transaction_id), (Some("Available"), None));
    assert_eq!(api.transactions("CP-1").len(), 1);
}

#[test]
fn an_old_report_of_a_connector_does_not_undo_a_newer_one() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let report = |status: &str, timestamp: &str| json!({"connectorId": 1, "errorCode": "NoError", "status": status, "timestamp": timestamp});
    station.call("StatusNotification", report("Charging", &crate::harness::station::now()));
    station.call("StatusNotification", report("Faulted", "2026-01-01T00:00:00Z"));
    let view =
        server.api().station_when("CP-1", "charging", |view| view.status_of(1) == Some("Charging"));
    assert_eq!(view.status_of(1), Some("Charging"));
}

/// OCPP.md point 13: be lenient in what you take, and never lose a transaction message over it.
#[test]
fn transactions_told_in_bad_style_are_taken_all_the_same() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let oddities = [
        r#"{"connectorId":1.0,"idTag":"TAG","meterStart":"10","timestamp":"2026-03-01T10:00:00"}"#,
        r#"{"connectorId":1,"idTag":"A-TAG-OF-MORE-THAN-TWENTY-CHARACTERS","meterStart":0,"timestamp":"2026-03-01T11:00:00Z"}"#,
        r#"{"connectorId":1,"idTag":"TAG","meterStart":1,"timestamp":"2026-03-01T12:00:00Z","reservationId":null,"extra":[1]}"#,
        r#"{"connectorId":1,"idTag":"TAG","meterStart":2,"timestamp":"yesterday"}"#,
        r#"{"idTag":"TAG"}"#,
    ];
    for (number, payload) in oddities.iter().enumerate() {
        let id = format!("odd-{number}");
        station.send_frame(&format!(r#"[2,"{id}","StartTransaction",{payload}]"#));
        let answer = station.frame_under(&id);
        assert_eq!(answer[0], 3, "{payload} was answered with {answer}");
        assert!(id_in(&answer[2]) > 0, "{answer}");
    }
    for id_tag in
        [json!("X".repeat(600)), json!("A\0B"), json!("🔌"), json!({"a": 1}), json!(7), json!(null)]
    {
        let odd = json!({"connectorId": 1, "idTag": id_tag, "meterStart": 3, "timestamp": "2026-03-01T13:00:00Z"});
        let id = id_in(&answer_to(&station, "StartTransaction", &odd));
        let odd = json!({"transactionId": id, "idTag": id_tag, "meterStop": 4, "timestamp": "2026-03-01T13:10:00Z"});
        answer_to(&station, "StopTransaction", &odd);
    }
    assert_eq!(api.fetch("/health").expect(200).json()["status"], "ok");
    assert_eq!(api.transactions("CP-1").len(), oddities.len() + 6);
    station.send_frame(r#"[2,"odd-stop","StopTransaction",{"transactionId":"no number","reason":"BecauseOfReasons"}]"#);
    assert_eq!(station.frame_under("odd-stop")[0], 3);
    station.send_frame(r#"[2,"odd-status","StatusNotification",{"connectorId":1,"errorCode":"TooHot","status":"Sulking"}]"#);
    assert_eq!(station.frame_under("odd-status")[0], 3);
    api.station_when("CP-1", "in a state nobody knows", |view| {
        view.status_of(1) == Some("Sulking")
    });
}
