//! What is decided about teams and festivals, and a deletion while teams come in.

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
    let gone =
        ("team-drums".to_owned(), TeamDeleted { team: "drums".into(), festival: "jazz".into() });
    let deleted = there.into_iter().chain([gone]);
    given_events(deleted.clone())
        .decide(&create("drums", "jazz"))
        .then_refused(FestivalRefusal::TeamKnown);
    given_events(deleted).decide(&move_to("drums", "folk")).then_refused(FestivalRefusal::NoTeam);
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
    world.aggregates::<Festival>().filter(move |(_, festival)| **festival == are).map(|(id, _)| id)
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
        let running =
            Runtime::new(&store).process::<Deletion>().project(Teams, rows).start().await.unwrap();
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
        running.projections().wait_until(Teams::NAME, head, Duration::from_secs(60)).await.unwrap();
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
