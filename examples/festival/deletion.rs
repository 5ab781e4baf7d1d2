//! The process that deletes, with its own view of the events. It knows the teams of each festival,
//! since it hears in the order of the log who comes and goes: when a deletion begins nobody can
//! come any more, and its list is complete.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::process::InstanceSnapshots;
use serde::{Deserialize, Serialize};

use super::{DeleteTeam, Festival, FestivalCommand, Team};

/// Teams that are asked to go in one reaction, which may issue 10,000 commands at most. A timer
/// that is due at once leads to the next one, 2,000 times in a row at most: so ten million. Few in
/// tests, so that these see many batches.
const BATCH: usize = if cfg!(test) { 2 } else { 5_000 };

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Watched {
    #[serde(rename = "festival.DeletionBegan")]
    DeletionBegan { festival: String },
    #[serde(rename = "festival.TeamCreated")]
    TeamCreated { team: String, festival: String },
    #[serde(rename = "festival.TeamMoved")]
    TeamMoved { team: String, from: String, to: String },
    #[serde(rename = "festival.TeamDeleted")]
    TeamDeleted { team: String, festival: String },
    #[serde(rename = "festival.Deleted")]
    Deleted { festival: String },
}

impl Event for Watched {
    const NAMESPACE: &'static str = "festival";
}

/// One festival: the teams that are there, and those that are asked to go next.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Deletion {
    teams: BTreeSet<String>,
    is_deleting: bool,
    batch: Vec<String>,
}

// ANCHOR: process
impl Process for Deletion {
    const NAME: &'static str = "deletion";
    type Event = Watched;

    fn targets() -> Targets {
        Targets::of::<Festival>().and::<Team>()
    }

    /// Nothing that it causes begins a deletion, and a festival is deleted once: there is no way
    /// round in a circle.
    fn correlate(event: &Recorded<Watched>) -> Correlation {
        match &event.event {
            Watched::DeletionBegan { festival } | Watched::TeamCreated { festival, .. } => {
                Correlation::starts(festival)
            }
            Watched::TeamMoved { from, to, .. } => Correlation::continues(from).and_starts(to),
            Watched::TeamDeleted { festival, .. } => Correlation::continues(festival),
            Watched::Deleted { festival } => Correlation::ends(festival),
        }
    }

    fn apply(&mut self, trigger: &Trigger<Watched>, Context { key: festival, .. }: &Context) {
        match trigger {
            Trigger::Event(Watched::TeamCreated { team, .. }) => {
                _ = self.teams.insert(team.clone())
            }
            Trigger::Event(Watched::TeamMoved { team, to, .. }) if to == festival => {
                _ = self.teams.insert(team.clone())
            }
            Trigger::Event(Watched::TeamMoved { team, .. } | Watched::TeamDeleted { team, .. }) => {
                _ = self.teams.remove(team)
            }
            Trigger::Event(Watched::DeletionBegan { .. }) => {
                self.is_deleting = true;
                self.batch = self.teams.iter().take(BATCH).cloned().collect();
            }
            // Each batch is behind the last one: every team is asked once.
            Trigger::TimerFired { .. } => {
                let behind = self.batch.pop().map_or(Bound::Unbounded, Bound::Excluded);
                self.batch =
                    self.teams.range((behind, Bound::Unbounded)).take(BATCH).cloned().collect();
            }
            Trigger::Event(Watched::Deleted { .. }) | Trigger::Refused(_) => {}
        }
    }

    fn snapshots() -> InstanceSnapshots<Self> {
        InstanceSnapshots::every_reactions(10_000)
    }

    fn react(
        &self,
        trigger: &Trigger<Watched>,
        Context { key: festival, .. }: &Context,
    ) -> Reaction {
        let delete = |reaction: Reaction, team: &String| {
            reaction.command::<Team>(
                team,
                DeleteTeam { team: team.clone(), festival: festival.clone() },
            )
        };
        match trigger {
            Trigger::Event(Watched::Deleted { .. }) => Reaction::none(),
            _ if !self.is_deleting => Reaction::none(),
            _ if self.teams.is_empty() => Reaction::none().command::<Festival>(
                festival,
                FestivalCommand::EndDeletion { festival: festival.clone() },
            ),
            Trigger::Event(Watched::DeletionBegan { .. }) | Trigger::TimerFired { .. } => {
                let asked = self.batch.iter().fold(Reaction::none(), delete);
                if self.batch.len() == BATCH {
                    asked.timer("next batch", Duration::ZERO)
                } else {
                    asked
                }
            }
            _ => Reaction::none(),
        }
    }
}
// ANCHOR_END: process
