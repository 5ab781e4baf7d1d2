//! The other bounded context: the people office, with all that it knows of a driver. Vacations are
//! its facts; it asks nobody.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DriverEvent {
    Hired { name: String, birthday: String },
    VacationScheduled { vacation: String, from: u32, until: u32 },
    VacationChanged { vacation: String, from: u32, until: u32 },
    VacationEndedEarly { vacation: String, on: u32 },
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
    vacations: BTreeMap<String, (u32, u32)>,
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
            DriverEvent::VacationEndedEarly { vacation, on } => {
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
                DriverEvent::VacationEndedEarly { vacation, on }
            }
            DriverCommand::Cancel { vacation } => {
                known(&vacation)?;
                DriverEvent::VacationCancelled { vacation }
            }
        }])
    }
}
