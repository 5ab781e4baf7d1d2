//! The assignment side: one decision over a vehicle and the picture of a driver.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::absences::AbsenceEvent;
use crate::exceptions::VehicleEvent;

/// Events that this side decides on: of vehicles, and of absences as they became known here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FleetEvent {
    #[serde(rename = "vehicle.Assigned")]
    Assigned { vehicle: String, driver: String, from: u32, until: u32 },
    #[serde(rename = "vehicle.Unassigned")]
    Unassigned { vehicle: String, driver: String, because: String },
    #[serde(rename = "absence.Noted")]
    Noted { vacation: String, version: u64, from: u32, until: u32 },
    #[serde(rename = "absence.Lifted")]
    Lifted { vacation: String, version: u64 },
}

impl Event for FleetEvent {
    const NAMESPACE: &'static str = "fleet";

    /// Returns the owners of these events: they would record what is recorded through this enum.
    fn owners() -> Owners {
        Owners::of::<VehicleEvent>().and::<AbsenceEvent>()
    }
}

/// Days on which a driver is away, by vacation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Absences(BTreeMap<String, (u32, u32)>);

impl Absences {
    pub(crate) fn apply(&mut self, event: &FleetEvent) {
        match event.clone() {
            FleetEvent::Noted { vacation, from, until, .. } => {
                self.0.insert(vacation, (from, until));
            }
            FleetEvent::Lifted { vacation, .. } => _ = self.0.remove(&vacation),
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

    /// Both streams: what is recorded there meanwhile makes this decision be made again.
    fn query(&self) -> Query {
        let stream = |category, id: &str| {
            StreamName::of(category, id).map_or(Query::nothing(), Query::stream)
        };
        stream("vehicle", &self.vehicle).or(stream("absence", &self.driver))
    }

    fn apply(&self, picture: &mut Picture, event: &FleetEvent) {
        match event {
            FleetEvent::Assigned { driver, .. } => picture.driver = Some(driver.clone()),
            FleetEvent::Unassigned { .. } => picture.driver = None,
            absence => picture.absences.apply(absence),
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
