//! Lenient reading of JSON from stations.
//!
//! A payload is split into its fields without interpreting them; each field is then read on its
//! own. So one field of nonsense (a number out of any range, a broken surrogate pair, a wrong type)
//! costs that field and never the message. Every departure from the specification is recorded as a
//! [`Violation`].

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::open_enum::{OpenEnum, Spelling};

/// The most violations recorded for one message; the last one is then [`ViolationKind::More`].
pub(crate) const VIOLATIONS_MAX: usize = 64;

/// The longest text kept of one field, in characters. The specification's own limits are lower;
/// what exceeds those is kept and recorded, what exceeds this is cut.
pub(crate) const TEXT_CHARS_MAX: usize = 1_024;

/// Integers read from floating point are exact up to here (2^53).
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// The longest path recorded in a violation, in characters.
const PATH_CHARS_MAX: usize = 96;

/// A message as it was understood, with its departures from the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithViolations<T> {
    /// The message.
    pub(crate) message: T,
    /// The departures from the specification that were tolerated, at most [`VIOLATIONS_MAX`].
    pub(crate) violations: Vec<Violation>,
}

impl<T> WithViolations<T> {
    /// Returns the message as another one, with the same departures.
    pub(crate) fn map<U>(self, into: impl FnOnce(T) -> U) -> WithViolations<U> {
        WithViolations { message: into(self.message), violations: self.violations }
    }
}

/// A departure from the specification that was tolerated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    /// The place, for example `meterValue[2].sampledValue[0].unit`; empty for the message as a
    /// whole.
    pub(crate) path: String,
    /// Kind of the departure.
    pub(crate) kind: ViolationKind,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.kind)
        } else {
            write!(f, "{}: {}", self.path, self.kind)
        }
    }
}

/// Kind of a departure from the specification, with the value that was read instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ViolationKind {
    /// A required field is absent; read as `None`.
    #[error("required but missing")]
    Missing,
    /// A field is `null`; read as `None`.
    #[error("null instead of being left out")]
    Null,
    /// A field that the message does not have; ignored.
    #[error("not a field of this message")]
    UnknownField,
    /// Not a value of the enumeration; kept as text.
    #[error("not a value of the enumeration")]
    UnknownValue,
    /// A value of the enumeration, in other upper and lower case; read as that value.
    #[error("upper and lower case differ from the specification")]
    OtherCase,
    /// Longer than the specification allows; kept up to [`TEXT_CHARS_MAX`].
    #[error("longer than {chars_max} characters")]
    TooLong {
        /// The specification's limit, in characters.
        chars_max: usize,
    },
    /// Another JSON type that still has an obvious reading, such as `"10"` or `10.0` for 10; read
    /// so.
    #[error("another JSON type than specified, read nevertheless")]
    Converted,
    /// A fraction where an integer belongs; rounded to the nearest.
    #[error("a fraction where an integer belongs, rounded")]
    Rounded,
    /// A value without any sensible reading; read as `None`.
    #[error("unreadable, ignored")]
    Unreadable,
    /// A timestamp without an offset; read as UTC.
    #[error("timestamp without an offset, taken as utc")]
    OffsetMissing,
    /// A timestamp that is not RFC 3339 but can be read.
    #[error("timestamp not in RFC 3339 form, read nevertheless")]
    TimestampForm,
    /// A frame with fewer elements than specified; the rest was taken as empty.
    #[error("frame has too few elements")]
    ElementsMissing,
    /// A frame with more elements than specified; they were ignored.
    #[error("frame has too many elements")]
    ElementsExtra,
    /// Bytes before or after the JSON, such as a byte order mark or a NUL; ignored.
    #[error("stray characters around the frame")]
    StrayCharacters,
    /// There were more violations than are recorded.
    #[error("more violations than are recorded")]
    More,
}

/// Collector of the violations of a message while it is read.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Violation>);

impl Notes {
    pub(crate) fn note(&mut self, path: &str, kind: ViolationKind) {
        match self.0.len() + 1 {
            n if n < VIOLATIONS_MAX => {
                self.0.push(Violation { path: cut(path, PATH_CHARS_MAX), kind })
            }
            VIOLATIONS_MAX => {
                self.0.push(Violation { path: String::new(), kind: ViolationKind::More })
            }
            _ => {}
        }
    }

    pub(crate) fn read<T>(self, message: T) -> WithViolations<T> {
        WithViolations { message, violations: self.0 }
    }
}

/// Requirement of a field: demanded by the specification, or optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

/// A JSON object whose fields are taken one after the other; a field that is left at the end is not
/// in the specification.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
    prefix: String,
}

impl<'a> Fields<'a> {
    /// Splits an object into its fields; `None` if the text is not an object. If a field is given
    /// twice, the last one counts.
    pub(crate) fn of(json: &'a str, prefix: impl Into<String>) -> Option<Self> {
        let values = serde_json::from_str(json).ok()?;
        Some(Self { values, prefix: prefix.into() })
    }

    /// Splits a payload into its fields; no fields if it is not an object.
    pub(crate) fn of_any(json: &'a str, notes: &mut Notes) -> Self {
        Self::of(json, "").unwrap_or_else(|| {
            notes.note("", ViolationKind::Unreadable);
            Self { values: BTreeMap::new(), prefix: String::new() }
        })
    }

    /// Tells whether the field is present with a value other than `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|raw| raw.get() != "null")
    }

    /// The JSON text of a field that is not taken yet, as it came.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|raw| raw.get())
    }

    /// A text of at most `chars_max` characters by the specification. Numbers and booleans are
    /// taken as their text.
    pub(crate) fn text(
        &mut self,
        name: &str,
        chars_max: usize,
        p: Presence,
        notes: &mut Notes,
    ) -> Option<String> {
        let raw = self.take(name, p, notes)?;
        let path = self.path(name);
        let text = text_of(raw, &path, notes)?;
        // Counting bytes first avoids walking every ordinary text.
        if text.len() > chars_max && text.chars().count() > chars_max {
            notes.note(&path, ViolationKind::TooLong { chars_max });
            return Some(cut(&text, TEXT_CHARS_MAX.max(chars_max)));
        }
        Some(text)
    }

    /// An integer; also as `10.0` or `"10"`. A fraction is nonsense.
    pub(crate) fn integer(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<i64> {
        let number = self.number(name, p, notes)?;
        if number.fraction {
            notes.note(&self.path(name), ViolationKind::Unreadable);
            return None;
        }
        Some(number.value)
    }

    /// An integer that counts or numbers something and so is not negative.
    pub(crate) fn ordinal(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<u32> {
        let value = self.integer(name, p, notes)?;
        let ordinal = u32::try_from(value).ok();
        if ordinal.is_none() {
            notes.note(&self.path(name), ViolationKind::Unreadable);
        }
        ordinal
    }

    /// An amount that the specification gives as an integer; a fraction is rounded to the nearest.
    pub(crate) fn quantity(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<i64> {
        let number = self.number(name, p, notes)?;
        if number.fraction {
            notes.note(&self.path(name), ViolationKind::Rounded);
        }
        Some(number.value)
    }

    /// A moment; without an offset it is taken as UTC.
    pub(crate) fn timestamp(
        &mut self,
        name: &str,
        p: Presence,
        notes: &mut Notes,
    ) -> Option<Timestamp> {
        let text = self.text(name, TEXT_CHARS_MAX, p, notes)?;
        let path = self.path(name);
        let (timestamp, violation) = read_timestamp(&text);
        if let Some(kind) = violation {
            notes.note(&path, kind);
        }
        timestamp
    }

    /// A value of an enumeration; a foreign one is kept as its text.
    pub(crate) fn choice<E: OpenEnum>(
        &mut self,
        name: &str,
        p: Presence,
        notes: &mut Notes,
    ) -> Option<E> {
        let text = self.text(name, TEXT_CHARS_MAX, p, notes)?;
        let (value, spelling) = E::recognize(&text);
        match spelling {
            Spelling::Exact => {}
            Spelling::OtherCase => notes.note(&self.path(name), ViolationKind::OtherCase),
            Spelling::Unknown => notes.note(&self.path(name), ViolationKind::UnknownValue),
        }
        Some(value)
    }

    /// A yes or no; also as text or as 1 and 0.
    pub(crate) fn boolean(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<bool> {
        let raw = self.take(name, p, notes)?;
        let (value, is_exact) = match raw.get() {
            "true" => (Some(true), true),
            "false" => (Some(false), true),
            json if json.trim_matches('"').eq_ignore_ascii_case("true") || json == "1" => {
                (Some(true), false)
            }
            json if json.trim_matches('"').eq_ignore_ascii_case("false") || json == "0" => {
                (Some(false), false)
            }
            _ => (None, true),
        };
        if value.is_none() {
            notes.note(&self.path(name), ViolationKind::Unreadable);
        } else if !is_exact {
            notes.note(&self.path(name), ViolationKind::Converted);
        }
        value
    }

    /// An amount in tenths; what is finer is rounded.
    pub(crate) fn tenths(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<i64> {
        let raw = self.take(name, p, notes)?;
        let text = raw.get();
        let number: Option<f64> = text.trim_matches('"').trim().parse().ok();
        let exact = number.filter(|number| number.abs() < EXACT_FLOAT_MAX / 10.0);
        if exact.is_none() {
            notes.note(&self.path(name), ViolationKind::Unreadable);
        } else if text.starts_with('"') {
            notes.note(&self.path(name), ViolationKind::Converted);
        }
        exact.map(|number| (number * 10.0).round() as i64)
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<Self> {
        let raw = self.take(name, p, notes)?;
        let path = self.path(name);
        let fields = Self::of(raw.get(), format!("{path}."));
        if fields.is_none() {
            notes.note(&path, ViolationKind::Unreadable);
        }
        fields
    }

    /// A text of any length, which is not cut: whoever takes it has a limit of its own. Another
    /// value is taken as its JSON.
    pub(crate) fn content(
        &mut self,
        name: &str,
        chars_max: usize,
        p: Presence,
        notes: &mut Notes,
    ) -> Option<String> {
        let raw = self.take(name, p, notes)?;
        let path = self.path(name);
        let text = match raw.get().starts_with(['{', '[']) {
            true => {
                notes.note(&path, ViolationKind::Converted);
                raw.get().to_owned()
            }
            false => text_of(raw, &path, notes)?,
        };
        if text.len() > chars_max && text.chars().count() > chars_max {
            notes.note(&path, ViolationKind::TooLong { chars_max });
        }
        Some(text)
    }

    /// The elements of a list with the path of each. A single object is taken as a list of one.
    pub(crate) fn list(
        &mut self,
        name: &str,
        p: Presence,
        notes: &mut Notes,
    ) -> Vec<(String, &'a RawValue)> {
        let Some(raw) = self.take(name, p, notes) else {
            return Vec::new();
        };
        let path = self.path(name);
        if raw.get().starts_with('{') {
            notes.note(&path, ViolationKind::Converted);
            return vec![(path, raw)];
        }
        match serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) {
            Ok(elements) => elements
                .into_iter()
                .enumerate()
                .map(|(i, raw)| (format!("{path}[{i}]"), raw))
                .collect(),
            Err(_) => {
                notes.note(&path, ViolationKind::Unreadable);
                Vec::new()
            }
        }
    }

    /// Records every field that was not taken.
    pub(crate) fn finish(self, notes: &mut Notes) {
        for name in self.values.keys() {
            notes.note(&format!("{}{name}", self.prefix), ViolationKind::UnknownField);
        }
    }

    fn take(&mut self, name: &str, presence: Presence, notes: &mut Notes) -> Option<&'a RawValue> {
        match self.values.remove(name) {
            Some(raw) if raw.get() == "null" => {
                notes.note(&self.path(name), ViolationKind::Null);
                None
            }
            Some(raw) => Some(raw),
            None => {
                if presence == Presence::Required {
                    notes.note(&self.path(name), ViolationKind::Missing);
                }
                None
            }
        }
    }

    fn number(&mut self, name: &str, p: Presence, notes: &mut Notes) -> Option<Number> {
        let raw = self.take(name, p, notes)?;
        let path = self.path(name);
        let number = Number::of(raw);
        match &number {
            None => notes.note(&path, ViolationKind::Unreadable),
            Some(number) if number.converted && !number.fraction => {
                notes.note(&path, ViolationKind::Converted)
            }
            Some(_) => {}
        }
        number
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// A text, or the text of a number or boolean; `None` for anything else.
pub(crate) fn text_of(raw: &RawValue, path: &str, notes: &mut Notes) -> Option<String> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) => Some(text),
            Err(_) => {
                // Valid JSON that is no text: half a surrogate pair. The escapes are kept as they
                // came.
                notes.note(path, ViolationKind::Converted);
                Some(json.trim_matches('"').to_owned())
            }
        },
        Some(b'{' | b'[' | b'n') | None => {
            notes.note(path, ViolationKind::Unreadable);
            None
        }
        Some(_) => {
            notes.note(path, ViolationKind::Converted);
            Some(json.to_owned())
        }
    }
}

/// The start of a text, at most `chars_max` characters.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

struct Number {
    value: i64,
    /// True if it was a text, or written with a decimal point.
    converted: bool,
    /// True if it was not integral; `value` is rounded.
    fraction: bool,
}

impl Number {
    fn of(raw: &RawValue) -> Option<Self> {
        let json = raw.get();
        if let Ok(value) = json.parse() {
            return Some(Self { value, converted: false, fraction: false });
        }
        let text = match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(json).ok()?,
            _ => json.to_owned(),
        };
        let text = text.trim();
        if let Ok(value) = text.parse() {
            return Some(Self { value, converted: true, fraction: false });
        }
        let float: f64 = text.parse().ok()?;
        // Also turns away NaN and the infinities, which Rust reads from text.
        if !float.is_finite() || float.abs() > EXACT_FLOAT_MAX {
            return None;
        }
        Some(Self { value: float.round() as i64, converted: true, fraction: float.fract() != 0.0 })
    }
}

/// Reads RFC 3339, and what stations write instead: no offset, a space for the `T`, an offset
/// without colon, more than nine digits of fraction.
fn read_timestamp(text: &str) -> (Option<Timestamp>, Option<ViolationKind>) {
    let exact = text.as_bytes().get(10) == Some(&b'T');
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return (Some(timestamp), (!exact).then_some(ViolationKind::TimestampForm));
    }
    let shortened = shorten_fraction(text.trim());
    if let Ok(timestamp) = shortened.parse::<Timestamp>() {
        return (Some(timestamp), Some(ViolationKind::TimestampForm));
    }
    let utc = shortened
        .parse::<jiff::civil::DateTime>()
        .ok()
        .and_then(|civil| jiff::tz::Offset::UTC.to_timestamp(civil).ok());
    match utc {
        Some(timestamp) => (Some(timestamp), Some(ViolationKind::OffsetMissing)),
        None => (None, Some(ViolationKind::Unreadable)),
    }
}

/// Cuts the fraction of a second after nine digits.
fn shorten_fraction(text: &str) -> String {
    let Some((whole, rest)) = text.split_once('.') else {
        return text.to_owned();
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // Digits are single bytes, so both cuts are at character boundaries.
    format!("{whole}.{}{}", &rest[..digits.min(9)], &rest[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> (Option<String>, Option<ViolationKind>) {
        let (timestamp, violation) = read_timestamp(text);
        (timestamp.map(|t| t.to_string()), violation)
    }

    #[test]
    fn a_timestamp_is_read_in_every_form_that_stations_use() {
        let noon = || Some("2024-05-01T12:00:00Z".to_owned());
        assert_eq!(timestamp("2024-05-01T12:00:00Z"), (noon(), None));
        assert_eq!(timestamp("2024-05-01T14:00:00+02:00"), (noon(), None));
        assert_eq!(timestamp("2024-05-01T12:00:00"), (noon(), Some(ViolationKind::OffsetMissing)));
        assert_eq!(timestamp("2024-05-01 12:00:00Z"), (noon(), Some(ViolationKind::TimestampForm)));
        assert_eq!(
            timestamp("2024-05-01T12:00:00.000000000000Z"),
            (noon(), Some(ViolationKind::TimestampForm))
        );
        assert_eq!(timestamp("yesterday"), (None, Some(ViolationKind::Unreadable)));
        assert_eq!(timestamp("2024-13-01T12:00:00Z"), (None, Some(ViolationKind::Unreadable)));
        assert_eq!(timestamp(""), (None, Some(ViolationKind::Unreadable)));
    }

    #[test]
    fn one_field_of_nonsense_costs_that_field_only() {
        let mut notes = Notes::default();
        let mut fields =
            Fields::of(r#"{"a":1e999,"b":"\ud800","c":"10","d":10.0,"e":2.6,"f":null}"#, "")
                .unwrap();
        assert_eq!(fields.integer("a", Presence::Required, &mut notes), None);
        assert_eq!(
            fields.text("b", 20, Presence::Required, &mut notes).as_deref(),
            Some(r"\ud800")
        );
        assert_eq!(fields.integer("c", Presence::Required, &mut notes), Some(10));
        assert_eq!(fields.integer("d", Presence::Required, &mut notes), Some(10));
        assert_eq!(fields.quantity("e", Presence::Required, &mut notes), Some(3));
        assert_eq!(fields.integer("f", Presence::Optional, &mut notes), None);
        let kinds: Vec<_> = notes.read(()).violations.into_iter().map(|v| v.kind).collect();
        use ViolationKind::*;
        assert_eq!(kinds, [Unreadable, Converted, Converted, Converted, Rounded, Null]);
    }

    #[test]
    fn a_number_that_cannot_be_held_exactly_is_unreadable() {
        for json in [
            "9223372036854775808",
            "1e17",
            "-1e17",
            r#""1e17""#,
            r#""inf""#,
            r#""NaN""#,
            "true",
            "{}",
        ] {
            let mut notes = Notes::default();
            let object = format!(r#"{{"a":{json}}}"#);
            let mut fields = Fields::of(&object, "").unwrap();
            assert_eq!(fields.quantity("a", Presence::Required, &mut notes), None, "{json}");
            assert_eq!(notes.read(()).violations[0].kind, ViolationKind::Unreadable, "{json}");
        }
    }

    #[test]
    fn recorded_violations_are_bounded() {
        let mut notes = Notes::default();
        for i in 0..1_000 {
            notes.note(&format!("field{i}"), ViolationKind::UnknownField);
        }
        let violations = notes.read(()).violations;
        assert_eq!(violations.len(), VIOLATIONS_MAX);
        assert_eq!(violations[VIOLATIONS_MAX - 1].kind, ViolationKind::More);
    }
}
