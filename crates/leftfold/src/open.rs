//! Opening a store by its URL.

use std::path::PathBuf;

#[cfg(feature = "log")]
use leftfold_core::personal::{Keys, KeysError};
use leftfold_core::store::Store;

use crate::file_url::{self, FileUrlError};

/// Opens a store.
///
/// - a path, or a `file:` URL: the embedded log in that directory, which is made if it does not exist. A URL is read as
///   RFC 8089 has it: percent signs are decoded, and a host other than `localhost` is refused; a path that does not
///   begin with a slash is taken from the working directory;
/// - `memory:`: an empty store in memory, for tests.
///
/// What opening recovered, cut or rebuilt is told through `tracing`. For more say, open a
/// [`Log`](crate::log::Log) with [`Options`](crate::log::Options) and hand it to [`Store::new`].
pub async fn open(url: &str) -> Result<Store, OpenError> {
    match url.split_once(':') {
        None => open_log(url.into()).await,
        Some((scheme, "")) if scheme.eq_ignore_ascii_case("memory") => Ok(Store::memory()),
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => open_log(file_url::path(path)?).await,
        // A scheme has no slash before its colon; a path may have any.
        Some((scheme, _)) if scheme.contains('/') || scheme.is_empty() => open_log(url.into()).await,
        Some((scheme, _)) => Err(OpenError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No backend of this build has the scheme.
    #[error("{scheme:?} names no kind of store of this build, use a path, file:PATH or memory:")]
    UnknownScheme {
        /// What stood before the colon.
        scheme: String,
    },
    /// The `file:` URL names no directory of this machine.
    #[error(transparent)]
    FileUrl(#[from] FileUrlError),
    /// The embedded log cannot be opened.
    #[cfg(feature = "log")]
    #[error(transparent)]
    Log(#[from] leftfold_log::OpenError),
}

/// Opens the keys of a store's personal data, in a directory of their own, which is made if it does not exist.
///
/// One process has it open at a time. It is to be backed up apart from the store: whoever brings back both from before a
/// forgetting has what was forgotten, until the keys are opened with a store that says so. The same directory may serve
/// several stores, by [`Keys::of`] with an [`Arc`](std::sync::Arc) of one [`KeyFile`](crate::log::KeyFile).
#[cfg(feature = "log")]
pub async fn open_keys(store: &Store, path: impl Into<PathBuf>) -> Result<Keys, OpenKeysError> {
    let path = path.into();
    let opening = tokio::task::spawn_blocking(move || leftfold_log::KeyFile::open(path));
    let key_file = opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(Keys::of(store, key_file).await?)
}

/// Error of opening the keys of a store.
#[cfg(feature = "log")]
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

#[cfg(feature = "log")]
async fn open_log(path: PathBuf) -> Result<Store, OpenError> {
    // Recovery reads and writes: not on a thread that others' futures run on.
    let opening = tokio::task::spawn_blocking(move || leftfold_log::Log::open(path, leftfold_log::Options::default()));
    let opened = opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let (log, recovery) = opened?;
    let (store, head) = (recovery.identity.store, recovery.head.position);
    tracing::info!(%store, %head, replayed = recovery.replayed, elapsed = ?recovery.elapsed, "opened the log");
    if let Some(cut) = &recovery.cut {
        tracing::warn!(place = %cut.place, bytes = cut.bytes, "cut off what was never acknowledged");
    }
    if let Some(reason) = &recovery.index_rebuilt {
        tracing::warn!(%reason, "the index was made anew");
    }
    Ok(Store::new(log))
}

#[cfg(not(feature = "log"))]
async fn open_log(_: PathBuf) -> Result<Store, OpenError> {
    Err(OpenError::UnknownScheme { scheme: "file".to_owned() })
}
