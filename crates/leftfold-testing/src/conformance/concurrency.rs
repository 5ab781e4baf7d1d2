//! Promises under concurrency: no lost update, no write skew, no false success, no false conflict.

use leftfold_core::store::{
    Append, Condition, Conflict, Expected, Outcome, Position, Query, Read, Status, Store, Version,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{command, event, events, stream, tagged};
use super::subject::TestedStore;
use crate::history::load;

/// Runs the appends at once, and tells which went through and what the others met.
async fn race<F: Factory>(
    store: &TestedStore<'_, F>,
    appends: Vec<Append>,
) -> (usize, Vec<Conflict>) {
    let mut running = JoinSet::new();
    for append in appends {
        let store = (**store).clone();
        running.spawn(async move { store.append(append).await });
    }
    let (mut appended, mut conflicts) = (0, Vec::new());
    while let Some(answer) = running.join_next().await {
        match answer.expect("a task ends without a panic") {
            Ok(Outcome::Appended(_)) => appended += 1,
            Ok(Outcome::Conflict(conflict)) => conflicts.push(conflict),
            other => panic!("a plain append was answered {other:?}"),
        }
    }
    (appended, conflicts)
}

/// Facts that nothing depends on never conflict.
pub async fn concurrent_appends_all_land(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let appends =
        (0..200).map(|number| events(&format!("a-{}", number % 7), 1 + number % 3)).collect();
    let (appended, conflicts) = race(&store, appends).await;
    assert_eq!((appended, conflicts), (200, vec![]));
    let count: u64 = (0..200).map(|number| 1 + number % 3).sum();
    assert_eq!(store.head().position, Position(count));
}

/// Of those who expect the same version, one goes through; the others are told what is there then.
pub async fn one_of_those_who_expect_the_same_version_wins(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for round in 0..30 {
        let expected = Expected::Exact(Version(round));
        let append = events("a-1", 1).when(Condition::stream(stream("a-1"), expected));
        let (appended, conflicts) = race(&store, vec![append; 8]).await;
        let told = Conflict::Stream { stream: stream("a-1"), expected, actual: Version(round + 1) };
        assert_eq!((appended, conflicts), (1, vec![told; 7]), "round {round}");
    }
}

/// Two decisions that each depend on what the other writes: one of them meets a conflict. By
/// streams, and by queries.
pub async fn there_is_no_write_skew(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for round in 0..50 {
        let names = [format!("x-{round}"), format!("y-{round}")];
        let appends = [0, 1].map(|own| {
            let other_is_absent = Condition::stream(stream(&names[1 - own]), Expected::Absent);
            events(&names[own], 1).when(other_is_absent)
        });
        let (appended, conflicts) = race(&store, appends.to_vec()).await;
        assert_eq!(
            (appended, conflicts.len()),
            (1, 1),
            "by streams in round {round}: {conflicts:?}"
        );
        let head = store.head().position;
        let tags = [format!("on:x{round}"), format!("on:y{round}")];
        let appends = [0, 1].map(|own| {
            let new = tagged(event("doctors-1"), &[&tags[own]]);
            Append::of(vec![new])
                .when(Condition::none_matching(Query::tag(tags[1 - own].clone()), head))
        });
        let (appended, conflicts) = race(&store, appends.to_vec()).await;
        let told = Conflict::Matching { clause: 0, after: head, found: head.next() };
        assert_eq!((appended, conflicts), (1, vec![told]), "by queries in round {round}");
    }
}

/// The same for conditions of several queries, of which only the last is about what the other
/// writes.
pub async fn there_is_no_write_skew_over_several_queries(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for round in 0..50 {
        let head = store.head().position;
        let tags = [format!("on:x{round}"), format!("on:y{round}")];
        let appends = [0, 1].map(|own| {
            let condition = Condition::none_matching(Query::tag("never"), Position::START);
            let condition = condition.and_none_matching(Query::tag(tags[1 - own].clone()), head);
            Append::of(vec![tagged(event("doctors-1"), &[&tags[own]])]).when(condition)
        });
        let (appended, conflicts) = race(&store, appends.to_vec()).await;
        let told = Conflict::Matching { clause: 1, after: head, found: head.next() };
        assert_eq!((appended, conflicts), (1, vec![told]), "round {round}");
    }
}

/// Each handle on the store sees at once what another one appended, and is held to it.
pub async fn handles_see_each_other(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let beside = store.beside().await;
    for round in 0..10_u64 {
        let (here, there): (&Store, &Store) =
            if round % 2 == 0 { (&store, &beside) } else { (&beside, &store) };
        let record = command(&round.to_string());
        let append = Append {
            command: Some(record.clone()),
            ..Append::of(vec![tagged(event("a-1"), &["t"])])
        };
        let answer = here.append(append).await;
        assert!(matches!(answer, Ok(Outcome::Appended(_))), "{answer:?}");
        // Another process hears of it a moment later.
        let reaches = |status: &Status| status.head.position >= Position(round + 1);
        let head = there.status().wait_for(reaches).await.map(|status| status.head.position);
        assert_eq!(head.ok(), Some(Position(round + 1)));
        assert_eq!(there.version(stream("a-1")).await, Ok(Version(round + 1)));
        let found = there
            .read(Read::matching(Query::tag("t"), Position(1)))
            .all()
            .await
            .map(|found| found.len() as u64);
        assert_eq!(found, Ok(round + 1));
        assert!(
            there.answered(record.id).await.is_ok_and(|answered| answered.is_some()),
            "the request of round {round}"
        );
        let stale = events("a-1", 1)
            .when(Condition::stream(stream("a-1"), Expected::Exact(Version(round))));
        let answer = there.append(stale).await;
        assert!(matches!(answer, Ok(Outcome::Conflict(Conflict::Stream { .. }))), "{answer:?}");
        let stale =
            events("a-1", 1).when(Condition::none_matching(Query::tag("t"), Position(round)));
        let answer = there.append(stale).await;
        assert!(matches!(answer, Ok(Outcome::Conflict(Conflict::Matching { .. }))), "{answer:?}");
    }
}

/// An append that depends only on events that nobody else writes is never refused, however many
/// write beside.
pub async fn boundaries_apart_never_conflict(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut running = JoinSet::new();
    for task in 0..8 {
        let store = (*store).clone();
        running.spawn(async move {
            let (name, tag) = (format!("own-{task}"), format!("own:{task}"));
            let mut seen = Position::START;
            for version in 0..25 {
                let mut condition = Condition::none_matching(Query::tag(tag.clone()), seen);
                condition.streams.push((stream(&name), Expected::Exact(Version(version))));
                let answer = store
                    .append(Append::of(vec![tagged(event(&name), &[&tag])]).when(condition))
                    .await;
                let Ok(Outcome::Appended(appended)) = answer else {
                    panic!("{name} was answered {answer:?}")
                };
                seen = appended.last();
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("nobody is refused");
    }
}

/// A random concurrent load, proved by the history checker.
pub async fn a_random_history_is_consistent(factory: &impl Factory) {
    let seed = crate::seed();
    for round in 0..4 {
        let store = TestedStore::new(factory).await;
        let history = load(&store, seed.wrapping_add(1_000 * round), 8, 150).await;
        let verdict = history.verify(&store).await.expect("the store can be read");
        assert_eq!(verdict, Ok(()), "seed {seed}, round {round}");
    }
}

/// The same, and again on what it left, after the store was opened again.
pub async fn a_random_history_goes_on_after_reopening(factory: &impl Factory) {
    let seed = crate::seed();
    let mut store = TestedStore::new(factory).await;
    for round in 0..4 {
        // The same seed again: half of the requests repeat what took effect in an earlier life.
        let history = load(&store, seed.wrapping_add(round / 2), 8, 60).await;
        store.reopen().await;
        let verdict = history.verify(&store).await.expect("the store can be read");
        assert_eq!(verdict, Ok(()), "seed {seed}, round {round}");
    }
}
