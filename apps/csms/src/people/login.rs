//! Sessions of people. A session is known by a random secret in a cookie; the user's events have
//! its hash. So it outlives a restart, is known at all servers on the store, and ends at all of
//! them.

use leftfold::personal::{KeysError, Opened};
use leftfold::prelude::{Position, Query, Timestamp};
use leftfold::store::Read;
use leftfold_callers::AddressPrefix;

use super::passwords::Guesser;
use super::sealed::{NAME, subject};
use super::secret::{hash_of, is_id, random_text};
use super::{Act, People, PeopleError};
use crate::confidential::Confidential;
use crate::domain::person::{
    AccessRole, LoginKey, LoginName, UserAccount, UserAccountCommand, UserStanding,
};

/// Part of the idle time after which a use is recorded again.
const RECORDED_PARTS: u32 = 8;

/// Error of a login.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// There is no such user, or the password is another.
    #[error("the name or the password is wrong")]
    Wrong,
    /// The password is right, and the user may not log in.
    #[error("this user is disabled; ask an admin")]
    Disabled,
    /// It cannot be said now.
    #[error(transparent)]
    People(#[from] PeopleError),
}

/// A session that is open.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OpenSession {
    /// Id of the user.
    pub(crate) user: String,
    /// Rights that the user has now.
    pub(crate) role: AccessRole,
    secret: String,
}

impl std::fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSession").field("user", &self.user).finish_non_exhaustive()
    }
}

impl OpenSession {
    /// Returns the text that proves the session: the value of the cookie.
    pub(crate) fn cookie(&self) -> String {
        format!("{}.{}", self.user, self.secret)
    }

    /// Returns the secret, from which the token of its pages is made.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    fn key(&self) -> LoginKey {
        key_of(&self.secret)
    }
}

fn key_of(secret: &str) -> LoginKey {
    LoginKey(hash_of(secret).to_hex().to_string())
}

impl People {
    /// Returns the id of the user of a name; `None` if there is none.
    pub(crate) async fn id_of(&self, name: &LoginName) -> Result<Option<String>, PeopleError> {
        let Some(tag) = self.keys.find(NAME, name).await? else { return Ok(None) };
        let read = Read::matching(Query::tag(tag), Position::START).page_of(1);
        let mut found = self.store.read(read);
        let event = found.next().await?;
        Ok(event.and_then(|event| event.stream.map(|at| at.name.id().to_owned())))
    }

    /// Begins a session for whoever knows the password. A mark is what an earlier login gave the
    /// browser.
    pub(crate) async fn log_in(
        &self,
        name: &str,
        password: &Confidential,
        prefix: AddressPrefix,
        mark: Option<&str>,
    ) -> Result<OpenSession, LoginError> {
        let (id, user) = self.named(name).await?;
        let is_known = match mark {
            Some(mark) => self.is_mark_of(mark, &id).await?,
            None => false,
        };
        let about = match mark.filter(|_| is_known) {
            Some(mark) => *hash_of(mark).as_bytes(),
            None => *hash_of(&name.trim().to_lowercase()).as_bytes(),
        };
        let guesser = Guesser { prefix, about };
        let hash = match &user.password {
            Some(sealed) => self.keys.open(sealed).await.map_err(PeopleError::from)?.known(),
            None => None,
        };
        let is_right = self.passwords.is_right(&id, hash, password, guesser).await;
        match (is_right.map_err(PeopleError::from)?, user.standing) {
            (true, UserStanding::Enabled) => {}
            (true, UserStanding::Disabled) => return Err(LoginError::Disabled),
            (true, UserStanding::Forgotten) | (false, _) => return Err(LoginError::Wrong),
        }
        Ok(self.begin_session(id, user.role.unwrap_or(AccessRole::Viewer)).await?)
    }

    /// Returns the user of a name, and its id; one without a password if there is none.
    async fn named(&self, name: &str) -> Result<(String, UserAccount), PeopleError> {
        let Some(name) = LoginName::new(name) else { return Ok(Default::default()) };
        let Some(id) = self.id_of(&name).await? else { return Ok(Default::default()) };
        let user = self.users.load(&id).await?.state;
        Ok((id, user))
    }

    async fn begin_session(
        &self,
        user: String,
        role: AccessRole,
    ) -> Result<OpenSession, PeopleError> {
        let session = OpenSession { user, role, secret: random_text()? };
        let at = Timestamp::now();
        let until = at.plus(self.times.most);
        let command = UserAccountCommand::LogIn { session: session.key(), at, until };
        let act = Act::new(format!("user-{}", session.user).into(), None);
        act.on(self.users.command(&session.user, command)).execute().await?;
        Ok(session)
    }

    /// Returns the session that a cookie proves; `None` if there is none, or it is over.
    pub(crate) async fn session(&self, cookie: &str) -> Result<Option<OpenSession>, PeopleError> {
        let Some((user, secret)) = cookie.split_once('.') else { return Ok(None) };
        if !is_id(user) {
            return Ok(None);
        }
        let (key, now) = (key_of(secret), Timestamp::now());
        let account = self.users.load(user).await?.state;
        let Some((session, role)) = account.session(&key, now, self.times.idle) else {
            return Ok(None);
        };
        if now.since(session.used_at) > self.times.idle / RECORDED_PARTS {
            let used = UserAccountCommand::UseSession { session: key, at: now };
            if let Err(error) = self.users.execute(user, used).await {
                tracing::warn!(%error, "the use of a session cannot be recorded; it may end early");
            }
        }
        Ok(Some(OpenSession { user: user.to_owned(), role, secret: secret.to_owned() }))
    }

    /// Tells whether a session is still open, with the same rights.
    pub(crate) async fn is_open(&self, session: &OpenSession) -> Result<bool, PeopleError> {
        let account = self.users.load(&session.user).await?.state;
        let open = account.session(&session.key(), Timestamp::now(), self.times.idle);
        Ok(open.is_some_and(|(_, role)| role == session.role))
    }

    /// Ends a session.
    pub(crate) async fn log_out(
        &self,
        session: &OpenSession,
        act: &Act,
    ) -> Result<(), PeopleError> {
        let command = UserAccountCommand::LogOut(session.key());
        act.on(self.users.command(&session.user, command)).execute().await?;
        Ok(())
    }

    /// Ends all sessions of a user.
    pub(crate) async fn log_out_everywhere(
        &self,
        user: &str,
        act: &Act,
    ) -> Result<(), PeopleError> {
        let command = UserAccountCommand::LogOutEverywhere;
        act.on(self.users.command(user, command)).execute().await?;
        Ok(())
    }

    /// Returns the mark that tells that a browser logged in as a user. It is made with the key of
    /// that person, so it tells nothing once the user was forgotten.
    pub(crate) async fn mark_of(&self, user: &str) -> Result<String, PeopleError> {
        let text = random_text()?;
        let print = self.print_of(user, &text).await?;
        Ok(format!("{text}.{print}"))
    }

    async fn is_mark_of(&self, mark: &str, user: &str) -> Result<bool, PeopleError> {
        let Some((text, print)) = mark.split_once('.').filter(|_| !user.is_empty()) else {
            return Ok(false);
        };
        match self.print_of(user, text).await {
            Ok(known) => Ok(hash_of(&known) == hash_of(print)),
            Err(PeopleError::Keys(KeysError::Forgotten { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn print_of(&self, user: &str, text: &str) -> Result<String, PeopleError> {
        let person = self.keys.subject(&subject(user)).await?;
        let print = person.fingerprint(format!("a browser that logged in: {text}").as_bytes());
        Ok(blake3::Hash::from_bytes(print).to_hex().to_string())
    }

    /// Tells whether a password is the one of a user, who is logged in.
    pub(crate) async fn knows_password(
        &self,
        user: &str,
        password: &Confidential,
        prefix: AddressPrefix,
    ) -> Result<bool, PeopleError> {
        let account = self.users.load(user).await?.state;
        let hash = match &account.password {
            Some(sealed) => match self.keys.open(sealed).await? {
                Opened::Known(hash) => Some(hash),
                Opened::Forgotten => None,
            },
            None => None,
        };
        let about = *hash_of(&format!("session of {user}")).as_bytes();
        let guesser = Guesser { prefix, about };
        Ok(self.passwords.is_right(user, hash, password, guesser).await?)
    }
}
