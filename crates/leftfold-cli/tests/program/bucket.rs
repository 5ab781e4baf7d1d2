//! `leftfold backup` to object storage, and `restore` from it.

use std::path::Path;

use leftfold_proving::ObjectStorage;

use crate::support::{PROGRAM, Program, Ran, ran, ran_command, ran_with, store_of};

/// Place of the backup in the storage.
const PLACE: &str = "s3://backups/shop/nightly";

/// The program, told where the storage is.
fn command(storage: &ObjectStorage, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(PROGRAM);
    command.env("AWS_ENDPOINT_URL", storage.endpoint());
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    command.args(arguments);
    command
}

fn called(storage: &ObjectStorage, arguments: &[&str]) -> Ran {
    ran_command(command(storage, arguments), "")
}

/// Events of so many bytes each.
fn large(number: usize, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    let line =
        |at| format!(r#"{{"type":"shop.Scanned","data":{{"n":{at},"of":"{data}"}}}}"#) + "\n";
    (0..number).map(line).collect()
}

/// Brings the backup back into a new directory, and returns its events.
fn restored(storage: &ObjectStorage, directory: &Path, name: &str) -> String {
    let place = directory.join(name).to_str().unwrap().to_owned();
    called(storage, &["restore", PLACE, &place]).well();
    ran(&["read", &place, "--json"]).well()
}

#[test]
fn a_log_is_backed_up_into_object_storage_and_brought_back() {
    let (storage, directory) = (ObjectStorage::start(), tempfile::tempdir().unwrap());
    assert_eq!(storage.call("PUT", "/backups"), 200);
    let place = store_of(directory.path(), 20);
    // More than one part of an upload.
    ran_with(&["append", &place], &large(45, 200_000)).well();
    let events = || ran(&["read", &place, "--json"]).well();
    let nothing = directory.path().join("nothing").to_str().unwrap().to_owned();
    let missing = called(&storage, &["restore", PLACE, &nothing]);
    assert!(missing.code == 1 && missing.said.contains(PLACE), "{missing:?}");
    assert!(!Path::new(&nothing).exists());

    let first = called(&storage, &["backup", &place, PLACE, "--json"]).object();
    assert!(first["copiedBytes"].as_u64().unwrap() > 9_000_000, "{first}");
    assert_eq!(restored(&storage, directory.path(), "a"), events());
    ran_with(&["append", &place], &large(1, 1_000)).well();
    let second = called(&storage, &["backup", &place, PLACE, "--json"]).object();
    assert!(second["copiedBytes"].as_u64().unwrap() < 100_000, "{second}");
    assert_eq!(restored(&storage, directory.path(), "b"), events());

    // Whoever has the lock is alone; one that was killed leaves it.
    assert_eq!(storage.call("PUT", "/backups/shop/nightly/backup.lock"), 200);
    let busy = called(&storage, &["backup", &place, PLACE]);
    assert!(busy.code == 1 && busy.said.contains("backup.lock"), "{busy:?}");
    let before = events();
    ran_with(&["append", &place], &large(10, 200_000)).well();
    assert_eq!(storage.call("DELETE", "/backups/shop/nightly/backup.lock"), 204);
    Program::of(command(&storage, &["backup", &place, PLACE])).kill();
    let there = restored(&storage, directory.path(), "c");
    assert!(there == before || there == events(), "{} bytes", there.len());
    // Whether the one that was killed had it or not.
    assert_eq!(storage.call("DELETE", "/backups/shop/nightly/backup.lock"), 204);
    called(&storage, &["backup", &place, PLACE]).well();
    assert_eq!(restored(&storage, directory.path(), "d"), events());

    let other = store_of(&directory.path().join("other"), 1);
    let foreign = called(&storage, &["backup", &other, PLACE]);
    assert_eq!(foreign.code, 1, "{foreign:?}");
    let nowhere = called(&storage, &["backup", &place, "s3://nowhere/x"]);
    assert!(nowhere.code == 1 && nowhere.said.contains("NoSuchBucket"), "{nowhere:?}");
}
