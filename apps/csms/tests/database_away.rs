//! Servers whose database cannot be reached: they say so, let their stations go, and come back by
//! themselves.

use std::thread;

use leftfold_proving::PostgresServer;
use serde_json::json;

use crate::harness::deadline::{PATIENCE, until};
use crate::harness::proxy::Proxy;
use crate::harness::server::Options;
use crate::harness::station::stop;
use crate::harness::{Server, State};

/// A database of its own: its URL, and a proxy before its server.
fn database() -> (String, Proxy) {
    let server = PostgresServer::shared();
    (server.database("csms"), Proxy::before(server.port()))
}

fn on(database: &str) -> Options {
    Options::default().store(&format!("{database}?schema=events"))
}

/// Waits until `/health` has a status; returns its body.
#[track_caller]
fn health_when(server: &Server, code: u16, status: &str) -> serde_json::Value {
    until(&format!("{code} {status} of /health"), || {
        let answer = server.api().fetch("/health");
        let body = answer.json();
        match (answer.status, body["status"].as_str()) {
            (found, Some(said)) if found == code && said == status => Ok(body),
            _ => Err(format!("{} {body}", answer.status)),
        }
    })
}

/// Such a server kept its sockets and was shown as healthy, while all that it did was to refuse
/// what its stations reported.
#[test]
fn a_server_that_is_cut_off_from_the_database_gives_its_stations_to_others_and_comes_back() {
    let (database, proxy) = database();
    let cut_off = Server::start_with(on(&proxy.through(&database)));
    let others = [(); 2].map(|()| Server::start_with(on(&database)));
    let station = cut_off.ready_station("CP-1", 2);
    let id = station.start(1, "ANN");
    proxy.cut();
    let health = health_when(&cut_off, 503, "away");
    assert_eq!(health["problems"][0]["of"], "store", "{health}");
    let consumers = health["consumers"].as_array().unwrap();
    let waits = |consumer: &serde_json::Value| {
        consumer["waitsFor"].as_str().unwrap().starts_with("the store to come back")
    };
    assert!(!consumers.is_empty() && consumers.iter().any(waits), "{health}");
    let metrics = cut_off.api().fetch("/metrics").body;
    assert!(metrics.lines().any(|line| line == "leftfold_store_up 0"), "{metrics}");
    assert_eq!(station.wait_closed(1), 1013, "it is to try again elsewhere");
    assert!(!station.connect_to(&cut_off.websocket_url("CP-1"), PATIENCE), "it takes none");

    assert!(station.connect_to(&others[0].websocket_url("CP-1"), PATIENCE));
    station.call("StopTransaction", stop(id));
    let done = others[1].api().remote_start_and_wait("CP-1", 1, "BOB");
    done.concluded(State::Done);
    assert_eq!(others[1].api().count_in_history("CP-1", "station.WentOffline"), 0);

    proxy.mend();
    health_when(&cut_off, 200, "ok");
    assert!(station.connect_to(&cut_off.websocket_url("CP-1"), PATIENCE));
    station.heartbeat();
    let done = others[0].api().remote_start_and_wait("CP-1", 2, "EVE");
    done.concluded(State::Done);
    let view = others[0].api().fetch("/api/stations/CP-1").json();
    assert_eq!((&view["online"], &view["connected"]), (&json!(true), &json!(true)));
}

#[test]
fn a_server_waits_for_a_database_that_is_away_at_the_start_and_then_serves() {
    let (database, proxy) = database();
    proxy.cut();
    let options = on(&proxy.through(&database));
    let starting = thread::spawn(move || Server::start_with(options));
    until("two attempts", || match proxy.refused() {
        2.. => Ok(()),
        refused => Err(format!("{refused} connections were refused")),
    });
    assert!(!starting.is_finished());
    proxy.mend();
    let server = starting.join().unwrap();
    let station = server.ready_station("CP-1", 1);
    station.start(1, "ANN");
    health_when(&server, 200, "ok");
}

#[test]
fn a_server_that_waits_for_its_database_stops_at_once_and_never_tells_the_password() {
    let url = "postgres://csms:geheim@127.0.0.1:1/csms?schema=events&connect_timeout=2";
    let mut server = Server::start_unready(Options::default().store(url));
    server.wait_said("waiting for its database");
    server.terminate();
    let ended = server.wait_ended_with_words();
    assert!(ended.status.success() && !ended.stderr.contains("geheim"), "{ended:?}");
}

#[test]
fn a_database_that_does_not_admit_the_server_ends_the_start_with_the_remedy() {
    let (database, _) = database();
    let url = database.replace("postgres@", "nobody:geheim@");
    let folder = crate::harness::folder::Folder::new();
    let ended = Server::refuses_to_start(&on(&url), folder.path());
    assert!(ended.status.code() == Some(1), "{ended:?}");
    for said in ["cannot be opened", "role \"nobody\" does not exist", "correct user, password"] {
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    assert!(!ended.stderr.contains("geheim"), "{ended:?}");
}

#[test]
fn a_server_whose_database_is_away_stops_in_order_when_it_is_told_to() {
    let (database, proxy) = database();
    let mut server = Server::start_with(on(&proxy.through(&database)));
    let station = server.ready_station("CP-1", 1);
    proxy.cut();
    health_when(&server, 503, "away");
    let _unanswered = station.begin("Heartbeat", json!({}));
    server.terminate();
    assert!(server.wait_ended().success());
}
