//! The charging profiles that a station has: those that it accepted, until they were replaced,
//! cleared, or ended with their transaction.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::profile::{ChargingProfile, ProfilePurpose, ReportedSchedule};
use super::request::{OperationAnswered, OperationResult, StationOperation};
use crate::domain::request::StationAnswer;

/// Profiles of a station that are kept at most.
pub(crate) const PROFILES_MAX: usize = 64;

/// Charging profiles of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InstalledProfiles {
    /// The profiles, the oldest first.
    pub(crate) all: Vec<InstalledProfile>,
    /// Last composite schedule that the station told.
    pub(crate) told: Option<ToldSchedule>,
}

/// Charging profile that a station has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstalledProfile {
    /// Connector; 0 is the station.
    pub(crate) connector_id: u32,
    /// The profile.
    pub(crate) profile: ChargingProfile,
    /// Moment when the station accepted it.
    pub(crate) accepted_at: Timestamp,
}

/// Composite schedule as a station told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldSchedule {
    /// Connector that was asked for; 0 is the station.
    pub(crate) connector_id: u32,
    /// Time that was asked for, in seconds.
    pub(crate) duration_s: u32,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// The schedule.
    pub(crate) schedule: ReportedSchedule,
}

impl InstalledProfiles {
    /// Takes in the answer to an operation about profiles.
    pub(super) fn answered(&mut self, operation: &StationOperation, answered: &OperationAnswered) {
        if answered.answer != StationAnswer::Accepted {
            return;
        }
        match (operation, &answered.result) {
            (StationOperation::SetChargingProfile { connector_id, profile }, _) => {
                self.install(connector_id.get(), profile, answered.at);
            }
            (StationOperation::ClearChargingProfiles { .. }, _) => self.clear(operation),
            (
                StationOperation::ReadCompositeSchedule { connector_id, duration_s, .. },
                Some(OperationResult::CompositeSchedule(schedule)),
            ) => {
                self.told = Some(ToldSchedule {
                    connector_id: connector_id.get(),
                    duration_s: duration_s.get(),
                    at: answered.at,
                    schedule: schedule.clone(),
                });
            }
            _ => {}
        }
    }

    /// Takes in a profile. It replaces the one of its id, and the one of its purpose and rank on
    /// the connector (OCPP 1.6 section 3.13.2).
    pub(crate) fn install(
        &mut self,
        connector_id: u32,
        profile: &ChargingProfile,
        accepted_at: Timestamp,
    ) {
        self.all.retain(|installed| {
            let other = &installed.profile;
            let is_at_its_place = installed.connector_id == connector_id
                && other.purpose == profile.purpose
                && other.stack_level == profile.stack_level;
            other.id != profile.id && !is_at_its_place
        });
        if self.all.len() >= PROFILES_MAX {
            self.all.remove(0);
        }
        self.all.push(InstalledProfile { connector_id, profile: profile.clone(), accepted_at });
    }

    fn clear(&mut self, operation: &StationOperation) {
        let StationOperation::ClearChargingProfiles { id, connector_id, purpose, stack_level } =
            operation
        else {
            return;
        };
        self.all.retain(|installed| {
            let profile = &installed.profile;
            // An id names the profile, whatever else is given (section 5.4).
            let is_meant = match id {
                Some(id) => profile.id == *id,
                None => {
                    connector_id.is_none_or(|id| id.get() == installed.connector_id)
                        && purpose.is_none_or(|purpose| purpose == profile.purpose)
                        && stack_level.is_none_or(|level| level == profile.stack_level)
                }
            };
            !is_meant
        });
    }

    /// Takes in the end of a transaction: its profiles end with it. `station_id` is the id that the
    /// station knows it by.
    pub(crate) fn transaction_ended(&mut self, connector_id: u32, station_id: i64) {
        self.all.retain(|installed| {
            let profile = &installed.profile;
            let is_of_it = installed.connector_id == connector_id
                && profile.transaction_id.is_none_or(|id| id == station_id);
            profile.purpose != ProfilePurpose::Transaction || !is_of_it
        });
    }

    /// Tells whether the end of a transaction on a connector ends a profile.
    #[must_use]
    pub(crate) fn has_of_transaction(&self, connector_id: u32) -> bool {
        self.all.iter().any(|installed| {
            installed.connector_id == connector_id
                && installed.profile.purpose == ProfilePurpose::Transaction
        })
    }
}
