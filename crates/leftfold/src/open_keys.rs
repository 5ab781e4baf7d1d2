//! Opening the keys of a store's personal data.

use std::path::PathBuf;

use leftfold_core::personal::{Keys, KeysError};
use leftfold_core::store::{Kind, Store};

/// Opens the keys of a store's personal data, in a place of their own.
///
/// - a path: a directory, with the feature `log`, which is made if it does not exist. One process
///   has it open at a time. The same directory may serve several stores, by [`Keys::of`] with an
///   [`Arc`](std::sync::Arc) of one `KeyFile` of that directory;
/// - `postgres://user:password@host:port/database?schema=NAME`, with the feature `postgres`: that
///   schema of a PostgreSQL database, `leftfold_keys` if it is left out, which is created if it
///   does not exist. Any number of processes have it open, and several stores may use it.
///   Encryption is asked for as in the URL of [`open`](crate::open).
///
/// It is to be backed up apart from the store: a copy of both from before a forgetting still has
/// the forgotten data, until the keys are opened with a store that says so.
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
pub async fn open_keys(store: &Store, place: impl Into<PathBuf>) -> Result<Keys, OpenKeysError> {
    let place = place.into();
    match place.to_str().filter(|place| is_postgres(place)) {
        Some(url) => in_database(store, url).await,
        None => in_directory(store, place).await,
    }
}

/// Tells whether a place is the URL of a database.
fn is_postgres(place: &str) -> bool {
    let scheme = place.split_once("://").map_or("", |(scheme, _)| scheme);
    ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

#[cfg(feature = "log")]
async fn in_directory(store: &Store, path: PathBuf) -> Result<Keys, OpenKeysError> {
    let opening = tokio::task::spawn_blocking(move || leftfold_log::KeyFile::open(path));
    let key_file =
        opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(Keys::of(store, key_file).await?)
}

#[cfg(not(feature = "log"))]
async fn in_directory(_: &Store, _: PathBuf) -> Result<Keys, OpenKeysError> {
    Err(OpenKeysError::UnknownPlace { kind: "a path", feature: "log" })
}

#[cfg(feature = "postgres")]
async fn in_database(store: &Store, url: &str) -> Result<Keys, OpenKeysError> {
    let key_store = leftfold_postgres::PostgresKeys::open(url).await?;
    Ok(Keys::of(store, key_store).await?)
}

#[cfg(not(feature = "postgres"))]
async fn in_database(_: &Store, _: &str) -> Result<Keys, OpenKeysError> {
    Err(OpenKeysError::UnknownPlace { kind: "a database", feature: "postgres" })
}

/// Error of opening the keys of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenKeysError {
    /// This build keeps no keys in such a place.
    #[error("this build cannot keep keys in {kind}; build leftfold with the feature {feature}")]
    UnknownPlace {
        /// Kind of the place.
        kind: &'static str,
        /// Feature that has it.
        feature: &'static str,
    },
    /// The key file cannot be opened.
    #[cfg(feature = "log")]
    #[error(transparent)]
    File(#[from] leftfold_log::KeyFileError),
    /// The key store in PostgreSQL cannot be opened.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] leftfold_postgres::PostgresKeysError),
    /// The keys are not those of the store, or one of the two does not do its part.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl OpenKeysError {
    /// Returns the kind of the error, for the caller who opens the keys.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownPlace { .. } => Kind::Invalid,
            #[cfg(feature = "log")]
            Self::File(error) => error.kind(),
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => error.kind(),
            Self::Keys(error) => error.kind(),
        }
    }
}
