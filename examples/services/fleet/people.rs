//! The people office, with all that it knows of a driver. Vacations are its facts; it asks nobody,
//! and tells anyone who listens.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::{Bus, Outbox, Outgoing};
use leftfold::runtime::{RunningRuntime, StartError};
use serde::{Deserialize, Serialize};

/// Subject of the messages about vacations.
pub(crate) const VACATIONS: &str = "fleet.vacations";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DriverEvent {
    Hired { name: String, birthday: String },
    VacationScheduled { vacation: String, from: u32, until: u32 },
    VacationChanged { vacation: String, from: u32, until: u32 },
    VacationEndedEarly { vacation: String, from: u32, on: u32 },
    VacationCancelled { vacation: String },
}

impl Event for DriverEvent {
    const NAMESPACE: &'static str = "driver";
}

/// Days are numbered; `until` is the first day back at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DriverCommand {
    Hire { name: String, birthday: String },
    Schedule { vacation: String, from: u32, until: u32 },
    Change { vacation: String, from: u32, until: u32 },
    EndEarly { vacation: String, on: u32 },
    Cancel { vacation: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum DriverRefusal {
    #[error("there is no vacation {vacation}")]
    NoVacation { vacation: String },
    #[error("a vacation ends after it begins")]
    EndsBeforeItBegins,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Driver {
    name: String,
    pub(crate) vacations: BTreeMap<String, (u32, u32)>,
}

impl Aggregate for Driver {
    const CATEGORY: &'static str = "driver";
    type Event = DriverEvent;
    type Command = DriverCommand;
    type Refusal = DriverRefusal;

    fn apply(&mut self, event: &DriverEvent) {
        match event.clone() {
            DriverEvent::Hired { name, .. } => self.name = name,
            DriverEvent::VacationScheduled { vacation, from, until }
            | DriverEvent::VacationChanged { vacation, from, until } => {
                self.vacations.insert(vacation, (from, until));
            }
            DriverEvent::VacationEndedEarly { vacation, on, .. } => {
                self.vacations.entry(vacation).and_modify(|(_, until)| *until = on);
            }
            DriverEvent::VacationCancelled { vacation } => _ = self.vacations.remove(&vacation),
        }
    }

    fn decide(&self, command: &DriverCommand) -> Result<Vec<DriverEvent>, DriverRefusal> {
        let known = |vacation: &String| match self.vacations.get(vacation) {
            Some(days) => Ok(*days),
            None => Err(DriverRefusal::NoVacation { vacation: vacation.clone() }),
        };
        Ok(vec![match command.clone() {
            DriverCommand::Hire { name, birthday } => DriverEvent::Hired { name, birthday },
            DriverCommand::Schedule { from, until, .. }
            | DriverCommand::Change { from, until, .. }
                if until <= from =>
            {
                return Err(DriverRefusal::EndsBeforeItBegins);
            }
            DriverCommand::Schedule { vacation, from, until } => {
                DriverEvent::VacationScheduled { vacation, from, until }
            }
            DriverCommand::Change { vacation, from, until } => {
                known(&vacation)?;
                DriverEvent::VacationChanged { vacation, from, until }
            }
            DriverCommand::EndEarly { vacation, on } => {
                let (from, until) = known(&vacation)?;
                if on < from || on >= until {
                    return Err(DriverRefusal::EndsBeforeItBegins);
                }
                DriverEvent::VacationEndedEarly { vacation, from, on }
            }
            DriverCommand::Cancel { vacation } => {
                known(&vacation)?;
                DriverEvent::VacationCancelled { vacation }
            }
        }])
    }
}

// ANCHOR: outbox
/// Message of the office: a vacation as it is by now. Names and birthdays stay here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VacationTold {
    pub(crate) driver: String,
    pub(crate) vacation: String,
    /// Version of the driver: of what is told later, greater.
    pub(crate) version: u64,
    /// The first day, and the first day back at work; `None` if it was cancelled.
    pub(crate) away: Option<(u32, u32)>,
}

/// The outbox: every change of a vacation goes out.
struct VacationFeed;

impl<B: Bus> Projection<Outbox<B>> for VacationFeed {
    const NAME: &'static str = "vacation_feed";
    type Event = DriverEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<DriverEvent>,
    ) -> Result<(), ProjectionError> {
        let (vacation, away) = match event.event.clone() {
            DriverEvent::Hired { .. } => return Ok(()),
            DriverEvent::VacationScheduled { vacation, from, until }
            | DriverEvent::VacationChanged { vacation, from, until } => {
                (vacation, Some((from, until)))
            }
            DriverEvent::VacationEndedEarly { vacation, from, on } => (vacation, Some((from, on))),
            DriverEvent::VacationCancelled { vacation } => (vacation, None),
        };
        let (driver, version) = (event.stream_id().to_owned(), event.version().0);
        let told = VacationTold { driver: driver.clone(), vacation, version, away };
        out.send(VACATIONS, driver, serde_json::to_vec(&told)?);
        Ok(())
    }
}
// ANCHOR_END: outbox

/// Runs the office.
pub(crate) async fn start<B: Bus>(store: &Store, bus: B) -> Result<RunningRuntime, StartError> {
    Runtime::new(store).project(VacationFeed, Outbox::new(store, bus)).start().await
}
