//! Opening the large store, each time in a new process. What it reads stands in the system's page
//! cache.

use crate::Outcome;
use crate::child::ChildJob;
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

const OPEN_MS_MAX: f64 = 50.0;

/// After a close: until it is open, and until the first event of a stream was read, so that nothing
/// is put off.
pub(crate) fn after_close(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let rounds = run.settings.rounds;
    let large = run.large()?;
    let reports =
        (0..rounds).map(|_| large.have(ChildJob::Open, 0)).collect::<Outcome<Vec<_>>>()?;
    let opened = reports.iter().map(|report| report.open_ms).collect();
    let read = reports.iter().map(|report| report.first_read_ms).collect();
    let name = |what: &str| format!("{what} {} events after a close", large.events);
    Ok(vec![
        row(name("open"), opened, RatioTarget::RatioAtMost(1.0)),
        row(name("open and read from"), read, RatioTarget::None),
    ])
}

/// After SIGKILL in the middle of appends, a tenth of the store's events after it was opened
/// before.
pub(crate) fn after_kill(run: &mut BenchRun) -> Outcome<Row> {
    let rounds = run.settings.rounds;
    let large = run.large()?;
    let appended = (large.events / 10).max(1);
    // The first of them opens what was closed.
    large.have(ChildJob::Die, appended)?;
    let killed = (0..rounds)
        .map(|_| Ok(large.have(ChildJob::Die, appended)?.open_ms))
        .collect::<Outcome<_>>()?;
    large.have(ChildJob::Open, 0)?;
    Ok(row(
        format!("open {} events and more after SIGKILL", large.events),
        killed,
        RatioTarget::None,
    ))
}

fn row(name: String, measured_ms: Vec<f64>, target: RatioTarget) -> Row {
    let rounds = measured_ms
        .into_iter()
        .map(|measured| Round { measured, reference: OPEN_MS_MAX })
        .collect();
    Row { name, rounds, unit: RowUnit::Milliseconds, reference: "target", target }
}
