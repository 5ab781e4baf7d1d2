//! What a decision demands beside what it reads, and what it guards of that.

use leftfold_core::fold::{Decided, Decision, Event, ExecuteError};
use leftfold_core::store::{
    Append, Conflict, Expected, Kind, MemoryBackend, Mismatch, Outcome, Position, Query, Store,
};
use leftfold_core::store::{Backend, Tags, Version};
use serde::{Deserialize, Serialize};

use crate::probe::{Probe, now};
use crate::purse::{Do, Purse, raw};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum ShopEvent {
    Stocked { pieces: u32 },
    Sold { cents: u32 },
    Priced { cents: u32 },
    Joined { email: String },
}

impl Event for ShopEvent {
    const NAMESPACE: &'static str = "shop";

    fn tags(&self) -> Tags {
        match self {
            Self::Stocked { .. } | Self::Sold { .. } => Tags::none().with("stock"),
            Self::Priced { .. } => Tags::none().with("price"),
            Self::Joined { email } => Tags::none().with(format!("email:{email}")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("sold out")]
struct SoldOut;

/// Sells a piece at the price of the day: a price that is changed at the same moment does not
/// matter, a piece does.
struct Sell;

impl Decision for Sell {
    type Event = ShopEvent;
    type State = (u32, u32);
    type Refusal = SoldOut;

    fn query(&self) -> Query {
        Query::tag("stock").or(Query::tag("price"))
    }

    fn guarded(&self) -> Query {
        Query::tag("stock")
    }

    fn apply(&self, (pieces, price): &mut (u32, u32), event: &ShopEvent) {
        match event {
            ShopEvent::Stocked { pieces: more } => *pieces += more,
            ShopEvent::Sold { .. } => *pieces -= 1,
            ShopEvent::Priced { cents } => *price = *cents,
            ShopEvent::Joined { .. } => {}
        }
    }

    fn decide(&self, (pieces, cents): &(u32, u32)) -> Result<Decided<ShopEvent>, SoldOut> {
        if *pieces == 0 {
            Err(SoldOut)
        } else {
            Ok(Decided::fact(ShopEvent::Sold { cents: *cents }))
        }
    }
}

/// Records what it is given, and reads nothing.
struct Records(Decided<ShopEvent>);

impl Decision for Records {
    type Event = ShopEvent;
    type State = ();
    type Refusal = SoldOut;

    fn query(&self) -> Query {
        Query::nothing()
    }

    fn apply(&self, (): &mut (), _: &ShopEvent) {}

    fn decide(&self, (): &()) -> Result<Decided<ShopEvent>, SoldOut> {
        Ok(self.0.clone())
    }
}

fn joined(email: &str) -> ShopEvent {
    ShopEvent::Joined { email: email.to_owned() }
}

fn rival(
    event_type: &'static str,
    data: &'static str,
    tag: &'static str,
) -> impl FnOnce(&MemoryBackend) + Send + 'static {
    move |memory| {
        let event = raw("shop-rival", event_type, 1, data).tagged(Tags::none().with(tag));
        assert!(matches!(now(memory.append(Append::of(vec![event]))), Ok(Outcome::Appended(_))));
    }
}

async fn stocked(store: &Store, pieces: u32) {
    let events = [ShopEvent::Stocked { pieces }, ShopEvent::Priced { cents: 100 }];
    store.facts("shop", "1", &events).record().await.unwrap();
}

#[tokio::test]
async fn what_is_read_and_not_guarded_may_change_in_between() {
    let probe = Probe::default();
    let store = probe.store();
    stocked(&store, 1).await;
    probe.rival(rival("shop.Priced", r#"{"cents":200}"#, "price"));
    let before = probe.appends();
    let sold = store.decide(&Sell).await.unwrap();
    assert_eq!(
        (sold.events, probe.appends() - before),
        (vec![ShopEvent::Sold { cents: 100 }], 1),
        "at the price that it read"
    );
}

#[tokio::test]
async fn what_is_guarded_is_decided_anew_on_all_that_is_read() {
    let probe = Probe::default();
    let store = probe.store();
    stocked(&store, 1).await;
    probe.rival(|memory| {
        rival("shop.Priced", r#"{"cents":200}"#, "price")(memory);
        rival("shop.Stocked", r#"{"pieces":1}"#, "stock")(memory);
    });
    let before = probe.appends();
    let sold = store.decide(&Sell).await.unwrap();
    assert_eq!(
        (sold.events, probe.appends() - before),
        (vec![ShopEvent::Sold { cents: 200 }], 2),
        "what is new is read too"
    );
    probe.rival(rival("shop.Sold", r#"{"cents":1}"#, "stock"));
    assert_eq!(
        store.decide(&Sell).await,
        Err(ExecuteError::Refused(SoldOut)),
        "the last piece went to somebody else"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_is_sold_than_is_there_however_often_prices_change() {
    let probe = Probe::default();
    probe.take_time();
    stocked(&probe.store(), 10).await;
    let sellers: Vec<_> = (0..30)
        .map(|_| {
            let store = probe.store();
            tokio::spawn(async move {
                loop {
                    match store.decide(&Sell).await {
                        Err(error) if error.kind().may_be_tried_again() => {}
                        answer => return answer,
                    }
                }
            })
        })
        .collect();
    let store = probe.store();
    let prices = tokio::spawn(async move {
        for cents in 0..100 {
            store.facts("shop", "prices", &[ShopEvent::Priced { cents }]).record().await.unwrap();
        }
    });
    let mut sold = 0;
    for seller in sellers {
        match seller.await.unwrap() {
            Ok(_) => sold += 1,
            Err(error) => assert_eq!(error, ExecuteError::Refused(SoldOut)),
        }
    }
    prices.await.unwrap();
    assert_eq!(sold, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_who_want_what_is_unique_one_gets_it_and_the_others_are_told_who_has_it() {
    let probe = Probe::default();
    probe.take_time();
    stocked(&probe.store(), 1).await;
    let wanting: Vec<_> = (0..20)
        .map(|_| {
            let store = probe.store();
            let decided = Decided::fact(joined("a@b")).expecting_none(Query::tag("email:c@d"));
            let decided = decided.expecting_none(Query::tag("email:a@b"));
            tokio::spawn(async move { store.decide(&Records(decided)).await })
        })
        .collect();
    let (mut got, mut taken) = (Vec::new(), Vec::new());
    for wants in wanting {
        match wants.await.unwrap() {
            Ok(done) => got.push(done.position),
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.mismatch()),
                    (Kind::Conflict, Some(Mismatch::AlreadyThere))
                );
                taken.push(error);
            }
        }
    }
    assert_eq!(got.len(), 1);
    let (query, found) = (Query::tag("email:a@b"), got[0]);
    assert_eq!(taken, vec![ExecuteError::Taken { query, found }; 19]);
    let decided = Decided::fact(joined("c@d")).expecting_none(Query::tag("email:c@d"));
    probe.store().decide(&Records(decided)).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_an_aggregate_can_be_demanded_to_be_new_or_to_be_there() {
    let probe = Probe::default();
    let store = probe.store();
    store.aggregate::<Purse>().execute("1", Do::Put(1)).await.unwrap();
    let demands =
        |id, expected| Records(Decided::fact(joined("a@b")).expecting_of::<Purse>(id, expected));
    for (id, expected, mismatch) in [
        ("1", Expected::Absent, Mismatch::AlreadyThere),
        ("1", Expected::Exact(Version::ABSENT), Mismatch::AlreadyThere),
        ("1", Expected::Exact(Version(2)), Mismatch::Missing),
        ("2", Expected::Exists, Mismatch::Missing),
    ] {
        let error = store.decide(&demands(id, expected)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.mismatch()),
            (Kind::Conflict, Some(mismatch)),
            "{id} {expected:?}: {error}"
        );
    }
    for (id, expected) in
        [("1", Expected::Exact(Version(1))), ("1", Expected::Exists), ("2", Expected::Absent)]
    {
        store.decide(&demands(id, expected)).await.unwrap();
    }
    store.aggregate::<Purse>().execute("1", Do::Put(1)).await.unwrap();
    let error = store.decide(&demands("1", Expected::Exact(Version(1)))).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::ChangedSince));
}

#[tokio::test]
async fn what_is_demanded_counts_also_if_nothing_follows() {
    let store = Probe::default().store();
    stocked(&store, 1).await;
    let nothing = || Decided::nothing();
    let error =
        store.decide(&Records(nothing().expecting("shop-1", Expected::Absent))).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::AlreadyThere));
    let error =
        store.decide(&Records(nothing().expecting_none(Query::tag("stock")))).await.unwrap_err();
    assert_eq!(error, ExecuteError::Taken { query: Query::tag("stock"), found: Position(1) });
    let done =
        store.decide(&Records(nothing().expecting("shop-1", Expected::Exists))).await.unwrap();
    assert_eq!((done.events.len(), store.head().position), (0, Position(2)));
}

#[tokio::test]
async fn whoever_asks_can_demand_what_the_decision_does_not() {
    let store = Probe::default().store();
    stocked(&store, 2).await;
    let ask = |version| {
        store.decision(&Sell).expecting("shop-1", Expected::Exact(Version(version))).execute()
    };
    ask(2).await.unwrap();
    let error = ask(1).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::ChangedSince));
    assert!(matches!(error, ExecuteError::Unexpected { actual: Version(2), .. }), "{error}");
}

#[test]
fn a_conflict_says_whether_something_is_there_changed_or_missing() {
    let stream = |expected, actual| {
        let stream = leftfold_core::store::StreamName::new("a-1").unwrap();
        Conflict::Stream { stream, expected, actual: Version(actual) }
    };
    let matching = |after, found| Conflict::Matching {
        clause: 0,
        after: Position(after),
        found: Position(found),
    };
    for (conflict, mismatch) in [
        (stream(Expected::Absent, 3), Mismatch::AlreadyThere),
        (stream(Expected::Exact(Version(2)), 3), Mismatch::ChangedSince),
        (stream(Expected::Exact(Version(4)), 3), Mismatch::Missing),
        (stream(Expected::Exists, 0), Mismatch::Missing),
        (matching(0, 7), Mismatch::AlreadyThere),
        (matching(5, 7), Mismatch::ChangedSince),
    ] {
        assert_eq!(
            (conflict.mismatch(), conflict.kind()),
            (mismatch, Kind::Conflict),
            "{conflict}"
        );
    }
    assert_eq!(
        [6, 7, 8].map(|read| matching(0, 7).was_there_at(Position(read))),
        [Some(false), Some(true), Some(true)]
    );
    assert_eq!(stream(Expected::Absent, 3).was_there_at(Position(1)), None);
}
