//! A city has companies, a company has employees, thousands of each; what is switched off takes
//! everything below it with it, and what is switched on again gives each its own setting back. The
//! patterns are four: a process that commands each child, a read model that says what is effective,
//! a decision that also reads the parent, and the effective value passed in; each file says when it
//! is the right one. Leave them all where a parent and its few children always change together:
//! then they are one aggregate.
//!
//! `cargo run --release --example organization -- measure 100000` tells what a cascade to so many
//! children costs.

mod cascade;
mod domain;
mod effective;
mod measure;
mod passed;
mod reading;

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use cascade::{CityCascade, CompanyCascade};
use domain::{
    By, City, CityCommand, Company, CompanyCommand, Employee, EmployeeCommand, EmployeeEvent,
};
use effective::{Directory, Organization};
use leftfold::prelude::*;
use leftfold::runtime::RunningRuntime;
use leftfold::runtime::projection::Memory;
use reading::ClockIn;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, companies] = arguments.as_slice()
        && word == "measure"
    {
        return measure::measure(companies.parse()?).await;
    }
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let directory = Memory::<Directory>::new();
    let runtime = start(&store, &directory).await?;
    match place.load() {
        None => story(&store, &runtime, &directory).await?,
        Some(companies) => load(&store, companies).await?,
    }
    runtime.stop().await?;
    store.close().await?;
    Ok(())
}

async fn start(store: &Store, directory: &Memory<Directory>) -> Result<RunningRuntime, Failure> {
    let runtime = Runtime::new(store).process::<CityCascade>().process::<CompanyCascade>();
    Ok(runtime.project(Organization, directory.clone()).start().await?)
}

const COMPANIES: u32 = 1_000;
const EMPLOYEES: u32 = 3;
/// Event by which the cascade switches an employee off.
const OFF: EmployeeEvent = EmployeeEvent::Disabled { by: By::Parent };
const ON: EmployeeEvent = EmployeeEvent::Enabled { by: By::Parent };

async fn story(
    store: &Store,
    runtime: &RunningRuntime,
    directory: &Memory<Directory>,
) -> Result<(), Failure> {
    let (cities, companies) = (store.aggregate::<City>(), store.aggregate::<Company>());
    found(store, "lyon", 0..COMPANIES).await?;
    companies.execute("7", CompanyCommand::Disable { by: By::Itself }).await?;
    println!(
        "lyon has {COMPANIES} companies with {EMPLOYEES} employees each; company 7 is disabled"
    );

    let began = Instant::now();
    let disabled = cities.execute("lyon", CityCommand::Disable).await?;
    let read = disabled.position;
    runtime.projections().wait_until("organization", read, Duration::from_secs(60)).await?;
    let row = directory.read(|directory| directory.row("employee-8.0")).await;
    let (own, effective) = (row.enabled, row.enabled_effective);
    println!(
        "lyon is disabled\n(b) after {:?} employee 8.0 is enabled: {own}, effective: {effective}",
        began.elapsed()
    );

    let clock_in = ClockIn { employee: "8.0".into(), company: "8".into(), city: "lyon".into() };
    println!(
        "(c) at once employee 8.0 may not clock in: {}",
        refusal(store.decide(&clock_in).await)?
    );
    let passed = passed::clock_in(store, directory, "8.0", "8").await;
    println!("(d) nor where the caller looked into the read model: {}", refusal(passed)?);

    all_of(store, OFF, employees(0..COMPANIES), disabled.position).await?;
    println!(
        "(a) after {:?} each of {} employees knows it itself",
        began.elapsed(),
        COMPANIES * EMPLOYEES
    );

    let enabled = cities.execute("lyon", CityCommand::Enable).await?;
    let others = employees(0..COMPANIES)
        .into_iter()
        .filter(|employee| !employee.starts_with("7."))
        .collect();
    all_of(store, ON, others, enabled.position).await?;
    runtime
        .projections()
        .wait_until("organization", store.head().position, Duration::from_secs(60))
        .await?;
    let seven = directory.read(|directory| directory.row("company-7").enabled_effective).await;
    println!("lyon is enabled again, and everything in it; company 7: {seven}");
    store.decide(&clock_in).await?;
    println!("employee 8.0 clocks in");
    Ok(())
}

fn refusal<E, R: std::error::Error + Send + Sync + 'static>(
    done: Result<Executed<E>, ExecuteError<R>>,
) -> Result<R, Failure> {
    match done {
        Ok(_) => Err("it is not refused".into()),
        Err(error) => Ok(error.into_refusal()?),
    }
}

fn employees(companies: std::ops::Range<u32>) -> BTreeSet<String> {
    companies
        .flat_map(|company| (0..EMPLOYEES).map(move |employee| format!("{company}.{employee}")))
        .collect()
}

/// Companies with their employees, all at the same time.
async fn found(store: &Store, city: &str, companies: std::ops::Range<u32>) -> Result<(), Failure> {
    let mut founding = JoinSet::new();
    for company in companies.clone() {
        let (all, city, id) = (store.aggregate::<Company>(), city.to_owned(), company.to_string());
        founding.spawn(async move {
            let create = all.command(&id, CompanyCommand::Create { city });
            create
                .id("organization", &format!("company {id}"))
                .without_request_check()
                .execute()
                .await
                .map(drop)
                .map_err(Failure::from)
        });
    }
    for id in employees(companies) {
        let all = store.aggregate::<Employee>();
        let company = id.split_once('.').map_or("", |(company, _)| company).to_owned();
        founding.spawn(async move {
            let create = all.command(&id, EmployeeCommand::Create { company });
            create
                .id("organization", &format!("employee {id}"))
                .without_request_check()
                .execute()
                .await
                .map(drop)
                .map_err(Failure::from)
        });
    }
    while let Some(founded) = founding.join_next().await {
        founded??;
    }
    Ok(())
}

/// Waits until the cascade has done this to each of these employees, after a position.
async fn all_of(
    store: &Store,
    done: EmployeeEvent,
    mut waiting: BTreeSet<String>,
    after: Position,
) -> Result<(), Failure> {
    let mut news = store.follow::<EmployeeEvent>(after)?;
    while !waiting.is_empty() {
        waiting.remove(news.find(|news| news.event == done).await?.stream_id());
    }
    Ok(())
}

/// Half of the companies are there when the city is disabled, the others are founded while that
/// goes on.
async fn load(store: &Store, companies: u32) -> Result<(), Failure> {
    found(store, "lyon", 0..companies / 2).await?;
    println!("the first half is there");
    let (others, cities) = (store.clone(), store.aggregate::<City>());
    let founding =
        tokio::spawn(async move { found(&others, "lyon", companies / 2..companies).await });
    cities
        .command("lyon", CityCommand::Disable)
        .id("organization", "disable")
        .without_request_check()
        .execute()
        .await?;
    println!("lyon is disabled");
    let mut waiting = employees(0..companies);
    let mut news = store.follow::<EmployeeEvent>(Position::START)?;
    while !waiting.is_empty() {
        let news = news.find(|news| matches!(news.event, EmployeeEvent::Disabled { .. })).await?;
        println!("{} is disabled", news.stream_id());
        waiting.remove(news.stream_id());
    }
    founding.await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{CompanyEvent, Refusal};
    use leftfold::store::{EventType, Read};
    use leftfold::testing::explorer::{Explorer, Schedules};
    use std::collections::BTreeMap;

    /// Lists how each stream of a category was switched by its parent.
    async fn switched(store: &Store, category: &str) -> BTreeMap<String, Vec<String>> {
        let types = ["Disabled", "Enabled"]
            .map(|name| EventType::new(format!("{category}.{name}")).unwrap());
        let mut switched: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in
            store.read(Read::matching(Query::types(types), Position(1))).all().await.unwrap()
        {
            if std::str::from_utf8(&event.data).unwrap().contains("Parent") {
                let stream = event.stream.as_ref().unwrap().name.id().to_owned();
                switched.entry(stream).or_default().push(event.event_type.to_string());
            }
        }
        switched
    }

    async fn run_until_idle(store: &Store) {
        let runtime = Runtime::new(store).process::<CityCascade>().process::<CompanyCascade>();
        runtime.run_until_idle().await.unwrap();
    }

    async fn is_on(store: &Store, company: &str, employee: &str) -> (bool, bool) {
        let company = store.aggregate::<Company>().load(company).await.unwrap().state;
        let employee = store.aggregate::<Employee>().load(employee).await.unwrap().state;
        (company.switch.is_on(), employee.switch.is_on())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_company_created_while_its_city_is_being_disabled_ends_disabled_with_its_employees() {
        for store in examples::stores().await {
            let runtime = start(&store, &Memory::new()).await.unwrap();
            load(&store, 40).await.unwrap();
            runtime.stop().await.unwrap();
            for company in store
                .read(Read::matching(Query::category("company"), Position(1)))
                .all()
                .await
                .unwrap()
            {
                let id = company.stream.as_ref().unwrap().name.id();
                assert_eq!(is_on(&store, id, &format!("{id}.0")).await, (false, false), "{id}");
            }
        }
    }

    #[tokio::test]
    async fn a_cascade_goes_on_after_a_kill_and_no_child_is_skipped_or_disabled_twice() {
        const LOAD: u32 = 60;
        let place = examples::killed("organization", LOAD);
        let store = leftfold::open(place.path()).await.unwrap();
        for (category, count) in [("company", LOAD), ("employee", LOAD * EMPLOYEES)] {
            let switched = switched(&store, category).await;
            assert_eq!(switched.len(), count as usize);
            let once = vec![format!("{category}.Disabled")];
            switched.iter().for_each(|(id, how)| assert_eq!(*how, once, "{category} {id}"));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn disable_enable_disable_in_quick_succession_ends_disabled_and_one_more_enable_enabled()
    {
        for store in examples::stores().await {
            let cities = store.aggregate::<City>();
            let runtime = start(&store, &Memory::new()).await.unwrap();
            found(&store, "lyon", 0..100).await.unwrap();
            for command in [CityCommand::Disable, CityCommand::Enable, CityCommand::Disable] {
                cities.execute("lyon", command).await.unwrap();
            }
            found(&store, "lyon", 100..110).await.unwrap();
            runtime.stop().await.unwrap();
            run_until_idle(&store).await;
            for (_, how) in switched(&store, "employee").await {
                assert_eq!(how.last().unwrap(), "employee.Disabled");
                assert!(how.windows(2).all(|two| two[0] != two[1]), "{how:?}");
            }
            assert_eq!(is_on(&store, "105", "105.2").await, (false, false));
            cities.execute("lyon", CityCommand::Enable).await.unwrap();
            run_until_idle(&store).await;
            for company in ["0", "99", "105"] {
                assert_eq!(is_on(&store, company, &format!("{company}.1")).await, (true, true));
            }
        }
    }

    // ANCHOR: explored
    /// A city that is switched while companies and employees come, under every crash and in many
    /// orders.
    fn explored(switches: &'static [CityCommand]) -> Explorer {
        let company = || CompanyEvent::Created { city: "lyon".into() };
        let employee = |company: &str| EmployeeEvent::Created { company: company.into() };
        Explorer::new()
            .aggregate::<City>()
            .aggregate::<Company>()
            .aggregate::<Employee>()
            .process::<CityCascade>()
            .process::<CompanyCascade>()
            .start(move |clients| {
                clients.given::<Company>("old", [company()]);
                clients.given::<Employee>("ann", [employee("old")]);
                let mayor = clients.client("mayor");
                switches
                    .iter()
                    .fold(mayor, |mayor, switch| mayor.command::<City>("lyon", switch.clone()));
                let founder = clients.client("founder");
                let founder = founder
                    .command::<Company>("new", CompanyCommand::Create { city: "lyon".into() });
                founder
                    .command::<Employee>("bob", EmployeeCommand::Create { company: "new".into() });
            })
            .finally("all children are as the city is, the new ones too", |world| {
                let off = world.state::<City>("lyon").is_some_and(|city| city.disabled);
                let companies =
                    world.states::<Company>().all(|company| company.switch.is_on() != off);
                companies
                    && world.states::<Employee>().all(|employee| employee.switch.is_on() != off)
            })
            .finally("no child is switched twice", |world| {
                let mut last = BTreeMap::new();
                world.events().iter().filter(|event| event.event_type.contains("abled")).all(
                    |event| {
                        last.insert(
                            event.stream.clone().map(|at| at.name),
                            event.event_type.clone(),
                        ) != Some(event.event_type.clone())
                    },
                )
            })
            .finally("nothing is parked", |world| world.parked() == 0)
    }
    // ANCHOR_END: explored

    #[test]
    fn no_crash_and_no_order_of_things_leaves_a_child_of_a_disabled_city_enabled() {
        explored(&[CityCommand::Disable]).run(Schedules(300));
        explored(&[CityCommand::Disable, CityCommand::Enable, CityCommand::Disable])
            .run(Schedules(300));
        explored(&[CityCommand::Disable, CityCommand::Enable]).run(Schedules(300));
    }

    #[tokio::test]
    async fn what_was_off_itself_stays_off_when_its_parent_comes_back() {
        for store in examples::stores().await {
            found(&store, "lyon", 0..2).await.unwrap();
            store
                .aggregate::<Company>()
                .execute("0", CompanyCommand::Disable { by: By::Itself })
                .await
                .unwrap();
            store
                .aggregate::<Employee>()
                .execute("1.0", EmployeeCommand::Disable { by: By::Itself })
                .await
                .unwrap();
            for (command, first, second) in [
                (CityCommand::Disable, (false, false), (false, false)),
                (CityCommand::Enable, (false, false), (true, false)),
            ] {
                store.aggregate::<City>().execute("lyon", command).await.unwrap();
                run_until_idle(&store).await;
                assert_eq!(is_on(&store, "0", "0.0").await, first);
                assert_eq!(is_on(&store, "1", "1.0").await, second);
            }
            assert_eq!(is_on(&store, "1", "1.1").await, (true, true));
        }
    }

    #[tokio::test]
    async fn the_read_model_tells_own_and_effective_apart_and_restores_each_childs_own_flag() {
        for store in examples::stores().await {
            let directory = Memory::<Directory>::new();
            found(&store, "lyon", 0..2).await.unwrap();
            store
                .aggregate::<Company>()
                .execute("0", CompanyCommand::Disable { by: By::Itself })
                .await
                .unwrap();
            for (command, on) in [(CityCommand::Disable, false), (CityCommand::Enable, true)] {
                store.aggregate::<City>().execute("lyon", command).await.unwrap();
                let directory = directory.clone();
                Runtime::new(&store)
                    .project(Organization, directory.clone())
                    .run_until_idle()
                    .await
                    .unwrap();
                let flags = async |name: &str| {
                    let row = directory.read(|directory| directory.row(name)).await;
                    (row.enabled, row.enabled_effective)
                };
                assert_eq!(flags("company-0").await, (false, false));
                assert_eq!(flags("employee-0.0").await, (true, false));
                assert_eq!(flags("company-1").await, (true, on));
                assert_eq!(flags("employee-1.2").await, (true, on));
            }
        }
    }

    fn clock_in() -> ClockIn {
        ClockIn { employee: "0.0".into(), company: "0".into(), city: "lyon".into() }
    }

    #[tokio::test]
    async fn a_decision_that_reads_the_parents_is_refused_at_once_and_believes_no_caller() {
        for store in examples::stores().await {
            found(&store, "lyon", 0..1).await.unwrap();
            store.decide(&clock_in()).await.unwrap();
            let elsewhere = ClockIn { city: "paris".into(), ..clock_in() };
            assert_eq!(store.decide(&elsewhere).await, Err(ExecuteError::Refused(Refusal::Absent)));
            store.aggregate::<City>().execute("lyon", CityCommand::Disable).await.unwrap();
            let city = Refusal::Disabled { what: "the city".into() };
            assert_eq!(store.decide(&clock_in()).await, Err(ExecuteError::Refused(city)));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_clocks_in_after_the_city_was_disabled_however_they_race() {
        for store in examples::stores().await {
            found(&store, "lyon", 0..1).await.unwrap();
            let others = store.clone();
            let clocking =
                tokio::spawn(async move { while others.decide(&clock_in()).await.is_ok() {} });
            store
                .follow::<EmployeeEvent>(Position::START)
                .unwrap()
                .find(|news| news.event == EmployeeEvent::ClockedIn)
                .await
                .unwrap();
            let disabled =
                store.aggregate::<City>().execute("lyon", CityCommand::Disable).await.unwrap();
            clocking.await.unwrap();
            let clocked_in = Query::types([EventType::new("employee.ClockedIn").unwrap()]);
            let last =
                store.read(Read::matching(clocked_in, disabled.position)).all().await.unwrap();
            assert_eq!(last, []);
        }
    }

    #[tokio::test]
    async fn the_value_passed_in_is_as_late_as_the_read_model() {
        for store in examples::stores().await {
            let directory = Memory::<Directory>::new();
            found(&store, "lyon", 0..1).await.unwrap();
            let run =
                || Runtime::new(&store).project(Organization, directory.clone()).run_until_idle();
            run().await.unwrap();
            store.aggregate::<City>().execute("lyon", CityCommand::Disable).await.unwrap();
            passed::clock_in(&store, &directory, "0.0", "0").await.unwrap();
            run().await.unwrap();
            let company = Refusal::Disabled { what: "the company".into() };
            let late = passed::clock_in(&store, &directory, "0.0", "0").await;
            assert_eq!(late, Err(ExecuteError::Refused(company)));
        }
    }

    #[test]
    fn a_company_is_switched_once_for_each_reason() {
        let created = CompanyEvent::Created { city: "lyon".into() };
        let off = |by| CompanyEvent::Disabled { by };
        let given = |events: &[CompanyEvent]| leftfold::testing::given::<Company>(events.to_vec());
        given(std::slice::from_ref(&created))
            .when(CompanyCommand::Disable { by: By::Parent })
            .then([off(By::Parent)]);
        let twice = [created, off(By::Parent)];
        given(&twice).when(CompanyCommand::Disable { by: By::Parent }).then_nothing();
        given(&twice).when(CompanyCommand::Disable { by: By::Itself }).then([off(By::Itself)]);
        given(&twice).when(CompanyCommand::Enable { by: By::Itself }).then_nothing();
    }
}
