use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_postgres::{Postgres, Rows};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PageEvent {
    Visited { page: String },
}

impl Event for PageEvent {
    const NAMESPACE: &'static str = "page";
}

/// The number of visits of each page.
pub struct Visits;

impl Projection<Postgres> for Visits {
    const NAME: &'static str = "visits";
    type Event = PageEvent;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        let columns = "page TEXT PRIMARY KEY, count BIGINT NOT NULL";
        Ok(rows.batch_execute(&format!("CREATE TABLE visits ({columns})")).await?)
    }

    async fn apply(
        &self,
        rows: &mut Rows,
        event: &Recorded<PageEvent>,
    ) -> Result<(), ProjectionError> {
        let PageEvent::Visited { page } = &event.event;
        let add = "INSERT INTO visits VALUES ($1, 1) \
                   ON CONFLICT (page) DO UPDATE SET count = visits.count + 1";
        Ok(rows.send(add, &[page]).await?)
    }
}
