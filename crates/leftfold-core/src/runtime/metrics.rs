//! Consumers as figures, in the registry of their store.

use std::sync::Arc;

use super::consumer::status::{Board, ConsumerStatus};
use super::projection::{ProjectionStatus, Projections};
use crate::store::{Measured, Metrics, Store};

/// The consumers of one runtime, for as long as it runs.
#[derive(Debug)]
pub(super) struct RuntimeFigures {
    board: Arc<Board>,
    store: Store,
    projections: Projections,
}

impl RuntimeFigures {
    /// Has the figures of a runtime's consumers in those of its store.
    pub(super) fn shown(board: &Arc<Board>, store: &Store, projections: &Projections) -> Arc<Self> {
        let own = Arc::new(Self {
            board: board.clone(),
            store: store.clone(),
            projections: projections.clone(),
        });
        store.measures(&own);
        own
    }
}

impl Measured for RuntimeFigures {
    fn measure(&self, metrics: &mut Metrics) {
        consumers(metrics, &self.board.statuses(&self.store));
        projections(metrics, &self.projections.list());
    }
}

fn consumers(metrics: &mut Metrics, consumers: &[ConsumerStatus]) {
    for status in consumers {
        let labels = [("consumer", status.name)];
        let events = "Events of the log gone past since the start.";
        metrics.counter("leftfold_consumer_events_total", events, &labels, status.events);
        let mut gauge = |name, help, value: u64| metrics.gauge(name, help, &labels, value);
        gauge(
            "leftfold_consumer_position",
            "Everything up to here was taken up.",
            status.through.0,
        );
        gauge("leftfold_consumer_head", "Where the log ends.", status.head.0);
        gauge(
            "leftfold_consumer_lag_events",
            "Events of the log that were not taken up.",
            status.lag(),
        );
        gauge(
            "leftfold_consumer_events_per_second",
            "The same a second, lately.",
            status.per_second,
        );
        gauge("leftfold_consumer_under_way", "Things under way.", status.under_way as u64);
        gauge(
            "leftfold_consumer_waiting",
            "Things that wait, are in doubt or parked.",
            status.waiting as u64,
        );
        gauge("leftfold_consumer_up", "0 if it does not go on.", u64::from(!status.stalled));
        let standby = "1 if another runtime does its work, and this one waits to take over.";
        gauge("leftfold_consumer_standby", standby, u64::from(status.standby));
        let needs_person = "1 if something of it waits for a person.";
        gauge("leftfold_consumer_needs_person", needs_person, u64::from(status.needs_person));
        gauge("leftfold_parked", "Events that are parked.", status.parked as u64);
        gauge("leftfold_effects_in_doubt", "Effects in doubt.", status.in_doubt as u64);
        let stuck = "Commands that fail for a reason that does not pass.";
        gauge("leftfold_commands_stuck", stuck, status.stuck as u64);
        let unheard =
            "Types that it asks for, that were never recorded, and that no enum in use declares.";
        gauge("leftfold_consumer_unheard_types", unheard, status.unheard_types.len() as u64);
        let (left, help) = (
            "leftfold_consumer_seconds_left",
            "To the end of the log at the present speed; absent if it stands.",
        );
        metrics.declare_gauge(left, help);
        if let Some(time) = status.time_left() {
            metrics.gauge(left, help, &labels, time.as_secs());
        }
        let labels = [("consumer", status.name), ("reason", &status.waits_for)];
        metrics.gauge("leftfold_consumer_waits_for", "What it waits for, as a label.", &labels, 1);
    }
}

fn projections(metrics: &mut Metrics, projections: &[ProjectionStatus]) {
    for status in projections {
        let labels = [("projection", status.name), ("version", &*status.version.to_string())];
        metrics.gauge("leftfold_projection_parked", "Parked items.", &labels, status.parked);
        let serves = "1 if readers see this version.";
        metrics.gauge("leftfold_projection_serves", serves, &labels, u64::from(status.serves));
    }
}
