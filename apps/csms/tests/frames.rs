//! Frames and sockets that are not as they should be: the station gets a clear word, and the
//! connection goes on.

use serde_json::{Value, json};

use crate::harness::raw::RawStation;
use crate::harness::{Server, Station};

/// The error code under which a frame was refused.
#[track_caller]
fn refused(station: &Station, message_id: &str, frame: &str) -> String {
    station.send_frame(frame);
    let answer = station.frame_under(message_id);
    assert_eq!(answer[0], 4, "{frame} was answered with {answer}");
    assert!(answer[3].is_string() && answer[4].is_object(), "OCPP-J 1.6 section 4.2.3: {answer}");
    answer[2].as_str().unwrap().to_owned()
}

#[test]
fn an_unknown_action_is_not_implemented_and_a_known_one_without_support_is_not_supported() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    assert_eq!(refused(&station, "u", r#"[2,"u","MakeCoffee",{}]"#), "NotImplemented");
    for (number, action) in ["GetLog", "SetChargingProfile"].iter().enumerate() {
        let id = format!("k-{number}");
        assert_eq!(
            refused(&station, &id, &format!(r#"[2,"{id}","{action}",{{"status":"Idle"}}]"#)),
            "NotSupported"
        );
    }
    station.heartbeat();
}

#[test]
fn a_malformed_call_is_a_formation_violation_and_the_connection_goes_on() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    for (number, rest) in
        ["", ",7,{}", r#","Heartbeat",{"a":}"#, r#","Heartbeat",{}"#].iter().enumerate()
    {
        let id = format!("m-{number}");
        let cut = if number == 3 { "" } else { "]" };
        assert_eq!(
            refused(&station, &id, &format!(r#"[2,"{id}"{rest}{cut}"#)),
            "FormationViolation",
            "{rest}"
        );
    }
    station.heartbeat();
    assert!(station.closed().is_empty());
}

/// What cannot be answered, since it names no call, is ignored (OCPP-J 1.6 sections 4.1.3 and 4.2).
#[test]
fn noise_is_ignored() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let noise = [
        "",
        "hello",
        "{}",
        "[]",
        "null",
        "[9,\"x\",{}]",
        "[3,\"to-nothing\",{}]",
        "[4,\"to-nothing\",\"GenericError\",\"\",{}]",
        "[[[[",
    ];
    for text in noise {
        station.send_frame(text);
    }
    station.send_frame(&"[".repeat(100_000));
    station.heartbeat();
    station.start(1, "TAG");
    assert!(station.closed().is_empty());
}

#[test]
fn a_message_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let padding = "x".repeat(270 * 1024);
    let code = refused(
        &station,
        "large",
        &format!(r#"[2,"large","Heartbeat",{{"padding":"{padding}"}}]"#),
    );
    assert_eq!(code, "GenericError");
    station.heartbeat();
    assert!(station.closed().is_empty());
}

/// OCPP.md point 4: its station would send it again for ever, and keep all later reports behind it.
#[test]
fn a_report_of_a_transaction_that_is_too_large_is_recorded_without_its_bulk() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    let sample = json!({"value": "x".repeat(100 * 1024), "format": "SignedData"});
    let value = json!({"timestamp": "2026-01-01T00:00:00Z", "sampledValue": [sample]});
    let values = Value::from(vec![value; 20]);
    station.call(
        "MeterValues",
        json!({"connectorId": 1, "transactionId": transaction_id, "meterValue": values}),
    );
    let mut stop = crate::harness::station::stop(transaction_id);
    stop["transactionData"] = values;
    station.call("StopTransaction", stop);
    let transaction = &api.transactions("CP-1")[0];
    assert_eq!((transaction.open, transaction.meter_stop_wh), (false, Some(2500)));
    let violations = api.known("CP-1", "violations")["items"].clone();
    for path in ["meterValue", "transactionData"] {
        let noted = violations.as_array().unwrap().iter().any(|it| it["path"] == path);
        assert!(noted, "{violations:#}");
    }
    assert!(station.closed().is_empty());
}

/// A text that is beyond all bounds is not even read: 1009 of RFC 6455 section 7.4.1, or a plain
/// end.
#[test]
fn a_message_beyond_all_bounds_ends_its_connection_only() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let other = server.ready_station("CP-2", 1);
    station.send_frame(&format!(
        r#"[2,"huge","Heartbeat",{{"padding":"{}"}}]"#,
        "x".repeat(4 * 1024 * 1024)
    ));
    let code = station.wait_closed(1);
    assert!(matches!(code, 1006 | 1009), "{code}");
    other.heartbeat();
    station.connect();
    station.heartbeat();
}

#[test]
fn the_same_frame_twice_is_answered_twice_and_counted_once() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let payload = json!({"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": "2026-01-01T00:00:00Z"});
    let frame = format!(r#"[2,"same","StartTransaction",{payload}]"#);
    station.send_frame(&frame);
    let first = station.frame_under("same");
    station.send_frame(&frame);
    station.heartbeat();
    assert_eq!(station.frames_under("same"), [first.clone(), first]);
    assert_eq!(server.api().transactions("CP-1").len(), 1);
}

/// OCPP.md point 1: no match, then the handshake is completed without the header, and the
/// connection closed.
#[test]
fn a_station_of_another_protocol_is_let_in_without_the_header_and_then_closed() {
    let server = Server::start();
    let station = Station::new(&server, "CP-1");
    for (nth, offered) in [&["ocpp2.0.1"][..], &[]].into_iter().enumerate() {
        let connected = station.try_connect(offered);
        assert_eq!(connected["event"], "connected", "{connected}");
        assert_eq!(connected["subprotocol"], serde_json::Value::Null);
        station.wait_closed(nth + 1);
    }
    let connected = station.try_connect(&["ocpp2.0.1", "ocpp1.6"]);
    assert_eq!(connected["subprotocol"], "ocpp1.6");
    station.heartbeat();
}

#[test]
fn an_identity_is_percent_encoded_in_the_url() {
    let server = Server::start();
    let identity = "RDAM 1/ä%23";
    let station = server.ready_station(identity, 1);
    let transaction_id = station.start(1, "TAG");
    assert_eq!(server.api().station(identity).id, identity);
    assert_eq!(server.api().transactions(identity)[0].id, transaction_id);
}

#[test]
fn a_plain_request_to_a_socket_says_what_belongs_there() {
    let server = Server::start();
    let reply = server.api().fetch("/ocpp/CP-1");
    assert!(matches!(reply.status, 400 | 426), "{reply:?}");
    assert!(reply.body.contains("WebSocket"), "{reply:?}");
    server.api().fetch("/api/stations/CP-1").problem(404);
}

/// OCPP.md point 4: a CALLERROR makes a station send its report again for ever.
#[test]
fn reports_of_transactions_are_answered_whatever_any_field_of_them_holds() {
    let server = Server::start();
    let mut station = RawStation::connect(server.address(), "CP-ODD");
    let moment = "2026-03-02T08:00:00Z";
    let sample = json!({"value": "1", "unit": "Wh", "context": "Transaction.End"});
    let values = json!([{"timestamp": moment, "sampledValue": [sample]}]);
    let reports = [
        (
            "StartTransaction",
            json!({"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": moment, "reservationId": 1}),
        ),
        (
            "StopTransaction",
            json!({"transactionId": 1, "idTag": "TAG", "meterStop": 1, "timestamp": moment, "reason": "Local", "transactionData": values}),
        ),
        ("MeterValues", json!({"connectorId": 1, "transactionId": 1, "meterValue": values})),
    ];
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("\u{0}"),
        json!("\u{1F697}"),
        json!("x".repeat(600)),
        json!("0000-00-00T99:99:99Z"),
        json!("-262143-01-01T00:00:00Z"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!([{}]),
        json!([{"sampledValue": null}]),
        json!([{"sampledValue": [1]}]),
        json!([{"sampledValue": [{"value": {}}]}]),
        json!({}),
        json!({"a": {"b": []}}),
    ];
    let mut payloads: Vec<(&str, Value)> = Vec::new();
    for (action, report) in &reports {
        payloads.extend(odd.iter().map(|odd| (*action, odd.clone())));
        for field in report.as_object().unwrap().keys() {
            payloads.extend(odd.iter().map(|odd| {
                let mut changed = report.clone();
                changed[field] = odd.clone();
                (*action, changed)
            }));
            let mut less = report.clone();
            less.as_object_mut().unwrap().remove(field);
            payloads.push((action, less));
        }
    }
    for (number, (action, payload)) in payloads.iter().enumerate() {
        let id = number.to_string();
        station.send(&json!([2, id, action, payload]).to_string());
        let answer = loop {
            let frame: Value = serde_json::from_str(&station.read()).unwrap();
            if frame[0] != 2 && frame[1] == id {
                break frame;
            }
        };
        assert_eq!(answer[0], 3, "{action} {payload} was answered with {answer}");
    }
    assert_eq!(server.api().fetch("/health").expect(200).json()["status"], "ok");
}
