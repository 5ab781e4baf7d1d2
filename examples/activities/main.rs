//! Activities live on their own and belong to at most one company; a company may have so many
//! active ones, by its level. The patterns are two: one decision over both, which is never wrong
//! for a moment, and a process between the two, in which each side answers for itself and what was
//! done without effect is undone; `decision.rs` and `joining.rs` say when each is right. Leave both
//! where one side owns the rule alone: then it is one aggregate, and the other only learns of it.

mod decision;
mod joining;
mod search;

use std::error::Error;
use std::time::Duration;

use decision::{Change, Grant, Level, To, change};
use joining::{Joining, Listing, ListingCommand, ListingEvent, Member, MemberCommand};
use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use search::{Activities, Search};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let activities = Memory::<Activities>::new();
    let runtime = Runtime::new(&store)
        .process::<Joining>()
        .project(Search, activities.clone())
        .start()
        .await?;
    one_decision(&store).await?;
    a_process(&store).await?;
    runtime
        .projections()
        .wait_until(Search::NAME, store.head().position, Duration::from_secs(60))
        .await?;
    for words in ["choir", "c"] {
        println!("who searches for {words:?} finds");
        for (id, row) in activities.read(|all| owned(all.search(words, None))).await {
            println!("    {id}: {}, {}", row.title, row.company.as_deref().unwrap_or("on its own"));
        }
    }
    runtime.stop().await?;
    store.close().await?;
    Ok(())
}

fn owned(found: Vec<(&String, &search::Row)>) -> Vec<(String, search::Row)> {
    found.into_iter().map(|(id, row)| (id.clone(), row.clone())).collect()
}

async fn one_decision(store: &Store) -> Result<(), Box<dyn Error>> {
    println!("(a) one decision over both");
    for company in ["acme", "zeta"] {
        store.decide(&Grant { company: company.into(), level: Level::Basic }).await?;
        println!("{company} is a basic member: two active activities");
    }
    let wishes = [
        change("yoga", "acme", To::Assigned),
        change("yoga", "zeta", To::Assigned),
        change("chess", "acme", To::Assigned),
        change("choir", "acme", To::Assigned),
        change("yoga", "acme", To::Unassigned),
        change("choir", "acme", To::Assigned),
        change("yoga", "zeta", To::Assigned),
    ];
    for wish in wishes {
        let Change { activity, company, to } = &wish;
        let what = match to {
            To::Assigned => format!("{activity} goes to {company}"),
            To::Unassigned => format!("{activity} leaves {company}"),
        };
        match store.decide(&wish).await {
            Ok(_) => println!("    {what}"),
            Err(ExecuteError::Refused(no)) => println!("    {what}: no, {no}"),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

async fn a_process(store: &Store) -> Result<(), Box<dyn Error>> {
    println!("(b) a process between the two");
    let (members, listings) = (store.aggregate::<Member>(), store.aggregate::<Listing>());
    members.execute("omni", MemberCommand::Grant { level: Level::Basic }).await?;
    println!("omni is a basic member: two active activities");
    for (id, title) in [("c1", "Climbing"), ("c2", "Choir for men"), ("c3", "Cooking")] {
        listings.execute(id, ListingCommand::Publish { title: title.into() }).await?;
        println!("    {title} asks: {}", told(ask(store, id, "omni").await?));
    }
    listings.execute("c1", ListingCommand::Leave).await?;
    println!(
        "    Climbing leaves, and Cooking asks again: {}",
        told(released_then_ask(store).await?)
    );
    Ok(())
}

/// An answer, in words.
fn told(answer: ListingEvent) -> String {
    match answer {
        ListingEvent::Joined { company, .. } => format!("it is with {company}"),
        ListingEvent::Rejected { reason, .. } => format!("no, {reason}"),
        other => format!("{other:?}"),
    }
}

/// Asks a company, and waits for its answer.
async fn ask(store: &Store, activity: &str, company: &str) -> Result<ListingEvent, Box<dyn Error>> {
    let asked = store
        .aggregate::<Listing>()
        .execute(activity, ListingCommand::Ask { company: company.into() })
        .await?;
    let is_answer = |event: &ListingEvent| {
        matches!(event, ListingEvent::Joined { .. } | ListingEvent::Rejected { .. })
    };
    let mut news = store.follow::<ListingEvent>(asked.position)?;
    Ok(news.find(|news| news.stream_id() == activity && is_answer(&news.event)).await?.event)
}

async fn released_then_ask(store: &Store) -> Result<ListingEvent, Box<dyn Error>> {
    let mut news = store.follow::<joining::MemberEvent>(Position::START)?;
    news.find(|news| matches!(news.event, joining::MemberEvent::Released { .. })).await?;
    ask(store, "c3", "omni").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use joining::{JoiningRefusal, MemberEvent};
    use leftfold::testing::explorer::{Explorer, Schedules};
    use leftfold::testing::given;
    use std::collections::BTreeMap;

    async fn run_until_idle(store: &Store) {
        Runtime::new(store).process::<Joining>().run_until_idle().await.unwrap();
    }

    async fn member(store: &Store, level: Level) -> Aggregates<Listing> {
        store.aggregate::<Member>().execute("omni", MemberCommand::Grant { level }).await.unwrap();
        store.aggregate::<Listing>()
    }

    fn ask_omni() -> ListingCommand {
        ListingCommand::Ask { company: "omni".into() }
    }

    async fn active(store: &Store) -> BTreeMap<String, u32> {
        store.aggregate::<Member>().load("omni").await.unwrap().state.active
    }

    /// Both sides tell the same.
    async fn agree(store: &Store, listings: impl IntoIterator<Item = String>) -> usize {
        let active = active(store).await;
        let mut joined = 0;
        for id in listings {
            let listing = store.aggregate::<Listing>().load(&id).await.unwrap().state;
            assert_eq!(listing.joined, active.contains_key(&id), "{id}: {listing:?}");
            joined += usize::from(listing.joined);
        }
        assert_eq!(joined, active.len());
        joined
    }

    #[tokio::test]
    async fn of_many_that_ask_as_many_are_admitted_as_the_level_allows_and_the_others_know_why() {
        for store in examples::stores().await {
            let listings = member(&store, Level::Gold).await;
            let ids = || (0..20).map(|number| format!("a{number}"));
            for id in ids() {
                listings.execute(&id, ask_omni()).await.unwrap();
            }
            run_until_idle(&store).await;
            assert_eq!(agree(&store, ids()).await, Level::Gold.active_max());
            let last = listings.load("a19").await.unwrap().state;
            assert_eq!(
                last.rejected,
                Some(JoiningRefusal::Full { active: 5, active_max: 5 }.to_string())
            );
        }
    }

    #[tokio::test]
    async fn who_is_admitted_but_has_changed_its_mind_is_released() {
        for store in examples::stores().await {
            let listings = member(&store, Level::Basic).await;
            for command in [ask_omni(), ListingCommand::Leave] {
                listings.execute("a", command).await.unwrap();
            }
            run_until_idle(&store).await;
            assert_eq!(agree(&store, ["a".to_owned()]).await, 0);
        }
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_ask_is_not_taken_for_the_answer_to_a_later_one() {
        for store in examples::stores().await {
            let listings = member(&store, Level::Basic).await;
            for command in
                [ask_omni(), ListingCommand::Leave, ask_omni(), ListingCommand::Leave, ask_omni()]
            {
                listings.execute("a", command).await.unwrap();
            }
            run_until_idle(&store).await;
            assert_eq!(agree(&store, ["a".to_owned()]).await, 1);
            assert_eq!(active(&store).await["a"], 3);
        }
    }

    // ANCHOR: explored
    #[test]
    fn no_crash_and_no_order_of_things_makes_the_two_sides_disagree() {
        Explorer::new()
            .aggregate::<Listing>()
            .aggregate::<Member>()
            .process::<Joining>()
            .start(|clients| {
                clients
                    .given::<Member>("omni", [MemberEvent::LevelGranted { level: Level::Basic }]);
                for activity in ["a", "b", "c"] {
                    let client = clients.client(activity).command::<Listing>(activity, ask_omni());
                    client
                        .command::<Listing>(activity, ListingCommand::Leave)
                        .command::<Listing>(activity, ask_omni());
                }
                clients
                    .client("d")
                    .command::<Listing>("d", ask_omni())
                    .command::<Listing>("d", ListingCommand::Cancel);
            })
            .always("never more than the level allows", |world| {
                world
                    .states::<Member>()
                    .all(|member| member.active.len() <= Level::Basic.active_max())
            })
            .finally("both sides tell the same", |world| {
                let active = world.state::<Member>("omni").map(|member| &member.active);
                world.aggregates::<Listing>().all(|(id, listing)| {
                    let is_settled = listing.joined || listing.company.is_none();
                    is_settled
                        && listing.joined == active.is_some_and(|active| active.contains_key(id))
                })
            })
            .finally("nothing is parked", |world| world.parked() == 0)
            .run(Schedules(300));
    }
    // ANCHOR_END: explored

    #[tokio::test]
    async fn who_leaves_or_is_cancelled_makes_room() {
        for store in examples::stores().await {
            let listings = member(&store, Level::Basic).await;
            for (id, command) in [("a", ask_omni()), ("b", ask_omni())] {
                listings.execute(id, command).await.unwrap();
            }
            run_until_idle(&store).await;
            listings.execute("a", ListingCommand::Leave).await.unwrap();
            listings.execute("b", ListingCommand::Cancel).await.unwrap();
            run_until_idle(&store).await;
            for id in ["c", "d"] {
                listings.execute(id, ask_omni()).await.unwrap();
            }
            run_until_idle(&store).await;
            assert_eq!(agree(&store, ["a", "b", "c", "d"].map(str::to_owned)).await, 2);
            assert_eq!(listings.load("c").await.unwrap().state.company.as_deref(), Some("omni"));
        }
    }

    #[test]
    fn an_activity_asks_one_company_at_a_time() {
        let asked = ListingEvent::Asked { company: "omni".into(), ask: 1 };
        let other = ListingCommand::Ask { company: "acme".into() };
        let theirs = JoiningRefusal::BelongsTo { company: "omni".into() };
        given::<Listing>([asked.clone()]).when(other.clone()).then_refused(theirs);
        given::<Listing>([asked.clone()]).when(ask_omni()).then_nothing();
        let free = [asked, ListingEvent::Left { ask: 1 }];
        given::<Listing>(free)
            .when(other)
            .then([ListingEvent::Asked { company: "acme".into(), ask: 2 }]);
        let twice = [
            MemberEvent::LevelGranted { level: Level::Basic },
            MemberEvent::Admitted { activity: "a".into(), ask: 2 },
        ];
        given::<Member>(twice)
            .when(MemberCommand::Release { activity: "a".into(), ask: 1 })
            .then_nothing();
    }

    #[tokio::test]
    async fn a_search_finds_words_of_titles_and_companies_in_both_answers() {
        for store in examples::stores().await {
            let listings = member(&store, Level::Basic).await;
            let all = Memory::<Activities>::new();
            store.decide(&Grant { company: "acme".into(), level: Level::Basic }).await.unwrap();
            store.decide(&change("choir", "acme", To::Assigned)).await.unwrap();
            for (id, title) in [("c1", "Choir for men"), ("c2", "Chess")] {
                listings
                    .execute(id, ListingCommand::Publish { title: title.into() })
                    .await
                    .unwrap();
                listings.execute(id, ask_omni()).await.unwrap();
            }
            let run = || {
                Runtime::new(&store)
                    .process::<Joining>()
                    .project(Search, all.clone())
                    .run_until_idle()
            };
            run().await.unwrap();
            let found = async |words: &str, company: Option<&str>| -> Vec<String> {
                all.read(|all| {
                    all.search(words, company).into_iter().map(|(id, _)| id.clone()).collect()
                })
                .await
            };
            assert_eq!(found("CHOIR", None).await, ["c1", "choir"]);
            assert_eq!(found("men choir", None).await, ["c1"]);
            assert_eq!(found("", Some("omni")).await, ["c1", "c2"]);
            listings.execute("c2", ListingCommand::Cancel).await.unwrap();
            store.decide(&change("choir", "acme", To::Unassigned)).await.unwrap();
            run().await.unwrap();
            assert_eq!(found("", Some("omni")).await, ["c1"]);
            assert_eq!(found("", Some("acme")).await, [] as [String; 0]);
        }
    }
}
