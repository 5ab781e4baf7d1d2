//! Commands that read: the same on a directory and on an address, beside a program that writes.

use std::io::{BufRead, Read};

use serde_json::Value;

use crate::support::{Program, port, ran, ran_with, store_of, until};

const READING: [&str; 12] = [
    "read",
    "tail",
    "streams",
    "types",
    "stats",
    "head",
    "verify",
    "dump",
    "consumers",
    "effects",
    "parked",
    "doctor",
];

#[test]
fn a_directory_that_is_written_and_its_address_show_the_same() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 100);
    let program = Program::serve(store.as_ref(), port);
    let address = format!("leftfold://127.0.0.1:{port}");
    let more = ran_with(&["append", &address, "--json"], &crate::support::lines(100)).object();
    assert_eq!((&more["events"], &more["end"]), (&100.into(), &200.into()));
    for command in ["read", "streams", "types"] {
        until("the directory shows what the address shows", || {
            let (here, there) = (ran(&[command, &store]), ran(&[command, &address]));
            let (here, there) = (here.well(), there.well());
            let same = here == there;
            let (here, there) =
                (ran(&[command, &store, "--json"]), ran(&[command, &address, "--json"]));
            same && here.objects() == there.objects()
        });
    }
    for place in [&store, &address] {
        let of = |command: &str| ran(&[command, place, "--json"]).object();
        assert_eq!(of("head")["position"], 200);
        assert_eq!(of("stats")["all"]["streams"], 7);
        let verified = of("verify");
        assert_eq!((&verified["how"], &verified["position"]), (&"chain".into(), &200.into()));
    }
    program.stop();
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    for command in READING {
        for place in [missing.as_path(), directory.path()] {
            let ran = ran(&[command, place.to_str().unwrap()]);
            assert!(ran.code == 1 && ran.said.contains("no store in"), "{command}: {ran:?}");
        }
    }
    let sql = ran(&["sql", missing.to_str().unwrap(), "select 1"]);
    assert_eq!(sql.code, 1, "{sql:?}");
    let (to, missing) = (directory.path().join("backup"), missing.to_str().unwrap());
    assert_eq!(ran(&["backup", missing, to.to_str().unwrap()]).code, 1);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "something was made");
}

#[test]
fn events_are_chosen_by_flags_and_by_conditions() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 42);
    let numbers = |options: &[&str]| -> Vec<u64> {
        let events = ran(&[&["read", &store, "--json"], options].concat()).objects();
        events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&["-n", "3"]), [0, 1, 2]);
    assert_eq!(numbers(&["-n", "2", "--backwards"]), [41, 40]);
    assert_eq!(numbers(&["--stream", "shop-3", "--type", "shop.Sold"]), [10, 24, 38]);
    assert_eq!(numbers(&["--where", "stream = shop-3 and type = shop.S*"]), [10, 24, 38]);
    assert_eq!(numbers(&["--tag", "t:1", "--where", "position > 36"]), [37, 40]);
    assert_eq!(numbers(&["--where", "position >= 2 and position < 4"]), [1, 2]);
    assert!(numbers(&["--where", "time < 2020-01-01"]).is_empty());
    assert_eq!(numbers(&["--where", "time > 2020-01-01", "--category", "shop"]).len(), 42);
    let tail = ran(&["tail", &store, "--json", "--where", "position <= 20", "-n", "3"]).objects();
    assert_eq!(tail.len(), 3, "a tail of what cannot come any more ends");
    let wrong = ran(&["read", &store, "--where", "color = red"]);
    assert!(wrong.code == 2 && wrong.said.contains("there are position"), "{wrong:?}");
    let streams = ran(&["streams", &store, "--by", "events", "-n", "1", "--json"]).object();
    assert_eq!((&streams["stream"], &streams["version"]), (&"shop-0".into(), &6.into()));
}

#[test]
fn an_output_that_nobody_reads_any_more_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 3_000);
    for options in [&["read", &store][..], &["read", &store, "--json"], &["dump", &store]] {
        let mut reading = Program::start(options);
        let mut first = String::new();
        // The pipe holds less than there is.
        reading.output().read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        assert_eq!(reading.ended(), Some(0), "{options:?}");
    }
}

#[test]
fn tail_shows_what_is_recorded_beside_it() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 20);
    let program = Program::serve(store.as_ref(), port);
    let address = format!("leftfold://127.0.0.1:{port}");
    let tails = [&store, &address].map(|place| {
        let mut tail = Program::start(&["tail", place, "-n", "2", "--json"]);
        let output = tail.output();
        (tail, output)
    });
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["data"]["n"].clone();
    let mut waiting = Vec::new();
    for (tail, mut output) in tails {
        for expected in [18, 19] {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(number(&line), expected);
        }
        waiting.push((tail, output));
    }
    ran(&["append", &address, "--type", "shop.Closed", "--data", r#"{"n":20}"#]).well();
    for (tail, mut output) in waiting {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(number(&line), 20);
        // SIGINT is ignored by what a shell without job control runs in the background.
        tail.signal("TERM");
        output.read_to_string(&mut line).unwrap();
    }
    program.stop();
}

#[test]
fn no_message_has_the_password_of_a_url() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let (store, users) = (store_of(directory.path(), 1), directory.path().join("users"));
    let line = ran_with(&["user", "ada", "append"], "right\n").well();
    std::fs::write(&users, line).unwrap();
    let users = ["--users", users.to_str().unwrap()];
    let program = Program::serve_with(store.as_ref(), port, &users);
    let at = |password: &str| format!("leftfold://ada:{password}@127.0.0.1:{port}");
    assert_eq!(ran(&["read", &at("right"), "--json"]).objects().len(), 1);
    // To compare a password takes a while.
    for command in ["read", "verify"] {
        let refused = ran(&[command, &at("s3cret")]);
        assert_eq!(refused.code, 1, "{command}: {refused:?}");
        assert!(!refused.said.contains("s3cret"), "{command}: {refused:?}");
    }
    let wrong = ran(&["archive", &at("s3cret"), directory.path().to_str().unwrap()]);
    assert!(wrong.code == 2 && wrong.said.contains("ada@127.0.0.1"), "{wrong:?}");
    assert!(!wrong.said.contains("s3cret"), "{wrong:?}");
    program.stop();
}
