//! An id tag: its permission to charge, and its group.

use leftfold::prelude::{Aggregate, Event, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ocpp::v16::{AuthorizationStatus, IdTagInfo, IdToken};

/// Terms of a tag, as an operator defines them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The tag, as it was written.
    pub(crate) id_tag: IdToken,
    /// Status of the tag.
    pub(crate) status: TagStatus,
    /// Group of the tag: its tags may stop each other's transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent_id_tag: Option<IdToken>,
    /// Moment when the tag expires; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expiry_date: Option<Timestamp>,
}

/// Status that an operator can give to a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TagStatus {
    /// The tag may charge.
    Accepted,
    /// The tag has been blocked.
    Blocked,
    /// The tag has expired.
    Expired,
    /// The tag is not known.
    Invalid,
}

impl From<TagStatus> for AuthorizationStatus {
    fn from(status: TagStatus) -> Self {
        match status {
            TagStatus::Accepted => Self::Accepted,
            TagStatus::Blocked => Self::Blocked,
            TagStatus::Expired => Self::Expired,
            TagStatus::Invalid => Self::Invalid,
        }
    }
}

/// Event of a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum IdTagEvent {
    /// An operator defined the terms of the tag.
    Defined(Terms),
    /// An operator removed the terms of the tag.
    Removed,
}

impl Event for IdTagEvent {
    const NAMESPACE: &'static str = "id_tag";
}

/// A tag; it is unknown without terms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdTag {
    /// Terms that were defined last; `None` if there are none, or if they were removed.
    pub(crate) terms: Option<Terms>,
}

/// Command of an operator about a tag.
#[derive(Clone, Debug)]
pub(crate) enum IdTagCommand {
    /// Define the terms of the tag.
    Define(Terms),
    /// Remove the terms of the tag.
    Remove,
}

/// Refusal of an [`IdTagCommand`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum IdTagRefusal {
    /// There are no terms to remove.
    #[error("there is no such tag; define it first")]
    Unknown,
    /// The tag would be its own group.
    #[error("a tag cannot be its own parent; name another, or none")]
    OwnParent,
}

impl Aggregate for IdTag {
    const CATEGORY: &'static str = "id_tag";
    type Event = IdTagEvent;
    type Command = IdTagCommand;
    type Refusal = IdTagRefusal;

    fn apply(&mut self, event: &IdTagEvent) {
        self.terms = match event {
            IdTagEvent::Defined(terms) => Some(terms.clone()),
            IdTagEvent::Removed => None,
        };
    }

    fn decide(&self, command: &IdTagCommand) -> Result<Vec<IdTagEvent>, IdTagRefusal> {
        match command {
            IdTagCommand::Define(terms) if self.terms.as_ref() == Some(terms) => Ok(Vec::new()),
            IdTagCommand::Define(Terms { id_tag, parent_id_tag: Some(parent), .. })
                if id_tag.as_str().eq_ignore_ascii_case(parent.as_str()) =>
            {
                Err(IdTagRefusal::OwnParent)
            }
            IdTagCommand::Define(terms) => Ok(vec![IdTagEvent::Defined(terms.clone())]),
            IdTagCommand::Remove if self.terms.is_none() => Err(IdTagRefusal::Unknown),
            IdTagCommand::Remove => Ok(vec![IdTagEvent::Removed]),
        }
    }
}

/// Policy for stations and tags that nobody has registered or defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// They are accepted: open mode.
    Welcome,
    /// They are refused.
    Refused,
}

impl IdTag {
    /// Returns the id of the aggregate: tags are compared without regard to upper and lower case.
    #[must_use]
    pub(crate) fn id(id_tag: &str) -> String {
        id_tag.to_lowercase()
    }

    /// Returns the information about the tag for a station.
    #[must_use]
    pub(crate) fn info(&self, now: Timestamp, strangers: Strangers) -> IdTagInfo {
        let Some(terms) = &self.terms else {
            return IdTagInfo::from(match strangers {
                Strangers::Welcome => AuthorizationStatus::Accepted,
                Strangers::Refused => AuthorizationStatus::Invalid,
            });
        };
        let is_over = terms.expiry_date.is_some_and(|expiry| expiry <= now);
        let status = match terms.status {
            TagStatus::Accepted if is_over => AuthorizationStatus::Expired,
            status => status.into(),
        };
        let expiry_date = terms
            .expiry_date
            .and_then(|expiry| jiff::Timestamp::from_microsecond(expiry.as_micros()).ok());
        IdTagInfo { status, expiry_date, parent_id_tag: terms.parent_id_tag.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::given;
    use std::time::Duration;

    fn terms(status: TagStatus, expiry_date: Option<Timestamp>) -> Terms {
        let token = |text| IdToken::new(text).unwrap();
        Terms { id_tag: token("CAFE"), status, parent_id_tag: Some(token("FLEET")), expiry_date }
    }

    #[test]
    fn a_tag_is_defined_once_changed_and_removed() {
        let accepted = terms(TagStatus::Accepted, None);
        let defined = || IdTagEvent::Defined(accepted.clone());
        given::<IdTag>([]).when(IdTagCommand::Define(accepted.clone())).then([defined()]);
        given::<IdTag>([defined()]).when(IdTagCommand::Define(accepted.clone())).then_nothing();
        given::<IdTag>([defined()]).when(IdTagCommand::Remove).then([IdTagEvent::Removed]);
        given::<IdTag>([defined(), IdTagEvent::Removed])
            .when(IdTagCommand::Remove)
            .then_refused(IdTagRefusal::Unknown);
        let own = Terms { parent_id_tag: Some(IdToken::new("cafe").unwrap()), ..accepted.clone() };
        given::<IdTag>([]).when(IdTagCommand::Define(own)).then_refused(IdTagRefusal::OwnParent);
    }

    #[test]
    fn a_tag_beyond_its_expiry_is_expired_and_a_stranger_depends_on_the_mode() {
        let now = Timestamp::now();
        let expiring = IdTagEvent::Defined(terms(TagStatus::Accepted, Some(now)));
        let given = given::<IdTag>([expiring]);
        let status = |at: Timestamp| given.state().info(at, Strangers::Welcome).status;
        assert_eq!(status(now), AuthorizationStatus::Expired);
        assert_eq!(status(now.minus(Duration::from_secs(1))), AuthorizationStatus::Accepted);
        let stranger = IdTag::default();
        assert_eq!(stranger.info(now, Strangers::Welcome).status, AuthorizationStatus::Accepted);
        assert_eq!(stranger.info(now, Strangers::Refused).status, AuthorizationStatus::Invalid);
    }
}
