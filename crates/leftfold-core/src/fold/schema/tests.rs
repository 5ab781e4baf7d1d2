//! Schemas of small enums.

use super::*;
use crate::fold::Owners;
use crate::store::{
    ContentType, EventId, InStream, Metadata, Position, StreamName, Tags, Timestamp, Version,
};
use serde::{Deserialize, Serialize};

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

    fn owners() -> Owners {
        Owners::of::<Self>()
    }
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
        let back: Vec<Plain> =
            schema.decode(&recorded(event_type, 1, data), Unknown::Refuse).unwrap();
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
    let read = |event_type, data| {
        schema.decode::<Grown>(&recorded(event_type, 1, data), Unknown::Refuse).unwrap()
    };
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
    assert!(matches!(
        schema.decode::<Plain>(&event, Unknown::Refuse),
        Err(EventError::UnknownType { position: 7, .. })
    ));
    assert_eq!(schema.decode::<Plain>(&event, Unknown::Ignore), Ok(vec![]));
    let newer = recorded("plain.Empty", 2, "{}");
    let error = schema.decode::<Plain>(&newer, Unknown::Ignore).unwrap_err();
    assert!(matches!(error, EventError::SchemaVersion { stored: 2, current: 1, .. }));
}
