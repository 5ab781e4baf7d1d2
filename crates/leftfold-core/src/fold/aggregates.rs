//! The aggregates of one kind in a store: loaded from the fold that is kept, or from a snapshot.

use std::sync::Arc;
use std::time::Duration;

use super::aggregate::Aggregate;
use super::cache::{FoldCache, FoldSlot, Folded, KeptFold, state_bytes};
use super::command::Origin;
use super::error::EventError;
use super::facts::{self, Facts, RecordError};
use super::history::{History, LoadError};
use super::schema::{Purpose, Schema};
use super::snapshot::{self, SnapshotTrust, SnapshotUse};
use crate::json;
use crate::store::{
    Appended, Invalid, NewEvent, Position, Read, RecordedEvent, Store, StreamName, Timestamp,
    Version,
};

/// A moment in the past of an aggregate: a version, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After the event that gave it this version.
    Version(Version),
    /// With everything recorded at or before this time.
    Time(Timestamp),
}

impl From<Version> for Moment {
    fn from(version: Version) -> Self {
        Self::Version(version)
    }
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl Store {
    /// Bounds the bytes of folded aggregates that are kept in memory, all kinds together; 64 MiB if
    /// this is not called before the first use of an aggregate. Tells whether the bound was taken.
    pub fn keep_folds(&self, bytes_max: usize) -> bool {
        FoldCache::of(self, bytes_max).bytes_max() == bytes_max
    }

    /// The aggregates of one kind. An event type that is no plain enum makes every use of them an
    /// error.
    #[must_use]
    pub fn aggregate<A: Aggregate>(&self) -> Aggregates<A> {
        let folds = FoldCache::of(self, FoldCache::BYTES_USUAL);
        let trust = self.attached(SnapshotTrust::default);
        let shared = SharedAggregates {
            store: self.clone(),
            folds,
            trust,
            schema: self.schema::<A::Event>(Purpose::Writing),
        };
        Aggregates { shared: Arc::new(shared), kind: std::marker::PhantomData }
    }
}

/// All aggregates of one kind in a store. Cheap to clone.
#[derive(Debug)]
pub struct Aggregates<A> {
    pub(super) shared: Arc<SharedAggregates>,
    kind: std::marker::PhantomData<fn() -> A>,
}

/// Parts that all clones have in common.
#[derive(Debug)]
pub(super) struct SharedAggregates {
    pub(super) store: Store,
    pub(super) folds: Arc<FoldCache>,
    trust: Arc<SnapshotTrust>,
    schema: Result<Arc<Schema>, EventError>,
}

impl<A> Clone for Aggregates<A> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), kind: self.kind }
    }
}

impl<A: Aggregate> Aggregates<A> {
    /// Records facts that nothing depends on, without deciding and without any condition: they
    /// never conflict.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// // Two deposits that a machine counted: nobody can refuse them.
    /// let counted = [WalletEvent::Deposited { cents: 20 }, WalletEvent::Deposited { cents: 50 }];
    /// let recorded = wallets.record("ada", &counted).await?;
    /// assert_eq!(recorded.versions, [Version(1), Version(2)]);
    /// assert_eq!(wallets.load("ada").await?.state.cents, 70);
    /// # Ok(()) }
    /// ```
    pub async fn record(&self, id: &str, events: &[A::Event]) -> Result<Appended, RecordError> {
        self.facts(id, events).record().await.map(|recorded| recorded.appended)
    }

    /// Such facts with an id, a cause, metadata; to be recorded.
    pub fn facts<'e>(&self, id: &str, events: &'e [A::Event]) -> Facts<'e, A::Event> {
        Facts::new(&self.shared.store, self.schema(), StreamName::of(A::CATEGORY, id), events)
    }

    /// Loads the state as it is now.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    /// let ada = wallets.load("ada").await?;
    /// assert_eq!((ada.state.cents, ada.version), (500, Version(1)));
    ///
    /// // An aggregate without events is the default state.
    /// let bob = wallets.load("bob").await?;
    /// assert_eq!((bob.state, bob.version), (Wallet::default(), Version::ABSENT));
    /// # Ok(()) }
    /// ```
    pub async fn load(&self, id: &str) -> Result<Folded<A>, LoadError> {
        let slot = self.slot(id)?;
        let mut place = slot.fold.lock().await;
        self.shared.folds.count(place.is_some());
        self.fresh(id, &slot.stream, &mut place).await?;
        // Where it did not fail it left the fold in its place.
        Ok(place.as_ref().expect("a fresh fold").folded.clone())
    }

    /// Loads the state as it was at a version, or at a time. A version beyond the last gives the
    /// last.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use std::time::Duration;
    ///
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletCommand, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let first = wallets.record("ada", &[WalletEvent::Deposited { cents: 500 }]).await?;
    /// wallets.execute("ada", WalletCommand::Withdraw { cents: 200 }).await?;
    ///
    /// assert_eq!(wallets.load_at("ada", Version(1)).await?.state.cents, 500);
    /// assert_eq!(wallets.load_at("ada", first.recorded_at).await?.state.cents, 500);
    /// let before = first.recorded_at.minus(Duration::from_micros(1));
    /// assert_eq!(wallets.load_at("ada", before).await?.version, Version::ABSENT);
    /// # Ok(()) }
    /// ```
    pub async fn load_at(
        &self,
        id: &str,
        moment: impl Into<Moment>,
    ) -> Result<Folded<A>, LoadError> {
        let stream = StreamName::of(A::CATEGORY, id)?;
        let (version, position) = match moment.into() {
            Moment::Version(version) => (version, Position::END),
            Moment::Time(time) => (Version::END, self.shared.store.position_at(time).await?),
        };
        let start = self.snapshotted(&stream).await?.map(|kept| kept.folded);
        let mut folded =
            match start.filter(|folded| folded.version <= version && folded.position <= position) {
                Some(folded) => folded,
                None => Folded::empty()?,
            };
        self.fold_on(&mut folded, &stream, version, position).await?;
        Ok(folded)
    }

    /// Reads the aggregate's events with their metadata, from a version on.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletCommand, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    /// wallets.execute("ada", WalletCommand::Withdraw { cents: 200 }).await?;
    ///
    /// let mut history = wallets.history("ada", Version(2))?;
    /// let withdrawal = history.next().await?.ok_or("there is a second event")?;
    /// assert_eq!(withdrawal.event, WalletEvent::Withdrawn { cents: 200 });
    /// assert_eq!((withdrawal.version(), withdrawal.stream_id()), (Version(2), "ada"));
    /// assert_eq!(history.next().await?, None);
    /// # Ok(()) }
    /// ```
    pub fn history(&self, id: &str, from: Version) -> Result<History<A::Event>, LoadError> {
        let stream = StreamName::of(A::CATEGORY, id)?;
        let events = self.shared.store.read(Read::stream(stream, Version(from.0.max(1))));
        Ok(History {
            events,
            schema: self.schema()?,
            unknown: A::UNKNOWN,
            ready: Vec::new().into_iter(),
        })
    }

    /// Decodes a recorded event as the fold reads it: usually one event, none if its type does not
    /// concern the fold.
    pub fn decode(&self, event: &RecordedEvent) -> Result<Vec<A::Event>, EventError> {
        self.schema()?.decode(event, A::UNKNOWN)
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(super) fn schema(&self) -> Result<Arc<Schema>, EventError> {
        self.shared.schema.clone()
    }

    pub(super) fn slot(&self, id: &str) -> Result<Arc<FoldSlot<A>>, Invalid> {
        self.shared.folds.slot(id, || StreamName::of(A::CATEGORY, id))
    }

    pub(super) fn encode(
        &self,
        stream: &StreamName,
        events: &[A::Event],
        origin: &Origin,
    ) -> Result<Vec<NewEvent>, EventError> {
        let schema = self.shared.schema.as_ref().map_err(Clone::clone)?;
        facts::encode(schema, stream, events, origin)
    }

    /// Brings the fold in its place up to the durable end, from what is kept if something is. What
    /// is kept stays in its place.
    pub(super) async fn fresh(
        &self,
        id: &str,
        stream: &StreamName,
        place: &mut Option<KeptFold<A>>,
    ) -> Result<(), LoadError> {
        // What comes from a snapshot has not been weighed, however old it is.
        let before = place.as_ref().map_or(Version::ABSENT, |kept| kept.folded.version);
        if place.is_none() {
            *place = Some(match self.snapshotted(stream).await? {
                Some(kept) => kept,
                None => KeptFold::empty()?,
            });
        }
        let Some(kept) = place else { return Ok(()) };
        let first = match self.fold_on(&mut kept.folded, stream, Version::END, Position::END).await
        {
            Ok(FoldFreshness::Since(first)) => first,
            Ok(FoldFreshness::FromElsewhere) => {
                tracing::warn!(%stream, version = %kept.folded.version, "a kept fold is ahead of its stream and not used");
                *place = Some(KeptFold::empty()?);
                return Box::pin(self.fresh(id, stream, place)).await;
            }
            Err(LoadError::Event(panicked @ EventError::Panicked { .. })) => {
                *place = None;
                return Err(panicked.into());
            }
            Err(error) => return Err(error),
        };
        kept.unsaved_since = kept.unsaved_since.or(first);
        self.weigh(id, before, &kept.folded);
        self.keep_snapshot(stream, kept);
        Ok(())
    }

    /// Says what the fold weighs, if it has grown to double its version.
    pub(super) fn weigh(&self, id: &str, before: Version, folded: &Folded<A>) {
        if before.0.checked_ilog2() != folded.version.0.checked_ilog2() {
            self.shared.folds.weigh::<A>(id, state_bytes(&folded.state));
        }
    }

    /// Applies the events that follow in the stream, up to a version and a position. Returns the
    /// recorded time of the first of them.
    ///
    /// Whatever fails, the fold is one of whole events; only if `apply` panics it is to be thrown
    /// away.
    async fn fold_on(
        &self,
        folded: &mut Folded<A>,
        stream: &StreamName,
        version: Version,
        position: Position,
    ) -> Result<FoldFreshness, LoadError> {
        let schema = self.schema()?;
        let mut first = None;
        let mut parts: Vec<A::Event> = Vec::with_capacity(1);
        let begun =
            self.shared.store.page(Read::stream(stream.clone(), folded.version.next())).await?;
        if begun.stream_version.is_some_and(|actual| actual < folded.version) {
            return Ok(FoldFreshness::FromElsewhere);
        }
        let mut rest = begun.next.map(|what| {
            self.shared.store.read(Read { what, ..Read::stream(stream.clone(), Version::END) })
        });
        let mut page = Some(begun.events);
        while let Some(events) = page {
            for event in events {
                if event.version() > version || event.position > position {
                    return Ok(FoldFreshness::Since(first));
                }
                schema.decode_each(&event, A::UNKNOWN, |event| parts.push(event))?;
                EventError::caught::<A, _>("apply", || {
                    parts.drain(..).for_each(|event| folded.state.apply(&event))
                })?;
                first = first.or(Some(event.recorded_at));
                folded.version = event.version();
                folded.position = event.position;
            }
            page = match &mut rest {
                Some(rest) => rest.page().await?,
                None => None,
            };
        }
        Ok(FoldFreshness::Since(first))
    }

    /// Loads the fold of a snapshot that belongs to this fold and to this history; `None` if there
    /// is none.
    async fn snapshotted(&self, stream: &StreamName) -> Result<Option<KeptFold<A>>, LoadError> {
        if A::snapshots().is_never() {
            return Ok(None);
        }
        let key = snapshot::key::<A>(self.shared.store.identity().store, stream);
        let Some(bytes) = self.shared.store.snapshot(key).await? else { return Ok(None) };
        let Some(folded) = snapshot::decode::<A>(&bytes) else { return Ok(None) };
        let page =
            self.shared.store.page(Read::stream(stream.clone(), folded.version).page_of(1)).await?;
        let last = page.events.first().map(|event| (event.version(), event.position));
        if last != Some((folded.version, folded.position)) {
            tracing::warn!(%stream, version = %folded.version, "a snapshot does not belong to this history and is not used");
            return Ok(None);
        }
        let events = folded.version.0;
        match self.shared.trust.of::<A>(events) {
            SnapshotUse::AsItIs => {}
            SnapshotUse::IfItAgrees if self.agrees(&folded, stream).await? => {
                self.shared.trust.agreed::<A>()
            }
            SnapshotUse::IfItAgrees => {
                self.shared.trust.lost::<A>();
                let (state, version) = (std::any::type_name::<A>(), A::FOLD_VERSION);
                tracing::error!(
                    %stream, state, version,
                    "a snapshot differs from the fold of its events: raise FOLD_VERSION; until then no snapshot of this type is used"
                );
                return Ok(None);
            }
            SnapshotUse::Never => return Ok(None),
        }
        Ok(Some(KeptFold { snapshot_version: folded.version, unsaved_since: None, folded }))
    }

    /// Tells whether a fold from the beginning gives the same state.
    async fn agrees(&self, folded: &Folded<A>, stream: &StreamName) -> Result<bool, LoadError> {
        let mut refolded = Folded::<A>::empty()?;
        self.fold_on(&mut refolded, stream, folded.version, folded.position).await?;
        Ok(json::is_same(&refolded.state, &folded.state))
    }

    /// Makes a snapshot if the policy asks for one.
    pub(super) fn keep_snapshot(&self, stream: &StreamName, kept: &mut KeptFold<A>) {
        let policy = A::snapshots();
        let events = kept.folded.version.0.saturating_sub(kept.snapshot_version.0);
        let waiting =
            kept.unsaved_since.map_or(Duration::ZERO, |since| Timestamp::now().since(since));
        if policy.is_never() || !policy.is_due(events, waiting) {
            return;
        }
        match snapshot::encode(&kept.folded) {
            Ok(bytes) => {
                tracing::debug!(%stream, version = %kept.folded.version, bytes = bytes.len(), "a snapshot was made");
                self.shared.store.keep_snapshot(
                    snapshot::key::<A>(self.shared.store.identity().store, stream),
                    bytes,
                );
            }
            Err(error) => {
                tracing::error!(%stream, error = error.with_name(), "no snapshot was made: the state would not be read as it is");
            }
        }
        kept.snapshot_version = kept.folded.version;
        kept.unsaved_since = None;
    }
}

/// Relation of a fold to its stream.
enum FoldFreshness {
    /// The fold is fresh; with the recorded time of the first event that is new to it, `None` if
    /// none is.
    Since(Option<Timestamp>),
    /// The fold has more events than the stream: an older store was put in place of the one that it
    /// was folded from.
    FromElsewhere,
}
