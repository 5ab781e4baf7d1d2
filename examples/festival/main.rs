//! A team belongs to one festival and can move to another; a festival is deleted with all its
//! teams, and no team may be left behind because it was created, or moved in, just then. The
//! pattern is to close the door first: a decision records that the deletion began, who creates or
//! moves a team reads that, and a process that heard of all who came asks each team to go, once, in
//! batches. Leave the process where all teams always fit into one append: then a decision that
//! reads them may delete them itself.

mod deletion;
mod measure;
mod teams;

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

/// What creating and moving a team need to know.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use FestivalEvent::*;
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use leftfold::testing::given_events;

    fn announced(festival: &str) -> (String, FestivalEvent) {
        (format!("festival-{festival}"), Announced { festival: festival.into() })
    }

    fn began(festival: &str) -> (String, FestivalEvent) {
        (format!("festival-{festival}"), DeletionBegan { festival: festival.into() })
    }

    fn created(team: &str, festival: &str) -> (String, FestivalEvent) {
        (format!("team-{team}"), TeamCreated { team: team.into(), festival: festival.into() })
    }

    fn moved(team: &str, from: &str, to: &str) -> (String, FestivalEvent) {
        (format!("team-{team}"), TeamMoved { team: team.into(), from: from.into(), to: to.into() })
    }

    fn create(team: &str, festival: &str) -> CreateTeam {
        CreateTeam { team: team.into(), festival: festival.into() }
    }

    fn move_to(team: &str, to: &str) -> MoveTeam {
        MoveTeam { team: team.into(), to: to.into() }
    }

    #[test]
    fn a_team_is_created_once_and_only_in_a_festival_that_there_is() {
        given_events([announced("jazz")])
            .decide(&create("drums", "jazz"))
            .then([created("drums", "jazz").1]);
        given_events([announced("jazz")])
            .decide(&create("drums", "folk"))
            .then_refused(FestivalRefusal::NoFestival);
        let there = [announced("jazz"), announced("folk"), created("drums", "jazz")];
        given_events(there.clone())
            .decide(&create("drums", "folk"))
            .then_refused(FestivalRefusal::TeamKnown);
        let gone = (
            "team-drums".to_owned(),
            TeamDeleted { team: "drums".into(), festival: "jazz".into() },
        );
        let deleted = there.into_iter().chain([gone]);
        given_events(deleted.clone())
            .decide(&create("drums", "jazz"))
            .then_refused(FestivalRefusal::TeamKnown);
        given_events(deleted)
            .decide(&move_to("drums", "folk"))
            .then_refused(FestivalRefusal::NoTeam);
    }

    #[test]
    fn a_team_moves_to_a_festival_that_is_open_and_may_flee_from_one_that_is_not() {
        let both = [announced("jazz"), announced("folk"), created("drums", "jazz")];
        given_events(both.clone())
            .decide(&move_to("drums", "folk"))
            .then([moved("drums", "jazz", "folk").1]);
        given_events(both.clone()).decide(&move_to("drums", "jazz")).then_nothing();
        let deleting_jazz = both.clone().into_iter().chain([began("jazz")]);
        given_events(deleting_jazz)
            .decide(&move_to("drums", "folk"))
            .then([moved("drums", "jazz", "folk").1]);
        let deleting_folk = both.into_iter().chain([began("folk")]);
        given_events(deleting_folk)
            .decide(&move_to("drums", "folk"))
            .then_refused(FestivalRefusal::BeingDeleted);
    }

    #[test]
    fn a_deletion_begins_once_and_reads_no_team() {
        let begin = BeginDeletion { festival: "jazz".into() };
        assert_eq!(begin.query(), Query::tag(festival_tag("jazz")));
        given_events::<&str, _>([]).decide(&begin).then_refused(FestivalRefusal::NoFestival);
        given_events([announced("jazz")]).decide(&begin).then([began("jazz").1]);
        given_events([announced("jazz"), began("jazz")]).decide(&begin).then_nothing();
    }

    /// More than a reaction may name, with batches of the size that tests have; all at once was
    /// parked.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_festival_with_many_batches_of_teams_is_deleted_and_each_team_once() {
        // More batches than there may be reactions that led one to another by commands.
        const TEAMS: usize = 301;
        for store in examples::stores().await {
            store.aggregate::<Festival>().record("jazz", &[announced("jazz").1]).await.unwrap();
            for n in 0..TEAMS {
                store.decide(&create(&format!("team-{n}"), "jazz")).await.unwrap();
            }
            store.decide(&BeginDeletion { festival: "jazz".into() }).await.unwrap();
            Runtime::new(&store).process::<Deletion>().run_until_idle().await.unwrap();
            let (festival, left, deleted) = fold(&store, "jazz").await;
            assert_eq!((festival, left, deleted), (Festival::Deleted, BTreeSet::new(), TEAMS));
        }
    }

    // ANCHOR: explored
    #[test]
    fn a_team_that_is_created_in_or_moved_into_a_festival_while_it_is_deleted_is_not_left_behind() {
        let there = |team: &str, festival: &str| created(team, festival).1;
        let nobody_is_in_a_festival_that_is_gone = |world: &World| {
            let gone: Vec<&str> = festivals(world, Festival::Deleted).collect();
            let left = world
                .aggregates::<Team>()
                .find(|(_, team)| team.festival.as_deref().is_some_and(|of| gone.contains(&of)));
            left.map_or(Ok(()), |(team, _)| Err(format!("{team} is left")))
        };
        Explorer::new()
            .aggregate::<Festival>()
            .aggregate::<Team>()
            .process::<Deletion>()
            .start(|clients| {
                clients.given::<Festival>("jazz", [announced("jazz").1]);
                clients.given::<Festival>("folk", [announced("folk").1]);
                clients.given::<Team>("drums", [there("drums", "jazz")]);
                clients.given::<Team>("brass", [there("brass", "jazz")]);
                clients.given::<Team>("fiddles", [there("fiddles", "folk")]);
                clients.client("owner").decide(BeginDeletion { festival: "jazz".into() });
                clients.client("creator").decide(create("choir", "jazz"));
                clients.client("comer").decide(move_to("fiddles", "jazz"));
                clients
                    .client("fleer")
                    .decide(move_to("drums", "folk"))
                    .decide(move_to("drums", "jazz"));
            })
            .always("nobody is in a festival that is gone", nobody_is_in_a_festival_that_is_gone)
            // Five events that were given, five at most of people, and four teams that go before
            // the festival.
            .always("there is no endless loop", |world: &World| {
                world.events_of::<FestivalEvent>().len() <= 5 + 5 + 5
            })
            .finally("jazz is gone, and only folk goes on", |world: &World| {
                festivals(world, Festival::Deleted).eq(["jazz"])
                    && world.open_processes() == 1
                    && world.parked() == 0
            })
            .run(Schedules(1_000));
    }
    // ANCHOR_END: explored

    fn festivals(world: &World, are: Festival) -> impl Iterator<Item = &str> {
        world
            .aggregates::<Festival>()
            .filter(move |(_, festival)| **festival == are)
            .map(|(id, _)| id)
    }

    fn decided(done: Result<Executed<FestivalEvent>, ExecuteError<FestivalRefusal>>) -> bool {
        match done {
            Ok(_) => true,
            Err(error) => matches!(
                error.into_refusal(),
                Ok(FestivalRefusal::BeingDeleted
                    | FestivalRefusal::NoFestival
                    | FestivalRefusal::NoTeam)
            ),
        }
    }

    /// A hundred people create and move teams while the festival is deleted: nobody is left behind,
    /// and it ends.
    #[tokio::test(flavor = "multi_thread")]
    async fn no_team_is_left_in_a_festival_that_is_deleted_while_teams_come_in() {
        for store in examples::stores().await {
            let place = tempfile::tempdir().unwrap();
            let rows = Sqlite::at(place.path());
            let lists = rows.reader::<Teams>();
            let running = Runtime::new(&store)
                .process::<Deletion>()
                .project(Teams, rows)
                .start()
                .await
                .unwrap();
            for (stream, event) in [announced("jazz"), announced("folk")] {
                store
                    .aggregate::<Festival>()
                    .record(&stream["festival-".len()..], &[event])
                    .await
                    .unwrap();
            }
            for n in 0..20 {
                store.decide(&create(&format!("early-{n}"), "folk")).await.unwrap();
            }
            let mut tasks = Vec::new();
            for n in 0..50 {
                let store = store.clone();
                tasks.push(tokio::spawn(async move {
                    assert!(decided(store.decide(&create(&format!("new-{n}"), "jazz")).await));
                    assert!(decided(
                        store.decide(&move_to(&format!("early-{}", n % 20), "jazz")).await
                    ));
                    if n == 25 {
                        store.decide(&BeginDeletion { festival: "jazz".into() }).await.unwrap();
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            let mut told = store.subscribe(Query::tag(festival_tag("jazz")), Position::START);
            while &*told.event().await.unwrap().event_type != "festival.Deleted" {}
            let head = store.head().position;
            let (_, left, _) = fold(&store, "jazz").await;
            assert_eq!(left, BTreeSet::new());
            assert!(head.0 > 22);
            // The lists that people see say what a fold of the events says.
            running
                .projections()
                .wait_until(Teams::NAME, head, Duration::from_secs(60))
                .await
                .unwrap();
            assert_eq!(teams::of(&lists, "jazz").unwrap(), [] as [String; 0]);
            let (_, stayed, _) = fold(&store, "folk").await;
            assert_eq!(teams::of(&lists, "folk").unwrap(), stayed.into_iter().collect::<Vec<_>>());
            running.stop().await.unwrap();
        }
    }

    /// The festival, the teams that are in it, and how many were deleted.
    async fn fold(store: &Store, festival: &str) -> (Festival, BTreeSet<String>, usize) {
        let (mut state, mut teams, mut deleted) = (Festival::default(), BTreeSet::new(), 0);
        let query = Query::tag(festival_tag(festival)).or(Query::tag(teams_of_tag(festival)));
        let mut events = store.read(leftfold::store::Read::matching(query, Position::START));
        while let Some(event) = events.next().await.unwrap() {
            for event in store.aggregate::<Festival>().decode(&event).unwrap() {
                state.apply(&event);
                match event {
                    TeamCreated { team, .. } => _ = teams.insert(team),
                    TeamMoved { team, to, .. } if to == festival => _ = teams.insert(team),
                    TeamMoved { team, .. } => _ = teams.remove(&team),
                    TeamDeleted { team, .. } => {
                        deleted += 1;
                        teams.remove(&team);
                    }
                    Announced { .. } | DeletionBegan { .. } | Deleted { .. } => {}
                }
            }
        }
        (state, teams, deleted)
    }
}
