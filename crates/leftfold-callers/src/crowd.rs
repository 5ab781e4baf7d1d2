//! Connections by address prefix: nobody takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::AddressPrefix;

type Counts = Mutex<HashMap<AddressPrefix, usize>>;

/// The open connections of each prefix; as many prefixes as there are connections.
#[derive(Debug)]
pub struct Crowd {
    counts: Arc<Counts>,
    of_prefix_max: usize,
}

/// A connection that counts for its prefix until it is dropped.
#[derive(Debug)]
pub struct CrowdPlace {
    counts: Arc<Counts>,
    prefix: AddressPrefix,
}

impl Crowd {
    /// Creates a crowd without connections.
    #[must_use]
    pub fn new(of_prefix_max: usize) -> Self {
        Self { counts: Arc::default(), of_prefix_max }
    }

    /// Returns a place for a connection; `None` if its prefix has as many as it may.
    #[must_use]
    pub fn enter(&self, prefix: AddressPrefix) -> Option<CrowdPlace> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&prefix).copied().unwrap_or(0);
        if count >= self.of_prefix_max {
            return None;
        }
        counts.insert(prefix, count + 1);
        drop(counts);
        Some(CrowdPlace { counts: Arc::clone(&self.counts), prefix })
    }
}

impl Drop for CrowdPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.prefix) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.prefix)),
        }
    }
}
