//! Verification: the chain is recomputed over all that is stored.

use leftfold_core::store::{AppendsFrom, Hash, Position, ReadError, RecordedEvent};

use super::appends::{self, StoredAppends};
use super::{lookups, tags};
use crate::store::chain::{self, Link};
use crate::store::rows::AppendRow;
use crate::store::shared::StoreShared;

/// Bytes of a page that is verified at once.
const PAGE_BYTES: u32 = 4 << 20;

/// Result of a verification: how much was read, and the end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowsReport {
    /// Number of appends.
    pub appends: u64,
    /// Number of events.
    pub events: u64,
    /// Number of tags of all events.
    pub tags: u64,
    /// Chain hash of the last append, which is worth keeping elsewhere: a store that was rewritten
    /// ends with another one.
    pub chain: Hash,
}

/// Progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowsProgress {
    /// Appends were verified, with their events.
    Events {
        /// Position up to which they were.
        through: Position,
        /// End of the history.
        end: Position,
    },
    /// Parts of the table of tags were counted: none may have a row that no event has.
    Tags {
        /// Number of rows that were counted.
        counted: u64,
        /// Number of tags of all events.
        all: u64,
    },
}

/// Reads every append up to the end, and compares each hash with what the rows say. It tells its
/// progress.
pub(in crate::store) async fn verify(
    shared: &StoreShared,
    mut progress: impl FnMut(RowsProgress),
) -> Result<RowsReport, ReadError> {
    let mut report = RowsReport { appends: 0, events: 0, tags: 0, chain: Hash::EMPTY };
    loop {
        let from = AppendsFrom::Mark(report.appends);
        let StoredAppends { appends, head, .. } = appends::stored(shared, from, PAGE_BYTES).await?;
        if appends.is_empty() {
            lookups::verify_end(shared, report.events).await?;
            if (report.appends, report.chain) != (head.append, head.head.chain) {
                let place = "table head".to_owned();
                let detail = format!(
                    "it names append {} with hash {}, the last one is {} with {}",
                    head.append, head.head.chain, report.appends, report.chain
                );
                return Err(ReadError::Damaged { place, detail });
            }
            let counted = |counted| progress(RowsProgress::Tags { counted, all: report.tags });
            return match tags::count(shared, report.events, counted).await? {
                count if count == report.tags => Ok(report),
                count => Err(ReadError::Damaged {
                    place: "table tags".to_owned(),
                    detail: format!("it has {count} rows, the events have {} tags", report.tags),
                }),
            };
        }
        let first = report.events + 1;
        for (append, events) in &appends {
            follow(&mut report, append, events).map_err(|detail| {
                let place = format!("table appends, append {}", append.number);
                ReadError::Damaged { place, detail }
            })?;
        }
        tags::verify(shared, (first, report.events)).await?;
        let (through, end) = (Position(report.events), head.head.position);
        progress(RowsProgress::Events { through, end });
    }
}

/// Sees that an append follows from all before it; the error says how it does not.
fn follow(
    report: &mut RowsReport,
    append: &AppendRow,
    events: &[RecordedEvent],
) -> Result<(), String> {
    let number = report.appends + 1;
    if append.number != number {
        return Err(format!("append {number} is missing before it"));
    }
    let first = report.events + u64::from(!events.is_empty());
    let last = report.events + events.len() as u64;
    let positions = events.iter().map(|one| one.position.0);
    if append.first.0 != first || !positions.eq(report.events + 1..=last) {
        return Err(format!("its events do not have the positions {first} to {last}"));
    }
    if let Some(event) = events.iter().find(|one| one.recorded_at != append.recorded_at) {
        return Err(format!("the event at {} has another recorded time", event.position));
    }
    let link = Link {
        number,
        recorded_at: append.recorded_at,
        events,
        command: append.command.as_ref().map(|command| &command.record),
        checkpoint: append.checkpoint.as_ref().map(|(consumer, at)| (consumer, at)),
    };
    let hash = chain::hash(report.chain, &link);
    if hash != append.hash {
        let stored = append.hash;
        return Err(format!("its hash is {stored}, its rows and those before have {hash}"));
    }
    report.appends = number;
    report.events = last;
    report.tags += events.iter().map(|event| event.tags.len() as u64).sum::<u64>();
    report.chain = hash;
    Ok(())
}
