//! Manifest: the runs that make up the index, and the end of the log that they cover. Replaced in
//! one step.
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | magic `LFIM` |
//! | 4 | version: 1 |
//! | 16 | store id |
//! | 8, 8, 32 | what is covered: position, address, chain hash |
//! | 8 | number of the next run |
//! | 4 | count of runs, oldest first; each number 8, bytes 8, after 8, through 8 |
//! | 4 | crc of all bytes before |

use std::io;

use leftfold_core::store::{Hash, Position, StoreId};

use super::Covered;
use super::error::IndexError;
use crate::disk::Disk;

pub(super) const NAME: &str = "index.manifest";
const MAGIC: [u8; 4] = *b"LFIM";
const VERSION: u32 = 1;
/// Bytes of a manifest at most: far more than the runs that merging leaves need.
const BYTES_MAX: u64 = 1 << 20;

/// A run as the manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunEntry {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Position before the first one that the run covers.
    pub(super) after: u64,
    /// Last position that the run covers.
    pub(super) through: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexManifest {
    pub(super) covered: Covered,
    pub(super) next_run: u64,
    pub(super) runs: Vec<RunEntry>,
}

impl IndexManifest {
    pub(super) const EMPTY: Self = Self { covered: Covered::NONE, next_run: 1, runs: Vec::new() };

    /// Puts it in the place of the one before, durably.
    pub(super) fn replace(&self, disk: &dyn Disk, store: StoreId) -> Result<(), IndexError> {
        let temporary = temporary(NAME);
        remove_if_there(disk, &temporary)?;
        let write = || -> io::Result<()> {
            let file = disk.create(&temporary)?;
            file.write_all_at(&self.encode(store), 0)?;
            file.sync()?;
            disk.rename(&temporary, NAME)?;
            disk.sync_names()
        };
        write().map_err(|error| IndexError::io(NAME, &error))
    }

    /// Reads the manifest; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk, store: StoreId) -> Result<Option<Self>, IndexError> {
        let failed = |error: io::Error| IndexError::io(NAME, &error);
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let len = file.len().map_err(failed)?;
        if len > BYTES_MAX {
            return Err(IndexError::damaged(NAME, 0, "it is too large"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Self::parse(&bytes, store).map(Some).map_err(|detail| IndexError::damaged(NAME, 0, detail))
    }

    fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(88 + self.runs.len() * 32);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(store.0.as_bytes());
        bytes.extend_from_slice(&self.covered.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.covered.address.to_le_bytes());
        bytes.extend_from_slice(&self.covered.hash.0);
        bytes.extend_from_slice(&self.next_run.to_le_bytes());
        bytes.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            for number in [run.number, run.bytes, run.after, run.through] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8], store: StoreId) -> Result<Self, &'static str> {
        const SHORT: &str = "it is too short";
        let (mut rest, crc) = bytes.split_last_chunk::<4>().ok_or(SHORT)?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
            return Err("its checksum does not match");
        }
        let rest = &mut rest;
        if take::<4>(rest) != Some(MAGIC) {
            return Err("it is not an index manifest");
        }
        if take::<4>(rest).map(u32::from_le_bytes) != Some(VERSION) {
            return Err("it was written by another release");
        }
        if take::<16>(rest) != Some(store.0.into_bytes()) {
            return Err("it belongs to another store");
        }
        let position = Position(take_u64(rest).ok_or(SHORT)?);
        let address = take_u64(rest).ok_or(SHORT)?;
        let hash = Hash(take(rest).ok_or(SHORT)?);
        let next_run = take_u64(rest).ok_or(SHORT)?;
        let count = take::<4>(rest).map(u32::from_le_bytes).ok_or(SHORT)?;
        let mut runs: Vec<RunEntry> = Vec::new();
        for _ in 0..count {
            let mut number = || take_u64(rest).ok_or(SHORT);
            let run = RunEntry {
                number: number()?,
                bytes: number()?,
                after: number()?,
                through: number()?,
            };
            let after = runs.last().map_or(0, |last| last.through);
            if run.after != after || run.through < run.after || run.number >= next_run {
                return Err("its runs do not follow each other");
            }
            runs.push(run);
        }
        if !rest.is_empty() || runs.last().map_or(0, |last| last.through) != position.0 {
            return Err("its runs do not end where it says");
        }
        Ok(Self { covered: Covered { position, address, hash }, next_run, runs })
    }
}

/// The name of a run file.
pub(super) fn run_name(number: u64) -> String {
    format!("index-{number:012}.run")
}

/// Tells whether a name is that of a file of an index.
pub(crate) fn is_file(name: &str) -> bool {
    name == NAME || (name.starts_with("index-") && name.ends_with(".run"))
}

/// The name of a file that is being made.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// Removes a file that may be there.
pub(super) fn remove_if_there(disk: &dyn Disk, name: &str) -> Result<(), IndexError> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IndexError::io(name, &error)),
        _ => Ok(()),
    }
}

/// Removes every file of the index but the manifest and these runs. Returns true if there were
/// other runs of an index, apart from the first, which is there before any manifest is.
pub(super) fn sweep(disk: &dyn Disk, keep: &[RunEntry]) -> Result<bool, IndexError> {
    let names = disk.names().map_err(|error| IndexError::io(&disk.place(), &error))?;
    let kept = |name: &String| keep.iter().any(|run| run_name(run.number) == *name);
    let ours = |name: &&String| {
        name.starts_with("index") && (name.ends_with(".tmp") || name.ends_with(".run"))
    };
    let mut runs_gone = false;
    for name in names.iter().filter(ours).filter(|name| !kept(name)) {
        runs_gone |= name.ends_with(".run") && *name != run_name(1);
        remove_if_there(disk, name)?;
    }
    Ok(runs_gone)
}

/// Makes opening rebuild the index.
pub(super) fn remove_manifest(disk: &dyn Disk) -> Result<(), IndexError> {
    remove_if_there(disk, NAME)?;
    disk.sync_names().map_err(|error| IndexError::io(NAME, &error))
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}
