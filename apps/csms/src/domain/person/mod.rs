//! Who may call, as decisions: users, who are people, and tokens, which programs have.
//!
//! - `role`: the rights of a caller
//! - `user`: the aggregate of a user, with the sessions that are open
//! - `naming`: the decision that no two users have one name
//! - `token`: the aggregate of a token

mod naming;
mod role;
#[cfg(test)]
mod tests;
mod token;
mod user;

pub(crate) use naming::{AddUser, NameTaken};
pub(crate) use role::AccessRole;
pub(crate) use token::{ApiToken, ApiTokenCommand, ApiTokenEvent, ApiTokenRefusal, ApiTokenTerms};
pub(crate) use user::{
    LoginHash, LoginKey, LoginName, UserAccount, UserAccountCommand, UserAccountEvent,
    UserAccountRefusal, UserStanding,
};
