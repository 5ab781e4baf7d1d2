//! Values of the configuration that may hold a password or a token, and what messages and logs show
//! of them.

use std::fmt;

/// A text that no message and no log shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Confidential(String);

impl Confidential {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for whoever needs it to connect or to compare.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Place of the events: a folder, or the URL of a store. A URL that may hold a password is hidden
/// where it is displayed or debugged.
#[derive(Clone, PartialEq, Eq)]
pub struct StorePlace(String);

impl StorePlace {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the folder or the URL as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shown(&self.0))
    }
}

impl fmt::Debug for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", shown(&self.0))
    }
}

/// Returns the text of a value for a message. A URL has a password before an `@`, or as an option
/// of that name.
pub(crate) fn shown(text: &str) -> &str {
    if text.contains('@') || text.to_ascii_lowercase().contains("password") {
        "[hidden, since it may hold a password]"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_with_a_password_is_hidden_and_another_is_shown() {
        for url in [
            "postgres://csms:geheim@localhost/csms",
            "postgres://localhost/csms?user=csms&password=geheim",
            "postgres://localhost/csms?PassWord=geheim",
        ] {
            let place = StorePlace::new(url);
            let said = format!("{place} {place:?} {:?}", Confidential::new(url));
            assert!(!said.contains("geheim") && said.contains("hidden"), "{said}");
            assert_eq!(place.as_str(), url);
        }
        let folder = StorePlace::new("./csms-data");
        assert_eq!(format!("{folder} {folder:?}"), "./csms-data \"./csms-data\"");
    }
}
