//! Snapshots: made by the policy, used only where they belong, and never the truth.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::fold::{Aggregate, SnapshotPolicy};
use leftfold_core::store::{Store, Timestamp, Version};
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

/// The same with a state of another shape, that would be read from the bytes of the first without
/// an error.
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
async fn execute<A: Aggregate<Command = Do, Refusal = TooFew, Event = PurseEvent>>(
    store: &Store,
    commands: u64,
) {
    for _ in 0..commands {
        store.aggregate::<A>().execute("1", Do::Put(1)).await.unwrap();
    }
}

/// Loads with a fresh cache, and says from which versions the stream was read. One load in 64 is
/// also compared with a fold from the beginning, which reads from version 1; that read is left out.
async fn load<A: Aggregate>(probe: &Probe) -> (A, Vec<Version>) {
    probe.reads_from();
    let folded = probe.store().aggregate::<A>().load("1").await.unwrap();
    let mut reads = probe.reads_from();
    if reads.len() > 2 {
        reads.remove(1);
    }
    (folded.state, reads)
}

/// The page that a snapshot is compared with, then what follows it.
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
    assert_eq!(
        probe.snapshots().len(),
        21,
        "one for the old events when they are loaded, one with each command"
    );
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
    assert_eq!(
        load::<Plain>(&probe).await.1,
        from_snapshot(3),
        "whoever finds it damaged replaces it"
    );
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
    assert_eq!(
        load::<Plain>(&probe).await.1,
        from_snapshot(3),
        "the release before goes on with its own"
    );
}

#[tokio::test]
async fn the_snapshot_of_another_shape_is_ignored_and_replaced() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 4).await;
    let (state, reads) = load::<Reshaped>(&probe).await;
    assert_eq!((state.events, reads), (4, vec![Version(1)]));
    assert_eq!(
        load::<Reshaped>(&probe).await,
        (Reshaped { purse: Purse { coins: 4 }, events: 4 }, from_snapshot(4))
    );
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
    for (probe, foreign, version) in [(&short, ahead, Version(6)), (&moved, displaced, Version(3))]
    {
        let (key, own) = probe.snapshots().pop().unwrap();
        probe.store().keep_snapshot(key.clone(), foreign);
        let (state, reads) = load::<Plain>(probe).await;
        assert_eq!((state.purse.coins, reads), (3, vec![version, Version(1)]));
        probe.store().keep_snapshot(key, own);
        assert_eq!(load::<Plain>(probe).await.1, from_snapshot(3));
    }
}

/// Two releases of one aggregate, whose states differ where a walk over the type could not look: in
/// the second variant of an enum, and behind a field that refuses an empty text. The old snapshot
/// was taken, and the renamed field was empty.
macro_rules! release {
    ($release:ident, $field:ident) => {
        mod $release {
            use super::*;

            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub(super) enum Shop {
                #[default]
                New,
                Open {
                    since: Timestamp,
                    #[serde(default)]
                    $field: u64,
                    /// Seen only in the fold.
                    #[serde(default, skip_serializing_if = "HashSet::is_empty")]
                    seen: HashSet<u64>,
                },
            }

            impl Aggregate for Shop {
                const CATEGORY: &'static str = "purse";
                type Event = PurseEvent;
                type Command = Do;
                type Refusal = TooFew;

                fn apply(&mut self, event: &PurseEvent) {
                    let (PurseEvent::Put { coins } | PurseEvent::Taken { coins }) = event;
                    let (before, mut seen) = match self {
                        Self::New => (0, HashSet::new()),
                        Self::Open { $field, seen, .. } => (*$field, std::mem::take(seen)),
                    };
                    seen.extend(before..before + coins);
                    *self = Self::Open {
                        since: Timestamp::from_micros(1),
                        $field: before + coins,
                        seen,
                    };
                }

                fn decide(&self, _: &Do) -> Result<Vec<PurseEvent>, TooFew> {
                    Ok(vec![put(1)])
                }

                fn snapshots() -> SnapshotPolicy {
                    SnapshotPolicy::every_events(1)
                }
            }
        }
    };
}

release!(first, coins);
release!(second, cents);

#[tokio::test]
async fn a_field_that_was_renamed_anywhere_in_the_state_is_never_empty_after_a_release() {
    let probe = Probe::default();
    execute::<first::Shop>(&probe.store(), 3).await;
    for _ in 0..100 {
        let (state, _) = load::<second::Shop>(&probe).await;
        assert!(matches!(state, second::Shop::Open { cents: 3, .. }), "{state:?}");
    }
}

/// States with sets were called wrong, one load in 64: the order of a set was compared.
#[tokio::test]
async fn sets_in_a_state_are_no_reason_to_doubt_its_snapshot() {
    let probe = Probe::default();
    execute::<first::Shop>(&probe.store(), 30).await;
    let store = probe.store();
    for _ in 0..1_000 {
        let shops = store.aggregate::<first::Shop>();
        probe.reads_from();
        shops.load_at("1", Version::END).await.unwrap();
        let reads = probe.reads_from();
        assert_eq!(
            (reads[0], reads[reads.len() - 1]),
            (Version(30), Version(31)),
            "the snapshot was used"
        );
    }
}

#[tokio::test]
async fn a_fold_version_that_was_not_raised_is_found_at_the_first_load_and_no_snapshot_is_used() {
    let probe = Probe::default();
    let old = probe.store().aggregate::<Plain>();
    for id in 1..=100 {
        old.execute(&id.to_string(), Do::Put(1)).await.unwrap();
        old.commands(&id.to_string(), vec![Do::Put(1); 2]).execute().await.unwrap();
    }
    let forgot = probe.store().aggregate::<Saving<1, 10>>();
    for id in 1..=100 {
        assert_eq!(forgot.load(&id.to_string()).await.unwrap().state.purse.coins, 30, "{id}");
    }
}

#[tokio::test]
async fn the_first_loads_of_a_type_are_held_against_a_fold_and_later_ones_now_and_then() {
    let probe = Probe::default();
    execute::<Plain>(&probe.store(), 3).await;
    let purses = probe.store().aggregate::<Plain>();
    let mut held = Vec::new();
    for load in 0..1_000 {
        probe.reads_from();
        purses.load_at("1", Version(3)).await.unwrap();
        if probe.reads_from().contains(&Version(1)) {
            held.push(load);
        }
    }
    assert_eq!(held[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!((9..80).contains(&held.len()), "{held:?}");
}

/// A state that JSON would blur.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Blurred {
    coins: u64,
    last: Option<()>,
}

impl Aggregate for Blurred {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;
    type Command = Do;
    type Refusal = TooFew;

    fn apply(&mut self, _: &PurseEvent) {
        *self = Self { coins: self.coins + 1, last: Some(()) };
    }

    fn decide(&self, _: &Do) -> Result<Vec<PurseEvent>, TooFew> {
        Ok(vec![put(1)])
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

#[tokio::test]
async fn a_state_that_would_not_be_read_as_it_is_has_no_snapshots() {
    let probe = Probe::default();
    execute::<Blurred>(&probe.store(), 3).await;
    assert_eq!(probe.snapshots().len(), 0);
    assert_eq!(load::<Blurred>(&probe).await.0, Blurred { coins: 3, last: Some(()) });
}
