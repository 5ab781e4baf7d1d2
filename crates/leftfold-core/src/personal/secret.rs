//! The words of keys: a key's id, its secret, and the token and the lookup of a value; and the
//! random bytes that secrets and tokens are drawn from.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::Generate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use crate::store::Label;

/// The id of a key, made from the key itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

/// A secret of 32 random bytes. It does not show itself, and its memory is overwritten when it is
/// dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// The part of a tag that stands for a value: random, so that it tells nothing without the key
/// store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

/// A value as a key store looks for it: a hash of it with the key store's secret, and the name that
/// it is found under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// Name that the value is found under.
    pub name: Label,
    /// The hash of name and value.
    pub hash: [u8; 16],
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    /// Draws a secret from the system's source of randomness.
    pub fn random() -> Result<Self, Randomless> {
        random().map(Self)
    }
}

impl Token {
    /// Draws a token.
    pub fn random() -> Result<Self, Randomless> {
        random().map(Self)
    }
}

/// The system gave no random bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes, try again: {0}")]
pub struct Randomless(String);

/// Reads `N` bytes from the system's source of randomness.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Randomless> {
    <[u8; N]>::try_generate().map_err(|error| Randomless(error.to_string()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id has 32 digits of 0 to 9 and a to f")]
pub struct NotAKeyId;

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let lower = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).map_err(|_| NotAKeyId)?;
        if lower && text.len() == crate::json::KEY_DIGITS {
            Ok(Self(number.to_be_bytes()))
        } else {
            Err(NotAKeyId)
        }
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
