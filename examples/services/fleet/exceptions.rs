//! The eventual variant: a vacation that comes after the assignment is not refused, it makes an
//! exception. A report shows vehicles whose driver became unavailable, and a process takes the
//! driver off the vehicle.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use serde::{Deserialize, Serialize};

use crate::assigning::{Absences, FleetEvent};

/// A vehicle, with no more than its driver: what unassignment is decided on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vehicle {
    pub(crate) driver: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum VehicleEvent {
    Assigned { vehicle: String, driver: String, from: u32, until: u32 },
    Unassigned { vehicle: String, driver: String, because: String },
}

impl Event for VehicleEvent {
    const NAMESPACE: &'static str = "vehicle";
}

/// Takes this driver off the vehicle. Another one who has it by now keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unassign {
    pub(crate) vehicle: String,
    pub(crate) driver: String,
    pub(crate) because: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("a vehicle refuses nothing")]
pub(crate) struct Never;

impl Aggregate for Vehicle {
    const CATEGORY: &'static str = "vehicle";
    type Event = VehicleEvent;
    type Command = Unassign;
    type Refusal = Never;

    fn apply(&mut self, event: &VehicleEvent) {
        self.driver = match event {
            VehicleEvent::Assigned { driver, .. } => Some(driver.clone()),
            VehicleEvent::Unassigned { .. } => None,
        }
    }

    fn decide(
        &self,
        Unassign { vehicle, driver, because }: &Unassign,
    ) -> Result<Vec<VehicleEvent>, Never> {
        if self.driver.as_ref() != Some(driver) {
            return Ok(Vec::new());
        }
        let (vehicle, driver, because) = (vehicle.clone(), driver.clone(), because.clone());
        Ok(vec![VehicleEvent::Unassigned { vehicle, driver, because }])
    }
}

/// Vehicles of one driver, and the days of absence. The same fold serves the report and the
/// process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Duties {
    absences: Absences,
    vehicles: BTreeMap<String, (u32, u32)>,
}

impl Duties {
    fn apply(&mut self, event: &FleetEvent) {
        match event {
            FleetEvent::Assigned { vehicle, from, until, .. } => {
                _ = self.vehicles.insert(vehicle.clone(), (*from, *until))
            }
            FleetEvent::Unassigned { vehicle, .. } => _ = self.vehicles.remove(vehicle),
            vacation => self.absences.apply(vacation),
        }
    }

    /// The vehicles whose driver is away on a day for which they were assigned, with the first such
    /// vacation's day.
    fn exceptions(&self) -> impl Iterator<Item = (&String, u32)> {
        self.vehicles.iter().filter_map(|(vehicle, (from, until))| {
            Some((vehicle, self.absences.within(*from, *until)?))
        })
    }
}

/// The driver that an event is about.
fn driver(event: &Recorded<FleetEvent>) -> &str {
    match &event.event {
        FleetEvent::Assigned { driver, .. } | FleetEvent::Unassigned { driver, .. } => driver,
        _ => event.stream_id(),
    }
}

/// The report: duties by driver.
pub(crate) type Report = BTreeMap<String, Duties>;

/// Vehicles and drivers that do not fit together, and since which day.
pub(crate) fn exceptions(report: &Report) -> Vec<(String, String, u32)> {
    let of = |(driver, duties): (&String, &Duties)| -> Vec<_> {
        duties.exceptions().map(|(vehicle, day)| (vehicle.clone(), driver.clone(), day)).collect()
    };
    report.iter().flat_map(of).collect()
}

pub(crate) struct ExceptionReport;

// ANCHOR: report
impl Projection<Memory<Report>> for ExceptionReport {
    const NAME: &'static str = "exceptions";
    type Event = FleetEvent;

    async fn apply(
        &self,
        report: &mut Report,
        event: &Recorded<FleetEvent>,
    ) -> Result<(), ProjectionError> {
        report.entry(driver(event).to_owned()).or_default().apply(&event.event);
        Ok(())
    }
}
// ANCHOR_END: report

// ANCHOR: process
/// One instance for each driver.
#[derive(Debug, Default)]
pub(crate) struct Unassignment(Duties);

impl Process for Unassignment {
    const NAME: &'static str = "unassignment";
    type Event = FleetEvent;

    fn targets() -> Targets {
        Targets::of::<Vehicle>()
    }

    fn correlate(event: &Recorded<FleetEvent>) -> Correlation {
        Correlation::starts(driver(event))
    }

    fn apply(&mut self, trigger: &Trigger<FleetEvent>, _: &Context) {
        if let Trigger::Event(event) = trigger {
            self.0.apply(event);
        }
    }

    fn react(&self, trigger: &Trigger<FleetEvent>, context: &Context) -> Reaction {
        let unassign = |reaction: Reaction, (vehicle, day): (&String, u32)| {
            let because = format!("{} is on vacation from day {day}", context.key);
            let command =
                Unassign { vehicle: vehicle.clone(), driver: context.key.clone(), because };
            reaction.command::<Vehicle>(vehicle, command)
        };
        match trigger {
            // Its own doing.
            Trigger::Event(FleetEvent::Unassigned { .. }) => Reaction::none(),
            Trigger::Event(_) => self.0.exceptions().fold(Reaction::none(), unassign),
            Trigger::Refused(_) | Trigger::TimerFired { .. } => Reaction::none(),
        }
    }
}
// ANCHOR_END: process
