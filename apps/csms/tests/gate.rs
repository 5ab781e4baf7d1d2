//! The way in of stations: the paths, origins and subprotocols that real ones send.

use serde_json::{Value, json};

use crate::harness::http::status_of;
use crate::harness::raw::{RawStation, handshake};
use crate::harness::server::Options;
use crate::harness::{Server, Station};

/// Stations were locked out by a doubled slash, or by the `Origin` that their library sends.
#[test]
fn a_station_connects_by_the_paths_and_with_the_origins_that_firmware_sends() {
    let server = Server::start();
    let to = server.address();
    let status = |target: &str, headers: &str| status_of(to, &handshake(to, target, headers));
    for target in [
        "//ocpp/CP-1",
        "/ocpp/CP-1/",
        "/ocpp//CP-1",
        "/ocpp/CP-1?x=1",
        &format!("ws://{to}/ocpp/CP-1"),
    ] {
        assert_eq!(status(target, ""), 101, "{target}");
    }
    for target in ["/ocpp/", "/ocpp/a/b", "/ocpp/%FF", "/ocpp/a%00"] {
        assert_eq!(status(target, ""), 404, "{target}");
    }
    for origin in ["file://", "CP-1", "http://CP-1", "ws://elsewhere", ""] {
        assert_eq!(status("/ocpp/CP-1", &format!("Origin: {origin}\r\n")), 101, "{origin:?}");
    }
    for origin in ["https://evil.example", "http://evil.example:8180", "null"] {
        assert_eq!(status("/ocpp/CP-1", &format!("Origin: {origin}\r\n")), 403, "{origin:?}");
    }

    // The identity of each is what was meant.
    for (path, identity) in
        [("//ocpp/LS%2FM%C3%BCnchen%201/", "LS/M\u{fc}nchen 1"), ("/ocpp/100%25", "100%")]
    {
        let station = Station::new(&server, identity);
        let connected = station.try_connect_with(json!({"url": format!("ws://{to}{path}")}));
        assert_eq!(connected["event"], "connected", "{connected}");
        station.boot();
        assert!(server.api().station(identity).online);
    }
}

#[test]
fn a_subprotocol_in_capitals_or_none_is_taken_only_if_the_operator_says_so() {
    let strict = Server::start();
    let lax = Server::start_with(Options::default().variable("CSMS_LAX_SUBPROTOCOL", "1"));
    for (offered, echoed) in [
        (&["OCPP1.6"][..], json!("OCPP1.6")),
        (&["ocpp2.0.1", "Ocpp1.6"], json!("Ocpp1.6")),
        (&["OCPP1.6", "ocpp1.6"], json!("ocpp1.6")),
        (&[], Value::Null),
    ] {
        let station = Station::new(&lax, "CP-1");
        let connected = station.try_connect(offered);
        assert_eq!(
            (&connected["event"], &connected["subprotocol"]),
            (&json!("connected"), &echoed)
        );
        station.heartbeat();
    }
    let station = Station::new(&lax, "CP-2");
    station.try_connect(&["ocpp2.0.1"]);
    station.wait_closed(1);
    let station = Station::new(&strict, "CP-1");
    station.try_connect(&["OCPP1.6"]);
    station.wait_closed(1);
}

/// A station that answers no ping was offline between two of its heartbeats, and the connection of
/// one that was gone stayed until the system gave it up.
#[test]
fn a_station_that_answers_no_ping_is_online_between_its_heartbeats_and_is_cut_off_when_gone() {
    let server = Server::start_with(
        Options::default().offline_after_ms(300).variable("CSMS_HEARTBEAT_INTERVAL", "800ms"),
    );
    let api = server.api();
    let mut mute = RawStation::connect(server.address(), "CP-MUTE");
    let frozen = server.ready_station("CP-FROZEN", 1);
    mute.send(r#"[2,"1","Heartbeat",{}]"#);
    api.station_when("CP-MUTE", "online", |view| view.online);
    frozen.freeze();
    api.station_when("CP-FROZEN", "offline", |view| !view.online);
    assert!(api.station("CP-MUTE").online, "it may be silent for two heartbeats");
    api.station_when("CP-MUTE", "offline", |view| !view.online);
    mute.wait_ended();
    assert_eq!(api.count_in_history("CP-MUTE", "station.WentOffline"), 1);
}
