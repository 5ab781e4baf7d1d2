//! The cost of a long feed: that it does not grow with the number of halves that came.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use examples::figures::{megabytes, memory, millis, processor_time, rate};
use leftfold::fold::Following;
use leftfold::prelude::*;
use leftfold::testing::HandClock;
use tokio::task::JoinSet;

use crate::pool::{Half, Pool, PoolEvent, Side};
use crate::{BUFFER, Buffer, report};

const ARTICLES: u32 = 100;
/// Halves of each article in a minute, so that ten times as many wait.
const A_MINUTE: u32 = 10;
/// The feed waits for the pools, not to be further ahead than that.
const OPEN_MAX: u64 = 15 * (ARTICLES * A_MINUTE) as u64;
const TOLD_EVERY: u32 = 100_000;

/// Feeds so many halves, minute by minute, and tells now and then how it goes.
pub(crate) async fn measure(store: &Store, halves: u32) -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(HandClock::going());
    let running = Runtime::new(store).clock(clock.clone()).process::<Buffer>().start().await?;
    let mut news = store.follow::<PoolEvent>(store.head().position)?;
    let (mut fed, mut ended, mut paired) = (0, 0, 0);
    let mut stretch = Stretch::begin();
    while fed < halves {
        let minute = Instant::now();
        feed(store, fed).await?;
        fed += ARTICLES * A_MINUTE;
        clock.advance(Duration::from_secs(60));
        until(&mut news, OPEN_MAX, u64::from(fed), &mut ended, &mut paired).await?;
        stretch.slowest_minute = stretch.slowest_minute.max(minute.elapsed());
        if fed % TOLD_EVERY == 0 {
            let pool = serde_json::to_vec(&store.aggregate::<Pool>().load("0").await?.state)?.len();
            println!("{fed} halves, {paired} of them paired: {}", stretch.told());
            println!("    {}, a pool of {pool} bytes, {}", memory(), held(&store.metrics()));
            stretch = Stretch::begin();
        }
    }
    clock.advance(BUFFER * 2);
    until(&mut news, 0, u64::from(fed), &mut ended, &mut paired).await?;
    println!("all {fed} ended, {paired} of them paired");
    running.stop().await?;
    Ok(())
}

/// The time that the halves since the last report took.
struct Stretch {
    began: Instant,
    processor_time: Option<Duration>,
    /// Until its halves are in, and no more than [`OPEN_MAX`] wait.
    slowest_minute: Duration,
}

impl Stretch {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            processor_time: processor_time(),
            slowest_minute: Duration::ZERO,
        }
    }

    fn told(&self) -> String {
        let work = processor_time().zip(self.processor_time);
        let work = work.map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then)) / TOLD_EVERY;
        format!(
            "{}, {} of a processor for a half, {} for the slowest {} of them",
            rate(u64::from(TOLD_EVERY), self.began.elapsed()),
            millis(work),
            millis(self.slowest_minute),
            ARTICLES * A_MINUTE
        )
    }
}

/// Extracts the memory and the disk space from the store's metrics.
fn held(metrics: &str) -> String {
    let figure = |name: &str| -> u64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    };
    format!(
        "{} in {} folds, {} of pages of the index; on disk {} in {} segments, {} in {} files of the index; \
         {} events by {} appends",
        megabytes(figure("leftfold_fold_cache_bytes ")),
        figure("leftfold_fold_cache_folds "),
        megabytes(figure("leftfold_index_cache_bytes ")),
        megabytes(figure("leftfold_store_disk_bytes{part=\"segments\"} ")),
        figure("leftfold_store_segments "),
        megabytes(figure("leftfold_store_disk_bytes{part=\"index\"} ")),
        figure("leftfold_index_runs "),
        figure("leftfold_store_events_total "),
        figure("leftfold_store_appends_total{"),
    )
}

/// Reads what happened to halves until no more than so many of those that were fed wait.
async fn until(
    news: &mut Following<PoolEvent>,
    open_max: u64,
    fed: u64,
    ended: &mut u64,
    paired: &mut u64,
) -> Result<(), LoadError> {
    while fed - *ended > open_max {
        match news.next().await?.event {
            PoolEvent::Paired { .. } => (*ended, *paired) = (*ended + 2, *paired + 2),
            PoolEvent::Discarded { .. } => *ended += 1,
            _ => {}
        }
    }
    Ok(())
}

/// One minute's halves for every article, side by side.
async fn feed(store: &Store, from: u32) -> Result<(), Box<dyn Error>> {
    let mut articles = JoinSet::new();
    for article in 0..ARTICLES {
        let pools = store.aggregate::<Pool>();
        articles.spawn(async move {
            let mut random = fastrand::Rng::new();
            for index in from..from + A_MINUTE {
                let side = if random.bool() { Side::Bought } else { Side::Sold };
                let (pieces, cents) = (Some(random.u32(1..4)), random.u32(0..100));
                report(
                    &pools,
                    &article.to_string(),
                    Half { id: index.to_string().into(), side, cents, pieces },
                )
                .await?;
            }
            Ok::<_, ExecuteError<_>>(())
        });
    }
    while let Some(fed) = articles.join_next().await {
        fed??;
    }
    Ok(())
}
