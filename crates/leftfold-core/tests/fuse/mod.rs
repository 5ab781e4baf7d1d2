//! A value whose serde code panics.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text whose code panics at some texts: at "write" when it is written, at "read" when it is
/// read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fuse(pub(crate) String);

pub(crate) fn fuse(text: &str) -> Fuse {
    Fuse(text.to_owned())
}

impl Serialize for Fuse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, "write", "the pen broke");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert_ne!(text, "read", "the glasses broke");
        Ok(Self(text))
    }
}
