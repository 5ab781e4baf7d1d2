//! Opening a directory of the machine.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, Real};
use crate::error::{OpenError, Recovery};
use crate::log::Log;
use crate::options::{Existing, Options};

impl Log {
    /// Opens the log in a directory, or begins one there, as the options say.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(directory(path.as_ref(), options.open)?, options)
    }
}

/// The directory, made where that is meant.
pub(crate) fn directory(path: &Path, open: Existing) -> Result<Arc<dyn Disk>, OpenError> {
    let place = path.display().to_string();
    let opened = match open {
        Existing::Only => Real::open(path),
        Existing::OrCreate | Existing::Never => Real::create(path),
    };
    match opened {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { place },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::ReadOnly { place, detail: error.to_string() }
            }
            _ => OpenError::Io { detail: format!("{place}: {error}") },
        }),
    }
}
