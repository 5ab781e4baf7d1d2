//! Large buffers of readers, used again: the system gives fresh memory page by page, which costs
//! more than reading.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Smaller ones are left to the allocator.
const BYTES_MIN: usize = 64 << 10;
/// Buffers that are kept at most.
const KEPT_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back when its last reader is done.
struct LentBuffer {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// Lets `fill` fill a buffer of a length. What is in it before means nothing.
    pub(crate) fn filled<E>(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        if len < BYTES_MIN {
            let mut bytes = vec![0; len];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut bytes =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        fill(&mut bytes[..len])?;
        Ok(Bytes::from_owner(LentBuffer { bytes, len, home: Arc::clone(&self.0) }))
    }
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for LentBuffer {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.len() < KEPT_MAX {
            home.push(std::mem::take(&mut self.bytes));
        }
    }
}
