//! One factory in one stream, folded in parts: each part takes the events that concern it and
//! passes the others over. A part that is all somebody needs is loaded alone, as a fold of its own
//! over the same stream.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::services::{PriceList, Rules};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FactoryEvent {
    WorkerHired {
        worker: String,
        skills: Vec<String>,
    },
    WorkerLeft {
        worker: String,
    },
    MachineInstalled {
        machine: String,
    },
    MachinesRecalibrated {
        machines: BTreeSet<String>,
    },
    /// They run, and each is recalibrated as soon as it stops.
    RecalibrationPutOff {
        machines: BTreeSet<String>,
    },
    Instructed {
        instruction: String,
        work: String,
        machine: String,
        worker: String,
    },
    CarriedOut {
        instruction: String,
        machine: String,
        worker: String,
        cents: u64,
        price_list: u32,
    },
    Failed {
        instruction: String,
        machine: String,
        worker: String,
        because: String,
    },
}

impl Event for FactoryEvent {
    const NAMESPACE: &'static str = "factory";
}

#[derive(Clone, Debug)]
pub(crate) enum FactoryCommand {
    Hire {
        worker: String,
        skills: Vec<String>,
    },
    LetGo {
        worker: String,
    },
    Install {
        machine: String,
    },
    /// Somebody is told to do some work at some machine, by the rules as they are today.
    Instruct {
        instruction: String,
        work: String,
        rules: Rules,
    },
    /// The worker has done it, and it counts at today's price.
    CarryOut {
        instruction: String,
        prices: PriceList,
    },
    Fail {
        instruction: String,
        because: String,
    },
    RecalibrateAll,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FactoryRefusal {
    #[error("{what} is there already")]
    Known { what: String },
    #[error("there is no {what}")]
    Unknown { what: String },
    #[error("{worker} has work to do")]
    Busy { worker: String },
    #[error("no worker is free who may do {work}")]
    NoWorker { work: String },
    #[error("no machine is free and calibrated")]
    NoMachine,
    #[error("{work} has no price in edition {edition} of the list")]
    NoPrice { work: String, edition: u32 },
}

/// The part that knows who works here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workers {
    skills: BTreeMap<String, Vec<String>>,
    busy: BTreeSet<String>,
}

impl Workers {
    fn apply(&mut self, event: &FactoryEvent) {
        match event {
            FactoryEvent::WorkerHired { worker, skills } => {
                _ = self.skills.insert(worker.clone(), skills.clone())
            }
            FactoryEvent::WorkerLeft { worker } => _ = self.skills.remove(worker),
            FactoryEvent::Instructed { worker, .. } => _ = self.busy.insert(worker.clone()),
            FactoryEvent::CarriedOut { worker, .. } | FactoryEvent::Failed { worker, .. } => {
                _ = self.busy.remove(worker)
            }
            FactoryEvent::MachineInstalled { .. }
            | FactoryEvent::MachinesRecalibrated { .. }
            | FactoryEvent::RecalibrationPutOff { .. } => {}
        }
    }

    fn free_for(&self, work: &str, rules: &Rules) -> Result<String, FactoryRefusal> {
        let fits = |(worker, skills): &(&String, &Vec<String>)| {
            !self.busy.contains(*worker) && rules.allow(work, skills)
        };
        let found = self.skills.iter().find(fits).map(|(worker, _)| worker.clone());
        found.ok_or_else(|| FactoryRefusal::NoWorker { work: work.to_owned() })
    }
}

// ANCHOR: machines
/// The part that knows the machines: how often each ran since it was calibrated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machines {
    pub(crate) runs: BTreeMap<String, u32>,
    running: BTreeSet<String>,
    /// Those to be recalibrated when they stop: they are among those that run.
    put_off: BTreeSet<String>,
}

impl Machines {
    fn apply(&mut self, event: &FactoryEvent) {
        match event {
            FactoryEvent::MachineInstalled { machine } => _ = self.runs.insert(machine.clone(), 0),
            FactoryEvent::MachinesRecalibrated { machines } => {
                self.runs.extend(machines.iter().map(|machine| (machine.clone(), 0)));
                self.put_off.retain(|machine| !machines.contains(machine));
            }
            FactoryEvent::RecalibrationPutOff { machines } => {
                self.put_off.extend(machines.iter().cloned())
            }
            FactoryEvent::Instructed { machine, .. } => {
                *self.runs.entry(machine.clone()).or_default() += 1;
                self.running.insert(machine.clone());
            }
            FactoryEvent::CarriedOut { machine, .. } | FactoryEvent::Failed { machine, .. } => {
                _ = self.running.remove(machine)
            }
            FactoryEvent::WorkerHired { .. } | FactoryEvent::WorkerLeft { .. } => {}
        }
    }

    fn free(&self, rules: &Rules) -> Result<String, FactoryRefusal> {
        let fits = |(machine, runs): &(&String, &u32)| {
            **runs < rules.runs_max && !self.running.contains(*machine)
        };
        self.runs
            .iter()
            .find(fits)
            .map(|(machine, _)| machine.clone())
            .ok_or(FactoryRefusal::NoMachine)
    }

    /// All that stand still and have run, at once; those that run, when they stop.
    fn recalibrate(&self) -> Vec<FactoryEvent> {
        let ran = self.runs.iter().filter(|(_, runs)| **runs > 0).map(|(name, _)| name.clone());
        let (running, idle): (BTreeSet<String>, BTreeSet<String>) =
            ran.partition(|machine| self.running.contains(machine));
        let put_off: BTreeSet<String> = running.difference(&self.put_off).cloned().collect();
        let now =
            (!idle.is_empty()).then_some(FactoryEvent::MachinesRecalibrated { machines: idle });
        let later = (!put_off.is_empty())
            .then_some(FactoryEvent::RecalibrationPutOff { machines: put_off });
        now.into_iter().chain(later).collect()
    }

    /// Returns the event that follows when a machine stops.
    fn stopped(&self, machine: &str) -> Option<FactoryEvent> {
        let machine = self.put_off.get(machine)?.clone();
        Some(FactoryEvent::MachinesRecalibrated { machines: [machine].into() })
    }
}
// ANCHOR_END: machines

/// The part that knows what is to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instructions {
    open: BTreeMap<String, Job>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    work: String,
    machine: String,
    worker: String,
}

impl Instructions {
    fn apply(&mut self, event: &FactoryEvent) {
        match event.clone() {
            FactoryEvent::Instructed { instruction, work, machine, worker } => {
                self.open.insert(instruction, Job { work, machine, worker });
            }
            FactoryEvent::CarriedOut { instruction, .. }
            | FactoryEvent::Failed { instruction, .. } => {
                self.open.remove(&instruction);
            }
            _ => {}
        }
    }

    fn open(&self, instruction: &str) -> Result<Job, FactoryRefusal> {
        let unknown =
            || FactoryRefusal::Unknown { what: format!("open instruction {instruction}") };
        self.open.get(instruction).cloned().ok_or_else(unknown)
    }
}

// ANCHOR: whole
/// The whole: its parts, and the decisions that need more than one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Factory {
    workers: Workers,
    machines: Machines,
    instructions: Instructions,
}
// ANCHOR_END: whole

impl Aggregate for Factory {
    const CATEGORY: &'static str = "factory";
    type Event = FactoryEvent;
    type Command = FactoryCommand;
    type Refusal = FactoryRefusal;

    fn apply(&mut self, event: &FactoryEvent) {
        self.workers.apply(event);
        self.machines.apply(event);
        self.instructions.apply(event);
    }

    fn decide(&self, command: &FactoryCommand) -> Result<Vec<FactoryEvent>, FactoryRefusal> {
        let event = match command.clone() {
            FactoryCommand::Hire { worker, .. } if self.workers.skills.contains_key(&worker) => {
                return Err(FactoryRefusal::Known { what: worker });
            }
            FactoryCommand::Hire { worker, skills } => FactoryEvent::WorkerHired { worker, skills },
            FactoryCommand::LetGo { worker } if self.workers.busy.contains(&worker) => {
                return Err(FactoryRefusal::Busy { worker });
            }
            FactoryCommand::LetGo { worker } => FactoryEvent::WorkerLeft { worker },
            FactoryCommand::Install { machine } if self.machines.runs.contains_key(&machine) => {
                return Err(FactoryRefusal::Known { what: machine });
            }
            FactoryCommand::Install { machine } => FactoryEvent::MachineInstalled { machine },
            FactoryCommand::Instruct { instruction, .. }
                if self.instructions.open.contains_key(&instruction) =>
            {
                return Err(FactoryRefusal::Known { what: instruction });
            }
            FactoryCommand::Instruct { instruction, work, rules } => {
                let (worker, machine) =
                    (self.workers.free_for(&work, &rules)?, self.machines.free(&rules)?);
                FactoryEvent::Instructed { instruction, work, machine, worker }
            }
            FactoryCommand::CarryOut { instruction, prices } => {
                self.carried_out(instruction, &prices)?
            }
            FactoryCommand::Fail { instruction, because } => {
                let Job { machine, worker, .. } = self.instructions.open(&instruction)?;
                FactoryEvent::Failed { instruction, machine, worker, because }
            }
            FactoryCommand::RecalibrateAll => return Ok(self.machines.recalibrate()),
        };
        let follows = match &event {
            FactoryEvent::CarriedOut { machine, .. } | FactoryEvent::Failed { machine, .. } => {
                self.machines.stopped(machine)
            }
            _ => None,
        };
        Ok([event].into_iter().chain(follows).collect())
    }
}

// ANCHOR: carried-out
impl Factory {
    /// The price goes into the event: a later list does not change what was earned.
    fn carried_out(
        &self,
        instruction: String,
        prices: &PriceList,
    ) -> Result<FactoryEvent, FactoryRefusal> {
        let Job { work, machine, worker } = self.instructions.open(&instruction)?;
        let edition = prices.edition;
        let cents = *prices.cents.get(&work).ok_or(FactoryRefusal::NoPrice { work, edition })?;
        Ok(FactoryEvent::CarriedOut { instruction, machine, worker, cents, price_list: edition })
    }
}
// ANCHOR_END: carried-out

/// A part on its own, for those who only look: what was earned. It reads one type of event of the
/// factory's stream, and was thought of long after the factory was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Earnings {
    pub(crate) cents: u64,
    pub(crate) pieces: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Earned {
    #[serde(rename = "factory.CarriedOut")]
    CarriedOut { cents: u64 },
}

impl Event for Earned {
    const NAMESPACE: &'static str = "earnings";
}

/// It is only looked at.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Never {}

// ANCHOR: part
impl Aggregate for Earnings {
    const CATEGORY: &'static str = Factory::CATEGORY;
    const UNKNOWN: Unknown = Unknown::Ignore;
    type Event = Earned;
    type Command = std::convert::Infallible;
    type Refusal = Never;

    fn apply(&mut self, Earned::CarriedOut { cents }: &Earned) {
        self.cents += cents;
        self.pieces += 1;
    }

    fn decide(&self, command: &std::convert::Infallible) -> Result<Vec<Earned>, Never> {
        match *command {}
    }
}
// ANCHOR_END: part
