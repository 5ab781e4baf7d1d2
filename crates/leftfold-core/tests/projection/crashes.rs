//! Exactly once: the target fails, or the process dies, at every call that there is; the rows are
//! the fold all the same.

use leftfold_core::runtime::projection::{Projection, verify};
use leftfold_core::store::Position;

use crate::projection_stage::{
    Code, Fault, Shelf, Tally, add, add_many, add_unreadable, fold_of, fold_without, reach, settle,
};
use crate::runtime_stage::{Process, SECOND, Stage};

/// Runs until idle or until the process is killed, which is as soon as the target is cut off.
async fn run_and_die<const V: u32, const L: usize, const M: usize, const B: bool>(
    process: &Process,
    tally: Tally<V, L>,
    shelf: &Shelf<M, B>,
) {
    let running = process.runtime().project(tally, shelf.clone()).run_until_idle();
    let killed = async {
        while !shelf.is_cut() {
            process.clock.advance(SECOND / 10);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        statuses = running => drop(statuses.unwrap()),
        () = killed => {}
    }
}

fn parked_positions<const M: usize, const B: bool>(shelf: &Shelf<M, B>) -> Vec<u64> {
    let notes = shelf.notes("tally", 1, "parked/");
    let mut positions: Vec<u64> =
        notes.iter().map(|(key, _)| key.rsplit('/').next().unwrap().parse().unwrap()).collect();
    positions.sort_unstable();
    positions
}

/// Fails at call 1, 2, 3 and so on, until a run has no such call any more.
async fn at_every_call<const L: usize, const M: usize, const B: bool>(
    process: &Process,
    code: impl Fn() -> Code,
    parked: &[u64],
) {
    let expected = fold_without(&process.store, parked).await;
    for fault in [Fault::Gone, Fault::GoneAfter, Fault::Refused] {
        for call in 1.. {
            let shelf = Shelf::<M, B>::new();
            shelf.fail_at(call, fault);
            run_and_die(process, Tally::<1, L>(code()), &shelf).await;
            let last = shelf.calls() < call;
            let shelf = shelf.restarted::<M>();
            settle(process, Tally::<1, L>(code()), &shelf).await;
            let at = format!("{fault:?} at call {call}");
            assert_eq!(shelf.rows("tally", 1), expected, "{at}");
            assert_eq!(parked_positions(&shelf), parked, "{at}");
            let verified = verify(&process.store, &shelf, &Tally::<1, L>(code())).await;
            assert!(verified.is_ok(), "{at}: {verified:?}");
            if last {
                assert!(call > 5, "the run had {call} calls only");
                break;
            }
        }
    }
}

#[tokio::test]
async fn each_event_is_in_the_rows_once_wherever_the_process_dies() {
    let process = Stage::new().process();
    add_many(&process.store, 12).await;
    at_every_call::<1, 1, false>(&process, Code::default, &[]).await;
}

#[tokio::test]
async fn each_event_is_in_the_rows_once_where_batches_follow_each_other() {
    let process = Stage::new().process();
    add_many(&process.store, 2_345).await;
    at_every_call::<1, 1, false>(&process, Code::default, &[]).await;
}

#[tokio::test]
async fn each_event_is_in_the_rows_or_parked_wherever_the_process_dies() {
    let process = Stage::new().process();
    let store = &process.store;
    for (stream, key, what) in [
        ("a", "x", "fine"),
        ("a", "y", "poison"),
        ("b", "x", "fine"),
        ("b", "y", "fine"),
        ("c", "z", "panics"),
    ] {
        add(store, stream, key, what).await;
    }
    add_unreadable(store, "b").await;
    for (stream, key) in [("b", "v"), ("c", "v"), ("a", "w"), ("d", "z")] {
        add(store, stream, key, "fine").await;
    }
    let code = || {
        let code = Code::refusing("poison", u32::MAX);
        code.refuse("panics", u32::MAX);
        code
    };
    // y: 2 fails, 4 waits; z: 5 panics, 10 waits; stream b: 6 cannot be read, 7 waits and with it
    // its key, so 8.
    at_every_call::<1, 1, false>(&process, code, &[2, 4, 5, 6, 7, 8, 10]).await;
    at_every_call::<3, 4, false>(&process, code, &[2, 4, 5, 6, 7, 8, 10]).await;
}

#[tokio::test]
async fn lanes_that_were_torn_apart_come_together() {
    let process = Stage::new().process();
    add_many(&process.store, 1_500).await;
    at_every_call::<3, 3, false>(&process, Code::default, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_blocks_is_no_exception() {
    let process = Stage::new().process();
    add_many(&process.store, 12).await;
    at_every_call::<1, 1, true>(&process, Code::default, &[]).await;
}

#[tokio::test]
async fn another_number_of_lanes_takes_over_wherever_the_last_ones_died() {
    let process = Stage::new().process();
    add_many(&process.store, 1_500).await;
    let expected = fold_of(&process.store).await;
    for call in 1.. {
        let shelf = Shelf::<4, false>::new();
        shelf.fail_at(call, Fault::GoneAfter);
        run_and_die(&process, Tally::<1, 3>::default(), &shelf).await;
        let last = shelf.calls() < call;
        let shelf = shelf.restarted::<4>();
        settle(&process, Tally::<1, 4>::default(), &shelf).await;
        let shelf = shelf.restarted::<4>();
        settle(&process, Tally::<1, 1>::default(), &shelf).await;
        assert_eq!(shelf.rows("tally", 1), expected, "call {call}");
        assert_eq!(shelf.notes("tally", 1, "checkpoint/").len(), 1);
        verify(&process.store, &shelf, &Tally::<1, 1>::default()).await.unwrap();
        if last {
            break;
        }
    }
    assert_eq!(<Tally as Projection<Shelf>>::LANES, 1);
}

#[tokio::test]
async fn what_follows_an_unreadable_event_waits_in_every_lane() {
    let process = Stage::new().process();
    add_unreadable(&process.store, "a").await;
    for key in 0..20 {
        add(&process.store, "a", &format!("k{key}"), "fine").await;
        add(&process.store, "b", &format!("free{key}"), "fine").await;
    }
    // Nor has it a key where that panics, or is too long to be kept.
    for (stream, key) in
        [("c", "panics"), ("c", "k1"), ("d", &"k".repeat(1_001)), ("d", "free0"), ("e", "free1")]
    {
        add(&process.store, stream, key, "fine").await;
    }
    let behind = (1..=20).map(|number| 2 * number);
    let parked: Vec<u64> = std::iter::once(1).chain(behind).chain(42..=45).collect();
    at_every_call::<4, 4, false>(&process, Code::default, &parked).await;
}

#[tokio::test]
async fn a_runner_that_was_overtaken_goes_on_where_the_other_one_left() {
    let process = Stage::new().process();
    let store = &process.store;
    add_many(store, 10).await;
    let shelf = Shelf::<1>::new();
    let code = Code::default();
    let running = process
        .runtime()
        .project(Tally::<1, 1>(code.clone()), shelf.clone())
        .start()
        .await
        .unwrap();
    reach(&process, &running, Position(10)).await;
    // Between two of its batches somebody else takes the next two events.
    let taken = [add(store, "a", "x", "fine").await, add(store, "a", "x", "fine").await];
    let at = store.checkpoint_at(taken[1]).await.unwrap();
    let note = serde_json::json!({ "store": at.store.0, "position": at.position.0, "hash": at.hash.0, "lanes": 1 });
    shelf.scribble("tally", 1, "checkpoint/000", Some(note.to_string().into_bytes()));
    let last = add(store, "a", "x", "fine").await;
    reach(&process, &running, last).await;
    assert_eq!(shelf.rows("tally", 1)["x"], [last.0]);
    assert_eq!(taken.map(|position| code.tries(position)), [0, 0]);
}
