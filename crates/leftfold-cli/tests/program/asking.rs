//! Commands that answer a question: SQL, and a doctor's.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use leftfold_proving::PostgresServer;

use crate::support::{Program, port, ran, ran_with, store_of};

#[test]
fn sql_is_answered_over_the_events_that_are_chosen() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let store = store_of(directory.path(), 100);
    let program = Program::serve(store.as_ref(), port);
    let address = format!("leftfold://127.0.0.1:{port}");
    let sum = "select type, count(*) as n, sum(data->>'n') as sum from events group by type";
    let chosen = ["--where", "position <= 20 and type = shop.Sold"];
    for place in [&store, &address] {
        let all = ran(&["sql", place, sum, "--json"]).objects();
        assert_eq!((&all[0]["type"], &all[0]["n"]), (&"shop.Sold".into(), &50.into()));
        assert_eq!(all[0]["sum"], (0..100).step_by(2).sum::<i32>());
        let some = ran(&[&["sql", place, sum, "--json"][..], &chosen].concat()).object();
        assert_eq!((&some["n"], &some["sum"]), (&10.into(), &90.into()));
        let tags = "select count(*) as n from events join tags using (position) where tag = 't:1'";
        assert_eq!(ran_with(&["sql", place, "--json"], tags).object()["n"], 33);
    }
    let table = ran(&["sql", &store, "select 1 as one, 'a' as letter"]).well();
    assert_eq!(table, "one  letter\n  1  a\n1 row\n");
    program.stop();
}

#[test]
fn sql_only_reads_and_loads_no_more_than_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 10);
    for (sql, said) in [
        ("delete from events", "readonly"),
        ("create table t (a)", "readonly"),
        ("select 1; select 2", "one statement"),
        ("select absent from events", "no such column"),
    ] {
        let refused = ran(&["sql", &store, sql]);
        assert!(refused.code == 2 && refused.said.contains(said), "{sql}: {refused:?}");
    }
    let file = directory.path().join("made.db");
    for sql in ["attach '{}' as x", "vacuum into '{}'"] {
        let sql = sql.replace("{}", file.to_str().unwrap());
        let refused = ran(&["sql", &store, &sql]);
        assert!(refused.code == 2 && refused.said.contains("authoriz"), "{refused:?}");
        assert!(!file.exists(), "{sql}");
    }
    let twice = "select a.type, b.type from events a join events b using (position)";
    let refused = ran(&["sql", &store, twice, "--json"]);
    assert!(refused.code == 2 && refused.said.contains("name type"), "{refused:?}");
    assert_eq!(ran(&["sql", &store, twice]).well().lines().count(), 12);
    let refused = ran(&["sql", &store, "select 1", "--max-events", "9"]);
    assert!(refused.code == 1 && refused.said.contains("--max-events"), "{refused:?}");
    assert_eq!(ran(&["sql", &store, "select 1", "--max-events", "10"]).code, 0);
}

#[test]
fn a_doctor_finds_what_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of(directory.path(), 10);
    let findings = ran(&["doctor", &store, "--json"]).objects();
    for check in ["opens", "reads", "clock", "permissions", "disk"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}: {findings:?}");
    }
    let manifest = std::path::Path::new(&store).join("log-000000000001.seg");
    std::fs::write(&manifest, "nothing of a log").unwrap();
    let amiss = ran(&["doctor", &store]);
    assert!(amiss.code == 3 && amiss.out.contains("amiss"), "{amiss:?}");
    let mut unread = Program::start(&["doctor", &store]);
    drop(unread.output());
    assert_eq!(unread.ended(), Some(3));
    // Who may read everything is not kept out by permissions.
    std::fs::set_permissions(&manifest, std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(ran(&["doctor", &store]).code, 3);
}

#[test]
fn users_are_listed_added_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml").to_str().unwrap().to_owned();
    let add = |name: &str, more: &[&str]| {
        ran_with(&[&["users", "add", &file, name, "append"][..], more].concat(), "secret\n")
    };
    add("ada", &[]).well();
    add("bob", &["--token"]).well();
    let twice = add("ada", &[]);
    assert!(twice.code == 1 && twice.said.contains("there is a user"), "{twice:?}");
    let names = || -> Vec<String> {
        let users = ran(&["users", "list", &file, "--json"]).objects();
        users.iter().map(|user| user["user"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["ada", "bob"]);
    assert!(ran(&["users", "list", &file]).well().contains("1 token"));
    ran(&["users", "remove", &file, "ada"]).well();
    assert_eq!(names(), ["bob"]);
    assert_eq!(ran(&["users", "remove", &file, "ada"]).code, 1);
    // A token of an entry that is not kept is not shown.
    let nowhere = directory.path().join("absent/users.toml").to_str().unwrap().to_owned();
    let lost = ran(&["users", "add", &nowhere, "eve", "append", "--token"]);
    assert!(lost.code == 1 && lost.said.lines().count() == 1, "{lost:?}");
    // An entry that nobody reads any more is no panic.
    let mut unread = Program::start(&["user", "eve", "append"]);
    drop(unread.output());
    unread.input().write_all(b"secret\n").unwrap();
    assert_eq!(unread.ended(), Some(0));
    // A server without users would let nobody in.
    assert_eq!(ran(&["users", "remove", &file, "bob"]).code, 1);
    assert_eq!(names(), ["bob"]);
}

/// One that a person made readable to the server, behind a link, and eight programs at once.
#[test]
fn a_file_of_users_keeps_its_rights_and_its_link_and_every_user_that_is_added_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (place, link) = (directory.path().join("real.toml"), directory.path().join("users.toml"));
    std::os::unix::fs::symlink(&place, &link).unwrap();
    let link = link.to_str().unwrap();
    let add = |name: &str| ran_with(&["users", "add", link, name, "read", "--token"], "");
    // The link leads to nothing yet.
    std::fs::write(&place, "").unwrap();
    add("first").well();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o640)).unwrap();
    // A file that once had a fixed name, and a link in its place.
    std::os::unix::fs::symlink("/nowhere", directory.path().join("users.toml.new")).unwrap();
    std::thread::scope(|threads| {
        for number in 0..8 {
            threads.spawn(move || add(&format!("user{number}")).well());
        }
    });
    assert_eq!(ran(&["users", "list", link, "--json"]).objects().len(), 9);
    assert!(std::fs::symlink_metadata(link).unwrap().is_symlink());
    let mode = std::fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "{mode:o}");
    let names = std::fs::read_dir(directory.path()).unwrap();
    assert_eq!(names.count(), 3, "a file was left behind");
    // A file that is made is for its owner alone.
    let new = directory.path().join("new.toml");
    ran_with(&["users", "add", new.to_str().unwrap(), "a", "read", "--token"], "").well();
    let mode = std::fs::metadata(&new).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_look_at_a_tenant_of_a_server_makes_none_there() {
    let directory = tempfile::tempdir().unwrap();
    let tenants = directory.path().join("tenants");
    std::fs::create_dir(&tenants).unwrap();
    let place = tenants.to_str().unwrap();
    let number = || std::fs::read_dir(&tenants).unwrap().count();
    look_at_tenants(directory.path(), place, number);
    look_at_tenants(directory.path(), &format!("file:{place}/{{name}}-events"), || number() - 1);
    let server = PostgresServer::shared();
    let database = server.database("tenants_looked_at");
    look_at_tenants(directory.path(), &format!("{database}?schema={{name}}"), || {
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'";
        server.psql(&database, schemas).parse().unwrap()
    });
}

/// Looks at a tenant of a server that keeps them at this place, and then makes it; `number` says
/// how many there are.
fn look_at_tenants(kept: &Path, place: &str, number: impl Fn() -> usize) {
    let port = port();
    let program = Program::serve_with(&kept.join("kept"), port, &["--tenants", place]);
    let store = format!("leftfold://127.0.0.1:{port}/shop");
    let event = ["--type", "a.A", "--data", "{}"];
    let append = |more: &[&str]| ran(&[&["append", &store][..], &event, more].concat());
    for ended in [ran(&["read", &store]), ran(&["stats", &store]), append(&[])] {
        assert!(ended.code == 1 && ended.said.contains("no store"), "{ended:?}");
        assert_eq!(number(), 0, "{ended:?}");
    }
    append(&["--create"]).well();
    append(&[]).well();
    assert_eq!((ran(&["read", &store, "--json"]).objects().len(), number()), (2, 1));
    program.stop();
}

/// A row that somebody has changed in the database looks like any other one.
#[test]
fn a_store_in_a_database_is_verified_by_its_chain_and_a_changed_row_is_a_fault() {
    let server = PostgresServer::shared();
    let database = server.database("verified");
    let store = format!("{database}?schema=shop");
    for number in ["1", "2", "3"] {
        let event = ["--type", "a.A", "--data", number];
        ran(&[&["append", &store, "--create"][..], &event].concat()).well();
    }
    let sound = ran(&["verify", &store, "--json"]).object();
    assert_eq!((&sound["how"], &sound["events"]), (&"chain".into(), &3.into()));
    assert_eq!(sound["chain"], ran(&["head", &store, "--json"]).object()["chain"]);
    server.psql(&database, "UPDATE shop.events SET data = '7' WHERE position = 2");
    let changed = ran(&["verify", &store]);
    assert_eq!(changed.code, 3, "{changed:?}");
}

#[test]
fn a_look_at_a_database_changes_nothing_there() {
    let server = PostgresServer::shared();
    let database = server.database("looked_at");
    let store = format!("{database}?schema=shop");
    let event = ["--type", "a.A", "--data", "{}"];
    let append = |more: &[&str]| ran(&[&["append", &store][..], &event, more].concat());
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'";
    for (ended, code) in [
        (ran(&["read", &store]), 1),
        (ran(&["stats", &store]), 1),
        (ran(&["verify", &store]), 1),
        (ran(&["sql", &store, "select 1"]), 1),
        (ran(&["doctor", &store]), 3),
        (append(&[]), 1),
    ] {
        let said = ended.said.clone() + &ended.out;
        assert!(ended.code == code && said.contains("no store in schema shop"), "{ended:?}");
        assert_eq!(server.psql(&database, schemas), "0", "{ended:?}");
    }
    append(&["--create"]).well();
    append(&[]).well();
    assert_eq!(ran(&["read", &store, "--json"]).objects().len(), 2);
}
