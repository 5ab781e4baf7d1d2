//! What is read: in SQLite beside the log, or in a real PostgreSQL. Right once, whatever is killed.

use leftfold::prelude::StreamName;
use leftfold::store::{Append, EventType, NewEvent};
use leftfold_proving::PostgresServer;
use serde_json::{Value, json};

use crate::harness::browser::{dom, screenshot};
use crate::harness::deadline::until;
use crate::harness::folder::Folder;
use crate::harness::server::Options;
use crate::harness::station::{meter_values, start, stop};
use crate::harness::{Api, Server, Station};

/// A database of its own on the server that all tests share.
fn postgres() -> Options {
    in_database(&PostgresServer::shared().database("csms"))
}

fn in_database(url: &str) -> Options {
    Options::default().variable("CSMS_READ_MODELS", url)
}

/// A message of a station about a transaction, at a moment.
fn at(mut message: Value, moment: &str) -> Value {
    if message["timestamp"].is_string() {
        message["timestamp"] = json!(moment);
    } else {
        message["meterValue"][0]["timestamp"] = json!(moment);
    }
    message
}

/// From 4 May 2026 at 22:00, with 1,000 Wh on the meter, to 5 May at 01:00.
fn charge_over_midnight(station: &Station) -> i64 {
    let started = at(start(1, "ANN"), "2026-05-04T22:00:00Z");
    let id = station.call("StartTransaction", started)["transactionId"].as_i64().unwrap();
    station.call("MeterValues", at(meter_values(1, id, 4_000), "2026-05-04T23:45:00Z"));
    station.call("MeterValues", at(meter_values(1, id, 4_500), "2026-05-05T00:00:00Z"));
    station.call("MeterValues", at(meter_values(1, id, 6_000), "2026-05-05T00:30:00Z"));
    let mut stopped = at(stop(id), "2026-05-05T01:00:00Z");
    stopped["meterStop"] = json!(7_000);
    station.call("StopTransaction", stopped);
    id
}

fn row(day: &str, station: &str, energy_wh: i64, transactions: i64) -> (String, String, i64, i64) {
    (day.to_owned(), station.to_owned(), energy_wh, transactions)
}

const MAY: &str = "from=2026-05-01&to=2026-05-31";

#[track_caller]
fn assert_session_is_reported(options: Options) -> Server {
    let server = Server::start_with(options);
    let api = server.api();
    let (one, other) = (server.ready_station("CP-1", 1), server.ready_station("CP-2", 1));
    let id = charge_over_midnight(&one);
    charge_over_midnight(&other);
    let (first, second) = (3_500, 2_500);
    let by_station = [
        row("2026-05-04", "CP-1", first, 1),
        row("2026-05-04", "CP-2", first, 1),
        row("2026-05-05", "CP-1", second, 1),
        row("2026-05-05", "CP-2", second, 1),
    ];
    assert_eq!(api.energy(MAY), by_station);
    assert_eq!(api.energy(&format!("{MAY}&limit=1")), by_station, "page by page");
    assert_eq!(
        api.energy(&format!("{MAY}&station=CP-2")),
        [by_station[1].clone(), by_station[3].clone()]
    );
    let by_day: Vec<Value> = api.all(&format!("/api/energy?{MAY}&by=day&limit=1"));
    assert_eq!(by_day[0], json!({"day": "2026-05-04", "energyWh": 2 * first, "transactions": 2}));
    assert_eq!(by_day.len(), 2);

    let count = |query: &str| api.all::<Value>(&format!("/api/transactions?limit=1&{query}")).len();
    assert_eq!(
        (count(""), count("idTag=ANN&station=CP-1"), count("idTag=BOB"), count("open=true")),
        (2, 1, 0, 0)
    );
    assert_eq!((count("from=2026-05-04T22:00:00Z"), count("to=2026-05-04T22:00:00Z")), (2, 0));
    let registers = |query: &str| {
        let samples: Vec<Value> = api.all(&format!("/api/meter-values?limit=2&{query}"));
        samples
            .iter()
            .map(|sample| sample["value"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(registers(&format!("transactionId={id}")), ["4000", "4500", "6000"]);
    assert_eq!(
        registers("station=CP-2&connectorId=1&from=2026-05-05T00:00:00Z&to=2026-05-05T00:30:00Z"),
        ["4500"]
    );
    assert_eq!(registers("measurand=Voltage"), [""; 0]);
    let page = api.fetch(&format!("/energy?{MAY}")).expect(200).body;
    assert!(page.contains("2026-05-04") && page.contains("7.00 kWh"), "{page}");
    let page = api.fetch("/transactions?station=CP-1").expect(200).body;
    assert!(page.contains("ANN") && page.contains("CP-1") && !page.contains("CP-2"), "{page}");
    server
}

#[test]
fn a_session_over_midnight_is_reported_by_day_in_sqlite() {
    let server = assert_session_is_reported(Options::default());
    for (path, name) in
        [(format!("energy?{MAY}"), "energy"), ("transactions".to_owned(), "transactions")]
    {
        for (size, width) in [("1280,700", "wide"), ("390,1400", "narrow")] {
            let picture =
                screenshot(&format!("{}{path}", server.url()), size, &format!("{name}-{width}"));
            assert!(
                picture.starts_with(b"\x89PNG") && picture.len() > 5_000,
                "{} bytes",
                picture.len()
            );
        }
    }
}

#[test]
fn a_session_over_midnight_is_reported_by_day_in_postgresql() {
    assert_session_is_reported(postgres());
}

/// Whatever the moment of the kill, and however often a station says it again.
#[track_caller]
fn assert_right_once_over_kills(options: Options) {
    let mut server = Server::start_with(options);
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let rounds = 4;
    for round in 1..=rounds {
        let id = charge_over_midnight_until_stop(&station, round);
        let _reply_lost = station.begin("StopTransaction", at(stop(id), "2026-05-05T01:00:00Z"));
        server.restart();
        station.wait_closed(round as usize);
        station.connect();
        station.call("StopTransaction", at(stop(id), "2026-05-05T01:00:00Z"));
    }
    let expected = [
        row("2026-05-04", "CP-1", 500 * rounds, rounds),
        row("2026-05-05", "CP-1", 1_000 * rounds, rounds),
    ];
    assert_eq!(api.energy(MAY), expected);
    let transactions = api.transactions("CP-1");
    assert_eq!(transactions.len() as i64, rounds);
    assert!(
        transactions.iter().all(|it| it.meter_messages == 1 && it.energy_wh == Some(1_500)),
        "{transactions:?}"
    );
    assert_eq!(api.all::<Value>("/api/meter-values?station=CP-1").len() as i64, rounds);
}

fn charge_over_midnight_until_stop(station: &Station, round: i64) -> i64 {
    let started = at(start(1, &format!("TAG-{round}")), "2026-05-04T22:00:00Z");
    let id = station.call("StartTransaction", started)["transactionId"].as_i64().unwrap();
    station.call("MeterValues", at(meter_values(1, id, 1_500), "2026-05-04T23:45:00Z"));
    id
}

#[test]
fn killed_in_the_middle_the_report_is_right_once_in_sqlite() {
    assert_right_once_over_kills(Options::default());
}

#[test]
fn killed_in_the_middle_the_report_is_right_once_in_postgresql() {
    assert_right_once_over_kills(postgres());
}

#[test]
fn a_database_that_is_away_holds_nobody_up_and_has_everything_when_it_is_back() {
    let mut database = PostgresServer::start();
    let url = database.database("csms");
    let server = Server::start_with(in_database(&url));
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let before = station.start(1, "ANN");
    assert_eq!(api.transaction(before).id_tag, "ANN");
    database.stop_hard();
    station.stop(before);
    let during = station.start(1, "BOB");
    api.station_when("CP-1", "charging", |view| view.connector(1).transaction_id == Some(during));
    let problem = api.fetch("/api/transactions").problem(503);
    assert_eq!(problem.code.as_deref(), Some("read-model-away"));
    let (status, problems) = until("a word of it in /health", || match api.health() {
        health if health.1.is_empty() => Err(format!("{health:?}")),
        health => Ok(health),
    });
    assert!(
        status == "degraded" && problems.contains(&"transactions".to_owned()),
        "{status} {problems:?}"
    );
    let page = api.fetch("/").expect(200).body;
    assert!(
        page.contains("CP-1")
            && page.contains("cannot be read now")
            && page.contains("does not move"),
        "{page}"
    );

    database.start_again();
    let all = until("the transactions", || {
        let reply = api.fetch("/api/transactions");
        if reply.status == 200
            && reply.json()["items"].as_array().is_some_and(|items| items.len() == 2)
        {
            return Ok(reply.json());
        }
        Err(reply.body)
    });
    assert_eq!(
        (&all["items"][0]["idTag"], &all["items"][1]["energyWh"]),
        (&json!("BOB"), &json!(1_500))
    );
    until(
        "health",
        || if api.health().0 == "ok" { Ok(()) } else { Err(api.fetch("/health").body) },
    );
}

/// PostgreSQL has no NUL in texts.
#[test]
fn a_text_that_a_database_cannot_hold_stops_nobody() {
    let server = Server::start_with(postgres());
    let station = server.ready_station("CP-1", 1);
    let id = station.start(1, "NUL\0TAG");
    assert_eq!(server.api().transaction(id).id_tag, "NUL\u{fffd}TAG");
}

#[test]
fn a_caller_reads_what_he_wrote_or_hears_what_is_waited_for() {
    let server = Server::start();
    let api = server.api();
    let put = api.put("/api/stations/CP-9", &json!({}));
    let position: u64 = put.header("leftfold-position").unwrap().parse().unwrap();
    let shown = api.fetch(&format!("/api/stations?at={position}")).expect(200);
    assert_eq!(shown.json()["items"][0]["id"], "CP-9");
    assert!(shown.header("leftfold-position").unwrap().parse::<u64>().unwrap() >= position);
    let by_header =
        api.send("GET", "/api/transactions", &[("Leftfold-Position", &position.to_string())], "");
    assert_eq!(by_header.expect(200).json()["items"], json!([]));
    let problem = api.fetch("/api/energy?at=1000000").problem(503);
    assert_eq!(problem.code.as_deref(), Some("behind"));
    assert!(problem.detail.contains("waits for"), "{problem:?}");
    api.send("GET", "/api/energy", &[("Leftfold-Position", "soon")], "").problem(400);
}

#[test]
fn figures_are_told_to_prometheus() {
    let server = Server::start();
    let metrics = server.api().fetch("/metrics").expect(200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for consumer in ["transactions", "meter_values", "reservation_expiry", "remote-start"] {
        assert!(
            metrics.body.contains(&format!("\"{consumer}\"")),
            "{consumer} in {}",
            metrics.body
        );
    }
}

/// An event that today's code cannot read, as a bug of yesterday's may have written it.
fn write_unreadable(server: &Server, station: &str) {
    let path = server.store_path();
    let write = async {
        let store = leftfold::open(path.to_str().unwrap()).await.unwrap();
        let event_type = EventType::new("station.TransactionStarted").unwrap();
        let event = NewEvent::new(event_type, br#"{"transaction_id": "none"}"#.to_vec());
        let event = event.in_stream(StreamName::of("station", station).unwrap());
        store.append(Append::of(vec![event])).await.unwrap();
        store.close().await.unwrap();
    };
    tokio::runtime::Runtime::new().unwrap().block_on(write);
}

fn parked(api: &Api) -> Vec<Value> {
    api.all("/api/read-models/transactions/parked")
}

#[test]
fn an_event_that_cannot_be_taken_in_is_parked_shown_and_let_go_by_a_person() {
    let mut server = Server::start();
    let api = server.api();
    server.ready_station("CP-1", 1);
    server.kill();
    write_unreadable(&server, "CP-BAD");
    server.run();
    let items = until("the parked event", || match parked(&api) {
        items if items.is_empty() => Err("nothing is parked".to_owned()),
        items => Ok(items),
    });
    assert_eq!(
        (&items[0]["stream"], &items[0]["state"]),
        (&json!("station-CP-BAD"), &json!("unreadable"))
    );
    assert!(items[0]["error"].as_str().unwrap().contains("does not parse"), "{items:?}");
    let station = Station::new(&server, "CP-1");
    station.connect();
    assert_eq!(api.transaction(station.start(1, "ANN")).id_tag, "ANN", "others go on");

    let page = dom(&server.url());
    for shown in [
        "Parked",
        "station-CP-BAD",
        "data-url=\"/api/read-models/transactions/skip\"",
        "Try again",
        "up to date",
    ] {
        assert!(page.contains(shown), "{shown:?} in {page}");
    }
    for (size, name) in [("1280,1800", "parked-wide"), ("390,2600", "parked-narrow")] {
        let picture = screenshot(&server.url(), size, name);
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() > 5_000,
            "{} bytes",
            picture.len()
        );
    }

    let (key, position) = (items[0]["key"].clone(), items[0]["position"].clone());
    let again =
        api.post("/api/read-models/transactions/retry", &json!({"key": key})).expect(200).json();
    assert_eq!(again["stoppedBy"]["position"], position, "it cannot be read today either");
    let foreign = [("Origin", "https://evil.example")];
    let skip = json!({"position": position});
    api.send("POST", "/api/read-models/transactions/skip", &foreign, &skip.to_string())
        .problem(403);
    api.post("/api/read-models/transactions/skip", &skip).expect(200);
    assert_eq!(parked(&api), [] as [Value; 0]);
    assert_eq!(
        api.post("/api/read-models/transactions/skip", &skip).problem(409).code.as_deref(),
        Some("not-parked")
    );
    api.fetch("/api/read-models/none/parked").problem(404);
    // Processes read it too.
    let triggers: Vec<Value> = api.all("/api/processes/reservation_expiry/parked");
    assert!(triggers.iter().all(|trigger| trigger["stream"] == "station-CP-BAD"), "{triggers:?}");
    api.fetch("/api/processes/none/parked").problem(404);
}

#[test]
fn read_models_of_another_store_are_refused_until_they_are_to_be_built_anew() {
    let options = postgres();
    let mut other = Server::start_with(options.clone());
    let station = other.ready_station("CP-OTHER", 1);
    let id = station.start(1, "ANN");
    assert_eq!(other.api().transaction(id).station, "CP-OTHER");
    other.kill();
    let folder = Folder::new();
    let ended = Server::refuses_to_start(&options, &folder.path().join("store"));
    for said in ["correct --store or --read-models", "start once with --rebuild-read-models"] {
        assert!(ended.stderr.contains(said) && !ended.status.success(), "{said:?} in {ended:?}");
    }
    let server = Server::start_with(options.variable("CSMS_REBUILD_READ_MODELS", "1"));
    assert_eq!(server.api().all::<Value>("/api/transactions"), [] as [Value; 0]);
    let station = server.ready_station("CP-1", 1);
    assert_eq!(server.api().transaction(station.start(1, "BOB")).station, "CP-1");
}

#[test]
fn what_was_parked_goes_into_the_rows_once_and_in_order_after_the_cause_is_mended() {
    let url = PostgresServer::shared().database("csms");
    let server = Server::start_with(in_database(&url));
    let api = server.api();
    let (one, other) = (server.ready_station("CP-1", 1), server.ready_station("CP-2", 1));
    assert_eq!(api.transactions("CP-1"), []);
    let table = "ALTER TABLE transactions_v4.transactions";
    PostgresServer::shared()
        .psql(&url, &format!("{table} ADD CONSTRAINT no_bob CHECK (id_tag <> 'BOB')"));
    let id = one.start(1, "BOB");
    one.call("MeterValues", meter_values(1, id, 1_700));
    one.stop(id);
    let elsewhere = other.start(1, "ANN");
    let items = until("the parked events", || match parked(&api) {
        items if items.len() == 3 => Ok(items),
        items => Err(format!("{items:?}")),
    });
    let states: Vec<_> = items
        .iter()
        .map(|item| (item["key"].as_str().unwrap(), item["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("CP-1", "failed"), ("CP-1", "waits"), ("CP-1", "waits")]);
    assert!(items[0]["error"].as_str().unwrap().contains("no_bob"), "{items:?}");
    assert_eq!(api.transaction(elsewhere).id_tag, "ANN", "another station goes on");
    api.fetch(&format!("/api/transactions/{id}")).problem(404);

    PostgresServer::shared().psql(&url, &format!("{table} DROP CONSTRAINT no_bob"));
    let retried =
        api.post("/api/read-models/transactions/retry", &json!({"key": "CP-1"})).expect(200).json();
    assert_eq!(
        (retried["applied"].as_array().unwrap().len(), &retried["stoppedBy"]),
        (3, &Value::Null)
    );
    let transaction = api.transaction(id);
    assert_eq!(
        (transaction.energy_wh, transaction.meter_messages, transaction.open),
        (Some(1_500), 1, false)
    );
    assert_eq!(parked(&api), [] as [Value; 0]);
}
