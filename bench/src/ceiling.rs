//! The ceiling: what this machine can make durable, by the least program that does it.
//!
//! Tasks hand bytes to one thread. It takes what waits, writes that to a preallocated file of zeros
//! with one write, syncs once, and answers each task. No log that answers after a sync can be
//! faster on this machine.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::Outcome;
use crate::rounds::{RepeatedWork, rate};

/// Bytes of one event at the ceiling: 256 bytes of data, and those that surround it.
pub(crate) const EVENT_BYTES: usize = 300;

/// The file is written over and over. It is shorter for shorter rounds, which need less of it.
const FILE_BYTES_PER_SECOND: f64 = 128.0 * 1024.0 * 1024.0;
const FILE_BYTES_MIN: u64 = 4 << 20;
const FILE_BYTES_MAX: u64 = 256 << 20;
const CHUNK_BYTES: u64 = 1 << 20;

/// The way to the thread. It ends with the last of its handles.
#[derive(Clone, Debug)]
pub(crate) struct Ceiling(mpsc::Sender<QueuedWrite>);

#[derive(Debug)]
struct QueuedWrite {
    bytes: Vec<u8>,
    durable: oneshot::Sender<()>,
}

impl Ceiling {
    /// Fills a file with zeros, long enough for rounds of this length, and starts the thread.
    pub(crate) fn start(path: &Path, span: Duration) -> Outcome<Self> {
        let file_bytes = ((span.as_secs_f64() * FILE_BYTES_PER_SECOND) as u64)
            .clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        let file = zeros(path, file_bytes)?;
        let (sender, handed) = mpsc::channel();
        std::thread::Builder::new().name("ceiling".to_owned()).spawn(move || {
            // Anyone who waits for an answer learns that the thread ended; why, is reported here.
            if let Err(error) = write_groups(&file, file_bytes, &handed) {
                eprintln!("the ceiling's file cannot be written: {error}");
            }
        })?;
        Ok(Self(sender))
    }

    /// Measures how often a second the tasks together make a write of `bytes` bytes durable.
    pub(crate) async fn rate(&self, tasks: usize, bytes: usize, span: Duration) -> Outcome<f64> {
        let worker = || CeilingWriter { ceiling: self.clone(), bytes: vec![b'x'; bytes] };
        rate(std::iter::repeat_with(worker).take(tasks).collect(), span).await
    }
}

fn zeros(path: &Path, file_bytes: u64) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    let chunk = vec![0; CHUNK_BYTES as usize];
    for _ in 0..file_bytes / CHUNK_BYTES {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn write_groups(
    file: &File,
    file_bytes: u64,
    handed: &mpsc::Receiver<QueuedWrite>,
) -> io::Result<()> {
    let mut at = 0;
    let mut group = Vec::new();
    let mut waiting = Vec::new();
    while let Ok(first) = handed.recv() {
        group.clear();
        for QueuedWrite { bytes, durable } in std::iter::once(first).chain(handed.try_iter()) {
            group.extend_from_slice(&bytes);
            waiting.push(durable);
        }
        if at + group.len() as u64 > file_bytes {
            at = 0;
        }
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        at += group.len() as u64;
        for durable in waiting.drain(..) {
            // A task that does not wait any more misses nothing.
            let _ = durable.send(());
        }
    }
    Ok(())
}

/// A task that hands over bytes and waits until they are durable.
struct CeilingWriter {
    ceiling: Ceiling,
    bytes: Vec<u8>,
}

impl RepeatedWork for CeilingWriter {
    async fn once(&mut self) -> Outcome {
        let (durable, answer) = oneshot::channel();
        self.ceiling.0.send(QueuedWrite { bytes: self.bytes.clone(), durable })?;
        Ok(answer.await?)
    }
}
