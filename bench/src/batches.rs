//! Many events in one append.

use leftfold_core::store::{Append, NewEvent, Outcome as Answer, Store};

use crate::Outcome;
use crate::account::{self, ACCOUNTS};
use crate::ceiling::EVENT_BYTES;
use crate::rounds::{Work, alternating, rate};
use crate::run::Run;
use crate::table::{Row, Target, Unit};

const WRITERS: usize = 16;
const BATCH_EVENTS: usize = 100;

/// Unconditional appends of 100 events, each batch spread over 100 of the streams; the ceiling is handed 100 times 300
/// bytes at once.
pub(crate) async fn batches(run: &mut Run) -> Outcome<Row> {
    let ceiling = run.ceiling()?;
    let fresh = run.fresh_store()?;
    let events: Vec<NewEvent> = (0..ACCOUNTS).map(account::event).collect::<Outcome<_>>()?;
    let reference = async |span| {
        let appends = ceiling.rate(WRITERS, BATCH_EVENTS * EVENT_BYTES, span).await?;
        Ok(appends * BATCH_EVENTS as f64)
    };
    let candidate = async |span| {
        let writer = |number| Batcher {
            store: fresh.store.clone(),
            batch: events.iter().cycle().skip(number * BATCH_EVENTS).take(BATCH_EVENTS).cloned().collect(),
        };
        Ok(rate((0..WRITERS).map(writer).collect(), span).await? * BATCH_EVENTS as f64)
    };
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    fresh.discard().await?;
    Ok(Row {
        name: format!("events in batches of {BATCH_EVENTS}, writers: {WRITERS}"),
        rounds,
        unit: Unit::PerSecond,
        reference: "ceiling",
        target: Target::RatioAtLeastOr { ratio: 0.6, measured: 800_000.0 },
    })
}

struct Batcher {
    store: Store,
    batch: Vec<NewEvent>,
}

impl Work for Batcher {
    async fn once(&mut self) -> Outcome {
        match self.store.append(Append::of(self.batch.clone())).await? {
            Answer::Appended(_) => Ok(()),
            other => Err(format!("an append without a condition was answered with {other:?}").into()),
        }
    }
}
