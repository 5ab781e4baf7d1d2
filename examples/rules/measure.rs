//! Many cards, measured.

use std::error::Error;
use std::time::{Duration, Instant};

use examples::figures::{bytes, megabytes, memory, rate, seconds};
use leftfold::prelude::*;
use leftfold::sqlite::Sqlite;

use crate::alerts::{self, Alerts};
use crate::{failed, paid, tell};

/// Events of each card.
const EACH: u64 = 2;
const TOGETHER: u64 = 5_000;

pub(crate) async fn measure(cards: u64) -> Result<(), Box<dyn Error>> {
    let place = tempfile::Builder::new().prefix("leftfold-").tempdir()?;
    let (log, rows) = (place.path().join("store"), place.path().join("rows"));
    let store =
        leftfold::open(log.to_str().ok_or("the directory for temporary files is not UTF-8")?)
            .await?;
    let events = cards * EACH;
    let mut draw = fastrand::Rng::with_seed(1);
    let began = Instant::now();
    let mut recorded = 0;
    while recorded < events {
        // Any card, at any time: there is no order in which pages of rows could be kept.
        let together = (0..TOGETHER.min(events - recorded)).map(|n| {
            let (card, minutes) = (format!("{:08}", draw.u64(0..cards)), (recorded + n) / 1_000);
            if draw.bool() {
                failed(&card, minutes)
            } else {
                paid(&card, minutes, draw.u32(1..500), "FR")
            }
        });
        recorded = tell(&store, &together.collect::<Vec<_>>()).await?.0;
    }
    let taken = began.elapsed();
    println!(
        "{events} events of {cards} cards recorded in {}, {}; {}",
        seconds(taken),
        rate(events, taken),
        memory()
    );

    let target = Sqlite::at(&rows);
    let reader = target.reader::<Alerts>();
    let began = Instant::now();
    let running = Runtime::new(&store).project(Alerts, target).start().await?;
    running
        .projections()
        .wait_until(Alerts::NAME, store.head().position, Duration::from_secs(24 * 3600))
        .await?;
    let taken = began.elapsed();
    let (entries, _) = alerts::counts(&reader)?;
    let raised = alerts::after(&reader, Position::START)?.len();
    println!("judged in {}, {}; {}", seconds(taken), rate(events, taken), memory());
    println!("{raised} alerts, {entries} entries in windows, {} of rows", megabytes(bytes(&rows)?));
    running.stop().await?;
    store.close().await?;
    Ok(())
}
