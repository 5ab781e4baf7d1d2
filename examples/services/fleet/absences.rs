//! The picture of a driver on the assignment side: who is away, and when. It is made of what the
//! people office tells; names and birthdays are none of its business.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::people::VacationTold;

/// Absences of one driver, with the last that was heard of each vacation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Absence {
    versions: BTreeMap<String, u64>,
    pub(crate) vacations: BTreeMap<String, (u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AbsenceEvent {
    Noted { vacation: String, version: u64, from: u32, until: u32 },
    Lifted { vacation: String, version: u64 },
}

impl Event for AbsenceEvent {
    const NAMESPACE: &'static str = "absence";
}

/// Notes what is told of a vacation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NoteVacation {
    pub(crate) vacation: String,
    pub(crate) version: u64,
    pub(crate) away: Option<(u32, u32)>,
}

/// The picture takes what it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum AbsenceRefusal {}

// ANCHOR: picture
impl Aggregate for Absence {
    const CATEGORY: &'static str = "absence";
    type Event = AbsenceEvent;
    type Command = NoteVacation;
    type Refusal = AbsenceRefusal;

    fn apply(&mut self, event: &AbsenceEvent) {
        let (AbsenceEvent::Noted { vacation, version, .. }
        | AbsenceEvent::Lifted { vacation, version }) = event.clone();
        self.versions.insert(vacation.clone(), version);
        match event {
            AbsenceEvent::Noted { from, until, .. } => {
                self.vacations.insert(vacation, (*from, *until));
            }
            AbsenceEvent::Lifted { .. } => _ = self.vacations.remove(&vacation),
        }
    }

    fn decide(&self, told: &NoteVacation) -> Result<Vec<AbsenceEvent>, AbsenceRefusal> {
        let NoteVacation { vacation, version, away } = told.clone();
        // What comes again after a failure may come behind what is newer.
        if self.versions.get(&vacation).is_some_and(|known| *known >= version) {
            return Ok(Vec::new());
        }
        Ok(vec![match away {
            Some((from, until)) => AbsenceEvent::Noted { vacation, version, from, until },
            None => AbsenceEvent::Lifted { vacation, version },
        }])
    }
}
// ANCHOR_END: picture

// ANCHOR: inbox
/// The inbox: what the people office tells.
pub(crate) struct VacationNews;

impl Inbox for VacationNews {
    const NAME: &'static str = "vacation_news";
    type Message = VacationTold;

    fn targets() -> Targets {
        Targets::of::<Absence>()
    }

    fn hold() -> Duration {
        Duration::ZERO
    }

    fn deliver(told: &VacationTold, _: &Delivery) -> Reaction {
        let VacationTold { driver, vacation, version, away } = told.clone();
        Reaction::none().command::<Absence>(driver, NoteVacation { vacation, version, away })
    }
}
// ANCHOR_END: inbox
