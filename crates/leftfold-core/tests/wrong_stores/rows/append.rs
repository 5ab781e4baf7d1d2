//! Stores that append wrongly.

use std::sync::Mutex;

use leftfold_core::store::{
    Append, AppendError, Condition, Conflict, Expected, NoneMatching, Outcome, Pending, Position,
    Query, StreamName, Tag, Version, What,
};

use super::{Row, row};
use crate::right::{Wrong, answering, asking, later, now, paging};

pub(crate) const POSITIONS: &[Row] = &[
    row(
        "append::positions_count_up_from_one_without_gaps",
        "answers a large batch with the place of its second event",
        || {
            answering(|_, append, answer| {
                if let (7, Ok(Outcome::Appended(appended))) = (append.events.len(), answer) {
                    appended.first = appended.first.next();
                }
            })
        },
    ),
    row(
        "append::versions_count_the_events_of_each_stream",
        "gives a fact without a stream a version",
        || {
            answering(|_, append, answer| {
                if let Ok(Outcome::Appended(appended)) = answer {
                    let facts = append
                        .events
                        .iter()
                        .zip(&mut appended.versions)
                        .filter(|(event, _)| event.stream.is_none());
                    facts.for_each(|(_, version)| *version = Version(1));
                }
            })
        },
    ),
    row(
        "append::a_batch_over_streams_stands_together",
        "takes the next stream for the next append",
        || {
            paging(|right, _, page| {
                for event in page.events.iter_mut().filter(|event| event.append_continues) {
                    let next = right.event_at(event.position.next()).unwrap();
                    let name = |event: &leftfold_core::store::RecordedEvent| {
                        event.stream.as_ref().map(|at| at.name.clone())
                    };
                    event.append_continues = name(event) == name(&next);
                }
            })
        },
    ),
    row(
        "append::a_batch_is_all_or_nothing",
        "keeps the events of streams of which nothing was expected",
        || {
            Wrong::default().append(|right, append| {
                let answer = now(right.append(append.clone()));
                if let Ok(Outcome::Conflict(Conflict::Stream { stream, .. })) = &answer {
                    let others = append
                        .events
                        .into_iter()
                        .filter(|event| event.stream.as_ref().is_some_and(|name| name != stream));
                    let others: Vec<_> = others.collect();
                    if others.len() > 1 {
                        let _ = right.carry_out(Append::of(others));
                    }
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "append::an_append_without_events_takes_no_position",
        "answers a checkpoint with the start",
        || {
            answering(|_, append, answer| {
                if let (true, Ok(Outcome::Appended(appended))) =
                    (append.checkpoint.is_some() && append.events.is_empty(), answer)
                {
                    appended.first = Position::START;
                }
            })
        },
    ),
    row("append::an_append_does_not_conflict_with_itself", "judges a batch event by event", || {
        Wrong::default().append(|right, append| {
            if let ([none, ..], [first, _, ..]) =
                (&append.condition.none_matching[..], &append.events[..])
                && right.conflict(&append.condition).is_none()
                && none.query.matches_parts(&first.event_type, first.stream.as_ref(), &first.tags)
            {
                let (after, found) = (none.after, right.head().next());
                return Pending::ready(Ok(Outcome::Conflict(Conflict::Matching {
                    clause: 0,
                    after,
                    found,
                })));
            }
            right.append(append)
        })
    }),
    row(
        "append::what_is_answered_can_be_read",
        "does not find its newest event when first looked for",
        || {
            let (seen, asked) = (Mutex::new(Position::START), Mutex::new(()));
            Wrong::default().read(move |right, read| {
                let _one_at_a_time = asked.lock().unwrap();
                let (head, mut page) = (right.head(), now(right.read(read.clone())));
                let first = std::mem::replace(&mut *seen.lock().unwrap(), head) < head;
                let newest = head > Position(1)
                    && matches!(&read.what, What::Matching { from, .. } if *from == head);
                if let (true, Ok(page)) = (first && newest, &mut page) {
                    page.events.clear();
                    page.through = Position(head.0 - 1);
                }
                Pending::ready(page)
            })
        },
    ),
    row(
        "append::the_largest_number_of_events_goes_in_at_once",
        "drops the last event of the largest batch",
        || {
            asking(|_, append| {
                if append.events.len() == leftfold_core::store::limits::APPEND_EVENTS_MAX {
                    append.events.pop();
                }
            })
        },
    ),
    row(
        "append::the_same_batch_twice_goes_in_twice",
        "takes events of the same ids for a repetition",
        || {
            let earlier = Mutex::new(Vec::<(Append, Outcome)>::new());
            Wrong::default().append(move |right, append| {
                let has_ids = append.events.iter().any(|event| event.id.is_some());
                let mut earlier = earlier.lock().unwrap();
                if let (true, Some((_, outcome))) =
                    (has_ids, earlier.iter().find(|(other, _)| *other == append))
                {
                    return Pending::ready(Ok(outcome.clone()));
                }
                let answer = now(right.append(append.clone()));
                if let (true, Ok(outcome @ Outcome::Appended(_))) = (has_ids, &answer) {
                    earlier.push((append, outcome.clone()));
                }
                Pending::ready(answer)
            })
        },
    ),
];

pub(crate) const CALLERS: &[Row] = &[
    row(
        "append::a_request_is_carried_out_without_its_caller",
        "carries batches out only if somebody waits",
        || {
            Wrong::default().append(|right, append| {
                left_by_its_caller(right, append, Leaves::AtOnce, |append| append.events.len() == 2)
            })
        },
    ),
    row(
        "append::a_caller_may_leave_after_any_poll",
        "gives up what its caller gives up after a while",
        || {
            Wrong::default()
                .append(|right, append| left_by_its_caller(right, append, Leaves::Later, |_| true))
        },
    ),
    row(
        "subscription::a_cancelled_wait_loses_nothing",
        "carries single events out only if somebody waits",
        || {
            Wrong::default().append(|right, append| {
                left_by_its_caller(right, append, Leaves::AtOnce, |append| append.events.len() == 1)
            })
        },
    ),
];

/// When a caller leaves for its append to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    AtOnce,
    Later,
}

fn left_by_its_caller(
    right: &std::sync::Arc<crate::right::Right>,
    append: Append,
    lost: Leaves,
    concerns: fn(&Append) -> bool,
) -> Pending<Outcome, AppendError> {
    if right.is_closed() || !concerns(&append) || !append.condition.is_none() {
        return right.append(append);
    }
    let (mut sender, receiver) = tokio::sync::oneshot::channel();
    let right = std::sync::Arc::clone(right);
    tokio::spawn(async move {
        let leaves_at_once = sender.is_closed();
        if lost == Leaves::Later {
            tokio::task::yield_now().await;
        }
        let is_lost = match lost {
            Leaves::AtOnce => leaves_at_once,
            Leaves::Later => !leaves_at_once && sender.is_closed(),
        };
        if !is_lost {
            let _ = sender.send(right.carry_out(append));
        } else {
            sender.closed().await;
        }
    });
    Pending::waiting(receiver)
}

fn spoiled(append: &mut Append, spoil: impl Fn(&mut leftfold_core::store::QueryItem)) {
    for none in &mut append.condition.none_matching {
        let items = none.query.items().iter().cloned().map(|mut item| {
            spoil(&mut item);
            item
        });
        none.query = items.collect::<Query>();
    }
}

pub(crate) const CONDITIONS: &[Row] = &[
    row(
        "condition::expectations_hold_for_streams_that_are_written",
        "takes the append's own events for a stream that exists",
        || {
            asking(|right, append| {
                let written: Vec<_> =
                    append.events.iter().filter_map(|event| event.stream.clone()).collect();
                let held = |name: &StreamName| {
                    written.contains(name) && right.version(name) == Version::ABSENT
                };
                append
                    .condition
                    .streams
                    .retain(|(name, expected)| *expected != Expected::Exists || !held(name));
            })
        },
    ),
    row(
        "condition::expectations_hold_for_streams_that_are_not_written",
        "takes a stream that is expected for one that exists",
        || {
            asking(|right, append| {
                let written: Vec<_> =
                    append.events.iter().filter_map(|event| event.stream.clone()).collect();
                let held = |name: &StreamName| {
                    !written.contains(name) && right.version(name) == Version::ABSENT
                };
                append
                    .condition
                    .streams
                    .retain(|(name, expected)| *expected != Expected::Exists || !held(name));
            })
        },
    ),
    row("condition::the_first_expectation_that_fails_is_reported", "reports the last one", || {
        answering(|right, append, answer| {
            if let Ok(Outcome::Conflict(conflict @ Conflict::Stream { .. })) = answer {
                let actual = append
                    .condition
                    .streams
                    .iter()
                    .map(|(name, expected)| (name, expected, right.version(name)));
                let (name, expected, actual) =
                    actual.filter(|(_, expected, actual)| !expected.holds(*actual)).last().unwrap();
                *conflict = Conflict::Stream { stream: name.clone(), expected: *expected, actual };
            }
        })
    }),
    row(
        "condition::streams_and_query_must_both_hold",
        "forgets the query where a stream is expected",
        || {
            asking(|_, append| {
                if !append.condition.streams.is_empty() {
                    append.condition.none_matching.clear();
                }
            })
        },
    ),
    row(
        "condition::a_query_looks_only_after_its_position",
        "takes the end of all positions for the start",
        || {
            asking(|_, append| {
                for none in append
                    .condition
                    .none_matching
                    .iter_mut()
                    .filter(|none| none.after == Position::END)
                {
                    none.after = Position::START;
                }
            })
        },
    ),
    row(
        "condition::each_query_of_a_condition_has_its_own_position",
        "looks for all queries after the latest position",
        || {
            asking(|_, append| {
                let latest = append.condition.none_matching.iter().map(|none| none.after).max();
                append
                    .condition
                    .none_matching
                    .iter_mut()
                    .for_each(|none| none.after = latest.unwrap_or(none.after));
            })
        },
    ),
    row(
        "condition::the_first_query_that_fails_is_reported",
        "reports the query whose event came first",
        || {
            Wrong::default().append(|right, append| {
                let failing = |clause: usize| {
                    let NoneMatching { query, after } =
                        append.condition.none_matching[clause].clone();
                    match right.conflict(&Condition::none_matching(query, after)) {
                        Some(Conflict::Matching { after, found, .. }) => {
                            Some((found, clause, after))
                        }
                        _ => None,
                    }
                };
                let first = (0..append.condition.none_matching.len()).filter_map(failing).min();
                let mut answer = now(right.append(append.clone()));
                if let (
                    Ok(Outcome::Conflict(conflict @ Conflict::Matching { .. })),
                    Some((found, clause, after)),
                ) = (&mut answer, first)
                {
                    *conflict = Conflict::Matching { clause, after, found };
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "condition::every_kind_of_query_can_be_a_condition",
        "does not look for prefixes of streams",
        || {
            asking(|_, append| {
                let is_prefix = |item: &leftfold_core::store::QueryItem| {
                    matches!(item.streams, Some(leftfold_core::store::StreamMatch::Prefix(_)))
                };
                append
                    .condition
                    .none_matching
                    .retain(|none| !none.query.items().iter().any(is_prefix));
            })
        },
    ),
    row(
        "condition::a_condition_without_events_is_judged",
        "judges no expectation where nothing is to be written",
        || {
            asking(|_, append| {
                if append.events.is_empty()
                    && append.command.is_none()
                    && append.checkpoint.is_none()
                {
                    append.condition.streams.clear();
                }
            })
        },
    )
    .breaks_too(
        &[
            "condition::expectations_hold_for_streams_that_are_not_written",
            "condition::names_that_look_alike_are_told_apart",
            "envelope::any_text_survives",
        ],
        "they ask by appends of nothing",
    ),
    row(
        "condition::a_conflict_tells_enough_to_try_again",
        "guesses the version of one who is far behind",
        || {
            answering(|_, _, answer| {
                if let Ok(Outcome::Conflict(Conflict::Stream {
                    expected: Expected::Exact(expected),
                    actual,
                    ..
                })) = answer
                    && actual.0 > 3
                    && actual.0 > expected.0 + 1
                {
                    *actual = expected.next();
                }
            })
        },
    ),
    row("condition::names_that_look_alike_are_told_apart", "trims the tags of a condition", || {
        asking(|_, append| {
            spoiled(append, |item| {
                let trimmed = item
                    .tags
                    .iter()
                    .map(|tag| Tag::new(tag.trim_end().to_owned()).unwrap_or_else(|_| tag.clone()));
                item.tags = trimmed.collect();
            });
        })
    }),
    row(
        "condition::conditions_see_what_was_before_reopening",
        "judges only by what is new since it was opened",
        || {
            asking(|right, append| {
                if right.opening > 0 {
                    append
                        .condition
                        .none_matching
                        .iter_mut()
                        .for_each(|none| none.after = none.after.max(right.began));
                }
            })
        },
    ),
    row(
        "concurrency::concurrent_appends_all_land",
        "loses what comes when a hundred wait, and says otherwise",
        || {
            let waiting = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            Wrong::default().append(move |right, append| {
                use std::sync::atomic::Ordering::SeqCst;
                if right.is_closed() || append.events.is_empty() {
                    return right.append(append);
                }
                let before = waiting.fetch_add(1, SeqCst);
                let waiting = std::sync::Arc::clone(&waiting);
                later(right, 1, move |right| {
                    waiting.fetch_sub(1, SeqCst);
                    if before == 100 {
                        let versions = append.events.iter().map(|_| Version(1)).collect();
                        let (first, recorded_at) =
                            (right.head().next(), leftfold_core::store::Timestamp::MAX);
                        return Ok(Outcome::Appended(leftfold_core::store::Appended {
                            first,
                            versions,
                            recorded_at,
                        }));
                    }
                    right.carry_out(append)
                })
            })
        },
    ),
    row(
        "concurrency::one_of_those_who_expect_the_same_version_wins",
        "looks at a version before others have written",
        || {
            race(|append| {
                let written = |(name, expected): &(_, Expected)| {
                    matches!(expected, Expected::Exact(_))
                        && append.events.iter().any(|event| event.stream.as_ref() == Some(name))
                };
                append.condition.streams.len() == 1
                    && append.condition.none_matching.is_empty()
                    && append.condition.streams.iter().all(written)
            })
        },
    ),
    row(
        "concurrency::there_is_no_write_skew",
        "looks at a query before others have written",
        || {
            race(|append| {
                append.condition.none_matching.len() == 1
                    && append.condition.streams.is_empty()
                    && append.events.len() == 1
            })
        },
    ),
    row(
        "concurrency::there_is_no_write_skew_over_several_queries",
        "looks at two queries before others have written",
        || race(|append| append.condition.none_matching.len() > 1 && append.events.len() == 1),
    ),
    row(
        "concurrency::handles_see_each_other",
        "lets each handle know its own head",
        Wrong::with_handles_apart,
    ),
    row(
        "concurrency::boundaries_apart_never_conflict",
        "takes whatever came in between for what must not be there",
        || {
            Wrong::default().append(|right, append| {
                let (Some(none), false) = (
                    append.condition.none_matching.first().cloned(),
                    append.condition.streams.is_empty(),
                ) else {
                    return right.append(append);
                };
                if right.is_closed() {
                    return right.append(append);
                }
                let seen = right.head();
                later(right, 1, move |right| {
                    if right.head() > seen && right.conflict(&append.condition).is_none() {
                        let conflict =
                            Conflict::Matching { clause: 0, after: none.after, found: seen.next() };
                        return Ok(Outcome::Conflict(conflict));
                    }
                    right.carry_out(append)
                })
            })
        },
    ),
    row(
        "concurrency::a_random_history_is_consistent",
        "judges two expectations before others have written",
        || race(|append| append.condition.streams.len() > 1),
    ),
    row(
        "concurrency::a_random_history_goes_on_after_reopening",
        "judges nothing of two expectations once it was opened again",
        || {
            asking(|right, append| {
                if right.opening > 0
                    && append.condition.streams.len() > 1
                    && append.events.len() > 1
                {
                    append.condition.streams.clear();
                }
            })
        },
    ),
];

/// Judges some appends when they are handed over, and writes them a little later.
fn race(concerns: fn(&Append) -> bool) -> Wrong {
    Wrong::default().append(move |right, append| {
        if right.is_closed()
            || !concerns(&append)
            || append.command.is_some()
            || append.fence.is_some()
        {
            return right.append(append);
        }
        match right.conflict(&append.condition) {
            Some(conflict) => Pending::ready(Ok(Outcome::Conflict(conflict))),
            None => later(right, 2, |right| right.carry_out(append.when(Condition::none()))),
        }
    })
}
