//! Commands that append: conditions, ids of commands, lines that are wrong.

use crate::support::{Program, lines, port, ran, ran_with, store_of};

const ADA: [&str; 4] = ["--type", "user.Named", "--data", r#"{"name":"Ada"}"#];

#[test]
fn a_condition_that_does_not_hold_appends_nothing_and_has_a_code_of_its_own() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 1);
    let program = Program::serve(store.as_ref(), port);
    let address = format!("leftfold://127.0.0.1:{port}");
    let append = |options: &[&str]| {
        let all = [&["append", &address, "--json"][..], &ADA, options].concat();
        ran(&all)
    };
    let first = append(&["--stream", "user-1", "--expect", "absent", "--tag", "name:ada"]);
    let first = first.object();
    assert_eq!((&first["outcome"], &first["first"]), (&"appended".into(), &2.into()));
    assert_eq!(first["versions"], serde_json::json!([1]));
    for options in [
        &["--stream", "user-1", "--expect", "absent"][..],
        &["--stream", "user-1", "--expect", "7"],
        &["--stream", "user-2", "--expect", "exists"],
        &["--none-matching", "tag = name:ada"],
    ] {
        let refused = append(options);
        assert!(refused.code == 4 && refused.out.is_empty(), "{options:?}: {refused:?}");
    }
    append(&["--none-matching", "tag = name:ada", "--after", "2"]).well();
    assert_eq!(ran(&["read", &address, "--json"]).objects().len(), 3);
    program.stop();
}

#[test]
fn a_request_with_an_id_takes_effect_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 1);
    let append = |id: &str, data: &str| {
        let event = ["--type", "a.A", "--data", data, "--command-id", id, "--json"];
        ran(&[&["append", &store][..], &event].concat())
    };
    assert_eq!(append("one", "{}").object()["outcome"], "appended");
    assert_eq!(append("one", "{}").object()["outcome"], "repeated");
    let other = append("one", "[]");
    assert!(other.code == 1 && other.said.contains("command"), "{other:?}");
    let tagged = |tags: &[&str]| {
        let event = ["--type", "a.A", "--data", "{}", "--command-id", "tagged"];
        ran(&[&["append", &store][..], &event, tags].concat())
    };
    tagged(&["--tag", "a:1", "--tag", "b:2"]).well();
    assert!(tagged(&["--tag", "a:1", "--tag", "b:2"]).well().contains("before"));
    for tags in [&[][..], &["--tag", "a:1"], &["--tag", "a:1", "--tag", "b:3"]] {
        let other = tagged(tags);
        assert!(other.code == 1 && other.said.contains("command"), "{tags:?}: {other:?}");
    }
    // Lines that were appended in part are appended to their end, and none twice.
    let all = lines(50);
    let half: String = all.split_inclusive('\n').take(20).collect();
    for input in [&half, &all, &all] {
        ran_with(&["append", &store, "--command-id", "many"], input).well();
    }
    assert_eq!(ran(&["read", &store, "--json"]).objects().len(), 53);
}

#[test]
fn a_line_that_is_wrong_is_named_and_those_before_it_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 1);
    for (line, said) in [
        ("nothing", "expected"),
        (r#"{"type":"a.A"}"#, "no data"),
        (r#"{"type":"","data":1}"#, "type"),
        (r#"{"type":"a.A","data":1,"colour":1}"#, "colour"),
        (r#"{"type":"a.A","data":1,"id":"x"}"#, "UUID"),
    ] {
        let input = lines(2) + "\n" + line + "\n" + &lines(1);
        let refused = ran_with(&["append", &store, "--together"], &input);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.said.contains("line 4: ") && refused.said.contains(said), "{refused:?}");
    }
    assert_eq!(ran(&["read", &store, "--json"]).objects().len(), 1);
    let refused = ran_with(&["append", &store], &(lines(2) + "nothing\n" + &lines(1)));
    assert!(refused.code == 2 && refused.said.contains("line 3: "), "{refused:?}");
    assert_eq!(ran(&["read", &store, "--json"]).objects().len(), 3);
    let system = ran(&["append", &store, "--type", "$a.A", "--data", "{}"]);
    assert!(system.code == 2 && system.said.contains('$'), "{system:?}");
}

#[test]
fn a_line_that_is_refused_has_nothing_appended_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 1);
    let tags: Vec<String> = (0..1_000).map(|at| format!(r#""t:{at}""#)).collect();
    let too_much = format!(r#"{{"type":"a.A","data":1,"metadata":"{}"}}"#, "m".repeat(1 << 20));
    let too_many = format!(r#"{{"type":"a.A","data":1,"tags":[{}]}}"#, tags.join(","));
    let reserved = r#"{"type":"$a.A","data":1}"#.to_owned();
    for (at, line) in [too_much, too_many, reserved].iter().enumerate() {
        let input = lines(4) + line + "\n" + &lines(20);
        let refused = ran_with(&["append", &store], &input);
        assert!(refused.code == 2 && refused.said.contains("line 5: "), "{refused:?}");
        let events = ran(&["read", &store, "--json"]).objects().len();
        assert_eq!(events, 1 + (at + 1) * 4, "{refused:?}");
    }
    // What only the store can refuse is told with what was under way behind it.
    let append = |input: &str| ran_with(&["append", &store, "--command-id", "one"], input);
    append(&lines(1)).well();
    let refused = append(&(lines(4).split_inclusive('\n').skip(1).collect::<String>() + &lines(2)));
    assert!(refused.code == 1 && refused.said.contains("line 1: "), "{refused:?}");
    let behind = "; 4 lines behind it are appended, the last is 5";
    assert!(refused.said.trim_end().ends_with(behind), "{refused:?}");
}

#[test]
fn what_read_writes_is_what_append_takes() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 30);
    let other = directory.path().join("other");
    let events = ran(&["read", &store, "--json"]).well();
    ran_with(&["append", other.to_str().unwrap(), "--create", "--together"], &events).well();
    let copied = ran(&["read", other.to_str().unwrap(), "--json"]).well();
    let without_times = |events: &str| -> Vec<serde_json::Value> {
        let parsed = events.lines().map(|line| serde_json::from_str(line).unwrap());
        parsed
            .map(|mut event: serde_json::Value| {
                event.as_object_mut().unwrap().remove("recordedAt");
                event
            })
            .collect()
    };
    assert_eq!(without_times(&copied), without_times(&events));
}

#[test]
fn a_directory_that_another_program_writes_is_refused_with_what_to_do() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 1);
    let program = Program::serve(store.as_ref(), port);
    let refused = ran(&[&["append", &store][..], &ADA].concat());
    assert!(refused.code == 1 && refused.said.contains("address of its server"), "{refused:?}");
    program.stop();
    let missing = directory.path().join("missing");
    let refused = ran(&[&["append", missing.to_str().unwrap()][..], &ADA].concat());
    assert!(refused.code == 1 && !missing.exists(), "{refused:?}");
}

#[test]
fn rows_of_tables_become_events_once() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (store, csv, database) = (place("store"), place("orders.csv"), place("orders.db"));
    let rows = "id,kind,customer,note\n1,Placed,ada,\"a, \"\"b\"\"\nc\"\n2,Sold,bob,\n";
    std::fs::write(&csv, rows).unwrap();
    let mapping =
        ["--type", "shop.{kind}", "--stream", "order-{id}", "--tag", "customer:{customer}"];
    let import = |file: &str, more: &[&str]| {
        ran(&[&["import", &store, file, "--json"][..], &mapping, more].concat())
    };
    assert_eq!(import(&csv, &["--csv", "--typed"]).object()["rows"], 2);
    let events = ran(&["read", &store, "--json"]).objects();
    let data =
        serde_json::json!({"id": 1, "kind": "Placed", "customer": "ada", "note": "a, \"b\"\nc"});
    assert_eq!((&events[0]["type"], &events[0]["data"]), (&"shop.Placed".into(), &data));
    assert_eq!(
        (&events[1]["stream"], &events[1]["tags"][0]),
        (&"order-2".into(), &"customer:bob".into())
    );
    assert!(events[1]["data"]["note"].is_null());
    // A table that has grown gives what is new; one that has changed is refused.
    std::fs::write(&csv, rows.to_owned() + "3,Sold,eve,x\n").unwrap();
    let again = import(&csv, &["--csv", "--typed"]).object();
    assert_eq!((&again["rows"], &again["repeated"]), (&3.into(), &2.into()));
    std::fs::write(&csv, rows.replace("ada", "zoe")).unwrap();
    let changed = import(&csv, &["--csv", "--typed"]);
    assert!(changed.code == 1 && changed.said.contains("row 1"), "{changed:?}");

    let connection = rusqlite::Connection::open(&database).unwrap();
    let made = "CREATE TABLE orders (id INTEGER, kind TEXT, customer TEXT, price REAL); \
                INSERT INTO orders VALUES (7, 'Placed', 'ada', 1.5), (8, 'Sold', NULL, 2);";
    connection.execute_batch(made).unwrap();
    let query = ["--query", "select * from orders order by id"];
    assert_eq!(import(&database, &query).object()["rows"], 2);
    let seventh = ran(&["read", &store, "--stream", "order-7", "--json"]).object();
    let data = serde_json::json!({"id": 7, "kind": "Placed", "customer": "ada", "price": 1.5});
    assert_eq!(seventh["data"], data);
    for (more, said) in [
        (&["--query", "select nothing from orders"][..], "nothing"),
        (&["--query", "select 1 as id"], "there are id"),
        (&["--query", "select 7 as id, x'00' as kind, 1 as customer"], "bytes"),
    ] {
        let refused = import(&database, more);
        assert!(refused.code == 2 && refused.said.contains(said), "{more:?}: {refused:?}");
    }
}
