//! What a file of rows does that the rules for all targets do not say.

use std::fs;
use std::process::{Command, Stdio};

use leftfold_core::runtime::projection::{Place, ProjectionError, Session, Target};
use leftfold_sqlite::rusqlite::{self, Connection};
use leftfold_sqlite::{Sqlite, SqliteError, SqliteSession};
use tempfile::TempDir;

fn place(version: u32) -> Place {
    Place { name: "cats", version, lane: 0 }
}

async fn open(sqlite: &Sqlite, version: u32) -> SqliteSession {
    let mut session = sqlite.open(&place(version)).await.unwrap();
    session.begin().await.unwrap();
    session
        .rows()
        .execute_batch("CREATE TABLE IF NOT EXISTS cats (name TEXT PRIMARY KEY)")
        .unwrap();
    session.commit().await.unwrap();
    session
}

async fn add(session: &mut SqliteSession, name: &str) {
    session.begin().await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES (?1)", [name]).unwrap();
    session.commit().await.unwrap();
}

fn count(rows: &Connection) -> rusqlite::Result<u32> {
    rows.query_row("SELECT count(*) FROM cats", [], |row| row.get(0))
}

#[tokio::test]
async fn code_of_users_that_commits_fails_and_nothing_of_it_stays() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    let mut session = open(&sqlite, 1).await;
    session.begin().await.unwrap();
    session.rows().execute("INSERT INTO cats VALUES ('tom')", []).unwrap();
    session.rows().execute_batch("COMMIT").unwrap_err();
    // Now in a transaction of its own, unless that is refused too.
    session.rows().execute("INSERT INTO cats VALUES ('kit')", []).unwrap_err();
    let error = session.commit().await.unwrap_err();
    assert!(!sqlite.is_away(&error), "{error}");
    assert!(error.to_string().contains("leave it to the runtime"), "{error}");
    session.rollback().await.unwrap();
    assert_eq!(count(session.rows()).unwrap(), 0);
    add(&mut session, "mia").await;
    assert_eq!(count(session.rows()).unwrap(), 1);
}

#[tokio::test]
async fn whoever_comes_second_is_told_who_writes() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    let _session = open(&sqlite, 1).await;
    let error = sqlite.open(&place(1)).await.unwrap_err();
    assert!(sqlite.is_away(&error));
    assert!(
        error.to_string().contains("cats.v1.db is written by another session of this process"),
        "{error}"
    );
    let error = sqlite.discard("cats", 1).await.unwrap_err();
    assert!(error.to_string().contains("is written by"), "{error}");
}

#[tokio::test]
async fn another_process_that_writes_is_named() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    drop(open(&sqlite, 1).await);
    let lock = home.path().join("cats.v1.lock");
    // It says when it has the lock, and keeps it until its input ends.
    let mut other = Command::new("flock");
    other
        .arg("--exclusive")
        .arg(&lock)
        .args(["sh", "-c", "echo $$ > \"$0\"; echo held; read -r _"])
        .arg(&lock);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut held = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(other.stdout.take().unwrap()),
        &mut held,
    )
    .unwrap();
    assert_eq!(held, "held\n");
    let error = sqlite.open(&place(1)).await.unwrap_err();
    assert!(error.to_string().contains("is written by process "), "{error}");
    drop(other.stdin.take());
    other.wait().unwrap();
    add(&mut open(&sqlite, 1).await, "tom").await;
}

#[tokio::test]
async fn a_full_disk_a_damaged_file_and_a_directory_that_is_none_are_waited_for() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    let mut session = open(&sqlite, 1).await;
    let page_count: u32 =
        session.rows().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    session.rows().pragma_update(None, "max_page_count", page_count + 1).unwrap();
    session.begin().await.unwrap();
    let name = "x".repeat(100_000);
    let full: ProjectionError =
        session.rows().execute("INSERT INTO cats VALUES (?1)", [&name]).unwrap_err().into();
    assert!(sqlite.is_away(&full), "{full}");
    session.rollback().await.unwrap();
    drop(session);

    fs::write(home.path().join("cats.v2.db"), vec![7; 10_000]).unwrap();
    let damaged = sqlite.open(&place(2)).await.unwrap_err();
    assert!(sqlite.is_away(&damaged), "{damaged}");
    assert!(damaged.to_string().contains("cats.v2.db"), "{damaged}");

    fs::write(home.path().join("file"), "").unwrap();
    let nowhere = Sqlite::at(home.path().join("file")).open(&place(1)).await.unwrap_err();
    assert!(sqlite.is_away(&nowhere), "{nowhere}");
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the cat")]
struct Wrapped(#[source] rusqlite::Error);

#[tokio::test]
async fn absence_is_seen_through_an_error_of_users_code() {
    let sqlite = Sqlite::at("nowhere");
    let code = |code| {
        Wrapped(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)).into()
    };
    assert!(sqlite.is_away(&code(rusqlite::ffi::SQLITE_FULL)));
    assert!(sqlite.is_away(&code(rusqlite::ffi::SQLITE_BUSY)));
    assert!(!sqlite.is_away(&code(rusqlite::ffi::SQLITE_CONSTRAINT)));
}

#[tokio::test]
async fn one_read_sees_one_moment_of_one_version() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    let reader = sqlite.reader_of("cats");
    assert!(matches!(reader.read(count), Err(SqliteError::NothingServes { .. })));
    let mut old = open(&sqlite, 1).await;
    add(&mut old, "tom").await;
    sqlite.serve("cats", 1).await.unwrap();
    let mut new = open(&sqlite, 2).await;
    let seen = reader
        .read(|rows| Ok((count(rows)?, add_and_serve(&sqlite, &mut old), count(rows)?)))
        .unwrap();
    assert_eq!((seen.0, seen.2), (1, 1));
    add(&mut new, "kit").await;
    assert_eq!((reader.version().unwrap(), reader.read(count).unwrap()), (2, 1));
    drop(old);
    sqlite.discard("cats", 1).await.unwrap();
    assert_eq!(sqlite.versions("cats").await.unwrap(), [2]);
    assert_eq!(reader.read(count).unwrap(), 1);
}

/// Meanwhile something else is written, and another version serves.
fn add_and_serve(sqlite: &Sqlite, old: &mut SqliteSession) {
    std::thread::scope(|scope| {
        let work = async {
            add(old, "mia").await;
            sqlite.serve("cats", 2).await.unwrap();
        };
        let run =
            move || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work);
        scope.spawn(run).join().unwrap();
    });
}

#[tokio::test]
async fn a_reader_goes_over_to_a_version_that_was_made_anew() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    let reader = sqlite.reader_of("cats");
    for names in [&["tom", "kit"][..], &["mia"]] {
        let mut session = open(&sqlite, 1).await;
        for name in names {
            add(&mut session, name).await;
        }
        sqlite.serve("cats", 1).await.unwrap();
        assert_eq!(reader.read(count).unwrap() as usize, names.len());
        drop(session);
        sqlite.discard("cats", 1).await.unwrap();
        assert!(matches!(reader.read(count), Err(SqliteError::NothingServes { .. })));
    }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let home = TempDir::new().unwrap();
    let sqlite = Sqlite::at(home.path());
    drop(open(&sqlite, 1).await);
    sqlite.serve("cats", 1).await.unwrap();
    let reader = sqlite.reader_of("cats");
    reader.read(|rows| rows.execute("INSERT INTO cats VALUES ('tom')", [])).unwrap_err();
    assert_eq!(reader.read(count).unwrap(), 0);
}
