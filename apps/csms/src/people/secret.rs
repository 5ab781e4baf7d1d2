//! Random texts that prove something, and what is kept of them: hashes. A secret has 256 random
//! bits, so a plain hash of it can be neither guessed nor looked up.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use leftfold::personal::{Randomless, Secret};
use uuid::Uuid;

/// Context of the key that makes the token of a session's pages.
const CSRF_CONTEXT: &str = "csms 2026-12-01 token of the pages of a session";

/// Draws a secret, as text of 43 characters.
pub(crate) fn random_text() -> Result<String, Randomless> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(Secret::random()?.0))
}

/// Draws an id, which tells nothing.
pub(super) fn random_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Tells whether a text can be an id that was drawn.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the hash of a secret, which is what events have of it.
pub(super) fn hash_of(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

/// Returns the text that pages of a session send with each write. Another site can make a browser
/// send the session's cookie, and can read neither the cookie nor this.
pub(crate) fn csrf_token(session_secret: &str) -> String {
    let digest = blake3::derive_key(CSRF_CONTEXT, session_secret.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// Tells whether a text is the one of the session; in the same time wherever they differ.
pub(crate) fn is_csrf_token(text: &str, session_secret: &str) -> bool {
    hash_of(text) == hash_of(&csrf_token(session_secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_the_token_of_pages_tells_neither_the_secret_nor_another_session() {
        let (one, two) = (random_text().unwrap(), random_text().unwrap());
        assert!(one != two && one.len() == 43, "{one} {two}");
        let token = csrf_token(&one);
        assert!(is_csrf_token(&token, &one) && !is_csrf_token(&token, &two));
        assert!(!is_csrf_token("", &one) && !token.contains(&one));
        assert!(is_id(&random_id()) && !is_id("x") && !is_id(&"g".repeat(32)));
    }
}
