//! Leases: the ownership of a piece of work, and the fences that hold off its earlier owners.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::limits::{LEASE_NOTE_BYTES_MAX, LEASE_SECONDS_MAX};
use super::{Invalid, Label, Timestamp};

/// Owner of leases: one per runtime, drawn when it starts. Two runtimes of one process are two
/// holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(pub Uuid);

impl Holder {
    /// Draws a new one.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number that tells the tenures of one piece of work apart: greater with every new one. Opaque,
/// but for its order; other resources than the store can refuse a holder that comes with a smaller
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for some work, or to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Name of the work.
    pub work: Label,
    /// Holder that asks.
    pub holder: Holder,
    /// Time from now for which the work is asked for, at most
    /// [`LEASE_SECONDS_MAX`](super::limits::LEASE_SECONDS_MAX) seconds.
    pub during: Duration,
    /// Text of the holder for everybody who [lists](super::Store::leases) the leases: at most
    /// [`LEASE_NOTE_BYTES_MAX`](super::limits::LEASE_NOTE_BYTES_MAX) bytes. It is kept only as long
    /// as the lease, and every renewal replaces it, also by nothing.
    pub note: Bytes,
}

impl LeaseRequest {
    /// A request without a note.
    #[must_use]
    pub fn new(work: Label, holder: Holder, during: Duration) -> Self {
        Self { work, holder, during, note: Bytes::new() }
    }

    /// The same with a note.
    #[must_use]
    pub fn with_note(self, note: impl Into<Bytes>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Refuses a request for too long a time, or with too long a note.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.during > Duration::from_secs(LEASE_SECONDS_MAX as u64) {
            return Err(Invalid::TooLarge {
                what: "the seconds of a lease",
                size: usize::try_from(self.during.as_secs()).unwrap_or(usize::MAX),
                limit: LEASE_SECONDS_MAX,
            });
        }
        Invalid::if_over("the note of a lease", self.note.len(), LEASE_NOTE_BYTES_MAX)
    }
}

/// The right to do some named work, until a moment.
///
/// Once the moment has passed another holder may be given the work, and nobody is told. So the
/// right is proved in the append that carries the [`fence`](Self::fence): see
/// [`Store::lease`](super::Store::lease).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the work.
    pub work: Label,
    /// Fence that the holder's appends carry.
    pub fence: Fence,
    /// Nobody else is given the work before this, by the clock of the store.
    pub until: Timestamp,
}

/// A lease that is held now, as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// Name of the work.
    pub work: Label,
    /// Holder that has the work.
    pub holder: Holder,
    /// Fence of this tenure.
    pub fence: Fence,
    /// Nobody else is given the work before this, by the clock of the store.
    pub until: Timestamp,
    /// Note of the latest request.
    pub note: Bytes,
}

/// Answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// The asker holds the work.
    Held(Lease),
    /// Another holder has the work.
    HeldBy {
        /// Holder that has the work.
        holder: Holder,
        /// It is worth asking again from here on, by the clock of the store.
        until: Timestamp,
    },
}

/// Error of a request for a lease; no lease was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It was asked for too long a time, or with too long a note.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store keeps as many leases as it may, and all of them are held.
    #[error(
        "{limit} leases are held, which is all that the store keeps; ask again when some were released"
    )]
    TooMany {
        /// Number of leases that the store keeps at most.
        limit: usize,
    },
    /// The store takes no appends now, so it gives nobody the right to make them.
    #[error("the store gives no leases now, ask again: {detail}")]
    Unavailable {
        /// Reason, for people.
        detail: String,
    },
    /// The user of this handle has not the right to it, and will not have it if asked again.
    #[error("the lease is not allowed: {detail}")]
    Denied {
        /// Reason, for people.
        detail: String,
    },
    /// The store is closed.
    #[error("the store is closed, open it again")]
    Closed,
}

impl From<super::Gone> for LeaseError {
    fn from(_: super::Gone) -> Self {
        Self::Closed
    }
}
