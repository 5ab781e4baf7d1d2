//! A city, a company in it, an employee of that. Each keeps apart whether it was switched off
//! itself or with its parent: so a city that is enabled again restores every company's own setting.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

/// Originator of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum By {
    Itself,
    Parent,
}

// ANCHOR: switch
/// On, unless it is off for one reason or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switch {
    itself_off: bool,
    parent_off: bool,
}
// ANCHOR_END: switch

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        !self.itself_off && !self.parent_off
    }

    pub(crate) fn is_off(self, by: By) -> bool {
        match by {
            By::Itself => self.itself_off,
            By::Parent => self.parent_off,
        }
    }

    pub(crate) fn set_off(&mut self, by: By, off: bool) {
        match by {
            By::Itself => self.itself_off = off,
            By::Parent => self.parent_off = off,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CityEvent {
    Disabled,
    Enabled,
}

impl Event for CityEvent {
    const NAMESPACE: &'static str = "city";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CityCommand {
    Disable,
    Enable,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct City {
    pub(crate) disabled: bool,
}

/// Nobody is refused here: what is so already is nothing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it does not exist")]
    Absent,
    #[error("it exists already")]
    Exists,
    #[error("{what} is disabled")]
    Disabled { what: String },
}

impl Aggregate for City {
    const CATEGORY: &'static str = "city";
    type Event = CityEvent;
    type Command = CityCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &CityEvent) {
        self.disabled = *event == CityEvent::Disabled;
    }

    fn decide(&self, command: &CityCommand) -> Result<Vec<CityEvent>, Refusal> {
        Ok(match command {
            CityCommand::Disable if !self.disabled => vec![CityEvent::Disabled],
            CityCommand::Enable if self.disabled => vec![CityEvent::Enabled],
            CityCommand::Disable | CityCommand::Enable => Vec::new(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CompanyEvent {
    Created { city: String },
    Disabled { by: By },
    Enabled { by: By },
}

impl Event for CompanyEvent {
    const NAMESPACE: &'static str = "company";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CompanyCommand {
    Create { city: String },
    Disable { by: By },
    Enable { by: By },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Company {
    city: Option<String>,
    pub(crate) switch: Switch,
}

impl Aggregate for Company {
    const CATEGORY: &'static str = "company";
    type Event = CompanyEvent;
    type Command = CompanyCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &CompanyEvent) {
        match event {
            CompanyEvent::Created { city } => self.city = Some(city.clone()),
            CompanyEvent::Disabled { by } => self.switch.set_off(*by, true),
            CompanyEvent::Enabled { by } => self.switch.set_off(*by, false),
        }
    }

    fn decide(&self, command: &CompanyCommand) -> Result<Vec<CompanyEvent>, Refusal> {
        Ok(match command.clone() {
            CompanyCommand::Create { .. } if self.city.is_some() => return Err(Refusal::Exists),
            CompanyCommand::Create { city } => vec![CompanyEvent::Created { city }],
            _ if self.city.is_none() => return Err(Refusal::Absent),
            CompanyCommand::Disable { by } if !self.switch.is_off(by) => {
                vec![CompanyEvent::Disabled { by }]
            }
            CompanyCommand::Enable { by } if self.switch.is_off(by) => {
                vec![CompanyEvent::Enabled { by }]
            }
            CompanyCommand::Disable { .. } | CompanyCommand::Enable { .. } => Vec::new(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum EmployeeEvent {
    Created { company: String },
    Disabled { by: By },
    Enabled { by: By },
    ClockedIn,
}

impl Event for EmployeeEvent {
    const NAMESPACE: &'static str = "employee";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum EmployeeCommand {
    Create {
        company: String,
    },
    Disable {
        by: By,
    },
    Enable {
        by: By,
    },
    /// Comes to work: who is disabled, or belongs to what is, may not. See `passed.rs` for what the
    /// caller knows.
    ClockIn {
        parent_enabled: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Employee {
    company: Option<String>,
    pub(crate) switch: Switch,
}

impl Aggregate for Employee {
    const CATEGORY: &'static str = "employee";
    type Event = EmployeeEvent;
    type Command = EmployeeCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &EmployeeEvent) {
        match event {
            EmployeeEvent::Created { company } => self.company = Some(company.clone()),
            EmployeeEvent::Disabled { by } => self.switch.set_off(*by, true),
            EmployeeEvent::Enabled { by } => self.switch.set_off(*by, false),
            EmployeeEvent::ClockedIn => {}
        }
    }

    fn decide(&self, command: &EmployeeCommand) -> Result<Vec<EmployeeEvent>, Refusal> {
        Ok(match command.clone() {
            EmployeeCommand::Create { .. } if self.company.is_some() => {
                return Err(Refusal::Exists);
            }
            EmployeeCommand::Create { company } => vec![EmployeeEvent::Created { company }],
            _ if self.company.is_none() => return Err(Refusal::Absent),
            EmployeeCommand::Disable { by } if !self.switch.is_off(by) => {
                vec![EmployeeEvent::Disabled { by }]
            }
            EmployeeCommand::Enable { by } if self.switch.is_off(by) => {
                vec![EmployeeEvent::Enabled { by }]
            }
            EmployeeCommand::Disable { .. } | EmployeeCommand::Enable { .. } => Vec::new(),
            EmployeeCommand::ClockIn { .. } if !self.switch.is_on() => {
                return Err(Refusal::Disabled { what: "the employee".into() });
            }
            EmployeeCommand::ClockIn { parent_enabled: false } => {
                return Err(Refusal::Disabled { what: "the company".into() });
            }
            EmployeeCommand::ClockIn { parent_enabled: true } => vec![EmployeeEvent::ClockedIn],
        })
    }
}
