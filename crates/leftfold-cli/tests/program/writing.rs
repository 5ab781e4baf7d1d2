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
    // Lines that were appended in part are appended to their end, and none twice.
    let all = lines(50);
    let half: String = all.split_inclusive('\n').take(20).collect();
    for input in [&half, &all, &all] {
        ran_with(&["append", &store, "--command-id", "many"], input).well();
    }
    assert_eq!(ran(&["read", &store, "--json"]).objects().len(), 52);
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
