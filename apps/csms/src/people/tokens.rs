//! Tokens of programs: `csms_ID_SECRET`. The text is shown once, when it is drawn; the events have
//! the hash of its secret.

use leftfold::prelude::{Position, Query, Timestamp};
use leftfold::store::{EventType, Read};

use super::secret::{hash_of, is_id, random_id, random_text};
use super::{Act, People, PeopleError};
use crate::domain::person::{AccessRole, ApiToken, ApiTokenCommand, ApiTokenTerms};

/// Beginning of a token, by which leaked ones are found.
const PREFIX: &str = "csms_";
/// Days that a token lasts if nothing is said, and at most.
pub(crate) const TOKEN_DAYS: (u32, u32) = (90, 730);

/// A token that was drawn.
pub(crate) struct CreatedToken {
    /// Id of the token.
    pub(crate) id: String,
    /// The token, which nobody is shown again.
    pub(crate) text: String,
    /// Moment from which on it admits nobody.
    pub(crate) expires_at: Timestamp,
}

/// A token in a list.
#[derive(Debug)]
pub(crate) struct TokenRow {
    /// Id of the token.
    pub(crate) id: String,
    /// Position of its creation.
    pub(crate) position: Position,
    /// Moment of its creation.
    pub(crate) created_at: Timestamp,
    /// State of the token.
    pub(crate) token: ApiToken,
}

impl People {
    /// Draws a token for a program.
    pub(crate) async fn create_token(
        &self,
        name: &str,
        role: AccessRole,
        expires_at: Timestamp,
        act: &Act,
    ) -> Result<CreatedToken, PeopleError> {
        let (id, secret) = (random_id(), random_text()?);
        let (name, hash) = (name.to_owned(), hash_of(&secret).to_hex().to_string());
        let create = ApiTokenCommand::Create(ApiTokenTerms { name, role, hash, expires_at });
        act.on(self.tokens.command(&id, create)).execute().await?;
        let text = format!("{PREFIX}{id}_{secret}");
        Ok(CreatedToken { id, text, expires_at })
    }

    /// Revokes a token: from now on it admits nobody.
    pub(crate) async fn revoke_token(&self, id: &str, act: &Act) -> Result<(), PeopleError> {
        act.on(self.tokens.command(id, ApiTokenCommand::Revoke)).execute().await?;
        Ok(())
    }

    /// Returns the id and the rights of a token; `None` if it admits nobody.
    pub(crate) async fn token(
        &self,
        text: &str,
    ) -> Result<Option<(String, AccessRole)>, PeopleError> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((id, secret)) = parts.filter(|(id, _)| is_id(id)) else { return Ok(None) };
        let token = self.tokens.load(id).await?.state;
        let role = token.admits(&hash_of(secret), Timestamp::now());
        Ok(role.map(|role| (id.to_owned(), role)))
    }

    /// Returns the rights that a token has now; `None` if it admits nobody any more.
    pub(crate) async fn rights_of_token(
        &self,
        id: &str,
    ) -> Result<Option<AccessRole>, PeopleError> {
        let token = self.tokens.load(id).await?.state;
        let is_valid =
            |terms: &&ApiTokenTerms| !token.revoked && Timestamp::now() < terms.expires_at;
        Ok(token.terms.as_ref().filter(is_valid).map(|terms| terms.role))
    }

    /// Lists tokens, the oldest first, after a position.
    pub(crate) async fn tokens(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<TokenRow>, PeopleError> {
        let created = Query::types([EventType::new("api_token.Created")?]);
        let from = Position(after.0.saturating_add(1));
        let mut events = self.store.read(Read::matching(created, from));
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(event) = events.next().await?
        {
            let Some(stream) = &event.stream else { continue };
            let id = stream.name.id().to_owned();
            let token = self.tokens.load(&id).await?.state;
            let (position, created_at) = (event.position, event.recorded_at);
            rows.push(TokenRow { id, position, created_at, token });
        }
        Ok(rows)
    }

    /// Returns the name of the program that has a token.
    pub(crate) async fn token_name(&self, id: &str) -> Result<Option<String>, PeopleError> {
        Ok(self.tokens.load(id).await?.state.terms.map(|terms| terms.name))
    }
}
