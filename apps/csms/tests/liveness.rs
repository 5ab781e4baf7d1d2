//! Who is there: sockets that replace each other, silence, and a server that has just started.

use serde_json::json;

use crate::harness::server::Options;
use crate::harness::{Policy, Server, State};

const START: &str = "RemoteStartTransaction";

#[test]
fn a_new_socket_replaces_the_old_one_and_its_calls_work() {
    let server = Server::start();
    let api = server.api();
    let old = server.ready_station("CP-1", 1);
    let new = server.station("CP-1");
    old.wait_closed(1);
    new.heartbeat();
    api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::Done);
    assert_eq!((old.calls_so_far(START).len(), new.count_calls(START)), (0, 1));
    let transaction_id = new.start(1, "TAG");
    assert_eq!(api.station("CP-1").connector(1).transaction_id, Some(transaction_id));
    assert!(api.station("CP-1").online);
    assert_eq!(api.count_in_history("CP-1", "station.WentOffline"), 0);
}

/// A socket without power ends long after the station has come back on another one (OCPP.md point
/// 8).
#[test]
fn the_late_end_of_an_old_socket_disturbs_nothing() {
    let server = Server::start();
    let api = server.api();
    let old = server.ready_station("CP-1", 1);
    old.freeze();
    let new = server.station("CP-1");
    new.heartbeat();
    new.on(START, &Policy::Hold);
    let effect = api.remote_start("CP-1", 1, "TAG").taken_on();
    new.expect_call(START, 1);
    old.abort();
    new.heartbeat();
    assert_eq!(
        api.effect(&effect.id).state,
        State::InFlight,
        "the new socket's call is not failed"
    );
    new.release(START, "Accepted");
    api.effect_when(&effect.id, State::Done);
    assert!(api.station("CP-1").online);
    assert!(new.closed().is_empty());
    assert_eq!(api.count_in_history("CP-1", "station.WentOffline"), 0);
}

#[test]
fn a_call_whose_socket_ended_before_the_answer_is_in_doubt() {
    let server = Server::start();
    let api = server.api();
    let old = server.ready_station("CP-1", 1);
    old.on(START, &Policy::Hold);
    let effect = api.remote_start("CP-1", 1, "TAG").taken_on();
    old.expect_call(START, 1);
    let new = server.station("CP-1");
    let effect = api.effect_when(&effect.id, State::InDoubt);
    assert_eq!(effect.attempts, 1);
    assert_eq!(new.count_calls(START), 0, "it is not sent again");
}

#[test]
fn silence_makes_a_station_offline_and_its_first_message_online() {
    let server = Server::start_with(Options::default().offline_after_ms(900));
    let api = server.api();
    let quiet = server.ready_station("CP-QUIET", 1);
    let frozen = server.ready_station("CP-FROZEN", 1);
    frozen.freeze();
    api.station_when("CP-FROZEN", "offline", |view| !view.online);
    assert_eq!(
        api.count_in_history("CP-QUIET", "station.WentOffline"),
        0,
        "who answers pings is there"
    );
    frozen.thaw();
    frozen.heartbeat();
    api.station_when("CP-FROZEN", "online", |view| view.online);
    let history = api.history("CP-FROZEN");
    let turns: Vec<_> = history
        .iter()
        .map(|item| item.event_type.as_str())
        .filter(|name| name.contains("line"))
        .collect();
    assert_eq!(turns, ["station.CameOnline", "station.WentOffline", "station.CameOnline"]);
    quiet.ping();
}

#[test]
fn a_station_that_lost_its_connection_is_offline_only_after_a_silence() {
    let server = Server::start_with(Options::default().offline_after_ms(2_000));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.abort();
    station.connect();
    station.heartbeat();
    assert_eq!(api.count_in_history("CP-1", "station.WentOffline"), 0, "a short break is no event");
    station.close();
    api.station_when("CP-1", "offline", |view| !view.online);
}

/// HARD point of SYSTEMS.md: after a restart nothing is assumed to be online, and connected
/// stations are asked.
#[test]
fn after_a_restart_nobody_is_assumed_online_and_who_connects_is_asked() {
    let mut server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    server.restart();
    assert!(!api.station("CP-1").online);
    api.remote_start("CP-1", 1, "TAG").refused("station-offline");
    station.wait_closed(1);
    // A reconnect usually sends no BootNotification, and here nothing at all (OCPP.md point 7).
    station.connect();
    assert_eq!(station.expect_call("TriggerMessage", 1)["requestedMessage"], "Heartbeat");
    let view = api.station_when("CP-1", "online", |view| view.online);
    assert_eq!(view.status_of(1), Some("Available"), "what it told before is still known");
    api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::Done);
}

/// After a power failure some stations say nothing of a session that is over, and some start over
/// and over: these are asked once at a time, so that they hold up nobody.
#[test]
fn after_a_start_a_station_is_asked_for_what_is_not_known_any_more() {
    let server = Server::start_with(Options::default().variable("CSMS_NO_READ_CONFIGURATION", "0"));
    let api = server.api();
    let looping = server.station("CP-LOOP");
    looping.on("GetConfiguration", &Policy::Hold);
    (0..40).for_each(|_| drop(looping.boot()));
    looping.expect_call("GetConfiguration", 1);
    let station = server.ready_station("CP-1", 2);
    let transaction_id = station.start(1, "TAG");
    station.boot();
    let asked = station.expect_call("TriggerMessage", 1);
    assert_eq!(asked, json!({"requestedMessage": "StatusNotification", "connectorId": 1}));
    // It answers with an available connector.
    api.station_when("CP-1", "free", |view| view.connector(1).transaction_id.is_none());
    assert_eq!(api.transaction(transaction_id).state, "ended");
    station.expect_call("GetConfiguration", 1);
    let questions = api.effects().into_iter().filter(|effect| effect.station == "CP-LOOP");
    assert_eq!(questions.count(), 1);
}

#[test]
fn the_availability_report_tells_of_outages_and_restarts() {
    let mut server = Server::start_with(Options::default().offline_after_ms(900));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.freeze();
    api.station_when("CP-1", "offline", |view| !view.online);
    station.thaw();
    station.heartbeat();
    api.station_when("CP-1", "online", |view| view.online);
    server.restart();
    let report = api.fetch("/api/stations/CP-1/availability").expect(200).json();
    let seconds = |name: &str| report[name].as_f64().unwrap();
    assert!(seconds("onlineSeconds") > 0.0 && seconds("offlineSeconds") > 0.0, "{report}");
    assert!((0.0..1.0).contains(&report["share"].as_f64().unwrap()), "{report}");
    let outages = report["outages"].as_array().unwrap();
    assert_eq!((outages.len(), &report["outagesTotal"]), (2, &json!(2)), "{report}");
    assert_eq!(
        (&outages[0]["reason"], outages[0]["to"].is_string()),
        (&json!("Silent"), true),
        "{report}"
    );
    assert_eq!(
        (&outages[1]["reason"], &outages[1]["to"]),
        (&json!("ServerRestarted"), &json!(null)),
        "{report}"
    );

    let before = api
        .fetch("/api/stations/CP-1/availability?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z");
    let before = before.expect(200).json();
    assert_eq!((&before["share"], &before["outages"]), (&json!(null), &json!([])), "{before}");
    let backwards =
        "/api/stations/CP-1/availability?from=2021-01-01T00:00:00Z&to=2020-02-01T00:00:00Z";
    for wrong in [backwards, "/api/stations/CP-1/availability?from=yesterday"] {
        assert_eq!(api.fetch(wrong).problem(400).code.as_deref(), Some("invalid-query"));
    }
    api.fetch("/api/stations/CP-2/availability").problem(404);
}

#[test]
fn a_station_that_never_told_of_its_connectors_is_asked() {
    let server = Server::start();
    let station = server.station("CP-1");
    station.on("TriggerMessage", &Policy::Answer("NotImplemented"));
    station.heartbeat();
    let asked = station.expect_call("TriggerMessage", 1);
    assert_eq!(asked["requestedMessage"], "StatusNotification", "a heartbeat has come already");
    assert!(server.api().station("CP-1").online);
}

/// The newest socket wins, however many come at once.
#[test]
fn of_many_sockets_the_last_one_serves() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 1);
    for replaced in 1..=5 {
        station.connect();
        station.wait_closed(replaced);
        station.heartbeat();
    }
    server.api().remote_start_and_wait("CP-1", 1, "TAG").concluded(State::Done);
    assert_eq!(station.count_calls(START), 1);
    assert_eq!(server.api().count_in_history("CP-1", "station.WentOffline"), 0);
    assert_eq!(
        station.call("Authorize", json!({"idTag": "TAG"}))["idTagInfo"]["status"],
        "Accepted"
    );
}
