//! Remote starts: one call to the station each, and a true word on what became of it.

use std::sync::Barrier;
use std::thread;

use serde_json::json;

use crate::harness::api::station_path;
use crate::harness::server::Options;
use crate::harness::views::EffectView;
use crate::harness::{Policy, Server, State};

const START: &str = "RemoteStartTransaction";

/// Calls time out soon, and so does the time in which a transaction may follow.
fn impatient() -> Options {
    Options::default().call_timeout_ms(700).start_within_ms(2_000)
}

#[test]
fn an_accepted_remote_start_is_done_and_named_by_the_transaction_that_follows() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    let effect = api.remote_start_and_wait("CP-1", 2, "TAG").concluded(State::Done);
    assert_eq!(
        (effect.name.as_str(), effect.station.as_str(), effect.attempts),
        ("remote-start", "CP-1", 1)
    );
    assert_eq!(station.calls(START), [json!({"connectorId": 2, "idTag": "TAG"})]);

    let by_another = station.start(1, "SOMEBODY");
    let its_own = station.start(2, "TAG");
    assert_eq!(api.transaction(by_another).remote_start, None);
    assert_eq!(
        api.transaction(its_own).remote_start.as_ref(),
        Some(&effect.request),
        "OCPP.md point 6: by tag, connector and time"
    );
    assert_eq!(api.effect(&effect.id).state, State::Done);
    assert_eq!(api.effects(), [api.effect(&effect.id)]);
}

#[test]
fn a_remote_start_that_is_not_waited_for_tells_where_its_state_is() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let reply = api.remote_start("CP-1", 1, "TAG");
    let location = reply.header("location").expect("a link to the state").to_owned();
    let effect = reply.taken_on();
    assert!(matches!(effect.state, State::Pending | State::InFlight), "{effect:?}");
    station.expect_call(START, 1);
    let seen: EffectView = api.fetch(&location).expect(200).view();
    assert_eq!((seen.id.as_str(), seen.state), (effect.id.as_str(), State::InFlight));
    station.release(START, "Accepted");
    api.effect_when(&effect.id, State::Done);
}

#[test]
fn a_wait_that_ends_before_the_station_has_answered_says_so() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let body = json!({"connectorId": 1, "idTag": "TAG"});
    let effect = api.post("/api/stations/CP-1/remote-start?wait=100ms", &body).taken_on();
    assert!(matches!(effect.state, State::Pending | State::InFlight), "{effect:?}");
}

#[test]
fn a_station_may_choose_the_connector() {
    let server = Server::start();
    let station = server.ready_station("CP-1", 2);
    let reply =
        server.api().post("/api/stations/CP-1/remote-start?wait=15s", &json!({"idTag": "TAG"}));
    let effect = reply.concluded(State::Done);
    assert_eq!(station.calls(START), [json!({"idTag": "TAG"})]);
    let transaction_id = station.start(2, "TAG");
    assert_eq!(server.api().transaction(transaction_id).remote_start, Some(effect.request));
}

#[test]
fn a_rejected_remote_start_frees_the_connector() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Answer("Rejected"));
    api.remote_start_and_wait("CP-1", 1, "ANN").concluded(State::Rejected);
    // Clients confuse NotImplemented and NotSupported (OCPP.md point 9): both are a no.
    for code in ["NotSupported", "NotImplemented"] {
        station.on(START, &Policy::Error(code));
        api.remote_start_and_wait("CP-1", 1, "BOB").concluded(State::Rejected);
    }
    station.on(START, &Policy::Answer("Accepted"));
    api.remote_start_and_wait("CP-1", 1, "EVE").concluded(State::Done);
    assert_eq!(station.count_calls(START), 4);
}

#[test]
fn an_unanswered_remote_start_is_in_doubt_until_its_transaction_starts() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let effect = api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::InDoubt);
    assert!(effect.reason.is_some_and(|reason| !reason.is_empty()), "doubt has a reason");
    let transaction_id = station.start(1, "TAG");
    let effect = api.effect_when(&effect.id, State::Done);
    assert_eq!(effect.attempts, 1);
    assert_eq!(api.transaction(transaction_id).remote_start, Some(effect.request));
    assert_eq!(station.count_calls(START), 1, "never sent twice");
}

#[test]
fn an_unanswered_remote_start_is_not_done_once_the_station_reports_a_free_connector_after_its_time()
{
    let server = Server::start_with(impatient());
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let effect = api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::InDoubt);
    let asked = station.expect_call("TriggerMessage", 1);
    assert_eq!(asked["requestedMessage"], "StatusNotification", "doubt is resolved by asking");
    let effect = api.effect_when(&effect.id, State::NotDone);
    assert_eq!((effect.attempts, station.count_calls(START)), (1, 1), "never sent twice");
    station.on(START, &Policy::Answer("Accepted"));
    api.remote_start_and_wait("CP-1", 1, "NEXT").concluded(State::Done);
}

#[test]
fn a_late_answer_resolves_the_doubt() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let effect = api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::InDoubt);
    station.release(START, "Accepted");
    api.effect_when(&effect.id, State::Done);
    assert_eq!(station.count_calls(START), 1);
}

#[test]
fn a_person_can_resolve_a_doubt_once() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let effect = api.remote_start_and_wait("CP-1", 1, "TAG").concluded(State::InDoubt);
    let in_doubt: Vec<EffectView> = api.all("/api/effects?state=inDoubt");
    assert_eq!(in_doubt.iter().map(|effect| &effect.id).collect::<Vec<_>>(), [&effect.id]);
    let resolved = api.resolve_when_over(&effect.id, "notDone", "the driver has left");
    assert_eq!(resolved.state, State::NotDone);
    api.resolve(&effect.id, "done", "or has he?").problem(409);
    assert_eq!(api.effect(&effect.id).state, State::NotDone);
    assert_eq!(api.all::<EffectView>("/api/effects?state=inDoubt"), []);
    assert_eq!(station.count_calls(START), 1);
    api.remote_start("CP-1", 1, "NEXT").taken_on();
}

#[test]
fn an_offline_station_is_refused_before_anything_is_sent() {
    let server = Server::start_with(Options::default().offline_after_ms(900));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.abort();
    api.station_when("CP-1", "offline", |view| !view.online);
    api.remote_start("CP-1", 1, "TAG").refused("station-offline");
    assert_eq!(api.count_in_history("CP-1", "station.RemoteStartRequested"), 0);
    assert_eq!(api.effects(), []);
    station.connect();
    assert_eq!(station.count_calls(START), 0);
}

#[test]
fn connectors_that_cannot_serve_are_refused_before_anything_is_sent() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 4);
    let under_voltage = json!({"connectorId": 1, "errorCode": "UnderVoltage", "status": "Faulted"});
    station.call("StatusNotification", under_voltage);
    station.status(2, "Unavailable");
    station.start(3, "EARLIER");
    api.remote_start("CP-1", 1, "TAG").refused("connector-out-of-order");
    api.remote_start("CP-1", 2, "TAG").refused("connector-out-of-order");
    api.remote_start("CP-1", 3, "TAG").refused("connector-occupied");
    api.remote_start("CP-1", 9, "TAG").refused("unknown-connector");
    api.remote_start("CP-9", 1, "TAG").problem(404);
    // Connector 0 is the station itself (OCPP.md point 10).
    station.status(0, "Unavailable");
    api.remote_start("CP-1", 4, "TAG").refused("station-out-of-order");
    assert_eq!(station.count_calls(START), 0);
    assert_eq!(api.effects(), []);
}

#[test]
fn of_two_drivers_at_the_same_moment_one_gets_the_connector() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let together = Barrier::new(2);
    let ask = |tag: &'static str| {
        let (api, together) = (api.clone(), &together);
        move || {
            together.wait();
            api.remote_start("CP-1", 1, tag)
        }
    };
    let replies = thread::scope(|scope| {
        ["ANN", "BOB"].map(|tag| scope.spawn(ask(tag))).map(|driver| driver.join().unwrap())
    });
    let (winners, losers): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 202);
    assert_eq!((winners.len(), losers.len()), (1, 1));
    for winner in winners {
        api.effect_when(&winner.taken_on().id, State::Done);
    }
    for loser in losers {
        loser.refused("connector-claimed");
    }
    assert_eq!(station.count_calls(START), 1);
}

#[test]
fn a_station_serves_no_more_transactions_than_it_may() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 3);
    let limited = api.put(&station_path("CP-1", ""), &json!({"maxTransactions": 1}));
    assert!(matches!(limited.status, 200 | 201 | 204), "{limited:?}");
    api.remote_start_and_wait("CP-1", 1, "ANN").concluded(State::Done);
    api.remote_start("CP-1", 2, "BOB").refused("transaction-limit-reached");
    let transaction_id = station.start(1, "ANN");
    api.remote_start("CP-1", 2, "BOB").refused("transaction-limit-reached");
    station.stop(transaction_id);
    api.remote_start_and_wait("CP-1", 2, "BOB").concluded(State::Done);
    assert_eq!(station.count_calls(START), 2);
}

#[test]
fn a_request_repeated_under_its_key_takes_effect_once() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    let first = api.remote_start_under("key-1", "CP-1", 1, "TAG").taken_on();
    api.effect_when(&first.id, State::Done);
    // Also after the transaction has started, when a new request would be refused.
    station.start(1, "TAG");
    let again = api.remote_start_under("key-1", "CP-1", 1, "TAG");
    assert!(matches!(again.status, 200 | 202), "{again:?}");
    assert_eq!(again.view::<EffectView>().id, first.id);
    api.remote_start_under("key-1", "CP-1", 2, "TAG").problem(422);
    assert_eq!(api.effects().len(), 1);
    assert_eq!(station.count_calls(START), 1);
    api.remote_start_under("key-2", "CP-1", 2, "OTHER").taken_on();
}

#[test]
fn one_key_sent_many_times_at_once_takes_effect_once() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let ids: Vec<String> = thread::scope(|scope| {
        let ask = || api.remote_start_under("key", "CP-1", 1, "TAG");
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap().view::<EffectView>().id).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    api.effect_when(&ids[0], State::Done);
    assert_eq!(station.count_calls(START), 1);
}

/// The HARD point of SYSTEMS.md: the heartbeats that race with a remote start must neither lose it
/// nor repeat it.
#[test]
fn a_storm_of_heartbeats_and_reports_neither_loses_nor_repeats_a_remote_start() {
    let server = Server::start_with(Options::default().variable("CSMS_KEEP_HEARTBEATS", "1"));
    let api = server.api();
    let station = server.ready_station("CP-1", 4);
    let storm: Vec<_> = (0..200)
        .flat_map(|round| {
            let status = if round % 2 == 0 { "Preparing" } else { "Available" };
            let report = json!({"connectorId": 4, "errorCode": "NoError", "status": status});
            [station.begin("Heartbeat", json!({})), station.begin("StatusNotification", report)]
        })
        .collect();
    let started: Vec<EffectView> = thread::scope(|scope| {
        let ask = |connector_id: u32| {
            let api = api.clone();
            move || {
                api.remote_start_and_wait("CP-1", connector_id, &format!("TAG-{connector_id}"))
                    .concluded(State::Done)
            }
        };
        let drivers: Vec<_> = (1..=3).map(|connector_id| scope.spawn(ask(connector_id))).collect();
        drivers.into_iter().map(|driver| driver.join().unwrap()).collect()
    });
    for pending in storm {
        station.finish(pending).unwrap();
    }
    assert_eq!(station.count_calls(START), 3, "each was sent once");
    assert_eq!(api.count_in_history("CP-1", "station.RemoteStartRequested"), 3);
    assert_eq!(
        api.count_in_history("CP-1", "station.HeartbeatReceived"),
        201,
        "none of 200 and that of the count is lost"
    );
    assert!(started.iter().all(|effect| effect.attempts == 1), "{started:?}");
}

/// Calls cross (OCPP.md points 2 and 6): the station tells of the transaction before it answers the
/// remote start.
#[test]
fn a_station_may_start_before_it_answers() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let effect = api.remote_start("CP-1", 1, "TAG").taken_on();
    station.expect_call(START, 1);
    station.status(1, "Preparing");
    let transaction_id = station.start(1, "TAG");
    station.release(START, "Accepted");
    api.effect_when(&effect.id, State::Done);
    assert_eq!(api.transaction(transaction_id).remote_start, Some(effect.request));
    assert_eq!(station.count_calls(START), 1);
}
