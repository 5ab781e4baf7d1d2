//! Buyers and sellers report their halves of trades in one continuous feed, and as many halves as
//! possible are to be matched two by two, each within ten minutes of its arrival. The pattern is a
//! pool that decides and a process that keeps time: a half that arrives starts an instance with a
//! timer, and only when its time is up the pool pairs it, so that a later half may still make a
//! better matching possible. Leave it where the first match is always good enough: then pair on
//! arrival, and no process is needed.
//!
//! `cargo run --release --example pairing -- DIRECTORY 1000000` feeds so many halves, and tells
//! what they cost.

mod buffer;
mod matching;
mod measure;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use buffer::{BUFFER, Buffer, Corrector};
use leftfold::prelude::*;
use leftfold::testing::HandClock;
use pool::{Feed, Half, Pool, PoolEvent, PoolRefusal, Side};

fn half(id: &str, side: Side, pieces: impl Into<Option<u32>>, cents: u32) -> Half {
    Half { id: id.into(), side, cents, pieces: pieces.into() }
}

// ANCHOR: report
/// Hands a half to the pool of its article. It counts once, however often and however late it is
/// reported again.
async fn report(
    pools: &Aggregates<Pool>,
    article: &str,
    half: Half,
) -> Result<(), ExecuteError<PoolRefusal>> {
    let key = format!("{article}/{}", half.id);
    pools
        .command(article, Feed::Arrive { half })
        .id("feed", &key)
        .without_request_check()
        .execute()
        .await?;
    Ok(())
}
// ANCHOR_END: report

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    use Side::{Bought, Sold};
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    if let Some(halves) = place.load() {
        measure::measure(&store, halves).await?;
        return Ok(store.close().await?);
    }
    let pools = store.aggregate::<Pool>();
    let clock = Arc::new(HandClock::going());
    let corrector = Corrector { papers: BTreeMap::from([("s3".to_owned(), 7)]) };
    let runtime = Runtime::new(&store).clock(clock.clone()).process::<Buffer>().effect(corrector);
    let running = runtime.start().await?;

    let mut told = store.subscribe(Query::category(Pool::CATEGORY), store.head().position);
    // b1 could take either seller, b2 only s1: pairing b1 with the first one that comes would leave
    // b2 alone.
    let feed = [
        half("s1", Sold, 100, 1_000),
        half("b1", Bought, 100, 1_003),
        half("s2", Sold, 100, 1_007),
        half("b2", Bought, 100, 996),
        half("b3", Bought, 7, 500),
        half("s3", Sold, None, 500),
        half("s4", Sold, 9, 12),
    ];
    let arrivals = feed.len();
    for half in feed {
        report(&pools, "tulips", half).await?;
    }
    println!("{arrivals} halves arrive within a moment, then ten minutes pass");
    let mut open = arrivals;
    let mut passed = false;
    while open > 0 {
        let event = told.event().await?;
        for event in pools.decode(&event)? {
            match &event {
                PoolEvent::Paired { one, other } => {
                    println!("    {one} and {other} are one trade");
                    open -= 2;
                }
                PoolEvent::Discarded { half, why } => {
                    println!("    {half} is discarded: {why}");
                    open -= 1;
                }
                PoolEvent::Corrected { half, pieces } => {
                    println!("    {half} comes back from correction: {pieces} pieces")
                }
                PoolEvent::Held { half, partner } => {
                    println!("    {half} is held: {partner} may be its partner")
                }
                PoolEvent::Arrived { .. } | PoolEvent::CorrectionAsked(_) => {}
            }
            // Once everything is complete the clock is set forward, so that nobody has to wait for
            // the story's end.
            if !passed && matches!(event, PoolEvent::Corrected { .. }) {
                clock.advance(BUFFER + Duration::from_secs(1));
                passed = true;
            }
        }
    }
    running.stop().await?;
    store.close().await?;
    Ok(())
}
