//! A directory some of whose segments were moved to another one.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, File, Lock, Real};
use crate::format::segment_number;

/// The name of the file that names the archive: its path, and nothing else.
pub(crate) const ARCHIVE: &str = "archive";
/// Bytes of a path, and more than any system takes.
const PATH_BYTES_MAX: u64 = 64 << 10;

type FindArchive = dyn Fn(&str) -> io::Result<Arc<dyn Disk>> + Send + Sync;

/// Disk that finds segments in an archive if they are not in the directory itself. The file
/// `archive` in the directory names the archive, and is read when a segment is looked for, so that
/// one process may move segments while others read them. Nothing but segments is looked for there,
/// and nothing is written.
#[derive(Clone)]
pub struct WithArchive {
    below: Arc<dyn Disk>,
    find: Arc<FindArchive>,
}

impl WithArchive {
    /// A directory whose archive, if it has one, is a directory of the machine.
    #[must_use]
    pub fn of_machine(below: Arc<dyn Disk>) -> Self {
        Self::found_by(below, |path| Ok(Arc::new(Real::open(Path::new(path))?)))
    }

    /// A directory whose archive is found by its name in another way.
    #[must_use]
    pub fn found_by(
        below: Arc<dyn Disk>,
        find: impl Fn(&str) -> io::Result<Arc<dyn Disk>> + Send + Sync + 'static,
    ) -> Self {
        Self { below, find: Arc::new(find) }
    }

    /// The archive; `None` if there is none. One that cannot be reached is no missing file: no
    /// segment is taken for lost because a disk is not mounted.
    fn archive(&self) -> io::Result<Option<Arc<dyn Disk>>> {
        let Some(name) = archive_name(&*self.below)? else { return Ok(None) };
        (self.find)(&name).map(Some).map_err(|error| {
            let advice = "mount it, or correct the path in the file `archive`";
            io::Error::other(format!("the archive {name} cannot be reached, {advice}: {error}"))
        })
    }
}

/// The name of the archive of a directory; `None` if it has none.
pub(crate) fn archive_name(disk: &dyn Disk) -> io::Result<Option<String>> {
    let file = match disk.open(ARCHIVE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; file.len()?.min(PATH_BYTES_MAX) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

impl fmt::Debug for WithArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithArchive").field("below", &self.below).finish_non_exhaustive()
    }
}

impl Disk for WithArchive {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = self.below.names()?;
        if !names.iter().any(|name| name == ARCHIVE) {
            return Ok(names);
        }
        let mut all: BTreeSet<String> = names.into_iter().collect();
        if let Some(archive) = self.archive()? {
            let archived = archive.names()?;
            all.extend(archived.into_iter().filter(|name| segment_number(name).is_some()));
        }
        Ok(all.into_iter().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        match self.below.open(name) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && segment_number(name).is_some() =>
            {
                self.archive()?.map_or(Err(error), |archive| archive.open(name))
            }
            opened => opened,
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.below.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.below.sync_names()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        self.below.lock(name)
    }

    fn place(&self) -> String {
        self.below.place()
    }

    fn is_shared(&self) -> bool {
        self.below.is_shared()
    }
}
