//! Products and users are two services with a store each, and the product list is to show who sells what although the
//! service of users may be down.
//! The pattern is an outbox that publishes to a message bus what the log says, an inbox that takes it in once, and a join
//! of both feeds that is a read model: disposable, and rebuilt while the old one serves. Only users who sell something
//! are kept here; one who is missed is asked for.
//! Leave it where both belong to one service: then one log and one projection do the same without a bus.
//!
//! The story needs no broker. With `CATALOGUE_AMQP=amqp://…` it goes through RabbitMQ.

mod products;
#[cfg(test)]
mod tests;
mod users;
mod wires;

use std::error::Error;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::RunningRuntime;
use leftfold::sqlite::Sqlite;

use crate::products::{List, Product, ProductList, listed};
use crate::users::{ASKED, Details, TOLD, User, UserCommand};
use crate::wires::{RabbitMq, Wire, consume, receive};

/// Both services, over a broker or within this process.
struct Services {
    users: RunningRuntime,
    products: RunningRuntime,
}

impl Services {
    async fn start(users: &Store, products: &Store, sqlite: &Sqlite) -> Result<Self, Box<dyn Error>> {
        match std::env::var("CATALOGUE_AMQP") {
            Ok(url) => {
                tokio::spawn(consume::<users::Questions>(users.clone(), url.clone(), ASKED));
                tokio::spawn(consume::<products::Told>(products.clone(), url.clone(), TOLD));
                let users = users::start(users, RabbitMq::at(&url)).await?;
                Ok(Self { users, products: products::start(products, sqlite, RabbitMq::at(&url)).await? })
            }
            Err(_) => {
                let ((told, hear_told), (asked, hear_asked)) = (Wire::new(TOLD), Wire::new(ASKED));
                tokio::spawn(receive::<users::Questions>(users.clone(), hear_asked));
                tokio::spawn(receive::<products::Told>(products.clone(), hear_told));
                let users = users::start(users, told).await?;
                Ok(Self { users, products: products::start(products, sqlite, asked).await? })
            }
        }
    }
}

fn details(name: &str, city: &str) -> Details {
    Details { name: name.to_owned(), city: city.to_owned() }
}

/// Shows the list once a seller is known by a name.
async fn until_listed(store: &Store, running: &RunningRuntime, sqlite: &Sqlite, seller: &str) -> Result<(), Box<dyn Error>> {
    let list = sqlite.reader::<ProductList>();
    let mut changes = store.status();
    loop {
        let position = store.head().position;
        running.projections().wait_until(<ProductList as Projection<Sqlite>>::NAME, position, Duration::from_secs(10)).await?;
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
    let place = examples::place()?;
    let user_store = leftfold::open(&format!("{}-users", place.path())).await?;
    let product_store = leftfold::open(&format!("{}-products", place.path())).await?;
    let sqlite = Sqlite::at(format!("{}-read-models", place.path()));
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
    product_store.close().await?;
    Ok(())
}
