//! The figures of a store, its folds and the consumers behind it, in one text.

use std::collections::HashMap;
use std::convert::Infallible;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::store::limits::DATA_BYTES_MAX;
use leftfold_core::store::{
    Append, CommandId, CommandRecord, Condition, Digest, Expected, NewEvent, Store,
};
use leftfold_log::{Log, Options};
use serde::{Deserialize, Serialize};

use crate::support::{Folder, event_type, stream};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Counted {
    Up {},
}

impl Event for Counted {
    const NAMESPACE: &'static str = "counted";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter(u32);

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Event = Counted;
    type Command = ();
    type Refusal = Infallible;

    fn apply(&mut self, _: &Counted) {
        self.0 += 1;
    }

    fn decide(&self, (): &()) -> Result<Vec<Counted>, Infallible> {
        Ok(vec![Counted::Up {}])
    }
}

/// Learns of everything, and does nothing.
#[derive(Default)]
struct Listener;

impl Process for Listener {
    const NAME: &'static str = "listener";
    type Event = Counted;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(_: &Recorded<Counted>) -> Correlation {
        Correlation::ignores()
    }

    fn apply(&mut self, _: &Trigger<Counted>, _: &Context) {}

    fn react(&self, _: &Trigger<Counted>, _: &Context) -> Reaction {
        Reaction::none()
    }
}

/// The samples of a text, each with its name and labels as they are written.
fn samples(text: &str) -> HashMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<_> = lines.map(|line| line.rsplit_once(' ').unwrap()).collect();
    let all: HashMap<_, f64> =
        samples.iter().map(|(key, value)| (*key, value.parse().unwrap())).collect();
    assert_eq!(all.len(), samples.len(), "a sample stands there twice: {text}");
    all
}

fn event(bytes: usize) -> NewEvent {
    NewEvent::new(event_type("a.Made"), vec![b'x'; bytes]).in_stream(stream("a-1"))
}

/// Appends that are answered one after the other, in every way that a caller can bring about.
async fn work(store: &Store) {
    store.append(Append::of(vec![event(10), event(10)])).await.unwrap();
    let command = CommandRecord {
        id: CommandId::new("test", "1"),
        digest: Digest::of(b"1"),
        answer: "said".into(),
    };
    let request = Append { command: Some(command), ..Append::of(vec![event(10)]) };
    store.append(request.clone()).await.unwrap();
    store.append(request).await.unwrap();
    let absent =
        Append::of(vec![event(10)]).when(Condition::stream(stream("a-1"), Expected::Absent));
    store.append(absent).await.unwrap();
    store.append(Append::of(vec![event(DATA_BYTES_MAX + 1)])).await.unwrap_err();
    let counters = store.aggregate::<Counter>();
    for id in ["1", "2", "1", "1"] {
        counters.execute(id, ()).await.unwrap();
    }
}

#[tokio::test]
async fn figures_tell_what_was_done_to_the_store_beside_its_consumers() {
    let folder = Folder::new("metrics");
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    let store = Store::new(log);
    work(&store).await;
    let text = store.metrics();
    let now = samples(&text);
    let figures = [
        ("leftfold_store_head_position", 7.0),
        ("leftfold_store_up", 1.0),
        ("leftfold_store_appends_total{outcome=\"appended\"}", 6.0),
        ("leftfold_store_appends_total{outcome=\"repeated\"}", 1.0),
        ("leftfold_store_appends_total{outcome=\"conflict\"}", 1.0),
        ("leftfold_store_appends_total{outcome=\"invalid\"}", 1.0),
        ("leftfold_store_appends_total{outcome=\"failed\"}", 0.0),
        ("leftfold_store_events_total", 7.0),
        ("leftfold_store_group_appends_count", 6.0),
        ("leftfold_store_group_appends_bucket{le=\"1\"}", 6.0),
        ("leftfold_store_group_bytes_count", 6.0),
        ("leftfold_store_sync_seconds_count", 6.0),
        ("leftfold_store_sync_seconds_bucket{le=\"+Inf\"}", 6.0),
        ("leftfold_store_queue_appends", 0.0),
        ("leftfold_store_queue_bytes", 0.0),
        ("leftfold_store_clock_skew_seconds", 0.0),
        ("leftfold_store_segments", 1.0),
        ("leftfold_index_runs", 0.0),
        ("leftfold_fold_cache_hits_total", 2.0),
        ("leftfold_fold_cache_misses_total", 2.0),
        ("leftfold_fold_cache_folds", 2.0),
    ];
    for (key, value) in figures {
        assert_eq!(now.get(key), Some(&value), "{key} in {text}");
    }
    assert_eq!(now["leftfold_store_written_bytes_total"], now["leftfold_store_group_bytes_sum"]);
    let segment = std::fs::read_dir(&folder.0).unwrap().map(Result::unwrap);
    let segment =
        segment.filter(|file| file.path().extension().is_some_and(|extension| extension == "seg"));
    let bytes: u64 = segment.map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(now["leftfold_store_disk_bytes{part=\"segments\"}"], bytes as f64);
    // One text has both, no matter what it is asked of, and the consumers only for as long as they
    // are there.
    let up = "leftfold_consumer_up{consumer=\"listener\"}";
    assert_eq!(now.get(up), None);
    let running = Runtime::new(&store).process::<Listener>().start().await.unwrap();
    for text in [running.metrics(), store.metrics()] {
        let both = samples(&text);
        assert_eq!((both[up], both["leftfold_store_events_total"]), (1.0, 7.0), "{text}");
    }
    running.stop().await.unwrap();
    assert!(!store.metrics().contains("leftfold_consumer"));
    store.close().await.unwrap();
    assert_eq!(samples(&store.metrics())["leftfold_store_up"], 0.0);
    let (log, _) = Log::open(&folder.0, Options::default()).unwrap();
    let text = Store::new(log).metrics();
    let rebuilt = samples(&text);
    assert_eq!(
        (rebuilt["leftfold_store_head_position"], rebuilt["leftfold_store_events_total"]),
        (7.0, 0.0)
    );
    assert!(
        rebuilt["leftfold_index_runs"] > 0.0
            && rebuilt["leftfold_store_disk_bytes{part=\"index\"}"] > 0.0,
        "{text}"
    );
}

#[tokio::test]
async fn a_store_in_memory_says_where_it_ends_and_nothing_of_a_disk() {
    let store = Store::memory();
    store.append(Append::of(vec![event(10)])).await.unwrap();
    let text = store.metrics();
    assert_eq!(samples(&text)["leftfold_store_head_position"], 1.0);
    assert!(!text.contains("sync") && !text.contains("disk"), "{text}");
}

/// Every metric stands in the table of the book, and nothing else does.
#[tokio::test]
async fn the_book_names_every_metric() {
    let book = include_str!("../../../../book/src/operating.md");
    let rows = book.lines().filter(|line| line.starts_with("| `leftfold_"));
    let named = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let named: Vec<&str> = named.map(|name| name.split('{').next().unwrap()).collect();
    let folder = Folder::new("metrics-book");
    let store = Store::new(Log::open(&folder.0, Options::default()).unwrap().0);
    store.aggregate::<Counter>().execute("1", ()).await.unwrap();
    let running = Runtime::new(&store).process::<Listener>().start().await.unwrap();
    let text = running.metrics();
    let mut there: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    // No projection runs here.
    there.extend(["leftfold_projection_parked", "leftfold_projection_serves"]);
    for name in &there {
        assert!(named.contains(name), "the book does not name {name}");
    }
    for name in &named {
        assert!(there.contains(name), "the book names {name}, which nothing says");
    }
    running.stop().await.unwrap();
}
