//! A user: a person who logs in with a name and a password.
//!
//! The name and the hash of the password are sealed with the key of that person, whose destruction
//! is all that forgetting takes: the stream stays, and so does every act under the id.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold::personal::Personal;
use leftfold::prelude::{Aggregate, Event, SnapshotPolicy, Tags, Timestamp};
use serde::{Deserialize, Serialize};

use super::AccessRole;

/// Sessions of a user that are open at most; beyond that the one that was unused for longest ends.
pub(super) const SESSIONS_MAX: usize = 16;

/// Name of a user as it is compared: without regard to upper and lower case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoginName(String);

impl LoginName {
    /// Characters of a name at most.
    const CHARACTERS_MAX: usize = 100;

    /// Reads a name; `None` if no user can have it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let name = text.trim().to_lowercase();
        let fits = (1..=Self::CHARACTERS_MAX).contains(&name.chars().count());
        (fits && !name.chars().any(char::is_control)).then_some(Self(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Argon2 hash of a password, with its salt.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoginHash(pub(crate) String);

impl std::fmt::Debug for LoginHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Hash of the secret that a session is known by, as hexadecimal digits. The secret is random, so
/// nobody finds it by its hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LoginKey(pub(crate) String);

/// Event of a user; in the stream `user-{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum UserAccountEvent {
    /// An admin added the user.
    Added {
        /// Name to log in with.
        name: Personal<LoginName>,
        /// Rights of the user.
        role: AccessRole,
        /// Hash of the first password.
        password: Personal<LoginHash>,
    },
    /// An admin gave the user other rights.
    RoleChanged {
        /// Rights from now on.
        role: AccessRole,
    },
    /// The password was changed, by the user or an admin; all sessions ended.
    PasswordChanged {
        /// Hash of the new password.
        password: Personal<LoginHash>,
    },
    /// An admin shut the user out; all sessions ended.
    Disabled,
    /// An admin let the user in again.
    Enabled,
    /// The user logged in.
    LoggedIn {
        /// Session that began.
        session: LoginKey,
        /// Moment when it began.
        at: Timestamp,
        /// Moment when it ends at the latest.
        until: Timestamp,
    },
    /// The session was used: recorded once in a while, since it ends if it is not.
    SessionUsed {
        /// The session.
        session: LoginKey,
        /// Moment of the use.
        at: Timestamp,
    },
    /// The user ended a session.
    LoggedOut {
        /// Session that ended.
        session: LoginKey,
    },
    /// The user ended all sessions.
    LoggedOutEverywhere,
    /// The user is to be forgotten: the key of the sealed values is destroyed afterwards.
    Forgotten,
}

impl Event for UserAccountEvent {
    const NAMESPACE: &'static str = "user";

    fn tags(&self) -> Tags {
        match self {
            Self::Added { name, .. } => Tags::none().with(name.tag()),
            _ => Tags::none(),
        }
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UserAccount {
    /// Name to log in with; `None` before the user was added.
    pub(crate) name: Option<Personal<LoginName>>,
    /// Rights of the user; `None` before the user was added.
    pub(crate) role: Option<AccessRole>,
    /// Hash of the password.
    pub(crate) password: Option<Personal<LoginHash>>,
    /// State of the user.
    pub(crate) standing: UserStanding,
    /// Sessions that were not ended; some of them may be over.
    pub(crate) sessions: BTreeMap<LoginKey, LoginSession>,
}

/// State of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserStanding {
    /// May log in.
    #[default]
    Enabled,
    /// May not log in.
    Disabled,
    /// Is not known by name any more, and never comes back.
    Forgotten,
}

/// A session of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoginSession {
    /// Moment when it began.
    pub(crate) since: Timestamp,
    /// Last use that is recorded.
    pub(crate) used_at: Timestamp,
    /// Moment when it ends at the latest.
    pub(crate) until: Timestamp,
}

impl LoginSession {
    /// Tells whether it has not ended by itself.
    pub(crate) fn is_open(&self, now: Timestamp, idle: Duration) -> bool {
        now < self.until && now < self.used_at.plus(idle)
    }
}

/// Command about a user.
#[derive(Clone, Debug)]
pub(crate) enum UserAccountCommand {
    /// Give the user these rights.
    ChangeRole(AccessRole),
    /// Take a new password, by its hash.
    ChangePassword(Personal<LoginHash>),
    /// Shut the user out.
    Disable,
    /// Let the user in again.
    Enable,
    /// Begin a session.
    LogIn {
        /// Session to begin.
        session: LoginKey,
        /// Moment of the login.
        at: Timestamp,
        /// Moment when the session is to end at the latest.
        until: Timestamp,
    },
    /// Record that a session is used.
    UseSession {
        /// The session.
        session: LoginKey,
        /// Moment of the use.
        at: Timestamp,
    },
    /// End a session.
    LogOut(LoginKey),
    /// End all sessions.
    LogOutEverywhere,
    /// Have the user forgotten.
    Forget,
}

/// Refusal of a [`UserAccountCommand`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserAccountRefusal {
    /// Nobody has this id.
    #[error("there is no such user; take the id from /api/users")]
    Unknown,
    /// The user may not log in.
    #[error("the user is disabled; an admin may enable it")]
    Disabled,
    /// The user was forgotten.
    #[error("the user was forgotten; a person who comes back is a new user")]
    Forgotten,
}

impl UserAccountRefusal {
    /// Returns the word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown-user",
            Self::Disabled => "user-disabled",
            Self::Forgotten => "user-forgotten",
        }
    }
}

impl Aggregate for UserAccount {
    const CATEGORY: &'static str = "user";
    type Event = UserAccountEvent;
    type Command = UserAccountCommand;
    type Refusal = UserAccountRefusal;

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(500)
    }

    fn apply(&mut self, event: &UserAccountEvent) {
        match event {
            UserAccountEvent::Added { name, role, password } => {
                (self.name, self.role) = (Some(name.clone()), Some(*role));
                self.password = Some(password.clone());
            }
            UserAccountEvent::RoleChanged { role } => self.role = Some(*role),
            UserAccountEvent::PasswordChanged { password } => {
                self.password = Some(password.clone());
                self.sessions.clear();
            }
            UserAccountEvent::Disabled => {
                self.standing = UserStanding::Disabled;
                self.sessions.clear();
            }
            UserAccountEvent::Enabled => self.standing = UserStanding::Enabled,
            UserAccountEvent::LoggedIn { session, at, until } => {
                let (since, used_at, until) = (*at, *at, *until);
                self.sessions.insert(session.clone(), LoginSession { since, used_at, until });
                self.drop_least_used();
            }
            UserAccountEvent::SessionUsed { session, at } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.used_at = session.used_at.max(*at);
                }
            }
            UserAccountEvent::LoggedOut { session } => _ = self.sessions.remove(session),
            UserAccountEvent::LoggedOutEverywhere => self.sessions.clear(),
            UserAccountEvent::Forgotten => {
                self.standing = UserStanding::Forgotten;
                self.password = None;
                self.sessions.clear();
            }
        }
    }

    fn decide(
        &self,
        command: &UserAccountCommand,
    ) -> Result<Vec<UserAccountEvent>, UserAccountRefusal> {
        if self.name.is_none() {
            return Err(UserAccountRefusal::Unknown);
        }
        if self.standing == UserStanding::Forgotten {
            return match command {
                UserAccountCommand::Forget => Ok(Vec::new()),
                _ => Err(UserAccountRefusal::Forgotten),
            };
        }
        let is_disabled = self.standing == UserStanding::Disabled;
        Ok(match command {
            UserAccountCommand::ChangeRole(role) if self.role == Some(*role) => Vec::new(),
            UserAccountCommand::ChangeRole(role) => {
                vec![UserAccountEvent::RoleChanged { role: *role }]
            }
            UserAccountCommand::ChangePassword(password) => {
                vec![UserAccountEvent::PasswordChanged { password: password.clone() }]
            }
            UserAccountCommand::Disable if is_disabled => Vec::new(),
            UserAccountCommand::Disable => vec![UserAccountEvent::Disabled],
            UserAccountCommand::Enable if !is_disabled => Vec::new(),
            UserAccountCommand::Enable => vec![UserAccountEvent::Enabled],
            UserAccountCommand::LogIn { .. } if is_disabled => {
                return Err(UserAccountRefusal::Disabled);
            }
            UserAccountCommand::LogIn { session, at, until } => {
                let (session, at, until) = (session.clone(), *at, *until);
                vec![UserAccountEvent::LoggedIn { session, at, until }]
            }
            UserAccountCommand::UseSession { session, at } => match self.sessions.get(session) {
                Some(known) if known.used_at < *at => {
                    vec![UserAccountEvent::SessionUsed { session: session.clone(), at: *at }]
                }
                _ => Vec::new(),
            },
            UserAccountCommand::LogOut(session) if !self.sessions.contains_key(session) => {
                Vec::new()
            }
            UserAccountCommand::LogOut(session) => {
                vec![UserAccountEvent::LoggedOut { session: session.clone() }]
            }
            UserAccountCommand::LogOutEverywhere if self.sessions.is_empty() => Vec::new(),
            UserAccountCommand::LogOutEverywhere => vec![UserAccountEvent::LoggedOutEverywhere],
            UserAccountCommand::Forget => vec![UserAccountEvent::Forgotten],
        })
    }
}

impl UserAccount {
    /// Returns a session that is open, with the rights that it has now; `None` if it is over.
    pub(crate) fn session(
        &self,
        key: &LoginKey,
        now: Timestamp,
        idle: Duration,
    ) -> Option<(&LoginSession, AccessRole)> {
        let session = self.sessions.get(key).filter(|session| session.is_open(now, idle))?;
        self.role.map(|role| (session, role))
    }

    fn drop_least_used(&mut self) {
        while self.sessions.len() > SESSIONS_MAX {
            let least = self.sessions.iter().min_by_key(|(_, session)| session.used_at);
            let Some(key) = least.map(|(key, _)| key.clone()) else { return };
            self.sessions.remove(&key);
        }
    }
}
