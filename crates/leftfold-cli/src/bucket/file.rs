//! One object as a file.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use leftfold::log::disk::File;

use super::calls::{PART_BYTES, Unless};
use super::lock::BucketOwner;

/// An object, or one that becomes one when it is synced.
#[derive(Debug)]
pub(super) struct BucketFile {
    owner: Arc<BucketOwner>,
    name: String,
    state: Mutex<FileState>,
}

#[derive(Debug)]
struct FileState {
    bytes: u64,
    /// Content that differs from that of the object; `None` as long as nothing was written.
    changed: Option<fs::File>,
    is_dirty: bool,
    /// Range that was read last, and where it begins.
    range: (u64, Bytes),
}

impl BucketFile {
    pub(super) fn of(owner: Arc<BucketOwner>, name: &str, bytes: u64) -> Self {
        // An object of nothing is one, too.
        let state =
            FileState { bytes, changed: None, is_dirty: bytes == 0, range: Default::default() };
        Self { owner, name: name.to_owned(), state: Mutex::new(state) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut FileState) -> io::Result<T>) -> io::Result<T> {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self, state: &mut FileState, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        if at.saturating_add(buffer.len() as u64) > state.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(file) = &mut state.changed {
            file.seek(SeekFrom::Start(at))?;
            return file.read_exact(buffer);
        }
        while !buffer.is_empty() {
            let (begins, range) = &state.range;
            let behind = at.checked_sub(*begins).filter(|behind| *behind < range.len() as u64);
            let Some(behind) = behind else {
                let bytes = (state.bytes - at).min(PART_BYTES as u64);
                state.range = (at, self.owner.calls.range(&self.name, at, bytes)?);
                continue;
            };
            let there = &range[behind as usize..];
            let part = there.len().min(buffer.len());
            buffer[..part].copy_from_slice(&there[..part]);
            (buffer, at) = (&mut buffer[part..], at + part as u64);
        }
        Ok(())
    }

    /// Returns the content that is changed, which is that of the object at first.
    fn changed<'s>(&self, state: &'s mut FileState) -> io::Result<&'s mut fs::File> {
        if state.changed.is_none() {
            let mut file = tempfile::tempfile()?;
            let (mut at, mut part) = (0, vec![0; PART_BYTES]);
            while at < state.bytes {
                let part = &mut part[..(state.bytes - at).min(PART_BYTES as u64) as usize];
                self.read(state, part, at)?;
                file.write_all(part)?;
                at += part.len() as u64;
            }
            (state.changed, state.range) = (Some(file), Default::default());
        }
        state.is_dirty = true;
        state.changed.as_mut().ok_or_else(|| io::Error::other("the file is gone"))
    }
}

impl File for BucketFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.bytes))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|state| self.read(state, buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state| {
            let file = self.changed(state)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)?;
            state.bytes = state.bytes.max(offset + bytes.len() as u64);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            self.changed(state)?.set_len(len)?;
            state.bytes = len;
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            if state.is_dirty {
                let bytes = state.bytes;
                upload(&self.owner, &self.name, bytes, &mut |buffer, offset| {
                    self.read(state, buffer, offset)
                })?;
                state.is_dirty = false;
            }
            Ok(())
        })
    }
}

/// Makes an object of what is read, in one step: a large one in parts, which are put together at
/// the end. Until then the object of that name is as it was. Each step begins only if
/// the lock is still its own.
pub(super) fn upload(
    owner: &BucketOwner,
    name: &str,
    bytes: u64,
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut part_at = |offset: u64| {
        let mut part = vec![0; (bytes - offset).min(PART_BYTES as u64) as usize];
        read(&mut part, offset).map(|()| part)
    };
    let calls = &owner.calls;
    if bytes <= PART_BYTES as u64 {
        let content = part_at(0)?;
        owner.confirm()?;
        return calls.put(name, content, Unless::Never).map(drop);
    }
    owner.confirm()?;
    let upload = calls.begin_upload(name)?;
    let mut tags = Vec::new();
    let mut offset = 0;
    let done = loop {
        if offset == bytes {
            break owner.confirm().and_then(|()| calls.end_upload(name, &upload, &tags));
        }
        let number = tags.len() as u16 + 1;
        let put = part_at(offset).and_then(|part| {
            offset += part.len() as u64;
            owner.confirm()?;
            calls.put_part(name, (&upload, number), part)
        });
        match put {
            Ok(tag) => tags.push(tag),
            Err(error) => break Err(error),
        }
    };
    if done.is_err() {
        // What stays costs room, and is removed by a rule of the bucket at the latest.
        let _ = calls.give_up(name, &upload);
    }
    done
}
