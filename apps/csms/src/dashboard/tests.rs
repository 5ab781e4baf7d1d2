use std::time::Duration;

use leftfold::prelude::Timestamp;
use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-05-04T10:00:00Z".parse().unwrap()
}

fn ago(seconds: u64) -> Timestamp {
    now().minus(Duration::from_secs(seconds))
}

fn empty() -> LiveView {
    LiveView {
        as_of: now(),
        connect_url: "ws://127.0.0.1:8180/ocpp/".to_owned(),
        api_url: "http://127.0.0.1:8180/api".to_owned(),
        admission: Admission::Open,
        counts: Counts::default(),
        stations: Vec::new(),
        transactions: Vec::new(),
        effects: Vec::new(),
        lapsed: Vec::new(),
        consumers: Vec::new(),
        servers: Vec::new(),
        parked: Vec::new(),
        parked_total: 0,
        missing: None,
    }
}

fn connector(number: u32, status: &str, tone: Tone) -> ConnectorView {
    ConnectorView {
        number,
        status: status.to_owned(),
        tone,
        error: None,
        since: Some(ago(60 * u64::from(number + 1))),
        held_for: None,
    }
}

fn station(
    identity: &str,
    connection: ConnectionView,
    connectors: Vec<ConnectorView>,
) -> StationView {
    StationView {
        identity: identity.to_owned(),
        model: Some("Voltera Duo 22".to_owned()),
        firmware: Some("3.1.4".to_owned()),
        connection,
        connectors,
    }
}

fn effect(id: u64, station: &str, state: OpenState) -> EffectView {
    EffectView {
        id,
        name: "Remote start".to_owned(),
        station: station.to_owned(),
        about: "connector 1 for TAG-7".to_owned(),
        state,
        requested_at: ago(42),
    }
}

/// A day like many.
fn typical() -> LiveView {
    let mut faulted = connector(2, "Faulted", Tone::Wrong);
    faulted.error = Some("UnderVoltage".to_owned());
    let mut held = connector(1, "Available", Tone::Waiting);
    held.held_for = Some("held for TAG-7".to_owned());
    LiveView {
        counts: Counts { stations: 4, online: 2, running: 2, faulted: 1 },
        stations: vec![
            station(
                "CP-1",
                ConnectionView::Online(ago(8_000)),
                vec![connector(0, "Available", Tone::Ready), held, faulted],
            ),
            station(
                "CP-2",
                ConnectionView::Online(ago(90_000)),
                vec![connector(1, "Charging", Tone::Busy), connector(2, "Available", Tone::Ready)],
            ),
            station(
                "Garage Nord / 3",
                ConnectionView::Offline(ago(700)),
                vec![connector(1, "Unavailable", Tone::Quiet)],
            ),
            station(
                "CP-4",
                ConnectionView::Unknown,
                vec![connector(1, "Preparing", Tone::Waiting)],
            ),
        ],
        transactions: vec![
            TransactionView {
                id: 1042,
                station: "CP-2".to_owned(),
                connector: Some(1),
                id_tag: "TAG-3".to_owned(),
                started_at: ago(5_400),
                energy_wh: Some(18_450),
                last_meter_at: Some(ago(25)),
            },
            TransactionView {
                id: 1043,
                station: "CP-4".to_owned(),
                connector: None,
                id_tag: "TAG-9".to_owned(),
                started_at: ago(95),
                energy_wh: None,
                last_meter_at: None,
            },
        ],
        effects: vec![
            effect(881, "CP-1", OpenState::InDoubt("no answer before the deadline".to_owned())),
            effect(882, "CP-2", OpenState::InFlight),
            effect(883, "CP-4", OpenState::Waiting("the station is not connected".to_owned())),
        ],
        ..empty()
    }
}

#[test]
fn an_empty_page_says_how_to_begin() {
    let page = page(&empty());
    assert!(page.contains("ws://127.0.0.1:8180/ocpp/CP-1"));
    assert!(page.contains("/stations/CP-1/remote-start?wait=30s"));
    assert!(!page.contains("Bearer"));
    assert!(
        super::page(&LiveView { admission: Admission::Registered, ..empty() }).contains("Bearer")
    );
}

#[test]
fn what_is_in_doubt_comes_first_and_can_be_answered() {
    let live = live(&typical());
    let (doubt, stations) =
        (live.find("In doubt</h2>").unwrap(), live.find("Stations</h2>").unwrap());
    assert!(doubt < stations);
    assert!(live.contains("data-effect=\"881\""));
    assert!(live.contains("data-body=\"{&quot;verdict&quot;:&quot;done&quot;}\""));
    assert!(live.contains("18.45 kWh"));
    assert!(live.contains("1 h 30 min"));
}

fn consumer(name: &str, behind: u64, per_second: u64, state: ConsumerState) -> ConsumerView {
    ConsumerView {
        name: name.to_owned(),
        kind: ConsumerKind::ReadModel,
        position: 1_000,
        behind,
        per_second,
        seconds_left: behind.checked_div(per_second),
        waits_for: "its target to come back: <refused>".to_owned(),
        state,
    }
}

#[test]
fn what_is_behind_tells_how_far_how_long_and_what_it_waits_for() {
    let stuck = consumer("transactions", 30, 0, ConsumerState::Stuck);
    let building = consumer("daily_energy v2", 9_000, 100, ConsumerState::Building);
    let live = live(&LiveView { consumers: vec![stuck, building], ..typical() });
    for said in [
        "does not move",
        ">30 <",
        "unknown",
        "come back: &lt;refused&gt;",
        "being built",
        ">9000 <",
        "1 min",
        "max=\"10000\"",
    ] {
        assert!(live.contains(said), "{said} in {live}");
    }
}

#[test]
fn each_of_several_servers_is_listed_with_the_work_that_it_does() {
    let server = |name: &str, stops, works: &[&str]| ServerView {
        name: name.to_owned(),
        stops,
        works: works.iter().map(|work| ((*work).to_owned(), "new events".to_owned())).collect(),
    };
    let servers = vec![server("a:1", false, &["remote_start"]), server("<b>:1", true, &[])];
    let several = live(&LiveView { servers, ..typical() });
    let section = several.split("id=\"servers\"").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    for told in ["a:1", "works", "remote_start", "&lt;b&gt;:1", "stops"] {
        assert!(section.contains(told), "{told}: {section}");
    }
    assert!(!live(&typical()).contains("id=\"servers\""), "nobody else can be there");
}

#[test]
fn what_is_parked_comes_first_and_can_be_tried_again_or_let_go() {
    let parked = ParkedView {
        consumer: "transactions".to_owned(),
        route: "/api/read-models/transactions".to_owned(),
        position: 77,
        key: "CP-<1>".to_owned(),
        error: Some("no <such> number".to_owned()),
        retry: r#"{"key":"CP-<1>"}"#.to_owned(),
        skip: r#"{"position":77}"#.to_owned(),
    };
    let behind_it = ParkedView { position: 78, error: None, ..parked.clone() };
    let live = live(&LiveView { parked: vec![parked, behind_it], parked_total: 40, ..typical() });
    assert!(live.find("Parked</h2>").unwrap() < live.find("Stations</h2>").unwrap());
    for said in [
        "2 of 40",
        "event 77",
        "no &lt;such&gt; number",
        "data-url=\"/api/read-models/transactions/skip\"",
    ] {
        assert!(live.contains(said), "{said} in {live}");
    }
    assert!(live.contains("data-body=\"{&quot;key&quot;:&quot;CP-&lt;1&gt;&quot;}\""), "{live}");
    assert_eq!(live.matches("/retry\"").count(), 1, "what only waits has no button");
}

#[test]
fn what_cannot_be_read_is_said_on_every_page() {
    let why = || "the database <is away>".to_owned();
    let live = live(&LiveView { missing: Some(why()), ..typical() });
    let energy = EnergyView {
        from: String::new(),
        to: String::new(),
        station: String::new(),
        days: Err(why()),
        is_cut: false,
    };
    let transactions = TransactionsView {
        as_of: now(),
        station: "\"><script>".to_owned(),
        id_tag: String::new(),
        open: Some(false),
        rows: Err(why()),
        older: None,
    };
    let transactions = transactions_page(&transactions);
    for page in [live, energy_page(&energy), transactions.clone()] {
        assert!(page.contains("the database &lt;is away&gt;"), "{page}");
    }
    assert!(
        !transactions.contains("<script>") && transactions.contains("value=\"false\" selected"),
        "{transactions}"
    );
}

#[test]
fn what_is_left_out_is_said_and_counted() {
    assert!(!live(&typical()).contains(" of "));
    let counts = Counts { stations: 1_200, online: 900, running: 777, faulted: 3 };
    let live = live(&LiveView { counts, ..typical() });
    for said in [">4 of 1200<", ">2 of 777<", ">900 / 1200<", ">777<", ">3<"] {
        assert!(live.contains(said), "{said} in {live}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_holds_no_code() {
    let page = page(&typical());
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains(" style="));
    assert!(!page.contains("onclick"));
}

proptest! {
    #[test]
    fn nothing_from_outside_becomes_markup(text in "\\PC*|[<>&\"'\\x00-\\x1f]{0,40}") {
        let mut view = typical();
        view.stations[0].identity.clone_from(&text);
        view.stations[0].connectors[0].status.clone_from(&text);
        view.stations[0].connectors[0].error = Some(text.clone());
        view.transactions[0].id_tag.clone_from(&text);
        view.effects[0].about = text;
        let (plain, rendered) = (live(&typical()), live(&view));
        // The connector's error is one element more: an opening and a closing tag.
        prop_assert_eq!(rendered.matches('<').count(), plain.matches('<').count() + 2);
        prop_assert!(!rendered.contains('\0'));
    }
}

/// Writes the pages out, so that they can be looked at: `target/dashboard/*.html`.
#[test]
fn previews_are_written_for_people() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dashboard");
    std::fs::create_dir_all(&folder).unwrap();
    let mut busy = typical();
    busy.stations = (0..60)
        .map(|n| StationView { identity: format!("CP-{n}"), ..busy.stations[n % 4].clone() })
        .collect();
    for (name, view) in [("empty", empty()), ("typical", typical()), ("busy", busy)] {
        let page =
            page(&view).replace("/dashboard.css", "dashboard.css").replace("/dashboard.js", "");
        std::fs::write(folder.join(format!("{name}.html")), page).unwrap();
    }
    std::fs::write(folder.join("dashboard.css"), STYLE).unwrap();
}
