//! What was written before: old events, long histories, and a list in two versions.

use std::cell::Cell;

use leftfold::fold::Schema;
use leftfold::sqlite::Sqlite;
use leftfold::sqlite::rusqlite::Connection;
use leftfold::store::Append;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::*;
use crate::list::{OrderList, page};
use crate::order::Order;
use crate::product::{Product, ProductCommand, ProductEvent};
use crate::refusal::Refusal;

/// As the shop wrote it in its first year.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum FirstOrderEvent {
    Placed { customer: String, product: String, cents: u64 },
}

impl Event for FirstOrderEvent {
    const NAMESPACE: &'static str = "order";
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_the_first_year_is_for_one_piece_wherever_it_is_read() {
    for store in examples::stores().await {
        let placed =
            FirstOrderEvent::Placed { customer: "ada".into(), product: "mug".into(), cents: 300 };
        let stream = StreamName::of("order", "1").unwrap();
        let event =
            Schema::of::<FirstOrderEvent>().unwrap().encode(&placed).unwrap().in_stream(stream);
        store.append(Append::of(vec![event])).await.unwrap();

        let street = Street::open(store).await;
        assert_eq!(street.get("/orders/1").await.json().unwrap()["pieces"], 1);
        let list = street
            .get(&format!("/orders?customer=ada&at={}", street.store.head().position))
            .await
            .json()
            .unwrap();
        assert_eq!(list["orders"][0]["pieces"], 1);
        let (_, told) = Feed::open(&street.shop, "0").await.unwrap().next().await.unwrap();
        assert_eq!(told["what"]["order.Placed"]["pieces"], 1);
        assert_eq!(street.pay("1").await.status, 202);
        street.until("1", "order.Paid").await;
        street.running.stop().await.unwrap();
    }
}

/// Version 2 of the list, that waits for a sign before it takes anything.
struct Held(watch::Receiver<bool>);

impl Projection<Sqlite> for Held {
    const NAME: &'static str = <OrderList<2> as Projection<Sqlite>>::NAME;
    const VERSION: u32 = 2;
    type Event = OrderEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        OrderList::<2>.set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        _ = self.0.clone().wait_for(|go| *go).await;
        OrderList::<2>.apply(rows, event).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_list_serves_and_goes_on_while_the_new_one_is_built_and_both_say_the_same() {
    for store in examples::stores().await {
        let place = tempfile::tempdir().unwrap();
        let rows = Sqlite::at(place.path());
        let list = rows.reader::<OrderList<1>>();
        let orders = store.aggregate::<Order>();
        let place_order = async |id: &str| {
            orders.record(id, &[placed(), cancelled()]).await.unwrap();
            store.head().position
        };
        place_order("1").await;
        Runtime::new(&store).project(OrderList::<1>, rows.clone()).run_until_idle().await.unwrap();

        let (go, going) = watch::channel(false);
        let runtime = Runtime::new(&store)
            .project(OrderList::<1>, rows.clone())
            .project(Held(going), rows.clone());
        let running = runtime.start().await.unwrap();
        let written = place_order("2").await;
        running.projections().wait_until("orders", written, SOON).await.unwrap();
        let old = page(&list, "ada", Position::START, 10).unwrap();
        assert_eq!((list.version().unwrap(), old.len(), old[1].cents), (1, 2, None));

        let mut changes = running.projections().changes("orders").unwrap();
        go.send_replace(true);
        timeout(SOON, async { while changes.next().await.is_ok() {} }).await.unwrap();
        running.projections().wait_until("orders", written, SOON).await.unwrap();
        let new = page(&list, "ada", Position::START, 10).unwrap();
        assert_eq!((list.version().unwrap(), new[1].cents), (2, Some(600)));
        let without_cents: Vec<_> =
            new.into_iter().map(|order| crate::list::Listed { cents: None, ..order }).collect();
        assert_eq!(without_cents, old);
        assert_eq!(page(&list.of_version(1), "ada", Position::START, 10).unwrap(), old);
        running.stop().await.unwrap();
    }
}

thread_local! {
    static APPLIED: Cell<u64> = const { Cell::new(0) };
}

/// The same product, that counts the events it folds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted(Product);

impl Aggregate for Counted {
    const CATEGORY: &'static str = Product::CATEGORY;
    const FOLD_VERSION: u32 = Product::FOLD_VERSION;
    type Event = ProductEvent;
    type Command = ProductCommand;
    type Refusal = Refusal;

    fn apply(&mut self, event: &ProductEvent) {
        APPLIED.set(APPLIED.get() + 1);
        self.0.apply(event);
    }

    fn decide(&self, command: &ProductCommand) -> Result<Vec<ProductEvent>, Refusal> {
        self.0.decide(command)
    }

    fn snapshots() -> SnapshotPolicy {
        Product::snapshots()
    }
}

/// After a start the first snapshots of a type are compared with a fold of all events; then they
/// are believed, all but a few.
#[tokio::test]
async fn a_product_with_a_long_history_is_loaded_from_its_snapshot() {
    const PRODUCTS: u64 = 24;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store").to_str().unwrap().to_owned();
    let store = leftfold::open(&path).await.unwrap();
    let products = store.aggregate::<Counted>();
    for id in (0..PRODUCTS).map(|id| id.to_string()) {
        products
            .execute(&id, ProductCommand::List { name: "a mug".into(), cents: 300 })
            .await
            .unwrap();
        products
            .commands(&id, vec![ProductCommand::Deliver { pieces: 1 }; 119])
            .execute()
            .await
            .unwrap();
        products
            .commands(&id, vec![ProductCommand::Deliver { pieces: 1 }; 5])
            .execute()
            .await
            .unwrap();
    }
    store.close().await.unwrap();
    drop((products, store));

    let store = leftfold::open(&path).await.unwrap();
    let mut from_snapshots = 0;
    for id in (0..PRODUCTS).map(|id| id.to_string()) {
        let before = APPLIED.get();
        let loaded = store.aggregate::<Counted>().load(&id).await.unwrap();
        assert_eq!((loaded.version, loaded.state.0.free), (Version(125), 124));
        from_snapshots += u64::from(APPLIED.get() - before == 5);
    }
    assert!(
        from_snapshots >= PRODUCTS / 3,
        "{from_snapshots} of {PRODUCTS} were loaded from their snapshots"
    );
    store.close().await.unwrap();
}
