//! `leftfold backup`, `restore` and `archive`: copies of a log, and old parts of it elsewhere.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use leftfold::log::disk::{Disk, Real};
use leftfold::log::{
    BackedUp, BackupError, BackupProgress, Log, Options, Restored, backup, backup_history_on,
    restore_backup, restore_backup_on,
};
use leftfold::store::{ReadError, Store};
use serde_json::json;

use crate::access::{StoreArgument, in_use_or};
use crate::bucket::{BucketDisk, BucketPlace, LOCK_LOST};
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, bytes, count};

/// Backs up a log into a directory, or into object storage
///
/// Of a directory, or of a log that a server keeps, over its address. The log may be written
/// meanwhile. The first backup copies everything, later ones what is new.
/// If it is interrupted the backup before is still the backup, and the same call goes on. Object
/// storage is any that speaks the protocol of S3; the environment says where it is and who asks
/// (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
/// AWS_CA_BUNDLE).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold backup ./data /backup/shop
  leftfold backup leftfold://host/shop /backup/shop-of-host
  AWS_ENDPOINT_URL=https://minio.example leftfold backup ./data s3://backups/shop")]
pub(crate) struct BackupArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Directory of the backup, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    to: PathBuf,
}

/// Makes a log of a backup, and declares it restored
///
/// In a directory that is empty or not there; a server serves it then. Everything is checked, and a
/// new epoch begins, by which consumers and clients notice that they may have seen more than is
/// there now. If it is interrupted the same call begins anew.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// Directory of the backup, or s3://BUCKET/PREFIX
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    #[command(flatten)]
    store: StoreArgument,
}

/// Moves old segments of a log to another directory
///
/// The log reads them there from then on. It must not be open elsewhere. If it is interrupted the
/// same call goes on.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Directory of the archive
    #[arg(value_name = "DIRECTORY")]
    to: PathBuf,
    /// Leaves so many sealed segments, the newest ones, where they are
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    keep: usize,
}

/// Time in which an interrupted backup removes its lock in object storage, after the object that it
/// writes at that moment: less than the usual 30 seconds between SIGTERM and SIGKILL.
const LOCK_REMOVED_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of a page of the history of a store that a server keeps.
const PAGE_BYTES: u32 = 4 << 20;
const ELSEWHERE: &str = "use pg_dump for PostgreSQL";
const NO_RESTORE: &str = "a backup becomes a log in a directory: restore it on the server's machine \
    and serve that, or restore it here, \"dump\" it and \"import\" that over the address";
const NO_ARCHIVE: &str = "only a log in a directory has an archive: call it on the server's machine, \
    when the server has stopped";

pub(crate) async fn run(
    arguments: &BackupArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let log = match arguments.store.is_address() {
        true => None,
        false => Some(arguments.store.own_directory(ELSEWHERE)?),
    };
    // Nothing is made for a store that is not there.
    let store = arguments.store.open_to_read().await?;
    let (to, shown) = (arguments.to.clone(), arguments.to.display().to_string());
    let place = bucket(&to)?;
    let interrupt = match place {
        Some(_) => Interrupt::listen_within(LOCK_REMOVED_WITHIN),
        None => Interrupt::listen(),
    };
    let mut told = telling("backing up", &interrupt);
    let disk = place.map(|place| BucketDisk::open(place, interrupt.clone()));
    let done = match (log, disk) {
        (Some(log), Some(disk)) => {
            blocking(move || -> Result<_, BackupError> {
                let (log, _) = Log::open_read_only(log, Options::default())?;
                log.backup_on(&disk, &mut told)
            })
            .await?
        }
        (Some(log), None) => blocking(move || backup(log, to, &mut told)).await?,
        (None, disk) => {
            let disk: Box<dyn Disk> =
                match disk {
                    Some(disk) => Box::new(disk),
                    None => Box::new(Real::create(&to).map_err(|error| {
                        CliFailure::Failed(format!("{}: {error}", to.display()))
                    })?),
                };
            let interrupt = interrupt.clone();
            blocking(move || fetch(&store, &*disk, &interrupt, &mut told)).await?
        }
    };
    let BackedUp { identity, head, segments, copied_bytes } = match done {
        Err(error) if is_stopped(&error, &interrupt) => {
            return Err(CliFailure::Interrupted(Some("the same call goes on")));
        }
        done => done.map_err(of_backup)?,
    };
    if screen.is_json() {
        return screen.object(&json!({
            "store": identity.store.to_string(),
            "epoch": identity.epoch.number,
            "position": head.position.0,
            "segments": segments,
            "copiedBytes": copied_bytes,
        }));
    }
    let (end, new) = (count(head.position.0), bytes(copied_bytes));
    let said = format!("backed up to position {end} in {shown}, {new} were new");
    screen.line(screen.tint(Tint::Green, &said))
}

/// Backs up a log that a server keeps, on a thread that may wait.
fn fetch(
    store: &Store,
    to: &dyn Disk,
    interrupt: &Interrupt,
    told: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<BackedUp, BackupError> {
    let runtime = tokio::runtime::Handle::current();
    let mut history = |from| match interrupt.flow() {
        ControlFlow::Continue(()) => runtime.block_on(store.history(from, PAGE_BYTES)),
        // It is told as an interrupt.
        ControlFlow::Break(()) => Err(ReadError::Closed),
    };
    backup_history_on(store.identity(), &mut history, to, &Options::default(), told)
}

pub(crate) async fn restore(
    arguments: &RestoreArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let log = arguments.store.own_directory(NO_RESTORE)?;
    let (from, shown) = (arguments.from.clone(), log.display().to_string());
    let interrupt = Interrupt::listen();
    let mut told = telling("restoring", &interrupt);
    let options = Options::default();
    let place = bucket(&from)?;
    let restored = match place.map(|place| BucketDisk::open(place, interrupt.clone())) {
        Some(disk) => blocking(move || restore_bucket(&disk, &log, options, &mut told)).await?,
        None => blocking(move || restore_backup(from, log, options, &mut told)).await?,
    };
    let restored = match restored {
        Err(error) if is_stopped(&error, &interrupt) => {
            return Err(CliFailure::Interrupted(Some("the same call begins anew")));
        }
        restored => restored.map_err(of_backup)?,
    };
    if screen.is_json() {
        return screen.object(&json!({
            "store": restored.identity.store.to_string(),
            "epoch": restored.identity.epoch.number,
            "position": restored.head.position.0,
        }));
    }
    let (end, epoch) = (count(restored.head.position.0), restored.identity.epoch.number);
    let said = format!("restored to position {end} in {shown}, which begins epoch {epoch}");
    screen.line(screen.tint(Tint::Green, &said))?;
    let next = "consumers elsewhere may have seen more: see \"Restore\" in the book";
    screen.note(next)
}

pub(crate) async fn archive(
    arguments: &ArchiveArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let log = arguments.store.own_directory(NO_ARCHIVE)?;
    drop(arguments.store.open_to_read().await?);
    let (to, keep, shown) = (arguments.to.clone(), arguments.keep, arguments.to.display());
    let interrupt = Interrupt::listen();
    let asked = interrupt.clone();
    let report = blocking(move || {
        let opened = Log::open(&log, Options::default());
        let (log, _) = opened.map_err(|error| in_use_or(&log, &error))?;
        let mut progress = ProgressLine::of("moving", Measure::Bytes, 0);
        let told = &mut |report: leftfold::log::ArchiveReport| {
            progress.at(report.moved_bytes);
            asked.flow()
        };
        log.archive(to, keep, told).map_err(CliFailure::from)
    })
    .await??;
    interrupt.check(Some("the same call goes on"))?;
    if screen.is_json() {
        return screen.object(&json!({
            "archived": report.archived,
            "kept": report.kept,
            "movedBytes": report.moved_bytes,
        }));
    }
    let (there, here) = (count(report.archived), count(report.kept));
    let moved = bytes(report.moved_bytes);
    let said = format!("{there} segments are in {shown} and {here} in the log, {moved} were moved");
    screen.line(screen.tint(Tint::Green, &said))
}

/// Returns the bucket that a place of a backup names; `None` if it is a directory.
fn bucket(place: &Path) -> Result<Option<BucketPlace>, CliFailure> {
    place.to_str().and_then(BucketPlace::of).transpose()
}

/// Tells whether a copy has ended because it was interrupted. A part that is on its way then fails.
fn is_stopped(error: &BackupError, interrupt: &Interrupt) -> bool {
    match error {
        BackupError::Stopped => true,
        BackupError::Io { .. } => interrupt.is_on(),
        _ => false,
    }
}

fn restore_bucket(
    from: &BucketDisk,
    log: &Path,
    options: Options,
    told: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<Restored, BackupError> {
    let io = |error: std::io::Error| BackupError::Io { detail: error.to_string() };
    // Nothing is made where there is nothing to bring back.
    if !from.names().map_err(io)?.iter().any(|name| name == "backup.manifest") {
        return Err(BackupError::Missing { place: from.place() });
    }
    let log = Real::create(log).map_err(io)?;
    restore_backup_on(from, Arc::new(log), options, told)
}

/// Makes what is told of the progress of a copy.
fn telling(
    doing: &'static str,
    interrupt: &Interrupt,
) -> impl FnMut(BackupProgress) -> ControlFlow<()> + Send + use<> {
    let interrupt = interrupt.clone();
    let mut progress = ProgressLine::of(doing, Measure::Bytes, 0);
    move |told| {
        progress.of_all(told.bytes);
        progress.at(told.bytes_done);
        interrupt.flow()
    }
}

/// Does work that holds up its thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliFailure> {
    tokio::task::spawn_blocking(work).await.map_err(CliFailure::of)
}

fn of_backup(error: BackupError) -> CliFailure {
    match error {
        error @ (BackupError::Damaged { .. } | BackupError::SourceDamaged { .. }) => {
            CliFailure::Fault(error.to_string())
        }
        BackupError::InUse { place } if place.starts_with("s3://") => CliFailure::Failed(format!(
            "another backup is made in {place}; one that was killed is taken over after 15 \
             minutes, or when you remove {place}/backup.lock"
        )),
        BackupError::Io { detail } if detail == LOCK_LOST => CliFailure::Failed(detail),
        error => CliFailure::of(error),
    }
}
