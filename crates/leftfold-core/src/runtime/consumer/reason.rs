//! Texts of users' code that are recorded: reasons, errors, names of people.

/// Bytes of a reason that are recorded.
const REASON_BYTES_MAX: usize = 4_096;

/// Cuts a reason to its limit: a text of users' code may be of any length.
pub(in crate::runtime) fn shortened(reason: String) -> String {
    shortened_to(REASON_BYTES_MAX, reason)
}

/// Cuts a text to a limit in bytes, between two characters.
pub(in crate::runtime) fn shortened_to(bytes_max: usize, mut text: String) -> String {
    // The start of a text is a boundary.
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}
