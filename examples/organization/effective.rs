//! (b) A read model with `enabled` and `enabled_effective`. Right where people look at it:
//! histories hold only what somebody did to each thing itself, and no command runs through
//! thousands of children. It is a moment late.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use serde::{Deserialize, Serialize};

/// Events that the read model reads: changes of each thing itself. It passes over what cascades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    #[serde(rename = "city.Disabled")]
    CityDisabled,
    #[serde(rename = "city.Enabled")]
    CityEnabled,
    #[serde(rename = "company.Created")]
    CompanyCreated { city: String },
    #[serde(rename = "company.Disabled")]
    CompanyDisabled { by: crate::domain::By },
    #[serde(rename = "company.Enabled")]
    CompanyEnabled { by: crate::domain::By },
    #[serde(rename = "employee.Created")]
    EmployeeCreated { company: String },
    #[serde(rename = "employee.Disabled")]
    EmployeeDisabled { by: crate::domain::By },
    #[serde(rename = "employee.Enabled")]
    EmployeeEnabled { by: crate::domain::By },
}

impl Event for Change {
    const NAMESPACE: &'static str = "directory";
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) enabled: bool,
    pub(crate) enabled_effective: bool,
    children: BTreeSet<String>,
}

impl Default for Row {
    fn default() -> Self {
        Self { enabled: true, enabled_effective: true, children: BTreeSet::new() }
    }
}

/// Rows by stream name: `city-lyon`, `company-7`, `employee-3`.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    rows: BTreeMap<String, Row>,
    parents: BTreeMap<String, String>,
}

impl Directory {
    pub(crate) fn row(&self, name: &str) -> Row {
        self.rows.get(name).cloned().unwrap_or_default()
    }

    fn adopt(&mut self, child: &str, parent: String) {
        self.rows.entry(parent.clone()).or_default().children.insert(child.to_owned());
        self.parents.insert(child.to_owned(), parent);
        self.rows.entry(child.to_owned()).or_default();
        self.spread(child);
    }

    // ANCHOR: spread
    fn set(&mut self, name: &str, enabled: bool) {
        self.rows.entry(name.to_owned()).or_default().enabled = enabled;
        self.spread(name);
    }

    /// Computes what is effective for one and all below it: its own flag, and its parent's
    /// effective one.
    fn spread(&mut self, name: &str) {
        let under = self.parents.get(name).is_none_or(|parent| self.row(parent).enabled_effective);
        let Some(row) = self.rows.get_mut(name) else { return };
        row.enabled_effective = row.enabled && under;
        for child in row.children.clone() {
            self.spread(&child);
        }
    }
    // ANCHOR_END: spread
}

pub(crate) struct Organization;

// ANCHOR: projection
impl Projection<Memory<Directory>> for Organization {
    const NAME: &'static str = "organization";
    type Event = Change;

    async fn apply(
        &self,
        directory: &mut Directory,
        change: &Recorded<Change>,
    ) -> Result<(), ProjectionError> {
        use crate::domain::By::Itself;
        let name = change.envelope.stream.as_ref().map_or("", |at| &at.name);
        match &change.event {
            Change::CompanyCreated { city } => directory.adopt(name, format!("city-{city}")),
            Change::EmployeeCreated { company } => {
                directory.adopt(name, format!("company-{company}"))
            }
            Change::CityDisabled
            | Change::CompanyDisabled { by: Itself }
            | Change::EmployeeDisabled { by: Itself } => {
                directory.set(name, false);
            }
            Change::CityEnabled
            | Change::CompanyEnabled { by: Itself }
            | Change::EmployeeEnabled { by: Itself } => {
                directory.set(name, true);
            }
            // The cascade's: it follows from the rest.
            Change::CompanyDisabled { .. }
            | Change::CompanyEnabled { .. }
            | Change::EmployeeDisabled { .. }
            | Change::EmployeeEnabled { .. } => {}
        }
        Ok(())
    }
}
// ANCHOR_END: projection
