//! Whatever is done in whatever order, through however many processes: an aggregate is the fold of
//! its history.

use std::collections::HashMap;

use leftfold_core::fold::{Aggregate, Answer, ExecuteError, Folded, SnapshotPolicy};
use leftfold_core::store::Version;
use serde::{Deserialize, Serialize};

use crate::probe::Probe;
use crate::purse::{Do, Purse, PurseEvent, TooFew, put, rival_takes};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saving(Purse);

impl Aggregate for Saving {
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
        SnapshotPolicy::every_events(4)
    }
}

/// Expected coins of one purse, at every version.
type Coins = Vec<u64>;

const IDS: [&str; 3] = ["1", "2", "3"];

#[tokio::test]
async fn every_history_of_commands_facts_rivals_and_restarts_is_folded_alike() {
    let seed = std::env::var("LEFTFOLD_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("replay with LEFTFOLD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let probe = Probe::default();
    let mut handles = [probe.store(), probe.store()];
    let mut expected: HashMap<&str, Coins> = IDS.map(|id| (id, vec![0])).into();
    for step in 0..3_000_u32 {
        let id = IDS[random.usize(..IDS.len())];
        let handle = random.usize(..handles.len());
        let coins = expected.get_mut(id).unwrap();
        let savings = handles[handle].aggregate::<Saving>();
        match random.u32(..20) {
            0 => handles[handle] = probe.store(),
            1 => {
                savings.record(id, &[put(2), put(3)]).await.unwrap();
                push(coins, &[2, 3]);
            }
            2..=4 => {
                probe.rival(rival_takes(id, 1));
                savings.record(id, &[]).await.unwrap();
                coins.push(coins.last().unwrap().saturating_sub(1));
            }
            5 => {
                let version = random.usize(..coins.len() + 2);
                let then = savings.load_at(id, Version(version as u64)).await.unwrap();
                let last = version.min(coins.len() - 1);
                assert_eq!(
                    (then.state.0.coins, then.version),
                    (coins[last], Version(last as u64)),
                    "step {step}"
                );
            }
            6 => {
                let now = savings.load(id).await.unwrap();
                check_now(&now, coins, step);
            }
            7..=9 => repeated(&savings, id, step, coins, random.u64(..6)).await,
            10..=14 => {
                let put = random.u64(1..4);
                let done = savings.execute(id, Do::Put(put)).await.unwrap();
                push(coins, &[put]);
                assert_eq!(done.version.0 + 1, coins.len() as u64, "step {step}");
            }
            _ => {
                let take = random.u64(1..8);
                let there = *coins.last().unwrap();
                match savings.execute(id, Do::Take(take)).await {
                    Ok(_) if take <= there => coins.push(there - take),
                    Err(ExecuteError::Refused(no)) if take > there => {
                        assert_eq!(no, TooFew { there })
                    }
                    other => panic!("step {step}: {there} there, {take} wanted: {other:?}"),
                }
            }
        }
    }
    for (id, coins) in &expected {
        let now = probe.store().aggregate::<Saving>().load(id).await.unwrap();
        check_now(&now, coins, 3_000);
    }
}

/// The state after a step is that of the last version.
fn check_now(now: &Folded<Saving>, coins: &Coins, step: u32) {
    assert_eq!(
        (now.state.0.coins, now.version.0 + 1),
        (*coins.last().unwrap(), coins.len() as u64),
        "step {step}"
    );
}

fn push(coins: &mut Coins, more: &[u64]) {
    more.iter().for_each(|more| coins.push(coins.last().unwrap() + more));
}

/// A command with an id, twice: done once, and answered alike.
async fn repeated(
    savings: &leftfold_core::fold::Aggregates<Saving>,
    id: &str,
    step: u32,
    coins: &mut Coins,
    to: u64,
) {
    let there = *coins.last().unwrap();
    let send = || {
        savings
            .command(id, Do::FillTo(to))
            .id("random", &step.to_string())
            .without_request_check()
            .execute()
    };
    let (first, again) = (send().await.unwrap(), send().await.unwrap());
    assert_eq!((first.answer, again.answer), (Answer::First, Answer::Again));
    assert_eq!(
        (&first.events, first.version, first.position),
        (&again.events, again.version, again.position),
        "step {step}"
    );
    if to > there {
        coins.push(to);
    }
    assert_eq!(first.version.0 + 1, coins.len() as u64, "step {step}");
}
