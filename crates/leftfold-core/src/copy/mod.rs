//! Copying a store into a new one through a function: rename, split, merge, drop and re-tag events
//! and streams.
//!
//! Nothing in a store is edited. If its history must become another, the store is copied, event by
//! event, while it goes on serving; then its writers are stopped, the rest is copied, and the new
//! store takes its place.
//!
//! ```
//! use leftfold_core::copy::{Copy, Transformed};
//! use leftfold_core::store::{Append, EventType, NewEvent, RecordedEvent, Store, StreamName};
//!
//! /// Streams of the category `shop` become `store`; what was only tried out stays behind.
//! fn renamed(event: &RecordedEvent) -> Transformed {
//!     let Some(at) = &event.stream else { return Transformed::Keep };
//!     let stream = &at.name;
//!     match stream.category() {
//!         "trial" => Transformed::Drop,
//!         "shop" => match StreamName::of("store", stream.id()) {
//!             Ok(stream) => event.to_new().in_stream(stream).into(),
//!             Err(_) => Transformed::Keep,
//!         },
//!         _ => Transformed::Keep,
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let (old, new) = (Store::memory(), Store::memory());
//! for stream in ["shop-1", "trial-1", "shop-1"] {
//!     let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
//!     old.append(Append::of(vec![sold.in_stream(StreamName::new(stream)?)])).await?;
//! }
//!
//! let copy = Copy::from(&old).into(&new).through(renamed);
//! copy.run_until_caught_up().await?; // as often as you like; after a crash it goes on
//! // … stop the writers of the old store …
//! copy.switch().await?;
//! let report = copy.verify().await?;
//! assert!(report.is_sound());
//! assert_eq!((report.old_events, report.dropped), (3, 1));
//! assert_eq!(new.version(StreamName::new("store-1")?).await?.0, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is kept
//! - **Order and appends.** Events go over in order; what was appended together stays together.
//! - **Ids.** The image of an event has its id, so that what refers to an event by its id
//!   (causation, correlation) stays right. An id that a store minted tells the millisecond at which
//!   the event was first recorded ([`EventId::moment`](crate::store::EventId::moment)).
//! - **Requests.** A request that was accepted or refused under a command id is answered again by
//!   the new store. A request without bytes of its own is recognised by its target; it is
//!   recognised under the stream's new name too, except one that recorded no event, and a decision
//!   whose query names something that was renamed: send those with their bytes. The version that
//!   was answered becomes that of the image of the last event; without an event it stays what it
//!   was.
//! - **The runtime's own events** (`$…`) are not shown to the function. They go over with the
//!   positions that they speak of rewritten: ledgers of effects, processes and their timers. What
//!   is concluded stays concluded, what is open stays open; the ledger of an intent that was
//!   dropped is dropped, and a trigger that waits for a person and was dropped is found at no
//!   position.
//! - **Consumers** that keep their checkpoint in the store have, after the switch, the position
//!   behind all images of the events that they had handled.
//!
//! # What is not
//! - **Times.** Time is a log's own and never runs backwards, so an image is recorded when it is
//!   copied. If the original moment is needed, let the function put it where it belongs: into the
//!   data, or a tag.
//! - **Snapshots,** which are a cache, and **checkpoints in other databases** (projections):
//!   rebuild those, or give them `new.checkpoint_at(copy.map(position).await?.through)`.
//! - **Positions in users' own data,** which is never parsed. Keep ids of events in data.
//! - **An intent that becomes several** of the same type asks several times: only its image has its
//!   ledger.
//! - **Effects of a store that was restored** and whose runtime did not run since: run it once
//!   before the switch, so that what is in doubt is recorded as such.
//!
//! # Files
//! 1. `transform` asks the user's function; `shape` is one such function, which brings events into
//!    today's shape.
//! 2. `record` is what a copy records of itself in the new store, and `map` the part of it that
//!    says where each position went. `references` answers from the map when records of the runtime
//!    are rewritten.
//! 3. `translate` makes of an append of the old store what it is in the new one. `reader` reads the
//!    appends of a store, and `walk` goes through those of both stores in step.
//! 4. `state` loads what was copied so far, `pump` copies the rest, and `verify` compares all of
//!    it. `error` has the errors, and `kind` says what each means to a caller.

mod error;
mod kind;
mod map;
mod pump;
mod reader;
mod record;
mod references;
mod shape;
mod state;
mod transform;
mod translate;
mod verify;
mod walk;

use std::sync::Arc;

pub use error::{CopyError, Difference, FunctionFault};
pub use map::{EventFate, Image, PositionMap};
pub use shape::in_todays_shape;
pub use transform::Transformed;
pub use verify::CopyReport;

use crate::store::{Position, RecordedEvent, Store};
use pump::Pump;
use state::CopyState;
use transform::Function;
use translate::Translation;

/// Consumers whose checkpoints are carried over at most.
pub const CONSUMERS_MAX: usize = 100_000;

/// A copy of a store into a new one.
///
/// It keeps nothing in memory between calls: its position is recorded in the new store, with what
/// was copied. Each call goes on from there, in this process or another, and a call that failed,
/// was dropped or was killed is just called again, with the same function. Nobody else may write
/// the new store before the switch; that is checked at every append.
#[derive(Clone, Debug)]
pub struct Copy {
    old: Store,
    new: Store,
    translation: Translation,
}

/// A copy that still lacks its new store.
#[derive(Clone, Debug)]
#[must_use = "say where it goes, with into"]
pub struct CopyFrom {
    old: Store,
}

/// A copy that still lacks its function.
#[derive(Clone, Debug)]
#[must_use = "say what happens to events, with through"]
pub struct CopyInto {
    old: Store,
    new: Store,
}

/// Progress of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Position of the old store up to which everything is copied.
    pub copied: Position,
    /// Durable end of the old store now.
    pub old_head: Position,
    /// End of the new store.
    pub new_head: Position,
}

impl Copy {
    /// Begins a copy of this store. It is only read, so a copy opened for reading will do.
    pub fn from(old: &Store) -> CopyFrom {
        CopyFrom { old: old.clone() }
    }

    /// The same copy, without the runtime's streams of a category: `$process:Refund` for a process
    /// that is given up.
    ///
    /// Mind what they are for: without `$effect` every intent is pending, and is carried out again.
    #[must_use]
    pub fn without(mut self, category: impl Into<String>) -> Self {
        let mut without = self.translation.without.to_vec();
        without.push(category.into());
        self.translation.without = without.into();
        self
    }

    /// Copies everything that is there. The old store may go on meanwhile.
    pub async fn run_until_caught_up(&self) -> Result<Progress, CopyError> {
        Pump::open(self).await?.run().await
    }

    /// Copies everything that is there and everything that comes, until `stop` is ready.
    pub async fn follow(&self, stop: impl Future<Output = ()>) -> Result<Progress, CopyError> {
        Pump::open(self).await?.follow(stop).await
    }

    /// Copies the rest, carries the checkpoints of consumers over, and ends the copy: from now on
    /// the new store is written.
    ///
    /// The caller sees to it that nobody writes the old store any more: its runtime is stopped, its
    /// writers are gone, best is that it is closed and opened again to be read only. An append that
    /// comes during the switch is noticed, and is an error that ends nothing; one that comes later
    /// is noticed by [`verify`](Copy::verify). Again after it succeeded it changes nothing.
    pub async fn switch(&self) -> Result<Progress, CopyError> {
        if let Some(CopyState { switched: Some(switched), .. }) = CopyState::load(self).await? {
            let (old_head, new_head) = (self.old.head().position, self.new.head().position);
            return Ok(Progress { copied: switched.through, old_head, new_head });
        }
        Pump::open(self).await?.switch().await
    }

    /// Compares what was copied with the old store: every append goes through the function again,
    /// and must be in the new store exactly so, in order, with its answer, at the place that the
    /// position map says. The first difference is named.
    pub async fn verify(&self) -> Result<CopyReport, CopyError> {
        verify::verify(self).await
    }

    /// Returns the image of a position of the old store. See [`PositionMap`] for a map that needs
    /// no old store.
    ///
    /// ```
    /// use leftfold_core::copy::{Copy, EventFate, Transformed};
    /// use leftfold_core::store::{Append, EventType, NewEvent, Position, Store};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (Store::memory(), Store::memory());
    /// for name in ["trial.Begun", "shop.Sold"] {
    ///     old.append(Append::of(vec![NewEvent::new(EventType::new(name)?, "{}")])).await?;
    /// }
    /// let copy = Copy::from(&old).into(&new).through(|event| {
    ///     let is_trial = event.event_type.starts_with("trial.");
    ///     if is_trial { Transformed::Drop } else { Transformed::Keep }
    /// });
    /// copy.run_until_caught_up().await?;
    /// assert_eq!(copy.map(Position(1)).await?.fate, EventFate::Dropped);
    /// assert_eq!(copy.map(Position(2)).await?.fate, EventFate::Copied);
    /// # Ok(()) }
    /// ```
    pub async fn map(&self, position: Position) -> Result<Image, CopyError> {
        match CopyState::load(self).await? {
            Some(mut state) => state.map.image(position).await,
            None => Err(CopyError::NotYet { position, copied: Position::START }),
        }
    }
}

impl CopyFrom {
    /// Sets the new store, which must be empty, or hold what this copy wrote so far.
    pub fn into(self, new: &Store) -> CopyInto {
        CopyInto { old: self.old, new: new.clone() }
    }
}

impl CopyInto {
    /// Sets the function, which is asked for each event. It is pure: it is asked again when the
    /// copy goes on, and when it is verified. The runtime's own events are not shown to it.
    ///
    /// ```
    /// use leftfold_core::copy::{Copy, Transformed};
    /// use leftfold_core::store::{Append, EventType, NewEvent, Store, Tags};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (Store::memory(), Store::memory());
    /// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
    /// old.append(Append::of(vec![sold])).await?;
    ///
    /// let copy = Copy::from(&old).into(&new).through(|event| {
    ///     let tags = Tags::none().with("origin:2025");
    ///     Transformed::from(event.to_new().tagged(tags))
    /// });
    /// let progress = copy.run_until_caught_up().await?;
    /// assert_eq!(progress.copied, old.head().position);
    /// # Ok(()) }
    /// ```
    pub fn through(
        self,
        function: impl Fn(&RecordedEvent) -> Transformed + Send + Sync + 'static,
    ) -> Copy {
        self.through_appends(move |events| events.iter().map(|event| function(event)).collect())
    }

    /// Sets a function of all events of one append, for changes that concern several of them: it
    /// answers for each, in order. Two become one if one is dropped and the other replaced.
    ///
    /// ```
    /// use leftfold_core::copy::{Copy, Transformed};
    /// use leftfold_core::store::{Append, EventType, NewEvent, RecordedEvent, Store};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (Store::memory(), Store::memory());
    /// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
    /// let noted = NewEvent::new(EventType::new("shop.Noted")?, "{}");
    /// old.append(Append::of(vec![sold, noted])).await?;
    ///
    /// // A note that was recorded with a sale is superfluous; one that stands alone stays.
    /// let copy = Copy::from(&old).into(&new).through_appends(|events| {
    ///     let has_sale = events.iter().any(|event| &*event.event_type == "shop.Sold");
    ///     let image = |event: &&RecordedEvent| match &*event.event_type {
    ///         "shop.Noted" if has_sale => Transformed::Drop,
    ///         _ => Transformed::Keep,
    ///     };
    ///     events.iter().map(image).collect()
    /// });
    /// copy.run_until_caught_up().await?;
    /// assert_eq!(copy.verify().await?.dropped, 1);
    /// # Ok(()) }
    /// ```
    pub fn through_appends(
        self,
        function: impl Fn(&[&RecordedEvent]) -> Vec<Transformed> + Send + Sync + 'static,
    ) -> Copy {
        let translation =
            Translation { function: Function::new(function), without: Arc::default() };
        Copy { old: self.old, new: self.new, translation }
    }
}
