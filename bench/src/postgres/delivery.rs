//! Time from an append until a subscriber of another handle has the event.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leftfold_core::store::{Append, Outcome as Answer, Position, Query, Store};
use tokio::time::{MissedTickBehavior, interval};

use super::server::open;
use crate::Outcome;
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS};

const EVENTS_PER_MS: u64 = 5;
const DELIVERY_MS_MAX: f64 = 20.0;

/// Moments at which each event was handed over, by its position.
type HandedOver = Arc<Mutex<Vec<(Position, Instant)>>>;

/// Single appends at a steady 5,000 a second; a subscription of another handle, which hears of them
/// by the server alone, notes when it has each.
pub(crate) async fn delivery(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let server = run.postgres()?;
    let url = server.database();
    let (writer, reader) = (open(&url).await?, open(&url).await?);
    let (mut medians, mut slowest) = (Vec::new(), Vec::new());
    one_round(&writer, &reader, run.settings.span / 10).await?;
    for _ in 0..run.settings.rounds {
        let mut times_ms = one_round(&writer, &reader, run.settings.span).await?;
        times_ms.sort_by(f64::total_cmp);
        let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share).round() as usize];
        medians.push(Round { measured: at(0.5), reference: DELIVERY_MS_MAX });
        slowest.push(Round { measured: at(0.99), reference: DELIVERY_MS_MAX });
    }
    writer.close().await?;
    reader.close().await?;
    let row = |what, rounds, target| {
        let name = format!("PostgreSQL: append to delivery at {EVENTS_PER_MS},000/s, {what}");
        Row { name, rounds, unit: RowUnit::Milliseconds, reference: "target", target }
    };
    Ok(vec![
        row("median", medians, RatioTarget::None),
        row("99 of 100", slowest, RatioTarget::RatioAtMost(1.0)),
    ])
}

/// Returns the time of each event in milliseconds.
async fn one_round(writer: &Store, reader: &Store, span: Duration) -> Outcome<Vec<f64>> {
    let after = writer.head().position;
    let count = (span.as_millis() as u64).max(1) * EVENTS_PER_MS;
    let mut subscription = reader.subscribe(Query::everything(), after);
    let seeing = tokio::spawn(async move {
        let mut seen = Vec::new();
        while (seen.len() as u64) < count {
            let event = subscription.event().await?;
            seen.push((event.position, Instant::now()));
        }
        Outcome::Ok(seen)
    });
    let handed = HandedOver::default();
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut appends = Vec::new();
    for number in 0..count {
        if number.is_multiple_of(EVENTS_PER_MS) {
            ticks.tick().await;
        }
        appends.push(tokio::spawn(append(writer.clone(), number, Arc::clone(&handed))));
    }
    for append in appends {
        append.await??;
    }
    let mut seen = seeing.await??;
    let mut handed = std::mem::take(&mut *handed.lock().map_err(|error| error.to_string())?);
    handed.sort_unstable();
    seen.sort_unstable();
    let pairs = handed.into_iter().zip(seen).map(|((sent_at, sent), (seen_at, seen))| {
        let same = sent_at == seen_at;
        same.then(|| seen.saturating_duration_since(sent).as_secs_f64() * 1e3)
    });
    pairs.collect::<Option<_>>().ok_or_else(|| "other events were seen than appended".into())
}

async fn append(store: Store, number: u64, handed: HandedOver) -> Outcome {
    let event = workload::event(number % ACCOUNTS)?;
    let began = Instant::now();
    match store.append(Append::of(vec![event])).await? {
        Answer::Appended(appended) => {
            handed.lock().map_err(|error| error.to_string())?.push((appended.last(), began));
            Ok(())
        }
        other => Err(format!("an append without a condition was answered with {other:?}").into()),
    }
}
