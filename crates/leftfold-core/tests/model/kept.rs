//! What is kept of a fold between commands: it hides no conflict, heals, and survives commands that
//! fail or go away.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use leftfold_core::fold::{Aggregate, Event, EventError, ExecuteError, LoadError};
use leftfold_core::store::{Append, AppendError, MemoryBackend, Version};
use serde::{Deserialize, Serialize};

use crate::probe::{Probe, now};
use crate::purse::{Do, Purse, raw, refused, rival_takes};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PageEvent {
    Written { text: String },
}

impl Event for PageEvent {
    const NAMESPACE: &'static str = "page";
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct No;

/// An aggregate that counts how often its events are applied, for the test that it is made for.
macro_rules! counted {
    ($name:ident, $applied:ident) => {
        static $applied: AtomicUsize = AtomicUsize::new(0);
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct $name {
            bytes: usize,
        }
        impl Aggregate for $name {
            const CATEGORY: &'static str = "page";
            type Event = PageEvent;
            type Command = String;
            type Refusal = No;
            fn apply(&mut self, PageEvent::Written { text }: &PageEvent) {
                $applied.fetch_add(1, Ordering::Relaxed);
                self.bytes += text.len();
            }
            fn decide(&self, text: &String) -> Result<Vec<PageEvent>, No> {
                match text.as_str() {
                    "no" => Err(No),
                    "panic" => panic!("the ink is out"),
                    _ => Ok(vec![PageEvent::Written { text: text.clone() }]),
                }
            }
        }
    };
}

const HISTORY: usize = 200;
/// Room for what each command has to apply itself.
const FEW: usize = 10;

async fn history(probe: &Probe) {
    let events = vec![raw("page-1", "page.Written", 1, r#"{"text":"x"}"#); HISTORY];
    probe.store().append(Append::of(events)).await.unwrap();
}

fn poll_once(command: impl Future) -> bool {
    pin!(command).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// A command that the store, or the domain, refused threw the fold away: the next one folded the
/// whole history.
#[tokio::test]
async fn a_command_that_fails_costs_the_next_one_nothing() {
    counted!(Page, APPLIED);
    let probe = Probe::default();
    history(&probe).await;
    let pages = probe.store().aggregate::<Page>();
    let write = async |text: &str| pages.execute("1", text.to_owned()).await;
    write("x").await.unwrap();
    APPLIED.store(0, Ordering::Relaxed);
    assert_eq!(write("no").await, Err(ExecuteError::Refused(No)));
    let large = write(&"x".repeat(17 << 20)).await;
    assert!(matches!(large, Err(ExecuteError::Append(AppendError::Invalid(_)))), "{large:?}");
    let panicked = write("panic").await;
    let is_told = |error: &EventError| {
        matches!(
            error,
            EventError::Panicked { place: "decide", detail, .. } if detail == "the ink is out"
        )
    };
    assert!(matches!(&panicked, Err(ExecuteError::Event(error)) if is_told(error)), "{panicked:?}");
    probe.fail_next(AppendError::Busy { waiting: 1 });
    assert_eq!(write("x").await, Err(ExecuteError::Append(AppendError::Busy { waiting: 1 })));
    probe.refuse_conditions(true);
    assert!(matches!(write("x").await, Err(ExecuteError::Contended { .. })));
    probe.refuse_conditions(false);
    write("x").await.unwrap();
    // Each decision applies what it decided to a state of its own.
    let applied = APPLIED.load(Ordering::Relaxed);
    assert!(applied < 50, "{applied} events were applied");
    assert_eq!(pages.load("1").await.unwrap().state.bytes, HISTORY + 2);
}

#[tokio::test]
async fn a_command_that_is_dropped_at_any_await_costs_the_next_one_nothing() {
    counted!(Page, APPLIED);
    let probe = Probe::default();
    history(&probe).await;
    let pages = probe.store().aggregate::<Page>();
    pages.execute("1", "x".to_owned()).await.unwrap();
    APPLIED.store(0, Ordering::Relaxed);
    let command =
        |text: &str| pages.command("1", text.to_owned()).id("test", text).without_request_check();
    // While it waits for its place.
    probe.withhold();
    let mut first = Box::pin(pages.execute("1", "x".to_owned()));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(!poll_once(pages.execute("1", "y".to_owned())));
    probe.answer();
    first.await.unwrap();
    // While its id is looked for, while what is new is read, and while the state is loaded.
    probe.withhold_reads();
    assert!(!poll_once(command("z").execute()));
    assert!(!poll_once(pages.execute("1", "no".to_owned())));
    assert!(!poll_once(pages.load("1")));
    probe.answer();
    // While it is written: it took effect, and the fold is one event behind.
    probe.withhold();
    assert!(!poll_once(command("w").execute()));
    probe.answer();
    assert_eq!(
        pages.execute("1", "x".to_owned()).await.unwrap().version,
        Version(HISTORY as u64 + 4)
    );
    let applied = APPLIED.load(Ordering::Relaxed);
    assert!(applied <= FEW, "{applied} events were applied");
}

#[tokio::test]
async fn a_kept_fold_hides_no_conflict() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    rival_takes("1", 5)(&probe.memory());
    let stale = purses.command("1", Do::Put(1)).expecting(Version(1)).execute().await;
    assert!(matches!(stale, Err(ExecuteError::Stale { actual: Version(2), .. })), "{stale:?}");
    probe.rival(rival_takes("1", 0));
    assert_eq!(purses.execute("1", Do::Take(1)).await, refused(0));
    assert_eq!(purses.execute("1", Do::Put(2)).await.unwrap().version, Version(4));
}

/// A fold that knew more than its stream, since an older store was put in place, was in conflict
/// forever.
#[tokio::test]
async fn a_kept_fold_that_is_ahead_of_its_stream_is_folded_anew() {
    let filled = |coins: u64| {
        let memory = MemoryBackend::new();
        let event = raw("purse-1", "purse.Put", 1, &format!(r#"{{"coins":{coins}}}"#));
        use leftfold_core::store::Backend;
        now(memory.append(Append::of(vec![event]))).unwrap();
        memory
    };
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    for _ in 0..5 {
        purses.execute("1", Do::Put(1)).await.unwrap();
    }
    probe.replace(filled(2));
    assert_eq!(purses.execute("1", Do::Put(1)).await.unwrap().version, Version(2));
    purses.execute("1", Do::Put(1)).await.unwrap();
    probe.replace(filled(2));
    assert_eq!(
        purses.execute("1", Do::Take(3)).await,
        refused(2),
        "a refusal from what was kept is not believed"
    );
    purses.execute("1", Do::Put(1)).await.unwrap();
    probe.replace(filled(7));
    let loaded = purses.load("1").await.unwrap();
    assert_eq!((loaded.state.coins, loaded.version), (7, Version(1)));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bomb;

impl Default for Bomb {
    fn default() -> Self {
        panic!("no beginning")
    }
}

impl Aggregate for Bomb {
    const CATEGORY: &'static str = "bomb";
    type Event = PageEvent;
    type Command = ();
    type Refusal = No;
    fn apply(&mut self, _: &PageEvent) {}
    fn decide(&self, (): &()) -> Result<Vec<PageEvent>, No> {
        Ok(vec![])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Fuse {
    lit: bool,
}

impl Aggregate for Fuse {
    const CATEGORY: &'static str = "page";
    type Event = PageEvent;
    type Command = ();
    type Refusal = No;
    fn apply(&mut self, _: &PageEvent) {
        self.lit = true;
        panic!("it burns");
    }
    fn decide(&self, (): &()) -> Result<Vec<PageEvent>, No> {
        Ok(vec![])
    }
}

#[tokio::test]
async fn a_state_whose_default_or_apply_panics_is_an_error_and_nothing_of_it_is_kept() {
    let probe = Probe::default();
    history(&probe).await;
    let store = probe.store();
    let told = |error: EventError| match error {
        EventError::Panicked { place, detail, .. } => (place, detail),
        other => panic!("{other}"),
    };
    for _ in 0..2 {
        let Err(LoadError::Event(error)) = store.aggregate::<Bomb>().load("1").await else {
            panic!("there is no state")
        };
        assert_eq!(told(error), ("default()", "no beginning".to_owned()));
        let Err(ExecuteError::Event(error)) = store.aggregate::<Fuse>().execute("1", ()).await
        else {
            panic!("it burns")
        };
        assert_eq!(told(error), ("apply", "it burns".to_owned()));
    }
}
