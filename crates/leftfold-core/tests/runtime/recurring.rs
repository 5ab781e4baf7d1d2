//! Commands that recur: each firing takes effect once, no matter who tries it, and how often.

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::{Clock, MADE_UP_MAX, Missed, Plan, Recurring, StartError};
use leftfold_core::store::{Invalid, Query, Read, Store, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Crash, Fault, Process, Stage, until};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BellEvent {
    Rung { at: Timestamp },
}

impl Event for BellEvent {
    const NAMESPACE: &'static str = "bell";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bell {
    rung: u32,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("it is broken")]
struct Broken;

enum Ring {
    At(Timestamp),
    Broken,
}

impl Aggregate for Bell {
    const CATEGORY: &'static str = "bell";
    type Event = BellEvent;
    type Command = Ring;
    type Refusal = Broken;

    fn apply(&mut self, _: &BellEvent) {
        self.rung += 1;
    }

    fn decide(&self, ring: &Ring) -> Result<Vec<BellEvent>, Broken> {
        match ring {
            Ring::At(at) => Ok(vec![BellEvent::Rung { at: *at }]),
            Ring::Broken => Err(Broken),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Hourly {
    missed: Missed,
    fault: Option<Faulty>,
}

#[derive(Clone, Copy, Debug)]
enum Faulty {
    Refused,
    Panics,
}

impl Recurring for Hourly {
    const NAME: &'static str = "hourly bell";
    type Target = Bell;

    fn plan(&self) -> Plan {
        Plan::every(HOUR)
    }

    fn missed(&self) -> Missed {
        self.missed
    }

    fn due(&self, at: Timestamp) -> (String, Ring) {
        let command = match self.fault {
            None => Ring::At(at),
            Some(Faulty::Refused) => Ring::Broken,
            Some(Faulty::Panics) => panic!("due is broken"),
        };
        ("1".to_owned(), command)
    }
}

/// Does what there is to do, as a program that is started for that.
async fn run(process: &Process, hourly: Hourly) {
    process.runtime().recurring(hourly).run_until_idle().await.unwrap();
}

async fn rung(store: &Store) -> Vec<Timestamp> {
    let history = store.aggregate::<Bell>().history("1", Version(1)).unwrap().all().await.unwrap();
    history
        .into_iter()
        .map(|recorded| match recorded.event {
            BellEvent::Rung { at } => at,
        })
        .collect()
}

/// The moments that were due, each once.
fn hours(from: Timestamp, count: usize) -> Vec<Timestamp> {
    let moments = std::iter::successors(Some(Plan::every(HOUR).after(from)), |moment| {
        Some(moment.plus(HOUR))
    });
    moments.take(count).collect()
}

#[tokio::test]
async fn nothing_is_made_up_for_from_before_it_was_first_started() {
    let process = Stage::new().process();
    run(&process, Hourly { missed: Missed::Each, ..Hourly::default() }).await;
    assert_eq!(rung(&process.store).await, []);
}

#[tokio::test]
async fn with_two_runtimes_and_restarts_each_moment_fires_once() {
    let stage = Stage::new();
    let began = stage.clock.now();
    let (one, other) = (stage.process(), stage.process());
    let runtimes = [
        one.runtime().recurring(Hourly::default()).start().await.unwrap(),
        other.runtime().recurring(Hourly::default()).start().await.unwrap(),
    ];
    until("the runtime has come so far", async || stage.process().store.head().position.0 == 1)
        .await;
    for count in 1..=5 {
        stage.clock.advance(HOUR);
        until("the runtime has come so far", async || {
            rung(&stage.process().store).await.len() == count
        })
        .await;
    }
    for runtime in runtimes {
        runtime.stop().await.unwrap();
    }
    run(&stage.process(), Hourly { missed: Missed::Each, ..Hourly::default() }).await;
    assert_eq!(rung(&stage.process().store).await, hours(began, 5));
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_as_it_says() {
    for (missed, made_up, of_five) in
        [(Missed::Once, 1, 4..5), (Missed::Each, 5, 0..5), (Missed::Skip, 0, 0..0)]
    {
        let stage = Stage::new();
        let began = stage.clock.now();
        let hourly = Hourly { missed, ..Hourly::default() };
        run(&stage.process(), hourly).await;
        stage.clock.advance(5 * HOUR);
        run(&stage.process(), hourly).await;
        run(&stage.process(), hourly).await;
        let due = hours(began, 6);
        assert_eq!(rung(&stage.process().store).await, due[of_five.clone()], "{missed:?}");
        // One that is due while a runtime is there was not missed.
        let process = stage.process();
        let runtime = process.runtime().recurring(hourly).start().await.unwrap();
        until("the runtime has come so far", async || {
            runtime.status().first().is_some_and(|status| status.waits_for == due[5].to_string())
        })
        .await;
        stage.clock.advance(HOUR);
        until("the runtime has come so far", async || {
            rung(&process.store).await.len() == made_up + 1
        })
        .await;
        assert_eq!(rung(&process.store).await.last(), Some(&due[5]));
        runtime.stop().await.unwrap();
    }
}

#[tokio::test]
async fn of_very_many_that_were_missed_the_last_are_made_up_for() {
    let stage = Stage::new();
    let hourly = Hourly { missed: Missed::Each, ..Hourly::default() };
    run(&stage.process(), hourly).await;
    stage.clock.advance(HOUR * (MADE_UP_MAX as u32 + 10));
    run(&stage.process(), hourly).await;
    let rung = rung(&stage.process().store).await;
    assert_eq!(
        (rung.len() as u64, rung.last().copied()),
        (MADE_UP_MAX, Some(Plan::every(HOUR).by(stage.clock.now())))
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_the_store_loses_no_firing_and_doubles_none() {
    let hourly = Hourly { missed: Missed::Each, ..Hourly::default() };
    for crash in [Crash::Before, Crash::After] {
        for call in 0.. {
            let stage = Stage::new();
            let began = stage.clock.now();
            run(&stage.process(), hourly).await;
            stage.clock.advance(2 * HOUR);
            let crashing = stage.process();
            crashing.faults.crash_at(call, crash);
            let started = tokio::time::timeout(
                Duration::from_secs(10),
                crashing.runtime().recurring(hourly).run_until_idle(),
            );
            let _ = started.await;
            let is_over = crashing.faults.calls() <= call;
            run(&stage.process(), hourly).await;
            assert_eq!(
                rung(&stage.process().store).await,
                hours(began, 2),
                "killed {crash:?} call {call}"
            );
            if is_over {
                assert!(call > 4, "{call} calls are too few");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_fails_for_good_is_recorded_and_the_next_one_comes() {
    for (fault, reason) in [(Faulty::Refused, "it is broken"), (Faulty::Panics, "due is broken")] {
        let stage = Stage::new();
        run(&stage.process(), Hourly::default()).await;
        stage.clock.advance(HOUR);
        let statuses =
            stage.process().runtime().recurring(Hourly { fault: Some(fault), ..Hourly::default() });
        let statuses = statuses.run_until_idle().await.unwrap();
        assert!(!statuses[0].stalled && statuses[0].name == Hourly::NAME, "{statuses:?}");
        let store = stage.process().store;
        let schedule = Query::everything();
        let recorded = store
            .read(Read::matching(schedule, leftfold_core::store::Position(1)))
            .all()
            .await
            .unwrap();
        let last = recorded.last().unwrap();
        assert!(String::from_utf8_lossy(&last.data).contains(reason), "{last:?}");
        stage.clock.advance(HOUR);
        run(&stage.process(), Hourly::default()).await;
        assert_eq!(rung(&store).await.len(), 1);
    }
}

/// Rings at eight on workdays.
struct Workdays;

impl Recurring for Workdays {
    const NAME: &'static str = "workday bell";
    type Target = Bell;

    fn plan(&self) -> Plan {
        Plan::cron("0 8 * * MON-FRI").expect("the expression is right")
    }

    fn missed(&self) -> Missed {
        Missed::Each
    }

    fn due(&self, at: Timestamp) -> (String, Ring) {
        ("1".to_owned(), Ring::At(at))
    }
}

#[tokio::test]
async fn a_cron_expression_fires_at_each_of_its_moments() {
    let stage = Stage::new();
    let began = stage.clock.now();
    let run =
        async || stage.process().runtime().recurring(Workdays).run_until_idle().await.unwrap();
    run().await;
    stage.clock.advance(24 * HOUR * 14);
    run().await;
    run().await;
    let mut due = Vec::new();
    let mut hour = Plan::every(HOUR).after(began);
    while hour <= stage.clock.now() {
        // 1970 began on a Thursday.
        let (days, hour_of_day) =
            (hour.as_micros() / 86_400_000_000, hour.as_micros() / 3_600_000_000 % 24);
        if hour_of_day == 8 && (days + 4) % 7 != 0 && (days + 4) % 7 != 6 {
            due.push(hour);
        }
        hour = hour.plus(HOUR);
    }
    assert_eq!(rung(&stage.process().store).await, due);
    assert_eq!(due.len(), 10);
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_waited_for() {
    let stage = Stage::new();
    run(&stage.process(), Hourly::default()).await;
    let process = stage.process();
    let runtime = process.runtime().recurring(Hourly::default()).start().await.unwrap();
    until("the runtime has come so far", async || {
        runtime.status().first().is_some_and(|status| status.waiting == 1)
    })
    .await;
    process.faults.set(Fault::ReadOnly);
    stage.clock.advance(HOUR);
    until("the runtime has come so far", async || {
        runtime.status().first().is_some_and(|status| status.stalled)
    })
    .await;
    process.faults.set(Fault::None);
    stage.clock.advance(Duration::from_secs(60));
    until("the runtime has come so far", async || rung(&stage.process().store).await.len() == 1)
        .await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn two_of_one_name_and_a_name_that_is_too_long_do_not_start() {
    struct Nameless;
    impl Recurring for Nameless {
        const NAME: &'static str = "";
        type Target = Bell;
        fn plan(&self) -> Plan {
            Plan::every(HOUR)
        }
        fn due(&self, at: Timestamp) -> (String, Ring) {
            (String::new(), Ring::At(at))
        }
    }
    let process = Stage::new().process();
    let twice =
        process.runtime().recurring(Hourly::default()).recurring(Hourly::default()).start().await;
    assert_eq!(
        twice.err(),
        Some(StartError::NameTaken {
            name: Hourly::NAME,
            types: [std::any::type_name::<Hourly>(); 2]
        })
    );
    let nameless = process.runtime().recurring(Nameless).start().await;
    let Some(StartError::Name { type_name, error: Invalid::Empty { .. }, .. }) = nameless.err()
    else {
        panic!("it starts")
    };
    assert_eq!(type_name, std::any::type_name::<Nameless>());
}
