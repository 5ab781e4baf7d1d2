//! A state that is copied only when it changes. Every command copies the state of its station, and
//! most of them leave this part as it is.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// State that its copies share until one of them changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shared<T>(Arc<T>);

impl<T: Clone> Shared<T> {
    /// Returns the state, to be changed.
    pub(crate) fn change(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|state| Self(Arc::new(state)))
    }
}
