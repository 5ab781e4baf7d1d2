//! The requests of OCPP 1.6 and of its security extension, each with its answers, and what is known
//! of a station from them; with a real charge point that checks what it gets against the schemas.

use serde_json::{Value, json};

use crate::harness::server::Options;
use crate::harness::{Policy, Server, State};

const MOMENT: &str = "2026-05-04T10:00:00.000Z";

/// A payload of each action of the core profile and of triggers, as it is sent.
fn payloads_of_core() -> Vec<(&'static str, Value)> {
    vec![
        ("ChangeAvailability", json!({"connectorId": 1, "type": "Inoperative"})),
        ("ChangeConfiguration", json!({"key": "HeartbeatInterval", "value": "60"})),
        ("ClearCache", json!({})),
        ("DataTransfer", json!({"vendorId": "V", "messageId": "M", "data": "D"})),
        ("ExtendedTriggerMessage", json!({"requestedMessage": "LogStatusNotification"})),
        ("GetConfiguration", json!({"key": ["HeartbeatInterval"]})),
        ("Reset", json!({"type": "Soft"})),
        ("TriggerMessage", json!({"requestedMessage": "MeterValues", "connectorId": 1})),
    ]
}

/// A payload of each action about lists and limits.
fn payloads_of_lists_and_limits() -> Vec<(&'static str, Value)> {
    let info = json!({"status": "Accepted", "parentIdTag": "G", "expiryDate": MOMENT});
    let entries = json!([{"idTag": "ANN", "idTagInfo": info}, {"idTag": "BOB", "idTagInfo": info}]);
    let list = json!({"listVersion": 1, "updateType": "Full", "localAuthorizationList": entries});
    let composite = json!({"connectorId": 1, "duration": 300, "chargingRateUnit": "W"});
    vec![
        ("GetLocalListVersion", json!({})),
        ("SendLocalList", list),
        ("SetChargingProfile", json!({"connectorId": 1, "csChargingProfiles": profile()})),
        ("GetCompositeSchedule", composite),
        ("ClearChargingProfile", json!({"id": 7})),
    ]
}

/// A profile with every field that it may have.
fn profile() -> Value {
    let periods = json!([
        {"startPeriod": 0, "limit": 16, "numberPhases": 3},
        {"startPeriod": 600, "limit": 6.3},
    ]);
    let schedule = json!({
        "duration": 3600,
        "startSchedule": MOMENT,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": periods,
        "minChargingRate": 0.5,
    });
    json!({
        "chargingProfileId": 7,
        "stackLevel": 1,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Recurring",
        "recurrencyKind": "Daily",
        "validFrom": MOMENT,
        "chargingSchedule": schedule,
    })
}

/// A payload of each action about files and certificates.
fn payloads_of_files_and_certificates() -> Vec<(&'static str, Value)> {
    let hash = json!({
        "hashAlgorithm": "SHA256",
        "issuerNameHash": "aa",
        "issuerKeyHash": "bb",
        "serialNumber": "1",
    });
    let log = json!({"remoteLocation": "ftp://files.example/log", "oldestTimestamp": MOMENT});
    let firmware = json!({
        "location": "https://files.example/f.bin",
        "retrieveDateTime": MOMENT,
        "signingCertificate": "PEM",
        "signature": "c2ln",
    });
    let folder = "ftp://files.example/";
    let diagnostics =
        json!({"location": folder, "retries": 2, "retryInterval": 5, "startTime": MOMENT});
    let root = "ManufacturerRootCertificate";
    vec![
        ("GetDiagnostics", diagnostics),
        ("GetLog", json!({"logType": "SecurityLog", "requestId": 3, "log": log})),
        ("UpdateFirmware", json!({"location": folder, "retrieveDate": MOMENT})),
        ("SignedUpdateFirmware", json!({"requestId": 4, "firmware": firmware})),
        ("CertificateSigned", json!({"certificateChain": "PEM"})),
        ("InstallCertificate", json!({"certificateType": root, "certificate": "PEM"})),
        ("DeleteCertificate", json!({"certificateHashData": hash})),
        ("GetInstalledCertificateIds", json!({"certificateType": root})),
    ]
}

/// The route of an action.
fn route(action: &str) -> String {
    action.chars().fold(String::new(), |mut route, character| {
        if character.is_ascii_uppercase() && !route.is_empty() {
            route.push('-');
        }
        route.push(character.to_ascii_lowercase());
        route
    })
}

#[test]
fn every_request_reaches_the_station_as_it_was_spelt_and_its_answer_comes_back_whole() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let payloads =
        [payloads_of_core(), payloads_of_lists_and_limits(), payloads_of_files_and_certificates()];
    for (action, payload) in payloads.concat() {
        let route = route(action);
        let view = api.operate("CP-1", &route, &payload).expect(200).json();
        assert_eq!(view["kind"], *route, "{view:#}");
        let asked = &view["request"];
        assert_eq!((&asked["action"], &asked["payload"]), (&json!(action), &payload));
        assert!(view["response"].is_object(), "{view:#}");
        assert_eq!(station.calls(action), std::slice::from_ref(&payload), "{action}");
        // A name that is not the specification's is no payload.
        let mut foreign = payload;
        foreign["connector_id"] = json!(1);
        api.operate("CP-1", &route, &foreign).problem(400);
    }
    // An answer that says no, and one that is an error.
    station.on("ClearCache", &Policy::Answer("Rejected"));
    let effect = api.operate("CP-1", "clear-cache", &json!({})).concluded(State::Rejected);
    assert_eq!(effect.response, Some(json!({"status": "Rejected"})));
    station.on("ClearCache", &Policy::Error("NotSupported"));
    let effect = api.operate("CP-1", "clear-cache", &json!({})).concluded(State::Rejected);
    assert_eq!(effect.reason.as_deref(), Some("NotSupported"));
    // What is refused without a good reason to send it is sent by force.
    let unknown = json!({"connectorId": 9, "type": "Operative"});
    api.operate("CP-1", "change-availability", &unknown).refused("unknown-connector");
    api.force("CP-1", "change-availability", &unknown).concluded(State::Done);
    assert_eq!(station.calls("ChangeAvailability").last(), Some(&unknown));
    api.force("CP-1", "unlock-connector", &json!({"connectorId": 9})).concluded(State::Done);
    api.force("NOBODY", "clear-cache", &json!({})).problem(404);
}

#[test]
fn an_operation_without_an_answer_is_asked_again_if_that_does_no_harm_and_else_is_in_doubt() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on("Reset", &Policy::Hold);
    let effect = api.operate("CP-1", "reset", &json!({"type": "Hard"})).concluded(State::InDoubt);
    // The start is the proof that the station did what it was asked.
    station.boot();
    api.effect_when(&effect.id, State::Done);
    assert_eq!(station.count_calls("Reset"), 1);
    // A question that nobody answers ends with its time.
    station.on("GetLocalListVersion", &Policy::Hold);
    let effect = api.operate("CP-1", "get-local-list-version", &json!({}));
    let effect = effect.expect(200).json()["id"].as_str().unwrap().to_owned();
    api.effect_when(&effect, State::NotDone);
}

#[test]
fn the_configuration_shows_what_is_reported_beside_what_was_asked_and_never_a_secret() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let reported = json!({
        "configurationKey": [
            {"key": "HeartbeatInterval", "readonly": false, "value": "300"},
            {"key": "NumberOfConnectors", "readonly": true, "value": "1"},
            {"key": "AuthorizationKey", "readonly": false, "value": "deadbeefdeadbeef"},
            {"key": "WifiPSK", "readonly": false, "value": "deadbeefdeadbeef"},
        ],
        "unknownKey": ["Nonsense"],
    });
    station.on("GetConfiguration", &Policy::Payload(reported));
    let effect = api.operate("CP-1", "get-configuration", &json!({})).concluded(State::Done);
    let hidden = effect.response.unwrap()["configurationKey"][2]["value"].clone();
    assert_eq!(hidden, "[hidden]");
    let change = |key: &str, value: &str| {
        api.operate("CP-1", "change-configuration", &json!({"key": key, "value": value}))
    };
    station.on("ChangeConfiguration", &Policy::Answer("RebootRequired"));
    change("HeartbeatInterval", "60").concluded(State::Done);
    station.on("ChangeConfiguration", &Policy::Answer("NotSupported"));
    change("Nonsense", "1").concluded(State::Rejected);
    change("NumberOfConnectors", "2").refused("setting-read-only");
    station.on("ChangeConfiguration", &Policy::Answer("Accepted"));
    change("AuthorizationKey", "0123456789abcdef").concluded(State::Done);
    let sent = station.calls("ChangeConfiguration");
    assert_eq!(sent[2], json!({"key": "AuthorizationKey", "value": "0123456789abcdef"}));
    let known = api.known("CP-1", "configuration");
    assert_eq!(known["rebootRequired"], true);
    let item = |key: &str| {
        let items = known["items"].as_array().unwrap();
        items.iter().find(|item| item["key"] == key).unwrap().clone()
    };
    let heartbeat = item("HeartbeatInterval");
    assert_eq!((&heartbeat["value"], &heartbeat["asked"]["value"]), (&json!("300"), &json!("60")));
    assert_eq!(heartbeat["asked"]["answer"]["status"], "RebootRequired");
    assert_eq!(item("Nonsense")["asked"]["answer"]["status"], "NotSupported");
    assert_eq!(
        (&item("AuthorizationKey")["value"], &item("AuthorizationKey")["hidden"]),
        (&Value::Null, &json!(true))
    );
    station.boot();
    assert_eq!(api.known("CP-1", "configuration")["rebootRequired"], false);
    let place = json!({"location": "ftp://me:0123456789abcdef@files.example/"});
    api.operate("CP-1", "get-diagnostics", &place).concluded(State::Done);
    assert_eq!(station.calls("GetDiagnostics"), [place]);
    for route in [
        "/api/stations/CP-1/history?limit=500",
        "/api/effects?limit=500",
        "/api/stations/CP-1/configuration",
        "/api/stations/CP-1/diagnostics",
    ] {
        let shown = api.fetch(route).expect(200).body;
        assert!(!shown.contains("0123456789abcdef") && !shown.contains("deadbeef"), "{route}");
    }
}
