//! Users: who there is, and what an admin changes.

use leftfold::personal::{KeysError, Opened};
use leftfold::prelude::{ExecuteError, Position, Query, Timestamp};
use leftfold::store::{EventType, Read};

use super::sealed::{NAME, subject};
use super::secret::random_id;
use super::{Act, People, PeopleError};
use crate::confidential::Confidential;
use crate::domain::person::{
    AccessRole, AddUser, LoginName, UserAccount, UserAccountCommand, UserStanding,
};

/// A user to add.
#[derive(Debug)]
pub(crate) struct NewAccount<'a> {
    /// Name to log in with.
    pub(crate) name: &'a str,
    /// Rights.
    pub(crate) role: AccessRole,
    /// First password.
    pub(crate) password: Confidential,
}

/// A user in a list.
#[derive(Debug)]
pub(crate) struct UserRow {
    /// Id of the user.
    pub(crate) id: String,
    /// Position of the event that added it.
    pub(crate) position: Position,
    /// Moment when it was added.
    pub(crate) added_at: Timestamp,
    /// Name; `None` if the user was forgotten.
    pub(crate) name: Option<String>,
    /// State of the user.
    pub(crate) user: UserAccount,
}

impl People {
    /// Adds a user, and returns its id.
    pub(crate) async fn add(
        &self,
        account: NewAccount<'_>,
        act: &Act,
    ) -> Result<String, PeopleError> {
        let name = LoginName::new(account.name).ok_or(PeopleError::Name)?;
        let hash = self.passwords.hash(&account.password).await?;
        let id = random_id();
        let person = self.keys.subject(&subject(&id)).await?;
        let name = person.seal_findable(NAME, &name).await?;
        let password = person.seal(&hash)?;
        let adding = AddUser { id, name, role: account.role, password };
        let added = act.on_decision(self.store.decision(&adding)).execute().await;
        if let Err(ExecuteError::Refused(_)) = added {
            // Otherwise the name would stay known by the key of somebody who never was.
            self.keys.forget(&subject(&adding.id)).await?;
        }
        added?;
        Ok(adding.id)
    }

    /// Gives a user a new password; all its sessions end.
    pub(crate) async fn change_password(
        &self,
        id: &str,
        password: &Confidential,
        act: &Act,
    ) -> Result<(), PeopleError> {
        let user = self.users.load(id).await?.state;
        if user.name.is_none() || user.standing == UserStanding::Forgotten {
            // The refusal is the aggregate's.
            return self.change(id, UserAccountCommand::Enable, act).await;
        }
        let hash = self.passwords.hash(password).await?;
        let sealed = self.keys.subject(&subject(id)).await?.seal(&hash)?;
        self.change(id, UserAccountCommand::ChangePassword(sealed), act).await
    }

    /// Carries out a command about a user.
    pub(crate) async fn change(
        &self,
        id: &str,
        command: UserAccountCommand,
        act: &Act,
    ) -> Result<(), PeopleError> {
        act.on(self.users.command(id, command)).execute().await?;
        Ok(())
    }

    /// Forgets a user: what is sealed with its key opens nowhere any more. Its acts stay, under its
    /// id.
    pub(crate) async fn forget(&self, id: &str, act: &Act) -> Result<(), PeopleError> {
        self.change(id, UserAccountCommand::Forget, act).await?;
        match self.keys.forget(&subject(id)).await {
            Ok(_) | Err(KeysError::NoSubject { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a user; `None` if nobody has this id.
    pub(crate) async fn user(&self, id: &str) -> Result<Option<UserAccount>, PeopleError> {
        let user = self.users.load(id).await?.state;
        Ok(user.name.is_some().then_some(user))
    }

    /// Returns the name of a user; `None` if it was forgotten, or nobody has this id.
    pub(crate) async fn user_name(&self, id: &str) -> Result<Option<String>, PeopleError> {
        let user = self.users.load(id).await?.state;
        self.name_in(&user).await
    }

    /// Lists users, in the order in which they were added, after a position.
    pub(crate) async fn users(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<UserRow>, PeopleError> {
        let added = Query::types([EventType::new("user.Added")?]);
        let from = Position(after.0.saturating_add(1));
        let mut events = self.store.read(Read::matching(added, from));
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(event) = events.next().await?
        {
            let Some(stream) = &event.stream else { continue };
            let id = stream.name.id().to_owned();
            let user = self.users.load(&id).await?.state;
            let (position, added_at) = (event.position, event.recorded_at);
            let name = self.name_in(&user).await?;
            rows.push(UserRow { id, position, added_at, name, user });
        }
        Ok(rows)
    }

    /// Destroys the keys of users of whom it is recorded that they are forgotten: a server may have
    /// ended in between.
    pub(crate) async fn finish_forgetting(&self) -> Result<(), PeopleError> {
        let added = Query::types([EventType::new("user.Added")?]);
        let mut events = self.store.read(Read::matching(added, Position::START));
        while let Some(event) = events.next().await? {
            let Some(stream) = &event.stream else { continue };
            let user = self.users.load(stream.name.id()).await?.state;
            let is_forgotten = user.standing == UserStanding::Forgotten;
            if let Some(name) = user.name.as_ref().filter(|_| is_forgotten)
                && self.keys.open(name).await? != Opened::Forgotten
            {
                self.keys.forget(&subject(stream.name.id())).await?;
            }
        }
        Ok(())
    }

    /// Tells whether an admin can log in.
    pub(crate) async fn has_admin(&self) -> Result<bool, PeopleError> {
        let is_admin = |user: &UserAccount| {
            user.role == Some(AccessRole::Admin) && user.standing == UserStanding::Enabled
        };
        let added = Query::types([EventType::new("user.Added")?]);
        let mut events = self.store.read(Read::matching(added, Position::START));
        while let Some(event) = events.next().await? {
            let Some(stream) = &event.stream else { continue };
            if is_admin(&self.users.load(stream.name.id()).await?.state) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn name_in(&self, user: &UserAccount) -> Result<Option<String>, PeopleError> {
        let Some(sealed) = user.name.as_ref().filter(|_| user.standing != UserStanding::Forgotten)
        else {
            return Ok(None);
        };
        Ok(match self.keys.open(sealed).await? {
            Opened::Known(name) => Some(name.as_str().to_owned()),
            Opened::Forgotten => None,
        })
    }
}
