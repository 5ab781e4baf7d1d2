//! Reading the large store, warm: what is read was read before.

use std::time::Instant;

use leftfold_core::fold::{Aggregate, Schema, Unknown};
use leftfold_core::store::{Position, Query, Read, RecordedEvent, Store, Version};

use crate::Outcome;
use crate::large::STREAM_EVENTS;
use crate::rounds::{Round, against};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, Account, AccountEvent};

const READ_PER_SECOND_MIN: f64 = 3e6;
const FOLDED_PER_SECOND_MIN: f64 = 1e6;
const STREAM_MS_MAX: f64 = 1.0;

/// Every event as it was recorded.
pub(crate) async fn everything(run: &mut BenchRun) -> Outcome<Row> {
    let name = "events read";
    pass_by_pass(run, name, READ_PER_SECOND_MIN, async |store| passed(store, |_| Ok(())).await)
        .await
}

/// Every event, decoded and applied to one state.
pub(crate) async fn folded(run: &mut BenchRun) -> Outcome<Row> {
    let schema = Schema::of::<AccountEvent>()?;
    let fold = async |store: &Store| {
        let mut state = Account::default();
        let passed = passed(store, |event| {
            Ok(schema.decode_each(event, Unknown::Refuse, |event| state.apply(&event))?)
        })
        .await?;
        if state.bookings == passed {
            Ok(passed)
        } else {
            Err(format!("{passed} events made {} bookings", state.bookings).into())
        }
    };
    pass_by_pass(run, "events read and folded", FOLDED_PER_SECOND_MIN, fold).await
}

/// Passes over the whole store, one after the other for as long as a round lasts.
async fn pass_by_pass(
    run: &mut BenchRun,
    name: &str,
    target: f64,
    pass: impl AsyncFn(&Store) -> Outcome<u64>,
) -> Outcome<Row> {
    let (count, span) = (run.settings.rounds, run.settings.span);
    let large = run.large()?;
    let store = large.open()?;
    let per_second = async || {
        let mut events = 0;
        let began = Instant::now();
        while events == 0 || began.elapsed() < span {
            events += pass(&store).await?;
        }
        Ok(events as f64 / began.elapsed().as_secs_f64())
    };
    let rounds = against(target, count, per_second).await?;
    store.close().await?;
    let name = format!("{name}, of {}", large.events);
    Ok(Row {
        name,
        rounds,
        unit: RowUnit::PerSecond,
        reference: "target",
        target: RatioTarget::RatioAtLeast(1.0),
    })
}

/// Reads everything once, and compares the count with what the store says it has.
async fn passed(store: &Store, mut each: impl FnMut(&RecordedEvent) -> Outcome) -> Outcome<u64> {
    let mut events = store.read(Read::matching(Query::everything(), Position(1)));
    let mut count = 0;
    while let Some(page) = events.page().await? {
        page.iter().try_for_each(&mut each)?;
        count += page.len() as u64;
    }
    let Position(expected) = store.head().position;
    if count == expected {
        Ok(count)
    } else {
        Err(format!("{count} events were read of {expected}").into())
    }
}

/// All 1,000 events of a stream, of one stream after the other: the median and the slowest of a
/// hundred.
pub(crate) async fn one_stream(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let (count, span) = (run.settings.rounds, run.settings.span);
    let large = run.large()?;
    let store = large.open()?;
    for index in 0..large.streams {
        read_stream(&store, index).await?;
    }
    let (mut medians, mut slowest) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut times_ms = Vec::new();
        let began = Instant::now();
        while times_ms.is_empty() || began.elapsed() < span {
            let index = fastrand::u64(..large.streams);
            let asked = Instant::now();
            let events = read_stream(&store, index).await?;
            times_ms.push(asked.elapsed().as_secs_f64() * 1e3);
            if events < STREAM_EVENTS.min(large.events) {
                return Err(format!("a stream had {events} events").into());
            }
        }
        times_ms.sort_by(f64::total_cmp);
        let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share).round() as usize];
        medians.push(Round { measured: at(0.5), reference: STREAM_MS_MAX });
        slowest.push(Round { measured: at(0.99), reference: STREAM_MS_MAX });
    }
    store.close().await?;
    let row = |what, rounds, target| {
        let name = format!("stream of {STREAM_EVENTS} among {}, {what}", large.events);
        Row { name, rounds, unit: RowUnit::Milliseconds, reference: "target", target }
    };
    Ok(vec![
        row("median", medians, RatioTarget::RatioAtMost(1.0)),
        row("99 of 100", slowest, RatioTarget::None),
    ])
}

async fn read_stream(store: &Store, index: u64) -> Outcome<u64> {
    let events = store.read(Read::stream(workload::stream(index)?, Version(1))).all().await?;
    Ok(events.len() as u64)
}
