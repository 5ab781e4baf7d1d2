//! Stores that keep events, answers and snapshots, but not as they were.

use std::sync::Mutex;

use bytes::Bytes;
use leftfold_core::store::limits::{
    KEY_IDS_MAX, METADATA_BYTES_MAX, QUERY_ITEMS_MAX, SNAPSHOT_BYTES_MAX,
};
use leftfold_core::store::{
    Append, AppendError, Backend, Checkpoint, ContentType, EventId, Label, MemoryBackend, NewEvent,
    Outcome, Pending, Position, RecordedEvent, StreamMatch, Timestamp, What,
};
use uuid::Uuid;

use super::{Row, row};
use crate::right::{Wrong, answering, asking, now, paging, reading};

/// Spoils every event that is appended.
fn writing(spoil: impl Fn(&mut NewEvent) + Send + Sync + 'static) -> Wrong {
    asking(move |_, append| append.events.iter_mut().for_each(&spoil))
}

/// Gives the events other ids, wherever they are read.
fn minting(id: fn(u32, &RecordedEvent) -> EventId) -> Wrong {
    let minted = move |opening, event: &mut RecordedEvent| {
        if event.id.0.get_version_num() == 7 {
            event.id = id(opening, event);
        }
    };
    paging(move |right, _, page| {
        page.events.iter_mut().for_each(|event| minted(right.opening, event))
    })
    .appends(move |right, from, page_bytes| {
        let mut page = now(right.reads(|memory| memory.appends(from, page_bytes)));
        if let Ok(page) = &mut page {
            page.appends
                .iter_mut()
                .flat_map(|append| &mut append.events)
                .for_each(|event| minted(right.opening, event));
        }
        Pending::ready(page)
    })
}

pub(crate) const ENVELOPES: &[Row] = &[
    row("envelope::every_field_survives", "writes a content type shorter than it was", || {
        writing(|event| {
            if matches!(&event.content_type, ContentType::Other(label) if &**label == "application/json")
            {
                event.content_type = ContentType::Json;
            }
        })
    }),
    row("envelope::a_trace_context_survives", "has no room for a trace", || {
        writing(|event| event.metadata.trace = None)
    })
    .breaks_too(&["envelope::every_field_survives"], "a trace is one of the fields"),
    row("envelope::any_text_survives", "strips marks of the order of bytes", || {
        writing(|event| {
            let stripped =
                |label: Label| Label::new(label.trim_start_matches('\u{feff}').to_owned()).ok();
            event.metadata.correlation = event.metadata.correlation.take().and_then(stripped);
        })
    }),
    row("envelope::data_of_every_size_survives", "loses the last byte of a page", || {
        writing(|event| {
            if event.data.len() == 4_096 {
                event.data.truncate(4_095);
            }
        })
    }),
    row(
        "envelope::every_read_finds_the_same_event",
        "leaves the user's metadata out when it reads a category",
        || {
            paging(|_, read, page| {
                let is_category = matches!(&read.what, What::Matching { query, .. }
                if query.items().iter().any(|item| matches!(
                    item.streams,
                    Some(StreamMatch::Category(_))
                )));
                page.events
                    .iter_mut()
                    .filter(|_| is_category)
                    .for_each(|event| event.metadata.user = Bytes::new());
            })
        },
    ),
    row("envelope::minted_ids_are_version_7_and_distinct", "mints ids a second early", || {
        minting(|_, event| EventId(Uuid::from_u128(event.id.0.as_u128() - (1_000 << 80))))
    }),
    row(
        "envelope::minted_ids_are_never_given_again",
        "makes ids of time and position alone",
        || {
            minting(|_, event| {
                let kept = u128::MAX << 80 | 0xf << 76 | 0b11 << 62;
                EventId(Uuid::from_u128(event.id.0.as_u128() & kept | u128::from(event.position.0)))
            })
        },
    ),
    row("envelope::ids_are_the_same_after_reopening", "mints new ids when it is opened", || {
        minting(|opening, event| {
            EventId(Uuid::from_u128(event.id.0.as_u128() ^ u128::from(opening)))
        })
    })
    .breaks_too(&["durability::everything_survives_reopening"], "it compares ids as well"),
    row(
        "envelope::ids_that_callers_brought_are_found",
        "tells all positions of an id, however few are asked for",
        || {
            Wrong::default().positions_of(|right, id, _| {
                right.reads(|memory| memory.positions_of(id, u32::MAX))
            })
        },
    ),
];

pub(crate) const LIMITS: &[Row] = &[
    row(
        "limits::what_is_beyond_a_limit_is_refused",
        "keeps as many key ids as may be, and forgets the others",
        || writing(|event| event.key_ids.truncate(KEY_IDS_MAX)),
    ),
    row(
        "limits::what_is_at_a_limit_is_kept",
        "keeps one byte of metadata less than may be",
        || {
            writing(|event| {
                if event.metadata.user.len() == METADATA_BYTES_MAX {
                    event.metadata.user.truncate(METADATA_BYTES_MAX - 1);
                }
            })
        },
    ),
    row(
        "limits::a_query_beyond_a_limit_cannot_be_read",
        "looks at no more items than may be",
        || {
            reading(|_, read| {
                if let What::Matching { query, .. } = &mut read.what
                    && query.items().len() > QUERY_ITEMS_MAX
                {
                    *query = query.items()[..QUERY_ITEMS_MAX].iter().cloned().collect();
                }
            })
        },
    ),
    row(
        "limits::names_of_the_runtime_are_refused_from_an_application",
        "takes everybody for the runtime",
        || {
            Wrong::default()
                .append(|right, append| right.append(leftfold_testing::by_runtime(append)))
        },
    ),
    row(
        "limits::what_was_refused_as_too_much_is_not_there",
        "says that it is busy, and appends",
        || {
            let large = Mutex::new(0);
            answering(move |_, append: &Append, answer| {
                let mut large = large.lock().unwrap();
                *large += u32::from(
                    append.command.is_some()
                        && append.events.iter().any(|event| event.data.len() == 1 << 20),
                );
                if *large == 10 && matches!(answer, Ok(Outcome::Appended(_))) {
                    *answer = Err(AppendError::Busy { waiting: 1 });
                }
            })
        },
    ),
];

pub(crate) const PLACES: &[Row] = &[
    row(
        "snapshot::a_snapshot_is_what_was_kept_or_nothing",
        "compares the beginning of a key",
        || {
            let short = |key: Bytes| key.slice(..key.len().min(12));
            Wrong::default()
                .keep_snapshot(move |right, key, value| {
                    right.memory.keep_snapshot(short(key), value);
                })
                .snapshot(move |right, key| right.reads(|memory| memory.snapshot(short(key))))
        },
    ),
    row(
        "snapshot::a_snapshot_beyond_its_limit_is_not_kept",
        "keeps what fits of a snapshot",
        || {
            Wrong::default().keep_snapshot(|right, key, mut value| {
                value.truncate(SNAPSHOT_BYTES_MAX);
                right.memory.keep_snapshot(key, value);
            })
        },
    ),
    row(
        "durability::the_identity_survives_reopening",
        "begins a new life whenever it is opened",
        || {
            Wrong::default().identity(|right| {
                let mut identity = right.memory.identity();
                identity.epoch.number += right.opening;
                identity
            })
        },
    ),
    row(
        "durability::everything_survives_reopening",
        "shifts recorded times when it is opened often",
        || {
            paging(|right, _, page| {
                if right.opening == 3 {
                    let later = |event: &mut RecordedEvent| {
                        event.recorded_at =
                            Timestamp::from_micros(event.recorded_at.as_micros() + 1)
                    };
                    page.events.iter_mut().for_each(later);
                }
            })
        },
    ),
    row("durability::stores_are_apart", "keeps the checkpoints of all stores in one place", || {
        type Kept = Mutex<Vec<(Label, Checkpoint)>>;
        static KEPT: Kept = Mutex::new(Vec::new());
        Wrong::default()
            .append(|right, append| {
                let record = append.checkpoint.clone();
                let answer = now(right.append(append));
                if let (Ok(Outcome::Appended(_)), Some(record)) = (&answer, record) {
                    KEPT.lock().unwrap().push((record.consumer, record.checkpoint));
                }
                Pending::ready(answer)
            })
            .checkpoint(|right, consumer, source, partition| {
                let answer =
                    now(right
                        .reads(|memory| memory.checkpoint(consumer.clone(), source, partition)));
                let kept = KEPT.lock().unwrap();
                let is_it =
                    |(of, kept): &&(Label, Checkpoint)| *of == consumer && kept.store == source;
                let other = kept.iter().find(is_it).filter(|_| right.head() == Position::START);
                Pending::ready(match (answer, other) {
                    (Ok(None), Some((_, checkpoint))) => Ok(Some(checkpoint.clone())),
                    (answer, _) => answer,
                })
            })
    }),
    row(
        "time::recorded_time_strictly_increases",
        "is late with the time of its head, once it is long",
        || {
            answering(|right, _, _| {
                if right.head().0 > 100 {
                    right
                        .status
                        .send_modify(|status| status.head.recorded_at = Timestamp::from_micros(1));
                }
            })
        },
    ),
    row(
        "time::a_moment_maps_to_the_last_position_at_it",
        "finds nothing at the end of all times",
        || {
            Wrong::default().position_at(|right, moment| {
                if moment == Timestamp::MAX {
                    right.reads(|memory| memory.position_at(Timestamp::MIN))
                } else {
                    right.reads(|memory| memory.position_at(moment))
                }
            })
        },
    ),
    row(
        "time::the_answer_for_a_moment_never_changes",
        "finds one more when it is opened again",
        || {
            Wrong::default().position_at(|right, moment| {
                let answer = now(right.reads(|memory| memory.position_at(moment)));
                Pending::ready(if right.opening > 1 { answer.map(Position::next) } else { answer })
            })
        },
    ),
    row(
        "time::the_clock_is_the_one_of_recorded_times",
        "tells the time of a clock that is ahead by an hour",
        || {
            Wrong::default().now(|right| {
                Pending::ready(
                    now(right.reads(MemoryBackend::now))
                        .map(|now| now.plus(std::time::Duration::from_secs(3_600))),
                )
            })
        },
    ),
    row(
        "time::time_goes_on_after_reopening",
        "tells the time of another clock when it is opened again",
        || {
            answering(|right, _, answer| {
                if let (1.., Ok(Outcome::Appended(appended))) = (right.opening, answer) {
                    appended.recorded_at =
                        Timestamp::from_micros(appended.recorded_at.as_micros() - 3_600_000_000);
                }
            })
        },
    ),
];
