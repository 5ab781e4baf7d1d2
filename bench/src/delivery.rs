//! Time from an append until subscribers have the event.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leftfold_core::store::{Append, Outcome as Answer, Position, Query, Store};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::rounds::Round;
use crate::settings::BenchSettings;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS};

/// Single appends at a steady rate, and subscriptions of other handles, which note when they have
/// each event.
pub(crate) struct DeliveryLoad {
    pub(crate) place: &'static str,
    pub(crate) events_per_ms: u64,
    /// Time within which 99 of 100 events are to be delivered.
    pub(crate) ms_max: f64,
}

/// Moments at which each event was handed over or seen, by its position.
type EventMoments = Vec<(Position, Instant)>;

impl DeliveryLoad {
    /// Measures the median, and the time within which 99 of 100 events came to their subscribers.
    pub(crate) async fn rows(
        &self,
        settings: &BenchSettings,
        writer: &Store,
        readers: &[Store],
    ) -> Outcome<Vec<Row>> {
        let (mut medians, mut slowest) = (Vec::new(), Vec::new());
        self.times_ms(writer, readers, settings.span / 10).await?;
        for _ in 0..settings.rounds {
            let mut times_ms = self.times_ms(writer, readers, settings.span).await?;
            times_ms.sort_by(f64::total_cmp);
            let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share).round() as usize];
            medians.push(Round { measured: at(0.5), reference: self.ms_max });
            slowest.push(Round { measured: at(0.99), reference: self.ms_max });
        }
        let row = |what, rounds, target| {
            let subscribers = match readers.len() {
                1 => String::new(),
                many => format!(" to {many} subscribers"),
            };
            let (place, rate) = (self.place, self.events_per_ms);
            let name = format!("{place}: append to delivery at {rate},000/s{subscribers}, {what}");
            Row { name, rounds, unit: RowUnit::Milliseconds, reference: "target", target }
        };
        Ok(vec![
            row("median", medians, RatioTarget::None),
            row("99 of 100", slowest, RatioTarget::RatioAtMost(1.0)),
        ])
    }

    /// Returns the time of each event to each subscriber in milliseconds.
    pub(crate) async fn times_ms(
        &self,
        writer: &Store,
        readers: &[Store],
        span: Duration,
    ) -> Outcome<Vec<f64>> {
        let after = writer.head().position;
        let count = (span.as_millis() as u64).max(1) * self.events_per_ms;
        let mut seeing = JoinSet::new();
        for reader in readers {
            seeing.spawn(see(reader.clone(), after, count));
        }
        let handed = Arc::default();
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut appends = JoinSet::new();
        for number in 0..count {
            if number.is_multiple_of(self.events_per_ms) {
                ticks.tick().await;
            }
            appends.spawn(append(writer.clone(), number, Arc::clone(&handed)));
        }
        while let Some(append) = appends.join_next().await {
            append??;
        }
        let mut handed = std::mem::take(&mut *handed.lock().map_err(|error| error.to_string())?);
        handed.sort_unstable();
        let mut times_ms = Vec::new();
        while let Some(seen) = seeing.join_next().await {
            for (&(sent_at, sent), (seen_at, seen)) in handed.iter().zip(seen??) {
                if sent_at != seen_at {
                    return Err("other events were seen than appended".into());
                }
                times_ms.push(seen.saturating_duration_since(sent).as_secs_f64() * 1e3);
            }
        }
        Ok(times_ms)
    }
}

async fn see(reader: Store, after: Position, count: u64) -> Outcome<EventMoments> {
    let mut subscription = reader.subscribe(Query::everything(), after);
    let mut seen = Vec::new();
    while (seen.len() as u64) < count {
        let event = subscription.event().await?;
        seen.push((event.position, Instant::now()));
    }
    Ok(seen)
}

async fn append(store: Store, number: u64, handed: Arc<Mutex<EventMoments>>) -> Outcome {
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
