//! Texts of users' code that are recorded: reasons, errors, names of people.

/// Bytes of a reason that are recorded.
const REASON_BYTES_MAX: usize = 4_096;

/// Cuts a reason to its limit: a text of users' code may be of any length.
pub(in crate::runtime) fn shortened(mut reason: String) -> String {
    // The start of a text is a boundary.
    let end =
        (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}
