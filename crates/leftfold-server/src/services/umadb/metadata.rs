//! The user metadata of an event: its pairs, and what the envelope has no place for.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::wire::MetadataEntry;

/// Member of the metadata that is not one of the pairs: those are texts, and it is an object.
const MEMBER: &str = "$umadb";
/// Metadata of an event that has neither pairs nor a UUID.
const NO_UUID: &[u8] = br#"{"$umadb":{"no_uuid":true}}"#;

/// Parts of an event beside its data and its names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Beside {
    pub(super) pairs: Vec<MetadataEntry>,
    pub(super) rest: Unplaced,
}

/// Parts of an event that the envelope has no place for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Unplaced {
    /// The event came without a UUID; the id that it has is the store's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) no_uuid: bool,
    /// Source and position that were recorded with the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tracking: Option<(String, u64)>,
    /// Type, if it is too long for a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event_type: Option<String>,
    /// All tags, if their names do not tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<Vec<String>>,
}

impl Beside {
    /// Encodes it as user metadata.
    pub(super) fn encode(&self) -> Bytes {
        if self.pairs.is_empty() {
            if self.rest == Unplaced::default() {
                return Bytes::new();
            }
            if self.rest == (Unplaced { no_uuid: true, ..Unplaced::default() }) {
                return Bytes::from_static(NO_UUID);
            }
        }
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("texts and numbers are JSON, and memory takes them");
        bytes.into()
    }

    fn write(&self, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let mut writer = serde_json::Serializer::new(bytes);
        let mut object = writer.serialize_map(None)?;
        for MetadataEntry { key, value } in &self.pairs {
            object.serialize_entry(key, value)?;
        }
        if self.rest != Unplaced::default() {
            object.serialize_entry(MEMBER, &self.rest)?;
        }
        object.end()
    }

    /// Reads user metadata: what this module wrote, or an object of texts. Of any other it returns
    /// nothing.
    pub(super) fn decode(user: &[u8]) -> Self {
        match user {
            [] => Self::default(),
            NO_UUID => {
                Self { rest: Unplaced { no_uuid: true, ..Unplaced::default() }, ..Self::default() }
            }
            other => serde_json::from_slice(other).unwrap_or_default(),
        }
    }
}

/// Tells whether an event whose user metadata is these bytes came with a UUID; `None` if they say
/// more than that.
pub(super) fn has_uuid(user: &[u8]) -> Option<bool> {
    match user {
        [] => Some(true),
        NO_UUID => Some(false),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Beside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BesideVisitor)
    }
}

struct BesideVisitor;

impl<'de> Visitor<'de> for BesideVisitor {
    type Value = Beside;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Beside, A::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum BesideMember {
            Text(String),
            Unplaced(Box<Unplaced>),
        }
        let mut beside = Beside::default();
        while let Some(key) = members.next_key::<String>()? {
            match members.next_value()? {
                BesideMember::Text(value) => beside.pairs.push(MetadataEntry { key, value }),
                BesideMember::Unplaced(rest) if key == MEMBER => beside.rest = *rest,
                BesideMember::Unplaced(_) => return Err(A::Error::custom("a pair is a text")),
            }
        }
        Ok(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> MetadataEntry {
        MetadataEntry { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn everything_beside_the_data_comes_back_in_its_order() {
        let pairs = vec![pair("z", "\"\u{0}"), pair("", "é"), pair(MEMBER, "{}"), pair("a", "")];
        let rest = Unplaced {
            no_uuid: true,
            tracking: Some(("up\"stream".to_owned(), u64::MAX)),
            event_type: Some("t".repeat(300)),
            tags: Some(vec!["a".to_owned(), "a".to_owned(), String::new()]),
        };
        let no_uuid = Unplaced { no_uuid: true, ..Unplaced::default() };
        for pairs in [Vec::new(), pairs] {
            for rest in [Unplaced::default(), no_uuid.clone(), rest.clone()] {
                let beside = Beside { pairs: pairs.clone(), rest };
                assert_eq!(Beside::decode(&beside.encode()), beside);
            }
        }
        let written = serde_json::to_vec(&serde_json::json!({ MEMBER: no_uuid })).unwrap();
        assert_eq!(written, NO_UUID);
    }

    #[test]
    fn metadata_of_native_programs_is_pairs_if_it_is_an_object_of_texts() {
        let decoded = Beside::decode(br#"{"by":"ada","at":"noon"}"#);
        assert_eq!(decoded.pairs, [pair("by", "ada"), pair("at", "noon")]);
        for other in [&b"{"[..], b"[]", b"\xff", b"null", br#"{"n":1}"#, br#"{"n":{"m":"x"}}"#] {
            assert_eq!(Beside::decode(other), Beside::default());
        }
    }
}
