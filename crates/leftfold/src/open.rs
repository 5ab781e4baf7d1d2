//! Opening a store by its URL.

use std::path::PathBuf;

#[cfg(feature = "log")]
use leftfold_core::store::Timestamp;
use leftfold_core::store::{Kind, Store};

use crate::file_url::{self, FileUrlError, UrlOptions};

/// Opens a store.
///
/// - a path, or a `file:` URL: the embedded log in that directory, which is made if it does not
///   exist. A URL is read as RFC 8089 has it: percent signs are decoded, and a host other than
///   `localhost` is refused; a path that does not begin with a slash is taken from the working
///   directory. Behind a question mark a URL has options, several of them with `&` between them:
///   - `clock-behind=go-on` opens a log whose last record is more than a day ahead of the machine's
///     clock, because that was wrong once, and time goes on from there
///     ([`ClockBehind`](crate::log::ClockBehind)); `clock-behind=refuse` does not, which is the
///     default;
///   - `clock-doubtful=refuse` does not open a log when there is reason to doubt the clock, as one
///     that is years ahead of the last record ([`ClockDoubtful`](crate::log::ClockDoubtful));
///     `clock-doubtful=warn` warns, which is the default;
///   - `mode=read` follows a log that another process writes, or may write
///     ([`LogFollower`](crate::log::LogFollower)): it is read and subscribed to, and an append is
///     refused; `mode=write` is the default;
/// - `postgres://user:password@host:port/database?schema=NAME`, with the feature `postgres`: the
///   store in that schema of a PostgreSQL database, which is created if it does not exist, and not
///   with `&create=no`. A new one keeps data as JSON, or as bytes with `&payload=bytes`. With the
///   feature `postgres-tls` the connections are encrypted if the URL says `sslmode=require`, or
///   `sslrootcert=PATH` with the certificates to trust;
/// - `leftfold://host:port/name`, with the feature `remote`: the store of that name which a server
///   (`leftfold serve`) keeps; without a port it is 2113, without a name the store `default`.
///   With the feature `remote-tls` the connection is encrypted if the URL says `?tls=require`, or
///   `?tls-roots=PATH` with the certificates to trust;
/// - `memory:`: an empty store in memory, for tests.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().display();
/// let store = leftfold::open(&format!("file:{directory}/events?clock-doubtful=refuse")).await?;
/// store.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// What opening recovered, cut or rebuilt is reported through `tracing`. For more control, open a
/// [`Log`](crate::log::Log) with [`Options`](crate::log::Options) and hand it to [`Store::new`].
pub async fn open(url: &str) -> Result<Store, OpenError> {
    open_or_make(url, true).await
}

/// Opens a store that is there, by its URL as [`open`] takes it, and makes none.
///
/// # Errors
/// Those of [`open`], and one of [`Kind::NotFound`] if there is no store. One in PostgreSQL that an
/// older release made is not migrated, and so not opened.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// let url = format!("file:{}/events", place.path().display());
/// let refused = leftfold::open_existing(&url).await.unwrap_err();
/// assert_eq!(refused.kind(), leftfold::store::Kind::NotFound);
/// leftfold::open(&url).await?.close().await?;
/// leftfold::open_existing(&url).await?.close().await?;
/// # Ok(())
/// # }
/// ```
pub async fn open_existing(url: &str) -> Result<Store, OpenError> {
    open_or_make(url, false).await
}

/// Opens a store in PostgreSQL that is there, as what it is: for questions that only such a store
/// answers, as [`PostgresStore::verify`](leftfold_postgres::PostgresStore::verify). `None` if the
/// URL names a store of another kind.
///
/// # Errors
/// Those of [`open_existing`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), leftfold::OpenError> {
/// assert!(leftfold::open_existing_rows("file:./events").await?.is_none());
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "postgres")]
pub async fn open_existing_rows(
    url: &str,
) -> Result<Option<leftfold_postgres::PostgresStore>, OpenError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Postgres => open_rows(url, false).await.map(Some),
        _ => Ok(None),
    }
}

#[cfg(feature = "postgres")]
async fn open_rows(url: &str, make: bool) -> Result<leftfold_postgres::PostgresStore, OpenError> {
    let mut options = leftfold_postgres::PostgresStoreOptions::at(url)?;
    options.create &= make;
    Ok(leftfold_postgres::PostgresStore::open_with(options).await?)
}

async fn open_or_make(url: &str, make: bool) -> Result<Store, OpenError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(Store::memory()),
        StoreUrl::Log { path, options } => open_log(path, options, make).await,
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres => open_rows(url, make).await.map(Store::new),
        #[cfg(feature = "remote")]
        StoreUrl::Remote => {
            let mut options = leftfold_remote::RemoteOptions::at(url)?;
            options.create &= make;
            Ok(Store::new(leftfold_remote::RemoteStore::open_with(options).await?))
        }
    }
}

/// Returns the directory of the store that [`open`] opens by this URL; `None` if the store has
/// none, as one in memory or in a database. For what an application keeps beside its events, such
/// as read models. Nothing is opened, and the directory need not exist.
///
/// # Errors
/// Those of [`open`] that are faults of the URL: [`OpenError::UnknownScheme`],
/// [`OpenError::Memory`] and [`OpenError::FileUrl`].
///
/// ```
/// # fn main() -> Result<(), leftfold::OpenError> {
/// let of = |url| leftfold::directory_of(url);
/// assert_eq!(of("./data")?, Some("./data".into()));
/// assert_eq!(of("file://localhost/my%20data?clock-doubtful=refuse")?, Some("/my data".into()));
/// assert_eq!(of("memory:")?, None);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "log")]
pub fn directory_of(url: &str) -> Result<Option<PathBuf>, OpenError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(None),
        StoreUrl::Log { path, .. } => Ok(Some(path)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres => Ok(None),
        #[cfg(feature = "remote")]
        StoreUrl::Remote => Ok(None),
    }
}

/// The place of a store, as its URL names it.
enum StoreUrl {
    Memory,
    Log {
        path: PathBuf,
        options: UrlOptions,
    },
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "remote")]
    Remote,
}

impl StoreUrl {
    fn parse(url: &str) -> Result<Self, OpenError> {
        let of_path = || {
            let path = file_url::plain(url)?;
            Ok(Self::Log { path, options: UrlOptions::default() })
        };
        match url.split_once(':') {
            None => of_path(),
            Some((scheme, "")) if scheme.eq_ignore_ascii_case("memory") => Ok(Self::Memory),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("memory") => {
                Err(OpenError::Memory { rest: rest.to_owned() })
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                let (path, options) = file_url::path_and_options(rest)?;
                Ok(Self::Log { path, options })
            }
            #[cfg(feature = "postgres")]
            Some((scheme, _))
                if scheme.eq_ignore_ascii_case("postgres")
                    || scheme.eq_ignore_ascii_case("postgresql") =>
            {
                Ok(Self::Postgres)
            }
            #[cfg(feature = "remote")]
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("leftfold") => Ok(Self::Remote),
            // A scheme has no slash before its colon; a path may have any.
            Some((scheme, _)) if scheme.contains('/') || scheme.is_empty() => of_path(),
            Some((scheme, _)) => Err(OpenError::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

/// Error of opening a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No backend of this build has the scheme.
    #[error(
        "{scheme:?} names no kind of store of this build, use a path, file:PATH, memory:, postgres: with the feature postgres, or leftfold: with the feature remote"
    )]
    UnknownScheme {
        /// Text before the colon.
        scheme: String,
    },
    /// Something stands behind `memory:`.
    #[error(
        "a store in memory has no place and no options, but {rest:?} stands behind memory:, write memory: alone"
    )]
    Memory {
        /// Text behind `memory:`.
        rest: String,
    },
    /// The machine's clock is more than a day behind what the log recorded last: it is wrong now,
    /// or was wrong then.
    #[cfg(feature = "log")]
    #[error(
        "the clock says {now}, but the last record is of {recorded}; set the clock right, or if it was wrong then, open {url:?} until the clock has come there, and recorded time goes on from the last record"
    )]
    ClockBehind {
        /// Recorded time of the last group.
        recorded: Timestamp,
        /// Time of the clock.
        now: Timestamp,
        /// The URL that opens it all the same.
        url: String,
    },
    /// There is reason to doubt the machine's clock, and `clock-doubtful=refuse` was asked for.
    #[cfg(feature = "log")]
    #[error("{doubt}; set the clock right, or if it is right, open {url:?}")]
    ClockDoubtful {
        /// The reason.
        doubt: leftfold_log::ClockDoubt,
        /// The URL that opens it all the same.
        url: String,
    },
    /// The `file:` URL names no directory of this machine, or has unknown options.
    #[error(transparent)]
    FileUrl(#[from] FileUrlError),
    /// The embedded log cannot be opened.
    #[cfg(feature = "log")]
    #[error(transparent)]
    Log(leftfold_log::LogOpenError),
    /// The store in PostgreSQL cannot be opened.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] leftfold_postgres::PostgresStoreError),
    /// The store that a server keeps cannot be opened.
    #[cfg(feature = "remote")]
    #[error(transparent)]
    Remote(#[from] leftfold_remote::RemoteError),
}

impl OpenError {
    /// Returns the kind of the error, for the caller who opens the store.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownScheme { .. } | Self::Memory { .. } => Kind::Invalid,
            #[cfg(feature = "log")]
            Self::ClockBehind { .. } | Self::ClockDoubtful { .. } => Kind::Unavailable,
            Self::FileUrl(error) => error.kind(),
            #[cfg(feature = "log")]
            Self::Log(error) => error.kind(),
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => error.kind(),
            #[cfg(feature = "remote")]
            Self::Remote(error) => error.kind(),
        }
    }
}

#[cfg(feature = "log")]
async fn open_log(path: PathBuf, options: UrlOptions, make: bool) -> Result<Store, OpenError> {
    use leftfold_log::{ClockBehind, ClockDoubtful, Existing, Log, LogOpenError, Options};
    if options.follows == Some(true) {
        return follow_log(path).await;
    }
    let clock_behind =
        if options.goes_on_behind == Some(true) { ClockBehind::GoOn } else { ClockBehind::Refuse };
    let clock_doubtful = if options.refuses_doubtful == Some(true) {
        ClockDoubtful::Refuse
    } else {
        ClockDoubtful::Warn
    };
    let open = if make { Existing::OrCreate } else { Existing::Only };
    let log_options = Options { open, clock_behind, clock_doubtful, ..Options::default() };
    // Recovery reads and writes: not on a thread that others' futures run on.
    let directory = path.clone();
    let opening = tokio::task::spawn_blocking(move || Log::open(directory, log_options));
    let opened =
        opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // The remedy is one that anyone who gave a URL can take.
    let (log, recovery) = opened.map_err(|error| match error {
        LogOpenError::ClockBehind { recorded, now } => {
            let options = UrlOptions { goes_on_behind: Some(true), ..options };
            OpenError::ClockBehind {
                recorded,
                now,
                url: file_url::url_of(&path, &options.to_string()),
            }
        }
        LogOpenError::ClockDoubtful(doubt) => {
            let options = UrlOptions { refuses_doubtful: Some(false), ..options };
            OpenError::ClockDoubtful { doubt, url: file_url::url_of(&path, &options.to_string()) }
        }
        error => OpenError::Log(error),
    })?;
    let (store, head) = (recovery.identity.store, recovery.head.position);
    tracing::info!(%store, %head, replayed = recovery.replayed, elapsed = ?recovery.elapsed, "opened the log");
    if let Some(cut) = &recovery.cut {
        tracing::warn!(place = %cut.place, bytes = cut.bytes, "cut off what was never acknowledged");
    }
    if let Some(reason) = &recovery.index_rebuilt {
        tracing::warn!(%reason, "the index was rebuilt");
    }
    Ok(Store::new(log))
}

/// Follows the log of another process.
#[cfg(feature = "log")]
async fn follow_log(path: PathBuf) -> Result<Store, OpenError> {
    use leftfold_log::{LogFollower, Options};
    let opening = tokio::task::spawn_blocking(move || LogFollower::open(path, Options::default()));
    let opened =
        opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let (follower, recovery) = opened.map_err(OpenError::Log)?;
    let (store, head) = (recovery.identity.store, recovery.head.position);
    tracing::info!(%store, %head, elapsed = ?recovery.elapsed, "follows the log");
    Ok(Store::new(follower))
}

#[cfg(not(feature = "log"))]
async fn open_log(_: PathBuf, _: UrlOptions, _: bool) -> Result<Store, OpenError> {
    Err(OpenError::UnknownScheme { scheme: "file".to_owned() })
}
