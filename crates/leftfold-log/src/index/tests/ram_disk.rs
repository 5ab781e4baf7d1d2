//! A disk in memory that forgets what was not synced, and fails when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, File, Lock};

#[derive(Debug, Default)]
pub(super) struct RamDisk {
    names: Mutex<Names>,
    switch: Arc<Switch>,
}

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Arc<RamFile>>,
    synced: BTreeMap<String, Arc<RamFile>>,
}

#[derive(Debug, Default)]
struct RamFile {
    content: Mutex<Content>,
    switch: Arc<Switch>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// So many changes still succeed.
#[derive(Debug)]
struct Switch {
    left: AtomicI64,
}

impl Default for Switch {
    fn default() -> Self {
        Self { left: AtomicI64::new(i64::MAX) }
    }
}

impl Switch {
    fn change(&self) -> io::Result<()> {
        let failed = self.left.fetch_sub(1, Ordering::SeqCst) <= 0;
        if failed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl RamDisk {
    pub(super) fn allow_changes(&self, changes: i64) {
        self.switch.left.store(changes, Ordering::SeqCst);
    }

    /// Returns what a machine finds after its power was cut.
    pub(super) fn after_power_cut(&self) -> Arc<Self> {
        let names = self.names.lock().unwrap();
        self.copy(
            names
                .synced
                .iter()
                .map(|(name, file)| (name, file.content.lock().unwrap().synced.clone())),
        )
    }

    /// A copy of what is there.
    pub(super) fn image(&self) -> Arc<Self> {
        let names = self.names.lock().unwrap();
        self.copy(
            names.now.iter().map(|(name, file)| (name, file.content.lock().unwrap().now.clone())),
        )
    }

    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let names = self.names.lock().unwrap();
        change(&mut names.now[name].content.lock().unwrap().now);
    }

    pub(super) fn sizes(&self) -> Vec<(String, usize)> {
        let names = self.names.lock().unwrap();
        names
            .now
            .iter()
            .map(|(name, file)| (name.clone(), file.content.lock().unwrap().now.len()))
            .collect()
    }

    fn copy<'a>(&self, files: impl Iterator<Item = (&'a String, Vec<u8>)>) -> Arc<Self> {
        let copy = Self::default();
        let mut names = copy.names.lock().unwrap();
        for (name, content) in files {
            let content = Mutex::new(Content { now: content.clone(), synced: content });
            names.now.insert(
                name.clone(),
                Arc::new(RamFile { content, switch: Arc::clone(&copy.switch) }),
            );
        }
        names.synced = names.now.clone();
        drop(names);
        Arc::new(copy)
    }
}

impl Disk for RamDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().unwrap().now.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let names = self.names.lock().unwrap();
        let file = names.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file) as Arc<dyn File>)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.switch.change()?;
        let mut names = self.names.lock().unwrap();
        if names.now.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file =
            Arc::new(RamFile { content: Mutex::default(), switch: Arc::clone(&self.switch) });
        names.now.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.switch.change()?;
        let mut names = self.names.lock().unwrap();
        let file = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.now.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.names.lock().unwrap().now.remove(name);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.switch.change()?;
        let mut names = self.names.lock().unwrap();
        names.synced = names.now.clone();
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<Box<dyn Lock>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl File for RamFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().now.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let from = content.now.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.switch.change()?;
        let mut content = self.content.lock().unwrap();
        let end = offset as usize + bytes.len();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.switch.change()?;
        self.content.lock().unwrap().now.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.switch.change()?;
        let mut content = self.content.lock().unwrap();
        content.synced = content.now.clone();
        Ok(())
    }
}
