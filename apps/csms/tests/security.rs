//! Security of stations: keys and passwords, encrypted connections, certificates, and limits.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::harness::certificates::Authority;
use crate::harness::deadline::{PATIENCE, until};
use crate::harness::folder::Folder;
use crate::harness::http::status_of;
use crate::harness::raw::handshake;
use crate::harness::server::{Options, free_port};
use crate::harness::{Api, Policy, Server, Station};

const TOKEN: &str = "a-token-of-more-than-16-bytes";
const PEPPER: &str = "a-pepper-of-more-than-16-bytes";

/// A closed server, which knows CP-1 to CP-3.
fn closed(folder: &Folder) -> Options {
    let path = folder.path().join("stations.txt");
    fs::write(&path, "CP-1\nCP-2\nCP-3\n").unwrap();
    Options::default()
        .everywhere()
        .variable("CSMS_API_TOKEN", TOKEN)
        .variable("CSMS_STATIONS", path.to_str().unwrap())
        .variable("CSMS_KEY_PEPPER", PEPPER)
}

/// Basic authentication with any bytes.
fn basic(identity: &str, password: &[u8]) -> String {
    let text = [identity.as_bytes(), b":", password].concat();
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

fn bytes_of(key: &str) -> Vec<u8> {
    (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect()
}

/// Has a key drawn for a station.
#[track_caller]
fn drawn(api: &Api, identity: &str) -> String {
    let reply = api.post(&format!("/api/stations/{identity}/key"), &json!({})).expect(201);
    reply.json()["key"].as_str().unwrap().to_owned()
}

fn profile(api: &Api, identity: &str) -> Value {
    let station = api.fetch(&format!("/api/stations/{identity}")).expect(200).json();
    station["security"]["profile"].clone()
}

#[test]
fn a_station_with_a_key_or_a_password_must_show_it_and_neither_is_told_to_anybody() {
    let folder = Folder::new();
    let mut server = Server::start_with(closed(&folder));
    let api = server.api().with_token(TOKEN);
    let status = |server: &Server, identity: &str, password: Option<&[u8]>| {
        let shown = password.map(|password| basic(identity, password));
        let header = shown.map(|shown| format!("Authorization: {shown}\r\n")).unwrap_or_default();
        let to = server.address();
        status_of(to, &handshake(to, &format!("/ocpp/{identity}"), &header))
    };
    assert_eq!(status(&server, "CP-1", None), 101, "it has no key yet");
    assert_eq!(status(&server, "CP-9", None), 404);
    assert_eq!(status(&server, "CP-9", Some(b"anything")), 404);

    let key = drawn(&api, "CP-1");
    assert_eq!((key.len(), profile(&api, "CP-1")), (40, json!(1)));
    let password = json!({"password": "a chosen password"});
    let reply = api.post("/api/stations/CP-2/key", &password).expect(201);
    assert_eq!(reply.json()["key"], Value::Null);
    let upper = key.to_uppercase();
    for round in 0..2 {
        for right in [&bytes_of(&key)[..], key.as_bytes(), upper.as_bytes()] {
            assert_eq!(status(&server, "CP-1", Some(right)), 101);
        }
        assert_eq!(status(&server, "CP-2", Some(b"a chosen password")), 101);
        for wrong in [None, Some(&b""[..]), Some(b"wrong"), Some(&key.as_bytes()[1..])] {
            assert_eq!(status(&server, "CP-1", wrong), 401);
            assert_eq!(status(&server, "CP-2", wrong), 401);
        }
        if round == 0 {
            server.restart();
        }
    }
    // The name must be the identity, and a proof makes an Origin harmless.
    let to = server.address();
    let named = |name: &str, more: &str| {
        let header = format!("Authorization: {}\r\n{more}", basic(name, key.as_bytes()));
        status_of(to, &handshake(to, "/ocpp/CP-1", &header))
    };
    assert_eq!(named("CP-2", ""), 401);
    assert_eq!(named("CP-1", "Origin: https://evil.example\r\nUser-Agent: Mozilla/5.0\r\n"), 101);

    // A new key takes the place of the old one at once.
    let next = drawn(&api, "CP-1");
    assert_eq!(status(&server, "CP-1", Some(key.as_bytes())), 401);
    assert_eq!(status(&server, "CP-1", Some(next.as_bytes())), 101);
    // 40 digits that a person gives are a key, too.
    let chosen = json!({"password": key});
    api.post("/api/stations/CP-1/key", &chosen).expect(201);
    assert_eq!(status(&server, "CP-1", Some(&bytes_of(&key))), 101);
    api.post("/api/stations/CP-1/key", &json!({"password": "short"})).problem(400);

    let history = api.fetch("/api/stations/CP-1/history").expect(200).body;
    assert!(history.contains("station.CredentialSet") && history.contains("\"by\""), "{history}");
    let page = api.fetch("/api/stations/CP-2/history").expect(200).body;
    for secret in [&key[..], &next, "hash", "argon2"] {
        assert!(!history.contains(secret) && !page.contains(secret), "{secret}");
    }
    server.terminate();
    let ended = server.wait_ended_with_words();
    // Those who were refused are told by their prefix.
    assert!(ended.stderr.contains("calls were refused") && ended.stderr.contains("127.0.0.0/24"));
    for secret in [&key[..], &next, "a chosen password", PEPPER] {
        assert!(!ended.stderr.contains(secret), "{secret}");
    }
}

/// Where the ports of a server with certificates are.
struct Ports {
    tls: u16,
    mtls: u16,
}

fn encrypted(options: Options, authority: &Authority) -> (Options, Ports) {
    let ports = Ports { tls: free_port(), mtls: free_port() };
    authority.issue("server", "server", Some("127.0.0.1"));
    let options = options
        .variable("CSMS_TLS_LISTEN", &format!("127.0.0.1:{}", ports.tls))
        .variable("CSMS_MTLS_LISTEN", &format!("127.0.0.1:{}", ports.mtls))
        .variable("CSMS_TLS_CERT", &authority.file("server.pem"))
        .variable("CSMS_TLS_KEY", &authority.file("server.key"))
        .variable("CSMS_STATION_CA", &authority.file("ca.pem"))
        .variable("CSMS_HANDSHAKE_WITHIN", "700ms")
        .variable("CSMS_BODY_WITHIN", "700ms");
    (options, ports)
}

#[test]
fn profiles_two_and_three_are_on_ports_of_their_own_and_a_station_never_falls_below_its_own() {
    let (folder, authority, other) = (Folder::new(), Authority::new(), Authority::new());
    let (options, ports) = encrypted(closed(&folder), &authority);
    let server = Server::start_with(options);
    let api = server.api().with_token(TOKEN);
    let key = drawn(&api, "CP-1");
    let shown = json!({"Authorization": basic("CP-1", &bytes_of(&key))});
    let station = Station::new(&server, "CP-1");
    let connect = |port: u16, more: Value| {
        let mut options = json!({
            "url": format!("wss://127.0.0.1:{port}/ocpp/CP-1"), "ca": authority.file("ca.pem"),
        });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        station.try_connect_with(options)
    };
    let plain = || station.try_connect_with(json!({"headers": shown}));
    assert_eq!(plain()["event"], "connected");
    assert_eq!(profile(&api, "CP-1"), 1);

    // By TLS it needs its key, and from then on TLS.
    assert_eq!(connect(ports.tls, json!({}))["status"], 401);
    assert_eq!(connect(ports.tls, json!({"headers": shown}))["event"], "connected");
    station.boot();
    assert_eq!(profile(&api, "CP-1"), 2);
    assert_eq!(plain()["status"], 403);

    // By mutual TLS it needs a certificate of the authority, with its identity as the name.
    authority.issue("CP-1", "CP-1", None);
    authority.issue("CP-2", "CP-2", None);
    other.issue("CP-1", "CP-1", None);
    let with = |of: &Authority, name: &str| {
        connect(
            ports.mtls,
            json!({"cert": of.file(&format!("{name}.pem")), "key": of.file(&format!("{name}.key"))}),
        )
    };
    assert_eq!(connect(ports.mtls, json!({"headers": shown}))["event"], "failed");
    assert_eq!(with(&other, "CP-1")["event"], "failed");
    assert_eq!(with(&authority, "CP-2")["status"], 403);
    assert_eq!(with(&authority, "CP-1")["event"], "connected");
    station.heartbeat();
    assert_eq!(profile(&api, "CP-1"), 3);
    assert_eq!(connect(ports.tls, json!({"headers": shown}))["status"], 403);

    // Only a person lowers the profile.
    api.put("/api/stations/CP-1/security-profile", &json!({"profile": 4})).problem(400);
    api.put("/api/stations/CP-1/security-profile", &json!({"profile": 1})).expect(200);
    assert_eq!(plain()["event"], "connected");
    let history = api.history("CP-1");
    let changes = history.iter().filter(|item| item.event_type == "station.SecurityProfileChanged");
    assert_eq!(changes.count(), 3, "each once");

    // Certificates are read again when they change.
    other.issue("server", "server", Some("127.0.0.1"));
    fs::copy(other.path("server.key"), authority.path("server.key")).unwrap();
    fs::copy(other.path("server.pem"), authority.path("server.pem")).unwrap();
    until("the new certificate", || {
        let renewed = json!({"ca": other.file("ca.pem"), "headers": shown});
        let tried = connect(ports.tls, renewed);
        if tried["event"] == "connected" { Ok(()) } else { Err(tried.to_string()) }
    });

    slow_handshakes_are_ended(&server, ports.tls);
}

/// Those of TLS, and of HTTP, and bodies that never come to their end.
fn slow_handshakes_are_ended(server: &Server, tls: u16) {
    let to = server.address();
    let half = handshake(to, "/ocpp/CP-1", "");
    let login = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
             Content-Length: 100\r\n\r\n{{"
        )
    };
    for (port, text) in [
        (tls, "\x16"),
        (to.port(), &half[..half.len() - 4]),
        (to.port(), &login("/api/login")),
        (to.port(), &login("/login")),
    ] {
        let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        slow.write_all(text.as_bytes()).unwrap();
        slow.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_proxy_that_is_trusted_hands_over_the_name_in_the_certificate_and_nobody_else_does() {
    let folder = Folder::new();
    let trusting = closed(&folder).variable("CSMS_TRUSTED_PROXIES", "192.0.2.0/24, 127.0.0.1");
    let (trusting, careful) = (Server::start_with(trusting), Server::start_with(closed(&folder)));
    let status = |server: &Server, identity: &str, headers: &str| {
        let to = server.address();
        status_of(to, &handshake(to, &format!("/ocpp/{identity}"), headers))
    };
    let api = trusting.api().with_token(TOKEN);
    api.put("/api/stations/CP-1/security-profile", &json!({"profile": 3})).expect(200);
    assert_eq!(status(&trusting, "CP-1", ""), 403);
    assert_eq!(status(&trusting, "CP-1", "X-SSL-Client-CN: CP-2\r\n"), 403);
    assert_eq!(
        status(&trusting, "CP-1", "X-SSL-Client-CN: CP-1\r\nX-SSL-Client-CN: CP-2\r\n"),
        403
    );
    assert_eq!(status(&trusting, "CP-1", "X-SSL-Client-CN: CP-1\r\n"), 101);

    let key = drawn(&api, "CP-2");
    let authorization = format!("Authorization: {}\r\n", basic("CP-2", key.as_bytes()));
    api.put("/api/stations/CP-2/security-profile", &json!({"profile": 2})).expect(200);
    assert_eq!(status(&trusting, "CP-2", &authorization), 403);
    assert_eq!(
        status(&trusting, "CP-2", &format!("{authorization}X-Forwarded-Proto: https\r\n")),
        101
    );

    let api = careful.api().with_token(TOKEN);
    api.put("/api/stations/CP-1/security-profile", &json!({"profile": 3})).expect(200);
    assert_eq!(status(&careful, "CP-1", "X-SSL-Client-CN: CP-1\r\n"), 403);
}

#[test]
fn connections_are_bounded_by_address_and_messages_by_the_second() {
    let server = Server::start_with(
        Options::default()
            .variable("CSMS_CONNECTIONS_OF_PREFIX_MAX", "3")
            .variable("CSMS_MESSAGES_PER_SECOND", "5"),
    );
    let to = server.address();
    let connect = |identity: u32| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let offer = "Sec-WebSocket-Protocol: ocpp1.6\r\n";
        stream.write_all(handshake(to, &format!("/ocpp/{identity}"), offer).as_bytes()).unwrap();
        let mut first = [0];
        // A connection that is not taken may be reset.
        let is_taken = stream.read(&mut first).is_ok_and(|bytes| bytes == 1);
        is_taken.then_some(stream)
    };
    let mut open: Vec<_> = (0..3).map(|it| connect(it).expect("there is room")).collect();
    assert!(connect(3).is_none());
    open.clear();
    until("room", || connect(4).map(drop).ok_or_else(|| "there is none".to_owned()));

    // What is beyond the rate waits, and is answered.
    let station = until("a station", || {
        let station = Station::new(&server, "CP-2");
        let tried = station.try_connect(&["ocpp1.6"]);
        if tried["event"] == "connected" { Ok(station) } else { Err(tried.to_string()) }
    });
    let begun = std::time::Instant::now();
    (0..15).for_each(|_| station.heartbeat());
    assert!(begun.elapsed().as_millis() > 1_000, "{:?}", begun.elapsed());
    assert!(station.closed().is_empty());
}

#[test]
fn a_key_is_changed_by_asking_the_station_and_both_count_until_it_is_known_which_one_it_has() {
    let folder = Folder::new();
    let server = Server::start_with(closed(&folder));
    let api = server.api().with_token(TOKEN);
    let first = drawn(&api, "CP-1");
    let (to, station) = (server.address(), Station::new(&server, "CP-1"));
    let connect = |key: &str| {
        let shown = json!({"Authorization": basic("CP-1", &bytes_of(key))});
        station.try_connect_with(json!({"headers": shown}))["event"] == "connected"
    };
    let status = |key: &str| {
        let header = format!("Authorization: {}\r\n", basic("CP-1", key.as_bytes()));
        status_of(to, &handshake(to, "/ocpp/CP-1", &header))
    };
    let ask = |nth: usize| {
        let reply = api.post("/api/stations/CP-1/change-key", &json!({})).expect(202);
        let asked = station.expect_call("ChangeConfiguration", nth);
        assert_eq!(asked["key"], "AuthorizationKey");
        (reply.json()["id"].clone(), asked["value"].as_str().unwrap().to_owned())
    };
    assert!(connect(&first));
    station.boot();
    station.on("ChangeConfiguration", &Policy::Answer("Accepted"));
    let (_, second) = ask(1);
    assert_eq!(second.len(), 40);
    until("the end of the old key", || {
        if status(&first) == 401 { Ok(()) } else { Err("it counts".to_owned()) }
    });

    // The answer is lost with the connection: in doubt.
    assert!(connect(&second));
    station.heartbeat();
    station.on("ChangeConfiguration", &Policy::Hold);
    let (_, third) = ask(2);
    api.post("/api/stations/CP-1/change-key", &json!({})).problem(409);
    station.abort();
    assert_eq!((status(&second), status(&first)), (101, 401));
    assert!(connect(&third));
    until("the end of the old key", || {
        if status(&second) == 401 { Ok(()) } else { Err("it counts".to_owned()) }
    });

    let history = api.fetch("/api/stations/CP-1/history?limit=500").expect(200).body;
    assert!(history.contains("station.CredentialOffered"), "{history}");
    for secret in [&first, &second, &third] {
        assert!(!history.contains(&**secret));
    }
}

#[test]
fn a_station_that_shows_its_key_gets_a_certificate_with_its_name_and_no_other() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (options, ports) = encrypted(closed(&folder), &authority);
    let options = options
        .variable("CSMS_SIGNING_CERT", &authority.file("ca.pem"))
        .variable("CSMS_SIGNING_KEY", &authority.file("ca.key"));
    let server = Server::start_with(options);
    let api = server.api().with_token(TOKEN);
    let sign = |station: &Station, csr: &str| station.call("SignCertificate", json!({"csr": csr}));

    // Anybody could be a station that shows nothing.
    let stranger = server.station("CP-2");
    stranger.boot();
    let csr = authority.request("CP-2", "CP-2");
    assert_eq!(sign(&stranger, &csr)["status"], "Rejected");

    let key = drawn(&api, "CP-1");
    let station = Station::new(&server, "CP-1");
    let shown = json!({"Authorization": basic("CP-1", key.as_bytes())});
    assert_eq!(station.try_connect_with(json!({"headers": shown}))["event"], "connected");
    station.boot();
    assert_eq!(sign(&station, &csr)["status"], "Rejected", "it is that of another one");
    let csr = authority.request("CP-1", "CP-1");
    assert_eq!(sign(&station, &csr)["status"], "Accepted");
    let signed = station.expect_call("CertificateSigned", 1);
    fs::write(authority.path("CP-1.pem"), signed["certificateChain"].as_str().unwrap()).unwrap();
    let connected = station.try_connect_with(json!({
        "url": format!("wss://127.0.0.1:{}/ocpp/CP-1", ports.mtls),
        "ca": authority.file("ca.pem"),
        "cert": authority.file("CP-1.pem"),
        "key": authority.file("CP-1.key"),
    }));
    assert_eq!(connected["event"], "connected", "{connected}");
    assert_eq!(profile(&api, "CP-1"), 3);
}
