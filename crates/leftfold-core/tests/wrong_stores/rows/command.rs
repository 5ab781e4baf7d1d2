//! Stores that forget, or mistake, commands and checkpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use leftfold_core::store::{
    Append, AppendError, Backend, Checkpoint, CommandId, Hash, MoveFrom, Outcome, Partition,
    Pending, Position,
};

use super::{Row, row};
use crate::right::{Wrong, answering, asking, later, now};

pub(crate) const COMMANDS: &[Row] = &[
    row(
        "command::a_repeated_request_is_answered_as_first",
        "answers with what the repetition brought",
        || {
            answering(|_, append, answer| {
                if let (Some(command), Ok(Outcome::Repeated(answered))) = (&append.command, answer)
                {
                    answered.record.answer = command.answer.clone();
                }
            })
        },
    ),
    row(
        "command::a_request_without_events_is_remembered",
        "lets a batch in where nothing was appended before",
        || {
            asking(|right, append| {
                let known = append.command.as_ref().and_then(|command| right.knows(command.id));
                if known.is_some_and(|known| known.events == 0) && append.events.len() > 1 {
                    append.command = None;
                }
            })
        },
    ),
    row(
        "command::other_bytes_under_one_id_are_refused",
        "forgets the bytes of a request when it is opened again",
        || {
            Wrong::default().append(|right, append| {
                let answer = now(right.append(append));
                Pending::ready(match answer {
                    Err(AppendError::CommandIdReused { id }) if right.opening > 0 => {
                        Ok(Outcome::Repeated(right.knows(id).unwrap()))
                    }
                    answer => answer,
                })
            })
        },
    ),
    row(
        "command::the_id_is_looked_at_before_the_condition",
        "looks at the condition first",
        || {
            Wrong::default().append(|right, append| match right.conflict(&append.condition) {
                Some(conflict) if append.fence.is_none() && !right.is_closed() => {
                    Pending::ready(Ok(Outcome::Conflict(conflict)))
                }
                _ => right.append(append),
            })
        },
    ),
    row(
        "command::an_append_that_was_refused_leaves_its_id_free",
        "remembers a request that met a conflict",
        || {
            Wrong::default().append(|right, append| {
                let answer = now(right.append(append.clone()));
                if matches!(answer, Ok(Outcome::Conflict(_)))
                    && append.command.is_some()
                    && append.checkpoint.is_none()
                    && append.fence.is_none()
                {
                    let _ =
                        right.carry_out(Append { command: append.command, ..Append::default() });
                }
                Pending::ready(answer)
            })
        },
    ),
    row("command::an_unknown_id_has_no_answer", "compares no ids while there is one event", || {
        let last = Arc::new(Mutex::new(None::<CommandId>));
        let known = Arc::clone(&last);
        Wrong::default()
            .append(move |right, append| {
                let id = append.command.as_ref().map(|command| command.id);
                let answer = now(right.append(append));
                if let Ok(Outcome::Appended(_)) = answer {
                    *known.lock().unwrap() = id;
                }
                Pending::ready(answer)
            })
            .answered(move |right, id| {
                let last = *last.lock().unwrap();
                let id = last
                    .filter(|_| right.head() == Position(1) && right.knows(id).is_none())
                    .unwrap_or(id);
                right.reads(|memory| memory.answered(id))
            })
    }),
    row("command::answers_are_remembered_for_ever", "remembers the last 256", || {
        let known = Arc::new(Mutex::new(Vec::<CommandId>::new()));
        let all = Arc::clone(&known);
        Wrong::default()
            .append(move |right, append| {
                let id = append.command.as_ref().map(|command| command.id);
                let answer = now(right.append(append));
                if let Ok(Outcome::Appended(_)) = answer {
                    all.lock().unwrap().extend(id);
                }
                Pending::ready(answer)
            })
            .answered(move |right, id| {
                let known = known.lock().unwrap();
                let forgotten = known.len().saturating_sub(256);
                if known[..forgotten].contains(&id) {
                    Pending::ready(Ok(None))
                } else {
                    right.reads(|memory| memory.answered(id))
                }
            })
    }),
    row(
        "command::of_concurrent_requests_one_takes_effect",
        "looks for a request before others have taken effect",
        || twice(|same_bytes| same_bytes),
    ),
    row(
        "command::of_concurrent_requests_with_other_bytes_one_takes_effect",
        "compares the bytes of a request too early",
        || twice(|same_bytes| !same_bytes),
    ),
    row(
        "command::answers_of_every_size_survive",
        "cuts the last byte of the longest answer",
        || {
            asking(|_, append| {
                if let Some(command) = &mut append.command
                    && command.answer.len() == leftfold_core::store::limits::ANSWER_BYTES_MAX
                {
                    command.answer.truncate(command.answer.len() - 1);
                }
            })
        },
    ),
];

/// A request that was unknown when it was handed over takes effect, whatever else has under its id
/// since.
fn twice(concerns: fn(bool) -> bool) -> Wrong {
    Wrong::default().append(move |right, append| {
        let Some(command) = append
            .command
            .clone()
            .filter(|command| right.knows(command.id).is_none() && !right.is_closed())
        else {
            return right.append(append);
        };
        later(right, 2, move |right| {
            let same_bytes =
                right.knows(command.id).map(|known| known.record.digest == command.digest);
            let spoiled = same_bytes.is_some_and(concerns);
            right.carry_out(if spoiled { Append { command: None, ..append } } else { append })
        })
    })
}

pub(crate) const CHECKPOINTS: &[Row] = &[
    row(
        "checkpoint::an_unknown_consumer_stands_nowhere",
        "lets an unknown consumer stand at the head",
        || {
            Wrong::default().checkpoint(|right, consumer, source, partition| {
                let answer =
                    now(right
                        .reads(|memory| memory.checkpoint(consumer, source, partition.clone())));
                Pending::ready(match answer {
                    Ok(None) if right.head() > Position::START => Ok(Some(Checkpoint {
                        store: source,
                        partition,
                        position: right.head(),
                        hash: Hash::EMPTY,
                    })),
                    answer => answer,
                })
            })
        },
    ),
    row(
        "checkpoint::a_checkpoint_comes_back_as_it_was_recorded",
        "keeps no hash of other stores",
        || {
            Wrong::default().checkpoint(|right, consumer, source, partition| {
                let mut answer =
                    now(right.reads(|memory| memory.checkpoint(consumer, source, partition)));
                if let Ok(Some(checkpoint)) = &mut answer
                    && source != right.memory.identity().store
                {
                    checkpoint.hash = Hash::EMPTY;
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "checkpoint::a_move_from_exactly_one_place_needs_the_consumer_there",
        "lets a consumer be behind where it should be",
        || {
            moving(|current, from, _| {
                matches!(
                    from,
                    MoveFrom::Exactly(from) if current.is_some_and(|current| current < from)
                )
            })
        },
    ),
    row(
        "checkpoint::a_move_from_earlier_must_advance",
        "lets one that must advance go back",
        || {
            moving(|current, from, to| {
                from == MoveFrom::Earlier && current.is_some_and(|current| to < current)
            })
        },
    ),
    row(
        "checkpoint::a_move_from_anywhere_may_go_back",
        "takes the greatest place for the last when it is opened again",
        || {
            let greatest = Arc::new(Mutex::new(HashMap::new()));
            let known = Arc::clone(&greatest);
            Wrong::default()
                .append(move |right, append| {
                    let record = append.checkpoint.clone();
                    let answer = now(right.append(append));
                    if let (Ok(Outcome::Appended(_)), Some(record)) = (&answer, record) {
                        let key =
                            (record.consumer, record.checkpoint.store, record.checkpoint.partition);
                        let mut known = known.lock().unwrap();
                        let greatest = known.entry(key).or_insert(Position::START);
                        *greatest = record.checkpoint.position.max(*greatest);
                    }
                    Pending::ready(answer)
                })
                .checkpoint(move |right, consumer, source, partition| {
                    let greatest = greatest
                        .lock()
                        .unwrap()
                        .get(&(consumer.clone(), source, partition.clone()))
                        .copied();
                    let mut answer =
                        now(right.reads(|memory| memory.checkpoint(consumer, source, partition)));
                    if let (1.., Ok(Some(checkpoint)), Some(greatest)) =
                        (right.opening, &mut answer, greatest)
                        && checkpoint.hash == Hash::EMPTY
                    {
                        checkpoint.position = greatest;
                    }
                    Pending::ready(answer)
                })
        },
    ),
    row(
        "checkpoint::consumers_sources_and_partitions_stand_apart",
        "does not look at partitions",
        || {
            asking(|_, append| {
                if let Some(record) = &mut append.checkpoint {
                    record.checkpoint.partition = Partition::default();
                }
            })
        },
    ),
    row(
        "checkpoint::a_checkpoint_is_atomic_with_the_events",
        "moves a consumer whose append met a conflict",
        || {
            Wrong::default().append(|right, append| {
                let answer = now(right.append(append.clone()));
                if matches!(answer, Ok(Outcome::Conflict(_))) && append.checkpoint.is_some() {
                    let _ = right
                        .carry_out(Append { checkpoint: append.checkpoint, ..Append::default() });
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "checkpoint::of_two_runners_only_one_moves_on",
        "looks where a consumer stands before others have moved it",
        || {
            Wrong::default().append(|right, mut append| {
                let Some(record) =
                    append.checkpoint.as_mut().filter(|record| record.from != MoveFrom::Anywhere)
                else {
                    return right.append(append);
                };
                if right.is_closed()
                    || !record.from.allows(right.stands(record), record.checkpoint.position)
                {
                    return right.append(append);
                }
                record.from = MoveFrom::Anywhere;
                later(right, 2, |right| right.carry_out(append))
            })
        },
    ),
    row(
        "checkpoint::checkpoints_survive_reopening",
        "lets every consumer advance again when it is opened again",
        || {
            asking(|right, append| {
                if let (1.., Some(record)) = (right.opening, &mut append.checkpoint)
                    && record.from == MoveFrom::Earlier
                {
                    record.from = MoveFrom::Anywhere;
                }
            })
        },
    ),
];

/// Lets consumers move as they may not.
fn moving(allowed: fn(Option<Position>, MoveFrom, Position) -> bool) -> Wrong {
    asking(move |right, append| {
        if let Some(record) = &mut append.checkpoint
            && allowed(right.stands(record), record.from, record.checkpoint.position)
        {
            record.from = MoveFrom::Anywhere;
        }
    })
}
