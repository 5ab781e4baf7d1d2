//! (a) A process that finds the children and sends each a command. Right where a child itself must
//! know, in its own history, that it is off: because it decides alone, lives in another partition,
//! or because others listen to it. The children are folded from the same log as the parent's
//! changes, in its order: a child that is created before its parent is disabled gets the command
//! with all others, one that is created after it gets its own. There is no third case. Ten million
//! children at most: they are told in batches, one reaction each, and a timer that is due at once
//! leads from one batch to the next.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::{By, Company, CompanyCommand, Employee, EmployeeCommand, Switch};

/// Children that are told in one reaction, which may issue 10,000 commands at most. A timer that is
/// due at once leads to the next one, 2,000 times in a row at most: so ten million. Few in tests,
/// so that these see many batches.
const BATCH: usize = if cfg!(test) { 2 } else { 5_000 };

// ANCHOR: cascade
/// The children of one parent, in order, and those to be told next.
#[derive(Debug, Default)]
struct Children {
    all: BTreeSet<String>,
    batch: Vec<String>,
}

impl Children {
    /// Begins with the first ones. A round that is under way ends there: its news is old.
    fn begin(&mut self) {
        self.batch = self.all.iter().take(BATCH).cloned().collect();
    }

    /// Goes on behind the last batch.
    fn go_on(&mut self) {
        let behind = self.batch.pop().map_or(Bound::Unbounded, Bound::Excluded);
        self.batch = self.all.range((behind, Bound::Unbounded)).take(BATCH).cloned().collect();
    }

    /// Tells each of the batch, and comes back for the next one.
    fn tell(&self, tell: impl Fn(Reaction, &String) -> Reaction) -> Reaction {
        let told = self.batch.iter().fold(Reaction::none(), tell);
        if self.batch.len() == BATCH { told.timer("next batch", Duration::ZERO) } else { told }
    }
}

/// Carries a city's state to its companies. One instance for each city.
#[derive(Debug, Default)]
pub(crate) struct CityCascade {
    off: bool,
    companies: Children,
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
            Trigger::Event(switched @ (CityFact::Disabled | CityFact::Enabled)) => {
                self.off = *switched == CityFact::Disabled;
                self.companies.begin();
            }
            Trigger::Event(CityFact::CompanyCreated { .. }) => {
                _ = self.companies.all.insert(context.stream_id.clone())
            }
            Trigger::TimerFired { .. } => self.companies.go_on(),
            Trigger::Refused(_) => {}
        }
    }

    fn react(&self, trigger: &Trigger<CityFact>, context: &Context) -> Reaction {
        let by = By::Parent;
        let tell = |reaction: Reaction, company: &String| match self.off {
            true => reaction.command::<Company>(company, CompanyCommand::Disable { by }),
            false => reaction.command::<Company>(company, CompanyCommand::Enable { by }),
        };
        match trigger {
            Trigger::Event(CityFact::Disabled | CityFact::Enabled) | Trigger::TimerFired { .. } => {
                self.companies.tell(tell)
            }
            Trigger::Event(CityFact::CompanyCreated { .. }) if self.off => {
                tell(Reaction::none(), &context.stream_id)
            }
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

/// Carries a company's state to its employees. One instance for each company.
#[derive(Debug, Default)]
pub(crate) struct CompanyCascade {
    switch: Switch,
    employees: Children,
}

impl CompanyCascade {
    fn switched(&mut self, by: By, off: bool) {
        self.switch.set_off(by, off);
        self.employees.begin();
    }
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
            CompanyFact::Disabled { .. } | CompanyFact::Enabled { .. } => {
                Correlation::starts(event.stream_id())
            }
            CompanyFact::EmployeeCreated { company } => Correlation::starts(company),
        }
    }

    fn apply(&mut self, trigger: &Trigger<CompanyFact>, context: &Context) {
        match trigger {
            Trigger::Event(CompanyFact::Disabled { by }) => self.switched(*by, true),
            Trigger::Event(CompanyFact::Enabled { by }) => self.switched(*by, false),
            Trigger::Event(CompanyFact::EmployeeCreated { .. }) => {
                _ = self.employees.all.insert(context.stream_id.clone())
            }
            Trigger::TimerFired { .. } => self.employees.go_on(),
            Trigger::Refused(_) => {}
        }
    }

    fn react(&self, trigger: &Trigger<CompanyFact>, context: &Context) -> Reaction {
        let by = By::Parent;
        let tell = |reaction: Reaction, employee: &String| match self.switch.is_on() {
            true => reaction.command::<Employee>(employee, EmployeeCommand::Enable { by }),
            false => reaction.command::<Employee>(employee, EmployeeCommand::Disable { by }),
        };
        match trigger {
            // Off for a second reason, or for one reason less: what an employee has already is
            // nothing to do.
            Trigger::Event(CompanyFact::Disabled { .. } | CompanyFact::Enabled { .. })
            | Trigger::TimerFired { .. } => self.employees.tell(tell),
            Trigger::Event(CompanyFact::EmployeeCreated { .. }) if !self.switch.is_on() => {
                tell(Reaction::none(), &context.stream_id)
            }
            _ => Reaction::none(),
        }
    }
}
