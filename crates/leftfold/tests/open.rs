//! The front door: what a user meets first, when it opens and when it does not.

use leftfold::log::OpenError as LogError;
use leftfold::prelude::*;
use leftfold::store::{Append, EventType, NewEvent, Read};
use leftfold::{FileUrlError, OpenError};

fn happened(text: &str) -> NewEvent {
    NewEvent::new(EventType::new("test.Happened").unwrap(), text.to_owned())
}

async fn texts(store: &Store) -> Vec<String> {
    let events = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    events.iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_path_is_a_durable_store_and_its_directory_is_made() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep/data");
    let url = format!("file:{}", path.display());
    let store = leftfold::open(&url).await.unwrap();
    store.append(Append::of(vec![happened("one"), happened("two")])).await.unwrap();
    store.close().await.unwrap();
    let again = leftfold::open(path.to_str().unwrap()).await.unwrap();
    assert_eq!(texts(&again).await, ["one", "two"]);
    assert_eq!(again.identity(), store.identity());
}

/// `file://localhost/tmp/x` once opened `./localhost/tmp/x`, and `a%20b` was a directory with a percent sign in its name.
#[tokio::test]
async fn a_file_url_is_read_as_the_rfc_has_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("my data");
    let url = format!("file://localhost{}/my%20data", place.path().display());
    let store = leftfold::open(&url).await.unwrap();
    store.append(Append::of(vec![happened("one")])).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(texts(&leftfold::open(path.to_str().unwrap()).await.unwrap()).await, ["one"]);
    let elsewhere = leftfold::open("file://other.example/data").await;
    assert!(matches!(&elsewhere, Err(OpenError::FileUrl(FileUrlError::Host { host })) if host == "other.example"));
}

#[tokio::test]
async fn a_store_that_is_open_is_not_opened_twice() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap();
    let store = leftfold::open(path).await.unwrap();
    assert!(matches!(leftfold::open(path).await, Err(OpenError::Log(LogError::InUse { .. }))));
    store.close().await.unwrap();
    leftfold::open(path).await.unwrap();
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("holiday.jpg"), "a beach").unwrap();
    let refused = leftfold::open(place.path().to_str().unwrap()).await;
    assert!(matches!(&refused, Err(OpenError::Log(LogError::Foreign { file, .. })) if file == "holiday.jpg"), "{refused:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn memory_is_empty_every_time_and_an_unknown_scheme_is_named() {
    let store = leftfold::open("memory:").await.unwrap();
    store.append(Append::of(vec![happened("gone")])).await.unwrap();
    assert!(texts(&leftfold::open("memory:").await.unwrap()).await.is_empty());
    let refused = leftfold::open("postgres://localhost/events").await;
    assert!(matches!(refused, Err(OpenError::UnknownScheme { scheme }) if scheme == "postgres"));
}
