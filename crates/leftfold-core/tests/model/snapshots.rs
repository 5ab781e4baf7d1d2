//! Snapshots: made by the policy, used only where they belong, and never the truth.

use std::time::Duration;

use bytes::Bytes;
use leftfold_core::fold::{Aggregate, SnapshotPolicy};
use leftfold_core::store::{Store, Version};
use serde::{Deserialize, Serialize};

use crate::probe::Probe;
use crate::purse::{Do, Purse, PurseEvent, TooFew, put};

/// A purse with a snapshot every three events; `FACTOR` stands for what its fold means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saving<const FOLD: u32, const FACTOR: u64> {
    purse: Purse,
}

impl<const FOLD: u32, const FACTOR: u64> Aggregate for Saving<FOLD, FACTOR> {
    const CATEGORY: &'static str = "purse";
    const FOLD_VERSION: u32 = FOLD;
    type Event = PurseEvent;
    type Command = Do;
    type Refusal = TooFew;

    fn apply(&mut self, event: &PurseEvent) {
        (0..FACTOR).for_each(|_| self.purse.apply(event));
    }

    fn decide(&self, command: &Do) -> Result<Vec<PurseEvent>, TooFew> {
        self.purse.decide(command)
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(3)
    }
}

type Plain = Saving<1, 1>;

/// The same with a state of another shape, that would be read from the bytes of the first without an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Reshaped {
    purse: Purse,
    #[serde(default)]
    events: u64,
}

impl Aggregate for Reshaped {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;
    type Command = Do;
    type Refusal = TooFew;

    fn apply(&mut self, event: &PurseEvent) {
        self.purse.apply(event);
        self.events += 1;
    }

    fn decide(&self, command: &Do) -> Result<Vec<PurseEvent>, TooFew> {
        self.purse.decide(command)
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(2).or_every(Duration::from_secs(3_600))
    }
}

/// Each command puts one coin.
async fn execute<A: Aggregate<Command = Do, Refusal = TooFew, Event = PurseEvent>>(store: &Store, commands: u64) {
    for _ in 0..commands {
        store.aggregate::<A>().execute("1", Do::Put(1)).await.unwrap();
    }
}

/// Loads with a fresh cache, and says from which versions the stream was read. One load in 64 is also held against a
/// fold from the beginning, which reads from version 1; that read is left out.
async fn load<A: Aggregate>(probe: &Probe) -> (A, Vec<Version>) {
    probe.reads_from();
    let folded = probe.store().aggregate::<A>().load("1").await.unwrap();
    let mut reads = probe.reads_from();
    if reads.len() > 2 {
        reads.remove(1);
    }
    (folded.state, reads)
}

/// The page that a snapshot is held against, then what follows it.
fn from_snapshot(version: u64) -> Vec<Version> {
    vec![Version(version), Version(version + 1)]
}

#[tokio::test]
async fn a_snapshot_is_made_every_so_many_events() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 10).await;
    assert_eq!(probe.snapshots().len(), 3);
    let many = vec![Do::Put(1); 7];
    probe.store().aggregate::<Plain>().commands("1", many).execute().await.unwrap();
    assert_eq!(probe.snapshots().len(), 4, "seven events at once lead to one");
}

#[tokio::test]
async fn a_snapshot_is_made_after_so_long_and_only_then() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Timed<const SECONDS: u64>(Purse);
    impl<const SECONDS: u64> Aggregate for Timed<SECONDS> {
        const CATEGORY: &'static str = "purse";
        type Event = PurseEvent;
        type Command = Do;
        type Refusal = TooFew;
        fn apply(&mut self, event: &PurseEvent) {
            self.0.apply(event);
        }
        fn decide(&self, command: &Do) -> Result<Vec<PurseEvent>, TooFew> {
            self.0.decide(command)
        }
        fn snapshots() -> SnapshotPolicy {
            SnapshotPolicy::every_events(1_000).or_every(Duration::from_secs(SECONDS))
        }
    }
    let probe = Probe::default();
    execute::<Timed<3_600>>(&probe.store(), 20).await;
    assert_eq!(probe.snapshots().len(), 0);
    execute::<Timed<0>>(&probe.store(), 20).await;
    assert_eq!(probe.snapshots().len(), 21, "one for the old events when they are loaded, one with each command");
}

#[tokio::test]
async fn a_fresh_process_folds_on_from_the_snapshot() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 8).await;
    let (state, reads) = load::<Plain>(&probe).await;
    assert_eq!((state.purse.coins, reads), (8, from_snapshot(6)));
    let purses = probe.store().aggregate::<Plain>();
    assert_eq!(purses.load_at("1", Version(7)).await.unwrap().state.purse.coins, 7);
    assert_eq!(purses.load_at("1", Version(2)).await.unwrap().state.purse.coins, 2);
}

#[tokio::test]
async fn a_damaged_snapshot_is_ignored_and_replaced() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 3).await;
    let (key, good) = probe.snapshots().pop().unwrap();
    let mut cases: Vec<Bytes> = (0..good.len()).map(|at| flipped(&good, at)).collect();
    cases.extend((0..good.len()).map(|end| good.slice(..end)));
    for damaged in cases {
        probe.store().keep_snapshot(key.clone(), damaged);
        let (state, reads) = load::<Plain>(&probe).await;
        assert_eq!((state.purse.coins, reads), (3, vec![Version(1)]));
    }
    assert_eq!(load::<Plain>(&probe).await.1, from_snapshot(3), "whoever finds it damaged replaces it");
}

#[tokio::test]
async fn facts_that_are_only_recorded_and_loaded_come_into_snapshots_too() {
    let probe = Probe::default();
    for _ in 0..10 {
        probe.store().aggregate::<Plain>().record("1", &[put(1)]).await.unwrap();
    }
    assert_eq!(load::<Plain>(&probe).await.1, [Version(1)]);
    assert_eq!(load::<Plain>(&probe).await.1, from_snapshot(10));
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    Bytes::from(bytes)
}

#[tokio::test]
async fn the_snapshot_of_an_older_fold_is_ignored_and_replaced() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 4).await;
    let (state, reads) = load::<Saving<2, 10>>(&probe).await;
    assert_eq!((state.purse.coins, reads), (40, vec![Version(1)]));
    assert_eq!(load::<Saving<2, 10>>(&probe).await.1, from_snapshot(4));
    assert_eq!(load::<Plain>(&probe).await.1, from_snapshot(3), "the release before goes on with its own");
}

#[tokio::test]
async fn the_snapshot_of_another_shape_is_ignored_and_replaced() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 4).await;
    let (state, reads) = load::<Reshaped>(&probe).await;
    assert_eq!((state.events, reads), (4, vec![Version(1)]));
    assert_eq!(load::<Reshaped>(&probe).await, (Reshaped { purse: Purse { coins: 4 }, events: 4 }, from_snapshot(4)));
}

#[tokio::test]
async fn a_snapshot_that_is_ahead_of_the_stream_or_of_another_history_is_ignored() {
    let (long, short, moved) = (Probe::default(), Probe::default(), Probe::default());
    execute::<Plain>(&long.store(), 6).await;
    execute::<Plain>(&short.store(), 3).await;
    moved.store().aggregate::<Plain>().record("other", &[put(1)]).await.unwrap();
    execute::<Plain>(&moved.store(), 3).await;
    let ahead = long.snapshots().pop().unwrap().1;
    let displaced = short.snapshots().pop().unwrap().1;
    for (probe, foreign, version) in [(&short, ahead, Version(6)), (&moved, displaced, Version(3))] {
        let (key, own) = probe.snapshots().pop().unwrap();
        probe.store().keep_snapshot(key.clone(), foreign);
        let (state, reads) = load::<Plain>(probe).await;
        assert_eq!((state.purse.coins, reads), (3, vec![version, Version(1)]));
        probe.store().keep_snapshot(key, own);
        assert_eq!(load::<Plain>(probe).await.1, from_snapshot(3));
    }
}

#[tokio::test]
async fn a_fold_version_that_was_not_raised_is_found_by_folding_again_now_and_then() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 3).await;
    // The same version and shape, another meaning. One load in 64 notices: in 5,000 none would miss it.
    let mut loads = (0..5_000).map(|_| probe.store().aggregate::<Saving<1, 10>>());
    let mut noticed = false;
    while let (false, Some(purses)) = (noticed, loads.next()) {
        noticed = purses.load("1").await.unwrap().state.purse.coins == 30;
    }
    assert!(noticed);
}
