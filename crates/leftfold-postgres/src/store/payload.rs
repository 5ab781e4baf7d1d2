//! Data and metadata of events: in a column `json` with their text as it is, or in one of bytes.

use std::borrow::Cow;

use leftfold_core::store::{ContentType, Label};
use serde::de::IgnoredAny;

/// Column that keeps the data and the metadata of events; chosen when a store is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadColumn {
    /// `json`, which keeps the text byte for byte and can be queried; what is no JSON is kept as
    /// bytes.
    #[default]
    Json,
    /// `bytea`, whatever it is: nobody has to parse it, and nobody can look into it by SQL.
    Bytes,
}

impl PayloadColumn {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Bytes].into_iter().find(|column| column.name() == name)
    }

    /// Tells whether these bytes go into a column `json`, which refuses what is no JSON text.
    pub(super) fn takes_as_json(self, bytes: &[u8]) -> bool {
        self == Self::Json
            && std::str::from_utf8(bytes).is_ok()
            && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
            && nests_at_most(bytes, DEPTH_MAX)
    }
}

/// Depth of arrays and objects in a column `json`. The server has a stack for some thousands, which
/// an operator may make smaller.
const DEPTH_MAX: usize = 500;

/// Tells whether arrays and objects of a JSON text are in one another to this depth at most.
fn nests_at_most(json: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut bytes) = (0_usize, false, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            // What it escapes may be a quote.
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return false;
        }
    }
    true
}

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
/// Stands before a media type that a caller named by its text although it has a name of its own.
const NAMED: char = ' ';

/// The text of a media type in its column.
pub(super) fn content_type_text(content_type: &ContentType) -> Cow<'_, str> {
    match content_type {
        ContentType::Json => Cow::Borrowed(JSON),
        ContentType::Binary => Cow::Borrowed(BINARY),
        ContentType::Other(label) => {
            let bare = label.trim_start_matches(NAMED);
            if bare == JSON || bare == BINARY {
                Cow::Owned(format!("{NAMED}{label}"))
            } else {
                Cow::Borrowed(label)
            }
        }
    }
}

/// The media type that has the text.
pub(super) fn content_type(text: &str) -> Option<ContentType> {
    let bare = text.trim_start_matches(NAMED);
    Some(match text {
        JSON => ContentType::Json,
        BINARY => ContentType::Binary,
        _ if bare == JSON || bare == BINARY => {
            ContentType::Other(Label::try_from(&text[1..]).ok()?)
        }
        _ => ContentType::Other(Label::try_from(text).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_media_type_comes_back() {
        let other = |text: &str| ContentType::Other(Label::try_from(text).unwrap());
        let all = [
            ContentType::Json,
            ContentType::Binary,
            other("application/json"),
            other(" application/json"),
            other("application/octet-stream"),
            other(" text/plain"),
            other("a\0"),
        ];
        for one in &all {
            assert_eq!(content_type(&content_type_text(one)).as_ref(), Some(one));
        }
        let texts: std::collections::HashSet<_> = all.iter().map(content_type_text).collect();
        assert_eq!(texts.len(), all.len());
    }

    #[test]
    fn only_json_goes_into_a_column_of_json() {
        let wide = format!("[{}1]", r#"["\\\"[[",{}],"#.repeat(1_000));
        for json in [&*wide, r#"{"a":1.0}"#, " [1e400] ", r#""\u0000\ud800""#, "null", "1"] {
            assert!(PayloadColumn::Json.takes_as_json(json.as_bytes()), "{json}");
            assert!(!PayloadColumn::Bytes.takes_as_json(json.as_bytes()), "{json}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let others: [&[u8]; 6] = [b"", b"{", b"\"\0\"", b"\"\xff\"", b"{} {}", deep.as_bytes()];
        for other in others {
            assert!(!PayloadColumn::Json.takes_as_json(other));
        }
    }
}
