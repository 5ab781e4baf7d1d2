//! A store of JSON lines.
//!
//! Each append of the dump becomes one append, which moves the import's own checkpoint on by one
//! line, on condition that nobody else wrote the store. So many may be under way at once; if one
//! fails, all behind it fail, and what is there is always a beginning of the dump.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read as _};

use super::dump::hasher;
use super::error::ImportError;
use super::line::{
    AppendLine, DUMP_FORMAT, DumpEnd, DumpHeader, EndCounts, FormatOnly, LINE_BYTES_MAX, versions,
};
use crate::store::{
    Append, AppendError, Authority, Checkpoint, CheckpointRecord, Condition, Conflict, Hash, Label,
    MoveFrom, Outcome, Partition, Pending, Position, Query, State, Status, Store, StoreId, Version,
};

/// Appends, and bytes of their lines, that are under way at once.
const UNDER_WAY_MAX: usize = 256;
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;
/// Consumers whose checkpoints are carried over at most.
const CONSUMERS_MAX: usize = 100_000;
/// Consumer whose checkpoint says how many appends were imported.
const IMPORT: &str = "$import";
/// Consumer whose checkpoint says at how many appends the others were given their places.
const IMPORTED: &str = "$import:consumers";

/// Report of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportReport {
    /// Store that the dump is of.
    pub source: StoreId,
    /// Appends of the dump.
    pub appends: u64,
    /// Events of the dump.
    pub events: u64,
    /// Appends that an earlier call had imported already.
    pub repeated: u64,
    /// Consumers that got the place that they had in the source.
    pub consumers: u64,
}

/// Makes a store of the lines of a [`dump`](super::dump()): in an empty store, which nobody else
/// writes until it has ended.
///
/// - **The same**: positions, versions, ids, types, data byte for byte, metadata, tags, which
///   events were appended together, and the answers to commands. So records that speak of
///   positions stay right, and a command that is sent again is answered again.
/// - **New**: the store's id, and the recorded times: time is a store's own and never runs
///   backwards. An id that a store minted tells the millisecond of the first recording.
/// - **Consumers** that keep their checkpoint in the store get it once, at the end, as one of the
///   new store.
///
/// It may be interrupted at any moment: call it again, with the same dump or a later one of the
/// same store, and it goes on where it was. An import that is complete is done again at no harm.
pub async fn import(store: &Store, lines: &mut impl BufRead) -> Result<ImportReport, ImportError> {
    let mut import = Import::into(store);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return import.finish().await;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        import.line(&line).await?;
    }
}

/// An import that is given line by line: see [`import`].
#[derive(Debug)]
pub struct Import {
    store: Store,
    /// Lines that were given.
    lines: u64,
    stage: ImportStage,
    source: StoreId,
    hasher: blake3::Hasher,
    appends: u64,
    events: u64,
    /// Number of appends that were imported before, and the hash of their lines.
    before: (u64, Hash),
    /// End of the store once everything under way has arrived.
    head: Position,
    under_way: VecDeque<LineUnderWay>,
    under_way_bytes: usize,
    /// The last checkpoint of each consumer, by its name, source and partition.
    consumers: BTreeMap<(Label, [u8; 16], Option<Label>), Checkpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImportStage {
    Header,
    Appends,
    Ended,
}

#[derive(Debug)]
struct LineUnderWay {
    answer: Pending<Outcome, AppendError>,
    line: u64,
    /// Number of appends up to this one.
    appends: u64,
    bytes: usize,
    first: Position,
    versions: Vec<Version>,
}

impl Import {
    /// Begins an import, or goes on with one that was interrupted. Nothing is written yet.
    #[must_use]
    pub fn into(store: &Store) -> Self {
        let source = store.identity().store;
        Self {
            store: store.clone(),
            lines: 0,
            stage: ImportStage::Header,
            source,
            hasher: hasher(source),
            appends: 0,
            events: 0,
            before: (0, Hash::EMPTY),
            head: Position::START,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            consumers: BTreeMap::new(),
        }
    }

    /// Takes the next line of the dump, without its line feed. It may not be stored yet when this
    /// returns; at most 256 lines are under way.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), ImportError> {
        self.lines += 1;
        if line.len() > LINE_BYTES_MAX {
            return Err(self.fault(format!("it has more than {LINE_BYTES_MAX} bytes")));
        }
        match self.stage {
            ImportStage::Header => self.header(line).await,
            ImportStage::Appends if line.starts_with(br#"{"end":"#) => self.end(line),
            ImportStage::Appends => self.append(line).await,
            ImportStage::Ended => Err(self.fault("it stands behind the last line")),
        }
    }

    /// Waits until everything is durable, and gives the consumers their places.
    pub async fn finish(mut self) -> Result<ImportReport, ImportError> {
        while self.settle_one().await? {}
        if self.stage != ImportStage::Ended {
            return Err(ImportError::Incomplete { lines: self.lines });
        }
        if self.before.0 > self.appends {
            return Err(ImportError::OtherDump { lines: self.before.0 });
        }
        self.place_consumers().await?;
        Ok(ImportReport {
            source: self.source,
            appends: self.appends,
            events: self.events,
            repeated: self.before.0,
            consumers: self.consumers.len() as u64,
        })
    }

    async fn header(&mut self, line: &[u8]) -> Result<(), ImportError> {
        match serde_json::from_slice::<FormatOnly>(line) {
            Ok(FormatOnly { format: DUMP_FORMAT }) => {}
            Ok(FormatOnly { format: found }) => return Err(ImportError::OtherRelease { found }),
            Err(error) => return Err(self.fault(format!("it does not begin a dump: {error}"))),
        }
        let header: DumpHeader =
            serde_json::from_slice(line).map_err(|error| self.fault(error.to_string()))?;
        if !header.is_of_a_dump() {
            return Err(self.fault("it does not begin a dump"));
        }
        self.source = StoreId(header.store);
        if self.source == self.store.identity().store {
            return Err(ImportError::SameStore { store: self.source });
        }
        self.hasher = hasher(self.source);
        // The records that came with the events before a head are known with it, so it goes first.
        let head = self.store.head().position;
        match self.store.checkpoint_in(Label::try_from(IMPORT)?, self.source).await? {
            Some(at) => self.before = (at.position.0, at.hash),
            None if head > Position::START => {
                return Err(ImportError::Foreign { found: Position(1) });
            }
            None => {}
        }
        self.stage = ImportStage::Appends;
        Ok(())
    }

    async fn append(&mut self, line: &[u8]) -> Result<(), ImportError> {
        let parsed: AppendLine =
            serde_json::from_slice(line).map_err(|error| self.fault(error.to_string()))?;
        self.appends += 1;
        self.hasher.update(line).update(b"\n");
        let versions = versions(&parsed);
        let events = parsed.to_events().map_err(|detail| self.fault(detail))?;
        let command = parsed.to_command().map_err(|detail| self.fault(detail))?;
        let checkpoint = parsed.to_checkpoint().map_err(|detail| self.fault(detail))?;
        let expected = if events.is_empty() { self.head } else { self.head.next() };
        let numbered =
            parsed.events.iter().zip(expected.0..).all(|(event, at)| event.position == at);
        if parsed.first != expected.0 || !numbered {
            return Err(self.fault(format!("position {expected} is to follow here")));
        }
        self.head = Position(self.head.0 + events.len() as u64);
        self.events += events.len() as u64;
        if let Some((consumer, at)) = checkpoint {
            let key = (consumer, at.store.0.into_bytes(), at.partition.0.clone());
            self.consumers.insert(key, at);
            if self.consumers.len() > CONSUMERS_MAX {
                return Err(ImportError::TooManyConsumers { limit: CONSUMERS_MAX });
            }
        }
        if self.appends <= self.before.0 {
            // An earlier call imported it.
            let other = self.appends == self.before.0 && self.digest() != self.before.1;
            return if other {
                Err(ImportError::OtherDump { lines: self.before.0 })
            } else {
                Ok(())
            };
        }
        let before = Position(self.head.0 - events.len() as u64);
        let append = Append {
            events,
            condition: alone(before),
            command,
            checkpoint: Some(self.moved(IMPORT, MoveFrom::Exactly(Position(self.appends - 1)))?),
            authority: Authority::COPY,
            ..Append::default()
        };
        self.hand_over(append, line.len(), expected, versions).await
    }

    fn end(&mut self, line: &[u8]) -> Result<(), ImportError> {
        let end: DumpEnd =
            serde_json::from_slice(line).map_err(|error| self.fault(error.to_string()))?;
        let digest = self.hasher.finalize().to_hex().to_string();
        let found = EndCounts { appends: self.appends, events: self.events, digest };
        if end.end != found {
            return Err(self.fault("the lines before it are not those that were written"));
        }
        self.stage = ImportStage::Ended;
        Ok(())
    }

    async fn hand_over(
        &mut self,
        append: Append,
        bytes: usize,
        first: Position,
        versions: Vec<Version>,
    ) -> Result<(), ImportError> {
        while self.under_way.len() >= UNDER_WAY_MAX
            || self.under_way_bytes + bytes > UNDER_WAY_BYTES_MAX
        {
            if !self.settle_one().await? {
                break;
            }
        }
        let answer = self.store.append(append);
        let (line, appends) = (self.lines, self.appends);
        self.under_way.push_back(LineUnderWay { answer, line, appends, bytes, first, versions });
        self.under_way_bytes += bytes;
        Ok(())
    }

    /// Waits for the oldest append that is under way, if there is one.
    async fn settle_one(&mut self) -> Result<bool, ImportError> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(false) };
        let answer = (&mut oldest.answer).await;
        let Some(settled) = self.under_way.pop_front() else { return Ok(false) };
        let LineUnderWay { line, appends, bytes, first, versions, .. } = settled;
        self.under_way_bytes -= bytes;
        let overtaken = |detail: String| Err(ImportError::Overtaken { line, detail });
        match answer {
            Ok(Outcome::Appended(done)) if (done.first, &done.versions) == (first, &versions) => {
                Ok(true)
            }
            Ok(Outcome::Appended(done)) => {
                let detail = "its versions do not follow from the lines before".to_owned();
                if done.first == first {
                    Err(ImportError::Line { line, detail })
                } else {
                    overtaken(format!("it went to position {}", done.first))
                }
            }
            Ok(Outcome::Repeated(again)) => {
                let detail = format!("command {} was answered before", again.record.id);
                if self.is_imported(appends).await? {
                    overtaken(detail)
                } else {
                    Err(ImportError::Line { line, detail })
                }
            }
            Ok(Outcome::Conflict(Conflict::Matching { found, .. })) => {
                if self.is_imported_with(found, appends).await? {
                    overtaken(format!("position {found} was imported"))
                } else {
                    Err(ImportError::Foreign { found })
                }
            }
            Ok(Outcome::Conflict(conflict)) => overtaken(conflict.to_string()),
            Err(error @ AppendError::CheckpointMoved { .. }) => overtaken(error.to_string()),
            Err(error) => Err(ImportError::Append { line, error }),
        }
    }

    /// Tells whether another import stored an append: one that still runs, or one that was given up
    /// and had it under way.
    async fn is_imported(&self, appends: u64) -> Result<bool, ImportError> {
        let at = self.store.checkpoint_in(Label::try_from(IMPORT)?, self.source).await?;
        Ok(at.is_some_and(|at| at.position.0 >= appends))
    }

    /// The same, from an event that a conflict found: it may not be durable yet, nor the checkpoint
    /// that was appended with it.
    async fn is_imported_with(&self, found: Position, appends: u64) -> Result<bool, ImportError> {
        let shown = |status: &Status| status.head.position >= found || status.state != State::Open;
        // A store that has ended says so when it is read.
        let _ = self.store.status().wait_for(shown).await;
        self.is_imported(appends).await
    }

    /// Gives each consumer the place that it had in the source, once.
    async fn place_consumers(&mut self) -> Result<(), ImportError> {
        let placed = self.store.checkpoint_in(Label::try_from(IMPORTED)?, self.source).await?;
        if placed.is_some_and(|placed| placed.position.0 >= self.appends) {
            return Ok(());
        }
        for ((consumer, ..), at) in std::mem::take(&mut self.consumers) {
            let mut checkpoint = at.clone();
            if at.store == self.source {
                checkpoint.store = self.store.identity().store;
                checkpoint.hash = self.store.hash_at(at.position).await?.unwrap_or(at.hash);
            }
            let key = (consumer.clone(), at.store.0.into_bytes(), at.partition.0.clone());
            self.consumers.insert(key, at);
            let from = MoveFrom::Anywhere;
            self.place(CheckpointRecord { consumer, from, checkpoint }).await?;
        }
        let done = self.moved(IMPORTED, MoveFrom::Anywhere)?;
        self.place(done).await
    }

    async fn place(&self, record: CheckpointRecord) -> Result<(), ImportError> {
        let append = Append {
            condition: alone(self.head),
            checkpoint: Some(record),
            authority: Authority::COPY,
            ..Append::default()
        };
        match self.store.append(append).await {
            Ok(Outcome::Conflict(Conflict::Matching { found, .. })) => {
                if self.is_imported_with(found, self.appends + 1).await? {
                    let detail = format!("position {found} was imported");
                    Err(ImportError::Overtaken { line: self.lines, detail })
                } else {
                    Err(ImportError::Foreign { found })
                }
            }
            Ok(_) => Ok(()),
            Err(error) => Err(ImportError::Append { line: self.lines, error }),
        }
    }

    fn moved(&self, consumer: &str, from: MoveFrom) -> Result<CheckpointRecord, ImportError> {
        let checkpoint = Checkpoint {
            store: self.source,
            partition: Partition::default(),
            position: Position(self.appends),
            hash: self.digest(),
        };
        Ok(CheckpointRecord { consumer: Label::try_from(consumer)?, from, checkpoint })
    }

    fn digest(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }

    fn fault(&self, detail: impl Into<String>) -> ImportError {
        ImportError::Line { line: self.lines, detail: detail.into() }
    }
}

/// Returns the condition that nobody else wrote the store.
fn alone(head: Position) -> Condition {
    Condition::none_matching(Query::everything(), head)
}
