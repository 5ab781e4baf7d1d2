//! The dashboard as a browser shows it.

use crate::harness::browser::{dom, screenshot};
use crate::harness::http::stream_until;
use crate::harness::server::Options;
use crate::harness::{Policy, Server, State};

#[test]
fn the_dashboard_shows_stations_transactions_and_doubts() {
    let server = Server::start_with(Options::default().call_timeout_ms(700));
    let api = server.api();
    let station = server.ready_station("CP-BERLIN-1", 2);
    let transaction_id = station.start(1, "TAG-OF-ANN");
    station.status(1, "Charging");
    station.on("RemoteStartTransaction", &Policy::Hold);
    api.remote_start_and_wait("CP-BERLIN-1", 2, "TAG-OF-BOB").concluded(State::InDoubt);
    let page = dom(&server.url());
    let page = page.to_lowercase();
    for shown in [
        "CP-BERLIN-1",
        "Charging",
        "Available",
        "TAG-OF-ANN",
        &transaction_id.to_string(),
        "TAG-OF-BOB",
        "in doubt",
    ] {
        assert!(page.contains(&shown.to_lowercase()), "{shown:?} in {page}");
    }
    let picture = screenshot(&server.url(), "1280,1600", "live-wide");
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 5_000, "{} bytes", picture.len());
}

#[test]
fn what_stations_say_is_text_and_never_markup() {
    let server = Server::start();
    let identity = "<script>document.title='owned'</script>";
    let station = server.ready_station(identity, 1);
    station.start(1, "<img src=x>");
    let page = dom(&server.url());
    assert!(!page.contains("<title>owned"), "{page}");
    assert!(!page.contains("<script>document.title"), "{page}");
    assert!(!page.contains("<img src"), "{page}");
    assert!(page.contains("&lt;script&gt;document.title="), "it is shown, as text: {page}");
    assert!(page.contains("&lt;img src=x&gt;"), "{page}");
}

#[test]
fn an_empty_dashboard_says_how_to_connect_a_station() {
    let server = Server::start();
    let page = dom(&server.url());
    assert!(page.contains("/ocpp/"), "{page}");
}

#[test]
fn an_open_dashboard_is_told_what_changes() {
    let server = Server::start();
    let mut stations = Vec::new();
    stream_until(server.address(), "/live", "CP-NEW-1", || {
        stations.push(server.ready_station("CP-NEW-1", 1))
    });
    let start = || {
        stations[0].start(1, "TAG-OF-ANN");
    };
    stream_until(server.address(), "/live", "TAG-OF-ANN", start);
}
