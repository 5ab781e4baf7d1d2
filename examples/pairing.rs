//! Buyers and sellers report their halves of trades in one continuous feed, and as many halves as possible are to be
//! matched two by two, each within ten minutes of its arrival.
//! The pattern is a pool that decides and a process that keeps time: a half that arrives starts an instance with a timer,
//! and only when its time is up the pool pairs it, so that a later half may still make a better matching possible.
//! Leave it where the first match is always good enough: then pair on arrival, and no process is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

const BUFFER: Duration = Duration::from_secs(10 * 60);
/// Prices that differ by no more are the same price.
const TOLERANCE_CENTS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Side {
    Bought,
    Sold,
}

/// One side's report of a trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Half {
    id: String,
    side: Side,
    cents: u32,
    /// Missing where the reporter forgot it.
    pieces: Option<u32>,
}

impl Half {
    /// Whether both can be of one trade, as far as is known.
    fn may_match(&self, other: &Self) -> bool {
        let pieces = self.pieces.is_none() || other.pieces.is_none() || self.pieces == other.pieces;
        self.side != other.side && pieces && self.cents.abs_diff(other.cents) <= TOLERANCE_CENTS
    }

    fn matches(&self, other: &Self) -> bool {
        self.pieces.is_some() && other.pieces.is_some() && self.may_match(other)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CorrectionAsked {
    half: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PoolEvent {
    Arrived {
        half: Half,
    },
    /// The intent of the effect that asks the correcting component.
    CorrectionAsked(CorrectionAsked),
    Corrected {
        half: String,
        pieces: u32,
    },
    /// Its time is up, but its likely partner is being corrected.
    Held {
        half: String,
        partner: String,
    },
    Paired {
        one: String,
        other: String,
    },
    Discarded {
        half: String,
        why: String,
    },
}

impl Event for PoolEvent {
    const NAMESPACE: &'static str = "pool";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Feed {
    Arrive { half: Half },
    Correct { half: String, pieces: u32 },
    GiveUpCorrecting { half: String, why: String },
    TimeIsUp { half: String },
}

/// The pool takes everything: what it has heard before changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum PoolRefusal {}

/// The halves of one article that have no partner yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pool {
    waiting: BTreeMap<String, Half>,
    /// Their time is up; each is held for a partner.
    held: BTreeSet<String>,
    /// Paired or discarded: what comes again under such an id is a repetition.
    gone: BTreeSet<String>,
}

impl Aggregate for Pool {
    const CATEGORY: &'static str = "pool";
    type Event = PoolEvent;
    type Command = Feed;
    type Refusal = PoolRefusal;

    fn apply(&mut self, event: &PoolEvent) {
        match event.clone() {
            PoolEvent::Arrived { half } => _ = self.waiting.insert(half.id.clone(), half),
            PoolEvent::CorrectionAsked(_) => {}
            PoolEvent::Corrected { half, pieces } => {
                if let Some(half) = self.waiting.get_mut(&half) {
                    half.pieces = Some(pieces);
                }
            }
            PoolEvent::Held { half, .. } => _ = self.held.insert(half),
            PoolEvent::Paired { one, other } => [one, other].into_iter().for_each(|half| self.leave(half)),
            PoolEvent::Discarded { half, .. } => self.leave(half),
        }
    }

    fn decide(&self, command: &Feed) -> Result<Vec<PoolEvent>, PoolRefusal> {
        Ok(match command.clone() {
            Feed::Arrive { half } if self.waiting.contains_key(&half.id) || self.gone.contains(&half.id) => Vec::new(),
            Feed::Arrive { half } if half.pieces.is_none() => {
                let asked = CorrectionAsked { half: half.id.clone() };
                vec![PoolEvent::Arrived { half }, PoolEvent::CorrectionAsked(asked)]
            }
            Feed::Arrive { half } => vec![PoolEvent::Arrived { half }],
            Feed::Correct { half, .. } | Feed::GiveUpCorrecting { half, .. } if !self.waiting.contains_key(&half) => Vec::new(),
            Feed::Correct { half, pieces } => self.and_those_held(PoolEvent::Corrected { half, pieces }),
            Feed::GiveUpCorrecting { half, why } => self.and_those_held(PoolEvent::Discarded { half, why }),
            Feed::TimeIsUp { half } => self.time_is_up(&half).into_iter().collect(),
        })
    }
}

impl Pool {
    fn leave(&mut self, half: String) {
        self.waiting.remove(&half);
        self.held.remove(&half);
        self.gone.insert(half);
    }

    // ANCHOR: time-is-up
    /// What becomes of a half whose time is up.
    fn time_is_up(&self, id: &str) -> Option<PoolEvent> {
        // One that is being corrected has time until that is over.
        let half = self.waiting.get(id).filter(|half| half.pieces.is_some())?;
        if let Some(partner) = self.partner(half) {
            return Some(PoolEvent::Paired { one: id.to_owned(), other: partner.to_owned() });
        }
        let likely = self.waiting.values().find(|other| other.pieces.is_none() && half.may_match(other));
        match likely {
            Some(_) if self.held.contains(id) => None,
            Some(other) => Some(PoolEvent::Held { half: id.to_owned(), partner: other.id.clone() }),
            None => Some(PoolEvent::Discarded { half: id.to_owned(), why: "nobody reported the other half".to_owned() }),
        }
    }

    /// A correction came to its end; what was held for it is looked at again.
    fn and_those_held(&self, event: PoolEvent) -> Vec<PoolEvent> {
        let mut pool = self.clone();
        pool.apply(&event);
        let mut events = vec![event];
        for half in &self.held {
            if let Some(follows) = pool.time_is_up(half) {
                pool.apply(&follows);
                events.push(follows);
            }
        }
        events
    }
    // ANCHOR_END: time-is-up

    /// The partner with whom as many of the others as possible can still be paired. A half that a largest matching
    /// leaves out takes the partner of another one that it matches: that is as large, and the other has more time.
    fn partner<'a>(&'a self, half: &'a Half) -> Option<&'a str> {
        let mut partners = self.largest_matching();
        if let Some(partner) = partners.remove(half.id.as_str()) {
            return Some(partner);
        }
        self.candidates(half).next()
    }

    fn candidates<'a>(&'a self, half: &'a Half) -> impl Iterator<Item = &'a str> {
        self.waiting.values().filter(|other| half.matches(other)).map(|other| other.id.as_str())
    }

    /// Everyone's partner in a largest matching of those who wait, found by augmenting paths (Kuhn).
    fn largest_matching(&self) -> BTreeMap<&str, &str> {
        let mut buyer_of: BTreeMap<&str, &str> = BTreeMap::new();
        for buyer in self.waiting.values().filter(|half| half.side == Side::Bought) {
            self.augment(buyer, &mut buyer_of, &mut BTreeSet::new());
        }
        buyer_of.into_iter().flat_map(|(seller, buyer)| [(seller, buyer), (buyer, seller)]).collect()
    }

    fn augment<'a>(&'a self, buyer: &'a Half, buyer_of: &mut BTreeMap<&'a str, &'a str>, tried: &mut BTreeSet<&'a str>) -> bool {
        for seller in self.candidates(buyer) {
            if tried.insert(seller) {
                let rival = buyer_of.get(seller).and_then(|rival| self.waiting.get(*rival));
                if rival.is_none_or(|rival| self.augment(rival, buyer_of, tried)) {
                    buyer_of.insert(seller, &buyer.id);
                    return true;
                }
            }
        }
        false
    }
}

/// Keeps the time of one half, from its arrival (or correction) on.
#[derive(Debug, Default)]
struct Buffer {
    article: String,
}

// ANCHOR: process
impl Process for Buffer {
    const NAME: &'static str = "buffer";
    type Event = PoolEvent;

    fn targets() -> Targets {
        Targets::of::<Pool>()
    }

    fn correlate(event: &Recorded<PoolEvent>) -> Correlation {
        let article = event.stream_id();
        let key = |half: &str| format!("{article}/{half}");
        match &event.event {
            PoolEvent::Arrived { half } => Correlation::starts(key(&half.id)),
            PoolEvent::Corrected { half, .. } => Correlation::continues(key(half)),
            PoolEvent::Paired { one, other } => Correlation::ends(key(one)).and_ends(key(other)),
            PoolEvent::Discarded { half, .. } => Correlation::ends(key(half)),
            PoolEvent::CorrectionAsked(_) | PoolEvent::Held { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<PoolEvent>, context: &Context) {
        if let Trigger::Event(PoolEvent::Arrived { .. }) = trigger {
            self.article.clone_from(&context.stream_id);
        }
    }

    fn react(&self, trigger: &Trigger<PoolEvent>, context: &Context) -> Reaction {
        let half = context.key.rsplit('/').next().unwrap_or_default().to_owned();
        match trigger {
            Trigger::Event(PoolEvent::Arrived { .. } | PoolEvent::Corrected { .. }) => Reaction::none().timer("buffer", BUFFER),
            Trigger::TimerFired { .. } => Reaction::none().command::<Pool>(&self.article, Feed::TimeIsUp { half }),
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

/// The component that knows what a reporter forgot: here a drawer of papers.
struct Corrector {
    papers: BTreeMap<String, u32>,
}

// ANCHOR: effect
impl Effect for Corrector {
    const NAME: &'static str = "corrector";
    const INTENT: &'static str = "pool.CorrectionAsked";
    type Intent = CorrectionAsked;
    type Outcome = Option<u32>;
    type Target = Pool;

    fn policy(&self) -> Policy {
        Policy::repeatable()
    }

    async fn perform(&self, attempt: &Attempt<CorrectionAsked>) -> Performed<Option<u32>> {
        Performed::Done(self.papers.get(&attempt.intent.half).copied())
    }

    fn report(&self, attempt: &Attempt<CorrectionAsked>, conclusion: &Conclusion<Option<u32>>) -> Option<(String, Feed)> {
        let article = attempt.event.stream.as_ref()?.name.id().to_owned();
        let half = attempt.intent.half.clone();
        Some(match conclusion {
            Conclusion::Done(Some(pieces)) => (article, Feed::Correct { half, pieces: *pieces }),
            Conclusion::Done(None) => (article, Feed::GiveUpCorrecting { half, why: "there is no paper of it".to_owned() }),
            Conclusion::NotDone { reason } => (article, Feed::GiveUpCorrecting { half, why: reason.clone() }),
        })
    }
}
// ANCHOR_END: effect

fn half(id: &str, side: Side, pieces: impl Into<Option<u32>>, cents: u32) -> Half {
    Half { id: id.into(), side, cents, pieces: pieces.into() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    use Side::{Bought, Sold};
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let pools = store.aggregate::<Pool>();
    let clock = std::sync::Arc::new(leftfold::testing::HandClock::going());
    let corrector = Corrector { papers: BTreeMap::from([("s3".to_owned(), 7)]) };
    let runtime = Runtime::new(&store).clock(clock.clone()).process::<Buffer>().effect(corrector);
    let running = runtime.start().await?;

    let mut told = store.subscribe(Query::category(Pool::CATEGORY), store.head().position);
    // b1 could take either seller, b2 only s1: pairing b1 with the first one that comes would leave b2 alone.
    let feed = [
        half("s1", Sold, 100, 1_000),
        half("b1", Bought, 100, 1_003),
        half("s2", Sold, 100, 1_007),
        half("b2", Bought, 100, 996),
        half("b3", Bought, 7, 500),
        half("s3", Sold, None, 500),
        half("s4", Sold, 9, 12),
    ];
    let arrivals = feed.len();
    for half in feed {
        pools.execute("tulips", Feed::Arrive { half }).await?;
    }
    println!("{arrivals} halves arrive within a moment, then ten minutes pass");
    let mut open = arrivals;
    let mut passed = false;
    while open > 0 {
        let event = told.event().await?;
        for event in pools.decode(&event)? {
            match &event {
                PoolEvent::Paired { one, other } => {
                    println!("    {one} and {other} are one trade");
                    open -= 2;
                }
                PoolEvent::Discarded { half, why } => {
                    println!("    {half} is discarded: {why}");
                    open -= 1;
                }
                PoolEvent::Corrected { half, pieces } => println!("    {half} comes back from correction: {pieces} pieces"),
                PoolEvent::Held { half, partner } => println!("    {half} is held: {partner} may be its partner"),
                PoolEvent::Arrived { .. } | PoolEvent::CorrectionAsked(_) => {}
            }
            // Once everything is complete the clock is set forward, so that nobody has to wait for the story's end.
            if !passed && matches!(event, PoolEvent::Corrected { .. }) {
                clock.advance(BUFFER + Duration::from_secs(1));
                passed = true;
            }
        }
    }
    running.stop().await?;
    store.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use PoolEvent::*;
    use Side::{Bought, Sold};
    use leftfold::testing::{Explorer, Schedules, given};

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
        let others =
            [half("price", Sold, 5, 106), half("pieces", Sold, 6, 100), half("side", Bought, 5, 100), half("all", Sold, 5, 104)];
        let pool = [half("b", Bought, 5, 100)].into_iter().chain(others).map(arrived);
        given::<Pool>(pool.clone()).when(time_is_up("b")).then([paired("b", "all")]);
        given::<Pool>(pool).when(Feed::Arrive { half: half("late", Sold, 5, 100) }).then([arrived(half("late", Sold, 5, 100))]);
    }

    #[test]
    fn as_many_as_possible_are_paired() {
        // b1 matches both, b2 only s1.
        let pool = [half("s1", Sold, 1, 100), half("b1", Bought, 1, 103), half("s2", Sold, 1, 107), half("b2", Bought, 1, 96)];
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
                pool.apply(&arrived(half(&index.to_string(), side, random.u32(1..3), random.u32(0..20))));
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

    /// The most pairs that there can be, by trying everything.
    fn best(halves: &[&Half]) -> usize {
        let [first, rest @ ..] = halves else { return 0 };
        let mut most = best(rest);
        for (index, other) in rest.iter().enumerate().filter(|(_, other)| first.matches(other)) {
            let _ = other;
            let others: Vec<&Half> = rest.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, half)| *half).collect();
            most = most.max(1 + best(&others));
        }
        most
    }

    #[test]
    fn who_finds_no_partner_in_time_is_discarded_and_that_is_recorded() {
        let why = "nobody reported the other half".to_owned();
        given::<Pool>([arrived(half("b", Bought, 1, 1))]).when(time_is_up("b")).then([Discarded { half: "b".into(), why }]);
    }

    #[test]
    fn an_incomplete_half_is_corrected_and_its_likely_partner_is_held_meanwhile() {
        let incomplete = half("s", Sold, None, 100);
        let asked = CorrectionAsked(super::CorrectionAsked { half: "s".into() });
        given::<Pool>([]).when(Feed::Arrive { half: incomplete.clone() }).then([arrived(incomplete.clone()), asked.clone()]);

        let waiting = [arrived(half("b", Bought, 3, 100)), arrived(incomplete), asked];
        let held = Held { half: "b".into(), partner: "s".into() };
        given::<Pool>(waiting.clone()).when(time_is_up("b")).then([held.clone()]);
        let waiting = waiting.into_iter().chain([held]);
        given::<Pool>(waiting.clone()).when(time_is_up("s")).then_nothing();
        let corrected = |pieces| Corrected { half: "s".into(), pieces };
        given::<Pool>(waiting.clone()).when(Feed::Correct { half: "s".into(), pieces: 3 }).then([corrected(3), paired("b", "s")]);
        let alone = Discarded { half: "b".into(), why: "nobody reported the other half".into() };
        given::<Pool>(waiting.clone()).when(Feed::Correct { half: "s".into(), pieces: 4 }).then([corrected(4), alone.clone()]);
        let lost = Discarded { half: "s".into(), why: "no paper".into() };
        given::<Pool>(waiting).when(Feed::GiveUpCorrecting { half: "s".into(), why: "no paper".into() }).then([lost, alone]);
    }

    #[test]
    fn a_half_that_is_reported_twice_counts_once() {
        let b = half("b", Bought, 1, 1);
        given::<Pool>([arrived(b.clone())]).when(Feed::Arrive { half: b.clone() }).then_nothing();
        let gone = [arrived(b.clone()), Discarded { half: "b".into(), why: String::new() }];
        given::<Pool>(gone).when(Feed::Arrive { half: b }).then_nothing();
    }

    // ANCHOR: explored
    /// Whatever crashes, comes late or twice, or is never corrected: each half ends once, in a trade or discarded.
    #[test]
    fn every_half_ends_once_whatever_happens_on_the_way() {
        let corrections = [Some(3), None].map(Performed::Done);
        let ends = |world: &leftfold::testing::explorer::World| {
            let ended = |event| match event {
                Paired { one, other } => vec![one, other],
                Discarded { half, .. } => vec![half],
                _ => Vec::new(),
            };
            let mut ended: Vec<String> = world.events_of::<PoolEvent>().into_iter().flat_map(ended).collect();
            ended.sort();
            ended
        };
        Explorer::new()
            .aggregate::<Pool>()
            .process::<Buffer>()
            .effect(Corrector { papers: BTreeMap::new() }, corrections)
            .start(|clients| {
                let arrive = |half| Feed::Arrive { half };
                let buyers = clients.client("buyers").command::<Pool>("tulips", arrive(half("b1", Bought, 3, 100)));
                buyers.wait(BUFFER / 2).command::<Pool>("tulips", arrive(half("b2", Bought, 3, 103)));
                let sellers = clients.client("sellers").command::<Pool>("tulips", arrive(half("s1", Sold, None, 101)));
                sellers.command::<Pool>("tulips", arrive(half("s2", Sold, 3, 107)));
            })
            .always("nobody ends twice", move |world| ends(world).windows(2).all(|two| two[0] != two[1]))
            .finally("everybody ends", move |world| ends(world) == ["b1", "b2", "s1", "s2"])
            .finally("no time is kept for anybody", |world| world.open_processes() == 0)
            .run(Schedules(300));
    }
    // ANCHOR_END: explored
}
