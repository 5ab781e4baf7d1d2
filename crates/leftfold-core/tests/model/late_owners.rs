//! Views that are in use before the enum that owns their types is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leftfold_core::fold::{
    Aggregate, Decided, Decision, Event, EventError, ExecuteError, LoadError, Owners, Recorded,
    Upcasters,
};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, Performed, Policy, RunningRuntime, Runtime,
};
use leftfold_core::store::{Append, Position, Query, Store};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::purse::raw;

const GUARD: Duration = Duration::from_secs(10);

/// An account once had no currency, and its opening another name before that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    Opened { cents: u32, currency: String },
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "acc";

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("acc.Begun", 1), ("acc.Opened", 1)).change(
            "acc.Opened",
            1,
            |mut data| {
                data["currency"] = "EUR".into();
                Ok(data)
            },
        )
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account(u32);

impl Aggregate for Account {
    const CATEGORY: &'static str = "acc";
    type Event = AccountEvent;
    type Command = u32;
    type Refusal = No;

    fn apply(&mut self, AccountEvent::Opened { cents, .. }: &AccountEvent) {
        self.0 += cents;
    }

    fn decide(&self, cents: &u32) -> Result<Vec<AccountEvent>, No> {
        Ok(vec![AccountEvent::Opened { cents: *cents, currency: "CHF".into() }])
    }
}

/// Views that name no owner: of the shape of today, and of one that fits the old shape, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Seen {
    #[serde(rename = "acc.Opened")]
    Opened { cents: u32, currency: String },
}

impl Event for Seen {
    const NAMESPACE: &'static str = "report";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Cents {
    #[serde(rename = "acc.Opened")]
    Opened { cents: u32 },
}

impl Event for Cents {
    const NAMESPACE: &'static str = "report";
}

struct Report;

impl Projection<Memory<Vec<(u32, String)>>> for Report {
    const NAME: &'static str = "report";
    type Event = Seen;

    async fn apply(
        &self,
        rows: &mut Vec<(u32, String)>,
        event: &Recorded<Seen>,
    ) -> Result<(), ProjectionError> {
        let Seen::Opened { cents, currency } = &event.event;
        rows.push((*cents, currency.clone()));
        Ok(())
    }
}

struct Sum;

impl Projection<Memory<u32>> for Sum {
    const NAME: &'static str = "sum";
    type Event = Cents;

    async fn apply(&self, sum: &mut u32, event: &Recorded<Cents>) -> Result<(), ProjectionError> {
        let Cents::Opened { cents } = &event.event;
        *sum += cents;
        Ok(())
    }
}

/// Asks for nothing that the test records; its target owns the events.
struct Notify;

impl Effect for Notify {
    const NAME: &'static str = "notify";
    const INTENT: &'static str = "acc.Opened";
    type Target = Account;
    type Intent = serde_json::Value;
    type Outcome = ();

    fn policy(&self) -> Policy {
        Policy::repeatable()
    }

    async fn perform(&self, _: &Attempt<Self::Intent>) -> Performed<()> {
        Performed::Done(())
    }

    fn report(&self, _: &Attempt<Self::Intent>, _: &Conclusion<()>) -> Option<(String, u32)> {
        None
    }
}

async fn caught_up(running: &RunningRuntime, store: &Store, name: &str) {
    running
        .projections()
        .wait_until(name, store.head().position, Duration::from_secs(60))
        .await
        .unwrap();
}

/// Lets everybody work until something holds; the time is a guard.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, waiting).await.expect("waited in vain");
}

async fn with_old_events(old: &[(&'static str, u32, &str)]) -> Store {
    let store = Store::memory();
    for (event_type, version, data) in old {
        store.append(Append::of(vec![raw("acc-1", event_type, *version, data)])).await.unwrap();
    }
    store
}

/// The runtime of a program starts before its first request. From the first command on every event
/// was parked, stream by stream, and stayed so when it was tried again.
#[tokio::test]
async fn a_projection_that_is_in_use_before_the_owner_of_its_events_reads_them_as_the_owner_does() {
    let store = with_old_events(&[
        ("acc.Opened", 1, r#"{"cents":1}"#),
        ("acc.Opened", 1, r#"{"cents":2}"#),
    ])
    .await;
    let rows = Memory::<Vec<(u32, String)>>::new();
    let running = Runtime::new(&store).project(Report, rows.clone()).start().await.unwrap();
    let stands = || running.projections().list().remove(0);
    // It meets the old events first, which do not have its shape.
    while stands().parked < 2 {
        tokio::task::yield_now().await;
    }
    store.aggregate::<Account>().execute("1", 3).await.unwrap();
    while stands().consumer.through < store.head().position {
        tokio::task::yield_now().await;
    }
    let expected = [(1, "EUR".to_owned()), (2, "EUR".to_owned()), (3, "CHF".to_owned())];
    assert_eq!(rows.read(Clone::clone).await, expected);
    assert!(running.projections().list().iter().all(|one| one.parked == 0));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_runtime_takes_the_owners_that_it_knows_of_into_use_before_those_who_read() {
    let store =
        with_old_events(&[("acc.Begun", 1, r#"{"cents":1}"#), ("acc.Opened", 1, r#"{"cents":2}"#)])
            .await;
    let rows = Memory::<Vec<(u32, String)>>::new();
    Runtime::new(&store)
        .project(Report, rows.clone())
        .effect(Notify)
        .run_until_idle()
        .await
        .unwrap();
    assert_eq!(rows.read(Clone::clone).await, [(1, "EUR".to_owned()), (2, "EUR".to_owned())]);
}

#[tokio::test]
async fn whoever_follows_a_view_finds_what_the_owner_that_came_late_finds() {
    let store = Store::memory();
    let mut view = store.follow::<Seen>(Position::START).unwrap();
    let waits = tokio::spawn(async move { (view.next().await, view.next().await) });
    tokio::task::yield_now().await;
    let accounts = store.aggregate::<Account>();
    store.append(Append::of(vec![raw("acc-1", "acc.Begun", 1, r#"{"cents":1}"#)])).await.unwrap();
    accounts.execute("1", 2).await.unwrap();
    let (first, second) = waits.await.unwrap();
    assert_eq!(first.unwrap().event, Seen::Opened { cents: 1, currency: "EUR".into() });
    assert_eq!(second.unwrap().event, Seen::Opened { cents: 2, currency: "CHF".into() });
}

/// Events read in the old shape, or passed over under an old name, are not taken back by reading
/// on.
#[tokio::test]
async fn whoever_has_read_otherwise_than_the_late_owner_does_is_told_to_build_anew() {
    let opened = ("acc.Opened", 1, r#"{"cents":1}"#);
    for old in [
        vec![opened],
        vec![("acc.Begun", 1, r#"{"cents":1}"#), ("acc.Opened", 2, r#"{"cents":1,"currency":""}"#)],
    ] {
        let store = with_old_events(&old).await;
        let mut view = store.follow::<Cents>(Position::START).unwrap();
        let read = view.next().await;
        store.aggregate::<Account>().execute("1", 2).await.unwrap();
        if read.is_ok() {
            let told = view.next().await;
            assert!(
                matches!(
                    &told,
                    Err(LoadError::Event(EventError::Claimed { what, .. })) if what.contains("rebuild")
                ),
                "{told:?}"
            );
        }
    }
    let store = with_old_events(&[opened]).await;
    let sum = Memory::<u32>::new();
    let running = Runtime::new(&store).project(Sum, sum.clone()).start().await.unwrap();
    caught_up(&running, &store, "sum").await;
    store.aggregate::<Account>().execute("1", 2).await.unwrap();
    let says = || running.status().into_iter().find(|status| status.name == "sum").unwrap();
    while !says().needs_person {
        tokio::task::yield_now().await;
    }
    assert!(says().waits_for.contains("a rebuild") && says().parked == 0, "{:?}", says());
    running.stop().await.unwrap();
}

/// Nothing was recorded since, and nothing may be for a long time.
#[tokio::test]
async fn an_idle_projection_tries_what_it_has_parked_as_soon_as_the_owner_is_in_use() {
    let store = with_old_events(&[
        ("acc.Opened", 1, r#"{"cents":1}"#),
        ("acc.Opened", 1, r#"{"cents":2}"#),
    ])
    .await;
    let rows = Memory::<Vec<(u32, String)>>::new();
    let running = Runtime::new(&store).project(Report, rows.clone()).start().await.unwrap();
    let parked = || {
        (running.status()[0].parked, running.status()[0].needs_person, running.status()[0].through)
    };
    until(|| parked() == (2, true, Position(2))).await;
    let _accounts = store.aggregate::<Account>();
    until(|| parked() == (0, false, Position(2))).await;
    assert_eq!(rows.read(Clone::clone).await, [(1, "EUR".to_owned()), (2, "EUR".to_owned())]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_follows_finds_an_older_name_as_soon_as_the_owner_is_in_use() {
    let store = with_old_events(&[("acc.Begun", 1, r#"{"cents":1}"#)]).await;
    let mut view = store.follow::<Seen>(Position::START).unwrap();
    let waits = tokio::spawn(async move { view.next().await });
    tokio::task::yield_now().await;
    let _accounts = store.aggregate::<Account>();
    let found = timeout(GUARD, waits).await.expect("it waits in silence");
    assert_eq!(found.unwrap().unwrap().event, Seen::Opened { cents: 1, currency: "EUR".into() });
}

/// Owns what once had another name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CardEvent {
    Issued { cents: u32 },
}

impl Event for CardEvent {
    const NAMESPACE: &'static str = "card";

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("card.Printed", 1), ("card.Issued", 1))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Card;

impl Aggregate for Card {
    const CATEGORY: &'static str = "card";
    type Event = CardEvent;
    type Command = ();
    type Refusal = No;

    fn apply(&mut self, _: &CardEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<CardEvent>, No> {
        Err(No)
    }
}

/// A view of types of two owners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Both {
    #[serde(rename = "acc.Opened")]
    Opened { cents: u32 },
    #[serde(rename = "card.Issued")]
    Issued { cents: u32 },
}

impl Event for Both {
    const NAMESPACE: &'static str = "report";
}

struct Total;

impl Projection<Memory<u32>> for Total {
    const NAME: &'static str = "total";
    type Event = Both;

    async fn apply(&self, sum: &mut u32, event: &Recorded<Both>) -> Result<(), ProjectionError> {
        let (Both::Opened { cents } | Both::Issued { cents }) = &event.event;
        *sum += cents;
        Ok(())
    }
}

/// Events passed over before the first of two owners came were forgotten when the second one came.
#[tokio::test]
async fn who_passed_over_an_event_is_told_so_whenever_its_owner_comes() {
    let store = with_old_events(&[("card.Printed", 1, r#"{"cents":1}"#)]).await;
    let sum = Memory::<u32>::new();
    let running = Runtime::new(&store).project(Total, sum.clone()).start().await.unwrap();
    caught_up(&running, &store, "total").await;
    store.aggregate::<Account>().execute("2", 4).await.unwrap();
    caught_up(&running, &store, "total").await;
    assert_eq!(sum.read(|sum| *sum).await, 4);
    let _cards = store.aggregate::<Card>();
    until(|| running.status()[0].needs_person).await;
    let says = running.status().remove(0);
    assert!(
        says.waits_for.contains("a rebuild") && says.waits_for.contains("card.Printed"),
        "{says:?}"
    );
    running.stop().await.unwrap();
}

/// Number of times that the view below was asked for its owners: once each time that its schema is
/// made.
static MADE: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Counted {
    #[serde(rename = "acc.Opened")]
    Opened { cents: u32 },
}

impl Event for Counted {
    const NAMESPACE: &'static str = "counted";

    fn owners() -> Owners {
        MADE.fetch_add(1, Ordering::Relaxed);
        Owners::unnamed()
    }
}

/// Finds out how many cents there are.
struct Ask;

impl Decision for Ask {
    type Event = Counted;
    type State = u32;
    type Refusal = Has;

    fn query(&self) -> Query {
        Query::category("acc")
    }

    fn apply(&self, state: &mut u32, Counted::Opened { cents }: &Counted) {
        *state += cents;
    }

    fn decide(&self, state: &u32) -> Result<Decided<Counted>, Has> {
        Err(Has(*state))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("there are {0} cents")]
struct Has(u32);

/// Each decision and each follower made the schema of its view again, until there was an owner.
#[tokio::test]
async fn a_view_without_an_owner_is_made_once_for_a_store_and_once_more_when_the_owner_comes() {
    let store = with_old_events(&[("acc.Opened", 1, r#"{"cents":1}"#)]).await;
    let asked = async |expected: u32| {
        let found = store.decide(&Ask).await.unwrap_err();
        assert!(
            matches!(found, ExecuteError::Refused(Has(cents)) if cents == expected),
            "{found:?}"
        );
        store.follow::<Counted>(Position::START).unwrap().next().await.unwrap().event
    };
    asked(1).await;
    let first = MADE.load(Ordering::Relaxed);
    let mut reads = store.follow::<Counted>(Position::START).unwrap();
    let mut unread = store.follow::<Counted>(Position::START).unwrap();
    reads.next().await.unwrap();
    for _ in 0..20 {
        asked(1).await;
    }
    assert_eq!(MADE.load(Ordering::Relaxed), first);
    store.append(Append::of(vec![raw("acc-2", "acc.Begun", 1, r#"{"cents":2}"#)])).await.unwrap();
    let _accounts = store.aggregate::<Account>();
    // The next ones read as the owner does, and what one reader has read is none of another's
    // concern.
    asked(3).await;
    assert!(matches!(reads.next().await, Err(LoadError::Event(EventError::Claimed { .. }))));
    assert_eq!(unread.next().await.unwrap().event, Counted::Opened { cents: 1 });
    let with_owner = MADE.load(Ordering::Relaxed);
    for _ in 0..20 {
        asked(3).await;
    }
    assert_eq!(MADE.load(Ordering::Relaxed), with_owner);
}
