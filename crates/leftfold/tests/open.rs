//! The front door: what a user meets first, when it opens and when it does not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leftfold::log::{ClockWitness, Log, LogClock, LogOpenError as LogError, Options};
use leftfold::prelude::*;
use leftfold::store::{Append, AppendError, EventType, NewEvent, Read};
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

/// `file://localhost/tmp/x` once opened `./localhost/tmp/x`, and `a%20b` was a directory with a
/// percent sign in its name.
#[tokio::test]
async fn a_file_url_is_read_as_the_rfc_has_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("my data");
    let url = format!("file://localhost{}/my%20data", place.path().display());
    assert_eq!(leftfold::directory_of(&url).unwrap(), Some(path.clone()));
    assert!(!path.exists(), "it was only asked for");
    let store = leftfold::open(&url).await.unwrap();
    store.append(Append::of(vec![happened("one")])).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(texts(&leftfold::open(path.to_str().unwrap()).await.unwrap()).await, ["one"]);
    let elsewhere = "file://other.example/data";
    for refused in
        [leftfold::open(elsewhere).await.map(drop), leftfold::directory_of(elsewhere).map(drop)]
    {
        assert!(
            matches!(&refused, Err(OpenError::FileUrl(FileUrlError::Host { host })) if host == "other.example")
        );
    }
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
async fn a_store_that_is_open_is_followed_by_its_url() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap();
    let follow = format!("file:{path}?mode=read");
    assert!(matches!(leftfold::open(&follow).await, Err(OpenError::Log(LogError::Missing { .. }))));
    let store = leftfold::open(path).await.unwrap();
    store.append(Append::of(vec![happened("one")])).await.unwrap();
    let followed = leftfold::open(&follow).await.unwrap();
    let mut events = followed.subscribe(Query::all(), Position::START);
    assert_eq!(events.event().await.unwrap().data, "one");
    store.append(Append::of(vec![happened("two")])).await.unwrap();
    assert_eq!(events.event().await.unwrap().data, "two");
    let refused = followed.append(Append::of(vec![happened("three")])).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("holiday.jpg"), "a beach").unwrap();
    let refused = leftfold::open(place.path().to_str().unwrap()).await;
    assert!(
        matches!(&refused, Err(OpenError::Log(LogError::Foreign { file, .. })) if file == "holiday.jpg"),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

/// The machine's clock, set by so many days.
#[derive(Debug)]
struct Off(i64);

impl LogClock for Off {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(Timestamp::now().as_micros() + self.0 * 86_400_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Makes a log with an event, by a clock that is so many days off, whose files were changed then.
async fn recorded_with_a_clock_off_by(days: i64, path: &Path) {
    let clock = Arc::new(Off(days));
    let store = Store::new(
        Log::open(path, Options { clock: clock.clone(), ..Options::default() }).unwrap().0,
    );
    store.append(Append::of(vec![happened("one")])).await.unwrap();
    store.close().await.unwrap();
    let then =
        SystemTime::UNIX_EPOCH + Duration::from_micros(clock.wall().as_micros().unsigned_abs());
    let segment =
        std::fs::File::options().write(true).open(path.join("log-000000000001.seg")).unwrap();
    segment.set_modified(then).unwrap();
}

/// Anyone who was refused because of a clock could do nothing about it without `Log::open`.
#[tokio::test]
async fn a_log_of_the_future_is_opened_by_the_url_that_the_error_names() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("my data");
    recorded_with_a_clock_off_by(3_650, &path).await;
    let refused = leftfold::open(path.to_str().unwrap()).await;
    let Err(error @ OpenError::ClockBehind { url, .. }) = &refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains(url.as_str()), "{error}");
    assert!(url.ends_with("/my%20data?clock-behind=go-on"), "{url}");
    let store = leftfold::open(url).await.unwrap();
    store.append(Append::of(vec![happened("two")])).await.unwrap();
    assert_eq!(texts(&store).await, ["one", "two"]);
    store.close().await.unwrap();
    assert!(
        matches!(leftfold::open(path.to_str().unwrap()).await, Err(OpenError::ClockBehind { .. })),
        "the clock is not there yet"
    );
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_is_refused_before_it_is_recorded_if_that_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    recorded_with_a_clock_off_by(-800, &path).await;
    let before = std::fs::read(path.join("log-000000000001.seg")).unwrap();
    let refused = leftfold::open(&format!("file:{}?clock-doubtful=refuse", path.display())).await;
    let Err(error @ OpenError::ClockDoubtful { url, .. }) = &refused else { panic!("{refused:?}") };
    assert!(
        error.to_string().contains("days after the last record of the log")
            && error.to_string().contains(url),
        "{error}"
    );
    assert_eq!(
        std::fs::read(path.join("log-000000000001.seg")).unwrap(),
        before,
        "nothing was recorded"
    );
    let (log, recovery) = Log::open(&path, Options::default()).unwrap();
    assert_eq!(recovery.clock_doubt.unwrap().witness, ClockWitness::LastRecord);
    Store::new(log).close().await.unwrap();
    let store = leftfold::open(url).await.unwrap();
    store.append(Append::of(vec![happened("two")])).await.unwrap();
    store.close().await.unwrap();
    let (_, recovery) = Log::open(&path, Options::default()).unwrap();
    assert_eq!(recovery.clock_doubt, None);
}

#[tokio::test]
async fn what_is_no_option_is_refused_with_those_that_there_are() {
    let place = tempfile::tempdir().unwrap();
    for options in ["clock=go-on", "clock-behind=yes", "clock-behind=go-on&x", ""] {
        let refused = leftfold::open(&format!("file:{}?{options}", place.path().display()))
            .await
            .unwrap_err();
        assert!(matches!(refused, OpenError::FileUrl(FileUrlError::Option { .. })), "{refused:?}");
        assert!(
            refused.to_string().contains("clock-behind=go-on")
                && refused.to_string().contains("%3F"),
            "{refused}"
        );
    }
    let path = leftfold::open(&format!("{}?clock-behind=go-on", place.path().display()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            &path,
            OpenError::FileUrl(FileUrlError::OptionsOfPath { url, .. }) if url.starts_with("file:/")
        ),
        "{path:?}"
    );
    assert!(matches!(
        leftfold::open("memory:?clock-behind=go-on").await,
        Err(OpenError::Memory { .. })
    ));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn memory_is_empty_every_time_and_an_unknown_scheme_is_named() {
    let store = leftfold::open("memory:").await.unwrap();
    store.append(Append::of(vec![happened("gone")])).await.unwrap();
    assert!(texts(&leftfold::open("memory:").await.unwrap()).await.is_empty());
    let refused = leftfold::open("mysql://localhost/events").await;
    assert!(matches!(refused, Err(OpenError::UnknownScheme { scheme }) if scheme == "mysql"));
}

#[tokio::test]
async fn a_url_of_postgresql_opens_a_store_and_its_keys() {
    use leftfold::personal::Opened;

    let url = leftfold_proving::PostgresServer::shared().database("opened");
    let store = leftfold::open(&format!("{url}?schema=events")).await.unwrap();
    let places = [format!("{url}?schema=keys"), url.replace("postgres://", "POSTGRESQL://")];
    let keys = leftfold::open_keys(&store, &places[0]).await.unwrap();
    let name = keys.subject("customer-1").await.unwrap().seal(&"Ada".to_owned()).unwrap();
    let again = leftfold::open_keys(&store, &places[0]).await.unwrap();
    assert_eq!(again.open(&name).await, Ok(Opened::Known("Ada".to_owned())));
    let lost = leftfold::open_keys(&store, &places[1]).await.map(drop).unwrap_err();
    assert!(lost.to_string().contains("leftfold_keys"), "{lost}");
    assert_eq!(lost.kind(), Kind::Bug);
    store.close().await.unwrap();
    // A build with the feature tries, and this server has no certificate.
    let refused = leftfold::open(&format!("{url}?sslmode=require")).await.unwrap_err().to_string();
    let told = ["postgres-tls", "does not support TLS"];
    assert!(told.iter().any(|told| refused.contains(told)), "{refused}");
}
