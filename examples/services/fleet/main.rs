//! A vehicle has at most one driver, and none who is on vacation; but a vacation is the real
//! world's fact and never refused. Vehicles belong to one department and vacations to another, each
//! with a store of its own: the people office tells of vacations by an outbox, and the assignment
//! side keeps by an inbox its own small picture of a driver. The pattern is a decision that reads
//! vehicle and picture at once, so that a vacation that becomes known meanwhile makes it decide
//! again; vacations that become known later make exceptions, which a report shows and a process
//! fixes by taking the driver off. Where both belong to one department one store does, and the
//! decision reads the vacations themselves. Where a short double booking does no harm, the report
//! and the process alone are enough, and cheaper.
//!
//! The story needs no broker. With `FLEET_NATS=nats://…` it goes through NATS, and `programs.rs`
//! runs each department as a program of its own.

mod absences;
mod assigning;
mod exceptions;
mod local;
mod people;
mod programs;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use absences::{AbsenceEvent, VacationNews};
use assigning::Assign;
use exceptions::{ExceptionReport, Report, Unassignment, VehicleEvent, exceptions};
use leftfold::prelude::*;
use leftfold::runtime::RunningRuntime;
use leftfold::runtime::inbox::RunningReceiver;
use leftfold::runtime::projection::Memory;
use local::LocalBus;
use people::{Driver, DriverCommand};
use programs::Places;

fn assign(vehicle: &str, driver: &str, from: u32, until: u32) -> Assign {
    Assign { vehicle: vehicle.into(), driver: driver.into(), from, until }
}

fn vacation(vacation: &str, from: u32, until: u32) -> DriverCommand {
    DriverCommand::Schedule { vacation: vacation.into(), from, until }
}

/// The people office and what brings its messages to the assignment side, over a broker or within
/// this process.
async fn joined(
    people: &Store,
    assignment: &Store,
) -> Result<(RunningRuntime, Option<RunningReceiver>), Box<dyn Error>> {
    if let Ok(url) = std::env::var("FLEET_NATS") {
        let nats = programs::servers(&url)?;
        let receiver = programs::receive(&nats, assignment);
        return Ok((people::start(people, nats.bus()).await?, Some(receiver)));
    }
    let (bus, sent) = LocalBus::new();
    tokio::spawn(local::receive::<VacationNews>(assignment.clone(), sent));
    Ok((people::start(people, bus).await?, None))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [department, place, load] = arguments.as_slice() {
        return programs::run(department, place, load.parse()?).await;
    }
    let place = examples::place()?;
    let places = Places::in_place(place.path());
    let people = leftfold::open(&places.people).await?;
    let assignment = leftfold::open(&places.assignment).await?;
    let (office, receiver) = joined(&people, &assignment).await?;
    let report = Memory::<Report>::new();
    let side = Runtime::new(&assignment)
        .inbox::<VacationNews>()
        .project(ExceptionReport, report.clone())
        .start()
        .await?;

    let drivers = people.aggregate::<Driver>();
    let mut heard = assignment.follow::<AbsenceEvent>(Position::START)?;
    for name in ["ann", "bob"] {
        let hire = DriverCommand::Hire { name: name.into(), birthday: "1990-01-01".into() };
        drivers.execute(name, hire).await?;
    }
    drivers.execute("ann", vacation("summer", 10, 20)).await?;
    heard.next().await?;
    println!("ann is on vacation from day 10 to 20, and the assignment side has heard of it");
    book(&assignment).await?;

    drivers.execute("bob", vacation("ill", 3, 5)).await?;
    let known = heard.next().await?.position();
    println!("bob falls ill from day 3 to 5");
    let projections = side.projections();
    let shown =
        |position| projections.wait_until(ExceptionReport::NAME, position, Duration::from_secs(60));
    shown(known).await?;
    show(report.read(exceptions).await);

    let mut news = assignment.follow::<VehicleEvent>(known)?;
    let fixing = Runtime::new(&assignment).process::<Unassignment>().start().await?;
    if let VehicleEvent::Unassigned { vehicle, driver, because } = news.next().await?.event {
        println!("{driver} is taken off the {vehicle}: {because}");
    }
    fixing.stop().await?;
    shown(assignment.head().position).await?;
    show(report.read(exceptions).await);
    if let Some(receiver) = receiver {
        receiver.stop().await?;
    }
    side.stop().await?;
    office.stop().await?;
    people.close().await?;
    assignment.close().await?;
    Ok(())
}

/// Asks for vehicles to have drivers.
async fn book(assignment: &Store) -> Result<(), Box<dyn Error>> {
    let wishes = [
        assign("truck", "ann", 15, 17),
        assign("truck", "ann", 20, 25),
        assign("truck", "bob", 1, 9),
        assign("van", "bob", 1, 9),
    ];
    for wish in wishes {
        let Assign { vehicle, driver, from, until } = &wish;
        match assignment.decide(&wish).await {
            Ok(_) => println!("{driver} drives the {vehicle} from day {from} to {until}"),
            Err(ExecuteError::Refused(no)) => {
                println!("{driver} may not drive the {vehicle} from day {from} to {until}: {no}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// Prints the exception report.
fn show(exceptions: Vec<(String, String, u32)>) {
    println!("the report of exceptions has {} lines", exceptions.len());
    for (vehicle, driver, day) in exceptions {
        println!("    the {vehicle} is assigned to {driver}, who is away from day {day}");
    }
}
