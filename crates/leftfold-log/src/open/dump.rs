//! A log as lines that a person can read.

use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{EventId, Position, StoreId};

use crate::disk::{Disk, Overlay};
use crate::format::{EventView, moment, segment_name};
use crate::open::directory::directory;
use crate::open::error::LogOpenError;
use crate::open::verify::{LogPart, SegmentWalk, VerifiedLog, lock_if_writable};
use crate::options::{Existing, Options};
use crate::segments::scan::{Group, Record};

/// Bytes of data that are shown.
const SHOWN_BYTES: usize = 512;

/// Writes every segment, group and record of the log in a directory as a line, and returns the same
/// result as [`verify`](crate::verify), without a check of the index. No process may have the
/// log open; nothing is changed.
///
/// ```
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
/// use leftfold_log::{Log, Options, dump};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("events");
/// let store = Store::new(Log::open(&directory, Options::default())?.0);
/// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}");
/// store.append(Append::of(vec![opened])).await?;
/// store.close().await?;
///
/// let mut lines = Vec::new();
/// dump(&directory, &mut |line| lines.push(line.to_owned()))?;
/// assert!(lines.iter().any(|line| line.contains("shop.Opened")));
/// # Ok(()) }
/// ```
pub fn dump(
    path: impl AsRef<Path>,
    line: &mut dyn FnMut(&str),
) -> Result<VerifiedLog, LogOpenError> {
    dump_on(directory(path.as_ref(), Existing::Only)?, line)
}

/// The same, on any disk.
pub fn dump_on(
    disk: Arc<dyn Disk>,
    line: &mut dyn FnMut(&str),
) -> Result<VerifiedLog, LogOpenError> {
    let _lock = lock_if_writable(&*disk)?;
    let over: Arc<dyn Disk> = Arc::new(Overlay::over(disk));
    let options = Options { open: Existing::Only, ..Options::default() };
    let mut minter = None;
    SegmentWalk::over(&over, &options)?.visit_groups(&mut |step| {
        match step {
            LogPart::Segment(header) => {
                minter = Some(header.minter());
                line(&format!(
                    "segment {} store {} epoch {} ({}) from position {} chain {}",
                    segment_name(header.number),
                    header.store,
                    header.epoch.number,
                    header.epoch.id,
                    header.first,
                    header.hash
                ));
            }
            LogPart::Group(number, group) => {
                if let Some(minter) = minter {
                    lines_of_group(minter, number, group, line);
                }
            }
        }
        Ok::<_, LogOpenError>(())
    })
}

fn lines_of_group(minter: StoreId, number: u64, group: &Group<'_>, line: &mut dyn FnMut(&str)) {
    let header = &group.header;
    let what = if group.is_seal() { "seal" } else { "group" };
    line(&format!(
        "{what} {}:{} at {} records {} events {} chain {}",
        number,
        group.offset,
        moment(header.recorded_at),
        header.records,
        header.events,
        group.chain().hash
    ));
    let mut position = header.first;
    for (_, record) in group.records().flatten() {
        match record {
            Record::Event(event) => {
                line(&line_of_event(minter, position, &event));
                position = position.next();
            }
            Record::Command(command) => {
                let answered = command.to_answered();
                line(&format!(
                    "  command {} first {} events {} answer {}",
                    answered.record.id,
                    answered.first,
                    answered.events,
                    shown(&answered.record.answer)
                ));
            }
            Record::Checkpoint(record) => {
                line(&format!("  checkpoint {:?} at {}", record.consumer, record.position));
            }
            Record::Fences(fences) => line(&format!("  fences through {}", fences.through)),
            Record::Skipped => line("  a record of a later release"),
        }
    }
}

fn line_of_event(minter: StoreId, position: Position, event: &EventView<'_>) -> String {
    let id = match event.id {
        Some(id) => EventId(uuid::Uuid::from_bytes(id)),
        None => EventId::minted(minter, position, moment(event.recorded_at)),
    };
    let stream = event
        .stream
        .map_or_else(String::new, |(name, version)| format!(" stream {name:?} version {version}"));
    let tags: Vec<&str> = event.tags().collect();
    let tags = if tags.is_empty() { String::new() } else { format!(" tags {tags:?}") };
    let more = if event.continues { " continues" } else { "" };
    format!(
        "  event {position} {:?} id {id}{stream}{tags}{more} data {}",
        event.event_type,
        shown(event.data)
    )
}

/// Shows bytes as text if they are text, else in hexadecimal; only the beginning if they are many.
fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let more = if head.len() < bytes.len() {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    let plain = std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control));
    if plain {
        return format!("{}{more}", String::from_utf8_lossy(head));
    }
    let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{hex}{more}")
}
