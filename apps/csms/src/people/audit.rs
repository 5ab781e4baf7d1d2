//! What people did, the newest first.
//!
//! Nothing is kept beside the events: an event of the domain that follows from an act says in its
//! metadata who did it. They are found by their types, through the index, from the end of the store
//! backwards; types of which stations alone are the cause are left out, so that a busy store is not
//! read through for a few acts.

use leftfold::fold::{EventError, Schema};
use leftfold::prelude::{Position, Query};
use leftfold::store::{EventType, Read, RecordedEvent};
use serde::Deserialize;

use super::{OperatorAct, People, PeopleError};
use crate::domain::id_tag::IdTagEvent;
use crate::domain::person::{ApiTokenEvent, UserAccountEvent};
use crate::domain::station::StationEvent;

/// Events that are looked at for one page.
const LOOKED_AT_MAX: u32 = 2_000;

/// Types of events that no person causes, and that are many.
const OF_STATIONS: [&str; 16] = [
    "station.Booted",
    "station.CameOnline",
    "station.WentOffline",
    "station.HeartbeatReceived",
    "station.StatusChanged",
    "station.TransactionStarted",
    "station.TransactionStopped",
    "station.UnmatchedStopReported",
    "station.RemoteStartAnswered",
    "station.RemoteStopAnswered",
    "station.OperationAnswered",
    "station.FirmwareReported",
    "station.UploadReported",
    "station.SecurityEventReported",
    "station.VendorMessageReceived",
    "user.SessionUsed",
];

/// Something that a caller did.
#[derive(Debug)]
pub(crate) struct AuditEntry {
    /// Event that says so.
    pub(crate) event: RecordedEvent,
    /// Caller, as it is recorded.
    pub(crate) by: String,
}

#[derive(Deserialize)]
struct Author {
    by: String,
}

impl People {
    /// Returns acts from a position on backwards, and the position to go on after; `None` at the
    /// beginning of the store. A page may have fewer than it could, or none, and not be the last.
    pub(crate) async fn acts(
        &self,
        before: Option<Position>,
        by: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, Option<Position>), PeopleError> {
        let from = before.map_or(Position::END, |before| Position(before.0.saturating_sub(1)));
        if from == Position::START {
            return Ok((Vec::new(), None));
        }
        let read = Read::matching(acts_query()?, from).backwards().page_of(LOOKED_AT_MAX);
        let page = self.store.page(read).await?;
        let mut entries = Vec::new();
        for event in page.events {
            if entries.len() == limit {
                let next = entries.last().map(|entry: &AuditEntry| entry.event.position);
                return Ok((entries, next));
            }
            let author = serde_json::from_slice::<Author>(&event.metadata.user);
            if let Ok(Author { by: who }) = author
                && by.is_none_or(|by| by == who)
            {
                entries.push(AuditEntry { event, by: who });
            }
        }
        Ok((entries, page.next.map(|_| page.through)))
    }

    /// Returns the name of a caller that is recorded under an id, for people to read; `None` if it
    /// is a user who was forgotten, or nobody's.
    pub(crate) async fn name_of_caller(&self, by: &str) -> Result<Option<String>, PeopleError> {
        match by.split_once('-') {
            Some(("user", id)) => self.user_name(id).await,
            Some(("api_token", id)) => self.token_name(id).await,
            _ => Ok(Some(by.to_owned())),
        }
    }
}

/// Returns the query for events that may be acts of people.
fn acts_query() -> Result<Query, PeopleError> {
    let schemas = [
        Schema::of::<StationEvent>(),
        Schema::of::<IdTagEvent>(),
        Schema::of::<UserAccountEvent>(),
        Schema::of::<ApiTokenEvent>(),
        Schema::of::<OperatorAct>(),
    ];
    let schemas: Vec<_> = schemas.into_iter().collect::<Result<_, EventError>>()?;
    let types = schemas.iter().flat_map(|schema| schema.wanted().iter().cloned());
    let is_act = |event_type: &EventType| !OF_STATIONS.contains(&event_type.as_str());
    Ok(Query::types(types.filter(is_act)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_are_known_are_left_out_and_a_new_type_of_event_is_looked_at() {
        let known: Vec<_> = [Schema::of::<StationEvent>(), Schema::of::<UserAccountEvent>()]
            .into_iter()
            .flat_map(|schema| schema.unwrap().wanted().to_vec())
            .collect();
        for left_out in OF_STATIONS {
            assert!(known.iter().any(|known| known.as_str() == left_out), "{left_out}");
        }
        assert!(acts_query().unwrap().to_string().contains("station.RemoteStartRequested"));
    }
}
