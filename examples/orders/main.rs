//! A customer moves: orders that are still to be shipped to the postal address follow, shipped ones
//! and those with an address of their own do not, and the customer is told which; all of it while
//! the warehouse goes on shipping. The pattern is a cascade by a process that asks each order, and
//! lets the order decide; it gathers the answers, and a change that was not told yet shows that it
//! is under way, or was cut off and goes on when the program runs again. Leave it where an order
//! need not keep its address: let it point at the customer's, and read that when it is shipped.

mod customer;
mod moving;
mod order;
mod views;

use std::error::Error;
use std::time::Duration;

use customer::{Customer, CustomerCommand, CustomerEvent, Letter};
use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use moving::Moving;
use order::{Address, Basket, Line, Order, OrderCommand, orders_of};
use views::{DailyReport, Days, Details, List, OrderInFull, OrderList};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    match place.load() {
        None => story(&store).await?,
        Some(customers) => load(&store, customers).await?,
    }
    store.close().await?;
    Ok(())
}

fn basket(customer: &str, address: Address, item: &str, pieces: u32) -> Basket {
    let lines = vec![Line { item: item.into(), pieces, cents: 1_250, tax_percent: 10 }];
    Basket { customer: customer.into(), address, lines, shipping_cents: 490 }
}

fn customers(postal: &str, change: u32) -> Address {
    Address::Customers { postal: postal.into(), change }
}

fn own(postal: &str) -> Address {
    Address::Own { postal: postal.into() }
}

fn moves(postal: &str) -> CustomerCommand {
    CustomerCommand::ChangeAddress { postal: postal.into() }
}

/// Waits for the letter that a customer gets about a change, after a position.
async fn told(
    store: &Store,
    customer: &str,
    of: u32,
    after: Position,
) -> Result<Letter, Box<dyn Error>> {
    let mut news = store.follow::<CustomerEvent>(after)?;
    loop {
        let news = news.next().await?;
        match &news.event {
            CustomerEvent::Told { change, letter }
                if *change == of && news.stream_id() == customer =>
            {
                return Ok(letter.clone());
            }
            _ => {}
        }
    }
}

async fn story(store: &Store) -> Result<(), Box<dyn Error>> {
    let (people, orders) = (store.aggregate::<Customer>(), store.aggregate::<Order>());
    let (list, details, days) =
        (Memory::<List>::new(), Memory::<Details>::new(), Memory::<Days>::new());
    let runtime = Runtime::new(store)
        .process::<Moving>()
        .project(OrderList, list.clone())
        .project(OrderInFull, details.clone())
        .project(DailyReport, days.clone());
    let runtime = runtime.start().await?;

    people.execute("ann", moves("1 Old Street")).await?;
    for (id, address, item) in [
        ("tea", customers("1 Old Street", 1), "tea"),
        ("cups", customers("1 Old Street", 1), "cups"),
        ("gift", own("7 Friend's Lane"), "a book"),
    ] {
        orders.execute(id, OrderCommand::Place(basket("ann", address, item, 2))).await?;
    }
    orders.execute("cups", OrderCommand::Ship).await?;
    println!("ann has the orders {:?}; the cups are shipped", orders_of(store, "ann").await?);

    let moved = people.execute("ann", moves("2 New Road")).await?;
    let Letter { followed, kept } = told(store, "ann", 2, moved.position).await?;
    println!("ann moves to 2 New Road, and is told:\n    these follow: {followed:?}");
    kept.iter().for_each(|(order, why)| println!("    {order} does not: {why}"));
    println!("the tea goes to {} now", orders.load("tea").await?.state.postal());

    let late = basket("ann", customers("1 Old Street", 1), "sugar", 1);
    let late = orders.execute("sugar", OrderCommand::Place(late)).await?;
    println!(
        "sugar, ordered for the old address from an old page: {:?}",
        told(store, "ann", 2, late.position).await?.followed
    );

    let end = store.head().position;
    for name in [OrderList::NAME, OrderInFull::NAME, DailyReport::NAME] {
        runtime.projections().wait_until(name, end, Duration::from_secs(60)).await?;
    }
    println!("three read models of this history, in cents\nthe list:");
    for (order, views::Listed { customer, amounts, total_cents }) in list.read(Clone::clone).await {
        let order::Amounts { goods_cents, shipping_cents, tax_cents } = amounts;
        println!(
            "    {order} of {customer}: {goods_cents} + {shipping_cents} shipping + {tax_cents} taxes = {total_cents}"
        );
    }
    let views::InFull { lines, amounts, state, history, .. } =
        details.read(|all| all["tea"].clone()).await;
    println!("the tea in full, {state}, {} in all:", amounts.total_cents());
    for Line { item, pieces, cents, tax_percent } in lines {
        println!("    {pieces} pieces of {item} at {cents}, {tax_percent}% taxes");
    }
    history.iter().for_each(|happened| println!("    {happened}"));
    println!("the report:");
    for (day, views::Day { placed, shipped, amounts }) in days.read(Clone::clone).await {
        println!(
            "    {day}: {placed} placed, worth {}, and {shipped} shipped",
            amounts.total_cents()
        );
    }
    runtime.stop().await?;
    Ok(())
}

/// Customers who move while their orders are being shipped. Can be killed and started again: every
/// request has an id.
async fn load(store: &Store, customers_max: u32) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new(store).process::<Moving>().start().await?;
    let (people, orders) = (store.aggregate::<Customer>(), store.aggregate::<Order>());
    for number in 0..customers_max {
        let customer = number.to_string();
        let id = |what: &str| format!("{number} {what}");
        people
            .command(&customer, moves("old"))
            .id("orders", &id("old"))
            .without_request_check()
            .execute()
            .await?;
        for (order, address) in
            [("a", customers("old", 1)), ("b", customers("old", 1)), ("own", own("own"))]
        {
            let (order, place) = (
                format!("{number}.{order}"),
                OrderCommand::Place(basket(&customer, address, "tea", 1)),
            );
            orders
                .command(&order, place)
                .id("orders", &id(&order))
                .without_request_check()
                .execute()
                .await?;
        }
        let (racing, order, ship_id) = (orders.clone(), format!("{number}.b"), id("ship"));
        let shipping = tokio::spawn(async move {
            racing
                .command(&order, OrderCommand::Ship)
                .id("orders", &ship_id)
                .without_request_check()
                .execute()
                .await
        });
        let moved = people
            .command(&customer, moves("new"))
            .id("orders", &id("new"))
            .without_request_check()
            .execute()
            .await?;
        println!("customer {number}: {:?}", told(store, &customer, 2, moved.position).await?);
        shipping.await??;
    }
    runtime.stop().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::explorer::{Explorer, Schedules};
    use leftfold::testing::given;
    use order::{OrderEvent, OrderRefusal};
    use std::collections::BTreeMap;

    async fn run_until_idle(store: &Store) {
        Runtime::new(store).process::<Moving>().run_until_idle().await.unwrap();
    }

    async fn letters(store: &Store, customer: &str) -> Vec<(u32, Letter)> {
        let history = store
            .aggregate::<Customer>()
            .history(customer, Version(1))
            .unwrap()
            .all()
            .await
            .unwrap();
        let letter = |event| match event {
            CustomerEvent::Told { change, letter } => Some((change, letter)),
            CustomerEvent::AddressChanged { .. } => None,
        };
        history.into_iter().filter_map(|recorded| letter(recorded.event)).collect()
    }

    /// Sets ann up: an order for her address, one with an address of its own, and a shipped one.
    async fn ann(store: &Store) {
        let (people, orders) = (store.aggregate::<Customer>(), store.aggregate::<Order>());
        people.execute("ann", moves("old")).await.unwrap();
        run_until_idle(store).await;
        for (id, address) in
            [("tea", customers("old", 1)), ("gift", own("own")), ("cups", customers("old", 1))]
        {
            orders.execute(id, OrderCommand::Place(basket("ann", address, id, 1))).await.unwrap();
        }
        orders.execute("cups", OrderCommand::Ship).await.unwrap();
    }

    #[tokio::test]
    async fn received_orders_follow_and_the_customer_is_told_which_do_not_and_why() {
        for store in examples::stores().await {
            ann(&store).await;
            store.aggregate::<Customer>().execute("ann", moves("new")).await.unwrap();
            run_until_idle(&store).await;
            let kept = [
                ("cups", OrderRefusal::Shipped { to: "old".into() }),
                ("gift", OrderRefusal::OwnAddress { postal: "own".into() }),
            ];
            let kept = kept.map(|(order, why)| (order.to_owned(), why.to_string())).into();
            let letter = Letter { followed: ["tea".to_owned()].into(), kept };
            assert_eq!(letters(&store, "ann").await, [(1, Letter::default()), (2, letter)]);
            let orders = store.aggregate::<Order>();
            for (order, postal) in [("tea", "new"), ("cups", "old"), ("gift", "own")] {
                assert_eq!(orders.load(order).await.unwrap().state.postal(), postal);
            }
        }
    }

    #[tokio::test]
    async fn an_order_placed_for_the_old_address_while_the_customer_moves_follows_too() {
        for store in examples::stores().await {
            ann(&store).await;
            let (people, orders) = (store.aggregate::<Customer>(), store.aggregate::<Order>());
            people.execute("ann", moves("new")).await.unwrap();
            orders
                .execute("late", OrderCommand::Place(basket("ann", customers("old", 1), "late", 1)))
                .await
                .unwrap();
            run_until_idle(&store).await;
            assert_eq!(orders.load("late").await.unwrap().state.postal(), "new");
            assert_eq!(
                letters(&store, "ann").await.last().unwrap().1.followed,
                ["late", "tea"].map(str::to_owned).into()
            );
        }
    }

    #[tokio::test]
    async fn of_two_moves_in_quick_succession_both_are_told_and_the_last_one_stands() {
        for store in examples::stores().await {
            ann(&store).await;
            for postal in ["new", "newer"] {
                store.aggregate::<Customer>().execute("ann", moves(postal)).await.unwrap();
            }
            run_until_idle(&store).await;
            assert_eq!(
                store.aggregate::<Order>().load("tea").await.unwrap().state.postal(),
                "newer"
            );
            let told: Vec<u32> =
                letters(&store, "ann").await.into_iter().map(|(change, _)| change).collect();
            assert_eq!(told, [1, 2, 3]);
        }
    }

    #[tokio::test]
    async fn a_cascade_that_was_cut_off_can_be_seen_and_goes_on() {
        for store in examples::stores().await {
            ann(&store).await;
            let people = store.aggregate::<Customer>();
            people.execute("ann", moves("new")).await.unwrap();
            let customer = people.load("ann").await.unwrap().state;
            assert_eq!(
                (customer.change, customer.told),
                (2, 1),
                "the change is there, and not told"
            );
            run_until_idle(&store).await;
            let customer = people.load("ann").await.unwrap().state;
            assert_eq!((customer.change, customer.told), (2, 2));
        }
    }

    /// Every order went where the customer was told that it goes.
    async fn letters_are_true(store: &Store, customer: &str) -> (usize, usize) {
        let letters = letters(store, customer).await;
        assert_eq!(
            letters.iter().map(|(change, _)| *change).collect::<Vec<_>>(),
            [1, 2],
            "each change is told once"
        );
        let (_, letter) = letters.last().unwrap();
        assert_eq!(
            letter.followed.len() + letter.kept.len(),
            orders_of(store, customer).await.unwrap().len()
        );
        for id in orders_of(store, customer).await.unwrap() {
            let order = store.aggregate::<Order>().load(&id).await.unwrap().state;
            assert_eq!(letter.followed.contains(&id), order.postal() == "new", "{id}");
            assert_eq!(
                order.shipped_to.is_none_or(|to| to == "new"),
                order_follows_or_waits(letter, &id),
                "{id}"
            );
        }
        (letter.followed.len(), letter.kept.len())
    }

    fn order_follows_or_waits(letter: &Letter, id: &str) -> bool {
        letter.followed.contains(id) || id.ends_with("own")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn shipping_races_the_cascade_and_the_customer_is_told_the_truth() {
        const CUSTOMERS: u32 = 100;
        for store in examples::stores().await {
            load(&store, CUSTOMERS).await.unwrap();
            let mut outcomes: BTreeMap<(usize, usize), u32> = BTreeMap::new();
            for customer in 0..CUSTOMERS {
                *outcomes
                    .entry(letters_are_true(&store, &customer.to_string()).await)
                    .or_default() += 1;
            }
            println!("followed and kept: {outcomes:?}");
        }
    }

    // ANCHOR: explored
    #[test]
    fn no_crash_and_no_order_of_things_makes_a_letter_untrue() {
        let received = |address: Address| {
            OrderEvent::Placed(basket("ann", address, "tea", 1).placed().unwrap())
        };
        Explorer::new()
            .aggregate::<Order>()
            .aggregate::<Customer>()
            .process::<Moving>()
            .start(|clients| {
                let old = CustomerEvent::AddressChanged { postal: "old".into(), change: 1 };
                clients.given::<Customer>(
                    "ann",
                    [old, CustomerEvent::Told { change: 1, letter: Letter::default() }],
                );
                clients.given::<Order>("tea", [received(customers("old", 1))]);
                clients.given::<Order>("gift", [received(own("own"))]);
                clients.client("ann").command::<Customer>("ann", moves("new"));
                clients.client("warehouse").command::<Order>("tea", OrderCommand::Ship);
                let late = OrderCommand::Place(basket("ann", customers("old", 1), "late", 1));
                clients.client("an old page").command::<Order>("late", late);
            })
            .finally("the letters say where each order went", |world| {
                let mut told: BTreeMap<String, &str> = BTreeMap::new();
                let letters = world.events_of::<CustomerEvent>();
                for letter in letters.iter().filter_map(|event| match event {
                    CustomerEvent::Told { change: 2, letter } => Some(letter),
                    _ => None,
                }) {
                    told.extend(letter.followed.iter().map(|order| (order.clone(), "new")));
                    told.extend(
                        letter.kept.keys().map(|order| {
                            (order.clone(), if order == "gift" { "own" } else { "old" })
                        }),
                    );
                }
                let late = ("late".to_owned(), "new");
                let is_told = |(id, order): (&str, &Order)| told.get(id) == Some(&order.postal());
                match world.aggregates::<Order>().all(is_told) {
                    true if told.contains_key("late") || world.state::<Order>("late").is_none() => {
                        Ok(())
                    }
                    _ => Err(format!("{told:?} without {late:?}")),
                }
            })
            .finally("the change is told", |world| {
                world.states::<Customer>().all(|customer| customer.told == customer.change)
            })
            .run(Schedules(300));
    }
    // ANCHOR_END: explored

    #[tokio::test]
    async fn a_crash_between_the_two_transactions_is_healed_wherever_it_comes() {
        const CUSTOMERS: u32 = 60;
        let place = examples::killed("orders", CUSTOMERS);
        let store = leftfold::open(place.path()).await.unwrap();
        for customer in 0..CUSTOMERS {
            letters_are_true(&store, &customer.to_string()).await;
        }
    }

    #[test]
    fn who_ships_first_decides_where_an_order_goes() {
        let received =
            OrderEvent::Placed(basket("ann", customers("old", 1), "tea", 1).placed().unwrap());
        let follow = || OrderCommand::Follow { postal: "new".into(), change: 2 };
        let followed =
            OrderEvent::AddressFollowed { customer: "ann".into(), postal: "new".into(), change: 2 };
        let shipped = |to: &str| OrderEvent::Shipped { customer: "ann".into(), to: to.into() };
        given::<Order>([received.clone()]).when(OrderCommand::Ship).then([shipped("old")]);
        given::<Order>([received.clone(), followed])
            .when(OrderCommand::Ship)
            .then([shipped("new")]);
        given::<Order>([received, shipped("old")])
            .when(follow())
            .then_refused(OrderRefusal::Shipped { to: "old".into() });
    }

    #[tokio::test]
    async fn the_three_read_models_tell_one_history() {
        for store in examples::stores().await {
            ann(&store).await;
            let (list, details, days) =
                (Memory::<List>::new(), Memory::<Details>::new(), Memory::<Days>::new());
            let runtime = Runtime::new(&store).process::<Moving>().project(OrderList, list.clone());
            let runtime =
                runtime.project(OrderInFull, details.clone()).project(DailyReport, days.clone());
            store.aggregate::<Customer>().execute("ann", moves("new")).await.unwrap();
            runtime.run_until_idle().await.unwrap();
            // 10% of 12.50 and 20% of 4.90.
            let amounts =
                order::Amounts { goods_cents: 1_250, shipping_cents: 490, tax_cents: 125 + 98 };
            let tea = list.read(|list| list["tea"].clone()).await;
            assert_eq!(tea, views::Listed { customer: "ann".into(), amounts, total_cents: 1_963 });
            let tea = details.read(|details| details["tea"].clone()).await;
            assert_eq!((tea.state, tea.postal.as_str(), tea.amounts), ("RECEIVED", "new", amounts));
            assert_eq!(tea.history, ["placed, to old", "goes to new now"]);
            let days = days.read(Clone::clone).await;
            let sum = |of: fn(&views::Day) -> u64| days.values().map(of).sum::<u64>();
            assert_eq!((sum(|day| day.placed.into()), sum(|day| day.shipped.into())), (3, 1));
            assert_eq!(sum(|day| day.amounts.total_cents()), 3 * 1_963);
        }
    }

    #[tokio::test]
    async fn orders_are_found_by_the_customers_id_at_once_and_no_others() {
        for store in examples::stores().await {
            ann(&store).await;
            let bobs = OrderCommand::Place(basket("bob", own("own"), "tea", 1));
            store.aggregate::<Order>().execute("bobs", bobs).await.unwrap();
            assert_eq!(orders_of(&store, "ann").await.unwrap(), ["tea", "gift", "cups"]);
            assert_eq!(orders_of(&store, "bob").await.unwrap(), ["bobs"]);
            assert_eq!(orders_of(&store, "cid").await.unwrap(), [] as [String; 0]);
        }
    }
}
