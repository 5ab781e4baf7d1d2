//! Leases: of all who ask for some work one is given it, and the fence refuses anyone who had it
//! before.

use std::time::Duration;

use bytes::Bytes;
use leftfold_core::store::limits::{
    LEASE_NOTE_BYTES_MAX, LEASE_REMEMBERED_SECONDS, LEASE_SECONDS_MAX, LEASES_MAX,
};
use leftfold_core::store::{
    Append, AppendError, Condition, Expected, Fence, HeldLease, Holder, Invalid, Lease, LeaseError,
    LeaseRequest, Leased, MoveFrom, Outcome, Position, Query, Read, Store, Timestamp, Version,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{checkpoint, command, event, events, fact, label, moving, stream};
use super::subject::TestedStore;
use crate::by_runtime;

/// Longer than any rule takes.
const LONG: Duration = Duration::from_secs(60 * 60);
/// A lease of no time is over when it is given: nobody has to wait for its end.
const OVER: Duration = Duration::ZERO;

async fn held(store: &Store, work: &str, holder: Holder, during: Duration) -> Lease {
    match store.lease(LeaseRequest::new(label(work), holder, during)).await {
        Ok(Leased::Held(lease)) => lease,
        other => panic!("{work} should have been given, but the answer is {other:?}"),
    }
}

async fn held_by(store: &Store, work: &str, asking: Holder) -> (Holder, Timestamp) {
    match store.lease(LeaseRequest::new(label(work), asking, LONG)).await {
        Ok(Leased::HeldBy { holder, until }) => (holder, until),
        other => panic!("{work} should be held by another, but the answer is {other:?}"),
    }
}

fn under(work: &str, fence: Fence) -> Append {
    Append { fence: Some((label(work), fence)), ..events("a-1", 1) }
}

fn fenced(lease: &Lease, current: Option<Fence>) -> AppendError {
    AppendError::Fenced { work: lease.work.clone(), fence: lease.fence, current }
}

/// The others are told who has it and until when.
pub async fn of_all_who_ask_one_holds_the_work(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let lease = held(&store, "w", one, LONG).await;
    assert_eq!(lease.work, label("w"));
    assert_eq!(held_by(&store, "w", other).await, (one, lease.until));
    assert_eq!(
        held_by(&store.clone(), "w", other).await,
        (one, lease.until),
        "through another handle"
    );
}

/// A holder that asks again has its lease for longer, and goes on under its fence.
pub async fn the_same_holder_renews_under_the_same_fence(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&store, "w", one, OVER).await;
    let renewed = held(&store, "w", one, LONG).await;
    assert_eq!(renewed.fence, first.fence);
    assert!(renewed.until > first.until, "{renewed:?} after {first:?}");
    assert_eq!(held_by(&store, "w", other).await, (one, renewed.until));
    store.appended(events("a-1", 1).under(&first)).await;
}

/// Nobody waits for work that another name stands for.
pub async fn every_work_is_leased_by_itself(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&store, "w", one, LONG).await;
    let second = held(&store, "w2", other, LONG).await;
    store.appended(events("a-1", 1).under(&first)).await;
    store.appended(events("a-1", 1).under(&second)).await;
    let crossed = under("w2", first.fence);
    let refused =
        AppendError::Fenced { work: label("w2"), fence: first.fence, current: Some(second.fence) };
    assert_eq!(store.refused(crossed).await, refused, "a fence is that of one work");
}

/// The next holder has a greater fence; the one before need not have given the work back.
pub async fn work_whose_lease_is_over_goes_to_the_next(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut last = Fence(0);
    for _ in 0..10 {
        let lease = held(&store, "w", Holder::random(), OVER).await;
        assert!(lease.fence > last, "{} after {last}", lease.fence);
        last = lease.fence;
    }
}

/// Work that was given back goes to the next holder at once. It is a new tenure, even if the same
/// holder comes back.
pub async fn work_that_was_given_back_is_free(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&store, "w", one, LONG).await;
    assert_eq!(store.release(first.clone()).await, Ok(()));
    let second = held(&store, "w", one, LONG).await;
    assert!(second.fence > first.fence);
    assert_eq!(
        store.refused(events("a-1", 1).under(&first)).await,
        fenced(&first, Some(second.fence))
    );
    assert_eq!(store.release(second.clone()).await, Ok(()));
    assert!(held(&store, "w", other, LONG).await.fence > second.fence);
}

/// An old holder that gives back what it lost takes nothing from the new one.
pub async fn giving_back_what_was_lost_changes_nothing(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let first = held(&store, "w", one, OVER).await;
    let second = held(&store, "w", other, LONG).await;
    assert_eq!(store.release(first).await, Ok(()));
    assert_eq!(held_by(&store, "w", one).await, (other, second.until));
    store.appended(events("a-1", 1).under(&second)).await;
    let unknown = Lease { work: label("never asked for"), ..second };
    assert_eq!(store.release(unknown).await, Ok(()));
}

/// Nothing of it is there: no event, no command id, no checkpoint.
pub async fn an_append_under_an_earlier_fence_writes_nothing(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let first = held(&store, "w", Holder::random(), OVER).await;
    let second = held(&store, "w", Holder::random(), LONG).await;
    let whole = |lease: &Lease| Append {
        command: Some(command("1")),
        checkpoint: moving("c", MoveFrom::Earlier, checkpoint(source, 7)).checkpoint,
        ..events("a-1", 2).under(lease)
    };
    assert_eq!(store.refused(whole(&first)).await, fenced(&first, Some(second.fence)));
    assert_eq!(store.answered(command("1").id).await, Ok(None));
    assert_eq!(store.checkpoint(label("c")).await, Ok(None));
    store.appended(whole(&second)).await;
    assert_eq!(
        store.checkpoint(label("c")).await.map(|at| at.map(|at| at.position)),
        Ok(Some(Position(7)))
    );
}

/// A holder that was only late goes on, as long as nobody else was given the work: safety is the
/// fence's, not time's.
pub async fn a_lease_that_is_over_still_fences_until_another_has_the_work(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let lease = held(&store, "w", Holder::random(), OVER).await;
    store.appended(events("a-1", 1).under(&lease)).await;
    assert_eq!(store.release(lease.clone()).await, Ok(()));
    store.appended(events("a-1", 1).under(&lease)).await;
    let next = held(&store, "w", Holder::random(), OVER).await;
    assert_eq!(
        store.refused(events("a-1", 1).under(&lease)).await,
        fenced(&lease, Some(next.fence))
    );
}

/// Each start of a program takes leases whose names never come again. A holder that is late by
/// less than the time for which leases are remembered goes on; the fence of one that is forgotten
/// is refused, and is not given again.
pub async fn a_lease_that_ended_long_ago_is_forgotten(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let Some(time) = store.time() else { return };
    let remembered = Duration::from_secs(LEASE_REMEMBERED_SECONDS as u64);
    let lease = held(&store, "w", Holder::random(), OVER).await;
    let kept = held(&store, "kept", Holder::random(), LONG * 24).await;
    time.pass(remembered / 2);
    held(&store, "next", Holder::random(), OVER).await;
    store.appended(events("a-1", 1).under(&lease)).await;
    time.pass(remembered);
    let later = held(&store, "later", Holder::random(), OVER).await;
    assert_eq!(store.refused(events("a-1", 1).under(&lease)).await, fenced(&lease, None));
    store.appended(events("a-1", 1).under(&kept)).await;
    let beside = store.beside().await;
    let refused = beside.append(by_runtime(events("a-1", 1).under(&lease))).await;
    assert_eq!(refused, Err(fenced(&lease, None)), "by another handle");
    let again = held(&store, "w", Holder::random(), LONG).await;
    assert!(again.fence > later.fence, "{} after {}", again.fence, later.fence);
    store.appended(events("a-1", 1).under(&again)).await;
}

/// A fence out of thin air is as bad as an old one.
pub async fn a_fence_that_was_never_given_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let lease = held(&store, "w", Holder::random(), LONG).await;
    for fence in [Fence(0), Fence(lease.fence.0 + 1), Fence(u64::MAX)] {
        let invented = Lease { fence, ..lease.clone() };
        assert_eq!(store.refused(under("w", fence)).await, fenced(&invented, Some(lease.fence)));
        let nobodys = Lease { work: label("nobody's"), fence, ..lease.clone() };
        assert_eq!(store.refused(under("nobody's", fence)).await, fenced(&nobodys, None));
    }
}

/// A lease is about those who take part in it; it locks nothing.
pub async fn appends_without_a_fence_go_in_whoever_holds_what(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    held(&store, "w", Holder::random(), LONG).await;
    assert_eq!(
        store.appended(events("a-1", 1)).await.first,
        Position(1),
        "leases take no position"
    );
}

/// A command that took effect is answered again, also to a holder that has lost the work since.
pub async fn a_repeated_command_is_answered_whatever_its_fence(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let lease = held(&store, "w", Holder::random(), OVER).await;
    let request = Append { command: Some(command("1")), ..events("a-1", 1).under(&lease) };
    store.appended(request.clone()).await;
    held(&store, "w", Holder::random(), LONG).await;
    let again = store.append(request).await;
    assert!(matches!(again, Ok(Outcome::Repeated(_))), "{again:?}");
}

/// One who has lost the work is told so, not sent round to decide again.
pub async fn the_fence_is_looked_at_before_the_condition(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let first = held(&store, "w", Holder::random(), OVER).await;
    let conflicts = [
        Condition::stream(stream("a-1"), Expected::Absent),
        Condition::stream(stream("a-1"), Expected::Exact(Version(9))),
        Condition::none_matching(Query::all(), Position::START),
    ];
    for condition in &conflicts {
        store.conflict(events("a-1", 1).when(condition.clone()).under(&first)).await;
    }
    let second = held(&store, "w", Holder::random(), LONG).await;
    for condition in conflicts {
        let refused = store.refused(events("a-1", 1).when(condition).under(&first)).await;
        assert_eq!(refused, fenced(&first, Some(second.fence)));
    }
}

/// Tenures follow each other without a gap and without overlap: what a holder reads when it has the
/// lease is all that came before, and stays so until it appends or is refused. No append here has a
/// condition.
pub async fn a_new_holder_sees_all_that_earlier_ones_did(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut working = JoinSet::new();
    for _ in 0..4 {
        let store = (*store).clone();
        working.spawn(async move {
            let (me, mut appended) = (Holder::random(), 0);
            while appended < 25 {
                let lease = held(&store, "w", me, OVER).await;
                let seen = store.version(stream("a-1")).await.expect("the store can be read");
                let new = event("a-1")
                    .tagged(leftfold_core::store::Tags::none().with(format!("saw:{seen}")));
                match store.append(Append::of(vec![new]).under(&lease)).await {
                    Ok(Outcome::Appended(_)) => appended += 1,
                    // The others take the work at any time; who appended last may get it again.
                    Err(AppendError::Fenced { .. }) => {}
                    other => panic!("an append under a lease was answered {other:?}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(ended) = working.join_next().await {
        ended.expect("a task ends without a panic");
    }
    let all = store.read_all(Read::stream(stream("a-1"), Version(1))).await;
    assert_eq!(all.len(), 100);
    for event in all {
        let saw = format!("saw:{}", event.version().0 - 1);
        assert_eq!(
            *event.tags[0],
            *saw,
            "version {} was appended by one who had not seen the one before",
            event.version()
        );
    }
}

/// Each of them stands in the list as its holder knows it, by the order of their names, whichever
/// handle asks; one that is over or was given back is not there.
pub async fn leases_that_are_held_are_listed(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    assert_eq!(store.leases().await, Ok(vec![]));
    let mut held_now = Vec::new();
    for (work, holder) in [("w2", one), ("é", one), ("w10", other), ("W", one)] {
        held_now.push(listed(&held(&store, work, holder, LONG).await, holder));
    }
    held(&store, "over", one, OVER).await;
    let back = held(&store, "back", one, LONG).await;
    assert_eq!(store.release(back).await, Ok(()));
    held_now.sort_by(|one, other| one.work.cmp(&other.work));
    assert_eq!(store.leases().await, Ok(held_now.clone()));
    assert_eq!(store.beside().await.leases().await, Ok(held_now.clone()), "by another handle");
    let renewed = held(&store, "w10", other, 2 * LONG).await;
    let place = held_now.iter().position(|held| held.work == renewed.work);
    held_now[place.expect("it is held")] = listed(&renewed, other);
    assert_eq!(store.leases().await, Ok(held_now), "after a renewal");
}

fn listed(lease: &Lease, holder: Holder) -> HeldLease {
    let Lease { work, fence, until } = lease.clone();
    HeldLease { work, holder, fence, until, note: Bytes::new() }
}

/// A renewal replaces the note, also by nothing, and the next holder has none of the one before.
pub async fn a_note_is_kept_as_long_as_its_lease(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let asking = |holder| LeaseRequest::new(label("w"), holder, LONG);
    let note = async || {
        let held = store.leases().await.expect("leases are listed");
        held.into_iter().map(|held| held.note).collect::<Vec<_>>()
    };
    let every_byte: Vec<u8> = (0..LEASE_NOTE_BYTES_MAX).map(|byte| byte as u8).collect();
    for bytes in [b"a".to_vec(), every_byte, vec![], b"b".to_vec()] {
        let leased = store.lease(asking(one).with_note(bytes.clone())).await;
        assert!(matches!(leased, Ok(Leased::Held(_))), "{leased:?}");
        assert_eq!(note().await, [bytes]);
    }
    held_by(&store, "w", other).await;
    let refused = store.lease(asking(other).with_note("c")).await;
    assert!(matches!(refused, Ok(Leased::HeldBy { .. })), "{refused:?}");
    assert_eq!(note().await, ["b"], "who does not get the work leaves no note");
    let lease = held(&store, "w", one, LONG).await;
    assert_eq!(note().await, [""]);
    store.lease(asking(one).with_note("d")).await.expect("it is renewed");
    assert_eq!(store.release(lease).await, Ok(()));
    assert_eq!(note().await, Vec::<Bytes>::new());
    held(&store, "w", other, LONG).await;
    assert_eq!(note().await, [""], "a new tenure begins without a note");
}

/// It changes nothing: neither who has the work, nor the note before.
pub async fn a_note_beyond_its_limit_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (one, other) = (Holder::random(), Holder::random());
    let asking = |holder| LeaseRequest::new(label("w"), holder, LONG);
    let too_long = vec![b'a'; LEASE_NOTE_BYTES_MAX + 1];
    let refusal = LeaseError::Invalid(Invalid::TooLarge {
        what: "the note of a lease",
        size: LEASE_NOTE_BYTES_MAX + 1,
        limit: LEASE_NOTE_BYTES_MAX,
    });
    assert_eq!(store.lease(asking(one).with_note(too_long.clone())).await, Err(refusal.clone()));
    assert_eq!(store.leases().await, Ok(vec![]));
    store.lease(asking(other).with_note("a")).await.expect("the work is free");
    let before = store.leases().await;
    assert_eq!(store.lease(asking(other).with_note(too_long)).await, Err(refusal));
    assert_eq!(store.leases().await, before);
}

/// Each limit, at it and beyond it.
pub async fn leases_beyond_a_limit_are_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let me = Holder::random();
    let longest = Duration::from_secs(LEASE_SECONDS_MAX as u64);
    for longer in [longest + Duration::from_nanos(1), Duration::MAX] {
        let refused = store.lease(LeaseRequest::new(label("w 0"), me, longer)).await;
        assert!(
            matches!(refused, Err(LeaseError::Invalid(Invalid::TooLarge { .. }))),
            "{refused:?}"
        );
    }
    let asked: Vec<_> = (0..LEASES_MAX)
        .map(|number| store.lease(LeaseRequest::new(label(&format!("w {number}")), me, longest)))
        .collect();
    let mut first = None;
    for pending in asked {
        match pending.await {
            Ok(Leased::Held(lease)) => first = first.or(Some(lease)),
            other => panic!("a lease at the limit was answered {other:?}"),
        }
    }
    let first = first.expect("there is a first one");
    let one_more = || store.lease(LeaseRequest::new(label("one more"), me, longest));
    assert_eq!(one_more().await, Err(LeaseError::TooMany { limit: LEASES_MAX }));
    assert_eq!(
        held(&store, "w 0", me, longest).await.fence,
        first.fence,
        "a renewal needs no room"
    );
    assert_eq!(store.release(first).await, Ok(()));
    assert!(matches!(one_more().await, Ok(Leased::Held(_))));
}

/// A lease may be lost with the opening that gave it, but its fence never comes back: not to one
/// who kept it, and not by being given again.
pub async fn fences_grow_over_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let mut earlier: Vec<Lease> = Vec::new();
    for opening in 0..4 {
        let lease = held(&store, "w", Holder::random(), OVER).await;
        for old in &earlier {
            assert!(
                lease.fence > old.fence,
                "{} in opening {opening}, after {}",
                lease.fence,
                old.fence
            );
            assert_eq!(
                store.refused(events("a-1", 1).under(old)).await,
                fenced(old, Some(lease.fence))
            );
        }
        earlier.push(lease);
        if opening == 2 {
            // Whether or not anything else was written in an opening.
            store.appended(Append::of(vec![fact("test.Happened")])).await;
        }
        store.reopen().await;
    }
}
