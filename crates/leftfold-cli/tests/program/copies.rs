//! Commands on whole stores: what is damaged is found, and what is interrupted goes on.

use std::io::Write;
use std::path::Path;

use crate::support::{Program, port, ran, ran_with, store_of, until};

/// The events of a store, without their times.
fn content(store: &str) -> Vec<serde_json::Value> {
    let mut events = ran(&["read", store, "--json", "--system"]).objects();
    for event in &mut events {
        event.as_object_mut().unwrap().remove("recordedAt");
    }
    events
}

#[test]
fn a_damaged_segment_is_a_fault_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 500);
    let segment = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|e| e == "seg")).min();
    let segment = segment.unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.windows(8).position(|window| window == br#"{"n":123"#).unwrap();
    bytes[middle + 5] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = ran(&["verify", &store, "--json"]);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(found.code == 3 && found.said.contains(name), "{found:?}");
    let verified: serde_json::Value = serde_json::from_str(found.out.trim()).unwrap();
    assert!(verified["sound"] == false && verified["damage"].is_string(), "{verified}");
    // It is one, too, if nobody reads what was found.
    let mut unread = Program::start(&["verify", &store]);
    drop(unread.output());
    assert_eq!(unread.ended(), Some(3));
    let backup = directory.path().join("backup");
    let refused = ran(&["backup", &store, backup.to_str().unwrap()]);
    assert!(refused.code == 3, "{refused:?}");
}

#[test]
fn an_import_that_was_interrupted_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 400);
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (file, new) = (place("dump.jsonl"), place("new"));
    // A file of somebody else, whose name a dump might take for its own.
    let other = place("dump.jsonl.unfinished");
    std::fs::write(&other, "kept").unwrap();
    let dumped = ran(&["dump", &store, &file, "--json"]).object();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept");
    assert_eq!(dumped["events"], 400);
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(ran(&["dump", &store]).well().lines().count(), lines.lines().count());
    let again = ran(&["dump", &store, &file]);
    assert!(again.code == 1 && again.said.contains("there already"), "{again:?}");

    let mut importing = Program::start(&["import", &new]);
    let mut input = importing.input();
    let half: String = lines.split_inclusive('\n').take(300).collect();
    input.write_all(half.as_bytes()).unwrap();
    until("a part is there", || {
        let events = ran(&["read", &new, "--json", "-n", "1"]);
        events.code == 0 && !events.out.is_empty()
    });
    importing.signal("INT");
    assert_eq!(importing.ended(), Some(130));
    drop(input);

    let cut = ran_with(&["import", &new], &half);
    assert!(cut.code == 1 && cut.said.contains("not complete"), "{cut:?}");
    let done = ran(&["import", &new, &file, "--json"]).object();
    assert!(done["repeated"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(done["events"], 400);
    assert_eq!(content(&new), content(&store));
}

#[test]
fn a_backup_that_was_killed_goes_on_and_is_restored() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 500);
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (backup, restored) = (place("backup"), place("restored"));
    // Somewhere on its way: whatever it left is gone on with.
    Program::start(&["backup", &store, &backup]).kill();
    let program = Program::serve(store.as_ref(), port);
    let first = ran(&["backup", &store, &backup, "--json"]).object();
    assert_eq!(first["position"], 500);
    let address = format!("leftfold://127.0.0.1:{port}");
    // Over the address, too, into a directory of its own.
    let (fetched, key, head) = (place("fetched"), place("key"), place("head"));
    let fetch = || ran(&["backup", &address, &fetched, "--json"]).object();
    Program::start(&["backup", &address, &fetched]).kill();
    let all = fetch()["copiedBytes"].as_u64().unwrap();
    ran(&["append", &address, "--type", "shop.Closed", "--data", "{}"]).well();
    let later = fetch();
    assert_eq!(later["position"], 501);
    assert!(later["copiedBytes"].as_u64().unwrap() < 1_000 || all < 1_000, "{later}");
    ran(&["head", "--new-key", &key]).well();
    std::fs::write(&head, ran(&["head", &address, "--sign", &key]).well()).unwrap();
    let public = format!("{key}.pub");
    let against = ran(&["verify", &address, "--against", &head, "--key", &public]);
    assert!(against.well().contains("the one that was signed"));
    for (refused, instead) in [
        (ran(&["restore", &fetched, &address]), "on the server's machine"),
        (ran(&["archive", &address, &fetched]), "on the server's machine"),
    ] {
        assert!(refused.code == 2 && refused.said.contains(instead), "{refused:?}");
    }
    until("a later backup has what is new", || {
        ran(&["backup", &store, &backup, "--json"]).object()["position"] == 501
    });
    program.stop();
    let from_address = place("from-address");
    ran(&["restore", &fetched, &from_address]).well();
    let whole = |store: &str| ran(&["read", store, "--json", "--system"]).objects();
    assert_eq!(whole(&from_address), whole(&store), "times are the same, too");
    let report = ran(&["restore", &backup, &restored, "--json"]).object();
    assert_eq!((&report["epoch"], &report["position"]), (&2.into(), &501.into()));
    assert_eq!(content(&restored), content(&store));
    assert_eq!(ran(&["verify", &restored, "--json"]).object()["sound"], true);
    let again = ran(&["restore", &backup, &restored]);
    assert_eq!(again.code, 1, "{again:?}");
}

#[test]
fn a_signed_head_finds_a_history_that_was_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 10);
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (key, head) = (place("key"), place("head"));
    ran(&["head", "--new-key", &key]).well();
    assert_eq!(ran(&["head", "--new-key", &key]).code, 1, "a key is not written over");
    std::fs::write(&head, ran(&["head", &store, "--sign", &key]).well()).unwrap();
    let public = format!("{key}.pub");
    let verify = |store: &str| ran(&["verify", store, "--against", &head, "--key", &public]);
    assert!(verify(&store).well().contains("the one that was signed"));
    // A store of the same events is another one.
    let (file, other) = (place("dump"), place("other"));
    ran(&["dump", &store, &file]).well();
    ran(&["import", &other, &file]).well();
    let found = verify(&other);
    assert!(found.code == 3 && found.said.contains("store"), "{found:?}");
}

#[test]
fn an_archived_log_is_read_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 50);
    let archive = directory.path().join("archive");
    let report = ran(&["archive", &store, archive.to_str().unwrap(), "--json"]).object();
    assert_eq!(report["archived"], 0);
    assert!(Path::new(&store).join("archive").exists());
    assert_eq!(content(&store).len(), 50);
}

#[test]
fn a_store_is_transformed_by_rules_and_the_call_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 70);
    let new = directory.path().join("new").to_str().unwrap().to_owned();
    let transform = |more: &[&str]| {
        let rules = ["--drop-type", "shop.Taken", "--rename-category", "shop=store"];
        let names = ["--rename-type", "shop.Sold=store.Sold", "--json"];
        ran(&[&["transform", &store, &new][..], &rules, &names, more].concat())
    };
    assert_eq!(transform(&[]).object()["switched"], false);
    ran(&["append", &store, "--type", "shop.Closed", "--data", "{}"]).well();
    let done = transform(&["--switch"]).object();
    assert_eq!((&done["sound"], &done["dropped"]), (&true.into(), &35.into()));
    let events = ran(&["read", &new, "--json"]).objects();
    assert_eq!(events.len(), 36);
    assert_eq!(
        (&events[0]["type"], &events[0]["stream"]),
        (&"store.Sold".into(), &"store-0".into())
    );
    assert_eq!((&events[1]["data"]["n"], &events[35]["type"]), (&2.into(), &"shop.Closed".into()));
    let wrong = ran(&["transform", &store, &new, "--rename-type", "shop.Sold"]);
    assert!(wrong.code == 2 && wrong.said.contains("OLD=NEW"), "{wrong:?}");
}
