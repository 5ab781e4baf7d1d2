//! Time until a follower, which hears of an append by the files of the log alone, has the event.

use leftfold_core::store::Store;
use leftfold_log::LogFollower;

use crate::Outcome;
use crate::delivery::DeliveryLoad;
use crate::run::BenchRun;
use crate::store::options;
use crate::table::Row;

/// A follower promises 25 milliseconds from the sync on.
const DELIVERY: DeliveryLoad = DeliveryLoad { place: "follower", events_per_ms: 10, ms_max: 25.0 };

/// Single appends to a log, and a subscription over its files.
pub(crate) async fn delivery(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let fresh = run.fresh_store()?;
    let (follower, _) = LogFollower::open(fresh.folder(), options())?;
    let reader = Store::new(follower);
    let rows = DELIVERY.rows(&run.settings, &fresh.store, std::slice::from_ref(&reader)).await?;
    reader.close().await?;
    fresh.discard().await?;
    Ok(rows)
}
