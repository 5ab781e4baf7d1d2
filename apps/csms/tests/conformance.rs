//! Walks through the cases by which laboratories test central systems, with a real charge point:
//! one server, a station for each theme, all at the same time.

use std::thread;

use serde_json::{Value, json};

use crate::harness::server::Options;
use crate::harness::station::now;
use crate::harness::{Api, Policy, Server, State, Station};

#[test]
fn a_charge_point_walks_through_the_cases_of_a_laboratory() {
    let options = Options::default()
        .variable("CSMS_NO_READ_CONFIGURATION", "0")
        .variable("CSMS_VENDORS", "com.example, Leftfold");
    let server = Server::start_with(options);
    let api = server.api();
    for (id_tag, status) in [("GOOD", "Accepted"), ("MATE", "Accepted"), ("BAD", "Blocked")] {
        api.define_tag(id_tag, &json!({"status": status, "parentIdTag": "GROUP"}));
    }
    let themes: [fn(&Api, &Station); 7] = [
        core_and_charging,
        restarts_and_availability,
        local_lists,
        smart_charging,
        firmware_and_files,
        security,
        reservations,
    ];
    thread::scope(|scope| {
        scope.spawn(|| registration(&server));
        for (number, theme) in themes.into_iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let station = server.ready_station(&format!("LAB-{number}"), 2);
                theme(&server.api(), &station);
            });
        }
    });
}

/// The name of a station in the API.
fn of(station: &Station) -> &str {
    &station.identity
}

fn core_and_charging(api: &Api, station: &Station) {
    let id = of(station);
    // After a start the configuration is read.
    assert_eq!(station.expect_call("GetConfiguration", 1), json!({}));
    assert_eq!(station.authorize("GOOD"), "Accepted");
    assert_eq!(station.authorize("BAD"), "Blocked");
    // Plug first: the transaction begins after the tag was accepted.
    station.status(1, "Preparing");
    let transaction_id = station.start(1, "GOOD");
    station.status(1, "Charging");
    let trigger = json!({"requestedMessage": "MeterValues", "connectorId": 1});
    api.operate(id, "trigger-message", &trigger).concluded(State::Done);
    assert_eq!(station.calls("TriggerMessage").last(), Some(&trigger));
    station.on("RemoteStopTransaction", &Policy::Answer("Rejected"));
    api.remote_stop(id, transaction_id).concluded(State::Rejected);
    station.stop(transaction_id);
    station.status(1, "Finishing");
    station.status(1, "Available");
    // Remote start with limits of its own, which end with the transaction.
    let profile = profile("TxProfile", "Relative", 1, &[(0, 10.0)]);
    let start = json!({"connectorId": 1, "idTag": "GOOD", "chargingProfile": profile});
    api.operate(id, "remote-start-transaction", &start).concluded(State::Done);
    assert_eq!(station.calls("RemoteStartTransaction"), [start]);
    let transaction_id = station.start(1, "GOOD");
    assert_eq!(limits(api, id, 1), [(0, json!(10))]);
    station.on("RemoteStopTransaction", &Policy::Answer("Accepted"));
    api.operate(id, "remote-stop-transaction", &json!({"transactionId": transaction_id}))
        .concluded(State::Done);
    station.stop(transaction_id);
    station.status(1, "Available");
    assert_eq!(limits(api, id, 1), [(0, Value::Null)]);
    // Messages of vendors, both ways.
    let known = json!({"vendorId": "COM.EXAMPLE", "messageId": "m", "data": "{\"a\":1}"});
    assert_eq!(station.call("DataTransfer", known)["status"], "Accepted");
    let unknown = json!({"vendorId": "org.nobody"});
    assert_eq!(station.call("DataTransfer", unknown)["status"], "UnknownVendorId");
    let answer = json!({"status": "UnknownMessageId", "data": "no such thing"});
    station.on("DataTransfer", &Policy::Payload(answer.clone()));
    let sent = json!({"vendorId": "com.example", "messageId": "x"});
    let effect = api.operate(id, "data-transfer", &sent).concluded(State::Rejected);
    assert_eq!(effect.response, Some(answer));
    // What a station does wrong is taken, and shown.
    station.send_frame(&format!(
        r#"[2,"v","StatusNotification",{{"connectorId":"1","errorCode":"NoError","status":"available","timestamp":"{}","colour":"red"}}]"#,
        now()
    ));
    station.frame_under("v");
    let violations = api.known(id, "violations")["items"].clone();
    let paths: Vec<_> =
        violations.as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    for path in ["connectorId", "status", "colour"] {
        assert!(paths.contains(&path), "{violations:#}");
    }
}

fn restarts_and_availability(api: &Api, station: &Station) {
    let id = of(station);
    // A soft restart stops what runs first.
    let transaction_id = station.start(1, "GOOD");
    api.operate(id, "reset", &json!({"type": "Soft"})).concluded(State::Done);
    let stop = json!({"transactionId": transaction_id, "meterStop": 2000, "timestamp": now(),
        "reason": "SoftReset"});
    station.call("StopTransaction", stop);
    station.boot();
    station.on("Reset", &Policy::Answer("Rejected"));
    api.operate(id, "reset", &json!({"type": "Hard"})).concluded(State::Rejected);
    // A connector goes out of service when its transaction has ended.
    let transaction_id = station.start(2, "GOOD");
    station.on("ChangeAvailability", &Policy::Answer("Scheduled"));
    let out = json!({"connectorId": 2, "type": "Inoperative"});
    api.operate(id, "change-availability", &out).concluded(State::Done);
    station.stop(transaction_id);
    station.status(2, "Unavailable");
    let start = json!({"connectorId": 2, "idTag": "GOOD"});
    api.operate(id, "remote-start", &start).refused("connector-out-of-order");
    api.force(id, "remote-start", &start).concluded(State::Done);
    station.on("ChangeAvailability", &Policy::Answer("Accepted"));
    let all = json!({"connectorId": 0, "type": "Operative"});
    api.operate(id, "change-availability", &all).concluded(State::Done);
    for (answer, state) in [
        ("Unlocked", State::Done),
        ("UnlockFailed", State::Rejected),
        ("NotSupported", State::Rejected),
    ] {
        station.on("UnlockConnector", &Policy::Answer(answer));
        api.operate(id, "unlock-connector", &json!({"connectorId": 1})).concluded(state);
    }
    station.on("ClearCache", &Policy::Answer("Rejected"));
    api.operate(id, "clear-cache", &json!({})).concluded(State::Rejected);
    let tell = json!({"key": ["SupportedFeatureProfiles", "Nonsense"]});
    let settings = json!({
        "configurationKey":
            [{"key": "SupportedFeatureProfiles", "readonly": true, "value": "Core,Reservation"}],
        "unknownKey": ["Nonsense"],
    });
    station.on("GetConfiguration", &Policy::Payload(settings.clone()));
    let effect = api.operate(id, "get-configuration", &tell).concluded(State::Done);
    assert_eq!(effect.response, Some(settings));
}

fn local_lists(api: &Api, station: &Station) {
    let id = of(station);
    let send = |version: u32, update: &str, entries: Value| {
        let list = json!({"listVersion": version, "updateType": update,
            "localAuthorizationList": entries});
        api.operate(id, "send-local-list", &list)
    };
    let entry = |id_tag: &str| json!({"idTag": id_tag, "idTagInfo": {"status": "Accepted"}});
    let tags = || {
        let list = api.known(id, "local-list");
        let entries = list["localAuthorizationList"].as_array().unwrap();
        let tags: Vec<_> = entries.iter().map(|it| it["idTag"].as_str().unwrap()).collect();
        (list["listVersion"].as_i64(), list["entriesKnown"].as_bool().unwrap(), tags.join(","))
    };
    api.operate(id, "get-local-list-version", &json!({})).concluded(State::Done);
    assert_eq!(tags(), (Some(0), true, String::new()));
    send(1, "Full", json!([entry("ANN"), entry("BOB")])).concluded(State::Done);
    send(2, "Differential", json!([{"idTag": "ann"}, entry("CID")])).concluded(State::Done);
    assert_eq!(tags(), (Some(2), true, "BOB,CID".to_owned()));
    send(2, "Differential", json!([])).refused("stale-list-version");
    send(3, "Full", json!([{"idTag": "ANN"}])).refused("invalid-list-entry");
    station.on("SendLocalList", &Policy::Answer("Failed"));
    send(3, "Differential", json!([entry("DAN")])).concluded(State::Rejected);
    assert_eq!(tags(), (Some(2), true, "BOB,CID".to_owned()));
    // Somebody else has sent a list: what it holds is not known any more.
    station.on("SendLocalList", &Policy::Answer("VersionMismatch"));
    send(3, "Differential", json!([entry("DAN")])).concluded(State::Rejected);
    assert_eq!(tags(), (None, false, String::new()));
    station.on("GetLocalListVersion", &Policy::Payload(json!({"listVersion": 9})));
    api.operate(id, "get-local-list-version", &json!({})).concluded(State::Done);
    assert_eq!(tags(), (Some(9), false, String::new()));
    station.on("SendLocalList", &Policy::Answer("Accepted"));
    send(10, "Full", json!([entry("EVE")])).concluded(State::Done);
    assert_eq!(tags(), (Some(10), true, "EVE".to_owned()));
    station.on("SendLocalList", &Policy::Answer("NotSupported"));
    send(11, "Full", json!([])).concluded(State::Rejected);
    assert_eq!(tags().0, Some(-1));
}

/// A profile with limits in amperes from these seconds on.
fn profile(purpose: &str, kind: &str, id: u32, limits: &[(u32, f64)]) -> Value {
    let amount = |limit: f64| match limit.fract() == 0.0 {
        true => json!(limit as i64),
        false => json!(limit),
    };
    let period = |(at, limit): &(u32, f64)| json!({"startPeriod": at, "limit": amount(*limit)});
    let periods: Vec<_> = limits.iter().map(period).collect();
    let mut profile = json!({
        "chargingProfileId": id,
        "stackLevel": 1,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": periods},
    });
    if kind == "Absolute" {
        profile["chargingSchedule"]["startSchedule"] = json!("2026-01-01T00:00:00.000Z");
    }
    profile
}

/// The limits of a connector from now on.
fn limits(api: &Api, id: &str, connector_id: u32) -> Vec<(u64, Value)> {
    let path = format!("composite-schedule?connectorId={connector_id}&duration=300");
    let composite = api.known(id, &path);
    let periods = composite["chargingSchedule"]["chargingSchedulePeriod"].as_array().unwrap();
    let part = |it: &Value| (it["startPeriod"].as_u64().unwrap(), it["limit"].clone());
    periods.iter().map(part).collect()
}

fn smart_charging(api: &Api, station: &Station) {
    let id = of(station);
    let set = |connector_id: u32, profile: &Value| {
        let body = json!({"connectorId": connector_id, "csChargingProfiles": profile});
        api.operate(id, "set-charging-profile", &body)
    };
    let max = profile("ChargePointMaxProfile", "Absolute", 1, &[(0, 32.0)]);
    set(0, &max).concluded(State::Done);
    set(1, &max).refused("profile-purpose");
    let default = profile("TxDefaultProfile", "Absolute", 2, &[(0, 16.0)]);
    set(0, &default).concluded(State::Done);
    set(1, &profile("TxProfile", "Relative", 3, &[(0, 8.0)])).refused("transaction-not-running");
    set(9, &default).refused("unknown-connector");
    set(1, &profile("TxDefaultProfile", "Absolute", 2, &[(5, 16.0)])).refused("invalid-profile");
    let transaction_id = station.start(1, "GOOD");
    assert_eq!(limits(api, id, 1), [(0, json!(16))]);
    let mut own = profile("TxProfile", "Relative", 3, &[(0, 8.5)]);
    own["transactionId"] = json!(transaction_id);
    set(1, &own).concluded(State::Done);
    assert_eq!(station.calls("SetChargingProfile").last().unwrap()["csChargingProfiles"], own);
    assert_eq!(limits(api, id, 1), [(0, json!(8.5))]);
    assert_eq!(limits(api, id, 2), [(0, json!(16))]);
    station.on("SetChargingProfile", &Policy::Answer("Rejected"));
    set(1, &profile("TxDefaultProfile", "Absolute", 4, &[(0, 6.0)])).concluded(State::Rejected);
    // The schedule that the station tells is held against the one that was computed.
    let told = |limit: f64| {
        let schedule = json!({"duration": 300, "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]});
        let answer = json!({"status": "Accepted", "connectorId": 1, "scheduleStart": now(),
            "chargingSchedule": schedule});
        station.on("GetCompositeSchedule", &Policy::Payload(answer));
        let asked = json!({"connectorId": 1, "duration": 300});
        api.operate(id, "get-composite-schedule", &asked).concluded(State::Done);
        api.known(id, "composite-schedule?connectorId=1&duration=300")["told"]["differs"].clone()
    };
    assert_eq!((told(8.5), told(9.0)), (json!(false), json!(true)));
    station.stop(transaction_id);
    assert_eq!(limits(api, id, 1), [(0, json!(16))]);
    station.on("ClearChargingProfile", &Policy::Answer("Unknown"));
    api.operate(id, "clear-charging-profile", &json!({"id": 99})).concluded(State::Rejected);
    station.on("ClearChargingProfile", &Policy::Answer("Accepted"));
    let clear = json!({"chargingProfilePurpose": "TxDefaultProfile"});
    api.operate(id, "clear-charging-profile", &clear).concluded(State::Done);
    let left = api.known(id, "charging-profiles")["items"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left:#}");
    assert_eq!(left[0]["chargingProfile"], max);
}

fn firmware_and_files(api: &Api, station: &Station) {
    let id = of(station);
    let report = |action: &str, payload: Value| {
        assert_eq!(station.call(action, payload), json!({}));
    };
    let update = json!({"location": "ftp://files.example/f.bin", "retrieveDate": now()});
    api.operate(id, "update-firmware", &update).concluded(State::Done);
    for status in ["Downloading", "Downloaded", "Installing", "Installed"] {
        report("FirmwareStatusNotification", json!({"status": status}));
    }
    let firmware = api.known(id, "firmware");
    assert_eq!(
        (&firmware["status"], firmware["reports"].as_array().unwrap().len()),
        (&json!("Installed"), 4)
    );
    api.operate(id, "update-firmware", &update).concluded(State::Done);
    report("FirmwareStatusNotification", json!({"status": "DownloadFailed"}));
    assert_eq!(api.known(id, "firmware")["status"], "DownloadFailed");
    let folder = json!({"location": "ftp://files.example/"});
    api.operate(id, "get-diagnostics", &folder).concluded(State::Done);
    for status in ["Uploading", "UploadFailed"] {
        report("DiagnosticsStatusNotification", json!({"status": status}));
    }
    let files = api.known(id, "diagnostics");
    assert_eq!(files["diagnostics"]["asked"]["fileName"], "diagnostics.zip");
    assert_eq!(files["diagnostics"]["status"], "UploadFailed");
    station.on("GetDiagnostics", &Policy::Payload(json!({})));
    api.operate(id, "get-diagnostics", &folder).concluded(State::Done);
    assert_eq!(api.known(id, "diagnostics")["diagnostics"]["asked"]["fileName"], Value::Null);
    // A log of security, and one that takes its place.
    let log = |request_id: u32| {
        json!({"logType": "SecurityLog", "requestId": request_id,
            "log": {"remoteLocation": "ftp://files.example/"}})
    };
    api.operate(id, "get-log", &log(1)).concluded(State::Done);
    report("LogStatusNotification", json!({"status": "Uploading", "requestId": 1}));
    station.on("GetLog", &Policy::Payload(json!({"status": "AcceptedCanceled", "filename": "b"})));
    api.operate(id, "get-log", &log(2)).concluded(State::Done);
    report("LogStatusNotification", json!({"status": "Uploaded", "requestId": 2}));
    let files = api.known(id, "diagnostics");
    assert_eq!(
        (
            &files["log"]["asked"]["replaced"],
            &files["log"]["asked"]["fileName"],
            &files["log"]["status"]
        ),
        (&json!(true), &json!("b"), &json!("Uploaded"))
    );
    let signed = json!({"requestId": 5, "firmware": {"location": "https://files.example/f",
        "retrieveDateTime": now(), "signingCertificate": "PEM", "signature": "c2ln"}});
    api.operate(id, "signed-update-firmware", &signed).concluded(State::Done);
    let progress = json!({"status": "InvalidSignature", "requestId": 5});
    report("SignedFirmwareStatusNotification", progress);
    assert_eq!(api.known(id, "firmware")["reports"][0]["requestId"], 5);
    station.on("SignedUpdateFirmware", &Policy::Answer("InvalidCertificate"));
    let effect = api.operate(id, "signed-update-firmware", &signed).concluded(State::Rejected);
    assert_eq!(effect.reason.as_deref(), Some("InvalidCertificate"));
}

fn security(api: &Api, station: &Station) {
    let id = of(station);
    let event = json!({"type": "FailedToAuthenticateAtCentralSystem", "timestamp": now(),
        "techInfo": "wrong password"});
    // The station lost the answer and says it again.
    station.call("SecurityEventNotification", event.clone());
    station.call("SecurityEventNotification", event);
    station.call(
        "SecurityEventNotification",
        json!({"type": "TamperDetectionActivated", "timestamp": now(), "techInfo": "cover"}),
    );
    let events = api.known(id, "security-events");
    assert_eq!(events["count"], 2, "{events:#}");
    assert_eq!(events["items"][1]["techInfo"], "wrong password");
    let signed =
        station.call("SignCertificate", json!({"csr": "-----BEGIN CERTIFICATE REQUEST-----"}));
    assert_eq!(signed["status"], "Accepted");
    let chain = json!({"certificateChain": "-----BEGIN CERTIFICATE-----"});
    api.operate(id, "certificate-signed", &chain).concluded(State::Done);
    station.on("CertificateSigned", &Policy::Answer("Rejected"));
    api.operate(id, "certificate-signed", &chain).concluded(State::Rejected);
    let root = "CentralSystemRootCertificate";
    let install = json!({"certificateType": root, "certificate": "-----BEGIN CERTIFICATE-----"});
    api.operate(id, "install-certificate", &install).concluded(State::Done);
    let hash = json!({"hashAlgorithm": "SHA256", "issuerNameHash": "aa", "issuerKeyHash": "bb",
        "serialNumber": "01"});
    let told = json!({"status": "Accepted", "certificateHashData": [hash]});
    station.on("GetInstalledCertificateIds", &Policy::Payload(told));
    let ask = json!({"certificateType": root});
    api.operate(id, "get-installed-certificate-ids", &ask).concluded(State::Done);
    let known = api.known(id, "certificates");
    assert_eq!(known["items"][0]["certificateHashData"], json!([hash]), "{known:#}");
    assert_eq!(known["own"]["answer"]["status"], "Rejected");
    assert!(known["requested"]["csr"].is_string());
    let delete = json!({"certificateHashData": hash});
    station.on("DeleteCertificate", &Policy::Answer("Failed"));
    api.operate(id, "delete-certificate", &delete).concluded(State::Rejected);
    station.on("DeleteCertificate", &Policy::Answer("Accepted"));
    api.operate(id, "delete-certificate", &delete).concluded(State::Done);
    assert_eq!(api.known(id, "certificates")["items"][0]["certificateHashData"], json!([]));
    let trigger = json!({"requestedMessage": "SignChargePointCertificate"});
    api.operate(id, "trigger-message", &trigger).refused("foreign-report");
    api.operate(id, "extended-trigger-message", &trigger).concluded(State::Done);
}

fn reservations(api: &Api, station: &Station) {
    let id = of(station);
    let reserve = |connector_id: u32| json!({"connectorId": connector_id, "idTag": "GOOD", "expiryDate": "2030-01-01T00:00:00Z"});
    for answer in ["Occupied", "Faulted", "Unavailable", "Rejected"] {
        station.on("ReserveNow", &Policy::Answer(answer));
        let effect = api.operate(id, "reserve-now", &reserve(1)).concluded(State::Rejected);
        assert_eq!(effect.reason.as_deref(), Some(answer));
    }
    station.on("ReserveNow", &Policy::Answer("Accepted"));
    api.operate(id, "reserve-now", &reserve(1)).concluded(State::Done);
    api.operate(id, "reserve-now", &reserve(1)).refused("connector-reserved");
    api.force(id, "reserve-now", &reserve(1)).concluded(State::Done);
    let held: Vec<_> = api.station(id).reservations.iter().map(|it| it.id).collect();
    for reservation in &held {
        let cancel = json!({"reservationId": reservation});
        api.operate(id, "cancel-reservation", &cancel).concluded(State::Done);
    }
    let cancel = json!({"reservationId": held[0]});
    api.operate(id, "cancel-reservation", &cancel).refused("unknown-reservation");
    api.force(id, "cancel-reservation", &cancel).concluded(State::Done);
    // A tag of the same group uses a reservation.
    api.operate(id, "reserve-now", &reserve(2)).concluded(State::Done);
    let transaction_id = station.start(2, "MATE");
    assert_eq!(api.station(id).reservations, []);
    station.stop(transaction_id);
}

fn registration(server: &Server) {
    let api = server.api();
    let path = "/api/stations/WAITING";
    api.put(path, &json!({"registration": "Pending"})).expect(201);
    let station = server.station("WAITING");
    assert_eq!(station.boot()["status"], "Pending");
    let early = json!({"connectorId": 1, "errorCode": "NoError", "status": "Available"});
    let refusal = station.try_call("StatusNotification", early).unwrap_err();
    assert_eq!(refusal.code, "SecurityError");
    api.remote_start("WAITING", 1, "GOOD").refused("station-not-accepted");
    // It may be asked how it is configured meanwhile.
    api.operate("WAITING", "get-configuration", &json!({})).concluded(State::Done);
    api.put(path, &json!({"registration": "Rejected"})).expect(200);
    station.expect_call("TriggerMessage", 1);
    api.station_when("WAITING", "rejected", |_| {
        api.fetch(path).json()["registration"]["told"] == "Rejected"
    });
    api.operate("WAITING", "clear-cache", &json!({})).refused("station-not-accepted");
    api.force("WAITING", "clear-cache", &json!({})).concluded(State::Done);
    api.put(path, &json!({})).expect(200);
    api.station_when("WAITING", "accepted", |_| {
        api.fetch(path).json()["registration"]["told"] == "Accepted"
    });
    station.status(1, "Available");
}
