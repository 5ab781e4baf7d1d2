//! A vehicle has at most one driver, and none who is on vacation; but a vacation is the real
//! world's fact and never refused. The pattern is a decision that reads vehicle and driver at once,
//! so that a vacation recorded meanwhile makes it decide again; vacations that come later make
//! exceptions, which a report shows and a process fixes by taking the driver off. Where a short
//! double booking does no harm, the report and the process alone are enough, and cheaper.

mod assigning;
mod exceptions;
mod people;

use std::error::Error;
use std::time::Duration;

use assigning::Assign;
use exceptions::{ExceptionReport, Report, Unassignment, VehicleEvent, exceptions};
use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use people::{Driver, DriverCommand};

fn assign(vehicle: &str, driver: &str, from: u32, until: u32) -> Assign {
    Assign { vehicle: vehicle.into(), driver: driver.into(), from, until }
}

fn vacation(vacation: &str, from: u32, until: u32) -> DriverCommand {
    DriverCommand::Schedule { vacation: vacation.into(), from, until }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let drivers = store.aggregate::<Driver>();
    let report = Memory::<Report>::new();
    let projecting = Runtime::new(&store).project(ExceptionReport, report.clone()).start().await?;

    for name in ["ann", "bob"] {
        drivers
            .execute(name, DriverCommand::Hire { name: name.into(), birthday: "1990-01-01".into() })
            .await?;
    }
    drivers.execute("ann", vacation("summer", 10, 20)).await?;
    println!("ann is on vacation from day 10 to 20");
    let wishes = [
        assign("truck", "ann", 15, 17),
        assign("truck", "ann", 20, 25),
        assign("truck", "bob", 1, 9),
        assign("van", "bob", 1, 9),
    ];
    for wish in wishes {
        let Assign { vehicle, driver, from, until } = &wish;
        match store.decide(&wish).await {
            Ok(_) => println!("{driver} drives the {vehicle} from day {from} to {until}"),
            Err(ExecuteError::Refused(no)) => {
                println!("{driver} may not drive the {vehicle} from day {from} to {until}: {no}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    let ill = drivers.execute("bob", vacation("ill", 3, 5)).await?;
    projecting
        .projections()
        .wait_until(ExceptionReport::NAME, ill.position, Duration::from_secs(60))
        .await?;
    println!("bob falls ill from day 3 to 5");
    show(report.read(exceptions).await);

    let mut news = store.follow::<VehicleEvent>(ill.position)?;
    let fixing = Runtime::new(&store).process::<Unassignment>().start().await?;
    if let VehicleEvent::Unassigned { vehicle, driver, because } = news.next().await?.event {
        println!("{driver} is taken off the {vehicle}: {because}");
    }
    fixing.stop().await?;
    projecting
        .projections()
        .wait_until(ExceptionReport::NAME, store.head().position, Duration::from_secs(60))
        .await?;
    show(report.read(exceptions).await);
    projecting.stop().await?;
    store.close().await?;
    Ok(())
}

/// Prints the exception report.
fn show(exceptions: Vec<(String, String, u32)>) {
    println!("the report of exceptions has {} lines", exceptions.len());
    for (vehicle, driver, day) in exceptions {
        println!("    the {vehicle} is assigned to {driver}, who is away from day {day}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assigning::{Absences, AssignRefusal, FleetEvent};
    use exceptions::Vehicle;
    use leftfold::fold::Schema;
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use leftfold::testing::{given, given_events};
    use people::{DriverEvent, DriverRefusal};
    use std::collections::BTreeMap;

    fn scheduled(from: u32, until: u32) -> FleetEvent {
        FleetEvent::VacationScheduled { vacation: "v".into(), from, until }
    }

    fn assigned(vehicle: &str, driver: &str, from: u32, until: u32) -> FleetEvent {
        FleetEvent::Assigned { vehicle: vehicle.into(), driver: driver.into(), from, until }
    }

    #[test]
    fn nobody_is_assigned_for_days_of_a_vacation_as_it_stands_now() {
        let changed = FleetEvent::VacationChanged { vacation: "v".into(), from: 30, until: 40 };
        let early = FleetEvent::VacationEndedEarly { vacation: "v".into(), on: 35 };
        let cancelled = FleetEvent::VacationCancelled { vacation: "v".into() };
        let history = |events: &[FleetEvent]| {
            given_events(events.iter().map(|event| ("driver-ann", event.clone())))
        };
        let wish = |from, until| assign("truck", "ann", from, until);
        let away = |from| AssignRefusal::OnVacation { from };
        history(&[scheduled(10, 20)]).decide(&wish(19, 25)).then_refused(away(10));
        history(&[scheduled(10, 20)])
            .decide(&wish(20, 25))
            .then([assigned("truck", "ann", 20, 25)]);
        history(&[scheduled(10, 20), changed.clone()])
            .decide(&wish(10, 20))
            .then([assigned("truck", "ann", 10, 20)]);
        history(&[scheduled(10, 20), changed.clone()]).decide(&wish(36, 38)).then_refused(away(30));
        history(&[scheduled(10, 20), changed, early])
            .decide(&wish(36, 38))
            .then([assigned("truck", "ann", 36, 38)]);
        history(&[scheduled(10, 20), cancelled])
            .decide(&wish(10, 20))
            .then([assigned("truck", "ann", 10, 20)]);
    }

    #[test]
    fn a_vehicle_has_at_most_one_driver() {
        let theirs = AssignRefusal::HasDriver { driver: "bob".into() };
        let history = given_events([("vehicle-truck", assigned("truck", "bob", 1, 2))]);
        history.decide(&assign("truck", "ann", 5, 6)).then_refused(theirs);
        history.decide(&assign("truck", "bob", 1, 2)).then_nothing();
    }

    // ANCHOR: race
    #[tokio::test(flavor = "multi_thread")]
    async fn a_vacation_is_never_refused_and_an_assignment_that_races_with_it_is_never_stale() {
        for store in examples::stores().await {
            for round in 0..200 {
                let (driver, truck) = (format!("d{round}"), format!("t{round}"));
                let (deciding, wish) = (store.clone(), assign(&truck, &driver, 10, 20));
                let assigning = tokio::spawn(async move { deciding.decide(&wish).await });
                let away = store
                    .aggregate::<Driver>()
                    .execute(&driver, vacation("v", 10, 20))
                    .await
                    .unwrap();
                match assigning.await.unwrap() {
                    Ok(assigned) => assert!(
                        assigned.position < away.position,
                        "it was decided without the vacation"
                    ),
                    Err(refused) => assert_eq!(
                        refused,
                        ExecuteError::Refused(AssignRefusal::OnVacation { from: 10 })
                    ),
                }
            }
        }
    }
    // ANCHOR_END: race

    #[tokio::test]
    async fn a_vacation_after_the_assignment_is_an_exception_until_the_driver_is_taken_off() {
        for store in examples::stores().await {
            let report = Memory::<Report>::new();
            let drivers = store.aggregate::<Driver>();
            let run =
                || Runtime::new(&store).project(ExceptionReport, report.clone()).run_until_idle();
            store.decide(&assign("truck", "ann", 10, 20)).await.unwrap();
            store.decide(&assign("van", "ann", 1, 5)).await.unwrap();
            drivers.execute("ann", vacation("v", 15, 16)).await.unwrap();
            run().await.unwrap();
            assert_eq!(report.read(exceptions).await, [("truck".to_owned(), "ann".to_owned(), 15)]);
            Runtime::new(&store).process::<Unassignment>().run_until_idle().await.unwrap();
            run().await.unwrap();
            assert_eq!(report.read(exceptions).await, []);
            let vehicles = store.aggregate::<Vehicle>();
            assert_eq!(vehicles.load("truck").await.unwrap().state.driver, None);
            assert_eq!(vehicles.load("van").await.unwrap().state.driver.as_deref(), Some("ann"));
        }
    }

    #[tokio::test]
    async fn an_exception_goes_when_the_vacation_is_ended_early_or_moved_away() {
        for store in examples::stores().await {
            let report = Memory::<Report>::new();
            let drivers = store.aggregate::<Driver>();
            let run =
                || Runtime::new(&store).project(ExceptionReport, report.clone()).run_until_idle();
            store.decide(&assign("truck", "ann", 10, 20)).await.unwrap();
            let until = |from, until| DriverCommand::Change { vacation: "v".into(), from, until };
            let changes = [
                (vacation("v", 5, 15), 1),
                (DriverCommand::EndEarly { vacation: "v".into(), on: 8 }, 0),
                (until(12, 14), 1),
                (until(30, 40), 0),
            ];
            for (change, count) in changes {
                drivers.execute("ann", change.clone()).await.unwrap();
                run().await.unwrap();
                assert_eq!(
                    report.read(|report| exceptions(report).len()).await,
                    count,
                    "{change:?}"
                );
            }
        }
    }

    /// Nobody was assigned for days of a vacation that was recorded by then, and no vehicle that
    /// had a driver.
    fn no_assignment_was_stale(world: &World) -> Result<(), String> {
        let schema = Schema::of::<FleetEvent>().unwrap();
        let (mut absences, mut drivers) = (BTreeMap::<String, Absences>::new(), BTreeMap::new());
        for recorded in world.events() {
            for event in schema.decode::<FleetEvent>(recorded, Unknown::Ignore).unwrap() {
                match &event {
                    FleetEvent::Assigned { vehicle, driver, from, until } => {
                        let away = absences
                            .get(driver)
                            .and_then(|absences| absences.within(*from, *until));
                        if let Some(day) = away {
                            return Err(format!(
                                "{driver} was known to be away from day {day}: {event:?}"
                            ));
                        }
                        if let Some(has) = drivers.insert(vehicle.clone(), driver.clone()) {
                            return Err(format!("the vehicle had {has}: {event:?}"));
                        }
                    }
                    FleetEvent::Unassigned { vehicle, .. } => _ = drivers.remove(vehicle),
                    vacation => {
                        let driver = recorded.stream.as_ref().unwrap().name.id().to_owned();
                        absences.entry(driver).or_default().apply(vacation);
                    }
                }
            }
        }
        Ok(())
    }

    // ANCHOR: explored
    #[test]
    fn no_crash_and_no_order_of_things_leaves_a_driver_on_vacation_on_a_vehicle() {
        Explorer::new()
            .aggregate::<Vehicle>()
            .process::<Unassignment>()
            .start(|clients| {
                clients
                    .client("dispatch")
                    .decide(assign("truck", "ann", 10, 20))
                    .decide(assign("truck", "bob", 1, 5));
                clients.client("bob").decide(assign("truck", "bob", 10, 12));
                let office =
                    clients.client("office").command::<Driver>("ann", vacation("v", 12, 14));
                office.command::<Driver>("bob", vacation("v", 1, 2));
            })
            .always("no assignment was stale", no_assignment_was_stale)
            .finally("no vacation was refused", |world| {
                let scheduled =
                    |event: &DriverEvent| matches!(event, DriverEvent::VacationScheduled { .. });
                world.events_of::<DriverEvent>().iter().filter(|event| scheduled(event)).count()
                    == 2
            })
            .finally("who drives is not away", |world| {
                let driver =
                    world.state::<Vehicle>("truck").and_then(|vehicle| vehicle.driver.clone());
                let days =
                    world.events_of::<VehicleEvent>().into_iter().rev().find_map(
                        |event| match event {
                            VehicleEvent::Assigned { from, until, .. } => Some((from, until)),
                            VehicleEvent::Unassigned { .. } => None,
                        },
                    );
                !matches!((driver.as_deref(), days), (Some("ann"), _) | (Some("bob"), Some((1, _))))
            })
            .finally("nothing is parked", |world| world.parked() == 0)
            .run(Schedules(500));
    }
    // ANCHOR_END: explored

    #[test]
    fn the_people_office_refuses_only_what_is_no_vacation() {
        given::<Driver>([])
            .when(vacation("v", 2, 2))
            .then_refused(DriverRefusal::EndsBeforeItBegins);
        let planned = DriverEvent::VacationScheduled { vacation: "v".into(), from: 1, until: 9 };
        let end = |on| DriverCommand::EndEarly { vacation: "v".into(), on };
        given::<Driver>([planned.clone()])
            .when(end(9))
            .then_refused(DriverRefusal::EndsBeforeItBegins);
        given::<Driver>([planned])
            .when(end(4))
            .then([DriverEvent::VacationEndedEarly { vacation: "v".into(), on: 4 }]);
        let none = DriverRefusal::NoVacation { vacation: "w".into() };
        given::<Driver>([]).when(DriverCommand::Cancel { vacation: "w".into() }).then_refused(none);
    }
}
