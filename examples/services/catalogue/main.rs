//! Products and users are two services with a store each, and the product list is to show who sells
//! what although the service of users may be down. The pattern is an outbox that publishes to a
//! message bus what the log says, an inbox that takes it in once, and a join of both feeds that is
//! a read model: disposable, and rebuilt while the old one serves. Only users who sell something
//! are kept here; one who is missed is asked for. Leave it where both belong to one service: then
//! one log and one projection do the same without a bus.
//!
//! The story needs no broker. With `CATALOGUE_AMQP=amqp://…` it goes through RabbitMQ, and
//! `programs.rs` runs each service as a program of its own.

mod products;
mod programs;
#[cfg(test)]
mod rebuilt;
#[cfg(test)]
mod tests;
mod users;
mod wires;

use std::error::Error;
use std::time::{Duration, Instant};

use leftfold::amqp::Amqp;
use leftfold::prelude::*;
use leftfold::runtime::RunningRuntime;
use leftfold::runtime::inbox::RunningReceiver;
use leftfold::sqlite::Sqlite;
use tokio::task::JoinSet;

use crate::products::{List, Product, ProductList, listed};
use crate::programs::Directories;
use crate::users::{ASKED, Details, TOLD, User, UserCommand};
use crate::wires::{Wire, receive};

/// Both services, over a broker or within this process.
struct Services {
    users: RunningRuntime,
    products: RunningRuntime,
    /// Both receive from a broker for as long as these are there.
    _receivers: Vec<RunningReceiver>,
}

impl Services {
    async fn start(
        users: &Store,
        products: &Store,
        sqlite: &Sqlite,
    ) -> Result<Self, Box<dyn Error>> {
        match std::env::var("CATALOGUE_AMQP") {
            Ok(url) => Self::over_amqp(users, products, sqlite, &Amqp::at(&url)?).await,
            Err(_) => {
                let ((told, hear_told), (asked, hear_asked)) = (Wire::new(TOLD), Wire::new(ASKED));
                tokio::spawn(receive::<users::Questions>(users.clone(), hear_asked));
                tokio::spawn(receive::<products::Told>(products.clone(), hear_told));
                let users = users::start(users, told).await?;
                let products = products::service(products, sqlite, asked).start().await?;
                Ok(Self { users, products, _receivers: Vec::new() })
            }
        }
    }

    // ANCHOR: amqp
    /// Each service publishes to the other's queue, and receives from its own.
    async fn over_amqp(
        users: &Store,
        products: &Store,
        sqlite: &Sqlite,
        broker: &Amqp,
    ) -> Result<Self, Box<dyn Error>> {
        let asked = users.inbox::<users::Questions>().receive_from(broker.queue(ASKED));
        let told = products.inbox::<products::Told>().receive_from(broker.queue(TOLD));
        Ok(Self {
            users: users::start(users, broker.bus()).await?,
            products: products::service(products, sqlite, broker.bus()).start().await?,
            _receivers: vec![asked, told],
        })
    }
    // ANCHOR_END: amqp
}

fn details(name: &str, city: &str) -> Details {
    Details { name: name.to_owned(), city: city.to_owned() }
}

/// Shows the list once a seller is known by a name.
async fn until_listed(
    store: &Store,
    running: &RunningRuntime,
    sqlite: &Sqlite,
    seller: &str,
) -> Result<(), Box<dyn Error>> {
    let list = sqlite.reader::<ProductList>();
    let mut changes = store.status();
    loop {
        let position = store.head().position;
        running
            .projections()
            .wait_until(ProductList::NAME, position, Duration::from_secs(10))
            .await?;
        let lines = listed(&list)?;
        if lines.iter().any(|line| line.contains(seller)) {
            lines.iter().for_each(|line| println!("    {line}"));
            return Ok(());
        }
        changes.wait_for(|status| status.head.position > position).await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [service, place, load] = arguments.as_slice() {
        return programs::run(service, place, load.parse()?).await;
    }
    let place = examples::place()?;
    let directories = Directories::in_place(place.path());
    let user_store = leftfold::open(&directories.users).await?;
    let product_store = leftfold::open(&directories.products).await?;
    let sqlite = Sqlite::at(directories.read_models);
    let users = user_store.aggregate::<User>();
    let products = product_store.aggregate::<Product>();

    users.execute("u1", UserCommand::Register { details: details("Ada", "London") }).await?;
    users.execute("u2", UserCommand::Register { details: details("Grace", "New York") }).await?;
    let services = Services::start(&user_store, &product_store, &sqlite).await?;
    println!("two users are registered; one of them sells a lamp, and so her name is asked for:");
    products.execute("p1", List { name: "a lamp".into(), seller: "u1".into() }).await?;
    until_listed(&product_store, &services.products, &sqlite, "Ada").await?;
    println!("she moves, and the list follows:");
    users.execute("u1", UserCommand::Change { details: details("Ada", "Paris") }).await?;
    until_listed(&product_store, &services.products, &sqlite, "Paris").await?;

    services.users.stop().await?;
    user_store.close().await?;
    println!("the service of users is gone, and the list is still there:");
    until_listed(&product_store, &services.products, &sqlite, "Ada").await?;
    let known = product_store.version(StreamName::of("seller", "u2")?).await?;
    println!("of the user who sells nothing, {} events are kept here", known.0);
    services.products.stop().await?;
    rebuild(&product_store, &sqlite).await?;
    product_store.close().await?;
    Ok(())
}

/// Builds the list from the log once more, while somebody asks it all the time.
async fn rebuild(store: &Store, sqlite: &Sqlite) -> Result<(), Box<dyn Error>> {
    const PRODUCTS: u32 = 500;
    const REBUILT_WITHIN: Duration = Duration::from_secs(60);
    let mut listing = JoinSet::new();
    for number in 0..PRODUCTS {
        let products = store.aggregate::<Product>();
        let list = List { name: format!("thing {number}"), seller: "u1".into() };
        listing
            .spawn(async move { products.execute(&format!("t{number:03}"), list).await.map(drop) });
    }
    while let Some(listed) = listing.join_next().await {
        listed??;
    }
    Runtime::new(store).project(ProductList, sqlite.clone()).run_until_idle().await?;
    let list = sqlite.reader::<ProductList>();
    let before = listed(&list)?;
    println!("{} products are listed; the list is rebuilt, and asked meanwhile:", before.len());
    let running = Runtime::new(store)
        .project(ProductList, sqlite.clone())
        .rebuild(ProductList::NAME)
        .start()
        .await?;
    let (began, mut answers) = (Instant::now(), 0);
    while running.projections().list().iter().any(|list| !list.serves) {
        let answer = listed(&list)?;
        if answer != before {
            return Err(format!("{} of {} products are listed", answer.len(), before.len()).into());
        }
        if began.elapsed() > REBUILT_WITHIN {
            return Err(format!("the list is not rebuilt within {REBUILT_WITHIN:?}").into());
        }
        answers += 1;
    }
    if answers == 0 {
        return Err("the list was rebuilt before it was asked once: list more products".into());
    }
    println!(
        "    the old one answered {}, and never less than all",
        if answers == 1 { "once".into() } else { format!("{answers} times") }
    );
    println!("    the new one answers the same: {}", listed(&list)? == before);
    running.stop().await?;
    Ok(())
}
