//! The identity of a station: the last part of the URL that it connects to.

/// The longest identity, in bytes. OCPP 1.6 allows 20 characters, 2.0.1 allows 48.
const IDENTITY_BYTES_MAX: usize = 128;

/// Tells whether a text can be a station's identity.
#[must_use]
pub(crate) fn is_identity(text: &str) -> bool {
    !text.is_empty() && text.len() <= IDENTITY_BYTES_MAX && !text.chars().any(char::is_control)
}
