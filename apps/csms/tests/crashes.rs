//! SIGKILL of the server at every step of an effect, and what is whole afterwards.
//!
//! An effect is an intent, an attempt, an outcome, and a reply to the caller. Between attempt and
//! outcome a test can hit from outside: when the station has the call. The other two gaps are too
//! short for that, so there the server is told to abort by itself (`CSMS_ABORT_AT`, honoured in
//! debug builds only).

use serde_json::json;

use crate::harness::server::Options;
use crate::harness::station::{meter_values, start, stop};
use crate::harness::views::EffectView;
use crate::harness::{Api, Policy, Server, State, Station};

const START: &str = "RemoteStartTransaction";
const KEY: (&str, &str) = ("Idempotency-Key", "the-driver-s-wish");

fn wish() -> serde_json::Value {
    json!({"connectorId": 1, "idTag": "TAG"})
}

/// The same request again, under its key.
fn repeated(api: &Api) -> EffectView {
    let reply = api.send("POST", "/api/stations/CP-1/remote-start", &[KEY], &wish().to_string());
    assert!(matches!(reply.status, 200 | 202), "{reply:?}");
    reply.view()
}

/// One effect, asked for once, and sent so many times.
#[track_caller]
fn assert_whole(api: &Api, station: &Station, effect: &EffectView, sent: usize) {
    assert_eq!(station.count_calls(START), sent, "nothing is sent twice");
    assert_eq!(api.effects().iter().map(|effect| &effect.id).collect::<Vec<_>>(), [&effect.id]);
    assert_eq!(api.count_in_history("CP-1", "station.RemoteStartRequested"), 1);
}

#[test]
fn killed_between_intent_and_attempt_the_effect_is_carried_out_once_after_the_restart() {
    // The effects are at work in the store before: what is asked for from then on is theirs.
    let mut server = Server::start_with(Options::default());
    server.restart_with(Options::default().variable("CSMS_ABORT_AT", "before-attempt"));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    api.post_in_vain("/api/stations/CP-1/remote-start", &[KEY], &wish());
    assert!(!server.wait_ended().success());
    station.wait_closed(1);
    assert_eq!(station.calls_so_far(START).len(), 0, "nothing was attempted");

    server.restart_with(Options::default());
    station.connect();
    station.heartbeat();
    let effect = repeated(&api);
    let effect = api.effect_when(&effect.id, State::Done);
    assert_eq!(effect.attempts, 1);
    assert_whole(&api, &station, &effect, 1);
    let transaction_id = station.start(1, "TAG");
    assert_eq!(api.transaction(transaction_id).remote_start, Some(effect.request));
}

#[test]
fn killed_between_attempt_and_outcome_the_effect_is_in_doubt_until_the_transaction_is_reported() {
    let mut server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let asked =
        api.send("POST", "/api/stations/CP-1/remote-start", &[KEY], &wish().to_string()).taken_on();
    station.expect_call(START, 1);
    server.kill();
    station.wait_closed(1);

    server.run();
    station.connect();
    let effect = api.effect_when(&asked.id, State::InDoubt);
    assert_eq!(repeated(&api).id, effect.id);
    assert_whole(&api, &station, &effect, 1);
    // The station did start; its message was queued while the server was away.
    let transaction_id = station.start(1, "TAG");
    let effect = api.effect_when(&asked.id, State::Done);
    assert_eq!(api.transaction(transaction_id).remote_start.as_ref(), Some(&effect.request));
    assert_whole(&api, &station, &effect, 1);
}

#[test]
fn killed_between_attempt_and_outcome_the_station_is_asked_what_became_of_it() {
    let options = Options::default().call_timeout_ms(700).start_within_ms(2_000);
    let mut server = Server::start_with(options);
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    station.on(START, &Policy::Hold);
    let asked =
        api.send("POST", "/api/stations/CP-1/remote-start", &[KEY], &wish().to_string()).taken_on();
    station.expect_call(START, 1);
    server.restart();
    station.wait_closed(1);
    station.connect();
    // It never started: it answers the question with an available connector.
    let effect = api.effect_when(&asked.id, State::NotDone);
    let questions = station.calls("TriggerMessage");
    assert!(
        questions.iter().any(|asked| asked["requestedMessage"] == "StatusNotification"),
        "{questions:?}"
    );
    assert_whole(&api, &station, &effect, 1);
    station.on(START, &Policy::Answer("Accepted"));
    api.remote_start_and_wait("CP-1", 1, "NEXT").concluded(State::Done);
}

#[test]
fn killed_between_outcome_and_reply_the_caller_finds_the_outcome_by_its_key() {
    let mut server =
        Server::start_with(Options::default().variable("CSMS_ABORT_AT", "after-outcome"));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    api.post_in_vain("/api/stations/CP-1/remote-start?wait=15s", &[KEY], &wish());
    assert!(!server.wait_ended().success());
    station.wait_closed(1);

    server.restart_with(Options::default());
    station.connect();
    station.heartbeat();
    let effect = repeated(&api);
    assert_eq!((api.effect(&effect.id).state, effect.attempts), (State::Done, 1));
    assert_whole(&api, &station, &effect, 1);
}

#[test]
fn everything_that_was_acknowledged_survives_a_kill() {
    let mut server = Server::start();
    let api = server.api();
    api.define_tag("ANN", &json!({"status": "Blocked", "parentIdTag": "FLEET"}));
    let station = server.ready_station("CP-1", 3);
    let over = station.start(1, "BOB");
    station.stop(over);
    let open = station.start(2, "EVE");
    let before = (api.transaction(over), api.transaction(open), api.history("CP-1").len());
    server.restart();
    assert_eq!((api.transaction(over), api.transaction(open)), (before.0, before.1));
    assert!(api.history("CP-1").len() >= before.2);
    let view = api.station("CP-1");
    assert_eq!(
        (view.connector(1).transaction_id, view.connector(2).transaction_id),
        (None, Some(open))
    );
    let tag = api.fetch("/api/tags/ANN").expect(200).json();
    assert_eq!((&tag["status"], &tag["parentIdTag"]), (&json!("Blocked"), &json!("FLEET")));
    station.wait_closed(1);
    station.connect();
    let next = station.start(3, "EVE");
    assert!(next > open && next > over, "an id is never given twice: {next}");
}

/// Whatever the moment of the kill, a station that resends what was not answered is counted once.
#[test]
fn transactions_resent_after_kills_in_the_middle_are_counted_once() {
    let mut server = Server::start();
    let station = server.ready_station("CP-1", 1);
    let mut ids = Vec::new();
    for round in 1..=4 {
        let started = start(1, "TAG");
        let _reply_lost = station.begin("StartTransaction", started.clone());
        server.restart();
        station.wait_closed(round);
        station.connect();
        let transaction_id =
            station.call("StartTransaction", started)["transactionId"].as_i64().unwrap();
        station.call("StopTransaction", stop(transaction_id));
        ids.push(transaction_id);
    }
    let mut known: Vec<i64> =
        server.api().transactions("CP-1").iter().map(|transaction| transaction.id).collect();
    known.sort_unstable();
    assert_eq!(known, ids, "each once, and none besides");
    assert_eq!(server.api().count_in_history("CP-1", "station.TransactionStarted"), ids.len());
    assert_eq!(server.api().count_in_history("CP-1", "station.TransactionStopped"), ids.len());
}

/// A station is told when its message could not be kept, so that it sends it again; what was
/// acknowledged is there.
#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let mut server = Server::start_with(Options::default().file_kib_max(512));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let transaction_id = station.start(1, "TAG");
    let padded = |energy_wh: i64| {
        let mut values = meter_values(1, transaction_id, energy_wh);
        values["meterValue"][0]["sampledValue"][0]["value"] =
            json!(format!("{energy_wh}{}", " ".repeat(30_000)));
        values
    };
    let mut refused = None;
    let mut acknowledged = 0;
    while refused.is_none() && acknowledged < 49 {
        match station.try_call("MeterValues", padded(1_000 + acknowledged)) {
            Ok(_) => acknowledged += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused.expect("512 KiB do not hold 49 messages of 30 KB").code, "InternalError");
    // It lives, and what is there can be read; SQLite may have no more room for the values
    // themselves.
    api.fetch("/health").expect(200);
    let (status, problems) = api.health();
    assert!(
        status == "degraded" && problems.contains(&"store".to_owned()),
        "{status} {problems:?}"
    );
    assert_eq!(api.transaction(transaction_id).meter_messages, acknowledged);

    server.restart_with(Options::default());
    station.wait_closed(1);
    let kept = api.transaction(transaction_id).meter_messages;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&kept),
        "{kept} of {acknowledged} and one whose fate was unknown"
    );
    station.connect();
    station.call("MeterValues", padded(1_000 + acknowledged));
    let after = api.transaction(transaction_id);
    assert_eq!(
        (after.meter_messages, after.meter_values.unwrap().items.len() as i64),
        (acknowledged + 1, acknowledged + 1)
    );
    assert_eq!(api.health(), ("ok".to_owned(), Vec::new()));
}
