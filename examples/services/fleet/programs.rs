//! Each department as a program of its own, over NATS:
//! `FLEET_NATS=nats://… fleet people DIRECTORY LOAD`, and `assignment` likewise. It does much of the
//! same and then goes on to serve. It can be killed and started again: every request has an id, or
//! may be made twice.

use std::error::Error;

use leftfold::nats::{Nats, NatsError, StreamOptions};
use leftfold::prelude::*;
use leftfold::runtime::inbox::RunningReceiver;
use leftfold::runtime::projection::Memory;
use leftfold::runtime::{RunningRuntime, StartError};
use tokio::task::JoinSet;

use crate::absences::VacationNews;
use crate::exceptions::{ExceptionReport, Report, Unassignment};
use crate::people::{self, Driver, DriverCommand, VACATIONS};
use crate::{assign, vacation};

/// Drivers of the load, and vehicles.
pub(crate) const DRIVERS: u32 = 10;
/// Said by a program that has recorded its load.
pub(crate) const ALL_RECORDED: &str = "all is recorded";

/// Directories of the stores.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) people: String,
    pub(crate) assignment: String,
}

impl Places {
    pub(crate) fn in_place(place: &str) -> Self {
        Self { people: format!("{place}-people"), assignment: format!("{place}-assignment") }
    }
}

// ANCHOR: joined
/// The servers. Their streams are made if they are missing, and keep messages for 30 days.
pub(crate) fn servers(url: &str) -> Result<Nats, NatsError> {
    Ok(Nats::at(url)?.named("fleet").streams(StreamOptions::default()))
}

/// Receives what the people office tells: in order for each driver, drivers side by side.
pub(crate) fn receive(nats: &Nats, assignment: &Store) -> RunningReceiver {
    let vacations = nats.queue(VACATIONS, "assignment").by_key();
    assignment.inbox::<VacationNews>().receive_from(vacations)
}
// ANCHOR_END: joined

/// Runs the assignment side.
pub(crate) async fn assigning(
    store: &Store,
    report: &Memory<Report>,
) -> Result<RunningRuntime, StartError> {
    Runtime::new(store)
        .inbox::<VacationNews>()
        .process::<Unassignment>()
        .project(ExceptionReport, report.clone())
        .start()
        .await
}

pub(crate) async fn run(department: &str, place: &str, load: u32) -> Result<(), Box<dyn Error>> {
    let url = std::env::var("FLEET_NATS").map_err(|_| "set FLEET_NATS to the URL of a NATS")?;
    let (nats, places) = (servers(&url)?, Places::in_place(place));
    match department {
        "people" => {
            let store = leftfold::open(&places.people).await?;
            let running = people::start(&store, nats.bus()).await?;
            plan_vacations(&store, load).await?;
            println!("{ALL_RECORDED}");
            tokio::signal::ctrl_c().await?;
            running.stop().await?;
            store.close().await?;
        }
        "assignment" => {
            let store = leftfold::open(&places.assignment).await?;
            let receiver = receive(&nats, &store);
            let running = assigning(&store, &Memory::new()).await?;
            assign_vehicles(&store, load).await?;
            println!("{ALL_RECORDED}");
            tokio::signal::ctrl_c().await?;
            receiver.stop().await?;
            running.stop().await?;
            store.close().await?;
        }
        other => {
            let known = "only people and assignment";
            return Err(format!("there is no department {other:?}, {known}").into());
        }
    }
    Ok(())
}

pub(crate) fn driver_id(number: u32) -> String {
    format!("d{number}")
}

/// All drivers plan a vacation in each round, and most change their minds.
async fn plan_vacations(store: &Store, rounds: u32) -> Result<(), Box<dyn Error>> {
    for round in 0..rounds {
        let mut planning = JoinSet::new();
        for number in 0..DRIVERS {
            let drivers = store.aggregate::<Driver>();
            planning.spawn(async move {
                let (name, day) = (format!("v{round}"), round * 10);
                let second = match (round + number) % 4 {
                    0 => None,
                    1 => Some(DriverCommand::Change {
                        vacation: name.clone(),
                        from: day + 1,
                        until: day + 3,
                    }),
                    2 => Some(DriverCommand::EndEarly { vacation: name.clone(), on: day + 6 }),
                    _ => Some(DriverCommand::Cancel { vacation: name.clone() }),
                };
                let first = Some(vacation(&name, day + 5, day + 9));
                for (step, command) in [first, second].into_iter().flatten().enumerate() {
                    let command = drivers.command(&driver_id(number), command);
                    let command = command.id("load", &format!("{number} {round} {step}"));
                    command.without_request_check().execute().await?;
                }
                Ok::<_, ExecuteError<people::DriverRefusal>>(())
            });
        }
        while let Some(planned) = planning.join_next().await {
            planned??;
            println!("a driver has plans for round {round}");
        }
    }
    Ok(())
}

/// In each round, each vehicle is to have another driver.
async fn assign_vehicles(store: &Store, rounds: u32) -> Result<(), Box<dyn Error>> {
    for round in 0..rounds {
        for number in 0..DRIVERS {
            let driver = driver_id((number + round) % DRIVERS);
            let wish = assign(&format!("v{number}"), &driver, round * 10, round * 10 + 10);
            match store.decide(&wish).await {
                Ok(_) => println!("{driver} drives vehicle {number} in round {round}"),
                Err(ExecuteError::Refused(no)) => println!("vehicle {number} waits: {no}"),
                Err(other) => return Err(other.into()),
            }
        }
    }
    Ok(())
}
