//! Opening a directory of the machine: to write, to read only, and after it was restored from a
//! copy.
//!
//! `directory` takes the lock of the directory, `contents` tells a log from something else in it,
//! `recover` finds its durable end (docs/log-format.md, section 5), `doubt` compares the machine's
//! clock with the recorded time, and `error` has the errors. `verify` and `dump` take the same way
//! without changing anything.

pub(crate) mod contents;
pub(crate) mod directory;
pub(crate) mod doubt;
pub(crate) mod dump;
pub(crate) mod error;
pub(crate) mod recover;
pub(crate) mod verify;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leftfold_core::store::{Head, Identity, State, Status};

use crate::disk::{Disk, LeasedDisk, Lock, Overlay};
use crate::format::{MARK, segment_name, segment_number};
use crate::index::Index;
use crate::log::Log;
use crate::open::contents::refuse_unfinished;
use crate::open::directory::{directory, locked, take_lock};
use crate::open::error::{LogOpenError, Recovery};
use crate::open::recover::{TailRetries, next_epoch, recover};
use crate::options::{Existing, Options};
use crate::shared::SharedLog;
use crate::write::mark::EndMark;
use crate::write::tail::OpenPurpose;
use crate::write::writer::LogWriter;

impl Log {
    /// Opens the log in a directory, or begins one there, as the options say.
    ///
    /// ```
    /// use leftfold_core::store::{Append, EventType, NewEvent, Position, Store};
    /// use leftfold_log::{Log, Options};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path().join("events");
    /// let (log, recovery) = Log::open(&directory, Options::default())?;
    /// assert_eq!(recovery.head.position, Position::START);
    /// let store = Store::new(log);
    /// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}");
    /// store.append(Append::of(vec![opened])).await?;
    /// store.close().await?;
    ///
    /// let (_log, recovery) = Log::open(&directory, Options::default())?;
    /// assert!(recovery.closed_cleanly);
    /// assert_eq!(recovery.head.position, Position(1));
    /// # Ok(()) }
    /// ```
    pub fn open(
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        Self::open_on(directory(path.as_ref(), options.open)?, options)
    }

    /// Opens a log on any disk, or begins one there.
    ///
    /// If the disk is full a log that is there is opened to be read only: [`Recovery::no_room`] and
    /// the status say why.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use leftfold_core::store::{Append, Backend, EventType, NewEvent, Position};
    /// use leftfold_log::disk::Simulated;
    /// use leftfold_log::{Log, Options};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let disk = Simulated::new(7);
    /// let (log, _) = Log::open_on(Arc::new(disk.clone()), Options::default())?;
    /// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}");
    /// log.append(Append::of(vec![opened])).await?;
    ///
    /// // The power fails. What was acknowledged is there.
    /// let disk = disk.crash();
    /// let (_log, recovery) = Log::open_on(Arc::new(disk), Options::default())?;
    /// assert_eq!(recovery.head.position, Position(1));
    /// # Ok(()) }
    /// ```
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        let (writer, report) = match take_lock(&*disk) {
            Ok(lock) => {
                let opened = Self::writer(Arc::clone(&disk), options.clone(), OpenPurpose::Write);
                let (mut writer, report) = match opened {
                    Err(full @ LogOpenError::Full { .. }) => without_room(&disk, &options, full)?,
                    opened => opened?,
                };
                writer.hold(lock);
                (writer, report)
            }
            // The lock is a file too.
            Err(full @ LogOpenError::Full { .. }) => without_room(&disk, &options, full)?,
            Err(error) => return Err(error),
        };
        Ok((Self::start(writer)?, report))
    }

    /// Everything but the thread.
    pub(crate) fn writer(
        disk: Arc<dyn Disk>,
        options: Options,
        purpose: OpenPurpose,
    ) -> Result<(LogWriter, Recovery), LogOpenError> {
        let (leased, tenure) = LeasedDisk::of(disk);
        let disk: Arc<dyn Disk> = Arc::new(leased);
        let recovered = recover(&disk, &options, purpose)?;
        let state = match purpose {
            OpenPurpose::Write => State::Open,
            OpenPurpose::Read | OpenPurpose::Verify => {
                State::ReadOnly { detail: "it was opened to be read only".to_owned() }
            }
        };
        let status = Status { head: recovered.report.head, state };
        let shared = SharedLog::new(
            recovered.report.identity,
            status,
            recovered.segments,
            recovered.index,
            &options,
            recovered.tail.chain.recorded_at,
        );
        shared.figures.tail_bytes.store(recovered.tail.len, Ordering::Relaxed);
        let shared = Arc::new(shared);
        let epoch = recovered.report.identity.epoch;
        Ok((
            LogWriter {
                tenure: Some(tenure),
                shared,
                disk,
                options,
                epoch,
                purpose,
                tail: recovered.tail,
                mark: EndMark::default(),
                usual_bytes: 0,
                half_made: false,
            },
            recovered.report,
        ))
    }

    /// Opens the log in a directory to be read only, as it is now: media that are written once, a
    /// copy, or the directory of a process that has it open. Nothing is changed and no lock is
    /// taken; missing parts of the index are built in memory.
    ///
    /// Only events that are certainly durable are shown. The last group of a log that was not
    /// closed may be written and not synced, by a process that is still writing or was killed: a
    /// crash of the machine would take it back after a reader has seen it. So it is held back,
    /// until a group, a seal or a segment stands behind it, or the writer marked it as durable;
    /// [`Recovery::held_back`] tells how many events it has. Only opening the log to be written can
    /// make it certain.
    ///
    /// ```
    /// use leftfold_core::store::{Append, AppendError, Store};
    /// use leftfold_log::{Log, Options};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path().join("events");
    /// # Store::new(Log::open(&directory, Options::default())?.0).close().await?;
    /// let (log, recovery) = Log::open_read_only(&directory, Options::default())?;
    /// assert_eq!(recovery.held_back, 0);
    /// let refused = Store::new(log).append(Append::default()).await;
    /// assert!(matches!(refused, Err(AppendError::ReadOnly { .. })));
    /// # Ok(()) }
    /// ```
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        Self::open_read_only_on(directory(path.as_ref(), Existing::Only)?, options)
    }

    /// The same, on any disk.
    pub fn open_read_only_on(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        let (writer, report, _) = reader(&disk, &options)?;
        Ok((Self::start(writer)?, report))
    }
}

/// Opens the log of a full disk to be read only. If that is not possible, the error is that there
/// is no room.
fn without_room(
    disk: &Arc<dyn Disk>,
    options: &Options,
    full: LogOpenError,
) -> Result<(LogWriter, Recovery), LogOpenError> {
    let Ok((writer, mut report, _)) = reader(disk, options) else { return Err(full) };
    let detail = format!("{full}; until then it is read only");
    tracing::error!(detail, "the log was opened to be read only");
    let state = State::ReadOnly { detail: detail.clone() };
    writer.shared.status.send_modify(|status| status.state = state);
    report.no_room = Some(detail);
    Ok((writer, report))
}

/// Opens a log to be read only, over a disk that keeps in memory what would be written.
pub(crate) fn reader(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<(LogWriter, Recovery, Arc<Overlay>), LogOpenError> {
    refuse_unfinished(&**disk, &disk.names()?)?;
    let options = Options { open: Existing::Only, ..options.clone() };
    let mut looks = TailRetries::new();
    let mut before = None;
    loop {
        let overlay = Arc::new(Overlay::over(Arc::clone(disk)));
        let over: Arc<dyn Disk> = Arc::clone(&overlay) as Arc<dyn Disk>;
        match Log::writer(over, options.clone(), OpenPurpose::Read) {
            // What looks wrong while a process is at the directory looks otherwise a moment later:
            // files come and go between one look at them and the next. What is wrong stays as it
            // is.
            Err(error @ (LogOpenError::Damaged { .. } | LogOpenError::Io { .. })) => {
                if before.as_ref() == Some(&error) || !looks.again() {
                    return Err(error);
                }
                before = Some(error);
            }
            // The segment was completed meanwhile, so what was held back is durable.
            Ok((writer, report))
                if report.held_back > 0
                    && overlay
                        .open(&segment_name(writer.tail.segment.header.number + 1))
                        .is_ok()
                    && looks.again() => {}
            Ok((writer, report)) => return Ok((writer, report, overlay)),
            Err(error) => return Err(error),
        }
    }
}

/// Report of what a declared restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The store, with its new epoch.
    pub identity: Identity,
    /// Its end when the epoch began.
    pub head: Head,
}

/// Declares that the log in a directory is a copy that was brought back: its index is rebuilt, and
/// a new epoch begins. Consumers that have seen more events, or other ones, are told so when they
/// come back.
///
/// ```
/// use leftfold_core::store::Store;
/// use leftfold_log::{Log, Options, restore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("events");
/// # let (log, recovery) = Log::open(&directory, Options::default())?;
/// # Store::new(log).close().await?;
/// // The directory was copied back from a backup.
/// let restored = restore(&directory, Options::default())?;
/// assert_eq!(restored.identity.store, recovery.identity.store);
/// assert_eq!(restored.identity.epoch.number, recovery.identity.epoch.number + 1);
/// # Ok(()) }
/// ```
pub fn restore(path: impl AsRef<Path>, options: Options) -> Result<Restored, LogOpenError> {
    restore_on(directory(path.as_ref(), Existing::Only)?, options)
}

/// The same, on any disk.
pub fn restore_on(disk: Arc<dyn Disk>, options: Options) -> Result<Restored, LogOpenError> {
    refuse_unfinished(&*disk, &disk.names()?)?;
    declare(&disk, options)
}

/// Declares a restore, also in a directory where one is under way.
pub(crate) fn declare(disk: &Arc<dyn Disk>, options: Options) -> Result<Restored, LogOpenError> {
    let lock = locked(&**disk)?;
    declare_locked(disk, options, &*lock)
}

/// The same, for whoever has the lock of the directory.
pub(crate) fn declare_locked(
    disk: &Arc<dyn Disk>,
    options: Options,
    _lock: &dyn Lock,
) -> Result<Restored, LogOpenError> {
    let options = Options { open: Existing::Only, ..options };
    if disk.names()?.iter().all(|name| segment_number(name).is_none()) {
        return Err(LogOpenError::Missing { place: disk.place() });
    }
    Index::discard(&**disk)?;
    for name in disk.names()?.iter().filter(|name| name.ends_with(".off") || *name == MARK) {
        disk.remove(name)?;
    }
    let (writer, report) = Log::writer(Arc::clone(disk), options, OpenPurpose::Write)?;
    let epoch = next_epoch(report.identity, report.head);
    let head =
        writer.begin_epoch(epoch).map_err(|error| LogOpenError::Io { detail: error.detail })?;
    Ok(Restored { identity: Identity { store: report.identity.store, epoch }, head })
}
