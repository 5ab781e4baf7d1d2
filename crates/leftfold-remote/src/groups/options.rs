//! What a group reads, and how it gives that to its consumers.

use std::time::Duration;

use leftfold_core::store::{Position, Query};
use leftfold_protocol::wire::{self, group_key, group_settings, group_start};

use super::error::GroupCallError;

/// Options of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// Events that the consumers share.
    pub query: Query,
    /// Place at which the group begins.
    pub start: GroupPlace,
    /// Events of one key are given out one after the other, in their order; `None` if no order is
    /// kept. A parked event holds up no other.
    pub ordered: Option<GroupKey>,
    /// Rule by which a consumer is chosen for an event.
    pub strategy: GroupStrategy,
    /// Time after which an event without an answer is given out again, in whole milliseconds; zero
    /// for never.
    pub answer_within: Duration,
    /// Number of times that an event is given out again before it is parked.
    pub retries_max: u32,
    /// Consumers at once; 0 for as many as the server allows.
    pub consumers_max: u32,
}

/// Place at which a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPlace {
    /// After a position; after [`Position::START`] it reads everything.
    After(Position),
    /// After everything that is there when the group is made.
    End,
}

/// Part of an event by which events belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// Its stream.
    Stream,
    /// Its first tag that begins with this text.
    Tag(String),
    /// Its correlation, in the envelope or as `$correlationId` in JSON metadata.
    Correlation,
}

/// Rule by which a consumer is chosen for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupStrategy {
    /// One after the other, those that have room.
    RoundRobin,
    /// The same consumer for all events of a key, as long as the consumers stay the same.
    Pinned(GroupKey),
    /// The consumer that has been there longest; the next one only if it has no room.
    OneAtATime,
}

impl GroupOptions {
    /// The usual options: from the beginning, in no order, 30 seconds for an answer, 10 retries.
    #[must_use]
    pub fn of(query: Query) -> Self {
        Self {
            query,
            start: GroupPlace::After(Position::START),
            ordered: None,
            strategy: GroupStrategy::RoundRobin,
            answer_within: Duration::from_secs(30),
            retries_max: 10,
            consumers_max: 0,
        }
    }

    /// The same, beginning elsewhere.
    #[must_use]
    pub fn starting(self, start: GroupPlace) -> Self {
        Self { start, ..self }
    }

    /// The same, with the events of one key one after the other.
    #[must_use]
    pub fn ordered(self, key: GroupKey) -> Self {
        Self { ordered: Some(key), ..self }
    }

    /// The same, with all events of a key to one consumer, as long as the consumers stay the same.
    #[must_use]
    pub fn pinned(self, key: GroupKey) -> Self {
        Self { strategy: GroupStrategy::Pinned(key), ..self }
    }

    /// The same, with so much time for an answer; zero for any time.
    #[must_use]
    pub fn answered_within(self, answer_within: Duration) -> Self {
        Self { answer_within, ..self }
    }

    /// The same, giving an event out again at most so often.
    #[must_use]
    pub fn retries(self, retries_max: u32) -> Self {
        Self { retries_max, ..self }
    }

    pub(super) fn settings(&self) -> wire::GroupSettings {
        let strategy = match &self.strategy {
            GroupStrategy::RoundRobin => group_settings::Strategy::RoundRobin(wire::Empty {}),
            GroupStrategy::Pinned(key) => group_settings::Strategy::Pinned(key.into()),
            GroupStrategy::OneAtATime => group_settings::Strategy::OneAtATime(wire::Empty {}),
        };
        // Less than a millisecond is not never.
        let least = u128::from(!self.answer_within.is_zero());
        let millis = self.answer_within.as_millis().max(least);
        wire::GroupSettings {
            query: Some((&self.query).into()),
            ordered: self.ordered.as_ref().map(Into::into),
            strategy: Some(strategy),
            answer_within_ms: Some(u64::try_from(millis).unwrap_or(u64::MAX)),
            retries_max: Some(self.retries_max),
            consumers_max: Some(self.consumers_max),
            ..wire::GroupSettings::default()
        }
    }

    pub(super) fn read(
        settings: wire::GroupSettings,
        after: Position,
    ) -> Result<Self, GroupCallError> {
        let query = settings.query.ok_or_else(|| GroupCallError::strange("no query"))?;
        let usual = Self::of(query.try_into().map_err(GroupCallError::strange)?);
        let strategy = match settings.strategy {
            None | Some(group_settings::Strategy::RoundRobin(_)) => GroupStrategy::RoundRobin,
            Some(group_settings::Strategy::Pinned(key)) => GroupStrategy::Pinned(key.try_into()?),
            Some(group_settings::Strategy::OneAtATime(_)) => GroupStrategy::OneAtATime,
        };
        let within = settings.answer_within_ms.map(Duration::from_millis);
        Ok(Self {
            start: GroupPlace::After(after),
            ordered: settings.ordered.map(TryInto::try_into).transpose()?,
            strategy,
            answer_within: within.unwrap_or(usual.answer_within),
            retries_max: settings.retries_max.unwrap_or(usual.retries_max),
            consumers_max: settings.consumers_max.unwrap_or(usual.consumers_max),
            ..usual
        })
    }
}

impl From<GroupPlace> for wire::GroupStart {
    fn from(start: GroupPlace) -> Self {
        let start = match start {
            GroupPlace::After(position) => group_start::Start::After(position.0),
            GroupPlace::End => group_start::Start::End(wire::Empty {}),
        };
        Self { start: Some(start) }
    }
}

impl From<&GroupKey> for wire::GroupKey {
    fn from(key: &GroupKey) -> Self {
        let key = match key {
            GroupKey::Stream => group_key::Key::Stream(wire::Empty {}),
            GroupKey::Tag(prefix) => group_key::Key::Tag(prefix.clone()),
            GroupKey::Correlation => group_key::Key::Correlation(wire::Empty {}),
        };
        Self { key: Some(key) }
    }
}

impl TryFrom<wire::GroupKey> for GroupKey {
    type Error = GroupCallError;

    fn try_from(key: wire::GroupKey) -> Result<Self, GroupCallError> {
        match key.key {
            Some(group_key::Key::Stream(_)) => Ok(Self::Stream),
            Some(group_key::Key::Tag(prefix)) => Ok(Self::Tag(prefix)),
            Some(group_key::Key::Correlation(_)) => Ok(Self::Correlation),
            None => Err(GroupCallError::strange("an unknown key")),
        }
    }
}
