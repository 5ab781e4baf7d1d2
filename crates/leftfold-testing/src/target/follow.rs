//! Projections that follow a log into the target: what is parked, rebuilt, and gone on with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{
    BATCH_EVENTS_MAX, ParkedState, Projection, ProjectionError, Rows, Target,
};
use leftfold_core::runtime::{Clock, RunningRuntime, Runtime, Sleep};
use leftfold_core::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, Read, Store, StreamName, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Subject;
use super::stage::{TargetFixture, place};

/// Time in which a projection must reach an event.
const PATIENCE: Duration = Duration::from_secs(30);
/// Colour that the projection refuses: no row is made of it.
const POISON: &str = "poison";
/// A row that only the first version has.
const MARK: &str = "made by the first version";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CatEvent {
    Seen { name: String, colour: String },
    Left { name: String },
}

impl Event for CatEvent {
    const NAMESPACE: &'static str = "cat";
}

/// The colour in which each cat was seen last, while it is there.
struct Cats<S, const VERSION: u32> {
    subject: S,
    applied: Arc<Mutex<Vec<Position>>>,
}

impl<S: Subject + Send + Clone + 'static, const VERSION: u32> Projection<S::Target>
    for Cats<S, VERSION>
{
    const NAME: &'static str = "cats";
    const VERSION: u32 = VERSION;
    type Event = CatEvent;

    async fn set_up(&self, rows: &mut Rows<S::Target>) -> Result<(), ProjectionError> {
        self.subject.set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Rows<S::Target>,
        event: &Recorded<CatEvent>,
    ) -> Result<(), ProjectionError> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).push(event.envelope.position);
        match &event.event {
            CatEvent::Seen { colour, .. } if colour == POISON => {
                Err(ProjectionError::message("a colour that is poison"))
            }
            CatEvent::Seen { name, colour } => {
                if VERSION == 1 {
                    self.subject.write(rows, MARK, "here").await?;
                }
                self.subject.write(rows, name, colour).await
            }
            CatEvent::Left { name } => self.subject.remove(rows, name).await,
        }
    }
}

/// Time as it passes for the test, which may be virtual.
#[derive(Debug)]
struct TestTime(Timestamp, Instant);

impl Clock for TestTime {
    fn now(&self) -> Timestamp {
        self.0.plus(self.1.elapsed())
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(tokio::time::sleep_until(Instant::now() + moment.since(self.now())))
    }
}

/// A log, and a target that follows it.
struct FollowedLog<'s, S: Subject> {
    stage: TargetFixture<'s, S>,
    store: Store,
    applied: Arc<Mutex<Vec<Position>>>,
}

impl<'s, S: Subject + Send + Clone + 'static> FollowedLog<'s, S> {
    async fn new(subject: &'s S) -> Self {
        Self {
            stage: TargetFixture::new(subject).await,
            store: Store::memory(),
            applied: Arc::default(),
        }
    }

    async fn append(&self, event: &CatEvent) -> Position {
        let (kind, name) = match event {
            CatEvent::Seen { name, .. } => ("cat.Seen", name),
            CatEvent::Left { name } => ("cat.Left", name),
        };
        let Ok(serde_json::Value::Object(tagged)) = serde_json::to_value(event) else {
            panic!("an event is an object")
        };
        let data = tagged.into_iter().next().expect("the variant").1.to_string();
        let event_type = EventType::new(kind.to_owned()).expect("a type");
        let stream = StreamName::of("cat", name).expect("a name");
        match self
            .store
            .append(Append::of(vec![NewEvent::new(event_type, data).in_stream(stream)]))
            .await
        {
            Ok(Outcome::Appended(appended)) => appended.last(),
            other => panic!("an event was answered {other:?}"),
        }
    }

    async fn seen(&self, name: &str, colour: &str) -> Position {
        self.append(&CatEvent::Seen { name: name.to_owned(), colour: colour.to_owned() }).await
    }

    /// Some sightings of a few cats, of which every fifth is a departure.
    async fn some(&self, count: usize) -> Position {
        let mut last = self.store.head().position;
        for number in 0..count {
            let name = format!("cat {}", number % 7);
            last = match number % 5 {
                4 => self.append(&CatEvent::Left { name }).await,
                _ => self.seen(&name, &format!("colour {number}")).await,
            };
        }
        last
    }

    async fn start<const VERSION: u32>(&self) -> RunningRuntime {
        let cats = Cats::<S, VERSION> {
            subject: self.stage.subject.clone(),
            applied: Arc::clone(&self.applied),
        };
        let clock = Arc::new(TestTime(Timestamp::now(), Instant::now()));
        let runtime =
            Runtime::new(&self.store).clock(clock).project(cats, self.stage.target.clone());
        let started = runtime.start().await;
        started.expect("the projection starts")
    }

    async fn reached(running: &RunningRuntime, position: Position) {
        let reached = running.projections().wait_until("cats", position, PATIENCE).await;
        assert!(reached.is_ok(), "{reached:?}");
    }

    async fn stop(running: RunningRuntime) {
        let stopped = running.stop().await;
        assert!(stopped.is_ok(), "{stopped:?}");
    }

    /// Compares what readers see with a fold of the log.
    async fn assert_is_the_fold(&self, when: &str) {
        let events = self
            .store
            .read(Read::matching(Query::all(), Position(1)))
            .all()
            .await
            .expect("the log can be read");
        let mut fold = BTreeMap::new();
        for event in events {
            let data: BTreeMap<String, String> =
                serde_json::from_slice(&event.data).expect("an event of cats");
            fold.insert(data["name"].clone(), data.get("colour").cloned());
        }
        for (name, colour) in fold {
            let served = self.stage.served("cats", &name).await;
            assert_eq!(served, colour.filter(|colour| colour != POISON), "{name} {when}");
        }
    }
}

/// An event that cannot be applied is parked with its position, its key and the reason; others of
/// the same and of other keys go on.
pub async fn a_poison_event_is_parked_and_others_go_on<S: Subject + Send + Clone + 'static>(
    subject: &S,
) {
    let log = FollowedLog::new(subject).await;
    log.seen("tom", "grey").await;
    let poison = log.seen("kit", POISON).await;
    log.seen("kit", "black").await;
    let last = log.seen("mia", "red").await;
    let running = log.start::<1>().await;
    FollowedLog::<S>::reached(&running, last).await;
    let parked = running.projections().parked("cats").expect("it is known");
    let told: Vec<_> = parked.iter().map(|item| (item.position, &*item.key)).collect();
    assert_eq!(told, [(poison, "cat-kit"), (poison.next(), "cat-kit")]);
    let ParkedState::Failed { error, .. } = &parked[0].state else {
        panic!("{parked:?} is not parked for its failure")
    };
    assert!(error.contains("poison"), "the reason is {error}");
    for (name, colour) in [("tom", Some("grey")), ("kit", None), ("mia", Some("red"))] {
        assert_eq!(log.stage.served("cats", name).await.as_deref(), colour, "{name}");
    }
    FollowedLog::<S>::stop(running).await;
}

/// A version that is rebuilt has the rows that the replay makes, and no other; built twice it is
/// the same; and a log without events is no error.
pub async fn a_rebuild_has_what_the_replay_makes_and_nothing_else<
    S: Subject + Send + Clone + 'static,
>(
    subject: &S,
) {
    let empty = FollowedLog::new(subject).await;
    FollowedLog::<S>::stop(empty.start::<1>().await).await;
    let log = FollowedLog::new(subject).await;
    let last = log.some(12).await;
    let running = log.start::<1>().await;
    FollowedLog::<S>::reached(&running, last).await;
    assert_eq!(log.stage.served("cats", MARK).await.as_deref(), Some("here"));
    FollowedLog::<S>::stop(running).await;
    for _ in 0..2 {
        let running = log.start::<2>().await;
        FollowedLog::<S>::reached(&running, last).await;
        assert_eq!(
            log.stage.served("cats", MARK).await,
            None,
            "a row that the replay does not make"
        );
        log.assert_is_the_fold("after a rebuild").await;
        FollowedLog::<S>::stop(running).await;
    }
}

/// Events appended while a version is built are in it when it serves.
pub async fn a_rebuild_takes_in_what_is_appended_meanwhile<S: Subject + Send + Clone + 'static>(
    subject: &S,
) {
    let log = FollowedLog::new(subject).await;
    let last = log.some(300).await;
    let running = log.start::<1>().await;
    FollowedLog::<S>::reached(&running, last).await;
    FollowedLog::<S>::stop(running).await;
    let running = log.start::<2>().await;
    let last = log.some(200).await;
    FollowedLog::<S>::reached(&running, last).await;
    log.assert_is_the_fold("after a rebuild during which events were appended").await;
    FollowedLog::<S>::stop(running).await;
}

/// Whenever a reader has waited for an event, the rows are the fold up to it.
pub async fn rows_are_the_fold_after_every_event<S: Subject + Send + Clone + 'static>(subject: &S) {
    let log = FollowedLog::new(subject).await;
    let running = log.start::<1>().await;
    for number in 0..30 {
        let name = format!("cat {}", number % 4);
        let position = match number % 3 {
            2 => log.append(&CatEvent::Left { name }).await,
            _ => log.seen(&name, &format!("colour {number}")).await,
        };
        FollowedLog::<S>::reached(&running, position).await;
        log.assert_is_the_fold(&format!("after event {position}")).await;
    }
    FollowedLog::<S>::stop(running).await;
}

/// However many events come at once, the rows are the same: live in groups of many sizes, and
/// rebuilt in batches as large as they get.
pub async fn rows_are_the_same_for_batches_of_every_size<S: Subject + Send + Clone + 'static>(
    subject: &S,
) {
    let log = FollowedLog::new(subject).await;
    let mut last = log.some(2).await;
    let running = log.start::<1>().await;
    for size in [1, 2, 3, 7, 31, 100, 320, BATCH_EVENTS_MAX - 1] {
        last = log.some(size).await;
        FollowedLog::<S>::reached(&running, last).await;
        log.assert_is_the_fold(&format!("after {size} events at once")).await;
    }
    FollowedLog::<S>::stop(running).await;
    let running = log.start::<2>().await;
    FollowedLog::<S>::reached(&running, last).await;
    log.assert_is_the_fold("after a rebuild in the largest batches").await;
    FollowedLog::<S>::stop(running).await;
}

/// A runtime that stops in order and starts again goes on behind the last event, and repeats none.
pub async fn each_event_goes_in_once_over_orderly_restarts<S: Subject + Send + Clone + 'static>(
    subject: &S,
) {
    if !S::Target::DURABLE {
        return;
    }
    let log = FollowedLog::new(subject).await;
    for _ in 0..3 {
        let running = log.start::<1>().await;
        for _ in 0..20 {
            let position = log.some(1).await;
            FollowedLog::<S>::reached(&running, position).await;
        }
        FollowedLog::<S>::stop(running).await;
    }
    let applied = log.applied.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(applied, (1..=60).map(Position).collect::<Vec<_>>());
    assert!(log.stage.row(&place("cats", 1), "cat 0").await.is_some());
}
