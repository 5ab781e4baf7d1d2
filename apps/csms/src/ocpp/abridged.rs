//! Abridged reading: what is small in a message that is too large to be taken as a whole. Memory is
//! bounded by what is kept, whatever the size of the message.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::reading::{Notes, ViolationKind};

/// Fields of an abridged payload that are kept.
const KEPT_FIELDS_MAX: usize = 16;
/// The longest field that is kept, in bytes of its JSON; all scalar fields of the specification are
/// far shorter.
const KEPT_FIELD_BYTES_MAX: usize = 4 * 1024;
/// The longest name of a field that is kept, in bytes.
const KEPT_NAME_BYTES_MAX: usize = 64;

/// Returns the payload of a call with its small fields only, as far as the call can be read. A long
/// list becomes an empty one, and other long values are left out; each is noted.
pub(super) fn abridged_payload(call: &str, notes: &mut Notes) -> String {
    let mut kept = KeptFields { fields: Vec::new(), notes };
    // Behind an error of syntax nothing can be read; what came before it counts.
    if serde_json::Deserializer::from_str(call).deserialize_seq(CallElements(&mut kept)).is_err() {
        kept.notes.note("", ViolationKind::Unreadable);
    }
    let fields: Vec<String> = kept
        .fields
        .iter()
        .map(|(name, json)| format!("{}:{json}", serde_json::Value::from(name.as_str())))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Fields that are kept, with their JSON.
struct KeptFields<'json, 'n> {
    fields: Vec<(String, &'json str)>,
    notes: &'n mut Notes,
}

impl<'json> KeptFields<'json, '_> {
    fn take(&mut self, name: String, json: &'json str) {
        let is_small = name.len() <= KEPT_NAME_BYTES_MAX && json.len() <= KEPT_FIELD_BYTES_MAX;
        if !is_small {
            let chars_max = KEPT_FIELD_BYTES_MAX;
            self.notes.note(&name, ViolationKind::TooLong { chars_max });
        }
        let json = match is_small {
            true => json,
            false if json.starts_with('[') && name.len() <= KEPT_NAME_BYTES_MAX => "[]",
            false => return,
        };
        if self.fields.len() < KEPT_FIELDS_MAX {
            self.fields.push((name, json));
        }
    }
}

/// The elements of a call, of which the fourth is the payload.
struct CallElements<'k, 'json, 'n>(&'k mut KeptFields<'json, 'n>);

impl<'json> Visitor<'json> for CallElements<'_, 'json, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }

    fn visit_seq<A: SeqAccess<'json>>(self, mut elements: A) -> Result<(), A::Error> {
        for _ in 0..3 {
            elements.next_element::<IgnoredAny>()?;
        }
        elements.next_element_seed(PayloadFields(self.0))?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The fields of a payload.
struct PayloadFields<'k, 'json, 'n>(&'k mut KeptFields<'json, 'n>);

impl<'json> DeserializeSeed<'json> for PayloadFields<'_, 'json, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'json>>(self, payload: D) -> Result<(), D::Error> {
        payload.deserialize_map(self)
    }
}

impl<'json> Visitor<'json> for PayloadFields<'_, 'json, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a request")
    }

    fn visit_map<A: MapAccess<'json>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key::<String>()? {
            let json: &'json RawValue = fields.next_value()?;
            self.0.take(name, json.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abridged(call: &str) -> (String, Vec<ViolationKind>) {
        let mut notes = Notes::default();
        let payload = abridged_payload(call, &mut notes);
        let kinds = notes.read(()).violations.into_iter().map(|violation| violation.kind);
        (payload, kinds.collect())
    }

    #[test]
    fn small_fields_are_kept_and_long_ones_noted() {
        let too_long = ViolationKind::TooLong { chars_max: KEPT_FIELD_BYTES_MAX };
        let list = format!("[{}1]", "1,".repeat(KEPT_FIELD_BYTES_MAX));
        let text = "x".repeat(KEPT_FIELD_BYTES_MAX);
        let call =
            format!(r#"[2,"1","MeterValues",{{"a":"b","list":{list},"text":"{text}","n":7}}]"#);
        let expected = r#"{"a":"b","list":[],"n":7}"#.to_owned();
        assert_eq!(abridged(&call), (expected, vec![too_long.clone(), too_long]));
    }

    #[test]
    fn what_stands_before_an_error_of_syntax_counts() {
        for rest in ["", "[", r#""b":}]"#, r#""b":"#] {
            let (payload, kinds) = abridged(&format!(r#"[2,"1","MeterValues",{{"a":1,{rest}"#));
            assert_eq!((&*payload, kinds), (r#"{"a":1}"#, vec![ViolationKind::Unreadable]));
        }
        for call in ["", "[", "{}", "[2,\"1\",\"MeterValues\",7]"] {
            assert_eq!(
                abridged(call),
                ("{}".to_owned(), vec![ViolationKind::Unreadable]),
                "{call}"
            );
        }
    }

    #[test]
    fn neither_many_fields_nor_deep_ones_take_memory_or_the_stack() {
        let many = (0..10_000).map(|i| format!(r#""{i}":{i},"#)).collect::<String>();
        let deep = "[".repeat(100_000);
        let (payload, _) = abridged(&format!(r#"[2,"1","MeterValues",{{{many}"deep":{deep}"#));
        assert!(payload.len() < 1_000, "{payload}");
    }
}
