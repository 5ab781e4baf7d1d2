//! The running servers that share a store.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Id of a running server, drawn at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ServerId(pub(crate) Uuid);

impl ServerId {
    /// Draws a new one.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}
