//! Stores that lose their history's hashes, whole appends, or their own end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use leftfold_core::store::{
    Append, AppendError, AppendsFrom, AppendsPage, Backend, CheckpointRecord, CloseError, Hash,
    Label, MoveFrom, Pending, Position, ReadError, State, StoreId, What,
};

use super::{Row, row};
use crate::right::{Right, Wrong, now};

fn hash_of(right: &Right, position: Position) -> Result<Option<Hash>, ReadError> {
    now(right.reads(|memory| memory.hash_at(position)))
}

/// Spoils the hash that is told.
fn hashing(
    spoil: impl Fn(&Arc<Right>, Position, Option<Hash>) -> Option<Hash> + Send + Sync + 'static,
) -> Wrong {
    Wrong::default().hash_at(move |right, position| {
        Pending::ready(hash_of(right, position).map(|hash| spoil(right, position, hash)))
    })
}

pub(crate) const HASHES: &[Row] = &[
    row(
        "hash::the_start_has_the_empty_hash_and_the_future_none",
        "has the same hash at the second and the third position",
        || {
            hashing(|right, position, hash| match position {
                Position(3) if right.head() >= position => hash_of(right, Position(2)).unwrap(),
                _ => hash,
            })
        },
    ),
    row("hash::a_hash_never_changes", "changes its first hash when it is long", || {
        hashing(|right, position, hash| {
            if position == Position(1) && right.head().0 > 40 { Some(Hash([1; 32])) } else { hash }
        })
    }),
    row("hash::histories_differ_by_their_hashes", "makes hashes of positions alone", || {
        let of_end = |right: &Right, mut position: Position| {
            while right.event_at(position).is_some_and(|event| event.append_continues) {
                position = position.next();
            }
            Hash([position.0 as u8; 32])
        };
        hashing(move |right, position, hash| {
            hash.map(
                |hash| if position == Position::START { hash } else { of_end(right, position) },
            )
        })
        .appends(move |right, from, page_bytes| {
            let mut page = now(right.reads(|memory| memory.appends(from, page_bytes)));
            if let Ok(page) = &mut page {
                page.appends
                    .iter_mut()
                    .for_each(|append| append.hash = of_end(right, append.last()));
            }
            Pending::ready(page)
        })
    })
    .breaks_too(
        &["hash::the_history_gives_all_hashes_again", "hash::a_history_is_read_from_any_place"],
        "the bytes of a history have other hashes",
    ),
    row("hash::the_chain_of_the_head_covers_everything", "leaves records out of its chain", || {
        Wrong::default().append(|right, append| {
            let (chain, is_record) = (right.status.borrow().head.chain, append.events.is_empty());
            let answer = now(right.append(append));
            if is_record {
                right.status.send_modify(|status| status.head.chain = chain);
            }
            Pending::ready(answer)
        })
    })
    .breaks_too(
        &["hash::the_history_gives_all_hashes_again", "hash::a_history_is_read_from_any_place"],
        "the bytes of a history come to another end",
    ),
    row("hash::the_history_gives_all_hashes_again", "gives another byte of its history", || {
        Wrong::default().history(|right, from, page_bytes| {
            let mut page = now(right.reads(|memory| memory.history(from, page_bytes)));
            if let Ok(page) = &mut page
                && from.known_bytes == 0
                && let Some(link) = page.links.iter_mut().find(|link| link.hashed.len() > 20)
            {
                let mut bytes = link.hashed.to_vec();
                bytes[20] ^= 1;
                link.hashed = bytes.into();
            }
            Pending::ready(page)
        })
    }),
    row("hash::a_history_is_read_from_any_place", "begins at the last event of a page", || {
        Wrong::default().history(|right, mut from, page_bytes| {
            if let AppendsFrom::After(position) = &mut from.link {
                position.0 = position.0.saturating_sub(1);
            }
            right.reads(|memory| memory.history(from, page_bytes))
        })
    }),
    row(
        "subscription::it_resumes_from_a_checkpoint",
        "lets who stands at the end stand before it when it is opened again",
        || {
            Wrong::default().checkpoint(|right, consumer, source, partition| {
                let mut answer =
                    now(right.reads(|memory| memory.checkpoint(consumer, source, partition)));
                if let (1.., Ok(Some(checkpoint))) = (right.opening, &mut answer)
                    && checkpoint.position == right.head()
                    && source == right.memory.identity().store
                {
                    checkpoint.position = Position(checkpoint.position.0 - 1);
                    checkpoint.hash = hash_of(right, checkpoint.position).unwrap().unwrap();
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "subscription::a_checkpoint_of_another_store_is_refused",
        "has the same id as every other store",
        || {
            Wrong::default().identity(|right| {
                let mut identity = right.memory.identity();
                identity.store = StoreId(uuid::Uuid::nil());
                identity
            })
        },
    )
    .breaks_too(
        &["durability::the_identity_survives_reopening"],
        "it compares the ids of two stores",
    ),
    row(
        "subscription::a_checkpoint_ahead_of_the_store_is_refused",
        "has the last hash behind its end too",
        || hashing(|right, _, hash| hash.or_else(|| hash_of(right, right.head()).unwrap())),
    )
    .breaks_too(
        &["hash::the_start_has_the_empty_hash_and_the_future_none"],
        "it asks for the same hash",
    ),
    row(
        "subscription::a_checkpoint_of_another_history_is_refused",
        "forgets the hash of its only append once it was told",
        || {
            let told = Mutex::new(0);
            hashing(move |right, position, hash| {
                if position != Position(2)
                    || right.head() != Position(2)
                    || right.event_at(Position(1)).is_none_or(|event| !event.append_continues)
                {
                    return hash;
                }
                *told.lock().unwrap() += 1;
                if *told.lock().unwrap() > 1 { Some(Hash::EMPTY) } else { hash }
            })
        },
    ),
];

/// Spoils pages of appends.
fn copying(
    spoil: impl Fn(&Arc<Right>, AppendsFrom, u32, &mut AppendsPage) + Send + Sync + 'static,
) -> Wrong {
    Wrong::default().appends(move |right, from, page_bytes| {
        let mut page = now(right.reads(|memory| memory.appends(from, page_bytes)));
        if let Ok(page) = &mut page {
            spoil(right, from, page_bytes, page);
        }
        Pending::ready(page)
    })
}

pub(crate) const APPENDS: &[Row] = &[
    row(
        "appends::appends_come_back_whole_and_in_order",
        "leaves out the records before the first event",
        || {
            copying(|_, _, page_bytes, page| {
                if page_bytes == 1 << 20 {
                    page.appends.retain(|append| append.first > Position::START);
                }
            })
        },
    )
    .breaks_too(&["appends::an_append_is_never_split_over_pages"], "it compares with a large page"),
    row(
        "appends::an_append_is_never_split_over_pages",
        "ends where an append does not fit into a page",
        || {
            copying(|_, _, page_bytes, page| {
                if page_bytes == 0 {
                    page.appends.clear();
                }
            })
        },
    ),
    row(
        "appends::appends_are_read_from_after_a_position",
        "repeats the append that a position is in",
        || {
            Wrong::default().appends(|right, mut from, page_bytes| {
                if let AppendsFrom::After(position) = &mut from
                    && right.event_at(*position).is_some_and(|event| event.append_continues)
                {
                    while position.0 > 0
                        && right.event_at(*position).is_some_and(|event| event.append_continues)
                    {
                        *position = Position(position.0 - 1);
                    }
                }
                right.reads(|memory| memory.appends(from, page_bytes))
            })
        },
    ),
    row(
        "appends::a_mark_goes_on_with_what_comes_later",
        "lets marks of an earlier opening end there",
        || {
            let given = Mutex::new(HashSet::new());
            copying(move |right, from, _, page| {
                let mut given = given.lock().unwrap();
                if let AppendsFrom::Mark(mark) = from
                    && right.opening > 0
                    && !given.contains(&(right.opening, mark))
                {
                    page.appends.clear();
                } else if let AppendsFrom::Mark(mark) = page.next {
                    given.insert((right.opening, mark));
                }
            })
        },
    ),
    row(
        "appends::leases_are_no_appends",
        "records leases as if somebody had appended them",
        || {
            Wrong::default().lease(|right, request| {
                let answer = right.lease(request);
                let source = right.memory.identity().store;
                let checkpoint = leftfold_core::store::Checkpoint {
                    store: source,
                    partition: leftfold_core::store::Partition::default(),
                    position: Position(1),
                    hash: Hash::EMPTY,
                };
                let consumer = Label::new("leases".to_owned()).unwrap();
                let record = CheckpointRecord { consumer, from: MoveFrom::Anywhere, checkpoint };
                let _ = right.carry_out(Append { checkpoint: Some(record), ..Append::default() });
                answer
            })
        },
    ),
];

pub(crate) const ENDS: &[Row] = &[
    row("close::a_closed_store_says_so", "maps moments when it is closed", || {
        Wrong::default().position_at(|right, moment| right.memory.position_at(moment))
    }),
    row(
        "close::what_was_handed_over_is_answered",
        "forgets what was handed over when it is closed",
        || {
            Wrong::default().append(|right, append| {
                if right.is_closed() {
                    return Pending::ready(Err(AppendError::Closed));
                }
                crate::right::later(right, 0, move |right| {
                    if right.is_closed() {
                        Err(AppendError::Closed)
                    } else {
                        right.carry_out(append)
                    }
                })
            })
        },
    ),
    row("close::closing_again_is_no_error", "cannot be closed for the third time", || {
        let closed = Mutex::new((0, 0));
        Wrong::default().close(move |right| {
            let mut closed = closed.lock().unwrap();
            *closed = if closed.0 == right.opening {
                (right.opening, closed.1 + 1)
            } else {
                (right.opening, 1)
            };
            if closed.1 == 3 {
                return Pending::ready(Err(CloseError { detail: "it is closed".to_owned() }));
            }
            right.close()
        })
    }),
    row("close::a_waiting_subscription_ends", "wakes nobody when it is closed", || {
        Wrong::default().close(|right| {
            let closed = right.close_quietly();
            right.status.send_if_modified(|status| {
                status.state = State::Closed;
                false
            });
            closed
        })
    }),
    row(
        "close::a_subscription_that_was_not_waiting_ends",
        "has nothing new to say when it is closed",
        || {
            Wrong::default().read(|right, read| {
                if let What::Matching { from, .. } = &read.what
                    && right.is_closed()
                    && *from > right.head()
                {
                    return right.memory.read(read);
                }
                right.read(read)
            })
        },
    )
    .breaks_too(&["close::a_waiting_subscription_ends"], "it hears of the end in the same way"),
    row("fault::a_write_that_fails_leaves_nothing", "keeps what was written of a batch", || {
        Wrong::default().append(|right, mut append| {
            if !right.is_closed() && right.write_fails() {
                append.events.truncate(1);
                let _ = right.carry_out(Append { command: None, ..append });
                return Pending::ready(Err(AppendError::Unknown {
                    detail: "the write failed".to_owned(),
                }));
            }
            Pending::ready(if right.is_closed() {
                Err(AppendError::Closed)
            } else {
                right.carry_out(append)
            })
        })
    }),
    row("fault::a_read_that_fails_is_an_error", "takes what cannot be read for the end", || {
        Wrong::default().read(|right, read| {
            if !right.read_fails() {
                return right.read(read);
            }
            let mut page = now(right.reads(|memory| memory.read(read)));
            if let Ok(page) = &mut page {
                page.events.truncate(3);
                page.next = None;
            }
            Pending::ready(page)
        })
    }),
    row(
        "model::random_operations_are_those_of_the_memory_backend",
        "judges one expectation of a request",
        || {
            crate::right::asking(|_, append| {
                if append.command.is_some() {
                    append.condition.streams.truncate(1);
                }
            })
        },
    ),
];
