//! Both services over a real RabbitMQ, that is cut off and comes back.

use leftfold_proving::RabbitMq as Broker;

use super::*;
use crate::products::{Seller, SellerCommand, SellerEvent};
use leftfold::testing::given;

const SOON: Duration = Duration::from_secs(60);

/// Waits until the list has a line.
async fn until(store: &Store, running: &RunningRuntime, sqlite: &Sqlite, line: &str) {
    let shown = until_listed(store, running, sqlite, line);
    tokio::time::timeout(SOON, shown).await.unwrap_or_else(|_| panic!("{line:?} was never listed")).unwrap();
}

#[test]
fn only_users_who_sell_something_are_remembered_and_nothing_older_than_is_known() {
    let hear = |version| SellerCommand::Hear { version, details: details("Ada", "London") };
    let learned = |version| SellerEvent::Learned { version, details: details("Ada", "London") };
    given::<Seller>([]).when(hear(1)).then_nothing();
    given::<Seller>([]).when(SellerCommand::Need).then([SellerEvent::Missed]);
    given::<Seller>([SellerEvent::Missed]).when(SellerCommand::Need).then_nothing();
    given::<Seller>([SellerEvent::Missed]).when(hear(3)).then([learned(3)]);
    given::<Seller>([SellerEvent::Missed, learned(3)]).when(hear(2)).then_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_and_comes_back_loses_nothing_and_doubles_nothing() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (users, products) = (leftfold::open(&at("users")).await.unwrap(), leftfold::open(&at("products")).await.unwrap());
    let sqlite = Sqlite::at(at("read-models"));
    let mut broker = Broker::start();
    tokio::spawn(consume::<users::Questions>(users.clone(), broker.url(), ASKED));
    tokio::spawn(consume::<products::Told>(products.clone(), broker.url(), TOLD));
    let running_users = users::start(&users, RabbitMq::at(broker.url())).await.unwrap();
    let running = products::start(&products, &sqlite, RabbitMq::at(broker.url())).await.unwrap();
    let user = users.aggregate::<User>();
    let product = products.aggregate::<Product>();

    user.execute("u1", UserCommand::Register { details: details("Ada", "London") }).await.unwrap();
    product.execute("p1", List { name: "a lamp".into(), seller: "u1".into() }).await.unwrap();
    until(&products, &running, &sqlite, "a lamp, by Ada of London").await;

    broker.stop_hard();
    for city in ["Paris", "Rome", "Athens"] {
        user.execute("u1", UserCommand::Change { details: details("Ada", city) }).await.unwrap();
    }
    user.execute("u2", UserCommand::Register { details: details("Grace", "New York") }).await.unwrap();
    product.execute("p2", List { name: "a rug".into(), seller: "u2".into() }).await.unwrap();
    until(&products, &running, &sqlite, "a rug, by somebody").await;

    broker.start_again();
    until(&products, &running, &sqlite, "a lamp, by Ada of Athens").await;
    until(&products, &running, &sqlite, "a rug, by Grace of New York").await;
    running_users.stop().await.unwrap();
    running.stop().await.unwrap();

    // One version after the other, none twice: a message that came again changed nothing.
    let sellers = products.aggregate::<Seller>();
    let mut history = sellers.history("u1", Version(1)).unwrap();
    let mut versions = Vec::new();
    while let Some(event) = history.next().await.unwrap() {
        if let SellerEvent::Learned { version, .. } = event.event {
            versions.push(version);
        }
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}
