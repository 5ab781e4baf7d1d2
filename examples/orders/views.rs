//! Three read models of one history, each with no more than its readers need.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;

use crate::order::{Amounts, Line, OrderEvent};

/// The list: one line for each order, with total, shipping and taxes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Listed {
    pub(crate) customer: String,
    pub(crate) amounts: Amounts,
    pub(crate) total_cents: u64,
}

pub(crate) type List = BTreeMap<String, Listed>;

pub(crate) struct OrderList;

impl Projection<Memory<List>> for OrderList {
    const NAME: &'static str = "order_list";
    type Event = OrderEvent;

    async fn apply(
        &self,
        list: &mut List,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        if let OrderEvent::Placed(placed) = &event.event {
            let (customer, amounts) = (placed.customer.clone(), placed.amounts);
            let line = Listed { customer, amounts, total_cents: amounts.total_cents() };
            list.insert(event.stream_id().to_owned(), line);
        }
        Ok(())
    }
}

/// One order in full: its lines, where it goes to or went to, and all that happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InFull {
    pub(crate) lines: Vec<Line>,
    pub(crate) amounts: Amounts,
    pub(crate) postal: String,
    pub(crate) state: &'static str,
    pub(crate) history: Vec<String>,
}

pub(crate) type Details = BTreeMap<String, InFull>;

pub(crate) struct OrderInFull;

impl Projection<Memory<Details>> for OrderInFull {
    const NAME: &'static str = "order_in_full";
    type Event = OrderEvent;

    async fn apply(
        &self,
        details: &mut Details,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        let order = details.entry(event.stream_id().to_owned()).or_default();
        let happened = match &event.event {
            OrderEvent::Placed(placed) => {
                order.lines.clone_from(&placed.lines);
                order.amounts = placed.amounts;
                placed.address.postal().clone_into(&mut order.postal);
                order.state = "RECEIVED";
                format!("placed, to {}", order.postal)
            }
            OrderEvent::AddressFollowed { postal, .. } => {
                order.postal.clone_from(postal);
                format!("goes to {postal} now")
            }
            OrderEvent::Shipped { to, .. } => {
                order.state = "SHIPPED";
                format!("shipped to {to}")
            }
        };
        order.history.push(happened);
        Ok(())
    }
}

/// The report: orders that came in and went out on each day (UTC), and the amounts of those that
/// came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Day {
    pub(crate) placed: u32,
    pub(crate) shipped: u32,
    pub(crate) amounts: Amounts,
}

pub(crate) type Days = BTreeMap<String, Day>;

pub(crate) struct DailyReport;

impl Projection<Memory<Days>> for DailyReport {
    const NAME: &'static str = "daily_report";
    type Event = OrderEvent;

    async fn apply(
        &self,
        days: &mut Days,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        let moment = event.recorded_at().to_string();
        let day = days.entry(moment.split('T').next().unwrap_or_default().to_owned()).or_default();
        match &event.event {
            OrderEvent::Placed(placed) => {
                day.placed += 1;
                day.amounts.add(placed.amounts);
            }
            OrderEvent::Shipped { .. } => day.shipped += 1,
            OrderEvent::AddressFollowed { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::{Customer, CustomerCommand};
    use crate::moving::Moving;
    use crate::order::{Address, Basket, Order, OrderCommand, OrderRefusal};
    use leftfold::store::{Read, RecordedEvent};
    use serde_json::Value;

    fn line(pieces: u32, cents: u32, tax_percent: u8) -> Line {
        Line { item: "tea".into(), pieces, cents, tax_percent }
    }

    fn basket(lines: Vec<Line>, shipping_cents: u32) -> Basket {
        let address = Address::Customers { postal: "old".into(), change: 1 };
        Basket { customer: "ann".into(), address, lines, shipping_cents }
    }

    fn tax(lines: &[Line], shipping_cents: u32) -> u64 {
        basket(lines.to_vec(), shipping_cents).placed().unwrap().amounts.tax_cents
    }

    #[test]
    fn taxes_are_rounded_half_a_cent_up_and_once_for_each_rate() {
        // 20% of 1.02 is 20.4 cents, of 1.03 it is 20.6; 10% of 5 cents is half a cent.
        assert_eq!(
            [tax(&[], 102), tax(&[], 103), tax(&[line(1, 5, 10)], 0), tax(&[line(1, 4, 10)], 0)],
            [20, 21, 1, 0]
        );
        // Three times 0.4 cents are 1.2 and not nothing; two rates are two roundings; the shipping
        // is among its rate.
        assert_eq!(tax(&[line(1, 4, 10), line(1, 4, 10), line(1, 4, 10)], 0), 1);
        assert_eq!(tax(&[line(1, 5, 10), line(1, 10, 5)], 0), 2);
        assert_eq!([tax(&[line(1, 1, 20)], 1), tax(&[line(1, 1, 20)], 2)], [0, 1]);
        assert_eq!(tax(&[line(7, 1_999, 0)], 0), 0);
        let too_large = basket(vec![line(u32::MAX, u32::MAX, 20); 3], 0).placed();
        assert_eq!(too_large, Err(OrderRefusal::TooLarge));
    }

    /// Reads the JSON of the log, and knows nothing of the code that it judges.
    #[derive(Debug, Default, PartialEq)]
    struct Judge {
        /// Goods, shipping, taxes and total of each order.
        list: BTreeMap<String, [u64; 4]>,
        /// State, where it goes to, and how much happened to each order.
        full: BTreeMap<String, (String, String, usize)>,
        /// Placed, shipped and total of each day.
        days: BTreeMap<String, [u64; 3]>,
    }

    impl Judge {
        fn hear(&mut self, event: &RecordedEvent) {
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            let number = |value: &Value| value.as_u64().unwrap();
            let order = event.stream.as_ref().unwrap().name.id().to_owned();
            let day = self.days.entry(event.recorded_at.to_string()[..10].to_owned()).or_default();
            let full = self.full.entry(order.clone()).or_default();
            full.2 += 1;
            match &*event.event_type {
                "order.Placed" => {
                    let shipping = number(&data["amounts"]["shipping_cents"]);
                    let mut rates: BTreeMap<u64, u64> = BTreeMap::from([(20, shipping)]);
                    let mut goods = 0;
                    for line in data["lines"].as_array().unwrap() {
                        let cents = number(&line["pieces"]) * number(&line["cents"]);
                        goods += cents;
                        *rates.entry(number(&line["tax_percent"])).or_default() += cents;
                    }
                    let rounded = |(percent, cents): (&u64, &u64)| {
                        (cents * percent) / 100 + u64::from(cents * percent % 100 >= 50)
                    };
                    let taxes: u64 = rates.iter().map(rounded).sum();
                    let total = goods + shipping + taxes;
                    self.list.insert(order, [goods, shipping, taxes, total]);
                    (day[0], day[2]) = (day[0] + 1, day[2] + total);
                    let address = data["address"].as_object().unwrap().values().next().unwrap();
                    (full.0, full.1) =
                        ("RECEIVED".into(), address["postal"].as_str().unwrap().into());
                }
                "order.AddressFollowed" => full.1 = data["postal"].as_str().unwrap().into(),
                "order.Shipped" => {
                    full.0 = "SHIPPED".into();
                    day[1] += 1;
                }
                other => panic!("{other}"),
            }
        }
    }

    /// Many orders of all kinds, some of them shipped, of a customer who moves in the middle.
    async fn drawn(store: &Store, random: &mut fastrand::Rng) {
        let (people, orders) = (store.aggregate::<Customer>(), store.aggregate::<Order>());
        let moves = |postal: &str| CustomerCommand::ChangeAddress { postal: postal.into() };
        people.execute("ann", moves("old")).await.unwrap();
        for number in 0..40 {
            if number == 20 {
                people.execute("ann", moves("new")).await.unwrap();
                Runtime::new(store).process::<Moving>().run_until_idle().await.unwrap();
            }
            let rates = [0, 7, 10, 20];
            let lines = (0..random.u32(1..5))
                .map(|_| line(random.u32(1..9), random.u32(1..5_000), rates[random.usize(..4)]));
            let mut basket = basket(lines.collect(), random.u32(0..900));
            if random.u8(..4) == 0 {
                basket.address = Address::Own { postal: "own".into() };
            }
            orders.execute(&number.to_string(), OrderCommand::Place(basket)).await.unwrap();
            if random.bool() {
                orders.execute(&number.to_string(), OrderCommand::Ship).await.unwrap();
            }
        }
        Runtime::new(store).process::<Moving>().run_until_idle().await.unwrap();
    }

    #[tokio::test]
    async fn the_three_read_models_say_what_a_fold_of_the_whole_log_says() {
        let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
        for store in examples::stores().await {
            drawn(&store, &mut random).await;
            let (list, details, days) =
                (Memory::<List>::new(), Memory::<Details>::new(), Memory::<Days>::new());
            let runtime = Runtime::new(&store)
                .project(OrderList, list.clone())
                .project(OrderInFull, details.clone());
            runtime.project(DailyReport, days.clone()).run_until_idle().await.unwrap();

            let mut judge = Judge::default();
            let orders = store
                .read(Read::matching(Query::category("order"), Position::START))
                .all()
                .await
                .unwrap();
            orders.iter().for_each(|event| judge.hear(event));
            let shown = list.read(Clone::clone).await.into_iter().map(
                |(order, Listed { amounts, total_cents, .. })| {
                    (
                        order,
                        [
                            amounts.goods_cents,
                            amounts.shipping_cents,
                            amounts.tax_cents,
                            total_cents,
                        ],
                    )
                },
            );
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), judge.list);
            let shown = details.read(Clone::clone).await;
            shown.iter().for_each(|(order, full)| {
                assert_eq!(full.amounts.total_cents(), judge.list[order][3], "{order}")
            });
            let shown = shown
                .into_iter()
                .map(|(order, full)| (order, (full.state.into(), full.postal, full.history.len())));
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), judge.full);
            assert_eq!(report(days.read(Clone::clone).await), judge.days);
        }
    }

    fn report(days: Days) -> BTreeMap<String, [u64; 3]> {
        let figures = |Day { placed, shipped, amounts }: Day| {
            [placed.into(), shipped.into(), amounts.total_cents()]
        };
        days.into_iter().map(|(day, report)| (day, figures(report))).collect()
    }

    #[tokio::test]
    async fn the_report_has_a_line_for_each_day_on_which_something_happened() {
        let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
        for store in examples::stores().await {
            drawn(&store, &mut random).await;
            // The same history, as if it had taken a fortnight: an event every couple of hours.
            let (mut days, mut judge) = (Days::new(), Judge::default());
            for mut envelope in store
                .read(Read::matching(Query::category("order"), Position::START))
                .all()
                .await
                .unwrap()
            {
                let hours = std::time::Duration::from_secs(3_600 * 2 * envelope.position.0);
                envelope.recorded_at =
                    "2026-03-01T23:59:59Z".parse::<Timestamp>().unwrap().plus(hours);
                judge.hear(&envelope);
                let event = store.aggregate::<Order>().decode(&envelope).unwrap().remove(0);
                DailyReport.apply(&mut days, &Recorded { event, envelope }).await.unwrap();
            }
            assert!(days.len() > 5, "{days:?}");
            assert_eq!(report(days), judge.days);
        }
    }
}
