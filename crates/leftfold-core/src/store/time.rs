//! Recorded time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC, in microseconds since 1970-01-01T00:00:00Z. Shown, and written as JSON, per RFC
/// 3339.
///
/// ```
/// use std::time::Duration;
///
/// use leftfold_core::store::Timestamp;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let opening: Timestamp = "2026-02-01T10:00:00Z".parse()?;
/// let closing = opening.plus(Duration::from_secs(8 * 3_600));
/// assert_eq!(closing.to_string(), "2026-02-01T18:00:00Z");
/// assert_eq!(closing.since(opening), Duration::from_secs(8 * 3_600));
/// assert_eq!(opening.since(closing), Duration::ZERO);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The earliest moment that can be said: -009999-01-02.
    pub const MIN: Self = Self(jiff::Timestamp::MIN);
    /// The latest moment that can be said: 9999-12-30.
    pub const MAX: Self = Self(jiff::Timestamp::MAX);

    /// Returns the time of the machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from_micros(jiff::Timestamp::now().as_microsecond())
    }

    /// Returns the moment that is `micros` microseconds after 1970; beyond the years that can be
    /// expressed, the nearest moment that can.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let limit = if micros < 0 { Self::MIN } else { Self::MAX };
        Self(jiff::Timestamp::from_microsecond(micros).unwrap_or(limit.0))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Returns the moment later by the duration, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.as_micros().saturating_add(micros))
    }

    /// Returns the moment earlier by the duration, at least [`Timestamp::MIN`].
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.as_micros().saturating_sub(micros))
    }

    /// Returns the time from `earlier` to this moment; zero if this moment is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.as_micros().saturating_sub(earlier.as_micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time, write it per RFC 3339, as in 2026-02-01T10:00:00Z")]
pub struct NotATime {
    text: String,
}

impl std::str::FromStr for Timestamp {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let parsed: jiff::Timestamp =
            text.parse().map_err(|_| NotATime { text: text.to_owned() })?;
        Ok(Self::from_micros(parsed.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
