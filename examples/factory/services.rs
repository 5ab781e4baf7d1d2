//! Pure services: a price list and a rule table. They are values; anyone who asks hands over those
//! that hold today, and what was decided by them stands in the event, so that tomorrow's list
//! changes nothing of yesterday.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

// ANCHOR: services
/// Prices of pieces of work, in cents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PriceList {
    pub(crate) edition: u32,
    pub(crate) cents: BTreeMap<String, u64>,
}

/// Skills that kinds of work need, and the number of runs after which a machine is to be
/// calibrated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    pub(crate) skill: BTreeMap<String, String>,
    pub(crate) runs_max: u32,
}

impl Rules {
    pub(crate) fn allow(&self, work: &str, skills: &[String]) -> bool {
        self.skill.get(work).is_none_or(|needed| skills.contains(needed))
    }
}
// ANCHOR_END: services
