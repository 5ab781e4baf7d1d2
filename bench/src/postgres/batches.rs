//! Appends of a hundred events, each in a stream of its own.

use leftfold_core::store::NewEvent;

use crate::Outcome;
use crate::batches::{Batcher, WRITERS};
use crate::rounds::{against, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS, BATCH_EVENTS};

const EVENTS_PER_SECOND_MIN: f64 = 40_000.0;

/// Unconditional appends by 16 tasks.
pub(crate) async fn batches(run: &mut BenchRun) -> Outcome<Row> {
    let server = run.postgres()?;
    let store = server.store().await?;
    let batches = (0..WRITERS).map(batch).collect::<Outcome<Vec<_>>>()?;
    let span = run.settings.span;
    let candidate = async || {
        let writer = |batch: &Vec<NewEvent>| Batcher { store: store.clone(), batch: batch.clone() };
        Ok(rate(batches.iter().map(writer).collect(), span).await? * BATCH_EVENTS as f64)
    };
    let rounds = against(EVENTS_PER_SECOND_MIN, run.settings.rounds, candidate).await?;
    store.close().await?;
    Ok(Row {
        name: format!("PostgreSQL: events in batches of {BATCH_EVENTS}, writers: {WRITERS}"),
        rounds,
        unit: RowUnit::PerSecond,
        reference: "target",
        target: RatioTarget::RatioAtLeast(1.0),
    })
}

/// Returns the events that the writer of this number appends over and over.
pub(super) fn batch(number: usize) -> Outcome<Vec<NewEvent>> {
    let first = number * BATCH_EVENTS;
    let indexes = first..first + BATCH_EVENTS;
    indexes.map(|index| workload::event(index as u64 % ACCOUNTS)).collect()
}
