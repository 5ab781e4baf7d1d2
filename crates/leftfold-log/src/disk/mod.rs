//! The disk as the engine sees it: one directory of files. The real one, or a simulated one that
//! can fail and crash.
//!
//! `real` is a directory of the machine, `simulated` one in memory. Before either may stand
//! `archived`, which finds segments in another directory, `leased`, which lets nobody change a
//! directory whose lock is gone, and `overlay`, which keeps in memory what a reader would write.

mod archived;
mod leased;
mod overlay;
mod real;
mod simulated;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use leftfold_core::store::Timestamp;

pub use archived::WithArchive;
pub(crate) use archived::{ARCHIVE, archive_name};
pub(crate) use leased::{DirectoryOwnership, LeasedDisk};
pub(crate) use overlay::Overlay;
pub use real::Real;
pub use simulated::{DiskUse, Fault, Simulated};

/// One directory. Names are plain file names.
///
/// Nothing is durable before a sync: a file's content before [`File::sync`], a name (made, replaced
/// or removed) before [`Disk::sync_names`].
///
/// A disk may stand before another one. This one counts the files that are made; the methods that
/// are not shown are handed on in the same way.
///
/// ```
/// use std::io;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// use leftfold_log::disk::{Disk, File, Lock, Simulated};
/// use leftfold_log::{Log, Options};
///
/// #[derive(Debug)]
/// struct Counted {
///     inner: Simulated,
///     created: AtomicU32,
/// }
///
/// impl Disk for Counted {
///     fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
///         self.created.fetch_add(1, Ordering::Relaxed);
///         self.inner.create(name)
///     }
///     # fn names(&self) -> io::Result<Vec<String>> { self.inner.names() }
///     # fn open(&self, name: &str) -> io::Result<Arc<dyn File>> { self.inner.open(name) }
///     # fn rename(&self, from: &str, to: &str) -> io::Result<()> { self.inner.rename(from, to) }
///     # fn remove(&self, name: &str) -> io::Result<()> { self.inner.remove(name) }
///     # fn sync_names(&self) -> io::Result<()> { self.inner.sync_names() }
///     # fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> { self.inner.lock(name) }
///     # fn place(&self) -> String { self.inner.place() }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = Arc::new(Counted { inner: Simulated::new(7), created: AtomicU32::new(0) });
/// let (_log, _) = Log::open_on(disk.clone(), Options::default())?;
/// assert!(disk.created.load(Ordering::Relaxed) > 0);
/// # Ok(()) }
/// ```
pub trait Disk: Debug + Send + Sync + 'static {
    /// The files that are there, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there: [`io::ErrorKind::NotFound`] if it is not.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a file that is not there: [`io::ErrorKind::AlreadyExists`] if it is.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had it, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every name durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Takes the exclusive lock of the directory, held until the value is dropped:
    /// [`io::ErrorKind::WouldBlock`] if another process has it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>>;

    /// Returns the location of the directory, for messages.
    fn place(&self) -> String;

    /// Tells whether other processes may read the directory: then a log that is open for writing
    /// keeps a file in it that names its durable end.
    fn is_shared(&self) -> bool {
        false
    }
}

/// An exclusive lock, released when dropped.
pub trait Lock: Debug + Send + Sync {}

/// One open file. Shared by readers and at most one writer.
///
/// ```
/// use leftfold_log::disk::{Disk, Simulated};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = Simulated::new(7);
/// let file = disk.create("notes")?;
/// file.write_all_at(b"durable", 0)?;
/// file.sync()?;
/// disk.sync_names()?;
///
/// let file = disk.crash().open("notes")?;
/// let mut bytes = [0; 7];
/// file.read_exact_at(&mut bytes, 0)?;
/// assert_eq!((&bytes, file.len()?), (b"durable", 7));
/// # Ok(()) }
/// ```
#[expect(
    clippy::len_without_is_empty,
    reason = "the length of a file is asked for to go on at its end"
)]
pub trait File: Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer from an offset: [`io::ErrorKind::UnexpectedEof`] if the file ends before
    /// the buffer is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes at an offset, growing the file if needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the content and the length durable.
    fn sync(&self) -> io::Result<()>;

    /// Returns the moment of the last change, `None` if the disk does not know it.
    fn changed(&self) -> io::Result<Option<Timestamp>> {
        Ok(None)
    }
}

/// Tells whether the disk has no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tells whether the system lacks something that it may have again: room on the disk, a file
/// handle, memory, a thread. The operation that it refused for that reason did not happen.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    // The same numbers on every Unix; they have no kind of their own.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | OutOfMemory | WouldBlock)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
