//! Groups of consumers over the native protocol: who may do what, and the words of the engine.

use std::sync::Arc;

use futures_util::stream;
use leftfold::store::{Position, Query, Read, Store, Version};
use leftfold_protocol::wire::{self, group_key, group_problem, group_settings, group_start};
use leftfold_protocol::{Malformed, group_status};
use serde_json::Value;
use tonic::Status;

use super::{refused, unreadable};
use crate::groups::{
    ConnectedConsumers, ConsumerGroups, ConsumerInfo, ConsumerStrategy, GroupError, GroupInfo,
    GroupName, GroupSettings, KeyOf, ParkedEntry, ReleasedTo, RunningInfo,
};
use crate::services::Messages;
use crate::stores::ServedStore;
use crate::users::{Caller, UserRole, Wish};

/// Parked events of one page if the client does not say.
const PARKED: u32 = 100;
/// Parked events of one page.
const PARKED_MAX: u32 = 1_000;
/// Bytes of the data of the events of such a page after which it ends.
const PARKED_BYTES: usize = 4 << 20;

/// Right that is needed to make, change or delete a group.
pub(super) const TO_ADMINISTER: Wish<'_> = Wish::Role(UserRole::Admin);
/// Right that is needed to look at groups: positions tell of all events.
pub(super) const TO_LOOK: Wish<'_> = Wish::ReadAll;

/// The groups of a store, for a caller.
pub(super) struct GroupCalls {
    pub(super) caller: Caller,
    pub(super) served: ServedStore,
    pub(super) groups: Arc<ConsumerGroups>,
}

impl GroupCalls {
    pub(super) fn of(caller: Caller, served: ServedStore) -> Self {
        let groups = ConsumerGroups::of(&served.store);
        Self { caller, served, groups }
    }

    pub(super) fn store(&self) -> &Store {
        &self.served.store
    }

    pub(super) async fn create(&self, request: wire::CreateGroupRequest) -> Result<(), Status> {
        let (name, settings) = (name_of(&request.name)?, settings_of(request.settings, None)?);
        let start = self.start_of(request.start.and_then(|start| start.start));
        let created = self.groups.create(self.store(), &name, settings, start).await;
        created.map_err(ungrouped)
    }

    pub(super) async fn update(&self, request: wire::UpdateGroupRequest) -> Result<(), Status> {
        let name = name_of(&request.name)?;
        let before = self.own(&name).await?;
        let settings = settings_of(request.settings, Some(before))?;
        let start = request.start.map(|start| self.start_of(start.start));
        let connected = match request.ends_consumers {
            true => ConnectedConsumers::End,
            false => ConnectedConsumers::Stay,
        };
        let updated = self.groups.update(self.store(), &name, &settings, start, connected).await;
        updated.map_err(ungrouped)
    }

    pub(super) async fn delete(&self, request: wire::DeleteGroupRequest) -> Result<(), Status> {
        let name = name_of(&request.name)?;
        self.groups.delete(self.store(), &name).await.map_err(ungrouped)
    }

    pub(super) async fn get(
        &self,
        request: wire::GetGroupRequest,
    ) -> Result<wire::GroupInfo, Status> {
        let name = name_of(&request.name)?;
        let info = self.groups.info(self.store(), &name).await.map_err(ungrouped)?;
        Ok(told(&name, info))
    }

    /// All groups, told one after the other.
    pub(super) async fn list(self) -> Result<Messages<wire::GroupInfo>, Status> {
        let all = self.groups.all(self.store()).await.map_err(ungrouped)?;
        let listing = (self, all.into_iter());
        Ok(Box::pin(stream::try_unfold(listing, |(calls, mut left)| async move {
            loop {
                let Some((name, group)) = left.next() else { return Ok(None) };
                match calls.groups.info_of(calls.store(), &name, group).await {
                    Ok(info) => return Ok(Some((told(&name, info), (calls, left)))),
                    Err(GroupError::NotFound) => {}
                    Err(error) => return Err(ungrouped(error)),
                }
            }
        })))
    }

    pub(super) async fn parked(
        &self,
        request: wire::ListParkedRequest,
    ) -> Result<wire::ListParkedReply, Status> {
        let name = name_of(&request.name)?;
        let parked = self.groups.parked(self.store(), &name).await.map_err(ungrouped)?;
        let from = Version(request.after).max(parked.before).next();
        let at_most = match request.at_most {
            0 => PARKED,
            most => most.min(PARKED_MAX),
        };
        let read = Read::stream(name.parked_stream(), from).page_of(at_most);
        let (mut reply, mut bytes) = (wire::ListParkedReply::default(), 0);
        // A page is not empty while there are more.
        let mut records = self.store().read(read);
        while let Some(record) = records.next().await.map_err(unreadable)? {
            if bytes >= PARKED_BYTES || reply.parked.len() == at_most as usize {
                reply.more = true;
                break;
            }
            if parked.released.contains(&record.position) {
                continue;
            }
            let Some(entry) = ParkedEntry::of(&record) else { continue };
            let event = self.event_at(Position(entry.position)).await?;
            bytes += event.as_ref().map_or(0, prost::Message::encoded_len);
            reply.parked.push(wire::ParkedEvent {
                number: record.version().0,
                retries: entry.retries,
                reason: entry.reason,
                is_wish: entry.is_wish,
                parked_at: record.recorded_at.as_micros(),
                event,
            });
        }
        Ok(reply)
    }

    pub(super) async fn release(&self, request: wire::ReleaseParkedRequest) -> Result<(), Status> {
        use wire::release_parked_request::To;
        let name = name_of(&request.name)?;
        self.may_consume(&name).await?;
        let to = match request.to.ok_or_else(|| absent("to"))? {
            To::Consumers(_) => ReleasedTo::Consumers,
            To::Nobody(_) => ReleasedTo::Nobody,
        };
        let numbers = request.numbers.into_iter().map(Version).collect();
        let by = self.caller.name();
        let released = self.groups.release(self.store(), &name, &numbers, to, by).await;
        released.map_err(ungrouped)
    }

    async fn event_at(&self, at: Position) -> Result<Option<wire::RecordedEvent>, Status> {
        if at == Position::START {
            return Ok(None);
        }
        let read = Read::matching(Query::everything(), at).page_of(1);
        let page = self.store().page(read).await.map_err(unreadable)?;
        let found = page.events.into_iter().find(|event| event.position == at);
        Ok(found.map(Into::into))
    }

    pub(super) async fn replay(&self, request: wire::ReplayParkedRequest) -> Result<(), Status> {
        let name = name_of(&request.name)?;
        self.may_consume(&name).await?;
        let through = Version(request.through.unwrap_or(Version::END.0));
        self.groups.replay(self.store(), &name, through).await.map_err(ungrouped)
    }

    /// Refuses to whom it may not be given: consumers share a checkpoint, which is beside all
    /// events, and get what the query of the group finds.
    pub(super) async fn may_consume(&self, name: &GroupName) -> Result<(), Status> {
        self.caller.may(&self.served.name, Wish::AppendAll)?;
        let group = self.groups.stored(self.store(), name).await.map_err(ungrouped)?;
        self.caller.may(&self.served.name, Wish::Query(&group.settings.query))?;
        Ok(())
    }

    /// Refuses a group that another protocol has made, which leaves out some events.
    /// Returns the settings of a group, if this protocol has made it.
    pub(super) async fn own(&self, name: &GroupName) -> Result<GroupSettings, Status> {
        let group = self.groups.stored(self.store(), name).await.map_err(ungrouped)?;
        if group.settings.face == Value::Null {
            return Ok(group.settings);
        }
        let text = "another protocol has made the group: change and consume it over that one";
        Err(group_status(group_problem::Problem::Foreign(wire::Empty {}), text.to_owned()))
    }

    fn start_of(&self, start: Option<group_start::Start>) -> Position {
        match start {
            None => Position::START,
            Some(group_start::Start::After(after)) => Position(after),
            Some(group_start::Start::End(_)) => self.store().head().position,
        }
    }
}

pub(super) fn name_of(text: &str) -> Result<GroupName, Status> {
    GroupName::new(text).map_err(ungrouped)
}

/// The status of a call that the engine refused.
pub(super) fn ungrouped(error: GroupError) -> Status {
    use group_problem::Problem;
    let text = error.to_string();
    let problem = match error {
        GroupError::NotFound => Problem::NotFound(wire::Empty {}),
        GroupError::Exists => Problem::Exists(wire::Empty {}),
        GroupError::ConsumersMax { limit } => Problem::ConsumersMax(limit as u64),
        GroupError::Invalid { detail } => Problem::Invalid(detail),
        GroupError::Contended => Problem::Contended(wire::Empty {}),
        GroupError::Unavailable { detail } => Problem::Unavailable(detail),
    };
    group_status(problem, text)
}

fn absent(field: &'static str) -> Status {
    refused(Malformed::Absent { field })
}

fn key_of(key: wire::GroupKey) -> Result<KeyOf, Status> {
    Ok(match key.key.ok_or_else(|| absent("key of a group"))? {
        group_key::Key::Stream(_) => KeyOf::Stream,
        group_key::Key::Tag(prefix) => KeyOf::Tag(prefix),
        group_key::Key::Correlation(_) => KeyOf::Correlation,
    })
}

/// Reads settings; numbers that are left out are as they were, or the usual ones.
fn settings_of(
    settings: Option<wire::GroupSettings>,
    before: Option<GroupSettings>,
) -> Result<GroupSettings, Status> {
    let settings = settings.ok_or_else(|| absent("settings"))?;
    let query = settings.query.ok_or_else(|| absent("query"))?;
    let query = Query::try_from(query).map_err(refused)?;
    let usual = match before {
        Some(before) => GroupSettings { query, ..before },
        None => GroupSettings::of(query),
    };
    let strategy = match settings.strategy {
        None | Some(group_settings::Strategy::RoundRobin(_)) => ConsumerStrategy::RoundRobin,
        Some(group_settings::Strategy::Pinned(key)) => ConsumerStrategy::Pinned(key_of(key)?),
        Some(group_settings::Strategy::OneAtATime(_)) => ConsumerStrategy::DispatchToSingle,
    };
    Ok(GroupSettings {
        ordered: settings.ordered.map(key_of).transpose()?,
        strategy,
        message_timeout_ms: settings.answer_within_ms.unwrap_or(usual.message_timeout_ms),
        retries_max: settings.retries_max.unwrap_or(usual.retries_max),
        consumers_max: settings.consumers_max.unwrap_or(usual.consumers_max),
        buffer_events: settings.buffer_events.unwrap_or(usual.buffer_events),
        batch_events: settings.batch_events.unwrap_or(usual.batch_events),
        checkpoint_after_ms: settings.checkpoint_after_ms.unwrap_or(usual.checkpoint_after_ms),
        checkpoint_events_min: settings
            .checkpoint_events_min
            .unwrap_or(usual.checkpoint_events_min),
        checkpoint_events_max: settings
            .checkpoint_events_max
            .unwrap_or(usual.checkpoint_events_max),
        ..usual
    })
}

fn wire_key(key: &KeyOf) -> wire::GroupKey {
    let key = match key {
        KeyOf::Stream => group_key::Key::Stream(wire::Empty {}),
        KeyOf::Tag(prefix) => group_key::Key::Tag(prefix.clone()),
        KeyOf::Correlation => group_key::Key::Correlation(wire::Empty {}),
    };
    wire::GroupKey { key: Some(key) }
}

fn wire_settings(settings: &GroupSettings) -> wire::GroupSettings {
    let strategy = match &settings.strategy {
        ConsumerStrategy::RoundRobin => group_settings::Strategy::RoundRobin(wire::Empty {}),
        ConsumerStrategy::Pinned(key) => group_settings::Strategy::Pinned(wire_key(key)),
        ConsumerStrategy::DispatchToSingle => group_settings::Strategy::OneAtATime(wire::Empty {}),
    };
    wire::GroupSettings {
        query: Some((&settings.query).into()),
        ordered: settings.ordered.as_ref().map(wire_key),
        strategy: Some(strategy),
        answer_within_ms: Some(settings.message_timeout_ms),
        retries_max: Some(settings.retries_max),
        consumers_max: Some(settings.consumers_max),
        buffer_events: Some(settings.buffer_events),
        batch_events: Some(settings.batch_events),
        checkpoint_after_ms: Some(settings.checkpoint_after_ms),
        checkpoint_events_min: Some(settings.checkpoint_events_min),
        checkpoint_events_max: Some(settings.checkpoint_events_max),
    }
}

/// A group as it is told.
fn told(name: &GroupName, info: GroupInfo) -> wire::GroupInfo {
    let GroupInfo { group, checkpoint, parked, lag, running, .. } = info;
    wire::GroupInfo {
        name: name.as_str().to_owned(),
        settings: Some(wire_settings(&group.settings)),
        foreign: group.settings.face != Value::Null,
        after: group.start.0,
        checkpoint: checkpoint.0,
        lag,
        parked: parked.count(),
        running: running.map(running_told),
    }
}

fn running_told(running: RunningInfo) -> wire::GroupRunning {
    wire::GroupRunning {
        has_lease: running.has_lease,
        is_caught_up: running.is_caught_up,
        in_flight: running.in_flight as u64,
        waiting: running.waiting as u64,
        retrying: running.retrying as u64,
        settled: running.settled,
        consumers: running.consumers.into_iter().map(consumer_told).collect(),
    }
}

fn consumer_told(consumer: ConsumerInfo) -> wire::ConsumerInfo {
    wire::ConsumerInfo {
        name: consumer.who.name,
        user: consumer.who.user,
        credit: u32::try_from(consumer.capacity).unwrap_or(u32::MAX),
        in_flight: consumer.in_flight as u64,
        given: consumer.given,
        there_ms: consumer.there_ms,
    }
}
