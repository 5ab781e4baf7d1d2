//! (c) A decision on a child that also reads its parent. Right where acting under a disabled parent
//! must never happen, not even for a moment: the city that is disabled meanwhile makes the decision
//! fail and be made again.

use leftfold::prelude::*;
use leftfold::store::EventType;
use serde::{Deserialize, Serialize};

use crate::domain::{By, CityEvent, CompanyEvent, EmployeeEvent, Refusal, Switch};

/// An employee comes to work, if nothing above is off. The caller names the parents; the decision
/// does not believe it.
#[derive(Clone, Debug)]
pub(crate) struct ClockIn {
    pub(crate) employee: String,
    pub(crate) company: String,
    pub(crate) city: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fact {
    #[serde(rename = "city.Disabled")]
    CityDisabled,
    #[serde(rename = "city.Enabled")]
    CityEnabled,
    #[serde(rename = "company.Created")]
    CompanyCreated { city: String },
    #[serde(rename = "company.Disabled")]
    CompanyDisabled { by: By },
    #[serde(rename = "company.Enabled")]
    CompanyEnabled { by: By },
    #[serde(rename = "employee.Created")]
    EmployeeCreated { company: String },
    #[serde(rename = "employee.Disabled")]
    EmployeeDisabled { by: By },
    #[serde(rename = "employee.Enabled")]
    EmployeeEnabled { by: By },
    #[serde(rename = "employee.ClockedIn")]
    ClockedIn,
}

impl Event for Fact {
    const NAMESPACE: &'static str = "clocking_in";

    fn owners() -> Owners {
        Owners::of::<CityEvent>().and::<CompanyEvent>().and::<EmployeeEvent>()
    }
}

/// Changes of each of the three itself.
#[derive(Debug, Default)]
pub(crate) struct Line {
    city_off: bool,
    company: Switch,
    employee: Switch,
    is_of_company: bool,
    is_of_city: bool,
}

// ANCHOR: decision
impl Decision for ClockIn {
    type Event = Fact;
    type State = Line;
    type Refusal = Refusal;

    /// Not the days on which the employee clocked in before: they say nothing, and there are many.
    fn query(&self) -> Query {
        let stream = |category, id: &str, types: &[&str]| {
            let types: Vec<_> = types
                .iter()
                .filter_map(|name| EventType::new(format!("{category}.{name}")).ok())
                .collect();
            StreamName::of(category, id).map_or(Query::nothing(), Query::stream).of_types(&types)
        };
        stream("city", &self.city, &["Disabled", "Enabled"])
            .or(stream("company", &self.company, &["Created", "Disabled", "Enabled"]))
            .or(stream("employee", &self.employee, &["Created", "Disabled", "Enabled"]))
    }

    fn apply(&self, line: &mut Line, fact: &Fact) {
        match fact {
            Fact::CityDisabled => line.city_off = true,
            Fact::CityEnabled => line.city_off = false,
            Fact::CompanyCreated { city } => line.is_of_city = *city == self.city,
            Fact::EmployeeCreated { company } => line.is_of_company = *company == self.company,
            Fact::CompanyDisabled { by } => line.company.set_off(*by, true),
            Fact::CompanyEnabled { by } => line.company.set_off(*by, false),
            Fact::EmployeeDisabled { by } => line.employee.set_off(*by, true),
            Fact::EmployeeEnabled { by } => line.employee.set_off(*by, false),
            Fact::ClockedIn => {}
        }
    }

    fn decide(&self, line: &Line) -> Result<Decided<Fact>, Refusal> {
        if !line.is_of_company || !line.is_of_city {
            return Err(Refusal::Absent);
        }
        // What the parents' cascade says of the children is late: their own word counts.
        let off = [
            (line.city_off, "the city"),
            (line.company.is_off(By::Itself), "the company"),
            (line.employee.is_off(By::Itself), "the employee"),
        ];
        match off.into_iter().find(|(off, _)| *off) {
            Some((_, what)) => Err(Refusal::Disabled { what: what.into() }),
            None => Ok(Decided::event(format!("employee-{}", self.employee), Fact::ClockedIn)),
        }
    }
}
// ANCHOR_END: decision
