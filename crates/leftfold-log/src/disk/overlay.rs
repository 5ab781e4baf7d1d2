//! A directory that is only read: what would be written is kept in memory, and lost at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Disk, File, Lock};

/// Derived files can be made over a directory that nobody may write. The files below cannot be
/// changed.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Arc<dyn Disk>,
    above: Mutex<OverlayFiles>,
}

#[derive(Debug, Default)]
struct OverlayFiles {
    files: BTreeMap<String, Arc<MemoryFile>>,
    hidden: BTreeSet<String>,
}

impl Overlay {
    pub(crate) fn over(below: Arc<dyn Disk>) -> Self {
        Self { below, above: Mutex::default() }
    }

    /// Bytes that are kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        let above = self.above();
        let held =
            |file: &Arc<MemoryFile>| file.0.read().unwrap_or_else(PoisonError::into_inner).len();
        above.files.values().map(held).sum()
    }

    fn above(&self) -> MutexGuard<'_, OverlayFiles> {
        // Each change is a few infallible steps.
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Overlay {
    fn names(&self) -> io::Result<Vec<String>> {
        let above = self.above();
        let mut names: BTreeSet<String> = self.below.names()?.into_iter().collect();
        names.retain(|name| !above.hidden.contains(name));
        names.extend(above.files.keys().cloned());
        Ok(names.into_iter().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let above = self.above();
        if let Some(file) = above.files.get(name) {
            return Ok(Arc::clone(file) as Arc<dyn File>);
        }
        if above.hidden.contains(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.below.open(name).map(|file| Arc::new(BelowFile(file)) as Arc<dyn File>)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if self.open(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        self.above().files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut above = self.above();
        // Only what was made here is ever renamed: files are made under a name for the time being.
        let file = above.files.remove(from).ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        above.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.open(name)?;
        let mut above = self.above();
        above.files.remove(name);
        above.hidden.insert(name.to_owned());
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
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

#[derive(Debug)]
struct BelowFile(Arc<dyn File>);

impl File for BelowFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        buffer.copy_from_slice(content.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
