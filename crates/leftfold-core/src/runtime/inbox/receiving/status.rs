//! Status of a receiver, in the same words for every broker.

use std::fmt;

use crate::store::Timestamp;

/// Status of a receiver, for status pages. Counts are since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// Name of the inbox.
    pub inbox: &'static str,
    /// Name of the queue.
    pub queue: String,
    /// State of the receiver.
    pub state: ReceiverState,
    /// Number of messages that were recorded.
    pub taken: u64,
    /// Number of messages that had been received before.
    pub repeated: u64,
    /// Number of messages that became dead letters: a person has to look at them.
    pub poisoned: u64,
    /// Number of messages that were given back to the broker because the store could not take them.
    pub given_back: u64,
    /// Number of messages that came and are not settled.
    pub under_way: usize,
    /// The last failure of the broker or the store, or the reason of the last dead letter.
    pub last_error: Option<String>,
}

/// State of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverState {
    /// It connects for the first time.
    Connecting,
    /// It takes what comes.
    Receiving,
    /// The broker cannot be used; the receiver tries again by itself.
    BrokerAway {
        /// Time at which that began.
        since: Timestamp,
    },
    /// The store does not take messages; the receiver tries again by itself.
    StoreAway {
        /// Time at which that began.
        since: Timestamp,
    },
    /// It was stopped.
    Stopped,
    /// It ended because the store is closed.
    StoreClosed,
}

impl ReceiverStatus {
    pub(super) fn new(inbox: &'static str, queue: String) -> Self {
        Self {
            inbox,
            queue,
            state: ReceiverState::Connecting,
            taken: 0,
            repeated: 0,
            poisoned: 0,
            given_back: 0,
            under_way: 0,
            last_error: None,
        }
    }
}

impl fmt::Display for ReceiverState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Receiving => f.write_str("receiving"),
            Self::BrokerAway { since } => write!(f, "waiting for the broker since {since}"),
            Self::StoreAway { since } => write!(f, "waiting for the store since {since}"),
            Self::Stopped => f.write_str("stopped"),
            Self::StoreClosed => f.write_str("ended, the store is closed"),
        }
    }
}

impl fmt::Display for ReceiverStatus {
    /// One line for a status page.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inbox, queue, state, taken, repeated, poisoned, given_back, .. } = self;
        write!(f, "inbox {inbox} on {queue}: {state}; {taken} taken, {repeated} repeated, ")?;
        write!(f, "{poisoned} poison, {given_back} given back, {} under way", self.under_way)?;
        match &self.last_error {
            Some(error) => write!(f, "; last error: {error}"),
            None => Ok(()),
        }
    }
}
