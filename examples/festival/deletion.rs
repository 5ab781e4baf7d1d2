//! What deletes: a process, with its own view of the events. It does not hear of teams that are created.

use std::collections::BTreeSet;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DeleteTeam, Festival, FestivalCommand, Team};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Watched {
    #[serde(rename = "festival.DeletionBegan")]
    DeletionBegan { festival: String, teams: BTreeSet<String> },
    #[serde(rename = "festival.TeamMoved")]
    TeamMoved { team: String, from: String },
    #[serde(rename = "festival.TeamDeleted")]
    TeamDeleted { team: String, festival: String },
    #[serde(rename = "festival.Deleted")]
    Deleted { festival: String },
}

impl Event for Watched {
    const NAMESPACE: &'static str = "festival";
}

/// The deletion of one festival: the teams that are still there.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    waits_for: BTreeSet<String>,
}

// ANCHOR: process
impl Process for Deletion {
    const NAME: &'static str = "deletion";
    type Event = Watched;

    fn targets() -> Targets {
        Targets::of::<Festival>().and::<Team>()
    }

    /// Nothing that it causes starts it, and a festival is deleted once: there is no way round in a circle.
    fn correlate(event: &Recorded<Watched>) -> Correlation {
        match &event.event {
            Watched::DeletionBegan { festival, .. } => Correlation::starts(festival),
            Watched::TeamMoved { from: festival, .. } | Watched::TeamDeleted { festival, .. } => Correlation::continues(festival),
            Watched::Deleted { festival } => Correlation::ends(festival),
        }
    }

    fn apply(&mut self, trigger: &Trigger<Watched>, _: &Context) {
        match trigger {
            Trigger::Event(Watched::DeletionBegan { teams, .. }) => self.waits_for.clone_from(teams),
            Trigger::Event(Watched::TeamMoved { team, .. } | Watched::TeamDeleted { team, .. }) => {
                self.waits_for.remove(team);
            }
            Trigger::Event(Watched::Deleted { .. }) | Trigger::TimerFired { .. } | Trigger::Refused(_) => {}
        }
    }

    fn react(&self, trigger: &Trigger<Watched>, Context { key: festival, .. }: &Context) -> Reaction {
        let end = || FestivalCommand::EndDeletion { festival: festival.clone() };
        match trigger {
            Trigger::Event(Watched::Deleted { .. }) => Reaction::none(),
            _ if self.waits_for.is_empty() => Reaction::none().command::<Festival>(festival, end()),
            Trigger::Event(Watched::DeletionBegan { teams, .. }) => teams.iter().fold(Reaction::none(), |reaction, team| {
                let delete = DeleteTeam { team: team.clone(), festival: festival.clone() };
                reaction.command::<Team>(team, delete)
            }),
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: process
