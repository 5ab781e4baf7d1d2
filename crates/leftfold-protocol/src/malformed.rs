//! The error of a message that no client or server of this protocol sends, and the reading of the
//! parts that all messages share.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use leftfold_core::store::{Invalid, Label};
use uuid::Uuid;

/// Error of a message that cannot be understood; nothing was done with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A value is beyond a limit of the store, or empty but must not be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A part of the message is absent.
    #[error("{field} is absent, send it")]
    Absent {
        /// Name of the part.
        field: &'static str,
    },
    /// An id or a hash has the wrong length.
    #[error("{field} has {bytes} bytes, send {expected}")]
    Length {
        /// Name of the part.
        field: &'static str,
        /// Bytes that it has.
        bytes: usize,
        /// Bytes that it must have.
        expected: usize,
    },
    /// The bytes are not those of a message.
    #[error("the message cannot be decoded: {detail}")]
    Undecodable {
        /// The reason.
        detail: String,
    },
    /// A text is not UTF-8.
    #[error("{field} is not UTF-8, send a text")]
    NoText {
        /// Name of the part.
        field: &'static str,
    },
    /// A number stands for nothing in this version of the protocol.
    #[error("{field} cannot be {number}, send a value of this version of the protocol")]
    Number {
        /// Name of the part.
        field: &'static str,
        /// Number that it has.
        number: i64,
    },
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self::Undecodable { detail: error.to_string() }
    }
}

/// Reads a part that must be there.
pub(crate) fn some<T>(field: &'static str, part: Option<T>) -> Result<T, Malformed> {
    part.ok_or(Malformed::Absent { field })
}

/// Reads an id or a hash.
pub(crate) fn exactly<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed::Length { field, bytes: bytes.len(), expected: N })
}

pub(crate) fn uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, Malformed> {
    exactly(field, bytes).map(Uuid::from_bytes)
}

pub(crate) fn uuid_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// Reads a label that may be left out.
pub(crate) fn label(text: String) -> Result<Option<Label>, Malformed> {
    if text.is_empty() { Ok(None) } else { Ok(Some(Label::new(text)?)) }
}

/// Reads a text that shares the memory of its message.
pub(crate) fn text(field: &'static str, bytes: Bytes) -> Result<ByteString, Malformed> {
    ByteString::try_from(bytes).map_err(|_| Malformed::NoText { field })
}

/// The same for a label that may be left out.
pub(crate) fn shared_label(field: &'static str, bytes: Bytes) -> Result<Option<Label>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { Ok(Some(Label::new(text(field, bytes)?)?)) }
}

/// The bytes of a label, none if it is left out.
pub(crate) fn label_bytes(label: Option<&Label>) -> Bytes {
    label.map(|label| label.to_shared().into_bytes()).unwrap_or_default()
}

pub(crate) fn label_text(label: Option<&Label>) -> String {
    label.map(|label| label.as_str().to_owned()).unwrap_or_default()
}

/// Texts of other programs that are kept for good, in all.
const KEPT_MAX: usize = 1_024;
/// Bytes of one of them.
const KEPT_BYTES_MAX: usize = 256;

/// Texts of other programs that are kept for good.
struct KeptTexts(Mutex<BTreeSet<&'static str>>);

/// Returns the text as one that lives as long as the program: errors of the store name limits by
/// such texts. Each is kept once, and a bounded number of them: after that, or if it is too long,
/// it is called `otherwise`.
pub(crate) fn kept(text: &str, otherwise: &'static str) -> &'static str {
    static KEPT: KeptTexts = KeptTexts(Mutex::new(BTreeSet::new()));
    KEPT.keep(text, otherwise)
}

impl KeptTexts {
    fn keep(&self, text: &str, otherwise: &'static str) -> &'static str {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(text) {
            return known;
        }
        if kept.len() >= KEPT_MAX || text.len() > KEPT_BYTES_MAX {
            return otherwise;
        }
        let new: &'static str = Box::leak(text.to_owned().into_boxed_str());
        kept.insert(new);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_a_bounded_number_of_them() {
        let texts = KeptTexts(Mutex::new(BTreeSet::new()));
        let kept = |text: &str| texts.keep(text, "a value");
        assert!(std::ptr::eq(kept("the data of an event"), kept("the data of an event")));
        assert_eq!(kept(&"x".repeat(KEPT_BYTES_MAX + 1)), "a value");
        let all: BTreeSet<_> = (0..2 * KEPT_MAX).map(|number| kept(&number.to_string())).collect();
        assert!(all.len() <= KEPT_MAX && all.contains("a value"), "{}", all.len());
    }
}
