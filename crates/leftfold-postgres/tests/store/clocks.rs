//! Runtimes go by the clock of the database, whatever those of their machines show.

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy, Runtime,
};
use leftfold_core::store::{
    Append, AppendError, EventType, Holder, LeaseError, LeaseRequest, Leased, NewEvent, Position,
    Query, Read, State, Store, Timestamp,
};
use leftfold_postgres::PostgresStore;
use leftfold_proving::PostgresServer;
use serde::{Deserialize, Serialize};

use crate::support::{differing_clock, label, place, rows, with_clock_of};

const SECOND: Duration = Duration::from_secs(1);
const MINUTES: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum LampEvent {
    SwitchingAsked {},
    Switched { by: String },
}

impl Event for LampEvent {
    const NAMESPACE: &'static str = "lamp";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum LampCommand {
    Ask,
    Switch(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
struct Broken;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lamp;

impl Aggregate for Lamp {
    const CATEGORY: &'static str = "lamp";
    type Event = LampEvent;
    type Command = LampCommand;
    type Refusal = Broken;

    fn apply(&mut self, _: &LampEvent) {}

    fn decide(&self, command: &LampCommand) -> Result<Vec<LampEvent>, Broken> {
        Ok(vec![match command {
            LampCommand::Ask => LampEvent::SwitchingAsked {},
            LampCommand::Switch(by) => LampEvent::Switched { by: by.clone() },
        }])
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Switching {}

/// A switch that is within reach of no process, for one that gives no answer.
struct Switch {
    is_here: bool,
}

impl Effect for Switch {
    const NAME: &'static str = "switch";
    const INTENT: &'static str = "lamp.SwitchingAsked";
    type Intent = Switching;
    type Outcome = String;
    type Target = Lamp;

    fn policy(&self) -> Policy {
        Policy::once().deadline(SECOND).only_here(SECOND)
    }

    fn is_here(&self, _: &Switching) -> bool {
        self.is_here
    }

    async fn perform(&self, _: &Attempt<Switching>) -> Performed<String> {
        std::future::pending().await
    }

    fn report(
        &self,
        _: &Attempt<Switching>,
        _: &Conclusion<String>,
    ) -> Option<(String, LampCommand)> {
        None
    }
}

/// Returns the URL of a store whose database has another clock than the machine: one that differs
/// by `micros`.
async fn place_with_clock(name: &str, micros: i64) -> String {
    let (schema, url) = place(name);
    let clock = rows(&PostgresServer::shared().url()).await;
    clock.batch_execute(&differing_clock(&schema, micros)).await.unwrap();
    with_clock_of(&schema, &url)
}

async fn recorded_at(store: &Store, name: &str) -> Timestamp {
    let read = Read::matching(Query::everything(), Position(1));
    let events = store.read(read).all().await.unwrap();
    events.iter().rfind(|event| &*event.event_type == name).unwrap().recorded_at
}

/// A process whose clock was fast by a minute ended intents a minute early, and fired timers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_early_or_late_in_processes_whose_clocks_are_wrong_by_minutes() {
    let minutes = i64::try_from(MINUTES.as_micros()).unwrap();
    for (micros, is_here) in [(minutes, true), (-minutes, false)] {
        let url = place_with_clock("clocks", micros).await;
        let mut running = Vec::new();
        let store = Store::new(PostgresStore::open(&url).await.unwrap());
        for store in [store.clone(), Store::new(PostgresStore::open(&url).await.unwrap())] {
            let runtime = Runtime::new(&store).effect(Switch { is_here }).scheduled::<Lamp>();
            running.push(runtime.start().await.unwrap());
        }
        let now = store.now().await.unwrap();
        let differs = now.since(Timestamp::now()).max(Timestamp::now().since(now));
        assert!(differs > MINUTES / 2, "the database has a clock of its own: {differs:?}");

        let (asked, due) = ("lamp.SwitchingAsked", now.plus(SECOND));
        let later = LampCommand::Switch("the time".to_owned());
        store.scheduled::<Lamp>("later").send("1", &later, due).await.unwrap();
        let intent = store.aggregate::<Lamp>().execute("2", LampCommand::Ask).await.unwrap();
        let asked_at = recorded_at(&store, asked).await;
        let effect = EffectId(intent.position);
        let ended = running[0].effects().wait(effect, MINUTES / 10).await.unwrap().unwrap();
        let ended_at = match ended.state {
            EffectState::InDoubt { since, .. } if is_here => since,
            EffectState::NotDone { .. } if !is_here => store.head().recorded_at,
            other => panic!("{other:?}"),
        };
        let mut events = store.follow::<LampEvent>(Position::START).unwrap();
        while !matches!(events.next().await.unwrap().event, LampEvent::Switched { .. }) {}
        let switched_at = recorded_at(&store, "lamp.Switched").await;
        for (what, at, due) in
            [("the effect", ended_at, asked_at.plus(SECOND)), ("the command", switched_at, due)]
        {
            assert!(at >= due, "{what} is early: {at} and not {due}");
            assert!(at <= due.plus(MINUTES / 10), "{what} is late: {at} and not {due}");
        }
        for running in running {
            running.stop().await.unwrap();
        }
    }
}

/// Sets the clock of a store's database ahead.
async fn set_ahead(schema: &str, by: Duration) {
    let micros = i64::try_from(by.as_micros()).unwrap();
    let clock = rows(&PostgresServer::shared().url()).await;
    clock.batch_execute(&differing_clock(schema, micros)).await.unwrap();
}

async fn state_of(store: &Store, is_so: impl Fn(&State) -> bool) -> State {
    let mut status = store.status();
    let told = status.wait_for(|status| is_so(&status.state));
    tokio::time::timeout(MINUTES, told).await.expect("it is told").unwrap().state.clone()
}

/// The year stayed in the history for good, and every lease was over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_by_a_year_records_nothing_and_ends_no_lease_until_it_is_right() {
    let (schema, url) = place("jumps");
    let url = with_clock_of(&schema, &url);
    let backend = PostgresStore::open(&url).await.unwrap();
    let store = Store::new(backend.clone());
    let event = || NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let append = || store.append(Append::of(vec![event()]));
    append().await.unwrap();
    let asked = |holder| LeaseRequest::new(label("work"), holder, 12 * MINUTES);
    let (one, other) = (Holder::random(), Holder::random());
    assert!(matches!(store.lease(asked(one)).await, Ok(Leased::Held(_))));

    let year = 365 * 288 * MINUTES;
    set_ahead(&schema, year).await;
    let is_open = |state: &State| *state == State::Open;
    let doubted = state_of(&store, |state| !is_open(state)).await;
    let State::ReadOnly { detail } = doubted else { panic!("{doubted:?}") };
    assert!(detail.contains("was set ahead by 3153"), "{detail}");
    let refused = append().await.unwrap_err();
    assert!(matches!(&refused, AppendError::ReadOnly { .. }), "{refused:?}");
    let refused = store.lease(asked(other)).await.unwrap_err();
    assert!(matches!(refused, LeaseError::Unavailable { .. }), "{refused:?}");
    store.leases().await.unwrap_err();
    store.now().await.unwrap_err();
    let skew = "leftfold_store_clock_skew_seconds 3153";
    assert!(store.metrics().contains(skew), "{}", store.metrics());

    set_ahead(&schema, Duration::ZERO).await;
    state_of(&store, is_open).await;
    append().await.unwrap();
    let times = || async {
        let read = Read::matching(Query::everything(), Position(1));
        let events = store.read(read).all().await.unwrap();
        events.iter().map(|event| event.recorded_at).collect::<Vec<_>>()
    };
    let now = store.now().await.unwrap();
    assert!(times().await.iter().all(|at| at.since(now) < MINUTES));
    assert!(matches!(store.lease(asked(other)).await, Ok(Leased::HeldBy { .. })));

    // It may be believed all the same, here and by who opens the store now. The times stay, and
    // the leases that were given by them are over when the clock is right again.
    set_ahead(&schema, year).await;
    state_of(&store, |state| !is_open(state)).await;
    backend.follow_clock();
    state_of(&store, is_open).await;
    append().await.unwrap();
    let beside = Store::new(PostgresStore::open(&url).await.unwrap());
    assert!(matches!(beside.lease(asked(other)).await, Ok(Leased::Held(_))));
    assert!(times().await[2].since(now) > year / 2);
    set_ahead(&schema, Duration::ZERO).await;
    state_of(&store, |state| !is_open(state)).await;
    backend.follow_clock();
    state_of(&store, is_open).await;
    append().await.unwrap();
    assert!(times().await.is_sorted_by(|one, next| one < next), "{:?}", times().await);
    assert_eq!(store.leases().await, Ok(vec![]));
    assert!(matches!(store.lease(asked(one)).await, Ok(Leased::Held(_))));
}
