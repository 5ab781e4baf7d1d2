//! Many events in one append.

use leftfold_core::store::{Append, NewEvent, Outcome as Answer, Store};

use crate::Outcome;
use crate::ceiling::EVENT_BYTES;
use crate::rounds::{RepeatedWork, alternating, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS, BATCH_EVENTS};

pub(crate) const WRITERS: usize = 16;

/// Distribution of the events of a batch over streams.
#[derive(Clone, Copy)]
enum BatchSpread {
    /// To one stream, another one for each writer.
    OneStream,
    /// Each to a stream of its own.
    ManyStreams,
}

/// Unconditional appends of 100 events; the ceiling is handed 100 times 300 bytes at once.
pub(crate) async fn batches(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    Ok(vec![
        measure(run, BatchSpread::OneStream, "of one stream").await?,
        measure(run, BatchSpread::ManyStreams, "of as many streams").await?,
    ])
}

async fn measure(run: &mut BenchRun, batch: BatchSpread, told: &str) -> Outcome<Row> {
    let ceiling = run.ceiling()?;
    let fresh = run.fresh_store()?;
    let batches = (0..WRITERS).map(|number| batch.of(number)).collect::<Outcome<Vec<_>>>()?;
    let reference = async |span| {
        let appends = ceiling.rate(WRITERS, BATCH_EVENTS * EVENT_BYTES, span).await?;
        Ok(appends * BATCH_EVENTS as f64)
    };
    let candidate = async |span| {
        let writer =
            |batch: &Vec<NewEvent>| Batcher { store: fresh.store.clone(), batch: batch.clone() };
        Ok(rate(batches.iter().map(writer).collect(), span).await? * BATCH_EVENTS as f64)
    };
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    fresh.discard().await?;
    Ok(Row {
        name: format!("events in batches of {BATCH_EVENTS} {told}, writers: {WRITERS}"),
        rounds,
        unit: RowUnit::PerSecond,
        reference: "ceiling",
        target: RatioTarget::RatioAtLeastOr { ratio: 0.6, measured: 800_000.0 },
    })
}

impl BatchSpread {
    /// Returns the events that the writer of this number appends over and over.
    fn of(self, number: usize) -> Outcome<Vec<NewEvent>> {
        match self {
            Self::OneStream => Ok(vec![workload::event(number as u64)?; BATCH_EVENTS]),
            Self::ManyStreams => {
                let first = number * BATCH_EVENTS;
                (first..first + BATCH_EVENTS)
                    .map(|index| workload::event(index as u64 % ACCOUNTS))
                    .collect()
            }
        }
    }
}

/// A task that appends a batch over and over.
pub(crate) struct Batcher {
    pub(crate) store: Store,
    pub(crate) batch: Vec<NewEvent>,
}

impl RepeatedWork for Batcher {
    async fn once(&mut self) -> Outcome {
        match self.store.append(Append::of(self.batch.clone())).await? {
            Answer::Appended(_) => Ok(()),
            other => {
                Err(format!("an append without a condition was answered with {other:?}").into())
            }
        }
    }
}
