//! Each service as a program of its own, over RabbitMQ:
//! `CATALOGUE_AMQP=amqp://… catalogue users DIRECTORY LOAD`, and `products` likewise. It does much
//! of the same and then goes on to serve. It can be killed and started again: every request has an
//! id. It begins when it has reached the broker, so that messages come and go meanwhile.

use std::error::Error;

use leftfold::amqp::Amqp;
use leftfold::prelude::*;
use leftfold::runtime::inbox::{ReceiverState, RunningReceiver};
use leftfold::sqlite::Sqlite;
use tokio::task::JoinSet;

use crate::details;
use crate::products::{self, List, Product};
use crate::users::{self, ASKED, TOLD, User, UserCommand};

/// Users of the load.
pub(crate) const USERS: u32 = 20;
/// Those of them who sell something.
pub(crate) const SELLERS: u32 = 16;
/// Said by a program that has recorded its load.
pub(crate) const ALL_RECORDED: &str = "all is recorded";

/// Directories of what the two services keep.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    pub(crate) users: String,
    pub(crate) products: String,
    pub(crate) read_models: String,
}

impl Directories {
    pub(crate) fn in_place(place: &str) -> Self {
        let (users, products) = (format!("{place}-users"), format!("{place}-products"));
        Self { users, products, read_models: format!("{place}-read-models") }
    }
}

pub(crate) async fn run(service: &str, place: &str, load: u32) -> Result<(), Box<dyn Error>> {
    let url = std::env::var("CATALOGUE_AMQP")
        .map_err(|_| "set CATALOGUE_AMQP to the URL of a RabbitMQ")?;
    let broker = Amqp::at(&url)?.named(service);
    let directories = Directories::in_place(place);
    let (store, receiver, running) = match service {
        "users" => {
            let store = leftfold::open(&directories.users).await?;
            let receiver = store.inbox::<users::Questions>().receive_from(broker.queue(ASKED));
            let running = users::start(&store, broker.bus()).await?;
            reached(&receiver).await?;
            move_users(&store, load).await?;
            (store, receiver, running)
        }
        "products" => {
            let store = leftfold::open(&directories.products).await?;
            let receiver = store.inbox::<products::Told>().receive_from(broker.queue(TOLD));
            let sqlite = Sqlite::at(directories.read_models);
            let running = products::service(&store, &sqlite, broker.bus()).start().await?;
            reached(&receiver).await?;
            list_products(&store, load).await?;
            (store, receiver, running)
        }
        other => {
            return Err(format!("there is no service {other:?}, only users and products").into());
        }
    };
    println!("{ALL_RECORDED}");
    tokio::signal::ctrl_c().await?;
    receiver.stop().await?;
    running.stop().await?;
    store.close().await?;
    Ok(())
}

/// Waits until the broker is reached.
async fn reached(receiver: &RunningReceiver) -> Result<(), Box<dyn Error>> {
    receiver.status().wait_for(|status| status.state == ReceiverState::Receiving).await?;
    Ok(())
}

pub(crate) fn user_id(number: u32) -> String {
    format!("u{number}")
}

pub(crate) async fn register_users(store: &Store) -> Result<(), Box<dyn Error>> {
    let users = store.aggregate::<User>();
    for number in 0..USERS {
        let register =
            UserCommand::Register { details: details(&format!("user {number}"), "nowhere") };
        let register =
            users.command(&user_id(number), register).id("load", &format!("register {number}"));
        register.without_request_check().execute().await?;
    }
    Ok(())
}

/// All users move, round after round, in each all at once: so there is always more to tell than the
/// others have heard.
async fn move_users(store: &Store, rounds: u32) -> Result<(), Box<dyn Error>> {
    register_users(store).await?;
    for round in 0..rounds {
        let mut moving = JoinSet::new();
        for number in 0..USERS {
            let users = store.aggregate::<User>();
            moving.spawn(async move {
                let change = UserCommand::Change {
                    details: details(&format!("user {number}"), &format!("city {round}")),
                };
                let change = users
                    .command(&user_id(number), change)
                    .id("load", &format!("move {number} {round}"));
                change.without_request_check().execute().await.map(drop)
            });
        }
        while let Some(moved) = moving.join_next().await {
            moved??;
            println!("a user moves to city {round}");
        }
    }
    Ok(())
}

/// The seller of a product of the load: one after the other begins to sell, so some are asked for
/// all the time.
pub(crate) fn seller_of(product: u32, rounds: u32) -> u32 {
    product * SELLERS / (rounds * USERS)
}

/// As many products are listed as there are moves.
async fn list_products(store: &Store, rounds: u32) -> Result<(), Box<dyn Error>> {
    let products = store.aggregate::<Product>();
    for number in 0..rounds * USERS {
        let list =
            List { name: format!("thing {number}"), seller: user_id(seller_of(number, rounds)) };
        let list =
            products.command(&format!("p{number:06}"), list).id("load", &format!("list {number}"));
        list.without_request_check().execute().await?;
        println!("thing {number} is listed");
    }
    Ok(())
}
