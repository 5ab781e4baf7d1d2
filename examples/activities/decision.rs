//! (a) One decision over both, whatever stream their events are in: what it read may not change
//! before its answer is recorded, so there is no moment in which either rule is broken, and nothing
//! to undo. Right wherever both are in one store.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Level {
    Basic,
    Gold,
}

impl Level {
    pub(crate) fn active_max(self) -> usize {
        match self {
            Level::Basic => 2,
            Level::Gold => 5,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Membership {
    LevelGranted { company: String, level: Level },
    Assigned { activity: String, company: String },
    Unassigned { activity: String, company: String },
}

// ANCHOR: tags
impl Event for Membership {
    const NAMESPACE: &'static str = "membership";

    fn tags(&self) -> Tags {
        match self {
            Membership::LevelGranted { company, .. } => Tags::none().with(company_tag(company)),
            Membership::Assigned { activity, company }
            | Membership::Unassigned { activity, company } => {
                Tags::none().with(company_tag(company)).with(activity_tag(activity))
            }
        }
    }
}
// ANCHOR_END: tags

fn company_tag(company: &str) -> String {
    format!("company:{company}")
}

fn activity_tag(activity: &str) -> String {
    format!("activity:{activity}")
}

/// A company buys another level. Nobody asks whether that fits: it is a fact, and it makes an
/// assignment that races with it decide again.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) company: String,
    pub(crate) level: Level,
}

impl Decision for Grant {
    type Event = Membership;
    type State = ();
    type Refusal = MembershipRefusal;

    fn query(&self) -> Query {
        Query::nothing()
    }

    fn apply(&self, (): &mut (), _: &Membership) {}

    fn decide(&self, (): &()) -> Result<Decided<Membership>, MembershipRefusal> {
        let event = Membership::LevelGranted { company: self.company.clone(), level: self.level };
        Ok(Decided::event(format!("company-{}", self.company), event))
    }
}

/// An activity is to be with a company, where it then is active, or with it no longer.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) activity: String,
    pub(crate) company: String,
    pub(crate) to: To,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    Assigned,
    Unassigned,
}

/// Just what a change needs to know of both.
#[derive(Default)]
pub(crate) struct Picture {
    /// Of the company.
    level: Option<Level>,
    active: usize,
    /// Of the activity.
    belongs_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum MembershipRefusal {
    #[error("the company is no member")]
    NoMember,
    #[error("the activity belongs to {company}")]
    BelongsTo { company: String },
    #[error("the activity does not belong to the company")]
    NotTheirs,
    #[error("the company has {active} active activities, its level allows {active_max}")]
    Full { active: usize, active_max: usize },
}

// ANCHOR: decision
impl Decision for Change {
    type Event = Membership;
    type State = Picture;
    type Refusal = MembershipRefusal;

    fn query(&self) -> Query {
        Query::tag(company_tag(&self.company)).or(Query::tag(activity_tag(&self.activity)))
    }

    fn apply(&self, picture: &mut Picture, event: &Membership) {
        match event {
            Membership::LevelGranted { level, .. } => picture.level = Some(*level),
            Membership::Assigned { activity, company } => {
                if *company == self.company {
                    picture.active += 1;
                }
                if *activity == self.activity {
                    picture.belongs_to = Some(company.clone());
                }
            }
            Membership::Unassigned { activity, company } => {
                if *company == self.company {
                    picture.active = picture.active.saturating_sub(1);
                }
                if *activity == self.activity {
                    picture.belongs_to = None;
                }
            }
        }
    }

    fn decide(&self, picture: &Picture) -> Result<Decided<Membership>, MembershipRefusal> {
        let (activity, company) = (self.activity.clone(), self.company.clone());
        let level = picture.level.ok_or(MembershipRefusal::NoMember)?;
        let (active, active_max) = (picture.active, level.active_max());
        let event = match (self.to, &picture.belongs_to) {
            (To::Assigned, Some(owner)) if *owner == company => return Ok(Decided::nothing()),
            (To::Assigned, Some(owner)) => {
                return Err(MembershipRefusal::BelongsTo { company: owner.clone() });
            }
            (To::Assigned, None) if active >= active_max => {
                return Err(MembershipRefusal::Full { active, active_max });
            }
            (To::Assigned, None) => Membership::Assigned { activity, company },
            (To::Unassigned, Some(owner)) if *owner == company => {
                Membership::Unassigned { activity, company }
            }
            (To::Unassigned, _) => return Err(MembershipRefusal::NotTheirs),
        };
        Ok(Decided::event(format!("activity-{}", self.activity), event))
    }
}
// ANCHOR_END: decision

pub(crate) fn change(activity: &str, company: &str, to: To) -> Change {
    Change { activity: activity.into(), company: company.into(), to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    async fn members(store: &Store, level: Level, companies: &[&str]) {
        for company in companies {
            store.decide(&Grant { company: (*company).into(), level }).await.unwrap();
        }
    }

    async fn attempt(
        store: &Store,
        activity: &str,
        company: &str,
        to: To,
    ) -> Result<(), MembershipRefusal> {
        match store.decide(&change(activity, company, to)).await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    /// Each activity is with one company at most, and each company has no more than its level
    /// allows.
    fn both_rules_hold(world: &World) -> Result<(), String> {
        let (mut owner, mut level) = (BTreeMap::new(), BTreeMap::new());
        let mut active: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for event in world.events_of::<Membership>() {
            match event {
                Membership::LevelGranted { company, level: granted } => {
                    _ = level.insert(company, granted)
                }
                Membership::Assigned { activity, company } => {
                    if let Some(other) = owner.insert(activity.clone(), company.clone()) {
                        return Err(format!("{activity} was with {other} and is with {company}"));
                    }
                    let theirs = active.entry(company.clone()).or_default();
                    theirs.insert(activity);
                    if level.get(&company).is_none_or(|level| theirs.len() > level.active_max()) {
                        return Err(format!("{company} has {theirs:?}"));
                    }
                }
                Membership::Unassigned { activity, company } => {
                    owner.remove(&activity);
                    active.entry(company).or_default().remove(&activity);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn no_crash_and_no_order_of_things_breaks_a_rule_for_a_moment() {
        const SOON: Duration = Duration::from_secs(1);
        Explorer::new()
            .start(|clients| {
                for company in ["acme", "zeta"] {
                    let grant = |level| Grant { company: company.into(), level };
                    clients
                        .client(company)
                        .decide(grant(Level::Basic))
                        .wait(SOON)
                        .decide(grant(Level::Gold));
                }
                for activity in ["yoga", "chess", "choir"] {
                    let client = clients.client(activity).wait(SOON).decide(change(
                        activity,
                        "acme",
                        To::Assigned,
                    ));
                    let client = client.decide(change(activity, "zeta", To::Assigned));
                    client.decide(change(activity, "acme", To::Unassigned)).decide(change(
                        activity,
                        "zeta",
                        To::Assigned,
                    ));
                }
            })
            .always("both rules hold", both_rules_hold)
            .run(Schedules(200));
    }

    /// Counts how many of these changes, all made at once, are accepted.
    async fn race(store: &Store, changes: Vec<Change>) -> usize {
        let decide = |change: Change| {
            let store = store.clone();
            tokio::spawn(async move { store.decide(&change).await })
        };
        let mut won = 0;
        for running in changes.into_iter().map(decide).collect::<Vec<_>>() {
            match running.await.unwrap() {
                Ok(_) => won += 1,
                Err(ExecuteError::Refused(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        won
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_companies_that_race_for_one_activity_exactly_one_gets_it() {
        let companies: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
        for store in examples::stores().await {
            members(
                &store,
                Level::Basic,
                &companies.iter().map(String::as_str).collect::<Vec<_>>(),
            )
            .await;
            let changes =
                companies.iter().map(|company| change("yoga", company, To::Assigned)).collect();
            assert_eq!(race(&store, changes).await, 1);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_activities_that_race_for_one_company_as_many_win_as_its_level_allows() {
        for store in examples::stores().await {
            members(&store, Level::Gold, &["acme"]).await;
            let changes = (0..20).map(|n| change(&format!("a{n}"), "acme", To::Assigned)).collect();
            assert_eq!(race(&store, changes).await, Level::Gold.active_max());
        }
    }

    #[tokio::test]
    async fn an_activity_can_change_companies_only_by_leaving_one() {
        for store in examples::stores().await {
            members(&store, Level::Basic, &["acme", "zeta"]).await;
            attempt(&store, "yoga", "acme", To::Assigned).await.unwrap();
            let theirs = Err(MembershipRefusal::BelongsTo { company: "acme".into() });
            assert_eq!(attempt(&store, "yoga", "zeta", To::Assigned).await, theirs);
            assert_eq!(
                attempt(&store, "yoga", "zeta", To::Unassigned).await,
                Err(MembershipRefusal::NotTheirs)
            );
            attempt(&store, "yoga", "acme", To::Unassigned).await.unwrap();
            assert_eq!(attempt(&store, "yoga", "zeta", To::Assigned).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_lower_level_takes_nothing_away_but_lets_nothing_more_in() {
        for store in examples::stores().await {
            members(&store, Level::Gold, &["acme"]).await;
            for activity in ["yoga", "chess", "choir"] {
                attempt(&store, activity, "acme", To::Assigned).await.unwrap();
            }
            store.decide(&Grant { company: "acme".into(), level: Level::Basic }).await.unwrap();
            let full = MembershipRefusal::Full { active: 3, active_max: 2 };
            assert_eq!(attempt(&store, "judo", "acme", To::Assigned).await, Err(full));
            assert_eq!(
                attempt(&store, "nobody", "nowhere", To::Assigned).await,
                Err(MembershipRefusal::NoMember)
            );
        }
    }
}
