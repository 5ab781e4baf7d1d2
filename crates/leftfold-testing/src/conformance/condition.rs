//! Expectations on streams, and queries that must match nothing.

use leftfold_core::store::{
    Append, Condition, Conflict, Expected, NewEvent, Outcome, Position, Query, QueryItem,
    StreamMatch, TypeMatch, Version,
};

use super::Factory;
use super::examples::{event, events, fact, stream, tagged};
use super::subject::TestedStore;

fn expectations(actual: u64) -> Vec<(Expected, bool)> {
    let mut all = vec![
        (Expected::Any, true),
        (Expected::Absent, actual == 0),
        (Expected::Exists, actual > 0),
        (Expected::Exact(Version::END), false),
    ];
    all.extend((0..5).map(|version| (Expected::Exact(Version(version)), version == actual)));
    all
}

/// Every expectation on a stream that the append writes, for streams that are there and one that is
/// not.
pub async fn expectations_hold_for_streams_that_are_written(factory: &impl Factory) {
    for actual in [0, 1, 3] {
        for (expected, holds) in expectations(actual) {
            let store = TestedStore::new(factory).await;
            store.appended(events("a-1", actual as usize)).await;
            let append = events("a-1", 2).when(Condition::stream(stream("a-1"), expected));
            if holds {
                let last = store.appended(append).await.versions.last().copied();
                assert_eq!(last, Some(Version(actual + 2)), "{expected:?} at version {actual}");
            } else {
                let told =
                    Conflict::Stream { stream: stream("a-1"), expected, actual: Version(actual) };
                assert_eq!(store.conflict(append).await, told);
            }
        }
    }
}

/// Every expectation on a stream that the append does not write.
pub async fn expectations_hold_for_streams_that_are_not_written(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("three-1", 3)).await;
    for (name, actual) in [("three-1", 3), ("none-1", 0)] {
        for (expected, holds) in expectations(actual) {
            for append in [events("other-1", 1), Append::default()] {
                let append = append.when(Condition::stream(stream(name), expected));
                if holds {
                    store.appended(append).await;
                } else {
                    let told = Conflict::Stream {
                        stream: stream(name),
                        expected,
                        actual: Version(actual),
                    };
                    assert_eq!(store.conflict(append).await, told);
                }
                assert_eq!(
                    store.version(stream(name)).await,
                    Ok(Version(actual)),
                    "a stream that is only expected"
                );
            }
        }
    }
}

/// All expectations must hold; the first that fails is reported.
pub async fn the_first_expectation_that_fails_is_reported(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(Append::of(vec![event("a-1"), event("b-1"), event("b-1")])).await;
    let condition = |streams: &[(&str, Expected)]| Condition {
        streams: streams.iter().map(|(name, expected)| (stream(name), *expected)).collect(),
        none_matching: Vec::new(),
    };
    let holds = [
        ("a-1", Expected::Exact(Version(1))),
        ("b-1", Expected::Exists),
        ("c-1", Expected::Absent),
    ];
    store.appended(events("d-1", 1).when(condition(&holds))).await;
    let fails = [
        ("a-1", Expected::Exists),
        ("b-1", Expected::Absent),
        ("c-1", Expected::Exists),
        ("a-1", Expected::Absent),
    ];
    let told =
        Conflict::Stream { stream: stream("b-1"), expected: Expected::Absent, actual: Version(2) };
    assert_eq!(store.conflict(events("d-1", 1).when(condition(&fails))).await, told);
    let contrary = [("a-1", Expected::Exists), ("a-1", Expected::Absent)];
    let told =
        Conflict::Stream { stream: stream("a-1"), expected: Expected::Absent, actual: Version(1) };
    assert_eq!(store.conflict(events("d-1", 1).when(condition(&contrary))).await, told);
}

/// Expectations and a query are one condition: both must hold.
pub async fn streams_and_query_must_both_hold(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(Append::of(vec![tagged(event("a-1"), &["t"])])).await;
    let both = |expected, after| {
        let mut condition = Condition::none_matching(Query::tag("t"), after);
        condition.streams.push((stream("a-1"), expected));
        events("b-1", 1).when(condition)
    };
    let stale = store.conflict(both(Expected::Absent, Position(1))).await;
    assert_eq!(
        stale,
        Conflict::Stream { stream: stream("a-1"), expected: Expected::Absent, actual: Version(1) }
    );
    let found = store.conflict(both(Expected::Exists, Position::START)).await;
    assert_eq!(found, Conflict::Matching { clause: 0, after: Position::START, found: Position(1) });
    store.appended(both(Expected::Exists, Position(1))).await;
}

/// The window begins just after the position; the first event that matches in it is reported.
pub async fn a_query_looks_only_after_its_position(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for tags in [&["t"][..], &[], &["t"], &["t"], &[]] {
        store.appended(Append::of(vec![tagged(event("a-1"), tags)])).await;
    }
    for (after, found) in [
        (0, Some(1)),
        (1, Some(3)),
        (2, Some(3)),
        (3, Some(4)),
        (4, None),
        (5, None),
        (u64::MAX, None),
    ] {
        let after = Position(after);
        let append = Append::default().when(Condition::none_matching(Query::tag("t"), after));
        match found {
            Some(found) => {
                let told = Conflict::Matching { clause: 0, after, found: Position(found) };
                assert_eq!(store.conflict(append).await, told);
            }
            None => assert_eq!(
                store.appended(append).await.first,
                Position(5),
                "nothing matches after {after}"
            ),
        }
    }
}

/// Each query of a condition looks only after its own position, however far the others look back.
pub async fn each_query_of_a_condition_has_its_own_position(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for tag in ["x", "y", "other"] {
        store.appended(Append::of(vec![tagged(event("a-1"), &[tag])])).await;
    }
    let cases = [
        (0, 2, Some((0, 1))),
        (1, 0, Some((1, 2))),
        (1, 1, Some((1, 2))),
        (1, 2, None),
        (3, 3, None),
        (1, 50, None),
    ];
    for (x, y, failed) in cases {
        let condition = Condition::none_matching(Query::tag("x"), Position(x))
            .and_none_matching(Query::tag("y"), Position(y));
        let append = Append::default().when(condition);
        match failed {
            Some((clause, found)) => {
                let told = Conflict::Matching {
                    clause,
                    after: Position([x, y][clause]),
                    found: Position(found),
                };
                assert_eq!(store.conflict(append).await, told, "x after {x}, y after {y}");
            }
            None => assert_eq!(
                store.appended(append).await.first,
                Position(3),
                "x after {x}, y after {y}"
            ),
        }
    }
}

/// All queries of a condition must match nothing; the first that fails is reported, wherever its
/// event is.
pub async fn the_first_query_that_fails_is_reported(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for tag in ["c", "b", "a"] {
        store.appended(Append::of(vec![tagged(event("a-1"), &[tag])])).await;
    }
    let none_of = |tags: &[&str]| {
        let add = |condition: Condition, tag: &&str| {
            condition.and_none_matching(Query::tag(*tag), Position::START)
        };
        events("b-1", 1).when(tags.iter().fold(Condition::none(), add))
    };
    for (tags, clause, found) in [
        (&["a", "b", "c"][..], 0, 3),
        (&["z", "b", "c"], 1, 2),
        (&["z", "y", "c"], 2, 1),
        (&["b", "b", "c", "a"], 0, 2),
    ] {
        let told = Conflict::Matching { clause, after: Position::START, found: Position(found) };
        assert_eq!(store.conflict(none_of(tags)).await, told, "none of {tags:?}");
    }
    store.appended(none_of(&["x", "y", "z"])).await;
}

/// Each kind of query, as a condition. The first event that matches is reported, and none if none
/// matches.
pub async fn every_kind_of_query_can_be_a_condition(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(Append::of(corpus())).await;
    for (query, found) in queries() {
        let append =
            Append::default().when(Condition::none_matching(query.clone(), Position::START));
        let answer = if found == 0 {
            store.appended(append).await;
            0
        } else {
            match store.conflict(append).await {
                Conflict::Matching { found, .. } => found.0,
                other => panic!("{query:?} was answered with {other:?}"),
            }
        };
        assert_eq!(answer, found, "the first event that matches {query:?}");
    }
    let append = Append::default().when(Condition::none_matching(Query::all(), Position(4)));
    assert_eq!(
        store.appended(append).await.first,
        Position(6),
        "the runtime's own events are not among all events"
    );
}

/// Events that differ in everything that a query asks for.
fn corpus() -> Vec<NewEvent> {
    vec![
        tagged(fact("shop.Opened"), &["a"]),
        tagged(fact("shop.Sold").in_stream(stream("order-1")), &["a", "b"]),
        fact("shop.Sold").in_stream(stream("order-2")),
        tagged(fact("bank.Paid").in_stream(stream("account-1")), &["b"]),
        tagged(fact("$runtime.Fired"), &["system"]),
        tagged(fact("bank.Paid").in_stream(stream("$effects-1")), &["system"]),
    ]
}

/// Queries of every kind, with the position of the first of those events that each matches; 0 if
/// it matches none.
fn queries() -> Vec<(Query, u64)> {
    let item = QueryItem::default;
    let types =
        |names: &[&str]| Query::types(names.iter().map(|name| super::examples::event_type(name)));
    let prefix = |text: &str| {
        Query::from(QueryItem { types: vec![TypeMatch::Prefix(text.into())], ..item() })
    };
    let within = |streams| Query::from(QueryItem { streams: Some(streams), ..item() });
    vec![
        (types(&["bank.Paid"]), 4),
        (types(&["bank.Paid", "shop.Sold"]), 2),
        (types(&["bank.Lost"]), 0),
        (Query::tag("b"), 2),
        (Query::tag("a").and_tag("b"), 2),
        (Query::tag("b").and_tag("c"), 0),
        (Query::tag("c").or(types(&["bank.Paid"])), 4),
        (types(&["bank.Paid"]).and_tag("a"), 0),
        (Query::stream(stream("order-2")), 3),
        (Query::stream(stream("order")), 0),
        (Query::category("order"), 2),
        (Query::category("account"), 4),
        (Query::category("acc"), 0),
        (within(StreamMatch::Prefix("acc".into())), 4),
        (prefix("bank."), 4),
        (prefix("shop.S"), 2),
        (prefix("$"), 5),
        (types(&["$runtime.Fired"]), 5),
        (within(StreamMatch::Prefix("$eff".into())), 6),
        (Query::tag("system"), 0),
        (
            Query::from(
                QueryItem { tags: Query::tag("system").items()[0].tags.clone(), ..item() }
                    .with_system(),
            ),
            5,
        ),
        (Query::all(), 1),
        (Query::everything(), 1),
        (Query::nothing(), 0),
    ]
}

/// A condition without events is judged all the same.
pub async fn a_condition_without_events_is_judged(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let check = |expected| Append::default().when(Condition::stream(stream("a-1"), expected));
    store.appended(check(Expected::Exists)).await;
    store.conflict(check(Expected::Absent)).await;
}

/// The content of a conflict is enough to go on: the append succeeds with the version from the
/// conflict.
pub async fn a_conflict_tells_enough_to_try_again(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 4)).await;
    let append =
        |version| events("a-1", 1).when(Condition::stream(stream("a-1"), Expected::Exact(version)));
    let Conflict::Stream { actual, .. } = store.conflict(append(Version(2))).await else {
        panic!("an expectation failed, and another clause is reported");
    };
    assert_eq!(store.appended(append(actual)).await.versions, [Version(5)]);
}

/// Nothing is trimmed, folded or normalized: a condition on one name is not one on another that
/// looks like it.
pub async fn names_that_look_alike_are_told_apart(factory: &impl Factory) {
    let alike = ["é", "e\u{301}", "É", "a", "A", "a ", " a", "a\0"];
    for name in alike {
        let store = TestedStore::new(factory).await;
        store.appended(Append::of(vec![tagged(fact(name).in_stream(stream(name)), &[name])])).await;
        for other in alike {
            let there = Append::default().when(Condition::stream(stream(other), Expected::Absent));
            let typed = Query::types([super::examples::event_type(other)]);
            let queries =
                [Query::tag(other), typed, Query::stream(stream(other)), Query::category(other)];
            let matching = queries.map(|query| {
                Append::default().when(Condition::none_matching(query, Position::START))
            });
            for append in [there].into_iter().chain(matching) {
                let condition = append.condition.clone();
                let conflicts = matches!(store.append(append).await, Ok(Outcome::Conflict(_)));
                assert_eq!(conflicts, name == other, "{condition:?} in a store of {name:?}");
            }
        }
    }
}

/// A store that was opened again judges by what was there before.
pub async fn conditions_see_what_was_before_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    store.appended(Append::of(vec![event("a-1"), tagged(event("a-1"), &["t"])])).await;
    store.reopen().await;
    let told = Conflict::Stream {
        stream: stream("a-1"),
        expected: Expected::Exact(Version(1)),
        actual: Version(2),
    };
    let stale =
        events("a-1", 1).when(Condition::stream(stream("a-1"), Expected::Exact(Version(1))));
    assert_eq!(store.conflict(stale).await, told);
    let found = events("a-1", 1).when(Condition::none_matching(Query::tag("t"), Position::START));
    assert_eq!(
        store.conflict(found).await,
        Conflict::Matching { clause: 0, after: Position::START, found: Position(2) }
    );
    let fresh =
        events("a-1", 1).when(Condition::stream(stream("a-1"), Expected::Exact(Version(2))));
    assert_eq!(store.appended(fresh).await.first, Position(3));
}
