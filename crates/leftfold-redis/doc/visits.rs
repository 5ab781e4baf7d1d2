use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_redis::{Redis, Writes};
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

impl Projection<Redis> for Visits {
    const NAME: &'static str = "visits";
    type Event = PageEvent;

    async fn apply(
        &self,
        rows: &mut Writes,
        event: &Recorded<PageEvent>,
    ) -> Result<(), ProjectionError> {
        let PageEvent::Visited { page } = &event.event;
        let count: u64 = match rows.read(page).await? {
            Some(count) => std::str::from_utf8(&count)?.parse()?,
            None => 0,
        };
        Ok(rows.put(page, (count + 1).to_string())?)
    }
}
