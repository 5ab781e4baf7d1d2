//! Subscriptions as clients see them that look at them.

use leftfold::store::{RecordedEvent, Version};
use tonic::Status;

use super::super::Facade;
use super::super::faults;
use super::super::marks::{ALL_TRUNCATED, StreamMark};
use super::super::names::{self, NamedStream};
use super::super::wire::persistent::SubscriptionInfo;
use super::super::wire::persistent::subscription_info::{ConnectionInfo, Measurement};
use super::face::{GroupFace, GroupSource, NamedGroup};
use super::refused;
use crate::groups::{ConsumerGroups, ConsumerInfo, GroupError, GroupInfo};

fn count(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn per_second(items: u64, ms: u64) -> i32 {
    count(items.saturating_mul(1_000) / ms.max(1_000))
}

/// Returns a subscription as clients see it.
pub(super) async fn told(
    facade: &Facade,
    named: &NamedGroup,
    face: GroupFace,
    info: GroupInfo,
) -> Result<SubscriptionInfo, Status> {
    let last = info.last_events(&facade.store).await.map_err(|error| refused(named, error))?;
    let last_settled = shown_place(facade, named, last.settled.as_ref()).await?;
    let last_known = shown_place(facade, named, last.known.as_ref()).await?;
    let settings = &info.group.settings;
    let is_live = match &info.running {
        Some(running) => running.is_caught_up,
        None => last.known.is_none_or(|last| last.position <= info.checkpoint),
    };
    let running = info.running.unwrap_or_default();
    let is_watched = face.extra_statistics;
    let connections = running.consumers.into_iter().map(|consumer| told_of(consumer, is_watched));
    Ok(SubscriptionInfo {
        event_source: named.source.shown().to_owned(),
        group_name: named.group.clone(),
        status: if is_live { "Live" } else { "Behind" }.to_owned(),
        connections: connections.collect(),
        average_per_second: per_second(running.settled, running.served_ms),
        total_items: long(running.settled),
        count_since_last_measurement: long(running.settled),
        last_checkpointed_event_position: last_settled,
        last_known_event_position: last_known,
        resolve_link_tos: face.resolves_links,
        start_from: face.start_from,
        message_timeout_milliseconds: count(settings.message_timeout_ms),
        extra_statistics: face.extra_statistics,
        max_retry_count: count(settings.retries_max),
        live_buffer_size: face.live_buffer,
        buffer_size: face.history_buffer,
        read_batch_size: face.read_batch,
        check_point_after_milliseconds: count(settings.checkpoint_after_ms),
        min_check_point_count: count(settings.checkpoint_events_min),
        max_check_point_count: count(settings.checkpoint_events_max),
        read_buffer_count: count(running.waiting - running.retrying),
        live_buffer_count: 0,
        retry_buffer_count: count(running.retrying),
        total_in_flight_messages: count(running.in_flight),
        outstanding_messages_count: count(running.in_flight + running.parking),
        named_consumer_strategy: face.strategy,
        max_subscriber_count: count(settings.consumers_max),
        parked_message_count: long(info.parked.count()),
    })
}

fn told_of(consumer: ConsumerInfo, is_watched: bool) -> ConnectionInfo {
    let ConsumerInfo { who, capacity, in_flight, given, there_ms } = consumer;
    let measured = [("given", given), ("connected-ms", there_ms)];
    let measured =
        measured.map(|(key, value)| Measurement { key: key.to_owned(), value: long(value) });
    ConnectionInfo {
        from: who.from,
        username: if who.user.is_empty() { "anonymous".to_owned() } else { who.user },
        average_items_per_second: per_second(given, there_ms),
        total_items: long(given),
        count_since_last_measurement: long(given),
        observed_measurements: if is_watched { measured.into() } else { Vec::new() },
        available_slots: count(capacity.saturating_sub(in_flight)),
        in_flight_messages: count(in_flight),
        connection_name: who.name,
    }
}

/// The place of an event: its position among all events, its revision in a stream; empty if there
/// is none.
async fn shown_place(
    facade: &Facade,
    named: &NamedGroup,
    event: Option<&RecordedEvent>,
) -> Result<String, Status> {
    let Some(event) = event else { return Ok(String::new()) };
    Ok(match &named.source {
        GroupSource::All => format!("C:{0}/P:{0}", event.position.0),
        GroupSource::Stream(_) => event.version().0.saturating_sub(1).to_string(),
        GroupSource::Indexed(stream) => {
            let (store, at) = (&facade.store, event.position);
            let number = facade.ordinals.number_of(store, stream, at, None).await;
            number.map_err(faults::unread)?.to_string()
        }
    })
}

impl Facade {
    /// Returns the marks of a stream. In that of parked events those are hidden that were replayed;
    /// it is deleted with its group.
    pub(in super::super) async fn mark_of(
        &self,
        stream: &NamedStream,
    ) -> Result<StreamMark, Status> {
        let mut mark = self.marks.of(&stream.name);
        if let Some(group) = names::parked_in(&stream.shown) {
            let parked = ConsumerGroups::of(&self.store).parked(&self.store, &group).await;
            mark.truncate_before = match parked {
                Ok(parked) if parked.before == Version::ABSENT => mark.truncate_before,
                Ok(parked) => parked.before.0.max(mark.truncate_before),
                Err(GroupError::NotFound) => ALL_TRUNCATED,
                Err(error) => return Err(Status::unavailable(error.to_string())),
            };
        }
        Ok(mark)
    }
}
