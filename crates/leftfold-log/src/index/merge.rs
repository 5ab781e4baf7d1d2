//! Making few large runs of many small ones.

use std::ops::Range;
use std::sync::Arc;

use super::block::IndexEntry;
use super::chunk::CHUNK_POSITIONS;
use super::error::IndexError;
use super::key::KeyKind;
use super::manifest::RunEntry;
use super::run::{PageAccess, SortedRun, Spot};
use super::run_writer::RunWriter;

/// Number of neighbours of one size that become one: at most three runs of each size stay, and the
/// sizes are powers of four, so their number grows with the logarithm of history, and an entry is
/// rewritten once for each size.
const FAN_IN: usize = 4;
/// Runs up to this size count as of one size.
const SMALLEST_BYTES: u64 = 64 << 10;
/// At a close, newest runs up to this size become one, so that many short lives leave few files,
const SMALL_BYTES: u64 = 1 << 20;
/// and a close writes no more than this for it.
const CLOSE_BYTES: u64 = 4 << 20;

/// Chooses the neighbouring runs to merge next; `None` if there is nothing to merge.
pub(super) fn choose(runs: &[RunEntry]) -> Option<Range<usize>> {
    // A run counts as at least as large as the newer ones: it can only be merged together with
    // them.
    let mut largest = 0;
    let mut as_large = |run: &RunEntry| {
        largest = size_of(run).max(largest);
        largest
    };
    let mut sizes: Vec<u32> = runs.iter().rev().map(&mut as_large).collect();
    sizes.reverse();
    let mut groups = Vec::new();
    let mut start = 0;
    for group in sizes.chunk_by(|a, b| a == b) {
        groups.push(start..start + group.len());
        start += group.len();
    }
    groups.into_iter().rev().find(|group| group.len() >= FAN_IN)
}

/// Chooses the newest runs to merge at a close; `None` if there is nothing to merge.
pub(super) fn choose_at_close(runs: &[RunEntry]) -> Option<Range<usize>> {
    let mut total = 0;
    let small = runs.iter().rev().take_while(|run| {
        total += run.bytes;
        run.bytes <= SMALL_BYTES && total <= CLOSE_BYTES
    });
    let count = small.count();
    (count > 1).then(|| runs.len() - count..runs.len())
}

fn size_of(run: &RunEntry) -> u32 {
    (run.bytes / SMALLEST_BYTES).max(1).ilog(FAN_IN as u64)
}

/// Writes neighbouring runs, oldest first, as one. `None` if `go_on`, which is asked before each
/// entry, returns false.
pub(super) fn merge(
    runs: &[Arc<SortedRun>],
    mut writer: RunWriter<'_>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<RunEntry>, IndexError> {
    let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else { return Ok(None) };
    let mut sources = Vec::with_capacity(runs.len());
    for run in runs {
        sources.push(RunCursor { run, spot: run.first(PageAccess::Disk)? });
    }
    let mut key = Vec::new();
    while next_key(&sources, &mut key) {
        let done = match KeyKind::of(&key) {
            Some(KeyKind::Command | KeyKind::Consumer | KeyKind::Snapshot) => {
                merge_value(&key, &mut sources, &mut writer, go_on)?
            }
            _ => merge_positions(&key, &mut sources, &mut writer, go_on)?,
        };
        if !done {
            return Ok(None);
        }
    }
    writer.finish(oldest.entry.after, newest.entry.through).map(Some)
}

/// One run, and how far it has been read.
#[derive(Debug)]
struct RunCursor<'r> {
    run: &'r SortedRun,
    spot: Option<Spot>,
}

impl RunCursor<'_> {
    /// The next entry, if it is one of this key; it is passed.
    fn take(&mut self, key: &[u8]) -> Result<Option<Spot>, IndexError> {
        let Some(spot) = self.spot.take_if(|spot| spot.entry().key == key) else { return Ok(None) };
        self.spot = self.run.next_through(spot.clone(), PageAccess::Disk)?;
        Ok(Some(spot))
    }
}

fn next_key(sources: &[RunCursor<'_>], key: &mut Vec<u8>) -> bool {
    let least =
        sources.iter().filter_map(|source| source.spot.as_ref()).map(|spot| spot.entry().key).min();
    key.clear();
    key.extend_from_slice(least.unwrap_or_default());
    least.is_some()
}

/// The newest wins.
fn merge_value(
    key: &[u8],
    sources: &mut [RunCursor<'_>],
    writer: &mut RunWriter<'_>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, IndexError> {
    let mut newest = None;
    for source in sources {
        newest = source.take(key)?.or(newest);
    }
    if let Some(spot) = newest {
        writer.push(spot.entry())?;
    }
    Ok(go_on())
}

/// Positions follow each other from run to run, so they are joined, and small chunks become full
/// ones.
fn merge_positions(
    key: &[u8],
    sources: &mut [RunCursor<'_>],
    writer: &mut RunWriter<'_>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, IndexError> {
    let mut ordinal = 0;
    let mut positions: Vec<u64> = Vec::new();
    for source in sources {
        while let Some(spot) = source.take(key)? {
            let IndexEntry { at, ordinal: version, .. } = spot.entry();
            if positions.is_empty() {
                ordinal = version;
            } else if KeyKind::of(key) == Some(KeyKind::Stream)
                && version != ordinal + positions.len() as u64
            {
                return Err(source.run.damaged(0, "versions of a stream do not follow each other"));
            }
            if positions.last().is_some_and(|&last| last >= at) {
                return Err(source.run.damaged(0, "positions do not increase from run to run"));
            }
            source.run.decode(&spot, &mut positions)?;
            // One is held back, to be compared with what follows.
            if positions.len() > CHUNK_POSITIONS {
                writer.push_positions(key, ordinal, &positions[..CHUNK_POSITIONS])?;
                positions.drain(..CHUNK_POSITIONS);
                ordinal = if KeyKind::of(key) == Some(KeyKind::Stream) {
                    ordinal + CHUNK_POSITIONS as u64
                } else {
                    0
                };
            }
            if !go_on() {
                return Ok(false);
            }
        }
    }
    writer.push_positions(key, ordinal, &positions)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_runs_grows_with_the_logarithm_of_history() {
        let mut runs: Vec<RunEntry> = Vec::new();
        let mut written = 0;
        for number in 0..4_096 {
            let bytes = if number % 7 == 0 { 10_000 } else { 900_000 };
            runs.push(RunEntry { number, bytes, after: number, through: number + 1 });
            while let Some(range) = choose(&runs) {
                let bytes = runs[range.clone()].iter().map(|run| run.bytes).sum();
                written += bytes;
                let (after, through) = (runs[range.start].after, runs[range.end - 1].through);
                runs.splice(range, [RunEntry { number, bytes, after, through }]);
            }
            assert!(runs.len() <= 24, "{} runs after {number}", runs.len());
        }
        let total: u64 = runs.iter().map(|run| run.bytes).sum();
        assert!(written < total * 8, "each entry was written {} times", written / total);
    }
}
