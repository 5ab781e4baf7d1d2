//! The handle on all projections: how each one stands, waiting for one, its parked items, and what
//! changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::desk::{Change, Desk, ProjectionReaders, ReaderNews, Standing};
use super::parked::Parked;
use super::receipts::{self, ConsumedNotes, Verified, VerifyError};
use crate::runtime::consumer::AskError;
use crate::runtime::consumer::status::{Board, ConsumerStatus};
use crate::store::{Position, Query, Read, Store};

/// All projections of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Projections {
    pub(in crate::runtime) store: Store,
    pub(in crate::runtime) board: Arc<Board>,
    pub(in crate::runtime) entries: Arc<[VersionEntry]>,
}

/// One version of a projection, and the way to its runner.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct VersionEntry {
    pub(in crate::runtime) desk: Arc<Desk>,
    pub(in crate::runtime) asks: mpsc::Sender<ProjectionRequest>,
}

/// Request of a person to a runner.
pub(in crate::runtime) enum ProjectionRequest {
    Retry { key: String, answer: Answer<Retried> },
    Skip { position: Position, by: String, answer: Answer<Retried> },
    SkipAll { positions: Vec<Position>, by: String, answer: Answer<Skipped> },
    Taken { answer: Answer<ConsumedNotes> },
}

type Answer<T> = oneshot::Sender<Result<T, AskError>>;

/// State of one version of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// The projection.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// True if readers see this version.
    pub serves: bool,
    /// Number of parked items.
    pub parked: usize,
    /// Its progress, and the condition that it waits for.
    pub consumer: ConsumerStatus,
}

/// Result of trying parked items again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// The events that are in the rows now.
    pub applied: Vec<Position>,
    /// The first that failed again, and that others wait for.
    pub stopped_by: Option<Parked>,
}

/// Result of letting parked items go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// The events that never go into the rows.
    pub skipped: Vec<Position>,
    /// Result of retrying the items that had waited for them.
    pub retried: Retried,
}

impl Retried {
    fn merge(&mut self, other: Self) {
        self.applied.extend(other.applied);
        self.stopped_by = self.stopped_by.take().or(other.stopped_by);
    }
}

/// A projection has not come to a position in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReached {
    /// Time is up.
    #[error("{name} is at {stands_at}, it waits for {waits_for}")]
    Late {
        /// The projection.
        name: String,
        /// Position up to which readers see everything.
        stands_at: Position,
        /// Reason why it has not come further.
        waits_for: String,
    },
    /// The projection has reached the position, but not all events up to there are in the rows: the
    /// event, or an earlier one of its stream, waits for a person.
    #[error(
        "{name} is at {stands_at}, but the event at {position} is parked, retry or skip it: {reason}"
    )]
    Parked {
        /// The projection.
        name: String,
        /// Position up to which readers see everything, except parked events.
        stands_at: Position,
        /// The first parked event that was waited for.
        position: Position,
        /// Message of the failure, or a note that it waits for an earlier event.
        reason: String,
    },
    /// No projection of this runtime has the name.
    #[error(
        "no projection of this runtime is named {name}, register it with Runtime::project or write the NAME of one that is"
    )]
    Unknown {
        /// The name.
        name: String,
    },
}

impl Projections {
    /// Returns the state of each version of each projection.
    #[must_use]
    pub fn list(&self) -> Vec<ProjectionStatus> {
        let statuses = self.board.statuses(&self.store);
        let status = |VersionEntry { desk, .. }: &VersionEntry| {
            let consumer = statuses.iter().find(|status| status.name == desk.label)?.clone();
            let (serves, parked) = (desk.serves(), desk.parked_len());
            Some(ProjectionStatus {
                name: desk.name,
                version: desk.version,
                serves,
                parked,
                consumer,
            })
        };
        self.entries.iter().filter_map(status).collect()
    }

    /// Waits until the rows that readers see hold the event at a position, so that they find what
    /// was just written. Returns the position reached, up to which every event is in the rows or
    /// parked. That holds for every later read, also if another version of this runtime takes the
    /// place of the one that serves in between; a version that another program builds on the same
    /// target may be behind.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (store, rows) = (Store::memory(), Memory::new());
    /// let runtime = Runtime::new(&store).project(Balances, rows.clone()).start().await?;
    /// let deposit = WalletCommand::Deposit { cents: 500 };
    /// let done = store.aggregate::<Wallet>().execute("ada", deposit).await?;
    ///
    /// let projections = runtime.projections();
    /// projections.wait_until("balances", done.position, Duration::from_secs(5)).await?;
    /// assert_eq!(rows.read(|rows| rows["ada"]).await, 500);
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotReached::Parked`] if the event, or an earlier one of its stream, is parked: it is not
    /// in the rows. Parked events of other streams keep nobody waiting; [`Projections::parked`]
    /// lists them. [`NotReached::Late`] if it does not come that far within the time; the error
    /// says why.
    pub async fn wait_until(
        &self,
        name: &str,
        position: Position,
        within: Duration,
    ) -> Result<Position, NotReached> {
        let readers =
            self.readers(name).ok_or_else(|| NotReached::Unknown { name: name.to_owned() })?;
        let reached = async {
            let (entry, through) = self.reach(name, readers, position).await?;
            Some((through, self.parked_of(entry, position).await))
        };
        match timeout(within, reached).await {
            Ok(Some((through, None))) => Ok(through),
            Ok(Some((stands_at, Some(Parked { position, state, .. })))) => {
                let reason = state.error().unwrap_or("it waits for an earlier one").to_owned();
                Err(NotReached::Parked { name: name.to_owned(), stands_at, position, reason })
            }
            Ok(None) | Err(_) => Err(self.late(name, readers)),
        }
    }

    /// The first parked item that keeps the event at a position, or an earlier one of its stream,
    /// out of the rows.
    async fn parked_of(&self, entry: &VersionEntry, position: Position) -> Option<Parked> {
        if entry.desk.parked_len() == 0 {
            return None;
        }
        // A commit may end with an event that the projection does not read: its stream is known to
        // the log alone.
        let page = self.store.page(Read::matching(Query::all(), position).page_of(1)).await;
        let event = page
            .ok()
            .and_then(|page| page.events.into_iter().find(|event| event.position == position));
        let stream =
            event.as_ref().and_then(|event| event.stream.as_ref()).map(|at| at.name.as_str());
        let parked = entry.desk.parked();
        let concerns =
            |item: &&Parked| item.position == position || Some(item.stream.as_str()) == stream;
        parked.items().take_while(|item| item.position <= position).find(concerns).cloned()
    }

    async fn reach<'p>(
        &'p self,
        name: &'p str,
        readers: &ProjectionReaders,
        position: Position,
    ) -> Option<(&'p VersionEntry, Position)> {
        let mut serving = readers.serving.subscribe();
        loop {
            let seen = *serving.borrow_and_update();
            let served = self.named(name).find(|entry| Some(entry.desk.slot()) == seen.place);
            let Some(served) = served else {
                serving.changed().await.ok()?;
                continue;
            };
            if seen.handing_over {
                // What was promised is in the rows that serve, and will be in the next ones.
                let promised = readers.promised();
                if position <= promised {
                    return Some((served, promised));
                }
                serving.changed().await.ok()?;
                continue;
            }
            let mut standing = served.desk.standing.subscribe();
            served.desk.awaited.notify_one();
            let reached =
                standing.wait_for(|standing| standing.through >= position || standing.ended);
            tokio::select! {
                biased;
                reached = reached => {
                    let Standing { through, .. } = *reached.ok()?;
                    if through < position {
                        return None;
                    }
                    if readers.promise(seen, through) {
                        return Some((served, through));
                    }
                }
                changed = serving.changed() => changed.ok()?,
            }
        }
    }

    fn late(&self, name: &str, readers: &ProjectionReaders) -> NotReached {
        let seen = *readers.serving.borrow();
        let handing_over = seen.handing_over;
        let all = self.list();
        let mut named = all.iter().filter(|status| status.name == name);
        let served = named.clone().find(|status| status.serves);
        // A caller may show the rows with this position, so it is a promise too.
        let told = |through: Position| match readers.promise(seen, through) {
            true => through,
            false => through.min(readers.promised()),
        };
        let newest = named.clone().max_by_key(|status| status.version).filter(|_| handing_over);
        let (stands_at, waits_for) = match (served, newest.or_else(|| named.next())) {
            (Some(served), Some(next)) if handing_over => {
                let (number, waits_for) = (next.version, &next.consumer.waits_for);
                let waits_for =
                    format!("version {number} to take its place, which waits for {waits_for}");
                (told(served.consumer.through), waits_for)
            }
            (Some(served), _) => (told(served.consumer.through), served.consumer.waits_for.clone()),
            (None, Some(building)) => {
                let (number, waits_for) = (building.version, &building.consumer.waits_for);
                (
                    Position::START,
                    format!("version {number} to be built, which waits for {waits_for}"),
                )
            }
            (None, None) => (Position::START, "its start".to_owned()),
        };
        NotReached::Late { name: name.to_owned(), stands_at, waits_for }
    }

    /// Lists the items that every version of a projection has parked, in order of the log.
    pub fn parked(&self, name: &str) -> Result<Vec<Parked>, AskError> {
        self.known(name)?;
        let mut parked: Vec<Parked> = Vec::new();
        for entry in self.named(name) {
            parked.extend(entry.desk.parked().items().cloned());
        }
        parked.sort_by_key(|item| item.position);
        Ok(parked)
    }

    /// Tries the parked items of a key again, in order, up to the first that fails again. Each
    /// event is read again from the log, so that today's code and upcasters see it, and goes into
    /// the rows once, with its release.
    pub async fn retry(&self, name: &str, key: &str) -> Result<Retried, AskError> {
        let key = key.to_owned();
        self.ask_all(name, |_| true, |answer| ProjectionRequest::Retry { key: key.clone(), answer })
            .await
    }

    /// Lets one parked event go: it never goes into the rows, and the person's name is recorded.
    /// The rest of its key is tried then.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::{Memory, NotReached};
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let runtime = Runtime::new(&store).project(Balances, Memory::new()).start().await?;
    /// let projections = runtime.projections();
    ///
    /// // `Balances` refuses a deposit of nothing.
    /// let nothing = [WalletEvent::Deposited { cents: 0 }];
    /// let position = store.aggregate::<Wallet>().record("ada", &nothing).await?.last();
    /// let waited = projections.wait_until("balances", position, Duration::from_secs(5)).await;
    /// assert!(matches!(waited, Err(NotReached::Parked { .. })));
    ///
    /// let parked = projections.parked("balances")?;
    /// assert_eq!(parked[0].state.error(), Some("a deposit of nothing"));
    /// projections.skip("balances", position, "bob").await?;
    /// assert!(projections.parked("balances")?.is_empty());
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn skip(
        &self,
        name: &str,
        position: Position,
        by: &str,
    ) -> Result<Retried, AskError> {
        let has_it = |desk: &Desk| desk.parked().find(position).is_some();
        if self.readers(name).is_some() && !self.named(name).any(|entry| has_it(&entry.desk)) {
            return Err(AskError::NotParked { position: Some(position) });
        }
        self.ask_all(name, has_it, |answer| ProjectionRequest::Skip {
            position,
            by: by.to_owned(),
            answer,
        })
        .await
    }

    /// Tries everything again that is parked and meant, as [`retry`](Self::retry) does: key by key,
    /// in order, each up to the first that fails again. Items that wait for one that is not meant
    /// wait on.
    pub async fn retry_all(
        &self,
        name: &str,
        meant: impl Fn(&Parked) -> bool + Send,
    ) -> Result<Retried, AskError> {
        self.known(name)?;
        let mut all = Retried::default();
        for entry in self.named(name) {
            let firsts = entry.desk.parked().firsts();
            for first in firsts.into_iter().filter(&meant) {
                all.merge(
                    entry.ask(|answer| ProjectionRequest::Retry { key: first.key, answer }).await?,
                );
            }
        }
        Ok(all)
    }

    /// Lets every parked item go that `meant` admits, also those that wait for another: they never
    /// go into the rows, and the person's name is recorded. Items that had waited for them, and are
    /// not meant, are tried then.
    pub async fn skip_all(
        &self,
        name: &str,
        meant: impl Fn(&Parked) -> bool + Send,
        by: &str,
    ) -> Result<Skipped, AskError> {
        self.known(name)?;
        let mut all = Skipped::default();
        for entry in self.named(name) {
            let positions: Vec<Position> = entry
                .desk
                .parked()
                .items()
                .filter(|item| meant(item))
                .map(|item| item.position)
                .collect();
            let skipped = entry
                .ask(|answer| ProjectionRequest::SkipAll { positions, by: by.to_owned(), answer })
                .await?;
            all.skipped.extend(skipped.skipped);
            all.retried.merge(skipped.retried);
        }
        Ok(all)
    }

    /// The keys whose rows change from now on, as readers see them. A version that is being built
    /// says nothing here; that it has begun to serve is reported as [`ChangesError::Missed`], after
    /// which everything is to be read again.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::store::{Position, Store};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let runtime = Runtime::new(&store).project(Balances, Memory::new()).start().await?;
    /// let projections = runtime.projections();
    /// projections.wait_until("balances", Position::START, Duration::from_secs(5)).await?;
    ///
    /// let mut changes = projections.changes("balances")?;
    /// let deposit = WalletCommand::Deposit { cents: 500 };
    /// store.aggregate::<Wallet>().execute("ada", deposit).await?;
    /// assert_eq!(changes.next().await?.key, "wallet-ada");
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub fn changes(&self, name: &str) -> Result<Changes, AskError> {
        Ok(Changes(self.known(name)?.feed.subscribe()))
    }

    /// Compares the events that the serving version has consumed with the log, while it runs.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use std::time::Duration;
    ///
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let runtime = Runtime::new(&store).project(Balances, Memory::new()).start().await?;
    /// let deposit = WalletCommand::Deposit { cents: 500 };
    /// let done = store.aggregate::<Wallet>().execute("ada", deposit).await?;
    ///
    /// let projections = runtime.projections();
    /// projections.wait_until("balances", done.position, Duration::from_secs(5)).await?;
    /// let verified = projections.verify("balances").await?;
    /// assert_eq!((verified.events, verified.through), (1, done.position));
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn verify(&self, name: &str) -> Result<Verified, VerifyError> {
        let failed = |error: AskError| VerifyError::Target(error.into());
        let served =
            self.named(name).find(|entry| entry.desk.serves()).or_else(|| self.named(name).next());
        let entry =
            served.ok_or_else(|| failed(AskError::UnknownProjection { name: name.to_owned() }))?;
        let taken =
            entry.ask(|answer| ProjectionRequest::Taken { answer }).await.map_err(failed)?;
        receipts::compare(&self.store, entry.desk.query.clone(), &taken).await
    }

    fn named<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p VersionEntry> {
        self.entries.iter().filter(move |entry| entry.desk.name == name)
    }

    fn known(&self, name: &str) -> Result<&ProjectionReaders, AskError> {
        self.readers(name).ok_or_else(|| AskError::UnknownProjection { name: name.to_owned() })
    }

    fn readers(&self, name: &str) -> Option<&ProjectionReaders> {
        self.entries.iter().find(|entry| entry.desk.name == name).map(|entry| &*entry.desk.readers)
    }

    /// Asks every version that is meant, one after the other.
    async fn ask_all(
        &self,
        name: &str,
        meant: impl Fn(&Desk) -> bool,
        ask: impl Fn(Answer<Retried>) -> ProjectionRequest,
    ) -> Result<Retried, AskError> {
        self.known(name)?;
        let mut all = Retried::default();
        for entry in self.named(name).filter(|entry| meant(&entry.desk)) {
            let retried = entry.ask(&ask).await?;
            all.merge(retried);
        }
        Ok(all)
    }
}

impl VersionEntry {
    async fn ask<R>(
        &self,
        ask: impl FnOnce(Answer<R>) -> ProjectionRequest,
    ) -> Result<R, AskError> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.map_err(|_| AskError::Stopped)?;
        answered.await.map_err(|_| AskError::Stopped)?
    }
}

/// The changes of a projection, in the order of their commits. Dropped without ceremony.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<ReaderNews>);

/// Reason why there is no next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangesError {
    /// Changes were missed: the reader must read everything again, and then it goes on. A reader
    /// that was too slow is told how many. There is no number if another version has begun to
    /// serve, or if the target was away and may have taken a transaction that it did not confirm;
    /// possibly nothing has changed then.
    #[error("changes were missed, read everything again")]
    Missed(Option<u64>),
    /// The runtime has stopped.
    #[error("the runtime has stopped")]
    Ended,
}

impl Changes {
    /// The next change; waits for it. Safe to cancel.
    pub async fn next(&mut self) -> Result<Change, ChangesError> {
        match self.0.recv().await {
            Ok(ReaderNews::Change(change)) => Ok(change),
            Ok(ReaderNews::ReadAnew) => Err(ChangesError::Missed(None)),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Err(ChangesError::Missed(Some(missed)))
            }
            Err(broadcast::error::RecvError::Closed) => Err(ChangesError::Ended),
        }
    }
}
