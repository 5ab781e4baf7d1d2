//! The rule across all users: a name belongs to one of them.

use leftfold::fold::{Decided, Decision};
use leftfold::personal::Personal;
use leftfold::prelude::Query;

use super::{AccessRole, LoginHash, LoginName, UserAccount, UserAccountEvent};

/// Decision to add a user. The name is compared by its tag, so nothing is opened.
#[derive(Clone, Debug)]
pub(crate) struct AddUser {
    /// Id of the user: random, so that it tells nothing of the person.
    pub(crate) id: String,
    /// Name to log in with, sealed to be found.
    pub(crate) name: Personal<LoginName>,
    /// Rights of the user.
    pub(crate) role: AccessRole,
    /// Hash of the first password.
    pub(crate) password: Personal<LoginHash>,
}

/// Another user has the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another user has this name; choose another one")]
pub(crate) struct NameTaken;

impl Decision for AddUser {
    type Event = UserAccountEvent;
    type State = bool;
    type Refusal = NameTaken;

    fn query(&self) -> Query {
        Query::tag(self.name.tag().to_owned())
    }

    fn apply(&self, is_taken: &mut bool, event: &UserAccountEvent) {
        if let UserAccountEvent::Added { name, .. } = event {
            *is_taken |= name.tag() == self.name.tag();
        }
    }

    fn decide(&self, is_taken: &bool) -> Result<Decided<UserAccountEvent>, NameTaken> {
        if *is_taken {
            return Err(NameTaken);
        }
        let Self { id, name, role, password } = self.clone();
        Ok(Decided::of::<UserAccount>(&id, UserAccountEvent::Added { name, role, password }))
    }
}
