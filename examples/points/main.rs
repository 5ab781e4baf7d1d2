//! A project has points, its tasks ask for more and give back; no point may be lost or made,
//! wherever the machine stops. The pattern is the process: it withdraws from one aggregate and
//! deposits to the other, each step recorded with what caused it, each command carried out once,
//! and a refusal answered by compensation, with a reason that people can read. Where both sides are
//! in one store and short, one decision over both does it with nothing on its way: see
//! `account.rs`.

mod account;
mod assignment;
mod project;
mod task;

use std::error::Error;

use account::{Account, deposit, transfer, withdraw};
use assignment::Assignment;
use leftfold::prelude::*;
use project::{Project, ProjectCommand};
use task::{Task, TaskCommand, TaskEvent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let runtime = Runtime::new(&store).process::<Assignment>().start().await?;
    match place.load() {
        None => {
            bank(&store).await?;
            story(&store).await?;
        }
        Some(rounds) => load(&store, rounds).await?,
    }
    runtime.stop().await?;
    store.close().await?;
    Ok(())
}

/// The smallest version.
async fn bank(store: &Store) -> Result<(), Box<dyn Error>> {
    let accounts = store.aggregate::<Account>();
    accounts.execute("ann", deposit("ann", 100)).await?;
    accounts.execute("ann", withdraw("ann", 30)).await?;
    store.decide(&transfer("ann", "bob", 50)).await?;
    match store.decide(&transfer("ann", "bob", 50)).await {
        Err(ExecuteError::Refused(no)) => println!("ann pays bob 50, and cannot pay 50 more: {no}"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

/// A task wants so many points, and reports the result.
async fn want(
    store: &Store,
    name: &str,
    points: u64,
    request: &str,
) -> Result<String, Box<dyn Error>> {
    let tasks = store.aggregate::<Task>();
    let want = TaskCommand::Want { project: "apollo".into(), points };
    // The request has an id: after a crash it can be repeated, and is answered as the first time.
    let asked =
        tasks.command(name, want).id("points", request).without_request_check().execute().await?;
    let Some(event) = asked.events.first() else {
        return Ok(format!("{name} has its {points} points"));
    };
    let is_end = |event: &TaskEvent| {
        matches!(
            event,
            TaskEvent::Received { .. }
                | TaskEvent::Given
                | TaskEvent::Kept { .. }
                | TaskEvent::Denied { .. }
        )
    };
    let mut news = store.follow::<TaskEvent>(asked.position)?;
    let end = news.find(|news| news.stream_id() == name && is_end(&news.event)).await?;
    Ok(format!("{name} {}: {}", asked_for(event), came_of_it(&end.event)))
}

fn asked_for(event: &TaskEvent) -> String {
    match event {
        TaskEvent::Asked { points, .. } => format!("asks for {points} points"),
        TaskEvent::Offered { points, .. } => format!("gives {points} points back"),
        other => format!("{other:?}"),
    }
}

fn came_of_it(end: &TaskEvent) -> String {
    match end {
        TaskEvent::Received { points } => format!("it has {points} more"),
        TaskEvent::Given => "the project has them".into(),
        TaskEvent::Kept { reason, .. } => format!("it keeps them, {reason}"),
        TaskEvent::Denied { reason } => format!("no, {reason}"),
        other => format!("{other:?}"),
    }
}

async fn story(store: &Store) -> Result<(), Box<dyn Error>> {
    let (projects, tasks) = (store.aggregate::<Project>(), store.aggregate::<Task>());
    projects.execute("apollo", ProjectCommand::Fund { points: 10 }).await?;
    println!("apollo has 10 points");
    for (step, (task, points)) in
        [("lander", 7), ("suit", 5), ("lander", 4), ("suit", 5)].into_iter().enumerate()
    {
        println!("{}", want(store, task, points, &format!("story {step}")).await?);
    }
    projects.execute("apollo", ProjectCommand::Close).await?;
    println!("apollo closes\n{}", want(store, "lander", 0, "story, in the end").await?);
    let lander = tasks.load("lander").await?.state;
    println!("lander has {} points; why: {}", lander.points, lander.failure.unwrap_or_default());
    Ok(())
}

const FUNDS: u64 = 60;
const TASKS: u64 = 10;

/// Much of the same, which can be killed and started again on the same directory: every request has
/// an id.
async fn load(store: &Store, rounds: u32) -> Result<(), Box<dyn Error>> {
    let fund = ProjectCommand::Fund { points: FUNDS };
    store
        .aggregate::<Project>()
        .command("apollo", fund)
        .id("points", "fund")
        .without_request_check()
        .execute()
        .await?;
    for round in 0..u64::from(rounds) {
        let wants: Vec<_> = (0..TASKS)
            .map(|number| {
                let (store, points) = (store.clone(), (number * 7 + round * 5) % 13);
                tokio::spawn(async move {
                    let said = want(
                        &store,
                        &format!("task{number}"),
                        points,
                        &format!("{round} {number}"),
                    )
                    .await;
                    said.map_err(|error| error.to_string())
                })
            })
            .collect();
        for wanted in wants {
            println!("{}", wanted.await??);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use account::{AccountEvent, TooLittle};
    use leftfold::store::{EventType, Read};
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use leftfold::testing::{given, given_events};
    use project::{ProjectEvent, ProjectRefusal};
    use std::time::Duration;
    use task::TaskRefusal;

    const SECOND: Duration = Duration::from_secs(1);

    async fn points(store: &Store) -> (u64, Vec<Task>) {
        let project = store.aggregate::<Project>().load("apollo").await.unwrap().state;
        let mut tasks = Vec::new();
        for number in 0..TASKS {
            tasks.push(
                store.aggregate::<Task>().load(&format!("task{number}")).await.unwrap().state,
            );
        }
        (project.points + tasks.iter().map(|task| task.points).sum::<u64>(), tasks)
    }

    async fn funded(store: &Store, points: u64) {
        store
            .aggregate::<Project>()
            .execute("apollo", ProjectCommand::Fund { points })
            .await
            .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_point_is_lost_or_made_though_many_tasks_ask_at_once() {
        for store in examples::stores().await {
            let runtime = Runtime::new(&store).process::<Assignment>().start().await.unwrap();
            load(&store, 10).await.unwrap();
            runtime.stop().await.unwrap();
            assert_eq!(points(&store).await.0, FUNDS);
            // In some round all of them together want more than there is, no matter which comes
            // first.
            let denied = Query::types([EventType::new("task.Denied").unwrap()]);
            let denied = store.read(Read::matching(denied, Position(1))).all().await.unwrap();
            assert!(!denied.is_empty(), "some ask for more than there is");
        }
    }

    #[tokio::test]
    async fn no_point_is_lost_or_made_wherever_the_program_is_killed() {
        let place = examples::killed("points", 20);
        let store = leftfold::open(place.path()).await.unwrap();
        let (total, _) = points(&store).await;
        assert_eq!(total, FUNDS);
        let asked =
            Query::types(["task.Asked", "task.Offered"].map(|name| EventType::new(name).unwrap()));
        let asked = store.read(Read::matching(asked, Position(1))).all().await.unwrap().len();
        let ends = ["task.Received", "task.Given", "task.Denied"]
            .map(|name| EventType::new(name).unwrap());
        let ended =
            store.read(Read::matching(Query::types(ends), Position(1))).all().await.unwrap().len();
        assert_eq!(asked, ended, "every assignment has one end");
    }

    // ANCHOR: explored
    #[test]
    fn no_crash_and_no_order_of_things_loses_a_point_or_makes_one() {
        const POINTS: u64 = 10;
        let total = |world: &World| {
            let projects: u64 = world.states::<Project>().map(|project| project.points).sum();
            projects + world.states::<Task>().map(|task| task.points).sum::<u64>()
        };
        let wants = |points| TaskCommand::Want { project: "apollo".into(), points };
        Explorer::new()
            .aggregate::<Project>()
            .aggregate::<Task>()
            .process::<Assignment>()
            .start(|clients| {
                clients.given::<Project>("apollo", [ProjectEvent::Funded { points: POINTS }]);
                let ann = clients.client("ann").command::<Task>("lander", wants(7));
                ann.wait(SECOND)
                    .command::<Task>("lander", wants(2))
                    .wait(SECOND)
                    .command::<Task>("lander", wants(0));
                let bob = clients.client("bob").command::<Task>("suit", wants(5));
                bob.command::<Task>("suit", TaskCommand::Cancel);
                clients
                    .client("cid")
                    .wait(SECOND)
                    .command::<Project>("apollo", ProjectCommand::Close);
            })
            .always("no point is made", move |world| total(world) <= POINTS)
            .finally("no point is lost", move |world| total(world) == POINTS)
            .finally("every assignment has ended", |world| {
                world.open_processes() == 0 && world.parked() == 0
            })
            .run(Schedules(500));
    }
    // ANCHOR_END: explored

    #[tokio::test]
    async fn a_task_that_gets_nothing_says_why() {
        for store in examples::stores().await {
            funded(&store, 3).await;
            let runtime = Runtime::new(&store).process::<Assignment>().start().await.unwrap();
            want(&store, "task1", 5, "1").await.unwrap();
            runtime.stop().await.unwrap();
            let task = store.aggregate::<Task>().load("task1").await.unwrap().state;
            let reason = ProjectRefusal::TooFew { wanted: 5, there: 3 }.to_string();
            assert_eq!((task.points, task.failure), (0, Some(reason)));
        }
    }

    #[tokio::test]
    async fn points_for_a_task_that_was_cancelled_meanwhile_go_back_even_to_a_closed_project() {
        for store in examples::stores().await {
            funded(&store, 5).await;
            let tasks = store.aggregate::<Task>();
            let asked = tasks
                .execute("task1", TaskCommand::Want { project: "apollo".into(), points: 5 })
                .await
                .unwrap();
            tasks.execute("task1", TaskCommand::Cancel).await.unwrap();
            let mut news = store.follow::<ProjectEvent>(asked.position).unwrap();
            let mut told = store.follow::<TaskEvent>(asked.position).unwrap();
            let runtime = Runtime::new(&store).process::<Assignment>().start().await.unwrap();
            news.find(|news| matches!(news.event, ProjectEvent::Withdrawn { .. })).await.unwrap();
            store.aggregate::<Project>().execute("apollo", ProjectCommand::Close).await.unwrap();
            told.find(|news| matches!(news.event, TaskEvent::Denied { .. })).await.unwrap();
            runtime.stop().await.unwrap();
            let (total, tasks) = points(&store).await;
            assert_eq!((total, tasks[1].points), (5, 0));
            assert_eq!(tasks[1].failure, Some(TaskRefusal::Cancelled.to_string()));
        }
    }

    #[tokio::test]
    async fn what_a_closed_project_does_not_take_back_the_task_keeps() {
        for store in examples::stores().await {
            funded(&store, 5).await;
            let runtime = Runtime::new(&store).process::<Assignment>().start().await.unwrap();
            want(&store, "task1", 5, "1").await.unwrap();
            store.aggregate::<Project>().execute("apollo", ProjectCommand::Close).await.unwrap();
            want(&store, "task1", 1, "2").await.unwrap();
            runtime.stop().await.unwrap();
            let task = store.aggregate::<Task>().load("task1").await.unwrap().state;
            assert_eq!((task.points, task.failure), (5, Some(ProjectRefusal::Closed.to_string())));
        }
    }

    #[test]
    fn a_task_asks_for_the_difference_and_one_at_a_time() {
        let ask = |points| TaskCommand::Want { project: "apollo".into(), points };
        let asked = |points| TaskEvent::Asked { project: "apollo".into(), points };
        let has_three = [asked(3), TaskEvent::Received { points: 3 }];
        given::<Task>(has_three.clone()).when(ask(5)).then([asked(2)]);
        given::<Task>(has_three.clone())
            .when(ask(1))
            .then([TaskEvent::Offered { project: "apollo".into(), points: 2 }]);
        given::<Task>(has_three.clone()).when(ask(3)).then_nothing();
        given::<Task>(has_three.clone().into_iter().chain([asked(2)]))
            .when(ask(4))
            .then_refused(TaskRefusal::UnderWay);
        given::<Task>(has_three)
            .when(TaskCommand::Cancel)
            .then_refused(TaskRefusal::HasPoints { points: 3 });
    }

    #[test]
    fn a_transfer_is_both_or_neither() {
        let deposited =
            |account: &str, cents| AccountEvent::Deposited { account: account.into(), cents };
        let (ann, bob) = (deposited("ann", 10), deposited("bob", 99));
        let history = given_events([("account-ann", ann), ("account-bob", bob)]);
        history
            .decide(&transfer("ann", "bob", 11))
            .then_refused(TooLittle { wanted: 11, there: 10 });
        let withdrawn = AccountEvent::Withdrawn { account: "ann".into(), cents: 10 };
        history.decide(&transfer("ann", "bob", 10)).then([withdrawn, deposited("bob", 10)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_transfers_and_withdrawals_that_race_no_more_succeed_than_there_is_money_for() {
        for store in examples::stores().await {
            let accounts = store.aggregate::<Account>();
            accounts.execute("ann", deposit("ann", 100)).await.unwrap();
            let attempts = (0..20).map(|number| {
                let (store, accounts) = (store.clone(), accounts.clone());
                tokio::spawn(async move {
                    match number % 2 {
                        0 => store.decide(&transfer("ann", "bob", 10)).await.is_ok(),
                        _ => accounts.execute("ann", withdraw("ann", 10)).await.is_ok(),
                    }
                })
            });
            let mut done = 0;
            for attempt in attempts.collect::<Vec<_>>() {
                done += u64::from(attempt.await.unwrap());
            }
            let (ann, bob) = (
                accounts.load("ann").await.unwrap().state.cents,
                accounts.load("bob").await.unwrap().state.cents,
            );
            assert_eq!((done, ann), (10, 0));
            assert!(bob <= 100, "{bob}");
        }
    }
}
