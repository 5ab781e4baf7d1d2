//! One small program per system. All that they share is where they keep their store, how they are killed in tests, and how
//! they say what they measure.

pub mod figures;
mod killed;

use std::io::{Error, ErrorKind, Result};

use tempfile::TempDir;

pub use killed::killed;

/// Where an example keeps its store.
#[derive(Debug)]
pub struct Place {
    path: String,
    load: Option<u32>,
    /// Removes the directory when the example ends.
    _fresh: Option<TempDir>,
}

impl Place {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the program is not to tell its story, but to do much of the same: how much. The second argument says so.
    #[must_use]
    pub fn load(&self) -> Option<u32> {
        self.load
    }
}

/// The directory that the program's first argument names, or a fresh one that goes with the value.
pub fn place() -> Result<Place> {
    let load = match std::env::args_os().nth(2) {
        Some(load) => Some(text(load)?.parse().map_err(|error| Error::new(ErrorKind::InvalidInput, error))?),
        None => None,
    };
    match std::env::args_os().nth(1) {
        Some(named) => Ok(Place { path: text(named)?, load, _fresh: None }),
        None => Ok(Place { load, ..fresh()? }),
    }
}

fn fresh() -> Result<Place> {
    let fresh = tempfile::Builder::new().prefix("leftfold-").tempdir()?;
    let path = text(fresh.path().join("store").into_os_string())?;
    Ok(Place { path, load: None, _fresh: Some(fresh) })
}

fn text(path: std::ffi::OsString) -> Result<String> {
    path.into_string().map_err(|path| Error::new(ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display())))
}
