//! The stations as they are now, in memory: for lists, and for the dashboard. It is built at every
//! start.

use std::collections::{BTreeMap, VecDeque};

use leftfold::fold::Recorded;
use leftfold::prelude::{Aggregate, Projection, ProjectionError, Timestamp};
use leftfold::runtime::projection::Memory;

use crate::domain::request::RemoteStartRequested;
use crate::domain::station::{Station, StationEvent};

/// Projection of the stations as they are now.
pub(crate) struct Stations;

/// Name of the projection.
pub(crate) const NAME: &str = "stations";

/// All stations.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Rows of the stations by identity.
    pub(crate) stations: BTreeMap<String, StationRow>,
    /// Remote starts that were accepted and led to no transaction, the newest first, at most
    /// [`LAPSED_MAX`].
    pub(crate) lapsed: VecDeque<Lapsed>,
}

/// Remote starts in vain that are kept at most.
pub(crate) const LAPSED_MAX: usize = 100;

/// A remote start that a station accepted and that led to no transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lapsed {
    /// The request.
    pub(crate) asked: RemoteStartRequested,
    /// Moment when its time was over.
    pub(crate) at: Timestamp,
}

/// A station.
#[derive(Clone, Debug, Default)]
pub(crate) struct StationRow {
    /// State of the station.
    pub(crate) state: Station,
    /// Number of its events.
    pub(crate) version: u64,
    /// Moment when the last of them was recorded; `None` before the first.
    pub(crate) changed_at: Option<Timestamp>,
}

impl Projection<Memory<Fleet>> for Stations {
    const NAME: &'static str = NAME;
    type Event = StationEvent;

    async fn apply(
        &self,
        fleet: &mut Fleet,
        event: &Recorded<StationEvent>,
    ) -> Result<(), ProjectionError> {
        if !fleet.stations.contains_key(event.stream_id()) {
            fleet.stations.insert(event.stream_id().to_owned(), StationRow::default());
        }
        if let Some(row) = fleet.stations.get_mut(event.stream_id()) {
            if let StationEvent::RemoteStartLapsed { request, at } = &event.event
                && let Some(start) = row.state.remote_start(request)
            {
                fleet.lapsed.push_front(Lapsed { asked: start.asked.clone(), at: *at });
                fleet.lapsed.truncate(LAPSED_MAX);
            }
            // The settings, lists and profiles of all stations are too much for memory; whoever
            // wants those of a station loads it.
            if !event.event.is_of_operation() {
                row.state.apply(&event.event);
            }
            (row.version, row.changed_at) = (event.version().0, Some(event.recorded_at()));
        }
        Ok(())
    }
}
