//! A bank that fails, hangs, loses answers and says them twice; and orders that nobody pays for.

use leftfold::store::Read;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::bank::Mood;
use crate::order::Order;
use crate::unpaid::PAY_WITHIN;

/// Orders one piece of its own, and asks to pay for it.
async fn asked_to_pay(street: &Street, customer: &str) -> String {
    let order = field(&street.order(customer, "mug", 1).await, 201, "order");
    assert_eq!(street.pay(&order).await.status, 202);
    order
}

// ANCHOR: flaky
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_bank_does_an_order_is_charged_once() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 5).await;
        for mood in [Mood::Works, Mood::Fails, Mood::FailsCharged, Mood::Hangs, Mood::BreaksOff] {
            street.bank.takes(&[mood]);
            let order = asked_to_pay(&street, &ada).await;
            street.until(&order, "order.Paid").await;
            assert_eq!(street.bank.charged().get(&order), Some(&1), "{mood:?}");
        }
        assert_eq!(street.bank.charged().len(), 5);
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: flaky

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_declined_charges_nothing_and_the_order_can_be_paid_by_another() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 1).await;
        street.bank.takes(&[Mood::Declines]);
        let order = asked_to_pay(&street, &ada).await;
        let failed = |event: &OrderEvent| matches!(event, OrderEvent::PaymentFailed { .. });
        let failed = until_recorded(&street.store, failed).await;
        assert_eq!((failed.stream_id(), street.bank.charged().len()), (&*order, 0));
        assert_eq!(street.pay(&order).await.status, 202);
        street.until(&order, "order.Paid").await;
        assert_eq!(street.bank.charged().get(&order), Some(&1));
        street.running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_hangs_while_the_shop_stops_is_looked_up_at_the_next_start_and_not_repeated()
{
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store").to_str().unwrap().to_owned();
    let street = Street::open(leftfold::open(&path).await.unwrap()).await;
    let ada = street.customer("ada").await;
    street.product("mug", 1).await;
    street.bank.takes(&[Mood::Hangs]);
    let order = asked_to_pay(&street, &ada).await;
    street.bank.until_asked(1).await;
    let Street { running, bank, rows, .. } = street;
    running.stop().await.unwrap();

    let street = Street::open_with(leftfold::open(&path).await.unwrap(), bank, rows).await;
    street.until(&order, "order.Paid").await;
    assert_eq!(street.bank.charged().get(&order), Some(&1));
    street.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_says_everything_twice_is_believed_once() {
    for store in examples::stores().await {
        let bank = Bank::default();
        let twice = says_twice(bank.open().await.unwrap().to_string()).await;
        let payment = Payment { bank: twice, within: Duration::from_secs(1) };
        let street = Street::open_before(payment, store, bank, tempfile::tempdir().unwrap()).await;
        let ada = street.customer("ada").await;
        street.product("mug", 2).await;
        let mut expected = Vec::new();
        for _ in 0..2 {
            let order = asked_to_pay(&street, &ada).await;
            street.until(&order, "order.Paid").await;
            assert_eq!(street.bank.charged().get(&order), Some(&1));
            let is_sold =
                |event: &_| matches!(event, ProductEvent::Sold { order: of, .. } if *of == order);
            until_recorded(&street.store, is_sold).await;
            let receipt = format!("receipt 1 of {order}");
            expected.push((order, receipt));
        }
        assert_eq!(street.stock("mug").await, [0, 0, 2]);
        assert_eq!(receipts(&street.store).await, expected);
        street.running.stop().await.unwrap();
    }
}

/// Each payment that is recorded: the order, and the bank's receipt.
async fn receipts(store: &Store) -> Vec<(String, String)> {
    let query = Query::category(Order::CATEGORY);
    let events = store.page(Read::matching(query, Position::START)).await.unwrap().events;
    let orders = store.aggregate::<Order>();
    let mut receipts = Vec::new();
    for event in events {
        for part in orders.decode(&event).unwrap() {
            if let OrderEvent::Paid { receipt } = part {
                let stream = event.stream.as_ref().unwrap();
                receipts.push((stream.name.id().to_owned(), receipt));
            }
        }
    }
    receipts
}

/// Passes charges on to a bank, and writes each of its answers twice: the second time with another
/// receipt, so that it shows which one was believed.
async fn says_twice(bank: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let bank = bank.clone();
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(bank).await?;
                let (mut from, mut to) = caller.split();
                let (mut answers, mut requests) = there.split();
                let back = async {
                    let mut answer = vec![0; 64 * 1024];
                    let bytes = tokio::io::AsyncReadExt::read(&mut answers, &mut answer).await?;
                    let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
                    let again = answer.replace("receipt 1 of", "receipt 2 of");
                    to.write_all((answer + &again).as_bytes()).await
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from, &mut requests) => {}
                    said = back => said?,
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

// ANCHOR: deadline
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_paid_in_time_is_cancelled_and_its_pieces_are_free_again() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 3).await;
        let order = field(&street.order(&ada, "mug", 2).await, 201, "order");
        assert_eq!(street.stock("mug").await, [1, 2, 0]);
        street.clock.advance(PAY_WITHIN);
        street.until(&order, "order.Cancelled").await;
        let is_released = |event: &_| matches!(event, ProductEvent::Released { .. });
        until_recorded(&street.store, is_released).await;
        assert_eq!(street.stock("mug").await, [3, 0, 0]);
        assert_eq!(problem(&street.pay(&order).await), (409, "over".to_owned()));
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: deadline

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_payment_is_under_way_at_its_deadline_is_paid_or_cancelled_as_the_bank_says()
{
    let paid = (Mood::Works, "order.Paid", [0, 0, 1]);
    let declined = (Mood::Declines, "order.Cancelled", [1, 0, 0]);
    for (mood, end, stock) in [paid, declined] {
        for store in examples::stores().await {
            let bank = Bank::default();
            let address = bank.open().await.unwrap().to_string();
            // The bank may take longer than the order has time.
            let payment = Payment { bank: address, within: PAY_WITHIN * 2 };
            let rows = tempfile::tempdir().unwrap();
            let street = Street::open_before(payment, store, bank, rows).await;
            let ada = street.customer("ada").await;
            street.product("mug", 1).await;
            street.bank.takes(&[mood]);
            street.bank.holds(true);
            let order = asked_to_pay(&street, &ada).await;
            street.bank.until_asked(1).await;

            street.clock.advance(PAY_WITHIN);
            until_recorded(&street.store, |event: &OrderEvent| *event == OrderEvent::Overdue).await;
            let shown = street.get(&format!("/orders/{order}")).await.json().unwrap();
            assert_eq!((&shown["state"], street.stock("mug").await), (&json!("paying"), [0, 1, 0]));

            street.bank.holds(false);
            street.until(&order, end).await;
            let is_settled = |event: &_| {
                matches!(event, ProductEvent::Sold { .. } | ProductEvent::Released { .. })
            };
            until_recorded(&street.store, is_settled).await;
            assert_eq!(street.stock("mug").await, stock, "{mood:?}");
            street.running.stop().await.unwrap();
        }
    }
}
