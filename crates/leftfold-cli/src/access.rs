//! Opening the store that a command names: a directory, or any other URL.

use std::path::{Path, PathBuf};

use clap::Args;
use leftfold::log::{LogFollower, LogOpenError, Options};
use leftfold::store::Store;

use crate::failure::CliFailure;
use crate::import_times::ImportTimes;

/// The store that a command works on.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgument {
    /// A directory, file:PATH, leftfold://host:2113/NAME or postgres:URL
    #[arg(value_name = "STORE")]
    pub(crate) url: String,
}

impl StoreArgument {
    /// Opens the store to be read. Nothing is created or migrated, and a log that a program writes
    /// meanwhile is followed beside it.
    pub(crate) async fn open_to_read(&self) -> Result<Store, CliFailure> {
        match self.directory()? {
            Some(path) => {
                let (follower, _) = LogFollower::open(&path, Options::default())
                    .map_err(|error| missing_or(&path, &error))?;
                Ok(Store::new(follower))
            }
            None => leftfold::open_existing(&self.url).await.map_err(CliFailure::of),
        }
    }

    /// Opens the store to be written; a directory or a schema without one is
    /// refused, and nothing is migrated.
    pub(crate) async fn open_to_write(&self) -> Result<Store, CliFailure> {
        match self.directory_there()? {
            Some(path) => self.open_directory(&path).await,
            None => leftfold::open_existing(&self.url).await.map_err(CliFailure::of),
        }
    }

    /// Returns the name of whoever calls: the one that is given, or else that of the user in the
    /// URL.
    pub(crate) fn person(&self, given: Option<&str>) -> Result<String, CliFailure> {
        let user = || shown(&self.url).split_once("://")?.1.split_once('@').map(|at| at.0.into());
        given.map(ToOwned::to_owned).or_else(user).ok_or_else(|| {
            CliFailure::Usage("say who asks: --as NAME, for those who read it later".to_owned())
        })
    }

    /// Opens the store to be written, and makes it if it is not there.
    pub(crate) async fn open_or_create(&self) -> Result<Store, CliFailure> {
        match self.directory()? {
            Some(path) => self.open_directory(&path).await,
            None => leftfold::open(&self.url).await.map_err(CliFailure::of),
        }
    }

    /// Opens the store to import into it, and makes it if it is not there.
    pub(crate) async fn open_to_import(&self) -> Result<(Store, ImportTimes), CliFailure> {
        match self.directory()? {
            // Options of a URL say how its log is opened.
            Some(path) if !self.url.contains('?') => {
                ImportTimes::open(&path).map_err(|error| in_use_or(&path, &error))
            }
            _ => Ok((self.open_or_create().await?, ImportTimes::of_store())),
        }
    }

    /// Returns the directory of the store; `None` if it is elsewhere.
    pub(crate) fn directory(&self) -> Result<Option<PathBuf>, CliFailure> {
        if self.url.trim().eq_ignore_ascii_case("memory:") {
            let nothing = "a store in memory is empty, and gone with the command; name another one";
            return Err(CliFailure::Usage(nothing.to_owned()));
        }
        leftfold::directory_of(&self.url).map_err(|error| CliFailure::Usage(error.to_string()))
    }

    /// Tells whether a server keeps the store.
    pub(crate) fn is_address(&self) -> bool {
        let scheme = self.url.trim().split_once(':').map_or("", |(scheme, _)| scheme);
        scheme.eq_ignore_ascii_case("leftfold")
    }

    /// Returns the directory of a store that is there; `None` if it is elsewhere.
    pub(crate) fn directory_there(&self) -> Result<Option<PathBuf>, CliFailure> {
        match self.directory()? {
            Some(path) if !has_log(&path) => Err(no_store(&path)),
            directory => Ok(directory),
        }
    }

    /// Returns the directory of the store, for a command that works on files alone.
    pub(crate) fn own_directory(&self, instead: &str) -> Result<PathBuf, CliFailure> {
        self.directory()?.ok_or_else(|| {
            CliFailure::Usage(format!("{} is no directory; {instead}", shown(&self.url)))
        })
    }

    async fn open_directory(&self, path: &Path) -> Result<Store, CliFailure> {
        leftfold::open(&self.url).await.map_err(|error| match error {
            leftfold::OpenError::Log(error) => in_use_or(path, &error),
            error => CliFailure::of(error),
        })
    }
}

/// Tells whether a log is in the directory, or the beginning of one.
fn has_log(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".seg") && !name.starts_with("backup-")
        })
    })
}

fn no_store(path: &Path) -> CliFailure {
    let hint = "give the directory of one, or an address as leftfold://host:2113";
    CliFailure::Failed(format!("there is no store in {}; {hint}", path.display()))
}

fn missing_or(path: &Path, error: &LogOpenError) -> CliFailure {
    match error {
        LogOpenError::Missing { .. } => no_store(path),
        error => CliFailure::of(error),
    }
}

pub(crate) fn in_use_or(path: &Path, error: &LogOpenError) -> CliFailure {
    match error {
        LogOpenError::InUse { .. } => CliFailure::Failed(format!(
            "another program writes the store in {}; stop it, or give the address of its server",
            path.display()
        )),
        error => CliFailure::of(error),
    }
}

/// A URL without the password in it.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority.to_owned(), |(user, host)| {
        format!("{}@{host}", user.split(':').next().unwrap_or(user))
    });
    let path = match path.split_once('?') {
        Some((path, options)) if options.contains("password") => format!("{path}?…"),
        _ => path.to_owned(),
    };
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        assert_eq!(shown("leftfold://ada:s3cret@host:2113/x"), "leftfold://ada@host:2113/x");
        assert_eq!(shown("postgres://u:p%40x@db/x?schema=s"), "postgres://u@db/x?schema=s");
        assert_eq!(shown("postgres://db/x?password=s3cret"), "postgres://db/x?…");
        assert_eq!(shown("./a:b@c"), "./a:b@c");
    }
}
