//! Names and settings of groups, and the form in which the store keeps settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use leftfold::store::{
    EventType, Label, Query, QueryItem, RecordedEvent, StreamMatch, StreamName, Tag, TypeMatch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::GroupError;

/// Bytes of the name of a group: it becomes part of the names of streams, of a consumer and of a
/// lease.
pub(crate) const GROUP_NAME_BYTES_MAX: usize = 200;
/// Bytes of what a protocol keeps with the settings, as JSON.
const FACE_BYTES_MAX: usize = 256 << 10;
/// Events that wait in memory for consumers.
const BUFFER_EVENTS_MAX: u32 = 10_000;
/// Number of times that an event is given out again, at most: one that fails each time is in memory
/// and keeps the checkpoint back until it is parked.
pub(crate) const RETRIES_MAX: u32 = 1_000_000;
/// Least time for an answer: with less, consumers that do not answer would keep a server busy.
const MESSAGE_TIMEOUT_MS_MIN: u64 = 100;
/// Consumers of one group.
pub(crate) const CONSUMERS_MAX: usize = 1_000;
/// Events that one consumer has at once.
pub(crate) const CAPACITY_MAX: usize = 10_000;

/// Name of a group in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupName(Arc<str>);

impl GroupName {
    /// Refuses a name that is empty or has more than [`GROUP_NAME_BYTES_MAX`] bytes.
    pub(crate) fn new(text: &str) -> Result<Self, GroupError> {
        if text.is_empty() || text.len() > GROUP_NAME_BYTES_MAX {
            let detail = format!("the name of a group has 1 to {GROUP_NAME_BYTES_MAX} bytes");
            return Err(GroupError::Invalid { detail });
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Stream of the settings, and of what is asked of the group.
    pub(super) fn stream(&self) -> StreamName {
        StreamName::new(format!("{GROUP_CATEGORY}-{self}")).expect("the name of a group is short")
    }

    /// Stream of the parked events.
    pub(crate) fn parked_stream(&self) -> StreamName {
        StreamName::new(format!("{GROUP_CATEGORY}:parked-{self}"))
            .expect("the name of a group is short")
    }

    /// Stream of the parked events that were taken out one by one.
    pub(super) fn released_stream(&self) -> StreamName {
        StreamName::new(format!("{GROUP_CATEGORY}:released-{self}"))
            .expect("the name of a group is short")
    }

    /// The consumer whose checkpoint says what was settled.
    pub(crate) fn consumer(&self) -> Label {
        Label::new(format!("{GROUP_CATEGORY} {self}")).expect("the name of a group is short")
    }

    /// The consumer whose checkpoint says which parked events were settled after a replay.
    pub(super) fn replayer(&self) -> Label {
        Label::new(format!("{GROUP_CATEGORY}:parked {self}")).expect("the name of a group is short")
    }

    /// The consumer whose checkpoint says which of those that were taken out were settled again.
    pub(super) fn retrier(&self) -> Label {
        Label::new(format!("{GROUP_CATEGORY}:retried {self}"))
            .expect("the name of a group is short")
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Category of the streams of groups.
pub(super) const GROUP_CATEGORY: &str = "$group";

/// Part of an event by which events belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyOf {
    /// Its stream.
    Stream,
    /// Its first tag that begins with this text.
    Tag(String),
    /// Its correlation, in the envelope or as `$correlationId` in JSON metadata.
    Correlation,
}

impl KeyOf {
    /// Returns a hash of the key of an event; `None` if it has none.
    pub(super) fn of(&self, event: &RecordedEvent) -> Option<u64> {
        match self {
            Self::Stream => event.stream.as_ref().map(|at| hashed(&at.name)),
            Self::Tag(prefix) => {
                let tag = event.tags.as_slice().iter().find(|tag| tag.starts_with(prefix.as_str()));
                tag.map(|tag| hashed(tag))
            }
            Self::Correlation => match &event.metadata.correlation {
                Some(correlation) => Some(hashed(correlation)),
                None => correlation_of(&event.metadata.user).map(|text| hashed(&text)),
            },
        }
    }
}

fn correlation_of(metadata: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Correlated {
        #[serde(rename = "$correlationId")]
        id: String,
    }
    serde_json::from_slice(metadata).ok().map(|found: Correlated| found.id)
}

fn hashed(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// Rule by which a consumer is chosen for an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConsumerStrategy {
    /// One after the other, those that have room.
    RoundRobin,
    /// The same consumer for all events of a key, as long as the consumers stay the same.
    Pinned(KeyOf),
    /// The consumer that has been there longest; the next one only if it has no room.
    DispatchToSingle,
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupSettings {
    /// Events that are read. A protocol may leave out some more: see
    /// [`EventLens`](super::EventLens).
    #[serde(with = "stored_query")]
    pub(crate) query: Query,
    /// Events of one key are given out one after the other, in their order; `None` if no order is
    /// kept. A parked event holds up no other.
    #[serde(default)]
    pub(crate) ordered: Option<KeyOf>,
    pub(crate) strategy: ConsumerStrategy,
    /// Time after which an event that a consumer has not answered is given out again; 0 for never.
    /// Less than 100 counts as 100.
    pub(crate) message_timeout_ms: u64,
    /// Number of times that an event is given out again before it is parked.
    pub(crate) retries_max: u32,
    /// Events that wait in memory for consumers, at most about.
    pub(crate) buffer_events: u32,
    /// Events that are read at once.
    pub(crate) batch_events: u32,
    /// Time between two checkpoints.
    pub(crate) checkpoint_after_ms: u64,
    /// Events that must be settled for a checkpoint when its time has come.
    pub(crate) checkpoint_events_min: u32,
    /// Settled events after which a checkpoint is written before its time.
    pub(crate) checkpoint_events_max: u32,
    /// Consumers at once; 0 for as many as the server allows.
    pub(crate) consumers_max: u32,
    /// Kept for the protocol that made the group, unread by the engine.
    #[serde(default)]
    pub(crate) face: Value,
}

impl GroupSettings {
    /// The usual settings for a query: round robin, 30 seconds, 10 retries.
    pub(crate) fn of(query: Query) -> Self {
        Self {
            query,
            ordered: None,
            strategy: ConsumerStrategy::RoundRobin,
            message_timeout_ms: 30_000,
            retries_max: 10,
            buffer_events: 500,
            batch_events: 200,
            checkpoint_after_ms: 2_000,
            checkpoint_events_min: 10,
            checkpoint_events_max: 1_000,
            consumers_max: 0,
            face: Value::Null,
        }
    }

    /// Refuses settings beyond their limits.
    pub(crate) fn validate(&self) -> Result<(), GroupError> {
        let refuse = |detail: String| Err(GroupError::Invalid { detail });
        if let Err(invalid) = self.query.validate() {
            return refuse(invalid.to_string());
        }
        for (what, count) in [("buffer", self.buffer_events), ("read batch", self.batch_events)] {
            if !(1..=BUFFER_EVENTS_MAX).contains(&count) {
                return refuse(format!(
                    "the {what} of a group has 1 to {BUFFER_EVENTS_MAX} events"
                ));
            }
        }
        if self.checkpoint_events_max == 0
            || self.checkpoint_events_max < self.checkpoint_events_min
        {
            return refuse(
                "the largest checkpoint count is less than the smallest, or 0".to_owned(),
            );
        }
        if self.retries_max > RETRIES_MAX {
            return refuse(format!("an event is given out again {RETRIES_MAX} times at most"));
        }
        if self.face.to_string().len() > FACE_BYTES_MAX {
            return refuse(format!("the settings have {FACE_BYTES_MAX} bytes of filters at most"));
        }
        Ok(())
    }

    pub(super) fn consumers_max(&self) -> usize {
        match usize::try_from(self.consumers_max).unwrap_or(CONSUMERS_MAX) {
            0 => CONSUMERS_MAX,
            limit => limit.min(CONSUMERS_MAX),
        }
    }

    pub(super) fn message_timeout(&self) -> Option<Duration> {
        let timeout = self.message_timeout_ms.max(MESSAGE_TIMEOUT_MS_MIN);
        (self.message_timeout_ms > 0).then(|| Duration::from_millis(timeout))
    }
}

/// The form of a query in the store.
mod stored_query {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct StoredItem {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        types: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        type_prefixes: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        streams: Option<StoredStreams>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        system: bool,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum StoredStreams {
        Stream(String),
        Category(String),
        Prefix(String),
    }

    pub(super) fn serialize<S: Serializer>(query: &Query, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(query.items().iter().map(|item| {
            let (mut types, mut type_prefixes) = (Vec::new(), Vec::new());
            for matched in &item.types {
                match matched {
                    TypeMatch::Exact(exact) => types.push(exact.to_string()),
                    TypeMatch::Prefix(prefix) => type_prefixes.push(prefix.clone()),
                }
            }
            let streams = item.streams.as_ref().map(|streams| match streams {
                StreamMatch::Exact(stream) => StoredStreams::Stream(stream.to_string()),
                StreamMatch::Category(text) => StoredStreams::Category(text.clone()),
                StreamMatch::Prefix(text) => StoredStreams::Prefix(text.clone()),
            });
            let tags = item.tags.iter().map(ToString::to_string).collect();
            let system = item.system == leftfold::store::System::Included;
            StoredItem { types, type_prefixes, tags, streams, system }
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Query, D::Error> {
        let items = Vec::<StoredItem>::deserialize(from)?;
        items.into_iter().map(|item| read(item).map_err(D::Error::custom)).collect()
    }

    fn read(item: StoredItem) -> Result<QueryItem, leftfold::store::Invalid> {
        let exact = item.types.into_iter().map(|text| Ok(TypeMatch::Exact(EventType::new(text)?)));
        let mut types = exact.collect::<Result<Vec<_>, _>>()?;
        types.extend(item.type_prefixes.into_iter().map(TypeMatch::Prefix));
        let tags = item.tags.into_iter().map(Tag::new).collect::<Result<_, _>>()?;
        let streams = match item.streams {
            None => None,
            Some(StoredStreams::Stream(text)) => Some(StreamMatch::Exact(StreamName::new(text)?)),
            Some(StoredStreams::Category(text)) => Some(StreamMatch::Category(text)),
            Some(StoredStreams::Prefix(text)) => Some(StreamMatch::Prefix(text)),
        };
        let read = QueryItem { types, tags, streams, ..QueryItem::default() };
        Ok(if item.system { read.with_system() } else { read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let order = StreamName::of("order", "1").unwrap();
        let query = Query::stream(order)
            .or(Query::category("cart").and_tag("user:ada"))
            .or(Query::types([EventType::new("a.B").unwrap()]))
            .or(Query::everything())
            .or(QueryItem {
                types: vec![TypeMatch::Prefix("a".to_owned())],
                streams: Some(StreamMatch::Prefix("b".to_owned())),
                ..QueryItem::default()
            }
            .into());
        let settings = GroupSettings {
            ordered: Some(KeyOf::Tag("user:".to_owned())),
            strategy: ConsumerStrategy::Pinned(KeyOf::Correlation),
            face: serde_json::json!({ "any": ["thing"] }),
            ..GroupSettings::of(query)
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<GroupSettings>(&text).unwrap(), settings, "{text}");
    }

    #[test]
    fn settings_beyond_their_limits_are_refused() {
        let usual = GroupSettings::of(Query::all());
        assert!(usual.validate().is_ok());
        for bad in [
            GroupSettings { buffer_events: 0, ..usual.clone() },
            GroupSettings { batch_events: BUFFER_EVENTS_MAX + 1, ..usual.clone() },
            GroupSettings { checkpoint_events_max: 5, ..usual.clone() },
            GroupSettings { retries_max: RETRIES_MAX + 1, ..usual.clone() },
            GroupSettings { face: "x".repeat(FACE_BYTES_MAX).into(), ..usual.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(GroupName::new("").is_err() && GroupName::new(&"x".repeat(201)).is_err());
        let longest = GroupName::new(&"x".repeat(GROUP_NAME_BYTES_MAX)).unwrap();
        assert!(longest.consumer().is_system() && longest.parked_stream().is_system());
        assert!(longest.replayer().is_system() && longest.stream().is_system());
        assert!(longest.retrier().is_system() && longest.released_stream().is_system());
    }
}
