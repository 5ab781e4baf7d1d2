//! What ends when nothing has happened: reservations and accepted remote starts, also over
//! restarts.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::harness::deadline::until;
use crate::harness::http::stream_until;
use crate::harness::server::Options;
use crate::harness::station::start;
use crate::harness::{Api, Policy, Server, State};

/// A moment so far from now, as a caller writes it.
fn in_millis(millis: i64) -> String {
    Timestamp::now().checked_add(SignedDuration::from_millis(millis)).unwrap().to_string()
}

fn wait_in_history(api: &Api, event_type: &str) {
    until(event_type, || match api.count_in_history("CP-1", event_type) {
        1 => Ok(()),
        other => Err(format!("{other} times")),
    });
}

#[test]
fn a_reserved_connector_is_kept_for_its_driver_and_used_once() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    api.reserve("CP-1", 1, "ANN", &in_millis(600_000)).concluded(State::Done);
    let call = station.expect_call("ReserveNow", 1);
    let reservation_id = call["reservationId"].as_i64().unwrap();
    assert_eq!((&call["connectorId"], &call["idTag"]), (&json!(1), &json!("ANN")));
    let view = api.station("CP-1");
    let kept: Vec<_> = view
        .reservations
        .iter()
        .map(|it| (it.id, it.connector_id, it.id_tag.as_str(), it.accepted))
        .collect();
    assert_eq!(kept, [(reservation_id, 1, "ANN", true)]);

    api.remote_start("CP-1", 1, "BOB").refused("connector-reserved");
    api.reserve("CP-1", 1, "BOB", &in_millis(600_000)).refused("connector-reserved");
    api.remote_start_and_wait("CP-1", 2, "BOB").concluded(State::Done);
    let mut started = start(1, "ANN");
    started["reservationId"] = json!(reservation_id);
    let transaction_id =
        station.call("StartTransaction", started)["transactionId"].as_i64().unwrap();
    assert_eq!(api.station("CP-1").reservations, []);
    station.stop(transaction_id);
    assert_eq!(api.count_in_history("CP-1", "station.ReservationExpired"), 0);
}

#[test]
fn a_reservation_that_nobody_used_ends_at_its_expiry_date_also_while_the_server_is_away() {
    let mut server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    let here = in_millis(1_500);
    api.reserve("CP-1", 1, "ANN", &here).concluded(State::Done);
    wait_in_history(&api, "station.ReservationExpired");
    assert!(Timestamp::now() >= here.parse().unwrap(), "not before its time");

    let away = in_millis(1_500);
    api.reserve("CP-1", 2, "ANN", &away).concluded(State::Done);
    server.kill();
    until("the expiry date", || {
        if Timestamp::now() > away.parse().unwrap() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    server.run();
    until("the end of the second one", || {
        match api.count_in_history("CP-1", "station.ReservationExpired") {
            2 => Ok(()),
            other => Err(format!("{other} times")),
        }
    });
    assert_eq!(api.station("CP-1").reservations, []);
    station.wait_closed(1);
    station.connect();
    station.heartbeat();
    api.station_when("CP-1", "online", |view| view.online);
    api.remote_start_and_wait("CP-1", 2, "BOB").concluded(State::Done);
}

#[test]
fn a_reservation_can_be_cancelled_or_refused_by_the_station() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    station.on("ReserveNow", &Policy::Answer("Occupied"));
    let refused = api.reserve("CP-1", 1, "ANN", &in_millis(600_000)).concluded(State::Rejected);
    assert_eq!(refused.reason.as_deref(), Some("Occupied"));
    assert_eq!(api.station("CP-1").reservations, []);
    station.on("ReserveNow", &Policy::Answer("Accepted"));
    api.reserve("CP-1", 1, "ANN", &in_millis(600_000)).concluded(State::Done);
    let id = api.station("CP-1").reservations[0].id;
    api.cancel_reservation("CP-1", id).concluded(State::Done);
    assert_eq!(station.expect_call("CancelReservation", 1), json!({"reservationId": id}));
    assert_eq!(api.station("CP-1").reservations, []);
    api.cancel_reservation("CP-1", id).refused("unknown-reservation");
    api.reserve("CP-1", 1, "ANN", &in_millis(-1)).refused("expiry-over");
}

#[test]
fn a_remote_start_that_was_accepted_and_not_followed_is_recorded_shown_and_not_repeated() {
    let options = Options::default().call_timeout_ms(600).start_within_ms(400);
    let mut server = Server::start_with(options);
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    let in_time = api.remote_start_and_wait("CP-1", 2, "BOB").concluded(State::Done);
    let transaction_id = station.start(2, "BOB");
    assert_eq!(api.transaction(transaction_id).remote_start, Some(in_time.request));

    let asked = api.remote_start_and_wait("CP-1", 1, "ANN-WHO-LEFT").concluded(State::Done);
    // Over a restart too, whichever comes first.
    server.restart();
    wait_in_history(&api, "station.RemoteStartLapsed");
    station.wait_closed(1);
    station.connect();
    assert_eq!(station.count_calls("RemoteStartTransaction"), 2, "one each");
    let effect = api.effect(&asked.id);
    assert_eq!((effect.state, effect.attempts), (State::Done, 1));
    stream_until(server.address(), "/live", "ANN-WHO-LEFT", || {});
    let lapsed = api
        .history("CP-1")
        .into_iter()
        .filter(|item| item.event_type == "station.RemoteStartLapsed");
    assert_eq!(lapsed.count(), 1, "only of the one that nobody followed");
}
