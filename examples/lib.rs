//! One small program per system. All that they share is where they and their tests keep their
//! stores, how they are killed in tests, and how they say what they measure.

// `killed` runs a program through kills, `figures` formats what one measures, and `table` compares
// the tables of the README with the source.

pub mod figures;
mod killed;
#[cfg(test)]
mod table;

use std::io::{Error, ErrorKind, Result};

use leftfold::store::Store;
use tempfile::TempDir;

pub use killed::{built, killed, killed_service};

/// Place of an example's store.
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

    /// Returns how much work to do, if the program is not to tell its story but to do much of the
    /// same. It is the second argument, if that is a number.
    #[must_use]
    pub fn load(&self) -> Option<u32> {
        self.load
    }
}

/// The directory that the program's first argument names, or a fresh one that goes with the value.
pub fn place() -> Result<Place> {
    // Some programs take an address there.
    let load = std::env::args_os().nth(2).and_then(|load| load.to_str()?.parse().ok());
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

// ANCHOR: stores
/// The stores that a test of a system is to pass on, in turn: one in memory, and an embedded log
/// whose directory goes with it.
///
/// # Panics
/// If there is no room for a log.
pub async fn stores() -> [Store; 2] {
    let directory =
        tempfile::Builder::new().prefix("leftfold-").tempdir().expect("there is room for a store");
    let path =
        text(directory.path().join("store").into_os_string()).expect("a temporary path is UTF-8");
    let log = leftfold::open(&path).await.expect("a log can be opened in a fresh directory");
    log.attached(|| directory);
    [Store::memory(), log]
}
// ANCHOR_END: stores

fn text(path: std::ffi::OsString) -> Result<String> {
    path.into_string().map_err(|path| {
        Error::new(ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display()))
    })
}
