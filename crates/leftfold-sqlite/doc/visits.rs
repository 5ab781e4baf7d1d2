use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_sqlite::{Sqlite, rusqlite::Connection};
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

impl Projection<Sqlite> for Visits {
    const NAME: &'static str = "visits";
    type Event = PageEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        let columns = "page TEXT PRIMARY KEY, count INTEGER NOT NULL";
        Ok(rows.execute_batch(&format!("CREATE TABLE visits ({columns}) STRICT"))?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<PageEvent>,
    ) -> Result<(), ProjectionError> {
        let PageEvent::Visited { page } = &event.event;
        let add = "INSERT INTO visits VALUES (?1, 1) ON CONFLICT DO UPDATE SET count = count + 1";
        rows.prepare_cached(add)?.execute([page])?;
        Ok(())
    }
}
