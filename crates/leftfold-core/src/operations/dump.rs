//! A store as JSON lines.

use std::collections::VecDeque;
use std::io;

use super::error::DumpError;
use super::line::{AppendLine, DumpEnd, DumpHeader, EndCounts};
use crate::store::{AppendsFrom, Position, ReadError, RecordedAppend, Store, StoreId};

/// Bytes of appends that are read at once.
const PAGE_BYTES: u32 = 1 << 20;

/// Report of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpReport {
    /// Last position of the dump.
    pub through: Position,
    /// Appends in it: the lines but for the first and the last.
    pub appends: u64,
    /// Events in it.
    pub events: u64,
}

/// Writes a store as JSON lines, up to the durable end that it has now: every event with its id,
/// times, metadata, tags and version, every answer to a command, and every checkpoint. The store
/// may be written meanwhile, and no more than a page of it is in memory.
///
/// Data that is JSON stands in the line as it is, text for text; other data stands there in base64.
/// Sealed personal data stays sealed, and its keys are not part of a dump. docs/dump-format.md
/// describes the lines.
///
/// ```
/// use leftfold_core::operations::{dump, import};
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (old, new) = (Store::memory(), Store::memory());
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, r#"{"cents":500}"#);
/// old.append(Append::of(vec![sold])).await?;
///
/// let mut lines = Vec::new();
/// let report = dump(&old, &mut lines).await?;
/// assert_eq!((report.appends, report.events), (1, 1));
/// assert!(std::str::from_utf8(&lines)?.contains(r#""data":{"cents":500}"#));
/// assert_eq!(import(&new, &mut &lines[..]).await?.events, 1);
/// # Ok(()) }
/// ```
pub async fn dump(store: &Store, out: &mut impl io::Write) -> Result<DumpReport, DumpError> {
    let mut dump = Dump::of(store).await?;
    while let Some(line) = dump.next_line().await? {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(dump.report())
}

/// A dump that is made line by line: for who sends the lines elsewhere, or shows how far it is.
#[derive(Debug)]
pub struct Dump {
    store: Store,
    from: AppendsFrom,
    ready: VecDeque<RecordedAppend>,
    through: Position,
    stage: DumpStage,
    appends: u64,
    events: u64,
    /// Last position that a line was made of.
    at: Position,
    hasher: blake3::Hasher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DumpStage {
    Header,
    Appends,
    Ended,
}

impl Dump {
    /// Begins a dump up to the durable end that the store has now.
    pub async fn of(store: &Store) -> Result<Self, ReadError> {
        let from = AppendsFrom::After(Position::START);
        // What a page says of the end is not behind what was acknowledged.
        let head = store.appends(from, 1).await?.head;
        Ok(Self {
            store: store.clone(),
            from,
            ready: VecDeque::new(),
            through: head.position,
            stage: DumpStage::Header,
            appends: 0,
            events: 0,
            at: Position::START,
            hasher: hasher(store.identity().store),
        })
    }

    /// Returns the next line, without a line feed; `None` at the end.
    pub async fn next_line(&mut self) -> Result<Option<String>, DumpError> {
        match self.stage {
            DumpStage::Header => {
                self.stage = DumpStage::Appends;
                let hash = self.store.hash_at(self.through).await?;
                text(&DumpHeader::of(self.store.identity(), self.through, hash)).map(Some)
            }
            DumpStage::Appends => match self.next_append().await? {
                Some(append) => {
                    let line = text(&AppendLine::of(&append))?;
                    self.hasher.update(line.as_bytes()).update(b"\n");
                    self.appends += 1;
                    self.events += append.events.len() as u64;
                    self.at = append.last();
                    Ok(Some(line))
                }
                None => {
                    self.stage = DumpStage::Ended;
                    let digest = self.hasher.finalize().to_hex().to_string();
                    let (appends, events) = (self.appends, self.events);
                    text(&DumpEnd { end: EndCounts { appends, events, digest } }).map(Some)
                }
            },
            DumpStage::Ended => Ok(None),
        }
    }

    /// Returns the last position that a line was made of.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// Report of what the lines so far have.
    #[must_use]
    pub fn report(&self) -> DumpReport {
        DumpReport { through: self.through, appends: self.appends, events: self.events }
    }

    async fn next_append(&mut self) -> Result<Option<RecordedAppend>, ReadError> {
        if self.ready.is_empty() {
            let page = self.store.appends(self.from, PAGE_BYTES).await?;
            (self.ready, self.from) = (page.appends.into(), page.next);
        }
        Ok(self.ready.pop_front().filter(|append| append.last() <= self.through))
    }
}

/// The hasher of the lines of a dump.
pub(super) fn hasher(store: StoreId) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(store.0.as_bytes());
    hasher
}

fn text(line: &impl serde::Serialize) -> Result<String, DumpError> {
    // Texts, numbers and raw JSON cannot fail; a recorded time beyond all years could.
    serde_json::to_string(line).map_err(|error| DumpError::Io { detail: error.to_string() })
}
