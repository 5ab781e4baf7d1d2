//! Cost of checking that an event will be read as it is written: encoding it, against serde_json by
//! itself.

use std::hint::black_box;
use std::time::Instant;

use leftfold_core::fold::Schema;

use crate::Outcome;
use crate::rounds::against;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, AccountEvent};

/// Events that are encoded in one round.
const EVENTS: u64 = 200_000;
/// Time that all checks of an event of 256 bytes together may take.
const MICROSECONDS_MAX: f64 = 1.0;

/// The microseconds that an event takes more than with serde_json by itself.
pub(crate) async fn checked(run: &BenchRun) -> Outcome<Row> {
    let events: Vec<AccountEvent> = (0..100).map(workload::booked).collect();
    let schema = Schema::of::<AccountEvent>()?;
    let rounds = against(MICROSECONDS_MAX, run.settings.rounds, async || {
        let plain =
            mean_micros(&events, |event| Ok(serde_json::to_vec(workload::booking(event))?.len()))?;
        let checked = mean_micros(&events, |event| Ok(schema.encode(event)?.data.len()))?;
        Ok(checked - plain)
    });
    let name =
        "an event of 256 bytes read back before it is written, more than serde_json".to_owned();
    let (unit, target) = (RowUnit::Microseconds, RatioTarget::RatioAtMost(1.0));
    Ok(Row { name, rounds: rounds.await?, unit, reference: "target", target })
}

fn mean_micros(
    events: &[AccountEvent],
    encode: impl Fn(&AccountEvent) -> Outcome<usize>,
) -> Outcome<f64> {
    let started = Instant::now();
    for (_, event) in (0..EVENTS).zip(events.iter().cycle()) {
        black_box(encode(black_box(event))?);
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / EVENTS as f64)
}
