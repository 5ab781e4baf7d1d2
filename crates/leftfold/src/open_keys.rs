//! Opening the keys of a store's personal data.

use std::path::PathBuf;

use leftfold_core::personal::{Keys, KeysError};
use leftfold_core::store::{Kind, Store};

/// Opens the keys of a store's personal data, in a directory of their own, which is made if it does
/// not exist.
///
/// One process has it open at a time. It is to be backed up apart from the store: a copy of both
/// from before a forgetting still has the forgotten data, until the keys are opened with a store
/// that says so. The same directory may serve several stores, by [`Keys::of`] with an
/// [`Arc`](std::sync::Arc) of one [`KeyFile`](crate::log::KeyFile).
///
/// ```
/// use leftfold::personal::Opened;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().display();
/// let store = leftfold::open(&format!("{directory}/events")).await?;
/// let keys = leftfold::open_keys(&store, format!("{directory}/keys")).await?;
/// let name = keys.subject("customer-1").await?.seal(&"Ada".to_owned())?;
/// keys.forget("customer-1").await?;
/// assert_eq!(keys.open(&name).await?, Opened::Forgotten);
/// store.close().await?;
/// # Ok(()) }
/// ```
pub async fn open_keys(store: &Store, path: impl Into<PathBuf>) -> Result<Keys, OpenKeysError> {
    let path = path.into();
    let opening = tokio::task::spawn_blocking(move || leftfold_log::KeyFile::open(path));
    let key_file =
        opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(Keys::of(store, key_file).await?)
}

/// Error of opening the keys of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenKeysError {
    /// The key file cannot be opened.
    #[error(transparent)]
    File(#[from] leftfold_log::KeyFileError),
    /// The keys are not those of the store, or one of the two does not do its part.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl OpenKeysError {
    /// Returns the kind of the error, for the caller who opens the keys.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Keys(error) => error.kind(),
        }
    }
}
