//! The service of products: it lists them with their sellers' names, whether or not the service of
//! users is there.

use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::projection::{Bus, Outbox, Outgoing};
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::users::{ASKED, Details, UserAsked, UserTold};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ProductEvent {
    Listed { name: String, seller: String },
}

impl Event for ProductEvent {
    const NAMESPACE: &'static str = "product";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) seller: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the product is listed already")]
pub(crate) struct ListedAlready;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    listed: bool,
}

impl Aggregate for Product {
    const CATEGORY: &'static str = "product";
    type Event = ProductEvent;
    type Command = List;
    type Refusal = ListedAlready;

    fn apply(&mut self, _: &ProductEvent) {
        self.listed = true;
    }

    fn decide(&self, List { name, seller }: &List) -> Result<Vec<ProductEvent>, ListedAlready> {
        if self.listed {
            return Err(ListedAlready);
        }
        Ok(vec![ProductEvent::Listed { name: name.clone(), seller: seller.clone() }])
    }
}

/// Seller, as this service knows them: users who sell nothing are not remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seller {
    wanted: bool,
    version: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum SellerEvent {
    /// A product names a user who is not known here: the other service is asked.
    Missed,
    Learned {
        version: u64,
        details: Details,
    },
}

impl Event for SellerEvent {
    const NAMESPACE: &'static str = "seller";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum SellerCommand {
    Need,
    Hear { version: u64, details: Details },
}

/// A replica takes what it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum SellerRefusal {}

// ANCHOR: seller
impl Aggregate for Seller {
    const CATEGORY: &'static str = "seller";
    type Event = SellerEvent;
    type Command = SellerCommand;
    type Refusal = SellerRefusal;

    fn apply(&mut self, event: &SellerEvent) {
        match event {
            SellerEvent::Missed => self.wanted = true,
            SellerEvent::Learned { version, .. } => self.version = *version,
        }
    }

    fn decide(&self, command: &SellerCommand) -> Result<Vec<SellerEvent>, SellerRefusal> {
        Ok(match command.clone() {
            SellerCommand::Need if self.wanted => Vec::new(),
            SellerCommand::Need => vec![SellerEvent::Missed],
            // A broker may bring what is older after what is newer.
            SellerCommand::Hear { version, .. } if !self.wanted || version <= self.version => {
                Vec::new()
            }
            SellerCommand::Hear { version, details } => {
                vec![SellerEvent::Learned { version, details }]
            }
        })
    }
}
// ANCHOR_END: seller

/// The user who lists a product is needed.
#[derive(Debug, Default)]
struct Replica;

impl Process for Replica {
    const NAME: &'static str = "replica";
    type Event = ProductEvent;

    fn targets() -> Targets {
        Targets::of::<Seller>()
    }

    fn correlate(event: &Recorded<ProductEvent>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<ProductEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<ProductEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(ProductEvent::Listed { seller, .. }) => {
                Reaction::none().command::<Seller>(seller, SellerCommand::Need).end()
            }
            Trigger::TimerFired { .. } | Trigger::Refused(_) => Reaction::none(),
        }
    }
}

// ANCHOR: outbox
/// The outbox: who is missed is asked for.
struct Questions;

impl<B: Bus> Projection<Outbox<B>> for Questions {
    const NAME: &'static str = "seller_questions";
    type Event = SellerEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<SellerEvent>,
    ) -> Result<(), ProjectionError> {
        if event.event == SellerEvent::Missed {
            let user = event.stream_id().to_owned();
            out.send(ASKED, user.clone(), serde_json::to_vec(&UserAsked { user })?);
        }
        Ok(())
    }
}
// ANCHOR_END: outbox

// ANCHOR: inbox
/// The inbox: what the service of users says.
pub(crate) struct Told;

impl Inbox for Told {
    const NAME: &'static str = "told";
    type Message = UserTold;

    fn targets() -> Targets {
        Targets::of::<Seller>()
    }

    fn hold() -> Duration {
        Duration::ZERO
    }

    fn deliver(told: &UserTold, _: &Delivery) -> Reaction {
        let UserTold { user, version, details } = told.clone();
        Reaction::none().command::<Seller>(user, SellerCommand::Hear { version, details })
    }
}
// ANCHOR_END: inbox

/// Events that the product list is made of: both feeds, as they are in this service's own log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ListFact {
    #[serde(rename = "product.Listed")]
    Listed { name: String, seller: String },
    #[serde(rename = "seller.Learned")]
    Learned { details: Details },
}

impl Event for ListFact {
    const NAMESPACE: &'static str = "list";
}

/// The product list: a join that is kept, disposable, rebuilt from the log while the old one
/// serves.
pub(crate) struct ProductList;

impl ProductList {
    pub(crate) const NAME: &'static str = "product_list";
}

// ANCHOR: join
impl Projection<Sqlite> for ProductList {
    const NAME: &'static str = Self::NAME;
    type Event = ListFact;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        rows.execute_batch(
            "CREATE TABLE products (id TEXT PRIMARY KEY, name TEXT NOT NULL, seller TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE sellers (id TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL) WITHOUT ROWID;
             CREATE VIEW listed AS SELECT products.name, sellers.name AS seller, sellers.city
                 FROM products LEFT JOIN sellers ON sellers.id = products.seller ORDER BY products.id;",
        )?;
        Ok(())
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<ListFact>,
    ) -> Result<(), ProjectionError> {
        let id = event.stream_id();
        match &event.event {
            ListFact::Listed { name, seller } => {
                rows.execute("INSERT INTO products VALUES (?1, ?2, ?3)", [id, name, seller])?
            }
            ListFact::Learned { details } => rows.execute(
                "INSERT OR REPLACE INTO sellers VALUES (?1, ?2, ?3)",
                params![id, details.name, details.city],
            )?,
        };
        Ok(())
    }
}
// ANCHOR_END: join

/// The list as a page shows it: who is not known yet is shown as such.
pub(crate) fn listed(list: &Reader) -> Result<Vec<String>, SqliteError> {
    list.read(|rows| {
        let mut listed = rows.prepare_cached("SELECT name, seller, city FROM listed")?;
        let line = |name: String, seller: Option<(String, String)>| match seller {
            Some((seller, city)) => format!("{name}, by {seller} of {city}"),
            None => format!("{name}, by somebody"),
        };
        let rows = listed.query_map([], |row| {
            let seller: Option<String> = row.get(1)?;
            let city: Option<String> = row.get(2)?;
            Ok(line(row.get(0)?, seller.zip(city)))
        })?;
        rows.collect()
    })
}

/// The service, to be started.
pub(crate) fn service<B: Bus>(store: &Store, sqlite: &Sqlite, bus: B) -> Runtime {
    let runtime = Runtime::new(store).process::<Replica>().inbox::<Told>();
    runtime.project(Questions, Outbox::new(store, bus)).project(ProductList, sqlite.clone())
}
