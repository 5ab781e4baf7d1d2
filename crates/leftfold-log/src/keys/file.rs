//! The file: reading it, appending to it, and rewriting it.

use std::io;
use std::sync::Arc;

use leftfold_core::personal::{KeyRecord, KeyStoreError, Ring, Secret};
use uuid::Uuid;

use super::error::KeyFileError;
use super::format::{
    self, FRAME_HEADER_BYTES, FRAME_RECORDS_MAX, HEADER_BYTES, Header, KeyFileFrame, KeyHeaderFault,
};
use crate::disk::{self, Disk, Lock};

const NAME: &str = "keys";
/// Name of the rewritten file, until it takes the name of the old one.
const NEXT: &str = "keys.new";
const LOCK: &str = "keys.lock";

/// An open key file.
#[derive(Debug)]
pub(super) struct OpenKeyFile {
    disk: Arc<dyn Disk>,
    header: Header,
    /// `None` before the first record.
    open: Option<Arc<dyn disk::File>>,
    /// The place of the next frame.
    end: u64,
    /// The reason why nothing can be written any more; `None` if it can.
    broken: Option<String>,
    /// After the file, so that it is closed before.
    _lock: Box<dyn Lock>,
}

impl OpenKeyFile {
    /// Opens the file, or prepares one that is not there yet; returns it with its keys.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<(Self, Ring), KeyFileError> {
        let place = disk.place();
        let failed = |error: io::Error| KeyFileError::io(&place, &error);
        // Before the lock, whose file would stay in a directory that is somebody else's.
        refuse_foreign(&*disk)?;
        let lock = disk.lock(LOCK).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => KeyFileError::InUse { place: place.clone() },
            _ => failed(error),
        })?;
        let names = refuse_foreign(&*disk)?;
        if names.iter().any(|name| name == NEXT) {
            // It holds keys, maybe one that was to be destroyed.
            disk.open(NEXT).and_then(|file| overwrite(&*file)).map_err(failed)?;
            disk.remove(NEXT).and_then(|()| disk.sync_names()).map_err(failed)?;
        }
        if !names.iter().any(|name| name == NAME) {
            let lookup = Secret::random().map_err(|error| failed(io::Error::other(error)))?;
            let header = Header { id: Uuid::new_v4(), lookup };
            return Ok((
                Self { disk, header, open: None, end: 0, broken: None, _lock: lock },
                Ring::default(),
            ));
        }
        let file = disk.open(NAME).map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let (header, ring, end) = read(&place, &bytes)?;
        if end < bytes.len() as u64 {
            let cut = bytes.len() as u64 - end;
            tracing::warn!(
                place,
                end,
                cut,
                "cut off the end of the key file, which a crash left half-written"
            );
            file.set_len(end).and_then(|()| file.sync()).map_err(failed)?;
        }
        Ok((Self { disk, header, open: Some(file), end, broken: None, _lock: lock }, ring))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn place(&self) -> String {
        self.disk.place()
    }

    /// Makes records durable that fit into one frame, all of them or none.
    pub(super) fn append(&mut self, records: &[KeyRecord]) -> Result<(), KeyStoreError> {
        self.writable()?;
        let Some(file) = self.open.clone() else { return self.rewrite(records.iter().cloned()) };
        let (frames, end) = self.frames(self.end, records.iter().cloned());
        // What a failed write left is overwritten by the next one; if it is longer, its rest is cut
        // off as a torn end.
        file.write_all_at(&frames, self.end).map_err(|error| self.failed(&error))?;
        file.sync().map_err(|error| self.unknown(&error))?;
        self.end = end;
        Ok(())
    }

    /// Replaces the file by one with these records, and overwrites the bytes of the old one.
    pub(super) fn rewrite(
        &mut self,
        records: impl Iterator<Item = KeyRecord>,
    ) -> Result<(), KeyStoreError> {
        self.writable()?;
        let mut bytes = self.header.encode();
        let (frames, end) = self.frames(HEADER_BYTES as u64, records);
        bytes.extend_from_slice(&frames);
        let next = match self.write_next(&bytes) {
            Ok(next) => next,
            Err(error) => {
                let _ = self.disk.remove(NEXT);
                return Err(self.failed(&error));
            }
        };
        // From here on the new file may be the one that is found.
        self.disk
            .rename(NEXT, NAME)
            .and_then(|()| self.disk.sync_names())
            .map_err(|error| self.unknown(&error))?;
        let before = self.open.replace(next);
        self.end = end;
        if let Some(Err(error)) = before.map(|file| overwrite(&*file)) {
            tracing::warn!(place = self.place(), %error, "the bytes of the former key file could not be overwritten");
        }
        Ok(())
    }

    fn write_next(&self, bytes: &[u8]) -> io::Result<Arc<dyn disk::File>> {
        let next = match self.disk.create(NEXT) {
            // What an earlier try left.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(NEXT)?;
                self.disk.create(NEXT)?
            }
            created => created?,
        };
        next.write_all_at(bytes, 0)?;
        next.sync()?;
        Ok(next)
    }

    /// Encodes records as frames from an offset on; returns the frames, and their end.
    fn frames(&self, offset: u64, records: impl Iterator<Item = KeyRecord>) -> (Vec<u8>, u64) {
        let (mut frames, mut payload, mut record) = (Vec::new(), Vec::new(), Vec::new());
        let close = |frames: &mut Vec<u8>, payload: &mut Vec<u8>| {
            let frame = format::frame(self.header.id, offset + frames.len() as u64, payload);
            frames.extend_from_slice(&frame);
            payload.clear();
        };
        for each in records {
            record.clear();
            format::encode(&each, &mut record);
            if payload.len() + record.len() > FRAME_RECORDS_MAX {
                close(&mut frames, &mut payload);
            }
            payload.extend_from_slice(&record);
        }
        close(&mut frames, &mut payload);
        let end = offset + frames.len() as u64;
        (frames, end)
    }

    fn writable(&self) -> Result<(), KeyStoreError> {
        match &self.broken {
            None => Ok(()),
            Some(detail) => {
                Err(KeyStoreError::Unknown { place: self.place(), detail: detail.clone() })
            }
        }
    }

    fn failed(&self, error: &io::Error) -> KeyStoreError {
        KeyStoreError::Failed { place: self.place(), detail: error.to_string() }
    }

    fn unknown(&mut self, error: &io::Error) -> KeyStoreError {
        let detail = error.to_string();
        self.broken = Some(format!("an earlier write failed: {detail}"));
        KeyStoreError::Unknown { place: self.place(), detail }
    }
}

/// Returns the names in a directory that holds nothing but a key store.
fn refuse_foreign(disk: &dyn Disk) -> Result<Vec<String>, KeyFileError> {
    let names = disk.names().map_err(|error| KeyFileError::io(disk.place(), &error))?;
    match names.iter().find(|name| ![NAME, NEXT, LOCK].contains(&name.as_str())) {
        Some(file) => Err(KeyFileError::Foreign { place: disk.place(), file: file.clone() }),
        None => Ok(names),
    }
}

/// Decodes the content of a file; returns its header, its keys, and the end of the last frame.
fn read(place: &str, bytes: &[u8]) -> Result<(Header, Ring, u64), KeyFileError> {
    let file = || format!("{place}/{NAME}");
    let damaged = |offset: usize, detail| KeyFileError::Damaged {
        place: file(),
        offset: offset as u64,
        detail,
    };
    let header = Header::decode(bytes).map_err(|fault| match fault {
        KeyHeaderFault::Damaged => damaged(0, "it does not begin as a key file"),
        KeyHeaderFault::OtherRelease(found) => KeyFileError::OtherRelease { place: file(), found },
    })?;
    // A file takes its name only once its first frame is durable, so a crash never tears that one.
    if !matches!(format::frame_at(bytes, header.id, HEADER_BYTES), KeyFileFrame::Whole(_)) {
        return Err(damaged(HEADER_BYTES, "its first frame is not whole"));
    }
    let (mut ring, mut at) = (Ring::default(), HEADER_BYTES);
    while at < bytes.len() {
        let KeyFileFrame::Whole(records) = format::frame_at(bytes, header.id, at) else {
            // The last frame may not have been synced; nothing was ever written behind it then.
            if bytes.len() - at > UNSYNCED_BYTES_MAX || is_followed(bytes, header.id, at) {
                return Err(damaged(
                    at,
                    "what stands there does not check, and there is more behind it",
                ));
            }
            break;
        };
        let unknown = || damaged(at, "it has records that this release does not know");
        format::decode(records)
            .ok_or_else(unknown)?
            .into_iter()
            .for_each(|record| ring.take(record));
        at += FRAME_HEADER_BYTES + records.len();
    }
    Ok((header, ring, at as u64))
}

/// Bytes that one append writes: a frame, since a batch of requests fits into one.
const UNSYNCED_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_RECORDS_MAX;

/// Returns if a frame that was begun stands behind a place.
fn is_followed(bytes: &[u8], id: Uuid, at: usize) -> bool {
    (at + 1..bytes.len()).any(|behind| format::frame_at(bytes, id, behind) != KeyFileFrame::None)
}

/// Overwrites what a file holds.
fn overwrite(file: &dyn disk::File) -> io::Result<()> {
    const STEP: usize = 64 << 10;
    let (zeros, len) = (vec![0; STEP], file.len()?);
    for at in (0..len).step_by(STEP) {
        file.write_all_at(&zeros[..STEP.min((len - at) as usize)], at)?;
    }
    file.sync()
}
