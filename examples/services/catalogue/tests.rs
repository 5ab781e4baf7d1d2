//! Both services over a real RabbitMQ, that is cut off and comes back.

use std::collections::BTreeMap;
use std::process::Command;

use leftfold_proving::RabbitMqServer;

use super::*;
use crate::products::{Seller, SellerCommand, SellerEvent};
use crate::programs::{ALL_RECORDED, SELLERS, USERS, register_users, seller_of, user_id};
use crate::users::UserEvent;
use leftfold::testing::given;

const SOON: Duration = Duration::from_secs(60);

/// Waits until the list has a line.
async fn until(store: &Store, running: &RunningRuntime, sqlite: &Sqlite, line: &str) {
    let shown = until_listed(store, running, sqlite, line);
    tokio::time::timeout(SOON, shown)
        .await
        .unwrap_or_else(|_| panic!("{line:?} was never listed"))
        .unwrap();
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
    let (users, products) = (
        leftfold::open(&at("users")).await.unwrap(),
        leftfold::open(&at("products")).await.unwrap(),
    );
    let sqlite = Sqlite::at(at("read-models"));
    let mut broker = RabbitMqServer::start();
    let amqp = Amqp::at(&broker.url()).unwrap();
    let services = Services::over_amqp(&users, &products, &sqlite, &amqp).await.unwrap();
    let running = &services.products;
    let user = users.aggregate::<User>();
    let product = products.aggregate::<Product>();

    user.execute("u1", UserCommand::Register { details: details("Ada", "London") }).await.unwrap();
    product.execute("p1", List { name: "a lamp".into(), seller: "u1".into() }).await.unwrap();
    until(&products, running, &sqlite, "a lamp, by Ada of London").await;

    broker.stop_hard();
    for city in ["Paris", "Rome", "Athens"] {
        user.execute("u1", UserCommand::Change { details: details("Ada", city) }).await.unwrap();
    }
    user.execute("u2", UserCommand::Register { details: details("Grace", "New York") })
        .await
        .unwrap();
    product.execute("p2", List { name: "a rug".into(), seller: "u2".into() }).await.unwrap();
    until(&products, running, &sqlite, "a rug, by somebody").await;

    broker.start_again();
    until(&products, running, &sqlite, "a lamp, by Ada of Athens").await;
    until(&products, running, &sqlite, "a rug, by Grace of New York").await;
    services.users.stop().await.unwrap();
    services.products.stop().await.unwrap();

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

// ANCHOR: killed
/// The two programs, with much to do, each killed on its way whenever the seed likes, and once more
/// in the end.
#[tokio::test(flavor = "multi_thread")]
async fn both_services_are_killed_again_and_again_and_in_the_end_they_agree() {
    let rounds = u32::try_from(leftfold::testing::extent(12, 60)).unwrap();
    let kills = rounds as usize / 2;
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("store").to_str().unwrap().to_owned();
    let directories = Directories::in_place(&place);
    // Every user that is asked for is there, so each question has one answer.
    let users = leftfold::open(&directories.users).await.unwrap();
    register_users(&users).await.unwrap();
    users.close().await.unwrap();

    let broker = RabbitMqServer::start();
    let program = examples::built("catalogue");
    let killing = ["users", "products"].map(|service| {
        let (program, place, url) = (program.clone(), place.clone(), broker.url());
        let command = move || {
            let mut command = Command::new(&program);
            command.args([service, &place, &rounds.to_string()]).env("CATALOGUE_AMQP", &url);
            command
        };
        tokio::task::spawn_blocking(move || examples::killed_service(&command, kills, ALL_RECORDED))
    });
    for killed in killing {
        killed.await.unwrap();
    }
    judge(&directories, rounds, &broker.url()).await;
}
// ANCHOR_END: killed

/// Lets both services do what is left, and compares one with the other.
async fn judge(directories: &Directories, rounds: u32, url: &str) {
    let (users, products) =
        (leftfold::open(&directories.users), leftfold::open(&directories.products));
    let (users, products) = (users.await.unwrap(), products.await.unwrap());
    let sqlite = Sqlite::at(&directories.read_models);
    let amqp = Amqp::at(url).unwrap();
    let services = Services::over_amqp(&users, &products, &sqlite, &amqp).await.unwrap();
    let running = &services.products;
    let mut news = products.follow::<SellerEvent>(Position::START).unwrap();
    let mut heard: BTreeMap<String, Vec<SellerEvent>> = BTreeMap::new();
    let agreed = async {
        while !agree(&users, &heard).await {
            let news = news.next().await.unwrap();
            heard.entry(news.stream_id().to_owned()).or_default().push(news.event);
        }
    };
    let agreed = tokio::time::timeout(SOON, agreed).await;
    agreed.unwrap_or_else(|_| panic!("the services do not agree: {heard:?}"));
    let head = products.head().position;
    running.projections().wait_until(ProductList::NAME, head, SOON).await.unwrap();
    services.users.stop().await.unwrap();
    services.products.stop().await.unwrap();

    for number in 0..USERS {
        let history = history(&users, number).await;
        let count =
            |is_it: fn(&UserEvent) -> bool| history.iter().filter(|event| is_it(event)).count();
        let (sells, moves) =
            (number < SELLERS, count(|event| matches!(event, UserEvent::Changed { .. })));
        assert_eq!(moves, rounds as usize, "each move is recorded once: {history:?}");
        assert_eq!(
            count(|event| matches!(event, UserEvent::Told { .. })),
            usize::from(sells),
            "each question is answered once"
        );
        let Some(heard) = heard.get(&user_id(number)) else {
            assert!(!sells, "user {number} was lost");
            continue;
        };
        let missed = heard.iter().filter(|event| **event == SellerEvent::Missed).count();
        let learned: Vec<u64> = heard.iter().filter_map(learned).collect();
        // Every version from the first that was known on, in order: none is lost, and none is
        // there twice.
        let are_all = learned.windows(2).all(|two| two[1] == two[0] + 1);
        assert!(sells && missed == 1 && are_all, "{heard:?}");
    }
    let last_city = format!("city {}", rounds - 1);
    let line = |product: u32| {
        format!("thing {product}, by user {} of {last_city}", seller_of(product, rounds))
    };
    assert_eq!(
        listed(&sqlite.reader::<ProductList>()).unwrap(),
        (0..rounds * USERS).map(line).collect::<Vec<_>>()
    );
}

fn learned(event: &SellerEvent) -> Option<u64> {
    match event {
        SellerEvent::Learned { version, .. } => Some(*version),
        SellerEvent::Missed => None,
    }
}

async fn history(users: &Store, number: u32) -> Vec<UserEvent> {
    let history = users
        .aggregate::<User>()
        .history(&user_id(number), Version(1))
        .unwrap()
        .all()
        .await
        .unwrap();
    history.into_iter().map(|recorded| recorded.event).collect()
}

/// Each seller was asked for and is known as of the last that happened.
async fn agree(users: &Store, heard: &BTreeMap<String, Vec<SellerEvent>>) -> bool {
    for number in 0..SELLERS {
        let known = heard
            .get(&user_id(number))
            .and_then(|heard| heard.iter().filter_map(learned).next_back());
        let history = history(users, number).await;
        let is_answered = history.iter().any(|event| matches!(event, UserEvent::Told { .. }));
        if !is_answered || known != Some(history.len() as u64) {
            return false;
        }
    }
    true
}
