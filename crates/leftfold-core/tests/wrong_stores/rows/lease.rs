//! Stores that lease work to two, or to nobody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::store::limits::{LEASE_NOTE_BYTES_MAX, LEASE_SECONDS_MAX};
use leftfold_core::store::{
    Append, AppendError, Fence, Holder, Label, Lease, LeaseError, LeaseRequest, Leased, Outcome,
    Pending, Timestamp,
};

use super::{Row, row};
use crate::right::{Right, Wrong, later, now};

type Answer = Result<Leased, LeaseError>;

/// Spoils what is answered to who asks for work.
fn leasing(
    spoil: impl Fn(&Arc<Right>, &Label, Holder, Answer) -> Answer + Send + Sync + 'static,
) -> Wrong {
    Wrong::default().lease(move |right, request| {
        let (work, holder) = (request.work.clone(), request.holder);
        let answer = now(right.lease(request));
        Pending::ready(spoil(right, &work, holder, answer))
    })
}

pub(crate) const TENURES: &[Row] = &[
    row(
        "lease::of_all_who_ask_one_holds_the_work",
        "tells the first who asks in vain another end",
        || {
            let asked = Mutex::new(0);
            leasing(move |_, _, _, answer| {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                match answer {
                    Ok(Leased::HeldBy { holder, until }) if *asked == 2 => {
                        Ok(Leased::HeldBy { holder, until: until.plus(Duration::from_secs(1)) })
                    }
                    answer => answer,
                }
            })
        },
    ),
    row(
        "lease::the_same_holder_renews_under_the_same_fence",
        "renews a lease that is over for no longer than it was given",
        || {
            let first = Mutex::new(HashMap::<Fence, Timestamp>::new());
            leasing(move |_, _, _, answer| match answer {
                Ok(Leased::Held(lease)) => {
                    let until = *first.lock().unwrap().entry(lease.fence).or_insert(lease.until);
                    let over = until <= Timestamp::now();
                    Ok(Leased::Held(if over { Lease { until, ..lease } } else { lease }))
                }
                answer => answer,
            })
        },
    ),
    row(
        "lease::work_whose_lease_is_over_goes_to_the_next",
        "gives the tenth tenure the fence of the ninth",
        || {
            let last = Mutex::new((0, Fence(0)));
            leasing(move |_, _, _, answer| match answer {
                Ok(Leased::Held(lease)) => {
                    let mut last = last.lock().unwrap();
                    let fence = if last.0 == 9 { last.1 } else { lease.fence };
                    *last = (last.0 + 1, lease.fence);
                    Ok(Leased::Held(Lease { fence, ..lease }))
                }
                answer => answer,
            })
        },
    ),
    row(
        "lease::work_that_was_given_back_is_free",
        "lets a holder that comes back go on where it was",
        || {
            let (latest, given) =
                (Arc::new(Mutex::new(HashMap::new())), Arc::new(Mutex::new(HashMap::new())));
            let (known, back) = (Arc::clone(&latest), Arc::clone(&given));
            leasing(move |_, work, holder, answer| {
                if let Some(lease) = given.lock().unwrap().remove(&(work.clone(), holder)) {
                    return Ok(Leased::Held(lease));
                }
                if let Ok(Leased::Held(lease)) = &answer {
                    latest.lock().unwrap().insert(work.clone(), (lease.fence, holder));
                }
                answer
            })
            .release(move |right, lease: Lease| {
                match known.lock().unwrap().get(&lease.work) {
                    Some((fence, holder)) if *fence == lease.fence => {
                        back.lock().unwrap().insert((lease.work.clone(), *holder), lease.clone());
                    }
                    _ => {}
                }
                right.release(lease)
            })
        },
    ),
    row(
        "lease::giving_back_what_was_lost_changes_nothing",
        "takes any lease of some work for the latest",
        || {
            let latest = Arc::new(Mutex::new(HashMap::new()));
            let known = Arc::clone(&latest);
            leasing(move |_, work, _, answer| {
                if let Ok(Leased::Held(lease)) = &answer {
                    latest.lock().unwrap().insert(work.clone(), lease.clone());
                }
                answer
            })
            .release(move |right, lease: Lease| {
                let latest = known.lock().unwrap().get(&lease.work).cloned();
                right.release(latest.unwrap_or(lease))
            })
        },
    ),
    row(
        "lease::a_new_holder_sees_all_that_earlier_ones_did",
        "looks at a fence before others have the work",
        || {
            Wrong::default().append(|right, append| {
                let probe = Append { fence: append.fence.clone(), ..Append::default() };
                if right.is_closed()
                    || append.fence.is_none()
                    || append.command.is_some()
                    || !append.condition.is_none()
                {
                    return right.append(append);
                }
                match right.carry_out(probe) {
                    Err(error) => Pending::ready(Err(error)),
                    Ok(_) => later(right, 3, move |right| {
                        right.carry_out(Append { fence: None, ..append })
                    }),
                }
            })
        },
    ),
    row(
        "lease::leases_that_are_held_are_listed",
        "lists leases in the order of their fences",
        || {
            Wrong::default().leases(|right| {
                Pending::ready(now(right.leases()).map(|mut held| {
                    held.sort_by_key(|held| held.fence);
                    held
                }))
            })
        },
    ),
    row("lease::a_note_is_kept_as_long_as_its_lease", "takes an empty note for none", || {
        let notes = Mutex::new(HashMap::<Label, Bytes>::new());
        Wrong::default().lease(move |right, mut request| {
            let mut notes = notes.lock().unwrap();
            if request.note.is_empty() {
                request.note = notes.get(&request.work).cloned().unwrap_or_default();
            } else if request.validate().is_ok() {
                notes.insert(request.work.clone(), request.note.clone());
            }
            right.lease(request)
        })
    }),
    row("lease::a_note_beyond_its_limit_is_refused", "cuts a note that is too long", || {
        Wrong::default().lease(|right, mut request| {
            request.note.truncate(LEASE_NOTE_BYTES_MAX);
            right.lease(request)
        })
    }),
    row(
        "lease::leases_beyond_a_limit_are_refused",
        "gives a lease of more than a day for a day",
        || {
            Wrong::default().lease(|right, request| {
                let during = request.during.min(Duration::from_secs(LEASE_SECONDS_MAX as u64));
                right.lease(LeaseRequest { during, ..request })
            })
        },
    ),
    row(
        "lease::fences_grow_over_reopening",
        "begins with its fences again when it is opened again",
        || {
            leasing(|right, _, _, answer| match answer {
                Ok(Leased::Held(lease)) if right.opening > 0 => {
                    Ok(Leased::Held(Lease { fence: Fence(1), ..lease }))
                }
                answer => answer,
            })
        },
    ),
];

/// Takes the fence away from appends, or keeps it, as a store does that judges it wrongly.
fn fencing(spoil: impl Fn(&Arc<Right>, &mut Append) + Send + Sync + 'static) -> Wrong {
    crate::right::asking(spoil)
}

pub(crate) const FENCES: &[Row] = &[
    row("lease::every_work_is_leased_by_itself", "takes a fence of one work for another", || {
        let given = Arc::new(Mutex::new(HashMap::<Fence, Label>::new()));
        let known = Arc::clone(&given);
        fencing(move |_, append| {
            let other = |(work, fence): &(Label, Fence)| {
                known.lock().unwrap().get(fence).is_some_and(|of| of != work)
            };
            append.fence = append.fence.take().filter(|fence| !other(fence));
        })
        .lease(move |right, request| {
            let work = request.work.clone();
            let answer = now(right.lease(request));
            if let Ok(Leased::Held(lease)) = &answer {
                given.lock().unwrap().insert(lease.fence, work);
            }
            Pending::ready(answer)
        })
    }),
    row(
        "lease::an_append_under_an_earlier_fence_writes_nothing",
        "remembers the request of one who has lost the work",
        || {
            Wrong::default().append(|right, append| {
                let answer = now(right.append(append.clone()));
                if matches!(answer, Err(AppendError::Fenced { .. })) {
                    let _ =
                        right.carry_out(Append { command: append.command, ..Append::default() });
                }
                Pending::ready(answer)
            })
        },
    ),
    row(
        "lease::a_lease_that_is_over_still_fences_until_another_has_the_work",
        "knows no fence any more that was given back",
        || {
            let back = Arc::new(Mutex::new(HashSet::new()));
            let known = Arc::clone(&back);
            fencing(move |_, append| {
                if let Some((_, fence)) = &mut append.fence
                    && known.lock().unwrap().contains(fence)
                {
                    *fence = Fence(0);
                }
            })
            .release(move |right, lease: Lease| {
                // Where it was not given back to go to another at once.
                if lease.until < Timestamp::now() {
                    back.lock().unwrap().insert(lease.fence);
                }
                right.release(lease)
            })
        },
    ),
    row("lease::a_lease_that_ended_long_ago_is_forgotten", "knows every fence for ever", || {
        let given = Arc::new(Mutex::new(HashSet::new()));
        let known = Arc::clone(&given);
        Wrong::default()
            .append(move |right, append| {
                let answer = now(right.append(append.clone()));
                match answer {
                    Err(AppendError::Fenced { fence, current: None, .. })
                        if known.lock().unwrap().contains(&fence) =>
                    {
                        right.append(Append { fence: None, ..append })
                    }
                    answer => Pending::ready(answer),
                }
            })
            .lease(move |right, request| {
                let answer = now(right.lease(request));
                if let Ok(Leased::Held(lease)) = &answer {
                    given.lock().unwrap().insert(lease.fence);
                }
                Pending::ready(answer)
            })
    }),
    row("lease::a_fence_that_was_never_given_is_refused", "takes the fence 0 for none", || {
        fencing(|_, append| {
            append.fence = append.fence.take().filter(|(_, fence)| *fence != Fence(0))
        })
    }),
    row(
        "lease::appends_without_a_fence_go_in_whoever_holds_what",
        "refuses everybody else while some work is held",
        || {
            let held = Arc::new(Mutex::new(None::<(Label, Timestamp)>));
            let known = Arc::clone(&held);
            Wrong::default()
                .append(move |right, append| match &*known.lock().unwrap() {
                    Some((work, until))
                        if append.fence.is_none()
                            && *until > Timestamp::now()
                            && !right.is_closed() =>
                    {
                        Pending::ready(Err(AppendError::Fenced {
                            work: work.clone(),
                            fence: Fence(0),
                            current: None,
                        }))
                    }
                    _ => right.append(append),
                })
                .lease(move |right, request| {
                    let work = request.work.clone();
                    let answer = now(right.lease(request));
                    if let Ok(Leased::Held(lease)) = &answer {
                        *held.lock().unwrap() = Some((work, lease.until));
                    }
                    Pending::ready(answer)
                })
        },
    ),
    row(
        "lease::a_repeated_command_is_answered_whatever_its_fence",
        "looks at the fence before the command",
        || {
            Wrong::default().append(|right, append| {
                let probe = Append { fence: append.fence.clone(), ..Append::default() };
                match append.fence.as_ref().map(|_| right.carry_out(probe)) {
                    Some(Err(fenced)) => Pending::ready(Err(fenced)),
                    _ => right.append(append),
                }
            })
        },
    ),
    row(
        "lease::the_fence_is_looked_at_before_the_condition",
        "looks at the condition before the fence",
        || {
            Wrong::default().append(|right, append| match right.conflict(&append.condition) {
                Some(conflict) if append.command.is_none() && !right.is_closed() => {
                    Pending::ready(Ok(Outcome::Conflict(conflict)))
                }
                _ => right.append(append),
            })
        },
    ),
];
