//! A disk in memory that fails as disks do: from a seed, so that a run can be repeated.
//!
//! Written bytes are volatile until they are synced. [`Simulated::crash`] decides at random which
//! part of the volatile changes survives: each unsynced write wholly, in some of its sectors, or
//! not at all, in any combination; each unsynced change of a name or not, a suffix of them lost.
//! Handles from before the crash are dead. Failures of every kind can be injected, and the machine
//! can be stopped at the n-th use of the disk of any kind.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File, Lock};

const SECTOR_BYTES: usize = 512;
/// `EMFILE`.
const TOO_MANY_OPEN_FILES: i32 = 24;

/// A disk in memory. Clones are the same disk.
///
/// ```
/// use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = Simulated::new(7);
/// let file = disk.create("notes")?;
/// disk.plan(DiskUse::Sync, 1, Fault::Fail);
/// assert!(file.sync().is_err());
/// file.sync()?;
/// assert_eq!(disk.count(DiskUse::Sync), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Simulated {
    machine: Arc<Mutex<Machine>>,
    /// A handle works only in the life of the machine in which it was made.
    life: u64,
}

/// A kind of use of the disk, which can be counted, stopped at, and made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskUse {
    /// [`File::write_all_at`].
    Write,
    /// [`File::sync`].
    Sync,
    /// [`File::set_len`].
    SetLen,
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_names`].
    SyncNames,
    /// [`File::read_exact_at`].
    Read,
    /// [`Disk::open`], [`Disk::names`] and [`Disk::lock`].
    Open,
}

impl DiskUse {
    /// Uses that change something, so that a crash makes a difference.
    pub const CHANGES: [Self; 7] = [
        Self::Write,
        Self::Sync,
        Self::SetLen,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncNames,
    ];
}

/// Fault planned for a later use of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops: this use and every later one fails, until [`Simulated::crash`] starts it
    /// again. What was under way happened partly.
    Stop,
    /// The use fails with an I/O error. A write happened partly; after a failed sync some of what
    /// was unsynced is gone, and a later sync does not bring it back.
    Fail,
    /// The process has no file handle left, or the system no memory: nothing happens, and the next
    /// use succeeds.
    Lack,
}

#[derive(Debug)]
struct Machine {
    random: fastrand::Rng,
    life: u64,
    stopped: bool,
    /// Files by number, because files without a name live as long as their handles.
    files: Vec<FileContent>,
    /// Names as they are now.
    names: BTreeMap<String, usize>,
    /// Names as they are on the disk.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that are not synced, in order.
    name_changes: Vec<NameChange>,
    counts: BTreeMap<DiskUse, u64>,
    planned: Vec<(DiskUse, u64, Fault)>,
    room_bytes: Option<u64>,
    locked: bool,
    shared: bool,
}

#[derive(Debug, Default)]
struct FileContent {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Changes that are not synced, in order.
    changes: Vec<FileChange>,
}

#[derive(Clone, Debug)]
enum FileChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Bind(String, usize),
    Unbind(String),
    Rename { from: String, to: String, number: usize },
}

impl Simulated {
    /// Creates an empty disk. All random decisions follow from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let machine = Machine {
            random: fastrand::Rng::with_seed(seed),
            life: 0,
            stopped: false,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            counts: BTreeMap::new(),
            planned: Vec::new(),
            room_bytes: None,
            locked: false,
            shared: false,
        };
        Self { machine: Arc::new(Mutex::new(machine)), life: 0 }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power of the machine and starts it again: the content of the disk is decided now.
    /// Returns the disk of the new life.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut machine = self.machine();
        machine.crash();
        Self { machine: Arc::clone(&self.machine), life: machine.life }
    }

    /// Ends the process and begins another: nothing that was written is lost, and nothing becomes
    /// durable by it. Returns the disk of the new process.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut machine = self.machine();
        machine.begin_life();
        Self { machine: Arc::clone(&self.machine), life: machine.life }
    }

    /// Plans a fault for the n-th use of a kind from now on, counted from 1.
    pub fn plan(&self, kind: DiskUse, nth: u64, fault: Fault) {
        let mut machine = self.machine();
        let at = machine.counts.get(&kind).copied().unwrap_or(0) + nth;
        machine.planned.push((kind, at, fault));
    }

    /// Forgets every planned fault that has not happened.
    pub fn plan_nothing(&self) {
        self.machine().planned.clear();
    }

    /// Returns the number of uses of the disk of one kind.
    #[must_use]
    pub fn count(&self, kind: DiskUse) -> u64 {
        self.machine().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Tells whether a planned stop has happened.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.machine().stopped
    }

    /// Says that other processes read the directory: see [`Disk::is_shared`].
    pub fn share(&self) {
        self.machine().shared = true;
    }

    /// Sets the bytes that files may still grow by before the disk is full; `None` lifts the limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.machine().room_bytes = bytes;
    }

    /// Flips a bit of a file, in its durable bytes too.
    pub fn rot(&self, name: &str, byte: usize, bit: u8) {
        let mut machine = self.machine();
        let Some(number) = machine.names.get(name).copied() else { return };
        let content = &mut machine.files[number];
        for bytes in [&mut content.now, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Returns the bytes that a file holds now, synced or not; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let machine = self.machine();
        machine.names.get(name).map(|number| machine.files[*number].now.clone())
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.machine();
        if machine.stopped || machine.life != self.life {
            return Err(io::Error::other("the machine has stopped"));
        }
        Ok(machine)
    }
}

impl Machine {
    /// Counts a use, and says what is planned for it: an error if nothing of the use happens.
    fn count(&mut self, kind: DiskUse) -> io::Result<Option<Fault>> {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let now = *count;
        let planned = self.planned.iter().position(|(of, at, _)| *of == kind && *at == now);
        let fault = planned.map(|planned| self.planned.swap_remove(planned).2);
        match fault {
            Some(Fault::Stop) => self.stopped = true,
            Some(Fault::Lack) => return Err(io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES)),
            Some(Fault::Fail) | None => {}
        }
        Ok(fault)
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.stopped = false;
        self.locked = false;
        self.planned.clear();
    }

    fn crash(&mut self) {
        self.begin_life();
        // A file system keeps the order of its names: of the changes that are not synced some first
        // ones survive.
        let kept = self.random.usize(..=self.name_changes.len());
        for change in self.name_changes.drain(..).take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for content in &mut self.files {
            for change in std::mem::take(&mut content.changes) {
                change.survive(&mut content.durable, &mut self.random);
            }
            content.now = content.durable.clone();
        }
    }

    fn growth(&mut self, bytes: u64) -> u64 {
        match &mut self.room_bytes {
            None => bytes,
            Some(room) => {
                let granted = bytes.min(*room);
                *room -= granted;
                granted
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Bind(name, number) => drop(names.insert(name.clone(), *number)),
            Self::Unbind(name) => drop(names.remove(name)),
            Self::Rename { from, to, number } => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
        }
    }
}

impl FileChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => overwrite(bytes, *offset, written),
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    /// Applies the part of the change that survives a crash: all of it, nothing, or some sectors.
    fn survive(&self, durable: &mut Vec<u8>, random: &mut fastrand::Rng) {
        match (random.u8(..3), self) {
            (0, _) => {}
            (1, change) => change.apply(durable),
            (_, Self::SetLen(len)) => durable.resize(*len, 0),
            (_, Self::Write { offset, bytes }) => {
                let mut at = 0;
                while at < bytes.len() {
                    let sector = SECTOR_BYTES - (offset + at) % SECTOR_BYTES;
                    let end = bytes.len().min(at + sector);
                    if random.bool() {
                        overwrite(durable, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

fn failed() -> io::Error {
    io::Error::other("an injected fault")
}

impl Disk for Simulated {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut machine = self.alive()?;
        if machine.count(DiskUse::Open)?.is_some() {
            return Err(failed());
        }
        Ok(machine.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut machine = self.alive()?;
        if machine.count(DiskUse::Open)?.is_some() {
            return Err(failed());
        }
        let number = machine.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        drop(machine);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), number }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut machine = self.alive()?;
        if machine.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let fault = machine.count(DiskUse::Create)?;
        if fault == Some(Fault::Fail) || (fault.is_some() && machine.random.bool()) {
            return Err(failed());
        }
        let number = machine.files.len();
        machine.files.push(FileContent::default());
        machine.change_name(NameChange::Bind(name.to_owned(), number));
        if fault.is_some() {
            return Err(failed());
        }
        drop(machine);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.alive()?;
        let number = machine.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        let fault = machine.count(DiskUse::Rename)?;
        if fault == Some(Fault::Fail) || (fault.is_some() && machine.random.bool()) {
            return Err(failed());
        }
        machine.change_name(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            number,
        });
        if fault.is_some() { Err(failed()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.alive()?;
        if !machine.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let fault = machine.count(DiskUse::Remove)?;
        if fault == Some(Fault::Fail) || (fault.is_some() && machine.random.bool()) {
            return Err(failed());
        }
        machine.change_name(NameChange::Unbind(name.to_owned()));
        if fault.is_some() { Err(failed()) } else { Ok(()) }
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut machine = self.alive()?;
        if machine.count(DiskUse::SyncNames)?.is_some() {
            return Err(failed());
        }
        machine.durable_names = machine.names.clone();
        machine.name_changes.clear();
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<Box<dyn Lock>> {
        let mut machine = self.alive()?;
        if machine.count(DiskUse::Open)?.is_some() {
            return Err(failed());
        }
        if machine.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        machine.locked = true;
        drop(machine);
        Ok(Box::new(SimulatedLock(self.clone())))
    }

    fn place(&self) -> String {
        "a simulated disk".to_owned()
    }

    fn is_shared(&self) -> bool {
        self.machine().shared
    }
}

impl Machine {
    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: Simulated,
    number: usize,
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.files[self.number].now.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut machine = self.disk.alive()?;
        if machine.count(DiskUse::Read)?.is_some() {
            return Err(failed());
        }
        let content = &machine.files[self.number].now;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(content.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut machine = self.disk.alive()?;
        let fault = machine.count(DiskUse::Write)?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = offset + bytes.len();
        let growth = end.saturating_sub(machine.files[self.number].now.len().max(offset)) as u64;
        let granted = machine.growth(growth);
        let mut writable = bytes.len() - (growth - granted) as usize;
        if fault.is_some() {
            writable = machine.random.usize(..=writable);
        }
        let change = FileChange::Write { offset, bytes: bytes[..writable].to_vec() };
        let content = &mut machine.files[self.number];
        if writable > 0 {
            change.apply(&mut content.now);
            content.changes.push(change);
        }
        match fault {
            Some(_) => Err(failed()),
            None if writable < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.disk.alive()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let fault = machine.count(DiskUse::SetLen)?;
        if fault == Some(Fault::Fail) || (fault.is_some() && machine.random.bool()) {
            return Err(failed());
        }
        let content = &mut machine.files[self.number];
        let freed = content.now.len().saturating_sub(len) as u64;
        let change = FileChange::SetLen(len);
        change.apply(&mut content.now);
        content.changes.push(change);
        if let Some(room) = &mut machine.room_bytes {
            *room += freed;
        }
        if fault.is_some() { Err(failed()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.disk.alive()?;
        let fault = machine.count(DiskUse::Sync)?;
        let machine = &mut *machine;
        let content = &mut machine.files[self.number];
        match fault {
            None => {
                // Not all of what is now: what an earlier failed sync lost is not written again.
                for change in content.changes.drain(..) {
                    change.apply(&mut content.durable);
                }
                Ok(())
            }
            Some(Fault::Stop | Fault::Lack) => Err(failed()),
            Some(Fault::Fail) => {
                // As Linux does: pages are marked clean whether they reached the disk or not. The
                // system's memory may still show them, or read the disk again.
                for change in std::mem::take(&mut content.changes) {
                    change.survive(&mut content.durable, &mut machine.random);
                }
                if machine.random.bool() {
                    content.now.clone_from(&content.durable);
                }
                Err(failed())
            }
        }
    }
}

#[derive(Debug)]
struct SimulatedLock(Simulated);

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut machine = self.0.machine();
        if machine.life == self.0.life {
            machine.locked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_survives_and_what_is_not_may_be_lost() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = Simulated::new(seed);
            let file = disk.create("a").unwrap();
            file.write_all_at(b"kept", 0).unwrap();
            file.sync().unwrap();
            disk.sync_names().unwrap();
            file.write_all_at(&[7; 2_000], 4).unwrap();
            disk.create("b").unwrap();
            let after = disk.crash();
            assert!(file.len().is_err(), "a handle from before the crash is dead");
            let content = after.content("a").unwrap();
            assert_eq!(&content[..4], b"kept");
            lost += u32::from(content.iter().filter(|byte| **byte == 7).count() < 2_000);
        }
        assert!(lost > 10, "{lost} of 50 crashes lost something");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = Simulated::new(1);
        let file = disk.create("a").unwrap();
        disk.set_room(Some(10));
        assert_eq!(file.write_all_at(&[1; 12], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 10);
        file.set_len(0).unwrap();
        file.write_all_at(&[1; 10], 0).unwrap();
    }
}
