//! Inboxes: messages from outside take effect once (also called idempotent consumer), in the order
//! of their source, and no gap is waited for without end.
//!
//! `intake` receives a message and records it as an event of its `source`, an aggregate that knows
//! which numbers came and which are missing; `delivering` is the process that hands the recorded
//! messages to the inbox, and gives a gap up in time. `receiving` brings in what comes from the
//! queue of a broker.

mod delivering;
mod intake;
mod receiving;
mod source;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use delivering::Delivering;
pub use intake::{Gap, Intake, Receipt, ReceiveError, Report, ReportPage, Reported, SourceStatus};
pub use receiving::{
    Arrival, BrokerQueue, CONNECT_WITHIN, QueueSession, RECEIVED_MAX, ReceiverState,
    ReceiverStatus, RunningReceiver, SETTLE_WITHIN, Settlement,
};
pub use source::{HELD_BYTES_MAX, HELD_MAX, Refusal};

use super::Runtime;
use super::names::JoinedName;
use super::positions::{Owner, as_it_is, no_label};
use super::process::{Reaction, Targets};
use crate::store::{Store, Timestamp};

/// Owner of the records of sources in a copy of the store: they hold ids, numbers and messages, no
/// positions.
pub(super) const OWNER: Owner = Owner { category: "$inbox", rewrite: as_it_is, label: no_label };

/// The name of something that belongs to an inbox.
const fn joined(prefix: &str, name: &str) -> JoinedName {
    JoinedName::new(prefix, name, 40, "an inbox's name has 1 to 40 bytes and no -")
}

// ANCHOR: limits
/// Bytes of one message, as JSON.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Greatest depth of nested arrays and objects in a message: so a command or an event that contains
/// it, some levels deeper, can still be read.
pub const MESSAGE_DEPTH_MAX: usize = 100;
/// Bytes of the name of a source, and of the id of a message.
pub const ID_BYTES_MAX: usize = 200;
// ANCHOR_END: limits

/// Messages from outside of one kind, from any number of sources.
///
/// [`receive`](Intake::receive) makes a message durable: once it has returned, the sender may
/// forget it. A message is known by its source and its id, and heard once, however often it comes.
/// If a source numbers its messages they are delivered in that order: one that comes before its
/// turn is *held* until those before it have come, at most for [`hold`](Inbox::hold). Then the gap
/// is [released or reported](OverGap). Sources do not wait for each other, and a message without a
/// number waits for nothing.
///
/// Delivery is a [process](super::process::Process) named `inbox:NAME`, with one instance for each
/// source: [`deliver`](Inbox::deliver) says which commands a message means, and they are carried
/// out once each. If `deliver` panics, the message no longer parses, or a command cannot be carried
/// out, the source is parked under that name until a person retries or skips it; other sources go
/// on. A command that is refused is [reported](Reported::Refused).
///
/// ```
/// use std::time::Duration;
/// use leftfold_core::fold::{Aggregate, Event};
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::inbox::{Delivery, Inbox, Receipt};
/// use leftfold_core::runtime::process::{Reaction, Targets};
/// use leftfold_core::store::{Query, Position, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum ParcelEvent { Scanned { place: String } }
/// impl Event for ParcelEvent { const NAMESPACE: &'static str = "parcel"; }
///
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Parcel { places: Vec<String> }
/// #[derive(Serialize, Deserialize)]
/// struct Scan { place: String }
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
/// #[error("never")]
/// struct Never;
///
/// impl Aggregate for Parcel {
///     const CATEGORY: &'static str = "parcel";
///     type Event = ParcelEvent;
///     type Command = Scan;
///     type Refusal = Never;
///     fn apply(&mut self, event: &ParcelEvent) {
///         let ParcelEvent::Scanned { place } = event;
///         self.places.push(place.clone());
///     }
///     fn decide(&self, scan: &Scan) -> Result<Vec<ParcelEvent>, Never> {
///         Ok(vec![ParcelEvent::Scanned { place: scan.place.clone() }])
///     }
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Update { parcel: String, place: String }
///
/// struct Tracking;
/// impl Inbox for Tracking {
///     const NAME: &'static str = "tracking";
///     type Message = Update;
///     fn targets() -> Targets { Targets::of::<Parcel>() }
///     fn hold() -> Duration { Duration::from_secs(600) }
///     fn deliver(update: &Update, _: &Delivery) -> Reaction {
///         Reaction::none().command::<Parcel>(&update.parcel, Scan { place: update.place.clone() })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let runtime = Runtime::new(&store).inbox::<Tracking>().start().await?;
/// let inbox = store.inbox::<Tracking>();
/// let at = |place: &str| Update { parcel: "P1".into(), place: place.into() };
/// // The second comes first, and waits for the first.
/// let ahead = inbox.receive("depot", "m2", Some(2), at("Ulm")).await?;
/// assert_eq!(ahead, Receipt::Held { missing: 1 });
/// assert_eq!(inbox.receive("depot", "m1", Some(1), at("Kiel")).await?, Receipt::Accepted);
/// assert_eq!(inbox.receive("depot", "m1", Some(1), at("Kiel")).await?, Receipt::Duplicate);
/// # let mut scans = store.subscribe(Query::category("parcel"), Position::START);
/// # (scans.event().await?, scans.event().await?);
/// assert_eq!(store.aggregate::<Parcel>().load("P1").await?.state.places, ["Kiel", "Ulm"]);
/// runtime.stop().await?;
/// # Ok(())
/// # }
/// ```
pub trait Inbox: Send + Sync + 'static {
    /// Names the inbox in the log and in status. Has no `-`, and at most 40 bytes.
    const NAME: &'static str;
    /// The number of the first message of every source that numbers its messages.
    const FIRST: u64 = 1;
    /// Message of a source. Written as JSON; old messages that are not delivered yet are read as
    /// this.
    type Message: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Returns the aggregates that it commands.
    fn targets() -> Targets;

    /// Returns the time that a message is held for those before it, counted from when it was
    /// received.
    fn hold() -> Duration {
        Duration::from_secs(600)
    }

    /// Returns the treatment of a gap after that time.
    fn over_gap() -> OverGap {
        OverGap::Release
    }

    /// Returns the meaning of a message: commands and effects. Pure. Called in order for each
    /// source.
    fn deliver(message: &Self::Message, from: &Delivery) -> Reaction;
}

/// Treatment of a gap that was not filled in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverGap {
    /// The messages held behind it are delivered, and the gap is listed. Messages of the gap that
    /// come afterwards are delivered as [late](Delivery::is_late).
    Release,
    /// The gap is listed, and the held messages wait until the gap is filled, or a person
    /// [releases](Intake::release) it.
    Report,
}

/// Circumstances of a message's arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Name of the source.
    pub source: String,
    /// Its id, as the source gave it.
    pub id: String,
    /// Its number, if the source gave it one.
    pub sequence: Option<u64>,
    /// True if messages with greater numbers were delivered before it, because its gap was
    /// released.
    pub is_late: bool,
    /// Time at which it was accepted for delivery.
    pub at: Timestamp,
}

impl Store {
    /// An inbox of this store.
    #[must_use]
    pub fn inbox<I: Inbox>(&self) -> Intake<I> {
        Intake::new(self)
    }
}

impl Runtime {
    /// Delivers the messages that an inbox accepts.
    pub fn inbox<I: Inbox>(self) -> Self {
        self.process::<Delivering<I>>()
    }
}
