//! Figures that depend on how much the store holds.

use std::time::{Duration, Instant};

use leftfold_core::store::{
    Append, Condition, NewEvent, Outcome as Answer, Position, Query, Read, Store, Version,
};

use super::batches::batch;
use super::server::{COMMON_TAG, open};
use crate::Outcome;
use crate::batches::{Batcher, WRITERS};
use crate::large::STREAM_EVENTS;
use crate::rounds::{RepeatedWork, Round, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS, BATCH_EVENTS};

const STREAM_MS_MAX: f64 = 5.0;
/// Events of the store that has no history to speak of.
const SMALL_EVENTS: u64 = 10_000;
/// Growth of the large store, before the slope is measured.
const GROWTH: u64 = 3;
/// Largest ratio of a cost in the large store, and least ratio of a rate.
const COST_MAX: f64 = 1.3;
const RATE_MIN: f64 = 0.8;

/// All 1,000 events of a stream, of one stream after the other: the median and the slowest of a
/// hundred.
pub(crate) async fn one_stream(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let server = run.postgres()?;
    let large = server.large().await?;
    let store = open(&large.url).await?;
    let (mut medians, mut slowest) = (Vec::new(), Vec::new());
    for round in 0..=run.settings.rounds {
        let read = async || {
            let index = fastrand::u64(..large.streams);
            let read = Read::stream(workload::stream(index)?, Version(1));
            Ok(store.read(read).all().await?.len() as u64)
        };
        let expected = STREAM_EVENTS.min(large.events);
        let times_ms = times_ms(run.settings.span, expected, read).await?;
        if round > 0 {
            let round = |share| Round { measured: at(&times_ms, share), reference: STREAM_MS_MAX };
            medians.push(round(0.5));
            slowest.push(round(0.99));
        }
    }
    store.close().await?;
    let row = |what, rounds, target| {
        let name = format!("PostgreSQL: stream of {STREAM_EVENTS} among {}, {what}", large.events);
        Row { name, rounds, unit: RowUnit::Milliseconds, reference: "target", target }
    };
    Ok(vec![
        row("median", medians, RatioTarget::RatioAtMost(1.0)),
        row("99 of 100", slowest, RatioTarget::None),
    ])
}

/// Appends under a condition on a tag that every event of the store has, in the large store and in
/// one without history. The position that the condition names is first a recent one, and then one
/// behind which more was written than the writer keeps.
pub(crate) async fn conditions(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let server = run.postgres()?;
    let large = server.large().await?;
    let mut rows = Vec::new();
    for (known, told) in [(KnownEnd::Newest, "newest"), (KnownEnd::Old, "old")] {
        let mut rounds = Vec::new();
        for _ in 0..run.settings.rounds {
            let fresh = server.filled(1).await?;
            let mut sides = [0.0; 2];
            for (side, url) in sides.iter_mut().zip([&fresh.url, &large.url]) {
                let store = open(url).await?;
                *side = micros(&store, known, run.settings.span).await?;
                store.close().await?;
            }
            rounds.push(Round { measured: sides[1], reference: sides[0] });
        }
        rows.push(Row {
            name: format!("PostgreSQL: condition on a tag of {}, position: {told}", large.events),
            rounds,
            unit: RowUnit::Microseconds,
            reference: "no history",
            target: RatioTarget::RatioAtMost(COST_MAX),
        });
    }
    Ok(rows)
}

/// Position that a condition names.
#[derive(Clone, Copy)]
enum KnownEnd {
    /// The end when the append is made.
    Newest,
    /// The end when the writer began, with more behind it than a store keeps in memory.
    Old,
}

/// Events that are enough for a position to be old.
const OLD_BY: u64 = 12_000;

/// The mean time of a conditional append, as its writer sees it.
async fn micros(store: &Store, known: KnownEnd, span: Duration) -> Outcome<f64> {
    let end = store.head().position;
    let events: Vec<NewEvent> = (0..ACCOUNTS).map(workload::event).collect::<Outcome<_>>()?;
    if matches!(known, KnownEnd::Old) {
        let batch = vec![events[0].clone(); BATCH_EVENTS];
        for _ in 0..OLD_BY / BATCH_EVENTS as u64 {
            store.append(Append::of(batch.clone())).await?;
        }
    }
    let writer = |number: usize| TagAppender {
        store: store.clone(),
        known: matches!(known, KnownEnd::Old).then_some(end),
        own: events.iter().skip(number).step_by(WRITERS).cloned().collect(),
        next: 0,
    };
    Ok(WRITERS as f64 * 1e6 / rate((0..WRITERS).map(writer).collect(), span).await?)
}

/// A task that appends under a condition on the common tag, which its events do not have.
struct TagAppender {
    store: Store,
    /// Position that the condition names, if it is not the newest.
    known: Option<Position>,
    own: Vec<NewEvent>,
    next: usize,
}

impl RepeatedWork for TagAppender {
    async fn once(&mut self) -> Outcome {
        self.next = (self.next + 1) % self.own.len();
        let known = self.known.unwrap_or_else(|| self.store.head().position);
        let condition = Condition::none_matching(Query::tag(COMMON_TAG), known);
        let append = Append::of(vec![self.own[self.next].clone()]).when(condition);
        match self.store.append(append).await? {
            Answer::Appended(_) => Ok(()),
            other => Err(format!("what nothing conflicts with was answered with {other:?}").into()),
        }
    }
}

/// Appends of a hundred events, and pages of a thousand by a tag, in a store of three times the
/// events, against the same in a small store.
pub(crate) async fn slope(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let server = run.postgres()?;
    let events = run.settings.events * GROWTH;
    let large = server.grow_large(events).await?;
    let (mut rates, mut pages) = (Vec::new(), Vec::new());
    for _ in 0..run.settings.rounds {
        let small = server.filled(SMALL_EVENTS.min(events)).await?;
        let (mut rate, mut page) = ([0.0; 2], [0.0; 2]);
        for (side, filled) in [&small, &large].into_iter().enumerate() {
            let store = open(&filled.url).await?;
            page[side] = page_ms(&store, filled.events, run.settings.span / 2).await?;
            rate[side] = append_rate(&store, run.settings.span).await?;
            store.close().await?;
        }
        rates.push(Round { measured: rate[1], reference: rate[0] });
        pages.push(Round { measured: page[1], reference: page[0] });
    }
    let row = |what, unit, rounds, target| {
        let name = format!("PostgreSQL: {what} behind {events} events");
        Row { name, rounds, unit, reference: "small store", target }
    };
    Ok(vec![
        row("appends of 100", RowUnit::PerSecond, rates, RatioTarget::RatioAtLeast(RATE_MIN)),
        row("a page of 500", RowUnit::Milliseconds, pages, RatioTarget::RatioAtMost(COST_MAX)),
    ])
}

async fn append_rate(store: &Store, span: Duration) -> Outcome<f64> {
    let writer = |number| Ok(Batcher { store: store.clone(), batch: batch(number)? });
    let writers = (0..WRITERS).map(writer).collect::<Outcome<_>>()?;
    Ok(rate(writers, span).await? * BATCH_EVENTS as f64)
}

const PAGE_EVENTS: u32 = 500;

/// The median time of a page by the common tag, from anywhere.
async fn page_ms(store: &Store, events: u64, span: Duration) -> Outcome<f64> {
    let last = events.saturating_sub(u64::from(PAGE_EVENTS)).max(1);
    let read = async || {
        let from = Position(fastrand::u64(1..=last));
        let read = Read::matching(Query::tag(COMMON_TAG), from).page_of(PAGE_EVENTS);
        Ok(store.page(read).await?.events.len() as u64)
    };
    let expected = u64::from(PAGE_EVENTS).min(events);
    Ok(at(&times_ms(span, expected, read).await?, 0.5))
}

/// Times a read again and again; sorted. Each must give the expected number of events at least.
async fn times_ms(
    span: Duration,
    expected: u64,
    read: impl AsyncFn() -> Outcome<u64>,
) -> Outcome<Vec<f64>> {
    let mut times_ms = Vec::new();
    let began = Instant::now();
    while times_ms.is_empty() || began.elapsed() < span {
        let asked = Instant::now();
        let events = read().await?;
        times_ms.push(asked.elapsed().as_secs_f64() * 1e3);
        if events < expected {
            return Err(format!("{events} events were read of {expected}").into());
        }
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(times_ms)
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
