//! The assignment side: one decision over a vehicle and a driver. It keeps only its own small
//! picture of a driver: who is away, and when; names and birthdays are none of its business.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::store::EventType;
use serde::{Deserialize, Serialize};

use crate::exceptions::VehicleEvent;
use crate::people::DriverEvent;

/// Events that this side records, and the little that it reads of drivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FleetEvent {
    #[serde(rename = "vehicle.Assigned")]
    Assigned { vehicle: String, driver: String, from: u32, until: u32 },
    #[serde(rename = "vehicle.Unassigned")]
    Unassigned { vehicle: String, driver: String, because: String },
    #[serde(rename = "driver.VacationScheduled")]
    VacationScheduled { vacation: String, from: u32, until: u32 },
    #[serde(rename = "driver.VacationChanged")]
    VacationChanged { vacation: String, from: u32, until: u32 },
    #[serde(rename = "driver.VacationEndedEarly")]
    VacationEndedEarly { vacation: String, on: u32 },
    #[serde(rename = "driver.VacationCancelled")]
    VacationCancelled { vacation: String },
}

impl Event for FleetEvent {
    const NAMESPACE: &'static str = "fleet";

    /// Returns the owners of these events: they would record what is recorded through this enum.
    fn owners() -> Owners {
        Owners::of::<VehicleEvent>().and::<DriverEvent>()
    }
}

// ANCHOR: picture
/// A driver as this side sees one: vacations, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Absences(BTreeMap<String, (u32, u32)>);

impl Absences {
    pub(crate) fn apply(&mut self, event: &FleetEvent) {
        match event.clone() {
            FleetEvent::VacationScheduled { vacation, from, until }
            | FleetEvent::VacationChanged { vacation, from, until } => {
                self.0.insert(vacation, (from, until));
            }
            FleetEvent::VacationEndedEarly { vacation, on } => {
                self.0.entry(vacation).and_modify(|(_, until)| *until = on);
            }
            FleetEvent::VacationCancelled { vacation } => _ = self.0.remove(&vacation),
            FleetEvent::Assigned { .. } | FleetEvent::Unassigned { .. } => {}
        }
    }

    /// The first day of a vacation within these days.
    pub(crate) fn within(&self, from: u32, until: u32) -> Option<u32> {
        self.0
            .values()
            .filter(|(away, back)| *away < until && from < *back)
            .map(|(away, _)| *away)
            .min()
    }
}
// ANCHOR_END: picture

/// A vehicle is to have a driver for some days.
#[derive(Clone, Debug)]
pub(crate) struct Assign {
    pub(crate) vehicle: String,
    pub(crate) driver: String,
    pub(crate) from: u32,
    pub(crate) until: u32,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum AssignRefusal {
    #[error("the driver is on vacation from day {from}")]
    OnVacation { from: u32 },
    #[error("the vehicle has a driver, {driver}")]
    HasDriver { driver: String },
}

#[derive(Debug, Default)]
pub(crate) struct Picture {
    absences: Absences,
    driver: Option<String>,
}

// ANCHOR: decision
impl Decision for Assign {
    type Event = FleetEvent;
    type State = Picture;
    type Refusal = AssignRefusal;

    /// Both streams, of the driver no more than vacations: what is written there meanwhile makes
    /// this decision be made again. The people office never waits for it.
    fn query(&self) -> Query {
        let stream = |category, id: &str, types: &[&str]| {
            let types: Vec<_> = types
                .iter()
                .filter_map(|name| EventType::new(format!("{category}.{name}")).ok())
                .collect();
            StreamName::of(category, id).map_or(Query::nothing(), Query::stream).of_types(&types)
        };
        let vacations =
            ["VacationScheduled", "VacationChanged", "VacationEndedEarly", "VacationCancelled"];
        stream("vehicle", &self.vehicle, &["Assigned", "Unassigned"]).or(stream(
            "driver",
            &self.driver,
            &vacations,
        ))
    }

    fn apply(&self, picture: &mut Picture, event: &FleetEvent) {
        match event {
            FleetEvent::Assigned { driver, .. } => picture.driver = Some(driver.clone()),
            FleetEvent::Unassigned { .. } => picture.driver = None,
            vacation => picture.absences.apply(vacation),
        }
    }

    fn decide(&self, picture: &Picture) -> Result<Decided<FleetEvent>, AssignRefusal> {
        let Assign { vehicle, driver, from, until } = self.clone();
        match &picture.driver {
            Some(has) if *has == driver => return Ok(Decided::nothing()),
            Some(has) => return Err(AssignRefusal::HasDriver { driver: has.clone() }),
            None => {}
        }
        if let Some(from) = picture.absences.within(from, until) {
            return Err(AssignRefusal::OnVacation { from });
        }
        Ok(Decided::event(
            format!("vehicle-{vehicle}"),
            FleetEvent::Assigned { vehicle, driver, from, until },
        ))
    }
}
// ANCHOR_END: decision
