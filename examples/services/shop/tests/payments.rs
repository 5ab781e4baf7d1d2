//! A bank that fails, hangs, loses answers and says them twice; and orders that nobody pays for.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::bank::Mood;
use crate::product::ProductEvent;
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
        let failed = street
            .store
            .follow::<OrderEvent>(Position::START)
            .unwrap()
            .find(is_failed)
            .await
            .unwrap();
        assert_eq!((failed.stream_id(), street.bank.charged().len()), (&*order, 0));
        assert_eq!(street.pay(&order).await.status, 202);
        street.until(&order, "order.Paid").await;
        assert_eq!(street.bank.charged().get(&order), Some(&1));
        street.running.stop().await.unwrap();
    }
}

fn is_failed(event: &Recorded<OrderEvent>) -> bool {
    matches!(event.event, OrderEvent::PaymentFailed { .. })
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
        let street = Street::open_before(twice, store, bank, tempfile::tempdir().unwrap()).await;
        let ada = street.customer("ada").await;
        street.product("mug", 2).await;
        for _ in 0..2 {
            let order = asked_to_pay(&street, &ada).await;
            street.until(&order, "order.Paid").await;
            assert_eq!(street.bank.charged().get(&order), Some(&1));
        }
        street.running.stop().await.unwrap();
    }
}

/// Passes charges on to a bank, and writes each of its answers twice.
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
                    to.write_all(&answer[..bytes].repeat(2)).await
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
        until_released(&street).await;
        assert_eq!(street.stock("mug").await, [3, 0, 0]);
        assert_eq!(problem(&street.pay(&order).await), (409, "over".to_owned()));
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: deadline

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_payment_is_under_way_at_its_deadline_is_paid_or_cancelled_as_the_bank_says()
{
    for (mood, end) in [(Mood::Hangs, "order.Paid"), (Mood::Declines, "order.Cancelled")] {
        for store in examples::stores().await {
            let street = Street::open(store).await;
            let ada = street.customer("ada").await;
            street.product("mug", 1).await;
            street.bank.takes(&[mood]);
            let order = asked_to_pay(&street, &ada).await;
            street.bank.until_asked(1).await;
            street.clock.advance(PAY_WITHIN);
            street.until(&order, end).await;
            street.running.stop().await.unwrap();
        }
    }
}

async fn until_released(street: &Street) {
    let is_released =
        |event: &Recorded<ProductEvent>| matches!(event.event, ProductEvent::Released { .. });
    let mut events = street.store.follow(Position::START).unwrap();
    timeout(SOON, events.find(is_released)).await.unwrap().unwrap();
}
