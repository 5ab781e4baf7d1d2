//! Time until another handle, which hears of an append by the database alone, has the event.

use super::server::open;
use crate::Outcome;
use crate::delivery::DeliveryLoad;
use crate::run::BenchRun;
use crate::table::Row;

const DELIVERY: DeliveryLoad = DeliveryLoad { place: "PostgreSQL", events_per_ms: 5, ms_max: 20.0 };

/// Single appends by one handle, and a subscription of another one.
pub(crate) async fn delivery(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let url = run.postgres()?.database();
    let (writer, reader) = (open(&url).await?, open(&url).await?);
    let rows = DELIVERY.rows(&run.settings, &writer, std::slice::from_ref(&reader)).await?;
    writer.close().await?;
    reader.close().await?;
    Ok(rows)
}
