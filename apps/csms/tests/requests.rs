//! Remote stops and unlocking.

use std::thread;

use serde_json::json;

use crate::harness::deadline::until;
use crate::harness::server::Options;
use crate::harness::views::HistoryItem;
use crate::harness::{Policy, Server, State};

const STOP: &str = "RemoteStopTransaction";
const UNLOCK: &str = "UnlockConnector";

#[test]
fn a_transaction_is_stopped_remotely() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    let effect = api.remote_stop("CP-1", transaction_id).concluded(State::Done);
    assert_eq!(effect.name, "remote-stop");
    assert_eq!(station.calls(STOP), [json!({"transactionId": transaction_id})]);
    assert_eq!(
        api.transaction(transaction_id).stopped_at,
        None,
        "accepted only means that it will try"
    );
    station.stop(transaction_id);
    assert!(api.transaction(transaction_id).stopped_at.is_some());
    api.remote_stop("CP-1", transaction_id).refused("transaction-not-running");
}

#[test]
fn a_rejected_remote_stop_can_be_asked_for_again() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    station.on(STOP, &Policy::Answer("Rejected"));
    api.remote_stop("CP-1", transaction_id).concluded(State::Rejected);
    station.on(STOP, &Policy::Answer("Accepted"));
    api.remote_stop("CP-1", transaction_id).concluded(State::Done);
}

#[test]
fn a_transaction_can_only_be_stopped_at_its_own_station() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let other = server.ready_station("CP-2", 1);
    let transaction_id = station.start(1, "TAG");
    api.remote_stop("CP-2", transaction_id).refused("transaction-not-running");
    api.remote_stop("CP-1", 999_999).refused("transaction-not-running");
    assert_eq!((station.count_calls(STOP), other.count_calls(STOP)), (0, 0));
}

#[test]
fn a_foreign_tag_cannot_stop_someone_s_transaction_but_the_own_group_can() {
    let server = Server::start();
    let api = server.api();
    for (id_tag, parent) in [("ANN", "FLEET"), ("BOB", "FLEET"), ("EVE", "OTHERS")] {
        api.define_tag(id_tag, &json!({"status": "Accepted", "parentIdTag": parent}));
    }
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "ANN");
    api.remote_stop_for("EVE", "CP-1", transaction_id).refused("foreign-tag");
    api.remote_stop_for("STRANGER", "CP-1", transaction_id).refused("foreign-tag");
    assert_eq!(station.count_calls(STOP), 0);
    api.remote_stop_for("BOB", "CP-1", transaction_id).concluded(State::Done);
    assert_eq!(station.count_calls(STOP), 1);
}

#[test]
fn an_unanswered_remote_stop_is_in_doubt_until_the_transaction_has_stopped() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    station.on(STOP, &Policy::Hold);
    let effect = api.remote_stop("CP-1", transaction_id).concluded(State::InDoubt);
    station.stop(transaction_id);
    api.effect_when(&effect.id, State::Done);
    assert_eq!(station.count_calls(STOP), 1);
}

#[test]
fn a_connector_is_unlocked_or_the_station_says_why_not() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    assert_eq!(api.unlock("CP-1", 1).concluded(State::Done).name, "unlock");
    assert_eq!(station.calls(UNLOCK), [json!({"connectorId": 1})]);
    for refusal in ["UnlockFailed", "NotSupported"] {
        station.on(UNLOCK, &Policy::Answer(refusal));
        let effect = api.unlock("CP-1", 1).concluded(State::Rejected);
        assert!(
            effect.reason.as_ref().is_some_and(|reason| reason.contains(refusal)),
            "{effect:?}"
        );
    }
    api.unlock("CP-1", 7).refused("unknown-connector");
    // Connector 0 is the station itself, which has nothing to unlock (OCPP 1.6 section 6.53:
    // connectorId > 0).
    api.unlock("CP-1", 0).problem(400);
    assert_eq!(station.count_calls(UNLOCK), 3);
}

#[test]
fn an_unanswered_unlocking_stays_in_doubt_until_a_person_has_looked() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(UNLOCK, &Policy::Hold);
    let effect = api.unlock("CP-1", 1).concluded(State::InDoubt);
    // A station that does not answer is no problem of the server.
    until("a count of it", || {
        let health = api.fetch("/health").expect(200).json();
        assert_eq!(health["status"], "ok", "{health}");
        if health["inDoubt"] == 1 { Ok(()) } else { Err(health.to_string()) }
    });
    api.resolve_when_over(&effect.id, "done", "seen on the spot");
    assert_eq!(api.effect(&effect.id).state, State::Done);
    assert_eq!(station.count_calls(UNLOCK), 1);
}

/// OCPP-J 1.6 section 4.1.1: no further CALL before the one under way is answered or has timed out.
#[test]
fn a_station_has_one_call_of_ours_to_answer_at_a_time() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 3);
    station.on(UNLOCK, &Policy::Hold);
    thread::scope(|scope| {
        let drivers: Vec<_> = (1..=3)
            .map(|connector_id| {
                let api = api.clone();
                scope.spawn(move || api.unlock("CP-1", connector_id).concluded(State::Done))
            })
            .collect();
        for nth in 1..=3 {
            station.expect_call(UNLOCK, nth);
            // All that was sent before the answer to a call of its own has arrived with it.
            assert_eq!(station.count_calls(UNLOCK), nth, "the next one waits");
            station.release(UNLOCK, "Unlocked");
        }
        drivers.into_iter().for_each(|driver| drop(driver.join().unwrap()));
    });
}

#[test]
fn what_comes_of_a_request_belongs_to_the_trace_of_its_caller() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let unlock = |traceparent: &str| {
        let body = json!({"connectorId": 1}).to_string();
        api.send(
            "POST",
            "/api/stations/CP-1/unlock?wait=15s",
            &[("traceparent", traceparent)],
            &body,
        )
        .concluded(State::Done);
    };
    unlock(parent);
    unlock("no trace");
    assert_eq!(
        station.count_calls(UNLOCK),
        2,
        "a header that says no trace is no fault of the request"
    );
    let traced = |item: &HistoryItem| item.metadata.traceparent.as_deref() == Some(parent);
    let history = api.history("CP-1");
    let of_type = |event_type: &str| {
        history.iter().filter(|item| item.event_type == event_type).map(traced).collect::<Vec<_>>()
    };
    assert_eq!(of_type("station.UnlockRequested"), [true, false], "{history:?}");
    api.send("PUT", "/api/stations/CP-9", &[("traceparent", parent)], "").expect(201);
    assert!(traced(&api.history("CP-9")[0]));
}
