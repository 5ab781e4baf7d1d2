//! Projections: read models that follow the log, rows and checkpoint in one transaction.
//!
//! `start` registers a projection with its target, and starts a `runner` for each version. A runner
//! follows the log and hands each `batch` to its `lane`s, where events, notes and checkpoint become
//! one transaction; `calls` limits the time of each call to the target. `rebuild` opens a version
//! in one of its `places`, goes on from its `notes`, and lets it take the place of the former one.
//! Events that fail, by an `error` of the projection, are `parked`, and tried again by `retry`;
//! what was consumed is in `receipts`. A place that several processes share goes to each in `turn`,
//! and a runner whose place another session has stands `behind` it.
//! `desk` is the state that a runner shares with the `handle`
//! of the application; `progress` shows it on a terminal. `target` is the interface of a database;
//! `memory` and `outbox` are two implementations.

mod batch;
mod behind;
mod calls;
mod desk;
mod error;
mod handle;
mod lane;
mod memory;
mod notes;
mod outbox;
mod parked;
mod places;
pub(in crate::runtime) mod progress;
mod rebuild;
mod receipts;
mod retry;
mod runner;
mod start;
mod target;
mod turn;

use std::future::{self, Future};

pub use super::consumer::{AskError, PARKED_MAX};
pub use batch::{BATCH_EVENTS_MAX, KEY_BYTES_MAX};
pub use calls::{APPLY_WITHIN, DISCARD_WITHIN, LOCK_WITHIN, TARGET_WITHIN};
pub use desk::{CHANGES_MAX, Change};
pub use error::{ProjectionError, with_causes};
pub use handle::{
    Changes, ChangesError, NotReached, ProjectionStatus, Projections, Retried, Skipped,
};
pub use lane::TRIES;
pub use memory::{Memory, MemorySession};
pub(in crate::runtime) use outbox::OWNER as OUTBOX_OWNER;
pub use outbox::{Bus, Message, Outbox, OutboxSession, Outgoing};
pub use parked::{Parked, ParkedState};
pub use places::BESIDE;
pub use receipts::{EventReceipt, RECEIPT_RANGE, Verified, VerifyError, verify};
pub(crate) use start::StandaloneProjection;
pub(in crate::runtime) use start::{PlacedProjection, Registered};
pub use target::{Notes, Place, Rows, Session, Target};
pub use turn::HOME_BYTES_MAX;

use crate::fold::{Event, Recorded};
use crate::store::RecordedEvent;

/// A read model: rows that follow the events.
///
/// [`apply`](Projection::apply) writes through a transaction that the runtime opened and commits
/// together with the checkpoint, many events at a time. So each event is in the rows exactly once,
/// whenever the process is killed. It touches nothing but the rows: no clock, no network, no
/// effect; a rebuild calls it for every event that there ever was. Effects follow the log and not
/// the rows, so none fires from a rebuild.
///
/// An event that fails is tried again a few times; then its [`key`](Projection::key) is *parked*:
/// it and every later event of that key wait in order until a person lets them be tried again or
/// skipped, while other keys go on. An event that cannot be read has no key; it is parked under its
/// stream, and later events of that stream wait with it.
///
/// A database that is away is waited for; nothing is parked for it.
///
/// Here over the wallets of [`Aggregate`](crate::fold::Aggregate):
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs"));
#[doc = include_str!("../../../doc/balances.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use leftfold_core::runtime::Runtime;
/// # use leftfold_core::store::Store;
/// let store = Store::memory();
/// let wallets = store.aggregate::<Wallet>();
/// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
///
/// let rows = Memory::new();
/// Runtime::new(&store).project(Balances, rows.clone()).run_until_idle().await?;
/// assert_eq!(rows.read(|rows| rows["ada"]).await, 500);
/// # Ok(()) }
/// ```
pub trait Projection<T: Target>: Send + Sync + 'static {
    /// Names the read model in status, in the target, and for readers: `[a-z][a-z0-9_]*`, at most
    /// 40 bytes.
    const NAME: &'static str;
    /// Raised whenever rows come to mean something else: the new version is built beside the one
    /// that serves, and takes its place when it has caught up.
    const VERSION: u32 = 1;
    /// Number of parts that the keys may be divided into, each with a transaction of its own, if
    /// the target allows that: events of one key stay in order, those of different keys may be
    /// applied in any order. 1 keeps all in order.
    const LANES: usize = 1;
    /// The events that it reads: its own view of them, with no more variants and fields than it
    /// needs.
    type Event: Event;

    /// Returns the key of an event, by default its stream: events of one key must be applied in
    /// order, and wait together if one is parked. Pure, and asked for only if it is needed. At most
    /// [`KEY_BYTES_MAX`]; if it is longer, or panics, the event counts as one that cannot be read.
    fn key(&self, event: &Recorded<Self::Event>) -> String {
        stream_key(&event.envelope)
    }

    /// Makes the tables, in the first transaction of a version.
    fn set_up(
        &self,
        rows: &mut Rows<T>,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        let _ = rows;
        future::ready(Ok(()))
    }

    /// Takes one event into the rows.
    fn apply(
        &self,
        rows: &mut Rows<T>,
        event: &Recorded<Self::Event>,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;
}

/// Returns the key of an event if a projection names none: its stream; events without a stream have
/// one key together.
#[must_use]
pub fn stream_key(event: &RecordedEvent) -> String {
    event.stream.as_ref().map_or_else(String::new, |at| at.name.to_string())
}
