//! The large store: a million events of 256 bytes in a thousand streams with one tag, singly
//! appended by 256 writers.

use std::path::PathBuf;

use leftfold_core::store::Store;

use crate::child::{ChildJob, ChildReport, ChildTask};
use crate::rounds::Round;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::{Outcome, load, machine, store};

/// Events of one of its streams.
pub(crate) const STREAM_EVENTS: u64 = 1_000;

const DISK_BYTES_PER_EVENT_MAX: f64 = 345.0;
/// Memory that the program and its runtime may have beside the memory setting.
const PROGRAM_BYTES: usize = 32 << 20;

/// A store that a process of its own has filled and closed.
#[derive(Debug)]
pub(crate) struct Large {
    folder: PathBuf,
    pub(crate) events: u64,
    pub(crate) streams: u64,
    disk_bytes: u64,
    filled: ChildReport,
}

impl Large {
    pub(crate) fn fill(folder: PathBuf, events: u64) -> Outcome<Self> {
        eprintln!(
            "  filling a store with {events} events, one an append, {} writers",
            load::WRITERS
        );
        let streams = (events / STREAM_EVENTS).max(1);
        let filled =
            ChildTask { job: ChildJob::Load, folder: folder.clone(), events, streams }.run()?;
        let disk_bytes = machine::disk_bytes(&folder)?;
        let rate = events as f64 / filled.load_seconds;
        eprintln!("  filled at {rate:.0} events/s, {disk_bytes} bytes on disk");
        Ok(Self { folder, events, streams, disk_bytes, filled })
    }

    pub(crate) fn open(&self) -> Outcome<Store> {
        store::open(&self.folder)
    }

    /// Has another process do something with the store.
    pub(crate) fn have(&self, job: ChildJob, events: u64) -> Outcome<ChildReport> {
        ChildTask { job, folder: self.folder.clone(), events, streams: self.streams }.run()
    }

    /// Returns the rows of the table for the filling: its disk space and its memory.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let Self { events, streams, .. } = self;
        let measured = self.disk_bytes as f64 / *events as f64;
        let disk = Row {
            name: format!("disk for each of {events} events in {streams} streams"),
            rounds: vec![Round { measured, reference: DISK_BYTES_PER_EVENT_MAX }],
            unit: RowUnit::Bytes,
            reference: "target",
            target: RatioTarget::RatioAtMost(1.0),
        };
        let bound_mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let memory = Row {
            name: format!(
                "peak memory while loading, set to {:.0} MiB",
                bound_mib(store::MEMORY_BYTES)
            ),
            rounds: vec![Round {
                measured: self.filled.peak_mib,
                reference: bound_mib(store::MEMORY_BYTES + PROGRAM_BYTES),
            }],
            unit: RowUnit::Mebibytes,
            reference: "setting + program",
            target: RatioTarget::RatioAtMost(1.0),
        };
        vec![disk, memory]
    }
}
