//! The value as it is kept: sealed, with the id of its key, and the tag by which it is found.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::secret::KeyId;
use crate::json::{KEY_DIGITS, SEALED};

/// A value of a person, sealed with the key of that person: a field of an event, a state, a
/// command, a row.
///
/// It is a text: `personal1.KEY.SEALED`, and `.TAG` behind it if it can be
/// [found](super::Subject::seal_findable). Two are equal if they are the same sealed text; the same
/// value that is sealed again is another text, with the same [tag](Personal::tag).
/// [`Keys::open`](super::Keys::open) has the value, for as long as its subject is not forgotten.
///
/// It can be written wherever serde goes. What it is sealed for is `T` alone by the type: a value
/// that was sealed as another type is an error when it is opened.
///
/// ```
/// use leftfold_core::fold::Event;
/// use leftfold_core::personal::{Keys, Opened, Personal};
/// use leftfold_core::store::{Position, Store, Tags};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum CustomerEvent {
///     Registered { email: Personal<String> },
/// }
///
/// impl Event for CustomerEvent {
///     const NAMESPACE: &'static str = "customer";
///
///     fn tags(&self) -> Tags {
///         let Self::Registered { email } = self;
///         Tags::none().with(email.tag())
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let keys = Keys::memory(&store).await?;
/// let ada = keys.subject("customer-1").await?;
/// let email = ada.seal_findable("email", &"ada@example.org".to_owned()).await?;
/// store.facts("customer", "1", &[CustomerEvent::Registered { email }]).record().await?;
///
/// let stored = store.follow::<CustomerEvent>(Position::START)?.next().await?;
/// assert!(!String::from_utf8_lossy(&stored.envelope.data).contains("ada@example.org"));
/// let CustomerEvent::Registered { email } = stored.event;
/// assert_eq!(keys.open(&email).await?, Opened::Known("ada@example.org".to_owned()));
/// # Ok(()) }
/// ```
pub struct Personal<T> {
    text: Arc<str>,
    key: KeyId,
    /// Behind the ciphertext and its dot.
    tag_at: usize,
    of: PhantomData<fn() -> T>,
}

/// A sealed value, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<T> {
    /// The value.
    Known(T),
    /// Its subject was forgotten, and with it the value.
    Forgotten,
}

impl<T> Opened<T> {
    /// The value; `None` if it was forgotten.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Forgotten => None,
        }
    }
}

/// A text that is no sealed value. It is not shown, since it may be plain personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text is not a sealed value, which begins with \"personal1.\" and the id of its key; seal plain values by Subject::seal"
)]
pub struct NotSealed;

impl<T> Personal<T> {
    pub(super) fn new(key: KeyId, sealed: &[u8], tag: &str) -> Self {
        let mut text = format!("{SEALED}{key}.");
        BASE64_URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
        let tag_at = if tag.is_empty() { text.len() } else { text.len() + 1 };
        if !tag.is_empty() {
            text.push('.');
            text.push_str(tag);
        }
        Self { text: text.into(), key, tag_at, of: PhantomData }
    }

    /// The id of the key that it is sealed with.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The tag by which an event with this value is found: `NAME:TOKEN`, the same for everything
    /// that is the same value and was sealed under the same name. It says nothing of the value.
    ///
    /// Empty if the value was not sealed to be found; a store refuses events with an empty tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.text[self.tag_at..]
    }

    /// The sealed text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The nonce and the ciphertext; `None` if they are damaged.
    pub(super) fn sealed(&self) -> Option<Vec<u8>> {
        let end = if self.tag_at == self.text.len() { self.tag_at } else { self.tag_at - 1 };
        BASE64_URL_SAFE_NO_PAD.decode(&self.text[SEALED.len() + KEY_DIGITS + 1..end]).ok()
    }
}

impl<T> FromStr for Personal<T> {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        let (key, sealed) =
            text.strip_prefix(SEALED).and_then(|rest| rest.split_once('.')).ok_or(NotSealed)?;
        let key = key.parse().map_err(|_| NotSealed)?;
        let tag_at = match sealed.split_once('.') {
            None => text.len(),
            // A text that ends with the dot would be another one when it is written again.
            Some((_, "")) => return Err(NotSealed),
            Some((_, tag)) => text.len() - tag.len(),
        };
        Ok(Self { text: text.into(), key, tag_at, of: PhantomData })
    }
}

impl<T> Clone for Personal<T> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), ..*self }
    }
}

impl<T> PartialEq for Personal<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Personal<T> {}

impl<T> Hash for Personal<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.text.hash(hasher);
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal(sealed with {})", self.key)
    }
}

impl<T> fmt::Display for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<fn() -> T>);
        impl<T> serde::de::Visitor<'_> for Text<T> {
            type Value = Personal<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sealed value")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Personal<T>, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_value_and_what_is_none_is_refused_without_being_shown() {
        let key = KeyId([0xab; 16]);
        for tag in ["", "email:0a", "a.b.c:x"] {
            let sealed = Personal::<String>::new(key, b"some bytes", tag);
            let back: Personal<String> =
                serde_json::from_str(&serde_json::to_string(&sealed).unwrap()).unwrap();
            assert_eq!((&back, back.tag(), back.key()), (&sealed, tag, key));
            assert_eq!(back.sealed().unwrap(), b"some bytes");
            assert!(!format!("{sealed:?}").contains("c29tZS"), "{sealed:?}");
        }
        let plain = [
            "\"Ada\"",
            "7",
            "\"personal1.ab.x\"",
            "{\"name\":\"Ada\"}",
            "\"personal1.\"",
            "[\"Ada\"]",
        ];
        for plain in plain {
            let error = serde_json::from_str::<Personal<String>>(plain).unwrap_err().to_string();
            assert!(!error.contains("Ada") && error.contains("sealed value"), "{error}");
        }
        let dot = format!("{}.", Personal::<String>::new(key, b"x", ""));
        assert_eq!(dot.parse::<Personal<String>>(), Err(NotSealed));
    }
}
