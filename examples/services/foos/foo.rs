//! The events of foos, as another system wrote them, and what a foo is.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What foos' ids are made in.
const FOOS: Uuid = Uuid::from_u128(0x6f1c_56f4_4c1b_4d3c_9b52_0e1c_7f2a_8d11);

/// Where a foo stands.
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

/// What happened to a foo, and when by the clock of whoever saw it: events come late, out of order, and twice.
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
#[error("the stream {stream:?} is not foos-barId-bazId, mend whoever writes it and retry")]
pub(crate) struct NotAFoo {
    pub(crate) stream: String,
}

// ANCHOR: name
impl FooName {
    /// By the stream, `foos-barId-bazId`: the events do not say it.
    pub(crate) fn of(event: &Recorded<FooFact>) -> Result<Self, NotAFoo> {
        let stream = event.envelope.stream.as_ref().map_or("", |at| &at.name);
        let ids = stream.strip_prefix("foos-").and_then(|ids| ids.split_once('-'));
        match ids {
            Some((bar, baz)) if !bar.is_empty() && !baz.is_empty() => Ok(Self::new(bar, baz)),
            _ => Err(NotAFoo { stream: stream.to_owned() }),
        }
    }

    pub(crate) fn new(bar: &str, baz: &str) -> Self {
        Self { id: Uuid::new_v5(&FOOS, format!("{bar}/{baz}").as_bytes()), bar: bar.to_owned(), baz: baz.to_owned() }
    }
}
// ANCHOR_END: name
