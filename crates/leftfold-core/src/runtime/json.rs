//! Values of users inside the runtime's own records: JSON text that is kept byte for byte.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::{self, JsonReadError, Loss, Unfaithful};
use crate::store::Invalid;

/// A value of users' as JSON text.
///
/// The record around it is read and written without looking into it: so no number in it changes,
/// however long it is, and however deep it is nested, the record can be read. Its digest is that of
/// these bytes.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The text of a value, which is read as it was written.
    pub(crate) fn of<T: Serialize + DeserializeOwned>(value: &T) -> Result<Self, Unfaithful> {
        json::encode(value).map(Self::written)
    }

    /// The text of a value, still to be read back.
    pub(crate) fn of_unread<T: Serialize>(value: &T) -> Result<Self, Unfaithful> {
        json::write(value).map(|(text, _)| Self::written(text))
    }

    fn written(text: Vec<u8>) -> Self {
        let text = String::from_utf8(text).expect("JSON that was written is a text");
        RawValue::from_string(text).expect("what was written as JSON is JSON").into()
    }

    /// The value.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, JsonReadError> {
        json::decode(self.text().as_bytes())
    }

    pub(crate) fn text(&self) -> &str {
        self.0.get()
    }

    /// Takes text that came from outside; an error if it is not JSON.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.to_owned()).map(Self::from)
    }

    /// Returns the depth of the arrays and objects nested in it.
    pub(crate) fn depth(&self) -> usize {
        json::depth(self.text().as_bytes()) as usize
    }

    /// Tells whether two values mean the same: the order of members does not count. Numbers are
    /// compared as they are written.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        json::is_same_text(self.text().as_bytes(), other.text().as_bytes())
    }

    /// Tells whether a value that was read from it is written in the same way again.
    pub(crate) fn is_of<T: Serialize + DeserializeOwned>(&self, value: &T) -> bool {
        json::is_written_so(value, self.text().as_bytes())
    }

    /// Returns the value for people to look at: if it cannot be taken apart, it is a text.
    pub(crate) fn shown(&self) -> Value {
        self.read().unwrap_or_else(|_| Value::String(self.text().to_owned()))
    }
}

impl From<Box<RawValue>> for Json {
    fn from(text: Box<RawValue>) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

/// Names and limits of a value that the runtime keeps for its caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueLimits {
    pub(super) value: &'static str,
    pub(super) depth: &'static str,
    pub(super) bytes_max: usize,
    pub(super) depth_max: usize,
}

/// Refusal of a value that the runtime would have to keep.
#[derive(Debug)]
pub(super) enum NotKept {
    /// It is beyond a limit.
    Invalid(Invalid),
    /// It cannot be written, or would not be read as it was written.
    Unwritable(String),
}

impl ValueLimits {
    /// Writes a value that is within the limits, and reads it back.
    pub(super) fn write<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
    ) -> Result<Json, NotKept> {
        // Reading back what is too large would cost more than the refusal.
        let json = Json::of_unread(value).map_err(|lost| self.not_kept(&lost))?;
        self.check(&json).map_err(NotKept::Invalid)?;
        Json::of(value).map_err(|lost| self.not_kept(&lost))
    }

    /// Refuses a text that is beyond the limits.
    pub(super) fn check(&self, json: &Json) -> Result<(), Invalid> {
        Invalid::if_over(self.value, json.text().len(), self.bytes_max)?;
        Invalid::if_over(self.depth, json.depth(), self.depth_max)
    }

    fn not_kept(&self, lost: &Unfaithful) -> NotKept {
        let levels =
            if let Loss::TooDeep { depth_max } = lost.loss { depth_max as usize + 1 } else { 0 };
        match Invalid::if_over(self.depth, levels, self.depth_max) {
            Err(too_deep) => NotKept::Invalid(too_deep),
            Ok(()) => NotKept::Unwritable(lost.with_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn values_say_the_same_in_any_order_and_no_number_is_taken_for_another() {
        for (one, other, same) in [
            (
                r#"{"a":1,"b":[1,2,{"c":null}]}"#,
                "{ \"b\" : [1, 2,\n{\"c\":null\n}], \"a\":1}",
                true,
            ),
            ("[1,2]", "[2,1]", false),
            (r#"["\u0061\/"]"#, r#"["a/"]"#, true),
            ("[1,1,2]", "[1,2,2]", false),
            (r#"{"to":"ab"}"#, r#"{"to":"ba"}"#, false),
            ("20000000000000000000", "20000000000000000001", false),
            ("0.1", "0.10000000000000001", false),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            (r#"{"a":"1,b"}"#, r#"{"a":"1","b":""}"#, false),
        ] {
            assert_eq!(json(one).says_the_same(&json(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn a_record_around_a_value_is_read_however_deep_that_is() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let record = format!(r#"{{"message":{deep}}}"#);
        let read: BTreeMap<String, Json> = serde_json::from_str(&record).unwrap();
        assert_eq!((read["message"].text(), read["message"].depth()), (deep.as_str(), 100_000));
        assert!(read["message"].says_the_same(&json(&format!(" {deep}"))));
        assert_eq!(json(r#"{"a":"[[[\"[["}"#).depth(), 1);
    }
}
