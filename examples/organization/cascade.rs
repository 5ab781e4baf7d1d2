//! (a) A process that finds the children and sends each a command. Right where a child itself must know, in its own
//! history, that it is off: because it decides alone, lives in another partition, or because others listen to it.
//! The children are folded from the same log as the parent's changes, in its order: a child that is created before its
//! parent is disabled gets the command with all others, one that is created after it gets its own. There is no third case.
//! Up to `COMMANDS_MAX` (10,000) children at once.

use std::collections::BTreeSet;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::{By, Company, CompanyCommand, Employee, EmployeeCommand, Switch};

// ANCHOR: cascade
/// Carries a city's state to its companies. One instance for each city.
#[derive(Debug, Default)]
pub(crate) struct CityCascade {
    off: bool,
    companies: BTreeSet<String>,
}
// ANCHOR_END: cascade

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CityFact {
    #[serde(rename = "city.Disabled")]
    Disabled,
    #[serde(rename = "city.Enabled")]
    Enabled,
    #[serde(rename = "company.Created")]
    CompanyCreated { city: String },
}

impl Event for CityFact {
    const NAMESPACE: &'static str = "city_cascade";
}

// ANCHOR: process
impl Process for CityCascade {
    const NAME: &'static str = "city_cascade";
    type Event = CityFact;

    fn targets() -> Targets {
        Targets::of::<Company>()
    }

    fn correlate(event: &Recorded<CityFact>) -> Correlation {
        match &event.event {
            CityFact::Disabled | CityFact::Enabled => Correlation::starts(event.stream_id()),
            CityFact::CompanyCreated { city } => Correlation::starts(city),
        }
    }

    fn apply(&mut self, trigger: &Trigger<CityFact>, context: &Context) {
        match trigger {
            Trigger::Event(CityFact::Disabled) => self.off = true,
            Trigger::Event(CityFact::Enabled) => self.off = false,
            Trigger::Event(CityFact::CompanyCreated { .. }) => _ = self.companies.insert(context.stream_id.clone()),
            Trigger::Refused(_) | Trigger::TimerFired { .. } => {}
        }
    }

    fn react(&self, trigger: &Trigger<CityFact>, context: &Context) -> Reaction {
        let by = By::Parent;
        let tell = |reaction: Reaction, company: &String| match self.off {
            true => reaction.command::<Company>(company, CompanyCommand::Disable { by }),
            false => reaction.command::<Company>(company, CompanyCommand::Enable { by }),
        };
        match trigger {
            Trigger::Event(CityFact::Disabled | CityFact::Enabled) => self.companies.iter().fold(Reaction::none(), tell),
            Trigger::Event(CityFact::CompanyCreated { .. }) if self.off => tell(Reaction::none(), &context.stream_id),
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

/// Carries a company's state to its employees. One instance for each company.
#[derive(Debug, Default)]
pub(crate) struct CompanyCascade {
    switch: Switch,
    employees: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CompanyFact {
    #[serde(rename = "company.Disabled")]
    Disabled { by: By },
    #[serde(rename = "company.Enabled")]
    Enabled { by: By },
    #[serde(rename = "employee.Created")]
    EmployeeCreated { company: String },
}

impl Event for CompanyFact {
    const NAMESPACE: &'static str = "company_cascade";
}

impl Process for CompanyCascade {
    const NAME: &'static str = "company_cascade";
    type Event = CompanyFact;

    fn targets() -> Targets {
        Targets::of::<Employee>()
    }

    fn correlate(event: &Recorded<CompanyFact>) -> Correlation {
        match &event.event {
            CompanyFact::Disabled { .. } | CompanyFact::Enabled { .. } => Correlation::starts(event.stream_id()),
            CompanyFact::EmployeeCreated { company } => Correlation::starts(company),
        }
    }

    fn apply(&mut self, trigger: &Trigger<CompanyFact>, context: &Context) {
        match trigger {
            Trigger::Event(CompanyFact::Disabled { by }) => self.switch.set_off(*by, true),
            Trigger::Event(CompanyFact::Enabled { by }) => self.switch.set_off(*by, false),
            Trigger::Event(CompanyFact::EmployeeCreated { .. }) => _ = self.employees.insert(context.stream_id.clone()),
            Trigger::Refused(_) | Trigger::TimerFired { .. } => {}
        }
    }

    fn react(&self, trigger: &Trigger<CompanyFact>, context: &Context) -> Reaction {
        let by = By::Parent;
        let tell = |reaction: Reaction, employee: &String| match self.switch.is_on() {
            true => reaction.command::<Employee>(employee, EmployeeCommand::Enable { by }),
            false => reaction.command::<Employee>(employee, EmployeeCommand::Disable { by }),
        };
        match trigger {
            // Off for a second reason, or for one reason less: what an employee has already is nothing to do.
            Trigger::Event(CompanyFact::Disabled { .. } | CompanyFact::Enabled { .. }) => {
                self.employees.iter().fold(Reaction::none(), tell)
            }
            Trigger::Event(CompanyFact::EmployeeCreated { .. }) if !self.switch.is_on() => {
                tell(Reaction::none(), &context.stream_id)
            }
            _ => Reaction::none(),
        }
    }
}
