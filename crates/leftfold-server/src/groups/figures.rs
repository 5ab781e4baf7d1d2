//! Figures of groups, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leftfold::store::{Metrics, Store};
use serde_json::Value;

use super::ConsumerGroups;
use super::error::GroupError;
use super::info::GroupInfo;
use super::settings::GroupName;

/// Groups of a store that have figures: the first ones by name.
pub(crate) const MEASURED_GROUPS_MAX: usize = 200;

/// Counts of what this server gave to the consumers of a group, across its tenures.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupTotals(Arc<TotalCounts>);

#[derive(Debug, Default)]
struct TotalCounts {
    delivered: AtomicU64,
    retried: AtomicU64,
    parked: AtomicU64,
}

impl GroupTotals {
    /// Counts an event that is given to a consumer, with the number of times that it was before.
    pub(super) fn deliver(&self, retries: u32) {
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
        self.0.retried.fetch_add(u64::from(retries > 0), Ordering::Relaxed);
    }

    /// Counts events that are durably parked.
    pub(super) fn park(&self, count: usize) {
        self.0.parked.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl ConsumerGroups {
    /// Adds the figures of the groups of a store, whether they have consumers or not.
    ///
    /// # Errors
    /// Those of a read.
    pub(crate) async fn measure(
        &self,
        store: &Store,
        metrics: &mut Metrics,
    ) -> Result<(), GroupError> {
        let all = self.all(store).await?;
        let text = "Groups of consumers; the first of them by name have figures of their own.";
        metrics.gauge("leftfold_groups", text, &[], all.len());
        for (name, group) in all.into_iter().take(MEASURED_GROUPS_MAX) {
            match self.info_of(store, &name, group).await {
                Ok(info) => self.measure_group(&name, &info, metrics),
                // It was deleted meanwhile.
                Err(GroupError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn measure_group(&self, name: &GroupName, info: &GroupInfo, metrics: &mut Metrics) {
        let is_native = info.group.settings.face == Value::Null;
        let protocol = if is_native { "native" } else { "kurrentdb" };
        let labels = [("group", name.as_str()), ("protocol", protocol)];
        let running = info.running.as_ref();
        let text = "Consumers of a group at this server.";
        let consumers = running.map_or(0, |running| running.consumers.len());
        metrics.gauge("leftfold_group_consumers", text, &labels, consumers);
        let text = "Events that consumers of a group have and have not answered.";
        let in_flight = running.map_or(0, |running| running.in_flight);
        metrics.gauge("leftfold_group_in_flight", text, &labels, in_flight);
        let text = "Events of a group that wait in memory for consumers.";
        let waiting = running.map_or(0, |running| running.waiting);
        metrics.gauge("leftfold_group_waiting", text, &labels, waiting);
        let text = "Events that a group has parked and nobody replays.";
        metrics.gauge("leftfold_group_parked", text, &labels, info.parked.count());
        let text = "Positions of the store behind what a group has settled.";
        metrics.gauge("leftfold_group_lag", text, &labels, info.lag);
        let text = "Positions of the store behind the checkpoint of a group.";
        metrics.gauge("leftfold_group_checkpoint_lag", text, &labels, info.checkpoint_lag);
        let totals = self.totals(name);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let text = "Events that this server gave to consumers of a group, each time.";
        let name = "leftfold_group_delivered_total";
        metrics.counter(name, text, &labels, read(&totals.0.delivered));
        let text = "Those of them that were given out before.";
        let name = "leftfold_group_retried_total";
        metrics.counter(name, text, &labels, read(&totals.0.retried));
        let text = "Events of a group that this server has parked.";
        metrics.counter("leftfold_group_parked_total", text, &labels, read(&totals.0.parked));
    }
}
