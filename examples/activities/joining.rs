//! (b) A process between two aggregates: the activity asks, the company admits it or refuses, the
//! activity joins or is rejected, with the reason. Right where each side decides for itself: in
//! another partition, by another team, or by a person. In between the activity is neither in nor
//! out, and everyone has to live with that. Every ask has a number, so that an answer which comes
//! late is never taken for the answer to a later one.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::decision::Level;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ListingEvent {
    Published { title: String },
    Asked { company: String, ask: u32 },
    Joined { company: String, ask: u32 },
    Rejected { ask: u32, reason: String },
    Left { ask: u32 },
    Cancelled,
}

impl Event for ListingEvent {
    const NAMESPACE: &'static str = "listing";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ListingCommand {
    Publish {
        title: String,
    },
    Ask {
        company: String,
    },
    /// The company has admitted it.
    Join {
        ask: u32,
    },
    Reject {
        ask: u32,
        reason: String,
    },
    /// Leaves the company, or does not want to join any more.
    Leave,
    Cancel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum JoiningRefusal {
    #[error("the activity belongs to {company}, or has asked it")]
    BelongsTo { company: String },
    #[error("the activity belongs to nobody")]
    BelongsToNobody,
    #[error("the activity has changed its mind")]
    ChangedItsMind,
    #[error("the activity is cancelled")]
    Cancelled,
    #[error("the company is no member")]
    NoMember,
    #[error("the company has {active} active activities, its level allows {active_max}")]
    Full { active: usize, active_max: usize },
}

/// An activity on its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// The company that it belongs to, or has asked.
    pub(crate) company: Option<String>,
    pub(crate) joined: bool,
    pub(crate) rejected: Option<String>,
    asks: u32,
    cancelled: bool,
}

impl Aggregate for Listing {
    const CATEGORY: &'static str = "listing";
    type Event = ListingEvent;
    type Command = ListingCommand;
    type Refusal = JoiningRefusal;

    fn apply(&mut self, event: &ListingEvent) {
        match event {
            ListingEvent::Published { .. } => {}
            ListingEvent::Asked { company, ask } => {
                (self.company, self.asks, self.rejected) = (Some(company.clone()), *ask, None);
            }
            ListingEvent::Joined { .. } => self.joined = true,
            ListingEvent::Rejected { reason, .. } => {
                (self.company, self.rejected) = (None, Some(reason.clone()))
            }
            ListingEvent::Left { .. } => (self.company, self.joined) = (None, false),
            ListingEvent::Cancelled => self.cancelled = true,
        }
    }

    fn decide(&self, command: &ListingCommand) -> Result<Vec<ListingEvent>, JoiningRefusal> {
        let ask = self.asks;
        Ok(match (command.clone(), &self.company) {
            (ListingCommand::Join { ask: meant }, Some(company)) if meant == ask => {
                match self.joined {
                    true => Vec::new(),
                    false => vec![ListingEvent::Joined { company: company.clone(), ask }],
                }
            }
            (ListingCommand::Join { .. }, _) => return Err(JoiningRefusal::ChangedItsMind),
            (ListingCommand::Reject { ask: meant, reason }, Some(_))
                if meant == ask && !self.joined =>
            {
                vec![ListingEvent::Rejected { ask, reason }]
            }
            (ListingCommand::Reject { .. }, _) => Vec::new(),
            _ if self.cancelled => return Err(JoiningRefusal::Cancelled),
            (ListingCommand::Publish { title }, _) => vec![ListingEvent::Published { title }],
            (ListingCommand::Ask { company }, Some(theirs)) if company == *theirs => Vec::new(),
            (ListingCommand::Ask { .. }, Some(company)) => {
                return Err(JoiningRefusal::BelongsTo { company: company.clone() });
            }
            (ListingCommand::Ask { company }, None) => {
                vec![ListingEvent::Asked { company, ask: ask + 1 }]
            }
            (ListingCommand::Leave, Some(_)) => vec![ListingEvent::Left { ask }],
            (ListingCommand::Leave, None) => return Err(JoiningRefusal::BelongsToNobody),
            (ListingCommand::Cancel, Some(_)) => {
                vec![ListingEvent::Left { ask }, ListingEvent::Cancelled]
            }
            (ListingCommand::Cancel, None) => vec![ListingEvent::Cancelled],
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MemberEvent {
    LevelGranted { level: Level },
    Admitted { activity: String, ask: u32 },
    Released { activity: String, ask: u32 },
}

impl Event for MemberEvent {
    const NAMESPACE: &'static str = "member";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MemberCommand {
    Grant { level: Level },
    Admit { activity: String, ask: u32 },
    Release { activity: String, ask: u32 },
}

/// A company, with the asks that it has admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    level: Option<Level>,
    pub(crate) active: BTreeMap<String, u32>,
}

impl Aggregate for Member {
    const CATEGORY: &'static str = "member";
    type Event = MemberEvent;
    type Command = MemberCommand;
    type Refusal = JoiningRefusal;

    fn apply(&mut self, event: &MemberEvent) {
        match event {
            MemberEvent::LevelGranted { level } => self.level = Some(*level),
            MemberEvent::Admitted { activity, ask } => {
                _ = self.active.insert(activity.clone(), *ask)
            }
            MemberEvent::Released { activity, .. } => _ = self.active.remove(activity),
        }
    }

    fn decide(&self, command: &MemberCommand) -> Result<Vec<MemberEvent>, JoiningRefusal> {
        Ok(match command.clone() {
            MemberCommand::Grant { level } => vec![MemberEvent::LevelGranted { level }],
            MemberCommand::Admit { activity, ask } => {
                let active_max = self.level.ok_or(JoiningRefusal::NoMember)?.active_max();
                let active = self.active.len();
                if active >= active_max {
                    return Err(JoiningRefusal::Full { active, active_max });
                }
                vec![MemberEvent::Admitted { activity, ask }]
            }
            // Anyone who takes back an admission takes back that one, and once.
            MemberCommand::Release { activity, ask }
                if self.active.get(&activity) == Some(&ask) =>
            {
                vec![MemberEvent::Released { activity, ask }]
            }
            MemberCommand::Release { .. } => Vec::new(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum JoiningFact {
    #[serde(rename = "listing.Asked")]
    Asked { company: String, ask: u32 },
    #[serde(rename = "member.Admitted")]
    Admitted { activity: String, ask: u32 },
    #[serde(rename = "listing.Rejected")]
    Rejected,
    #[serde(rename = "listing.Left")]
    Left { ask: u32 },
}

impl Event for JoiningFact {
    const NAMESPACE: &'static str = "joining";
}

/// From an ask to its rejection, or until the activity leaves. One instance for each activity.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    company: String,
    ask: u32,
}

// ANCHOR: process
impl Process for Joining {
    const NAME: &'static str = "joining";
    type Event = JoiningFact;

    fn targets() -> Targets {
        Targets::of::<Listing>().and::<Member>()
    }

    fn correlate(event: &Recorded<JoiningFact>) -> Correlation {
        match &event.event {
            JoiningFact::Asked { .. } => Correlation::starts(event.stream_id()),
            JoiningFact::Admitted { activity, .. } => Correlation::continues(activity),
            JoiningFact::Rejected | JoiningFact::Left { .. } => {
                Correlation::ends(event.stream_id())
            }
        }
    }

    fn apply(&mut self, trigger: &Trigger<JoiningFact>, _: &Context) {
        if let Trigger::Event(JoiningFact::Asked { company, ask }) = trigger {
            (self.company, self.ask) = (company.clone(), *ask);
        }
    }

    fn react(&self, trigger: &Trigger<JoiningFact>, context: &Context) -> Reaction {
        let (activity, reaction) = (context.key.clone(), Reaction::none());
        match trigger {
            Trigger::Event(JoiningFact::Asked { company, ask }) => {
                reaction.command::<Member>(company, MemberCommand::Admit { activity, ask: *ask })
            }
            Trigger::Event(JoiningFact::Admitted { ask, .. }) => {
                reaction.command::<Listing>(activity, ListingCommand::Join { ask: *ask })
            }
            // It comes to the company after the admission, if that is under way: commands for one
            // aggregate keep their order.
            Trigger::Event(JoiningFact::Left { ask }) => reaction
                .command::<Member>(&self.company, MemberCommand::Release { activity, ask: *ask }),
            Trigger::Refused(refused) => {
                match (refused.command::<Member>(), refused.command::<Listing>()) {
                    (Some(MemberCommand::Admit { ask, .. }), _) => {
                        let reason = refused.reason().to_owned();
                        reaction
                            .command::<Listing>(activity, ListingCommand::Reject { ask, reason })
                    }
                    (_, Some(ListingCommand::Join { ask })) if ask == self.ask => reaction
                        .command::<Member>(&self.company, MemberCommand::Release { activity, ask }),
                    _ => reaction,
                }
            }
            Trigger::Event(JoiningFact::Rejected) | Trigger::TimerFired { .. } => reaction,
        }
    }
}
// ANCHOR_END: process
