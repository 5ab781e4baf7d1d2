//! Opening a store by its URL.

use leftfold_core::store::Store;

/// Opens a store.
///
/// - a path, or `file:` and a path: the embedded log in that directory, which is made where it is not there;
/// - `memory:`: an empty store in memory, for tests.
///
/// What opening recovered, cut or rebuilt is told through `tracing`. For more say, open a
/// [`Log`](crate::log::Log) with [`Options`](crate::log::Options) and hand it to [`Store::new`].
pub async fn open(url: &str) -> Result<Store, OpenError> {
    if url == "memory:" {
        return Ok(Store::memory());
    }
    match url.split_once(':') {
        None => open_log(url).await,
        Some(("file", path)) => open_log(path.strip_prefix("//").unwrap_or(path)).await,
        // A scheme has no slash before its colon; a path may have any.
        Some((scheme, _)) if scheme.contains('/') || scheme.is_empty() => open_log(url).await,
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
    /// The embedded log cannot be opened.
    #[cfg(feature = "log")]
    #[error(transparent)]
    Log(#[from] leftfold_log::OpenError),
}

#[cfg(feature = "log")]
async fn open_log(path: &str) -> Result<Store, OpenError> {
    let path = path.to_owned();
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
async fn open_log(_: &str) -> Result<Store, OpenError> {
    Err(OpenError::UnknownScheme { scheme: "file".to_owned() })
}
