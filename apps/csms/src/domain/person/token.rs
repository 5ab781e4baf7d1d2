//! A token: what a program calls with.

use leftfold::prelude::{Aggregate, Event, Timestamp};
use serde::{Deserialize, Serialize};

use super::AccessRole;

/// Event of a token; in the stream `api_token-{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ApiTokenEvent {
    /// An admin created the token.
    Created {
        /// Name of the program that is to have it.
        name: String,
        /// Rights of its callers.
        role: AccessRole,
        /// Hash of its secret, as hexadecimal digits. The secret is random, so nobody finds it by
        /// its hash.
        hash: String,
        /// Moment from which on it admits nobody.
        expires_at: Timestamp,
    },
    /// An admin revoked the token.
    Revoked,
}

impl Event for ApiTokenEvent {
    const NAMESPACE: &'static str = "api_token";
}

/// A token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApiToken {
    /// Terms of the token; `None` before it was created.
    pub(crate) terms: Option<ApiTokenTerms>,
    /// True if it was revoked.
    pub(crate) revoked: bool,
}

/// Terms of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApiTokenTerms {
    /// Name of the program that has it.
    pub(crate) name: String,
    /// Rights of its callers.
    pub(crate) role: AccessRole,
    /// Hash of its secret.
    pub(crate) hash: String,
    /// Moment from which on it admits nobody.
    pub(crate) expires_at: Timestamp,
}

/// Command about a token.
#[derive(Clone, Debug)]
pub(crate) enum ApiTokenCommand {
    /// Create it.
    Create(ApiTokenTerms),
    /// Revoke it.
    Revoke,
}

/// Refusal of an [`ApiTokenCommand`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiTokenRefusal {
    /// No token has this id.
    #[error("there is no such token; take the id from /api/tokens")]
    Unknown,
    /// A token has this id already.
    #[error("there is such a token; create another one")]
    Exists,
}

impl Aggregate for ApiToken {
    const CATEGORY: &'static str = "api_token";
    type Event = ApiTokenEvent;
    type Command = ApiTokenCommand;
    type Refusal = ApiTokenRefusal;

    fn apply(&mut self, event: &ApiTokenEvent) {
        match event {
            ApiTokenEvent::Created { name, role, hash, expires_at } => {
                let (name, hash) = (name.clone(), hash.clone());
                let terms = ApiTokenTerms { name, role: *role, hash, expires_at: *expires_at };
                self.terms = Some(terms);
            }
            ApiTokenEvent::Revoked => self.revoked = true,
        }
    }

    fn decide(&self, command: &ApiTokenCommand) -> Result<Vec<ApiTokenEvent>, ApiTokenRefusal> {
        match (command, &self.terms) {
            (ApiTokenCommand::Create(_), Some(_)) => Err(ApiTokenRefusal::Exists),
            (ApiTokenCommand::Create(terms), None) => {
                let ApiTokenTerms { name, role, hash, expires_at } = terms.clone();
                Ok(vec![ApiTokenEvent::Created { name, role, hash, expires_at }])
            }
            (ApiTokenCommand::Revoke, None) => Err(ApiTokenRefusal::Unknown),
            (ApiTokenCommand::Revoke, Some(_)) if self.revoked => Ok(Vec::new()),
            (ApiTokenCommand::Revoke, Some(_)) => Ok(vec![ApiTokenEvent::Revoked]),
        }
    }
}

impl ApiToken {
    /// Returns the rights of a caller with a secret of this hash; `None` if it admits nobody.
    pub(crate) fn admits(&self, hash: &blake3::Hash, now: Timestamp) -> Option<AccessRole> {
        let terms = self.terms.as_ref().filter(|terms| !self.revoked && now < terms.expires_at)?;
        // Compared in the same time wherever they differ.
        let is_right = blake3::Hash::from_hex(&terms.hash).is_ok_and(|known| known == *hash);
        is_right.then_some(terms.role)
    }
}
