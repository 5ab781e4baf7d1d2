//! Interface of a database that has the rows of projections.
//!
//! A target keeps two things in one transaction: the user's rows, and *notes*, small values by
//! which the runtime remembers where each version of a projection stands, what it has parked, and
//! what it consumed. The runtime alone knows what notes mean; a target only keeps them.

use std::future::Future;
use std::time::Duration;

use super::ProjectionError;
use crate::store::{Fence, Label, Position, RecordedEvent};

/// One version of one projection, in one of its lanes: each session is for one. Versions do not see
/// each other's rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The projection.
    pub name: &'static str,
    /// Its version; with [`BESIDE`](super::BESIDE) added, the other place of its rows, in which it
    /// is rebuilt beside those that serve. To a target that is a version like others.
    pub version: u32,
    /// Number of the lane, from 0; lane 0 sets up.
    pub lane: usize,
}

/// Database or other home of projections. Cheap to clone; clones are the same target.
///
/// A target of its own is most often a driver of a database. Here one adds to another: it counts
/// how often readers were given another version.
///
/// ```
/// # use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// use leftfold_core::runtime::projection::{Memory, MemorySession, Place, ProjectionError, Target};
///
/// #[derive(Clone, Default)]
/// struct Counted {
///     rows: Memory<BTreeMap<String, u64>>,
///     switched: Arc<AtomicU32>,
/// }
///
/// impl Target for Counted {
///     type Session = MemorySession<BTreeMap<String, u64>>;
///     const DURABLE: bool = false;
///     const UNDOES: bool = false;
///
///     async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
///         self.switched.fetch_add(1, Ordering::Relaxed);
///         self.rows.serve(name, version).await
///     }
///
///     async fn open(&self, place: &Place) -> Result<Self::Session, ProjectionError> {
///         self.rows.open(place).await
///     }
///     # async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
///     #     self.rows.serving(name).await
///     # }
///     # async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
///     #     self.rows.versions(name).await
///     # }
///     # async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
///     #     self.rows.discard(name, version).await
///     # }
///     # fn is_away(&self, error: &ProjectionError) -> bool { self.rows.is_away(error) }
///     // The other methods are handed on in the same way.
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), ProjectionError> {
/// let target = Counted::default();
/// target.serve("balances", 1).await?;
/// assert_eq!(target.serving("balances").await?, Some(1));
/// assert_eq!(target.switched.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
pub trait Target: Clone + Send + Sync + 'static {
    /// A connection for one lane of one version.
    type Session: Session;
    /// Tells whether its calls block the thread, as an embedded database does: its sessions then
    /// get a thread of their own.
    const BLOCKING: bool = false;
    /// Tells whether its content can be rebuilt: not if it was sent to somebody.
    const REBUILDS: bool = true;
    /// Tells whether rows outlive the process. If not, they are built at every start.
    const DURABLE: bool = true;
    /// Tells whether a rollback undoes all that was written. If not, it empties the version, rows
    /// and notes; the runtime does not roll back then, but drops the session, rebuilds the version
    /// in its other place, and lets readers see the rows as they were until then. So that an event
    /// that fails does not lead there, [`apply`](super::Projection::apply) must refuse before
    /// anything is written.
    const UNDOES: bool = true;
    /// Tells whether its notes are kept in the event store that the projection reads. All runtimes
    /// that share that store share the notes, so one runtime at a time works on them, by a lease.
    const KEPT_IN_STORE: bool = false;
    /// Number of lanes of one projection that can write at the same time.
    const LANES_MAX: usize = 1;
    /// Time between two signs of life of a session that has nothing to write, if the target gives
    /// the place of one that gives none to others: so the place of a process that stands still is
    /// taken over. `None` if it does not.
    const TOUCHED_EVERY: Option<Duration> = None;

    /// Opens a session for a place, which is made if it does not exist. There is one session for a
    /// place at a time: if another one exists, of this process or another, this is an error that
    /// says who has it.
    fn open(
        &self,
        place: &Place,
    ) -> impl Future<Output = Result<Self::Session, ProjectionError>> + Send;

    /// Returns the version that readers see; `None` until one has served.
    fn serving(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<u32>, ProjectionError>> + Send;

    /// Lets readers see a version, from one moment to the next.
    fn serve(
        &self,
        name: &str,
        version: u32,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Every version that there are rows of, in ascending order.
    fn versions(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<u32>, ProjectionError>> + Send;

    /// Removes the rows and the notes of a version; it does not serve after that. If a session has
    /// the version, this is an error that says who.
    fn discard(
        &self,
        name: &str,
        version: u32,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Names the home of the rows, if other processes may have the same one: alike in each of them,
    /// whichever way it is reached, and otherwise than any other home. The runtimes on one event
    /// store divide the places of such a home between them. The name is shown to people, so it has
    /// no secrets; of more than [`HOME_BYTES_MAX`](super::HOME_BYTES_MAX) bytes only a hash is
    /// shown. `None` if the home belongs to one process, or cannot tell: then whoever asks for a
    /// place first has it.
    fn shared_as(&self) -> impl Future<Output = Result<Option<String>, ProjectionError>> + Send {
        async { Ok(None) }
    }

    /// Tells whether an error of [`open`](Target::open) means that another session has the place:
    /// then this one stands by, which is no trouble.
    fn is_in_use(&self, error: &ProjectionError) -> bool {
        let _ = error;
        false
    }

    /// Returns the notes of a place whose keys begin with one of these, as they were committed, of
    /// one moment, without taking the place: whoever stands by learns so how far the session is
    /// that has it. In ascending order of their keys' bytes; empty if the place does not exist.
    /// `None` if the target cannot tell: then those who wait for a position in a runtime that
    /// stands by wait until it has the place.
    fn noted(
        &self,
        place: &Place,
        prefixes: &[&str],
    ) -> impl Future<Output = Result<Option<Notes>, ProjectionError>> + Send {
        let _ = (place, prefixes);
        async { Ok(None) }
    }

    /// Tells whether an error means that the target cannot be used now by anyone (it is away, its
    /// disk is full, another session holds a lock), and not that this event cannot be applied. It
    /// is waited for then.
    fn is_away(&self, error: &ProjectionError) -> bool;
}

/// Notes of a place: keys and values.
pub type Notes = Vec<(String, Vec<u8>)>;

/// A connection for one lane of one version, with at most one transaction open.
///
/// A future of it that is dropped half-way leaves the session unusable; the runtime drops it then,
/// which must undo whatever was not committed.
///
/// A session as the runtime uses it:
///
/// ```
/// # use std::collections::BTreeMap;
/// use leftfold_core::runtime::projection::{Memory, Place, ProjectionError, Session, Target};
/// use leftfold_core::store::Position;
///
/// # #[tokio::main] async fn main() -> Result<(), ProjectionError> {
/// let target: Memory<BTreeMap<String, u64>> = Memory::new();
/// let place = Place { name: "balances", version: 1, lane: 0 };
/// let mut session = target.open(&place).await?;
///
/// session.begin().await?;
/// session.at(Position(7));
/// session.rows().insert("ada".to_owned(), 500);
/// session.note("lane 0", Some(b"7")).await?;
/// session.commit().await?;
///
/// session.begin().await?;
/// let notes = session.notes("lane", None, 10).await?;
/// assert_eq!(notes, [("lane 0".to_owned(), b"7".to_vec())]);
/// session.commit().await?;
/// # Ok(()) }
/// ```
pub trait Session: Send {
    /// Handle through which users' code writes.
    type Rows: Send;

    /// Gives a sign of life, while no transaction is open: see [`Target::TOUCHED_EVERY`].
    fn touch(&mut self) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        async { Ok(()) }
    }

    /// Opens a transaction.
    fn begin(&mut self) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Gives the position of the event that is applied next, within an open transaction. Positions
    /// may come again: after a crash, or if an event is tried again. A target that cannot keep rows
    /// and checkpoint in one transaction guards its writes by this; others need not care.
    fn at(&mut self, position: Position) {
        let _ = position;
    }

    /// The same, with the event itself.
    fn takes(&mut self, event: &RecordedEvent) {
        self.at(event.position);
    }

    /// Says under which lease the next transactions are, which their appends to the event store
    /// carry. Others need not care.
    fn under(&mut self, fence: Option<(Label, Fence)>) {
        let _ = fence;
    }

    /// Returns the handle through which users' code writes, while a transaction is open.
    fn rows(&mut self) -> &mut Self::Rows;

    /// Keeps a note, or removes it, with the transaction. Keys have at most 200 bytes, values at
    /// most 16 KiB. Notes belong to the version: its lanes see each other's, and never write the
    /// same.
    fn note(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Returns the notes whose keys begin with `prefix`, in ascending order of their keys' bytes,
    /// at most `at_most`, after a key; those of the open transaction are seen. Asked for while a
    /// transaction is open.
    fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> impl Future<Output = Result<Notes, ProjectionError>> + Send;

    /// Ends the transaction: rows and notes are durable together.
    fn commit(&mut self) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Ends the transaction: nothing of it remains.
    fn rollback(&mut self) -> impl Future<Output = Result<(), ProjectionError>> + Send;
}

/// Handle through which users' code of a projection writes.
pub type Rows<T> = <<T as Target>::Session as Session>::Rows;
