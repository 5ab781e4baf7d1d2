//! The events of foos, as another system wrote them, and what a foo is.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of the ids of foos.
const FOOS: Uuid = Uuid::from_u128(0x6f1c_56f4_4c1b_4d3c_9b52_0e1c_7f2a_8d11);

/// State of a foo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Active,
    Paused,
    Retired,
}

impl Status {
    pub(crate) const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Retired];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Retired => "retired",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// Event of a foo, with the time by the observer's clock: events come late, out of order, and
/// twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FooFact {
    #[serde(rename = "foo.StatusSeen")]
    StatusSeen { at: Timestamp, status: Status },
    #[serde(rename = "foo.Labelled")]
    Labelled { at: Timestamp, label: String },
}

impl Event for FooFact {
    const NAMESPACE: &'static str = "foo";
}

/// Names a foo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FooName {
    pub(crate) id: Uuid,
    pub(crate) bar: String,
    pub(crate) baz: String,
}

/// The stream does not name a bar and a baz.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stream {stream:?} is not foos-barId-bazId with UUIDs or with {escape} for a dash, fix its writer and retry",
    escape = "%2D"
)]
pub(crate) struct NotAFoo {
    pub(crate) stream: String,
}

// ANCHOR: name
/// The characters of a UUID in its usual form, four dashes among them.
const UUID_LENGTH: usize = 36;

impl FooName {
    /// By the stream, `foos-barId-bazId`: the events do not say it. A dash parts the ids, so a UUID
    /// is known by its length, and any other id has `%2D` for each dash of its own.
    pub(crate) fn of(event: &Recorded<FooFact>) -> Result<Self, NotAFoo> {
        let stream = event.envelope.stream.as_ref().map_or("", |at| &at.name);
        Self::in_stream(stream).ok_or_else(|| NotAFoo { stream: stream.to_owned() })
    }

    pub(crate) fn in_stream(stream: &str) -> Option<Self> {
        let ids = stream.strip_prefix("foos-")?;
        let dash = Self::dash(ids)?;
        let (bar, baz) = (unescaped(ids.get(..dash)?)?, unescaped(ids.get(dash + 1..)?)?);
        Some(Self::new(&bar, &baz))
    }

    /// Finds the dash between the ids: behind a UUID, before a UUID, or the only one.
    fn dash(ids: &str) -> Option<usize> {
        let before_last = ids.len().saturating_sub(UUID_LENGTH + 1);
        let uuid_first =
            ids.get(..UUID_LENGTH).is_some_and(is_uuid) && ids.get(UUID_LENGTH..)?.starts_with('-');
        let uuid_last =
            ids.get(before_last..).and_then(|last| last.strip_prefix('-')).is_some_and(is_uuid);
        match (uuid_first, uuid_last) {
            (true, _) => Some(UUID_LENGTH),
            (false, true) => Some(before_last),
            (false, false) => ids.find('-').filter(|dash| ids.rfind('-') == Some(*dash)),
        }
    }

    pub(crate) fn new(bar: &str, baz: &str) -> Self {
        // No two pairs give one text: bar has no slash of its own.
        let text = format!("{}/{baz}", bar.replace('%', "%25").replace('/', "%2F"));
        Self { id: Uuid::new_v5(&FOOS, text.as_bytes()), bar: bar.to_owned(), baz: baz.to_owned() }
    }

    /// The stream of a foo, as anyone who writes it names it.
    pub(crate) fn stream(&self) -> String {
        format!("foos-{}-{}", escaped(&self.bar), escaped(&self.baz))
    }
}

fn is_uuid(id: &str) -> bool {
    id.len() == UUID_LENGTH && Uuid::try_parse(id).is_ok()
}

fn escaped(id: &str) -> String {
    if is_uuid(id) { id.to_owned() } else { id.replace('%', "%25").replace('-', "%2D") }
}

/// `None` if the id is empty, or has a dash or a percent sign that is not escaped.
fn unescaped(id: &str) -> Option<String> {
    if is_uuid(id) {
        return Some(id.to_owned());
    }
    let is_plain = !id.is_empty() && !id.contains('-');
    let escapes =
        id.split('%').skip(1).all(|rest| rest.starts_with("25") || rest.starts_with("2D"));
    (is_plain && escapes).then(|| id.replace("%2D", "-").replace("%25", "%"))
}
// ANCHOR_END: name
