//! A shop keeps what it has of each article, what of it is promised to orders, and promises no more
//! than is there. The pattern is optimistic concurrency: who orders is answered from the newest
//! state, and where somebody else was faster the order is decided again, so two people can never
//! both get the last piece. Leave it where selling more than there is costs nothing, as with
//! downloads: count sales in a projection instead.

use std::collections::BTreeMap;
use std::error::Error;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum StockEvent {
    Added {
        pieces: u64,
    },
    Reserved {
        order: String,
        pieces: u64,
    },
    Released {
        order: String,
    },
    Shipped {
        order: String,
    },
    /// Somebody counted the shelf: a fact, whatever the books say.
    Counted {
        pieces: u64,
    },
}

impl Event for StockEvent {
    const NAMESPACE: &'static str = "stock";
}

#[derive(Clone, Debug)]
enum Move {
    Add { pieces: u64 },
    Reserve { order: String, pieces: u64 },
    Release { order: String },
    Ship { order: String },
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum StockRefusal {
    #[error("{wanted} wanted, {available} available")]
    NotEnough { wanted: u64, available: u64 },
    #[error("the order has no reservation")]
    NotReserved,
    #[error("the order has its reservation already")]
    ReservedAlready,
    #[error("more is promised than is there, by {pieces}: somebody has to look")]
    Overpromised { pieces: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stock {
    on_hand: u64,
    reserved: BTreeMap<String, u64>,
}

// ANCHOR: stock
impl Stock {
    fn promised(&self) -> u64 {
        self.reserved.values().fold(0, |sum, pieces| sum.saturating_add(*pieces))
    }

    fn available(&self) -> u64 {
        self.on_hand.saturating_sub(self.promised())
    }

    /// Returns how much more is promised than there is: no command leads there, but the real world
    /// does.
    fn overpromised(&self) -> u64 {
        self.promised().saturating_sub(self.on_hand)
    }
}
// ANCHOR_END: stock

// ANCHOR: aggregate
impl Aggregate for Stock {
    const CATEGORY: &'static str = "stock";
    type Event = StockEvent;
    type Command = Move;
    type Refusal = StockRefusal;

    /// Takes every history, an impossible one too: what is wrong with it is said by `overpromised`.
    fn apply(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Added { pieces } => self.on_hand = self.on_hand.saturating_add(*pieces),
            StockEvent::Reserved { order, pieces } => {
                _ = self.reserved.insert(order.clone(), *pieces)
            }
            StockEvent::Released { order } => _ = self.reserved.remove(order),
            StockEvent::Shipped { order } => {
                let pieces = self.reserved.remove(order).unwrap_or_default();
                self.on_hand = self.on_hand.saturating_sub(pieces);
            }
            StockEvent::Counted { pieces } => self.on_hand = *pieces,
        }
    }

    fn decide(&self, command: &Move) -> Result<Vec<StockEvent>, StockRefusal> {
        let event = match command.clone() {
            Move::Add { pieces } => StockEvent::Added { pieces },
            Move::Reserve { order, .. } if self.reserved.contains_key(&order) => {
                return Err(StockRefusal::ReservedAlready);
            }
            Move::Reserve { pieces: wanted, .. } if wanted > self.available() => {
                return Err(StockRefusal::NotEnough { wanted, available: self.available() });
            }
            Move::Reserve { order, pieces } => StockEvent::Reserved { order, pieces },
            Move::Release { order } | Move::Ship { order }
                if !self.reserved.contains_key(&order) =>
            {
                return Err(StockRefusal::NotReserved);
            }
            Move::Release { order } => StockEvent::Released { order },
            Move::Ship { .. } if self.overpromised() > 0 => {
                return Err(StockRefusal::Overpromised { pieces: self.overpromised() });
            }
            Move::Ship { order } => StockEvent::Shipped { order },
        };
        Ok(vec![event])
    }
}
// ANCHOR_END: aggregate

fn reserve(order: &str, pieces: u64) -> Move {
    Move::Reserve { order: order.into(), pieces }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let stock = store.aggregate::<Stock>();

    let seen = stock.execute("apples", Move::Add { pieces: 5 }).await?.version;
    println!("five more apples, which is version {seen}");
    let (a, b) = tokio::join!(
        stock.execute("apples", reserve("A", 3)),
        stock.execute("apples", reserve("B", 4))
    );
    for (who, answer) in [("A orders 3", a), ("B orders 4", b)] {
        match answer {
            Ok(_) => println!("{who}: reserved"),
            Err(ExecuteError::Refused(no)) => println!("{who}: {no}"),
            Err(other) => return Err(other.into()),
        }
    }

    // C looked before A and B ordered, and wants to know if anything happened since.
    match stock.command("apples", reserve("C", 1)).expecting(seen).execute().await {
        Err(ExecuteError::Stale { actual, since, .. }) => {
            println!("C saw version {seen}, it is {actual} now, and in between:");
            for event in since {
                println!("    {:?}", stock.decode(&event)?);
            }
        }
        other => println!("C orders 1: {:?}", other?.events),
    }

    stock.record("apples", &[StockEvent::Counted { pieces: 2 }]).await?;
    let now = stock.load("apples").await?.state;
    println!(
        "counted: {} there, {} promised, {} too many",
        now.on_hand,
        now.promised(),
        now.overpromised()
    );
    if let Err(ExecuteError::Refused(no)) =
        stock.execute("apples", Move::Ship { order: "A".into() }).await
    {
        println!("A is not shipped: {no}");
    }
    stock.execute("apples", Move::Release { order: "A".into() }).await?;
    println!(
        "A waits for the next delivery: {} available",
        stock.load("apples").await?.state.available()
    );
    store.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use StockEvent::*;
    use leftfold::testing::explorer::{Explorer, Schedules};
    use leftfold::testing::given;

    fn reserved(order: &str, pieces: u64) -> StockEvent {
        Reserved { order: order.into(), pieces }
    }

    fn ship(order: &str) -> Move {
        Move::Ship { order: order.into() }
    }

    #[test]
    fn no_more_is_reserved_than_is_available() {
        let enough = [Added { pieces: 5 }, reserved("A", 3)];
        given::<Stock>(enough.clone()).when(reserve("B", 2)).then([reserved("B", 2)]);
        let too_few = StockRefusal::NotEnough { wanted: 4, available: 2 };
        given::<Stock>(enough.clone()).when(reserve("B", 4)).then_refused(too_few);
        let released = enough.into_iter().chain([Released { order: "A".into() }]);
        given::<Stock>(released).when(reserve("B", 4)).then([reserved("B", 4)]);
    }

    #[test]
    fn an_order_reserves_once_and_ships_once() {
        let one = [Added { pieces: 5 }, reserved("A", 3)];
        given::<Stock>(one.clone())
            .when(reserve("A", 1))
            .then_refused(StockRefusal::ReservedAlready);
        given::<Stock>(one.clone()).when(ship("A")).then([Shipped { order: "A".into() }]);
        let shipped = one.into_iter().chain([Shipped { order: "A".into() }]);
        given::<Stock>(shipped.clone()).when(ship("A")).then_refused(StockRefusal::NotReserved);
        assert_eq!(given::<Stock>(shipped).state().available(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_orders_at_the_same_moment_one_wins_and_the_other_is_refused() {
        for store in examples::stores().await {
            let stock = store.aggregate::<Stock>();
            stock.execute("apples", Move::Add { pieces: 5 }).await.unwrap();
            let order = |order: &'static str, pieces| {
                let stock = stock.clone();
                tokio::spawn(async move { stock.execute("apples", reserve(order, pieces)).await })
            };
            let (a, b) = (order("A", 3), order("B", 4));
            match (a.await.unwrap(), b.await.unwrap()) {
                (Ok(_), Err(b)) => assert_eq!(
                    b,
                    ExecuteError::Refused(StockRefusal::NotEnough { wanted: 4, available: 2 })
                ),
                (Err(a), Ok(_)) => assert_eq!(
                    a,
                    ExecuteError::Refused(StockRefusal::NotEnough { wanted: 3, available: 1 })
                ),
                both => panic!("{both:?}"),
            }
        }
    }

    #[test]
    fn no_crash_and_no_order_of_orders_promises_more_than_there_is() {
        Explorer::new()
            .aggregate::<Stock>()
            .start(|clients| {
                clients.given::<Stock>("apples", [Added { pieces: 5 }]);
                clients
                    .client("A")
                    .command::<Stock>("apples", reserve("A", 3))
                    .command::<Stock>("apples", ship("A"));
                let b = clients.client("B").command::<Stock>("apples", reserve("B", 4));
                b.command::<Stock>("apples", Move::Release { order: "B".into() });
                clients.client("C").command::<Stock>("apples", reserve("C", 2));
            })
            .always("no more is promised than is there", |world| {
                world.states::<Stock>().all(|stock| stock.overpromised() == 0)
            })
            .finally("what is not shipped or promised is there", |world| {
                let shipped =
                    if world.events_of::<StockEvent>().contains(&Shipped { order: "A".into() }) {
                        3
                    } else {
                        0
                    };
                world
                    .states::<Stock>()
                    .all(|stock| stock.available() + stock.promised() + shipped == 5)
            })
            .run(Schedules(200));
    }

    #[tokio::test]
    async fn who_decided_on_a_state_that_is_no_longer_is_decided_anew() {
        for store in examples::stores().await {
            let stock = store.aggregate::<Stock>();
            stock.execute("apples", Move::Add { pieces: 5 }).await.unwrap();
            // As if from another process: the state in memory still has five.
            stock.record("apples", &[reserved("B", 4)]).await.unwrap();
            let refused = stock.execute("apples", reserve("A", 3)).await.unwrap_err();
            assert_eq!(
                refused,
                ExecuteError::Refused(StockRefusal::NotEnough { wanted: 3, available: 1 })
            );
            assert_eq!(stock.execute("apples", reserve("A", 1)).await.unwrap().version, Version(3));
        }
    }

    // ANCHOR: stale
    #[tokio::test]
    async fn who_states_a_version_that_is_no_longer_gets_what_came_since() {
        for store in examples::stores().await {
            let stock = store.aggregate::<Stock>();
            let seen = stock.execute("apples", Move::Add { pieces: 5 }).await.unwrap().version;
            stock.execute("apples", reserve("A", 3)).await.unwrap();
            let answer = stock.command("apples", reserve("B", 2)).expecting(seen).execute().await;
            let Err(ExecuteError::Stale { expected, actual, since }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((expected, actual), (Version(1), Version(2)));
            assert_eq!(stock.decode(&since[0]), Ok(vec![reserved("A", 3)]));
            stock.command("apples", reserve("B", 2)).expecting(actual).execute().await.unwrap();
        }
    }
    // ANCHOR_END: stale

    #[test]
    fn a_state_that_history_made_impossible_is_flagged_and_nothing_panics() {
        let impossible =
            [Added { pieces: 5 }, reserved("A", 4), reserved("B", u64::MAX), Counted { pieces: 3 }];
        let stock = given::<Stock>(impossible.clone()).state().clone();
        assert_eq!((stock.available(), stock.overpromised()), (0, u64::MAX - 3));
        given::<Stock>(impossible.clone())
            .when(reserve("C", 1))
            .then_refused(StockRefusal::NotEnough { wanted: 1, available: 0 });
        given::<Stock>(impossible.clone())
            .when(ship("A"))
            .then_refused(StockRefusal::Overpromised { pieces: u64::MAX - 3 });
        let fixed =
            impossible.into_iter().chain([Released { order: "B".into() }, Added { pieces: 1 }]);
        given::<Stock>(fixed).when(ship("A")).then([Shipped { order: "A".into() }]);
    }
}
