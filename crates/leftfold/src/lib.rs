//! Event sourcing: state is a left fold of events, on one durable log inside your process.
//!
//! An application keeps what happened, as *events*, and computes what is from them. This crate has
//! one small programming model for that, a store in a directory, and a runtime that does the rest
//! behind it. [`open`] a store, take what you need from the [`prelude`], and implement one trait
//! for each of these:
//!
//! | to | implement | it is called |
//! | --- | --- | --- |
//! | decide about one thing | [`Aggregate`](fold::Aggregate) | when a command comes |
//! | decide about several at once | [`Decision`](fold::Decision) | when somebody asks |
//! | show something | [`Projection`](runtime::projection::Projection) | behind the log, in order |
//! | react to what happened | [`Process`](runtime::process::Process) | behind the log, once for each event |
//! | touch the outside world | [`Effect`](runtime::Effect) | behind the log, never repeated blindly |
//!
//! `apply`, `decide` and `react` are pure: no clock, no randomness, no I/O. So they can be repeated
//! after a conflict, run over old events, and tested without a mock.
//!
//! # An aggregate
//!
//! Events, a state, commands, refusals, and two functions: seats in a course, of which there are
//! two.
//!
//! ```
#![doc = include_str!("../doc/course.rs")]
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let directory = place.path().join("data").display().to_string();
//! # let directory = directory.as_str();
//! let store = leftfold::open(directory).await?;
//! let courses = store.aggregate::<Course>();
//!
//! // Durable when it returns. If another command was faster, `decide` is called again.
//! courses.execute("rust", CourseCommand::Book { by: "ada".into() }).await?;
//!
//! // A command with an id takes effect once, however often it is sent.
//! let request = || courses.command("rust", CourseCommand::Book { by: "bob".into() });
//! let first = request().id("bob", "request-17").request(b"book").execute().await?;
//! let again = request().id("bob", "request-17").request(b"book").execute().await?;
//! assert_eq!(first.position, again.position);
//!
//! let refused = courses.execute("rust", CourseCommand::Book { by: "cyd".into() }).await;
//! assert!(matches!(refused, Err(ExecuteError::Refused(Full))));
//! // As it was, at any version or moment.
//! assert_eq!(courses.load_at("rust", Version(1)).await?.state.booked, ["ada"]);
//! # store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A decision
//!
//! A fold over whatever a query finds, across streams: a dynamic consistency boundary. Here nobody
//! books a second course, and no course is overbooked. If anything that the query matches is
//! recorded in between, it is decided again.
//!
//! ```
//! # #![allow(dead_code)]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/course.rs"));
//! struct BookOne {
//!     person: String,
//!     course: StreamName,
//! }
//!
//! #[derive(Clone, Debug, PartialEq, thiserror::Error)]
//! enum No {
//!     #[error("one course is enough")]
//!     HasOne,
//!     #[error("the course is full")]
//!     Full,
//! }
//!
//! impl Decision for BookOne {
//!     type Event = CourseEvent;
//!     /// The bookings of this course, and those of this person.
//!     type State = Vec<String>;
//!     type Refusal = No;
//!
//!     fn query(&self) -> Query {
//!         Query::tag(format!("person:{}", self.person)).or(Query::stream(self.course.clone()))
//!     }
//!
//!     fn apply(&self, booked: &mut Vec<String>, event: &CourseEvent) {
//!         match event {
//!             CourseEvent::Booked { by } => booked.push(by.clone()),
//!             CourseEvent::Cancelled { by } => booked.retain(|other| other != by),
//!             _ => {}
//!         }
//!     }
//!
//!     fn decide(&self, booked: &Vec<String>) -> Result<Decided<CourseEvent>, No> {
//!         if booked.contains(&self.person) {
//!             return Err(No::HasOne);
//!         }
//!         if booked.len() == 2 {
//!             return Err(No::Full);
//!         }
//!         let booked = CourseEvent::Booked { by: self.person.clone() };
//!         Ok(Decided::event(self.course.to_string(), booked))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::memory();
//! let book = |course| {
//!     let course = StreamName::of("course", course)?;
//!     Ok::<_, Invalid>(BookOne { person: "ada".into(), course })
//! };
//! store.decide(&book("rust")?).await?;
//! assert!(matches!(store.decide(&book("sql")?).await, Err(ExecuteError::Refused(No::HasOne))));
//! # Ok(())
//! # }
//! ```
//!
//! # A read model
//!
//! Rows that follow the log, each event in them exactly once: in SQLite, PostgreSQL or Redis
//! (features of these names), or in memory.
//!
//! ```
//! # #![allow(dead_code)]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/course.rs"));
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use leftfold::runtime::projection::Memory;
//!
//! struct Seats;
//!
//! impl Projection<Memory<BTreeMap<String, i64>>> for Seats {
//!     const NAME: &'static str = "seats";
//!     type Event = CourseEvent;
//!
//!     async fn apply(
//!         &self,
//!         rows: &mut BTreeMap<String, i64>,
//!         event: &Recorded<CourseEvent>,
//!     ) -> Result<(), ProjectionError> {
//!         let change = match event.event {
//!             CourseEvent::Booked { .. } => 1,
//!             CourseEvent::Cancelled { .. } => -1,
//!             _ => 0,
//!         };
//!         *rows.entry(event.stream_id().to_owned()).or_default() += change;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::memory();
//! let seats = Memory::new();
//! let runtime = Runtime::new(&store).project(Seats, seats.clone()).start().await?;
//!
//! let book = CourseCommand::Book { by: "ada".into() };
//! let booked = store.aggregate::<Course>().execute("rust", book).await?;
//! // To read what you have just written, wait until the rows have come so far.
//! runtime.projections().wait_until("seats", booked.position, Duration::from_secs(5)).await?;
//! assert_eq!(seats.read(|rows| rows["rust"]).await, 1);
//! runtime.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A process
//!
//! Reacts once to each event, with commands, effects and timers that survive a crash: a process
//! manager, or saga. Here a seat that is not confirmed within an hour is given back.
//!
//! ```
//! # #![allow(dead_code)]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/course.rs"));
//! use std::time::Duration;
//!
//! #[derive(Debug, Default)]
//! struct Unconfirmed {
//!     course: String,
//!     by: String,
//! }
//!
//! impl Process for Unconfirmed {
//!     const NAME: &'static str = "unconfirmed";
//!     type Event = CourseEvent;
//!
//!     fn targets() -> Targets {
//!         Targets::of::<Course>()
//!     }
//!
//!     /// One instance for each person in each course.
//!     fn correlate(event: &Recorded<CourseEvent>) -> Correlation {
//!         let key = |by: &str| format!("{} {by}", event.stream_id());
//!         match &event.event {
//!             CourseEvent::Booked { by } => Correlation::starts(key(by)),
//!             CourseEvent::Confirmed { by } | CourseEvent::Cancelled { by } => {
//!                 Correlation::ends(key(by))
//!             }
//!             _ => Correlation::ignores(),
//!         }
//!     }
//!
//!     fn apply(&mut self, trigger: &Trigger<CourseEvent>, context: &Context) {
//!         if let Trigger::Event(CourseEvent::Booked { by }) = trigger {
//!             (self.course, self.by) = (context.stream_id.clone(), by.clone());
//!         }
//!     }
//!
//!     fn react(&self, trigger: &Trigger<CourseEvent>, _: &Context) -> Reaction {
//!         match trigger {
//!             Trigger::Event(CourseEvent::Booked { .. }) => {
//!                 Reaction::none().timer("confirm", Duration::from_secs(3_600))
//!             }
//!             Trigger::TimerFired { .. } => {
//!                 let cancel = CourseCommand::Cancel { by: self.by.clone() };
//!                 Reaction::none().command::<Course>(&self.course, cancel)
//!             }
//!             _ => Reaction::none(),
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = Store::memory();
//! let runtime = Runtime::new(&store).process::<Unconfirmed>().start().await?;
//! # runtime.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # An effect
//!
//! An event asks for it, and the attempt is recorded before the outside world is touched. After a
//! crash in between the attempt is *in doubt*: it is looked up, and not repeated unless the policy
//! says that repeating does no harm.
//!
//! ```
//! # #![allow(dead_code)]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/course.rs"));
//! struct SendTicket;
//!
//! impl Effect for SendTicket {
//!     const NAME: &'static str = "send ticket";
//!     const INTENT: &'static str = "course.TicketRequested";
//!     type Intent = Ticket;
//!     type Outcome = ();
//!     type Target = Course;
//!
//!     fn policy(&self) -> Policy {
//!         // The printer knows a job by its key, and prints it once.
//!         Policy::repeatable()
//!     }
//!
//!     async fn perform(&self, attempt: &Attempt<Ticket>) -> Performed<()> {
//!         println!("{}: a ticket for {}", attempt.idempotency_key(), attempt.intent.to);
//!         Performed::Done(())
//!     }
//!
//!     fn report(
//!         &self,
//!         attempt: &Attempt<Ticket>,
//!         _: &Conclusion<()>,
//!     ) -> Option<(String, CourseCommand)> {
//!         let course = attempt.event.stream.as_ref()?.name.id().to_owned();
//!         Some((course, CourseCommand::SayTicketSent { to: attempt.intent.to.clone() }))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = Store::memory();
//! let runtime = Runtime::new(&store).effect(SendTicket).start().await?;
//! # runtime.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A test
//!
//! With the feature `testing`, as a dev-dependency: given these events, when this command comes,
//! then these follow.
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! # #![allow(dead_code)]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/course.rs"));
//! use leftfold::testing::given;
//!
//! # fn main() {
//! let booked = |name: &str| CourseEvent::Booked { by: name.into() };
//! given::<Course>([booked("ada"), booked("bob")])
//!     .when(CourseCommand::Book { by: "cyd".into() })
//!     .then_refused(Full);
//! # }
//! ```
//!
//! `leftfold::testing::explorer` runs processes, effects and projections through every crash point
//! and thousands of orders of things, and tells the shortest story that breaks them.
//!
//! # Beyond the first page
//!
//! - [`fold`]: queries and tags, snapshots, upcasters for events that changed, metadata,
//!   [following](store::Store::follow) events live.
//! - [`runtime`]: inboxes and outboxes, commands at a time and by a plan, status, metrics, what is
//!   parked and in doubt.
//! - [`store`]: the contract that every store fulfils, with appends, conditions, subscriptions and
//!   all limits.
#![cfg_attr(
    feature = "personal",
    doc = "- [`personal`]: data of people, sealed so that it can be forgotten."
)]
//! - [`copy`]: a store into a new one through a function of its events.
//! - [`operations`]: a store as lines of JSON, and back.
//! - [`log`]: the embedded engine: options, backup, restore, verification.
//!
//! # Features
//!
//! | feature | has |
//! | --- | --- |
//! | `log` (default) | the embedded log |
//! | `nats` | an outbox and an inbox over NATS JetStream |
//! | `personal` | personal data that can be forgotten; its keys in a directory (`log`) or a database (`postgres`) |
//! | `postgres` | the store in PostgreSQL, and read models there |
//! | `postgres-tls` | the same, and connections that are encrypted if the URL demands it |
//! | `remote` | the store of a server (`leftfold serve`), by `leftfold://host:2113` |
//! | `remote-tls` | the same, and connections that are encrypted if the URL demands it |
//! | `sign` | the end of a store's history is signed, and checked later |
//! | `sqlite`, `redis` | read models there |
//! | `amqp` | outboxes and inboxes over RabbitMQ |
//! | `amqp-tls` | the same, and `amqps://` |
//! | `testing` | given/when/then, the explorer, conformance suites |
//! | `opentelemetry` | spans of `tracing` that continue the traces of their callers |

// `open` takes the URL of a store, and `open_keys` that of its keys; `file_url` reads both.

mod file_url;
mod open;
#[cfg(all(feature = "personal", any(feature = "log", feature = "postgres")))]
mod open_keys;

pub use file_url::FileUrlError;
#[cfg(feature = "amqp")]
pub use leftfold_amqp as amqp;
#[cfg(feature = "personal")]
pub use leftfold_core::personal;
pub use leftfold_core::{copy, fold, operations, runtime, span, store};
#[cfg(feature = "log")]
pub use leftfold_log as log;
#[cfg(feature = "nats")]
pub use leftfold_nats as nats;
#[cfg(feature = "postgres")]
pub use leftfold_postgres as postgres;
#[cfg(feature = "redis")]
pub use leftfold_redis as redis;
#[cfg(feature = "remote")]
pub use leftfold_remote as remote;
#[cfg(feature = "sqlite")]
pub use leftfold_sqlite as sqlite;
#[cfg(feature = "testing")]
pub use leftfold_testing as testing;
#[cfg(feature = "log")]
pub use open::directory_of;
#[cfg(feature = "postgres")]
pub use open::open_existing_rows;
pub use open::{OpenError, open, open_existing};
#[cfg(all(feature = "personal", any(feature = "log", feature = "postgres")))]
pub use open_keys::{OpenKeysError, open_keys};

/// Names that most programs need.
///
/// ```
/// use leftfold::prelude::*;
///
/// # fn main() -> Result<(), Invalid> {
/// let course = StreamName::of("course", "rust")?;
/// assert_eq!((course.category(), course.id()), ("course", "rust"));
/// let tags = Tags::none().with("person:ada").with("person:ada");
/// assert_eq!(tags.len(), 1);
/// # Ok(()) }
/// ```
pub mod prelude {
    pub use leftfold_core::fold::{
        Aggregate, Aggregates, Answer, Cause, Decided, Decision, Event, ExecuteError, Executed,
        Folded, LoadError, MetadataError, Moment, Owners, Recorded, SnapshotPolicy, Unknown,
        Upcasters,
    };
    pub use leftfold_core::runtime::inbox::{Delivery, Inbox, OverGap, Receipt, ReceiveError};
    pub use leftfold_core::runtime::process::{
        Context, Correlation, Process, Reaction, Refused, Targets, Trigger,
    };
    pub use leftfold_core::runtime::projection::{Projection, ProjectionError};
    pub use leftfold_core::runtime::{
        Attempt, Conclusion, Effect, EffectId, Missed, Performed, Plan, Policy, Recurring, Runtime,
    };
    pub use leftfold_core::store::{
        Expected, Invalid, Kind, Mismatch, Position, Query, Store, StreamName, Tags, Timestamp,
        Version,
    };
}

/// The example of the README, which is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code in the chapters of the book that include none from elsewhere.
#[cfg(doctest)]
#[doc = include_str!("../../../book/src/coming-from.md")]
#[doc = include_str!("../../../book/src/deploying.md")]
#[cfg_attr(feature = "sign", doc = include_str!("../../../book/src/operating-a-store.md"))]
#[doc = include_str!("../../../book/src/signatures.md")]
struct Chapters;
