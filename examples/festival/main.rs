//! A team belongs to one festival and can move to another; a festival is deleted with all its
//! teams, and no team may be left behind because it was created, or moved in, just then. The
//! pattern is to close the door first: a decision records that the deletion began, who creates or
//! moves a team reads that, and a process that heard of all who came asks each team to go, once, in
//! batches. Leave the process where all teams always fit into one append: then a decision that
//! reads them may delete them itself.

mod deletion;
mod measure;
mod teams;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use deletion::Deletion;
use leftfold::prelude::*;
use leftfold::sqlite::Sqlite;
use serde::{Deserialize, Serialize};
use teams::Teams;

/// Once a deletion began nobody comes in: the teams are those that came before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum FestivalEvent {
    Announced { festival: String },
    DeletionBegan { festival: String },
    Deleted { festival: String },
    TeamCreated { team: String, festival: String },
    TeamMoved { team: String, from: String, to: String },
    TeamDeleted { team: String, festival: String },
}

impl Event for FestivalEvent {
    const NAMESPACE: &'static str = "festival";

    /// A festival's own events have another tag than those of its teams, so that teams do not
    /// conflict with each other.
    fn tags(&self) -> Tags {
        match self {
            Self::Announced { festival }
            | Self::DeletionBegan { festival, .. }
            | Self::Deleted { festival } => Tags::none().with(festival_tag(festival)),
            Self::TeamCreated { team, festival } | Self::TeamDeleted { team, festival } => {
                Tags::none().with(team_tag(team)).with(teams_of_tag(festival))
            }
            Self::TeamMoved { team, from, to } => {
                Tags::none().with(team_tag(team)).with(teams_of_tag(from)).with(teams_of_tag(to))
            }
        }
    }
}

fn festival_tag(festival: &str) -> String {
    format!("festival:{festival}")
}

fn teams_of_tag(festival: &str) -> String {
    format!("teams-of:{festival}")
}

fn team_tag(team: &str) -> String {
    format!("team:{team}")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum FestivalRefusal {
    #[error("there is no such festival")]
    NoFestival,
    #[error("the festival is being deleted")]
    BeingDeleted,
    #[error("the name of a festival is used once")]
    FestivalKnown,
    #[error("there is no such team")]
    NoTeam,
    #[error("there is such a team already")]
    TeamKnown,
}

// A festival: an aggregate over its own events.

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Festival {
    #[default]
    Unknown,
    Open,
    BeingDeleted,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum FestivalCommand {
    Announce { festival: String },
    EndDeletion { festival: String },
}

impl Aggregate for Festival {
    const CATEGORY: &'static str = "festival";
    type Event = FestivalEvent;
    type Command = FestivalCommand;
    type Refusal = FestivalRefusal;

    fn apply(&mut self, event: &FestivalEvent) {
        match event {
            FestivalEvent::Announced { .. } => *self = Self::Open,
            FestivalEvent::DeletionBegan { .. } => *self = Self::BeingDeleted,
            FestivalEvent::Deleted { .. } => *self = Self::Deleted,
            FestivalEvent::TeamCreated { .. }
            | FestivalEvent::TeamMoved { .. }
            | FestivalEvent::TeamDeleted { .. } => {}
        }
    }

    fn decide(&self, command: &FestivalCommand) -> Result<Vec<FestivalEvent>, FestivalRefusal> {
        match (command.clone(), self) {
            (FestivalCommand::Announce { festival }, Self::Unknown) => {
                Ok(vec![FestivalEvent::Announced { festival }])
            }
            (FestivalCommand::Announce { .. }, _) => Err(FestivalRefusal::FestivalKnown),
            (FestivalCommand::EndDeletion { festival }, Self::BeingDeleted) => {
                Ok(vec![FestivalEvent::Deleted { festival }])
            }
            (FestivalCommand::EndDeletion { .. }, _) => Ok(Vec::new()),
        }
    }
}

impl Festival {
    fn takes_teams(self) -> Result<(), FestivalRefusal> {
        match self {
            Self::Open => Ok(()),
            Self::BeingDeleted => Err(FestivalRefusal::BeingDeleted),
            Self::Unknown | Self::Deleted => Err(FestivalRefusal::NoFestival),
        }
    }
}

// A team: an aggregate over its own events, for what concerns it alone.

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Team {
    festival: Option<String>,
}

/// Go, if you still belong to this festival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct DeleteTeam {
    team: String,
    festival: String,
}

impl Aggregate for Team {
    const CATEGORY: &'static str = "team";
    type Event = FestivalEvent;
    type Command = DeleteTeam;
    type Refusal = FestivalRefusal;

    fn apply(&mut self, event: &FestivalEvent) {
        match event {
            FestivalEvent::TeamCreated { festival: now, .. }
            | FestivalEvent::TeamMoved { to: now, .. } => {
                self.festival = Some(now.clone());
            }
            FestivalEvent::TeamDeleted { .. } => self.festival = None,
            FestivalEvent::Announced { .. }
            | FestivalEvent::DeletionBegan { .. }
            | FestivalEvent::Deleted { .. } => {}
        }
    }

    fn decide(
        &self,
        DeleteTeam { team, festival }: &DeleteTeam,
    ) -> Result<Vec<FestivalEvent>, FestivalRefusal> {
        let is_here = self.festival.as_ref() == Some(festival);
        let gone = || FestivalEvent::TeamDeleted { team: team.clone(), festival: festival.clone() };
        Ok(is_here.then(gone).into_iter().collect())
    }
}

// What concerns a team and a festival: decisions.

/// Facts that creating and moving a team depend on.
#[derive(Debug, Default)]
struct Seen {
    festival: Festival,
    team: Team,
    team_was_there: bool,
}

impl Seen {
    fn apply(&mut self, event: &FestivalEvent) {
        self.festival.apply(event);
        self.team.apply(event);
        self.team_was_there |= matches!(event, FestivalEvent::TeamCreated { .. });
    }
}

#[derive(Clone, Debug)]
struct CreateTeam {
    team: String,
    festival: String,
}

impl Decision for CreateTeam {
    type Event = FestivalEvent;
    type State = Seen;
    type Refusal = FestivalRefusal;

    fn query(&self) -> Query {
        Query::tag(festival_tag(&self.festival)).or(Query::tag(team_tag(&self.team)))
    }

    fn apply(&self, seen: &mut Seen, event: &FestivalEvent) {
        seen.apply(event);
    }

    fn decide(&self, seen: &Seen) -> Result<Decided<FestivalEvent>, FestivalRefusal> {
        seen.festival.takes_teams()?;
        if seen.team_was_there {
            return Err(FestivalRefusal::TeamKnown);
        }
        let (team, festival) = (self.team.clone(), self.festival.clone());
        Ok(Decided::of::<Team>(&self.team, FestivalEvent::TeamCreated { team, festival }))
    }
}

#[derive(Clone, Debug)]
struct MoveTeam {
    team: String,
    to: String,
}

// ANCHOR: move
impl Decision for MoveTeam {
    type Event = FestivalEvent;
    type State = Seen;
    type Refusal = FestivalRefusal;

    /// Not the festival that it leaves: one may always flee, from a deletion too.
    fn query(&self) -> Query {
        Query::tag(festival_tag(&self.to)).or(Query::tag(team_tag(&self.team)))
    }

    fn apply(&self, seen: &mut Seen, event: &FestivalEvent) {
        seen.apply(event);
    }

    fn decide(&self, seen: &Seen) -> Result<Decided<FestivalEvent>, FestivalRefusal> {
        let from = seen.team.festival.clone().ok_or(FestivalRefusal::NoTeam)?;
        if from == self.to {
            return Ok(Decided::nothing());
        }
        seen.festival.takes_teams()?;
        let (team, to) = (self.team.clone(), self.to.clone());
        Ok(Decided::of::<Team>(&self.team, FestivalEvent::TeamMoved { team, from, to }))
    }
}
// ANCHOR_END: move

// ANCHOR: begin
/// Closes the door. It reads the festival's own few events, not its teams: who comes in reads these
/// too, so a team comes before this in the log, or is refused.
#[derive(Clone, Debug)]
struct BeginDeletion {
    festival: String,
}

impl Decision for BeginDeletion {
    type Event = FestivalEvent;
    type State = Festival;
    type Refusal = FestivalRefusal;

    fn query(&self) -> Query {
        Query::tag(festival_tag(&self.festival))
    }

    fn apply(&self, festival: &mut Festival, event: &FestivalEvent) {
        festival.apply(event);
    }

    fn decide(&self, festival: &Festival) -> Result<Decided<FestivalEvent>, FestivalRefusal> {
        match festival.takes_teams() {
            Err(FestivalRefusal::BeingDeleted) => Ok(Decided::nothing()),
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let began = FestivalEvent::DeletionBegan { festival: self.festival.clone() };
                Ok(Decided::of::<Festival>(&self.festival, began))
            }
        }
    }
}
// ANCHOR_END: begin

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, festivals, teams] = arguments.as_slice()
        && word == "measure"
    {
        return measure::measure(festivals.parse()?, teams.parse()?).await;
    }
    if let [word, teams] = arguments.as_slice()
        && word == "large"
    {
        return measure::large(teams.parse()?).await;
    }
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let rows = Sqlite::at(format!("{}-rows", place.path()));
    let lists = rows.reader::<Teams>();
    let running = Runtime::new(&store).process::<Deletion>().project(Teams, rows).start().await?;
    let festivals = store.aggregate::<Festival>();
    let list = async |store: &Store| {
        // Who reads what he wrote waits until the list has come that far.
        running
            .projections()
            .wait_until(Teams::NAME, store.head().position, Duration::from_secs(10))
            .await?;
        for festival in ["jazz", "folk"] {
            println!("    teams of {festival}: {:?}", teams::of(&lists, festival)?);
        }
        Ok::<_, Box<dyn Error>>(())
    };

    for festival in ["jazz", "folk"] {
        festivals
            .execute(festival, FestivalCommand::Announce { festival: festival.into() })
            .await?;
    }
    for (team, festival) in [("drums", "jazz"), ("brass", "jazz"), ("fiddles", "folk")] {
        create(&store, team, festival).await?;
    }
    move_to(&store, "fiddles", "jazz").await?;
    move_to(&store, "brass", "folk").await?;
    list(&store).await?;

    println!("jazz is deleted; a choir is created in it, and the fiddles flee, at the same moment");
    let head = store.head().position;
    let jazz = BeginDeletion { festival: "jazz".into() };
    let (began, choir, fiddles) = tokio::join!(
        store.decide(&jazz),
        create(&store, "choir", "jazz"),
        move_to(&store, "fiddles", "folk")
    );
    began?;
    choir?;
    fiddles?;
    let mut told = store
        .subscribe(Query::tag(festival_tag("jazz")).or(Query::tag(teams_of_tag("jazz"))), head);
    loop {
        match festivals.decode(&told.event().await?)?.as_slice() {
            [FestivalEvent::DeletionBegan { .. }] => println!("    the deletion begins"),
            [FestivalEvent::TeamDeleted { team, .. }] => println!("    {team} is deleted"),
            [FestivalEvent::Deleted { .. }] => break println!("    jazz is deleted"),
            _ => {}
        }
    }
    move_to(&store, "brass", "jazz").await?;
    list(&store).await?;
    running.stop().await?;
    store.close().await?;
    Ok(())
}

async fn create(store: &Store, team: &str, festival: &str) -> Result<(), Box<dyn Error>> {
    let create = CreateTeam { team: team.into(), festival: festival.into() };
    tell(&format!("{team} is created in {festival}"), store.decide(&create).await)
}

async fn move_to(store: &Store, team: &str, to: &str) -> Result<(), Box<dyn Error>> {
    tell(
        &format!("{team} moves to {to}"),
        store.decide(&MoveTeam { team: team.into(), to: to.into() }).await,
    )
}

/// Prints how it went. A refusal belongs to the story, anything else ends it.
fn tell(
    what: &str,
    done: Result<Executed<FestivalEvent>, ExecuteError<FestivalRefusal>>,
) -> Result<(), Box<dyn Error>> {
    match done {
        Ok(_) => println!("{what}: done"),
        Err(error) => println!("{what}: {}", error.into_refusal()?),
    }
    Ok(())
}
