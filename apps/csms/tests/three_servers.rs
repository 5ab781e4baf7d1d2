//! Three servers over one store in PostgreSQL: a fleet that moves between them while each of them
//! is stopped, killed and started again, and books that agree in the end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use leftfold_proving::PostgresServer;
use serde_json::{Value, json};

use crate::harness::api::station_path;
use crate::harness::deadline::{PATIENCE, until};
use crate::harness::http;
use crate::harness::server::Options;
use crate::harness::station::{meter_values, now, start};
use crate::harness::{Api, Server, State, Station};

const SERVERS: usize = 3;
const STATIONS: usize = 4;
/// Sessions of a station at least.
const SESSIONS_MIN: usize = 3;
/// Time after which a station takes a server for dead, and goes to another one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Calls of the fleet between two events in the life of a server.
const CALLS_BETWEEN: usize = 8;
const START: &str = "RemoteStartTransaction";

/// Servers over one store, which is theirs alone.
fn servers(options: impl Fn(Options) -> Options) -> Vec<Server> {
    let database = PostgresServer::shared().database("csms");
    let options = options(Options::default().store(&format!("{database}?schema=events")));
    (0..SERVERS).map(|_| Server::start_with(options.clone())).collect()
}

/// A station that has booted at one server, whichever it moves to later.
fn ready(server: &Server, identity: &str) -> Station {
    server.ready_station(identity, 1)
}

#[test]
fn a_request_to_any_server_reaches_the_station_at_the_server_that_it_is_connected_to() {
    let servers = servers(|options| options);
    let station = ready(&servers[0], "CP-1");
    for (asked, server) in servers.iter().enumerate() {
        let tag = format!("TAG-{asked}");
        let effect = server.api().remote_start_and_wait("CP-1", 1, &tag).concluded(State::Done);
        assert_eq!((station.count_calls(START), effect.attempts), (asked + 1, 1));
        let id = station.start(1, &tag);
        for other in &servers {
            let transaction = other.api().transaction(id);
            assert_eq!(transaction.remote_start.as_ref(), Some(&effect.request));
        }
        server.api().remote_stop("CP-1", id).concluded(State::Done);
        station.stop(id);
    }
}

#[test]
fn a_station_that_moves_is_online_all_the_time_and_its_old_connection_ends() {
    let servers = servers(|options| options.offline_after_ms(2_000));
    let station = ready(&servers[0], "CP-1");
    let since = servers[0].api().fetch("/api/stations/CP-1").json()["onlineChangedAt"].clone();
    for (nth, to) in [1, 2, 0].into_iter().enumerate() {
        assert!(station.connect_to(&servers[to].websocket_url("CP-1"), PATIENCE));
        station.heartbeat();
        assert_eq!(station.wait_closed(nth + 1), 1000, "replaced by a newer connection");
        for server in &servers {
            let view = server.api().fetch("/api/stations/CP-1").json();
            assert_eq!((&view["online"], &view["connected"]), (&json!(true), &json!(true)));
        }
    }
    // Far longer than the countdown at the servers that it left: another station's silence tells.
    let other = ready(&servers[1], "CP-2");
    other.close();
    servers[2].api().station_when("CP-2", "offline", |view| !view.online);
    let view = servers[1].api().fetch("/api/stations/CP-1").json();
    assert_eq!((&view["online"], &view["onlineChangedAt"]), (&json!(true), &since));
    assert_eq!(servers[1].api().count_in_history("CP-1", "station.WentOffline"), 0);
}

#[test]
fn every_server_tells_what_each_of_them_does_for_all() {
    let servers = servers(|options| options);
    for server in &servers {
        let works = until("work for every server", || {
            let told = server.api().fetch("/api/servers").json();
            let items = told["items"].as_array().cloned().unwrap_or_default();
            let works = |item: &Value| item["works"].as_array().map_or(0, Vec::len);
            match items.len() == SERVERS && items.iter().all(|item| works(item) > 0) {
                true => Ok(items.iter().map(works).sum::<usize>()),
                false => Err(told.to_string()),
            }
        });
        assert!(works >= SERVERS, "{works}");
        let page = server.api().fetch("/").body;
        assert!(page.contains("id=\"servers\""), "{page}");
    }
}

/// The servers as the fleet sees them.
struct Fleet {
    urls: Vec<String>,
    addresses: Vec<std::net::SocketAddr>,
    /// Whether they can be expected to answer.
    up: Vec<AtomicBool>,
    /// Calls that were answered.
    calls: AtomicUsize,
    is_over: AtomicBool,
}

impl Fleet {
    fn of(servers: &[Server]) -> Self {
        Self {
            urls: servers.iter().map(|server| server.websocket_url("")).collect(),
            addresses: servers.iter().map(Server::address).collect(),
            up: servers.iter().map(|_| AtomicBool::new(true)).collect(),
            calls: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    fn any_up(&self, random: &mut fastrand::Rng) -> usize {
        let up: Vec<usize> =
            (0..SERVERS).filter(|at| self.up[*at].load(Ordering::SeqCst)).collect();
        up[random.usize(..up.len())]
    }

    /// Waits until the fleet has made so many calls more.
    fn wait_for_calls(&self, what: &str) {
        let end = self.calls.load(Ordering::SeqCst) + CALLS_BETWEEN;
        until(what, || match self.calls.load(Ordering::SeqCst) {
            calls if calls >= end => Ok(()),
            calls => Err(format!("{calls} of {end} calls")),
        });
    }
}

/// A session as the station saw it.
#[derive(Debug)]
struct Session {
    transaction_id: i64,
    id_tag: String,
    energy_wh: i64,
    meter_messages: i64,
}

/// One station, which moves when it likes to, and when a server does not answer.
struct Driver<'f> {
    fleet: &'f Fleet,
    station: Station,
    random: fastrand::Rng,
    sessions: Vec<Session>,
}

impl Driver<'_> {
    fn run(&mut self) {
        self.move_on();
        let boot = json!({"chargePointVendor": "Leftfold", "chargePointModel": "Tester"});
        self.insist("BootNotification", &boot);
        for connector_id in [0, 1] {
            let status =
                json!({"connectorId": connector_id, "errorCode": "NoError", "status": "Available"});
            self.insist("StatusNotification", &status);
        }
        while self.sessions.len() < SESSIONS_MIN || !self.fleet.is_over.load(Ordering::SeqCst) {
            self.charge();
        }
        self.insist("Heartbeat", &json!({}));
    }

    fn charge(&mut self) {
        if self.random.u8(..3) == 0 {
            if self.random.bool() {
                self.station.abort_any();
            }
            self.move_on();
        }
        let number = self.sessions.len();
        let asked = format!("R-{}-{number}", self.station.identity);
        let comes = self.random.bool() && self.is_asked_for(&asked);
        let id_tag = if comes { asked } else { format!("L-{}-{number}", self.station.identity) };
        let started = self.insist("StartTransaction", &start(1, &id_tag));
        let transaction_id = started["transactionId"].as_i64().unwrap();
        let mut meter_wh = 1_000;
        let meter_messages = self.random.i64(1..=3);
        for _ in 0..meter_messages {
            meter_wh += self.random.i64(1..500);
            self.insist("MeterValues", &meter_values(1, transaction_id, meter_wh));
        }
        if self.random.u8(..4) == 0 {
            self.ask("remote-stop", &json!({"transactionId": transaction_id}));
        }
        meter_wh += self.random.i64(0..500);
        let stop =
            json!({"transactionId": transaction_id, "meterStop": meter_wh, "timestamp": now()});
        self.insist("StopTransaction", &stop);
        let energy_wh = meter_wh - 1_000;
        self.sessions.push(Session { transaction_id, id_tag, energy_wh, meter_messages });
    }

    /// Asks any server for a session; tells whether the station has heard of it.
    fn is_asked_for(&mut self, id_tag: &str) -> bool {
        self.ask("remote-start", &json!({"connectorId": 1, "idTag": id_tag}));
        self.station.named_calls(START).iter().any(|(_, payload)| payload["idTag"] == id_tag)
    }

    fn ask(&mut self, what: &str, body: &Value) {
        let to = self.fleet.addresses[self.fleet.any_up(&mut self.random)];
        let path = station_path(&self.station.identity, &format!("/{what}?wait=4s"));
        // Whatever the answer, and whether there is one: what came of it is seen at the station.
        let _ = http::try_post(to, &path, body, Duration::from_secs(5));
    }

    /// Sends a call until it is answered, to one server after the other.
    fn insist(&mut self, action: &str, payload: &Value) -> Value {
        let end = Instant::now() + 3 * PATIENCE;
        loop {
            let pending = self.station.begin(action, payload.clone());
            if let Some(answer) = self.station.answer_within(pending, ANSWERED_WITHIN) {
                self.fleet.calls.fetch_add(1, Ordering::SeqCst);
                return answer;
            }
            assert!(Instant::now() < end, "{action} of {} was not answered", self.station.identity);
            self.move_on();
        }
    }

    fn move_on(&mut self) {
        let end = Instant::now() + 3 * PATIENCE;
        loop {
            let to = self.fleet.any_up(&mut self.random);
            let url = format!("{}{}", self.fleet.urls[to], self.station.identity);
            if self.station.connect_to(&url, ANSWERED_WITHIN) {
                return;
            }
            assert!(Instant::now() < end, "{} finds no server", self.station.identity);
        }
    }
}

/// Freezes, thaws, kills and starts each server in turn, while the fleet goes on.
fn trouble(servers: &mut [Server], fleet: &Fleet, random: &mut fastrand::Rng) {
    let _over = Over(fleet);
    let mut order: Vec<usize> = (0..SERVERS).collect();
    random.shuffle(&mut order);
    fleet.wait_for_calls("the first calls");
    for at in order {
        fleet.up[at].store(false, Ordering::SeqCst);
        servers[at].freeze();
        fleet.wait_for_calls("calls while a server stands still");
        servers[at].thaw();
        fleet.up[at].store(true, Ordering::SeqCst);
        fleet.wait_for_calls("calls after it goes on");
        fleet.up[at].store(false, Ordering::SeqCst);
        servers[at].kill();
        fleet.wait_for_calls("calls while a server is gone");
        servers[at].run();
        fleet.up[at].store(true, Ordering::SeqCst);
        fleet.wait_for_calls("calls after it is back");
    }
}

/// The stations end with the trouble, also if that fails.
struct Over<'f>(&'f Fleet);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// The same answer of each server, once there is one that shows all that is durable.
fn agreed(servers: &[Server], path: &str) -> Value {
    let health = |server: &Server| server.api().fetch("/health").json()["position"].as_u64();
    let position = servers.iter().filter_map(health).max().unwrap().to_string();
    let fetch =
        |server: &Server| server.api().send("GET", path, &[("Leftfold-Position", &position)], "");
    until(&format!("one answer of all servers to {path} at {position}"), || {
        let answers: Vec<_> = servers.iter().map(fetch).collect();
        let first = &answers[0];
        if answers.iter().all(|answer| answer.status == 200 && answer.body == first.body) {
            return Ok(first.json());
        }
        let read_models = |server: &Server| server.api().fetch("/api/read-models").body;
        let read_models: Vec<String> = servers.iter().map(read_models).collect();
        Err(format!("{answers:#?}; {read_models:#?}"))
    })
}

/// What the station saw is what one server tells.
fn assert_books_agree(api: &Api, driver: &Driver<'_>) {
    let identity = &driver.station.identity;
    let mut known = api.transactions(identity);
    known.sort_by_key(|transaction| transaction.id);
    let mut seen: Vec<&Session> = driver.sessions.iter().collect();
    seen.sort_by_key(|session| session.transaction_id);
    let told: Vec<_> = known
        .iter()
        .map(|it| (it.id, it.id_tag.as_str(), it.energy_wh, it.meter_messages, it.open))
        .collect();
    let expected: Vec<_> = seen
        .iter()
        .map(|it| {
            (it.transaction_id, it.id_tag.as_str(), Some(it.energy_wh), it.meter_messages, false)
        })
        .collect();
    assert_eq!(told, expected, "{identity}");
    let calls = driver.station.named_calls(START);
    for transaction in known {
        let asked = calls.iter().find(|(_, payload)| payload["idTag"] == transaction.id_tag);
        assert_eq!(transaction.remote_start.as_ref(), asked.map(|(name, _)| name), "{identity}");
    }
    let samples: Vec<Value> = api.all(&format!("/api/meter-values?station={identity}"));
    let messages: i64 = seen.iter().map(|session| session.meter_messages).sum();
    assert_eq!(samples.len() as i64, messages, "{identity}");
    let days = api.energy(&format!("station={identity}"));
    let energy_wh: i64 = seen.iter().map(|session| session.energy_wh).sum();
    assert_eq!(days.iter().map(|day| day.2).sum::<i64>(), energy_wh, "{identity}");
    for (event, count) in [("TransactionStarted", seen.len()), ("TransactionStopped", seen.len())] {
        assert_eq!(
            api.count_in_history(identity, &format!("station.{event}")),
            count,
            "{identity}"
        );
    }
}

/// Each request has come to an end, and has reached its station at most once.
fn assert_asked_once(api: &Api, drivers: &[Driver<'_>]) {
    let effects = until("the end of all requests", || {
        let effects = api.effects();
        let is_open = |state| matches!(state, State::Pending | State::InFlight);
        match effects.iter().find(|effect| is_open(effect.state)) {
            Some(open) => Err(format!("{open:?}")),
            None => Ok(effects),
        }
    });
    let mut names: Vec<String> = Vec::new();
    for driver in drivers {
        for action in [START, "RemoteStopTransaction"] {
            names.extend(driver.station.named_calls(action).into_iter().map(|(name, _)| name));
        }
    }
    for effect in &effects {
        let sent = names.iter().filter(|name| **name == effect.request).count();
        let expected = if effect.state == State::Done { 1..=1 } else { 0..=1 };
        assert!(expected.contains(&sent), "it was sent {sent} times: {effect:?}");
    }
    let done = effects.iter().filter(|effect| effect.state == State::Done).count();
    println!("{done} of {} requests were done", effects.len());
    assert!(done > 0, "{effects:?}");
}

#[test]
fn whatever_is_killed_and_stopped_the_books_of_three_servers_agree_with_what_the_stations_saw() {
    let seed = std::env::var("LEFTFOLD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("replay with LEFTFOLD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut servers = servers(|options| options.call_timeout_ms(2_000).start_within_ms(30_000));
    let fleet = Fleet::of(&servers);
    let mut drivers: Vec<Driver<'_>> = (0..STATIONS)
        .map(|number| Driver {
            fleet: &fleet,
            station: Station::new(&servers[number % SERVERS], &format!("CP-{number}")),
            random: random.fork(),
            sessions: Vec::new(),
        })
        .collect();
    thread::scope(|scope| {
        for driver in &mut drivers {
            scope.spawn(move || driver.run());
        }
        trouble(&mut servers, &fleet, &mut random);
    });
    println!("{} sessions", drivers.iter().map(|driver| driver.sessions.len()).sum::<usize>());

    assert_asked_once(&servers[0].api(), &drivers);
    for path in ["stations", "transactions", "energy", "effects"] {
        agreed(&servers, &format!("/api/{path}?limit=500"));
    }
    for server in &servers {
        for driver in &drivers {
            assert_books_agree(&server.api(), driver);
        }
        let page = server.api().fetch("/").expect(200).body;
        assert!(drivers.iter().all(|driver| page.contains(&driver.station.identity)), "{page}");
    }
}
