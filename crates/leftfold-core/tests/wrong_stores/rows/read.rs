//! Stores that read wrongly.

use std::sync::{Arc, Mutex};

use leftfold_core::store::{
    Backend, Direction, Page, Pending, Position, Query, QueryItem, Read, StreamMatch, System,
    TypeMatch, Version, What,
};

use super::{Row, row};
use crate::right::{Right, Wrong, now, paging, reading};

fn backwards(read: &Read) -> bool {
    read.direction == Direction::Backwards
}

/// Returns where a read by position begins.
fn from(read: &Read) -> Option<Position> {
    match &read.what {
        What::Matching { from, .. } => Some(*from),
        What::Stream { .. } => None,
    }
}

fn query(read: &Read) -> Option<&Query> {
    match &read.what {
        What::Matching { query, .. } => Some(query),
        What::Stream { .. } => None,
    }
}

pub(crate) const PAGES: &[Row] = &[
    row(
        "read::an_empty_store_has_nothing",
        "looks no further back than the first position",
        || {
            paging(|right, read, page| {
                if backwards(read) && right.head() == Position::START {
                    page.through = Position(1);
                }
            })
        },
    ),
    row(
        "read::forwards_and_backwards_are_the_same_events",
        "does not see where an append ends when it goes back",
        || {
            paging(|_, read, page| {
                if backwards(read) && query(read) == Some(&Query::everything()) {
                    page.events.iter_mut().for_each(|event| event.append_continues = false);
                }
            })
        },
    ),
    row(
        "read::a_read_begins_where_it_is_told",
        "leaves the last event out of a large page that begins behind it",
        || {
            reading(|right, read| {
                let (head, large) =
                    (right.head(), read.page_events == Read::PAGE_EVENTS && backwards(read));
                if let What::Matching { from, .. } = &mut read.what
                    && large
                    && *from > head
                    && *from != Position::END
                {
                    *from = Position(head.0.saturating_sub(1));
                }
            })
        },
    ),
    row("read::a_stream_is_read_by_version", "takes version 0 for the end", || {
        reading(|_, read| {
            let back = backwards(read);
            if let What::Stream { from, .. } = &mut read.what
                && back
                && *from == Version::ABSENT
            {
                *from = Version::END;
            }
        })
    }),
    row("read::pages_continue_exactly", "leaves one position out between pages of five", || {
        paging(|_, read, page| {
            if let (5, Some(What::Matching { from, .. })) = (read.page_events, &mut page.next)
                && !backwards(read)
            {
                *from = from.next();
            }
        })
    }),
    row("read::a_page_is_bounded_by_its_bytes", "does not count bytes", || {
        reading(|_, read| read.page_bytes = u32::MAX)
    }),
    row(
        "read::one_event_is_always_returned",
        "ends where an event does not fit into a small page",
        || {
            paging(|_, read, page| {
                let first = page.events.first().map_or(0, |event| event.data.len());
                if read.page_bytes <= 1_000 && first > 1_000 {
                    page.events.clear();
                    page.next = None;
                }
            })
        },
    ),
    row(
        "read::a_page_of_none_tells_where_things_stand",
        "tells the version of a stream only at its end",
        || {
            paging(|_, read, page| {
                if let (0, What::Stream { from: Version(1), .. }) = (read.page_events, &read.what) {
                    page.stream_version = Some(Version::ABSENT);
                }
            })
        },
    ),
    row(
        "read::through_covers_everything_that_matches",
        "is through with less than a page of two holds",
        || {
            paging(|_, read, page| {
                if read.page_events == 2 && !backwards(read) && page.next.is_some() {
                    page.through = Position(page.events[1].position.0 - 1);
                }
            })
        },
    ),
    row(
        "read::an_absent_stream_has_no_events",
        "takes the name of a category for a stream",
        || {
            paging(|right, read, page| {
                if let What::Stream { stream, .. } = &read.what
                    && page.stream_version == Some(Version::ABSENT)
                    && !stream.contains('-')
                {
                    let in_category =
                        Read::matching(Query::category(stream.to_string()), Position(1)).page_of(1);
                    let found = now(right.memory.read(in_category)).unwrap().events.len();
                    page.stream_version = Some(Version(found as u64));
                }
            })
        },
    ),
    row("read::a_page_counts_what_all_items_find", "counts what each item finds", || {
        reading(|_, read| {
            let items = query(read).map_or(1, |query| query.items().len().max(1));
            read.page_events = read.page_events.saturating_mul(items as u32);
        })
    }),
    row(
        "read::a_stream_tells_where_it_stands",
        "tells the version of the last event that it returns",
        || {
            paging(|_, read, page| {
                if let (1, What::Stream { .. }, [event]) =
                    (read.page_events, &read.what, &page.events[..])
                    && !backwards(read)
                {
                    page.stream_version = Some(event.version());
                }
            })
        },
    ),
];

pub(crate) const MOVING: &[Row] = &[
    row(
        "read::a_read_sees_a_prefix_while_writers_go_on",
        "shows a part of the last append at first",
        || {
            let seen = Mutex::new(Position::START);
            paging(move |right, read, page| {
                let fresh =
                    std::mem::replace(&mut *seen.lock().unwrap(), right.head()) < right.head();
                let whole = query(read) == Some(&Query::all())
                    && from(read) == Some(Position(1))
                    && page.next.is_none();
                let by_writers = |page: &Page| {
                    page.events
                        .last()
                        .and_then(|event| event.stream.as_ref())
                        .is_some_and(|at| at.name.starts_with("w-"))
                };
                if fresh
                    && whole
                    && page.events.iter().all(|event| event.tags.is_empty())
                    && by_writers(page)
                {
                    page.events.pop();
                }
            })
        },
    ),
    row(
        "read::nothing_appears_where_a_reader_has_looked",
        "finds a large append by its tags a little later",
        || {
            let seen = Mutex::new(Position::START);
            paging(move |right, read, page| {
                let before = std::mem::replace(&mut *seen.lock().unwrap(), right.head());
                let tagged =
                    query(read).is_some_and(|query| *query == Query::tag("t")) && !backwards(read);
                if tagged && right.head().0 >= before.0 + 100 {
                    page.events.retain(|event| event.position <= before);
                }
            })
        },
    ),
    row("read::a_read_under_way_stays_as_it_began", "counts pages from the end", || {
        let began = Mutex::new(None::<Position>);
        reading(move |right, read| {
            let (mut began, back) = (began.lock().unwrap(), backwards(read));
            let What::Matching { from, .. } = &mut read.what else { return };
            if back && *from == Position::END {
                *began = Some(right.head());
            } else if let (true, Some(began)) = (back, *began) {
                *from = Position(from.0 + (right.head().0 - began.0));
            }
        })
    }),
    row("query::all_items_are_judged_at_one_head", "asks for one item after the other", || {
        Wrong::default().read(|right, read| {
            let Some(query) =
                query(&read).filter(|query| query.items().len() > 1 && !right.is_closed())
            else {
                return right.read(read);
            };
            let (first, rest) = (Query::from(query.items()[0].clone()), query.clone());
            let early = Read {
                what: What::Matching {
                    query: first.clone(),
                    from: from(&read).unwrap_or_default(),
                },
                ..read.clone()
            };
            let early = now(right.read(early));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let right = Arc::clone(right);
            tokio::spawn(async move {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                let answer = now(right.read(Read {
                    what: What::Matching { query: rest, from: from(&read).unwrap_or_default() },
                    ..read
                }));
                let _ = sender.send(
                    early.and_then(|early| answer.map(|page| as_early(page, &first, &early))),
                );
            });
            Pending::waiting(receiver)
        })
    }),
];

/// The page without what the first item finds only since its own head.
fn as_early(mut page: Page, first: &Query, early: &Page) -> Page {
    page.events.retain(|event| !first.matches(event) || event.position <= early.head.position);
    page
}

/// Reads with items that were spoiled.
fn items(spoil: impl Fn(&mut QueryItem) + Send + Sync + 'static) -> Wrong {
    reading(move |_, read| {
        if let What::Matching { query, .. } = &mut read.what {
            let spoiled = query.items().iter().cloned().map(|mut item| {
                spoil(&mut item);
                item
            });
            *query = spoiled.collect();
        }
    })
}

pub(crate) const QUERIES: &[Row] = &[
    row("query::types_are_alternatives", "finds an event as often as its type is named", || {
        paging(|_, read, page| {
            let twice = |types: &[TypeMatch]| types.len() > 2 && types.first() == types.last();
            if query(read).is_some_and(|query| query.items().iter().any(|item| twice(&item.types)))
            {
                page.events =
                    page.events.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
            }
        })
    }),
    row("query::all_tags_must_be_there", "finds nothing where a tag is named twice", || {
        items(|item| {
            if item.tags.len() > 2 && item.tags.first() == item.tags.last() {
                item.types = vec![TypeMatch::Prefix("nothing is named so".to_owned())];
            }
        })
    }),
    row(
        "query::items_are_alternatives",
        "leaves out an item that restricts nothing, beside others",
        || {
            reading(|_, read| {
                if let What::Matching { query, .. } = &mut read.what
                    && query.items().len() > 1
                {
                    *query = query
                        .items()
                        .iter()
                        .filter(|item| **item != QueryItem::default())
                        .cloned()
                        .collect();
                }
            })
        },
    ),
    row(
        "query::an_item_restricts_by_everything_it_names",
        "looks for no tags in one stream",
        || {
            items(|item| {
                if !item.types.is_empty() && matches!(item.streams, Some(StreamMatch::Exact(_))) {
                    item.tags.clear();
                }
            })
        },
    ),
    row(
        "query::streams_are_found_by_name_category_and_prefix",
        "does not know the category without a name",
        || {
            items(|item| {
                if item.streams == Some(StreamMatch::Category(String::new())) {
                    item.streams = Some(StreamMatch::Category("nothing is named so".to_owned()));
                }
            })
        },
    ),
    row("query::types_are_found_by_prefix", "takes no type for its own beginning", || {
        paging(|_, read, page| {
            let itself = |name: &str| {
                let is =
                    |one: &TypeMatch| matches!(one, TypeMatch::Prefix(prefix) if prefix == name);
                query(read)
                    .is_some_and(|query| query.items().iter().any(|item| item.types.iter().any(is)))
            };
            page.events.retain(|event| !itself(&event.event_type));
        })
    }),
    row(
        "query::system_events_are_found_only_where_they_are_meant",
        "takes the empty beginning for that of everything",
        || {
            items(|item| {
                if item.types == [TypeMatch::Prefix(String::new())] {
                    item.system = System::Included;
                }
            })
        },
    ),
    row(
        "query::names_of_every_kind_are_matched_exactly",
        "trims the tags that it looks for",
        || {
            items(|item| {
                let trimmed = |tag: &leftfold_core::store::Tag| {
                    leftfold_core::store::Tag::new(tag.trim_end().to_owned())
                        .unwrap_or_else(|_| tag.clone())
                };
                item.tags = item.tags.iter().map(trimmed).collect();
            })
        },
    ),
    row(
        "query::random_queries_find_what_they_say",
        "looks for no tags where streams are named by their beginning",
        || {
            items(|item| {
                if matches!(item.streams, Some(StreamMatch::Prefix(_))) {
                    item.tags.clear();
                }
            })
        },
    ),
    row("query::the_order_of_items_changes_nothing", "looks at four items at most", || {
        reading(|_, read| {
            if let What::Matching { query, .. } = &mut read.what
                && query.items().len() == 5
            {
                *query = query.items()[..4].iter().cloned().collect();
            }
        })
    }),
    row(
        "subscription::it_catches_up_and_then_follows",
        "loses the first of two events that came together",
        || {
            newest(|page| {
                page.events.remove(0);
            })
        },
    ),
    row(
        "subscription::it_says_when_it_has_caught_up",
        "is not through where nothing is found from the second event on",
        || {
            paging(|right, read, page| {
                let large = read.page_events == Read::PAGE_EVENTS && !backwards(read);
                if large
                    && from(read) == Some(Position(2))
                    && page.events.is_empty()
                    && right.head() > Position(1)
                {
                    page.through = Position(1);
                }
            })
        },
    ),
    row(
        "subscription::it_reports_progress_past_what_does_not_match",
        "finds everything where nothing is to be found",
        || {
            paging(|right, read, page| {
                let tagged = query(read).is_some_and(|query| *query == Query::tag("t"));
                let of_one_stream = |page: &Page| {
                    page.events
                        .iter()
                        .all(|event| event.stream.as_ref().is_some_and(|at| &*at.name == "a-1"))
                };
                if tagged && page.events.is_empty() && from(read) == Some(Position(4)) {
                    let all = Read {
                        what: What::Matching { query: Query::all(), from: Position(4) },
                        ..read.clone()
                    };
                    let all = now(right.memory.read(all)).unwrap();
                    if of_one_stream(&all) {
                        *page = all;
                    }
                }
            })
        },
    ),
    row(
        "subscription::a_slow_reader_does_not_hold_up_writers",
        "is busy while much is not read",
        || {
            Wrong::default().append(|right, append| {
                if right.head().0 > 25_000 {
                    return Pending::ready(Err(leftfold_core::store::AppendError::Busy {
                        waiting: 1,
                    }));
                }
                right.append(append)
            })
        },
    ),
    row(
        "subscription::it_never_skips_under_load",
        "loses an event of a category that is written meanwhile",
        || {
            paging(|_, read, page| {
                if query(read) == Some(&Query::category("w")) && page.events.len() > 1 {
                    page.events.remove(1);
                }
            })
        },
    ),
];

/// Spoils a page of the two newest events.
fn newest(spoil: fn(&mut Page)) -> Wrong {
    paging(move |right: &Arc<Right>, read, page| {
        let large = read.page_events == Read::PAGE_EVENTS
            && query(read) == Some(&Query::all())
            && !backwards(read);
        if large
            && page.events.len() == 2
            && from(read).is_some_and(|from| from.0 > 5 && from.next() == right.head())
        {
            spoil(page);
        }
    })
}
