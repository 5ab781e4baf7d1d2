//! The events of accounts, and what concerns one account alone: an aggregate.

use leftfold::personal::Personal;
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::profile::{Email, Profile, UserName};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    SignedUp(Profile),
    Renamed { account: String, from: Personal<UserName>, to: Personal<UserName> },
    Closed { account: String, name: Personal<UserName>, email: Personal<Email> },
}

impl AccountEvent {
    /// Tells whether somebody has the name after the event, given whether it was so before.
    pub(crate) fn leaves_taken(&self, wanted: &Personal<UserName>, before: bool) -> bool {
        let is_it = |name: &Personal<UserName>| name.tag() == wanted.tag();
        match self {
            AccountEvent::SignedUp(Profile { name, .. })
            | AccountEvent::Renamed { to: name, .. }
                if is_it(name) =>
            {
                true
            }
            AccountEvent::Renamed { from: name, .. } | AccountEvent::Closed { name, .. }
                if is_it(name) =>
            {
                false
            }
            _ => before,
        }
    }
}

// ANCHOR: tags
impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    /// Anyone who asks for a name finds all that took it and all that gave it back.
    fn tags(&self) -> Tags {
        match self {
            AccountEvent::SignedUp(Profile { account, name, email, .. })
            | AccountEvent::Closed { account, name, email } => Tags::none()
                .with(account_tag(account))
                .with(name.tag().to_owned())
                .with(email.tag().to_owned()),
            AccountEvent::Renamed { account, from, to } => Tags::none()
                .with(account_tag(account))
                .with(from.tag().to_owned())
                .with(to.tag().to_owned()),
        }
    }
}
// ANCHOR_END: tags

pub(crate) fn account_tag(account: &str) -> String {
    format!("account:{account}")
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum AccountRefusal {
    #[error("the name is taken")]
    NameTaken,
    #[error("the e-mail address is taken")]
    EmailTaken,
    #[error("there is no such account")]
    NoAccount,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) profile: Option<Profile>,
}

#[derive(Clone, Debug)]
pub(crate) struct Close;

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = Close;
    type Refusal = AccountRefusal;

    fn apply(&mut self, event: &AccountEvent) {
        match (event, &mut self.profile) {
            (AccountEvent::SignedUp(profile), mine) => *mine = Some(profile.clone()),
            (AccountEvent::Renamed { to, .. }, Some(profile)) => profile.name = to.clone(),
            (AccountEvent::Renamed { .. }, None) => {}
            (AccountEvent::Closed { .. }, mine) => *mine = None,
        }
    }

    fn decide(&self, Close: &Close) -> Result<Vec<AccountEvent>, AccountRefusal> {
        let Profile { account, name, email, .. } =
            self.profile.clone().ok_or(AccountRefusal::NoAccount)?;
        Ok(vec![AccountEvent::Closed { account, name, email }])
    }
}
