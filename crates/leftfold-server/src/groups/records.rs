//! What groups keep in the store, as events of the server's own.
//!
//! The stream `$group-NAME` has the settings and what was asked of the group, the stream
//! `$group:parked-NAME` an event for each parked one; `released` has those that were taken out. The
//! consumer `$group NAME` has the position up to which everything is settled, the consumer
//! `$group:parked NAME` that of the last record of a parked event which was settled after a replay.
//!
//! Members named `start`, `through` and `position` are positions of the store; a copy of the store
//! rewrites them by these names.

use leftfold::store::{
    Append, Authority, CheckpointRecord, Condition, EventType, Expected, MoveFrom, NewEvent,
    Outcome, Position, Query, QueryItem, Read, ReadError, RecordedEvent, Store, StreamMatch,
    TypeMatch, Version,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::GroupError;
use super::machine::{GroupPlaces, ParkOrder};
use super::settings::{GROUP_CATEGORY, GroupName, GroupSettings};

/// Type of the event that makes a group.
const CREATED: &str = "$group.Created";
/// Type of the event that gives it other settings.
const UPDATED: &str = "$group.Updated";
/// Type of the event that asks for a replay of what is parked.
const REPLAYED: &str = "$group.ReplayAsked";
/// Type of the event that ends it.
const DELETED: &str = "$group.Deleted";
/// Type of the record of a parked event.
const PARKED: &str = "$group.Parked";
/// Times that a change is tried while others change the group too.
pub(super) const TRIES_MAX: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct SettingsRecord {
    /// Everything after this position is read.
    start: u64,
    settings: GroupSettings,
    /// Consumers are ended by the update.
    #[serde(default)]
    ends_consumers: bool,
    /// State before an update, so that the records before need not be read.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    before: Option<BeforeUpdate>,
}

/// State that the records before an update tell.
#[derive(Debug, Serialize, Deserialize)]
struct BeforeUpdate {
    /// Version of the record that made the group.
    created_version: u64,
    /// Updates before that ended consumers.
    ended_before: u64,
    /// Position of the last record whose replay was asked for.
    through: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReplayRecord {
    /// Position of the last record that is replayed.
    through: u64,
    /// Version of the last record before that has settings; 0 if it is not told.
    #[serde(default)]
    settings_version: u64,
}

/// The record of a parked event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkedEntry {
    /// Position of the event; 0 if a copy of the store dropped it.
    pub(crate) position: u64,
    /// Number of times that it was given out again.
    pub(crate) retries: u32,
    pub(crate) reason: String,
    /// A consumer asked for it; if not, the event was given out too often.
    pub(crate) is_wish: bool,
}

impl ParkedEntry {
    /// Reads a record; `None` if it is none that this release can read.
    pub(crate) fn of(event: &RecordedEvent) -> Option<Self> {
        (event.event_type.as_str() == PARKED).then(|| parsed(event))?
    }
}

/// A group as it is in the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredGroup {
    pub(crate) settings: GroupSettings,
    /// Everything after this position is read, as long as nothing was settled.
    pub(crate) start: Position,
    /// Position of the record that made it.
    pub(super) created: Position,
    /// Version of that record.
    created_version: Version,
    /// Position of the last record that has settings, or was to have some.
    changed: Position,
    /// Version of that record.
    changed_version: Version,
    /// Position of the last record of a parked event whose replay was asked for.
    pub(super) replay_through: Position,
    /// Version of its stream.
    pub(super) version: Version,
    /// Number of the last update that ended consumers.
    pub(super) ended_consumers: u64,
}

/// State of a group that was known before.
#[derive(Debug)]
pub(super) struct ChangedGroup {
    /// `None` if it was deleted.
    pub(super) group: Option<StoredGroup>,
    /// Position of the first update since.
    pub(super) first_update: Option<Position>,
}

pub(super) fn parsed<T: DeserializeOwned>(event: &RecordedEvent) -> Option<T> {
    serde_json::from_slice(&event.data).ok()
}

/// The right by which the server writes names of its own.
pub(super) fn authority() -> Authority {
    Authority::of_number(1).unwrap_or(Authority::APPLICATION)
}

pub(super) fn own(name: &'static str, value: &impl Serialize) -> NewEvent {
    let data = serde_json::to_vec(value).unwrap_or_default();
    NewEvent::new(EventType::new(name).expect("the types of this file are short"), data)
}

impl StoredGroup {
    /// Takes the next event of the group's stream; `None` if it ends the group, or there is none.
    fn after(before: Option<Self>, event: &RecordedEvent) -> Option<Self> {
        let version = event.version();
        let mut next = before;
        if let Some(group) = &mut next {
            group.version = version;
        }
        match (event.event_type.as_str(), next) {
            (CREATED, _) => {
                let SettingsRecord { start, settings, .. } = parsed(event)?;
                Some(Self {
                    settings,
                    start: Position(start),
                    created: event.position,
                    created_version: version,
                    changed: event.position,
                    changed_version: version,
                    replay_through: event.position,
                    version,
                    ended_consumers: 0,
                })
            }
            (UPDATED, Some(group)) => {
                let changed = (event.position, version);
                let group = Self { changed: changed.0, changed_version: changed.1, ..group };
                let Some(SettingsRecord { start, settings, ends_consumers, .. }) = parsed(event)
                else {
                    return Some(group);
                };
                let ended_consumers = group.ended_consumers + u64::from(ends_consumers);
                Some(Self { settings, start: Position(start), ended_consumers, ..group })
            }
            (REPLAYED, Some(group)) => {
                let asked = parsed(event).map_or(0, |record: ReplayRecord| record.through);
                let replay_through = group.replay_through.max(Position(asked));
                Some(Self { replay_through, ..group })
            }
            (DELETED, _) => None,
            (_, group) => group,
        }
    }

    /// Reads a group, by its last records. The second value is the version of its stream.
    pub(super) async fn load(
        store: &Store,
        name: &GroupName,
    ) -> Result<(Option<Self>, Version), ReadError> {
        let Some(last) = record_at(store, name, Version::END).await? else {
            return Ok((None, Version::ABSENT));
        };
        if let Some(group) = Self::of_last(store, name, &last).await? {
            return Ok((Some(group), last.version()));
        }
        let mut events = store.read(Read::stream(name.stream(), Version(1)));
        let (mut group, mut version) = (None, Version::ABSENT);
        while let Some(event) = events.next().await? {
            version = event.version();
            group = Self::after(group, &event);
        }
        Ok((group, version))
    }

    /// Reads a group by the last record of its stream and those that it names; `None` if they do
    /// not tell all of it.
    async fn of_last(
        store: &Store,
        name: &GroupName,
        last: &RecordedEvent,
    ) -> Result<Option<Self>, ReadError> {
        let mut settings = Some(last.clone());
        if last.event_type.as_str() == REPLAYED {
            let before = parsed(last).map_or(0, |record: ReplayRecord| record.settings_version);
            settings = record_at(store, name, Version(before)).await?;
        }
        let Some(settings) = settings else { return Ok(None) };
        let mut group = match settings.event_type.as_str() {
            CREATED => Self::after(None, &settings),
            UPDATED => {
                let record: Option<SettingsRecord> = parsed(&settings);
                let Some(before) = record.and_then(|record| record.before) else { return Ok(None) };
                let created = record_at(store, name, Version(before.created_version)).await?;
                let created = created.as_ref().and_then(|created| Self::after(None, created));
                let created = created.map(|created| Self {
                    replay_through: created.replay_through.max(Position(before.through)),
                    ended_consumers: before.ended_before,
                    ..created
                });
                created.and_then(|created| Self::after(Some(created), &settings))
            }
            _ => None,
        };
        if last.event_type.as_str() == REPLAYED {
            group = group.and_then(|group| Self::after(Some(group), last));
        }
        Ok(group)
    }

    /// Reads what became of a group since it was known.
    pub(super) async fn load_on(
        store: &Store,
        name: &GroupName,
        known: &Self,
    ) -> Result<ChangedGroup, ReadError> {
        let from = Version(known.version.0.saturating_add(1));
        let mut events = store.read(Read::stream(name.stream(), from));
        let (mut group, mut first_update) = (Some(known.clone()), None);
        while let Some(event) = events.next().await? {
            if event.event_type.as_str() == UPDATED {
                first_update = first_update.or(Some(event.position));
            }
            group = Self::after(group, &event);
        }
        Ok(ChangedGroup { group, first_update })
    }

    /// Reads all groups, by name.
    pub(super) async fn load_all(store: &Store) -> Result<Vec<(GroupName, Self)>, ReadError> {
        let category = Query::category(GROUP_CATEGORY);
        let mut events = store.read(Read::matching(category, Position::START));
        let mut groups = std::collections::BTreeMap::new();
        while let Some(event) = events.next().await? {
            let Some(at) = &event.stream else { continue };
            let named = at.name.strip_prefix(GROUP_CATEGORY).and_then(|id| id.strip_prefix('-'));
            let Some(Ok(name)) = named.map(GroupName::new) else { continue };
            match Self::after(groups.remove(&name), &event) {
                Some(group) => groups.insert(name, group),
                None => None,
            };
        }
        Ok(groups.into_iter().collect())
    }

    /// Reads how far a group has come.
    pub(super) async fn places(
        &self,
        store: &Store,
        name: &GroupName,
    ) -> Result<GroupPlaces, ReadError> {
        let read = store.checkpoint(name.consumer()).await?;
        let replayed = store.checkpoint(name.replayer()).await?;
        let position = |at: Option<leftfold::store::Checkpoint>, least: Position| {
            at.map_or(least, |at| at.position)
        };
        let retried = store.checkpoint(name.retrier()).await?;
        let read = position(read, self.start);
        let replayed = position(replayed, self.created).max(self.created);
        let retried = position(retried, self.created).max(self.created);
        Ok(GroupPlaces { read, replayed, retried })
    }
}

/// Makes a group that begins after a position.
pub(super) async fn create(
    store: &Store,
    name: &GroupName,
    settings: GroupSettings,
    start: Position,
) -> Result<(), GroupError> {
    for _ in 0..TRIES_MAX {
        let (group, version) = StoredGroup::load(store, name).await?;
        if group.is_some() {
            return Err(GroupError::Exists);
        }
        let record = SettingsRecord {
            start: start.0,
            settings: settings.clone(),
            ends_consumers: false,
            before: None,
        };
        let mut append = change(name, version, own(CREATED, &record));
        // A group of this name that was there before has left its own.
        append.checkpoint = Some(CheckpointRecord {
            consumer: name.consumer(),
            from: MoveFrom::Anywhere,
            checkpoint: store.checkpoint_at(start).await?,
        });
        if let Outcome::Appended(_) = store.append(append).await? {
            return Ok(());
        }
    }
    Err(GroupError::Contended)
}

/// Gives a group other settings. Another beginning holds only if nothing was settled.
pub(super) async fn update(
    store: &Store,
    name: &GroupName,
    settings: &GroupSettings,
    start: Option<Position>,
    ends_consumers: bool,
) -> Result<(), GroupError> {
    for _ in 0..TRIES_MAX {
        let (group, version) = StoredGroup::load(store, name).await?;
        let group = group.ok_or(GroupError::NotFound)?;
        let places = group.places(store, name).await?;
        let moves = start.filter(|start| places.read == group.start && *start != group.start);
        let record = SettingsRecord {
            start: moves.unwrap_or(group.start).0,
            settings: settings.clone(),
            ends_consumers,
            before: Some(BeforeUpdate {
                created_version: group.created_version.0,
                ended_before: group.ended_consumers,
                through: group.replay_through.0,
            }),
        };
        let mut append = change(name, version, own(UPDATED, &record));
        if let Some(start) = moves {
            append.checkpoint = Some(CheckpointRecord {
                consumer: name.consumer(),
                from: MoveFrom::Exactly(group.start),
                checkpoint: store.checkpoint_at(start).await?,
            });
        }
        match store.append(append).await {
            Ok(Outcome::Appended(_)) => return Ok(()),
            Ok(_) | Err(leftfold::store::AppendError::CheckpointMoved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(GroupError::Contended)
}

/// Ends a group.
pub(super) async fn delete(store: &Store, name: &GroupName) -> Result<(), GroupError> {
    let deleted = || own(DELETED, &serde_json::json!({}));
    ask(store, name, |_| Ok(Some(deleted()))).await
}

/// Asks for a replay of what is parked: all of it, or that whose records have versions up to one.
pub(super) async fn replay(
    store: &Store,
    name: &GroupName,
    through: Version,
) -> Result<(), GroupError> {
    let last = Read::stream(name.parked_stream(), through).backwards().page_of(1);
    let last = store.page(last).await?.events.into_iter().next();
    let Some(last) = last.map(|last| last.position) else {
        // It must be there all the same.
        return ask(store, name, |_| Ok(None)).await;
    };
    ask(store, name, |group| {
        let (through, settings_version) = (last.0, group.changed_version.0);
        let record = ReplayRecord { through, settings_version };
        Ok((last > group.replay_through).then(|| own(REPLAYED, &record)))
    })
    .await
}

/// Appends an event to the stream of a group that is there.
async fn ask(
    store: &Store,
    name: &GroupName,
    event: impl Fn(&StoredGroup) -> Result<Option<NewEvent>, GroupError>,
) -> Result<(), GroupError> {
    for _ in 0..TRIES_MAX {
        let (group, version) = StoredGroup::load(store, name).await?;
        let group = group.ok_or(GroupError::NotFound)?;
        let Some(event) = event(&group)? else { return Ok(()) };
        if let Outcome::Appended(_) = store.append(change(name, version, event)).await? {
            return Ok(());
        }
    }
    Err(GroupError::Contended)
}

fn change(name: &GroupName, version: Version, event: NewEvent) -> Append {
    let mut append = Append::of(vec![event.in_stream(name.stream())])
        .when(Condition::stream(name.stream(), Expected::Exact(version)));
    append.authority = authority();
    append
}

/// Reads a record of a group; `None` if there is none of this version. The last one is at the end.
async fn record_at(
    store: &Store,
    name: &GroupName,
    version: Version,
) -> Result<Option<RecordedEvent>, ReadError> {
    let read = Read::stream(name.stream(), version).backwards().page_of(1);
    let found = store.page(read).await?.events.into_iter().next();
    Ok(found.filter(|event| version == Version::END || event.version() == version))
}

/// The condition that a group is there, and has the settings that are known.
pub(super) fn unchanged(name: &GroupName, known: &StoredGroup) -> Condition {
    let types = [CREATED, UPDATED, DELETED].map(|name| {
        TypeMatch::Exact(EventType::new(name).expect("the types of this file are short"))
    });
    let changes = QueryItem {
        types: types.into(),
        streams: Some(StreamMatch::Exact(name.stream())),
        ..QueryItem::default()
    };
    Condition::none_matching(changes.with_system().into(), known.changed)
}

/// The append that parks events.
pub(super) fn parking(name: &GroupName, orders: &[ParkOrder]) -> Append {
    let events = orders.iter().map(|order| {
        let record = ParkedEntry {
            position: order.position.0,
            retries: order.retries,
            reason: order.reason.to_string(),
            is_wish: order.is_wish,
        };
        own(PARKED, &record).in_stream(name.parked_stream())
    });
    Append { authority: authority(), ..Append::of(events.collect()) }
}

/// The append that moves a checkpoint of a group.
pub(super) fn moving(record: CheckpointRecord) -> Append {
    Append { checkpoint: Some(record), authority: authority(), ..Append::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a group from its first record.
    async fn from_the_first(store: &Store, name: &GroupName) -> Option<StoredGroup> {
        let mut events = store.read(Read::stream(name.stream(), Version(1)));
        let mut group = None;
        while let Some(event) = events.next().await.unwrap() {
            group = StoredGroup::after(group, &event);
        }
        group
    }

    #[tokio::test]
    async fn the_last_records_tell_all_of_a_group_and_the_next_ones_what_became_of_it() {
        let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
        let name = GroupName::new("billing").unwrap();
        for _ in 0..leftfold::testing::extent(20, 500) {
            let store = Store::memory();
            let mut known: Vec<StoredGroup> = Vec::new();
            for step in 0..40 {
                let settings = GroupSettings {
                    retries_max: random.u32(..),
                    ..GroupSettings::of(Query::all())
                };
                let start = Position(random.u64(0..=store.head().position.0));
                let order = ParkOrder {
                    id: crate::groups::ItemId {
                        source: crate::groups::ItemSource::Read,
                        position: start,
                    },
                    position: start,
                    retries: 0,
                    reason: "bad".into(),
                    is_wish: true,
                };
                let _ = match random.u8(0..12) {
                    0 if step > 20 => delete(&store, &name).await,
                    1 | 2 => create(&store, &name, settings, start).await,
                    3..=5 => update(&store, &name, &settings, Some(start), random.bool()).await,
                    6..=8 => replay(&store, &name, Version(random.u64(1..20))).await,
                    _ => store.append(parking(&name, &[order])).await.map(drop).map_err(Into::into),
                };
                let group = from_the_first(&store, &name).await;
                let last = record_at(&store, &name, Version::END).await.unwrap();
                if let (Some(group), Some(last)) = (&group, &last) {
                    let of_last = StoredGroup::of_last(&store, &name, last).await.unwrap();
                    assert_eq!(of_last.as_ref(), Some(group));
                    if known.last() != Some(group) {
                        known.push(group.clone());
                    }
                }
                let version = last.map_or(Version::ABSENT, |last| last.version());
                let loaded = StoredGroup::load(&store, &name).await.unwrap();
                assert_eq!(loaded, (group.clone(), version));
                let Some(before) = random.choice(&known) else { continue };
                let changed = StoredGroup::load_on(&store, &name, before).await.unwrap();
                assert_eq!(changed.group, group);
                let is_changed = group.is_some_and(|group| {
                    group.created == before.created && group.changed > before.changed
                });
                assert!(!is_changed || changed.first_update.is_some_and(|at| at > before.changed));
            }
        }
    }
}
