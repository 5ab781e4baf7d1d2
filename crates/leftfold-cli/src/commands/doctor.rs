//! `leftfold doctor`: everything that a store needs is there.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use leftfold::store::{Head, State, Store, Timestamp};
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::screen::{Screen, Side, TextTable, Tint, count};

/// Clocks may differ by as much without a remark.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);
/// Bounds of what a system offers.
#[cfg(unix)]
mod limits {
    /// Room on the disk below which a remark is made, and below which it is a fault.
    pub(super) const ROOM_LOW: u64 = 1 << 30;
    pub(super) const ROOM_NONE: u64 = 64 << 20;
    /// File handles below which a remark is made.
    pub(super) const HANDLES_LOW: u64 = 1_024;
}

/// Checks that everything is there that a store needs
///
/// It opens the store to be read, and looks at its state, its clock, the disk, permissions and file
/// handles. It changes nothing. It ends with 3 if something is amiss.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    store: StoreArgument,
}

/// Result of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Good,
    Remark,
    Amiss,
}

/// Looks that were taken, in their order.
#[derive(Debug, Default)]
struct Findings(Vec<(&'static str, Finding, String)>);

impl Findings {
    fn add(&mut self, name: &'static str, finding: Finding, detail: impl Into<String>) {
        self.0.push((name, finding, detail.into()));
    }
}

pub(crate) async fn run(
    arguments: &DoctorArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let mut findings = Findings::default();
    let directory = arguments.store.directory_there()?;
    let began = Instant::now();
    match arguments.store.open_to_read().await {
        Ok(store) => look_at_store(&store, directory.is_none(), began, &mut findings).await,
        Err(error) => findings.add("opens", Finding::Amiss, error.to_string()),
    }
    if let Some(directory) = &directory {
        look_at_directory(directory, &mut findings);
    }
    look_at_process(&mut findings);
    print(&findings, screen)
}

async fn look_at_store(store: &Store, is_elsewhere: bool, began: Instant, into: &mut Findings) {
    let elapsed = began.elapsed().as_millis();
    let identity = store.identity();
    let opened =
        format!("store {}, epoch {}, in {elapsed} ms", identity.store, identity.epoch.number);
    into.add("opens", Finding::Good, opened);
    match end_of(store).await {
        Ok(end) => into.add("reads", Finding::Good, format!("to position {}", count(end.0))),
        Err(error) => into.add("reads", Finding::Amiss, error.to_string()),
    }
    if is_elsewhere {
        match store.status().borrow().state.clone() {
            State::Open => into.add("takes appends", Finding::Good, "yes"),
            State::ReadOnly { detail } => into.add("takes appends", Finding::Amiss, detail),
            State::Away { detail, .. } => into.add("takes appends", Finding::Amiss, detail),
            State::Closed => into.add("takes appends", Finding::Amiss, "it is closed"),
        }
    }
    look_at_clock(store, into).await;
}

async fn look_at_clock(store: &Store, into: &mut Findings) {
    let (now, Head { recorded_at, .. }) = (Timestamp::now(), store.head());
    let theirs = store.now().await.unwrap_or(now);
    let apart = theirs.since(now).max(now.since(theirs));
    if recorded_at > theirs.plus(CLOCK_DIFFERENCE) {
        let ahead = recorded_at.since(theirs).as_secs();
        let detail =
            format!("the last record is {} s ahead of the clock; set it right", count(ahead));
        return into.add("clock", Finding::Amiss, detail);
    }
    if apart > CLOCK_DIFFERENCE {
        let detail = format!("that of the store is {} s apart from this one", apart.as_secs());
        return into.add("clock", Finding::Remark, detail);
    }
    into.add("clock", Finding::Good, format!("it is {now}"));
}

#[cfg(unix)]
fn look_at_directory(directory: &Path, into: &mut Findings) {
    use crate::screen::bytes;
    use rustix::fs::{Access, access, statvfs};
    match access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => into.add("permissions", Finding::Good, "the directory can be read and written"),
        Err(error) => {
            let detail = format!("this user may only read: {error}");
            into.add("permissions", Finding::Remark, detail);
        }
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if let Err(error) = access(entry.path(), Access::READ_OK) {
            let name = entry.file_name().to_string_lossy().into_owned();
            into.add("permissions", Finding::Amiss, format!("{name} cannot be read: {error}"));
        }
    }
    match statvfs(directory) {
        Ok(disk) => {
            let room = disk.f_bavail.saturating_mul(disk.f_frsize);
            let finding = match room {
                _ if room < limits::ROOM_NONE => Finding::Amiss,
                _ if room < limits::ROOM_LOW => Finding::Remark,
                _ => Finding::Good,
            };
            into.add("disk", finding, format!("{} free", bytes(room)));
        }
        Err(error) => into.add("disk", Finding::Remark, error.to_string()),
    }
}

#[cfg(not(unix))]
fn look_at_directory(directory: &Path, into: &mut Findings) {
    match std::fs::metadata(directory) {
        Ok(found) if found.permissions().readonly() => {
            into.add("permissions", Finding::Remark, "this user may only read");
        }
        Ok(_) => into.add("permissions", Finding::Good, "the directory can be read and written"),
        Err(error) => into.add("permissions", Finding::Amiss, error.to_string()),
    }
}

#[cfg(unix)]
fn look_at_process(into: &mut Findings) {
    use rustix::process::{Resource, getrlimit};
    match getrlimit(Resource::Nofile).current {
        Some(handles) if handles < limits::HANDLES_LOW => {
            let detail = format!("{} at once; raise the limit (ulimit -n)", count(handles));
            into.add("file handles", Finding::Remark, detail);
        }
        Some(handles) => {
            into.add("file handles", Finding::Good, format!("{} at once", count(handles)));
        }
        None => into.add("file handles", Finding::Good, "without a limit"),
    }
}

#[cfg(not(unix))]
fn look_at_process(_: &mut Findings) {}

fn print(findings: &Findings, screen: &mut Screen) -> Result<(), CliFailure> {
    let is_amiss = |(_, finding, _): &&(_, Finding, _)| *finding == Finding::Amiss;
    let amiss = findings.0.iter().filter(is_amiss).count() as u64;
    let shown = show(findings, amiss, screen);
    // A fault is told by the exit code, too, if nobody reads what it is about.
    match amiss {
        0 => shown,
        amiss => Err(CliFailure::Fault(format!("{} of the checks found a fault", count(amiss)))),
    }
}

fn show(findings: &Findings, amiss: u64, screen: &mut Screen) -> Result<(), CliFailure> {
    let mut table =
        TextTable::new(&[("check", Side::Left), ("", Side::Left), ("finding", Side::Left)]);
    for (name, finding, detail) in &findings.0 {
        let said = match finding {
            Finding::Good => "ok",
            Finding::Remark => "mind",
            Finding::Amiss => "amiss",
        };
        if screen.is_json() {
            screen.object(&json!({ "check": name, "finding": said, "detail": detail }))?;
        }
        table.row(vec![(*name).to_owned(), said.to_owned(), detail.clone()]);
    }
    if !screen.is_json() {
        screen.table(&table)?;
        if amiss == 0 {
            screen.line(screen.tint(Tint::Green, "nothing is amiss"))?;
        }
    }
    screen.flush()
}
