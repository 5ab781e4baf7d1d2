//! How csms starts, and when it refuses to: a clear word on standard error, and an exit code that
//! is not 0.

use std::fs;

use serde_json::json;

use crate::harness::folder::Folder;
use crate::harness::http::status_of;
use crate::harness::raw::handshake;
use crate::harness::server::{Ended, Options};
use crate::harness::views::StationView;
use crate::harness::{Server, Station};

const TOKEN: &str = "a-token-of-more-than-16-bytes";

/// It ended by itself, in order, and said this.
#[track_caller]
fn assert_said(ended: &Ended, words: &[&str]) {
    assert!(ended.status.code().is_some_and(|code| code != 0 && code != 101), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} in {ended:?}");
    }
}

/// Tokens and registered stations: what a server needs that can be reached from outside.
fn closed(stations: &Folder) -> Options {
    let path = stations.path().join("stations.txt");
    fs::write(&path, "# the first one\nCP-1\n").unwrap();
    Options::default()
        .everywhere()
        .variable("CSMS_API_TOKEN", TOKEN)
        .variable("CSMS_STATIONS", path.to_str().unwrap())
}

#[test]
fn without_a_token_only_loopback_is_served() {
    let folder = Folder::new();
    let ended =
        Server::refuses_to_start(&Options::default().everywhere(), &folder.path().join("store"));
    assert_said(&ended, &["CSMS_API_TOKEN", "csms user add NAME --role admin"]);
    let short = Options::default().everywhere().variable("CSMS_API_TOKEN", "short");
    assert_said(&Server::refuses_to_start(&short, &folder.path().join("store")), &["token"]);
}

#[test]
fn without_registered_stations_only_loopback_is_served() {
    let folder = Folder::new();
    let options = Options::default().everywhere().variable("CSMS_API_TOKEN", TOKEN);
    assert_said(
        &Server::refuses_to_start(&options, &folder.path().join("store")),
        &["registered", "--stations"],
    );
}

#[test]
fn in_closed_mode_callers_need_the_token_and_stations_and_tags_must_be_known() {
    let folder = Folder::new();
    let server = Server::start_with(closed(&folder));
    let stranger = server.api();
    let api = stranger.with_token(TOKEN);
    stranger.fetch("/api/stations").problem(401);
    stranger.with_token("another-token-of-16-bytes").fetch("/api/stations").problem(401);
    stranger.post("/api/stations/CP-1/unlock", &json!({"connectorId": 1})).problem(401);
    assert!(stranger.fetch("/").status == 401, "the dashboard shows tags and stations");
    assert_eq!(api.all::<StationView>("/api/stations").len(), 1);

    let station = server.station("CP-1");
    station.boot();
    assert_eq!(station.authorize("STRANGER"), "Invalid");
    api.define_tag("ANN", &json!({"status": "Accepted"}));
    assert_eq!(station.authorize("ANN"), "Accepted");

    // OCPP.md point 1: an unknown identity is HTTP 404.
    let unknown = Station::new(&server, "CP-2");
    let refused = unknown.try_connect(&["ocpp1.6"]);
    assert_eq!((&refused["event"], &refused["status"]), (&json!("refused"), &json!(404)));
    assert_eq!(api.put("/api/stations/CP-2", &json!({})).status / 100, 2);
    unknown.connect();
    unknown.boot();
}

/// In open mode any page in the operator's browser could open a WebSocket to this machine and be a
/// station; in closed mode a page could be one that shows no proof.
#[test]
fn a_web_page_of_another_origin_cannot_act_as_a_station() {
    let folder = Folder::new();
    let (open, closed) = (Server::start(), Server::start_with(closed(&folder)));
    let browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0\r\n";
    for (server, identity) in [(&open, "CP-9"), (&closed, "CP-1")] {
        let host = server.address();
        let status = |headers: &str| {
            status_of(host, &handshake(host, &format!("/ocpp/{identity}"), headers))
        };
        assert_eq!(status(&format!("Origin: https://evil.example\r\n{browser}")), 403);
        assert_eq!(status(&format!("Origin: null\r\n{browser}")), 403);
        assert_eq!(status(&format!("Origin: http://{host}\r\n{browser}")), 101);
        assert_eq!(status(browser), 101);
    }
    assert_eq!(
        open.api().send("GET", "/ocpp/CP-9", &[("Origin", "https://evil.example")], "").status,
        403
    );
}

#[test]
fn a_store_in_use_is_refused_and_the_user_of_it_is_not_disturbed() {
    let server = Server::start();
    let ended = Server::refuses_to_start(&Options::default(), &server.store_path());
    assert_said(&ended, &["open already", &server.store_path().to_string_lossy()]);
    server.ready_station("CP-1", 1).start(1, "TAG");
}

#[test]
fn a_folder_of_another_program_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let files = [("photo.jpg", "no events"), ("notes.txt", "nor here")];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    assert_said(
        &Server::refuses_to_start(&Options::default(), folder.path()),
        &[&folder.path().to_string_lossy()],
    );
    for (name, text) in files {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), text);
    }
    let names = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let added: Vec<String> =
        names.filter(|name| files.iter().all(|(file, _)| file != name)).collect();
    assert!(added.is_empty(), "{added:?} was added");
}

#[test]
fn a_store_of_another_format_version_is_refused_and_left_as_it_is() {
    let mut server = Server::start();
    server.ready_station("CP-1", 1);
    server.kill();
    // The magic and the version stand at the head of every file of the log (docs/log-format.md).
    let mut changed = Vec::new();
    for entry in fs::read_dir(server.store_path()).unwrap().map(Result::unwrap) {
        let mut bytes = fs::read(entry.path()).unwrap_or_default();
        if bytes.len() > 16 && entry.file_type().unwrap().is_file() {
            bytes[8] = bytes[8].wrapping_add(77);
            fs::write(entry.path(), &bytes).unwrap();
            changed.push((entry.path(), bytes));
        }
    }
    assert!(!changed.is_empty());
    let ended = Server::refuses_to_start(&Options::default(), &server.store_path());
    assert_said(&ended, &[&server.store_path().to_string_lossy()]);
    for (path, bytes) in changed {
        assert!(fs::read(&path).unwrap() == bytes, "{} was touched", path.display());
    }
}

#[test]
fn a_place_where_nothing_can_be_written_is_refused() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    assert_said(
        &Server::refuses_to_start(&Options::default(), &file.join("store")),
        &[&file.to_string_lossy()],
    );
    assert_said(&Server::refuses_to_start(&Options::default(), &file), &[&file.to_string_lossy()]);
    // Nobody can make a folder there, not even root.
    assert_said(
        &Server::refuses_to_start(&Options::default(), "/proc/csms-store".as_ref()),
        &["/proc/csms-store"],
    );
}

#[test]
fn a_port_in_use_is_refused() {
    let server = Server::start();
    let folder = Folder::new();
    let options = Options::default().on_port_of(&server);
    let ended = Server::refuses_to_start(&options, &folder.path().join("store"));
    assert_said(&ended, &[&server.address().to_string()]);
}
