//! Given, when, then for the pool; all of it in the explorer; and what a long feed costs.

use std::collections::VecDeque;

use super::*;
use PoolEvent::*;
use Side::{Bought, Sold};
use leftfold::testing::{Explorer, Schedules, given};

use crate::matching::CANDIDATES_MAX;
use crate::pool::{TOLERANCE_CENTS, WAITING_MAX};

fn arrived(half: Half) -> PoolEvent {
    Arrived { half }
}

fn time_is_up(half: &str) -> Feed {
    Feed::TimeIsUp { half: half.into() }
}

fn paired(one: &str, other: &str) -> PoolEvent {
    Paired { one: one.into(), other: other.into() }
}

#[test]
fn a_half_is_paired_only_when_its_time_is_up_and_every_criterion_holds() {
    let others = [
        half("price", Sold, 5, 106),
        half("pieces", Sold, 6, 100),
        half("side", Bought, 5, 100),
        half("all", Sold, 5, 104),
    ];
    let pool = [half("b", Bought, 5, 100)].into_iter().chain(others).map(arrived);
    given::<Pool>(pool.clone()).when(time_is_up("b")).then([paired("b", "all")]);
    given::<Pool>(pool)
        .when(Feed::Arrive { half: half("late", Sold, 5, 100) })
        .then([arrived(half("late", Sold, 5, 100))]);
}

#[test]
fn as_many_as_possible_are_paired() {
    // b1 matches both, b2 only s1.
    let pool = [
        half("s1", Sold, 1, 100),
        half("b1", Bought, 1, 103),
        half("s2", Sold, 1, 107),
        half("b2", Bought, 1, 96),
    ];
    given::<Pool>(pool.clone().map(arrived)).when(time_is_up("b1")).then([paired("b1", "s2")]);
    given::<Pool>(pool.map(arrived)).when(time_is_up("s1")).then([paired("s1", "b2")]);
}

#[test]
fn many_halves_are_paired_as_well_as_trying_everything_would() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let mut pool = Pool::default();
        for index in 0..random.u32(2..9) {
            let side = if random.bool() { Bought } else { Sold };
            pool.apply(&arrived(half(
                &index.to_string(),
                side,
                random.u32(1..3),
                random.u32(0..20),
            )));
        }
        let best = best(&pool.waiting.values().collect::<Vec<_>>());
        let mut pairs = 0;
        for id in pool.waiting.clone().into_keys() {
            for event in pool.decide(&time_is_up(&id)).unwrap() {
                pairs += usize::from(matches!(event, Paired { .. }));
                pool.apply(&event);
            }
        }
        assert_eq!(pairs, best, "seed {seed}");
    }
}

fn matches(one: &Half, other: &Half) -> bool {
    let pieces = one.pieces.is_some() && one.pieces == other.pieces;
    one.side != other.side && pieces && one.cents.abs_diff(other.cents) <= TOLERANCE_CENTS
}

/// The most pairs that there can be, by trying everything.
fn best(halves: &[&Half]) -> usize {
    let [first, rest @ ..] = halves else { return 0 };
    let mut most = best(rest);
    for (index, other) in rest.iter().enumerate().filter(|(_, other)| matches(first, other)) {
        let _ = other;
        let others: Vec<&Half> =
            rest.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, half)| *half).collect();
        most = most.max(1 + best(&others));
    }
    most
}

#[test]
fn who_finds_no_partner_in_time_is_discarded_and_that_is_recorded() {
    let why = "nobody reported the other half".to_owned();
    given::<Pool>([arrived(half("b", Bought, 1, 1))])
        .when(time_is_up("b"))
        .then([Discarded { half: "b".into(), why }]);
}

#[test]
fn an_incomplete_half_is_corrected_and_its_likely_partner_is_held_meanwhile() {
    let incomplete = half("s", Sold, None, 100);
    let asked = CorrectionAsked(pool::CorrectionAsked { half: "s".into() });
    given::<Pool>([])
        .when(Feed::Arrive { half: incomplete.clone() })
        .then([arrived(incomplete.clone()), asked.clone()]);

    let waiting = [arrived(half("b", Bought, 3, 100)), arrived(incomplete), asked];
    let held = Held { half: "b".into(), partner: "s".into() };
    given::<Pool>(waiting.clone()).when(time_is_up("b")).then([held.clone()]);
    let waiting = waiting.into_iter().chain([held]);
    given::<Pool>(waiting.clone()).when(time_is_up("s")).then_nothing();
    let corrected = |pieces| Corrected { half: "s".into(), pieces };
    given::<Pool>(waiting.clone())
        .when(Feed::Correct { half: "s".into(), pieces: 3 })
        .then([corrected(3), paired("b", "s")]);
    let alone = Discarded { half: "b".into(), why: "nobody reported the other half".into() };
    given::<Pool>(waiting.clone())
        .when(Feed::Correct { half: "s".into(), pieces: 4 })
        .then([corrected(4), alone.clone()]);
    let lost = Discarded { half: "s".into(), why: "no paper".into() };
    given::<Pool>(waiting)
        .when(Feed::GiveUpCorrecting { half: "s".into(), why: "no paper".into() })
        .then([lost, alone]);
}

#[tokio::test]
async fn a_half_that_is_reported_twice_counts_once_even_when_it_is_gone() {
    for store in examples::stores().await {
        let pools = store.aggregate::<Pool>();
        let b = half("b", Bought, 1, 1);
        given::<Pool>([arrived(b.clone())]).when(Feed::Arrive { half: b.clone() }).then_nothing();
        for _ in 0..2 {
            report(&pools, "tulips", b.clone()).await.unwrap();
            pools.execute("tulips", time_is_up("b")).await.unwrap();
        }
        let pool = pools.load("tulips").await.unwrap();
        assert_eq!((pool.version, pool.state), (Version(2), Pool::default()));
        report(&pools, "roses", b).await.unwrap();
        assert_eq!(pools.load("roses").await.unwrap().version, Version(1));
    }
}

#[test]
fn a_pool_that_is_full_refuses_more_and_loses_nobody() {
    let mut pool = Pool::default();
    for index in 0..WAITING_MAX {
        pool.apply(&arrived(half(&index.to_string(), Bought, 1, index as u32)));
    }
    let late = Feed::Arrive { half: half("late", Sold, 1, 1) };
    assert_eq!(pool.decide(&late), Err(PoolRefusal::Full { waiting: WAITING_MAX }));
    pool.apply(&Discarded { half: "7".into(), why: String::new() });
    assert_eq!(pool.decide(&late).unwrap().len(), 1);
}

/// Those that were gone were remembered forever, and every end of a half's time matched all that
/// waited again.
#[test]
fn neither_the_work_of_an_event_nor_the_pool_grows_with_the_length_of_the_feed() {
    const HALVES: usize = 6_000;
    const WAIT_AT_ONCE: usize = 100;
    let seed = leftfold::testing::seed();
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut pool, mut feed) = (Pool::default(), VecDeque::new());
    // Of each third: the candidates looked at in all, and the size of the pool at most.
    let mut thirds = [(0, 0); 3];
    for index in 0..HALVES {
        let side = if random.bool() { Bought } else { Sold };
        let arrives = half(&format!("{index:06}"), side, random.u32(1..4), random.u32(0..100));
        feed.push_back(arrives.id.clone());
        let (candidates, size) = &mut thirds[index * 3 / HALVES];
        let looked_at = pool.matching.search(&arrives).candidates;
        pool.apply(&arrived(arrives));
        assert!(looked_at <= CANDIDATES_MAX + 1, "seed {seed}");
        *candidates += looked_at;
        if feed.len() > WAIT_AT_ONCE
            && let Some(id) = feed.pop_front()
        {
            pool.decide(&time_is_up(&id)).unwrap().iter().for_each(|event| pool.apply(event));
        }
        if index % 50 == 0 {
            *size = serde_json::to_vec(&pool).unwrap().len().max(*size);
        }
        assert!(pool.waiting.len() <= WAIT_AT_ONCE, "seed {seed}");
    }
    let [(first, small), _, (last, large)] = thirds;
    assert!(last * 2 < first * 3 && large * 2 < small * 3, "seed {seed}: {thirds:?}");
}

#[test]
fn a_search_for_a_partner_ends_though_everybody_matches_everybody() {
    let mut pool = Pool::default();
    for index in 0..2_000 {
        let (side, id) = (if index % 2 == 0 { Bought } else { Sold }, format!("{index}"));
        pool.apply(&arrived(half(&id, side, 1, 1)));
    }
    assert!(pool.matching.search(&half("0", Bought, 1, 1)).candidates <= CANDIDATES_MAX + 1);
}

// ANCHOR: explored
/// Whatever crashes, comes late or twice, or is never corrected: each half ends once, in a trade or
/// discarded.
#[test]
fn every_half_ends_once_whatever_happens_on_the_way() {
    let corrections = [Some(3), None].map(Performed::Done);
    let ends = |world: &leftfold::testing::explorer::World| {
        let ended = |event| match event {
            Paired { one, other } => vec![one, other],
            Discarded { half, .. } => vec![half],
            _ => Vec::new(),
        };
        let mut ended: Vec<String> =
            world.events_of::<PoolEvent>().into_iter().flat_map(ended).collect();
        ended.sort();
        ended
    };
    Explorer::new()
        .aggregate::<Pool>()
        .process::<Buffer>()
        .effect(Corrector { papers: BTreeMap::new() }, corrections)
        .start(|clients| {
            let arrive = |half| Feed::Arrive { half };
            let buyers = clients
                .client("buyers")
                .command::<Pool>("tulips", arrive(half("b1", Bought, 3, 100)));
            buyers.wait(BUFFER / 2).command::<Pool>("tulips", arrive(half("b2", Bought, 3, 103)));
            let sellers = clients
                .client("sellers")
                .command::<Pool>("tulips", arrive(half("s1", Sold, None, 101)));
            sellers.command::<Pool>("tulips", arrive(half("s2", Sold, 3, 107)));
        })
        .always("nobody ends twice", move |world| {
            ends(world).windows(2).all(|two| two[0] != two[1])
        })
        .finally("everybody ends", move |world| ends(world) == ["b1", "b2", "s1", "s2"])
        .finally("no time is kept for anybody", |world| world.open_processes() == 0)
        .run(Schedules(300));
}
// ANCHOR_END: explored
