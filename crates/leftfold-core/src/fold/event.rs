//! Events of users: externally tagged serde enums, their types in the store, and the way from one to the other.

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::upcast::{Stored, Upcasters};
use crate::json;
use crate::store::{EventType, Invalid, NewEvent, Query, RecordedEvent, Tags, Timestamp, Version};

/// The events of an aggregate or a decision, or the view that a consumer has of events of others.
///
/// An externally tagged serde enum (serde's default) whose variants have named fields, no fields, or one struct. A
/// variant is stored under `NAMESPACE.Variant`. A variant whose serde name has a dot is stored under just that name:
/// so a consumer's own enum names the events of others, `#[serde(rename = "project.PointsWithdrawn")]`, with no more
/// variants and fields than it reads.
///
/// Before an event is recorded it is written as JSON, read back, and must be what it was: what JSON would blur is
/// [`EventError::Encode`]. That is so for a NaN or an infinity, a `Some` that is written as null, an untagged variant that
/// another one fits, a key that an object has twice, a field that is left out and has no default, numbers of 128 bits
/// within `#[serde(tag)]`, `untagged` and `flatten`, and more than 120 arrays and objects within each other. Nobody can see
/// what serde is not told: fields with `#[serde(skip)]`, two untagged variants that are written in the same way, a
/// flattened `Option` of which nothing is written. [`given`](crate::testing::given()) compares with `PartialEq`, and can.
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Stands before the variant's name; two aggregates may both have a `Created`.
    const NAMESPACE: &'static str;

    /// What the event can be found by: from the event alone, whoever emits it.
    fn tags(&self) -> Tags {
        Tags::none()
    }

    /// How the stored shapes of old events become today's.
    fn upcasters() -> Upcasters {
        Upcasters::none()
    }
}

/// What a fold does with an event in its stream whose type is none of its variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// An error: a newer release may have written it, and a state that lacks it would be wrong.
    #[default]
    Refuse,
    /// It does not concern this fold.
    Ignore,
}

/// Why an event cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The type is not what serde calls an externally tagged enum.
    #[error("{name} cannot be events: use a plain enum, without #[serde(tag)], #[serde(untagged)] or a Deserialize of its own")]
    NotAnEnum {
        /// The Rust type.
        name: &'static str,
    },
    /// The value does not serialize as an externally tagged variant with named fields.
    #[error("{name} cannot be written: {what}")]
    Shape {
        /// The Rust type.
        name: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The value cannot be written, or would not be read as it was written. Nothing was recorded.
    #[error("{name} cannot be written: {detail}")]
    Encode {
        /// The Rust type.
        name: &'static str,
        /// Where in it, what would be lost, and what can be done.
        detail: String,
    },
    /// A fold panics at an event that was decided on. Nothing was recorded: no fold could read it again.
    #[error("{name} cannot take {event_type}: its apply panics ({detail}); mend apply, or refuse the command in decide")]
    Apply {
        /// The Rust type of the fold.
        name: &'static str,
        /// The event's type.
        event_type: EventType,
        /// What the panic said.
        detail: String,
    },
    /// The stored data does not have the shape of its type.
    #[error(
        "the event at position {position} does not parse as {event_type} version {schema_version}: {detail}; add an upcaster"
    )]
    Decode {
        /// Where it is.
        position: u64,
        /// Its stored type.
        event_type: EventType,
        /// Its stored schema version.
        schema_version: u32,
        /// What serde said.
        detail: String,
    },
    /// The fold does not know the type.
    #[error("the event at position {position} has the unknown type {event_type}; add the variant, or let the fold ignore it")]
    UnknownType {
        /// Where it is.
        position: u64,
        /// Its stored type.
        event_type: EventType,
    },
    /// No upcaster leads from the stored schema version to today's.
    #[error(
        "the event at position {position} is {event_type} version {stored}, today's is {current}; add an upcaster or upgrade"
    )]
    SchemaVersion {
        /// Where it is.
        position: u64,
        /// Its stored type.
        event_type: EventType,
        /// Its stored schema version.
        stored: u32,
        /// Today's.
        current: u32,
    },
    /// An upcaster refused, or upcasters lead in a circle.
    #[error("the event at position {position} cannot be upcast from {event_type}: {detail}")]
    Upcast {
        /// Where it is.
        position: u64,
        /// The type at which it failed.
        event_type: EventType,
        /// Why.
        detail: String,
    },
    /// A name that the type declares is no name.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// An event with what the store knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    /// The event, as of today's shape.
    pub event: E,
    /// As it was recorded.
    pub envelope: RecordedEvent,
}

impl<E> Recorded<E> {
    /// The version of its stream with it, 0 where it belongs to none.
    #[must_use]
    pub fn version(&self) -> Version {
        self.envelope.version()
    }

    /// The id in its stream's name, empty where it belongs to none.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        self.envelope.stream.as_ref().map_or("", |at| at.name.id())
    }

    /// When it was recorded.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.envelope.recorded_at
    }
}

/// What is known of an event enum: its types in the store and how they are read.
#[derive(Debug)]
pub struct Schema {
    name: &'static str,
    variants: HashMap<&'static str, Variant>,
    /// The variant of each type that is read as it is stored.
    by_type: HashMap<EventType, (&'static str, u32)>,
    upcasters: Upcasters,
    /// The types to ask the store for: today's, and those that upcasters lead from.
    wanted: Vec<EventType>,
}

#[derive(Debug)]
struct Variant {
    event_type: EventType,
    schema_version: u32,
}

impl Schema {
    /// The schema of an event enum, made once per type and kept.
    pub fn of<E: Event>() -> Result<Arc<Self>, EventError> {
        type Known = Mutex<HashMap<TypeId, Result<Arc<Schema>, EventError>>>;
        static KNOWN: OnceLock<Known> = OnceLock::new();
        let mut known = KNOWN.get_or_init(Known::default).lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(TypeId::of::<E>()).or_insert_with(|| Self::new::<E>().map(Arc::new)).clone()
    }

    fn new<E: Event>() -> Result<Self, EventError> {
        let upcasters = E::upcasters();
        let mut variants = HashMap::new();
        let mut by_type = HashMap::new();
        for variant in codec::variants::<E>()? {
            let full = if variant.contains('.') { (*variant).to_owned() } else { format!("{}.{variant}", E::NAMESPACE) };
            let event_type = EventType::new(full)?;
            let schema_version = upcasters.current_version(&event_type);
            by_type.insert(event_type.clone(), (*variant, schema_version));
            variants.insert(*variant, Variant { event_type, schema_version });
        }
        let today: BTreeSet<EventType> = by_type.keys().cloned().collect();
        let wanted = upcasters.widen(today)?.into_iter().collect();
        Ok(Self { name: std::any::type_name::<E>(), variants, by_type, upcasters, wanted })
    }

    /// The types to ask the store for: today's, and every older one that upcasters turn into one of them.
    #[must_use]
    pub fn wanted(&self) -> &[EventType] {
        &self.wanted
    }

    /// The events that this enum reads, wherever they are.
    #[must_use]
    pub fn query(&self) -> Query {
        Query::types(self.wanted.iter().cloned())
    }

    /// Today's schema version of a type that is read as it is stored.
    pub(crate) fn current_version(&self, event_type: &EventType) -> Option<u32> {
        self.by_type.get(event_type).map(|(_, version)| *version)
    }

    /// The event as the store takes it, with its own tags, in no stream.
    pub fn encode<E: Event>(&self, event: &E) -> Result<NewEvent, EventError> {
        let (variant, data) = codec::encode(event)?;
        let known = self.variants.get(variant).ok_or(EventError::NotAnEnum { name: self.name })?;
        let mut new = NewEvent::new(known.event_type.clone(), Bytes::from(data));
        new.schema_version = known.schema_version;
        new.tags = event.tags();
        Ok(new)
    }

    /// The events, in today's shape, that a recorded one stands for: usually one; none where its type does not concern
    /// the fold; several where an upcaster splits it.
    pub fn decode<E: Event>(&self, recorded: &RecordedEvent, unknown: Unknown) -> Result<Vec<E>, EventError> {
        let mut events = Vec::with_capacity(1);
        self.decode_each(recorded, unknown, |event| events.push(event))?;
        Ok(events)
    }

    /// As [`Schema::decode`], without a vector.
    pub fn decode_each<E: Event>(
        &self,
        recorded: &RecordedEvent,
        unknown: Unknown,
        mut each: impl FnMut(E),
    ) -> Result<(), EventError> {
        let position = recorded.position.0;
        if let Some((variant, current)) = self.by_type.get(&recorded.event_type)
            && *current == recorded.schema_version
        {
            each(self.parse(variant, &recorded.data, recorded)?);
            return Ok(());
        }
        let stored = Stored { event_type: recorded.event_type.clone(), schema_version: recorded.schema_version };
        if !self.upcasters.start_at(&stored) {
            return match self.by_type.get(&stored.event_type) {
                Some((_, current)) => Err(EventError::SchemaVersion {
                    position,
                    event_type: stored.event_type,
                    stored: stored.schema_version,
                    current: *current,
                }),
                None if unknown == Unknown::Ignore => Ok(()),
                None => Err(EventError::UnknownType { position, event_type: stored.event_type }),
            };
        }
        for (today, data) in self.upcasters.upcast(&stored, &recorded.data, position)? {
            // What a split makes beside what this enum reads is for other readers.
            if let Some((variant, _)) = self.by_type.get(&today.event_type) {
                each(self.parse(variant, &data, recorded)?);
            }
        }
        Ok(())
    }

    /// The data of an event as today's shape of one type: what a variant with one struct carries.
    pub(crate) fn payload<T: DeserializeOwned>(&self, recorded: &RecordedEvent, as_type: &EventType) -> Result<T, EventError> {
        let position = recorded.position.0;
        let (event_type, schema_version) = (recorded.event_type.clone(), recorded.schema_version);
        let unparsed = |error: serde_json::Error| EventError::Decode {
            position,
            event_type: recorded.event_type.clone(),
            schema_version,
            detail: error.to_string(),
        };
        let stored = Stored { event_type, schema_version };
        if !self.upcasters.start_at(&stored) {
            if let Some((_, current)) = self.by_type.get(&stored.event_type)
                && *current != schema_version
            {
                let Stored { event_type, schema_version } = stored;
                return Err(EventError::SchemaVersion { position, event_type, stored: schema_version, current: *current });
            }
            return json::decode(&recorded.data).map_err(unparsed);
        }
        let today = self.upcasters.upcast(&stored, &recorded.data, position)?;
        match today.into_iter().find(|(stored, _)| stored.event_type == *as_type) {
            Some((_, data)) => json::decode(&data).map_err(unparsed),
            None => Err(EventError::UnknownType { position, event_type: recorded.event_type.clone() }),
        }
    }

    /// The event of a type that has this data: what a variant with one struct carries.
    pub(crate) fn event_of<E: Event>(&self, event_type: &EventType, data: &[u8]) -> Result<E, EventError> {
        let name = self.name;
        let unknown = || EventError::Encode { name, detail: format!("it has no variant for {event_type}") };
        let (variant, _) = self.by_type.get(event_type).ok_or_else(unknown)?;
        codec::decode(variant, data).map_err(|error| EventError::Encode { name, detail: format!("{event_type}: {error}") })
    }

    fn parse<E: Event>(&self, variant: &str, data: &[u8], recorded: &RecordedEvent) -> Result<E, EventError> {
        codec::decode(variant, data).map_err(|error| EventError::Decode {
            position: recorded.position.0,
            event_type: recorded.event_type.clone(),
            schema_version: recorded.schema_version,
            detail: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ContentType, EventId, InStream, Metadata, Position, StreamName};
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Details {
        name: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Plain {
        Empty,
        Fields {
            a: u32,
            b: Option<String>,
        },
        Struct(Details),
        #[serde(rename = "other.Renamed")]
        Renamed {
            at: i64,
        },
    }

    impl Event for Plain {
        const NAMESPACE: &'static str = "plain";
    }

    fn recorded(event_type: &str, schema_version: u32, data: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position(7),
            recorded_at: Timestamp::now(),
            stream: Some(InStream { name: StreamName::of("plain", "1").unwrap(), version: Version(1) }),
            id: EventId(uuid::Uuid::nil()),
            event_type: EventType::new(event_type.to_owned()).unwrap(),
            schema_version,
            content_type: ContentType::Json,
            data: Bytes::from(data.to_owned()),
            metadata: Metadata::default(),
            tags: Tags::none(),
            key_ids: Vec::new(),
            append_continues: false,
        }
    }

    #[test]
    fn every_shape_of_variant_survives_the_round_trip() {
        let schema = Schema::of::<Plain>().unwrap();
        let cases = [
            (Plain::Empty, "plain.Empty", "{}"),
            (Plain::Fields { a: 1, b: Some("x".into()) }, "plain.Fields", r#"{"a":1,"b":"x"}"#),
            (Plain::Struct(Details { name: "n".into() }), "plain.Struct", r#"{"name":"n"}"#),
            (Plain::Renamed { at: -1 }, "other.Renamed", r#"{"at":-1}"#),
        ];
        for (event, event_type, data) in cases {
            let new = schema.encode(&event).unwrap();
            assert_eq!((&*new.event_type, &new.data[..]), (event_type, data.as_bytes()));
            let back: Vec<Plain> = schema.decode(&recorded(event_type, 1, data), Unknown::Refuse).unwrap();
            assert_eq!(back, [event]);
        }
    }

    #[test]
    fn a_variant_without_data_can_grow_fields_and_lose_them() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Grown {
            Empty {
                #[serde(default)]
                since: u32,
            },
            Fields,
        }
        impl Event for Grown {
            const NAMESPACE: &'static str = "plain";
        }
        let schema = Schema::of::<Grown>().unwrap();
        let read = |event_type, data| schema.decode::<Grown>(&recorded(event_type, 1, data), Unknown::Refuse).unwrap();
        assert_eq!(read("plain.Empty", "{}"), [Grown::Empty { since: 0 }]);
        assert_eq!(read("plain.Fields", r#"{"a":1}"#), [Grown::Fields]);
    }

    #[test]
    fn what_is_not_an_externally_tagged_enum_is_refused_by_name() {
        macro_rules! refused {
            ($(#[$serde:meta])? $name:ident) => {{
                #[derive(Clone, Serialize, Deserialize)]
                $(#[$serde])?
                enum $name { A { x: u32 } }
                impl Event for $name { const NAMESPACE: &'static str = "t"; }
                assert!(matches!(Schema::of::<$name>(), Err(EventError::NotAnEnum { .. })));
            }};
        }
        refused!(
            #[serde(tag = "kind")]
            Internal
        );
        refused!(
            #[serde(untagged)]
            Untagged
        );
        refused!(
            #[serde(tag = "t", content = "c")]
            Adjacent
        );
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Tuple {
            Moved(u8, u8),
        }
        impl Event for Tuple {
            const NAMESPACE: &'static str = "t";
        }
        let schema = Schema::of::<Tuple>().unwrap();
        assert!(matches!(schema.encode(&Tuple::Moved(1, 2)), Err(EventError::Shape { .. })));
    }

    #[test]
    fn an_unknown_type_is_an_error_unless_it_is_ignored() {
        let schema = Schema::of::<Plain>().unwrap();
        let event = recorded("plain.Later", 1, "{}");
        assert!(matches!(schema.decode::<Plain>(&event, Unknown::Refuse), Err(EventError::UnknownType { position: 7, .. })));
        assert_eq!(schema.decode::<Plain>(&event, Unknown::Ignore), Ok(vec![]));
        let newer = recorded("plain.Empty", 2, "{}");
        let error = schema.decode::<Plain>(&newer, Unknown::Ignore).unwrap_err();
        assert!(matches!(error, EventError::SchemaVersion { stored: 2, current: 1, .. }));
    }
}
